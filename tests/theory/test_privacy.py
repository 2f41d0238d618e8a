import itertools
import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from stillhouse import linalg, spaces
from stillhouse.errors import NumericalError
from stillhouse.theory import points, privacy
from stillhouse.theory.privacy import Adjacency, Domain

ADJACENCIES: tuple[Adjacency, ...] = ("remove", "replace")
both = pytest.mark.parametrize("adjacency", ADJACENCIES)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiled(classes: int, per_class: int) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.float64).repeat(per_class, 1)


def data(examples: int, features: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rows = privacy.clipped(normal(examples, features, seed=seed), 1.0)
    return rows, spaces.one_hot(torch.arange(examples) % classes, classes)


def ridge_weights(rows: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """By least squares on the extended system: not the normal equations of the code."""
    extended = torch.cat([rows, math.sqrt(ridge) * torch.eye(rows.shape[1], dtype=torch.float64)])
    right = torch.cat([targets, torch.zeros(rows.shape[1], targets.shape[1], dtype=torch.float64)])
    return torch.linalg.lstsq(extended, right).solution


def gram(rows: torch.Tensor, ridge: float) -> torch.Tensor:
    return rows.T @ rows + ridge * torch.eye(rows.shape[1], dtype=torch.float64)


# --- Gaussian noise


@pytest.mark.parametrize(("epsilon", "shift"), [(0.0, 0.5), (0.3, 0.2), (1.0, 1.0), (4.0, 2.5), (0.5, 6.0)])
def test_delta_is_the_defining_integral(epsilon: float, shift: float) -> None:
    """delta(epsilon) = integral of max(0, p - e^epsilon q), p and q the densities of N(shift, 1) and N(0, 1)."""
    crossing = epsilon / shift + shift / 2
    excess, _ = quad(lambda x: norm.pdf(x, shift) - math.exp(epsilon) * norm.pdf(x), crossing, crossing + 12)
    assert privacy.gaussian_delta(epsilon, shift) == pytest.approx(excess, rel=1e-7, abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 8.0, 50.0])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_the_analytic_noise_keeps_the_promise_and_a_thousandth_less_does_not(epsilon: float, delta: float) -> None:
    shift = privacy.largest_shift(epsilon, delta)
    assert privacy.gaussian_delta(epsilon, shift) <= delta
    assert privacy.gaussian_delta(epsilon, 1.001 * shift) > delta


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 0.99])
def test_below_one_the_classical_noise_is_enough_and_more_than_needed(epsilon: float) -> None:
    classical = privacy.classical_noise(epsilon, 1e-5)
    assert privacy.gaussian_delta(epsilon, 1 / classical) < 1e-5
    assert 1 / privacy.largest_shift(epsilon, 1e-5) < classical


def test_above_one_the_classical_noise_breaks_its_promise() -> None:
    assert privacy.gaussian_delta(10, 1 / privacy.classical_noise(10, 1e-5)) > 1e-5


@pytest.mark.parametrize("shift", [0.01, 0.3, 2.0, 30.0])
def test_the_smallest_epsilon_undoes_delta(shift: float) -> None:
    found = privacy.smallest_epsilon(1e-5, shift)
    assert privacy.gaussian_delta(found, shift) <= 1e-5
    assert found == 0 or privacy.gaussian_delta(0.999 * found, shift) > 1e-5


def test_without_noise_there_is_no_epsilon_and_without_a_difference_none_is_needed() -> None:
    assert privacy.smallest_epsilon(1e-5, math.inf) == math.inf
    assert privacy.gaussian_delta(5.0, math.inf) == 1
    assert privacy.smallest_epsilon(1e-5, 0.0) == 0


def test_no_threshold_has_more_power_than_the_largest() -> None:
    """The likelihood ratio of two unit Gaussians is monotone in x: thresholds on x are the best tests, and reach it."""
    assert privacy.largest_power(0.01, 0.0) == pytest.approx(0.01)
    threshold = norm.isf(0.01)
    assert privacy.largest_power(0.01, 1.7) == pytest.approx(norm.sf(threshold, 1.7))
    area, _ = quad(lambda rate: privacy.largest_power(rate, 1.7), 0, 1)
    assert privacy.largest_area(1.7) == pytest.approx(area, rel=1e-6)


