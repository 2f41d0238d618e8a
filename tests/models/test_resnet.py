from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from stillhouse.errors import UserError
from stillhouse.models import resnet, training
from stillhouse.models.resnet import Params


def network(params: Params, shape: tuple[int, ...]) -> Any:
    made: Any = resnet.build(params, shape, 10)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim == 1:  # scales and shifts that are not all alike
                weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return made


def count(params: Params, shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in resnet.build(params, shape, classes).parameters())


def by_hand(blocks: tuple[int, ...], channels: int) -> int:
    """Weights but the classifier's: a convolution and the scales and shifts of what follows it, layer by layer."""
    total = 64 * (9 * channels + 2)
    before = 64
    for stage, number in enumerate(blocks):
        after = 64 * 2**stage
        for _ in range(number):
            total += after * (9 * before + 2) + after * (9 * after + 2)
            total += after * (before + 2) if before != after else 0
            before = after
    return total


def test_it_has_as_many_weights_as_the_recipe() -> None:
    assert count(Params(), (3, 32, 32)) == by_hand((2, 2, 2, 2), 3) + 10 * (512 + 1) == 11_173_962
    assert count(Params(norm="batch"), (3, 32, 32)) == 11_173_962
    assert count(Params(), (1, 28, 28)) == by_hand((2, 2, 2, 2), 1) + 10 * (512 + 1)
    assert count(Params(depth=34), (3, 32, 32)) == by_hand((3, 4, 6, 3), 3) + 10 * (512 + 1) == 21_282_122
    assert count(Params(depth=10), (3, 32, 32)) == by_hand((1, 1, 1, 1), 3) + 10 * (512 + 1)
    norms = 2 * (64 + 2 * 2 * (64 + 128 + 256 + 512) + 128 + 256 + 512)
    assert count(Params(norm="none"), (3, 32, 32)) == 11_173_962 - norms // 2  # a bias instead of a scale and a shift


def test_with_average_pooling_the_classifier_sees_all_pixels() -> None:
    """32, 16, 8, 4 pixels a side, and 28, 14, 7, 3."""
    average = Params(norm="batch", downsampling="average")
    assert count(average, (3, 32, 32)) == by_hand((2, 2, 2, 2), 3) + 10 * (512 * 4 * 4 + 1) == 11_250_762
    assert count(average, (1, 28, 28)) == by_hand((2, 2, 2, 2), 1) + 10 * (512 * 3 * 3 + 1)


@pytest.mark.parametrize("depth", [10, 18, 34])
def test_the_depth_counts_the_layers_with_weights(depth: Any) -> None:
    made: Any = resnet.build(Params(depth=depth), (3, 32, 32), 10)
    along = [name for name, layer in made.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len([name for name in along if "shortcut" not in name]) == depth


@pytest.mark.parametrize(
    ("shape", "downsampling", "seen"),
    [
        ((3, 32, 32), "strided", 1),
        ((1, 28, 28), "strided", 1),
        ((1, 9, 13), "strided", 1),
        ((3, 32, 32), "average", 16),
        ((1, 28, 28), "average", 9),
        ((1, 16, 25), "average", 6),
    ],
)
@pytest.mark.parametrize("norm", ["none", "instance", "batch", "layer", "group"])
def test_scores_of_images_of_any_size(shape: tuple[int, ...], downsampling: Any, seen: int, norm: Any) -> None:
    made = network(Params(depth=10, width=4, norm=norm, downsampling=downsampling), shape)
    assert made.classifier.in_features == 32 * seen
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    found = made(images)
    assert found.shape == (2, 10)
    assert not torch.equal(found[0], found[1])


def instance(seen: torch.Tensor, norm: Any) -> torch.Tensor:
    """Every channel of every image to mean 0 and variance 1, then scale and shift."""
    mean, variance = seen.mean((2, 3), keepdim=True), seen.var((2, 3), correction=0, keepdim=True)
    normal: torch.Tensor = (seen - mean) / (variance + 1e-5).sqrt() * norm.weight[:, None, None]
    shift: torch.Tensor = norm.bias[:, None, None]
    return normal + shift


@pytest.mark.parametrize("downsampling", ["strided", "average"])
def test_scores_are_those_of_the_recipe(downsampling: Any) -> None:
    """Block by block, by the definition of each; average pooling as the mean over 2 x 2 pixels."""
    made: Any = network(Params(width=2, downsampling=downsampling), (3, 16, 16))
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def convolved(seen: torch.Tensor, layer: Any, stride: int = 1) -> torch.Tensor:
        return functional.conv2d(seen, layer.weight, stride=stride, padding=layer.weight.shape[-1] // 2)

    def halved(seen: torch.Tensor) -> torch.Tensor:
        return (seen[..., ::2, ::2] + seen[..., 1::2, ::2] + seen[..., ::2, 1::2] + seen[..., 1::2, 1::2]) / 4

    seen = instance(convolved(images, made.convolution), made.norm).relu()
    for stage in range(1, 5):
        for i in (1, 2):
            block = made.get_submodule(f"block{stage}_{i}")
            halves = stage > 1 and i == 1
            stride = 2 if halves and downsampling == "strided" else 1
            inner = instance(convolved(seen, block.main.convolution1, stride), block.main.norm1).relu()
            if halves and downsampling == "average":
                inner = halved(inner)
            inner = instance(convolved(inner, block.main.convolution2), block.main.norm2)
            if halves:
                seen = convolved(seen, block.shortcut.convolution, stride)
                seen = instance(halved(seen) if downsampling == "average" else seen, block.shortcut.norm)
            seen = (seen + inner).relu()
    assert seen.shape == (2, 16, 2, 2)
    rows = seen.mean((2, 3)) if downsampling == "strided" else seen.flatten(1)
    wanted = functional.linear(rows, made.classifier.weight, made.classifier.bias)
    torch.testing.assert_close(made(images), wanted, rtol=1e-4, atol=1e-4)


def test_images_that_are_too_small_are_refused() -> None:
    """Instance norm makes one pixel 0, so it needs two a side at the end; average pooling rounds down."""
    for norm, downsampling, smallest in (
        ("instance", "strided", 9),
        ("instance", "average", 16),
        ("batch", "average", 8),
    ):
        params = Params(norm=norm, downsampling=downsampling)  # type: ignore[arg-type]
        with pytest.raises(
            UserError, match=rf"too small; {smallest} x {smallest} are the smallest .* Use models/convnet"
        ):
            resnet.build(params, (1, smallest - 1, smallest - 1), 10)
        resnet.build(params, (1, smallest, smallest), 10)
    resnet.build(Params(norm="batch"), (1, 8, 8), 10)
