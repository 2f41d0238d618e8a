"""Attacks on a released distilled set for ridge regression: who was in the data, what does the missing record look like, and
is the promised privacy of one row there. They know released numbers and no method.

Everything works on F^T F and F^T Y of features F (n, p) and targets Y (n, c), so a shadow training costs one p x p solve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from stillhouse import linalg
from stillhouse.theory import privacy

# From F^T F (p, p) and F^T Y (p, c) of a training set to the weights (p, c) that its release gives away.
Release = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def recovered(features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The weights (p, c) that least squares learns from a released set: features (m, p), targets (m, c)."""
    return linalg.pseudo_inverse(features).value @ targets


# --- Membership -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roc:
    """How well a statistic tells members from others: area under the curve, and true positive rate at a false positive rate."""

    auc: float
    tpr: float


def memberships(trainings: int, examples: int, generator: torch.Generator) -> torch.Tensor:
    """(trainings, examples) bool: who is in each shadow training set, half of the examples on average.

    Each example is in or out by its own coin. An odd row is the complement of the row before it, so that every example is in
    half of the sets.
    """
    first = torch.rand(-(-trainings // 2), examples, generator=generator) < 0.5
    return torch.stack([first, ~first], 1).flatten(0, 1)[:trainings]


def trainings(
    rows: torch.Tensor, targets: torch.Tensor, members: torch.Tensor, releases: Mapping[str, Release]
) -> Iterator[tuple[int, str, torch.Tensor]]:
    """For every training set and release: its number, the release's name, and the weights (p, c) that it gives away.

    rows (n, p), targets (n, c), members (s, n) bool. The sums of a training set serve all releases.
    """
    for index, inside in enumerate(members):
        sums = linalg.Moments(rows.shape[1], targets.shape[1], rows.device)
        sums.add(rows[inside], targets[inside])
        gram = sums.gram
        for name, release in releases.items():
            yield index, name, release(gram, sums.cross)


def own_scores(weights: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(b,) the score of each example's own class; rows (b, p), targets (b, c) one-hot."""
    scores: torch.Tensor = ((rows @ weights) * targets).sum(1)
    return scores


def likelihood_ratios(shadow: torch.Tensor, members: torch.Tensor, attacked: torch.Tensor) -> torch.Tensor:
    """Log-likelihood ratios (v, t) of in against out for scores `attacked` (v, t) of t targets (LiRA; Carlini et al., 2022).

    Per target, a Gaussian is fitted to the scores of the shadow models that had it, and one to those that had not: shadow
    (s, t), members (s, t) bool.
    """
    inside, outside = _gaussian(shadow, members), _gaussian(shadow, ~members)
    return _log_density(attacked, *inside) - _log_density(attacked, *outside)


def _gaussian(scores: torch.Tensor, chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    count = chosen.sum(0).clamp(min=1)
    mean = (scores * chosen).sum(0) / count
    variance = ((scores - mean).square() * chosen).sum(0) / (count - 1).clamp(min=1)
    return mean, variance.clamp(min=torch.finfo(scores.dtype).tiny)


def _log_density(scores: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    density: torch.Tensor = -(scores - mean).square() / (2 * variance) - variance.log() / 2
    return density


def roc(statistic: torch.Tensor, members: torch.Tensor, false_positive_rate: float = 0.01) -> Roc:
    """The curve of thresholding `statistic`, over all its entries together; ties count half in the area, nothing in the rate."""
    inside, outside = statistic[members].sort().values, statistic[~members].sort().values
    below = torch.searchsorted(outside, inside).to(torch.float64)
    not_above = torch.searchsorted(outside, inside, right=True).to(torch.float64)
    allowed = int(false_positive_rate * len(outside))
    threshold = outside[len(outside) - 1 - allowed]
    return Roc(float((below + not_above).mean() / (2 * len(outside))), float((inside > threshold).double().mean()))


# --- The privacy of one row -------------------------------------------------------------------------------------------------


def worst_removal(
    gram: torch.Tensor, weights: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor, set_targets: torch.Tensor
) -> torch.Tensor:
    """(b,) how far taking out each example moves a column of D, over the column's noise for Z of standard deviation 1; the
    largest over the columns.

    The released columns of adjacent data sets are N(W u_j, |P_j|^2 I) and N(W' u_j, |P_j|^2 I), so this number alone decides how
    well they can be told apart. `gram` is regularised and, like `weights`, with all examples.
    """
    moved, residuals = privacy.removal(gram, weights, rows, targets)
    farthest: torch.Tensor = moved.norm(dim=1) * (residuals @ _columns(set_targets)).abs().amax(1)
    return farthest


def worst_replacement(
    gram: torch.Tensor,
    weights: torch.Tensor,
    record: tuple[torch.Tensor, torch.Tensor],
    rows: torch.Tensor,
    targets: torch.Tensor,
    set_targets: torch.Tensor,
) -> torch.Tensor:
    """(b,) the same for putting each example of `rows` (b, p) and `targets` (b, c) in the place of one `record` (p,), (c,)."""
    old, target = record
    moved, residual = privacy.removal(gram, weights, old[None], target[None])
    without = weights - moved.T @ residual
    added, residuals = privacy.addition(gram - torch.outer(old, old), without, rows, targets)
    columns = _columns(set_targets)
    # |a r.u - a' r'.u|^2 for every column u, from inner products alone: (b, m).
    out, into = (residual @ columns), residuals @ columns
    squares = (moved.square().sum() * out.square()) + added.square().sum(1, keepdim=True) * into.square()
    squares -= 2 * (added @ moved.T) * out * into
    return squares.clamp(min=0).sqrt().amax(1)


def _columns(set_targets: torch.Tensor) -> torch.Tensor:
    """u_j / |P_j|, (c, m)."""
    inverse, kernel = privacy.projector(set_targets)
    return inverse / kernel.diagonal().sqrt()


# --- Reconstruction ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reconstruction:
    """What the adversary believes the missing record to be: features (p,) and class."""

    features: torch.Tensor
    label: int


def reconstruct(
    gram: torch.Tensor, cross: torch.Tensor, ridge: float, weights: torch.Tensor, norm: float
) -> Reconstruction:
    """The one record that an informed adversary misses, from released weights W (p, c) and the sums of all others.

    (F'^T F' + ridge I) W - F'^T Y' = x (y - W^T x)^T has rank one: x = a v for its left singular vector v. That y is one-hot
    gives a and the class: q / a + a g = y with q = R^T v, g = W^T v. Records of the public `norm` are tried beside.
    """
    residual = gram @ weights + ridge * weights - cross
    left = torch.linalg.svd(residual, full_matrices=False)[0][:, 0]
    _, length, label = min(_candidates(residual.T @ left, weights.T @ left, norm))
    return Reconstruction(left * length, label)


def _candidates(moved: torch.Tensor, scores: torch.Tensor, norm: float) -> list[tuple[float, float, int]]:
    """Misfit, signed length and class of every way to read R = x (y - W^T x)^T."""
    found = []
    for label in range(len(moved)):
        others = torch.arange(len(moved), device=moved.device) != label
        square = float(-(moved[others] @ scores[others]) / scores[others].square().sum())
        one_hot = (~others).to(moved)
        lengths = [norm] if square <= 0 else [norm, square**0.5]
        for length in (sign * each for each in lengths for sign in (1, -1)):
            misfit = float((moved / length + length * scores - one_hot).norm())
            found.append((misfit, length, label))
    return found
