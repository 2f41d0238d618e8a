"""Algorithm 1: its steps against plain loops, its schedules, a kernel's learner against KIP, stopping and going on."""

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import kernels, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import bilevel_regression, random_images
from stillhouse.methods.bilevel_regression import Descent, InKernelSpace, Linear, Points, StoppedError
from stillhouse.methods.kip_kernels import fixed_loss
from stillhouse.models import ridge
from stillhouse.models.kernel import System
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages.store import Store

LINEAR = {"features": "identity", "space": "standardised"}
RBF = {"kind": "rbf", "gamma": 0.5}


def params(**changed: Any) -> bilevel_regression.Params:
    few = {"steps": 12, "inner_steps": 7, "batch": 10, "starts": 3}
    return settings.parse(bilevel_regression.Params, {**few, **changed}, "test")


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def descent(chosen: bilevel_regression.Params, *seeds: int, d: int = 4, k: int = 2) -> Descent:
    """Runs with one batch that all steps see."""
    points = Points.normal(3, d, k, chosen, generators(*seeds))
    rows = normal(1, 10, d, seed=7).expand(len(seeds), -1, -1)
    targets = normal(1, 10, k, seed=8).expand(len(seeds), -1, -1)
    return Descent(points, Linear(chosen), chosen, lambda: (rows, targets), generators(*(seed + 100 for seed in seeds)))


# Algorithm 1


@pytest.mark.parametrize("over_starts", ["mean", "sum"])
def test_a_step_is_that_of_plain_loops_over_starts_and_inner_steps(over_starts: str) -> None:
    chosen = params(over_starts=over_starts, ridge_outer=0.3, scale_starts=1.0, rate_inputs=0.02, rate_targets=0.05)
    made = descent(chosen, 0)
    inputs, targets, step = (part[0].clone() for part in (made.points.inputs, made.points.targets, made.points.step))
    (draw,) = generators(100)
    starts = torch.randn(3, 4, 2, generator=draw, dtype=torch.float64) / math.sqrt(4)
    tracked = [part.requires_grad_() for part in (inputs, targets, step)]
    total = torch.zeros((), dtype=torch.float64)
    for weights in starts:
        for _ in range(7):
            residual = inputs @ weights - targets
            weights = weights - step * (inputs.T @ residual / 3 + 0.001 * weights)  # noqa: PLW2901
        fit = (normal(10, 4, seed=7) @ weights - normal(10, 2, seed=8)).square().sum() / 20
        total = total + fit + 0.15 * (inputs.square().sum() + targets.square().sum())
    slopes = torch.autograd.grad(total / (3 if over_starts == "mean" else 1), tracked)
    made.step()
    moved = (made.points.inputs[0], made.points.targets[0], made.points.step[0])
    for found, begun, rate, slope in zip(moved, tracked, (0.02, 0.05, 0.00025), slopes, strict=True):
        torch.testing.assert_close(found, begun.detach() - rate * slope, atol=1e-12, rtol=0)


def test_runs_side_by_side_are_what_each_is_alone() -> None:
    chosen = params(scale_starts=1.0)
    together, alone = descent(chosen, 0, 5), descent(chosen, 5)
    for _ in range(5):
        both, one = together.step(), alone.step()
    torch.testing.assert_close(both[1:], one)
    torch.testing.assert_close(together.points.inputs[1:], alone.points.inputs)
    torch.testing.assert_close(together.points.step[1:], alone.points.step)


def test_the_loss_falls_and_the_step_size_is_learned() -> None:
    made = descent(params(rate_inputs=0.1, rate_targets=0.1, rate_step=0.02), 0)
    first = made.step()
    for _ in range(100):
        last = made.step()
    assert float(last) < 0.75 * float(first)
    assert float(made.points.step) > 0.06


def test_a_step_size_that_would_fall_below_the_least_is_set_back_to_it() -> None:
    # Targets against the data's: a smaller step size fits better at first.
    for least, found in ((0.04, 0.04), (None, -10.0)):
        made = descent(params(rate_step=50.0, rate_inputs=0, rate_targets=0, least_step=least), 0)
        rows, _ = made._examples()
        learned = made.learner.predict(made.points, rows, 3, generators(1), 7).mean(1)
        made._examples = lambda rows=rows, learned=learned: (rows, -learned)  # type: ignore[misc]
        made.step()
        assert float(made.points.step) == found if least else float(made.points.step) < 0


def test_a_step_size_may_be_held_below_its_bound_from_the_start_on() -> None:
    made = descent(params(step=100.0, scale_inputs=5.0, most_of_bound=0.5, rate_step=1.0), 0, 1)
    for _ in range(5):
        assert bool((made.points.step <= 0.5 * made.step_bound() * (1 + 1e-12)).all())
        assert bool(made.step().isfinite().all())


