"""Ridge regression onto one-hot targets in a feature space (kernel ridge regression with an explicit feature map), no bias.

    W = argmin |F W - Y|_F^2 + ridge |W|_F^2 = (F^T F + ridge I)^-1 F^T Y,   F (n, p), Y (n, c), W (p, c)

The loss is a sum over examples, so ridge scales with n. Chen, Huang, Weng (2024), section 3.1 and 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import features, linalg, settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.features import FeatureMap
from stillhouse.run import Run, stream
from stillhouse.sets import DistilledSet, RealSet, Split
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher

_CHUNK = 2048  # examples whose features are held at once


@dataclass(frozen=True)
class Grid:
    """Powers of ten."""

    first: Annotated[float, Field(description="first exponent")] = -6.0
    last: Annotated[float, Field(description="last exponent")] = 5.5
    step: Annotated[float, Field(gt=0, description="between exponents")] = 0.5

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) is above last ({self.last})")

    def values(self) -> list[float]:
        """The numbers of the grid, ascending."""
        count = round((self.last - self.first) / self.step) + 1
        return [10 ** (self.first + i * self.step) for i in range(count)]


@dataclass(frozen=True)
class Params:
    """Settings of ridge regression. Defaults: Chen et al. (2024), section 7 and code."""

    features: Annotated[Any, settings.plugin("features"), Field(description="feature map: a file of features/")]
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    ridge: Annotated[Grid, Field(description="exponents of the ridges tried; the best on validation data is used")] = (
        field(default_factory=Grid)
    )
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training examples that choose the ridge, not used to fit")
    ] = 0.05


@dataclass(frozen=True)
class Embedding:
    """A space and a feature map: how a pixel array becomes features."""

    space: Space
    map: FeatureMap

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(b, *shape) pixels -> (b, p), same dtype."""
        return self.map(self.space.forward(pixels).flatten(1))


def embed(params: Params, real: RealSet, seed: int) -> Embedding:
    """The space fitted on `real` and the feature map drawn from `seed`."""
    return Embedding(whitening.fit(params.space, real), feature_map(params, real.dim, seed))


def feature_map(params: Params, dim: int, seed: int) -> FeatureMap:
    """The feature map that a model of this seed has."""
    return features.build(params.features, dim, stream(seed, "feature map"))


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on the training part, choose the ridge on the validation part; the larger ridge wins a tie."""
    embedding = embed(params, real, run.seed)
    fitted, held_out = split(len(real.train), params.validation, run.seed)
    sums = moments(real, embedding, fitted, run)
    path = linalg.RidgePath.of_moments(sums.gram, sums.cross)
    ridges = params.ridge.values()
    accuracies = validation_accuracies(path, ridges, real.train, embedding, held_out, run)
    best = _best(ridges, accuracies)
    notes = {
        "ridge": best,
        "ridges": ridges,
        "validation_accuracy": accuracies,
        "examples": sums.count,
        "rank": path.rank(),
        "eigenvalues": [float(path.values[0]), float(path.values[-1])],
    }
    return _teacher(params, run.seed, path.weights(best), embedding, real, notes)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on a distilled set, with the ridge its schedule asks for, else the best on the real set's validation part.

    A set that lives in this model's space is used as it is; another goes through pixels.
    """
    embedding = embed(params, real, run.seed)
    rows = set_features(distilled, embedding).to(run.device)
    targets = distilled.targets.to(rows)
    if "ridge" in distilled.schedule:
        ridge = float(distilled.schedule["ridge"])
        weights = solve(rows, targets, ridge)
        notes: dict[str, Any] = {"ridge": ridge, "ridge_from": "the set's schedule"}
    else:
        weights, notes = _chosen(rows, targets, real, params, embedding, run)
    return _teacher(params, run.seed, weights, embedding, real, notes)


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) with `dim` values each to scores (b, c), float64, on `device`."""
    params = settings.parse(Params, teacher.model, "model")
    embedding = Embedding(spaces.from_settings(teacher.space), feature_map(params, dim, teacher.seed))
    weights = teacher.weights["weights"].to(device)
    return lambda pixels: embedding.features(pixels).to(weights) @ weights


def solve(rows: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """Ridge weights (p, c) of rows (m, p) and targets (m, c); the least-norm interpolation for ridge = 0."""
    if ridge == 0:
        return linalg.pseudo_inverse(rows).value @ targets
    kernel = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    kernel.diagonal().add_(ridge)
    if len(rows) < rows.shape[1]:
        dual: torch.Tensor = torch.linalg.solve(kernel, targets)
        return rows.T @ dual
    weights: torch.Tensor = torch.linalg.solve(kernel, rows.T @ targets)
    return weights


def set_features(distilled: DistilledSet, embedding: Embedding) -> torch.Tensor:
    """Features (m, p), float64, of a distilled set's inputs."""
    inputs = distilled.inputs.to(torch.float64)
    if spaces.same(distilled.space, embedding.space.settings()):
        return embedding.map(inputs.flatten(1))
    return embedding.features(spaces.from_settings(distilled.space).inverse(inputs))


