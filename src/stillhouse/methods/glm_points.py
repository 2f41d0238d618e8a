"""Exact distillation of a generalised linear model with canonical link in closed form: one point for each class, or as few as
one for values, give back the parameters that the model learns from all real examples.

Izzo, Zou (2023), Theorem 1, with ridge penalties, several columns, points and intercepts by our own derivation
(docs/theory/glm.md); the arithmetic is in `theory.glm`. For parameters theta (d, c), any penalty and any points X (m, d) with
coefficients B (m, c), X^T B = theta (and columns of B that sum to 0, for an intercept beta),

    Y = g^-1(X theta + beta) + 2 penalty m B

are the labels from which the model learns theta, whatever it starts from.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods.random_images import sample
from stillhouse.models import glm as model_glm
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.teacher import Teacher
from stillhouse.theory import glm

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")
# Labels are solved: the largest target of a point need not be that of its class.
SOFT_LABELS = True

# Exact means: the recovered parameters differ from the teacher's by no more than this, relatively, in float64.
_EXACT = 1e-8
# The slope at the teacher's parameters, over that at 0: rounding makes about 1e-16.
_STATIONARY = 1e-11
# By how much a teacher that is fitted to its tolerance may pass a bound that its minimum obeys, relatively.
_FITTED = 1e-4


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: our own; the paper's point is x = theta."""

    model: Annotated[
        model_glm.Params,
        settings.plugin("models", only="glm"),
        Field(description="the generalised linear model to recover: a name under models"),
    ]
    start: Annotated[
        Literal["noise", "real"],
        Field(description="multiples of the weights with noise around them, or the nearest to sampled real examples"),
    ] = "noise"
    noise: Annotated[
        float,
        Field(ge=0, description="of start noise: standard deviation over that of the entries of the points without it"),
    ] = 0.1
    scale: Annotated[
        float | None,
        Field(
            gt=0,
            description="a, for points that are a times the weights of their class (1: as the paper); absent: where labels "
            "have most room, for values where the largest linear predictor is 1 (half the intercept if it must stay negative), "
            "for start real where points are nearest",
        ),
    ] = None
    labels: Annotated[
        Literal["soft", "hard"],
        Field(description="hard: classes, for two of them, or counts, for poisson, by the scale of each point"),
    ] = "soft"
    penalty_S: Annotated[  # noqa: N815  as ridge_S of krr_exact
        float,
        Field(
            gt=0, description="penalty to train the points with, over the model's: smaller ones leave labels more room"
        ),
    ] = 1.0

    def __post_init__(self) -> None:
        if self.labels == "hard" and (self.model.intercept or self.start == "real" or self.scale is not None):
            raise ValueError("labels: hard takes a scale for each point: no intercept, start or scale goes with it")


@dataclass(frozen=True, eq=False)
class Target:
    """What the points shall give back: weights (d, c), an intercept (c,) or 0, with the family and the penalty to train with."""

    params: model_glm.Params
    weights: torch.Tensor
    intercept: torch.Tensor
    penalty: float

    @property
    def classes(self) -> bool:
        """Whether columns are classes."""
        return self.params.family == "softmax"


@dataclass(frozen=True, eq=False)
class Built:
    """Points X (m, d), their coefficients B (m, c), labels Y (m, c), and the scale of each (m,)."""

    points: torch.Tensor
    coefficients: torch.Tensor
    labels: torch.Tensor
    scales: torch.Tensor


