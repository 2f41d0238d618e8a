"""Every solver against another library, a closed form or the definition of a minimum."""

import itertools

import numpy as np
import pytest
from scipy import optimize
from sklearn.linear_model import Lasso, MultiTaskLasso
from statsmodels.regression.linear_model import OLS

from stillhouse.errors import NumericalError
from stillhouse.evaluation import penalised
from stillhouse.evaluation.penalised import LOOSE, REGULARISERS, TIGHT, Array

every_one = pytest.mark.parametrize("name", REGULARISERS)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.RandomState(seed).standard_normal(shape)


INPUTS = np.concatenate([np.ones((50, 1)), normal(50, 4, seed=1) @ np.diag([1.0, 2.0, 0.5, 1.0]) + 0.5], axis=1)
TARGETS = INPUTS @ np.array([[1.0, 2.0], [0.8, -1.0], [0.0, 0.3], [-1.5, 0.1], [0.05, 0.0]]) + normal(50, 2, seed=2)
# Columns of length 3 at right angles: every problem falls apart into those of single coefficients, LEAST by least squares.
ORTHOGONAL = 3 * np.linalg.qr(normal(50, 5, seed=3))[0]
LEAST = ORTHOGONAL.T @ TARGETS / 9


def solved(
    name: str, strength: float, inputs: Array = INPUTS, targets: Array = TARGETS, tolerance: float = TIGHT
) -> Array:
    return REGULARISERS[name].solve(inputs, targets, strength, tolerance)


@every_one
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_no_step_away_from_the_solution_lowers_the_objective(name: str, share: float) -> None:
    one = REGULARISERS[name]
    strength = share * one.unit(INPUTS, TARGETS)
    theta = solved(name, strength)
    assert theta.shape == (5, 2)
    least = one.objective(INPUTS, TARGETS, strength, theta)
    for seed, size in itertools.product(range(20), (1e-4, 1e-2, 1.0)):
        step = size * normal(5, 2, seed=seed)
        # also along the coefficients that are not zero, alone
        for direction in (step, step * (theta != 0)):
            assert one.objective(INPUTS, TARGETS, strength, theta + direction) >= least * (1 - 1e-12)


@every_one
def test_a_strength_is_one_problem_whatever_the_number_of_rows(name: str) -> None:
    """Every row twice is a loss of twice the size, and so is every row times sqrt(2)."""
    strength = 0.05 * REGULARISERS[name].unit(INPUTS, TARGETS)
    once = solved(name, strength)
    twice = solved(name, 2 * strength, np.concatenate([INPUTS, INPUTS]), np.concatenate([TARGETS, TARGETS]))
    longer = solved(name, 2 * strength, np.sqrt(2) * INPUTS, np.sqrt(2) * TARGETS)
    for other in (twice, longer):
        np.testing.assert_allclose(other, once, rtol=1e-9, atol=1e-9)


@every_one
def test_the_unit_of_strengths_is_where_little_is_left(name: str) -> None:
    one = REGULARISERS[name]
    strong, weak = (solved(name, share * one.unit(INPUTS, TARGETS)) for share in (1.001, 1e-4))
    assert np.square(strong).sum() < 0.6 * np.square(weak).sum() or name == "free_lasso"
    if name in ("lasso", "elastic_net", "group_lasso", "subset"):
        penalty_of_the_net = {"elastic_net": 2.0}.get(name, 1.0)  # half of it is not |theta|_1
        assert (solved(name, penalty_of_the_net * 1.001 * one.unit(INPUTS, TARGETS)) == 0).all()
        assert (solved(name, penalty_of_the_net * 0.99 * one.unit(INPUTS, TARGETS)) != 0).any() or name == "subset"


def test_ridge_is_its_closed_form() -> None:
    wanted = np.linalg.solve(INPUTS.T @ INPUTS + 3 * np.eye(5), INPUTS.T @ TARGETS)
    np.testing.assert_allclose(solved("ridge", 3.0), wanted, rtol=1e-10)


def test_the_lasso_shrinks_orthogonal_coefficients_by_half_the_strength() -> None:
    """9 (t - least)^2 + strength |t| is least at least - strength / 18."""
    wanted = np.sign(LEAST) * np.maximum(np.abs(LEAST) - 4.0 / 18, 0)
    assert (wanted == 0).any()
    np.testing.assert_allclose(solved("lasso", 4.0, ORTHOGONAL), wanted, atol=1e-12)


def test_the_elastic_net_shrinks_and_divides_them() -> None:
    """9 (t - least)^2 + strength (|t| / 2 + t^2 / 4)."""
    wanted = np.sign(LEAST) * np.maximum(np.abs(LEAST) - 2.0 / 36, 0) / (1 + 2.0 / 36)
    np.testing.assert_allclose(solved("elastic_net", 2.0, ORTHOGONAL), wanted, atol=1e-12)


def test_the_group_lasso_shrinks_rows() -> None:
    lengths = np.linalg.norm(LEAST, axis=1, keepdims=True)
    strength = 18 * float(np.sort(lengths[:, 0])[1])  # two of five rows vanish
    wanted = LEAST * np.maximum(1 - strength / 18 / lengths, 0)
    assert (wanted == 0).all(axis=1).sum() == 2
    np.testing.assert_allclose(solved("group_lasso", strength, ORTHOGONAL), wanted, atol=1e-10)


