from typing import Any

import pytest
import torch
from torch.nn import functional

from stillhouse.errors import UserError
from stillhouse.models import lenet, training


def network(shape: tuple[int, ...], margin: int | None = None) -> Any:
    made: Any = lenet.build(lenet.Params(margin=margin), shape, 10)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"), "pytorch")
    return made


def count(shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in lenet.build(lenet.Params(), shape, classes).parameters())


def test_it_has_as_many_weights_as_the_recipe() -> None:
    """Each output of a layer has a bias and a weight for each of its inputs."""
    hidden = 120 * (16 * 5 * 5 + 1) + 84 * (120 + 1)
    assert count((1, 28, 28)) == 6 * (25 + 1) + 16 * (6 * 25 + 1) + hidden + 10 * (84 + 1) == 61_706
    assert count((3, 32, 32)) == 6 * (3 * 25 + 1) + 16 * (6 * 25 + 1) + hidden + 10 * (84 + 1) == 62_006
    assert count((3, 32, 32), 100) == 62_006 + 90 * (84 + 1)


@pytest.mark.parametrize(
    ("shape", "margin", "hidden"),
    [((1, 28, 28), None, 400), ((3, 32, 32), None, 400), ((1, 28, 28), 0, 256), ((1, 16, 20), None, 32), ((1, 8, 8), 4, 16)],
)  # fmt: skip
def test_scores_of_images_of_any_size(shape: tuple[int, ...], margin: int | None, hidden: int) -> None:
    made = network(shape, margin)
    assert made.hidden1.in_features == hidden
    assert made(torch.zeros(2, *shape)).shape == (2, 10)


def test_scores_are_those_of_the_recipe() -> None:
    made = network((1, 28, 28))
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    weights = dict(made.named_parameters())

    def layer(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return weights[f"{name}.weight"], weights[f"{name}.bias"]

    seen = functional.pad(images, (2, 2, 2, 2))
    assert seen.shape[2:] == (32, 32)
    for name in ("convolution1", "convolution2"):
        seen = functional.max_pool2d(functional.conv2d(seen, *layer(name)).clamp(min=0), 2)
    rows = seen.flatten(1)
    for name in ("hidden1", "hidden2"):
        rows = functional.linear(rows, *layer(name)).clamp(min=0)
    torch.testing.assert_close(made(images), functional.linear(rows, *layer("classifier")))


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"images of 8 x 8 are too small; 16 x 16 are the smallest .* Set margin: 4 or use"
    ):
        lenet.build(lenet.Params(), (1, 8, 8), 10)
    with pytest.raises(UserError, match="images of 16 x 15 .* Set margin: 1 or"):
        lenet.build(lenet.Params(), (1, 16, 15), 10)
    for margin, side in ((0, 16), (1, 15), (4, 8)):
        lenet.build(lenet.Params(margin=margin), (1, side, side), 10)