def teachers(params: Params) -> tuple[model_glm.Params, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Make points from which the model learns the teacher's parameters, with the penalty in their schedule and a mean loss.

    Labels are real-valued; the certificate says whether they are such as examples can have. Raises NumericalError with the
    numbers when a condition fails, and UserError for too few points beside an intercept, or hard labels of more than two classes.
    """
    teacher = model_glm.find_or_fit(real, params.model, run)
    target = _target(real, teacher, params, run)
    count = real.size(per_class)
    if not target.classes and count < real.width + params.model.intercept:
        raise UserError(
            f"{real.name}: per_class {per_class} is too small: {real.width} columns"
            f"{' and an intercept' if params.model.intercept else ''} need {real.width + params.model.intercept} points."
        )
    if params.labels == "hard" and not (real.n_classes == 2 or (target.params.family == "poisson" and real.width == 1)):
        raise UserError(
            f"{real.name}: labels: hard is for two classes or one column of poisson, found {real.width} of "
            f"{target.params.family}. Choose labels: soft."
        )
    built = (_from_real if params.start == "real" else _from_noise)(real, per_class, target, params, run)
    distilled = DistilledSet.of(
        real,
        inputs=built.points.reshape(-1, *real.shape).cpu(),
        targets=model_glm.rows_of(built.labels.cpu(), real, target.params),
        space=whitening.fit(params.model.space, real).settings(),
        model={**settings.dump(params.model), "seed": run.seed},
        schedule={"penalty": target.penalty, "loss": "mean"},
    )
    return dataclasses.replace(distilled, certificate=_certify(distilled, real, built, target, teacher, params, run))


def _target(real: RealSet, teacher: Teacher, params: Params, run: Run) -> Target:
    weights = teacher.weights["weights"].to(run.device)
    intercept = teacher.weights["intercept"].to(weights) if params.model.intercept else torch.zeros_like(weights[0])
    return Target(params.model.resolved(real.regression), weights, intercept, params.penalty_S * params.model.penalty)


def _from_noise(real: RealSet, per_class: int, target: Target, params: Params, run: Run) -> Built:
    """Points a theta^T v_i, v_i their directions, with noise around them, at scales where their labels fit."""
    coefficients = _coefficients(real, per_class, target)
    bare = glm.points(target.weights, coefficients, torch.zeros_like(coefficients @ target.weights.T))
    drawn = torch.randn(bare.shape, generator=run.generator("noise"), dtype=bare.dtype).to(bare)
    made = glm.points(target.weights, coefficients, drawn * (params.noise * bare.square().mean().sqrt()))
    scales = _scales(made @ target.weights, coefficients, target, params)
    return _labelled(scales[:, None] * made + _shift(target), coefficients / scales[:, None], scales, target)


def _from_real(real: RealSet, per_class: int, target: Target, params: Params, run: Run) -> Built:
    """The points nearest to sampled real ones, at the scale that brings them nearest."""
    chosen, space = sample(real, per_class, run.generator("images")), whitening.fit(params.model.space, real)
    images = space.forward(pixels(real.train.inputs[chosen]).to(run.device, torch.float64)).flatten(1)
    coefficients = _coefficients(real, per_class, target)
    scale = params.scale
    if scale is None:
        bare = glm.points(target.weights, coefficients, torch.zeros_like(images))
        scale = float((bare * images).sum() / bare.square().sum()) if target.classes else 0.0
        # Of values it may be any number: see `scale`.
        scale = scale if scale > 0 else float(_of_values(bare @ target.weights, target))
    made = glm.points(target.weights, coefficients / scale, images)
    return _labelled(made, coefficients / scale, torch.full_like(made[:, 0], scale), target)


def _coefficients(real: RealSet, per_class: int, target: Target) -> torch.Tensor:
    """B (m, c) for scale 1: with directions V, B = V (V^T V)^+, so that points without anything else are V theta^T."""
    wanted = glm.directions(real.size(per_class), real.width, target.classes, target.params.intercept)
    return linalg.pseudo_inverse(wanted).value.T.to(target.weights)


def _scales(eta: torch.Tensor, coefficients: torch.Tensor, target: Target, params: Params) -> torch.Tensor:
    """Scales (m,) of points with x theta = eta (m, c) and their coefficients."""
    if params.labels == "hard":
        return _hard(eta, coefficients, target)
    if params.scale is not None:
        return torch.full_like(eta[:, 0], params.scale)
    if target.classes:
        return glm.roomiest(eta, coefficients, together=target.params.intercept)
    return _of_values(eta, target).expand(len(eta))


def _of_values(eta: torch.Tensor, target: Target) -> torch.Tensor:
    """The scale at which the largest x theta is 1, or half the intercept where linear predictors must stay negative."""
    room = float(target.intercept.abs().min()) / 2 if target.params.family in glm.NEGATIVE else 1.0
    return room / eta.abs().max()


def _hard(eta: torch.Tensor, coefficients: torch.Tensor, target: Target) -> torch.Tensor:
    """The scales at which labels are classes, for two of them, or the least counts, the larger of two.

    What a point's label is depends on its own scale alone, and is that of one point with m times the penalty.
    """
    found = []
    for predictors, factors in zip(eta, coefficients, strict=True):
        own = int(factors.argmax())
        square = float(predictors[own] - predictors[1 - own] if target.classes else predictors[0])
        penalty = target.penalty * len(eta) * float(factors[own])
        if square <= 0:
            raise NumericalError(
                f"noise turned a point's linear predictor to {square:.3g}, no longer of its class; lower noise"
            )
        if target.classes:
            found.append(max(glm.scales(glm.Logistic(), square, penalty, 1)))
        else:
            found.append(max(glm.scales(glm.Poisson(), square, penalty, math.ceil(glm.least_count(square, penalty)))))
    return torch.tensor(found, dtype=eta.dtype, device=eta.device)


def _shift(target: Target) -> torch.Tensor:
    """z (d,) with z theta = -intercept, for classes. It may be added to all points, as their coefficients sum to 0, and
    leaves labels as much room as there is without an intercept.
    """
    if not (target.classes and target.params.intercept):
        return torch.zeros_like(target.weights[:, 0])
    return -target.intercept @ linalg.pseudo_inverse(target.weights).value


def _labelled(points: torch.Tensor, coefficients: torch.Tensor, scales: torch.Tensor, target: Target) -> Built:
    """With the labels that follow. Raises NumericalError for points outside of the family's domain."""
    built = Built(points, coefficients, coefficients, scales)
    eta = _eta(built, target)
    if not bool(target.params.model.potential(eta).isfinite().all()):
        raise NumericalError(
            f"{target.params.family}: linear predictors of the points reach {float(eta.max()):.3g}, outside of the domain; lower "
            "scale or noise"
        )
    labels = glm.labels(target.params.model, eta, coefficients, target.penalty)
    return dataclasses.replace(built, labels=labels)


def _certify(
    distilled: DistilledSet, real: RealSet, built: Built, target: Target, teacher: Teacher, params: Params, run: Run
) -> dict[str, Any]:
    """The conditions with their numbers, and the distance of what is learned from the stored points to the teacher's.

    Raises NumericalError where the teacher's parameters are no minimum on the points, or pass the bound that a minimum obeys.
    """
    family, labels = target.params.model, built.labels
    student = model_glm.fit_distilled(distilled, real, params.model, run)
    wanted = model_glm.parameters(teacher)
    own = real.target_rows(real.train.targets)
    square = float(target.weights.square().sum())
    certificate: dict[str, Any] = {
        "statement": "Izzo, Zou (2023), Theorem 1, with a ridge penalty: docs/theory/glm.md, Theorem 3",
        "examples": len(labels),
        "rank_weights": linalg.rank(target.weights),
        "examples_needed": glm.fewest(target.weights, params.model.intercept),
        "penalty": target.penalty,
        "norm_squared": square,
        "norm_measured": 2 * params.model.penalty * square,
        "norm_bound": float(family.reach(model_glm.labels_of(own, real, target.params)).mean()),
        "labels_from": float(labels.min()),
        "labels_to": float(labels.max()),
        "labels_valid": bool(family.valid(labels).all()),
        "scale_from": float(built.scales.min()),
        "scale_to": float(built.scales.max()),
        "slope": _slope(built, target),
        "error_images": linalg.relative_error(model_glm.parameters(student), wanted),
        "tolerance": _EXACT,
    }
    if target.params.family != "linear":
        limit = float(glm.largest_penalty(family.mean(_eta(built, target)), built.coefficients).min())
        certificate["penalty_limit"] = limit if math.isfinite(limit) else None
    certificate["exact"] = certificate["error_images"] < _EXACT
    over = certificate["norm_measured"] > certificate["norm_bound"] * (1 + _FITTED)
    if not certificate["slope"] <= _STATIONARY or (over and not params.model.examples):
        numbers = ", ".join(f"{name} {value}" for name, value in certificate.items() if name != "statement")
        raise NumericalError(f"the teacher's parameters are no minimum on the points: {numbers}")
    return certificate


def _eta(built: Built, target: Target) -> torch.Tensor:
    return built.points @ target.weights + target.intercept


def _slope(built: Built, target: Target) -> float:
    """What the two parts of the slope at the teacher's parameters leave of each other, relatively."""
    rows = model_glm.with_ones(built.points, target.params.intercept)
    weights, penalty = target.weights, torch.full_like(target.weights[:, :1], target.penalty)
    if target.params.intercept:
        weights = torch.cat([weights, target.intercept[None]])
        penalty = torch.cat([penalty, torch.zeros_like(penalty[:1])])
    left = glm.slope(target.params.model, rows, built.labels, weights, penalty).norm()
    whole = (rows.T @ built.labels).norm() / len(rows) + (2 * penalty * weights).norm()
    return float(left / whole)
