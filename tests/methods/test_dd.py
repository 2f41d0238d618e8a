"""DD and SLDD: what the set holds, that it trains as its schedule says, stopping, and going on after an interruption."""

import dataclasses
import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import plugins, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import dd, unrolling
from stillhouse.methods.support import record_steps
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.stages.store import Store
from stillhouse.teacher import Teacher

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 16, "activation": "relu", "bias": True, "space": "standardised"},
    "lenet": {"kind": "lenet", "margin": 4, "space": "standardised"},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2, "space": "standardised"},
}
MLP = NETWORKS["mlp"]

every_kind = pytest.mark.parametrize(
    "settings_of",
    [
        {"initialisation": "fixed"},
        {"initialisation": "random", "networks": 2, "augmentation": {"shift": 1}},
        {"initialisation": "fixed", "labels": "learned", "images": 5},
        {"initialisation": "fixed", "labels": "learned", "label_start": "noise", "stages": 3},
        {"initialisation": "fixed", "learning_rate": 0.3, "validate_every": 2},
    ],
)


def params(**changed: Any) -> dd.Params:
    raw = {"model": MLP, "steps": 8, "batch": 40, "validation": 0.1, **changed}
    return settings.parse(dd.Params, raw, "test")


def fitted(made: DistilledSet, real: RealSet, model: Any, run: Run) -> Teacher:
    teacher: Teacher = plugins.load("models", settings.kind_of(model)).fit_distilled(made, real, model, run)
    return teacher


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@every_kind
def test_an_interrupted_run_goes_on_with_the_same_bits(
    settings_of: dict[str, Any], digits: RealSet, tmp_path: Path
) -> None:
    chosen = params(**settings_of)
    whole = dd.distill(digits, 1, chosen, Run(seed=0))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["step"] == 5:
                raise Interrupted

    with pytest.raises(Interrupted):
        dd.distill(digits, 1, chosen, Run(seed=0, store=Dying(tmp_path, interval=0)))
    store = Store(tmp_path, interval=0)
    assert store.kept()[1]["step"] == 5  # type: ignore[index]
    resumed = dd.distill(digits, 1, chosen, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.targets, whole.targets)
    assert resumed.schedule == whole.schedule
    assert resumed.recipe == whole.recipe
    assert [line["step"] for line in store.records] == [*record_steps(8), 8]


@every_kind
def test_what_is_trained_on_the_set_becomes_better(settings_of: dict[str, Any], digits: RealSet) -> None:
    found = []
    for steps in (0, 30):
        chosen = params(**{**settings_of, "steps": steps, "batch": 200, "learning_rate": 0.3, "step_size": 1.0})
        made = dd.distill(digits, 1, chosen, Run(seed=0))
        values = [score.value for score in judge.judge(made, digits, chosen.model, 4, 0, Run(seed=0))]
        found.append(sum(values) / len(values))
    assert found[1] > found[0] + 15


