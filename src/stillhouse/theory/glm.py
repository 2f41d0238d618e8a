"""Points that give a generalised linear model with canonical link its parameters back: Izzo, Zou (2023), Theorem 1, and what we
derive for ridge penalties, several points, several columns and intercepts. Statements and proofs: docs/theory/glm.md.

Examples are rows: X (m, d), Y (m, c), theta (d, c), linear predictors eta = X theta (m, c). The negative log likelihood of an
example is b(eta) - y . eta for a convex b, its mean is g^-1(eta) = grad b(eta), and what is trained is

    L(theta) = (1/m) sum_i [b(eta_i) - y_i . eta_i] + penalty |theta|^2.

theta minimises L if and only if Y = g^-1(X theta) + 2 penalty m B for some B (m, c) with X^T B = theta: such B are called
coefficients. A sum instead of the mean has the factor 1 instead of m; a penalty written penalty/2 |theta|^2 has half of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.optimize import brentq
from scipy.special import lambertw

from stillhouse import linalg
from stillhouse.errors import NumericalError

# theta's columns lie in the row space of the points up to this, relatively.
_SPANNED = 1e-10
# What rounding may do to a label at the end of its range.
_ROUNDING = 1e-12
_GOLDEN = (math.sqrt(5) - 1) / 2
_SECTIONS = 60  # golden sections of the logarithm of a scale: to 1e-12 of the interval
_WIDEST = math.log(1e3)  # half of that interval, around the scale that makes linear predictors 1


class Family(Protocol):
    """b of a generalised linear model with canonical link. Linear predictors `eta`, labels and steps are (m, c)."""

    @property
    def curvature(self) -> float:
        """The largest eigenvalue that b's second derivative has anywhere; infinite where there is none."""

    def potential(self, eta: torch.Tensor) -> torch.Tensor:
        """b(eta) (m,); infinite outside of its domain."""

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """g^-1(eta), the gradient of b."""

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """g(mean): the linear predictor of a mean; softmax: that with sum 0."""

    def curve(self, eta: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """b's second derivative times a step."""

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """The diagonal of b's second derivative."""

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """(m,) whether labels are what the mean of examples can be, up to rounding."""

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """max over eta of (y - g^-1(eta)) . eta (m,), of labels that are valid."""


class _Separate:
    """b is a sum over columns, of `_b`, whose derivatives are `mean` and `diagonal`."""

    def potential(self, eta: torch.Tensor) -> torch.Tensor:
        return self._b(eta).sum(1)

    def curve(self, eta: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        return self.diagonal(eta) * step

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(labels), dtype=torch.bool, device=labels.device)

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(_Separate):
    """Gaussian: b = eta^2 / 2, so the loss is (eta - y)^2 / 2 but for y^2 / 2."""

    curvature = 1.0

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        return eta.square() / 2

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """eta."""
        return eta

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """The mean itself."""
        return mean

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """1."""
        return torch.ones_like(eta)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """y^2 / 4, at eta = y / 2."""
        return labels.square().sum(1) / 4


@dataclass(frozen=True)
class Logistic(_Separate):
    """Bernoulli: b = log(1 + e^eta), labels in [0, 1]."""

    curvature = 0.25

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(eta)

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """1 / (1 + e^-eta)."""
        return torch.sigmoid(eta)

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """log y / (1 - y)."""
        return torch.logit(mean)

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """p (1 - p)."""
        return torch.sigmoid(eta) * torch.sigmoid(-eta)

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """Each in [0, 1]."""
        return ((labels >= -_ROUNDING) & (labels <= 1 + _ROUNDING)).all(1)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """max u / (1 + e^u) for hard labels. Linear in y for each eta, so no larger for others: this bound is told for those."""
        return torch.full_like(labels, simplex_reach(2)).sum(1)


@dataclass(frozen=True)
class Poisson(_Separate):
    """b = e^eta, labels from 0; counts, as data are."""

    curvature = math.inf

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        return eta.exp()

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """e^eta."""
        return eta.exp()

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """log y."""
        return mean.log()

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """e^eta."""
        return eta.exp()

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """Each 0 or more."""
        return (labels >= 0).all(1)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """e^eta eta^2 at (1 + eta) e^eta = y."""
        given: Any = (math.e * labels).cpu().numpy()
        eta = torch.from_numpy(lambertw(given).real).to(labels) - 1
        return (eta.exp() * eta.square()).sum(1)


@dataclass(frozen=True)
class Gamma(_Separate):
    """b = -log(-eta) for eta < 0, mean -1/eta, labels above 0; the shape is a factor of the loss and left out."""

    curvature = math.inf

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        return torch.where(eta < 0, -eta.clamp(max=0).neg().log(), torch.inf)

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """-1 / eta."""
        return -1 / eta

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """-1 / y."""
        return -1 / mean

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """1 / eta^2."""
        return eta.square().reciprocal()

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """Each above 0."""
        return (labels > 0).all(1)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """1: (y + 1/eta) eta = 1 + y eta, for eta to 0."""
        return torch.ones_like(labels).sum(1)


@dataclass(frozen=True)
class InverseGaussian(_Separate):
    """b = -sqrt(-2 eta) for eta < 0, mean 1 / sqrt(-2 eta), labels above 0."""

    curvature = math.inf

    def _b(self, eta: torch.Tensor) -> torch.Tensor:
        return torch.where(eta < 0, -(-2 * eta.clamp(max=0)).sqrt(), torch.inf)

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """(-2 eta)^-1/2."""
        return (-2 * eta).rsqrt()

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """-1 / (2 y^2)."""
        return -1 / (2 * mean.square())

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """(-2 eta)^-3/2."""
        return (-2 * eta).pow(-1.5)

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """Each above 0."""
        return (labels > 0).all(1)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """1 / (8 y), at a mean of 2 y."""
        return (8 * labels).reciprocal().sum(1)


@dataclass(frozen=True)
class Softmax:
    """Classes: b = log sum_k e^eta_k, labels in the simplex. b does not change when a constant is added to a row of eta."""

    curvature = 0.5

    def potential(self, eta: torch.Tensor) -> torch.Tensor:
        """log sum e^eta."""
        return eta.logsumexp(1)

    def mean(self, eta: torch.Tensor) -> torch.Tensor:
        """p = softmax(eta)."""
        return eta.softmax(1)

    def link(self, mean: torch.Tensor) -> torch.Tensor:
        """log p less its mean."""
        return mean.log() - mean.log().mean(1, keepdim=True)

    def curve(self, eta: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """(diag(p) - p p^T) step."""
        weighted = eta.softmax(1) * step
        return weighted - eta.softmax(1) * weighted.sum(1, keepdim=True)

    def diagonal(self, eta: torch.Tensor) -> torch.Tensor:
        """p (1 - p)."""
        p = eta.softmax(1)
        return p * (1 - p)

    def valid(self, labels: torch.Tensor) -> torch.Tensor:
        """Entries of 0 or more, rows that sum to 1."""
        return (labels >= -_ROUNDING).all(1) & ((labels.sum(1) - 1).abs() <= _ROUNDING)

    def reach(self, labels: torch.Tensor) -> torch.Tensor:
        """That of hard labels, as for `Logistic`."""
        return torch.full_like(labels[:, 0], simplex_reach(labels.shape[1]))


FAMILIES: dict[str, Family] = {
    "linear": Linear(),
    "logistic": Logistic(),
    "poisson": Poisson(),
    "gamma": Gamma(),
    "inverse_gaussian": InverseGaussian(),
    "softmax": Softmax(),
}
# Those whose linear predictor must be negative.
NEGATIVE = ("gamma", "inverse_gaussian")


def simplex_reach(classes: int) -> float:
    """W((c - 1) / e), W Lambert's function: the largest (y - p) . eta of c classes; 0.278465 for two or a logistic model."""
    return float(lambertw((classes - 1) / math.e).real)


def slope(
    family: Family, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, penalty: torch.Tensor | float
) -> torch.Tensor:
    """The gradient of L, (d, c): mean (g^-1(eta_i) - y_i) x_i + 2 penalty theta. `penalty`: a number, or (d, 1), one for each row
    of the weights.
    """
    return rows.T @ (family.mean(rows @ weights) - labels) / len(rows) + 2 * penalty * weights


def fewest(weights: torch.Tensor, intercept: bool = False) -> int:
    """The least number of points that give weights (d, c) back: their rank, and one more beside an unpenalised intercept."""
    rank = linalg.rank(weights)
    return rank + int(intercept and rank > 0)


def coefficients(rows: torch.Tensor, weights: torch.Tensor, intercept: bool = False) -> torch.Tensor:
    """B (m, c) of least norm with X^T B = theta for given points X (m, d); with an unpenalised intercept also 1^T B = 0.

    Raises NumericalError where there is none: theta's columns are not in the row space of the points (of the points less their
    mean).
    """
    spread = rows - rows.mean(0) if intercept else rows
    found = linalg.pseudo_inverse(spread).value.T @ weights
    missed = float((spread.T @ found - weights).norm() / weights.norm())
    if not missed <= _SPANNED:
        centred = ", less their mean," if intercept else ""
        raise NumericalError(
            f"{len(rows)} points do not span the weights: {missed:.3g} of their norm lies outside of the row space of the points"
            f"{centred} and weights of rank {linalg.rank(weights)} need at least {fewest(weights, intercept)} points"
        )
    return found


def directions(count: int, columns: int, classes: bool, intercept: bool = False) -> torch.Tensor:
    """V (m, c), coefficients to start from, up to a scale: rows in turn of e_k - 1/c for classes; of e_k for values, and with an
    intercept of e_1, ..., e_k and minus their sum, less the mean of all m rows.
    """
    eye = torch.eye(columns, dtype=torch.float64)
    turns = eye - 1 / columns if classes else torch.cat([eye, -eye.sum(0, keepdim=True)]) if intercept else eye
    found = turns.repeat(-(-count // len(turns)), 1)[:count]
    return found - found.mean(0) if intercept else found


def points(weights: torch.Tensor, coefficients: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """X (m, d) with X^T B = theta for given coefficients B (m, c): those nearest to `free` (m, d), Z + B^+^T (theta^T - B^T Z).

    Raises NumericalError where there are none: theta's rows are not in the row space of B.
    """
    inverse = linalg.pseudo_inverse(coefficients)
    missed = float((weights @ inverse.value @ coefficients - weights).norm() / weights.norm())
    if not missed <= _SPANNED:
        raise NumericalError(
            f"{len(coefficients)} points with coefficients of rank {inverse.rank} cannot give back weights of rank "
            f"{linalg.rank(weights)}: {missed:.3g} of their norm is left"
        )
    return free + inverse.value.T @ (weights.T - coefficients.T @ free)


def labels(
    family: Family, eta: torch.Tensor, coefficients: torch.Tensor, penalty: float, summed: bool = False
) -> torch.Tensor:
    """Y (m, c) = g^-1(eta) + 2 penalty m B: theta minimises L on the points with linear predictors eta (m, c).

    `summed`: for the sum of losses instead of their mean, m is left out. penalty 0: the predictions.
    """
    return family.mean(eta) + 2 * penalty * (1 if summed else len(eta)) * coefficients


def point(family: Family, theta: torch.Tensor, scale: float, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    """x = a theta (1, d) and y = g^-1(a s) + 2 penalty / a (1, 1), s = |theta|^2, for theta (d,) and the scale a.

    Raises NumericalError for theta = 0, and for an a s outside of b's domain: gamma and inverse Gaussian need a < 0.
    """
    square = float(theta.square().sum())
    if square == 0 or scale == 0:
        raise NumericalError(
            "weights of 0, or a scale of 0: no point is needed for the first, none helps for the second"
        )
    eta = torch.full((1, 1), scale * square, dtype=theta.dtype, device=theta.device)
    if not bool(family.potential(eta).isfinite().all()):
        raise NumericalError(
            f"{type(family).__name__}: a point of scale {scale:.6g} has the linear predictor {float(eta):.6g}, outside of the "
            "domain; take a negative scale"
        )
    inverse = torch.full_like(eta, 1 / scale)
    return (scale * theta)[None], labels(family, eta, inverse, penalty)


def step_bound(family: Family, x: torch.Tensor, y: float, start: float) -> float:
    """Below it every step size of gradient descent on one example x (d,), y converges: 2 / (b''_max |x|^2).

    b''_max is that of all linear predictors whose loss is not above that of the `start`, which no step leaves. Where b'' has no
    bound it grows with eta, as for Poisson, gamma and inverse Gaussian. Raises NumericalError where that set of linear predictors
    reaches the end of the domain.
    """
    steepest = family.curvature
    if math.isinf(steepest):
        steepest = _number(family.diagonal, _farthest(family, y, start))
    return 2 / (steepest * float(x.square().sum()))


def scales(family: Family, square: float, penalty: float, label: float) -> tuple[float, ...]:
    """All a for which x = a theta has this label, s = |theta|^2 `square`, for a penalty above 0.

    With u = a s and k = 2 penalty s: g^-1(u) + k / u = y.

    Any label for linear, Poisson (0 or more) and gamma (above 0) models; 0 or 1, the hard ones, for a logistic one, whose closed
    form is u - k = -W(-k e^k). Raises NumericalError, with the bound, where there is no such a.
    """
    bound = 2 * penalty * square
    found: tuple[float, ...]
    if isinstance(family, Linear):
        found = _linear(bound, label)
    elif isinstance(family, Logistic):
        found = _hard(bound, label)
    elif isinstance(family, Poisson):
        found = _counted(bound, label) if label > 0 else _uncounted(bound)
    elif isinstance(family, Gamma) and label > 0 and bound < 1:
        found = ((bound - 1) / label,)
    else:
        raise NumericalError(
            f"{type(family).__name__}: no point has the label {label:g} for 2 penalty |theta|^2 {bound:.6g}"
        )
    return tuple(u / square for u in found)


def least_count(square: float, penalty: float) -> float:
    """The least label of x = a theta, a > 0, of a Poisson model: e^u (1 + u) at u = 2 W(sqrt(2 penalty s) / 2)."""
    u = _least(2 * penalty * square)
    return math.exp(u) * (1 + u)


def largest_penalty(means: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """(m,) the largest penalty for which the labels of points with means g^-1(eta) and coefficients B (m, c) are 0 or more: the
    least g^-1(eta)_j / (2 m |B_j|) over B_j < 0. Labels of classes, which sum to 1, are then in the simplex.
    """
    bounds = means / (2 * len(means) * coefficients.abs())
    return torch.where(coefficients < 0, bounds, torch.inf).amin(1)


def roomiest(eta: torch.Tensor, coefficients: torch.Tensor, together: bool = False) -> torch.Tensor:
    """Scales t (m,) for which the labels of classes stay in the simplex up to the largest penalty, for points t_i x_i with
    coefficients B_i / t_i, where x_i theta = eta (m, c) and B (m, c).

    The largest penalty of a point, t_i times the least softmax_j(t_i eta_i) / (2 m |B_ij|) over B_ij < 0, is log-concave in t_i,
    so a golden section finds its maximum. `together`: one scale for all points, so that columns of B_i / t_i sum to what those of
    B sum to, as an unpenalised intercept needs.
    """
    wanted = torch.where(coefficients < 0, coefficients.abs(), 0).log()  # -inf, and so no condition, for B_ij >= 0

    def slack(steps: torch.Tensor) -> torch.Tensor:
        margins = steps[:, None] + (steps.exp()[:, None] * eta).log_softmax(1) - wanted
        least = margins.amin(1)
        return least.min().expand_as(least) if together else least

    spread = (eta - eta.mean(1, keepdim=True)).abs().amax(1).clamp(min=torch.finfo(eta.dtype).tiny)
    middle = -(spread.max().expand_as(spread) if together else spread).log()
    low, high = middle - _WIDEST, middle + _WIDEST
    for _ in range(_SECTIONS):
        one, other = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        better = slack(one) > slack(other)
        low, high = torch.where(better, low, one), torch.where(better, other, high)
    return ((low + high) / 2).exp()


def _linear(bound: float, label: float) -> tuple[float, float]:
    """u + k / u = y."""
    inside = label**2 - 4 * bound
    if inside < 0:
        raise NumericalError(
            f"the label {label:g} is too small: one point has labels of {2 * math.sqrt(bound):.6g} or more"
        )
    larger = (label + math.copysign(math.sqrt(inside), label)) / 2
    return bound / larger, larger


def _hard(bound: float, label: float) -> tuple[float, float]:
    """u sigma(-u) = k for the label 1; its negatives for 0."""
    if bound > simplex_reach(2) or label not in (0, 1):
        raise NumericalError(
            f"2 penalty |theta|^2 is {bound:.6g}, and the label {label:g}: a point has a hard label, 0 or 1, up to "
            f"{simplex_reach(2):.6g}"
        )
    low, high = (bound - float(lambertw(-bound * math.exp(bound), branch).real) for branch in (0, -1))
    return (low, high) if label == 1 else (-low, -high)


def _counted(bound: float, label: float) -> tuple[float, float]:
    """e^u + k / u = y for u > 0: infinite at both ends, so two roots above its minimum."""
    lowest = _least(bound)
    least = math.exp(lowest) * (1 + lowest)
    if label < least * (1 - _ROUNDING):
        raise NumericalError(f"the label {label:g} is too small: one point has labels of {least:.6g} or more")

    def excess(u: float) -> float:
        return math.exp(u) + bound / u - label

    if excess(lowest) >= 0:  # the label is the least, up to rounding
        return lowest, lowest
    # At k / y and at log y the label is larger than y, by what the other term adds.
    low = float(brentq(excess, bound / label, lowest, xtol=1e-300, rtol=1e-15))
    return low, float(brentq(excess, lowest, math.log(label) + _ROUNDING, rtol=1e-15))


def _uncounted(bound: float) -> tuple[float, float]:
    """e^u + k / u = 0 for u < 0."""
    if bound > 1 / math.e:
        raise NumericalError(f"2 penalty |theta|^2 is {bound:.6g}, above 1/e: no point has the label 0")
    low, high = (float(lambertw(-bound, branch).real) for branch in (0, -1))
    return low, high


def _least(bound: float) -> float:
    return 2 * float(lambertw(math.sqrt(bound) / 2).real)


def _farthest(family: Family, y: float, start: float) -> float:
    """The largest linear predictor whose loss b(eta) - y eta is not above that of the start."""
    lowest = _number(family.link, y)
    if start >= lowest:
        return start

    def excess(eta: float) -> float:
        return _number(family.potential, eta) - _number(family.potential, start) - y * (eta - start)

    unbounded = math.isfinite(_number(family.potential, 0.0))
    ends = (lowest + (lowest - start) * 2.0**i if unbounded else lowest * 0.5 ** (i + 1) for i in range(60))
    beyond = next((eta for eta in ends if excess(eta) > 0), None)
    if beyond is None:
        raise NumericalError(
            f"gradient descent from eta = {start:.6g} may leave the domain; start nearer to {lowest:.6g}"
        )
    return float(brentq(excess, lowest, beyond))


def _number(function: Callable[[torch.Tensor], torch.Tensor], value: float) -> float:
    return float(function(torch.full((1, 1), value, dtype=torch.float64)))
