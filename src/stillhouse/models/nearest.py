"""k nearest neighbours: nothing is trained, and the distilled inputs themselves are what test examples are compared with.

    f(x) = sum_j w_j y_j,   y_1, y_2, ... the targets of the k reference examples nearest to x by |x - x_j|_p, nearest first

Targets may be soft. w_j = 1 + 1e-6 2^-j: a vote each, and of classes with equal sums, that of the nearest neighbour wins. Of
reference examples that are equally far, to rounding, the first in the set's order comes first. Sucholutsky and Schonlau (2021)
score their sets so, after Wang et al. (2018).

The model of the whole real set holds its training images, as bytes where they are bytes: 47 MB for MNIST, 154 MB for CIFAR-10.
`examples` takes fewer. Distances are computed a tile of reference examples at a time: memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import PixelSpace, Space
from stillhouse.teacher import Teacher

TILE = 4096  # reference examples whose distances are held at once
KEPT = 2**26  # values of reference examples that are moved into the space once; more are moved again for every chunk
_FEW = 2**22  # differences held at once where the norm is not that of a product
_NUDGE = 1e-6  # of the vote of the nearest neighbour, over the others'


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: one neighbour by Euclidean distance; what SLDD's table took is not known to us."""

    neighbours: Annotated[
        int, Field(ge=1, description="k; a set with fewer examples than that has all of them as neighbours")
    ] = 1
    norm: Annotated[float, Field(ge=1, description="p of the distance |x - y|_p; 2 is by far the fastest")] = 2.0
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    examples: Annotated[
        int, Field(ge=0, description="random training examples that the model of the real set has; 0: all")
    ] = 0


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """All training examples, or so many random ones, in the order of the data set."""
    space = whitening.fit(params.space, real)
    order = torch.randperm(len(real.train), generator=run.generator("examples"))
    index = order[: params.examples or None].sort().values
    whole = len(index) == len(real.train)
    inputs, targets = (each if whole else each[index] for each in (real.train.inputs, real.train.targets))
    held = {"references": inputs, "targets": real.target_rows(targets).to(torch.float32)}  # one-hot rows lose nothing
    return Teacher.of(real, params, run.seed, held, space, {"examples": len(index), "moved": False})


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """The set's inputs in this model's space, float64. A set that lives there is used as it is; another goes through pixels."""
    space = whitening.fit(params.space, real)
    held = {"references": distilled.inputs_in(space), "targets": distilled.target_rows(real).to(torch.float64)}
    return Teacher.of(real, params, run.seed, held, space, {"examples": len(distilled), "moved": True})


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to sums of targets (b, c), float64, on `device`.

    Distances to a distilled set are in float64, those to real examples in float32.
    """
    params: Params = settings.parse(Params, teacher.model, "model")
    space = spaces.from_settings(teacher.space)
    references, targets = (teacher.weights[name] for name in ("references", "targets"))
    moved = bool(teacher.notes["moved"])
    dtype = torch.float64 if moved else torch.float32

    def tiles() -> Iterator[torch.Tensor]:
        yield from moved_tiles(references, PixelSpace() if moved else space, dtype, device)

    held = list(tiles()) if len(references) * dim <= KEPT else None
    labels = targets.to(device, torch.float64)
    count = min(params.neighbours, len(references))
    votes = 1 + _NUDGE * 0.5 ** torch.arange(count, dtype=torch.float64, device=device)

    def scores(images: torch.Tensor) -> torch.Tensor:
        rows = space.forward(images.to(dtype)).flatten(1)
        found = nearest(rows, tiles() if held is None else iter(held), count, params.norm)
        return torch.einsum("k,bkc->bc", votes, labels[found])

    return scores


def moved_tiles(
    references: torch.Tensor, space: Space, dtype: torch.dtype, device: torch.device
) -> Iterator[torch.Tensor]:
    """Reference examples (n, *shape), bytes or floats, as rows (b, d) of the space, `TILE` at a time."""
    for tile in torch.split(references, TILE):
        floats = pixels(tile) if tile.dtype == torch.uint8 else tile
        yield space.forward(floats.to(device, dtype)).flatten(1)


def nearest(rows: torch.Tensor, tiles: Iterator[torch.Tensor], count: int, norm: float) -> torch.Tensor:
    """Positions (b, count) of the reference examples nearest to rows (b, d), nearest first, the first of equals first.

    `tiles` hold the reference examples in their order, as rows (t, d) of the same space.
    """
    distances = rows.new_empty(len(rows), 0)
    found = torch.empty(len(rows), 0, dtype=torch.long, device=rows.device)
    start = 0
    for tile in tiles:
        # What was found so far stands before the tile: of equals, the earlier stay the first.
        both = torch.cat([distances, _distances(rows, tile, norm)], 1)
        places = _smallest(both, min(count, both.shape[1]))
        positions = torch.arange(start, start + len(tile), device=rows.device).expand(len(rows), -1)
        found = torch.cat([found, positions], 1).gather(1, places)
        distances = both.gather(1, places)
        start += len(tile)
    return found


def _smallest(values: torch.Tensor, count: int) -> torch.Tensor:
    """Places (b, count) of the smallest of values (b, t), ascending, the first of equals first.

    `topk` is far faster than sorting, but which of equals it takes is not said: rows where that matters are sorted.
    """
    places = values.topk(count, dim=1, largest=False).indices.sort(dim=1).values
    chosen = values.gather(1, places)
    open_ = (values <= chosen.amax(1, keepdim=True)).sum(1) > count
    if bool(open_.any()):
        places[open_] = values[open_].sort(dim=1, stable=True).indices[:, :count].sort(dim=1).values
        chosen = values.gather(1, places)
    return places.gather(1, chosen.sort(dim=1, stable=True).indices)


def _distances(rows: torch.Tensor, tile: torch.Tensor, norm: float) -> torch.Tensor:
    """|x - y|_p, (b, t); for p = 2 its square, by one product; less is lost to what all share where rows have mean 0."""
    if norm != 2:
        parts = torch.split(rows, max(1, _FEW // tile.numel()))
        return torch.cat([torch.cdist(part, tile, p=norm) for part in parts])
    centre = rows.mean(0)
    left, right = rows - centre, tile - centre
    squares = torch.addmm(right.square().sum(1), left, right.T, alpha=-2)
    return squares.add_(left.square().sum(1, keepdim=True)).clamp_(min=0)
