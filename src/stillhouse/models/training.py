"""Training by gradient descent: the one loop that every trained network uses, on a real and on a distilled set.

A network is an `nn.Sequential` whose last layer is the linear classifier; the others may be layers or blocks of layers. The
model's file builds it, this file trains it, `fitting` does so on a real and on a distilled set.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import nn

from stillhouse import plugins, settings, siamese
from stillhouse.errors import NumericalError, UserError
from stillhouse.run import Run
from stillhouse.siamese import Siamese

Initialisation = Annotated[
    Literal["pytorch", "xavier_normal", "xavier_uniform", "kaiming_normal", "lecun_normal"],
    Field(
        description="of the weights; pytorch: its default, weights and biases uniform in +-1/sqrt(fan in). Others have biases 0 "
        "and weights of variance 2 / (fan in + fan out) (xavier), 2 / fan in (kaiming) or 1 / fan in (lecun)"
    ),
]


@dataclass(frozen=True)
class Training:
    """Settings of training. DC and DSA train with sgd, learning rate 0.01, schedule step and loss cross_entropy."""

    epochs: Annotated[int, Field(ge=1, description="passes over a distilled set; DC and DSA: 300")] = 300
    epochs_real: Annotated[int, Field(ge=1, description="passes over the whole real set")] = 10
    batch: Annotated[int, Field(ge=1, description="examples a step; a smaller set is one batch")] = 256
    optimiser: Annotated[Literal["sgd", "adam"], Field(description="how a gradient becomes a step")] = "adam"
    learning_rate: Annotated[float, Field(gt=0, description="at the start")] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1, description="of sgd")] = 0.9
    weight_decay: Annotated[float, Field(ge=0, description="times the weights is added to the gradient")] = 5e-4
    schedule: Annotated[
        Literal["constant", "step", "cosine"],
        Field(description="of the learning rate; step: a tenth after half of the steps (DC); cosine: down to 0"),
    ] = "constant"
    loss: Annotated[
        Literal["mse", "cross_entropy"],
        Field(
            description="mse: half the squared distance to the targets; cross_entropy: for targets that are probabilities"
        ),
    ] = "mse"
    learning_rates: Annotated[
        tuple[Annotated[float, Field(gt=0)], ...],
        Field(
            description="tried on a distilled set instead of learning_rate; the one of the best accuracy (or R^2) on validation "
            "examples is used, the smaller of equals (KIP's notebook); empty: learning_rate alone"
        ),
    ] = ()
    validation: Annotated[
        int, Field(ge=1, description="the last so many training examples choose among learning_rates (KIP: 5000)")
    ] = 5000
    targets: Annotated[
        Literal["own", "hard", "own_or_hard"],
        Field(
            description="of a distilled set; own: as they stand in its file; hard: one-hot, of the largest; own_or_hard: hard "
            "where cross_entropy would get no probabilities"
        ),
    ] = "own"
    augmentation: Annotated[
        Siamese, Field(description="of the examples of every step, each by numbers of its own; DSA: its operations")
    ] = field(default_factory=Siamese)
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="of the products before the last layer; weights and the last layer stay in float32"),
    ] = "float32"


class Settings(Protocol):
    """What a trained network's settings have besides its own."""

    @property
    def space(self) -> Any:
        """What it sees of an image."""

    @property
    def initialisation(self) -> Initialisation:
        """How its initial weights are drawn."""

    @property
    def training(self) -> Training:
        """How it is trained."""


@dataclass(frozen=True)
class Examples:
    """What to train on: `pick` gives inputs (b, *shape) and targets (b, c), float32, at positions (b,) below `count`."""

    count: int
    pick: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Schedule:
    """How a distilled set asks to be trained on, step by step, by plain gradient descent on a mean loss.

    steps       S, into whose parts of equal size the set is divided in its own order; each step takes the next part
    epochs      E, times the parts are gone through
    step_sizes  one for each of the S E steps
    loss        as in `Training`; targets need not be probabilities
    start       fingerprint of the real set on which the initial weights were trained; none: drawn
    """

    steps: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    step_sizes: tuple[Annotated[float, Field(gt=0)], ...]
    loss: Literal["mse", "cross_entropy"]
    start: str | None = None

    def __post_init__(self) -> None:
        if len(self.step_sizes) != self.steps * self.epochs:
            raise ValueError(
                f"{len(self.step_sizes)} step_sizes for {self.epochs} epochs of {self.steps} steps; one each is needed"
            )


@dataclass(frozen=True)
class Readout:
    """Of a classifier that is solved along the way (ridge_readout). Defaults: LD, code."""

    ridge: Annotated[float, Field(gt=0, description="of each batch's own classifier")] = 1.0
    share: Annotated[float, Field(gt=0, le=1, description="of each batch's classifier in the average")] = 0.01
    learning_rate: Annotated[float, Field(gt=0, description="of the scale of the scores, by Adam")] = 0.01


