"""The judge: train a protocol's model on a distilled set and score it on the whole test set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg, plugins, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import approximation, metrics
from stillhouse.models import ensemble
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

How = Literal["own", "redrawn", "common"]

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
        How,
        Field(
            description="own: the schedule in the set's file where it has one, from the initial weights that it names, else what "
            "the model's settings say; redrawn: the same from other initial weights; common: what the model's settings say, for "
            "every set"
        ),
    ] = "own"
    trainings: Annotated[
        int, Field(ge=1, description="models trained on each set that does not name its initial weights")
    ] = 1


@dataclass(frozen=True)
class Score:
    """One trained model's result: the seed of its training, the metric's name and value.

    Accuracies are in percent, errors of values in their own units.
    """

    training_seed: int
    metric: str
    value: float


class References:
    """What models trained on the whole real set say of its test examples; each is asked once, whatever number of sets is scored.

    They are those among the run's teachers that have this model's settings.
    """

    def __init__(self, real: RealSet, model: Any, run: Run) -> None:
        self._real, self._model, self._run = real, settings.dump(model), run
        self._found: dict[int, tuple[Teacher, torch.Tensor] | None] = {}

    def of(self, seed: int) -> tuple[Teacher, torch.Tensor] | None:
        """The teacher of that seed and its scores (n, c), or None where there is none."""
        if seed not in self._found:
            teacher = self._run.find_teacher(self._model, seed, self._real.fingerprint)
            self._found[seed] = None if teacher is None else (teacher, test_scores(teacher, self._real, self._run))
        return self._found[seed]


def judge(
    distilled: DistilledSet, real: RealSet, model: Any, trainings: int, seed: int, run: Run,
    references: References | None = None, how: How = "own",
) -> Iterator[Score]:  # fmt: skip
    """Train `model` (a model's Params) on `distilled` and score it, `how` as a protocol's training says.

    A set made for this very model names the seed of its initial weights, and that one is used where the training is its own;
    otherwise `trainings` seeds that depend on `seed`, the set's own. Where `references` has a teacher of that seed, how closely
    it is approximated.
    """
    seeds = training_seeds(distilled, model, trainings, seed, how)
    asked = dataclasses.replace(distilled, schedule={}) if how == "common" else distilled

    def found(student: Teacher) -> tuple[Teacher, torch.Tensor]:
        return student, test_scores(student, real, run)

    for each, (student, scores) in zip(seeds, ensemble.train(asked, real, model, seeds, run, found), strict=True):
        worth = metrics.of(scores, real.test.targets, real)
        reference = references.of(each) if references is not None else None
        if reference is not None:
            worth |= closeness(student, scores, *reference, real)
        yield from (Score(each, metric, value) for metric, value in worth.items())
    proven = distilled.certificate or {}
    if "error_images" in proven and how == "own" and fits(distilled, model):
        yield Score(seeds[0], "weight error", float(proven["error_images"]))


def fits(distilled: DistilledSet, model: Any) -> bool:
    """Whether the set was made for this very model: settings that its file does not name have their defaults."""
    made_for = {k: v for k, v in (distilled.model or {}).items() if k != "seed"}
    try:
        return bool(made_for) and settings.dump(settings.parse_plugin("models", made_for, "model")) == settings.dump(
            model
        )
    except UserError:  # settings that no model has any more
        return False


def training_seeds(distilled: DistilledSet, model: Any, trainings: int, seed: int, how: How = "own") -> list[int]:
    """The seeds of the models to train on this set: the one that it names, where it is asked for, else drawn by `seed`."""
    named = (distilled.model or {}).get("seed") if fits(distilled, model) else None
    if named is not None and how == "own":
        return [int(named)]
    if named is not None and how == "redrawn":
        others = (seed * (trainings + 1) + i for i in range(trainings + 1))
        return [each for each in others if each != int(named)][:trainings]
    return [seed * trainings + i for i in range(trainings)]


def accuracy(trained: Teacher, real: RealSet, run: Run) -> float:
    """Test accuracy in percent, on the whole test set. Raises NumericalError when a score is NaN."""
    return teacher_metrics(trained, real, run)["test accuracy"]


def teacher_metrics(trained: Teacher, real: RealSet, run: Run) -> dict[str, float]:
    """What the whole test set says of a trained model. Raises NumericalError when a score is NaN."""
    return metrics.of(test_scores(trained, real, run), real.test.targets, real)


def closeness(
    student: Teacher, found: torch.Tensor, teacher: Teacher, wanted: torch.Tensor, real: RealSet
) -> dict[str, float]:
    """How near a student with scores `found` (n, c) is to the teacher with scores `wanted`: by their scores, for classes, and by
    their parameters, where the model's file says which of them have a meaning (its `parameters`).
    """
    near = {} if real.regression else approximation.compare(found, wanted, real.test.targets)
    module = plugins.load("models", str(teacher.model["kind"]))
    if hasattr(module, "parameters"):
        near["parameter distance"] = linalg.relative_error(module.parameters(student), module.parameters(teacher))
    return near


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
