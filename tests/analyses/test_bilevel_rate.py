"""The rate of descent: fits and windows against scipy and worked cases, curvature against a whole Hessian, a small run."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from stillhouse import settings
from stillhouse.analyses import bilevel_rate
from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.methods import bilevel_regression
from stillhouse.methods.bilevel_regression import Linear, Points
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split

METHOD = {
    "kind": "bilevel_regression", "steps": 60, "batch": 16, "starts": 4, "rate_inputs": 0.05, "rate_targets": 0.05,
    "rate_step": 0.002, "step": 0.2, "scale_inputs": 2.0,
}  # fmt: skip


def params(**changed: Any) -> bilevel_rate.Params:
    raw = {"kind": "bilevel_rate", "method": METHOD, "points": 3, "inner_steps": [10, 20], "repeats": 2, "look_every": 3,
           **changed}  # fmt: skip
    parsed: bilevel_rate.Params = settings.parse_plugin("analyses", raw, "analyses.test")
    return parsed


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def linear() -> RealSet:
    """60 examples of 4 features with a value that is theirs but for a little noise."""
    rows, weights = normal(80, 4), 3 * normal(4, 1, seed=1)
    values = rows @ weights + 0.1 * normal(80, 1, seed=2)
    train, test = (Split(rows[part].to(torch.float32), values[part]) for part in (slice(60), slice(60, None)))
    return identity.identified("linear", train, test, (), ("value",))


@pytest.fixture(scope="module")
def rows(linear: RealSet) -> list[dict[str, Any]]:
    tried = {"sum": {"over_starts": "sum", "rate_inputs": 500.0}, "starts at 0": {"scale_starts": 0.0}}
    asked = params(tried=tried, tried_inner_steps=[10], tried_steps=30, tried_repeats=1)
    return list(bilevel_rate.analyse(linear, asked, Run(seed=0)))


def of(rows: list[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    return [row for row in rows if wanted.items() <= row.items()]


# Fits and windows


def test_a_fit_is_that_of_scipy() -> None:
    steps = torch.arange(0, 300, 10)
    losses = torch.exp(2 - 0.005 * steps + 0.1 * normal(30))
    found, wanted = bilevel_rate.fit(steps, losses), stats.linregress(steps.numpy(), losses.log().numpy())
    assert found.slope == pytest.approx(wanted.slope)
    assert found.intercept == pytest.approx(wanted.intercept)
    assert found.r2 == pytest.approx(wanted.rvalue**2)


def test_the_window_leaves_out_the_warm_up_and_the_floor() -> None:
    """A start that stands still for 20 looks, a fall by a factor e every 10, and a floor of 1."""
    looks = torch.arange(300, dtype=torch.float64)
    losses = 1 + 1000 * torch.exp(-(looks - 20).clamp(min=0) / 10)
    chosen = bilevel_rate.window(losses)
    # 200 is reached 16.1 looks after the 20th, 10 after another 31.1
    assert (chosen.start, chosen.stop) == (37, 68)
    assert bilevel_rate.fit(looks[chosen], losses[chosen]).slope == pytest.approx(-0.1, rel=0.05)


def test_where_less_than_three_looks_are_left_all_are_fitted() -> None:
    losses = torch.tensor([5.0, 4, 3, 2.5, 2.2, 2.1, 2, 2, 2, 2])
    assert bilevel_rate.window(losses) == slice(0, 10)


def test_a_floor_of_a_tenth_bends_the_logarithm_by_less_than_a_tenth() -> None:
    """What the window's end rests on: log(1.1) at its last look."""
    assert np.log(1 + 1 / bilevel_rate._ABOVE_FLOOR) < 0.1


# Curvature


def test_the_ends_of_the_spectrum_are_those_of_the_whole_hessian(linear: RealSet) -> None:
    method, run = params().method, Run(seed=0)
    data = bilevel_rate.Data.of(linear, run)
    points = Points(normal(1, 3, 4, seed=3), normal(1, 3, 1, seed=4), torch.tensor([0.3], dtype=torch.float64))

    def loss(flat: torch.Tensor) -> torch.Tensor:
        own = Points(flat[:12].view(1, 3, 4), flat[12:].view(1, 3, 1), points.step)
        starts = [run.generator("starts to look from, repeat 0")]
        steps = method.inner_steps
        return bilevel_regression.losses(Linear(method), own, *data.beside(1), method.starts, starts, steps).mean()

    flat = torch.cat([points.inputs.flatten(), points.targets.flatten()]).requires_grad_()
    (slopes,) = torch.autograd.grad(loss(flat), flat, create_graph=True)
    whole = torch.stack([torch.autograd.grad(slope, flat, retain_graph=True)[0] for slope in slopes])
    wanted = torch.linalg.eigvalsh(whole)
    least, largest = bilevel_rate.curvature(points, data, method, run)
    assert least == pytest.approx(float(wanted[0]), rel=1e-3)
    assert largest == pytest.approx(float(wanted[-1]), rel=1e-3)
    assert least < 0 < largest


