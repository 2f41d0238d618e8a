from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from stillhouse.models import alexcifarnet, training
from stillhouse.models.alexcifarnet import Params, ResponseNorm


def network(params: Params, shape: tuple[int, ...]) -> Any:
    made: Any = alexcifarnet.build(params, shape, 10)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"), "pytorch")
    return made


def count(params: Params, shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in alexcifarnet.build(params, shape, classes).parameters())


def test_it_has_as_many_weights_as_the_recipe() -> None:
    """Each output of a layer has a bias and a weight for each of its inputs."""
    convolutions = 64 * (3 * 25 + 1) + 64 * (64 * 25 + 1)
    hidden = 384 * (4096 + 1) + 192 * (384 + 1)
    assert count(Params(), (3, 32, 32)) == convolutions + hidden + 10 * (192 + 1) == 1_756_426
    assert count(Params(), (3, 32, 32), 100) == 1_756_426 + 90 * (192 + 1)


@pytest.mark.parametrize(
    ("shape", "hidden"),
    [((3, 32, 32), 4096), ((1, 28, 28), 64 * 7 * 7), ((1, 8, 8), 64 * 2 * 2), ((2, 5, 3), 64 * 2 * 1), ((1, 1, 1), 64)],
)
def test_scores_of_images_of_any_size(shape: tuple[int, ...], hidden: int) -> None:
    made = network(Params(), shape)
    assert made.hidden1.in_features == hidden
    assert made(torch.zeros(2, *shape)).shape == (2, 10)


def test_the_width_is_that_of_every_layer() -> None:
    made: Any = alexcifarnet.build(Params(width=4), (3, 32, 32), 10)
    assert (made.hidden1.in_features, made.hidden1.out_features, made.hidden2.out_features) == (4 * 8 * 8, 24, 12)


def test_response_normalisation_divides_by_the_squares_of_four_channels() -> None:
    """By hand: of six channels the fourth sees the second to the fifth, the last the fourth to the last, and a zero."""
    values = torch.tensor([3.0, -10, 20, 30, 40, 50]).view(1, 6, 1, 1)
    found = ResponseNorm()(values).flatten()
    alpha = 0.001 / 9
    assert float(found[3]) == pytest.approx(30 / (1 + alpha * (10**2 + 20**2 + 30**2 + 40**2) / 4) ** 0.75)
    assert float(found[5]) == pytest.approx(50 / (1 + alpha * (30**2 + 40**2 + 50**2) / 4) ** 0.75)


def test_response_normalisation_is_pytorchs_with_its_gradient() -> None:
    values = 40 * torch.randn(2, 7, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values.requires_grad_()
    theirs = nn.LocalResponseNorm(4, alpha=0.001 / 9, beta=0.75, k=1)
    found, wanted = ResponseNorm()(values), theirs(values)
    torch.testing.assert_close(found, wanted)
    slopes = (torch.autograd.grad(each.sin().sum(), values)[0] for each in (found, wanted))
    torch.testing.assert_close(*slopes)


def test_scores_are_those_of_the_recipe() -> None:
    """Pooling before normalisation in the first block, after it in the second."""
    made = network(Params(width=8), (3, 32, 32))
    images = 30 * torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    weights = dict(made.named_parameters())

    def layer(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    def normal(seen: torch.Tensor) -> torch.Tensor:
        return functional.local_response_norm(seen, 4, alpha=0.001 / 9, beta=0.75, k=1.0)

    def pooled(seen: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(seen, 3, stride=2, padding=1)

    first = normal(pooled(functional.conv2d(images, *layer("convolution1"), padding=2).relu()))
    second = pooled(normal(functional.conv2d(first, *layer("convolution2"), padding=2).relu()))
    rows = second.flatten(1)
    for name in ("hidden1", "hidden2"):
        rows = functional.linear(rows, *layer(name)).relu()
    torch.testing.assert_close(made(images), functional.linear(rows, *layer("classifier")))
    assert not torch.allclose(normal(pooled(first)), pooled(normal(first)))  # the order is seen
