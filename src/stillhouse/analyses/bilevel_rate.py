"""How fast bilevel distillation descends: the table of Mahowald, Srinivasan, Wang (2025), section 2.3, and its figure.

For each number T of inner steps, points are distilled several times side by side, log loss is fitted by a line in a window that
a rule finds, and its slope stands beside what Theorem 2.9 promises. The loss is that of all training examples, a mean over
fixed starts, without the ridge; the paper does not say which it draws. Its data are raw: neither inputs nor targets are
standardised here.

The window begins at the first look whose loss is a fifth of the first one's, and ends before the first whose loss is ten times
the floor, the median of the last tenth. A floor of a tenth bends the line by 0.1 at most. Where fewer than three looks are left,
all are fitted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from scipy.sparse.linalg import LinearOperator, eigsh

from stillhouse import settings
from stillhouse.errors import UserError
from stillhouse.methods import bilevel_regression
from stillhouse.methods.bilevel_regression import Descent, Linear, Points, StoppedError
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.theory import bilevel

# The window: its first loss over the loss at the start, and its last one over the floor.
_WARM, _ABOVE_FLOOR = 0.2, 10.0
_FEWEST = 3  # looks that make a fit
_TOLERANCE = 1e-3  # of eigenvalues, relatively
_FREE_STEPS = 100  # outer steps of runs whose step size is free: it rises or turns negative in the first of them
_SUBSPACE = 60  # vectors that Lanczos keeps: the smallest eigenvalues lie close together


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: the paper's table."""

    method: Annotated[
        bilevel_regression.Params,
        settings.plugin("methods", only="bilevel_regression"),
        Field(description="what distils, apart from its inner steps; its space and kernel are not used"),
    ] = field(default_factory=bilevel_regression.Params)
    points: Annotated[int, Field(ge=1, description="m; the paper's n, d, m are 1000, 100, 99")] = 99
    inner_steps: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, description="T of each line of the table")
    ] = (100, 125, 150, 175)
    repeats: Annotated[int, Field(ge=1, description="runs of each T, that start at other points")] = 5
    look_every: Annotated[int, Field(ge=1, description="outer steps between looks at the loss on all examples")] = 10
    curve_every: Annotated[int, Field(ge=1, description="looks of which one is kept for the figure")] = 2
    tried: Annotated[
        Mapping[str, Mapping[str, Any]],
        Field(description="name: {setting: value} of the method, in place of `method`'s: what other choices give"),
    ] = field(default_factory=dict)
    tried_inner_steps: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, description="T of those")
    ] = (100, 175)
    tried_steps: Annotated[int, Field(ge=1, description="outer steps of those")] = 1500
    tried_repeats: Annotated[int, Field(ge=1, description="runs of those")] = 2
    free_runs: Annotated[
        int,
        Field(
            ge=0, description="short runs whose step size is free, of each T of those, to see how many turn negative"
        ),
    ] = 0

    def __post_init__(self) -> None:
        for name in self.tried:
            self.changed(name)

    def changed(self, name: str) -> bilevel_regression.Params:
        """The method's settings with those tried as `name`. Raises UserError for an unknown one."""
        raw = {**settings.dump(self.method), "steps": self.tried_steps, **self.tried[name]}
        return settings.parse(bilevel_regression.Params, raw, f"tried.{name}")


@dataclass(frozen=True)
class Curve:
    """What r runs side by side gave.

    looks    outer steps at which all examples were looked at, (l,)
    losses   on all training examples at each look, (l, r)
    batches  losses of the batches at every step, (S, r)
    ratio    largest inner step size over its bound (Lemma 2.4) at any look, (r,)
    ends     the points after the last step
    kept     the points at the steps asked for
    """

    looks: torch.Tensor
    losses: torch.Tensor
    batches: torch.Tensor
    ratio: torch.Tensor
    ends: Points
    kept: Mapping[int, Points]


@dataclass(frozen=True)
class Line:
    """log loss = intercept + slope s, fitted by least squares, and its coefficient of determination."""

    slope: float
    intercept: float
    r2: float


