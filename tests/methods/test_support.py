"""Class-balanced batches and corrupted images."""

import pytest
import torch

from stillhouse.methods.support import Balanced, corrupt
from stillhouse.sets import RealSet


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_batch_has_every_class_equally_often_and_no_example_twice(digits: RealSet) -> None:
    index = torch.arange(100, 900)
    drawn = Balanced(digits, index).draw(203, rng())
    assert torch.bincount(digits.train.targets[drawn]).tolist() == [20] * 10
    assert len(set(drawn.tolist())) == 200
    assert bool(((drawn >= 100) & (drawn < 900)).all())


def test_no_more_of_a_class_than_there_are(toy: RealSet) -> None:
    assert len(Balanced(toy, torch.arange(60)).draw(5000, rng())) == 60
    assert len(Balanced(toy, torch.arange(60)).draw(1, rng())) == 3  # at least one of each


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,), (4, 5)])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9])
def test_that_fraction_of_the_pixels_is_replaced(shape: tuple[int, ...], fraction: float) -> None:
    inputs = torch.ones(6, *shape, dtype=torch.float64)
    found, mask = corrupt(inputs, fraction, "zero", rng())
    assert mask.shape == inputs.shape
    assert torch.equal(found, (~mask).double())
    count = shape[-1] * (shape[-2] if len(shape) > 1 else 1)
    assert mask.flatten(1).sum(1).tolist() == [round(fraction * count) * inputs[0].numel() // count] * 6


def test_channels_of_a_pixel_go_together_and_images_differ() -> None:
    _, mask = corrupt(torch.ones(4, 3, 8, 8), 0.5, "zero", rng())
    assert torch.equal(mask[:, 0], mask[:, 2])
    assert not torch.equal(mask[0], mask[1])


def test_noise_is_standard_normal_where_it_stands_and_nothing_else_is_touched() -> None:
    inputs = torch.full((20, 1, 32, 32), 9.0)
    found, mask = corrupt(inputs, 0.5, "noise", rng())
    assert torch.equal(found[~mask], inputs[~mask])
    assert float(found[mask].mean()) == pytest.approx(0, abs=0.05)
    assert float(found[mask].std()) == pytest.approx(1, abs=0.05)
    same = corrupt(inputs, 0.5, "zero", rng())[1]
    assert torch.equal(mask, same)
