"""DGKIP: its objective and gradient, what training does to the gap, its certificate, going on after an interruption."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import dgkip
from stillhouse.methods.support import record_steps
from stillhouse.models import kernel as model_kernel
from stillhouse.models import kernel_machine
from stillhouse.models.kernel_machine import Machine
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.stages.store import Store
from stillhouse.theory import duality
from stillhouse.theory.duality import Loss, SmoothedHinge, Squared

MODEL = {
    "kind": "kernel_machine",
    "kernel": {"kind": "rbf", "gamma": 4.0},
    "space": "standardised",
    "centres": 60,
    "examples": 150,
}
LOSSES = ["squared", "logistic", "hinge", "smoothed_hinge"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def params(loss: str = "logistic", model: dict[str, Any] | None = None, **changed: object) -> dgkip.Params:
    raw = {"model": {**MODEL, "loss": loss, **(model or {})}, "steps": 15, **changed}
    return settings.parse(dgkip.Params, raw, "test")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(loss: Loss, labels: torch.Tensor) -> dgkip.Objective:
    """With a machine of 7 points in 5 dimensions and an RBF kernel."""
    kernel = model_kernel.build(params().model, (5,), 0)
    machine = Machine(kernel, drawn(7, 5, seed=1), drawn(7, labels.shape[1], seed=2))
    return dgkip.Objective(loss, 0.05, machine, machine.norms(), labels)


@pytest.mark.parametrize("loss", [Squared(), duality.Logistic(), SmoothedHinge(), SmoothedHinge(0.5)])
def test_the_objective_is_the_gap_and_its_gradient_that_of_finite_differences(loss: Loss) -> None:
    labels = drawn(4, 3, seed=3).clamp(-1, 1)
    support = {"inputs": drawn(4, 5, seed=4), "dual": drawn(4, 3, seed=5), "labels": labels}
    whole = objective(loss, labels)
    gram, scores = whole.machine.kernel.gram(support["inputs"]), whole.machine.scores(support["inputs"])
    dual = dgkip.feasible(loss, support["dual"])
    wanted = duality.gap(loss, labels, scores, whole.norms, dual, gram, 0.05).total.sum()
    torch.testing.assert_close(whole.gap(support), wanted)
    tracked = {name: tensor.clone().requires_grad_() for name, tensor in support.items()}
    whole.gap(tracked).backward()  # type: ignore[no-untyped-call]
    for name, tensor in tracked.items():
        direction, step = drawn(*tensor.shape, seed=6), 1e-6
        ends = [float(whole.gap({**support, name: support[name] + sign * step * direction})) for sign in (1, -1)]
        assert tensor.grad is not None
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((tensor.grad * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("loss", [duality.Logistic(), SmoothedHinge()])
def test_dual_variables_are_feasible_whatever_the_free_numbers_are(loss: Loss) -> None:
    free = torch.tensor([[-1e30, -3.0, 0.0, 40.0, 1e30]], dtype=torch.float64)
    dual = dgkip.feasible(loss, free)
    assert bool(((dual >= 0) & (dual <= 1)).all())
    inside = torch.tensor([[0.1, 0.5, 0.97]], dtype=torch.float64)
    torch.testing.assert_close(dgkip.feasible(loss, dgkip.freed(loss, inside)), inside)
    ends = dgkip.freed(loss, torch.tensor([[0.0, 1.0]], dtype=torch.float64))
    assert bool(ends.isfinite().all())
    torch.testing.assert_close(dgkip.freed(Squared(), 3 * inside), 3 * inside)


@every_loss
@pytest.mark.parametrize("labels", ["fixed", "learned"])
def test_training_closes_the_gap_and_brings_the_machine_nearer(digits: RealSet, loss: str, labels: str) -> None:
    before, after = (
        dgkip.distill(digits, 1, params(loss, steps=steps, labels=labels), Run(seed=0)).certificate for steps in (0, 40)
    )
    assert before is not None
    assert after is not None
    assert after["gap"] < 0.9 * before["gap"]
    assert after["distance"] < before["distance"]


@every_loss
def test_the_certificate_holds_the_bounds_in_their_order(digits: RealSet, loss: str, tmp_path: Path) -> None:
    made = dgkip.distill(digits, 1, params(loss), Run(seed=0))
    assert made.certificate is not None
    says = dict(made.certificate)
    assert says["distance"] <= says["bound_best"] + says["slack"]
    assert says["distance"] <= says["bound_ball"] + says["slack"]
    assert says["bound_ball"] <= says["bound"]
    assert says["bound_best"] <= says["bound"]
    assert 0 < says["distance_over_bound"] <= 1
    for name in ("radius", "ball"):
        assert 0 < says[f"interval_used_{name}"] <= 1
        assert says[f"error_at_least_{name}"] <= says["validation_error"] <= says[f"error_at_most_{name}"]
    assert says["certain_radius"] <= says["certain_ball"] <= says["agreement"]
    assert json.loads(json.dumps(says)) == says
    assert "error_images" not in says
    made.save(tmp_path / "set")


def test_the_distance_is_that_of_the_machine_that_the_judge_fits(digits: RealSet) -> None:
    """In explicit coordinates: theta_O and theta*_S as combinations of all points of both."""
    model, run = params().model, Run(seed=0)
    made = dgkip.distill(digits, 1, params(), run)
    ours = Machine.of(kernel_machine.fit_distilled(made, digits, model, run), run.device)
    theirs = Machine.of(kernel_machine.fit_real(digits, model, run), run.device)
    gram = ours.kernel.gram(torch.cat([ours.points, theirs.points]))
    both = torch.cat([ours.factors, -theirs.factors])
    assert made.certificate is not None
    assert float(duality.norms_squared(both, gram).sum().sqrt()) == pytest.approx(made.certificate["distance"])
    [score] = judge.judge(made, digits, model, 3, 0, run)
    assert score.metric == "test accuracy"
    assert score.value > 50


def test_a_bound_that_does_not_hold_stops_with_both_numbers(digits: RealSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        duality.Gap, "ball", property(lambda self: 0.5 * (self.young / self.ridge + self.distance / 4).sqrt())
    )
    with pytest.raises(NumericalError, match=r"above its proven bound .*: a bug"):
        dgkip.distill(digits, 1, params(), Run(seed=0))


def test_a_machine_that_is_not_the_minimum_is_found_out() -> None:
    """The bounds are those of theta*_S: of another machine's distance they say nothing, and the check must notice."""
    whole = objective(duality.Logistic(), drawn(4, 1, seed=3).sign())
    gram = whole.machine.kernel.gram(drawn(4, 5, seed=4))
    solved = kernel_machine.solve(whole.loss, gram, whole.labels, 0.05, 1e-9)
    scores, norms = gram @ solved.weights, duality.norms_squared(solved.weights, gram)  # theta_O is theta*_S itself
    gap = duality.gap(whole.loss, whole.labels, scores, norms, solved.dual, gram, 0.05)
    found, _ = dgkip.bounds(gap, gap, solved, scores, norms, solved.weights, gram)
    assert float(found["distance"]) < 1e-6
    wrong = dataclasses.replace(solved, weights=1.1 * solved.weights)
    with pytest.raises(NumericalError, match="a bug"):
        dgkip.bounds(gap, gap, wrong, scores, norms, solved.weights, gram)


