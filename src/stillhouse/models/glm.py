"""A generalised linear model with canonical link: softmax regression for classes; linear, Poisson, gamma or inverse Gaussian
regression for values.

    theta = argmin (1/n) sum_i [b(eta_i) - y_i . eta_i] + penalty |theta|^2,     eta = x theta (+ intercept)

The loss is a mean, so the penalty does not scale with n. An intercept is not penalised. Softmax regression on two classes is
logistic regression: theta = (-w/2, w/2), |theta|^2 = |w|^2 / 2.

Linear regression sees standardised targets, the others values in their own units. Scores of classes are probabilities, those
of values are means of the fitted distribution in the standardised target space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from stillhouse import linalg, settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Standardised
from stillhouse.errors import NumericalError, UserError
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher
from stillhouse.theory import glm
from stillhouse.theory.glm import Family

TASKS = ("classification", "regression")
# Scores of distilled sets are compared, example by example, with those of this model trained on the whole real set.
COMPARED = True

CHUNK = 4096  # examples whose features are held at once
KEPT = 2**25  # values of features that are held from pass to pass; more are read again

# Of the slope at the start: what a fit on a distilled set ends with, so that exactness shows to 1e-8 and better.
_ROUNDING = 1e-13
_LOST = 1e-9  # slope at which rounding may end such a fit: where examples' curvature is far above the penalty
_ITERATIONS = 100  # of Newton's method: some 5 to 20 are used
_FORCED = 0.1  # residual of a step's linear system over the slope: smaller ones cost more passes in all
_CONJUGATE = 500  # steps of conjugate gradients for one of Newton's: some 1 to 30 are used, more for tiny penalties
_BLURRED = 1e-14  # a loss near 1 is known to this: rounding of sums over examples
_SUFFICIENT = 1e-4  # part of the predicted decrease that a step must bring (Armijo)


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: our own; Izzo and Zou name none."""

    family: Annotated[
        Literal["auto", "softmax", "linear", "poisson", "gamma", "inverse_gaussian"],
        Field(description="softmax is for classes, the others for values; auto: softmax or linear"),
    ] = "auto"
    space: whitening.SpaceSettings = field(default_factory=Standardised)
    penalty: Annotated[float, Field(gt=0, description="of penalty |theta|^2 beside a mean loss")] = 1e-3
    intercept: Annotated[
        bool, Field(description="also an intercept that is not penalised; gamma and inverse Gaussian need one")
    ] = False
    examples: Annotated[
        int, Field(ge=0, description="random training examples that the model of the real set is fitted to; 0: all")
    ] = 0
    tolerance: Annotated[
        float, Field(gt=0, description="slope at which a fit to the real set is done, over that at its start")
    ] = 1e-8

    def __post_init__(self) -> None:
        if self.family in glm.NEGATIVE and not self.intercept:
            raise ValueError(f"family {self.family} needs an intercept: its linear predictors must be negative")

    @property
    def model(self) -> Family:
        """The family, where it is not auto."""
        return glm.FAMILIES[self.family]

    def resolved(self, regression: bool) -> Params:
        """With the family that auto stands for."""
        return self if self.family != "auto" else replace(self, family="linear" if regression else "softmax")


@dataclass(frozen=True)
class State:
    """Where a minimisation stands: weights (p, c), the loss, its slope (p, c), and its curvature averaged over columns (p, p)."""

    weights: torch.Tensor
    value: float
    slope: torch.Tensor
    curvature: torch.Tensor


