"""The judge: train a protocol's model on a distilled set and score it on the whole test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import plugins, settings
from stillhouse.errors import NumericalError
from stillhouse.evaluation import approximation
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


class References:
    """What models trained on the whole real set say of its test examples; each is asked once, whatever number of sets is scored.

    They are those among the run's teachers that have this model's settings.
    """

    def __init__(self, real: RealSet, model: Any, run: Run) -> None:
        self._real, self._model, self._run = real, settings.dump(model), run
        self._scores: dict[int, torch.Tensor | None] = {}

    def scores(self, seed: int) -> torch.Tensor | None:
        """Scores (n, c) of the teacher of that seed, or None where there is none."""
        if seed not in self._scores:
            teacher = self._run.find_teacher(self._model, seed, self._real.fingerprint)
            self._scores[seed] = None if teacher is None else test_scores(teacher, self._real, self._run)
        return self._scores[seed]


def judge(
    distilled: DistilledSet, real: RealSet, model: Any, trainings: int, seed: int, run: Run,
    references: References | None = None,
) -> Iterator[Score]:  # fmt: skip
    """Train `model` (a model's Params) on `distilled` and score it.

    A set made for this very model names the seed of its initial weights, and that one is used; otherwise `trainings`
    seeds that depend on `seed`, the set's own. Where `references` has a teacher of that seed, how closely it is approximated.
    """
    module = plugins.load("models", settings.kind_of(model))
    for training_seed in training_seeds(distilled, model, trainings, seed):
        seeded = dataclasses.replace(run, seed=training_seed)
        student = module.fit_distilled(distilled, real, model, seeded)
        found = test_scores(student, real, run)
        yield Score(training_seed, "test accuracy", percent_right(found, real))
        theirs = references.scores(training_seed) if references is not None else None
        if theirs is not None:
            metrics = approximation.compare(found, theirs, real.test.targets)
            yield from (Score(training_seed, metric, value) for metric, value in metrics.items())
    proven = distilled.certificate or {}
    if "error_images" in proven and fits(distilled, model):
        yield Score(training_seed, "weight error", float(proven["error_images"]))


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
    return percent_right(test_scores(trained, real, run), real)


def percent_right(scores: torch.Tensor, real: RealSet) -> float:
    """Percent of the test examples whose largest score (n, c) is that of their class."""
    return 100 * int((scores.argmax(1) == real.test.targets).sum()) / len(real.test)


def test_scores(trained: Teacher, real: RealSet, run: Run) -> torch.Tensor:
    """Scores (n, c) of all test examples. Raises NumericalError when one is NaN."""
    predict = plugins.load("models", str(trained.model["kind"])).predictor(trained, real.dim, run.device)
    found = []
    for images, _ in real.test.chunks(_CHUNK):
        scores = predict(images.to(run.device))
        if not bool(scores.isfinite().all()):
            raise NumericalError(f"scores of {real.name}'s test examples are NaN or infinite")
        found.append(scores.cpu())
    return torch.cat(found)
