"""LD: the labels' gradients, when networks are drawn anew, which images are labelled, stopping, and going on."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.func import functional_call
from torch.nn import functional

from stillhouse import settings
from stillhouse.data import identity
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods import label_distillation, random_images
from stillhouse.methods.label_distillation import Patience, Ridge, SecondOrder
from stillhouse.models import training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split
from stillhouse.stages.store import Store

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 16, "depth": 2, "activation": "relu", "bias": True, "space": "standardised"},
    "sigmoid": {"kind": "mlp", "width": 7, "activation": "sigmoid", "bias": True, "space": "standardised"},
    "lenet": {"kind": "lenet", "margin": 4, "space": "standardised"},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2, "space": "standardised"},
    "alexcifarnet": {"kind": "alexcifarnet", "width": 2, "space": "standardised"},
}
MLP = NETWORKS["mlp"]

both_versions = pytest.mark.parametrize("version", ["second_order", "ridge"])


def params(**changed: Any) -> label_distillation.Params:
    raw = {"model": MLP, "steps": 12, "batch": 40, "validation": 0.1, "validate_every": 5, **changed}
    return settings.parse(label_distillation.Params, raw, "test")


def network(kind: str) -> Any:
    made = training.build(params(model=NETWORKS[kind]).model, (1, 8, 8), 3)
    training.initialise(made, torch.Generator().manual_seed(1), torch.device("cpu"), "pytorch")
    return made.to(torch.float64)


def examples(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASE, TARGETS = examples(4, 2), torch.rand(4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
REAL, WANTED = examples(9, 4), torch.tensor([0, 1, 2, 2, 1, 0, 1, 1, 2])
PARTS = [(REAL[:5], WANTED[:5]), (REAL[5:], WANTED[5:])]


def after_a_step(kind: str, targets: torch.Tensor, step_size: float) -> torch.Tensor:
    """Scores of the real images after one explicit gradient step, its graph kept."""
    made = network(kind)
    weights = dict(made.named_parameters())
    loss = -(targets * made(BASE).log_softmax(1)).sum() / len(BASE)
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    moved = {name: each - step_size * slope for (name, each), slope in zip(weights.items(), slopes, strict=True)}
    scores: torch.Tensor = functional_call(made, moved, (REAL,))
    return scores


def solved_scores(made: Any, targets: torch.Tensor, before: torch.Tensor, scale: float) -> torch.Tensor:
    """Scores of the real images by weights `before` with a hundredth of a batch's ridge regression, from its normal equations."""
    phi, seen = (torch.cat([made[:-1](x), torch.ones(len(x), 1, dtype=torch.float64)], 1) for x in (BASE, REAL))
    own = torch.linalg.solve(phi.T @ phi + torch.eye(phi.shape[1], dtype=torch.float64), phi.T @ targets)
    scores: torch.Tensor = scale * (seen @ (0.99 * before + 0.01 * own))
    return scores


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_second_order_gradient_is_that_of_autograd_through_the_step(kind: str) -> None:
    targets = TARGETS.clone().requires_grad_()
    scores = after_a_step(kind, targets, 0.3)
    loss = functional.cross_entropy(scores, WANTED)
    [wanted] = torch.autograd.grad(loss, [targets])
    found = SecondOrder(network(kind), params(step_size=0.3)).outer(BASE, TARGETS, iter(PARTS), 9)
    assert float(wanted.abs().max()) > 1e-6
    torch.testing.assert_close(found.slopes, wanted, rtol=1e-8, atol=1e-14)
    assert found.loss == pytest.approx(float(loss.detach()))
    assert found.wrong == int((scores.argmax(1) != WANTED).sum())


def test_the_second_order_gradient_is_that_of_finite_differences() -> None:
    found = SecondOrder(network("sigmoid"), params(step_size=0.3)).outer(BASE, TARGETS, iter(PARTS), 9).slopes
    for i, k in itertools.product(range(4), range(3)):
        ends = []
        for shift in (1e-4, -1e-4):
            moved = TARGETS.clone()
            moved[i, k] += shift
            ends.append(float(functional.cross_entropy(after_a_step("sigmoid", moved, 0.3), WANTED).detach()))
        assert float(found[i, k]) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-5, abs=1e-10)


