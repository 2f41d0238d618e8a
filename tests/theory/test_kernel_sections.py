import math
from collections.abc import Callable

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from stillhouse import linalg
from stillhouse.kernels import rbf
from stillhouse.theory import kernel_sections
from stillhouse.theory.kernel_sections import Kernel, Projection, Sum

RATE = 0.4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(dim: int, rate: float = RATE) -> Kernel:
    return rbf.build(rbf.Params(gamma=rate * dim), (dim,), 0)


def made(count: int, dim: int, seed: int = 0) -> Sum:
    return Sum(gaussian(dim), normal(count, dim, seed=seed), normal(count, seed=seed + 1))


def coordinates(*points: torch.Tensor) -> list[torch.Tensor]:
    """Vectors with the inner products of the sections at all points, by numpy."""
    rows = torch.cat(points)
    values, vectors = np.linalg.eigh(np.exp(-RATE * ((rows[:, None] - rows) ** 2).sum(2).numpy()))
    whole = torch.from_numpy(vectors * np.sqrt(values.clip(0)))
    return list(torch.split(whole, [len(each) for each in points]))


def test_the_projection_is_least_squares_in_the_kernels_space() -> None:
    f, points = made(12, 3), normal(5, 3, seed=7)
    found = Projection.of(f, points)
    theirs, ours = coordinates(f.points, points)
    wanted = theirs.T @ f.coefficients
    solved, left, *_ = np.linalg.lstsq(ours.T.numpy(), wanted.numpy(), rcond=None)
    np.testing.assert_allclose(found.sum.coefficients.numpy(), solved, rtol=1e-9)
    assert found.square == pytest.approx(float(left[0]), rel=1e-10)
    assert kernel_sections.distance(f, found.sum) == pytest.approx(math.sqrt(left[0]) / float(wanted.norm()), rel=1e-10)


def test_kernel_ridge_regression_is_that_of_scikit_learn() -> None:
    rows, targets = normal(20, 3), normal(20, seed=2)
    f = kernel_sections.fit(gaussian(3), rows, targets, 0.3)
    model = KernelRidge(alpha=0.3, kernel="rbf", gamma=RATE).fit(rows.numpy(), targets.numpy())
    np.testing.assert_allclose(f.coefficients.numpy(), model.dual_coef_, rtol=1e-10)
    np.testing.assert_allclose(
        f.at(normal(6, 3, seed=5)).numpy(), model.predict(normal(6, 3, seed=5).numpy()), rtol=1e-10
    )


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_every_sum_is_learned_from_its_points_with_any_ridge(ridge: float) -> None:
    """So the floor over sums of m sections is that of distillation, whatever the ridge of the student."""
    near = Projection.of(made(12, 3), normal(5, 3, seed=7)).sum
    model = KernelRidge(alpha=ridge, kernel="rbf", gamma=RATE).fit(near.points.numpy(), near.labels(ridge).numpy())
    np.testing.assert_allclose(model.dual_coef_, near.coefficients.numpy(), rtol=1e-9)


def test_all_points_are_exact_and_nothing_is_proven_against_them() -> None:
    f = made(9, 2)
    assert kernel_sections.distance(f, Projection.of(f, f.points).sum) < 1e-7
    assert float(kernel_sections.lower_bounds(f.gram, f.coefficients)[9]) == 0


