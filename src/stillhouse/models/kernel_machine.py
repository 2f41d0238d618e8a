"""A regularised kernel machine: squared, logistic, hinge or smoothed hinge loss, no bias.

    theta* = argmin (1/n) sum_i loss(y_i, f(x_i)) + lambda/2 |theta|^2,     f(x) = <theta, phi(x)>

One machine for two classes, with label y = t_1 - t_0 and scores (-f, f); else one machine against the rest for each class, y =
2 t - 1, for targets t in the one-hot convention. The loss is a mean, so lambda does not scale with n; a ridge in a set's
schedule belongs to models whose loss is a sum, and is not used.

On a distilled set the machine is theta(alpha) of the dual problem (theory.duality). On a real set it is sought in the span of
`centres` training images z: with K_zz = V diag(s) V^T, rows K_xz V diag(s)^-1/2 are an explicit feature map of that span. Both
end with a duality gap, which bounds how far the minimum is, and stop with its number where it is not small.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import linalg, settings, spaces
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.errors import NumericalError
from stillhouse.kernels import Kernel, tiles
from stillhouse.models import ridge
from stillhouse.models.kernel import build, inputs_at
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import Space
from stillhouse.teacher import Teacher
from stillhouse.theory import duality
from stillhouse.theory.duality import Loss, SmoothedHinge

# Scores of distilled sets are compared, example by example, with those of this model trained on the whole real set.
COMPARED = True

CHUNK = 2048  # real examples whose kernel values are computed at once

_ITERATIONS = 100  # of Newton's method: some 5 to 20 are used
_SUFFICIENT = 1e-4  # part of the predicted decrease that a step must bring (Armijo)
_ROUNDS = 100  # of the proximal point method for the hinge: some 10 are used
_NARROWER = 0.3  # factor from one round's smoothing to the next
_STALLED = 0.9  # of the gap after a round that gained nothing: rounding is what is left
_NARROWEST = 1e-3  # smoothing: a narrower one makes Newton's steps no more exact
_OF_WEIGHTS = (
    1e-3  # gap of the weights over that of theta(alpha): the first is quadratic in what is left, the second not
)
_INNER = 1e-8  # gap of a round over the wanted one: Newton ends all but exactly on pieces of parabolas


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: our own runs of the duality-gap objective; DGKIP's are not known."""

    kernel: Annotated[Any, settings.plugin("kernels"), Field(description="kernel: a file of kernels/")]
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    loss: Annotated[
        Literal["squared", "logistic", "hinge", "smoothed_hinge"],
        Field(description="of the margin y f, or of f - y: (f - y)^2 / 2"),
    ] = "squared"
    smoothing: Annotated[float, Field(gt=0, description="gamma, the width of smoothed_hinge's parabola")] = 1.0
    ridge: Annotated[float, Field(gt=0, description="lambda of lambda/2 |theta|^2 beside a mean loss")] = 0.01
    centres: Annotated[
        int, Field(ge=1, description="class-balanced training images in whose span the real set's machine is sought")
    ] = 2000
    examples: Annotated[
        int,
        Field(
            ge=0,
            description="class-balanced training images whose losses it fits, the centres among them; 0: all. Losses other "
            "than squared hold examples x centres kernel values in memory",
        ),
    ] = 10_000
    tolerance: Annotated[float, Field(gt=0, description="duality gap at which a fit is done")] = 1e-7
    precision: Annotated[
        Literal["float64", "float32"],
        Field(
            description="of kernel values between real examples; those of distilled ones, and all solving, are float64"
        ),
    ] = "float64"
    validation: Annotated[
        float, Field(gt=0, lt=1, description="fraction of the training examples that are held out")
    ] = 0.05

    @property
    def dtype(self) -> torch.dtype:
        """Of real examples and their kernel values."""
        return torch.float64 if self.precision == "float64" else torch.float32

    @property
    def objective(self) -> Loss:
        """The loss."""
        made: dict[str, Loss] = {
            "squared": duality.Squared(),
            "logistic": duality.Logistic(),
            "hinge": SmoothedHinge(),
            "smoothed_hinge": SmoothedHinge(self.smoothing),
        }
        return made[self.loss]


