"""The judge: train a protocol's model on a distilled set and score it on the whole test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from stillhouse import plugins, settings
from stillhouse.errors import NumericalError
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

_CHUNK = 2048  # test examples scored at once


@dataclass(frozen=True)
class Protocol:
    """How a distilled set is scored."""

    model: Annotated[
        str,
        Field(
            description="a name under models; 'same': the model a set was made for, and for sets made for none "
            "(random, whole) every model of the study"
        ),
    ]
    training: Annotated[
        Literal["own"],
        Field(description="own: the schedule in the set's file where it has one, else what the model's settings say"),
    ] = "own"
    trainings: Annotated[
        int, Field(ge=1, description="models trained on each set that does not name its initial weights")
    ] = 1


@dataclass(frozen=True)
class Score:
    """One trained model's result: the seed of its training, the metric's name and value (accuracies in percent)."""

    training_seed: int
    metric: str
    value: float


def judge(distilled: DistilledSet, real: RealSet, model: Any, trainings: int, seed: int, run: Run) -> Iterator[Score]:
    """Train `model` (a model's Params) on `distilled` and score it.

    A set made for this very model names the seed of its initial weights, and that one is used; otherwise `trainings`
    seeds that depend on `seed`, the set's own.
    """
    module = plugins.load("models", settings.kind_of(model))
    for training_seed in training_seeds(distilled, model, trainings, seed):
        seeded = dataclasses.replace(run, seed=training_seed)
        student = module.fit_distilled(distilled, real, model, seeded)
        yield Score(training_seed, "test accuracy", accuracy(student, real, run))
    if distilled.certificate and fits(distilled, model):
        yield Score(training_seed, "weight error", float(distilled.certificate["error_images"]))


def fits(distilled: DistilledSet, model: Any) -> bool:
    """Whether the set was made for this very model."""
    made_for = {k: v for k, v in (distilled.model or {}).items() if k != "seed"}
    return bool(made_for == settings.dump(model))


def training_seeds(distilled: DistilledSet, model: Any, trainings: int, seed: int) -> list[int]:
    """The seeds of the models to train on this set."""
    if distilled.model is not None and fits(distilled, model):
        return [int(distilled.model["seed"])]
    return [seed * trainings + i for i in range(trainings)]


def accuracy(trained: Teacher, real: RealSet, run: Run) -> float:
    """Test accuracy in percent, on the whole test set. Raises NumericalError when a score is NaN."""
    predict = plugins.load("models", str(trained.model["kind"])).predictor(trained, real.dim, run.device)
    right = 0
    for images, labels in real.test.chunks(_CHUNK):
        scores = predict(images.to(run.device))
        if not bool(scores.isfinite().all()):
            raise NumericalError(f"scores of {real.name}'s test examples are NaN or infinite")
        right += int((scores.argmax(1).cpu() == labels).sum())
    return 100 * right / len(real.test)
