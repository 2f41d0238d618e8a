"""Forgetting against counting by hand, against a plain training loop and the teacher, and going on after an interruption."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse import plugins, settings
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods import forgetting
from stillhouse.methods.forgetting import History
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.stages.store import Store

TRAINING = {"optimiser": "sgd", "learning_rate": 0.05, "batch": 20, "loss": "cross_entropy", "schedule": "cosine"}
MLP: dict[str, Any] = {"kind": "mlp", "width": 8, "bias": True, "space": "standardised", "training": TRAINING}
BATCH_NORM = {"kind": "convnet", "width": 4, "depth": 1, "norm": "batch", "space": "standardised"}


def params(**changed: Any) -> forgetting.Params:
    return settings.parse(forgetting.Params, {"model": MLP, "epochs": 4, **changed}, "test")


def seen(rights: np.ndarray) -> History:
    """What is noted of n examples that are right or not, (times, n), each time in two batches."""
    history = History.unseen(rights.shape[1])
    for right in torch.from_numpy(rights):
        for index in torch.split(torch.arange(len(right)).flip(0), 3):
            history.see(index, right[index])
    return history


def mislabelled(real: RealSet, positions: list[int]) -> RealSet:
    targets = real.train.targets.clone()
    targets[positions] = (targets[positions] + 1) % real.n_classes
    return dataclasses.replace(real, train=dataclasses.replace(real.train, targets=targets))


def test_a_time_counts_where_an_example_goes_from_right_to_wrong() -> None:
    history = seen(np.array([[0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 1, 1, 0, 1], [0, 0, 1, 0, 1]], dtype=bool))
    assert history.times.tolist() == [0, 2, 0, 1, 0]
    assert history.learned.tolist() == [False, True, True, True, True]
    assert history.right.tolist() == [False, False, True, False, True]
    assert history.summary() == {"never_learned": 1, "never_forgotten": 2, "forgetting_events": 3}


def test_the_counts_are_those_of_the_whole_sequence() -> None:
    rights = np.random.default_rng(0).random((30, 50)) < 0.5
    history = seen(rights)
    np.testing.assert_array_equal(history.times.numpy(), (rights[:-1] & ~rights[1:]).sum(0))
    np.testing.assert_array_equal(history.learned.numpy(), rights.any(0))


def test_what_was_never_learned_counts_as_forgotten_most_often() -> None:
    times, learned = torch.tensor([3, 0, 0, 7, 1]), torch.tensor([True, False, True, True, True])
    history = History(times.to(torch.int32), learned, learned)
    ranks = [history.rank(torch.tensor([4, 3, 2, 1, 0]), order, torch.Generator()) for order in ("most", "least")]
    assert [each.tolist() for each in ranks] == [[1, 3, 0, 4, 2], [2, 4, 0, 3, 1]]


@pytest.mark.parametrize("order", ["most", "least"])
def test_equals_come_in_random_order_and_nothing_is_lost(order: str) -> None:
    history = seen(np.array([[1] * 10 + [0] * 10, [0] * 5 + [1] * 5 + [0] * 10], dtype=bool))
    ranks = [history.rank(torch.arange(20), order, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 1)]
    parts = [[set(range(10, 20)), set(range(5)), set(range(5, 10))] for _ in ranks]
    sizes = [10, 5, 5] if order == "most" else [5, 5, 10]
    wanted = parts[0] if order == "most" else parts[0][::-1]
    for rank in ranks:
        assert [set(each.tolist()) for each in torch.split(torch.tensor(rank), sizes)] == wanted
    assert ranks[0] != ranks[1]


def test_examples_are_looked_at_in_their_batch_before_the_step_on_it(toy: RealSet) -> None:
    """Beside a loop without any of this package's training."""
    chosen, run = params(), Run(seed=3)
    real = mislabelled(toy, list(range(0, 60, 4)))
    images = whitening.fit(whitening.Standardised(), real).forward(pixels(real.train.inputs)).flatten(1)
    labels = real.train.targets
    network = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.LeakyReLU(0.1), torch.nn.Linear(8, 3))
    rng = run.generator("initial weights")
    with torch.no_grad():
        for weight, width in zip(network.parameters(), (16, 16, 8, 8), strict=True):
            weight.uniform_(-(width**-0.5), width**-0.5, generator=rng)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    order, rights = run.generator("batches"), []
    for epoch in range(4):
        rights.append(torch.zeros(60, dtype=torch.bool))
        for place, index in enumerate(torch.split(torch.randperm(60, generator=order), 20)):
            found = network(images[index])
            rights[-1][index] = found.argmax(1) == labels[index]
            optimiser.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * (3 * epoch + place) / 12)) / 2
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(found, labels[index]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    wanted = seen(torch.stack(rights).numpy())
    history = forgetting.watch(real, chosen, run)
    assert len(set(wanted.times.tolist())) > 1
    assert len(set(wanted.learned.tolist())) > 1
    for each in dataclasses.fields(History):
        assert torch.equal(getattr(history, each.name), getattr(wanted, each.name))


@pytest.mark.parametrize("model", [MLP, BATCH_NORM])
def test_the_network_is_the_teacher_of_its_model(model: dict[str, Any], toy: RealSet, tmp_path: Path) -> None:
    """As its losses show: same initial weights, batches and augmentation."""
    augmented = {**TRAINING, "epochs_real": 4, "augmentation": {"operations": ["flip", "scale"]}}
    chosen, store = params(model={**model, "training": augmented}), Store(tmp_path)
    forgetting.watch(toy, chosen, Run(seed=5, store=store))
    teacher = plugins.load("models", model["kind"]).fit_real(toy, chosen.model, Run(seed=5))
    losses = [store.records[0]["loss"], store.records[-1]["loss"]]
    assert losses == pytest.approx([teacher.notes["loss_first"], teacher.notes["loss_last"]], rel=1e-4)


def test_mislabelled_examples_are_forgotten_most(toy: RealSet) -> None:
    """A tenth is mislabelled; of two a class, nearly all of the most often forgotten are, and none of the least."""
    wrong = [0, 1, 2, 30, 31, 32]
    real = mislabelled(toy, wrong)
    among = {image.numpy().tobytes() for image in pixels(toy.train.inputs[wrong])}
    found = {"most": 0, "least": 0}
    for seed, order in itertools.product(range(3), found):
        made = forgetting.distill(real, 2, params(order=order, epochs=8), Run(seed=seed))
        assert made.labels.tolist() == [0, 1, 2] * 2
        found[order] += sum(image.numpy().tobytes() in among for image in made.inputs)
    assert found["most"] >= 15
    assert found["least"] == 0


def test_a_larger_set_begins_with_the_smaller_one(toy: RealSet, run: Run) -> None:
    small, large = (forgetting.distill(toy, size, params(), run) for size in (2, 5))
    assert torch.equal(large.inputs[:6], small.inputs)
    assert small.recipe == large.recipe
    assert set(small.recipe["numerics"]) == {"never_learned", "never_forgotten", "forgetting_events"}


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@pytest.mark.parametrize("model", [MLP, BATCH_NORM])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    model: dict[str, Any], optimiser: str, toy: RealSet, tmp_path: Path
) -> None:
    changed = {**TRAINING, "optimiser": optimiser, "augmentation": {"operations": ["crop", "flip"]}}
    chosen = params(model={**model, "training": changed})
    one = Store(tmp_path / "one", interval=0)
    whole = forgetting.watch(toy, chosen, Run(seed=0, store=one))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["epochs"] == 2:
                raise Interrupted

    with pytest.raises(Interrupted):
        forgetting.watch(toy, chosen, Run(seed=0, store=Dying(tmp_path / "two", interval=0)))
    store = Store(tmp_path / "two", interval=0)
    assert store.kept()[1]["epochs"] == 2  # type: ignore[index]
    resumed = forgetting.watch(toy, chosen, Run(seed=0, store=store))
    for each in dataclasses.fields(History):
        assert torch.equal(getattr(resumed, each.name), getattr(whole, each.name))
    assert [line["loss"] for line in store.records] == [line["loss"] for line in one.records]


def test_what_it_takes_is_told_without_changing_it(toy: RealSet, caplog: pytest.LogCaptureFixture) -> None:
    ticks = iter(range(1000))
    chosen = params(epochs=20)
    with caplog.at_level("INFO"):
        told = forgetting.watch(toy, chosen, Run(seed=0, clock=lambda: float(next(ticks))))
    assert "forgetting, 20 epochs: 60 steps of about 1 s" in caplog.text
    assert torch.equal(told.times, forgetting.watch(toy, chosen, Run(seed=0)).times)


def test_a_learning_rate_that_is_too_large_stops_it_with_the_step(toy: RealSet, run: Run) -> None:
    wild = {**MLP, "training": {**TRAINING, "learning_rate": 1e30}}
    with pytest.raises(NumericalError, match=r"forgetting: the loss is (nan|inf) at step [2-9] of 12; sgd"):
        forgetting.watch(toy, params(model=wild), run)


def test_only_a_network_forgets() -> None:
    with pytest.raises(UserError, match="this method needs a network"):
        params(model={"kind": "ridge", "features": "identity"})


def test_the_budget_is_the_part_of_the_published_epochs() -> None:
    assert forgetting.budget(params(epochs=50)) == 0.25
