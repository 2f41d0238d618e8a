"""Ridge regression onto target rows in a feature space (kernel ridge regression with an explicit feature map), no bias.

    W = argmin |F W - Y|_F^2 + ridge |W|_F^2 = (F^T F + ridge I)^-1 F^T Y,   F (n, p), Y (n, c), W (p, c)

The loss is a sum over examples, so ridge scales with n. Chen, Huang, Weng (2024), section 3.1 and 7.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import features, linalg, settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.errors import UserError
from stillhouse.features import FeatureMap
from stillhouse.moments import Part, Statistics, shard
from stillhouse.run import Run, stream
from stillhouse.sets import DistilledSet, RealSet, Split
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher

TASKS = ("classification", "regression")
CHUNK = 2048  # examples whose features are held at once


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
    return _fitted(statistics(real, embedding, params, run), embedding, params, real, run)


def find_or_fit(real: RealSet, params: Params, run: Run) -> Teacher:
    """The teacher of this model, seed and data among the run's, or one fitted here."""
    return run.find_teacher(settings.dump(params), run.seed, real.fingerprint) or fit_real(real, params, run)


def accumulate(real: RealSet, params: Params, run: Run, number: int = 1, shards: int = 1) -> Statistics:
    """What `fit_real` needs of the training part: of all of it, or of the `number`-th of so many contiguous slices."""
    fitted, _ = split(len(real.train), params.validation, run.seed)
    return statistics(real, embed(params, real, run.seed), params, run, shard(len(fitted), number, shards))


def absorb(old: Statistics, real: RealSet, run: Run) -> Statistics:
    """`old` with the training part of another real set added, seen through old's space and feature map; old's data are not read.

    Raises UserError where the examples have another shape or other classes, or were summed already.
    """
    if (real.shape, real.columns) != (old.shape, old.columns):
        raise UserError(
            f"{real.name}: its examples of shape {real.shape} with {real.width} columns of targets are not like those summed: "
            f"shape {old.shape}, columns {', '.join(old.columns)}. Bring them to that form."
        )
    if real.regression:
        raise UserError(
            f"{real.name}: its values are standardised by its own training split, and sums of two standards have no meaning. "
            "Put all rows into one data set."
        )
    params = settings.parse(Params, old.model, "model")
    seeded = dataclasses.replace(run, seed=old.seed)
    embedding = Embedding(spaces.from_settings(old.space), feature_map(params, real.dim, old.seed))
    return old.absorb(statistics(real, embedding, params, seeded))


def fit_moments(sums: Statistics, real: RealSet, run: Run) -> Teacher:
    """Fit from moments alone; the validation part of `real` chooses the ridge. The same as `fit_real`, up to rounding, where
    the moments are of all of real's training part.
    """
    params = settings.parse(Params, sums.model, "model")
    embedding = Embedding(spaces.from_settings(sums.space), feature_map(params, real.dim, sums.seed))
    return _fitted(sums, embedding, params, real, run)


def _fitted(summed: Statistics, embedding: Embedding, params: Params, real: RealSet, run: Run) -> Teacher:
    sums = summed.moments
    path = linalg.RidgePath.of_moments(sums.gram.to(run.device), sums.cross.to(run.device))
    ridges = params.ridge.values()
    _, held_out = split(len(real.train), params.validation, summed.seed)
    merits = validation_merits(path, ridges, real, embedding, held_out, run)
    best = _best(ridges, merits)
    notes = {
        "ridge": best,
        "ridges": ridges,
        f"validation_{real.merit_name}": merits,
        "examples": sums.count,
        "rank": path.rank(),
        "eigenvalues": [float(path.values[0]), float(path.values[-1])],
    }
    return Teacher.of(real, params, summed.seed, {"weights": path.weights(best)}, embedding.space, notes)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on a distilled set, with the ridge its schedule asks for, else the best on the real set's validation part.

    A set that lives in this model's space is used as it is; another goes through pixels.
    """
    embedding = embed(params, real, run.seed)
    rows = set_features(distilled, embedding).to(run.device)
    targets = distilled.target_rows(real).to(rows)
    if "ridge" in distilled.schedule:
        ridge = float(distilled.schedule["ridge"])
        weights = solve(rows, targets, ridge)
        notes: dict[str, Any] = {"ridge": ridge, "ridge_from": "the set's schedule"}
    else:
        weights, notes = _chosen(rows, targets, real, params, embedding, run)
    return Teacher.of(real, params, run.seed, {"weights": weights}, embedding.space, notes)


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) with `dim` values each to scores (b, c), float64, on `device`."""
    params = settings.parse(Params, teacher.model, "model")
    embedding = Embedding(spaces.from_settings(teacher.space), feature_map(params, dim, teacher.seed))
    weights = teacher.weights["weights"].to(device)
    return lambda pixels: embedding.features(pixels).to(weights) @ weights