def test_faster_dual_variables_keep_up_with_the_points(digits: RealSet) -> None:
    behind = []
    for factor in (0.2, 5):
        says = dgkip.distill(digits, 1, params("hinge", dual_factor=factor), Run(seed=0)).certificate
        assert says is not None
        behind.append(says["gap"] - says["gap_best"])
    assert 0 <= behind[1] < 0.5 * behind[0]


def test_labels_stay_within_the_losses_reach(digits: RealSet) -> None:
    made = dgkip.distill(digits, 1, params("logistic", labels="learned", learning_rate=0.3), Run(seed=0))
    assert float(made.targets.min()) >= 0
    assert float(made.targets.max()) <= 1
    assert not torch.equal(made.targets, made.targets.round())
    free = dgkip.distill(digits, 1, params("squared", labels="learned", learning_rate=0.3), Run(seed=0))
    assert not 0 <= float(free.targets.min()) <= float(free.targets.max()) <= 1


def test_fixed_labels_are_the_classes_in_turn(digits: RealSet) -> None:
    made = dgkip.distill(digits, 2, params(), Run(seed=0))
    assert torch.equal(made.targets, torch.eye(10, dtype=torch.float64).repeat(2, 1))


def test_without_steps_the_points_are_real_images(digits: RealSet) -> None:
    made = dgkip.distill(digits, 1, params(steps=0), Run(seed=0))
    distances = torch.cdist(made.pictures().double().flatten(1), pixels(digits.train.inputs).double().flatten(1))
    assert float(distances.amin(1).max()) < 1e-5


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@pytest.mark.parametrize("labels", ["fixed", "learned"])
def test_an_interrupted_run_goes_on_with_the_same_bits(digits: RealSet, tmp_path: Path, labels: str) -> None:
    settings_ = params("smoothed_hinge", labels=labels, model={"precision": "float32"})
    whole = dgkip.distill(digits, 1, settings_, Run(seed=0, store=Store(tmp_path / "whole", interval=0)))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["step"] == 7:
                raise Interrupted

    with pytest.raises(Interrupted):
        dgkip.distill(digits, 1, settings_, Run(seed=0, store=Dying(tmp_path / "one", interval=0)))
    store = Store(tmp_path / "one", interval=0)
    assert store.kept()[1] == {"step": 7}  # type: ignore[index]
    resumed = dgkip.distill(digits, 1, settings_, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.targets, whole.targets)
    assert resumed.certificate == whole.certificate
    assert [line["step"] for line in store.records] == [*record_steps(15), 15]
    assert store.records[-1]["gap"] < store.records[0]["gap"]


def test_numbers_that_are_none_stop_with_the_step(digits: RealSet) -> None:
    with pytest.raises(NumericalError, match=r"step [1-9]\d*: the duality gap"):
        dgkip.distill(digits, 1, params("squared", learning_rate=1e200), Run(seed=0))


def test_a_teacher_of_the_run_is_used(digits: RealSet, tmp_path: Path) -> None:
    model = params().model
    assert dgkip.teachers(params()) == (model,)
    teacher = kernel_machine.fit_real(digits, model, Run(seed=0))
    changed = dataclasses.replace(teacher, weights={**teacher.weights, "factors": 2 * teacher.weights["factors"]})
    changed.save(tmp_path / "teacher")
    plain = dgkip.distill(digits, 1, params(), Run(seed=0)).certificate
    given = dgkip.distill(digits, 1, params(), Run(seed=0, teachers=(tmp_path / "teacher",))).certificate
    assert plain is not None
    assert given is not None
    assert given["norm"] == pytest.approx(2 * plain["norm"])


def test_the_budget_is_the_part_of_the_full_steps() -> None:
    assert dgkip.budget(params(steps=300)) == pytest.approx(0.2)


def test_only_a_kernel_machine_has_a_gap() -> None:
    with pytest.raises(UserError, match="kind 'kernel_machine'"):
        settings.parse(dgkip.Params, {"model": {"kind": "ridge", "features": "identity"}}, "test")
