"""Label distillation: real images as they are, of the data set itself or of another one, with labels that are trained.

Bohdal, Yang, Hospedales (2020), LD. Base images x~ (m, *shape) are drawn once. Their labels Y (m, c), probabilities, begin as 1/c
and descend by Adam the loss L on batches of real images of what a network learns from a batch of x~ and Y in one step:

    second_order    L(theta - step_size grad l(theta; x~, Y)), l the mean cross-entropy
    ridge           L(scale phi W), W averaged over ridge regressions of Y on the features of x~ (models/ridge_readout.py)

then the network takes a step of Adam on that batch itself. It is drawn anew when the mean error on the last `window` batches has
had no new minimum for so long; the step of that minimum is T_i. Y of the best network trained anew for T steps, the mean of the
last three T_i, is the result, judged on images kept apart; T and the batch are the set's schedule.

Neither version needs second derivatives, and the ridge version no gradient on real images: docs/theory/label_distillation.md.
`true_labels` keeps the base images' own, smoothed or not, and chooses T alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import nn
from torch.func import functional_call

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods.random_images import sample
from stillhouse.methods.support import check_finite, put_back, state
from stillhouse.models import ridge, ridge_readout, training
from stillhouse.models.ridge_readout import Solved
from stillhouse.models.training import Readout
from stillhouse.run import Run, State
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import one_hot

# Labels are solved for: the largest need not be that of the class an image came from.
SOFT_LABELS = True

_AT_ONCE = 128  # real images that go through a network together on a CPU: more leave the cache
_LAST = 3  # T_i that T is the mean of (LD, code)
# Steps that are tried with true labels: LD chooses among up to 1000, of more than 100 images up to 1700.
_LENGTHS = (10, 20, 50, 100, 200, 300, 500, 700, 1000, 1700)
_MANY = 100  # images above which LD waits longer

# Real images (b, *shape) and their labels (b,), part by part.
Parts = Iterator[tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: LD, code, for MNIST; its networks have PyTorch's initial weights.

    CIFAR-10: full_steps 17 600, validation 0.1. 200 images and more, and CIFAR-100: twice the steps. CIFAR-100: window 100, and
    all images at once.
    """

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(
            description="the network that is trained: a name under models, of kind lenet, alexcifarnet, convnet, ..."
        ),
    ]
    version: Annotated[
        Literal["second_order", "ridge", "true_labels"],
        Field(
            description="second_order: labels that a gradient step learns from; ridge: labels that ridge regression on features "
            "learns from; true_labels: nothing is learned"
        ),
    ] = "second_order"
    base: Annotated[
        str,
        Field(
            description="the data set whose images are labelled, of the same shape; empty: the one that is distilled"
        ),
    ] = ""
    smoothing: Annotated[
        float, Field(ge=0, lt=1, description="part of a true label that is spread over all classes; LD's baseline: 0.1")
    ] = 0.0
    steps: Annotated[int, Field(ge=0, description="outer steps, of Adam")] = 19_600
    full_steps: Annotated[
        int, Field(ge=1, description="of the published setting: 400 epochs of 49 batches (MNIST), 44 (CIFAR-10)")
    ] = 19_600
    batch: Annotated[int, Field(ge=1, description="real images an outer step")] = 1024
    inner_batch: Annotated[
        int | None,
        Field(ge=1, description="base images a step; absent: LD's, half of them, but at least 10 and at most 50"),
    ] = None
    learning_rate: Annotated[float, Field(gt=0, description="of the labels, by Adam")] = 1e-3
    network_learning_rate: Annotated[float, Field(gt=0, description="of the network, by Adam")] = 1e-3
    step_size: Annotated[
        float, Field(gt=0, description="of the step that labels are judged by, in the second-order version")
    ] = 0.01
    readout: Annotated[Readout, Field(description="the classifier of the ridge version")] = field(
        default_factory=Readout
    )
    window: Annotated[
        int | None,
        Field(ge=1, description="batches whose mean error is followed; absent: LD's, 50, for more than 100 images 200"),
    ] = None
    validate_every: Annotated[
        int,
        Field(ge=1, description="outer steps between two validations, each of a network trained anew; LD: 5 epochs"),
    ] = 245
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training images kept apart; LD: 10 000 of MNIST's 60 000")
    ] = 1 / 6

    def __post_init__(self) -> None:
        training.check_network(self.model)
        if self.version != "true_labels" and self.smoothing:
            raise ValueError("smoothing is for version: true_labels")
        if self.version == "true_labels" and self.base:
            raise ValueError("true_labels are those of the data set itself; leave base out")