@dataclass(frozen=True)
class Data:
    """All training examples as they are: rows X (n, d) and targets Y (n, k), float64."""

    rows: torch.Tensor
    targets: torch.Tensor

    @classmethod
    def of(cls, real: RealSet, run: Run) -> Data:
        """Of a regression set. Raises UserError for another."""
        if not real.regression:
            raise UserError(f"{real.name}: has classes, and this analysis needs values. Choose a regression set.")
        rows = pixels(real.train.inputs).to(run.device, torch.float64).flatten(1)
        return cls(rows, real.train.targets.to(run.device, torch.float64))

    def beside(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """For so many runs, (r, n, d) and (r, n, k), without a copy."""
        return self.rows.expand(count, -1, -1), self.targets.expand(count, -1, -1)


def analyse(real: RealSet, params: Params, run: Run) -> Iterator[dict[str, object]]:
    """Rows of four kinds, told by `part`.

    rate   for each T and repeat: window (first, last) and number of looks in it; slope, r2 and mu = (1 - exp(slope)) / alpha_x of
           the loss on all examples; slope_batch and r2_batch of the batches' at the same steps; intercept; loss at the start and
           at the end; step_size at the end and step_ratio, its largest part of the bound of Lemma 2.4
    curve  for each T and some looks: loss, the geometric mean over repeats, with the lowest and the highest
    bound  for each T, of the first repeat at three steps: what Theorem 2.9 is made of (see `_bound`)
    tried  for each other choice and T: means over repeats as in `rate`; or stopped, the step at which its numbers ended
    free   for each T of those: of how many short runs without a least step size how many end with a negative one
    """
    data = Data.of(real, run)
    for inner_steps in params.inner_steps:
        method = dataclasses.replace(params.method, inner_steps=inner_steps)
        watched = (0, method.steps // 10, method.steps)
        curve = descend(data, method, params, params.repeats, run, watched)
        lines = [_fitted(curve, repeat, method) for repeat in range(params.repeats)]
        for repeat, numbers in enumerate(lines):
            yield {"part": "rate", "inner_steps": inner_steps, "repeat": repeat, **numbers}
        for place in range(0, len(curve.looks), params.curve_every):
            yield {"part": "curve", "inner_steps": inner_steps, **_at(curve, place)}
        for step, points in curve.kept.items():
            yield {"part": "bound", "inner_steps": inner_steps, "step": step, **_bound(points, data, method, run)}
    for name in params.tried:
        for inner_steps in params.tried_inner_steps:
            gave = _tried(data, name, inner_steps, params, run)
            yield {"part": "tried", "tried": name, "inner_steps": inner_steps, **gave}
    for inner_steps in params.tried_inner_steps if params.free_runs else ():
        method = dataclasses.replace(params.method, inner_steps=inner_steps, steps=_FREE_STEPS, least_step=None)
        ends = descend(data, method, params, params.free_runs, run).ends
        negative = int((ends.step < 0).sum())
        yield {"part": "free", "inner_steps": inner_steps, "runs": params.free_runs, "negative": negative}


def descend(
    data: Data, method: bilevel_regression.Params, params: Params, repeats: int, run: Run, watched: Sequence[int] = ()
) -> Curve:
    """So many runs of `method` side by side; points are kept before the `watched` steps, or after the last.

    Raises StoppedError.
    """
    dim, width = data.rows.shape[1], data.targets.shape[1]

    def draws(purpose: str) -> list[torch.Generator]:
        return [run.generator(f"{purpose}, repeat {repeat}") for repeat in range(repeats)]

    batches = draws("batches")

    def examples() -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.stack([torch.randperm(len(data.rows), generator=draw)[: method.batch] for draw in batches])
        chosen = chosen.to(data.rows.device)
        return data.rows[chosen], data.targets[chosen]

    begun = Points.normal(params.points, dim, width, method, draws("points")).to(run.device)
    descent = Descent(begun, Linear(method), method, examples, draws("starts"))
    looks, losses, ratio, seen, kept = [], [], torch.zeros(repeats, dtype=torch.float64, device=run.device), [], {}
    what = f"T = {method.inner_steps}"
    for step in run.progress(range(method.steps), method.steps, what):
        if step in watched:
            kept[step] = descent.points
        if step % params.look_every == 0:
            looks.append(step)
            losses.append(descent.loss(*data.beside(repeats), draws("starts to look from")))
            ratio = torch.maximum(ratio, descent.points.step / descent.step_bound())
        seen.append(descent.step())
    if method.steps in watched:
        kept[method.steps] = descent.points
    return Curve(
        torch.tensor(looks), torch.stack(losses).cpu(), torch.stack(seen).cpu(), ratio.cpu(), descent.points, kept
    )


def window(losses: torch.Tensor) -> slice:
    """The looks (l,) to fit: after the warm-up, before the floor; all where fewer than three would be left."""
    floor = float(losses[-max(1, len(losses) // 10) :].median())
    first = _first(losses <= _WARM * losses[0])
    last = _first(losses <= _ABOVE_FLOOR * floor)
    return slice(first, last) if last - first >= _FEWEST else slice(0, len(losses))


def fit(steps: torch.Tensor, losses: torch.Tensor) -> Line:
    """The line through log losses (l,) at outer steps (l,)."""
    x, y = steps.to(torch.float64), losses.log()
    across, up = x - x.mean(), y - y.mean()
    slope = float(across @ up / across.square().sum())
    left = (up - slope * across).square().sum()
    return Line(slope, float(y.mean()) - slope * float(x.mean()), 1 - float(left / up.square().sum()))


def _first(held: torch.Tensor) -> int:
    """The first place where something holds, or the number of places."""
    places = torch.nonzero(held)
    return int(places[0]) if len(places) else len(held)


def _fitted(curve: Curve, repeat: int, method: bilevel_regression.Params) -> dict[str, float]:
    losses = curve.losses[:, repeat]
    chosen = window(losses)
    steps = curve.looks[chosen]
    first, last = int(steps[0]), int(steps[-1])
    line = fit(steps, losses[chosen])
    batches = fit(torch.arange(first, last + 1), curve.batches[first : last + 1, repeat])
    return {
        "first": first, "last": last, "looks": len(steps), "slope": line.slope, "intercept": line.intercept, "r2": line.r2,
        "mu": (1 - math.exp(line.slope)) / method.rate_inputs, "slope_batch": batches.slope, "r2_batch": batches.r2,
        "loss_start": float(losses[0]), "loss_end": float(losses[-1]), "step_size": float(curve.ends.step[repeat]),
        "step_ratio": float(curve.ratio[repeat]),
    }  # fmt: skip


def _at(curve: Curve, place: int) -> dict[str, float]:
    losses = curve.losses[place]
    return {
        "step": int(curve.looks[place]), "loss": float(losses.log().mean().exp()), "lowest": float(losses.min()),
        "highest": float(losses.max()),
    }  # fmt: skip


def _bound(points: Points, data: Data, method: bilevel_regression.Params, run: Run) -> dict[str, float]:
    """What Theorem 2.9 says at the first repeat's points: extreme eigenvalues of Hessians over points and targets together, of
    the loss on all examples from fixed starts.

    ridge           lambda_O
    smoothness      L, the largest, with the outer ridge
    least           the smallest, without it; M is its negative part (Lemma 2.7)
    slope_promised  log(1 - (lambda_O - M) / L)
    slope_possible  log(1 - alpha_x lambda_O): the most that it could promise of steps of size alpha_x, for M = 0
    """
    least, largest = curvature(points, data, method, run)
    convexity, smoothness = max(0.0, -least), largest + method.ridge_outer
    return {
        "ridge": method.ridge_outer,
        "smoothness": smoothness,
        "least": least,
        "slope_promised": bilevel.guaranteed_slope(method.ridge_outer, convexity, 1 / smoothness),
        "slope_possible": bilevel.guaranteed_slope(method.ridge_outer, 0.0, method.rate_inputs),
    }


def curvature(points: Points, data: Data, method: bilevel_regression.Params, run: Run) -> tuple[float, float]:
    """The smallest and the largest eigenvalue of the Hessian of the first repeat's loss without the ridge, by Lanczos' method."""
    inputs, targets, step = (part[:1].detach() for part in (points.inputs, points.targets, points.step))
    inputs, targets = inputs.requires_grad_(), targets.requires_grad_()
    starts = [run.generator("starts to look from, repeat 0")]
    found = bilevel_regression.losses(
        Linear(method), Points(inputs, targets, step), *data.beside(1), method.starts, starts, method.inner_steps
    ).mean()
    slopes = torch.autograd.grad(found, [inputs, targets], create_graph=True)
    size = inputs.numel() + targets.numel()

    def times(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        flat = torch.from_numpy(np.ascontiguousarray(vector).ravel()).to(inputs)
        parts = (flat[: inputs.numel()].view_as(inputs), flat[inputs.numel() :].view_as(targets))
        product = torch.autograd.grad(slopes, [inputs, targets], parts, retain_graph=True)
        return torch.cat([part.flatten() for part in product]).cpu().numpy()

    begin = torch.randn(size, generator=run.generator("curvature"), dtype=torch.float64).numpy()
    operator = LinearOperator((size, size), matvec=times, dtype=np.float64)
    ends = eigsh(
        operator, k=2, which="BE", v0=begin, ncv=min(_SUBSPACE, size), tol=_TOLERANCE, return_eigenvectors=False
    )
    return float(ends.min()), float(ends.max())


def _tried(data: Data, name: str, inner_steps: int, params: Params, run: Run) -> dict[str, object]:
    method = dataclasses.replace(params.changed(name), inner_steps=inner_steps)
    try:
        curve = descend(data, method, params, params.tried_repeats, run)
    except StoppedError as problem:
        run.log.info("tried %s, T = %d: %s", name, inner_steps, problem)
        return {"stopped": problem.step}
    lines = [_fitted(curve, repeat, method) for repeat in range(params.tried_repeats)]
    means = ("slope", "r2", "mu", "loss_end", "step_size", "step_ratio")
    return {what: sum(numbers[what] for numbers in lines) / len(lines) for what in means}