@dataclass(frozen=True)
class Machine:
    """k machines theta = sum_j factors_j phi(points_j): points (a, *shape) in the model's space, factors (a, k)."""

    kernel: Kernel
    points: torch.Tensor
    factors: torch.Tensor

    @classmethod
    def of(cls, teacher: Teacher, device: torch.device) -> Machine:
        """What a teacher holds, in float64."""
        params = settings.parse(Params, teacher.model, "model")
        points = teacher.weights["points"].to(device, torch.float64)
        kernel = build(params, tuple(points.shape[1:]), teacher.seed)
        return cls(kernel, points, teacher.weights["factors"].to(points))

    def scores(self, inputs: torch.Tensor) -> torch.Tensor:
        """f (b, k) of inputs (b, *shape) in the points' dtype."""
        return tiles.cross(self.kernel, inputs, self.points).to(self.factors) @ self.factors

    def norms(self) -> torch.Tensor:
        """|theta|^2 (k,)."""
        return duality.norms_squared(self.factors, tiles.gram(self.kernel, self.points))


@dataclass(frozen=True)
class Solution:
    """weights (p, k) of explicit features, or factors (m, k) of the examples; dual variables (a, k); duality gaps (k,)."""

    weights: torch.Tensor
    dual: torch.Tensor
    gap: torch.Tensor


def labels_of(targets: torch.Tensor) -> torch.Tensor:
    """Labels (m, k) of targets (m, c) in the one-hot convention: t_1 - t_0 for two classes, else 2 t - 1."""
    return targets[:, 1:] - targets[:, :1] if targets.shape[1] == 2 else 2 * targets - 1


def targets_of(labels: torch.Tensor) -> torch.Tensor:
    """Targets (m, c) that have the labels (m, k)."""
    return (1 + duality.two_sided(labels)) / 2


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit to the training part, or to the stated subset of it, in the span of the centres."""
    kernel, space = build(params, real.shape, run.seed), whitening.fit(params.space, real)
    fitted, held_out = ridge.split(len(real.train), params.validation, run.seed)
    order = balanced(real, fitted, run.generator("centres"))
    examples, centres = order[: params.examples or None], order[: params.centres]
    points = space.forward(pixels(real.train.inputs[centres])).to(run.device)
    basis = _basis(tiles.gram(kernel, points.to(torch.float64)), torch.finfo(params.dtype).eps)

    def blocks(index: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Features (b, r) and labels (b, k) of the training examples at `index`, a chunk at a time."""
        chunks = torch.split(index, CHUNK)
        for positions in run.progress(chunks, len(chunks), "kernel"):
            rows = inputs_at(real, positions, space, params, run)
            targets = spaces.one_hot(real.train.targets[positions], real.n_classes).to(run.device)
            yield tiles.cross(kernel, rows, points.to(rows)).to(torch.float64) @ basis, labels_of(targets)

    solved = _solve_blocks(params, blocks(examples), run)
    right = sum(
        int((duality.two_sided(rows @ solved.weights).argmax(1) == duality.two_sided(labels).argmax(1)).sum())
        for rows, labels in blocks(held_out)
    )
    notes = {
        "ridge": params.ridge,
        "examples": len(examples),
        "centres": len(centres),
        "rank": basis.shape[1],
        "gap": float(solved.gap.sum()),
        "norm": float(solved.weights.norm()),
        "validation_accuracy": right / len(held_out),
    }
    return _teacher(params, run.seed, points, basis @ solved.weights, space, real, notes)


def find_or_fit(real: RealSet, params: Params, run: Run) -> Teacher:
    """The teacher of this model, seed and data among the run's, or one fitted here."""
    return run.find_teacher(settings.dump(params), run.seed, real.fingerprint) or fit_real(real, params, run)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Fit on a distilled set. A set that lives in this model's space is used as it is; another goes through pixels."""
    kernel, space = build(params, real.shape, run.seed), whitening.fit(params.space, real)
    inputs = distilled.inputs_in(space).to(run.device)
    labels = labels_of(distilled.targets.to(inputs))
    solved = solve(params.objective, tiles.gram(kernel, inputs), labels, params.ridge, params.tolerance)
    notes = {"ridge": params.ridge, "gap": float(solved.gap.sum())}
    return _teacher(params, run.seed, inputs, solved.weights, space, real, notes)


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to scores (b, c), float64, on `device`."""
    dtype = settings.parse(Params, teacher.model, "model").dtype
    machine, space = Machine.of(teacher, device), spaces.from_settings(teacher.space)
    rounded = Machine(machine.kernel, machine.points.to(dtype), machine.factors)
    return lambda images: duality.two_sided(rounded.scores(space.forward(images.to(dtype))))


def balanced(real: RealSet, index: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The training examples at `index` in random order, classes taking turns as long as they last."""
    labels = real.train.targets[index]
    drawn = [torch.nonzero(labels == label).flatten() for label in range(real.n_classes)]
    drawn = [of[torch.randperm(len(of), generator=rng)] for of in drawn]
    turns = torch.cat([torch.arange(len(of)) for of in drawn])
    return index[torch.cat(drawn)[turns.argsort(stable=True)]]


