"""What a network's file gives, from how it is built: training on a real and on a distilled set, and a predictor.

A distilled set is trained on as its schedule asks, if it has one, else as the model's settings say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from stillhouse import settings, spaces
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.models import ridge_readout, training
from stillhouse.models.training import Examples, Prescription, Schedule, Settings, Training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher

_CHUNK = 2048  # validation examples scored at once
# How far the targets of one example may sum from 1 and still be probabilities.
_PROBABILITY = 1e-3
# What a distilled set's schedule may hold without being obeyed here: the ridge is for the closed form.
_NOT_FOR_NETWORKS = {"ridge"}

# What a network's file gives: fit_real, fit_distilled and predictor of `models`.
Functions = tuple[
    Callable[[RealSet, Any, Run], Teacher],
    Callable[[DistilledSet, RealSet, Any, Run], Teacher],
    Callable[[Teacher, int, torch.device], Callable[[torch.Tensor], torch.Tensor]],
]


def functions(
    build: Callable[[Any, tuple[int, ...], int], nn.Sequential], settings_of: type, at_once: int | None = None
) -> Functions:
    """Those of a network, from its file's `build` and `Params`; `at_once` as in `train`."""

    def real_set(real: RealSet, params: Any, run: Run) -> Teacher:
        return fit_real(build(params, real.shape, real.width), real, params, run, at_once)

    def distilled_set(distilled: DistilledSet, real: RealSet, params: Any, run: Run) -> Teacher:
        return fit_distilled(build(params, real.shape, real.width), distilled, real, params, run, at_once)

    def scorer(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        params: Any = settings.parse(settings_of, teacher.model, "model")
        return predictor(build(params, *shape(teacher)), teacher, params.training, device, at_once)

    return real_set, distilled_set, scorer


def fit_real(network: nn.Sequential, real: RealSet, params: Settings, run: Run, at_once: int | None = None) -> Teacher:
    """Train on the whole training split onto target rows; images are read and moved into the space batch by batch."""
    space = whitening.fit(params.space, real)

    def pick(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = pixels(real.train.inputs[index]).to(run.device)
        targets = real.target_rows(real.train.targets[index])
        return space.forward(images), targets.to(images)

    asked = params.training
    steps = asked.epochs_real * training.steps_of_epoch(len(real.train), asked)
    return _fit(network, Examples(len(real.train), pick), asked, steps, space, real, params, run, at_once)


def fit_distilled(
    network: nn.Sequential,
    distilled: DistilledSet,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None = None,
) -> Teacher:
    """Train on a distilled set, by its own schedule where it has one.

    Raises UserError where the set asks for what is not done here.
    """
    schedule = schedule_of(distilled, params)
    space = whitening.fit(params.space, real)
    inputs, targets = rows(distilled, real, space, params.training, run.device)
    if isinstance(schedule, Schedule):
        _start(network, schedule, params, run, distilled.name)
        notes = notes_of(real, len(inputs)) | training.follow(network, inputs, targets, schedule)
        return Teacher.of(real, params, run.seed, network.state_dict(), space, notes)
    examples = Examples(len(inputs), lambda index: (inputs[index], targets[index]))
    if schedule is not None:
        return _prescribed(network, examples, schedule, space, real, params, run, at_once)
    asked = params.training
    steps = asked.epochs * training.steps_of_epoch(examples.count, asked)
    if asked.learning_rates:
        return _best_rate(network, examples, steps, space, real, params, run, at_once)
    return _fit(network, examples, asked, steps, space, real, params, run, at_once)


def rows(
    distilled: DistilledSet, real: RealSet, space: Space, asked: Training, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (m, *shape) in the space and targets (m, c) of a distilled set, float32, as a training asks for them.

    Raises UserError where its loss cannot take the targets. Those of a set with a schedule of its own are left to that.
    """
    inputs = distilled.inputs_in(space).to(device, torch.float32)
    own = distilled.target_rows(real).to(inputs)
    needy = asked.loss == "cross_entropy" and not _asked(distilled)
    if asked.targets == "hard" or (asked.targets == "own_or_hard" and needy and not _probabilities(own)):
        return inputs, spaces.one_hot(distilled.labels, real.n_classes).to(inputs)
    if needy:
        _check_probabilities(own, distilled.name)
    return inputs, own


def predictor(
    network: nn.Sequential, teacher: Teacher, asked: Training, device: torch.device, at_once: int | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to scores (b, c), float32, of the trained `network`, on `device`."""
    space = spaces.from_settings(teacher.space)
    network.load_state_dict({name: weight.to(device) for name, weight in teacher.weights.items()}, assign=True)
    network.eval()
    size = at_once if device.type == "cpu" else None

    @torch.inference_mode()
    def predict(images: torch.Tensor) -> torch.Tensor:
        parts = torch.split(space.forward(images), size or len(images))
        return torch.cat([training.scores(network, part, asked.precision) for part in parts])

    return predict


def shape(teacher: Teacher) -> tuple[tuple[int, ...], int]:
    """What a network was built for: the shape of an example and the number of scores."""
    return tuple(teacher.notes["shape"]), int(teacher.notes["scores"])


def notes_of(real: RealSet, count: int) -> dict[str, Any]:
    """What a network was built for, and on how many examples it was trained: what `shape` reads, and a reader."""
    return {"shape": list(real.shape), "scores": real.width, "examples": count}


def _fit(
    network: nn.Sequential,
    examples: Examples,
    asked: Training,
    steps: int,
    space: Space,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None,
) -> Teacher:
    training.initialise(network, run.generator("initial weights"), run.device, params.initialisation)
    notes = notes_of(real, examples.count) | training.train(network, examples, asked, steps, run, at_once)
    return Teacher.of(real, params, run.seed, network.state_dict(), space, notes)


def schedule_of(distilled: DistilledSet, params: Settings) -> Schedule | Prescription | None:
    """What a set asks for. Raises UserError where that is not done here."""
    asked = _asked(distilled)
    if not asked:
        return None
    kind = next((each for each, name in _DECISIVE.items() if name in asked), None)
    unknown = sorted(set(asked) - ({each.name for each in dataclasses.fields(kind)} if kind else set()))
    if unknown or kind is None:
        raise UserError(
            f"{distilled.name}: its schedule asks for {', '.join(unknown)}, which models/{settings.kind_of(params)} does not "
            "do. Score it by the model it was made for."
        )
    return settings.parse(kind, asked, f"{distilled.name}: schedule")


def _asked(distilled: DistilledSet) -> dict[str, Any]:
    """What of its schedule is for networks."""
    return {name: value for name, value in distilled.schedule.items() if name not in _NOT_FOR_NETWORKS}


# What a schedule says that no other kind of schedule does.
_DECISIVE: dict[type[Schedule] | type[Prescription], str] = {Schedule: "step_sizes", Prescription: "optimiser"}


def _prescribed(
    network: nn.Sequential,
    examples: Examples,
    asked: Prescription,
    space: Space,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None,
) -> Teacher:
    """Trained by an ordinary training that a set asks for, or with a classifier that is solved along the way."""
    if asked.readout is None:
        ordinary = asked.training(params.training)
        return _fit(network, examples, ordinary, asked.steps, space, real, params, run, at_once)
    training.initialise(network, run.generator("initial weights"), run.device, params.initialisation)
    notes = notes_of(real, examples.count)
    notes |= ridge_readout.train(network, examples, asked.readout, asked.learning_rate, asked.batch, asked.steps, run)
    return Teacher.of(real, params, run.seed, network.state_dict(), space, notes)


def _start(network: nn.Sequential, schedule: Schedule, params: Settings, run: Run, name: str) -> None:
    """The initial weights that a schedule asks for: drawn, or those of a teacher among the run's."""
    if schedule.start is None:
        training.initialise(network, run.generator("initial weights"), run.device, params.initialisation)
        return
    teacher = run.find_teacher(settings.dump(params), run.seed, schedule.start)
    if teacher is None:
        raise UserError(
            f"{name}: its schedule starts from weights of a trained models/{settings.kind_of(params)} (seed {run.seed}, "
            f"data {schedule.start[:12]}), which is not among the teachers. Train it first."
        )
    network.load_state_dict(
        {key: weight.to(run.device).clone() for key, weight in teacher.weights.items()}, assign=True
    )


def _best_rate(
    network: nn.Sequential,
    examples: Examples,
    steps: int,
    space: Space,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None,
) -> Teacher:
    """Trained with each of the learning rates; one with which training ends in numbers that are none is out."""
    best: tuple[float, Teacher] | None = None
    for each in sorted(params.training.learning_rates):
        tried = dataclasses.replace(params.training, learning_rate=each)
        try:
            fitted = _fit(network, examples, tried, steps, space, real, params, run, at_once)
        except NumericalError as problem:
            run.log.info("learning rate %g: %s", each, problem)
            continue
        merit = _validation_merit(network, real, space, tried, run, at_once)
        if best is None or merit > best[0]:
            notes = {**fitted.notes, "learning_rate": each, f"validation_{real.merit_name}": merit}
            best = merit, dataclasses.replace(fitted, notes=notes)
    if best is None:
        raise NumericalError(
            f"training: none of the learning rates {list(params.training.learning_rates)} gave numbers"
        )
    return best[1]


@torch.inference_mode()
def _validation_merit(
    network: nn.Sequential, real: RealSet, space: Space, asked: Training, run: Run, at_once: int | None
) -> float:
    """Mean merit of what the trained network says of the last training examples (`RealSet.merit`)."""
    index = torch.arange(max(0, len(real.train) - asked.validation), len(real.train))
    total = 0.0
    for images, targets in real.train.chunks(at_once or _CHUNK, index):
        total += real.merit(training.scores(network, space.forward(images.to(run.device)), asked.precision), targets)
    return total / len(index)


def _probabilities(targets: torch.Tensor) -> bool:
    return float(targets.min()) >= 0 and float((targets.sum(1) - 1).abs().max()) <= _PROBABILITY


def _check_probabilities(targets: torch.Tensor, name: str) -> None:
    sums = targets.sum(1)
    if not _probabilities(targets):
        raise UserError(
            f"{name}: its targets are no probabilities (from {float(targets.min()):.3g} to {float(targets.max()):.3g}, sums "
            f"from {float(sums.min()):.3g} to {float(sums.max()):.3g}), which cross_entropy needs. Set training.loss: mse, or "
            "training.targets: own_or_hard."
        )
