"""Bilevel distillation for regression: points, targets and the learner's step size, trained so that a few steps of gradient
descent on the points fit the real data.

Mahowald, Srinivasan, Wang (2025), Algorithm 1. Each outer step draws a batch (X_b, Y_b) and q initial parameters W_0, lets each
learn for T inner steps from the m points (X, Y), and descends, by plain gradient steps, the sum over q of

    (1/2b) |X_b W_T - Y_b|^2 + ridge_outer/2 (|X|^2 + |Y|^2)   over X, Y and eta

W_T stands in closed form (theory/bilevel.py), differentiable in all three. With a kernel the learner is f = sum_j a_j k(x_j, .),
which starts at 0 and descends in the kernel's space; as T grows it becomes kernel ridge regression and the method KIP. What the
paper leaves open, and what each choice gives, stands in docs/theory/bilevel.md.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field, WrapValidator

from stillhouse import kernels, settings
from stillhouse.data import whitening
from stillhouse.data.whitening import Standardised
from stillhouse.errors import NumericalError
from stillhouse.kernels import Kernel, tiles
from stillhouse.methods.random_images import sample
from stillhouse.methods.support import Balanced, record_steps
from stillhouse.run import Run, stream
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.theory import bilevel

BATCH = ("per_class", "seed")
TASKS = ("regression",)

# Outer steps between looks at the inner step size. A step size above its bound at one look may still be on its way back.
_LOOKED = 50
# Of the schedule of inner steps: outer steps in which the share of T that is added comes to 1 - 1/e.
_LENGTHENED = 300
# A loss above this multiple of the last one asks for another start.
_ROSE = 1.02
_CHUNK = 2048  # real examples looked at at once


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: the paper's; those of what it does not state (over_starts, least_step, scales, max_starts) are ours."""

    space: whitening.SpaceSettings = field(default_factory=Standardised)
    kernel: Annotated[
        Any,
        settings.plugin("kernels"),
        WrapValidator(lambda raw, read: None if raw is None else read(raw)),
        Field(description="of a learner in the kernel's space, a file of kernels/; none: a linear learner"),
    ] = None
    steps: Annotated[int, Field(ge=0, description="S, outer steps")] = 2500
    full_steps: Annotated[int, Field(ge=1, description="of the published setting: what `steps` is a part of")] = 2500
    inner_steps: Annotated[int, Field(ge=1, description="T, steps of the learner; the paper: 100 to 175")] = 100
    batch: Annotated[int, Field(ge=1, description="b, real examples a step")] = 32
    starts: Annotated[
        int, Field(ge=1, description="q, initial parameters a step; a learner with a kernel starts at 0 alone")
    ] = 30
    rate_inputs: Annotated[float, Field(ge=0, description="alpha_x, outer step size of the points")] = 0.0025
    rate_targets: Annotated[float, Field(ge=0, description="alpha_y, outer step size of their targets")] = 0.0025
    rate_step: Annotated[float, Field(ge=0, description="alpha_eta, outer step size of the inner step size")] = 0.00025
    step: Annotated[float, Field(gt=0, description="eta_0, inner step size at the start")] = 0.05
    least_step: Annotated[
        float | None,
        Field(
            ge=0,
            description="the inner step size is set back to this where it falls below; none: never, as in the paper",
        ),
    ] = 0.01
    most_of_bound: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="part of its bound (Lemma 2.4) that the inner step size is held below, from the start on; none: it is "
            "not held, as in the paper, and a run that stays beyond its bound stops",
        ),
    ] = None
    clip: Annotated[
        float | None,
        Field(
            gt=0,
            description="largest norm of what points, or targets, descend in one step; none: any, as in the paper",
        ),
    ] = None
    ridge_inner: Annotated[float, Field(ge=0, description="lambda_I, beside a mean squared error over 2")] = 0.001
    ridge_outer: Annotated[float, Field(ge=0, description="lambda_O, of points and targets")] = 0.001
    over_starts: Annotated[
        Literal["mean", "sum"],
        Field(
            description="what is descended: the sum of the losses of all starts, as Algorithm 1 prints it, or their mean"
        ),
    ] = "mean"
    start: Annotated[
        Literal["noise", "real"], Field(description="points at the start: normal, or random real examples")
    ] = "noise"
    scale_inputs: Annotated[
        float, Field(gt=0, description="deviation of normal points, times sqrt(d): 1 gives a norm of 1")
    ] = 1.0
    scale_targets: Annotated[float, Field(ge=0, description="deviation of their normal targets")] = 1.0
    scale_starts: Annotated[
        float, Field(ge=0, description="deviation of normal initial parameters, times sqrt(d): 1 gives a norm of 1")
    ] = 0.1
    more_starts: Annotated[
        bool, Field(description="one start more after each step whose loss is at least 1.02 times the last one's")
    ] = False
    max_starts: Annotated[int, Field(ge=1, description="most starts that may become of it")] = 60
    lengthen: Annotated[
        bool, Field(description="T + int(T/2 (1 - exp(-s/300))) inner steps at outer step s: up to half as many more")
    ] = False

    def inner_steps_at(self, step: int) -> int:
        """T at an outer step."""
        more = int(self.inner_steps / 2 * (1 - math.exp(-step / _LENGTHENED))) if self.lengthen else 0
        return self.inner_steps + more