def solve(loss: Loss, gram: torch.Tensor, labels: torch.Tensor, ridge: float, tolerance: float) -> Solution:
    """The machines of examples with Gram matrix K (m, m) and labels (m, k), float64: factors alpha / (lambda m) and their gap.

    Raises NumericalError where the gap stays above `tolerance`.
    """
    if isinstance(loss, duality.Squared):
        shifted = gram + ridge * len(gram) * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        dual = ridge * len(gram) * linalg.jittered_cholesky(shifted).solve(labels)
    else:
        rows = linalg.jittered_cholesky(gram).factor  # features with inner product K
        dual = solve_features(loss, rows, labels, ridge, tolerance * _OF_WEIGHTS).dual
    factors = duality.expansion(loss, labels, dual, ridge)
    gap = duality.fenchel_young(loss, labels, gram @ factors, dual)
    return _certified(Solution(factors, dual, gap), tolerance)


def solve_features(loss: Loss, rows: torch.Tensor, labels: torch.Tensor, ridge: float, tolerance: float) -> Solution:
    """The machines of features (a, p) and labels (a, k), float64, for any loss but the squared, by Newton's method."""
    found = [_solve_one(loss, rows, labels[:, [i]], ridge, tolerance) for i in range(labels.shape[1])]
    weights, dual = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return Solution(weights, dual, _gap(loss, rows, labels, weights, dual, ridge))


def _solve_blocks(params: Params, blocks: Iterator[tuple[torch.Tensor, torch.Tensor]], run: Run) -> Solution:
    """The machines of features and labels that come in blocks. For the squared loss sums are enough."""
    loss = params.objective
    if not isinstance(loss, duality.Squared):
        rows, labels = (torch.cat(parts) for parts in zip(*blocks, strict=True))
        return _certified(solve_features(loss, rows, labels, params.ridge, params.tolerance), params.tolerance)
    first, known = next(blocks)
    sums = linalg.Moments(first.shape[1], known.shape[1], run.device)
    sums.add(first, known)
    for rows, labels in blocks:
        sums.add(rows, labels)
    weights = linalg.RidgePath.of_moments(sums.gram, sums.cross).weights(params.ridge * sums.count)
    slope = (sums.gram @ weights - sums.cross) / sums.count + params.ridge * weights
    gap = slope.square().sum(0) / (2 * params.ridge)
    return _certified(Solution(weights, torch.empty(0, known.shape[1]), gap), params.tolerance)


