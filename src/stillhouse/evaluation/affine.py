"""Affine models x -> theta^T [1, x]: what they are fitted to, and how they score."""

from __future__ import annotations

import torch

from stillhouse.evaluation import metrics
from stillhouse.sets import RealSet, Split, pixels
from stillhouse.spaces import Space
from stillhouse.theory.linear_points import Examples

_CHUNK = 4096


def examples(real: RealSet, split: Split, space: Space) -> Examples:
    """[1, x] (n, d + 1), float64, of all inputs x in the space, and their target rows (n, width)."""
    rows = torch.ones(len(split), 1 + real.dim, dtype=torch.float64)
    for start in range(0, len(split), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows[part, 1:] = space.forward(pixels(split.inputs[part]).to(torch.float64)).flatten(1)
    return Examples(rows, real.target_rows(split.targets))


def metric(real: RealSet) -> str:
    """What `score` is."""
    return "test RMSE" if real.regression else "test accuracy"


def score(real: RealSet, scores: torch.Tensor, targets: torch.Tensor) -> float:
    """RMSE in the units of the values, or accuracy in percent, of scores (b, width) for targets as they are in the split."""
    return metrics.of(scores, targets, real)[metric(real)]