def parameters(teacher: Teacher) -> torch.Tensor:
    """What it learned, flat: W (p, c) as a vector."""
    return teacher.weights["weights"].flatten()


def solve(rows: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """Ridge weights (p, c) of rows (m, p) and targets (m, c); the least-norm interpolation for ridge = 0."""
    return linalg.ridge_solve(rows, targets, ridge)


def set_features(distilled: DistilledSet, embedding: Embedding) -> torch.Tensor:
    """Features (m, p), float64, of a distilled set's inputs."""
    return embedding.map(distilled.inputs_in(embedding.space).flatten(1))


def split(count: int, validation: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the fitted and of the held-out examples, both ascending, drawn at random."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(stream(seed, "validation split")))
    held_out = max(1, round(count * validation))
    return order[held_out:].sort().values, order[:held_out].sort().values


def statistics(
    real: RealSet, embedding: Embedding, params: Params, run: Run, within: tuple[int, int] | None = None
) -> Statistics:
    """The moments of the training part, or of its examples `within` start and stop, with what identifies them."""
    fitted, _ = split(len(real.train), params.validation, run.seed)
    start, stop = within or (0, len(fitted))
    return Statistics(
        moments=moments(real, embedding, fitted, run, (start, stop)),
        model=settings.dump(params),
        seed=run.seed,
        space=embedding.space.settings(),
        shape=real.shape,
        columns=real.columns,
        parts=(Part(real.identity, len(fitted), start, stop),),
    )


def moments(
    real: RealSet, embedding: Embedding, index: torch.Tensor, run: Run, within: tuple[int, int] | None = None
) -> linalg.Moments:
    """Gram and cross-moments over the training examples at `index`, or at index[start:stop] for `within`, in one pass.

    Features do not depend on `within`, not in their last bit: a product's rounding depends on its shape, so examples
    are embedded in the chunks of the whole index, also those of which only a part is summed.
    """
    start, stop = within or (0, len(index))
    first, last = start // CHUNK * CHUNK, min(-(-stop // CHUNK) * CHUNK, len(index))
    sums = linalg.Moments(embedding.map.dim, real.width, run.device)
    offsets = range(first, last, CHUNK) if start < stop else range(0)
    chunks = zip(offsets, feature_chunks(real.train, embedding, index[first:last], run), strict=False)
    for offset, (rows, labels) in run.progress(chunks, len(offsets), "Gram matrix"):
        summed = slice(max(start - offset, 0), stop - offset)
        sums.add(rows[summed], real.target_rows(labels[summed]).to(run.device))
    return sums


def validation_merits(
    path: linalg.RidgePath, ridges: list[float], real: RealSet, embedding: Embedding, held_out: torch.Tensor, run: Run
) -> list[float]:
    """Mean merit over the held-out examples, for every ridge: the fraction classified rightly, or R^2 (`RealSet.merit`)."""
    total = [0.0] * len(ridges)
    for rows, targets in feature_chunks(real.train, embedding, held_out, run):
        for i, scores in enumerate(path.predictions(rows.to(torch.float64), ridges)):
            total[i] += real.merit(scores, targets)
    return [each / len(held_out) for each in total]


def _chosen(
    rows: torch.Tensor, targets: torch.Tensor, real: RealSet, params: Params, embedding: Embedding, run: Run
) -> tuple[torch.Tensor, dict[str, Any]]:
    ridges = params.ridge.values()
    _, held_out = split(len(real.train), params.validation, run.seed)
    path = linalg.RidgePath.of_rows(rows, targets)
    best = _best(ridges, validation_merits(path, ridges, real, embedding, held_out, run))
    return path.weights(best), {"ridge": best, "ridge_from": "validation data"}


def _best(ridges: list[float], merits: list[float]) -> float:
    """The ridge of the highest merit; the largest of equals."""
    return max(zip(merits, ridges, strict=True))[1]


def feature_chunks(
    train: Split, embedding: Embedding, index: torch.Tensor, run: Run
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Features (b, p) and targets, as they are, of the training examples at `index`, a chunk at a time.

    Of pixels in float32; of a table in float64, as a column far from 0 loses digits when its mean is taken off.
    """
    dtype = torch.float64 if train.inputs.is_floating_point() else torch.float32
    for pixels, labels in train.chunks(CHUNK, index):
        yield embedding.features(pixels.to(run.device, dtype)), labels