@dataclass(frozen=True)
class Prescription:
    """How a distilled set asks to be trained on by ordinary training: what it names of `Training`, and for how many steps; with a
    `readout`, by Adam and with a classifier that is solved.

    Nothing decays, neither weights nor learning rate, and nothing is augmented.
    """

    steps: Annotated[int, Field(ge=1)]
    optimiser: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    batch: Annotated[int, Field(ge=1)]
    loss: Literal["mse", "cross_entropy"]
    readout: Readout | None = None

    def training(self, otherwise: Training) -> Training:
        """Those settings, and the precision of `otherwise`."""
        return Training(
            optimiser=self.optimiser, learning_rate=self.learning_rate, batch=self.batch, loss=self.loss, momentum=0.0,
            weight_decay=0.0, precision=otherwise.precision,
        )  # fmt: skip


def check_network(model: Any) -> None:
    """Raise ValueError where a model is none whose initial weights are drawn."""
    if not hasattr(model, "initialisation"):
        raise ValueError(
            f"model: this method needs a network, such as convnet or mlp, found '{settings.kind_of(model)}'"
        )


def build(params: Settings, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values, that the settings of a network's file stand for."""
    network: nn.Sequential = plugins.load("models", settings.kind_of(params)).build(params, shape, classes)
    return network


def blank(layers: Sequence[tuple[str, nn.Module]]) -> nn.Sequential:
    """The layers in order, by name. Build them in a `torch.device("meta")` block: no shared generator is drawn from."""
    network = nn.Sequential()
    for name, layer in layers:
        network.add_module(name, layer)
    return network


def initialise(
    network: nn.Sequential, rng: torch.Generator, device: torch.device, kind: Initialisation = "pytorch"
) -> None:
    """Initial weights, drawn from `rng` on the CPU layer by layer, so that they are the same for every device.

    Of linear and convolutional layers by `kind`: fan in is the number of values that go into one output, fan out of one input
    (Glorot and Bengio 2010, He et al. 2015, LeCun et al. 1998). Normalisation layers: weight 1, bias 0.
    """
    network.to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            _DRAWS[kind](layer.weight, rng)
            if layer.bias is not None and kind == "pytorch":
                _uniform(layer.bias, rng, layer.weight[0].numel())
            elif layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.GroupNorm | nn.LayerNorm | nn.BatchNorm2d):
            layer.reset_parameters()
    network.to(device)


def stateless(network: nn.Sequential) -> nn.Sequential:
    """A copy for `torch.func.functional_call` with weights of one's own, also within `vmap` and `grad`: a call changes nothing.

    Batch normalisation takes mean and variance of the batch that it is given, in training and after, and keeps none. For given
    ones call the network itself, after `eval()`, with its buffers among the weights.
    """
    copied = copy.deepcopy(network)
    torch.func.replace_all_batch_norm_modules_(copied)
    return copied


def train(
    network: nn.Sequential,
    examples: Examples,
    training: Training,
    steps: int,
    run: Run,
    at_once: int | None = None,
) -> dict[str, Any]:
    """Train in place; returns the number of steps and the mean loss of the first and of the last epoch.

    Every epoch draws a new order, and every step what it augments by. `at_once` is how many examples go through the network
    together on a CPU: the gradient of a batch is the sum of its parts', whose activations fit the cache. Raises NumericalError,
    naming the step, for a loss that is NaN or infinite.
    """
    per_epoch = steps_of_epoch(examples.count, training)
    optimiser = optimiser_of(network.parameters(), training)
    chances = run.generator("augmentation")
    losses = []
    network.train()
    order = batches(examples.count, training.batch, steps, run.generator("batches"))
    for step, index in enumerate(run.progress(order, steps, "training"), start=1):
        set_rate(optimiser, training, (step - 1) / steps)
        inputs, targets = examples.pick(index)
        drawn = siamese.draw(training.augmentation, chances, len(index))
        losses.append(backward(network, siamese.apply(inputs, drawn), targets, training, at_once)[0])
        if not math.isfinite(losses[-1]):
            raise NumericalError(
                f"training: the loss is {losses[-1]} at step {step} of {steps} (before: {losses[-11:-1]}); "
                f"{training.optimiser} with learning rate {training.learning_rate:g} is too much for these examples"
            )
        optimiser.step()
    network.eval()
    if not all(bool(weight.isfinite().all()) for weight in network.parameters()):
        raise NumericalError(f"training: weights are NaN or infinite after step {steps} of {steps}")
    first, last = (sum(part) / per_epoch for part in (losses[:per_epoch], losses[-per_epoch:]))
    if last > first:
        run.log.warning("training: the loss grew from %.3g to %.3g; the learning rate is too large", first, last)
    return {"steps": steps, "loss_first": first, "loss_last": last}