def budget(params: Params) -> float:
    """The part of the published number of outer steps."""
    return 1.0 if params.version == "true_labels" else params.steps / params.full_steps


def datasets(params: Params) -> tuple[str, ...]:
    """Data sets that are read beside the one that is distilled."""
    return (params.base,) if params.base else ()


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """m = per_class x classes real images, in the model's space, with trained labels.

    Raises UserError where base images have another shape, and NumericalError naming the outer step at which a number is no longer
    finite. Resumes from the run's store.
    """
    task = _Task(real, per_class, params, run)
    if params.version == "true_labels":
        return task.finished(*_true(task, real, params))
    progress = _Progress(task, real, params, run)
    first = progress.resume()
    what = f"LD, {len(task.base)} images"
    run.foretell(what, params.steps - first, progress.trial)
    for step in run.progress(range(first, params.steps), params.steps - first, what):
        progress.step(step)
        if (step + 1) % params.validate_every == 0 or step + 1 == params.steps:
            progress.validate(step + 1)
        run.offer(functools.partial(progress.state, step + 1))
    return task.finished(*progress.best())


class Outer(NamedTuple):
    """What an outer step finds: dL/dY (b, c), L, and how many of the real images are wrong."""

    slopes: torch.Tensor
    loss: float
    wrong: int


class Learner(Protocol):
    """A network on its way, with what trains it."""

    optimiser: torch.optim.Adam

    def trained(self) -> dict[str, torch.Tensor]:
        """What the optimiser moves, by name."""

    def outer(self, inputs: torch.Tensor, targets: torch.Tensor, parts: Parts, count: int) -> Outer:
        """Of labels (b, c) of base images (b, *shape), on `count` real images."""

    def learn(self, targets: torch.Tensor) -> None:
        """A step on those base images, whose labels have become `targets`."""


class SecondOrder:
    """A network whose step theta - step_size grad l is looked at."""

    def __init__(self, network: nn.Sequential, params: Params) -> None:
        self._network, self._step_size = network, params.step_size
        self.optimiser = torch.optim.Adam(network.parameters(), lr=params.network_learning_rate)

    def trained(self) -> dict[str, torch.Tensor]:
        """The weights."""
        return dict(self._network.named_parameters())

    def outer(self, inputs: torch.Tensor, targets: torch.Tensor, parts: Parts, count: int) -> Outer:
        """See `Learner`. grad l is linear in Y: its derivative is taken along dL/dtheta, and none of it by theta."""
        weights = self.trained()
        rows = targets.detach().requires_grad_()
        loss = training.loss("cross_entropy", self._network(inputs), rows) / len(inputs)
        own = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        moved = {}
        for (name, weight), slope in zip(weights.items(), own, strict=True):
            weight.grad = slope.detach()
            moved[name] = (weight.detach() - self._step_size * weight.grad).requires_grad_()
        total, wrong = 0.0, 0
        for images, labels in parts:
            scores = functional_call(self._network, moved, (images,))
            part = nn.functional.cross_entropy(scores, labels, reduction="sum") / count
            part.backward()  # type: ignore[no-untyped-call]
            total += float(part.detach())
            wrong += int((scores.argmax(1) != labels).sum())
        [slopes] = torch.autograd.grad(own, [rows], [-self._step_size * _slope(each) for each in moved.values()])
        return Outer(slopes, total, wrong)

    def learn(self, targets: torch.Tensor) -> None:
        """Adam by the gradient of l that `outer` found, with the labels as they were (LD, code)."""
        self.optimiser.step()


