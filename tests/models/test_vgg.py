import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from stillhouse.errors import UserError
from stillhouse.models import training, vgg
from stillhouse.models.vgg import Params


def network(params: Params, shape: tuple[int, ...]) -> Any:
    made: Any = vgg.build(params, shape, 10)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"))
    return made


def count(params: Params, shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in vgg.build(params, shape, classes).parameters())


def test_vgg11_has_as_many_weights_as_the_recipe() -> None:
    """Each channel has a bias, a scale, a shift and nine weights for each channel it sees; instance and batch norm alike."""
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    convolutions = sum(after * (9 * before + 3) for before, after in itertools.pairwise(channels))
    assert count(Params(), (3, 32, 32)) == convolutions + 10 * (512 + 1) == 9_231_114
    assert count(Params(norm="batch"), (3, 32, 32)) == 9_231_114
    assert count(Params(norm="none"), (3, 32, 32)) == 9_231_114 - 2 * sum(channels[1:])
    assert count(Params(), (1, 28, 28)) == 9_231_114 - 2 * 9 * 64
    assert count(Params(), (3, 32, 32), 100) == 9_231_114 + 90 * (512 + 1)


@pytest.mark.parametrize(("depth", "weights"), [(11, 9_231_114), (13, 9_416_010), (16, 14_728_266), (19, 20_040_522)])
def test_the_depth_counts_two_linear_layers_that_are_left_out(depth: Any, weights: int) -> None:
    made: Any = vgg.build(Params(depth=depth), (3, 32, 32), 10)
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in made.modules()) == depth - 2
    assert count(Params(depth=depth), (3, 32, 32)) == weights


@pytest.mark.parametrize(
    ("shape", "margin", "seen"),
    [((3, 32, 32), None, 1), ((1, 28, 28), None, 1), ((1, 8, 8), 12, 1), ((3, 64, 40), 0, 2)],
)
@pytest.mark.parametrize("norm", ["none", "instance", "batch", "layer", "group"])
def test_scores_of_images_of_any_size(shape: tuple[int, ...], margin: int | None, seen: int, norm: Any) -> None:
    made = network(Params(width=4, norm=norm, margin=margin), shape)
    assert made.classifier.in_features == 32 * seen
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    found = made(images)
    assert found.shape == (2, 10)
    assert not torch.equal(found[0], found[1])


def test_scores_are_those_of_the_recipe() -> None:
    """Instance norm by its definition: every channel of every image to mean 0 and variance 1, then scale and shift."""
    made = network(Params(width=2), (1, 28, 28))
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    seen = functional.pad(images, (2, 2, 2, 2))
    for i in range(1, 9):
        convolution, norm = made.get_submodule(f"convolution{i}"), made.get_submodule(f"norm{i}")
        seen = functional.conv2d(seen, convolution.weight, convolution.bias, padding=1)
        mean, variance = seen.mean((2, 3), keepdim=True), seen.var((2, 3), correction=0, keepdim=True)
        seen = (seen - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None] + norm.bias[:, None, None]
        seen = functional.max_pool2d(seen.clamp(min=0), 2) if i in (1, 2, 4, 6, 8) else seen.clamp(min=0)
    assert seen.shape == (3, 16, 1, 1)
    wanted = functional.linear(seen.flatten(1), made.classifier.weight, made.classifier.bias)
    torch.testing.assert_close(made(images), wanted, rtol=1e-4, atol=1e-5)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(UserError, match=r"models/vgg: images of 8 x 8 are too small; 32 x 32 .* Set margin: 12 or use"):
        vgg.build(Params(), (1, 8, 8), 10)
    with pytest.raises(UserError, match=r"models/vgg: images of 28 x 28 are too small; .* Set margin: 2 or use"):
        vgg.build(Params(margin=1), (1, 28, 28), 10)
