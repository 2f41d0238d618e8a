"""Several trainings of one model on one distilled set, each from initial weights of its own, by what is fastest on the device.

On a CPU, networks stacked into one are slower than one after the other: a convolution with weights for each network is a grouped
one, for which there is no fast kernel. There each core trains one, and a single one too: how many cores there are must not move
its last bits. On a GPU a small network's step is mostly the starting of
kernels, which all networks of a stack share. Either way a training's result is that of its seed, whatever runs beside it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import torch
from torch import nn
from torch.func import functional_call

from stillhouse import plugins, settings, siamese
from stillhouse.data import whitening
from stillhouse.errors import NumericalError
from stillhouse.models import fitting, training
from stillhouse.run import Run, one_thread_each
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

T = TypeVar("T")
Strategy = Literal["cores", "stacked"]

_AT_ONCE = 5120  # examples of a step of stacked networks, which bounds memory: 20 networks with DC's batch of 256


def train(
    distilled: DistilledSet, real: RealSet, model: Any, seeds: Sequence[int], run: Run, then: Callable[[Teacher], T],
    strategy: Strategy | None = None,
) -> Iterator[T]:  # fmt: skip
    """What `then` says of the model (its Params) trained with each of the seeds, in their order. `strategy`: of this device."""
    if (strategy or choose(distilled, real, model, seeds, run.device)) == "stacked":
        size = max(1, _AT_ONCE // min(model.training.batch, len(distilled)))
        for begin in range(0, len(seeds), size):
            yield from map(then, _stacked(distilled, real, model, seeds[begin : begin + size], run))
        return
    fit = plugins.load("models", settings.kind_of(model)).fit_distilled

    def one(seed: int) -> T:
        return then(fit(distilled, real, model, dataclasses.replace(run, seed=seed, show=False)))

    if run.device.type != "cpu" or not hasattr(model, "initialisation"):
        yield from map(one, seeds)  # what is solved in closed form keeps all cores busy by itself
        return
    with one_thread_each() as cores, ThreadPoolExecutor(cores) as pool:
        yield from pool.map(one, seeds)


def choose(distilled: DistilledSet, real: RealSet, model: Any, seeds: Sequence[int], device: torch.device) -> Strategy:
    """Stacked on a GPU, where there is more than one training and all of it is ordinary; not with batch normalisation, whose
    statistics each network keeps for itself, nor where learning rates are tried.
    """
    ordinary = (
        hasattr(model, "initialisation")
        and not model.training.learning_rates
        and fitting.schedule_of(distilled, model) is None
        and not training.batch_norms(training.build(model, real.shape, real.width))
    )
    return "stacked" if device.type == "cuda" and len(seeds) > 1 and ordinary else "cores"


def _stacked(distilled: DistilledSet, real: RealSet, model: Any, seeds: Sequence[int], run: Run) -> Iterator[Teacher]:
    """Networks trained as one, whose weights (k, ...) are those of k networks; equal to `fit_distilled` of each but for rounding.

    Raises NumericalError naming the seed and the step at which its loss is NaN or infinite.
    """
    chosen: training.Training = model.training
    space = whitening.fit(model.space, real)
    inputs, targets = fitting.rows(distilled, real, space, chosen, run.device)
    network = training.build(model, real.shape, real.width)
    weights = _initial(network, model, seeds, run)
    score = torch.vmap(_scorer(network, chosen.precision))
    loss = torch.vmap(functools.partial(training.loss, chosen.loss))
    optimiser = training.optimiser_of(weights.values(), chosen)
    per_epoch = training.steps_of_epoch(len(inputs), chosen)
    steps = chosen.epochs * per_epoch
    runs = [dataclasses.replace(run, seed=seed) for seed in seeds]
    orders = zip(
        *(training.batches(len(inputs), chosen.batch, steps, each.generator("batches")) for each in runs), strict=True
    )
    chances = [each.generator("augmentation") for each in runs]
    losses = []
    for step, order in enumerate(run.progress(orders, steps, f"training {len(seeds)} networks")):
        training.set_rate(optimiser, chosen, step / steps)
        drawn = [siamese.draw(chosen.augmentation, rng, len(index)) for rng, index in zip(chances, order, strict=True)]
        index = torch.stack(order).to(run.device)
        images = torch.stack([siamese.apply(inputs[i], change) for i, change in zip(index, drawn, strict=True)])
        each_loss = loss(score(weights, images), targets[index]) / index.shape[1]
        optimiser.zero_grad()
        each_loss.sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(each_loss.detach())  # on the device: asking for a number would wait for it
    for place, seed in enumerate(seeds):
        own = torch.stack(losses)[:, place].cpu()
        learned = {name: weight[place].detach() for name, weight in weights.items()}
        _check(own, learned, seed, chosen)
        first, last = (float(part.mean()) for part in (own[:per_epoch], own[-per_epoch:]))
        notes = fitting.notes_of(real, len(inputs)) | {"steps": steps, "loss_first": first, "loss_last": last}
        yield Teacher.of(real, model, seed, learned, space, notes)


def _initial(network: nn.Sequential, model: Any, seeds: Sequence[int], run: Run) -> dict[str, torch.Tensor]:
    """Initial weights (k, ...), by name: those that each seed alone would have."""
    drawn = []
    for seed in seeds:
        rng = dataclasses.replace(run, seed=seed).generator("initial weights")
        training.initialise(network, rng, torch.device("cpu"), model.initialisation)
        drawn.append({name: weight.detach().clone() for name, weight in network.named_parameters()})
    return {name: torch.stack([each[name] for each in drawn]).to(run.device).requires_grad_() for name in drawn[0]}


def _scorer(network: nn.Sequential, precision: str) -> Callable[[dict[str, torch.Tensor], torch.Tensor], torch.Tensor]:
    """`training.scores` as a function of a network's weights too. In bfloat16 its norms are computed so as well: within vmap,
    autocast gives a convolution inputs in one precision and a bias in the other.
    """
    body, last = network[:-1].train(), network[-1]
    prefix = f"{list(dict(network.named_children()))[-1]}."
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32

    def score(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        own = {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
        others = {name: weight.to(dtype) for name, weight in weights.items() if not name.startswith(prefix)}
        hidden = functional_call(body, others, (images.to(dtype),))
        found: torch.Tensor = functional_call(last, own, (hidden.to(torch.float32),))
        return found

    return score


def _check(losses: torch.Tensor, weights: dict[str, torch.Tensor], seed: int, chosen: training.Training) -> None:
    good = losses.isfinite()
    if not bool(good.all()):
        step = int((~good).int().argmax()) + 1
        raise NumericalError(
            f"training: the loss is {float(losses[step - 1])} at step {step} of {len(losses)} (training seed {seed}); "
            f"{chosen.optimiser} with learning rate {chosen.learning_rate:g} is too much for these examples"
        )
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise NumericalError(
            f"training: weights are NaN or infinite after all {len(losses)} steps (training seed {seed})"
        )