# Rows


def test_there_is_a_rate_for_every_number_of_inner_steps_and_repeat(rows: list[dict[str, Any]]) -> None:
    found = of(rows, part="rate")
    assert [(row["inner_steps"], row["repeat"]) for row in found] == [(10, 0), (10, 1), (20, 0), (20, 1)]
    for row in found:
        assert row["mu"] == pytest.approx((1 - np.exp(row["slope"])) / 0.05)
        assert 0 <= row["first"] < row["last"] < 60
        assert row["loss_end"] < row["loss_start"]
        assert 0 < row["step_ratio"] < 1
        assert row["r2_batch"] < row["r2"] <= 1
    assert found[0]["slope"] != found[1]["slope"]
    assert all(isinstance(value, int | float | str) for row in rows for value in row.values())


def test_curves_are_means_over_repeats_between_the_lowest_and_the_highest(rows: list[dict[str, Any]]) -> None:
    found = of(rows, part="curve", inner_steps=10)
    assert [row["step"] for row in found] == list(range(0, 60, 6))
    assert all(row["lowest"] <= row["loss"] <= row["highest"] for row in found)
    starts = [row["loss_start"] for row in of(rows, part="rate", inner_steps=10)]
    assert found[0]["loss"] == pytest.approx(np.sqrt(starts[0] * starts[1]))


def test_bounds_are_told_at_the_start_on_the_way_and_at_the_end(rows: list[dict[str, Any]]) -> None:
    found = of(rows, part="bound", inner_steps=20)
    assert [row["step"] for row in found] == [0, 6, 60]
    for row in found:
        assert row["smoothness"] > row["ridge"] == 0.001
        assert row["slope_possible"] == pytest.approx(np.log(1 - 0.05 * 0.001))
        assert (row["slope_promised"] == 0) == (row["least"] <= -0.001)


def test_other_choices_are_tried_and_one_that_stops_says_at_which_step(rows: list[dict[str, Any]]) -> None:
    stopped, went_on = of(rows, part="tried")
    assert stopped == {"part": "tried", "tried": "sum", "inner_steps": 10, "stopped": stopped["stopped"]}
    assert 0 < stopped["stopped"] < 30
    assert {"slope", "r2", "mu", "loss_end"} <= set(went_on)
    assert "stopped" not in went_on


def test_runs_whose_step_size_is_free_are_counted_where_it_turns_negative(linear: RealSet) -> None:
    """A tiny step size and fast learning of it: its first gradient has either sign."""
    asked = params(inner_steps=[5], repeats=1, tried_inner_steps=[5], free_runs=12, method={
        **METHOD, "steps": 6, "step": 1e-4, "rate_step": 5e-4, "rate_inputs": 1e-4, "rate_targets": 1e-4,
    })  # fmt: skip
    (row,) = of(list(bilevel_rate.analyse(linear, asked, Run(seed=0))), part="free")
    assert (row["inner_steps"], row["runs"]) == (5, 12)
    assert 2 <= row["negative"] <= 10


def test_the_loss_looked_at_is_that_of_plain_steps_on_all_examples(linear: RealSet) -> None:
    """From the fixed starts, before the first outer step."""
    asked, run = params(), Run(seed=0)
    data = bilevel_rate.Data.of(linear, run)
    curve = bilevel_rate.descend(data, asked.method, asked, 1, run, [0])
    begun = curve.kept[0]
    generator = run.generator("starts to look from, repeat 0")
    starts = torch.randn(4, 4, 1, generator=generator, dtype=torch.float64) * asked.method.scale_starts / 2
    total = 0.0
    for weights in starts:
        for _ in range(asked.method.inner_steps):
            residual = begun.inputs[0] @ weights - begun.targets[0]
            weights = weights - 0.2 * (begun.inputs[0].T @ residual / 3 + 0.001 * weights)  # noqa: PLW2901
        rows = linear.train.inputs.to(torch.float64)
        total += float((rows @ weights - linear.train.targets).square().sum()) / (2 * 60) / 4
    assert float(curve.losses[0, 0]) == pytest.approx(total)


def test_seeds_start_at_other_points(linear: RealSet) -> None:
    asked = params(inner_steps=[5], repeats=1, method={**METHOD, "steps": 6})
    made = [
        [row["loss_start"] for row in bilevel_rate.analyse(linear, asked, Run(seed=seed)) if row["part"] == "rate"]
        for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


def test_a_set_with_classes_is_refused(toy: RealSet) -> None:
    with pytest.raises(UserError, match="toy: has classes"):
        list(bilevel_rate.analyse(toy, params(), Run(seed=0)))


def test_an_unknown_setting_to_try_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"tried.other: unknown parameter 'scale_input'. Did you mean 'scale_inputs'"):
        params(tried={"other": {"scale_input": 2.0}})
