"""Forgetting: the real examples that a network, while it trains on all of them, forgets most often.

Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon (2019), *An Empirical Study of Example Forgetting during Deep Neural
Network Learning*, Algorithm 1. Whenever example i is in a batch, before the step on it,

    a_i = whether the network is right about it,   t_i grows by one where a_i is false and was true the time before

One about which it was never right counts as forgotten infinitely often. Toneva et al. leave the least forgotten examples out of a
large set; as a coreset, Zhao, Mopuri, Bilen (2021) name the method and no more. Taken here are those of each class that are
forgotten most often, `order: most`, or those that are learned and never forgotten, `order: least`; of equals, random ones.

The network is the teacher that its model's settings describe, but for the number of epochs: same initial weights, same batches.

Memory: the network with its optimiser's, one batch, and 6 bytes an example. Time: that of training on the whole real set, for
every set however small.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import settings, siamese
from stillhouse.data import whitening
from stillhouse.errors import NumericalError
from stillhouse.methods import groups, matching
from stillhouse.methods.support import put_back, state, under
from stillhouse.models import layers, training
from stillhouse.models.training import Training
from stillhouse.run import Run, State
from stillhouse.sets import DistilledSet, RealSet, pixels

_NEVER_LEARNED = torch.iinfo(torch.int64).max  # infinitely often

SELECTS = True


@dataclass(frozen=True)
class Params:
    """Settings. Toneva et al.: 200 epochs, and for CIFAR-10 SGD of learning rate 0.1 and momentum 0.9 with batches of 128, flips,
    crops and cutout, which stand under `training` of the model.
    """

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(description="the network that learns and forgets, and how it is trained: a name under models"),
    ]
    order: Annotated[
        Literal["most", "least"],
        Field(
            description="most: the most often forgotten of each class, those never learned first; least: the other end"
        ),
    ] = "most"
    epochs: Annotated[int, Field(ge=1, description="passes over the whole real set")] = 200
    full_epochs: Annotated[int, Field(ge=1, description="of the published setting: what `epochs` is a part of")] = 200

    def __post_init__(self) -> None:
        training.check_network(self.model)


@dataclass(frozen=True)
class History:
    """What became of each of n examples at the times that it was seen.

    times    how often it went from right to wrong, (n,) int32
    right    whether it was right when it was seen last, (n,) bool
    learned  whether it was ever right, (n,) bool
    """

    times: torch.Tensor
    right: torch.Tensor
    learned: torch.Tensor

    @classmethod
    def unseen(cls, count: int) -> History:
        """Of examples that were never seen."""
        never = torch.zeros(count, dtype=torch.bool)
        return cls(torch.zeros(count, dtype=torch.int32), never, never.clone())

    def see(self, index: torch.Tensor, right: torch.Tensor) -> None:
        """Note, in place, whether the examples at positions (b,), none twice, are right, (b,) bool."""
        self.times[index] += (self.right[index] & ~right).to(self.times.dtype)
        self.right[index] = right
        self.learned[index] |= right

    def rank(self, positions: torch.Tensor, order: str, rng: torch.Generator) -> torch.Tensor:
        """`positions` (k,) from the most or the least often forgotten on; equals in random order."""
        shuffled = positions[torch.randperm(len(positions), generator=rng)]
        counts = self.times[shuffled].to(torch.int64).where(self.learned[shuffled], _NEVER_LEARNED)
        return shuffled[counts.argsort(descending=order == "most", stable=True)]

    def summary(self) -> dict[str, int]:
        """How many examples were never learned, how many learned and never forgotten, and the number of times in all."""
        return {
            "never_learned": int((~self.learned).sum()),
            "never_forgotten": int((self.learned & (self.times == 0)).sum()),
            "forgetting_events": int(self.times.sum()),
        }


def budget(params: Params) -> float:
    """The part of the published number of epochs."""
    return params.epochs / params.full_epochs


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` training examples of each class, classes in turn. A larger set begins with the smaller one.

    Raises NumericalError naming the step at which the loss is no longer finite. Resumes from the run's store.
    """
    of, ties = groups.groups(real, per_class), run.generator("ties")
    history = watch(real, params, run)
    found = history.summary()
    run.log.info("forgetting: of %d examples %s", len(real.train), found)
    chosen = [history.rank(positions, params.order, ties)[:per_class] for positions in of]
    return dataclasses.replace(groups.examples(real, groups.in_turn(chosen)), recipe={"numerics": found})


