"""Exact distillation for ridge regression in closed form: as few examples as classes give back the teacher's weights.

Chen, Huang, Weng (2024), Algorithm 1: Theorem 4.1 in feature space (Theorem 5.1) and Corollary 4.1.1; the arithmetic is in
`theory.points`. Written for examples as rows: F_S (m, p) distilled features, Y (m, c) targets, W (p, c) the teacher's weights,

    D = W Y^+ + Z (I_m - Y Y^+)   (p, m),     F_S with F_S,lambda_S^+ = D,     X_S = phi^-1(F_S)

for any Z (p, m). Ridge regression on (F_S, Y) with ridge lambda_S, 0 by default, gives D Y = W.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError
from stillhouse.methods.random_images import sample
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.teacher import Teacher
from stillhouse.theory import labels, points

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")

# Exact means: the recovered weights differ from the teacher's by no more than this, relatively, in float64.
_EXACT = 1e-8
# Features of float64 images may differ from the wanted ones by no more than this, relatively: rounding makes about 1e-12.
_INVERTED = 1e-10
# What rounding does to the weights is at most the condition number times what it does to the features, and some.
_MARGIN = 10


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: Chen et al. (2024), section 7 and code."""

    model: Annotated[
        ridge.Params,
        settings.plugin("models", only="ridge"),
        Field(description="the ridge regression to recover: a name under models"),
    ]
    start: Annotated[
        Literal["noise", "real"],
        Field(description="Z: Gaussian noise, or the nearest to sampled real images in the sense of Corollary 4.1.1"),
    ] = "noise"
    noise: Annotated[
        float,
        Field(gt=0, description="standard deviation of the noise over that of the entries of W Y^+; Chen et al.: 0.1"),
    ] = 0.1
    ridge_S: Annotated[  # noqa: N815  the paper's lambda_S
        float,
        Field(ge=0, description="lambda_S, the ridge to train the distilled images with, in units of ridge_S_unit"),
    ] = 0.0
    ridge_S_unit: Annotated[  # noqa: N815
        Literal["one", "teacher", "bound"],
        Field(
            description="one: as it is, and noise shrinks until the theorem's bound 1 / (4 sigma'_1^2) allows it; "
            "teacher: the teacher's ridge, lowered to the bound, as Chen et al.'s code does; bound: the bound itself"
        ),
    ] = "one"
    root: Annotated[
        Literal["plus", "minus"],
        Field(
            description="of the two images for one lambda_S > 0, the one with larger or with smaller singular values"
        ),
    ] = "plus"
    dtype: Annotated[
        Literal["float64", "float32"],
        Field(description="of the stored images; float32 halves the file and costs up to 2e-3 of the weights"),
    ] = "float64"

    def __post_init__(self) -> None:
        if self.ridge_S_unit == "bound" and self.ridge_S > 1:
            raise ValueError(f"ridge_S ({self.ridge_S:g}) in units of the bound is above 1")


# lambda_S from the largest that Theorem 4.1 allows.
RidgeRule = Callable[[float], float]


@dataclass(frozen=True)
class Start:
    """Where the construction starts.

    targets  Y (m, c)
    free     Z (p, m)
    ridge    lambda_S from the largest that D allows, or None for lambda_S = 0
    root     which root, for lambda_S > 0
    images   (m, d) real images in the model's space that Z comes from, or None
    """

    targets: torch.Tensor
    free: torch.Tensor
    ridge: RidgeRule | None = None
    root: Literal["plus", "minus"] = "plus"
    images: torch.Tensor | None = None


