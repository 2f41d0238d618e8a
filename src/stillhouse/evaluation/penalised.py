"""Penalised linear regression by solvers that are not ours: argmin_theta |X theta - Y|^2 + strength R(theta).

X (n, p) holds a column of ones first, Y (n, k), theta (p, k); the loss is a sum, not a mean. scikit-learn divides it by 2 n, so
that one `alpha` is another problem for a set of another size: it is strength / (2 n) here, so that a strength is one problem for
every n. No solver centres or scales: the column of ones is a feature like others, and of a distilled set it is no column of ones.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Lasso, MultiTaskLasso, Ridge

from stillhouse.errors import NumericalError

Array = np.ndarray[Any, np.dtype[np.float64]]

# Of coordinate descent: as tight as the rounding of a duality gap allows, so that what differs between two sets is the sets; and
# what some thousand steps give, for sets of a few random examples, which may be so ill conditioned that it would not end.
TIGHT, LOOSE = 1e-13, 1e-5
_STEPS = {TIGHT: 1_000_000, LOOSE: 20_000}
# Where Huber's function, t^2 / 2 near 0, goes on as a line.
_KNEE = 0.1
# Of a smooth objective's gradient, relative to that at 0: what is left where the minimum is found.
_SLOPE = 1e-9
_TINY = np.finfo(np.float64).tiny
# Columns, and rows times subsets of columns, that exhaustive search may take.
_COLUMNS, _EXHAUSTIVE = 10, 10_000_000


@dataclass(frozen=True)
class Regulariser:
    """R, and who solves for it.

    formula  R(theta) in words of the formula
    solver   library and algorithm
    unique   whether the minimiser is unique for every X: R is strictly convex. For an X of full rank the others' is too, but
             for ties of `subset`
    penalty  R(theta) of theta (p, k)
    unit     of strengths, from X and Y: where R starts to matter as much as the data
    solve    theta (p, k) from X, Y, the strength, and TIGHT or LOOSE
    applies  whether it is there for n rows, p columns and k outputs
    """

    formula: str
    solver: str
    unique: bool
    penalty: Callable[[Array], float]
    unit: Callable[[Array, Array], float]
    solve: Callable[[Array, Array, float, float], Array]
    applies: Callable[[int, int, int], bool] = lambda n, p, k: True

    def objective(self, inputs: Array, targets: Array, strength: float, theta: Array) -> float:
        """|X theta - Y|^2 + strength R(theta)."""
        return float(np.square(inputs @ theta - targets).sum()) + strength * self.penalty(theta)


def _mean_square(inputs: Array, targets: Array) -> float:
    """Mean diagonal entry of X^T X."""
    return float(np.square(inputs).sum() / inputs.shape[1])


def _slope(inputs: Array, targets: Array) -> float:
    """2 max |X^T Y|: the strength from which the lasso's theta is 0."""
    return 2 * float(np.abs(inputs.T @ targets).max())


def _row_slope(inputs: Array, targets: Array) -> float:
    """The same of the lasso whose groups are rows of theta."""
    return 2 * float(np.linalg.norm(inputs.T @ targets, axis=1).max())


def _total(inputs: Array, targets: Array) -> float:
    """|Y|^2: the strength from which no column is worth its price."""
    return float(np.square(targets).sum())


