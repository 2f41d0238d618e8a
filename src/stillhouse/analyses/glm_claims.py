"""One point for a generalised linear model, measured: every statement of docs/theory/glm.md on real data, with parameters of
real examples and of points both found by solvers that are not ours (`evaluation.glm_solvers`).

A row is one family, regulariser and kind of label: what is claimed, the distance of the parameters that the points give to
those that the real examples give, where it says that it cannot hold the distance there, and a verdict that follows. Which
families a data set has follows from it: classes have logistic regression of the second class against the first, and softmax
regression of all; values have linear, Poisson (rounded, from 0) and gamma regression (above 0) of their first column.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from stillhouse import linalg
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import glm_solvers
from stillhouse.evaluation.glm_solvers import Array, Fit
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.theory import glm

# Exact means below this, relatively, in float64; a failure that the theory predicts is far above it.
_EXACT, _FAR = 1e-8, 1e-3

HOLDS, CORRECTED, FAILS = "holds", "holds with correction", "FAILS"

TEST = "tests/theory/test_glm.py"

# What u = a |theta|^2 is where nothing else decides: of logistic regression, where labels have most room.
_PREDICTOR = {"linear": 1.0, "logistic": 1 + glm.simplex_reach(2), "poisson": 1.0, "gamma": -1.0}
_CURVE = 81  # scales of the curves of labels
_TOLD = 4.0  # linear predictor up to which a label without penalty is asked for: twice it is, too
_STEPS = 20_000  # of gradient descent on one point, at most


@dataclass(frozen=True)
class Params:
    """Sizes and penalty."""

    examples: Annotated[int, Field(ge=10, description="training examples used for one column, from the first")] = 4000
    examples_softmax: Annotated[int, Field(ge=10, description="training examples used for all classes")] = 1000
    penalty: Annotated[
        float,
        Field(
            gt=0,
            description="lambda of lambda |theta|^2 beside the mean loss, over the curvature b'' at the mean label (linear: 1)",
        ),
    ] = 0.01
    steps: Annotated[
        int,
        Field(
            ge=1,
            description="of gradient descent that stand for the minimum of logistic regression, which may have none",
        ),
    ] = 200


@dataclass(frozen=True)
class Claim:
    """One row: what is claimed, of what, and what was measured.

    regulariser  none, ridge, or ridge without the intercept
    labels       soft, hard, chosen or count
    examples     n of the real data, `features` d of them, `points` m
    norm         |theta|^2; `measured` is 2 penalty |theta|^2 and `bound` what it cannot pass (0 without a penalty)
    scale        a of x = a theta, label: of the points, least and largest; valid: whether examples can have them
    error        largest entry of |theta_S - theta|, `relative` |theta_S - theta|_F / |theta|_F: the worst of all solvers
    miss         the relative distance where the statement says that it cannot be exact, or nan
    """

    family: str
    claim: str
    statement: str
    regulariser: str
    labels: str
    examples: int
    features: int
    points: int
    penalty: float
    norm: float
    measured: float
    bound: float
    scale: float
    label_from: float
    label_to: float
    valid: bool
    error: float
    relative: float
    miss: float
    solver_real: str
    solvers: str
    verdict: str
    finding: str
    test: str = TEST
    part: str = "claim"


@dataclass(frozen=True, eq=False)
class Case:
    """One family on real data: X (n, d), Y (n, c), whether X's last column is 1, and the penalty."""

    family: str
    rows: Array
    labels: Array
    constant: bool
    penalty: float
    steps: int
    run: Run

    @property
    def model(self) -> glm.Family:
        """The family."""
        return glm.FAMILIES[self.family]

    @property
    def varying(self) -> Array:
        """X without its constant column."""
        return self.rows[:, :-1] if self.constant else self.rows

    @property
    def bound(self) -> float:
        """What 2 penalty |theta|^2 cannot pass: the mean of what each label allows."""
        return float(self.model.reach(_torch(self.labels)).mean())

    @functools.cached_property
    def plain(self) -> Fit:
        """theta without a penalty; of logistic regression what some steps of gradient descent reach."""
        zero = np.zeros((self.rows.shape[1], 1))
        if self.family == "logistic":
            step = 1 / (self.model.curvature * float(np.linalg.norm(self.rows, 2)) ** 2 / len(self.rows))
            return glm_solvers.gradient_descent(self.family, self.rows, self.labels, zero, step, self.steps)
        if self.family == "gamma":
            zero[-1] = -1 / self.labels.mean()
        return glm_solvers.unpenalised(self.family, self.rows, self.labels, zero)

    @functools.cached_property
    def ridge(self) -> Fit:
        """theta of the mean loss with the penalty."""
        return _centred(glm_solvers.penalised(self.family, self.rows, self.labels, self.penalty))

    @functools.cached_property
    def with_intercept(self) -> Fit:
        """The same of X without its constant column, and an intercept that is not penalised."""
        return _centred(glm_solvers.penalised(self.family, self.varying, self.labels, self.penalty, intercept=True))


