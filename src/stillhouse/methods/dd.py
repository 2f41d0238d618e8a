"""Dataset distillation by unrolled training: images and step sizes, trained so that a few steps of gradient descent on them
fit the real data. With learned labels: soft-label dataset distillation (SLDD).

Wang, Zhu, Torralba, Efros (2018), DD. The m images are S parts, and a network trains on part after part, E times over:

    theta_{t+1} = theta_t - r_t gradient of the loss on part t mod S,   T = S E steps, each with its own r_t = softplus(rho_t)

Each outer step draws a batch of real images and initial weights theta_0, and descends the cross-entropy of theta_T on the batch,
by Adam, over images and rho (methods/unrolling.py has the gradient). Images begin as N(0, 1) in the model's space and are never
clipped; labels are one-hot and fixed. In SLDD (Sucholutsky, Schonlau 2021; `labels: learned`) the labels are trained too, as any
real numbers, and there may be fewer images than classes (`images`).

A thousandth of a pixel can change what three steps lead to by several points of accuracy (docs/theory/unrolling.md). So the
last set is one draw of many; `validate_every` keeps the one that is best on validation images instead.

The set's schedule holds the order and the step sizes, and its model the seed of the initial weights where they are fixed: an
ordinary training on the same images learns far less.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.func import functional_call
from torch.nn import functional

from stillhouse import settings
from stillhouse.augmentation import Augmentation, augment
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods import unrolling
from stillhouse.methods.support import check_finite, put_back, record_steps, state, under
from stillhouse.models import fitting, ridge, training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import one_hot
from stillhouse.teacher import Teacher

# Real images that go through a network together on a CPU: more leave the cache, and 1024 at once take up to half as long again.
_AT_ONCE = 128
_BETAS = (0.5, 0.999)  # of Adam (DD, code)
# Seeds of teachers that pretrained weights are drawn from begin here, beyond those of any study: others are left for the judge.
_TEACHERS_FROM = 1000


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DD, code, for random initial weights; its one image per class and inner step.

    The paper's fixed initial weights on MNIST: one image per class, `initialisation: fixed`. SLDD: `labels: learned`, step_size
    0.01, and 350 epochs of the real set instead of DD's 400. CIFAR-10: step_size 0.001, augmentation {flip: true, shift: 4}.
    """

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(
            description="the network that is trained: a name under models, of kind lenet, alexcifarnet, convnet, ..."
        ),
    ]
    labels: Annotated[
        Literal["fixed", "learned"],
        Field(description="fixed: one-hot (DD); learned: any real numbers, trained with the images (SLDD)"),
    ] = "fixed"
    label_start: Annotated[
        Literal["one_hot", "noise", "uniform"],
        Field(description="of learned labels; one_hot: classes in turn; noise: N(0, 1); uniform: 1/c"),
    ] = "one_hot"
    images: Annotated[
        int,
        Field(
            ge=0,
            description="distilled images in all, m, in place of per_class of each class: with learned labels there may be fewer "
            "than classes; 0: per_class of each",
        ),
    ] = 0
    inner_steps: Annotated[
        int,
        Field(ge=0, description="S, parts into which the images are divided; 0: per_class, one of each class a step"),
    ] = 0
    epochs: Annotated[int, Field(ge=1, description="E, times that the parts are gone through")] = 3
    step_size: Annotated[
        float, Field(gt=0, description="r at the start; DD: 0.02, CIFAR-10: 0.001; SLDD: 0.01 and 0.001")
    ] = 0.02
    initialisation: Annotated[
        Literal["fixed", "random", "pretrained"],
        Field(
            description="of the network; fixed: the same weights always, those of the set's seed; random: drawn at every outer "
            "step; pretrained: those of the teachers at hand, which may be of another data set"
        ),
    ] = "random"
    pretrained: Annotated[
        int,
        Field(
            ge=1, description="teachers that pretrained weights are drawn from; DD: 200 in its code, 2000 in its paper"
        ),
    ] = 20
    networks: Annotated[
        int,
        Field(ge=1, description="initial weights an outer step; DD: 1 in its code, 4 in its paper; of fixed ones: 1"),
    ] = 1
    steps: Annotated[int, Field(ge=0, description="outer steps, of Adam")] = 23_600
    full_steps: Annotated[
        int,
        Field(
            ge=1, description="of the published setting; DD: 400 epochs of 59 batches (MNIST), 49 (CIFAR-10); SLDD: 350"
        ),
    ] = 23_600
    batch: Annotated[int, Field(ge=1, description="real images an outer step")] = 1024
    learning_rate: Annotated[float, Field(gt=0, description="of Adam, at the start")] = 0.01
    decay: Annotated[float, Field(gt=0, le=1, description="factor of the learning rate from one stage to the next")] = (
        0.5
    )
    stages: Annotated[int, Field(ge=1, description="of equal length; DD: 40 of 400 epochs each, SLDD: 35 of 350")] = 10
    augmentation: Annotated[
        Augmentation, Field(description="of the real batch; DD on CIFAR-10: flip, and a shift of 4")
    ] = field(default_factory=Augmentation)
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training images kept apart, to record progress")
    ] = 0.05
    validate_every: Annotated[
        int,
        Field(
            ge=0,
            description="outer steps between scores on those images, of which the best set is kept; 0: the last one, as in DD's "
            "code",
        ),
    ] = 0

    def __post_init__(self) -> None:
        training.check_network(self.model)
        if self.initialisation == "fixed" and self.networks > 1:
            raise ValueError("networks is for initial weights that differ; fixed ones are one network")
        if self.initialisation == "pretrained" and self.networks > self.pretrained:
            raise ValueError("networks of one outer step are as many as pretrained at most")
        if self.labels == "fixed" and self.label_start != "one_hot":
            raise ValueError("label_start is for labels: learned")


