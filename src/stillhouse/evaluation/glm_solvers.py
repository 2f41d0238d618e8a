"""Generalised linear models with canonical link by solvers that are not ours: scikit-learn, statsmodels, scipy, and gradient
descent in a few lines. They minimise

    (1/n) sum_i [b(eta_i) - y_i . eta_i] + penalty |theta|^2,     eta = X theta,   X (n, d), Y (n, c), theta (d, c),

c = 1 but for softmax. An intercept, where there is one, is the last row of theta and not penalised.

The formulas of the families stand here a second time, so that a slip in `theory.glm` is not checked by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit, logsumexp, softmax
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from statsmodels.genmod import families
from statsmodels.genmod.generalized_linear_model import GLM

from stillhouse.errors import NumericalError

Array = np.ndarray[Any, np.dtype[np.float64]]

_TIGHT = 1e-14  # tolerance that solvers are asked for; rounding ends most of them before
_ITERATIONS = 20_000
_POLISHED = (
    10  # steps of Newton's method after L-BFGS, whose line search ends where a loss's rounding hides what it gains
)
_ENDED = 1e-6  # slope over that at the start, above which scipy is said to have failed


@dataclass(frozen=True)
class Fit:
    """theta (d, c), an intercept as its last row where there is one, and who found it."""

    theta: Array
    solver: str


@dataclass(frozen=True)
class _Formulas:
    """b (n,), its gradient (n, c), its second derivative (n, 1) where c = 1, of eta (n, c), and statsmodels' name and sign."""

    b: Callable[[Array], Array]
    mean: Callable[[Array], Array]
    curvature: Callable[[Array], Array]
    family: Callable[[], Any] | None = None
    sign: int = 1


def _column(values: Array) -> Array:
    return np.asarray(values[:, 0])


_FORMULAS = {
    "linear": _Formulas(lambda e: _column(e**2 / 2), lambda e: e, np.ones_like, families.Gaussian),
    "logistic": _Formulas(
        lambda e: _column(np.logaddexp(0, e)), expit, lambda e: expit(e) * expit(-e), families.Binomial
    ),
    "poisson": _Formulas(lambda e: _column(np.exp(e)), np.exp, np.exp, families.Poisson),
    # statsmodels has the mean 1 / eta with eta > 0: its parameters are the negatives of ours.
    "gamma": _Formulas(
        lambda e: _column(-np.log(-e)), lambda e: -1 / e, lambda e: 1 / e**2,
        lambda: families.Gamma(families.links.InversePower()), -1,
    ),
    "softmax": _Formulas(lambda e: logsumexp(e, axis=1), lambda e: softmax(e, axis=1), np.zeros_like),
}  # fmt: skip


def penalised(family: str, rows: Array, labels: Array, penalty: float, intercept: bool = False) -> Fit:
    """The only minimum for penalty > 0: scikit-learn where it has the family with this link, else scipy.

    Labels between classes are two examples with weights. Raises NumericalError where a solver does not end at a minimum.
    """
    if family == "linear":
        model: Any = Ridge(alpha=2 * penalty * len(rows), fit_intercept=intercept, solver="svd")
        return _fitted(model.fit(rows, labels[:, 0]), intercept, "scikit-learn Ridge")
    if family == "poisson" and bool((labels >= 0).all()):
        model = PoissonRegressor(alpha=2 * penalty, fit_intercept=intercept, solver="newton-cholesky", tol=_TIGHT,
                                 max_iter=_ITERATIONS)  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the line search ends where rounding hides what a step gains
            model.fit(rows, labels[:, 0])
        return _fitted(model, intercept, "scikit-learn PoissonRegressor")
    if family in ("logistic", "softmax") and bool(((labels >= 0) & (labels <= 1)).all()):
        return _classifier(family, rows, labels, penalty, intercept)
    if family == "softmax":
        columns, penalties = _columns(rows, penalty, intercept)
        return _by_lbfgs(family, columns, labels, penalties, np.zeros((columns.shape[1], labels.shape[1])))
    return _by_scipy(family, rows, labels, penalty, intercept)


def unpenalised(family: str, rows: Array, labels: Array, start: Array) -> Fit:
    """A minimum without a penalty, where there is one (c = 1), by scipy's Newton method in a trust region."""
    return _by_scipy(family, rows, labels, 0.0, False, start)


