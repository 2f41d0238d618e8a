"""Kernel inducing points: examples trained by gradient descent so that kernel ridge regression on them fits the real set.

Nguyen, Chen, Lee (2021), Algorithm 1. With K_SS = k(X_S, X_S) and a batch (X_b, Y_b) of real examples, each step descends

    |K_bS (K_SS + lambda_S I)^-1 Y_S - Y_b|^2   over X_S, and over Y_S where labels are learned

A model of kind `kernel` gives the kernel (kip_kernels: the paper's method, with its families of kernels, augmentation and
corruption); one of kind `ridge` gives it as an explicit feature map (kip_features: the comparison of Chen, Huang, Weng 2024,
whose defaults these are, with labels solved on the whole real set at every step).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field

from stillhouse import settings
from stillhouse.augmentation import Augmentation
from stillhouse.errors import NumericalError
from stillhouse.methods import kip_features, kip_kernels
from stillhouse.methods.support import check_finite, put_back, record_steps, state, under
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

# Where labels are solved or learned, the largest target of an example need not be that of the class it began as.
SOFT_LABELS = True

TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: Chen et al. (2024), code of their comparison with KIP."""

    model: Annotated[
        Any,
        settings.plugin("models", only=("ridge", "kernel")),
        Field(description="what gives the kernel: a name under models, of kind kernel or ridge"),
    ]
    steps: Annotated[int, Field(ge=0, description="of Adam")] = 30_000
    full_steps: Annotated[int, Field(ge=1, description="of the published setting: what `steps` is a part of")] = 30_000
    learning_rate: Annotated[float, Field(gt=0, description="of Adam; KIP: 0.04, on MNIST 0.01")] = 0.01
    batch: Annotated[int, Field(ge=1, description="real examples a step; both papers: 5000")] = 5000
    ridge_S: Annotated[  # noqa: N815  the paper's lambda_S
        float, Field(gt=0, description="lambda_S over the mean diagonal entry of K_SS; both papers: 1e-6")
    ] = 1e-6
    labels: Annotated[
        Literal["solved", "fixed", "learned"],
        Field(
            description="solved: the best for the batch at every step, in the end for the whole real set; fixed: those of the "
            "images it starts from (KIP); learned: trained with the images"
        ),
    ] = "solved"
    family: Annotated[
        tuple[Any, ...],
        settings.plugins_of("kernels"),
        Field(description="kernels of which each step draws one; empty: the model's own at every step"),
    ] = ()
    augmentation: Annotated[Augmentation, Field(description="of the real batch at every step")] = field(
        default_factory=Augmentation
    )
    corruption: Annotated[
        float, Field(ge=0, lt=1, description="rho: fraction of each image's pixels that is replaced and frozen")
    ] = 0.0
    corruption_kind: Annotated[
        Literal["zero", "noise"], Field(description="what replaces them: 0, or noise of N(0, 1), in the model's space")
    ] = "zero"
    patience: Annotated[
        int,
        Field(
            ge=0, description="steps without a better validation accuracy that end it, with the best set; 0: none do"
        ),
    ] = 0
    check_every: Annotated[
        int, Field(ge=1, description="steps between looks at the validation accuracy (RFAD: 40)")
    ] = 40

    def __post_init__(self) -> None:
        explicit = settings.kind_of(self.model) == "ridge"
        only_kernels = (self.family, self.corruption, self.augmentation != Augmentation(), self.labels != "solved")
        if explicit and any(only_kernels):
            raise ValueError(
                "family, corruption, augmentation and labels are for a model of kind kernel; this one's is ridge"
            )


class Objective(Protocol):
    """What is descended. `support` are the tensors that are trained: 'inputs' (m, ...) and perhaps 'targets' (m, c)."""

    def start(self, per_class: int) -> dict[str, torch.Tensor]:
        """The support set before the first step."""

    def descend(self, support: Mapping[str, torch.Tensor], draw: torch.Generator) -> float:
        """Leave the gradient of a batch's loss in every tensor of `support`; returns that loss."""

    def score(self, support: Mapping[str, torch.Tensor]) -> float:
        """Mean merit of what the model of `support` says of the validation examples, in percent (`RealSet.merit`)."""

    def finish(self, support: Mapping[str, torch.Tensor], steps: int) -> DistilledSet:
        """The distilled set after so many steps, without its recipe; records how far it came."""


