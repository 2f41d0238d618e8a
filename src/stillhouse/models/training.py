"""Training by gradient descent: the one loop that every trained network uses, on a real and on a distilled set.

A network is an `nn.Sequential` whose last layer is the linear classifier; the others may be layers or blocks of layers. The
model's file builds it, this file does the rest.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import nn

from stillhouse import plugins, settings, siamese, spaces
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.siamese import Siamese
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher

_CHUNK = 2048  # validation examples scored at once
# How far the targets of one example may sum from 1 and still be probabilities.
_PROBABILITY = 1e-3
# What a distilled set's schedule may hold without being obeyed here: the ridge is for the closed form.
_NOT_FOR_NETWORKS = {"ridge"}

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
class Prescription:
    """How a distilled set asks to be trained on by ordinary training: what it names of `Training`, and for how many steps.

    Nothing decays, neither weights nor learning rate, and nothing is augmented.
    """

    steps: Annotated[int, Field(ge=1)]
    optimiser: Literal["sgd", "adam"]
    learning_rate: Annotated[float, Field(gt=0)]
    batch: Annotated[int, Field(ge=1)]
    loss: Literal["mse", "cross_entropy"]

    def training(self, otherwise: Training) -> Training:
        """Those settings, and the precision of `otherwise`."""
        return Training(
            optimiser=self.optimiser, learning_rate=self.learning_rate, batch=self.batch, loss=self.loss, momentum=0.0,
            weight_decay=0.0, precision=otherwise.precision,
        )  # fmt: skip


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


def fit_real(network: nn.Sequential, real: RealSet, params: Settings, run: Run, at_once: int | None = None) -> Teacher:
    """Train on the whole training split onto target rows; images are read and moved into the space batch by batch."""
    space = whitening.fit(params.space, real)

    def pick(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = pixels(real.train.inputs[index]).to(run.device)
        targets = real.target_rows(real.train.targets[index])
        return space.forward(images), targets.to(images)

    return _fit(
        network, Examples(len(real.train), pick), params.training.epochs_real, space, real, params, run, at_once
    )


def fit_distilled(
    network: nn.Sequential,
    distilled: DistilledSet,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None = None,
) -> Teacher:
    """Train on a distilled set onto its own targets, by its own schedule where it has one with `step_sizes`.

    Raises UserError where the set asks for what is not done here.
    """
    schedule = schedule_of(distilled, params)
    space = whitening.fit(params.space, real)
    inputs, targets = rows(distilled, real, space, params.training, run.device)
    if isinstance(schedule, Schedule):
        _start(network, schedule, params, run, distilled.name)
        notes = {"shape": list(real.shape), "scores": real.width, "examples": len(inputs)}
        notes |= follow(network, inputs, targets, schedule)
        return Teacher.of(real, params, run.seed, network.state_dict(), space, notes)
    examples = Examples(len(inputs), lambda index: (inputs[index], targets[index]))
    if schedule is not None:
        asked = schedule.training(params.training)
        return _fit(network, examples, 0, space, real, params, run, at_once, asked, schedule.steps)
    if params.training.learning_rates:
        return _best_rate(network, examples, space, real, params, run, at_once)
    return _fit(network, examples, params.training.epochs, space, real, params, run, at_once)


def rows(
    distilled: DistilledSet, real: RealSet, space: Space, training: Training, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (m, *shape) in the space and targets (m, c) of a distilled set, float32, as a training asks for them.

    Raises UserError where its loss cannot take the targets. Those of a set with a schedule of its own are left to that.
    """
    inputs = distilled.inputs_in(space).to(device, torch.float32)
    own = distilled.target_rows(real).to(inputs)
    needy = training.loss == "cross_entropy" and not set(distilled.schedule) - _NOT_FOR_NETWORKS
    if training.targets == "hard" or (training.targets == "own_or_hard" and needy and not _probabilities(own)):
        return inputs, spaces.one_hot(distilled.labels, real.n_classes).to(inputs)
    if needy:
        _check_probabilities(own, distilled.name)
    return inputs, own


