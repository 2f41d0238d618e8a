"""What gradient and distribution matching share: images that are trained against a fresh network at every step, from real images
class by class.

The loop of DC (Zhao, Mopuri, Bilen 2021), Algorithm 1: each step draws initial weights and updates the images so many times by
what an objective finds, with the network trained on them in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.methods.random_images import sample
from stillhouse.methods.support import Balanced, check_finite, put_back, record_steps, state, under
from stillhouse.models import layers, training
from stillhouse.run import Run, State
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import one_hot


@dataclass(frozen=True)
class Loop:
    """Steps, each with a fresh network; updates of the images in each; what an update is: SGD with momentum."""

    steps: int
    updates: int
    learning_rate: float
    momentum: float


class Objective(Protocol):
    """What is descended. Images (m, *shape), classes in turn: those of class k are images[k::c]."""

    def match(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> float:
        """Leave the gradient of the distance in `images.grad`; returns that distance, summed over classes."""

    def train(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> None:
        """Train the network between two updates."""


class RealImages:
    """Real training images in the model's space, by class."""

    def __init__(self, real: RealSet, model: Any, run: Run) -> None:
        self._real, self._run = real, run
        self.space = whitening.fit(model.space, real)
        self._batches = Balanced(real, torch.arange(len(real.train)))

    def draw(self, count: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
        """Of each class in order, `count` images (b, *shape), none twice, or all where there are fewer."""
        positions = self._batches.draw(count * self._real.n_classes, rng)
        labels = self._real.train.targets[positions]
        for label in range(self._real.n_classes):
            yield self.at(positions[labels == label])

    def at(self, positions: torch.Tensor) -> torch.Tensor:
        """Images (b, *shape), float32, on the run's device."""
        return self.space.forward(pixels(self._real.train.inputs[positions].to(self._run.device)))


def fresh(model: Any, real: RealSet, rng: torch.Generator, device: torch.device) -> nn.Sequential:
    """A network of these settings with new initial weights."""
    network = training.build(model, real.shape, real.n_classes)
    training.initialise(network, rng, device, model.initialisation)
    return network


def parts(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What of a batch goes through a network together, where no layer normalises over it: parts of nearly the same size."""
    at_once = layers.AT_ONCE if images.device.type == "cpu" else len(images)
    return torch.tensor_split(images, max(1, -(-len(images) // max(1, at_once))))


def start(kind: str, real: RealSet, of: RealImages, per_class: int, run: Run) -> torch.Tensor:
    """Images (m, *shape), float32, before the first step: 'noise' of N(0, 1) in the model's space, or random 'real' ones."""
    rng = run.generator("images")
    if kind == "real":
        return of.at(sample(real, per_class, rng))
    return torch.randn(real.size(per_class), *real.shape, generator=rng).to(run.device)


def finished(
    real: RealSet, images: torch.Tensor, of: RealImages, model: Any, numerics: Mapping[str, int]
) -> DistilledSet:
    """The distilled set of trained images; `numerics` says what its settings leave open.

    It is made for all initial weights of its model, and names no seed of one.
    """
    labels = torch.arange(len(images)) % real.n_classes
    return DistilledSet.of(
        real,
        inputs=images.cpu(),
        targets=one_hot(labels, real.n_classes).to(torch.float32),
        space=of.space.settings(),
        model=settings.dump(model),
        recipe={"numerics": dict(numerics)},
    )


def descend(
    images: torch.Tensor, objective: Objective, network: Callable[[torch.Generator], nn.Sequential], loop: Loop, run: Run,
    what: str,
) -> torch.Tensor:  # fmt: skip
    """Images (m, *shape) after all steps; `network` draws a fresh one. Resumes from the run's store, within a step too.

    Raises NumericalError naming the step at which the distance or its gradient is not finite.
    """
    support = {"inputs": images.requires_grad_()}
    optimiser = torch.optim.SGD(support.values(), lr=loop.learning_rate, momentum=loop.momentum)
    draw = run.generator("matching")
    begun, current = _resume(run, support, optimiser, draw, network)
    total = loop.steps * loop.updates
    run.foretell(what, total - begun, lambda: _trial(images, objective, network, loop, run))
    recorded = {*record_steps(loop.steps), loop.steps - 1}
    for update in run.progress(range(begun, total), total - begun, what):
        step, place = divmod(update, loop.updates)
        if current is None:
            current = network(draw)
        found = objective.match(current, images, draw)
        check_finite(step, "distance", found, support)
        if place == 0 and step in recorded:
            run.record(step=step, distance=found)
        optimiser.step()
        if place + 1 < loop.updates:
            objective.train(current, images.detach(), draw)
        else:
            current = None
        run.offer(functools.partial(_state, update + 1, support, optimiser, draw, current))
    return images.detach()


def _trial(
    images: torch.Tensor, objective: Objective, network: Callable[[torch.Generator], nn.Sequential], loop: Loop, run: Run
) -> None:  # fmt: skip
    draw = run.generator("a trial")
    current = network(draw)
    objective.match(current, images, draw)
    if loop.updates > 1:
        objective.train(current, images.detach(), draw)


def _state(
    update: int,
    support: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    draw: torch.Generator,
    network: nn.Sequential | None,
) -> State:
    """All that the next update depends on; between two updates of a step the network too."""
    weights = {} if network is None else {f"network.{name}": each for name, each in network.state_dict().items()}
    return {**state(support, optimiser), **weights, "draw": draw.get_state()}, {"update": update}


def _resume(
    run: Run,
    support: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    draw: torch.Generator,
    network: Callable[[torch.Generator], nn.Sequential],
) -> tuple[int, nn.Sequential | None]:
    """Put the state that the run's store kept back where it belongs; the update to come, and an unfinished step's network."""
    kept = run.kept()
    if kept is None:
        return 0, None
    tensors, numbers = kept
    put_back(tensors, support, optimiser)
    draw.set_state(tensors["draw"])
    weights = under(tensors, "network")
    if not weights:
        return int(numbers["update"]), None
    current = network(run.generator("a trial"))  # its weights are replaced
    current.load_state_dict(weights)
    return int(numbers["update"]), current