def test_a_clipped_step_keeps_its_direction_and_is_no_longer_than_asked_for() -> None:
    free, short = (descent(params(scale_targets=20.0, clip=clip), 0, 1) for clip in (None, 0.1))
    before = free.points.inputs
    free.step()
    short.step()
    moves = [(each.points.inputs - before).flatten(1) / 0.0025 for each in (free, short)]
    assert bool((moves[0].norm(dim=1) > 0.1).all())
    torch.testing.assert_close(moves[1].norm(dim=1), torch.full((2,), 0.1, dtype=torch.float64))
    cosines = torch.nn.functional.cosine_similarity(moves[0], moves[1])
    torch.testing.assert_close(cosines, torch.ones(2, dtype=torch.float64))


def test_points_at_the_start_have_the_scales_asked_for() -> None:
    made = Points.normal(400, 100, 3, params(scale_inputs=2.0, scale_targets=0.5), generators(0, 1))
    assert float(made.inputs.norm(dim=-1).mean()) == pytest.approx(2.0, rel=0.01)
    assert float(made.targets.std()) == pytest.approx(0.5, rel=0.05)
    assert not torch.equal(made.inputs[0], made.inputs[1])
    assert made.step.tolist() == [0.05, 0.05]


# Schedules


def test_inner_loops_lengthen_to_at_most_half_as_many_steps_more() -> None:
    lengths = [params(inner_steps=100, lengthen=True).inner_steps_at(step) for step in (0, 300, 2500)]
    assert lengths == [100, 131, 149]
    assert params(inner_steps=100).inner_steps_at(2500) == 100


def test_starts_are_added_where_the_loss_rises_and_no_more_than_the_limit() -> None:
    made = descent(params(more_starts=True, max_starts=5, rate_inputs=0, rate_targets=0, rate_step=0), 0)
    batches = iter([1.0, 1.0, 1.5, 1.5, 2.0, 1.9, 3.0, 4.0])
    rows, targets = made._examples()
    made._examples = lambda: (rows, next(batches) * 100 * targets)
    counts = []
    for _ in range(8):
        made.step()
        counts.append(made.starts)
    assert counts == [3, 3, 4, 4, 5, 5, 5, 5]
    assert descent(params(), 0).starts == 3


# Bounds


def test_a_step_size_above_its_bound_stops_the_run_at_the_second_look() -> None:
    made = descent(params(step=100.0, inner_steps=1, rate_inputs=0, rate_targets=0, rate_step=0), 0)
    for _ in range(50):
        made.step()
    with pytest.raises(StoppedError, match=r"step 50: the inner step size is 100, which .* between 0 and \d") as caught:
        made.step()
    assert caught.value.step == 50


def test_a_step_size_on_its_way_back_does_not() -> None:
    made = descent(params(step=100.0, inner_steps=1, rate_inputs=0, rate_targets=0, rate_step=0), 0)
    made.step()
    made.points = dataclasses.replace(made.points, step=torch.tensor([0.05], dtype=torch.float64))
    for _ in range(120):
        made.step()
    assert made.done == 121


def test_numbers_that_are_none_stop_with_the_step_and_the_step_size(table: RealSet) -> None:
    with pytest.raises(NumericalError, match=r"step \d+: the outer loss is .*; the inner step size is "):
        bilevel_regression.distill(table, 3, params(rate_inputs=1e200, rate_step=1e100), Run(seed=0))


# In a kernel's space