class StoppedError(NumericalError):
    """A run that does not go on, and the outer step at which it stopped."""

    def __init__(self, step: int, text: str) -> None:
        super().__init__(f"step {step}: {text}")
        self.step = step


@dataclass
class Points:
    """What is trained, of s runs side by side: inputs X (s, m, d), targets Y (s, m, k), step sizes eta (s,)."""

    inputs: torch.Tensor
    targets: torch.Tensor
    step: torch.Tensor

    @classmethod
    def normal(cls, count: int, dim: int, width: int, params: Params, draws: Sequence[torch.Generator]) -> Points:
        """Drawn at the scales of `params`, one run for each generator."""
        inputs = params.scale_inputs / math.sqrt(dim) * _normal((count, dim), draws)
        targets = params.scale_targets * _normal((count, width), draws)
        return cls(inputs, targets, torch.full((len(draws),), params.step, dtype=torch.float64))

    def to(self, device: torch.device) -> Points:
        """On a device."""
        return Points(self.inputs.to(device), self.targets.to(device), self.step.to(device))


class Learner(Protocol):
    """What learns from the points."""

    def predict(
        self, points: Points, rows: torch.Tensor, count: int, draws: Sequence[torch.Generator], steps: int
    ) -> torch.Tensor:
        """Predictions (s, q, b, k) on rows (s, b, d) after so many inner steps, from `count` starts drawn for each run."""

    def largest(self, points: Points) -> torch.Tensor:
        """(s,): the largest eigenvalue that the bound on the step size knows (`bilevel.step_bound`)."""


@dataclass(frozen=True)
class Linear:
    """x -> W^T x, from W_0 with entries of N(0, scale^2 / d)."""

    params: Params

    def predict(
        self, points: Points, rows: torch.Tensor, count: int, draws: Sequence[torch.Generator], steps: int
    ) -> torch.Tensor:
        """With q = `count`."""
        dim, width = points.inputs.shape[-1], points.targets.shape[-1]
        starts = self.params.scale_starts / math.sqrt(dim) * _normal((count, dim, width), draws)
        ridge = self.params.ridge_inner
        learned = bilevel.trained(points.inputs, points.targets, starts.to(rows), points.step, ridge, steps)
        return rows[:, None] @ learned

    def largest(self, points: Points) -> torch.Tensor:
        """sigma_1(X)^2."""
        found: torch.Tensor = torch.linalg.matrix_norm(points.inputs, 2).square()
        return found