def predictor(
    network: nn.Sequential, teacher: Teacher, training: Training, device: torch.device, at_once: int | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to scores (b, c), float32, of the trained `network`, on `device`."""
    space = spaces.from_settings(teacher.space)
    network.load_state_dict({name: weight.to(device) for name, weight in teacher.weights.items()}, assign=True)
    network.eval()
    size = at_once if device.type == "cpu" else None

    @torch.inference_mode()
    def predict(images: torch.Tensor) -> torch.Tensor:
        parts = torch.split(space.forward(images), size or len(images))
        return torch.cat([scores(network, part, training.precision) for part in parts])

    return predict


def shape(teacher: Teacher) -> tuple[tuple[int, ...], int]:
    """What a network was built for: the shape of an example and the number of scores."""
    return tuple(teacher.notes["shape"]), int(teacher.notes["scores"])


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
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate * rate(training.schedule, (step - 1) / steps)
        drawn = siamese.draw(training.augmentation, chances, len(index))
        losses.append(_backward(network, examples, index, drawn, training, at_once))
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


def _fit(
    network: nn.Sequential,
    examples: Examples,
    epochs: int,
    space: Space,
    real: RealSet,
    params: Settings,
    run: Run,
    at_once: int | None,
    training: Training | None = None,
    steps: int | None = None,
) -> Teacher:
    """With `training` in place of the settings' own, and `steps` in place of epochs, where they are given."""
    chosen = training or params.training
    initialise(network, run.generator("initial weights"), run.device, params.initialisation)
    notes = train(network, examples, chosen, steps or epochs * steps_of_epoch(examples.count, chosen), run, at_once)
    notes = {"shape": list(real.shape), "scores": real.width, "examples": examples.count, **notes}
    return Teacher.of(real, params, run.seed, network.state_dict(), space, notes)


def schedule_of(distilled: DistilledSet, params: Settings) -> Schedule | Prescription | None:
    """What a set asks for. Raises UserError where that is not done here."""
    asked = {name: value for name, value in distilled.schedule.items() if name not in _NOT_FOR_NETWORKS}
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


# What a schedule says that no other kind of schedule does.
_DECISIVE: dict[type[Schedule] | type[Prescription], str] = {Schedule: "step_sizes", Prescription: "optimiser"}


def _start(network: nn.Sequential, schedule: Schedule, params: Settings, run: Run, name: str) -> None:
    """The initial weights that a schedule asks for: drawn, or those of a teacher among the run's."""
    if schedule.start is None:
        initialise(network, run.generator("initial weights"), run.device, params.initialisation)
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
            fitted = _fit(network, examples, params.training.epochs, space, real, params, run, at_once, tried)
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
    network: nn.Sequential, real: RealSet, space: Space, training: Training, run: Run, at_once: int | None
) -> float:
    """Mean merit of what the trained network says of the last training examples (`RealSet.merit`)."""
    index = torch.arange(max(0, len(real.train) - training.validation), len(real.train))
    total = 0.0
    for images, targets in real.train.chunks(at_once or _CHUNK, index):
        total += real.merit(scores(network, space.forward(images.to(run.device)), training.precision), targets)
    return total / len(index)


def _backward(
    network: nn.Sequential,
    examples: Examples,
    index: torch.Tensor,
    drawn: siamese.Drawn,
    training: Training,
    at_once: int | None,
) -> float:
    """Leave the gradient of the augmented batch's mean loss in the weights; returns that loss."""
    inputs, targets = examples.pick(index)
    inputs = siamese.apply(inputs, drawn)
    size = len(index) if at_once is None or inputs.device.type != "cpu" or mixes(network) else at_once
    for weight in network.parameters():
        weight.grad = None
    total = 0.0
    for part, wanted in zip(torch.split(inputs, size), torch.split(targets, size), strict=True):
        mean = loss(training.loss, scores(network, part, training.precision), wanted) / len(index)
        mean.backward()  # type: ignore[no-untyped-call]
        total += float(mean.detach())
    return total


def mixes(network: nn.Sequential) -> bool:
    """Whether an example's scores depend on the other examples of its batch during training."""
    return any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


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