@dataclass(frozen=True)
class Learned:
    """What points (m, d) with labels (m, c) give: worst distances to theta over solvers, and who they were."""

    labels: Array
    error: float
    relative: float
    solvers: str

    @classmethod
    def of(cls, fits: list[Fit], wanted: Array, labels: Array) -> Learned:
        """From what each solver found."""
        error = max(float(np.abs(fit.theta - wanted).max()) for fit in fits)
        return cls(
            labels, error, max(_distance(fit.theta, wanted) for fit in fits), ", ".join(fit.solver for fit in fits)
        )


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """One row per claim of each family; then, for classes, labels of one point against its scale (part "curve")."""
    for case in _cases(real, params, run):
        yield from (vars(claim) for claim in (_softmax(case) if case.family == "softmax" else _columns(case)))
        if case.family == "logistic":
            yield from _curves(case)


def pictures(real: RealSet, params: Params, run: Run) -> dict[str, torch.Tensor]:
    """The points themselves with a ridge penalty, by family, (m, channels, h, w): of logistic regression that of the label 1, of
    values without the constant's coordinate; a table's values are one line of an image each.
    """
    shape = real.shape if len(real.shape) == 3 else (1, 1, real.dim)
    found = {}
    for case in _cases(real, params, run):
        if case.family == "softmax":
            made = _class_points(case)[0]
        elif case.family == "logistic":
            made = max(glm.scales(case.model, _square(case.ridge), case.penalty, 1)) * _torch(case.ridge.theta).T
        else:
            made = _PREDICTOR[case.family] / _square(case.ridge) * _torch(case.ridge.theta).T
        found[case.family] = made[:, : real.dim].reshape(-1, *shape).to(torch.float32)
    return found


# --- Data -------------------------------------------------------------------------------------------------------------------


def _cases(real: RealSet, params: Params, run: Run) -> Iterator[Case]:
    if not real.regression:
        if real.n_classes < 2:
            raise UserError(f"{real.name}: two classes are needed, found {real.n_classes}. Choose another data set.")
        pair = torch.nonzero(real.train.targets < 2).flatten()[: params.examples]
        labels = real.train.targets[pair].to(torch.float64)[:, None]
        yield _case("logistic", _images(real, pair), labels, params, run)
        every = torch.arange(min(params.examples_softmax, len(real.train)))
        yield _case("softmax", _images(real, every), real.target_rows(real.train.targets[every]), params, run)
        return
    count = min(params.examples, len(real.train))
    space = whitening.fit(whitening.Standardised(), real)
    features = space.forward(pixels(real.train.inputs[:count]).to(torch.float64)).flatten(1).numpy()
    rows = np.hstack([features, np.ones((count, 1))])
    values = real.train.targets[:count, :1].to(torch.float64)
    yield _case("linear", rows, values, params, run)
    if float(values.min()) > -0.5:
        yield _case("poisson", rows, values.round().clamp(min=0), params, run)
    if float(values.min()) > 0:
        yield _case("gamma", rows, values, params, run)