# --- What one example changes


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_taking_out_an_example_changes_the_weights_by_the_matrix_of_rank_one(ridge: float) -> None:
    rows, targets = data(40, 6, 3)
    weights = ridge_weights(rows, targets, ridge)
    moved, residuals = privacy.removal(gram(rows, ridge), weights, rows, targets)
    for left_out in (0, 7, 39):
        kept = torch.arange(40) != left_out
        without = ridge_weights(rows[kept], targets[kept], ridge)
        torch.testing.assert_close(weights - without, torch.outer(moved[left_out], residuals[left_out]))


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_adding_an_example_changes_the_weights_by_the_matrix_of_rank_one(ridge: float) -> None:
    rows, targets = data(40, 6, 3)
    without = ridge_weights(rows[1:], targets[1:], ridge)
    moved, residuals = privacy.addition(gram(rows[1:], ridge), without, rows[:1], targets[:1])
    torch.testing.assert_close(ridge_weights(rows, targets, ridge) - without, moved.T @ residuals)


# --- Rows


def worst_change(
    adjacency: Adjacency, ridge: float, columns: torch.Tensor, seed: int
) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Largest |(W - W') u_j| over all examples of random data, the smallest eigenvalue met, and the classes' largest sizes."""
    rows, targets = data(24, 4, 3, seed)
    weights = ridge_weights(rows, targets, ridge)
    other, label = data(24, 4, 3, seed + 100)
    largest, smallest, sizes = torch.zeros(columns.shape[1], dtype=torch.float64), math.inf, targets.sum(0)
    for index in range(24):
        kept = torch.arange(24) != index
        smallest = min(smallest, float(torch.linalg.eigvalsh(gram(rows[kept], ridge))[0]))
        changed, new_targets = rows[kept], targets[kept]
        if adjacency == "replace":
            changed = torch.cat([changed, other[index : index + 1]])
            new_targets = torch.cat([new_targets, label[(index + seed) % 24][None]])
        sizes = torch.maximum(sizes, new_targets.sum(0))
        difference = (weights - ridge_weights(changed, new_targets, ridge)) @ columns
        largest = torch.maximum(largest, difference.norm(dim=0))
    return largest, smallest, sizes


@both
@pytest.mark.parametrize("ridge", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(4))
def test_no_example_moves_a_column_by_more_than_the_sensitivity(adjacency: Adjacency, ridge: float, seed: int) -> None:
    set_targets = normal(8, 3, seed=seed)
    largest, smallest, sizes = worst_change(adjacency, ridge, torch.linalg.pinv(set_targets), seed)
    domain = Domain(1.0, ridge or smallest, sizes, adjacency)
    assert bool((largest <= privacy.row_sensitivities(set_targets, domain)).all())


@both
def test_the_sensitivity_is_reached(adjacency: Adjacency) -> None:
    """One feature: replacing 1 by -1 among 1001 moves the column by 2 / 1001, against 2 / 1000; removing it by half of both."""
    rows, targets, set_targets, other = privacy.tight_case(1000)
    changed = torch.cat([other[None], rows[1:]]) if adjacency == "replace" else rows[1:]
    kept = targets if adjacency == "replace" else targets[1:]
    column = torch.linalg.pinv(set_targets)[:, 0]
    moved = float(((ridge_weights(rows, targets, 0) - ridge_weights(changed, kept, 0)) @ column).abs())
    bound = float(privacy.row_sensitivities(set_targets, Domain(1.0, 1000.0, targets.sum(0), adjacency))[0])
    assert 0.998 * bound < moved <= bound


def measured(adjacency: Adjacency, sigma: float, others: int) -> float:
    """Standard deviations between the first column of D for the two adjacent data sets of the tight case, from refits."""
    rows, targets, set_targets, other = privacy.tight_case(others)
    changed = torch.cat([other[None], rows[1:]]) if adjacency == "replace" else rows[1:]
    kept = targets if adjacency == "replace" else targets[1:]
    difference = ridge_weights(rows, targets, 0) - ridge_weights(changed, kept, 0)
    kernel = torch.eye(4, dtype=torch.float64) - set_targets @ torch.linalg.pinv(set_targets)
    return float((difference @ torch.linalg.pinv(set_targets)[:, 0]).norm() / (sigma * kernel[0].norm()))


@both
@pytest.mark.parametrize("epsilon", [0.1, 0.99, 5.0])
def test_the_derived_noise_keeps_the_promise_on_the_worst_data(adjacency: Adjacency, epsilon: float) -> None:
    _, targets, set_targets, _ = privacy.tight_case(100)
    sigma = privacy.row_noise(set_targets, Domain(1.0, 100.0, targets.sum(0), adjacency), epsilon, 1e-5)
    assert privacy.gaussian_delta(epsilon, measured(adjacency, sigma, 100)) <= 1e-5


def test_the_printed_noise_breaks_the_promise_when_one_example_is_replaced() -> None:
    """sigma_min^2 = 101 for both data sets, |x| <= 1, n = 101 > 2 classes, one hot: every assumption of Theorem 6.2 holds."""
    rows, targets, set_targets, other = privacy.tight_case(100)
    both_sets = (rows, torch.cat([other[None], rows[1:]]))
    assert all(float(torch.linalg.matrix_norm(each, 2)) ** 2 == pytest.approx(101) for each in both_sets)
    domain = Domain(1.0, 101.0, targets.sum(0), "replace")
    sigma = privacy.printed_row_noise(set_targets, domain, 0.99, 1e-5)
    assert privacy.gaussian_delta(0.99, measured("replace", sigma, 100)) > 3e-5


def test_the_printed_noise_is_enough_when_one_example_is_taken_out() -> None:
    for seed, epsilon in itertools.product(range(3), (0.05, 0.5, 0.99)):
        domain = Domain(1.5, 0.7, torch.tensor([5.0, 9.0, 2.0], dtype=torch.float64), "remove")
        set_targets = normal(7, 3, seed=seed)
        derived = privacy.row_noise(set_targets, domain, epsilon, 1e-5)
        assert privacy.printed_row_noise(set_targets, domain, epsilon, 1e-5) > derived


def test_the_printed_constant_is_the_classical_noise_for_root_two_times_the_sensitivity_of_taking_one_out() -> None:
    domain = Domain(1.5, 0.7, torch.tensor([5.0, 9.0, 2.0], dtype=torch.float64), "remove")
    set_targets = normal(7, 3)
    kernel = torch.eye(7, dtype=torch.float64) - set_targets @ torch.linalg.pinv(set_targets)
    needed = privacy.row_sensitivities(set_targets, domain) / kernel.norm(dim=1)
    classical = math.sqrt(2) * privacy.classical_noise(0.5, 1e-5) * float(needed.max())
    assert privacy.printed_row_noise(set_targets, domain, 0.5, 1e-5) == pytest.approx(classical)


def test_one_example_per_class_leaves_no_noise_and_is_refused() -> None:
    domain = Domain(1.0, 1.0, torch.full((3,), 5.0, dtype=torch.float64), "remove")
    with pytest.raises(NumericalError, match="3 of 3 columns of D get no noise"):
        privacy.row_noise(tiled(3, 1), domain, 1.0, 1e-5)
    shown = points.admissible(normal(5, 3), tiled(3, 1), 1e6 * normal(5, 3, seed=1))
    torch.testing.assert_close(shown, normal(5, 3))


def test_targets_that_lost_a_class_are_refused() -> None:
    with pytest.raises(NumericalError, match="rank 2, below 3 classes"):
        privacy.projector(tiled(3, 2) @ torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)))


@pytest.mark.parametrize("sigma", [1.0, 1e6])
def test_whoever_has_the_targets_has_the_weights_however_large_the_noise(sigma: float) -> None:
    """D Y_S = W: the theorem's guarantee for each column is none for all of them."""
    weights, set_targets = normal(9, 3), tiled(3, 4)
    shown = points.admissible(weights, set_targets, sigma * normal(9, 12, seed=2))
    assert linalg.relative_error(shown @ set_targets, weights) < 1e-15 * max(1, sigma) * 10
    assert linalg.relative_error(shown, points.admissible(weights, set_targets, 0 * shown)) > 0.5 * sigma


# --- Several rows


def domain_of_three(adjacency: Adjacency = "remove") -> Domain:
    return Domain(1.5, 0.7, torch.tensor([5.0, 9.0, 2.0], dtype=torch.float64), adjacency)


@both
def test_one_row_composed_is_that_row(adjacency: Adjacency) -> None:
    set_targets, domain = normal(7, 3), domain_of_three(adjacency)
    sigma = privacy.row_noise(set_targets, domain, 0.8, 1e-5)
    each = [privacy.composed_epsilon(torch.tensor([j]), set_targets, domain, sigma, 1e-5) for j in range(7)]
    assert max(each) == pytest.approx(0.8)


def test_rows_of_tiled_targets_compose_by_hand() -> None:
    """r_c of k columns of class c: M_cc = r_c / (k (k - r_c))."""
    domain, k, chosen = domain_of_three(), 4, torch.tensor([0, 3, 6, 1, 5])  # three, one and one of the classes
    expected = 1.5 / 0.7 * math.sqrt(5 * 3 / (k * (k - 3)) + (9 + 2) * 1 / (k * (k - 1)))
    assert privacy.joint_shift(chosen, tiled(3, k), domain, 2.0) == pytest.approx(expected / 2)


@both
def test_no_example_moves_several_columns_by_more_than_the_joint_shift(adjacency: Adjacency) -> None:
    """By refitting, and the Mahalanobis distance in the covariance sigma^2 P_rr of the released columns."""
    set_targets, chosen, sigma = normal(8, 3, seed=5), torch.tensor([1, 4, 6]), 0.3
    inverse = torch.linalg.pinv(set_targets)
    inner = (torch.eye(8, dtype=torch.float64) - set_targets @ inverse)[chosen][:, chosen]
    whitened = inverse[:, chosen] @ torch.linalg.inv(torch.linalg.cholesky(inner)).T / sigma
    rows, targets = data(24, 4, 3)
    weights, moved = ridge_weights(rows, targets, 0.5), 0.0
    for index in range(24):
        changed, labels = rows.clone(), targets.clone()
        if adjacency == "replace":
            changed[index], labels[index] = -rows[index], targets[(index + 1) % 24]
        kept = torch.arange(24) != (index if adjacency == "remove" else -1)
        moved = max(moved, float(((weights - ridge_weights(changed[kept], labels[kept], 0.5)) @ whitened).norm()))
    domain = Domain(1.0, 0.5, targets.sum(0) + 1, adjacency)
    assert 0 < moved <= privacy.joint_shift(chosen, set_targets, domain, sigma)


def test_more_than_m_minus_c_rows_have_no_epsilon() -> None:
    set_targets, domain = normal(7, 3), domain_of_three()
    finite = [
        math.isfinite(privacy.composed_epsilon(torch.arange(r), set_targets, domain, 1.0, 1e-5)) for r in range(1, 8)
    ]
    assert finite == [True] * 4 + [False] * 3


def test_all_rows_of_one_class_have_no_epsilon_although_they_are_few() -> None:
    """m - c = 9 and r = 4: the mean of the class's columns is a column of W."""
    set_targets, chosen = tiled(3, 4), torch.tensor([0, 3, 6, 9])
    assert privacy.composed_epsilon(chosen, set_targets, domain_of_three(), 1e9, 1e-5) == math.inf
    weights = normal(5, 3)
    shown = points.admissible(weights, set_targets, 1e3 * normal(5, 12, seed=1))
    torch.testing.assert_close(shown[:, chosen].sum(1), weights[:, 0])


def test_basic_composition_is_cruder_where_the_noise_is_independent_and_refused_elsewhere() -> None:
    set_targets, domain = tiled(3, 4), domain_of_three()
    sigma = privacy.row_noise(set_targets, domain, 0.5, 1e-5)
    different = torch.tensor([0, 1, 2])
    exact = privacy.composed_epsilon(different, set_targets, domain, sigma, 1e-5)
    assert exact < privacy.basic_epsilon(different, set_targets, domain, sigma, 1e-5)
    with pytest.raises(NumericalError, match="correlated"):
        privacy.basic_epsilon(torch.tensor([0, 3]), set_targets, domain, sigma, 1e-5)


# --- Statistics


def change_of_statistics(x: torch.Tensor, y: torch.Tensor, size: float) -> float:
    """|(x x^T / B^2, x y^T / B)|_F."""
    return math.sqrt(float((x.T @ x / size**2).norm() ** 2 + (x.T @ y / size).norm() ** 2))


@pytest.mark.parametrize("size", [0.2, 1.0, 7.0])
def test_no_example_moves_the_statistics_by_more_than_their_sensitivity_and_some_reach_it(size: float) -> None:
    worst = {"remove": 0.0, "replace": 0.0}
    labels = torch.eye(2, dtype=torch.float64)
    sign = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    for seed in range(300):
        pair = privacy.clipped(100 * normal(2, 2, seed=seed), size)
        shrink = torch.tensor([[1.0], [[1.0, 0.3][seed % 2]]], dtype=torch.float64)
        for y in (labels, labels[[0, 0]]):
            worst["remove"] = max(worst["remove"], change_of_statistics(pair[:1], y[:1], size))
            changed = change_of_statistics_pair(pair * shrink, y, sign, size)
            worst["replace"] = max(worst["replace"], changed)
    assert worst["remove"] == pytest.approx(privacy.statistics_sensitivity("remove"))
    assert worst["replace"] <= privacy.statistics_sensitivity("replace")
    assert worst["replace"] > 0.999 * privacy.statistics_sensitivity("replace")


def change_of_statistics_pair(pair: torch.Tensor, labels: torch.Tensor, sign: torch.Tensor, size: float) -> float:
    """The same for one example in the place of another: x x^T - x' x'^T and x y^T - x' y'^T."""
    gram_change = pair.T @ sign @ pair / size**2
    cross_change = pair.T @ sign @ labels / size
    return math.sqrt(float(gram_change.norm() ** 2 + cross_change.norm() ** 2))


def test_the_noise_on_the_statistics_is_that_of_independent_entries_made_symmetric() -> None:
    noise = normal(80, 83)
    found, cross = privacy.noisy_statistics(
        torch.zeros(80, 80, dtype=torch.float64), torch.zeros(80, 3, dtype=torch.float64), 2.0, 0.5, noise
    )
    torch.testing.assert_close(found, found.T)
    # |E|_F^2 / (B^2 scale)^2 counts the p (p + 1) / 2 free entries in orthonormal coordinates.
    assert float(found.square().sum()) / 2.0**2 == pytest.approx(80 * 81 / 2, rel=0.05)
    torch.testing.assert_close(cross, noise[:, 80:])  # B scale = 1


@pytest.mark.parametrize("features", [3, 40])
def test_the_ridge_for_the_noise_keeps_the_gram_matrix_positive_definite_and_half_of_it_would_not(
    features: int,
) -> None:
    nothing = torch.zeros(features, features, dtype=torch.float64)
    lowest = []
    for seed in range(60):
        noise = normal(features, features + 1, seed=seed)
        noisy, _ = privacy.noisy_statistics(nothing, nothing[:, :1], 1.5, 0.4, noise)
        lowest.append(float(torch.linalg.eigvalsh(noisy)[0]))
    added = privacy.noise_ridge(features, 1.5, 0.4)
    assert min(lowest) + added > 0
    assert min(lowest) + added * (0.5 if features > 3 else 0.25) < 0


def test_without_noise_the_private_weights_are_the_ridge_weights() -> None:
    rows, targets = data(40, 6, 3)
    found = privacy.private_weights(rows.T @ rows, rows.T @ targets, 0.3, 1.0, 0.0, normal(6, 9))
    torch.testing.assert_close(found, ridge_weights(rows, targets, 0.3))


def test_clipping_scales_long_features_down_and_leaves_short_ones() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(
        privacy.clipped(rows, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]).double(), atol=1e-7, rtol=0
    )


# --- Proposition 6.1


def test_many_data_sets_have_the_same_weights() -> None:
    """n > c, rank Y = c: any Z gives features F = (W Y^+ + Z (I - Y Y^+))^+ with F^+ Y = W."""
    weights, targets = normal(20, 3), tiled(3, 4)
    one, other = (torch.linalg.pinv(points.admissible(weights, targets, normal(20, 12, seed=seed))) for seed in (1, 2))
    for rows in (one, other):
        torch.testing.assert_close(torch.linalg.lstsq(rows, targets, driver="gelsd").solution, weights)
    assert linalg.relative_error(one, other) > 0.5
