"""Average images: the mean image of each class; a baseline of Wang et al. (2018), *Dataset Distillation*, section 4.

With more than one image per class, a class is divided at random into as many parts of equal size; an image is the mean of one.
Memory: one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from stillhouse.methods import groups, selection
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

BATCH = ("per_class", "seed")
TASKS = ("classification",)


@dataclass(frozen=True)
class Params:
    """It has no settings."""


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` means of disjoint parts of each class, whose sizes differ by one at most; classes in turn."""
    rng = run.generator("parts")
    means = []
    for positions in groups.groups(real, per_class):
        part = torch.randperm(len(positions), generator=rng) % per_class
        means.append(selection.averages(real, positions, part, per_class)[:2])
    inputs, targets = (groups.in_turn(each) for each in zip(*means, strict=True))
    return groups.stored(real, inputs, targets)
