"""Random real examples, the same number from every class: the baseline that every method has to beat."""

from dataclasses import dataclass

import torch

from stillhouse.methods.groups import draw, examples, groups
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """It has no settings."""


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training examples of each class with one-hot targets, classes in turn; or so many of all, with their values."""
    return examples(real, sample(real, per_class, run.generator("images")))


def sample(real: RealSet, per_class: int, rng: torch.Generator) -> torch.Tensor:
    """Positions (m,) of random training examples: one of each class in order, then the next of each, so that a larger
    sample of the same seed begins with the smaller one. Of a regression set, per_class of all.
    """
    return draw(groups(real, per_class), per_class, rng)
