"""Label distillation for ridge regression in closed form: random real images, and the labels that bring their weights nearest.

Chen, Huang, Weng (2024), Theorem 4.2 in feature space; the arithmetic is in `theory.labels`. With examples as rows, F (m, p) the
features of the images, W (p, c) the teacher's weights,

    Y_S = F_lambda_S W   (m, c),     |W_S - W|_F = |(I_p - F^+ F) W|_F,

the least that any labels reach for these images, and 0 for rank F = p. Nothing is asked of the feature map: it need not be onto
R^p, have an inverse, or p <= d. The labels are real numbers; for lambda_S = 0 they are the teacher's predictions.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError
from stillhouse.methods.random_images import sample
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.teacher import Teacher
from stillhouse.theory import labels

BATCH = ("per_class", "seed")
TASKS = ("classification", "regression")
# The largest label of an image need not be that of its class.
SOFT_LABELS = True

# Exact means: the weights differ from the teacher's by no more than this, relatively, in float64.
_EXACT = 1e-8
# What rounding does to the weights is at most the condition number times the unit of rounding, and some.
_MARGIN = 100


@dataclass(frozen=True)
class Params:
    """Settings."""

    model: Annotated[
        ridge.Params,
        settings.plugin("models", only="ridge"),
        Field(description="the ridge regression to come near to: a name under models"),
    ]
    ridge_S: Annotated[  # noqa: N815  the paper's lambda_S
        float, Field(ge=0, description="lambda_S, the ridge to train the distilled set with")
    ] = 0.0


def teachers(params: Params) -> tuple[ridge.Params, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,)


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Give `per_class` random training images of each class the labels from which ridge regression learns the weights nearest
    to the teacher's. Raises NumericalError, with the numbers, when it learns others.
    """
    teacher = ridge.find_or_fit(real, params.model, run)
    weights = teacher.weights["weights"].to(run.device)
    embedding = ridge.embed(params.model, real, run.seed)
    images = pixels(real.train.inputs[sample(real, per_class, run.generator("images"))])
    features = embedding.features(images.to(torch.float64).to(run.device))  # (m, p)
    distilled = DistilledSet.of(
        real,
        inputs=images,
        targets=labels.labels(weights, features, params.ridge_S).cpu(),
        model={**settings.dump(params.model), "seed": run.seed},
        schedule={"ridge": params.ridge_S},
    )
    found = ridge.set_features(distilled, embedding).to(run.device)
    learned = [ridge.solve(rows, distilled.targets.to(rows), params.ridge_S) for rows in (features, found)]
    return dataclasses.replace(distilled, certificate=_certify(weights, features, learned, teacher, params))


def _certify(
    weights: torch.Tensor, features: torch.Tensor, learned: list[torch.Tensor], teacher: Teacher, params: Params
) -> dict[str, Any]:
    """The theorem's conditions with their numbers, the distance that it predicts, and the one found.

    `exact` says that the teacher's weights are given back, to 1e-8. Raises NumericalError when the distance is further from the
    predicted one than rounding explains, so that a set with at least p images of rank p is exact or not made.
    """
    inverse = linalg.pseudo_inverse(features)
    at_features, at_images = (linalg.relative_error(each, weights) for each in learned)
    certificate = {
        "statement": f"Chen, Huang, Weng (2024), Theorem 4.2; lambda_S = {params.ridge_S:.6g}",
        "ridge_S": params.ridge_S,
        "ridge": teacher.notes["ridge"],
        "examples": len(features),
        "features": len(weights),
        "rank_features": inverse.rank,
        "condition_features": inverse.condition,
        "predicted_error": labels.residual(weights, features) / float(weights.norm()),
        "error_features": at_features,
        "error_images": at_images,
        "cosine": linalg.cosine(learned[1], weights),
        "tolerance": _EXACT,
        "exact": at_features < _EXACT and at_images < _EXACT,
    }
    rounding = max(_EXACT, _MARGIN * inverse.condition * torch.finfo(features.dtype).eps)
    if max(abs(error - certificate["predicted_error"]) for error in (at_features, at_images)) > rounding:
        numbers = ", ".join(f"{name} {value}" for name, value in certificate.items() if name != "statement")
        raise NumericalError(f"the labels do not bring the weights as near as they can: {numbers}")
    return certificate