def test_the_networks_own_step_is_one_of_adam_by_the_labels_as_they_were() -> None:
    learner, beside = SecondOrder(network("mlp"), params()), network("mlp")
    optimiser = torch.optim.Adam(beside.parameters(), lr=1e-3)
    for _ in range(2):
        learner.outer(BASE, TARGETS, iter(PARTS), 9)
        learner.learn(torch.full_like(TARGETS, 0.5))
        optimiser.zero_grad()
        functional.cross_entropy(beside(BASE), TARGETS).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for name, weight in beside.named_parameters():
        torch.testing.assert_close(learner.trained()[name], weight)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_ridge_gradient_is_that_of_autograd_and_of_finite_differences(kind: str) -> None:
    learner = Ridge(network(kind), params(version="ridge"))
    before = torch.randn(learner.solved.weights.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    learner.solved.weights = before
    learner.solved.scale.data.fill_(3.0)
    found = learner.outer(BASE, TARGETS, iter(PARTS), 9)
    made, targets = network(kind), TARGETS.clone().requires_grad_()
    scores = solved_scores(made, targets, before, 3.0)
    loss = functional.cross_entropy(scores, WANTED)
    [wanted] = torch.autograd.grad(loss, [targets])
    assert float(wanted.abs().max()) > 1e-6
    torch.testing.assert_close(found.slopes, wanted, rtol=1e-7, atol=1e-13)
    assert found.loss == pytest.approx(float(loss.detach()))
    assert found.wrong == int((scores.argmax(1) != WANTED).sum())
    direction = torch.randn(4, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    ends = [
        float(functional.cross_entropy(solved_scores(made, TARGETS + shift * direction, before, 3.0), WANTED).detach())
        for shift in (1e-3, -1e-3)
    ]
    assert float((found.slopes * direction).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=1e-5)


def test_the_ridge_versions_network_learns_new_labels_with_the_classifier_of_the_old_ones() -> None:
    learner = Ridge(network("mlp"), params(version="ridge"))
    learner.outer(BASE, TARGETS, iter(PARTS), 9)
    rows = learner.solved.rows(BASE)
    wanted = 0.01 * torch.linalg.solve(rows.T @ rows + torch.eye(17, dtype=torch.float64), rows.T @ TARGETS)
    learner.learn(torch.full_like(TARGETS, 1 / 3))
    torch.testing.assert_close(learner.solved.weights, wanted.detach())
    assert float(learner.solved.scale.detach()) == pytest.approx(1 - 0.01, rel=1e-3)  # equal labels: smaller scores


def followed(errors: list[int], window: int) -> tuple[list[int], list[int]]:
    """The rule told from the whole past: steps at which networks end, and T_i."""
    begun, ends, lengths = 0, [], []
    for now in range(len(errors)):
        own = errors[begun : now + 1]
        sums = [sum(own[at - window : at]) for at in range(window, len(own) + 1)]
        if sums and len(own) - (window + sums.index(min(sums))) == window + 1:
            ends.append(now)
            lengths.append(window + sums.index(min(sums)))
            begun = now + 1
    return ends, lengths


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_network_is_drawn_anew_when_the_mean_error_has_no_new_minimum_for_a_window(window: int) -> None:
    rng = torch.Generator().manual_seed(window)
    errors = (torch.randint(0, 40, (200,), generator=rng) + 20 * torch.cos(torch.arange(200) / 7)).int().tolist()
    patience = Patience(window)
    ends, lengths = [], []
    for step, wrong in enumerate(errors):
        if patience.add(wrong):
            ends.append(step)
            lengths.append(patience.lengths[-1])
    assert (ends, lengths) == followed(errors, window)
    assert patience.drawn == len(ends) + 1 > 4
    assert patience.length == sum(lengths[-3:]) // 3


def test_a_network_is_of_use_until_its_minimum_and_before_the_first_end_so_far() -> None:
    patience = Patience(2)
    assert patience.length == 1
    ended = [patience.add(wrong) for wrong in [9, 8, 7, 3, 4, 5, 5, 5]]
    # Sums over two: 17, 15, 10, 7, 9, ...: the lowest at step 5, and three steps later it is given up.
    assert ended == [False] * 7 + [True]
    assert (patience.lengths, patience.length) == ([5], 5)


@both_versions
@pytest.mark.parametrize("stop", [3, 10])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    version: str, stop: int, digits: RealSet, tmp_path: Path
) -> None:
    chosen = params(version=version, window=2, inner_batch=4)
    records = Store(tmp_path / "whole")
    whole = label_distillation.distill(digits, 1, chosen, Run(seed=0, store=records))
    assert whole.recipe["numerics"]["networks"] > 1

    class Interrupted(Exception):  # noqa: N818
        """Stands for the signal."""

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["step"] == stop:
                raise Interrupted

    with pytest.raises(Interrupted):
        label_distillation.distill(digits, 1, chosen, Run(seed=0, store=Dying(tmp_path / "cut", interval=0)))
    store = Store(tmp_path / "cut", interval=0)
    resumed = label_distillation.distill(digits, 1, chosen, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.targets, whole.targets)
    assert (resumed.schedule, resumed.recipe) == (whole.schedule, whole.recipe)
    assert [line["step"] for line in store.records] == [5, 10, 12]
    own = [{name: each for name, each in line.items() if name != "seconds"} for line in store.records]
    assert own == [{name: each for name, each in line.items() if name != "seconds"} for line in records.records]


@both_versions
def test_labels_begin_as_one_over_c_and_stay_probabilities(version: str, digits: RealSet) -> None:
    begun = label_distillation.distill(digits, 1, params(version=version, steps=0), Run(seed=0))
    torch.testing.assert_close(begun.targets, torch.full((10, 10), 0.1))
    moved = label_distillation.distill(digits, 1, params(version=version, learning_rate=0.2), Run(seed=0)).targets
    assert float(moved.min()) == 0  # cut there
    torch.testing.assert_close(moved.sum(1), torch.ones(10))
    assert float((moved - 0.1).abs().max()) > 0.1


@both_versions
def test_what_is_trained_on_the_labels_becomes_better(version: str, digits: RealSet, tmp_path: Path) -> None:
    """Of equal labels nothing can be learned."""
    options = {"learning_rate": 0.01, "network_learning_rate": 0.01, "batch": 100, "validation": 0.3}
    chosen = params(version=version, steps=60, validate_every=60, **options)
    store = Store(tmp_path)
    label_distillation.distill(digits, 2, chosen, Run(seed=0, store=store))
    assert store.records[-1]["validation_accuracy"] > 20


def test_base_images_are_those_of_random_images_in_the_models_space_and_none_of_them_judges(digits: RealSet) -> None:
    made = label_distillation.distill(digits, 3, params(steps=0, validation=0.5), Run(seed=5))
    beside = random_images.distill(digits, 3, random_images.Params(), Run(seed=5))
    torch.testing.assert_close(made.pictures(), beside.pictures())
    task = label_distillation._Task(digits, 3, params(validation=0.5), Run(seed=5))
    judging = digits.train.inputs[task._held_out].flatten(1)
    chosen = digits.train.inputs[random_images.sample(digits, 3, Run(seed=5).generator("images"))].flatten(1)
    assert not any(bool((judging == row).all(1).any()) for row in chosen)
    assert not set(task._held_out.tolist()) & set(task._fitted.tolist())


def letters(count: int, shape: tuple[int, ...] = (1, 8, 8)) -> RealSet:
    """A data set of two other classes."""
    rng = torch.Generator().manual_seed(8)
    inputs = torch.randint(0, 256, (count, *shape), generator=rng).to(torch.uint8)
    train, test = (Split(inputs.clone(), torch.arange(count) % 2) for _ in range(2))
    return identity.identified("letters", train, test, ("a", "b"))


def test_base_images_may_be_of_another_data_set(digits: RealSet, tmp_path: Path) -> None:
    other = letters(40)
    other.save(tmp_path / "letters")
    run = Run(seed=0, others={"letters": tmp_path / "letters"})
    chosen = params(base="letters")
    assert label_distillation.datasets(chosen) == ("letters",)
    assert label_distillation.datasets(params()) == ()
    made = label_distillation.distill(digits, 2, chosen, run)
    assert made.classes == digits.classes
    stored = (made.pictures() * 255).round().to(torch.uint8).flatten(1)
    rows = other.train.inputs.flatten(1)
    places = [int((rows == row).all(1).nonzero()) for row in stored]
    assert len(set(places)) == 20
    assert set(made.space) == set(label_distillation.distill(digits, 1, params(steps=0), Run()).space)


def test_base_images_that_do_not_fit_are_refused(digits: RealSet, tmp_path: Path) -> None:
    letters(9).save(tmp_path / "few")
    letters(40, (3, 8, 8)).save(tmp_path / "colour")
    run = Run(seed=0, others={name: tmp_path / name for name in ("few", "colour")})
    with pytest.raises(UserError, match="base: images of colour are 3 x 8 x 8, those of digits are 1 x 8 x 8. Choose"):
        label_distillation.distill(digits, 1, params(base="colour"), run)
    with pytest.raises(UserError, match="base: few has 9 training images, and 10 are asked for. Choose a smaller"):
        label_distillation.distill(digits, 1, params(base="few"), run)
    with pytest.raises(UserError, match="absent: this method reads that data set too"):
        label_distillation.distill(digits, 1, params(base="absent"), run)


@pytest.mark.parametrize(
    ("per_class", "inner_batch", "window"), [(1, 10, 50), (2, 10, 50), (5, 25, 50), (10, 50, 50), (20, 50, 200)]
)
def test_batches_and_windows_are_the_recipes(per_class: int, inner_batch: int, window: int, digits: RealSet) -> None:
    task = label_distillation._Task(digits, per_class, params(), Run(seed=0))
    assert (task.inner_batch, task.window) == (inner_batch, window)
    own = label_distillation._Task(digits, per_class, params(inner_batch=30, window=7), Run(seed=0))
    assert (own.inner_batch, own.window) == (min(30, 10 * per_class), 7)


@both_versions
def test_the_schedule_says_how_the_validated_network_was_trained(version: str, digits: RealSet, tmp_path: Path) -> None:
    chosen = params(version=version, window=2, network_learning_rate=0.02)
    store = Store(tmp_path)
    label_distillation.distill(digits, 2, chosen, Run(seed=0, store=store)).save(tmp_path / "set")
    made = DistilledSet.load(tmp_path / "set")
    best = max(reversed(store.records), key=lambda line: line["validation_accuracy"])
    assert made.schedule == {
        "optimiser": "adam", "learning_rate": 0.02, "batch": 10, "loss": "cross_entropy", "steps": best["length"],
        "readout": {"ridge": 1.0, "share": 0.01, "learning_rate": 0.01} if version == "ridge" else None,
    }  # fmt: skip
    assert made.model == settings.dump(chosen.model)
    task = label_distillation._Task(digits, 2, chosen, Run(seed=0))
    again = task.validated(made.targets, int(best["length"]), f"validation at {int(best['step'])}")
    assert again == pytest.approx(best["validation_accuracy"])


def test_true_labels_are_kept_with_the_number_of_steps_that_validates_best(
    digits: RealSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_distillation, "_LENGTHS", (1, 60, 1700))
    chosen = params(version="true_labels", smoothing=0.1, network_learning_rate=0.02)
    made = label_distillation.distill(digits, 1, chosen, Run(seed=0))
    torch.testing.assert_close(made.targets, 0.9 * torch.eye(10) + 0.01)
    assert made.schedule["steps"] == 60
    assert label_distillation.budget(chosen) == 1
    hard = label_distillation.distill(digits, 1, params(version="true_labels"), Run(seed=0))
    assert torch.equal(hard.targets, torch.eye(10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 1e30}, r"step 0: the loss is (nan|inf)"),
        ({"network_learning_rate": 1e30}, r"step 1: the loss is (nan|inf)"),
        ({"version": "ridge", "network_learning_rate": 1e30}, r"step 1: the loss is (nan|inf)"),
        (
            {"learning_rate": torch.inf, "inner_batch": 4},
            r"step 0: labels of an image are NaN, or all of them have become 0",
        ),
    ],
)
def test_numbers_that_are_none_stop_with_the_step(options: dict[str, Any], message: str, digits: RealSet) -> None:
    with pytest.raises(NumericalError, match=message):
        label_distillation.distill(digits, 1, params(**options), Run(seed=0))


