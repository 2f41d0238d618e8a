"""The ridge path of logistic regression, and small weighted sets that follow it. After Izzo, Zou (2023), Theorem 4: exactly, for
every data-independent penalty or together with any other data, takes as many points as there are. Statements and proofs, and
what the ridge path alone says: docs/theory/impossibility.md.

    theta(penalty) = argmin sum_j w_j [log(1 + e^eta_j) - t_j eta_j] + penalty |theta|^2,    eta = Z theta

for points Z (m, d), labels t (m,) in [0, 1] and weights w (m,) >= 0: 1/n each for n real examples, as in theory/glm.py. No
intercept. All penalties are solved at once: theta is (P, d).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import least_squares

from stillhouse.errors import NumericalError
from stillhouse.theory import glm

_EPS = torch.finfo(torch.float64).eps
_MODEL = glm.Logistic()
_ITERATIONS = 200  # of Newton's method: some 5 to 20 are used
_DONE = 1e-9  # of theta: the last step's length. What it leaves is of the order of its square
_SUFFICIENT = 1e-4  # part of the predicted decrease that a step must bring (Armijo)
_HALVINGS = 60
# Labels are searched for as sigmoid(u). Those of examples start where it still has a slope; beyond the other it has none at all.
_SOFTENED, _SOFTEST = 0.05, 1e-12
_NEW = 1e-6  # weight of a point that joins a set, over that of a real example
_FARTHEST = 1e3  # residual of a set whose path cannot be followed: the search turns back


@dataclass(frozen=True, eq=False)
class Weighted:
    """Points (m, d), labels (m,) in [0, 1], weights (m,), float64."""

    points: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def equal(cls, points: torch.Tensor, labels: torch.Tensor) -> Weighted:
        """Weights 1/m: a mean loss."""
        return cls(points, labels, torch.ones_like(labels) / max(1, len(labels)))

    def part(self, first: int, last: int) -> Weighted:
        """Some of the points, with weights 1/m; none where there are no more."""
        return Weighted.equal(self.points[first:last], self.labels[first:last])

    def joined(self, other: Weighted, size: float) -> Weighted:
        """The union with other data, where this set stands for `size` examples and `other` for as many as it has."""
        total = size + len(other.points)
        weights = torch.cat([self.weights * (size / total), other.weights * (len(other.points) / total)])
        return Weighted(torch.cat([self.points, other.points]), torch.cat([self.labels, other.labels]), weights)


def slopes(data: Weighted, thetas: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Gradients (P, d) of the objectives of `penalties` (P,), each at its own of `thetas` (P, d)."""
    missing = data.weights * (_MODEL.mean(thetas @ data.points.T) - data.labels)
    found: torch.Tensor = missing @ data.points + 2 * penalties[:, None] * thetas
    return found


