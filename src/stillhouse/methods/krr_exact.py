"""Exact distillation for ridge regression in closed form: as few examples as classes give back the teacher's weights.

Chen, Huang, Weng (2024), Algorithm 1 with lambda_S = 0 (Theorem 4.1.2 in feature space, Theorem 5.1) and Corollary 4.1.1.
Written for examples as rows: F_S (m, p) distilled features, Y (m, c) targets, W (p, c) the teacher's weights,

    D = W Y^+ + Z (I_m - Y Y^+)   (p, m),     F_S = D^+,     X_S = phi^-1(F_S)

for any Z (p, m). Least squares on (F_S, Y) gives F_S^+ Y = D Y = W whenever Y^+ Y = I_c, that is, m >= c and rank Y = c.
"""

from __future__ import annotations

import dataclasses
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

BATCH = ("per_class", "seed")

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
    dtype: Annotated[
        Literal["float64", "float32"],
        Field(description="of the stored images; float32 halves the file and costs up to 2e-3 of the weights"),
    ] = "float64"


@dataclass(frozen=True)
class Start:
    """Where the construction starts: targets Y (m, c) and free part Z (p, m)."""

    targets: torch.Tensor
    free: torch.Tensor


def teachers(params: Params) -> tuple[ridge.Params, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Make m = per_class x classes images from which ridge regression with ridge 0 learns the teacher's weights.

    The targets are real-valued: one-hot, or the teacher's predictions for `start: real`, divided by the factor that brings
    the features into the map's range. Raises NumericalError with the numbers when a condition of the theorem fails.
    """
    teacher = run.find_teacher(settings.dump(params.model), run.seed, real.fingerprint) or ridge.fit_real(
        real, params.model, run
    )
    weights = teacher.weights["weights"].to(run.device)
    embedding = ridge.embed(params.model, real, run.seed)
    start = _from_real if params.start == "real" else _from_noise
    chosen = start(real, per_class, params, run, weights, embedding)
    features, proof = solve(weights, chosen)
    reach = embedding.map.reach(features)
    inputs = embedding.map.inverse(features / reach).to(getattr(torch, params.dtype))
    distilled = DistilledSet(
        inputs=inputs.reshape(-1, *real.shape).cpu(),
        targets=(chosen.targets / reach).cpu(),
        classes=real.classes,
        space=embedding.space.settings(),
        model={**settings.dump(params.model), "seed": run.seed},
        schedule={"ridge": 0.0},
    )
    found = ridge.set_features(distilled, embedding)
    proof["error_inverse"] = linalg.relative_error(found, features.cpu() / reach)
    recovered = ridge.solve(found, distilled.targets, 0.0)
    certificate = _certify(proof, weights, chosen, features, recovered.to(weights), teacher, params)
    return dataclasses.replace(distilled, certificate=certificate)


def solve(weights: torch.Tensor, start: Start) -> tuple[torch.Tensor, dict[str, Any]]:
    """Theorem 4.1.2: the distilled features F_S = D^+ (m, p), and what it rests on.

    Raises NumericalError when the targets cannot carry the weights: m < c, or rank Y < c.
    """
    targets, classes = start.targets, weights.shape[1]
    inverse = linalg.pseudo_inverse(targets)
    if len(targets) < classes or inverse.rank < classes:
        raise NumericalError(
            f"{len(targets)} targets of rank {inverse.rank} cannot give back weights for {classes} classes "
            "(Theorem 4.1 asks for m >= c and rank Y = c)"
        )
    free = start.free - (start.free @ targets) @ inverse.value
    backward = weights @ inverse.value + free
    features = linalg.pseudo_inverse(backward)
    proof = {
        "examples": len(targets),
        "classes": classes,
        "rank_targets": inverse.rank,
        "rank_weights": linalg.rank(weights),
        "rank_D": features.rank,
        "condition_D": features.condition,
        "ridge_bound": 1 / (4 * linalg.largest_singular_value(backward) ** 2),
    }
    return features.value, proof


def _from_noise(
    real: RealSet, per_class: int, params: Params, run: Run, weights: torch.Tensor, embedding: ridge.Embedding
) -> Start:
    targets = torch.eye(real.n_classes, dtype=torch.float64, device=run.device).repeat(per_class, 1)
    # Entries of W Y^+ for tiled one-hot targets are those of W / per_class, repeated; their spread is the same.
    spread = float(weights.std()) / per_class
    noise = torch.randn(len(weights), len(targets), generator=run.generator("noise"), dtype=torch.float64)
    return Start(targets, noise.to(run.device) * (params.noise * spread))


def _from_real(
    real: RealSet, per_class: int, params: Params, run: Run, weights: torch.Tensor, embedding: ridge.Embedding
) -> Start:
    chosen = sample(real, per_class, run.generator("images"))
    features = embedding.features(pixels(real.train.inputs[chosen]).to(torch.float64).to(run.device))
    predictions = features @ weights
    if linalg.rank(predictions) < real.n_classes:
        predictions = linalg.one_hot(real.train.targets[chosen], real.n_classes).to(run.device)
    return Start(predictions, linalg.pseudo_inverse(features).value)


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
    at_features = linalg.pseudo_inverse(features).value @ start.targets
    certificate = {
        **proof,
        "statement": "Chen, Huang, Weng (2024), Theorem 4.1.2 with Theorem 5.1; lambda_S = 0",
        "ridge_S": 0.0,
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
