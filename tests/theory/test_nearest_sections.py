import math

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from stillhouse.kernels import rbf
from stillhouse.theory import kernel_sections, nearest_sections
from stillhouse.theory.kernel_sections import Projection, Sum
from stillhouse.theory.nearest_sections import Target

RATE = 0.4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(count: int, dim: int) -> Target:
    kernel = rbf.build(rbf.Params(gamma=RATE * dim), (dim,), 0)
    return Target(Sum(kernel, normal(count, dim), normal(count, seed=1)), RATE)


def square(target: Target, points: torch.Tensor) -> float:
    return Projection.of(target.sum, points).square / target.sum.square


def test_the_slope_is_that_of_finite_differences() -> None:
    target, points, step = made(8, 3), normal(4, 3, seed=5), 1e-5
    found = nearest_sections.slope(target, points)
    for place in np.ndindex(4, 3):
        ahead, behind = points.clone(), points.clone()
        ahead[place] += step
        behind[place] -= step
        wanted = (square(target, ahead) - square(target, behind)) / (2 * step)
        assert float(found[place]) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("count", [1, 3, 6])
def test_points_end_where_the_slope_is_zero_and_no_farther_than_another_optimiser(count: int) -> None:
    target, start = made(8, 2), normal(count, 2, seed=5)
    found = nearest_sections.refine(target, start, 200, 1e-9)
    assert square(target, found) < square(target, start)
    assert float(nearest_sections.slope(target, found).abs().max()) < 1e-5

    def objective(
        free: np.ndarray[tuple[int], np.dtype[np.float64]],
    ) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        points = torch.from_numpy(free).view(count, 2)
        return square(target, points), nearest_sections.slope(target, points).flatten().numpy()

    theirs = minimize(objective, start.flatten().numpy(), jac=True, method="L-BFGS-B")
    assert square(target, found) <= 1.2 * theirs.fun


def test_one_point_for_two_equal_bumps_is_the_best_of_a_grid() -> None:
    """Near to each other the best point lies in the middle, in closed form; far apart it is next to one of them."""
    for apart in (0.5, 2.5):
        kernel = rbf.build(rbf.Params(gamma=RATE), (1,), 0)
        f = Sum(kernel, torch.tensor([[-apart], [apart]], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
        target = Target(f, RATE)
        (found,) = nearest_sections.nearest(target, [[0, 1]], 100)
        grid = torch.linspace(-5, 5, 100_001, dtype=torch.float64)[:, None]
        best = float((1 - f.at(grid).square() / f.square).min())
        assert square(target, found) == pytest.approx(best, abs=1e-8)
        assert math.sqrt(best) >= float(kernel_sections.lower_bounds(f.gram, f.coefficients)[1])
        middle = 1 - (2 * math.exp(-RATE * apart**2)) ** 2 / (2 + 2 * math.exp(-4 * RATE * apart**2))
        assert (best == pytest.approx(middle, abs=1e-12)) == (apart == 0.5)


def test_distances_fall_with_the_number_of_points_and_stay_above_what_is_proven() -> None:
    target = made(10, 2)
    order, greedy = kernel_sections.greedy(target.sum.gram, target.sum.coefficients, 10)
    found = nearest_sections.nearest(target, [order], 30)
    bounds = kernel_sections.lower_bounds(target.sum.gram, target.sum.coefficients)
    distances = [kernel_sections.distance(target.sum, Projection.of(target.sum, points).sum) for points in found]
    assert [len(points) for points in found] == list(range(1, 10))
    assert distances == sorted(distances, reverse=True)
    for count, distance in enumerate(distances, 1):
        assert float(bounds[count]) <= distance <= float(greedy[count - 1])
    assert distances[4] < 0.5 * float(greedy[4])


def test_the_point_that_is_dropped_costs_least() -> None:
    target, points = made(8, 2), normal(5, 2, seed=5)
    left = [square(target, points[torch.arange(5) != i]) for i in range(5)]
    assert square(target, nearest_sections.shrunk(target, points, 4)) == pytest.approx(min(left), rel=1e-12)
    assert len(nearest_sections.shrunk(target, points, 2)) == 2


def test_the_point_that_is_added_gains_most() -> None:
    target, points = made(8, 2), normal(3, 2, seed=5)
    left = [square(target, torch.cat([points, target.sum.points[[i]]])) for i in range(8)]
    assert square(target, nearest_sections.grown(target, points)) == pytest.approx(min(left), rel=1e-9)


def test_the_smallest_set_is_within_epsilon_and_not_smaller_than_proven() -> None:
    target = made(30, 2)
    order, greedy = kernel_sections.greedy(target.sum.gram, target.sum.coefficients, 30)
    bounds = kernel_sections.lower_bounds(target.sum.gram, target.sum.coefficients)
    start = target.sum.points[order[: int((greedy > 0.1).sum()) + 1]]
    least = int((bounds > 0.1).sum())
    found = nearest_sections.fewest(target, 0.1, least, start, 30)
    assert math.sqrt(square(target, found)) <= 0.1
    assert least <= len(found) < len(start)


def test_points_that_come_together_do_not_pass_for_near_by_rounding() -> None:
    """Two points that come together make a difference quotient, with coefficients that grow without bound. With 50 digits."""
    kernel = rbf.build(rbf.Params(gamma=RATE), (1,), 0)
    places = torch.tensor([[-1e-3], [0.0], [1e-3], [2.0]], dtype=torch.float64)
    target = Target(Sum(kernel, places, torch.tensor([-1e3, 0.0, 1e3, 1.0], dtype=torch.float64)), RATE)
    found = nearest_sections.refine(target, torch.tensor([[-0.1], [0.1], [2.1]], dtype=torch.float64), 200)
    near = Projection.of(target.sum, found)
    with mpmath.workdps(50):
        points = [mpmath.mpf(x) for x in torch.cat([places, found])[:, 0].tolist()]
        weights = [mpmath.mpf(c) for c in torch.cat([target.sum.coefficients, -near.sum.coefficients]).tolist()]
        pairs = list(zip(points, weights, strict=True))
        exact = float(sum(a * b * mpmath.exp(-mpmath.mpf(RATE) * (x - y) ** 2) for x, a in pairs for y, b in pairs))
    assert abs(exact - near.square) <= near.rounding
    assert exact / target.sum.square <= target.left(found) < 1e-4
