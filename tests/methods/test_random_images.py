import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.methods import random_images
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels


def test_every_class_has_as_many_images_and_they_are_real(digits: RealSet, run: Run) -> None:
    distilled = random_images.distill(digits, 3, random_images.Params(), run)
    assert torch.equal(distilled.labels.bincount(minlength=10), torch.full((10,), 3))
    chosen = random_images.sample(digits, 3, run.generator("images"))
    assert torch.equal(distilled.inputs, pixels(digits.train.inputs[chosen]))
    assert len(set(chosen.tolist())) == 30


def test_a_larger_sample_begins_with_the_smaller_one_of_the_same_seed(digits: RealSet, run: Run) -> None:
    small = random_images.sample(digits, 2, run.generator("images"))
    large = random_images.sample(digits, 5, run.generator("images"))
    assert torch.equal(large[:20], small)


def test_more_images_than_a_class_has_are_refused_with_its_name(digits: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match=r"digits: per_class 1000 .* class '0' has \(\d+\)"):
        random_images.distill(digits, 1000, random_images.Params(), run)
