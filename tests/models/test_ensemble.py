import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stillhouse import plugins, settings
from stillhouse.errors import NumericalError
from stillhouse.methods import random_images
from stillhouse.models import ensemble
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 8},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2, "space": "standardised"},
}
AUGMENTED = {"operations": ["color", "crop", "flip", "scale"], "crop": 0.25}
every_network = pytest.mark.parametrize("kind", sorted(SMALL))
every_optimiser = pytest.mark.parametrize("optimiser", ["sgd", "adam"])


def params(kind: str, **options: Any) -> Any:
    chosen = {"epochs": 3, "batch": 4, "learning_rate": 0.01, "loss": "cross_entropy", "schedule": "step", **options}
    return settings.parse_plugin("models", {**SMALL[kind], "training": chosen}, "models.test")


def trained(model: Any, distilled: DistilledSet, real: RealSet, strategy: ensemble.Strategy) -> list[Teacher]:
    return list(ensemble.train(distilled, real, model, [5, 2, 9], Run(), lambda teacher: teacher, strategy))


def alone(model: Any, distilled: DistilledSet, real: RealSet) -> list[Teacher]:
    fit = plugins.load("models", settings.kind_of(model)).fit_distilled
    return [fit(distilled, real, model, Run(seed=seed)) for seed in (5, 2, 9)]


@pytest.fixture
def distilled(toy: RealSet, run: Run) -> DistilledSet:
    return random_images.distill(toy, 2, random_images.Params(), run)


@every_optimiser
@every_network
def test_a_stack_of_networks_learns_what_each_alone_learns(
    kind: str, optimiser: str, toy: RealSet, distilled: DistilledSet
) -> None:
    model = params(kind, optimiser=optimiser, augmentation=AUGMENTED)
    for one, other in zip(trained(model, distilled, toy, "stacked"), alone(model, distilled, toy), strict=True):
        assert one.seed == other.seed
        for name, weight in other.weights.items():
            assert torch.allclose(one.weights[name], weight, rtol=1e-3, atol=1e-4), name
        assert one.notes["steps"] == other.notes["steps"] == 6
        assert one.notes["loss_last"] == pytest.approx(other.notes["loss_last"], rel=1e-3)


@every_network
def test_a_stack_in_bfloat16_learns_what_each_alone_learns_in_it(
    kind: str, toy: RealSet, distilled: DistilledSet
) -> None:
    model = params(kind, precision="bfloat16", optimiser="sgd")
    plain = alone(params(kind, optimiser="sgd"), distilled, toy)
    for one, other, exact in zip(
        trained(model, distilled, toy, "stacked"), alone(model, distilled, toy), plain, strict=True
    ):
        for name, weight in other.weights.items():
            assert torch.allclose(one.weights[name], weight, rtol=0.02, atol=5e-3), name
        assert any(not torch.equal(one.weights[name], weight) for name, weight in exact.weights.items())


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@every_network
@pytest.mark.usefixtures("three_threads")
def test_a_core_for_each_gives_the_bytes_that_one_thread_gives(
    kind: str, toy: RealSet, distilled: DistilledSet
) -> None:
    model = params(kind)
    found = trained(model, distilled, toy, "cores")
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    for one, other in zip(found, alone(model, distilled, toy), strict=True):
        assert all(torch.equal(one.weights[name], weight) for name, weight in other.weights.items())


@pytest.mark.usefixtures("three_threads")
def test_a_single_training_has_one_thread_too(toy: RealSet, distilled: DistilledSet) -> None:
    seen = ensemble.train(distilled, toy, params("mlp"), [5], Run(), lambda _: torch.get_num_threads())
    assert list(seen) == [1]


@pytest.mark.usefixtures("three_threads")
def test_what_is_solved_in_closed_form_has_all_threads(toy: RealSet, distilled: DistilledSet) -> None:
    model = settings.parse_plugin("models", {"kind": "ridge", "features": "identity"}, "models.test")
    assert list(ensemble.train(distilled, toy, model, [5, 2], Run(), lambda _: torch.get_num_threads())) == [3, 3]


@pytest.mark.usefixtures("three_threads")
def test_as_many_trainings_run_beside_one_another_as_there_are_threads(toy: RealSet, distilled: DistilledSet) -> None:
    together = threading.Barrier(3, timeout=20)  # breaks unless three wait at it
    found = ensemble.train(distilled, toy, params("mlp"), [0, 1, 2], Run(), lambda _: together.wait(), "cores")
    assert sorted(found) == [0, 1, 2]


def test_stacks_are_no_larger_than_memory_allows(
    toy: RealSet, distilled: DistilledSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen, stacked = params("mlp"), [], ensemble._stacked

    def watched(*given: Any) -> Iterator[Teacher]:
        seen.append(list(given[3]))
        return stacked(*given)

    monkeypatch.setattr(ensemble, "_AT_ONCE", 8)  # two networks with batches of four
    monkeypatch.setattr(ensemble, "_stacked", watched)
    assert [teacher.seed for teacher in trained(model, distilled, toy, "stacked")] == [5, 2, 9]
    assert seen == [[5, 2], [9]]


def test_only_ordinary_trainings_of_networks_are_stacked_and_only_on_a_gpu(
    toy: RealSet, distilled: DistilledSet
) -> None:
    def chosen(model: Any, distilled: DistilledSet = distilled, count: int = 2, device: str = "cuda") -> str:
        return ensemble.choose(distilled, toy, model, range(count), torch.device(device))

    model = params("convnet")
    assert chosen(model) == "stacked"
    assert chosen(model, device="cpu") == chosen(model, count=1) == "cores"
    assert chosen(params("convnet", learning_rates=[0.1, 0.01])) == "cores"
    assert chosen(dataclasses.replace(model, norm="batch")) == "cores"
    schedule = {"steps": 1, "epochs": 1, "step_sizes": [0.1], "loss": "mse"}
    assert chosen(model, dataclasses.replace(distilled, schedule=schedule)) == "cores"
    assert chosen(settings.parse_plugin("models", {"kind": "ridge", "features": "identity"}, "models.test")) == "cores"


def test_a_loss_that_is_not_finite_names_the_seed_and_the_step(toy: RealSet, distilled: DistilledSet) -> None:
    model = params("mlp", optimiser="sgd", learning_rate=1e30, loss="mse")
    with pytest.raises(NumericalError, match=r"the loss is (inf|nan) at step \d of 6 \(training seed 5\)"):
        trained(model, distilled, toy, "stacked")