def teachers(params: Params) -> tuple[ridge.Params, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Make m = per_class x classes images from which ridge regression with ridge lambda_S learns the teacher's weights.

    The targets are real-valued: one-hot, or the teacher's predictions for `start: real`, divided by the factor that brings
    the features into the map's range. Raises NumericalError with the numbers when a condition of the theorem fails.
    """
    teacher = ridge.find_or_fit(real, params.model, run)
    weights = teacher.weights["weights"].to(run.device)
    embedding = ridge.embed(params.model, real, run.seed)
    begin = _from_real if params.start == "real" else _from_noise
    start = begin(real, per_class, params, run, weights, embedding, _ridge_rule(params, teacher))
    features, proof = solve(weights, start)
    reach = embedding.map.reach(features)
    inputs = embedding.map.inverse(features / reach).to(getattr(torch, params.dtype))
    # (F/a)^T (F/a) + lambda/a^2 and (F/a)^T (Y/a) give the weights that F, Y and lambda give.
    distilled = DistilledSet.of(
        real,
        inputs=inputs.reshape(-1, *real.shape).cpu(),
        targets=(start.targets / reach).cpu(),
        space=embedding.space.settings(),
        model={**settings.dump(params.model), "seed": run.seed},
        schedule={"ridge": proof["ridge_S"] / reach**2},
    )
    found = ridge.set_features(distilled, embedding)
    proof |= {"error_inverse": linalg.relative_error(found, features.cpu() / reach), "reach": reach}
    if start.images is not None:
        proof["distance_to_start"] = linalg.relative_error(inputs.to(start.images), start.images)
    recovered = ridge.solve(found, distilled.targets, distilled.schedule["ridge"])
    certificate = _certify(proof, weights, start, features, recovered.to(weights), teacher, params)
    return dataclasses.replace(distilled, certificate=certificate)


def solve(weights: torch.Tensor, start: Start) -> tuple[torch.Tensor, dict[str, Any]]:
    """Theorem 4.1: the distilled features F_S (m, p), and what they rest on.

    Raises NumericalError when the targets cannot carry the weights, or lambda_S is above its bound.
    """
    backward = points.admissible(weights, start.targets, start.free)
    if start.ridge is None:
        ridge_used, found = 0.0, points.solve(backward)
    else:
        spectrum = points.Spectrum.of(backward)
        ridge_used = start.ridge(spectrum.ridge_bound)
        found = spectrum.solve(ridge_used, "+" if start.root == "plus" else "-")
    proof = {
        "ridge_S": ridge_used,
        "root": start.root if ridge_used > 0 else None,
        "examples": len(start.targets),
        "classes": weights.shape[1],
        "rank_targets": weights.shape[1],  # or `admissible` had failed
        "rank_weights": linalg.rank(weights),
        "rank_D": found.rank,
        "condition_D": found.condition,
        "ridge_bound": found.ridge_bound,
        "ridge_limit": points.ridge_limit(weights, start.targets),
    }
    if start.images is not None:
        proof["residual_D"] = points.nearest_distance(weights, start.targets, start.free)
    return found.features, proof


def _ridge_rule(params: Params, teacher: Teacher) -> RidgeRule | None:
    """How lambda_S follows from the largest that D allows; None for 0."""
    if params.ridge_S == 0:
        return None
    if params.ridge_S_unit == "bound":
        return lambda bound: params.ridge_S * bound
    if params.ridge_S_unit == "teacher":
        return lambda bound: min(params.ridge_S * float(teacher.notes["ridge"]), bound)
    return lambda bound: params.ridge_S


def _from_noise(
    real: RealSet,
    per_class: int,
    params: Params,
    run: Run,
    weights: torch.Tensor,
    embedding: ridge.Embedding,
    rule: RidgeRule | None = None,
) -> Start:
    targets = torch.eye(real.width, dtype=torch.float64, device=run.device)
    targets = targets.repeat(-(-real.size(per_class) // real.width), 1)[: real.size(per_class)]
    # Entries of W Y^+ for tiled one-hot targets are those of W / per_class, repeated; their spread is the same.
    spread = float(weights.std()) / per_class
    rng = run.generator("noise")

    def draw() -> torch.Tensor:
        noise = torch.randn(len(weights), len(targets), generator=rng, dtype=torch.float64)
        return noise.to(run.device) * (params.noise * spread)

    fixed = rule is not None and params.ridge_S_unit == "one"
    free = points.resample(weights, targets, params.ridge_S, draw) if fixed else draw()
    return Start(targets, free, rule, params.root)


def _from_real(
    real: RealSet,
    per_class: int,
    params: Params,
    run: Run,
    weights: torch.Tensor,
    embedding: ridge.Embedding,
    rule: RidgeRule | None = None,
) -> Start:
    chosen = sample(real, per_class, run.generator("images"))
    images = embedding.space.forward(pixels(real.train.inputs[chosen]).to(torch.float64).to(run.device)).flatten(1)
    features = embedding.map(images)
    own = real.target_rows(real.train.targets[chosen]).to(run.device)
    plain = _nearest(weights, features, own, 0.0)
    if rule is None:
        return dataclasses.replace(plain, images=images)
    # The nearest D depends on lambda_S, and the bound on D: the ridge that the nearest D for ridge 0 allows comes first.
    backward = points.admissible(weights, plain.targets, plain.free)
    first = rule(points.ridge_bound(backward))
    capped: RidgeRule = lambda bound: first if params.ridge_S_unit == "one" else min(first, bound)  # noqa: E731
    start = _nearest(weights, features, own, first)
    return dataclasses.replace(start, ridge=capped, root=params.root, images=images)


def _nearest(weights: torch.Tensor, features: torch.Tensor, own: torch.Tensor, ridge_used: float) -> Start:
    """Corollary 4.1.1 for features (m, p) of real images: Z their ridge pseudo-inverse, Y their best labels (Theorem 4.2), or
    their `own` target rows (m, c) where those are of too low a rank.
    """
    targets = labels.labels(weights, features, ridge_used)
    if linalg.rank(targets) < weights.shape[1]:
        targets = own
    return Start(targets, linalg.ridge_pseudo_inverse(features, ridge_used))


def _certify(
    proof: dict[str, Any],
    weights: torch.Tensor,
    start: Start,
    features: torch.Tensor,
    recovered: torch.Tensor,
    teacher: Teacher,
    params: Params,
) -> dict[str, Any]:
    """The theorem's conditions with their numbers, and the distance of the recovered weights to the teacher's.

    `exact` says that the distance is below 1e-8 for the features and for the stored images. An ill-conditioned set may
    miss it for its images by rounding alone; raises NumericalError when more than rounding is wrong.
    """
    at_features = linalg.ridge_solve(features, start.targets, proof["ridge_S"])
    part = "4.1.1" if proof["ridge_S"] > 0 else "4.1.2"
    certificate = {
        **proof,
        "statement": f"Chen, Huang, Weng (2024), Theorem {part} with Theorem 5.1; lambda_S = {proof['ridge_S']:.6g}",
        "ridge": teacher.notes["ridge"],
        "error_features": linalg.relative_error(at_features, weights),
        "error_images": linalg.relative_error(recovered, weights),
        "cosine": linalg.cosine(recovered, weights),
        "tolerance": _EXACT,
    }
    certificate["exact"] = certificate["error_features"] < _EXACT and certificate["error_images"] < _EXACT
    rounding = max(_EXACT, _MARGIN * proof["condition_D"] * proof["error_inverse"])
    wrong_images = proof["error_inverse"] > _INVERTED or certificate["error_images"] > rounding
    if certificate["error_features"] > _EXACT or (params.dtype == "float64" and wrong_images):
        numbers = ", ".join(f"{name} {value}" for name, value in certificate.items() if name != "statement")
        raise NumericalError(f"the weights are not given back exactly: {numbers}")
    return certificate