@dataclass(frozen=True)
class InKernelSpace:
    """x -> sum_j a_j k(x_j, x), from 0. One run alone: s = 1 and q = 1."""

    params: Params
    kernel: Kernel
    shape: tuple[int, ...]

    def predict(
        self, points: Points, rows: torch.Tensor, count: int, draws: Sequence[torch.Generator], steps: int
    ) -> torch.Tensor:
        """`count` and `draws` do not matter."""
        own = points.inputs[0].reshape(-1, *self.shape)
        gram = tiles.gram(self.kernel, own)[None]
        found = bilevel.coefficients(gram, points.targets, points.step, self.params.ridge_inner, steps)
        across = tiles.cross(self.kernel, rows[0].reshape(-1, *self.shape), own)
        return (across @ found[0])[None, None]

    def largest(self, points: Points) -> torch.Tensor:
        """Of K_SS."""
        gram = tiles.gram(self.kernel, points.inputs[0].reshape(-1, *self.shape))
        found: torch.Tensor = torch.linalg.eigvalsh(gram)[-1:]
        return found


def losses(
    learner: Learner, points: Points, rows: torch.Tensor, targets: torch.Tensor, count: int,
    draws: Sequence[torch.Generator], steps: int,
) -> torch.Tensor:  # fmt: skip
    """(1/2b) |X_b W_T - Y_b|^2 for each run and start, (s, q), of rows (s, b, d) with targets (s, b, k)."""
    found = learner.predict(points, rows, count, draws, steps)
    return (found - targets[:, None]).square().sum((2, 3)) / (2 * rows.shape[1])


def penalty(points: Points, ridge: float) -> torch.Tensor:
    """ridge/2 (|X|^2 + |Y|^2) of each run, (s,)."""
    return ridge / 2 * (points.inputs.square().sum((1, 2)) + points.targets.square().sum((1, 2)))


Examples = Callable[[], tuple[torch.Tensor, torch.Tensor]]