def watch(real: RealSet, params: Params, run: Run) -> History:
    """Train a network on the whole real set; what it forgets on the way."""
    watched = _Watched(real, params, run)
    first = watched.resume()
    what = f"forgetting, {params.epochs} epochs"
    run.foretell(what, (params.epochs - first) * watched.per_epoch, _Watched(real, params, run).trial)
    for epoch in run.progress(range(first, params.epochs), params.epochs - first, what):
        watched.epoch(epoch)
        run.offer(functools.partial(watched.state, epoch + 1))
    return watched.history


class _Watched:
    """A network in training, and what it has forgotten."""

    def __init__(self, real: RealSet, params: Params, run: Run) -> None:
        self._real, self._run = real, run
        self._training: Training = params.model.training
        self._space = whitening.fit(params.model.space, real)
        self._network = matching.fresh(params.model, real, run.generator("initial weights"), run.device)
        self._network.train()
        self._weights = dict(self._network.named_parameters())
        self._optimiser = training.optimiser_of(self._weights.values(), self._training)
        self._draws = {name: run.generator(name) for name in ("batches", "augmentation")}
        self.history = History.unseen(len(real.train))
        self.per_epoch = training.steps_of_epoch(len(real.train), self._training)
        self._steps = params.epochs * self.per_epoch

    def epoch(self, number: int) -> None:
        """Train on every example once, in a new order; record the mean loss, and how many were right on being seen."""
        order = torch.randperm(len(self._real.train), generator=self._draws["batches"])
        total = 0.0
        for place, index in enumerate(torch.split(order, self._training.batch)):
            total += self.step(number * self.per_epoch + place, index) * len(index)
        accuracy = 100 * float(self.history.right.to(torch.float64).mean())
        self._run.record(step=number + 1, loss=total / len(order), training_accuracy=accuracy)

    def step(self, number: int, index: torch.Tensor) -> float:
        """Look at the examples at positions (b,), then train on them; returns their mean loss."""
        labels = self._real.train.targets[index]
        images = self._space.forward(pixels(self._real.train.inputs[index]).to(self._run.device))
        drawn = siamese.draw(self._training.augmentation, self._draws["augmentation"], len(index))
        training.set_rate(self._optimiser, self._training, number / self._steps)
        wanted = self._real.target_rows(labels).to(images)
        mean, scores = training.backward(
            self._network, siamese.apply(images, drawn), wanted, self._training, layers.AT_ONCE
        )
        if not math.isfinite(mean):
            raise NumericalError(
                f"forgetting: the loss is {mean} at step {number + 1} of {self._steps}; {self._training.optimiser} with learning "
                f"rate {self._training.learning_rate:g} is too much for these examples"
            )
        self._optimiser.step()
        self.history.see(index, scores.argmax(1).cpu() == labels)
        return mean

    def trial(self) -> None:
        """A step that nobody needs."""
        self.step(0, torch.arange(min(self._training.batch, len(self._real.train))))

    def state(self, epochs: int) -> State:
        """All that the epoch after so many depends on."""
        buffers = {f"buffer.{name}": each for name, each in self._network.named_buffers()}
        history = {f"history.{each.name}": getattr(self.history, each.name) for each in dataclasses.fields(History)}
        draws = {f"draw.{name}": rng.get_state() for name, rng in self._draws.items()}
        return {**state(self._weights, self._optimiser), **buffers, **history, **draws}, {"epochs": epochs}

    def resume(self) -> int:
        """Put what the run's store kept back where it belongs; returns the epochs that are done."""
        kept = self._run.kept()
        if kept is None:
            return 0
        tensors, numbers = kept
        put_back(tensors, self._weights, self._optimiser)
        for name, each in self._network.named_buffers():
            each.copy_(tensors[f"buffer.{name}"])
        for name, rng in self._draws.items():
            rng.set_state(tensors[f"draw.{name}"])
        self.history = History(**under(tensors, "history"))
        return int(numbers["epochs"])