def curvatures(data: Weighted, thetas: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Second derivatives (P, d, d) of the objectives."""
    heights = data.weights * _MODEL.diagonal(thetas @ data.points.T)
    found: torch.Tensor = torch.einsum("pm,ml,mk->plk", heights, data.points, data.points)
    return found + 2 * penalties[:, None, None] * torch.eye(thetas.shape[1]).to(thetas)


def path(data: Weighted, penalties: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
    """theta (P, d) of all penalties (P,), > 0, by Newton's method with halved steps from `start` or from 0.

    Raises NumericalError where it does not end.
    """
    zeros = torch.zeros(len(penalties), data.points.shape[1]).to(data.points)
    thetas: torch.Tensor = zeros if start is None else start
    rounding = _EPS * float(data.weights @ data.points.norm(dim=1)) / penalties
    for _ in range(_ITERATIONS):
        found = slopes(data, thetas, penalties)
        steps, singular = torch.linalg.solve_ex(curvatures(data, thetas, penalties), found)
        if bool(singular.any()) or not bool(steps.isfinite().all()):
            break
        thetas = thetas - _lengths(data, thetas, penalties, found, steps) * steps
        if bool((steps.norm(dim=1) <= _DONE * thetas.norm(dim=1) + rounding).all()):
            return thetas
    raise NumericalError(
        f"logistic regression on {len(data.points)} points: Newton's method does not end, slope {float(found.abs().max()):.3g}"
    )


def distances(found: torch.Tensor, wanted: torch.Tensor, unit: torch.Tensor | None = None) -> torch.Tensor:
    """|theta_S - theta| / |theta| (P,) of every penalty, or over the norms of other parameters, `unit` (P, d).

    The distance of paths is the largest.
    """
    norms: torch.Tensor = (wanted if unit is None else unit).norm(dim=1)
    apart: torch.Tensor = (found - wanted).norm(dim=1)
    return apart.div(norms)


def sensitivities(data: Weighted, thetas: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """d theta / d (points, labels, weights), (P, d, m (d + 2)), at the solutions `thetas` (P, d): points row by row, then labels,
    then weights.

    The gradient stays 0 when the data move, so d theta = -H^-1 d gradient.
    """
    count, dim = data.points.shape
    eta = thetas @ data.points.T
    missing = _MODEL.mean(eta) - data.labels
    by_weights = missing[:, None] * data.points.T
    by_labels = (-data.weights * data.points.T).expand(len(thetas), -1, -1)
    heights = data.weights * _MODEL.diagonal(eta)
    by_points = torch.einsum("pm,ml,pk->plmk", heights, data.points, thetas)
    by_points = by_points + torch.einsum("pm,lk->plmk", data.weights * missing, torch.eye(dim).to(thetas))
    moved = torch.cat([by_points.reshape(len(thetas), dim, count * dim), by_labels, by_weights], 2)
    found: torch.Tensor
    found, singular = torch.linalg.solve_ex(curvatures(data, thetas, penalties), -moved)
    if bool(singular.any()):
        raise NumericalError(
            f"logistic regression on {count} points: a penalty of {float(penalties[singular > 0][0]):.3g} is lost in the "
            f"rounding of the loss's curvature; points reach {float(data.points.abs().max()):.3g}"
        )
    return found


def one_point(theta: torch.Tensor, penalty: float) -> Weighted:
    """One point with a hard label that gives theta (d,) back at this penalty, of weight 1: x = a theta, label 1.

    The smaller of the two scales a. Raises NumericalError for a theta that logistic regression cannot have at this penalty.
    """
    scale = min(glm.scales(_MODEL, float(theta.square().sum()), penalty, 1.0))
    point, label = glm.point(_MODEL, theta, scale, penalty)
    return Weighted(point, label[:, 0].clamp(0, 1), torch.ones(1).to(theta))


@dataclass(frozen=True, eq=False)
class Search:
    """What is looked for: sets of m points whose path is `wanted` (P, d) at `penalties` (P,).

    real   the examples whose path it is; sets start from some of them
    free   weights are found as well; otherwise they are 1/m
    steps  of the search, at most
    """

    real: Weighted
    penalties: torch.Tensor
    wanted: torch.Tensor
    free: bool
    steps: int

    def distance(self, data: Weighted) -> float:
        """Of the set's path."""
        return float(distances(path(data, self.penalties, self.wanted), self.wanted).max())

    def subset(self, chosen: Sequence[int]) -> Weighted:
        """Some of the real examples, with equal weights and their own labels."""
        return Weighted.equal(self.real.points[list(chosen)], self.real.labels[list(chosen)])

    def softened(self, chosen: Sequence[int]) -> Weighted:
        """The same with labels that a search can move."""
        found = self.subset(chosen)
        return Weighted(found.points, found.labels.clamp(_SOFTENED, 1 - _SOFTENED), found.weights)

    def refine(self, start: Weighted) -> Weighted:
        """The set after the search from `start`: least squares of theta_S - theta over |theta| at all penalties, with the
        derivatives of `sensitivities` (Levenberg and Marquardt, in a trust region).
        """
        trail = Trail(self)
        with np.errstate(all="ignore"):
            found = least_squares(
                trail.residuals, self.freed(start), trail.derivatives, x_scale="jac", max_nfev=self.steps,
                ftol=_EPS, xtol=_EPS, gtol=_EPS,
            )  # fmt: skip
        return self.set(torch.from_numpy(found.x))

    def best(self, count: int, starts: Sequence[Sequence[int]], before: Weighted | None) -> Weighted:
        """The best set of `count` points found: from the first of each order in `starts` of the real examples, and, with free
        weights, from the best set `before` of one point less, with one more that weighs next to nothing.
        """
        tried = [self.refine(self.softened(order[:count])) for order in starts]
        if before is not None and self.free:
            tried += [self.refine(self._grown(before, order[0])) for order in starts]
        return min(tried, key=self.distance)

    def _grown(self, data: Weighted, place: int) -> Weighted:
        one, weight = self.softened([place]), torch.full((1,), _NEW / len(self.real.points)).to(data.weights)
        return Weighted(
            torch.cat([data.points, one.points]),
            torch.cat([data.labels, one.labels]),
            torch.cat([data.weights, weight]),
        )

    def freed(self, data: Weighted) -> Any:
        """A set as numbers that may be anything: points, u with labels sigmoid(u), logarithms of weights; see `set`."""
        labels = torch.logit(data.labels.clamp(_SOFTEST, 1 - _SOFTEST))
        return torch.cat([data.points.flatten(), labels, *([data.weights.log()] if self.free else [])]).numpy()

    def set(self, free: torch.Tensor) -> Weighted:
        """The set that `freed` numbers stand for."""
        dim = self.wanted.shape[1]
        count = len(free) // (dim + 1 + self.free)
        points = free[: count * dim].view(count, dim)
        labels = torch.sigmoid(free[count * dim : count * (dim + 1)])
        weights = free[count * (dim + 1) :].exp() if self.free else torch.full_like(labels, 1 / count)
        return Weighted(points, labels, weights)


class Trail:
    """Residuals and their derivatives for scipy, that asks for both at the same place, one after the other."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._place: Any = None
        self._thetas: torch.Tensor | None = None

    def residuals(self, free: Any) -> Any:
        """(P d,)."""
        wanted = self._search.wanted
        self._place, self._data, self._thetas = free.copy(), self._search.set(torch.from_numpy(free)), None
        try:
            self._thetas = path(self._data, self._search.penalties, wanted)
        except NumericalError:
            return np.full(wanted.numel(), _FARTHEST)
        return ((self._thetas - wanted) / wanted.norm(dim=1, keepdim=True)).flatten().numpy()

    def derivatives(self, free: Any) -> Any:
        """(P d, number of free ones); zeros, with which a search ends, where there are none or a weight is too large for them."""
        if not np.array_equal(free, self._place):
            self.residuals(free)
        data, wanted = self._data, self._search.wanted
        if self._thetas is None:
            return np.zeros((wanted.numel(), len(free)))
        try:
            found = sensitivities(data, self._thetas, self._search.penalties) / wanted.norm(dim=1)[:, None, None]
        except NumericalError:
            return np.zeros((wanted.numel(), len(free)))
        scales = torch.cat([torch.ones(data.points.numel()).to(found), data.labels * (1 - data.labels), data.weights])
        moved = (found * scales)[..., : len(free)].flatten(0, 1)
        return (moved if bool(moved.isfinite().all()) else torch.zeros_like(moved)).numpy()


def _lengths(
    data: Weighted, thetas: torch.Tensor, penalties: torch.Tensor, found: torch.Tensor, steps: torch.Tensor
) -> torch.Tensor:
    """The largest of 1, 1/2, ... (P, 1) by which each step lowers its objective enough, up to the objective's rounding."""
    lengths = torch.ones(len(thetas), 1).to(thetas)
    (before, rounding), promised = _objectives(data, thetas, penalties), (found * steps).sum(1)
    for _ in range(_HALVINGS):
        after, more = _objectives(data, thetas - lengths * steps, penalties)
        long = after > before - _SUFFICIENT * lengths[:, 0] * promised + rounding + more
        if not bool(long.any()):
            break
        lengths[long] /= 2
    return lengths


def _objectives(data: Weighted, thetas: torch.Tensor, penalties: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(P,) each, and what rounding may do to them."""
    eta = thetas @ data.points.T
    potential, squares = torch.nn.functional.softplus(eta), penalties * thetas.square().sum(1)
    found = (potential - data.labels * eta) @ data.weights + squares
    return found, 8 * _EPS * ((potential + eta.abs()) @ data.weights + squares)