def split(count: int, validation: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the fitted and of the held-out examples, both ascending, drawn at random."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(stream(seed, "validation split")))
    held_out = max(1, round(count * validation))
    return order[held_out:].sort().values, order[:held_out].sort().values


def moments(real: RealSet, embedding: Embedding, index: torch.Tensor, run: Run) -> linalg.Moments:
    """Gram and cross-moments over the training examples at `index`, in one pass."""
    sums = linalg.Moments(embedding.map.dim, real.n_classes, run.device)
    total = -(-len(index) // _CHUNK)
    for rows, labels in run.progress(_chunks(real.train, embedding, index, run), total, "Gram matrix"):
        sums.add(rows, linalg.one_hot(labels, real.n_classes).to(run.device))
    return sums


def validation_accuracies(
    path: linalg.RidgePath, ridges: list[float], train: Split, embedding: Embedding, held_out: torch.Tensor, run: Run
) -> list[float]:
    """Fraction of the held-out examples classified rightly, for every ridge."""
    right = [0] * len(ridges)
    for rows, labels in _chunks(train, embedding, held_out, run):
        for i, scores in enumerate(path.predictions(rows.to(torch.float64), ridges)):
            right[i] += int((scores.argmax(1).cpu() == labels).sum())
    return [hits / len(held_out) for hits in right]


def _chosen(
    rows: torch.Tensor, targets: torch.Tensor, real: RealSet, params: Params, embedding: Embedding, run: Run
) -> tuple[torch.Tensor, dict[str, Any]]:
    ridges = params.ridge.values()
    _, held_out = split(len(real.train), params.validation, run.seed)
    path = linalg.RidgePath.of_rows(rows, targets)
    accuracies = validation_accuracies(path, ridges, real.train, embedding, held_out, run)
    best = _best(ridges, accuracies)
    return path.weights(best), {"ridge": best, "ridge_from": "validation data"}


def _best(ridges: list[float], accuracies: list[float]) -> float:
    """The ridge of the highest accuracy; the largest of equals."""
    return max(zip(accuracies, ridges, strict=True))[1]


def _chunks(
    train: Split, embedding: Embedding, index: torch.Tensor, run: Run
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for pixels, labels in train.chunks(_CHUNK, index):
        yield embedding.features(pixels.to(run.device)), labels


def _teacher(
    params: Params, seed: int, weights: torch.Tensor, embedding: Embedding, real: RealSet, notes: dict[str, Any]
) -> Teacher:
    return Teacher(
        model=settings.dump(params),
        seed=seed,
        weights={"weights": weights.cpu()},
        space=embedding.space.settings(),
        data={"name": real.name, "fingerprint": real.fingerprint, "order": real.order},
        notes=notes,
    )