def _case(family: str, rows: Array, labels: torch.Tensor, params: Params, run: Run) -> Case:
    model = glm.FAMILIES[family]
    curvature = float(model.diagonal(model.link(labels.mean(0, keepdim=True))).mean())
    constant = family not in ("logistic", "softmax")
    return Case(family, rows, labels.numpy(), constant, params.penalty * curvature, params.steps, run)


def _images(real: RealSet, index: torch.Tensor) -> Array:
    return pixels(real.train.inputs[index]).to(torch.float64).flatten(1).numpy()


# --- One column -------------------------------------------------------------------------------------------------------------


def _columns(case: Case) -> Iterator[Claim]:
    yield _theorem_1(case)
    yield _other_scales(case)
    yield _one_point(case)
    yield _chosen_label(case)
    if case.constant:
        yield _constant(case)
    yield _two_points(case)
    if case.family == "logistic":
        yield _summed(case)


def _theorem_1(case: Case) -> Claim:
    negative, theta, scale = case.family == "gamma", case.plain.theta, _moderate(case)
    x, learned = _unpenalised(case, scale)
    # What of the start is orthogonal to x stays for ever.
    drawn = torch.randn(theta.shape, generator=case.run.generator("start"), dtype=torch.float64).numpy()
    across = (drawn - x.T @ (x @ drawn) / (x @ x.T)) * np.abs(theta).mean()
    start, step = _start(case, x, learned.labels), _step(case, x, learned.labels)
    moved = glm_solvers.gradient_descent(case.family, x, learned.labels, start + across, step, _STEPS).theta
    finding = [
        f"must miss: a start outside of the span of x, which ends at θ plus its part orthogonal to x (to "
        f"{_distance(moved - across, theta):.0e})",
        f"Newton's method without a pseudo-inverse: {_newton(case, x, learned.labels, start)}",
    ]
    if case.family == "logistic":
        finding.append(f"θ is where {case.steps} steps of gradient descent end, as a minimum may not exist")
    if negative:
        finding.append(
            "a < 0 and a start in the span of x with a negative linear predictor: 0 is outside of the domain"
        )
    if abs(scale) < 1:
        finding.append(
            f"at a = {scale:.3g}: for a = 1 the linear predictor is {_square(case.plain):.3g}, which costs the label digits"
        )
    return _claim(
        case, "Theorem 1", "x = θ, y = b'(‖θ‖²): methods whose steps lie in the span of the gradients find θ from 0", "none",
        "soft", case.plain, learned, scale, miss=_distance(moved, theta), finding="; ".join(finding),
        otherwise=CORRECTED if negative else HOLDS,
    )  # fmt: skip


def _other_scales(case: Case) -> Claim:
    scales = [part * _moderate(case) for part in (0.5, 2.0)]
    found = [_unpenalised(case, scale)[1] for scale in scales]
    worst = max(found, key=lambda each: each.relative)
    refused = scales[0] > 0 or _refuses(lambda: glm.point(case.model, _torch(case.plain.theta)[:, 0], 1.0, 0.0))
    finding = f"a = {scales[0]:.3g} and {scales[1]:.3g}" + ("; a > 0 is outside of the domain" if scales[0] < 0 else "")
    return _claim(
        case, "any scale", "x = aθ, y = b'(a‖θ‖²)", "none", "soft", case.plain,
        replace(worst, labels=np.concatenate([each.labels for each in found])), scales[1], finding=finding,
        otherwise=HOLDS if refused else FAILS,
    )  # fmt: skip


