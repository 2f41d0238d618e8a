"""Exact distillation along the regularisation path: one eigendecomposition of F^T F gives the teachers of all ridges, for each
a set of as few examples as classes, and one set of rank F^T F examples that stands for the real data at every ridge at once.

Chen, Huang, Weng (2024), Theorem 4.1.2 with m = c; the single set is ours: F_S^T F_S = F^T F and F_S^T Y_S = F^T Y.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.linalg import RidgePath
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.theory import points


@dataclass(frozen=True)
class Params:
    """Which ridge regression."""

    model: Annotated[
        ridge.Params,
        settings.plugin("models", only="ridge"),
        Field(
            description="the ridge regression whose path is followed, at the ridges of its grid: a name under models"
        ),
    ]


@dataclass(frozen=True)
class Learned:
    """What ridge regression sees of a distilled set: features F_S (m, p) of its images and targets Y_S (m, c), both divided by
    the factor, reach, that brings the features into the map's range.
    """

    features: torch.Tensor
    targets: torch.Tensor
    reach: float


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """One row a ridge. Accuracies in percent of the test set; errors are |W_S - W|_F / |W|_F of the weights learned from images.

    condition          of F^T F + ridge I
    teacher_accuracy  of the weights that all fitted real examples give
    exact_examples, exact_accuracy, exact_weight_error  the set of c examples made for this ridge, trained with ridge 0
    path_examples, path_weight_error  the one set for all ridges, trained with this ridge
    path_range_error   the same, of the parts of W_S and W in the range of F^T F. Outside of it W is zero but for rounding
                       in F^T Y over the ridge; the set has zeros there.
    """
    embedding = ridge.embed(params.model, real, run.seed)
    sums = ridge.accumulate(real, params.model, run).moments
    solutions = RidgePath.of_moments(sums.gram, sums.cross)
    ridges = params.model.ridge.values()
    teachers = [solutions.weights(each) for each in ridges]
    students = list(_exact(solutions, ridges, embedding, run))
    whole = _learned(*points.points_of_path(solutions), embedding)
    whole_path = RidgePath.by_singular_values(whole.features, whole.targets)
    ranged = solutions.vectors[:, len(solutions.values) - solutions.rank() :]
    accuracies = _accuracies(torch.stack([*teachers, *students]), real, embedding, run)
    for i, (value, wanted, found) in enumerate(zip(ridges, teachers, students, strict=True)):
        # (F/a)^T (F/a) + ridge/a^2 and (F/a)^T (Y/a) give the weights that F, Y and the ridge give.
        again = whole_path.weights(value / whole.reach**2)
        yield {
            "ridge": value,
            "examples": sums.count,
            "features": len(solutions.vectors),
            "rank": solutions.rank(),
            "condition": float((solutions.values[-1] + value) / (solutions.values[0] + value)),
            "teacher_accuracy": accuracies[i],
            "exact_examples": real.n_classes,
            "exact_accuracy": accuracies[len(ridges) + i],
            "exact_weight_error": linalg.relative_error(found, wanted),
            "path_examples": len(whole.targets),
            "path_weight_error": linalg.relative_error(again, wanted),
            "path_range_error": float((ranged.T @ (again - wanted)).norm() / wanted.norm()),
        }


def _exact(
    solutions: RidgePath, ridges: Sequence[float], embedding: ridge.Embedding, run: Run
) -> Iterator[torch.Tensor]:
    """Weights (p, c) learned from the c examples made for each ridge."""
    features, classes = len(solutions.vectors), solutions.rotated.shape[1]
    targets = torch.eye(classes, dtype=torch.float64, device=run.device)
    free = torch.zeros(features, classes, dtype=torch.float64, device=run.device)  # m = c leaves nothing free
    made = points.path(solutions, ridges, targets, free)
    for _, wanted in run.progress(made, len(ridges), "ridges"):
        one = _learned(wanted, targets, embedding)
        yield ridge.solve(one.features, one.targets, 0.0)


def _learned(wanted: torch.Tensor, targets: torch.Tensor, embedding: ridge.Embedding) -> Learned:
    """The features of the images that were made to have features `wanted` (m, p)."""
    reach = embedding.map.reach(wanted)
    return Learned(embedding.map(embedding.map.inverse(wanted / reach)), targets / reach, reach)


def _accuracies(weights: torch.Tensor, real: RealSet, embedding: ridge.Embedding, run: Run) -> list[float]:
    """Test accuracies, in percent, of several models at once: weights (k, p, c)."""
    right = torch.zeros(len(weights), dtype=torch.int64)
    for images, labels in real.test.chunks(ridge.CHUNK):
        rows = embedding.features(images.to(run.device)).to(torch.float64)
        for i, each in enumerate(weights):
            right[i] += ((rows @ each).argmax(1).cpu() == labels).sum()
    return [100 * int(hits) / len(real.test) for hits in right]