def test_batch_normalisation_is_refused(digits: RealSet) -> None:
    with pytest.raises(UserError, match="models/convnet with batch normalisation .* Choose another norm"):
        label_distillation.distill(digits, 1, params(model={**NETWORKS["convnet"], "norm": "batch"}), Run(seed=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"smoothing": 0.1},
        {"version": "true_labels", "base": "letters"},
        {"model": {"kind": "ridge", "features": "identity"}},
        {"version": "first_order"},
        {"readout": {"ridge": 0}},
        {"inner_batch": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="test"):
        params(**wrong)


def test_how_long_it_takes_is_said_before_it_begins(toy: RealSet, caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter([0.0, 12.0])
    chosen = params(version="ridge", steps=50, validate_every=50, batch=5)
    with caplog.at_level(logging.INFO):
        told = label_distillation.distill(toy, 1, chosen, Run(seed=0, clock=lambda: next(ticks)))
    assert "LD, 3 images: 50 steps of about 12 s, 10 min in all; " in caplog.text
    untold = label_distillation.distill(toy, 1, chosen, Run(seed=0))
    assert torch.equal(told.targets, untold.targets)  # the trial leaves no trace
    assert label_distillation.budget(dataclasses.replace(chosen, steps=4900)) == pytest.approx(0.25)