def _one_point(case: Case) -> Claim:
    scale = _PREDICTOR[case.family] / _square(case.ridge)
    x, learned = _penalised(case, scale)
    bare = glm_solvers.penalised(case.family, x, _mean(case, x @ case.ridge.theta), case.penalty)
    sign = math.copysign(1.0, scale)
    _, own = glm.point(case.model, _torch(case.ridge.theta)[:, 0], sign, case.penalty)
    return _claim(
        case, "one point, ridge", "x = aθ, y = b'(a‖θ‖²) + 2λ/a, from any start", "ridge", "soft", case.ridge, learned, scale,
        miss=_distance(bare.theta, case.ridge.theta),
        finding=f"must miss: y without 2λ/a; x = {'−' if sign < 0 else ''}θ would ask for y = {float(own):.4g}",
    )  # fmt: skip


def _chosen_label(case: Case) -> Claim:
    square = _square(case.ridge)
    kind, label, condition = {
        "linear": ("chosen", 1 + 2 * math.sqrt(2 * case.penalty * square), "y² ≥ 8λ‖θ‖²"),
        "logistic": ("hard", 1.0, "y = 0 or 1, for 2λ‖θ‖² ≤ W(1/e), which always holds"),
        "poisson": (
            "count",
            math.ceil(glm.least_count(square, case.penalty)),
            "y ≥ (1 + u) exp u for u = 2W(√(2λ)‖θ‖/2)",
        ),
        "gamma": ("chosen", float(case.labels.mean()), "y > 0, for 2λ‖θ‖² < 1, which always holds"),
    }[case.family]
    scales = glm.scales(case.model, square, case.penalty, label)
    worst = max((_penalised(case, scale)[1] for scale in scales), key=lambda each: each.relative)
    off = float(np.abs(worst.labels - label).max())
    return _claim(
        case, "one point, its label chosen", f"some scale a gives the label y: {condition}", "ridge", kind, case.ridge,
        worst, max(scales, key=abs), otherwise=HOLDS if off < _EXACT * max(1, abs(label)) else FAILS,
        finding=f"y = {label:.4g} at a = {' and '.join(f'{scale:.4g}' for scale in scales)}",
    )  # fmt: skip


def _constant(case: Case) -> Claim:
    """The last coordinate of theta, beta, is that of the constant feature."""
    scale = 1 / float(case.ridge.theta[-1, 0])
    x, learned = _penalised(case, scale)
    return _claim(
        case, "one point with a constant 1", "a penalised column of ones: x = θ/θ_0 ends in 1, for θ_0 other than 0", "ridge",
        "soft", case.ridge, learned, scale, finding=f"the last coordinate of x is 1 to {abs(float(x[0, -1]) - 1):.0e}",
    )  # fmt: skip


def _two_points(case: Case) -> Claim:
    """z +- a theta, whose residuals cancel; for logistic regression with hard labels, by z^T theta = -beta."""
    theta, beta = _torch(case.with_intercept.theta[:-1]), float(case.with_intercept.theta[-1, 0])
    square, hard = float(theta.square().sum()), case.family == "logistic"
    scale = (abs(beta) / 2 if case.family == "gamma" else 1.0) / square
    centre = torch.zeros_like(theta.T)
    if hard:
        scale, centre = max(glm.scales(case.model, square, case.penalty, 1)), -beta / square * theta.T
    coefficients = torch.tensor([[0.5], [-0.5]], dtype=torch.float64) / scale
    x = glm.points(theta, coefficients, centre.repeat(2, 1))
    labels = glm.labels(case.model, x @ theta + beta, coefficients, case.penalty).numpy()
    off = float(np.abs(labels - [[1.0], [0.0]]).max()) if hard else 0.0
    fit = glm_solvers.penalised(
        case.family, x.numpy(), labels.clip(0, 1) if hard else labels, case.penalty, intercept=True
    )
    alone = glm_solvers.penalised(
        case.family, x[:1].numpy(), _mean(case, np.full((1, 1), beta)), case.penalty, intercept=True
    )
    return _claim(
        case, "two points, free intercept", "without penalty on the intercept rank θ + 1 points: z ± aθ, labels ± 2λ/a off means",
        "ridge, free intercept", "hard" if hard else "soft", replace(case.with_intercept, theta=theta.numpy()),
        Learned.of([fit], case.with_intercept.theta, labels), scale, points=2, miss=_distance(alone.theta[:-1], theta.numpy()),
        otherwise=HOLDS if off < _EXACT else FAILS,
        finding="must miss: one point, which gives θ = 0" + ("; zᵀθ = −θ_0" if hard else ""),
    )  # fmt: skip