def test_the_best_subset_keeps_what_is_worth_its_price() -> None:
    price = 9 * float(np.median(np.square(LEAST)))
    wanted = np.where(9 * np.square(LEAST) > price, LEAST, 0)
    np.testing.assert_allclose(solved("subset", price, ORTHOGONAL), wanted, atol=1e-12)


def test_the_best_subset_beats_every_other() -> None:
    one, price = REGULARISERS["subset"], 2.0
    theta = solved("subset", price)
    for keep in itertools.product([False, True], repeat=5):
        other = np.zeros((5, 2))
        other[list(keep)] = np.linalg.pinv(INPUTS[:, keep]) @ TARGETS
        assert one.objective(INPUTS, TARGETS, price, theta) <= one.objective(INPUTS, TARGETS, price, other) + 1e-9


def test_huber_s_penalty_is_quadratic_near_zero_and_a_line_beyond() -> None:
    """For one orthogonal coefficient: 18 (t - least) + strength clip(t, -0.1, 0.1) = 0."""
    strength = 18.0
    inner = 18 * LEAST / (18 + strength)
    wanted = np.where(np.abs(inner) <= 0.1, inner, LEAST - np.sign(LEAST) * strength * 0.1 / 18)
    assert 0 < (np.abs(wanted) <= 0.1).sum() < 10
    np.testing.assert_allclose(solved("huber", strength, ORTHOGONAL), wanted, atol=1e-12)
    assert REGULARISERS["huber"].penalty(np.array([[0.1], [0.5]])) == pytest.approx(0.005 + 0.1 * (0.5 - 0.05))


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_a_lasso_with_a_free_intercept_is_that_of_statsmodels(strength: float) -> None:
    """Which takes a penalty for each coefficient; for a column of ones also what scikit-learn makes of `fit_intercept`."""
    mixed = normal(50, 50, seed=4) / 7 @ INPUTS  # no column of ones any more, as in a distilled set
    for inputs in (INPUTS, mixed):
        found = solved("free_lasso", strength, inputs)
        alpha = np.array([0.0, *[strength / 100] * 4])
        for column, theta in zip(TARGETS.T, found.T, strict=True):
            fitted = OLS(column, inputs).fit_regularized(
                "elastic_net", alpha, L1_wt=1.0, cnvrg_tol=1e-13, zero_tol=0, maxiter=10**5
            )
            np.testing.assert_allclose(theta, fitted.params, atol=1e-8)
    centred = Lasso(alpha=strength / 100, tol=1e-13, max_iter=10**6).fit(INPUTS[:, 1:], TARGETS)
    found = solved("free_lasso", strength)
    np.testing.assert_allclose(found[0], centred.intercept_, atol=1e-10)
    np.testing.assert_allclose(found[1:], centred.coef_.T, atol=1e-10)


def test_non_negative_ridge_is_bounded_least_squares() -> None:
    rows = np.concatenate([INPUTS, np.sqrt(2.0) * np.eye(5)])
    found = solved("non_negative", 2.0)
    assert (found >= 0).all()
    assert (found == 0).any()
    for column, theta in zip(TARGETS.T, found.T, strict=True):
        bounded = optimize.lsq_linear(
            rows, np.concatenate([column, np.zeros(5)]), bounds=(0, np.inf), method="bvls", tol=1e-14
        )
        np.testing.assert_allclose(theta, bounded.x, atol=1e-10)
    assert REGULARISERS["non_negative"].penalty(-found) == np.inf


def test_for_one_output_the_group_lasso_is_the_lasso_and_is_left_out() -> None:
    one = TARGETS[:, :1]
    same = MultiTaskLasso(alpha=0.03, fit_intercept=False, tol=1e-13, max_iter=10**6).fit(INPUTS, one).coef_.T
    np.testing.assert_allclose(solved("lasso", 3.0, INPUTS, one), same, atol=1e-10)
    assert not REGULARISERS["group_lasso"].applies(50, 5, 1)
    assert REGULARISERS["group_lasso"].applies(50, 5, 2)


def test_exhaustive_search_is_for_small_problems() -> None:
    applies = REGULARISERS["subset"].applies
    assert applies(1000, 10, 1)
    assert not applies(10**6, 10, 1)
    assert not applies(10, 785, 1)


@pytest.mark.parametrize("name", ["lasso", "elastic_net", "group_lasso", "free_lasso"])
def test_descent_that_does_not_end_fails_unless_little_was_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(penalised, "_STEPS", {TIGHT: 1, LOOSE: 1})
    with pytest.raises(NumericalError, match=r"(Lasso|ElasticNet)\(.* has not converged: .*Duality gap"):
        solved(name, 0.5)
    assert np.isfinite(solved(name, 0.5, tolerance=LOOSE)).all()


def test_a_minimum_that_is_none_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Start:
        x, message = np.zeros(5), "it did not move"

    monkeypatch.setattr(optimize, "minimize", lambda *given, **named: Start)
    monkeypatch.setattr(optimize, "root", lambda *given, **named: Start)
    with pytest.raises(
        NumericalError, match=r"Huber's penalty: the gradient is still 1.0e\+00 of that at 0: it did not move"
    ):
        solved("huber", 100.0)