def test_two_bumps_have_the_bound_of_the_closed_form() -> None:
    """f = k(-h, .) + k(h, .): the matrix has eigenvalues 1 + r and 1 - r, r = exp(-2 rate h^2)."""
    for apart in (0.1, 0.7, 3.0):
        f = Sum(gaussian(1), torch.tensor([[-apart], [apart]], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
        r = math.exp(-2 * RATE * apart**2)
        bounds = kernel_sections.lower_bounds(f.gram, f.coefficients)
        assert bounds.tolist() == pytest.approx([1, (1 - r) / math.sqrt(2 + 2 * r**2), 0], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 4])
def test_no_set_is_nearer_than_the_bound(dim: int) -> None:
    f = made(10, dim)
    bounds = kernel_sections.lower_bounds(f.gram, f.coefficients)
    assert float(bounds[0]) == pytest.approx(1, abs=1e-6)
    assert bool((bounds[1:] <= bounds[:-1]).all())
    for count in range(1, 10):
        for seed in range(20):
            points = normal(count, dim, seed=seed) * (1 + seed % 3)
            found = math.sqrt(max(Projection.of(f, points).square, 0) / f.square)
            assert found >= float(bounds[count])


def test_as_many_points_are_needed_as_coefficients_are_not_zero() -> None:
    """Theorem 2 from the bound: with n - 1 points it is above 0 if and only if no coefficient is 0."""
    f = made(8, 2)
    assert float(kernel_sections.lower_bounds(f.gram, f.coefficients)[7]) > 1e-6
    without = torch.where(torch.arange(8) == 3, 0, f.coefficients)
    assert float(kernel_sections.lower_bounds(f.gram, without)[7]) == 0
    assert float(kernel_sections.lower_bounds(f.gram, without)[6]) > 1e-6


@pytest.mark.parametrize("closest", [1.0, 1e-3, 1e-5])
def test_the_bound_is_not_above_the_exact_one(closest: float) -> None:
    """With 60 digits; two points so near to each other that the root kernel's Gram matrix is singular up to rounding."""
    f = made(6, 2)
    points = f.points.clone()
    points[1] = points[0] + closest * (points[1] - points[0])
    near = Sum(f.kernel, points, f.coefficients)
    found = kernel_sections.lower_bounds(near.gram, near.coefficients)
    with mpmath.workdps(60):
        root = mpmath.matrix(6, 6)
        for i in range(6):
            for j in range(6):
                square = sum(
                    (mpmath.mpf(float(a)) - mpmath.mpf(float(b))) ** 2
                    for a, b in zip(points[i], points[j], strict=True)
                )
                root[i, j] = mpmath.exp(-mpmath.mpf(RATE) * square / 2)
        factor = mpmath.cholesky(root)
        signs = mpmath.diag([mpmath.mpf(float(c)) for c in f.coefficients])
        strengths = sorted(
            (abs(value) for value in mpmath.eigsy(factor.T * signs * factor, eigvals_only=True)), reverse=True
        )
        norm = mpmath.sqrt(sum(value**2 for value in strengths))
        exact = [float(mpmath.sqrt(sum(value**2 for value in strengths[count:])) / norm) for count in range(7)]
    for ours, theirs in zip(found.tolist(), exact, strict=True):
        assert ours <= theirs * (1 + 1e-12)
        assert ours >= theirs * (1 - 1e-6) - 1e-9


def test_other_kernels_with_a_root_have_the_bound_as_well() -> None:
    """The Laplacian: its root is a Laplacian."""

    def laplacian(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (-0.7 * (one[:, None] - other).abs().sum(2)).exp()

    f = Sum(laplacian, normal(8, 2), normal(8, seed=1))
    bounds = kernel_sections.lower_bounds(f.gram, f.coefficients)
    for seed in range(20):
        found = Projection.of(f, normal(3, 2, seed=seed)).square / f.square
        assert found >= float(bounds[3]) ** 2


def test_greedy_takes_the_best_of_the_points_that_are_left() -> None:
    f = made(9, 2)
    order, distances = kernel_sections.greedy(f.gram, f.coefficients, 5)
    for count in range(1, 6):
        chosen = order[: count - 1]
        left = [
            math.sqrt(Projection.of(f, f.points[[*chosen, i]]).square / f.square) for i in range(9) if i not in chosen
        ]
        assert float(distances[count - 1]) == pytest.approx(min(left), rel=1e-8)


def test_greedy_ends_where_nothing_is_left_to_gain() -> None:
    f = made(4, 2)
    twice = Sum(f.kernel, torch.cat([f.points, f.points]), torch.cat([f.coefficients, f.coefficients]))
    order, distances = kernel_sections.greedy(twice.gram, twice.coefficients, 8)
    assert len({place % 4 for place in order[:4]}) == 4
    assert float(distances[3]) < 1e-6


def test_distances_of_subsets_are_those_of_their_projections() -> None:
    f = made(9, 2)
    subsets = torch.tensor([[0, 3, 5], [8, 1, 2]])
    found = kernel_sections.subset_distances(f.gram, f.coefficients, subsets)
    wanted = [math.sqrt(Projection.of(f, f.points[subset]).square / f.square) for subset in subsets]
    assert found.tolist() == pytest.approx(wanted, rel=1e-8)


def test_principal_components_hold_what_the_spectrum_says() -> None:
    """Against the singular value decomposition of the sections' coordinates."""
    f = made(9, 2)
    (rows,) = coordinates(f.points)
    _, _, directions = np.linalg.svd(rows.numpy(), full_matrices=False)
    vector = (rows.T @ f.coefficients).numpy()
    found = kernel_sections.component_distances(f.gram, f.coefficients)
    for count in range(10):
        left = vector - directions[:count].T @ (directions[:count] @ vector)
        assert float(found[count]) == pytest.approx(np.linalg.norm(left) / np.linalg.norm(vector), abs=1e-7)


def test_the_effective_dimension_is_the_trace_of_the_smoother() -> None:
    gram = made(9, 2).gram
    smoother = gram @ torch.linalg.inv(gram + 0.3 * torch.eye(9, dtype=torch.float64))
    assert kernel_sections.effective_dimension(gram, 0.3) == pytest.approx(float(smoother.trace()), rel=1e-10)


def quadratic(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (1 + one @ other.T) ** 2


def test_the_quadratic_kernel_needs_one_point_more_than_features_whatever_n_is() -> None:
    f = Sum(quadratic, normal(30, 3), normal(30, seed=1))
    best = kernel_sections.quadratic(f.points, f.coefficients, 4)
    assert best.distance < 1e-14
    torch.testing.assert_close(
        Sum(quadratic, best.points, best.coefficients).at(normal(7, 3, seed=4)), f.at(normal(7, 3, seed=4))
    )


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_points_of_the_quadratic_kernel_are_the_best_ones(count: int) -> None:
    f = Sum(quadratic, normal(30, 3), normal(30, seed=1))
    best = kernel_sections.quadratic(f.points, f.coefficients, count)
    found = Sum(quadratic, best.points, best.coefficients)
    assert kernel_sections.distance(f, found) == pytest.approx(best.distance, rel=1e-9)
    moved = [best.points + 0.1 * normal(count, 3, seed=seed) for seed in range(20)]
    for points in [*moved, *(normal(count, 3, seed=seed) for seed in range(20))]:
        assert math.sqrt(Projection.of(f, points).square / f.square) > best.distance


@pytest.mark.parametrize("make", [made, lambda count, dim: Sum(quadratic, normal(count, dim), normal(count, seed=1))])
def test_rounding_is_told_to_be_no_less_than_it_is(make: Callable[[int, int], Sum]) -> None:
    f = make(10, 2)
    turned = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    same = Sum(f.kernel, f.points[turned], f.coefficients[turned])
    assert kernel_sections.distance(f, same) <= kernel_sections.resolution(f, same) < 1e-5
    whole = Projection.of(f, f.points) if linalg.rank(f.gram) == 10 else None
    assert whole is None or abs(whole.square) <= whole.rounding
