"""Random real examples, the same number from every class: the baseline that every method has to beat."""

from dataclasses import dataclass

import torch

from stillhouse.errors import UserError
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """It has no settings."""


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training examples of each class with one-hot targets, as pixels, classes in turn; or of all, as they are."""
    chosen = sample(real, per_class, run.generator("images"))
    targets = real.target_rows(real.train.targets[chosen])
    stored = targets if real.regression else targets.to(torch.float32)  # one-hot rows lose nothing
    return DistilledSet.of(real, pixels(real.train.inputs[chosen]), stored)


def sample(real: RealSet, per_class: int, rng: torch.Generator) -> torch.Tensor:
    """Positions (m,) of random training examples: one of each class in order, then the next of each, so that a larger
    sample of the same seed begins with the smaller one. Of a regression set, per_class of all.
    """
    if real.regression:
        return _drawn(torch.arange(len(real.train)), per_class, "the training split", real.name, rng)
    by_class = []
    for label, name in enumerate(real.classes):
        by_class.append(_drawn(real.positions(label), per_class, f"class '{name}'", real.name, rng))
    return torch.stack(by_class, 1).flatten()


def _drawn(positions: torch.Tensor, count: int, whose: str, dataset: str, rng: torch.Generator) -> torch.Tensor:
    """The first `count` of `positions` (n,) in a random order. Raises UserError where there are fewer."""
    if len(positions) < count:
        raise UserError(
            f"{dataset}: per_class {count} asks for more examples than {whose} has ({len(positions)}). "
            "Choose a smaller per_class."
        )
    return positions[torch.randperm(len(positions), generator=rng)[:count]]
