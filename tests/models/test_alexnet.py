import dataclasses
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from stillhouse import settings
from stillhouse.errors import UserError
from stillhouse.models import alexnet, training
from stillhouse.models.alexnet import Params


def network(params: Params, shape: tuple[int, ...]) -> Any:
    made: Any = alexnet.build(params, shape, 10)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"))
    return made


def count(params: Params, shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in alexnet.build(params, shape, classes).parameters())


def test_it_has_as_many_weights_as_the_recipe() -> None:
    """Each channel has a bias and a weight for each value it sees; 28 x 28 images end as 4 x 4, as 32 x 32 do."""
    later = 192 * (128 * 25 + 1) + 256 * (192 * 9 + 1) + 192 * (256 * 9 + 1) + 192 * (192 * 9 + 1)
    classifier = 10 * (192 * 4 * 4 + 1)
    assert count(Params(), (3, 32, 32)) == 128 * (3 * 25 + 1) + later + classifier == 1_872_202
    assert count(Params(), (1, 28, 28)) == 128 * (25 + 1) + later + classifier == 1_865_802
    assert count(Params(norm="batch"), (3, 32, 32)) == 1_872_202 + 2 * (128 + 192 + 256 + 192 + 192)


@pytest.mark.parametrize(
    ("shape", "margin", "seen"),
    [((3, 32, 32), None, 16), ((1, 28, 28), None, 16), ((1, 28, 28), 0, 9), ((1, 8, 8), None, 1), ((1, 5, 13), 2, 2)],
)
@pytest.mark.parametrize("norm", ["none", "instance", "batch", "layer", "group"])
def test_scores_of_images_of_any_size(shape: tuple[int, ...], margin: int | None, seen: int, norm: Any) -> None:
    made = network(Params(width=8, norm=norm, margin=margin), shape)
    assert made.classifier.in_features == 12 * seen
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    found = made(images)
    assert found.shape == (2, 10)
    assert not torch.allclose(found[0], found[1])


def test_scores_are_those_of_the_recipe() -> None:
    made = network(Params(width=8), (1, 28, 28))
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    seen = functional.pad(images, (2, 2, 2, 2))
    for i, (channels, padding) in enumerate(((8, 2), (12, 2), (16, 1), (12, 1), (12, 1)), start=1):
        convolution = made.get_submodule(f"convolution{i}")
        seen = functional.conv2d(seen, convolution.weight, convolution.bias, padding=padding).clamp(min=0)
        assert seen.shape[1] == channels
        seen = functional.max_pool2d(seen, 2) if i in (1, 2, 5) else seen
    torch.testing.assert_close(
        made(images), functional.linear(seen.flatten(1), made.classifier.weight, made.classifier.bias)
    )


def test_a_normalisation_follows_every_convolution() -> None:
    kinds = [type(layer) for layer in alexnet.build(Params(norm="batch"), (3, 32, 32), 10)]
    after = [kinds[i + 1] for i, kind in enumerate(kinds) if kind is nn.Conv2d]
    assert after == [nn.BatchNorm2d] * 5


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"models/alexnet: images of 7 x 9 are too small; 8 x 8 .* Set margin: 1 or use"
    ):
        alexnet.build(Params(), (1, 7, 9), 10)
    alexnet.build(dataclasses.replace(Params(), margin=1), (1, 7, 9), 10)


def test_a_width_without_a_half_is_refused() -> None:
    with pytest.raises(UserError, match="models.test.width: input should be a multiple of 2, found 7"):
        settings.parse_plugin("models", {"kind": "alexnet", "width": 7}, "models.test")
