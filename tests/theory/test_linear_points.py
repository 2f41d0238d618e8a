"""Theorem 3 of Izzo and Zou (2023) and what is proven beyond it, against other libraries' solvers and closed forms."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from statsmodels.regression.linear_model import OLS

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.linalg import RidgePath
from stillhouse.theory import linear_points, points
from stillhouse.theory.linear_points import Examples, reduced


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dependent(rows: int, columns: int, rank: int) -> torch.Tensor:
    return normal(rows, rank, seed=1) @ normal(rank, columns, seed=2)


INPUTS = {
    "tall": normal(40, 6),
    "square": normal(6, 6),
    "fewer rows than columns": normal(4, 6),
    "dependent columns": dependent(40, 6, 3),
    "a column twice": normal(40, 6)[:, [0, 1, 2, 3, 4, 4]],
    "one row": normal(1, 6),
    "one column": normal(9, 1),
    "ill conditioned": normal(40, 6) * 10.0 ** -torch.arange(6),
}
RANKS = {"tall": 6, "square": 6, "fewer rows than columns": 4, "dependent columns": 3, "a column twice": 5, "one row": 1,
         "one column": 1, "ill conditioned": 6}  # fmt: skip
every_shape = pytest.mark.parametrize("name", INPUTS)


def data(name: str = "tall", outputs: int = 2) -> Examples:
    inputs = INPUTS[name]
    return Examples(inputs, normal(len(inputs), outputs, seed=3))


def ridge(examples: Examples, strength: float) -> torch.Tensor:
    """By scikit-learn."""
    model = Ridge(alpha=strength, fit_intercept=False, solver="svd")
    model.fit(examples.inputs.numpy(), examples.targets.numpy())
    return torch.from_numpy(np.atleast_2d(model.coef_)).T


def sparse(examples: Examples, strength: float, l1_ratio: float) -> torch.Tensor:
    """argmin |X theta - y|^2 + strength (l1_ratio |theta|_1 + (1 - l1_ratio) |theta|^2 / 2), by scikit-learn."""
    shared = {"alpha": strength / (2 * len(examples)), "fit_intercept": False, "tol": 1e-13, "max_iter": 1_000_000}
    model = Lasso(**shared) if l1_ratio == 1 else ElasticNet(l1_ratio=l1_ratio, **shared)
    model.fit(examples.inputs.numpy(), examples.targets[:, 0].numpy())
    return torch.from_numpy(model.coef_)[:, None]


@every_shape
def test_there_are_as_many_points_as_the_rank(name: str) -> None:
    assert len(reduced(data(name)).points) == RANKS[name] == np.linalg.matrix_rank(INPUTS[name].numpy())


@every_shape
@pytest.mark.parametrize("outputs", [1, 3])
def test_points_have_the_moments_of_the_data(name: str, outputs: int) -> None:
    whole = data(name, outputs)
    found = reduced(whole).points
    for part in ("inputs", "targets"):
        wanted = whole.inputs.T @ getattr(whole, part)
        torch.testing.assert_close(found.inputs.T @ getattr(found, part), wanted, rtol=1e-13, atol=1e-13)


@every_shape
def test_points_are_those_of_the_paper(name: str) -> None:
    """x_i = sigma_i v_i and y_i = theta_0^T x_i, theta_0 by LAPACK's least squares, with any part outside of the row space."""
    whole, rank = data(name), RANKS[name]
    found = reduced(whole).points
    _, values, right = np.linalg.svd(whole.inputs.numpy(), full_matrices=True)
    for i, point in enumerate(found.inputs.numpy()):
        paper = values[i] * right[i]
        np.testing.assert_allclose(point * np.sign(point @ paper), paper, atol=1e-9 * values[0])
    theta = np.linalg.lstsq(whole.inputs.numpy(), whole.targets.numpy(), rcond=1e-12)[0]
    outside = right[rank:].T @ np.ones((right.shape[1] - rank, theta.shape[1]))
    np.testing.assert_allclose(found.targets, found.inputs.numpy() @ (theta + outside), atol=1e-10)


@every_shape
def test_the_loss_differs_from_that_of_the_data_by_the_same_number_everywhere(name: str) -> None:
    whole = data(name)
    made = reduced(whole)
    for seed in range(5):
        theta = normal(whole.inputs.shape[1], 2, seed=seed) * 10.0**seed
        constant = float(made.remainder.square().sum())
        assert made.points.loss(theta) + constant == pytest.approx(whole.loss(theta), rel=1e-12)
        torch.testing.assert_close(made.points.gradient(theta), whole.gradient(theta), rtol=1e-9, atol=1e-9)


@every_shape
def test_as_many_more_points_as_outputs_have_the_very_loss(name: str) -> None:
    whole = data(name)
    complete = reduced(whole).complete
    assert len(complete) <= RANKS[name] + 2
    assert complete.targets.square().sum() == pytest.approx(float(whole.targets.square().sum()))
    theta = normal(whole.inputs.shape[1], 2, seed=5)
    assert complete.loss(theta) == pytest.approx(whole.loss(theta), rel=1e-12)


