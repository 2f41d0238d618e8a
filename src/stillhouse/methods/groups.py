"""What real examples are chosen from, and the set that chosen ones make: a group is a class, or the whole training split of a
regression set.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stillhouse.errors import UserError
from stillhouse.sets import DistilledSet, RealSet, pixels


def groups(real: RealSet, per_class: int, within: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Positions (n_g,) of the training examples of each class, ascending; or of all, of a regression set.

    Only those among positions `within`, where they are given. Raises UserError where a group has fewer than `per_class`.
    """
    names = [f"class '{name}'" for name in real.classes] or ["the training split"]
    of = [real.positions(label) for label in range(real.n_classes)] or [torch.arange(len(real.train))]
    if within is not None:
        of = [positions[torch.isin(positions, within)] for positions in of]
    for name, positions in zip(names, of, strict=True):
        if len(positions) < per_class:
            raise UserError(
                f"{real.name}: per_class {per_class} asks for more examples than {name} has ({len(positions)}). "
                "Choose a smaller per_class."
            )
    return of


def draw(of: Sequence[torch.Tensor], per_class: int, rng: torch.Generator) -> torch.Tensor:
    """Positions (m,) of `per_class` random examples of each group, in turn. A larger draw begins with the smaller one."""
    return in_turn([positions[torch.randperm(len(positions), generator=rng)[:per_class]] for positions in of])


def in_turn(chosen: Sequence[torch.Tensor]) -> torch.Tensor:
    """What was found for each group, (per_class, ...) each, as one (m, ...): the first of every group, then the second."""
    return torch.stack(list(chosen), 1).flatten(0, 1)


def examples(real: RealSet, chosen: torch.Tensor) -> DistilledSet:
    """The training examples at positions (m,), as they are stored."""
    return stored(real, pixels(real.train.inputs[chosen]), real.target_rows(real.train.targets[chosen]))


def stored(real: RealSet, inputs: torch.Tensor, targets: torch.Tensor) -> DistilledSet:
    """A set of inputs (m, *shape) in pixels, or in a table's own units, and target rows (m, width)."""
    kept = targets if real.regression else targets.to(torch.float32)  # one-hot rows lose nothing
    return DistilledSet.of(real, inputs.to(torch.float32), kept)