def _ridge(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    found = Ridge(alpha=strength, fit_intercept=False, solver="cholesky").fit(inputs, targets)
    return _columns(found.coef_, targets)


def _lasso(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    return _descended(Lasso(**_descent(inputs, strength, tolerance)), inputs, targets)


def _elastic_net(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    """l1_ratio 1/2: scikit-learn's penalty is alpha (|theta|_1 / 2 + |theta|^2 / 4)."""
    return _descended(ElasticNet(l1_ratio=0.5, **_descent(inputs, strength, tolerance)), inputs, targets)


def _group_lasso(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    return _descended(MultiTaskLasso(**_descent(inputs, strength, tolerance)), inputs, targets)


def _descent(inputs: Array, strength: float, tolerance: float) -> dict[str, Any]:
    return {
        "alpha": strength / (2 * len(inputs)),
        "fit_intercept": False,
        "tol": tolerance,
        "max_iter": _STEPS[tolerance],
    }


def _descended(model: Any, inputs: Array, targets: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("error" if model.tol == TIGHT else "ignore", ConvergenceWarning)
        try:
            return _columns(model.fit(np.asfortranarray(inputs), np.asfortranarray(targets)).coef_, targets)
        except ConvergenceWarning as problem:
            raise NumericalError(f"{' '.join(f'{model} has not converged: {problem}'.split())}") from None


def _columns(coefficients: Any, targets: Array) -> Array:
    """scikit-learn's (k, p) or (p,) as (p, k)."""
    found: Array = np.asarray(coefficients, dtype=np.float64).reshape(targets.shape[1], -1).T
    return found


def _free_lasso(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    """The first coefficient has no penalty: it is least squares on what the others leave (Frisch, Waugh, Lovell), and they are
    the lasso's on what the first column cannot explain. For a column of ones this is centring.
    """
    first, others = inputs[:, :1], inputs[:, 1:]

    def explained(values: Array) -> Array:
        part: Array = first.T @ values / np.square(first).sum()
        return part

    rest = _lasso(others - first @ explained(others), targets - first @ explained(targets), strength, tolerance)
    return np.concatenate([explained(targets - others @ rest), rest])


def _non_negative(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    """Lawson and Hanson's active sets, which end with the solution. Rows sqrt(strength) I with targets 0 are the penalty."""
    features = inputs.shape[1]
    rows = np.concatenate([inputs, np.sqrt(strength) * np.eye(features)])
    return _each(lambda column: optimize.nnls(rows, np.concatenate([column, np.zeros(features)]))[0], targets)


def _huber(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    """A trust region's minimum, and from there the root of the gradient: the digits that rounding of the objective hides."""
    curvature = 2 * inputs.T @ inputs

    def solve(column: Array) -> Any:
        def gradient(theta: Array) -> Array:
            slope: Array = 2 * inputs.T @ (inputs @ theta - column) + strength * np.clip(theta, -_KNEE, _KNEE)
            return slope

        def hessian(theta: Array) -> Array:
            bent: Array = curvature + strength * np.diag((np.abs(theta) <= _KNEE).astype(np.float64))
            return bent

        def value(theta: Array) -> float:
            return float(np.square(inputs @ theta - column).sum()) + strength * _huber_function(theta)

        def height(theta: Array) -> float:
            return float(np.linalg.norm(gradient(theta)))

        start = np.zeros(inputs.shape[1])
        scale = max(height(start), _TINY)
        options: Any = {"gtol": 1e-12 * scale, "maxiter": 500}
        near = optimize.minimize(value, start, jac=gradient, hess=hessian, method="trust-exact", options=options)
        end = optimize.root(gradient, near.x, jac=hessian, method="hybr", options={"xtol": 1e-15})
        theta: Array = min(near.x, end.x, key=height)
        left = height(theta) / scale
        if not left < _SLOPE:  # either may say that it cannot go on because it is there
            raise NumericalError(f"Huber's penalty: the gradient is still {left:.1e} of that at 0: {near.message}")
        return theta

    return _each(solve, targets)


def _huber_function(theta: Array) -> float:
    size = np.abs(theta)
    return float(np.where(size <= _KNEE, theta**2 / 2, _KNEE * (size - _KNEE / 2)).sum())


def _subset(inputs: Array, targets: Array, strength: float, tolerance: float) -> Array:
    """Least squares on every subset of the columns, by LAPACK; the cheapest."""

    def solve(column: Array) -> Array:
        best, least = np.zeros(inputs.shape[1]), float(column @ column)
        for chosen in _subsets(inputs.shape[1]):
            part = np.linalg.lstsq(inputs[:, chosen], column, rcond=None)[0]
            cost = float(np.square(inputs[:, chosen] @ part - column).sum()) + strength * len(chosen)
            if cost < least:
                best, least = np.zeros(inputs.shape[1]), cost
                best[chosen] = part
        return best

    return _each(solve, targets)


def _subsets(count: int) -> Iterator[list[int]]:
    """All of so many columns but the empty one."""
    for size in range(1, count + 1):
        yield from map(list, itertools.combinations(range(count), size))


def _each(solve: Callable[[Array], Any], targets: Array) -> Array:
    """Outputs that share nothing, one after the other: (p, k)."""
    return np.stack([solve(column) for column in targets.T], axis=1)


REGULARISERS: Mapping[str, Regulariser] = {
    "ridge": Regulariser(
        "‖θ‖²", "scikit-learn, Cholesky", True, lambda theta: float(np.square(theta).sum()), _mean_square, _ridge
    ),
    "lasso": Regulariser(
        "‖θ‖₁", "scikit-learn, coordinate descent", False, lambda theta: float(np.abs(theta).sum()), _slope, _lasso
    ),
    "elastic_net": Regulariser(
        "‖θ‖₁/2 + ‖θ‖²/4", "scikit-learn, coordinate descent", True,
        lambda theta: float(np.abs(theta).sum() / 2 + np.square(theta).sum() / 4), _slope, _elastic_net,
    ),
    "free_lasso": Regulariser(
        "‖θ‖₁, intercept free", "scikit-learn, coordinate descent", False,
        lambda theta: float(np.abs(theta[1:]).sum()), _slope, _free_lasso,
    ),
    "non_negative": Regulariser(
        "‖θ‖², 0 ≤ θ", "SciPy, active sets", True,
        lambda theta: float(np.square(theta).sum()) if (theta >= 0).all() else np.inf, _mean_square, _non_negative,
    ),
    "huber": Regulariser("Huber's function of θ", "SciPy, trust region and root", False, _huber_function, _slope, _huber),
    "group_lasso": Regulariser(
        "lengths of θ's rows", "scikit-learn, coordinate descent", False,
        lambda theta: float(np.linalg.norm(theta, axis=1).sum()), _row_slope, _group_lasso, lambda n, p, k: k > 1,
    ),
    "subset": Regulariser(
        "‖θ‖₀", "NumPy, all subsets", False, lambda theta: float(np.count_nonzero(theta)), _total, _subset,
        lambda n, p, k: p <= _COLUMNS and n * 2**p <= _EXHAUSTIVE,
    ),
}  # fmt: skip
