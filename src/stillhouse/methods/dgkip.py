"""Duality-gap kernel inducing points: examples whose kernel machine is provably near that of the real set, for any convex loss.

After DGKIP (Aoyama et al., arXiv 2502.12607), whose text we do not have: statements and proofs are ours (theory.duality,
docs/theory/dgkip.md). theta_O is fitted to the real set once. With points X_S, labels Y_S and dual variables alpha,

    DG = P_S(theta_O) - D_S(alpha) >= lambda/2 |theta*_S - theta_O|^2,     minimised over X_S, alpha and perhaps Y_S by Adam.

No machine is trained on the way: a step costs theta_O's scores on m points, K_SS and their gradients. Dual variables stay
feasible because they are functions of free numbers u: alpha = u for the squared loss, alpha = y / (1 + exp(-u)) for the
others. The machines of several classes share the points; their gaps are added.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import settings, spaces
from stillhouse.errors import NumericalError
from stillhouse.kernels import tiles
from stillhouse.methods.random_images import sample
from stillhouse.methods.support import check_finite, put_back, record_steps, state
from stillhouse.models import kernel_machine, ridge
from stillhouse.models.kernel import inputs_at
from stillhouse.models.kernel_machine import Machine
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.theory import duality
from stillhouse.theory.duality import Gap, Loss

# With `labels: learned` the largest target need not be that of the class an example began as.
SOFT_LABELS = True

# Dual variables in [0, 1] start at those of the machine of the starting points, but no nearer to the ends: there u cannot move.
_INSIDE = 0.02


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: our own runs; DGKIP's are not known."""

    model: Annotated[
        kernel_machine.Params,
        settings.plugin("models", only="kernel_machine"),
        Field(description="the kernel machine to come near to: a name under models"),
    ]
    steps: Annotated[int, Field(ge=0, description="of Adam")] = 1500
    full_steps: Annotated[int, Field(ge=1, description="of the full setting: what `steps` is a part of")] = 1500
    learning_rate: Annotated[float, Field(gt=0, description="of Adam, for points, labels and alpha")] = 0.02
    dual_factor: Annotated[
        float,
        Field(
            gt=0,
            description="learning rate of u over that of the points, for losses other than squared: u has far to go for p to "
            "reach 0 or 1, and with 1 that of the hinge lags behind",
        ),
    ] = 5.0
    labels: Annotated[
        Literal["fixed", "learned"],
        Field(
            description="fixed: those of the images it starts from; learned: trained, and kept in [-1, 1] but for the squared "
            "loss"
        ),
    ] = "fixed"