@dataclass(frozen=True)
class Problem:
    """What is minimised over weights (p, c): examples come in blocks of rows (b, p) and labels (b, c), float64, again and again.

    penalty  (p, 1), one for each row of the weights
    """

    family: Family
    blocks: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]]
    count: int
    penalty: torch.Tensor

    def at(self, weights: torch.Tensor) -> State:
        """Loss, slope and mean curvature at `weights`, in one pass."""
        value, slope = (self.penalty * weights.square()).sum(), 2 * self.penalty * weights
        moments = torch.zeros(len(weights), len(weights), dtype=weights.dtype, device=weights.device)
        for rows, labels in self.blocks():
            eta = rows @ weights
            value = value + (self.family.potential(eta) - (labels * eta).sum(1)).sum() / self.count
            slope = slope + rows.T @ (self.family.mean(eta) - labels) / self.count
            roots = (self.family.diagonal(eta).mean(1, keepdim=True) / self.count).sqrt()
            linalg.add_gram(moments, rows * roots)
        upper = moments.triu()
        return State(weights, float(value), slope, upper + upper.triu(1).T + torch.diag(2 * self.penalty[:, 0]))

    def curve(self, weights: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """The second derivative at `weights` times a step (p, c), in one pass."""
        found = 2 * self.penalty * step
        for rows, _ in self.blocks():
            found = found + rows.T @ self.family.curve(rows @ weights, rows @ step) / self.count
        return found


@dataclass(frozen=True)
class Solution:
    """Weights (d, c), an intercept (c,) or none, and what they rest on: the last slope over the first, Newton's steps."""

    weights: torch.Tensor
    intercept: torch.Tensor | None
    slope: float
    steps: int

    @property
    def named(self) -> dict[str, torch.Tensor]:
        """What a teacher keeps."""
        return {"weights": self.weights} | ({} if self.intercept is None else {"intercept": self.intercept})


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit to the training split, or to the stated number of its examples. Raises UserError for values the family cannot have."""
    resolved = _suited(real, params)
    space = whitening.fit(params.space, real)
    order = torch.randperm(len(real.train), generator=run.generator("examples"))
    index = order[: params.examples or None].sort().values

    def blocks() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for inputs, targets in real.train.chunks(CHUNK, index):
            rows = space.forward(inputs.to(run.device, torch.float64)).flatten(1)
            yield with_ones(rows, params.intercept), labels_of(real.target_rows(targets), real, resolved).to(rows)

    held = list(blocks()) if len(index) * real.dim <= KEPT else None
    again = blocks if held is None else lambda: iter(held)
    mean = labels_of(real.target_rows(real.train.targets[index]), real, resolved).mean(0).to(run.device)
    solved = _solve(again, len(index), real.dim, mean, resolved, params.tolerance, params.penalty)
    notes = {"penalty": params.penalty, "examples": len(index), "slope": solved.slope, "steps": solved.steps}
    return Teacher.of(real, params, run.seed, solved.named, space, notes | _limit(real, resolved))


def find_or_fit(real: RealSet, params: Params, run: Run) -> Teacher:
    """The teacher of this model, seed and data among the run's, or one fitted here."""
    return run.find_teacher(settings.dump(params), run.seed, real.fingerprint) or fit_real(real, params, run)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit to a distilled set, with the penalty its schedule asks for, else the model's.

    A set that lives in this model's space is used as it is; another goes through pixels.
    """
    resolved = _suited(real, params)
    space = whitening.fit(params.space, real)
    rows = distilled.inputs_in(space).flatten(1).to(run.device)
    labels = labels_of(distilled.target_rows(real).to(torch.float64), real, resolved).to(rows)
    penalty = float(distilled.schedule.get("penalty", params.penalty))
    solved = solve(rows, labels, resolved, penalty)
    notes = {"penalty": penalty, "slope": solved.slope, "steps": solved.steps}
    return Teacher.of(real, params, run.seed, solved.named, space, notes | _limit(real, resolved))


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from inputs (b, *shape) to scores (b, c), float64, on `device`: probabilities of classes, or target rows.

    Gamma and inverse Gaussian models have no mean where a linear predictor is not negative. Means end at the largest that the
    real training split has.
    """
    params = settings.parse(Params, teacher.model, "model").resolved(bool(teacher.target_space))
    space = spaces.from_settings(teacher.space)
    weights = teacher.weights["weights"].to(device)
    intercept = teacher.weights["intercept"].to(device) if params.intercept else 0.0
    target_space = spaces.from_settings(teacher.target_space) if params.family not in ("softmax", "linear") else None

    def scores(inputs: torch.Tensor) -> torch.Tensor:
        eta = space.forward(inputs.to(weights.dtype)).flatten(1) @ weights + intercept
        if "largest" in teacher.notes:
            eta = eta.clamp(max=torch.tensor(teacher.notes["largest"], dtype=eta.dtype, device=device))
        means = params.model.mean(eta)
        return means if target_space is None else target_space.forward(means)

    return scores


def parameters(teacher: Teacher) -> torch.Tensor:
    """What it learned, flat: weights (d, c), then the intercept (c,) if there is one."""
    found = [teacher.weights["weights"].flatten()]
    return torch.cat([*found, teacher.weights["intercept"]] if "intercept" in teacher.weights else found)


def labels_of(rows: torch.Tensor, real: RealSet, params: Params) -> torch.Tensor:
    """What the family takes for target rows (b, width): these, or values in their own units."""
    return rows if params.family in ("softmax", "linear") else real.target_space.inverse(rows)


def rows_of(labels: torch.Tensor, real: RealSet, params: Params) -> torch.Tensor:
    """Target rows (b, width) of labels, undoing `labels_of`."""
    return labels if params.family in ("softmax", "linear") else real.target_space.forward(labels)


def solve(rows: torch.Tensor, labels: torch.Tensor, params: Params, penalty: float) -> Solution:
    """The model of points X (m, d) with labels (m, c), float64, to rounding.

    theta lies in the row space of X, so with X = L Q^T, Q (d, r) orthonormal, it is Q u for the model u (r, c) of the rows of L.
    """
    left, values, right = torch.linalg.svd(rows, full_matrices=False)
    kept = values > values.max() * max(rows.shape) * torch.finfo(rows.dtype).eps
    reduced = with_ones(left[:, kept] * values[kept], params.intercept)
    size = int(kept.sum())
    found = _solve(lambda: iter([(reduced, labels)]), len(rows), size, labels.mean(0), params, _ROUNDING, penalty)
    return Solution(right[kept].T @ found.weights, found.intercept, found.slope, found.steps)


def minimise(problem: Problem, start: torch.Tensor, tolerance: float) -> tuple[torch.Tensor, float, int]:
    """The minimum by Newton's method from `start` (p, c), its steps by conjugate gradients, halved where too long, until the
    slope is at most `tolerance` times the first or no step makes it smaller. Weights (p, c), this ratio of slopes, steps taken.
    """
    state = problem.at(start)
    first, steps = float(state.slope.norm()), 0
    while float(state.slope.norm()) > tolerance * first and steps < _ITERATIONS:
        moved = _descend(problem, state, _newton_step(problem, state))
        if moved is None:
            break
        state, steps = moved, steps + 1
    return state.weights, float(state.slope.norm()) / first if first > 0 else 0.0, steps


def _solve(
    blocks: Callable[[], Iterator[tuple[torch.Tensor, torch.Tensor]]], count: int, size: int, mean: torch.Tensor,
    params: Params, tolerance: float, penalty: float,
) -> Solution:  # fmt: skip
    """The model of examples with `size` features and labels of mean (c,). Raises NumericalError where no minimum is found."""
    penalties = torch.full((size + params.intercept, 1), penalty, dtype=mean.dtype, device=mean.device)
    start = torch.zeros(size + params.intercept, len(mean), dtype=mean.dtype, device=mean.device)
    if params.intercept:
        penalties[-1] = 0
        start[-1] = _intercept(params.model, mean)
    weights, slope, steps = minimise(Problem(params.model, blocks, count, penalties), start, tolerance)
    if not slope <= max(tolerance, _LOST):
        raise NumericalError(
            f"{params.family} model: the slope is still {slope:.3g} of that at the start after {steps} steps of Newton's method "
            f"(wanted {tolerance:.3g}, penalty {penalty:.3g}); raise penalty or tolerance"
        )
    return Solution(weights[:size], weights[-1] if params.intercept else None, slope, steps)


def _newton_step(problem: Problem, state: State) -> torch.Tensor:
    """H^-1 slope (p, c) by conjugate gradients, preconditioned by the curvature that columns have on average; for one column
    that is H itself.
    """
    factor = linalg.jittered_cholesky(state.curvature)
    wanted = _FORCED * float(state.slope.norm())
    found, residual = torch.zeros_like(state.slope), state.slope
    eased = factor.solve(residual)
    direction, before = eased, (residual * eased).sum()
    for _ in range(_CONJUGATE):
        curved = problem.curve(state.weights, direction)
        length = before / (direction * curved).sum()
        found, residual = found + length * direction, residual - length * curved
        if float(residual.norm()) <= wanted:
            break
        eased = factor.solve(residual)
        after = (residual * eased).sum()
        direction, before = eased + after / before * direction, after
    return found


def _descend(problem: Problem, state: State, step: torch.Tensor) -> State | None:
    """The state at weights - t step for the largest t = 1, 1/2, ... that lowers the loss enough, or the slope where the loss's
    rounding hides that; None where there is none.
    """
    promised, length = float((state.slope * step).sum()), 1.0
    rounding = _BLURRED * max(abs(state.value), 1.0)
    while True:
        found = problem.at(state.weights - length * step)
        if length * promised <= rounding:
            return found if float(found.slope.norm()) < float(state.slope.norm()) else None
        if found.value <= state.value - _SUFFICIENT * length * promised:
            return found
        length /= 2


def _suited(real: RealSet, params: Params) -> Params:
    """Settings with the family that auto stands for. Raises UserError for one that does not suit the targets."""
    found = params.resolved(real.regression)
    if (found.family == "softmax") == real.regression:
        other = "linear, poisson, gamma or inverse_gaussian" if real.regression else "softmax"
        what = "values" if real.regression else "classes"
        raise UserError(
            f"{real.name}: its targets are {what}, which no {found.family} model has. Choose family {other}."
        )
    if real.regression:
        valid = found.model.valid(real.train.targets.to(torch.float64))
        if not bool(valid.all()):
            raise UserError(
                f"{real.name}: {int((~valid).sum())} of {len(valid)} training targets are outside of what a {found.family} "
                f"model can have; the smallest is {float(real.train.targets.min()):g}. Choose family linear."
            )
    return found


def _intercept(family: Family, mean: torch.Tensor) -> torch.Tensor:
    """g(mean) (c,): the intercept of a model of weights 0."""
    tiny = torch.finfo(mean.dtype).tiny
    return family.link((mean if isinstance(family, glm.Linear) else mean.clamp(min=tiny))[None])[0]


def _limit(real: RealSet, params: Params) -> dict[str, list[float]]:
    """Where linear predictors must stay negative, the largest that a training target has, (k,)."""
    if params.family not in glm.NEGATIVE:
        return {}
    largest = real.train.targets.to(torch.float64).amax(0, keepdim=True)
    return {"largest": params.model.link(largest)[0].tolist()}


def with_ones(rows: torch.Tensor, intercept: bool) -> torch.Tensor:
    """Rows (b, d) with a column of ones after them, for an intercept."""
    return torch.cat([rows, torch.ones_like(rows[:, :1])], 1) if intercept else rows