def _summed(case: Case) -> Claim:
    """For a sum of losses, theta belongs to n times the penalty."""
    square, penalty = _square(case.ridge), case.penalty * len(case.rows)
    count = math.ceil(2 * penalty * square / case.bound)
    scale = _PREDICTOR[case.family] / square
    theta = _torch(case.ridge.theta)
    x = scale * theta.T.repeat(count, 1)
    coefficients = torch.full((count, 1), 1 / (count * scale), dtype=torch.float64)
    labels = glm.labels(case.model, x @ theta, coefficients, penalty, summed=True).numpy()
    fit = glm_solvers.penalised(case.family, x.numpy(), labels, penalty / count)
    _, alone = glm.point(case.model, theta[:, 0], scale, penalty)
    return _claim(
        case, "a sum of losses", "labels in [0, 1] take 2λ‖θ‖²/W(1/e) points or more, and so many times one is enough", "ridge",
        "soft", case.ridge, Learned.of([fit], case.ridge.theta, labels), scale, points=count, penalty=penalty,
        bound=count * case.bound, finding=f"one point alone would ask for the label {float(alone):.4g}",
    )  # fmt: skip


def _curves(case: Case) -> Iterator[dict[str, object]]:
    """y = g^-1(u) + k / u against u = a |theta|^2 for k = 2 penalty |theta|^2: what was measured, and parts of its bound."""
    square, theta = _square(case.ridge), _torch(case.ridge.theta)[:, 0]
    for part in (2 * case.penalty * square / case.bound, 0.25, 0.5, 0.75, 1.0, 1.25):
        for u in np.geomspace(0.05, 8, _CURVE):
            _, y = glm.point(case.model, theta, float(u) / square, part * case.bound / (2 * square))
            yield {"part": "curve", "family": case.family, "scale": float(u), "bound": part, "label_from": float(y)}


def _moderate(case: Case) -> float:
    """The paper's scale 1 (-1 for gamma), or less where the label would be so near to the end of its range, or so large, that
    its digits do not tell the linear predictor.
    """
    if case.family == "gamma":
        return -1.0
    return 1.0 if case.family == "linear" else min(1.0, _TOLD / _square(case.plain))


def _unpenalised(case: Case, scale: float) -> tuple[Array, Learned]:
    """x (1, d), and what solvers find from a start in its span without a penalty."""
    x, y = (each.numpy() for each in glm.point(case.model, _torch(case.plain.theta)[:, 0], scale, 0.0))
    fits = glm_solvers.within_span(case.family, x, y, _start(case, x, y), _step(case, x, y))
    return x, Learned.of(fits, case.plain.theta, y)


def _penalised(case: Case, scale: float) -> tuple[Array, Learned]:
    """x (1, d), and what a solver finds with the penalty."""
    x, y = (each.numpy() for each in glm.point(case.model, _torch(case.ridge.theta)[:, 0], scale, case.penalty))
    fit = glm_solvers.penalised(case.family, x, y.clip(0, 1) if case.family == "logistic" else y, case.penalty)
    return x, Learned.of([fit], case.ridge.theta, y)


def _start(case: Case, x: Array, y: Array) -> Array:
    """0, or for gamma the start in the span of x whose linear predictor is twice that of the label."""
    return np.zeros_like(x.T) if case.family != "gamma" else -2 / float(y[0, 0]) * x.T / (x @ x.T).item()


