"""Points that give ridge regression its weights back: Chen, Huang, Weng (2024), Theorem 4.1, Proposition 4.1, Corollary 4.1.1,
Theorems C.1 and C.2, in feature space (Theorem 5.1); the whole regularisation path.

With examples as rows, F_S (m, p) features, Y (m, c) targets, W (p, c) weights, ridge lambda, and

    F_lambda^+ = (F^T F + lambda I)^-1 F^T   (p, m),   the pseudo-inverse F^+ for lambda = 0,

ridge regression on (F_S, Y) learns F_S,lambda^+ Y. It is W if and only if F_S,lambda^+ = D for an admissible D (p, m): one with
D Y = W. There is one for every W if and only if m >= c and rank Y = c.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.linalg import RidgePath

Signs = Literal["+", "-"] | torch.Tensor

# At the bound itself 1 - 4 lambda sigma'^2 is zero up to rounding, of either sign. Taking -1e-12 for 0 changes D by 5e-13.
_AT_THE_BOUND = 1e-12


# For ridge 0 the bound is told and not used: singular values to this, relatively, will do.
_BOUND_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Points:
    """F_S (m, p), with what it rests on: rank and condition number of D, and the largest ridge that D allows."""

    features: torch.Tensor
    rank: int
    condition: float
    ridge_bound: float


@dataclass(frozen=True)
class Spectrum:
    """D = left diag(values) right^T, its singular values above max(m, p) eps sigma'_1 only.

    left (p, r), values sigma' (r,) descending, right (m, r)
    """

    left: torch.Tensor
    values: torch.Tensor
    right: torch.Tensor

    @classmethod
    def of(cls, backward: torch.Tensor) -> Spectrum:
        """Of D (p, m)."""
        left, values, right = _reduced(backward)
        return cls(left, values, right.T)

    @property
    def ridge_bound(self) -> float:
        """1 / (4 sigma'_1^2)."""
        return _bound(float(self.values[0])) if len(self.values) else math.inf

    def solve(self, ridge: float, signs: Signs = "+") -> Points:
        """Theorem 4.1.1; for ridge 0, where there is one root, 4.1.2. Raises NumericalError for a ridge above the bound."""
        features = (self.right * _roots(self.values, ridge, signs)) @ self.left.T
        condition = float(self.values[0] / self.values[-1]) if len(self.values) else math.inf
        return Points(features, len(self.values), condition, self.ridge_bound)


def carrying(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Y^+ (c, m) of targets Y (m, c) that can carry any weights W (p, c): Y^+ Y = I_c.

    Raises NumericalError for those that cannot: m < c, or rank Y < c.
    """
    classes, inverse = weights.shape[1], linalg.pseudo_inverse(targets)
    if len(targets) < classes or inverse.rank < classes:
        raise NumericalError(
            f"{len(targets)} targets of rank {inverse.rank} cannot give back weights for {classes} classes "
            "(Theorem 4.1 asks for m >= c and rank Y = c)"
        )
    return inverse.value


def admissible(weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Theorem 4.1: D = W Y^+ + Z (I_m - Y Y^+), (p, m), for the free part Z (p, m); every D with D Y = W is of this form.

    Raises NumericalError when the targets cannot carry the weights: m < c, or rank Y < c.
    """
    return _admissible(weights, targets, carrying(weights, targets), free)


def points(backward: torch.Tensor, ridge: float = 0.0, signs: Signs = "+") -> torch.Tensor:
    """F_S (m, p) with F_S,ridge^+ = D, for D (p, m). See `solve`."""
    return solve(backward, ridge, signs).features


def solve(backward: torch.Tensor, ridge: float = 0.0, signs: Signs = "+") -> Points:
    """Theorem 4.1: F_S with F_S,ridge^+ = D, for D (p, m) = U diag(sigma') V^T.

    ridge = 0: F_S = D^+. ridge > 0: F_S = V diag(sigma) U^T, where sigma' = sigma / (sigma^2 + ridge) has two roots,

        sigma = (1 +- sqrt(1 - 4 ridge sigma'^2)) / (2 sigma'),   and 0 for sigma' = 0,

    chosen by `signs`, for all or for each of the `rank D` singular values, descending (a tensor: + where it is positive). Raises
    NumericalError for a ridge above 1 / (4 sigma'_1^2), where the larger singular values have no root.
    """
    if ridge > 0:
        return Spectrum.of(backward).solve(ridge, signs)
    inverse = linalg.pseudo_inverse(backward)
    largest = linalg.largest_singular_value(backward, tolerance=_BOUND_TOLERANCE)
    return Points(inverse.value, inverse.rank, inverse.condition, _bound(largest))


def ridge_bound(backward: torch.Tensor) -> float:
    """1 / (4 sigma'_1^2): the largest ridge for which D (p, m) is the ridge pseudo-inverse of some features."""
    return _bound(float(torch.linalg.matrix_norm(backward, 2)))


def ridge_limit(weights: torch.Tensor, targets: torch.Tensor) -> float:
    """1 / (4 sigma_1(W Y^+)^2): the largest ridge for which any D is admissible and within its bound.

    Stronger than Theorem 4.1, which bounds the ridge for a given D: D D^T = (W Y^+)(W Y^+)^T + Z P Z^T with P = I - Y Y^+, since
    Y^+ P = 0. So no Z lowers sigma'_1 below sigma_1(W Y^+), Z = 0 reaches it, and every ridge strictly below the limit has a
    neighbourhood of Z = 0 that is within the bound.
    """
    # (Y^+)^T = Q R, so W Y^+ has the singular values of W R^T, which is (p, c) and not (p, m).
    triangle = torch.linalg.qr(carrying(weights, targets).T, mode="r").R
    return ridge_bound(weights @ triangle.T)


def resample(
    weights: torch.Tensor,
    targets: torch.Tensor,
    ridge: float,
    draw: Callable[[], torch.Tensor],
    tries: int = 40,
) -> torch.Tensor:
    """An admissible D (p, m) whose bound holds for `ridge`, from random free parts: draw() gives (p, m).

    Each draw after the first is shrunk by half as much again. Noise of one size has nearly the same sigma_1 at every draw, so
    drawing again at the same size fails again; shrinking reaches every ridge below `ridge_limit`. Raises NumericalError for a
    ridge above it, which no draw can reach, and when the tries are used up.
    """
    limit = ridge_limit(weights, targets)
    if ridge > limit:
        raise NumericalError(
            f"ridge_S {ridge:.6g} is above {limit:.6g} = 1 / (4 sigma_1(W Y^+)^2): no free part Z satisfies the bound of "
            f"Theorem 4.1 for these {len(targets)} targets"
        )
    found = []
    for attempt in range(tries):
        backward = admissible(weights, targets, draw() * 0.5**attempt)
        # Power iteration meets sigma_1 from below, so what fails by it fails; singular values decide what passes.
        found.append(_bound(linalg.largest_singular_value(backward)))
        if ridge <= found[-1] and ridge <= ridge_bound(backward):
            return backward
    raise NumericalError(
        f"ridge_S {ridge:.6g} stays above the bound of Theorem 4.1 for {tries} draws of Z: it was {found[0]:.6g} for the first "
        f"and {found[-1]:.6g} for the last, and cannot pass {limit:.6g}"
    )


def nearest(weights: torch.Tensor, targets: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Corollary 4.1.1: the admissible D (p, m) nearest to `wanted` (p, m) in Frobenius norm, such as the pseudo-inverse of
    given features. It is the admissible D whose free part is `wanted`.
    """
    return admissible(weights, targets, wanted)


def nearest_distance(weights: torch.Tensor, targets: torch.Tensor, wanted: torch.Tensor) -> float:
    """|nearest - wanted|_F = |(W - wanted Y) Y^+|_F, in closed form. Zero if and only if `wanted` is admissible itself."""
    return float(((weights - wanted @ targets) @ carrying(weights, targets)).norm())


def regularised(features: torch.Tensor, ridge: float) -> torch.Tensor:
    """F_ridge = (F_ridge^+)^+ (m, p) of features F (m, p): singular values sigma + ridge / sigma instead of sigma."""
    if ridge == 0:
        return features
    return features + ridge * linalg.pseudo_inverse(features).value.T


def from_regularised(wanted: torch.Tensor, ridge: float, signs: Signs = "+") -> torch.Tensor:
    """F_S (m, p) with F_S,ridge = `wanted` (m, p), its singular values s = sigma + ridge / sigma being 0 or at least
    2 sqrt(ridge). Raises NumericalError for a smaller one.
    """
    left, values, right = _reduced(wanted)
    return Spectrum(right.T.flip(1), 1 / values.flip(0), left.flip(1)).solve(ridge, signs).features


def in_general_position(weights: torch.Tensor, free: torch.Tensor) -> bool:
    """The condition of Proposition 4.1 on Z: full rank, and range(W) and range(Z) meet in 0 only.

    With rank W = rank Y = c it makes D, and so F_S, of full rank. It can hold only where m + c <= p.
    """
    rank = linalg.rank(free)
    together = linalg.rank(torch.cat([weights, free], 1))
    return rank == min(free.shape) and together == rank + linalg.rank(weights)


def full_rank_form(weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Theorem C.1: F_S,ridge = Y W^+ + Z' (I_p - W W^+), (m, p), for Z' (m, p), rank W = c <= p: all solutions of F_ridge W = Y.

    Every exact F_S of full rank has this form for m <= p; for m >= p every one of this form and of rank p is exact. For m < p one
    of this form is exact if and only if the columns of W lie in its row space. Checked here: rank W = c (NumericalError); the
    rank of the result is for the caller to check.
    """
    inverse = _left_inverse(weights)
    return free + (targets - free @ weights) @ inverse


def two_sided_form(weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """Theorem C.2: F_S,ridge = Y W^+ + (I_m - Y Y^+) Z' (I_p - W W^+), (m, p), for Z' (m, p): exact for every m >= c.

    Its ridge pseudo-inverse is W Y^+ + (the second term)^+, because the two terms have orthogonal rows and columns. Checked
    here: m >= c, rank Y = c and, which the theorem's formula needs too, rank W = c (NumericalError).
    """
    backward, inverse = _left_inverse(weights), carrying(weights, targets)
    free = free - (free @ weights) @ backward
    return targets @ backward + free - targets @ (inverse @ free)


def path(
    solutions: RidgePath, ridges: Iterable[float], targets: torch.Tensor, free: torch.Tensor
) -> Iterator[tuple[float, torch.Tensor]]:
    """(ridge, F_S (m, p)) for every ridge of the teacher: each F_S gives weights(ridge) back exactly, with lambda_S = 0.

    One eigendecomposition of the teacher's Gram matrix and one pseudo-inverse of the targets (m, c) serve all; free (p, m).
    """
    inverse = None
    for ridge in ridges:
        weights = solutions.weights(ridge)
        inverse = carrying(weights, targets) if inverse is None else inverse
        yield ridge, points(_admissible(weights, targets, inverse, free))


def whole_path_points(gram: torch.Tensor, cross: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """r = rank F^T F points F_S (r, p) = S^1/2 V^T with targets Y_S (r, c) = S^-1/2 V^T C that give, for every ridge at once, the
    weights that all the data give: F^T F = V S V^T (p, p) and C = F^T Y (p, c) are what the data say, and F_S^T F_S and F_S^T Y_S
    are the same. Zero eigenvalues, where C has nothing either, are left out.
    """
    return points_of_path(RidgePath.of_moments(gram, cross))


def points_of_path(solutions: RidgePath) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the eigendecomposition F^T F = V S V^T that gives the weights for every ridge."""
    kept = slice(len(solutions.values) - solutions.rank(), None)
    roots = solutions.values[kept].sqrt()[:, None]
    return roots * solutions.vectors[:, kept].T, solutions.rotated[kept] / roots


def _admissible(
    weights: torch.Tensor, targets: torch.Tensor, inverse: torch.Tensor, free: torch.Tensor
) -> torch.Tensor:
    return free + (weights - free @ targets) @ inverse  # Z + (W - Z Y) Y^+ needs no m x m projector


def _roots(values: torch.Tensor, ridge: float, signs: Signs) -> torch.Tensor:
    """sigma (r,) of sigma' (r,) > 0."""
    if isinstance(signs, torch.Tensor) and signs.shape != values.shape:
        raise ValueError(f"{tuple(signs.shape)} signs for {len(values)} singular values above zero")
    inside = 1 - 4 * ridge * values**2
    if bool((inside < -_AT_THE_BOUND).any()):
        largest = float(values.max())
        raise NumericalError(
            f"ridge_S {ridge:.6g} is above the bound of Theorem 4.1, {_bound(largest):.6g} = 1 / (4 sigma'_1^2) with "
            f"sigma'_1 = {largest:.6g}: {int((inside < 0).sum())} of {len(values)} singular values have no root"
        )
    # The roots multiply to ridge. (1 - sqrt(...)) / (2 sigma') would lose every digit for a small ridge, so the smaller one is
    # ridge over the larger.
    larger = (1 + inside.clamp(min=0).sqrt()) / (2 * values)
    if isinstance(signs, torch.Tensor):
        return torch.where(signs > 0, larger, ridge / larger)
    return larger if signs == "+" or ridge == 0 else ridge / larger


def _reduced(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Reduced SVD without the singular values that are zero up to rounding."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = values > values.max() * max(matrix.shape) * torch.finfo(matrix.dtype).eps
    return left[:, kept], values[kept], right[kept]


def _left_inverse(weights: torch.Tensor) -> torch.Tensor:
    inverse = linalg.pseudo_inverse(weights)
    if inverse.rank < weights.shape[1]:
        raise NumericalError(f"weights of rank {inverse.rank} for {weights.shape[1]} classes (rank W = c is asked for)")
    return inverse.value


def _bound(largest: float) -> float:
    return 1 / (4 * largest**2) if largest > 0 else math.inf