def budget(params: Params) -> float:
    """The part of the published number of outer steps."""
    return params.steps / params.full_steps


def teachers(params: Params) -> tuple[Any, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,) if params.initialisation == "pretrained" else ()


def teacher_seeds(params: Params) -> tuple[int, ...]:
    """The seeds of those, which are not the sets' own; none where there are no teachers."""
    count = params.pretrained if params.initialisation == "pretrained" else 0
    return tuple(range(_TEACHERS_FROM, _TEACHERS_FROM + count))


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Train m = per_class x classes images, or as many as `images` says, from noise.

    Raises UserError for numbers of images, steps and classes that do not go together, and NumericalError naming the outer step at
    which a number is no longer finite. Resumes from the run's store.
    """
    shape = parts(real, per_class, params)
    unrolled = _Unrolled(real, params, run)
    support = {name: tensor.requires_grad_() for name, tensor in _begun(real, shape, params, run).items()}
    optimiser = torch.optim.Adam(support.values(), lr=params.learning_rate, betas=_BETAS)
    draw = run.generator("batches")
    best = _Best()
    first = _resume(run, support, optimiser, draw, best)
    what = f"DD, {shape[0] * shape[1]} images in {shape[0] * params.epochs} inner steps"
    run.foretell(what, params.steps - first, lambda: unrolled.descend(support, run.generator("a trial")))
    recorded = set(record_steps(params.steps))
    for step in run.progress(range(first, params.steps), params.steps - first, what):
        if step in recorded:
            run.record(step=step, validation_accuracy=unrolled.score(support))
        optimiser.param_groups[0]["lr"] = params.learning_rate * params.decay ** (step * params.stages // params.steps)
        optimiser.zero_grad()
        check_finite(step, "loss", unrolled.descend(support, draw), support)
        optimiser.step()
        _check_step_sizes(step, support)
        if params.validate_every and (step + 1) % params.validate_every == 0:
            best.look(step + 1, unrolled.score(support), support)
        run.offer(functools.partial(_state, step + 1, support, optimiser, draw, best))
    accuracy = unrolled.score(support)
    run.record(step=params.steps, validation_accuracy=accuracy)
    if not params.validate_every:
        return unrolled.finished(support)
    best.look(params.steps, accuracy, support)
    return dataclasses.replace(unrolled.finished(best.support), recipe={"numerics": best.numbers()})


def parts(real: RealSet, per_class: int, params: Params) -> tuple[int, int]:
    """S parts of b images each. Raises UserError where the images do not divide."""
    count = params.images or real.size(per_class)
    steps = params.inner_steps or per_class
    if count % steps:
        raise UserError(f"dd: {count} images do not divide into {steps} inner steps. Choose images or inner_steps.")
    if params.labels == "fixed" and count // steps % real.n_classes:
        raise UserError(
            f"dd: {count // steps} images a step do not divide among {real.n_classes} classes. Set labels: learned, or choose "
            "images and inner_steps so that they do."
        )
    return steps, count // steps


@dataclass
class _Best:
    """The support set that is the most accurate on validation images so far, in percent; the later of equals."""

    step: int = 0
    accuracy: float = -1.0
    support: dict[str, torch.Tensor] = field(default_factory=dict)

    def look(self, step: int, accuracy: float, support: Mapping[str, torch.Tensor]) -> None:
        """Keep a copy of `support`, of after `step` steps, where it is as good."""
        if accuracy >= self.accuracy:
            self.step, self.accuracy = step, accuracy
            self.support = {name: tensor.detach().clone() for name, tensor in support.items()}

    def numbers(self) -> dict[str, float]:
        """Which it is."""
        return {"step": self.step, "validation_accuracy": self.accuracy}


class _Unrolled:
    """Training on the set, and what it leads to on real images.

    The support set is 'inputs' (S, b, *shape), 'rates' rho (T,) and, where labels are learned, 'targets' (S, b, c).
    """

    def __init__(self, real: RealSet, params: Params, run: Run) -> None:
        self._real, self._params, self._run = real, params, run
        self._space = whitening.fit(params.model.space, real)
        self._fitted, self._held_out = ridge.split(len(real.train), params.validation, run.seed)
        self._network = training.build(params.model, real.shape, real.width)
        if any(True for _ in self._network.buffers()):
            raise UserError(
                f"dd: models/{settings.kind_of(params.model)} with batch normalisation scores an image by the others of its "
                "batch, which the back-gradient does not follow. Choose another norm."
            )
        self._teachers = _pretrained(params, real, run) if params.initialisation == "pretrained" else []
        self._at_once = _AT_ONCE if run.device.type == "cpu" else params.batch

    def descend(self, support: Mapping[str, torch.Tensor], draw: torch.Generator) -> float:
        """Leave the gradient of a batch's loss in every tensor of `support`; returns that loss, the mean over networks."""
        order = torch.randperm(len(self._fitted), generator=draw)[: self._params.batch]
        images, wanted = self._real_examples(self._fitted[order])
        images = augment(images, self._params.augmentation, draw)
        if images.ndim == 4:
            # Pooling and convolutions of many images take a fifth less time with the channels last.
            images = images.to(memory_format=torch.channels_last)
        total = 0.0
        for weights in self._starts(draw):
            final = self._trained(weights, support)
            value, slopes = self._outer(final, images, wanted)
            torch.autograd.backward(list(final.values()), [slope / self._params.networks for slope in slopes])
            total += value / self._params.networks
        return total

    @torch.no_grad()
    def score(self, support: Mapping[str, torch.Tensor]) -> float:
        """Accuracy in percent on the held-out images after training on the set, the mean over networks."""
        finals = [self._trained(weights, support) for weights in self._starts(self._run.generator("validation"))]
        right = 0
        for index in torch.split(self._held_out, self._at_once):
            images, wanted = self._real_examples(index)
            for final in finals:
                found = functional_call(self._network, final, (images,))
                right += int((found.argmax(1) == wanted.argmax(1)).sum())
        return 100 * right / (len(finals) * len(self._held_out))

    def finished(self, support: Mapping[str, torch.Tensor]) -> DistilledSet:
        """The distilled set, with the schedule that trains on it."""
        params, inputs = self._params, support["inputs"].detach()
        schedule = training.Schedule(
            steps=len(inputs), epochs=params.epochs, loss="cross_entropy", start=self._source(),
            step_sizes=tuple(_step_sizes(support).tolist()),
        )  # fmt: skip
        # A set that is for any initial weights names no seed, and the judge draws its own.
        seed = {"seed": self._run.seed} if params.initialisation == "fixed" else {}
        return DistilledSet.of(
            self._real,
            inputs=inputs.flatten(0, 1).cpu(),
            targets=self._targets(support).detach().flatten(0, 1).cpu(),
            space=self._space.settings(),
            model={**settings.dump(params.model), **seed},
            schedule={name: value for name, value in settings.dump(schedule).items() if value is not None},
        )

    def _trained(self, weights: unrolling.Weights, support: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps = len(support["inputs"])
        order = list(range(steps)) * self._params.epochs
        return unrolling.trained(
            self._loss, weights, (support["inputs"], self._targets(support)), order, _step_sizes(support)
        )

    def _loss(self, weights: unrolling.Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = functional_call(self._network, dict(weights), (inputs,))
        return training.loss("cross_entropy", found, targets) / len(inputs)

    def _outer(
        self, final: unrolling.Weights, images: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[float, list[torch.Tensor]]:
        """The mean loss of trained weights on real images, and its gradient; some images at a time."""
        leaves = {name: weight.detach().requires_grad_() for name, weight in final.items()}
        total = 0.0
        for seen, targets in zip(torch.split(images, self._at_once), torch.split(wanted, self._at_once), strict=True):
            value = self._loss(leaves, seen, targets) * (len(seen) / len(images))
            value.backward()  # type: ignore[no-untyped-call]
            total += float(value.detach())
        return total, [leaf.grad for leaf in leaves.values() if leaf.grad is not None]

    def _targets(self, support: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(S, b, c)."""
        if "targets" in support:
            return support["targets"]
        steps, size = support["inputs"].shape[:2]
        return _in_turn(steps, size, self._real.n_classes).to(support["inputs"])

    def _starts(self, draw: torch.Generator) -> Iterator[unrolling.Weights]:
        """Initial weights of one outer step."""
        params, run = self._params, self._run
        if params.initialisation == "pretrained":
            for place in torch.randperm(len(self._teachers), generator=draw)[: params.networks].tolist():
                yield {name: weight.to(run.device) for name, weight in self._teachers[place].weights.items()}
            return
        # Fixed ones are those of the set's seed, as the judge draws them.
        rng = run.generator("initial weights") if params.initialisation == "fixed" else draw
        for _ in range(params.networks):
            training.initialise(self._network, rng, run.device, params.model.initialisation)
            yield {name: weight.detach().clone() for name, weight in self._network.named_parameters()}

    def _real_examples(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (b, *shape) in the model's space and targets (b, c), at positions (b,) of the training split."""
        images = self._space.forward(pixels(self._real.train.inputs[index]).to(self._run.device))
        return images, self._real.target_rows(self._real.train.targets[index]).to(images)

    def _source(self) -> str | None:
        """The real set that the initial weights were trained on."""
        return str(self._teachers[0].data["fingerprint"]) if self._teachers else None


def _begun(real: RealSet, shape: tuple[int, int], params: Params, run: Run) -> dict[str, torch.Tensor]:
    """The support set before the first outer step."""
    steps, size = shape
    begun = {
        "inputs": torch.randn(steps, size, *real.shape, generator=run.generator("images")),
        "rates": torch.full((steps * params.epochs,), params.step_size, dtype=torch.float64).expm1().log().float(),
    }
    if params.labels == "learned":
        begun["targets"] = {
            "one_hot": lambda: _in_turn(steps, size, real.n_classes),
            "noise": lambda: torch.randn(steps, size, real.n_classes, generator=run.generator("labels")),
            "uniform": lambda: torch.full((steps, size, real.n_classes), 1 / real.n_classes),
        }[params.label_start]().float()
    return {name: tensor.to(run.device) for name, tensor in begun.items()}


def _in_turn(steps: int, size: int, classes: int) -> torch.Tensor:
    """One-hot targets (S, b, c) of all images in order, the classes in turn."""
    return one_hot(torch.arange(steps * size) % classes, classes).view(steps, size, classes)


def _step_sizes(support: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """r (T,), positive."""
    return functional.softplus(support["rates"])


def _check_step_sizes(step: int, support: Mapping[str, torch.Tensor]) -> None:
    """Raise NumericalError where one has become 0 in float32: nothing would move it again."""
    sizes = _step_sizes(support)
    if not bool((sizes > 0).all()):
        raise NumericalError(
            f"step {step}: inner step {int(sizes.argmin()) + 1} of {len(sizes)} has become 0 long; the learning rate is too large"
        )


def _pretrained(params: Params, real: RealSet, run: Run) -> list[Teacher]:
    """The teachers at hand of this very model, all of one data set. Raises UserError where there are too few."""
    wanted = settings.dump(params.model)
    found = [each for each in map(Teacher.load, run.teachers) if each.model == wanted]
    found = [each for each in found if fitting.shape(each) == (real.shape, real.width)]
    if len(found) < params.networks or len({each.data["fingerprint"] for each in found}) != 1:
        raise UserError(
            f"dd: initialisation pretrained needs {params.networks} or more teachers of its model, of one data set with images "
            f"of {real.shape} and {real.width} classes; {len(found)} are at hand. Train them first."
        )
    return found


def _state(
    step: int, support: Mapping[str, torch.Tensor], optimiser: torch.optim.Adam, draw: torch.Generator, best: _Best
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that the next step depends on, and what the end does."""
    kept = {f"best.{name}": tensor for name, tensor in best.support.items()}
    return {**state(support, optimiser), **kept, "draw": draw.get_state()}, {"step": step, "best": best.numbers()}


def _resume(
    run: Run, support: dict[str, torch.Tensor], optimiser: torch.optim.Adam, draw: torch.Generator, best: _Best
) -> int:
    """Put the state that the run's store kept back where it belongs; the outer step to come."""
    kept = run.kept()
    if kept is None:
        return 0
    tensors, numbers = kept
    draw.set_state(tensors["draw"])
    put_back(tensors, support, optimiser)
    best.step, best.accuracy = int(numbers["best"]["step"]), float(numbers["best"]["validation_accuracy"])
    best.support = {name: tensor.to(run.device) for name, tensor in under(tensors, "best").items()}
    return int(numbers["step"])
