"""Points that carry linear regression for every regulariser that does not look at the data and for every union with other data:
Izzo, Zou (2023), Theorem 3, with proofs of what it leaves open in docs/theory/linear.md.

Examples are rows: X (n, d), Y (n, k), theta (d, k), and the loss is the sum |X theta - Y|^2, which depends on the data by X^T X,
X^T Y and |Y|^2 alone. With X = U diag(sigma) V^T of rank r, the points x_i = sigma_i v_i, y_i = theta_0^T x_i = Y^T u_i, for any
least-squares solution theta_0, have the same X^T X and X^T Y. `theory.points.points_of_path` makes them from these moments; from
the rows themselves, as `reduced` does, the small singular values keep their digits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from stillhouse.errors import NumericalError
from stillhouse.linalg import RidgePath
from stillhouse.theory.points import points_of_path


@dataclass(frozen=True)
class Examples:
    """A multiset of examples: inputs (n, d) and targets (n, k), one a row."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __add__(self, other: Examples) -> Examples:
        """The union, in which an example of both counts twice."""
        return Examples(torch.cat([self.inputs, other.inputs]), torch.cat([self.targets, other.targets]))

    def __getitem__(self, rows: slice | torch.Tensor) -> Examples:
        return Examples(self.inputs[rows], self.targets[rows])

    def counted(self, times: float) -> Examples:
        """Each example as if it were there so many times."""
        return Examples(self.inputs * math.sqrt(times), self.targets * math.sqrt(times))

    def loss(self, theta: torch.Tensor) -> float:
        """|X theta - Y|^2 of theta (d, k)."""
        return float((self.inputs @ theta - self.targets).square().sum())

    def gradient(self, theta: torch.Tensor) -> torch.Tensor:
        """Of the loss, (d, k)."""
        return 2 * self.inputs.T @ (self.inputs @ theta - self.targets)


@dataclass(frozen=True)
class Reduced:
    """What is left of n examples for a squared loss: |X theta - Y|^2 = |X~ theta - Y~|^2 + |E|^2 for every theta.

    points     X~ (r, d), Y~ (r, k), r = rank X; rows of X~ are orthogonal, the longest first
    remainder  E (e, k), e <= k: E^T E = Y^T Y - Y~^T Y~
    """

    points: Examples
    remainder: torch.Tensor

    @property
    def complete(self) -> Examples:
        """Points of which the loss itself, and not only up to a constant, is that of the data: e more, with inputs 0."""
        nothing = torch.zeros(len(self.remainder), self.points.inputs.shape[1]).to(self.points.inputs)
        return self.points + Examples(nothing, self.remainder)


def reduced(examples: Examples) -> Reduced:
    """Theorem 3, from the rows in float64: [X Y] = Q R, then the SVD of the X part of R, which is small.

    Singular values below max(n, d) eps sigma_1 count as 0. Raises NumericalError for entries that are no numbers.
    """
    joined = torch.cat([examples.inputs, examples.targets], 1)
    if not bool(joined.isfinite().all()):
        raise NumericalError(f"{int((~joined.isfinite()).sum())} entries of the examples are NaN or infinite")
    features = examples.inputs.shape[1]
    triangle = torch.linalg.qr(joined, mode="r").R
    left, values, right = torch.linalg.svd(triangle[:, :features], full_matrices=False)
    floor = float(values[0]) * max(examples.inputs.shape) * torch.finfo(values.dtype).eps if len(values) else 0.0
    kept = values > floor
    left, values, right = left[:, kept], values[kept], right[kept]
    targets = left.T @ triangle[:, features:]
    remainder = torch.linalg.qr(triangle[:, features:] - left @ targets, mode="r").R
    return Reduced(Examples(values[:, None] * right, targets), remainder)


def from_moments(solutions: RidgePath, count: int) -> Examples:
    """Theorem 3 from the eigendecomposition of the sum X^T X of `count` examples and from X^T Y: the points of `points_of_path`,
    the longest first.

    An eigenvalue that is lost in the rounding of X^T X, because sigma_i is below some 1e-7 sigma_1, may belong to a direction in
    which X^T Y is not lost. A point there has its X^T Y, and an X^T X that rounding cannot tell from the true one.
    """
    values, rotated, eps = solutions.values, solutions.rotated, torch.finfo(solutions.values.dtype).eps
    lost = torch.arange(len(values)).to(values.device) < len(values) - solutions.rank()
    known = rotated.norm(dim=1) > count * eps * rotated.norm()
    lifted = torch.where(lost & known, 2 * len(values) * eps * values[-1], values)
    order = lifted.argsort()
    inputs, targets = points_of_path(RidgePath(lifted[order], solutions.vectors[:, order], rotated[order]))
    return Examples(inputs.flip(0), targets.flip(0))


def resized(points: Examples, count: int, rng: torch.Generator) -> Examples:
    """`count` points for r of `reduced`: the first of them for fewer, and for more as many random mixtures Q X~, Q Y~ with
    orthonormal columns Q (count, r), which have the same moments.
    """
    rank = len(points)
    if count <= rank:
        return points[:count]
    drawn = torch.randn(count, rank, generator=rng, dtype=torch.float64).to(points.inputs)
    mixing = torch.linalg.qr(drawn).Q
    return Examples(mixing @ points.inputs, mixing @ points.targets)


def ridge_gap(tail: Examples, ridge: float) -> float:
    """|theta_m - theta| for R = ridge |theta|^2, when the points `tail` of `reduced` are left out; exactly.

    theta and theta_m agree but in the directions left out, where theta has sigma_i y_i / (sigma_i^2 + ridge).
    """
    squares = tail.inputs.square().sum(1, keepdim=True)
    return float((squares.sqrt() * tail.targets / (squares + ridge)).norm())


def convex_bound(tail: Examples, theta: torch.Tensor, modulus: float) -> float:
    """An upper bound on |theta_m - theta| for every R of which R - modulus |theta|^2 / 2 is convex, from what was learned without
    `tail`, theta_m (d, k): min(|grad T(theta_m)| / modulus, sqrt(T(theta_m) / (2 modulus))), T the loss on `tail`.
    """
    slope = float(tail.gradient(theta).norm())
    return min(slope / modulus, math.sqrt(tail.loss(theta) / (2 * modulus)))


def slope(points: Examples, count: int) -> float:
    """2 sigma_{m+1} |Y~|, m = count below r: before R is known, |theta_m - theta| <= slope / modulus for every R as above that is
    least at 0.
    """
    return 2 * float(points.inputs[count].norm()) * float(points.targets.norm())


def least_deviation(tail: Examples, ridge: float) -> float:
    """s / (s + ridge), s = sigma_{m+1}^2: how far from theta the best m points are in the worst case of R = ridge |theta - a|^2,
    over |a|, as |a| grows. The first m points of `reduced` reach it; 0 when nothing is left out.
    """
    square = float(tail.inputs.square().sum(1).max()) if len(tail) else 0.0
    return square / (square + ridge)