class Ridge:
    """A network with a solved classifier, of which the labels' part is looked at."""

    def __init__(self, network: nn.Sequential, params: Params) -> None:
        self.solved = Solved(network, params.readout, params.network_learning_rate)
        self.optimiser = self.solved.optimiser
        self._share = params.readout.share

    def trained(self) -> dict[str, torch.Tensor]:
        """The weights below the classifier, and the scale of the scores."""
        return self.solved.trained()

    def outer(self, inputs: torch.Tensor, targets: torch.Tensor, parts: Parts, count: int) -> Outer:
        """See `Learner`. dL/dY = share (phi phi^T + ridge I)^-1 phi dL/dW, and dL/dW takes features of real images alone."""
        self._rows = self.solved.rows(inputs)
        self._weights = self.solved.solve(self._rows, targets)
        with torch.no_grad():
            slopes = torch.zeros_like(self._weights)
            total, wrong = 0.0, 0
            for images, labels in parts:
                seen = self.solved.rows(images)
                scores = self.solved.scale * (seen @ self._weights)
                total += float(nn.functional.cross_entropy(scores, labels, reduction="sum")) / count
                wrong += int((scores.argmax(1) != labels).sum())
                missed = scores.softmax(1) - one_hot(labels, scores.shape[1])
                slopes += self.solved.scale * (seen.T @ missed) / count
            of_targets = self._share * self.solved.factor(self._rows, self._rows @ slopes)
        return Outer(of_targets.to(targets), total, wrong)

    def learn(self, targets: torch.Tensor) -> None:
        """W by the labels as they were, the loss by those that they have become (LD, code)."""
        self.solved.descend(self._rows, self._weights, targets)


