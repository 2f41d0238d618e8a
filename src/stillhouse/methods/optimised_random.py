"""Optimised random images: of many random sets of real images the one that networks learn most from.

A baseline of Wang, Zhu, Torralba, Efros (2018, DD), section 4, *optimized real images*; their code draws 50 sets and keeps the
one with the best mean accuracy of 20 networks. Here that accuracy is on training images kept apart, from which no set is drawn:
the test split is not looked at. The same networks, by their initial weights, learn from every set, so that a lucky network does
not make a set the best.

Memory: one set, and the networks that a device trains at once. Time: `draws` x `networks` trainings on a set.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import settings
from stillhouse.methods import groups, selection
from stillhouse.models import ensemble, fitting, layers, ridge, training
from stillhouse.run import Run, State, stream
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

_PUBLISHED = 50 * 20  # trainings (DD, code)

SELECTS = True


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DD's code."""

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(description="the network that learns from each set, and how it is trained on one: a name under models"),
    ]
    draws: Annotated[int, Field(ge=1, description="random sets of which the best is kept")] = 50
    networks: Annotated[int, Field(ge=1, description="trained on each, whose mean accuracy counts")] = 20
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training images kept apart, to choose by")
    ] = 0.05

    def __post_init__(self) -> None:
        training.check_network(self.model)


def budget(params: Params) -> float:
    """The part of the published number of trainings."""
    return params.draws * params.networks / _PUBLISHED


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training examples of each class, classes in turn: the best of all draws, the first of equals.

    Raises NumericalError where a training ends in numbers that are none. Resumes from the run's store.
    """
    fitted, held_out = ridge.split(len(real.train), params.validation, run.seed)
    of = groups.groups(real, per_class, within=fitted)
    accuracies = _kept(run)
    what = f"random sets of {real.size(per_class)} images"
    seeds = [stream(run.seed, f"network {number}") for number in range(params.networks)]
    trial = functools.partial(scores, _drawn(real, of, per_class, run, 0), real, held_out, params.model, seeds[:1], run)
    run.foretell(f"{what}, each a training", params.networks * (params.draws - len(accuracies)), trial)
    for number in run.progress(range(len(accuracies), params.draws), params.draws - len(accuracies), what):
        found = scores(_drawn(real, of, per_class, run, number), real, held_out, params.model, seeds, run)
        accuracies.append(sum(found) / len(found))
        run.record(step=number, validation_accuracy=accuracies[-1])
        run.offer(functools.partial(_state, accuracies))
    drawn = torch.tensor(accuracies, dtype=torch.float64)
    best = int(drawn.argmax())
    said = {"draw": best, "validation_accuracy": accuracies[best], "mean_validation_accuracy": float(drawn.mean())}
    return dataclasses.replace(_drawn(real, of, per_class, run, best), recipe={"numerics": said})


def scores(
    made: DistilledSet, real: RealSet, held_out: torch.Tensor, model: Any, seeds: Sequence[int], run: Run
) -> list[float]:
    """Accuracies in percent, on the training images at positions `held_out`, of networks of these seeds that learn from a set."""

    def score(student: Teacher) -> float:
        network = training.build(model, real.shape, real.width)
        predict = fitting.predictor(network, student, model.training, run.device, layers.AT_ONCE)
        chunks = real.train.chunks(selection.CHUNK, held_out)
        return 100 * sum(real.merit(predict(images.to(run.device)), of) for images, of in chunks) / len(held_out)

    return list(ensemble.train(made, real, model, seeds, dataclasses.replace(run, store=None), score))


def _drawn(real: RealSet, of: list[torch.Tensor], per_class: int, run: Run, number: int) -> DistilledSet:
    """The set of that number; each has its own chances, so that no other need be drawn before it."""
    return groups.examples(real, groups.draw(of, per_class, run.generator(f"draw {number}")))


def _state(accuracies: list[float]) -> State:
    return {"accuracies": torch.tensor(accuracies, dtype=torch.float64)}, {}


def _kept(run: Run) -> list[float]:
    """Accuracies of the sets that were tried before."""
    kept = run.kept()
    return [] if kept is None else kept[0]["accuracies"].tolist()