def test_with_a_kernel_many_inner_steps_have_the_loss_and_the_gradient_of_kip() -> None:
    kernel = kernels.build(settings.parse_plugin("kernels", RBF, "test"), (4,))
    rows, wanted = normal(10, 4, seed=7), normal(10, 2, seed=8)
    own, targets, ridge_inner = normal(3, 4, seed=1), normal(3, 2, seed=2), 0.05
    errors = []
    for steps in (5, 20, 80, 10_000):
        chosen = params(kernel=RBF, inner_steps=steps, step=1.0, ridge_inner=ridge_inner, ridge_outer=0)
        points = Points(own[None], targets[None], torch.tensor([1.0], dtype=torch.float64))
        made = Descent(points, InKernelSpace(chosen, kernel, (4,)), chosen, lambda: (rows[None], wanted[None]), [])
        loss, (slope, slope_targets, _) = made.gradient(rows[None], wanted[None], [])
        tracked = own.clone().requires_grad_()
        across, gram = kernel(rows, tracked), kernel.gram(tracked)
        relative = 3 * ridge_inner / float(gram.detach().diagonal().mean())
        theirs, slopes = fixed_loss(across.detach(), System.of_gram(gram.detach(), relative), targets, wanted, relative)
        torch.autograd.backward([across, gram], [slopes.across, slopes.gram])
        assert tracked.grad is not None
        # KIP's loss is a mean over targets as well.
        errors.append(abs(float(loss) - 2 * theirs) + float((slope[0] - 2 * tracked.grad).norm()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-9
    torch.testing.assert_close(slope_targets[0], 2 * slopes.targets, atol=1e-9, rtol=0)


def test_in_a_kernels_space_it_fits_what_no_linear_learner_can(table: RealSet) -> None:
    bent = dataclasses.replace(table, train=dataclasses.replace(table.train, targets=_bent(table.train.inputs)))
    shared = {"start": "real", "steps": 60, "inner_steps": 60, "step": 0.5, "rate_inputs": 0.2, "rate_targets": 0.2}
    fits = [
        bilevel_regression.distill(bent, 8, params(kernel=kernel, **shared), Run(seed=0)).recipe["numerics"][
            "training_r2"
        ]
        for kernel in (None, RBF)
    ]
    assert fits[1] > fits[0] + 0.2


def _bent(inputs: torch.Tensor) -> torch.Tensor:
    return ((inputs[:, :1] - 5) ** 2).to(torch.float64)


# What it leaves


def test_it_does_better_than_the_random_examples_it_starts_from(table: RealSet) -> None:
    model = settings.parse(ridge.Params, LINEAR, "test")
    chosen = params(start="real", steps=100, inner_steps=100, step=0.2, rate_inputs=0.05, rate_targets=0.05)
    scores = []
    for made in (
        random_images.distill(table, 3, random_images.Params(), Run(seed=0)),
        bilevel_regression.distill(table, 3, chosen, Run(seed=0)),
    ):
        found = {score.metric: score.value for score in judge.judge(made, table, model, 1, 0, Run(seed=0))}
        scores.append(found["test R2"])
    assert scores[1] > scores[0] + 0.05


def test_what_its_learner_gives_stands_in_the_recipe_and_the_ridge_in_the_schedule(table: RealSet) -> None:
    made = bilevel_regression.distill(table, 3, params(), Run(seed=0))
    assert made.schedule == {"ridge": pytest.approx(0.003)}
    numerics = made.recipe["numerics"]
    assert (numerics["steps"], numerics["inner_steps"], numerics["starts"]) == (12, 7, 3)
    assert 0 < numerics["inner_step_size"] < numerics["inner_step_bound"]
    assert numerics["training_r2"] < 1
    assert bilevel_regression.budget(params(steps=250)) == pytest.approx(0.1)


def test_targets_of_no_change_are_those_of_the_real_examples(table: RealSet) -> None:
    still = {"rate_inputs": 0, "rate_targets": 0, "start": "real"}
    made = bilevel_regression.distill(table, 5, params(**still), Run(seed=0))
    chosen = random_images.sample(table, 5, _after_points(5, table))
    torch.testing.assert_close(made.targets, table.target_rows(table.train.targets[chosen]))
    torch.testing.assert_close(made.pictures().double(), table.train.inputs[chosen].double())


def _after_points(count: int, real: RealSet) -> torch.Generator:
    """The generator that has drawn points and targets, which a start at real examples does not use."""
    drawn = Run(seed=0).generator("points")
    Points.normal(count, real.dim, real.width, params(), [drawn])
    return drawn


# Interruptions and progress


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@pytest.mark.parametrize("changed", [{}, {"kernel": RBF, "start": "real"}, {"more_starts": True, "lengthen": True}])
def test_an_interrupted_run_goes_on_with_the_same_bits(changed: dict[str, Any], table: RealSet, tmp_path: Path) -> None:
    chosen = params(**changed)
    whole = bilevel_regression.distill(table, 3, chosen, Run(seed=0, store=Store(tmp_path / "whole", interval=0)))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["step"] == 7:
                raise Interrupted

    with pytest.raises(Interrupted):
        bilevel_regression.distill(table, 3, chosen, Run(seed=0, store=Dying(tmp_path / "one", interval=0)))
    store = Store(tmp_path / "one", interval=0)
    assert store.kept()[1]["step"] == 7  # type: ignore[index]
    resumed = bilevel_regression.distill(table, 3, chosen, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.targets, whole.targets)
    assert resumed.recipe == whole.recipe
    assert [line["step"] for line in store.records] == [0, 1, 2, 3, 4, 6, 9, 11]
    assert all({"loss", "step_size", "step_bound"} <= set(line) for line in store.records)


def test_how_long_it_takes_is_said_and_leaves_no_trace(table: RealSet, caplog: pytest.LogCaptureFixture) -> None:
    chosen = params(steps=50)
    ticks = iter([0.0, 12.0])
    with caplog.at_level(logging.INFO):
        told = bilevel_regression.distill(table, 3, chosen, Run(seed=0, clock=lambda: next(ticks)))
    assert "bilevel, 3 points: 50 steps of about 12 s, 10 min in all" in caplog.text
    assert torch.equal(told.inputs, bilevel_regression.distill(table, 3, chosen, Run(seed=0)).inputs)


@pytest.mark.parametrize(
    "wrong", [{"inner_steps": 0}, {"step": 0}, {"kernel": "no such kernel"}, {"over_starts": "all"}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="test"):
        params(**wrong)
