"""Few points whose sections k(z_j, .) come near a given sum of Gaussian ones, by damped Gauss-Newton steps in the kernel's space.

What is found is an upper bound of what m points can do; `kernel_sections.lower_bounds` has the other side. Methods: docs/theory/
impossibility.md. For k(x, y) = exp(-rate |x - y|^2), whose derivatives by its arguments have closed forms in its values:

    grad_z k(z, y) = -2 rate (z - y) k(z, y),   <d_l k(z, .), d_l' k(y, .)> = 2 rate (1_ll' - 2 rate (z - y)_l (z - y)_l') k(z, y)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stillhouse.theory.kernel_sections import NEW, Projection, Sum

_DAMPING, _LEAST, _MOST = 1e-3, 1e-12, 1e6  # of the steps: at the start, and its range
_FASTER, _SLOWER = 1 / 3, 4.0
_STALLED = 3  # steps in a row that gain less than the tolerance
# Of the largest entry: keeps a direction in which no point's move matters from deciding the step.
_FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Target:
    """f, and the rate of its kernel exp(-rate |x - y|^2)."""

    sum: Sum
    rate: float

    def left(self, points: torch.Tensor) -> float:
        """|f - Pf|^2 / |f|^2 for sections at points (m, d), and what rounding may hide of it."""
        return _worst(Projection.of(self.sum, points)) / self.sum.square


def slope(target: Target, points: torch.Tensor) -> torch.Tensor:
    """The gradient (m, d) of |f - Pf|^2 / |f|^2 by the points (m, d): -2 a_j grad (f - Pf)(z_j) / |f|^2.

    The coefficients of the projection are the best ones, so their own change drops out.
    """
    found = Projection.of(target.sum, points)
    return -2 * found.sum.coefficients[:, None] * _residual_slopes(target, found) / target.sum.square


def refine(target: Target, points: torch.Tensor, steps: int, tolerance: float = 1e-4) -> torch.Tensor:
    """Points (m, d) after at most `steps` steps from `points`: never farther.

    What rounding may hide counts as distance: points that come so near to each other that their coefficients grow without
    bound gain nothing. Ends when three steps in a row gain less than `tolerance`, relatively, or rounding hides any gain.
    """
    found, damping, idle = Projection.of(target.sum, points), _DAMPING, 0
    system, right = _normal_equations(target, found)
    for _ in range(steps):
        if found.square <= found.rounding or damping > _MOST:
            break
        moved = _moved(target, found, system, right, damping)
        if moved is None or not _worst(moved) < _worst(found):
            damping *= _SLOWER
            continue
        idle = idle + 1 if _worst(found) - _worst(moved) < tolerance * _worst(found) else 0
        found, damping = moved, max(damping * _FASTER, _LEAST)
        if idle == _STALLED:
            break
        system, right = _normal_equations(target, found)
    return found.sum.points


def grown(target: Target, points: torch.Tensor) -> torch.Tensor:
    """(m + 1, d): the points, and that of f's own points which brings the projection nearest."""
    found, own = Projection.of(target.sum, points), target.sum.points
    between = target.sum.kernel(own, points)
    left = 1 - (between * found.cholesky.solve(between.T).T).sum(1)
    missing = target.sum.at(own) - between @ found.sum.coefficients
    gains = torch.where(left > NEW, missing.square() / left, 0)
    return torch.cat([points, own[[int(gains.argmax())]]])


def shrunk(target: Target, points: torch.Tensor, count: int) -> torch.Tensor:
    """(count, d): the points without those that cost least, one after another."""
    while len(points) > count:
        found = Projection.of(target.sum, points)
        inverse = found.cholesky.solve(torch.eye(len(points)).to(points))
        costs = found.sum.coefficients.square() / inverse.diagonal()
        points = points[torch.arange(len(points)) != int(costs.argmin())]
    return points


def nearest(target: Target, starts: Sequence[Sequence[int]], steps: int) -> list[torch.Tensor]:
    """The best points found, (m, d) for m = 1..n - 1. Their distances fall with m, but for rounding.

    Down from all of f's points, dropping one at a time; then up, from the best of one point less, and from the first m of each
    order in `starts` of f's points. After each change points move by `refine`. Nothing says that no better ones exist.
    """
    own = target.sum.points
    below, down = own, {}
    for count in range(len(own) - 1, 0, -1):
        below = down[count] = refine(target, shrunk(target, below, count), steps)
    best: list[torch.Tensor] = []
    for count in range(1, len(own)):
        tried = [refine(target, own[list(order[:count])], steps) for order in starts if len(order) >= count]
        tried += [refine(target, grown(target, best[-1]), steps)] if best else []
        best.append(min([down[count], *tried], key=target.left))
    return best


def fewest(target: Target, epsilon: float, least: int, start: torch.Tensor, steps: int) -> torch.Tensor:
    """As few points as are found, and no fewer than `least`, whose projection is within `epsilon` of f: by bisection from
    `start`, which is within.
    """
    best, low = start, least
    while low < len(best):
        middle = (low + len(best)) // 2
        tried = refine(target, shrunk(target, best, middle), steps)
        if target.left(tried) <= epsilon**2:
            best = tried
        else:
            low = middle + 1
    return best


def _worst(found: Projection) -> float:
    return max(found.square, 0.0) + found.rounding


def _residual_slopes(target: Target, found: Projection) -> torch.Tensor:
    """grad (f - Pf) at the points, (m, d)."""
    points = found.sum.points
    slopes = torch.zeros_like(points)
    for part, sign in ((target.sum, 1.0), (found.sum, -1.0)):
        weights = sign * part.kernel(points, part.points) * part.coefficients
        slopes += weights @ part.points - weights.sum(1, keepdim=True) * points
    return 2 * target.rate * slopes


def _normal_equations(target: Target, found: Projection) -> tuple[torch.Tensor, torch.Tensor]:
    """J^T J (md, md) and J^T (f - Pf) (md,) of the moves of the points.

    A move of z_j changes the sum by a_j grad k(z_j, .), of which counts what the sections do not hold.
    """
    points, rate, gram = found.sum.points, target.rate, found.sum.gram
    count, dim = points.shape
    apart = points[:, None] - points  # z_i - z_j
    # <k(z_j, .), d_l k(z_i, .)> at (j, i l)
    mixed = (-2 * rate * apart * gram[..., None]).transpose(0, 1).flatten(1)
    products = apart[..., :, None] * apart[..., None, :]
    second = 2 * rate * gram[..., None, None] * (torch.eye(dim).to(points) - 2 * rate * products)
    inner = second.transpose(1, 2).reshape(count * dim, -1)
    held = torch.linalg.solve_triangular(found.cholesky.factor, mixed, upper=False)
    scales = found.sum.coefficients.repeat_interleave(dim)
    return (inner - held.T @ held) * scales[:, None] * scales, scales * _residual_slopes(target, found).flatten()


def _moved(
    target: Target, found: Projection, system: torch.Tensor, right: torch.Tensor, damping: float
) -> Projection | None:
    """The projection after a damped step; None where there is none."""
    diagonal = system.diagonal()
    added = damping * diagonal.clamp(min=_FLAT * float(diagonal.max()))
    factor, failed = torch.linalg.cholesky_ex(system + added.diag())
    if int(failed):
        return None
    points = found.sum.points + torch.cholesky_solve(right[:, None], factor).view_as(found.sum.points)
    return Projection.of(target.sum, points) if bool(points.isfinite().all()) else None