def test_what_is_left_over_is_the_noise_that_least_squares_finds() -> None:
    whole = data(outputs=1)
    fitted = OLS(whole.targets[:, 0].numpy(), whole.inputs.numpy()).fit()
    assert float(reduced(whole).remainder.square().sum()) == pytest.approx(fitted.ssr)


def test_gradient_descent_takes_the_same_steps() -> None:
    """So what stops early, has momentum or starts elsewhere is the same too."""
    whole = data()
    ends = []
    for examples in (whole, reduced(whole).points):
        theta, speed = normal(6, 2, seed=9), torch.zeros(6, 2, dtype=torch.float64)
        for _ in range(7):
            speed = 0.9 * speed - 0.002 * examples.gradient(theta)
            theta = theta + speed
        ends.append(theta)
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-12, atol=1e-12)


@every_shape
@pytest.mark.parametrize("strength", [1e-2, 1.0, 100.0])
def test_ridge_and_elastic_net_learn_the_same_alone_and_united(name: str, strength: float) -> None:
    whole, other = data(name, 1), Examples(normal(7, INPUTS[name].shape[1], seed=6) + 2, normal(7, 1, seed=7) ** 3)
    few = reduced(whole).points
    for one, same in ((whole, few), (whole + other, few + other), (whole + whole, few + whole)):
        assert linalg.relative_error(ridge(same, strength), ridge(one, strength)) < 1e-9
        found, wanted = (sparse(each, strength, 0.3) for each in (same, one))
        assert float((found - wanted).norm()) < 1e-9 * max(1.0, float(wanted.norm()))


def test_weights_on_examples_are_rows_of_another_length() -> None:
    whole = data()
    torch.testing.assert_close(ridge(whole.counted(3.0), 3.0), ridge(whole, 1.0))
    assert whole.counted(2.0).loss(normal(6, 2)) == pytest.approx((whole + whole).loss(normal(6, 2)))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_no_fewer_points_carry_every_centre_and_the_longest_come_nearest(count: int) -> None:
    """theta for ridge |theta - a|^2 moves with a by ridge (G + ridge I)^-1: the worst a, over all sets of so many points."""
    whole, strength = data(), 2.0
    found = reduced(whole).points

    def moved(examples: Examples) -> torch.Tensor:
        gram = examples.inputs.T @ examples.inputs
        inverse: torch.Tensor = torch.linalg.inv(gram + strength * torch.eye(6, dtype=torch.float64))
        return strength * inverse

    def deviation(examples: Examples) -> float:
        return float(torch.linalg.matrix_norm(moved(examples) - moved(whole), 2))

    least = linear_points.least_deviation(found[count:], strength)
    assert least > 0.5
    assert deviation(found[:count]) == pytest.approx(least)
    for seed in range(50):
        assert deviation(data()[torch.randperm(40, generator=rng(seed))[:count]].counted(40 / count)) > least
        assert deviation(Examples(normal(count, 6, seed=seed) * 6, normal(count, 2))) > least
    assert linear_points.least_deviation(found[6:], strength) == 0


def test_ridge_alone_may_need_fewer() -> None:
    """Columns of equal length at right angles: one point has X^T Y, and G X^T Y, of all the data; but not the lasso's theta."""
    inputs = torch.linalg.qr(normal(40, 6)).Q * 3
    whole = Examples(inputs, normal(40, 1, seed=3))
    cross = whole.inputs.T @ whole.targets
    one = Examples(3 * cross.T / cross.norm(), cross.norm()[None, None] / 3)
    for strength in (1e-3, 1.0, 100.0):
        assert linalg.relative_error(ridge(one, strength), ridge(whole, strength)) < 1e-12
    assert linalg.relative_error(sparse(one, 1.0, 1.0), sparse(whole, 1.0, 1.0)) > 0.1


@pytest.mark.parametrize("count", [7, 12, 100])
def test_more_points_are_mixtures_with_the_same_moments(count: int) -> None:
    whole = data()
    made = linear_points.resized(reduced(whole).points, count, rng())
    assert len(made) == count
    assert float(made.inputs.norm(dim=1).min()) > 0
    torch.testing.assert_close(made.inputs.T @ made.inputs, whole.inputs.T @ whole.inputs)
    torch.testing.assert_close(made.inputs.T @ made.targets, whole.inputs.T @ whole.targets)
    assert not torch.equal(made.inputs, linear_points.resized(reduced(whole).points, count, rng(1)).inputs)


def test_as_many_or_fewer_are_the_longest_as_they_are() -> None:
    whole = reduced(data()).points
    lengths = whole.inputs.norm(dim=1)
    assert torch.equal(lengths, lengths.sort(descending=True).values)
    for count in (1, 4, 6):
        assert torch.equal(linear_points.resized(whole, count, rng()).inputs, whole.inputs[:count])


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("strength", [1e-3, 1.0, 1e3])
def test_what_fewer_points_cost_ridge_regression_is_known_exactly(count: int, strength: float) -> None:
    whole = data()
    found = reduced(whole).points
    cost = float((ridge(found[:count], strength) - ridge(whole, strength)).norm())
    assert linear_points.ridge_gap(found[count:], strength) == pytest.approx(cost, abs=1e-12)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("strength", [0.1, 10.0, 1000.0])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.3, 0.9])
