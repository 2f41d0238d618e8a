import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse import linalg
from stillhouse.errors import NumericalError


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(features=st.integers(1, 40), chunks=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_moments_of_any_chunks_are_those_of_the_whole(features: int, chunks: list[int]) -> None:
    rows, targets = normal(sum(chunks), features), normal(sum(chunks), 3, seed=1)
    sums = linalg.Moments(features, 3)
    for some, wanted in zip(rows.split(chunks), targets.split(chunks), strict=True):
        sums.add(some, wanted)
    torch.testing.assert_close(sums.gram, rows.T @ rows)
    torch.testing.assert_close(sums.cross, rows.T @ targets)
    assert torch.equal(sums.gram, sums.gram.T)
    assert sums.count == len(rows)


@pytest.mark.parametrize("ridge", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("examples", [5, 30, 80])
def test_every_point_of_the_path_solves_the_normal_equations(ridge: float, examples: int) -> None:
    rows, targets = normal(examples, 30), normal(examples, 4, seed=1)
    for path in (linalg.RidgePath.of_moments(rows.T @ rows, rows.T @ targets), linalg.RidgePath.of_rows(rows, targets)):
        weights = path.weights(ridge)
        gradient = rows.T @ (rows @ weights - targets) + ridge * weights
        assert float(gradient.abs().max()) < 1e-9 * max(1.0, ridge)


def test_without_ridge_the_path_gives_the_least_norm_solution() -> None:
    rows, targets = normal(12, 30), normal(12, 2, seed=1)
    wanted = torch.linalg.pinv(rows) @ targets
    torch.testing.assert_close(linalg.RidgePath.of_rows(rows, targets).weights(0.0), wanted)
    torch.testing.assert_close(linalg.RidgePath.of_moments(rows.T @ rows, rows.T @ targets).weights(0.0), wanted)


def test_predictions_along_the_path_are_features_times_weights() -> None:
    rows, targets, new = normal(20, 8), normal(20, 3, seed=1), normal(5, 8, seed=2)
    path = linalg.RidgePath.of_rows(rows, targets)
    for ridge, scores in zip([0.0, 0.1, 10.0], path.predictions(new, [0.0, 0.1, 10.0]), strict=True):
        torch.testing.assert_close(scores, new @ path.weights(ridge))


def test_the_path_reports_the_rank_of_the_features() -> None:
    rows = normal(50, 4) @ normal(4, 9, seed=1)
    assert linalg.RidgePath.of_moments(rows.T @ rows, rows.T).rank() == 4


def test_nan_in_the_gram_matrix_is_refused_with_its_count() -> None:
    gram = torch.eye(3, dtype=torch.float64)
    gram[0, 1] = torch.nan
    with pytest.raises(NumericalError, match="1 entries"):
        linalg.RidgePath.of_moments(gram, gram)


@pytest.mark.parametrize("shape", [(9, 9), (20, 7), (7, 20), (1, 5), (5, 1)])
def test_a_pseudo_inverse_obeys_penrose(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    found = linalg.pseudo_inverse(matrix)
    inverse = found.value
    torch.testing.assert_close(matrix @ inverse @ matrix, matrix)
    torch.testing.assert_close(inverse @ matrix @ inverse, inverse)
    torch.testing.assert_close((matrix @ inverse).T, matrix @ inverse)
    torch.testing.assert_close((inverse @ matrix).T, inverse @ matrix)
    assert found.rank == min(shape)


def test_the_pseudo_inverse_of_a_rank_deficient_matrix_is_torchs() -> None:
    matrix = normal(12, 3) @ normal(3, 8, seed=1)
    found = linalg.pseudo_inverse(matrix)
    assert found.rank == 3
    torch.testing.assert_close(found.value, torch.linalg.pinv(matrix))


def test_the_reported_condition_is_never_below_the_true_one() -> None:
    matrix = normal(30, 10)
    found = linalg.pseudo_inverse(matrix).condition
    true = float(torch.linalg.cond(matrix))
    assert true <= found <= 10 * true


def test_a_zero_matrix_has_rank_zero_and_a_zero_pseudo_inverse() -> None:
    found = linalg.pseudo_inverse(torch.zeros(4, 3, dtype=torch.float64))
    assert found.rank == 0
    assert torch.equal(found.value, torch.zeros(3, 4, dtype=torch.float64))


def test_the_largest_singular_value_is_that_of_the_decomposition() -> None:
    matrix = normal(30, 12)
    assert linalg.largest_singular_value(matrix) == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-4)


@pytest.mark.parametrize("shape", [(9, 9), (20, 7), (5, 1)])
def test_a_row_system_gives_the_solution_of_least_norm(shape: tuple[int, int]) -> None:
    matrix, right = normal(*shape), normal(4, shape[1], seed=1)
    found = linalg.RowSystem(matrix).solve(right)
    torch.testing.assert_close(found @ matrix, right)
    torch.testing.assert_close(found, right @ torch.linalg.pinv(matrix))


def test_refinement_leaves_a_fraction_of_the_residual_of_a_plain_solution() -> None:
    matrix, right = normal(300, 300), normal(3, 300, seed=2)
    plain = torch.linalg.solve(matrix, right, left=False)
    refined = linalg.RowSystem(matrix).solve(right)
    assert linalg.relative_error(refined @ matrix, right) < linalg.relative_error(plain @ matrix, right) / 4


def test_the_norm_of_a_map_known_by_its_products_is_its_largest_singular_value() -> None:
    matrix = normal(12, 9)
    found = linalg.operator_norm(lambda vector: matrix.T @ (matrix @ vector), normal(9, seed=1))
    assert found == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), rel=1e-3)
    inverse = torch.linalg.inv(matrix.T @ matrix)
    found = linalg.operator_norm(lambda vector: inverse @ vector, normal(9, seed=1))
    assert 1 / found == pytest.approx(float(torch.linalg.svdvals(matrix)[-1]), rel=1e-3)