def _solve_one(
    loss: Loss, rows: torch.Tensor, labels: torch.Tensor, ridge: float, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (p, 1) and dual variables (a, 1) of one machine.

    The hinge loss has no curvature, so its dual problem is solved by the proximal point method (Rockafellar 1976): each round is
    a smoothed hinge around the last round's dual variables, which are feasible for the hinge as well.
    """
    weights = torch.zeros(rows.shape[1], 1, dtype=rows.dtype, device=rows.device)
    if loss != SmoothedHinge(0.0):
        return _newton(loss, rows, labels, ridge, weights, tolerance)
    dual, smoothing, before = torch.zeros_like(labels), 1.0, float("inf")
    for _ in range(_ROUNDS):
        weights, dual = _newton(_NearHinge(smoothing, dual), rows, labels, ridge, weights, tolerance * _INNER)
        gap = float(_gap(loss, rows, labels, weights, dual, ridge))
        if gap <= tolerance or (smoothing == _NARROWEST and gap > _STALLED * before):
            break
        before = gap
        smoothing = max(smoothing * _NARROWER, _NARROWEST)
    return weights, dual


@dataclass(frozen=True, eq=False)
class _NearHinge(SmoothedHinge):
    """max over p in [0, 1] of p (1 - z) - gamma/2 (p - p0)^2: the smoothed hinge for p0 = 0."""

    around: torch.Tensor = field(default_factory=lambda: torch.zeros(()))

    def value(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        dual = self.answer(labels, scores)
        return dual * (1 - labels * scores) - self.smoothing / 2 * (dual - self.around).square()

    def answer(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return (self.around + (1 - labels * scores) / self.smoothing).clamp(0, 1)


def _newton(
    loss: Loss, rows: torch.Tensor, labels: torch.Tensor, ridge: float, weights: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Newton's method with halved steps (semi-smooth for the smoothed hinge) from `weights`, until the gap is small or no step
    helps.

    With alpha = -d loss / d f the Fenchel-Young residual is 0, and the gap is |slope|^2 / (2 lambda).
    """
    for _ in range(_ITERATIONS):
        scores = rows @ weights
        dual = loss.answer(labels, scores)
        slope = ridge * (weights - rows.T @ duality.expansion(loss, labels, dual, ridge))
        if float(slope.square().sum()) / (2 * ridge) <= tolerance:
            break
        step = _newton_step(rows, loss.curvature(labels, scores) / len(rows), slope, ridge)
        moved = _descend(loss, rows, labels, ridge, weights, scores, slope, step)
        if moved is None:  # what is left is below the objective's rounding, not below that of the weights
            weights = weights - step
            break
        weights = moved
    return weights, loss.answer(labels, rows @ weights)


def _newton_step(rows: torch.Tensor, curvature: torch.Tensor, slope: torch.Tensor, ridge: float) -> torch.Tensor:
    """(F^T C F + ridge I)^-1 slope, over the rows that have curvature, on the smaller side."""
    curved = curvature[:, 0] > 0
    root = rows[curved] * curvature[curved].sqrt()
    if len(root) >= root.shape[1]:
        system = root.T @ root
        system.diagonal().add_(ridge)
        return torch.cholesky_solve(slope, torch.linalg.cholesky(system))
    system = root @ root.T
    system.diagonal().add_(ridge)
    return (slope - root.T @ linalg.jittered_cholesky(system).solve(root @ slope)) / ridge


def _descend(
    loss: Loss, rows: torch.Tensor, labels: torch.Tensor, ridge: float, weights: torch.Tensor, scores: torch.Tensor,
    slope: torch.Tensor, step: torch.Tensor,
) -> torch.Tensor | None:  # fmt: skip
    """weights - t step for the largest t = 1, 1/2, ... that lowers the objective enough; None where its rounding hides that."""
    turned, promised = rows @ step, float((slope * step).sum())

    def value(length: float) -> float:
        norms = (weights - length * step).square().sum(0)
        return float(duality.primal(loss, labels, scores - length * turned, norms, ridge))

    before, length = value(0.0), 1.0
    while length * promised > torch.finfo(rows.dtype).eps * abs(before):
        if value(length) <= before - _SUFFICIENT * length * promised:
            return weights - length * step
        length /= 2
    return None


def _gap(
    loss: Loss, rows: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, dual: torch.Tensor, ridge: float
) -> torch.Tensor:
    """DG (k,) of weights (p, k) and dual variables (a, k): Fenchel-Young residual + lambda/2 |w - w(alpha)|^2."""
    apart = weights - rows.T @ duality.expansion(loss, labels, dual, ridge)
    return duality.fenchel_young(loss, labels, rows @ weights, dual) + ridge / 2 * apart.square().sum(0)


def _certified(solved: Solution, tolerance: float) -> Solution:
    worst = float(solved.gap.max())
    if not worst <= tolerance:
        raise NumericalError(
            f"kernel machine: the duality gap is still {worst:.3g}, above its tolerance {tolerance:.3g}; raise ridge or tolerance"
        )
    return solved


def _basis(gram: torch.Tensor, eps: float) -> torch.Tensor:
    """V diag(s)^-1/2 (a, r) of K = V diag(s) V^T over s > a eps max(s): K_xz times it are features of x with inner product k."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > len(gram) * eps * values[-1]
    basis: torch.Tensor = vectors[:, kept] / values[kept].sqrt()
    return basis


def _teacher(
    params: Params, seed: int, points: torch.Tensor, factors: torch.Tensor, space: Space, real: RealSet, notes: dict[str, Any]
) -> Teacher:  # fmt: skip
    return Teacher.of(real, params, seed, {"points": points, "factors": factors}, space, notes)