def test_what_fewer_points_cost_any_convex_regulariser_is_bounded(count: int, strength: float, l1_ratio: float) -> None:
    whole = data("ill conditioned", 1)
    found = reduced(whole).points
    # R = strength (l1_ratio |theta|_1 + (1 - l1_ratio) |theta|^2 / 2)
    modulus = strength * (1 - l1_ratio)
    theta, few = (
        sparse(one, strength, l1_ratio) if l1_ratio > 0 else ridge(one, strength / 2) for one in (whole, found[:count])
    )
    cost, tail = float((few - theta).norm()), found[count:]
    slack = 1e-9
    assert cost <= linear_points.convex_bound(tail, few, modulus) + slack
    assert cost <= linear_points.slope(found, count) / modulus + slack
    # The objective at what is learned from fewer points is above its least by no more than the loss on those left out.
    objectives = [
        whole.loss(each) + strength * float(l1_ratio * each.abs().sum() + (1 - l1_ratio) * each.square().sum() / 2)
        for each in (few, theta)
    ]
    assert -slack <= objectives[0] - objectives[1] <= tail.loss(few) - tail.loss(theta) + slack


def test_the_bound_for_convex_regularisers_is_tight_for_a_strong_and_for_a_fitting_ridge() -> None:
    """One direction left out: |theta| = sigma y / (sigma^2 + ridge) there, at most min(sigma / ridge, 1 / (2 sqrt(ridge))) y."""
    found = reduced(data(outputs=1)).points
    square = float(found.inputs[5:].square().sum())
    for strength, share in ((1e6 * square, 1.0), (square, 1.0), (10 * square, 0.9)):
        bound = linear_points.convex_bound(found[5:], ridge(found[:5], strength), 2 * strength)
        assert share * 0.999 < linear_points.ridge_gap(found[5:], strength) / bound <= 1 + 1e-9


def test_moments_give_the_same_points_as_the_rows() -> None:
    whole = data("dependent columns")
    path = RidgePath.of_moments(whole.inputs.T @ whole.inputs, whole.inputs.T @ whole.targets)
    found, wanted = linear_points.from_moments(path, len(whole)), reduced(whole).points
    assert len(found) == 3
    signs = (found.inputs * wanted.inputs).sum(1, keepdim=True).sign()
    torch.testing.assert_close(found.inputs * signs, wanted.inputs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.targets * signs, wanted.targets, rtol=1e-9, atol=1e-9)


def test_a_direction_whose_eigenvalue_is_lost_in_rounding_keeps_its_targets() -> None:
    """Columns that agree to 1e-9, far from what their difference is to explain: X^T X cannot see it, and X^T Y can."""
    inputs = normal(50, 4)
    difference = normal(50, 1, seed=5)
    whole = Examples(torch.cat([inputs, inputs[:, :1] + 1e-9 * difference], 1), 1e6 * difference)
    path = RidgePath.of_moments(whole.inputs.T @ whole.inputs, whole.inputs.T @ whole.targets)
    assert path.rank() == 4
    found = linear_points.from_moments(path, len(whole))
    assert len(found) == 5
    wanted = path.weights(1e-3)
    assert linalg.relative_error(RidgePath.by_singular_values(found.inputs, found.targets).weights(1e-3), wanted) < 1e-9
    without = Examples(*points.points_of_path(path))
    assert (
        linalg.relative_error(RidgePath.by_singular_values(without.inputs, without.targets).weights(1e-3), wanted)
        > 1e-8
    )


@every_shape
def test_the_ridge_path_of_few_examples_is_that_of_scikit_learn(name: str) -> None:
    few = data(name)
    path = RidgePath.by_singular_values(few.inputs, few.targets)
    for strength in (1e-6, 1e-2, 1.0, 1e3):
        assert linalg.relative_error(path.weights(strength), ridge(few, strength)) < 1e-8


def test_a_stream_of_single_examples_stays_exact() -> None:
    whole = Examples(normal(400, 6) + 1, normal(400, 2, seed=3))
    kept = whole[:0]
    for i in range(len(whole)):
        kept = reduced(kept + whole[i : i + 1]).points
        assert len(kept) <= 6
    assert linalg.relative_error(ridge(kept, 0.1), ridge(whole, 0.1)) < 1e-12


def test_no_examples_have_no_points() -> None:
    nothing = Examples(torch.zeros(5, 3, dtype=torch.float64), normal(5, 2))
    made = reduced(nothing)
    assert len(made.points) == 0
    assert made.complete.loss(normal(3, 2)) == pytest.approx(nothing.loss(normal(3, 2)))
    assert len(reduced(nothing[:0]).points) == 0


def test_entries_that_are_no_numbers_are_counted() -> None:
    inputs, targets = normal(5, 3), normal(5, 2)
    inputs[3, 2], targets[0, 0] = math.nan, math.inf
    with pytest.raises(NumericalError, match="2 entries of the examples"):
        reduced(Examples(inputs, targets))