def budget(params: Params) -> float:
    """The part of the published number of steps."""
    return params.steps / params.full_steps


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Train m = per_class x classes examples, from random real ones.

    Raises NumericalError naming the step at which a number is no longer finite. Resumes from the run's store.
    """
    objective = _objective(real, params, run)
    support = {name: tensor.requires_grad_() for name, tensor in objective.start(per_class).items()}
    return objective.finish(*_trained(support, objective, params, run, real.merit_name))


def _objective(real: RealSet, params: Params, run: Run) -> Objective:
    if settings.kind_of(params.model) == "ridge":
        return kip_features.Objective(real, params.model, params.batch, params.ridge_S, run)
    return kip_kernels.Objective(
        real, params.model, run, batch=params.batch, ridge_S=params.ridge_S, labels=params.labels, family=params.family,
        augmentation=params.augmentation, corruption=params.corruption, corruption_kind=params.corruption_kind,
    )  # fmt: skip


@dataclass
class _Progress:
    """Where a run stands: the step to come, the best validation merit seen and the step it was seen before."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0


def _trained(
    support: dict[str, torch.Tensor], objective: Objective, params: Params, run: Run, merit_name: str
) -> tuple[dict[str, torch.Tensor], int]:
    """The support set after all steps, or the best one where there is patience, and how many were done."""
    optimiser = torch.optim.Adam(support.values(), lr=params.learning_rate)
    draw = run.generator("batches")
    progress, best = _resume(run, support, optimiser, draw)
    left = params.steps - progress.step
    what = f"KIP, {len(support['inputs'])} images"
    run.foretell(what, left, lambda: objective.descend(support, run.generator("a trial")))
    recorded = set(record_steps(params.steps))
    for step in run.progress(range(progress.step, params.steps), left, what):
        watched = params.patience > 0 and step % params.check_every == 0
        if step in recorded or watched:
            merit = _checked(objective.score, support, step)
            if step in recorded:
                run.record(step=step, **{f"validation_{merit_name}": merit})
            if watched and merit > progress.best:
                progress.best, progress.best_step = merit, step
                best = {name: tensor.detach().clone() for name, tensor in support.items()}
            elif watched and step - progress.best_step >= params.patience:
                break
        _step(support, objective, optimiser, draw, step)
        progress.step = step + 1
        run.offer(functools.partial(_state, progress, support, best, optimiser, draw))
    last = {name: tensor.detach() for name, tensor in support.items()}
    return best if params.patience > 0 and best else last, progress.step


def _step(
    support: dict[str, torch.Tensor], objective: Objective, optimiser: torch.optim.Adam, draw: torch.Generator, step: int
) -> None:  # fmt: skip
    optimiser.zero_grad()
    loss = _checked(lambda these: objective.descend(these, draw), support, step)
    check_finite(step, "loss", loss, support)
    optimiser.step()


def _checked(compute: Any, support: dict[str, torch.Tensor], step: int) -> float:
    """What `compute` finds, or its NumericalError with the step's number."""
    try:
        return float(compute(support))
    except NumericalError as problem:
        raise NumericalError(f"step {step}: {problem}") from None


def _state(
    progress: _Progress,
    support: Mapping[str, torch.Tensor],
    best: Mapping[str, torch.Tensor],
    optimiser: torch.optim.Adam,
    draw: torch.Generator,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that the next step depends on."""
    tensors = state(support, optimiser) | {f"best.{name}": tensor for name, tensor in best.items()}
    numbers = {"step": progress.step, "best": progress.best, "best_step": progress.best_step}
    return {**tensors, "draw": draw.get_state()}, numbers if math.isfinite(progress.best) else {"step": progress.step}


def _resume(
    run: Run, support: dict[str, torch.Tensor], optimiser: torch.optim.Adam, draw: torch.Generator
) -> tuple[_Progress, dict[str, torch.Tensor]]:
    """Put the state that the run's store kept back where it belongs; where the run stands, and its best set."""
    kept = run.kept()
    if kept is None:
        return _Progress(), {}
    tensors, numbers = kept
    draw.set_state(tensors["draw"])
    put_back(tensors, support, optimiser)
    return _Progress(**numbers), under(tensors, "best")
