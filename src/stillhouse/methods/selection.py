"""What methods that choose or average real examples by their features share: rows to compare, averages, weights.

One group's rows (`groups`) are in memory at a time, whatever the number of groups; everything else is read in chunks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import settings
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.spaces import Space

CHUNK = 2048  # examples read at once

Features = Annotated[
    Any,
    settings.plugin("features"),
    Field(description="feature map in which examples are compared: a file of features/"),
]
Targets = Annotated[
    bool, Field(description="compare standardised targets too, as further features; changes nothing within a class")
]


@dataclass(frozen=True)
class Embedding:
    """How examples become rows: `features` takes pixels (b, *shape) to (b, dim), same dtype, by way of `space`."""

    space: Space
    dim: int
    features: Callable[[torch.Tensor], torch.Tensor]


def embed(features: Any, space: Any, real: RealSet, run: Run) -> Embedding:
    """The features in the space that a ridge model of these settings and the run's seed has."""
    found = ridge.embed(ridge.Params(features, space), real, run.seed)
    return Embedding(found.space, found.map.dim, found.features)


def rows(real: RealSet, positions: torch.Tensor, embedding: Embedding, targets: bool, run: Run) -> torch.Tensor:
    """What is compared of the examples at `positions`: features (n_g, p), float64, with target rows beside them where `targets`
    are asked for.
    """
    width = embedding.dim + (real.width if targets else 0)
    found = torch.empty(len(positions), width, dtype=torch.float64, device=run.device)
    parts = torch.split(found, CHUNK)
    for part, (chunk, of) in zip(parts, real.train.chunks(CHUNK, positions), strict=True):
        part[:, : embedding.dim] = embedding.features(chunk.to(run.device, torch.float64))
        if targets:
            part[:, embedding.dim :] = real.target_rows(of).to(run.device)
    return found


def rescaled(
    real: RealSet, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, space: Space
) -> DistilledSet:
    """The same with each row, input in `space` and target alike, times the root of its weight (m,): float64.

    For a linear model without intercept in this space, its squared loss on the set is the weighted one. For any other model
    the rows are no examples of anything.
    """
    roots = weights.sqrt()
    moved = space.forward(inputs.to(torch.float64))
    scaled = moved * roots.view(-1, *[1] * (moved.ndim - 1))
    return DistilledSet.of(real, scaled, targets.to(torch.float64) * roots[:, None], space=space.settings())


def averages(
    real: RealSet, positions: torch.Tensor, part: torch.Tensor, parts: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means of stored inputs (parts, *shape) and of target rows (parts, width), float64, over the examples at `positions` (n_g,),
    which belong to parts `part` (n_g,); and how many each has, (parts,). No part may be empty.
    """
    inputs = torch.zeros(parts, *real.shape, dtype=torch.float64)
    targets = torch.zeros(parts, real.width, dtype=torch.float64)
    for where, (chunk, of) in zip(torch.split(part, CHUNK), real.train.chunks(CHUNK, positions), strict=True):
        inputs.index_add_(0, where, chunk.to(torch.float64))
        targets.index_add_(0, where, real.target_rows(of))
    counts = part.bincount(minlength=parts)
    return inputs / counts.view(-1, *[1] * (inputs.ndim - 1)), targets / counts[:, None], counts
