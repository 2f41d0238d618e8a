"""Leverage scores: real rows drawn with probability proportional to how much each decides a least-squares fit.

    h_i = x_i^T (X^T X)^+ x_i,   p_i = h_i / sum_j h_j,   m rows with replacement

Drineas, Mahoney, Muthukrishnan (2006), *Sampling algorithms for l2 regression*, and Drineas et al. (2011); Ma, Mahoney, Yu
(2015), *A statistical perspective on algorithmic leveraging*. With each row and target times 1 / sqrt(m p_i) (`weighted`), the
sketch S is unbiased, E[S^T S] = X^T X, and least squares on it is the papers' weighted one (LEV). Without, the set holds real
examples (LEVUNW). `choice: largest` takes the m largest scores (Papailiopoulos, Kyrillidis, Boutsidis 2014) and draws nothing.

Of a set of classes, scores are those among all its examples, and per_class examples of each class are drawn by them.

Memory: d x d and the n scores; two passes over the data, in chunks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg
from stillhouse.data import whitening
from stillhouse.methods import groups, selection
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import Space

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: the unweighted sample of Ma, Mahoney, Yu (2015), whose rows are real examples for any model."""

    space: whitening.SpaceSettings = field(default_factory=whitening.Standardised)
    intercept: Annotated[bool, Field(description="score the rows with a column of ones beside them")] = False
    choice: Annotated[
        Literal["drawn", "largest"], Field(description="draw rows by their scores, or take the largest")
    ] = "drawn"
    uniform: Annotated[
        float,
        Field(ge=0, le=1, description="part of the probability that all rows share alike (SLEV of Ma et al.: 0.1)"),
    ] = 0.0
    weighted: Annotated[
        bool,
        Field(
            description="rescale each row and its target, in `space`, by 1 / sqrt(m p_i): for linear models in this space "
            "without intercept"
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.choice == "largest" and (self.weighted or self.uniform):
            raise ValueError(
                "choice 'largest' draws nothing, so it has no probabilities: leave out weighted and uniform"
            )


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training rows of each class, classes in turn; or of all. A larger set begins with the smaller one."""
    of_groups = groups.groups(real, per_class)
    found = scores(real, params.space, params.intercept, run.device)
    if params.choice == "largest":
        best = [of[found[of].argsort(descending=True, stable=True)[:per_class]] for of in of_groups]
        return groups.examples(real, groups.in_turn(best))
    probabilities = [(1 - params.uniform) * found[of] / found[of].sum() + params.uniform / len(of) for of in of_groups]
    uniforms = torch.rand(per_class, len(of_groups), generator=run.generator("rows"), dtype=torch.float64)
    drawn = [draw(p, uniforms[:, group]) for group, p in enumerate(probabilities)]
    chosen = groups.in_turn([of[at] for of, at in zip(of_groups, drawn, strict=True)])
    if not params.weighted:
        return groups.examples(real, chosen)
    weights = groups.in_turn([1 / (per_class * p[at]) for p, at in zip(probabilities, drawn, strict=True)])
    targets = real.target_rows(real.train.targets[chosen])
    inputs = pixels(real.train.inputs[chosen])
    return selection.rescaled(real, inputs, targets, weights, whitening.fit(params.space, real))


# The sets of one job share their scores, which cost 2 n d^2 multiplications.
@functools.lru_cache(maxsize=1)
def scores(real: RealSet, space: Any, intercept: bool, device: torch.device) -> torch.Tensor:
    """h (n,), float64, of the training rows in the space of these settings. They add up to the rank of X."""
    fitted = whitening.fit(space, real)
    sums = linalg.Moments(real.dim + intercept, 0, device)
    for rows in _rows(real, fitted, intercept, device):
        sums.add(rows, rows[:, :0])
    root = inverse_root(sums.gram)
    return torch.cat([(rows @ root).square().sum(1).cpu() for rows in _rows(real, fitted, intercept, device)])


def inverse_root(gram: torch.Tensor) -> torch.Tensor:
    """R (d, r) with R R^T = G^+ of a Gram matrix G (d, d) of numerical rank r."""
    path = linalg.RidgePath.of_moments(gram, gram[:, :0])
    kept = slice(len(path.values) - path.rank(), None)
    return path.vectors[:, kept] / path.values[kept].sqrt()


def draw(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Positions (m,) drawn with `probabilities` (n,) by numbers (m,) uniform in [0, 1), with replacement."""
    bounds = probabilities.cumsum(0)
    # The first bound above: a row of probability 0 has that of the row before, so it is never drawn.
    return torch.searchsorted(bounds / bounds[-1], uniforms.contiguous(), right=True)


def _rows(real: RealSet, space: Space, intercept: bool, device: torch.device) -> Iterator[torch.Tensor]:
    """The training inputs in `space`, (b, d) or with a column of ones (b, d + 1), float64, a chunk at a time."""
    for chunk, _ in real.train.chunks(selection.CHUNK):
        rows = space.forward(chunk.to(device, torch.float64)).flatten(1)
        yield torch.nn.functional.pad(rows, (0, 1), value=1.0) if intercept else rows