class Descent:
    """Algorithm 1 for s runs side by side, step by step."""

    def __init__(
        self, points: Points, learner: Learner, params: Params, examples: Examples, draws: Sequence[torch.Generator]
    ) -> None:
        """`examples` draws a batch for each run, rows (s, b, d) and targets (s, b, k); `draws` draw the learners' starts."""
        self.points, self.learner, self.params = points, learner, params
        self.done, self.starts, self.last, self.outside = 0, params.starts, math.inf, 0
        self._hold()
        self._examples, self._draws = examples, draws

    @property
    def inner_steps(self) -> int:
        """T of the step to come."""
        return self.params.inner_steps_at(self.done)

    def step(self) -> torch.Tensor:
        """Descend once; returns the losses (s,) of the batches before, without the ridge.

        Raises StoppedError with the numbers where a loss or a gradient is no number, or the inner step size is not between
        0 and its bound (Lemma 2.4) at two looks in a row, 50 steps apart.
        """
        if self.done % _LOOKED == 0:
            self._look()
        loss, slopes = self.gradient(*self._examples(), self._draws)
        if not bool(loss.isfinite().all()) or not all(bool(slope.isfinite().all()) for slope in slopes):
            raise StoppedError(
                self.done,
                f"the outer loss is {_listed(loss)}, or its gradient has entries that are NaN or infinite; "
                f"{self._step_sizes()}",
            )
        rates = (self.params.rate_inputs, self.params.rate_targets, self.params.rate_step)
        moved = (self.points.inputs, self.points.targets, self.points.step)
        self.points = Points(
            *(part - rate * self._clipped(slope) for part, rate, slope in zip(moved, rates, slopes, strict=True))
        )
        self._hold()
        mean = float(loss.mean())
        if self.params.more_starts and mean >= _ROSE * self.last:
            self.starts = min(self.starts + 1, self.params.max_starts)
        self.last = mean
        self.done += 1
        return loss

    def gradient(
        self, rows: torch.Tensor, targets: torch.Tensor, draws: Sequence[torch.Generator]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Losses (s,) on a batch, means over starts without the ridge, and what the three parts of the points descend."""
        parts = (self.points.inputs, self.points.targets, self.points.step)
        tracked = Points(*(part.detach().requires_grad_() for part in parts))
        found = losses(self.learner, tracked, rows, targets, self.starts, draws, self.inner_steps)
        mean = found.mean(1)
        whole = (mean + penalty(tracked, self.params.ridge_outer)).sum()
        if self.params.over_starts == "sum":
            whole = found.shape[1] * whole
        slopes = torch.autograd.grad(whole, [tracked.inputs, tracked.targets, tracked.step])
        return mean.detach(), slopes

    @torch.no_grad()
    def loss(self, rows: torch.Tensor, targets: torch.Tensor, draws: Sequence[torch.Generator]) -> torch.Tensor:
        """Losses (s,) on rows (s, b, d), means over starts without the ridge."""
        return losses(self.learner, self.points, rows, targets, self.starts, draws, self.inner_steps).mean(1)

    @torch.no_grad()
    def step_bound(self) -> torch.Tensor:
        """What the inner step sizes have to stay below, (s,)."""
        largest, count = self.learner.largest(self.points), self.points.inputs.shape[-2]
        return bilevel.step_bound(largest, count, self.params.ridge_inner)

    def _clipped(self, slope: torch.Tensor) -> torch.Tensor:
        """Slopes (s, ...) of a part of the points, each run's no longer than `clip`."""
        if self.params.clip is None:
            return slope
        norms = slope.flatten(1).norm(dim=1) if slope.ndim > 1 else slope.abs()
        return slope * (self.params.clip / norms).clamp(max=1).view(-1, *[1] * (slope.ndim - 1))

    def _hold(self) -> None:
        """Keep the inner step sizes where the settings hold them; Lemma 2.4's bound wins over `least_step`."""
        size = self.points.step
        if self.params.least_step is not None:
            size = size.clamp(min=self.params.least_step)
        if self.params.most_of_bound is not None:
            size = torch.minimum(size, self.params.most_of_bound * self.step_bound())
        self.points = Points(self.points.inputs, self.points.targets, size)

    def _look(self) -> None:
        held = (self.points.step > 0) & (self.points.step < self.step_bound())
        self.outside = 0 if bool(held.all()) else self.outside + 1
        if self.outside > 1:
            raise StoppedError(self.done, f"{self._step_sizes()}, as it was {_LOOKED} steps before")

    def _step_sizes(self) -> str:
        return (
            f"the inner step size is {_listed(self.points.step)}, which Lemma 2.4 wants between 0 and "
            f"{_listed(self.step_bound())}: choose smaller outer step sizes or scales"
        )


def budget(params: Params) -> float:
    """The part of the published number of steps."""
    return params.steps / params.full_steps


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """m = per_class points with k real-valued targets, in `space` and in the real set's target space.

    Its schedule asks for the ridge m ridge_inner of a loss that is a sum; T, the learned step size and what T steps of it give
    stand in its recipe. Raises StoppedError where a number is none or the step size stays beyond its bound. Resumes from the
    run's store.
    """
    space = whitening.fit(params.space, real)
    batches, chosen = run.generator("batches"), Balanced(real, torch.arange(len(real.train)))

    def seen(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = space.forward(inputs.to(run.device, torch.float64)).flatten(1)
        return rows[None], real.target_rows(targets).to(run.device)[None]

    def at(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return seen(pixels(real.train.inputs[index]), real.train.targets[index])

    drawn = run.generator("points")
    points = Points.normal(per_class, real.dim, real.width, params, [drawn]).to(run.device)
    if params.start == "real":
        points = Points(*at(sample(real, per_class, drawn)), points.step)
    kernel = None if params.kernel is None else kernels.build(params.kernel, real.shape, stream(run.seed, "kernel"))
    learner = Linear(params) if kernel is None else InKernelSpace(params, kernel, real.shape)
    starts = run.generator("starts")
    descent = Descent(points, learner, params, lambda: at(chosen.draw(params.batch, batches)), [starts])
    _descend(descent, {"batches": batches, "starts": starts}, run)
    total = 0.0
    for inputs, targets in real.train.chunks(_CHUNK):
        total += len(targets) * float(descent.loss(*seen(inputs, targets), [run.generator("starts to look from")]))
    found = descent.points
    numerics = {
        "steps": descent.done, "inner_steps": descent.inner_steps, "starts": descent.starts,
        "inner_step_size": float(found.step), "inner_step_bound": float(descent.step_bound()),
        "training_r2": 1 - 2 * total / (real.width * len(real.train)),
    }  # fmt: skip
    return DistilledSet.of(
        real,
        inputs=found.inputs[0].reshape(-1, *real.shape).cpu(),
        targets=found.targets[0].cpu(),
        space=space.settings(),
        schedule={"ridge": params.ridge_inner * per_class} if kernel is None else {},
        recipe={"numerics": numerics},
    )


def _descend(descent: Descent, draws: Mapping[str, torch.Generator], run: Run) -> None:
    """All steps of one run; `draws` are the generators that the next step depends on."""
    _resume(descent, draws, run)
    steps = descent.params.steps
    left, recorded = steps - descent.done, {*record_steps(steps), steps - 1}
    what = f"bilevel, {descent.points.inputs.shape[1]} points"
    run.foretell(what, left, lambda: _trial(descent, run))
    for step in run.progress(range(descent.done, steps), left, what):
        size, bound = descent.points.step, descent.step_bound() if step in recorded else None
        loss = descent.step()
        if bound is not None:
            run.record(step=step, loss=float(loss), step_size=float(size), step_bound=float(bound))
        run.offer(functools.partial(_state, descent, draws))


def _trial(descent: Descent, run: Run) -> None:
    """The work of a step, which leaves no trace."""
    points, batch = descent.points, descent.params.batch
    rows = points.inputs.new_zeros(1, batch, points.inputs.shape[-1])
    descent.gradient(rows, points.targets.new_zeros(1, batch, points.targets.shape[-1]), [run.generator("a trial")])


def _state(
    descent: Descent, draws: Mapping[str, torch.Generator]
) -> tuple[dict[str, torch.Tensor], dict[str, int | float]]:
    """All that the next step depends on."""
    points = descent.points
    tensors = {"inputs": points.inputs, "targets": points.targets, "step_size": points.step}
    generators = {f"draw.{name}": draw.get_state() for name, draw in draws.items()}
    numbers = {"step": descent.done, "starts": descent.starts, "loss": descent.last, "outside": descent.outside}
    return {**tensors, **generators}, numbers


def _resume(descent: Descent, draws: Mapping[str, torch.Generator], run: Run) -> None:
    """Put the state that the run's store kept back where it belongs."""
    kept = run.kept()
    if kept is None:
        return
    tensors, numbers = kept
    descent.points = Points(tensors["inputs"], tensors["targets"], tensors["step_size"]).to(run.device)
    descent.done, descent.starts = numbers["step"], numbers["starts"]
    descent.last, descent.outside = numbers["loss"], numbers["outside"]
    for name, draw in draws.items():
        draw.set_state(tensors[f"draw.{name}"])


def _normal(shape: tuple[int, ...], draws: Sequence[torch.Generator]) -> torch.Tensor:
    """(s, *shape) float64, each run from a generator of its own."""
    return torch.stack([torch.randn(shape, generator=draw, dtype=torch.float64) for draw in draws])


def _listed(values: torch.Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.flatten().tolist())
