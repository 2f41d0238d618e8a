"""DC and DSA: the matched gradients, what trains the network in between, batch normalisation, and that it descends."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse import settings
from stillhouse.methods import gradient_distance, gradient_matching, matching
from stillhouse.methods.gradient_matching import Objective, gradient
from stillhouse.methods.matching import RealImages
from stillhouse.models import training
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.spaces import Space

CONVNET = {"kind": "convnet", "width": 4, "depth": 1, "space": "standardised"}
MLP = {"kind": "mlp", "width": 8, "space": "standardised"}
NORMALISED = {**CONVNET, "norm": "batch"}
ALL = {"operations": ["color", "crop", "cutout", "flip", "scale", "rotate"]}


def params(**changed: Any) -> gradient_matching.Params:
    return settings.parse(gradient_matching.Params, {"model": CONVNET, "batch": 8, **changed}, "test")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Doubled:
    """Real images in float64."""

    def __init__(self, real: RealImages) -> None:
        self._real, self.space = real, real.space

    def draw(self, count: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
        return (rows.to(torch.float64) for rows in self._real.draw(count, rng))

    def at(self, positions: torch.Tensor) -> torch.Tensor:
        return self._real.at(positions).to(torch.float64)

    space: Space


def made(chosen: gradient_matching.Params, real: RealSet, exact: bool = False) -> tuple[Any, nn.Sequential]:
    """The objective of these settings and a network, both in float64 where exact."""
    of: Any = RealImages(real, chosen.model, Run(seed=0))
    network = matching.fresh(chosen.model, real, rng(1), torch.device("cpu"))
    if exact:
        of, network = Doubled(of), network.to(torch.float64)
    return Objective(of, real.n_classes, chosen, epochs=chosen.epochs or 1), network


def noise(real: RealSet, per_class: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    shape = (per_class * real.n_classes, *real.shape)
    return torch.randn(shape, generator=rng(2), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(
    "changed",
    [
        {"model": {**CONVNET, "activation": "sigmoid"}},
        {"model": {**CONVNET, "activation": "sigmoid"}, "augmentation": ALL},
        {"model": {**NORMALISED, "activation": "sigmoid"}},
        {"model": {**CONVNET, "activation": "sigmoid"}, "distance": "squared"},
        {"model": {**MLP, "activation": "sigmoid"}, "distance": "cosine"},
    ],
)
def test_the_images_gradient_is_that_of_finite_differences(changed: dict[str, Any], toy: RealSet) -> None:
    objective, network = made(params(**changed), toy, exact=True)
    images = noise(toy, 2, torch.float64).requires_grad_()
    objective.match(copy.deepcopy(network), images, rng(3))
    assert images.grad is not None
    with torch.no_grad():
        for place in [(0, 0, 1, 2), (4, 0, 3, 3), (5, 0, 0, 0)]:
            values = []
            for step in (1e-5, -1e-5):
                moved = images.detach().clone().requires_grad_()
                moved[place] += step
                with torch.enable_grad():
                    values.append(objective.match(copy.deepcopy(network), moved, rng(3)))
            slope = (values[0] - values[1]) / 2e-5
            assert float(images.grad[place]) == pytest.approx(slope, rel=1e-5, abs=1e-7)


def test_the_distance_is_the_sum_over_classes_of_that_of_their_mean_losses_gradients(toy: RealSet) -> None:
    objective, network = made(params(batch=20), toy, exact=True)  # all 20 of each class
    images = noise(toy, 2, torch.float64).requires_grad_()
    found = objective.match(network, images, rng())
    everything = RealImages(toy, params().model, Run(seed=0)).at(torch.arange(60)).to(torch.float64)
    total = 0.0
    for label in range(3):
        sides = []
        for batch in (images[[label, label + 3]], everything[toy.train.targets == label]):
            loss = -network(batch).log_softmax(1)[:, label].mean()
            sides.append(torch.autograd.grad(loss, list(network.parameters())))
        total += float(gradient_distance.layerwise(*sides))
    assert found == pytest.approx(total, rel=1e-10)


def test_a_step_descends_that_gradient(toy: RealSet) -> None:
    chosen = params(steps=1, learning_rate=0.3)
    result = gradient_matching.distill(toy, 2, chosen, Run(seed=5)).inputs
    of = RealImages(toy, chosen.model, Run(seed=5))
    start = matching.start("noise", toy, of, 2, Run(seed=5)).requires_grad_()
    draw = Run(seed=5).generator("matching")
    network = matching.fresh(chosen.model, toy, draw, torch.device("cpu"))
    Objective(of, 3, chosen, 1).match(network, start, draw)
    assert start.grad is not None
    torch.testing.assert_close(result, start.detach() - 0.3 * start.grad)


@pytest.mark.parametrize("operation", ALL["operations"])
def test_both_sides_are_changed_alike(operation: str, toy: RealSet) -> None:
    """Where the images of a class are the real ones, their gradients stay the same under any change of both."""
    chosen = params(batch=20, augmentation={"operations": [operation]}, distance="squared")
    objective, network = made(chosen, toy, exact=True)
    everything = RealImages(toy, chosen.model, Run(seed=0)).at(torch.arange(60)).to(torch.float64)  # classes in turn
    for seed in range(5):
        assert objective.match(network, everything.clone().requires_grad_(), rng(seed)) == pytest.approx(0, abs=1e-18)


def test_a_batch_s_gradient_is_the_sum_of_its_parts(toy: RealSet) -> None:
    _, network = made(params(), toy, exact=True)
    images, labels = noise(toy, 5, torch.float64), torch.arange(15) % 3
    weights = list(network.parameters())
    whole = gradient(network, weights, [images], labels)
    pieces = gradient(network, weights, torch.split(images, 4), labels)
    loss = nn.functional.cross_entropy(network(images), labels)
    for one, other, third in zip(whole, pieces, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one, third)


def test_bfloat16_gives_nearly_the_same_gradient(toy: RealSet) -> None:
    _, network = made(params(), toy)
    images, labels = noise(toy, 20), torch.arange(60) % 3
    weights = list(network.parameters())
    exact, rough = (gradient(network, weights, [images], labels, p) for p in ("float32", "bfloat16"))
    one, other = (torch.cat([each.flatten() for each in of]) for of in (exact, rough))
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    assert float((one - other).norm() / one.norm()) < 0.05


@pytest.mark.parametrize("model", [CONVNET, NORMALISED])
def test_the_network_is_trained_by_plain_sgd_on_the_images(model: dict[str, Any], toy: RealSet) -> None:
    chosen = params(model=model, epochs=3, network_learning_rate=0.2)
    objective, network = made(chosen, toy, exact=True)
    other = copy.deepcopy(network)
    images = noise(toy, 2, torch.float64)
    objective.train(network, images, rng())
    other.train()
    optimiser = torch.optim.SGD(other.parameters(), lr=0.2)
    for _ in range(3):
        optimiser.zero_grad()
        nn.functional.cross_entropy(other(images), torch.arange(6) % 3).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for one, wanted in zip(network.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, wanted)


def test_an_epoch_of_the_network_sees_every_image_once(toy: RealSet) -> None:
    """With steps so small that they do not change the gradient, batches of 2 add up to three times one of 6."""
    weights = []
    for batch in (2, 6):
        objective, network = made(params(epochs=1, network_batch=batch, network_learning_rate=1e-6), toy, exact=True)
        before = [each.detach().clone() for each in network.parameters()]
        objective.train(network, noise(toy, 2, torch.float64), rng())
        weights.append([(one - two) / 1e-6 for one, two in zip(network.parameters(), before, strict=True)])
    for small, large in zip(*weights, strict=True):
        torch.testing.assert_close(small, 3 * large, rtol=1e-4, atol=1e-6)


def test_images_that_train_the_network_are_augmented_one_by_one(toy: RealSet) -> None:
    objective, network = made(params(augmentation=ALL), toy)
    seen: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    images = noise(toy, 1)[:1].expand(3, -1, -1, -1)
    for seed in range(6):
        objective.train(network, images, rng(seed))
    assert any(not torch.equal(batch[0], batch[1]) for batch in seen)


def test_batch_normalisation_is_given_by_real_images_and_holds_during_an_update(toy: RealSet) -> None:
    objective, network = made(params(model=NORMALISED), toy, exact=True)
    [layer] = training.batch_norms(network)
    expected = copy.deepcopy(layer).train()
    rows = torch.cat(list(objective._real.draw(16, rng(3))))
    expected(network[0](rows))
    objective.match(network, noise(toy, 1, torch.float64).requires_grad_(), rng(3))
    assert not layer.training
    torch.testing.assert_close(layer.running_mean, expected.running_mean)
    torch.testing.assert_close(layer.running_var, expected.running_var)
    assert int(layer.num_batches_tracked or 0) == 1


@pytest.mark.parametrize("model", [CONVNET, NORMALISED, MLP])
def test_one_class_s_images_have_no_part_in_another_s_gradient(model: dict[str, Any], toy: RealSet) -> None:
    objective, network = made(params(model=model), toy)
    slopes = []
    for shift in (0.0, 1.0):
        images = noise(toy, 2)
        images[1::3] += shift
        images.requires_grad_()
        objective.match(copy.deepcopy(network), images, rng(3))
        assert images.grad is not None
        slopes.append(images.grad)
    torch.testing.assert_close(slopes[0][0::3], slopes[1][0::3])
    assert not torch.equal(slopes[0][1::3], slopes[1][1::3])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"updates": 2, "epochs": 2},
        {"augmentation": {"operations": ["crop", "scale"]}},
        {"model": {**MLP, "width": 32}, "learning_rate": 0.02},
        {"model": {**NORMALISED, "width": 8}},
        {"distance": "cosine", "learning_rate": 1.0},
    ],
)
def test_gradients_come_nearer_for_networks_it_has_not_seen(changed: dict[str, Any], digits: RealSet) -> None:
    chosen = params(**{"model": {**CONVNET, "width": 8}, "batch": 16, "steps": 8, **changed})
    of = RealImages(digits, chosen.model, Run(seed=0))
    before = matching.start("noise", digits, of, 1, Run(seed=0))
    after = gradient_matching.distill(digits, 1, chosen, Run(seed=0)).inputs
    objective = Objective(of, 10, chosen, 1)
    found = []
    for images in (before, after):
        for seed in (100, 101):
            network = matching.fresh(chosen.model, digits, rng(seed), torch.device("cpu"))
            found.append(objective.match(network, images.clone().requires_grad_(), rng(seed)))
    assert found[2] + found[3] < 0.95 * (found[0] + found[1])


def test_loops_are_those_of_dc_for_so_many_images() -> None:
    found = {count: gradient_matching.loops(params(), count) for count in (1, 2, 10, 20, 30, 40, 49, 50, 100)}
    assert found == {
        1: (1, 1), 2: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 49: (40, 15), 50: (50, 10), 100: (100, 2),
    }  # fmt: skip
    assert gradient_matching.loops(params(updates=3, epochs=4), 10) == (3, 4)