def follow(network: nn.Sequential, inputs: torch.Tensor, targets: torch.Tensor, schedule: Schedule) -> dict[str, Any]:
    """Train in place by a schedule, in float32; returns the number of steps and the mean loss of the first and of the last.

    Raises UserError for inputs (m, *shape) that the steps do not divide, and NumericalError, naming the step, for a loss or
    weights that are NaN or infinite.
    """
    if len(inputs) % schedule.steps:
        raise UserError(
            f"schedule: {len(inputs)} examples do not divide into {schedule.steps} steps. Give a divisor as steps."
        )
    size = len(inputs) // schedule.steps
    parts = list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True)) * schedule.epochs
    weights = list(network.parameters())
    losses = []
    network.train()
    for step, ((images, wanted), step_size) in enumerate(zip(parts, schedule.step_sizes, strict=True), start=1):
        mean = loss(schedule.loss, network(images), wanted) / size
        losses.append(float(mean.detach()))
        slopes = torch.autograd.grad(mean, weights)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight.sub_(step_size * slope)
        if not math.isfinite(losses[-1]) or not all(bool(weight.isfinite().all()) for weight in weights):
            raise NumericalError(
                f"schedule: the loss is {losses[-1]}, or weights are NaN or infinite, at step {step} of {len(parts)} with step "
                f"size {step_size:g}"
            )
    network.eval()
    return {"steps": len(parts), "loss_first": losses[0], "loss_last": losses[-1]}


def set_rate(optimiser: torch.optim.Optimizer, training: Training, done: float) -> None:
    """Give the optimiser the learning rate that it has when a fraction `done` of the steps is done."""
    for group in optimiser.param_groups:
        group["lr"] = training.learning_rate * rate(training.schedule, done)


def rate(schedule: str, done: float) -> float:
    """The factor of the learning rate when a fraction `done` of the steps is done."""
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    return 0.1 if schedule == "step" and done >= 0.5 else 1.0


def scores(network: nn.Sequential, inputs: torch.Tensor, precision: str) -> torch.Tensor:
    """(b, *shape) inputs -> (b, c), float32: in bfloat16 the classes of many images would tie."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for layer in list(network)[:-1]:
            inputs = layer(inputs)
    found: torch.Tensor = network[-1](inputs.to(torch.float32))
    return found


def loss(kind: str, predicted: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over examples of the loss between scores and targets, both (b, c).

    mse is half the squared distance, so that the minimum over a linear network with weight decay w is ridge regression with
    ridge m w.
    """
    if kind == "mse":
        return (predicted - targets).square().sum() / 2
    return nn.functional.cross_entropy(predicted, targets, reduction="sum")


def _uniform(values: torch.Tensor, rng: torch.Generator, fan_in: int) -> None:
    nn.init.uniform_(values, -(fan_in**-0.5), fan_in**-0.5, generator=rng)


_DRAWS: dict[str, Callable[[torch.Tensor, torch.Generator], object]] = {
    "pytorch": lambda weight, rng: _uniform(weight, rng, weight[0].numel()),
    "xavier_normal": lambda weight, rng: nn.init.xavier_normal_(weight, generator=rng),
    "xavier_uniform": lambda weight, rng: nn.init.xavier_uniform_(weight, generator=rng),
    "kaiming_normal": lambda weight, rng: nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=rng),
    "lecun_normal": lambda weight, rng: nn.init.kaiming_normal_(weight, nonlinearity="linear", generator=rng),
}


def backward(
    network: nn.Sequential, inputs: torch.Tensor, targets: torch.Tensor, training: Training, at_once: int | None
) -> tuple[float, torch.Tensor]:
    """Leave the gradient of the mean loss on a batch (b, *shape) with targets (b, c) in the weights; returns that loss and the
    scores (b, c), on a CPU of `at_once` examples after the other.
    """
    size = len(inputs) if at_once is None or inputs.device.type != "cpu" or batch_norms(network) else at_once
    for weight in network.parameters():
        weight.grad = None
    total, found = 0.0, []
    for part, wanted in zip(torch.split(inputs, size), torch.split(targets, size), strict=True):
        predicted = scores(network, part, training.precision)
        mean = loss(training.loss, predicted, wanted) / len(inputs)
        mean.backward()  # type: ignore[no-untyped-call]
        total += float(mean.detach())
        found.append(predicted.detach())
    return total, torch.cat(found)


def batch_norms(network: nn.Sequential) -> list[nn.BatchNorm2d]:
    """Layers that make what is said of an example depend on the others of its batch during training."""
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def steps_of_epoch(count: int, training: Training) -> int:
    """Batches that so many examples make, the last one smaller where they do not divide."""
    return -(-count // training.batch)


def batches(count: int, batch: int, steps: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
    """Positions (b,) below `count` for so many steps, epoch after epoch in a new order."""
    epochs = iter(lambda: torch.split(torch.randperm(count, generator=rng), batch), ())
    return itertools.islice(itertools.chain.from_iterable(epochs), steps)


def optimiser_of(weights: Iterable[torch.Tensor], training: Training) -> torch.optim.Optimizer:
    """It goes value by value, so that weights may be those of one network or of several, stacked."""
    decay = training.weight_decay
    if training.optimiser == "sgd":
        return torch.optim.SGD(
            weights, lr=training.learning_rate, momentum=training.momentum, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(weights, lr=training.learning_rate, weight_decay=decay, fused=True)