@dataclass(frozen=True)
class Objective:
    """DG as a function of what is trained: 'inputs' (m, *shape), 'dual' u (m, k), perhaps 'labels' (m, k).

    machine  theta_O, its points in the precision of the inputs
    norms    |theta_O|^2 (k,)
    labels   of the starting images, (m, k)
    """

    loss: Loss
    ridge: float
    machine: Machine
    norms: torch.Tensor
    labels: torch.Tensor

    def gap(self, support: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """DG summed over machines, float64; differentiable."""
        labels, dual = self.known(support), feasible(self.loss, support["dual"])
        gram = tiles.gram(self.machine.kernel, support["inputs"]).to(dual)
        scores = self.machine.scores(support["inputs"])
        bounded = duality.primal(self.loss, labels, scores, self.norms, self.ridge)
        return (bounded - duality.dual_value(self.loss, labels, dual, gram, self.ridge)).sum()

    def known(self, support: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The labels, learned or not, (m, k)."""
        return support.get("labels", self.labels)

    def factors(self, support: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Those of theta_S(alpha), (m, k)."""
        return duality.expansion(self.loss, self.known(support), feasible(self.loss, support["dual"]), self.ridge)


def budget(params: Params) -> float:
    """The part of the full number of steps."""
    return params.steps / params.full_steps


def teachers(params: Params) -> tuple[kernel_machine.Params, ...]:
    """The models that must be trained on the real set before this method can run."""
    return (params.model,)


def feasible(loss: Loss, free: torch.Tensor) -> torch.Tensor:
    """Dual variables of free numbers u: feasible whatever u is."""
    return torch.sigmoid(free) if loss.confined else free


def freed(loss: Loss, dual: torch.Tensor) -> torch.Tensor:
    """u of dual variables, which are moved off the ends of [0, 1] first."""
    return torch.logit(dual, _INSIDE) if loss.confined else dual.clone()


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Train m = per_class x classes examples, from random real ones, and certify them.

    Raises NumericalError naming the step at which a number is no longer finite, or the bound that is violated, with both of its
    sides. Resumes from the run's store.
    """
    teacher = kernel_machine.find_or_fit(real, params.model, run)
    machine, space = Machine.of(teacher, run.device), spaces.from_settings(teacher.space)
    chosen = sample(real, per_class, run.generator("images"))
    started = space.forward(pixels(real.train.inputs[chosen]).to(run.device, torch.float64))
    labels = kernel_machine.labels_of(spaces.one_hot(real.train.targets[chosen], real.n_classes).to(started))
    objective = Objective(
        loss=params.model.objective,
        ridge=params.model.ridge,
        machine=dataclasses.replace(machine, points=machine.points.to(params.model.dtype)),
        norms=machine.norms(),
        labels=labels,
    )
    support = _start(started, objective, params)
    checked = Validation.of(real, params.model, space, run)
    support = _trained(support, objective, checked, params, run)
    trained = {name: tensor.detach().to(torch.float64) for name, tensor in support.items()}
    certificate = certify(trained, machine, objective, checked, params.model)
    run.record(
        step=params.steps, gap=certificate["gap"], validation_accuracy=100 * (1 - certificate["validation_error"])
    )  # fmt: skip
    return DistilledSet(
        inputs=trained["inputs"].cpu(),
        targets=kernel_machine.targets_of(objective.known(trained)).cpu(),
        classes=real.classes,
        space=space.settings(),
        model={**settings.dump(params.model), "seed": run.seed},
        certificate=certificate,
    )


def _start(started: torch.Tensor, objective: Objective, params: Params) -> dict[str, torch.Tensor]:
    """What is trained, before the first step: real images (m, *shape) and the dual variables of their own machine."""
    gram = tiles.gram(objective.machine.kernel, started)
    solved = kernel_machine.solve(objective.loss, gram, objective.labels, objective.ridge, params.model.tolerance)
    support = {"inputs": started.to(params.model.dtype), "dual": freed(objective.loss, solved.dual)}
    if params.labels == "learned":
        support["labels"] = objective.labels.clone()
    return {name: tensor.clone().requires_grad_() for name, tensor in support.items()}


def _trained(
    support: dict[str, torch.Tensor], objective: Objective, checked: Validation, params: Params, run: Run
) -> dict[str, torch.Tensor]:
    """The support after all steps."""
    faster = {"dual": params.dual_factor} if objective.loss.confined else {}
    optimiser = torch.optim.Adam(
        [{"params": [tensor], "lr": params.learning_rate * faster.get(name, 1)} for name, tensor in support.items()]
    )
    first = _resume(run, support, optimiser)
    left, what = params.steps - first, f"DGKIP, {len(support['inputs'])} images"
    run.foretell(what, left, lambda: objective.gap(support).backward())  # type: ignore[no-untyped-call]
    recorded = set(record_steps(params.steps))
    for step in run.progress(range(first, params.steps), left, what):
        optimiser.zero_grad()
        gap = objective.gap(support)
        gap.backward()  # type: ignore[no-untyped-call]
        check_finite(step, "duality gap", float(gap.detach()), support)
        if step in recorded:
            scores = checked.scores(objective.machine.kernel, support["inputs"].detach(), objective.factors(support))
            run.record(step=step, gap=float(gap.detach()), validation_accuracy=checked.accuracy(scores))
        optimiser.step()
        if "labels" in support and objective.loss.confined:
            with torch.no_grad():
                support["labels"].clamp_(-1, 1)
        run.offer(functools.partial(_state, step + 1, support, optimiser))
    return support


@dataclass(frozen=True)
class Validation:
    """The held-out training examples in the model's space, (b, *shape), and their classes (b,)."""

    inputs: torch.Tensor
    classes: torch.Tensor

    @classmethod
    def of(cls, real: RealSet, params: kernel_machine.Params, space: spaces.Space, run: Run) -> Validation:
        """Those that the model does not fit."""
        _, held_out = ridge.split(len(real.train), params.validation, run.seed)
        return cls(inputs_at(real, held_out, space, params, run), real.train.targets[held_out].to(run.device))

    def scores(self, kernel: Any, points: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """(b, k) scores of machines with these points and factors, computed in the precision of the points."""
        with torch.no_grad():
            return Machine(kernel, points, factors.detach()).scores(self.inputs.to(points))

    def accuracy(self, scores: torch.Tensor) -> float:
        """Percent whose class has the largest of the scores (b, k)."""
        return 100 * float((duality.two_sided(scores).argmax(1) == self.classes).double().mean())


def certify(
    support: Mapping[str, torch.Tensor], machine: Machine, objective: Objective, checked: Validation,
    model: kernel_machine.Params,
) -> dict[str, Any]:  # fmt: skip
    """Every bound of docs/theory/dgkip.md in float64 with what it bounds, for theta*_S fitted to the trained set.

    Raises NumericalError, with both sides, for a bound that does not hold: the code is wrong then, not the theorem.
    """
    inputs, labels, loss, strength = support["inputs"], objective.known(support), objective.loss, objective.ridge
    gram, norms = tiles.gram(machine.kernel, inputs), objective.norms
    solved = kernel_machine.solve(loss, gram, labels, strength, model.tolerance)
    scores = machine.scores(inputs)
    dual = feasible(loss, support["dual"])
    trained = duality.gap(loss, labels, scores, norms, dual, gram, strength)
    best = duality.gap(loss, labels, scores, norms, solved.dual, gram, strength)
    found, worst = bounds(trained, best, solved, scores, norms, duality.expansion(loss, labels, dual, strength), gram)
    seen = _on_validation(checked, machine, inputs, solved.weights, support, objective, trained, found["slack"])
    return {
        "statement": "DGKIP, docs/theory/dgkip.md: Theorems 1 to 4, verified on the set and on the validation images",
        "loss": model.loss,
        "ridge": strength,
        "machines": len(norms),
        "examples": len(inputs),
        **{name: float(value.norm() if name != "slack" else value.max()) for name, value in found.items()},
        "norm": float(norms.sum().sqrt()),
        "gap": float(trained.total.sum()),
        "gap_best": float(best.total.sum()),
        "young": float(trained.young.sum()),
        "solver_gap": float(solved.gap.sum()),
        "distance_over_bound": worst,
        **seen,
    }


def bounds(
    trained: Gap, best: Gap, solved: kernel_machine.Solution, scores: torch.Tensor, norms: torch.Tensor,
    factors: torch.Tensor, gram: torch.Tensor,
) -> tuple[dict[str, torch.Tensor], float]:  # fmt: skip
    """|theta*_S - theta_O| (k,) and its bounds (k,), checked, and the largest distance over its sharpest bound.

    trained, best  gaps of theta_O for any feasible dual variables and for theta*_S's own
    scores, norms  theta_O's on the set (m, k) and |theta_O|^2 (k,)
    factors        of theta_S(alpha) for `trained`'s dual variables, (m, k)
    slack          how far the theta*_S that was fitted can be from the true one, sqrt(2 gap / lambda)
    """
    own = duality.norms_squared(solved.weights, gram)
    distance = (norms - 2 * (solved.weights * scores).sum(0) + own).clamp(min=0)
    other = duality.norms_squared(solved.weights - factors, gram)
    slack = (2 * solved.gap.clamp(min=0) / trained.ridge).sqrt()
    scale = float((norms + own).max())
    split = trained.total - trained.young - trained.ridge / 2 * trained.distance
    size = float((trained.ridge * norms + trained.total.abs()).max())
    duality.verify("|DG - its two parts|", split.abs(), torch.zeros_like(split), size)
    duality.verify("|theta*_S - theta_O|^2", distance, (trained.radius + slack).square(), scale)
    duality.verify("|theta*_S - theta_O|^2 (ball)", distance, (trained.reach + slack).square(), scale)
    duality.verify("|theta*_S - theta_O|^2 (best alpha)", distance, (best.radius + slack).square(), scale)
    centre = distance / 2 + other / 2 - trained.distance / 4
    duality.verify("|theta*_S - middle|^2", centre, (trained.ball + slack).square(), scale)
    found = {
        "distance": distance.sqrt(),
        "bound": trained.radius,
        "bound_ball": trained.reach,
        "bound_best": best.radius,
        "slack": slack,
    }
    return found, float((distance.sqrt() / (trained.reach + slack)).max())


def _on_validation(
    checked: Validation, machine: Machine, inputs: torch.Tensor, factors: torch.Tensor, support: Mapping[str, torch.Tensor],
    objective: Objective, trained: Gap, slack: torch.Tensor,
) -> dict[str, float]:  # fmt: skip
    """Predictions on the validation images: intervals that hold for every one, what is certain, errors and their bounds."""
    theirs = checked.scores(machine.kernel, machine.points, machine.factors)
    ours = checked.scores(machine.kernel, inputs, factors)
    middle = (theirs + checked.scores(machine.kernel, inputs, objective.factors(support))) / 2
    root = machine.kernel.diagonal(checked.inputs.to(torch.float64))
    return {
        "validation_examples": len(root),
        "validation_error_real": 1 - checked.accuracy(theirs) / 100,
        **predictions("radius", theirs, trained.radius + slack, ours, root, checked.classes),
        **predictions("ball", middle, trained.ball + slack, ours, root, checked.classes),
        "agreement": float((duality.two_sided(theirs).argmax(1) == duality.two_sided(ours).argmax(1)).double().mean()),
        "validation_error": 1 - checked.accuracy(ours) / 100,
    }


def predictions(
    name: str,
    centre: torch.Tensor,
    radius: torch.Tensor,
    ours: torch.Tensor,
    diagonal: torch.Tensor,
    classes: torch.Tensor,
) -> dict[str, float]:
    """What a ball of machines says of examples with k(x, x) `diagonal` (b,) and of their classes (b,), checked against the scores
    `ours` (b, k) of theta*_S: how much of the interval is used, the share certain, the least and largest share of errors.

    centre, radius  scores (b, k) of the ball's centre, and its radius (k,)
    """
    widths = duality.interval(radius, diagonal)
    used = duality.verify(
        f"|f_S - f| ({name})", (ours - centre).abs(), widths, float(ours.abs().max() + centre.abs().max())
    )
    centre, ours = duality.two_sided(centre), duality.two_sided(ours)
    widths = widths.expand_as(centre)
    sure = duality.certain(centre, widths)
    agreed, wrong = centre.argmax(1) == ours.argmax(1), float((ours.argmax(1) != classes).double().mean())
    least, most = duality.errors_between(centre, widths, classes)
    if not (bool(agreed[sure].all()) and least <= wrong <= most):
        raise NumericalError(
            f"{name}: {int((~agreed[sure]).sum())} certain classes are not theta*_S's, its error is {wrong!r} and the bounds are "
            f"{least!r} and {most!r}: a bug"
        )
    return {
        f"interval_used_{name}": used,
        f"certain_{name}": float(sure.double().mean()),
        f"error_at_least_{name}": least,
        f"error_at_most_{name}": most,
    }


def _state(
    step: int, support: Mapping[str, torch.Tensor], optimiser: torch.optim.Adam
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that the next step depends on."""
    return state(support, optimiser), {"step": step}


def _resume(run: Run, support: Mapping[str, torch.Tensor], optimiser: torch.optim.Adam) -> int:
    """Put the state that the run's store kept back where it belongs; the number of steps already done."""
    kept = run.kept()
    if kept is None:
        return 0
    tensors, numbers = kept
    put_back(tensors, support, optimiser)
    return int(numbers["step"])
