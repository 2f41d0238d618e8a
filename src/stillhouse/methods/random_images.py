"""Random real images, the same number from every class: the baseline that every method has to beat."""

from dataclasses import dataclass

import torch

from stillhouse import linalg
from stillhouse.errors import UserError
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels

BATCH = ("per_class", "seed")


@dataclass(frozen=True)
class Params:
    """It has no settings."""


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training images of each class with one-hot targets, as pixels; classes take turns."""
    chosen = sample(real, per_class, run.generator("images"))
    targets = linalg.one_hot(real.train.targets[chosen], real.n_classes).to(torch.float32)
    return DistilledSet(pixels(real.train.inputs[chosen]), targets, real.classes)


def sample(real: RealSet, per_class: int, rng: torch.Generator) -> torch.Tensor:
    """Positions (m,) of random training images: one of each class in order, then the next of each, so that a larger
    sample of the same seed begins with the smaller one.
    """
    by_class = []
    for label, name in enumerate(real.classes):
        positions = real.positions(label)
        if len(positions) < per_class:
            raise UserError(
                f"{real.name}: per_class {per_class} asks for more images than class '{name}' has ({len(positions)}). "
                "Choose a smaller per_class."
            )
        by_class.append(positions[torch.randperm(len(positions), generator=rng)[:per_class]])
    return torch.stack(by_class, 1).flatten()
