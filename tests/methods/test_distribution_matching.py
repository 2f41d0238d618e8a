"""DM: the distance it descends, class by class or, with batch normalisation, of all together, and that it descends."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stillhouse import settings
from stillhouse.methods import distribution_matching, matching
from stillhouse.methods.distribution_matching import Objective
from stillhouse.methods.matching import RealImages
from stillhouse.run import Run
from stillhouse.sets import RealSet

CONVNET = {"kind": "convnet", "width": 4, "depth": 1, "space": "standardised"}
NORMALISED = {**CONVNET, "norm": "batch"}
MLP = {"kind": "mlp", "width": 8, "space": "standardised"}
NONE: dict[str, Any] = {"operations": []}


def params(**changed: Any) -> distribution_matching.Params:
    return settings.parse(distribution_matching.Params, {"model": CONVNET, "batch": 20, **changed}, "test")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(chosen: distribution_matching.Params, real: RealSet) -> tuple[Objective, nn.Sequential, torch.Tensor]:
    """The objective of these settings, a network, and all real images: of `toy`, 20 of each class, classes in turn."""
    of = RealImages(real, chosen.model, Run(seed=0))
    network = matching.fresh(chosen.model, real, rng(1), torch.device("cpu"))
    return Objective(of, real.n_classes, chosen), network, of.at(torch.arange(len(real.train)))


def noise(per_class: int) -> torch.Tensor:
    return torch.randn(per_class * 3, 1, 4, 4, generator=rng(2)).requires_grad_()


@pytest.mark.parametrize("model", [CONVNET, MLP])
def test_the_distance_is_that_of_the_classes_mean_embeddings(model: dict[str, Any], toy: RealSet) -> None:
    objective, network, everything = made(params(model=model, augmentation=NONE), toy)
    images = noise(2)
    found = objective.match(network, images, rng())
    own, real = (network[:-1](each).detach().numpy() for each in (images, everything))
    wanted = sum(np.sum((own[k::3].mean(0) - real[k::3].mean(0)) ** 2) for k in range(3))
    assert found == pytest.approx(float(wanted), rel=1e-5)


def test_batch_normalisation_sees_all_classes_of_one_side_together(toy: RealSet) -> None:
    objective, network, everything = made(params(model=NORMALISED, augmentation=NONE), toy)
    images = noise(2)
    found = objective.match(copy.deepcopy(network), images, rng())
    own, real = (network.train()[:-1](each).detach().numpy() for each in (images, everything))
    wanted = sum(np.sum((own[k::3].mean(0) - real[k::3].mean(0)) ** 2) for k in range(3))
    assert found == pytest.approx(float(wanted), rel=1e-4)


@pytest.mark.parametrize("model", [{**CONVNET, "activation": "sigmoid"}, {**NORMALISED, "activation": "sigmoid"}])
def test_the_images_gradient_is_that_of_the_distance(model: dict[str, Any], toy: RealSet) -> None:
    objective, network, everything = made(params(model=model, augmentation=NONE), toy)
    images = noise(2)
    objective.match(network, images, rng())
    embed = network.train()[:-1]
    other = images.detach().clone().requires_grad_()
    real = embed(everything).detach()
    own = embed(other)
    distance = sum(((own[k::3].mean(0) - real[k::3].mean(0)) ** 2).sum() for k in range(3))
    torch.testing.assert_close(images.grad, torch.autograd.grad(distance, [other])[0], rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_finite_differences_under_augmentation(toy: RealSet) -> None:
    objective, network, _ = made(params(model={**CONVNET, "activation": "sigmoid", "width": 8}), toy)
    for seed in range(6):
        images = noise(1)
        objective.match(network, images, rng(seed))
        assert images.grad is not None
        direction = images.grad / images.grad.norm()
        ends = [
            objective.match(network, (images.detach() + step * direction).requires_grad_(), rng(seed))
            for step in (0.02, -0.02)
        ]
        assert (ends[0] - ends[1]) / 0.04 == pytest.approx(float(images.grad.norm()), rel=0.02)


@pytest.mark.parametrize("operation", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_both_sides_are_changed_alike(operation: str, toy: RealSet) -> None:
    """Where the images are the real ones, their mean embeddings stay the same under any change of both."""
    objective, network, everything = made(params(augmentation={"operations": [operation]}), toy)
    for seed in range(5):
        assert objective.match(network, everything.clone().requires_grad_(), rng(seed)) < 1e-9


def test_the_network_is_left_alone_and_asks_for_no_gradient(toy: RealSet) -> None:
    objective, network, _ = made(params(), toy)
    before = copy.deepcopy(network.state_dict())
    objective.match(network, noise(1), rng())
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@pytest.mark.parametrize("changed", [{}, {"augmentation": NONE}, {"model": {**NORMALISED, "width": 8}}])
def test_embeddings_come_nearer_for_networks_it_has_not_seen(changed: dict[str, Any], digits: RealSet) -> None:
    chosen = params(**{"model": {**CONVNET, "width": 8}, "batch": 50, "steps": 15, "start": "noise", **changed})
    of = RealImages(digits, chosen.model, Run(seed=0))
    before = matching.start("noise", digits, of, 1, Run(seed=0))
    after = distribution_matching.distill(digits, 1, chosen, Run(seed=0)).inputs
    objective = Objective(of, 10, chosen)
    found = []
    for images in (before, after):
        network = matching.fresh(chosen.model, digits, rng(100), torch.device("cpu"))
        found.append(objective.match(network, images.clone().requires_grad_(), rng(100)))
    assert found[1] < 0.9 * found[0]


def test_defaults_are_those_of_dm() -> None:
    chosen = distribution_matching.Params(params().model)
    assert (chosen.steps, chosen.batch, chosen.learning_rate, chosen.momentum) == (20_000, 256, 1.0, 0.5)
    assert chosen.augmentation.operations == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert chosen.start == "real"
