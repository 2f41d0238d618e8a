"""How many sections k(z_j, .) of a kernel make a given function: what distillation for kernel ridge regression can reach. After
Izzo, Zou (2023), Theorem 2; lower bounds for fewer points than examples are ours. Statements and proofs:
docs/theory/impossibility.md.

Kernel ridge regression on n examples gives f = sum_i c_i k(x_i, .). On m distilled points it gives g = sum_j a_j k(z_j, .), and
with labels (K_zz + ridge I) a any a that is wanted, for any ridge. So what distillation can reach for given points is the
projection of f onto the span of their sections. Distances are those of the kernel's space, |f|^2 = c^T K c, relative to |f|.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from stillhouse import linalg

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Of |k(x, .)|^2: a section of which the chosen ones leave less is one of them up to rounding.
NEW = 1e-13
_EPS = torch.finfo(torch.float64).eps
# Of the largest eigenvalue of the root kernel's Gram matrix: directions below it are left out of a lower bound, which stays one.
_KEPT = 1e-9


@dataclass(frozen=True, eq=False)
class Sum:
    """f = sum_i c_i k(x_i, .) for points (n, d) and coefficients (n,), float64; `kernel`: (a, d), (b, d) -> (a, b)."""

    kernel: Kernel
    points: torch.Tensor
    coefficients: torch.Tensor

    @functools.cached_property
    def gram(self) -> torch.Tensor:
        """K (n, n)."""
        return self.kernel(self.points, self.points)

    @functools.cached_property
    def square(self) -> float:
        """|f|^2."""
        return float(self.coefficients @ self.gram @ self.coefficients)

    @functools.cached_property
    def terms(self) -> float:
        """The sum of the absolute values of the terms of |f|^2."""
        return float(self.coefficients.abs() @ self.gram.abs() @ self.coefficients.abs())

    def at(self, points: torch.Tensor) -> torch.Tensor:
        """f(y) (b,) at points (b, d)."""
        return self.kernel(points, self.points) @ self.coefficients

    def labels(self, ridge: float) -> torch.Tensor:
        """(K + ridge I) c (n,): labels of the points from which kernel ridge regression with this ridge learns f."""
        return self.gram @ self.coefficients + ridge * self.coefficients


def fit(kernel: Kernel, points: torch.Tensor, targets: torch.Tensor, ridge: float) -> Sum:
    """Kernel ridge regression on points (n, d) and targets (n,): c = (K + ridge I)^-1 y. The loss is a sum, not a mean."""
    gram = kernel(points, points)
    shifted = gram + ridge * torch.eye(len(gram)).to(gram)
    return Sum(kernel, points, linalg.jittered_cholesky(shifted).solve(targets[:, None])[:, 0])


@dataclass(frozen=True, eq=False)
class Projection:
    """The sum on given points that is nearest to f.

    square    |f - Pf|^2, for the coefficients as they were computed
    rounding  what it may be wrong by
    cholesky  the factor of the points' Gram matrix
    """

    sum: Sum
    square: float
    rounding: float
    cholesky: linalg.Cholesky

    @classmethod
    def of(cls, target: Sum, points: torch.Tensor) -> Projection:
        """Onto the sections at points (m, d)."""
        gram, between = target.kernel(points, points), target.kernel(points, target.points)
        values = between @ target.coefficients
        cholesky = linalg.jittered_cholesky(gram)
        coefficients = cholesky.solve(values[:, None])[:, 0]
        square = target.square - 2 * coefficients @ values + coefficients @ gram @ coefficients
        sizes, theirs = coefficients.abs(), target.coefficients.abs()
        terms = target.terms + 2 * sizes @ between.abs() @ theirs + sizes @ gram.abs() @ sizes
        rounding = (len(points) + len(target.points)) * _EPS * float(terms)
        return cls(Sum(target.kernel, points, coefficients), float(square), rounding, cholesky)


def distance(target: Sum, other: Sum) -> float:
    """|f - g| / |f|."""
    return math.sqrt(max(_difference(target, other).square, 0.0) / target.square)


def resolution(target: Sum, other: Sum) -> float:
    """What rounding may make of a distance of 0: |f - g|^2 is a sum of terms that cancel, each with its own rounding."""
    apart = _difference(target, other)
    return math.sqrt(len(apart.points) * _EPS * apart.terms / target.square)


def lower_bounds(gram: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """For m = 0..n (n + 1,): no sum of m sections, at whatever points, is nearer to f than this.

    The root kernel sqrt(k) has features u(x) with <u(x), u(y)>^2 = k(x, y), so k(x, .) -> u(x) u(x)^T keeps distances, and sums
    of m sections become matrices of rank m. f becomes sum_i c_i u(x_i) u(x_i)^T; by Eckart and Young no matrix of rank m is
    nearer than its singular values after the m-th. `gram`: K (n, n) of a kernel whose root is a kernel, as the Gaussian's is.

    Directions of the u(x_i) that are small beside rounding are projected away, which makes the bound smaller and keeps it one;
    what rounding may do to the rest is subtracted.
    """
    size = len(gram)
    values, vectors = torch.linalg.eigh(gram.sqrt())
    kept = values > _KEPT * values[-1]
    rows = vectors[:, kept] * values[kept].sqrt()
    strengths = torch.linalg.eigvalsh(rows.T @ (coefficients[:, None] * rows)).abs().sort(descending=True).values
    tails = strengths.square().flip(0).cumsum(0).flip(0).sqrt()
    slack = size * _EPS
    proven = tails / (1 + slack * values[-1] / values[kept][0]) - slack * math.sqrt(size) * strengths[0]
    found = torch.zeros(size + 1).to(gram)
    found[: len(proven)] = proven.clamp(min=0) / (coefficients @ gram @ coefficients).sqrt()
    return found


def component_distances(gram: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """For m = 0..n (n + 1,): the distance of f from the span of the kernel's first m principal components on its own points.

    Each component takes n sections: this is how fast the spectrum lets f go, and not what m points reach.
    """
    values, vectors = torch.linalg.eigh(gram)
    parts = (values.clamp(min=0) * (vectors.T @ coefficients).square()).cumsum(0).flip(0)
    return torch.cat([parts, parts.new_zeros(1)]).div(parts[0]).sqrt()


def effective_dimension(gram: torch.Tensor, ridge: float) -> float:
    """tr K (K + ridge I)^-1."""
    values = torch.linalg.eigvalsh(gram).clamp(min=0)
    return float((values / (values + ridge)).sum())


def greedy(gram: torch.Tensor, coefficients: torch.Tensor, count: int) -> tuple[list[int], torch.Tensor]:
    """f's own points one by one, each the one that brings the projection nearest (orthogonal matching pursuit).

    Positions, at most `count`, and the distances after each of them: fewer where rounding leaves nothing to gain.
    """
    residual, left, basis = gram @ coefficients, gram.diagonal().clone(), torch.zeros(0, len(gram)).to(gram)
    square = whole = float(coefficients @ residual)
    chosen: list[int] = []
    distances = []
    for _ in range(min(count, len(gram))):
        gains = torch.where(left > NEW, residual.square() / left, 0)
        best = int(gains.argmax())
        if float(gains[best]) == 0:
            break
        direction = (gram[best] - basis[:, best] @ basis) / left[best].sqrt()
        part = residual[best] / left[best].sqrt()
        residual, left = residual - part * direction, left - direction.square()
        left[best] = 0
        basis = torch.cat([basis, direction[None]])
        square -= float(part.square())
        chosen.append(best)
        distances.append(math.sqrt(max(square, 0.0) / whole))
    return chosen, torch.tensor(distances, dtype=gram.dtype)


def subset_distances(gram: torch.Tensor, coefficients: torch.Tensor, subsets: torch.Tensor) -> torch.Tensor:
    """Distances (s,) of f from the spans of the sections at its own points with positions `subsets` (s, m)."""
    values = (gram @ coefficients)[subsets][..., None]
    blocks = gram[subsets[:, :, None], subsets[:, None, :]] + NEW * torch.eye(subsets.shape[1]).to(gram)
    solved = torch.cholesky_solve(values, torch.linalg.cholesky(blocks))
    return (1 - (values * solved).sum((1, 2)) / (coefficients @ gram @ coefficients)).clamp(min=0).sqrt()


@dataclass(frozen=True, eq=False)
class Quadratic:
    """The best m points for the kernel (1 + <x, y>)^2: points (m, d), coefficients (m,), and their distance, which is least."""

    points: torch.Tensor
    coefficients: torch.Tensor
    distance: float


def quadratic(points: torch.Tensor, coefficients: torch.Tensor, count: int) -> Quadratic:
    """f = sum_i c_i (1 + <x_i, .>)^2 is (1, y) A (1, y)^T for A = sum_i c_i (1, x_i)^T (1, x_i), and |f| = |A|_F. With A = sum_j
    s_j v_j v_j^T the points z_j = v_j / v_j0 with a_j = s_j v_j0^2 are the best m, and d + 1 of them are enough whatever n is.

    The argument of `lower_bounds`, with a bound that is reached. Where a v_j0 is 0 it is only approached.
    """
    rows = torch.cat([torch.ones(len(points), 1).to(points), points], 1)
    values, vectors = torch.linalg.eigh(rows.T @ (coefficients[:, None] * rows))
    order = values.abs().argsort(descending=True)
    values, vectors = values[order], vectors[:, order]
    first = vectors[0, :count]
    left = values[count:].norm() / values.norm()
    return Quadratic((vectors[1:, :count] / first).T, values[:count] * first.square(), float(left))


def _difference(target: Sum, other: Sum) -> Sum:
    """f - g."""
    coefficients = torch.cat([target.coefficients, -other.coefficients])
    return Sum(target.kernel, torch.cat([target.points, other.points]), coefficients)