@pytest.mark.parametrize("kind", sorted(NETWORKS))
@pytest.mark.parametrize("labels", ["fixed", "learned"])
def test_training_by_the_schedule_ends_in_the_weights_that_the_method_saw(
    kind: str, labels: str, digits: RealSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, from the file: order, step sizes, labels and initial weights."""
    seen: list[dict[str, torch.Tensor]] = []
    original = unrolling.trained

    def watched(*given: Any) -> dict[str, torch.Tensor]:
        seen.append(original(*given))
        return seen[-1]

    monkeypatch.setattr(unrolling, "trained", watched)
    chosen = params(model=NETWORKS[kind], initialisation="fixed", labels=labels, steps=2, step_size=0.1)
    dd.distill(digits, 2, chosen, Run(seed=7)).save(tmp_path / "set")
    made = DistilledSet.load(tmp_path / "set")
    assert judge.training_seeds(made, chosen.model, 3, 0) == [7]
    weights = fitted(made, digits, chosen.model, Run(seed=7)).weights
    assert all(torch.equal(weight, weights[name]) for name, weight in seen[-1].items())
    turned = dataclasses.replace(made, inputs=made.inputs.flip(0), targets=made.targets.flip(0))
    other = fitted(turned, digits, chosen.model, Run(seed=7)).weights
    assert not all(torch.equal(weight, weights[name]) for name, weight in other.items())


def test_the_recorded_accuracy_is_that_of_training_by_the_schedule(digits: RealSet, tmp_path: Path) -> None:
    chosen = params(initialisation="fixed", steps=3, step_size=0.1, validation=0.3)
    store = Store(tmp_path)
    made = dd.distill(digits, 1, chosen, Run(seed=0, store=store))
    student = fitted(made, digits, chosen.model, Run(seed=0))
    _, held_out = ridge.split(len(digits.train), 0.3, 0)
    held = dataclasses.replace(
        digits.train, inputs=digits.train.inputs[held_out], targets=digits.train.targets[held_out]
    )
    wanted = judge.accuracy(student, dataclasses.replace(digits, test=held), Run())
    assert store.records[-1]["validation_accuracy"] == pytest.approx(wanted)


def test_the_loss_on_a_real_batch_falls(digits: RealSet) -> None:
    """Of the same batch after every step, with fixed weights: what Adam descends."""
    chosen = params(initialisation="fixed", batch=2000, step_size=0.3, labels="learned")
    unrolled = dd._Unrolled(digits, chosen, Run(seed=0))
    support = {name: each.requires_grad_() for name, each in dd._begun(digits, (1, 10), chosen, Run(seed=0)).items()}
    losses = []
    optimiser = torch.optim.SGD(support.values(), lr=0.5)
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(unrolled.descend(support, torch.Generator()))
        optimiser.step()
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < losses[0] - 0.04


def test_step_sizes_stay_positive_however_far_they_are_moved(digits: RealSet) -> None:
    made = dd.distill(digits, 1, params(steps=12, learning_rate=2.0, initialisation="fixed"), Run(seed=0))
    sizes = torch.tensor(made.schedule["step_sizes"])
    assert len(sizes) == 3
    assert float(sizes.min()) > 0
    assert float((sizes - 0.02).abs().max()) > 0.01


def test_step_sizes_start_as_they_are_given(digits: RealSet) -> None:
    made = dd.distill(digits, 2, params(steps=0, step_size=0.3, epochs=2), Run(seed=0))
    assert made.schedule == {"steps": 2, "epochs": 2, "loss": "cross_entropy", "step_sizes": pytest.approx((0.3,) * 4)}


@pytest.mark.parametrize(
    ("per_class", "options", "size", "steps"),
    [
        (3, {}, 30, 3),
        (3, {"inner_steps": 1}, 30, 1),
        (1, {"labels": "learned", "images": 5}, 5, 1),
        (10, {"labels": "learned", "images": 20}, 20, 10),
        (1, {"labels": "learned", "images": 12, "inner_steps": 4}, 12, 4),
        (1, {"images": 40, "inner_steps": 2}, 40, 2),
    ],
)
def test_the_set_has_so_many_images_in_so_many_steps(
    per_class: int, options: dict[str, Any], size: int, steps: int, digits: RealSet
) -> None:
    made = dd.distill(digits, per_class, params(steps=0, **options), Run(seed=0))
    assert (len(made), made.schedule["steps"]) == (size, steps)
    assert made.labels.tolist() == [place % 10 for place in range(size)]


def test_labels_are_one_hot_where_they_are_fixed_and_otherwise_move_from_where_they_start(digits: RealSet) -> None:
    one_hot = torch.eye(10)
    assert torch.equal(dd.distill(digits, 1, params(), Run()).targets, one_hot)
    for start, wanted in (("one_hot", one_hot), ("uniform", torch.full((10, 10), 0.1))):
        begun, moved = (
            dd.distill(digits, 1, params(labels="learned", label_start=start, steps=steps), Run()).targets
            for steps in (0, 8)
        )
        torch.testing.assert_close(begun, wanted)
        assert float((moved - begun).abs().max()) > 0.01
    noise = dd.distill(digits, 5, params(labels="learned", label_start="noise", steps=0), Run()).targets
    assert float(noise.std()) == pytest.approx(1, abs=0.15)


def test_the_learning_rate_falls_from_stage_to_stage(digits: RealSet) -> None:
    """With no learning rate left after the first of two stages, its end is the end."""
    first = dd.distill(digits, 1, params(steps=3, stages=1), Run(seed=0))
    both = dd.distill(digits, 1, params(steps=6, stages=2, decay=1e-9), Run(seed=0))
    full = dd.distill(digits, 1, params(steps=6, stages=1), Run(seed=0))
    torch.testing.assert_close(both.inputs, first.inputs, rtol=0, atol=1e-6)
    assert not torch.allclose(full.inputs, first.inputs, atol=1e-3)


def test_a_set_for_any_initial_weights_names_none_and_is_judged_with_some(digits: RealSet) -> None:
    made = dd.distill(digits, 1, params(), Run(seed=0))
    assert made.model == settings.dump(params().model)
    scores = list(judge.judge(made, digits, params().model, 3, 1, Run(seed=0)))
    assert [score.training_seed for score in scores] == [3, 4, 5]
    assert len({score.value for score in scores}) > 1


def test_pretrained_weights_are_those_of_teachers_when_distilling_and_when_judging(
    digits: RealSet, tmp_path: Path
) -> None:
    model = params(model={**MLP, "training": {"epochs_real": 1, "learning_rate": 0.01}}).model
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"seed{seed}")
        plugins.load("models", "mlp").fit_real(digits, model, Run(seed=seed)).save(paths[-1])
    chosen = params(model=model, initialisation="pretrained", networks=2, steps=3)
    # The first two serve the method, the third is kept for the judge.
    made = dd.distill(digits, 1, chosen, Run(seed=0, teachers=tuple(paths[:2])))
    still = dataclasses.replace(made, schedule={**made.schedule, "step_sizes": [1e-30] * 3})
    start = fitted(still, digits, model, Run(seed=2, teachers=(paths[2],))).weights
    assert all(torch.equal(weight, start[name]) for name, weight in Teacher.load(paths[2]).weights.items())
    with pytest.raises(UserError, match=r"starts from weights of a trained models/mlp \(seed 2.*Train it first"):
        fitted(made, digits, model, Run(seed=2))
    with pytest.raises(UserError, match="needs 2 or more teachers of its model.*1 are at hand"):
        dd.distill(digits, 1, chosen, Run(seed=0, teachers=(paths[0],)))


def test_teachers_are_asked_for_by_pretrained_weights_alone_with_seeds_that_no_training_of_the_judge_has() -> None:
    chosen = params(initialisation="pretrained", pretrained=3, networks=2)
    assert dd.teachers(chosen) == (chosen.model,)
    seeds = dd.teacher_seeds(chosen)
    assert len(set(seeds)) == 3
    made = DistilledSet(torch.zeros(10, 1, 8, 8), torch.eye(10), tuple("0123456789"))
    assert not set(seeds) & set(judge.training_seeds(made, chosen.model, 100, 9))
    assert dd.teachers(params()) == dd.teacher_seeds(params()) == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 1e30}, r"step 0: the loss is nan"),
        ({"learning_rate": 1e30}, r"step 0: inner step \d of 3 has become 0"),
    ],
)
def test_numbers_that_are_none_stop_with_the_step(options: dict[str, Any], message: str, digits: RealSet) -> None:
    with pytest.raises(NumericalError, match=message):
        dd.distill(digits, 1, params(**options), Run(seed=0))


def test_the_set_that_is_best_on_validation_images_is_kept(digits: RealSet, tmp_path: Path) -> None:
    # One stage: a shorter run goes the same way as the beginning of a longer one. The step is large: accuracies go up and down.
    shared = {"initialisation": "fixed", "stages": 1, "validation": 0.2, "learning_rate": 1.0, "step_size": 1.0}
    lasts = []
    for steps in (3, 6, 9, 12):
        store = Store(tmp_path / str(steps))
        made = dd.distill(digits, 1, params(**shared, steps=steps), Run(seed=0, store=store))
        lasts.append((store.records[-1]["validation_accuracy"], steps, made))
    accuracy, step, wanted = max(lasts, key=lambda each: each[:2])
    assert step < 12  # or keeping the last would do
    best = dd.distill(digits, 1, params(**shared, steps=12, validate_every=3), Run(seed=0))
    assert best.recipe["numerics"] == {"step": step, "validation_accuracy": pytest.approx(accuracy)}
    assert torch.equal(best.inputs, wanted.inputs)
    assert best.schedule == wanted.schedule


def test_batch_normalisation_is_refused(digits: RealSet) -> None:
    with pytest.raises(UserError, match="models/convnet with batch normalisation .* Choose another norm"):
        dd.distill(digits, 1, params(model={**NETWORKS["convnet"], "norm": "batch"}), Run(seed=0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 5}, "5 images a step do not divide among 10 classes. Set labels: learned"),
        ({"inner_steps": 3}, "20 images do not divide into 3 inner steps"),
        ({"inner_steps": 4}, "5 images a step do not divide among 10 classes"),
    ],
)
def test_numbers_of_images_that_do_not_go_together_are_refused(
    options: dict[str, Any], message: str, digits: RealSet
) -> None:
    with pytest.raises(UserError, match=message):
        dd.distill(digits, 2 if "images" not in options else 1, params(**options), Run(seed=0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"initialisation": "fixed", "networks": 2},
        {"label_start": "noise"},
        {"initialisation": "pretrained", "pretrained": 2, "networks": 3},
        {"model": {"kind": "ridge", "features": "identity"}},
        {"step_size": 0},
        {"labels": "solved"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="test"):
        params(**wrong)


def test_how_long_it_takes_is_said_before_it_begins(toy: RealSet, caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter([0.0, 12.0])
    chosen = params(steps=50, epochs=1, batch=5)
    with caplog.at_level(logging.INFO):
        told = dd.distill(toy, 1, chosen, Run(seed=0, clock=lambda: next(ticks)))
    assert "DD, 3 images in 1 inner steps: 50 steps of about 12 s, 10 min in all; " in caplog.text
    assert torch.equal(told.inputs, dd.distill(toy, 1, chosen, Run(seed=0)).inputs)  # the trial leaves no trace
    assert dd.budget(params(steps=5900)) == pytest.approx(0.25)
