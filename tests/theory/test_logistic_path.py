import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from stillhouse.errors import NumericalError
from stillhouse.theory import logistic_path
from stillhouse.theory.logistic_path import Search, Weighted

PENALTIES = torch.logspace(-4, 1, 11, dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def soft(count: int, dim: int) -> Weighted:
    """Points with labels and weights of all kinds."""
    return Weighted(normal(count, dim), torch.sigmoid(normal(count, seed=1)), normal(count, seed=2).exp() / count)


def hard(count: int, dim: int) -> Weighted:
    return Weighted.equal(normal(count, dim), (normal(count, seed=1) > 0).double())


def by_scipy(data: Weighted, penalty: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rows, labels, weights = (each.numpy() for each in (data.points, data.labels, data.weights))

    def objective(theta: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        eta = rows @ theta
        return float(weights @ (np.logaddexp(0, eta) - labels * eta) + penalty * theta @ theta)

    found: np.ndarray[tuple[int], np.dtype[np.float64]] = minimize(
        objective, np.zeros(rows.shape[1]), method="BFGS", options={"gtol": 1e-9}
    ).x
    return found


def test_the_path_is_that_of_a_general_optimiser_on_soft_labels_and_weights() -> None:
    data = soft(7, 2)
    found = logistic_path.path(data, PENALTIES)
    for theta, penalty in zip(found, PENALTIES.tolist(), strict=True):
        np.testing.assert_allclose(theta.numpy(), by_scipy(data, penalty), rtol=1e-4, atol=1e-7)
    assert float(logistic_path.slopes(data, found, PENALTIES).abs().max()) < 1e-14


def test_the_path_is_that_of_scikit_learn() -> None:
    data = hard(12, 3)
    found = logistic_path.path(data, PENALTIES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for theta, penalty in zip(found, PENALTIES.tolist(), strict=True):
            model = LogisticRegression(
                C=1 / (2 * 12 * penalty), fit_intercept=False, solver="newton-cholesky", tol=1e-14
            )
            model.fit(data.points.numpy(), data.labels.numpy())
            np.testing.assert_allclose(theta.numpy(), model.coef_[0], rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_the_path_is_found_from_far_away_and_on_separable_data(scale: float) -> None:
    data = Weighted.equal(scale * normal(3, 4), row(0, 1, 1))
    found = logistic_path.path(data, PENALTIES)
    again = logistic_path.path(data, PENALTIES, found + 10)
    torch.testing.assert_close(again, found, rtol=1e-9, atol=1e-12)


def test_data_that_are_no_numbers_are_refused() -> None:
    data = hard(5, 2)
    with pytest.raises(NumericalError, match=r"5 points: Newton's method does not end"):
        logistic_path.path(Weighted(data.points * torch.nan, data.labels, data.weights), PENALTIES)


def test_derivatives_by_points_labels_and_weights_are_those_of_finite_differences() -> None:
    data, step = soft(4, 2), 1e-5
    found = logistic_path.sensitivities(data, logistic_path.path(data, PENALTIES), PENALTIES)
    flat = torch.cat([data.points.flatten(), data.labels, data.weights])
    for place in range(16):
        ends = []
        for sign in (1, -1):
            moved = flat.clone()
            moved[place] += sign * step
            ends.append(logistic_path.path(Weighted(moved[:8].view(4, 2), moved[8:12], moved[12:]), PENALTIES))
        wanted = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(found[..., place], wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("free", [True, False])
def test_the_searchs_derivatives_are_those_of_its_residuals(free: bool) -> None:
    real = hard(8, 2)
    search = Search(real, PENALTIES, logistic_path.path(real, PENALTIES), free, 10)
    trail = logistic_path.Trail(search)
    start = search.freed(search.softened([0, 3, 5]))
    assert len(start) == 3 * (4 if free else 3)
    found, step = trail.derivatives(start), 1e-6
    for place in range(len(start)):
        ahead, behind = start.copy(), start.copy()
        ahead[place] += step
        behind[place] -= step
        wanted = (trail.residuals(ahead) - trail.residuals(behind)) / (2 * step)
        np.testing.assert_allclose(found[:, place], wanted, rtol=1e-4, atol=1e-6)


def test_a_weight_beyond_all_numbers_ends_a_search_without_an_error() -> None:
    """As a search over one point did, whose input went to -1049 and its weight to e^700."""
    points = normal(8, 1)
    real = Weighted.equal(points, (points[:, 0] > 0).double())
    search = Search(real, PENALTIES, logistic_path.path(real, PENALTIES), True, 5)
    far = np.array([-0.154592689, -1049.43829, -0.60604671, -1900.01798, 2.04397839, 700.51852])
    derivatives = logistic_path.Trail(search).derivatives(far)
    assert derivatives.shape == (len(PENALTIES), 6)
    assert bool(np.isfinite(derivatives).all())


def test_sets_become_free_numbers_and_sets_again() -> None:
    real = hard(8, 2)
    search = Search(real, PENALTIES, logistic_path.path(real, PENALTIES), True, 10)
    data = soft(3, 2)
    again = search.set(torch.from_numpy(search.freed(data)))
    torch.testing.assert_close((again.points, again.labels, again.weights), (data.points, data.labels, data.weights))


def test_all_examples_have_their_path_and_smaller_sets_come_nearer_the_larger_they_are() -> None:
    real = hard(6, 1)
    search = Search(real, PENALTIES, logistic_path.path(real, PENALTIES), True, 20)
    orders = [[5, 4, 3, 2, 1, 0]]
    before, distances = None, []
    for count in (1, 2, 3):
        before = search.best(count, orders, before)
        distances.append(search.distance(before))
        assert len(before.points) == count
        assert distances[-1] < min(search.distance(search.subset(order[:count])) for order in orders)
    assert search.distance(real) < 1e-12 < distances[2] < distances[1] < distances[0]
    assert distances[2] < 1e-2


def test_equal_weights_stay_equal() -> None:
    real = hard(6, 2)
    search = Search(real, PENALTIES, logistic_path.path(real, PENALTIES), False, 20)
    assert search.best(2, [[0, 1, 2]], None).weights.tolist() == [0.5, 0.5]


def test_one_point_is_exact_at_its_penalty_and_at_no_other() -> None:
    real = hard(10, 2)
    path = logistic_path.path(real, PENALTIES)
    for place, penalty in enumerate(PENALTIES.tolist()):
        one = logistic_path.one_point(path[place], penalty)
        assert one.labels.tolist() == pytest.approx([1.0])
        apart = logistic_path.distances(logistic_path.path(one, PENALTIES), path)
        assert float(apart[place]) < 1e-12
        assert float(apart.sort().values[1]) > 1e-6


def test_one_point_does_not_stand_for_its_examples_together_with_others() -> None:
    real, other, penalty = (
        hard(10, 2),
        Weighted.equal(normal(10, 2, seed=8), (normal(10, seed=9) > 0).double()),
        PENALTIES[[3]],
    )
    wanted = logistic_path.path(real.joined(other, 10), penalty)
    one = logistic_path.one_point(logistic_path.path(real, penalty)[0], float(penalty))
    found = logistic_path.path(one.joined(other, 10), penalty)
    assert float(logistic_path.distances(found, wanted)) > 0.1


def test_the_union_is_regression_on_all_examples() -> None:
    real, other = hard(6, 2), Weighted.equal(normal(3, 2, seed=8), row(0, 1, 0))
    both = Weighted.equal(torch.cat([real.points, other.points]), torch.cat([real.labels, other.labels]))
    joined = real.joined(other, 6)
    torch.testing.assert_close(joined.weights, both.weights)
    torch.testing.assert_close(logistic_path.path(joined, PENALTIES), logistic_path.path(both, PENALTIES))


def test_parts_are_cut_in_order_and_may_be_empty() -> None:
    data = hard(5, 2)
    torch.testing.assert_close(data.part(1, 3).points, data.points[1:3])
    assert len(data.part(5, 10).points) == 0


def test_a_point_and_its_negative_are_one_point() -> None:
    """log(1 + e^-eta) + eta = log(1 + e^eta): what Theorem 4 counts are points that differ up to their sign."""
    data = soft(5, 2)
    turned = Weighted(-data.points, 1 - data.labels, data.weights)
    torch.testing.assert_close(logistic_path.path(turned, PENALTIES), logistic_path.path(data, PENALTIES))
    pair = Weighted(
        torch.cat([data.points, -data.points[:1]]),
        torch.cat([data.labels, row(0.3)]),
        torch.cat([data.weights, row(0.4)]),
    )
    weight = data.weights[0] + 0.4
    label = (data.weights[0] * data.labels[0] + 0.4 * 0.7) / weight
    merged = Weighted(
        data.points, torch.cat([label[None], data.labels[1:]]), torch.cat([weight[None], data.weights[1:]])
    )
    torch.testing.assert_close(logistic_path.path(merged, PENALTIES), logistic_path.path(pair, PENALTIES))


def test_the_ridge_path_alone_can_be_that_of_fewer_points() -> None:
    """Distinct points in mirror symmetry: the path stays on the mirror, and one point there stands for two. Not in unions."""
    real = Weighted.equal(torch.stack([row(1, 2), row(1, -2), row(0.5, 1), row(0.5, -1)]), row(1, 1, 0, 0))
    few = Weighted.equal(torch.stack([row(1, 0), row(0.5, 0)]), row(1, 0))
    path = logistic_path.path(real, PENALTIES)
    assert float(path[:, 0].abs().min()) > 1e-3
    torch.testing.assert_close(logistic_path.path(few, PENALTIES), path, rtol=1e-12, atol=1e-15)
    other = Weighted.equal(torch.stack([row(0, 1)]), row(1))
    together = [logistic_path.path(data.joined(other, 4), PENALTIES) for data in (real, few)]
    assert float(logistic_path.distances(together[1], together[0]).max()) > 0.1


def test_the_ridge_path_alone_can_leave_points_out() -> None:
    """Even with a sum loss: what these two points pull cancels on the path, which is orthogonal to them."""
    few = Weighted(torch.stack([row(1, 2), row(1, -2)]), row(1, 1), torch.ones(2).double())
    more = Weighted(
        torch.cat([few.points, torch.stack([row(0, 3), row(0, -3)])]), torch.ones(4).double(), torch.ones(4).double()
    )
    torch.testing.assert_close(logistic_path.path(few, PENALTIES), logistic_path.path(more, PENALTIES))


@pytest.mark.parametrize(("count", "dim"), [(3, 1), (3, 2), (4, 2)])
def test_paths_of_nearly_all_data_tell_all_points(count: int, dim: int) -> None:
    """(n + 1) d numbers, points and mean label times point, move the path in as many directions: see the proposition."""
    data, penalties = hard(count, dim), torch.logspace(-4, 1, 41, dtype=torch.float64)
    found = logistic_path.sensitivities(data, logistic_path.path(data, penalties), penalties)
    moves, pulls = found[..., : count * dim], found[..., count * dim : count * (dim + 1)]
    # At fixed mean of label times point: moving x by dx takes label dx / n away, in directions that some labels pull in.
    back = torch.linalg.pinv(data.weights * data.points.T)  # labels that make a wanted change of the mean
    fixed = moves - torch.einsum("pln,nk->plk", pulls, torch.einsum("nd,dk->nk", back, _own(data)))
    both = torch.cat([fixed, torch.einsum("pln,nk->plk", pulls, back)], 2).flatten(0, 1)
    strengths = torch.linalg.svdvals(both / both.norm(dim=0))
    assert len(strengths) == (count + 1) * dim
    assert float(strengths[-1] / strengths[0]) > 1e-7


def _own(data: Weighted) -> torch.Tensor:
    """d (mean of label times point) / d points, (d, n d)."""
    scaled = data.weights * data.labels
    return torch.einsum("m,lk->lmk", scaled, torch.eye(data.points.shape[1]).double()).flatten(1)