def within_span(family: str, rows: Array, labels: Array, start: Array, step: float) -> list[Fit]:
    """What solvers find from `start` (d, c) whose iterates differ from it by combinations of the rows alone: gradient descent
    with this step size, L-BFGS with conjugate gradients, and iteratively reweighted least squares with a pseudo-inverse, which
    starts in the span by itself.

    L-BFGS is left out for gamma, whose domain its line search leaves; reweighted least squares for softmax.
    """
    found = [gradient_descent(family, rows, labels, start, step, _ITERATIONS)]
    if family != "gamma":
        found.append(_by_lbfgs(family, rows, labels, 0.0, start))
    formulas = _FORMULAS[family]
    if formulas.family is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one example does not determine d parameters is what is shown
            made = GLM(labels[:, 0], rows, family=formulas.family()).fit(tol=_TIGHT, scale=1.0)
        found.append(Fit(formulas.sign * np.asarray(made.params)[:, None], "statsmodels IRLS"))
    return found


def gradient_descent(family: str, rows: Array, labels: Array, start: Array, step: float, steps: int) -> Fit:
    """theta <- theta - step (1/n) sum (g^-1(eta_i) - y_i) x_i, so many times or until rounding ends it."""
    theta, before = start, np.inf
    for _ in range(steps):
        slope = rows.T @ (_FORMULAS[family].mean(rows @ theta) - labels) / len(rows)
        size = float(np.abs(slope).max())
        if size == 0 or (size >= before and size < _TIGHT):
            break
        theta, before = theta - step * slope, size
    return Fit(theta, "gradient descent")


def newton(family: str, rows: Array, labels: Array, start: Array, steps: int = 20) -> Array:
    """Newton's method without a pseudo-inverse, c = 1, so many steps. Raises numpy.linalg.LinAlgError for a singular system."""
    theta = start
    for _ in range(steps):
        eta = rows @ theta
        slope = rows.T @ (_FORMULAS[family].mean(eta) - labels)
        theta = theta - np.linalg.solve(rows.T @ (_FORMULAS[family].curvature(eta) * rows), slope)
    return theta


def slope(family: str, rows: Array, labels: Array, theta: Array, penalty: float) -> float:
    """The largest entry of the gradient of what is minimised, without an intercept."""
    return float(np.abs(_loss(family, rows, labels, theta, penalty)[1]).max())


def _classifier(family: str, rows: Array, labels: Array, penalty: float, intercept: bool) -> Fit:
    if family == "softmax" and labels.shape[1] == 2:
        # scikit-learn has the one column w of theta = (-w/2, w/2), |theta|^2 = |w|^2 / 2.
        found = _classifier("logistic", rows, labels[:, 1:], penalty / 2, intercept)
        return Fit(np.hstack([-found.theta, found.theta]) / 2, found.solver)
    shares = np.hstack([1 - labels, labels]) if family == "logistic" else labels
    which, classes = np.nonzero(shares)
    missing = np.setdiff1d(np.arange(shares.shape[1]), classes)  # scikit-learn asks for an example: one of no weight
    classes, which = np.append(classes, missing), np.append(which, np.zeros_like(missing))
    solver = "newton-cholesky" if family == "logistic" else "newton-cg"
    model = LogisticRegression(
        C=1 / (2 * penalty * len(rows)), fit_intercept=intercept, tol=_TIGHT, solver=solver, max_iter=_ITERATIONS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the line search ends where rounding hides what a step gains
        model.fit(rows[which], classes, sample_weight=shares[which, classes])
    theta = model.coef_.T
    if intercept:
        theta = np.vstack([theta, model.intercept_])
    return Fit(theta, "scikit-learn LogisticRegression")


def _fitted(model: Any, intercept: bool, name: str) -> Fit:
    theta = np.append(model.coef_, model.intercept_) if intercept else model.coef_
    return Fit(theta[:, None], name)


def _loss(family: str, rows: Array, labels: Array, theta: Array, penalty: Array | float) -> tuple[float, Array]:
    """The objective, infinite outside of the domain, and its gradient (d c,); a penalty, or one for each row of theta (d, 1)."""
    formulas, eta = _FORMULAS[family], rows @ theta
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float((formulas.b(eta) - (labels * eta).sum(1)).mean() + (penalty * theta**2).sum())
        gradient = rows.T @ (formulas.mean(eta) - labels) / len(rows) + 2 * penalty * theta
    return value if np.isfinite(value) else np.inf, gradient.ravel()


def _by_lbfgs(family: str, rows: Array, labels: Array, penalty: Array | float, start: Array) -> Fit:
    """L-BFGS, then steps of Newton's method by conjugate gradients, which stay in the span of the rows; any c."""

    def loss(theta: Array) -> tuple[float, Array]:
        return _loss(family, rows, labels, theta.reshape(start.shape), penalty)

    objective: Any = loss
    tight: Any = {"ftol": 0.0, "gtol": _TIGHT, "maxiter": _ITERATIONS, "maxfun": _ITERATIONS}
    found = optimize.minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=tight).x
    for _ in range(_POLISHED):
        curved: Any = LinearOperator((start.size, start.size), matvec=_curve(family, rows, found, start.shape, penalty))
        moved = found - cg(curved, loss(found)[1], rtol=1e-6)[0]
        if np.abs(loss(moved)[1]).max() >= np.abs(loss(found)[1]).max():
            break
        found = moved
    return Fit(found.reshape(start.shape), "scipy L-BFGS, CG")