@dataclass
class Patience:
    """When a network is drawn anew, by the numbers of errors on its batches, and how long networks have been of use.

    window   batches in the moving sum, and those without a new minimum that are waited for
    errors   on the last batches, `window` at most
    lowest   sum over a window so far; taken: steps of this network; waited: since the minimum
    lengths  T_i of the last networks
    drawn    networks so far
    """

    window: int
    errors: list[int] = field(default_factory=list)
    lowest: int = 0
    taken: int = 0
    waited: int = 0
    lengths: list[int] = field(default_factory=list)
    drawn: int = 1

    def add(self, wrong: int) -> bool:
        """Take note of a batch; True where the network is to be drawn anew (LD, code)."""
        self.errors = [*self.errors, wrong][-self.window :]
        self.taken += 1
        total = sum(self.errors)
        if self.taken <= self.window:
            self.lowest = total  # of a whole window, as soon as there is one
        elif total < self.lowest:
            self.lowest, self.waited = total, 0
        elif self.waited < self.window:
            self.waited += 1
        else:
            self.lengths = [*self.lengths, self.taken - self.waited - 1][-_LAST:]
            self.errors, self.taken, self.waited = [], 0, 0
            self.drawn += 1
            return True
        return False

    @property
    def length(self) -> int:
        """T: the mean of the last T_i, or the steps so far, at least 1."""
        return max(1, sum(self.lengths) // len(self.lengths) if self.lengths else self.taken)


class _Task:
    """Real images, base images, and training anew on these."""

    def __init__(self, real: RealSet, per_class: int, params: Params, run: Run) -> None:
        self._real, self._params, self._run = real, params, run
        self._space = whitening.fit(params.model.space, real)
        probe = training.build(params.model, real.shape, real.n_classes)
        if training.batch_norms(probe):
            raise UserError(
                f"label_distillation: models/{settings.kind_of(params.model)} with batch normalisation scores an image by the "
                "others of its batch, which the gradient of its label does not follow. Choose another norm."
            )
        chosen, labels, source = _base(real, per_class, params, run)
        self.base = self._space.forward(pixels(source.train.inputs[chosen]).to(run.device))
        self.labels = labels
        size = len(self.base)
        self.inner_batch = min(size, params.inner_batch or min(max(10, size // 2), 50))
        self.window = params.window or (200 if size > _MANY else 50)
        self._fitted, held_out = ridge.split(len(real.train), params.validation, run.seed)
        # Base images may be any training images, those that random_images takes, and none of them judges.
        self._held_out = held_out if source is not real else held_out[~torch.isin(held_out, chosen)]
        self._at_once = _AT_ONCE if run.device.type == "cpu" else params.batch

    def learner(self, draw: torch.Generator) -> Learner:
        """A new network, of the version asked for."""
        network = self._fresh(draw)
        return Ridge(network, self._params) if self._params.version == "ridge" else SecondOrder(network, self._params)

    def draw_base(self, draw: torch.Generator) -> torch.Tensor:
        """Positions (b,) of base images for a step."""
        return torch.randperm(len(self.base), generator=draw)[: self.inner_batch].to(self._run.device)

    def draw_real(self, draw: torch.Generator) -> tuple[Parts, int]:
        """A batch of real images, and its size."""
        index = self._fitted[torch.randperm(len(self._fitted), generator=draw)[: self._params.batch]]
        return self._parts(index), len(index)

    def validated(self, targets: torch.Tensor, length: int, purpose: str) -> float:
        """Accuracy in percent, on the images kept apart, of a network trained anew on labels (m, c) for so many steps."""
        network = self._fresh(self._run.generator(f"initial weights, {purpose}"))
        examples = training.Examples(len(self.base), lambda index: (self.base[index], targets[index]))
        quiet = dataclasses.replace(self._run, show=False)
        rate, batch = self._params.network_learning_rate, self.inner_batch
        if self._params.version == "ridge":
            ridge_readout.train(network, examples, self._params.readout, rate, batch, length, quiet)
        else:
            asked = self._prescription(length).training(self._params.model.training)
            training.train(network, examples, asked, length, quiet)
        with torch.inference_mode():
            right = sum(int((network(seen).argmax(1) == of).sum()) for seen, of in self._parts(self._held_out))
        return 100 * right / len(self._held_out)

    def finished(self, targets: torch.Tensor, length: int, networks: int) -> DistilledSet:
        """The set, with the schedule that trains on it."""
        return DistilledSet.of(
            self._real,
            inputs=self.base.cpu(),
            targets=targets.cpu(),
            space=self._space.settings(),
            model=settings.dump(self._params.model),
            schedule=settings.dump(self._prescription(length)),
            recipe={"numerics": {"networks": networks}},
        )

    def _prescription(self, length: int) -> training.Prescription:
        return training.Prescription(
            steps=length, optimiser="adam", learning_rate=self._params.network_learning_rate, batch=self.inner_batch,
            loss="cross_entropy", readout=self._params.readout if self._params.version == "ridge" else None,
        )  # fmt: skip

    def _fresh(self, draw: torch.Generator) -> nn.Sequential:
        network = training.build(self._params.model, self._real.shape, self._real.n_classes)
        training.initialise(network, draw, self._run.device, self._params.model.initialisation)
        return network

    def _parts(self, index: torch.Tensor) -> Parts:
        for part in torch.split(index, self._at_once):
            images = self._space.forward(pixels(self._real.train.inputs[part]).to(self._run.device))
            if images.ndim == 4:
                # Pooling and convolutions of many images take a fifth less time with the channels last.
                images = images.to(memory_format=torch.channels_last)
            yield images, self._real.train.targets[part].to(self._run.device)


class _Progress:
    """Labels on their way: what a step changes, and what is kept of it."""

    def __init__(self, task: _Task, real: RealSet, params: Params, run: Run) -> None:
        self._task, self._run = task, run
        uniform = torch.full((len(task.base), real.n_classes), 1 / real.n_classes, device=run.device)
        self._targets = uniform.requires_grad_()
        self._optimiser = torch.optim.Adam([self._targets], lr=params.learning_rate)
        self._draw = run.generator("batches of outer steps")
        self._learner = task.learner(self._draw)
        self._patience = Patience(task.window)
        self._best: tuple[torch.Tensor, int, float] = (uniform.detach().clone(), 1, -1.0)

    def step(self, step: int) -> None:
        """One outer step of the labels, then one of the network, which may be drawn anew."""
        chosen = self._task.draw_base(self._draw)
        parts, count = self._task.draw_real(self._draw)
        found = self._learner.outer(self._task.base[chosen], self._targets.detach()[chosen], parts, count)
        self._targets.grad = torch.zeros_like(self._targets)
        self._targets.grad[chosen] = found.slopes
        check_finite(step, "loss", found.loss, {"targets": self._targets})
        self._optimiser.step()
        with torch.no_grad():
            self._targets.clamp_(0, 1)
            self._targets.div_(self._targets.sum(1, keepdim=True))
        if not bool(self._targets.isfinite().all()):
            raise NumericalError(
                f"step {step}: labels of an image are NaN, or all of them have become 0; the learning rate is too large"
            )
        self._learner.learn(self._targets.detach()[chosen])
        if self._patience.add(found.wrong):
            self._learner = self._task.learner(self._draw)

    def validate(self, step: int) -> None:
        """Keep the labels, and T, where they are the best so far; the later of equals."""
        length = self._patience.length
        accuracy = self._task.validated(self._targets.detach(), length, f"validation at {step}")
        self._run.record(step=step, validation_accuracy=accuracy, length=length)
        if accuracy >= self._best[2]:
            self._best = self._targets.detach().clone(), length, accuracy

    def best(self) -> tuple[torch.Tensor, int, int]:
        """Labels (m, c), T, and how many networks were drawn."""
        return self._best[0], self._best[1], self._patience.drawn

    def trial(self) -> None:
        """The work of a step, without a trace."""
        draw = self._run.generator("a trial")
        learner, chosen = self._task.learner(draw), self._task.draw_base(draw)
        parts, count = self._task.draw_real(draw)
        targets = self._targets.detach()[chosen]
        learner.outer(self._task.base[chosen], targets, parts, count)
        learner.learn(targets)

    def state(self, step: int) -> State:
        """All that the next step depends on."""
        tensors = {
            **state({"targets": self._targets}, self._optimiser),
            **state(self._learner.trained(), self._learner.optimiser),
            "best": self._best[0],
            "draw": self._draw.get_state(),
        }
        if isinstance(self._learner, Ridge):
            tensors["readout"] = self._learner.solved.weights
        numbers = {"step": step, "length": self._best[1], "accuracy": self._best[2]}
        return tensors, {**numbers, "patience": dataclasses.asdict(self._patience)}

    def resume(self) -> int:
        """Put the state that the run's store kept back where it belongs; the outer step to come."""
        kept = self._run.kept()
        if kept is None:
            return 0
        tensors, numbers = kept
        self._draw.set_state(tensors["draw"])
        put_back(tensors, {"targets": self._targets}, self._optimiser)
        put_back(tensors, self._learner.trained(), self._learner.optimiser)
        if isinstance(self._learner, Ridge):
            self._learner.solved.weights = tensors["readout"].to(self._run.device)
        self._best = tensors["best"].to(self._run.device), int(numbers["length"]), float(numbers["accuracy"])
        self._patience = Patience(**numbers["patience"])
        return int(numbers["step"])


def _base(real: RealSet, per_class: int, params: Params, run: Run) -> tuple[torch.Tensor, torch.Tensor, RealSet]:
    """Positions (m,) of the base images in a training split, their labels there, and whose split it is.

    Of the set itself, the same number of each class: those that random_images takes. Of another one, any.
    """
    rng = run.generator("images")
    if not params.base:
        chosen = sample(real, per_class, rng)
        return chosen, real.train.targets[chosen], real
    other = run.other(params.base)
    if other.shape != real.shape:
        raise UserError(
            f"label_distillation: base: images of {params.base} are {_size(other)}, those of {real.name} are {_size(real)}. "
            "Choose a data set with images of the same size."
        )
    count = real.size(per_class)
    if len(other.train) < count:
        raise UserError(
            f"label_distillation: base: {params.base} has {len(other.train)} training images, and {count} are asked for. "
            "Choose a smaller per_class."
        )
    chosen = torch.randperm(len(other.train), generator=rng)[:count]
    return chosen, other.train.targets[chosen], other


def _true(task: _Task, real: RealSet, params: Params) -> tuple[torch.Tensor, int, int]:
    """Labels (m, c) of the base images, smoothed, and the T, of those tried, that validates best; the shorter of equals."""
    hard = one_hot(task.labels, real.n_classes).to(task.base)
    targets = (1 - params.smoothing) * hard + params.smoothing / real.n_classes
    lengths = _LENGTHS if len(task.base) > _MANY else _LENGTHS[:-1]
    found = {length: task.validated(targets, length, "validation") for length in lengths}
    return targets, max(found, key=lambda length: found[length]), len(lengths)


def _slope(weight: torch.Tensor) -> torch.Tensor:
    assert weight.grad is not None
    return weight.grad


def _size(real: RealSet) -> str:
    """'1 x 28 x 28'."""
    return " x ".join(map(str, real.shape))