@pytest.mark.parametrize("shape", [(40, 15), (15, 40), (20, 20)])
@pytest.mark.parametrize("ridge", [0.0, 1e-6, 0.3, 50.0])
@pytest.mark.parametrize("spread", [0, -4, -8])
def test_ridge_weights_are_those_of_the_singular_values(shape: tuple[int, int], ridge: float, spread: int) -> None:
    rng = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, n, generator=rng, dtype=torch.float64)).Q for n in shape)
    values = torch.logspace(0, spread, min(shape), dtype=torch.float64)
    size = min(shape)
    matrix = (left[:, :size] * values) @ right[:, :size].T
    targets = matrix @ torch.randn(shape[1], 3, generator=rng, dtype=torch.float64)
    filtered = (right[:, :size] * (values / (values**2 + ridge))) @ (left[:, :size].T @ targets)
    tolerance = 1e-13 * 10**-spread
    assert linalg.relative_error(linalg.ridge_solve(matrix, targets, ridge), filtered) < tolerance


def test_ridge_weights_of_a_rank_deficient_matrix_have_least_norm() -> None:
    rng = torch.Generator().manual_seed(1)
    matrix = torch.randn(30, 6, generator=rng, dtype=torch.float64) @ torch.randn(
        6, 12, generator=rng, dtype=torch.float64
    )
    targets = torch.randn(30, 2, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(linalg.ridge_solve(matrix, targets, 0.0), torch.linalg.pinv(matrix) @ targets)


@pytest.mark.parametrize("spread", [0, -3, -5, -7, -10])
def test_a_pseudo_inverse_is_as_exact_as_its_condition_allows_whichever_factorisation_gives_it(spread: int) -> None:
    rng = torch.Generator().manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(n, 25, generator=rng, dtype=torch.float64)).Q for n in (60, 25))
    values = torch.logspace(0, spread, 25, dtype=torch.float64)
    found = linalg.pseudo_inverse((left * values) @ right.T)
    assert found.rank == 25
    assert found.condition >= 0.99 * 10.0**-spread
    assert linalg.relative_error(found.value, (right / values) @ left.T) < 1e-14 * 10**-spread
