"""Means of classes, and of their random parts."""

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.methods import average_images
from stillhouse.methods.average_images import Params
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels


def test_one_image_per_class_is_the_mean_of_the_class_for_every_seed(digits: RealSet) -> None:
    one, two = (average_images.distill(digits, 1, Params(), Run(seed=seed)) for seed in (0, 1))
    for label in range(10):
        mean = pixels(digits.train.inputs[digits.train.targets == label]).mean(0)
        torch.testing.assert_close(one.inputs[label], mean)
    torch.testing.assert_close(one.inputs, two.inputs)
    assert torch.equal(one.targets, torch.eye(10))


def test_more_images_are_means_of_disjoint_parts_that_are_the_whole_class(digits: RealSet, run: Run) -> None:
    """Of equal size up to one example, so that weighted by it their mean is that of the class."""
    made = average_images.distill(digits, 3, Params(), run)
    assert made.labels.tolist() == list(range(10)) * 3
    for label in range(10):
        images = pixels(digits.train.inputs[digits.train.targets == label])
        sizes = torch.tensor([len(range(part, len(images), 3)) for part in range(3)], dtype=torch.float32)
        mean = (made.inputs[label::10] * sizes.view(3, 1, 1, 1)).sum(0) / len(images)
        torch.testing.assert_close(mean, images.mean(0))


def test_as_many_images_as_the_class_has_are_the_class(toy: RealSet, run: Run) -> None:
    made = average_images.distill(toy, 20, Params(), run)
    for label in range(3):
        found, wanted = (each.flatten(1) for each in (made.inputs[label::3], pixels(toy.train.inputs[label::3])))
        nearest = torch.cdist(found, wanted).min(1)
        assert float(nearest.values.max()) < 1e-3
        assert sorted(nearest.indices.tolist()) == list(range(20))


def test_more_than_the_class_has_are_refused(toy: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match="per_class 21 asks for more examples"):
        average_images.distill(toy, 21, Params(), run)