def _step(case: Case, x: Array, y: Array) -> float:
    """A step size of gradient descent within its bound."""
    start = (x @ _start(case, x, y)).item()
    return 0.9 * glm.step_bound(case.model, _torch(x)[0], float(y[0, 0]), start)


def _newton(case: Case, x: Array, y: Array, start: Array) -> str:
    try:
        with np.errstate(all="ignore"):
            found = glm_solvers.newton(case.family, x, y, start)
    except np.linalg.LinAlgError:
        return "its system is singular"
    missed = _distance(found, case.plain.theta)
    return f"ends at a relative distance of {missed:.2g}" if math.isfinite(missed) else "ends at numbers that are none"


# --- All classes ------------------------------------------------------------------------------------------------------------


def _softmax(case: Case) -> Iterator[Claim]:
    yield _one_a_class(case)
    yield _as_few_as_rank(case)
    yield _classes_unpenalised(case)
    yield _classes_free_intercept(case)


def _class_points(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """X (c, d), multiples of the classes' weights at the scales where labels have most room, and their coefficients B (c, c)."""
    theta = _torch(case.ridge.theta)
    coefficients = glm.directions(theta.shape[1], theta.shape[1], classes=True)
    scales = glm.roomiest(theta.T @ theta, coefficients)[:, None]
    return scales * theta.T, coefficients / scales


def _one_a_class(case: Case) -> Claim:
    theta = _torch(case.ridge.theta)
    x, coefficients = _class_points(case)
    means = (x @ theta).softmax(1)
    labels = glm.labels(case.model, x @ theta, coefficients, case.penalty).numpy()
    fit = glm_solvers.penalised(case.family, x.numpy(), labels, case.penalty)
    bare = glm_solvers.penalised(case.family, x.numpy(), means.numpy(), case.penalty)
    limit = float(glm.largest_penalty(means, coefficients).min())
    return _claim(
        case, "one point a class", "x_k = a_k θ_k, Y = softmax(Xθ) + 2λmB, B_k = (e_k − 1/c)/a_k", "ridge", "soft", case.ridge,
        Learned.of([fit], case.ridge.theta, labels), math.nan, points=len(x), miss=_distance(bare.theta, case.ridge.theta),
        finding=f"must miss: predictions as labels; labels lie in the simplex up to {limit / case.penalty:.2g} times this λ",
    )  # fmt: skip


def _as_few_as_rank(case: Case) -> Claim:
    theta = _torch(case.ridge.theta)
    rank, values = glm.fewest(theta), torch.linalg.svdvals(theta)
    drawn = torch.randn(rank, theta.shape[1], generator=case.run.generator("mixture"), dtype=torch.float64)
    mixed = drawn @ theta.T
    coefficients = glm.coefficients(mixed, theta)
    scales = glm.roomiest(mixed @ theta, coefficients)[:, None]
    x, coefficients = scales * mixed, coefficients / scales
    labels = glm.labels(case.model, x @ theta, coefficients, case.penalty).numpy()
    fit = glm_solvers.penalised(case.family, x.numpy(), labels, case.penalty)
    refused = rank == 1 or _refuses(lambda: glm.coefficients(mixed[1:], theta))
    return _claim(
        case, "as few as the rank", "m points suffice if and only if m ≥ rank θ: any that span its columns", "ridge", "soft",
        case.ridge, Learned.of([fit], case.ridge.theta, labels), math.nan, points=rank,
        miss=float(values[rank - 1] / values.norm()), otherwise=HOLDS if refused else FAILS,
        finding="random mixtures of the classes' weights; must miss: no θ of a rank less is nearer (Eckart–Young)",
    )  # fmt: skip


def _classes_unpenalised(case: Case) -> Claim:
    """Orthogonal points; the parameters with the penalty, as an example of any: the statement asks nothing of them."""
    theta = _torch(case.ridge.theta)
    x = torch.linalg.svd(theta, full_matrices=False).U[:, : glm.fewest(theta)].T
    x = x / (x @ theta).abs().max()
    labels = (x @ theta).softmax(1).numpy()
    step = 0.9 * 2 * len(x) / (case.model.curvature * float(torch.linalg.matrix_norm(x, 2)) ** 2)
    fits = glm_solvers.within_span(case.family, x.numpy(), labels, np.zeros_like(case.ridge.theta), step)
    return _claim(
        case, "classes without a penalty", "Y = softmax(Xθ) for m ≥ rank θ points that span θ's columns gives θ from 0", "none",
        "soft", case.ridge, Learned.of(fits, case.ridge.theta, labels), math.nan, points=len(x), penalty=0.0,
        finding="any θ whose rows sum to 0: here that of the ridge penalty",
    )  # fmt: skip


def _classes_free_intercept(case: Case) -> Claim:
    real = case.with_intercept
    theta, beta = _torch(real.theta[:-1]), _torch(real.theta[-1:])
    coefficients = glm.directions(theta.shape[1], theta.shape[1], classes=True)
    scales = glm.roomiest(theta.T @ theta, coefficients, together=True)[:, None]
    shift = -beta @ linalg.pseudo_inverse(theta).value
    x, coefficients = scales * theta.T + shift, coefficients / scales
    labels = glm.labels(case.model, x @ theta + beta, coefficients, case.penalty).numpy()
    fit = _centred(glm_solvers.penalised(case.family, x.numpy(), labels, case.penalty, intercept=True))
    return _claim(
        case, "one point a class, free intercept", "x_k = aθ_k + z with one a for all, any z: rank θ + 1 points",
        "ridge, free intercept", "soft", replace(real, theta=theta.numpy()), Learned.of([fit], real.theta, labels),
        float(scales[0]), points=len(x), finding="zᵀθ = −θ_0, so that labels have as much room as without an intercept",
    )  # fmt: skip


# --- Rows -------------------------------------------------------------------------------------------------------------------


def _claim(
    case: Case, claim: str, statement: str, regulariser: str, labels: str, real: Fit, learned: Learned, scale: float, *,
    finding: str, points: int = 1, miss: float = math.nan, otherwise: str = HOLDS, penalty: float | None = None,
    bound: float | None = None,
) -> Claim:  # fmt: skip
    """A row; `otherwise` is the verdict where the numbers say what the statement says."""
    ridge = regulariser != "none"
    used = (case.penalty if penalty is None else penalty) if ridge else 0.0
    norm = float((real.theta**2).sum())
    bounded = (case.bound if bound is None else bound) if ridge else 0.0
    valid = bool(case.model.valid(_torch(learned.labels)).all())
    within = not ridge or 2 * used * norm <= bounded * (1 + _EXACT)
    holds = learned.relative < _EXACT and not miss <= _FAR and within
    return Claim(
        case.family, claim, statement, regulariser, labels, len(case.rows), case.rows.shape[1], points, used, norm,
        2 * used * norm, bounded, scale, float(learned.labels.min()), float(learned.labels.max()), valid, learned.error,
        learned.relative, miss, real.solver, learned.solvers, otherwise if holds else FAILS, finding,
    )  # fmt: skip


def _refuses(make: Callable[[], object]) -> bool:
    try:
        make()
    except NumericalError:
        return True
    return False


def _mean(case: Case, eta: Array) -> Array:
    return case.model.mean(_torch(eta)).numpy()


def _square(fit: Fit) -> float:
    return float((fit.theta**2).sum())


def _centred(fit: Fit) -> Fit:
    """Rows of classes' parameters sum to 0, but for rounding, and for an intercept, of which a constant is free."""
    columns = fit.theta.shape[1]
    return fit if columns == 1 else replace(fit, theta=fit.theta - fit.theta.mean(1, keepdims=True))


def _distance(found: Array, wanted: Array) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def _torch(values: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