def _curve(
    family: str, rows: Array, theta: Array, shape: tuple[int, ...], penalty: Array | float
) -> Callable[[Array], Array]:
    """The second derivative at theta (d c,) times a step (d c,)."""
    eta = rows @ theta.reshape(shape)
    if family == "softmax":
        p = softmax(eta, axis=1)

        def times(step: Array) -> Array:
            return np.asarray(p * step - p * (p * step).sum(1, keepdims=True))
    else:
        curvature = _FORMULAS[family].curvature(eta)

        def times(step: Array) -> Array:
            return np.asarray(curvature * step)

    def whole(step: Array) -> Array:
        own = step.reshape(shape)
        return np.asarray(rows.T @ times(rows @ own) / len(rows) + 2 * penalty * own).ravel()

    return whole


def _by_scipy(
    family: str, rows: Array, labels: Array, penalty: float, intercept: bool, start: Array | None = None
) -> Fit:
    """Newton's method in a trust region; for a penalty then Powell's hybrid method for the zero of the gradient; c = 1."""
    columns, penalties = _columns(rows, penalty, intercept)
    curvature = _FORMULAS[family].curvature

    def loss(theta: Array) -> tuple[float, Array]:
        return _loss(family, columns, labels, theta[:, None], penalties)

    def hessian(theta: Array) -> Array:
        return np.asarray(
            columns.T @ (curvature(columns @ theta[:, None]) * columns) / len(rows) + 2 * np.diag(penalties[:, 0])
        )

    begin = _start(family, columns, labels) if start is None else start[:, 0]
    objective: Any = loss
    found = optimize.minimize(
        objective, begin, jac=True, hess=hessian, method="trust-exact", options={"gtol": _TIGHT}
    ).x
    name = "scipy trust-exact"
    if penalty > 0:
        gradient: Any = lambda theta: loss(theta)[1]  # noqa: E731
        found = optimize.root(gradient, found, jac=hessian, options={"xtol": _TIGHT}).x
        name = "scipy trust-exact, hybr"
    left = float(np.abs(loss(found)[1]).max() / max(np.abs(loss(begin)[1]).max(), np.finfo(float).tiny))
    if not left < _ENDED:
        raise NumericalError(f"{name}, {family}: the slope is still {left:.3g} of that at the start")
    return Fit(found[:, None], name)


def _columns(rows: Array, penalty: float, intercept: bool) -> tuple[Array, Array]:
    """X with a column of ones after it for an intercept, and the penalty of each row of theta (d, 1)."""
    columns = np.hstack([rows, np.ones_like(rows[:, :1])]) if intercept else rows
    penalties = np.full((columns.shape[1], 1), penalty)
    if intercept:
        penalties[-1] = 0.0
    return columns, penalties


def _start(family: str, columns: Array, labels: Array) -> Array:
    """Parameters within the domain: 0, or for gamma those whose linear predictors are nearest to -1 over the mean label."""
    if family != "gamma":
        return np.zeros(columns.shape[1])
    wanted = np.full(len(columns), -1 / labels.mean())
    found = np.linalg.lstsq(columns, wanted, rcond=None)[0]
    if not bool((columns @ found < 0).all()):
        raise NumericalError("gamma: no linear predictor was found that is negative for all examples")
    return np.asarray(found)
