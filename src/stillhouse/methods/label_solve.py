"""Label Solve: random real images with the labels from which kernel ridge regression fits the whole real set best.

Nguyen, Chen, Lee (2021), section 3: y_S = (K_tS (K_SS + lambda I)^-1)^+ Y_t, the solution of least norm, over all n training
examples. With a = (K_SS + lambda I)^-1 y_S this is least squares K_tS a = Y_t, so one pass that sums K_St K_tS (m, m) and
K_St Y_t (m, c) is all, and memory does not grow with n. No optimisation, any kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import linalg, settings
from stillhouse.data import whitening
from stillhouse.kernels import tiles
from stillhouse.methods.random_images import sample
from stillhouse.models import kernel as model_kernel
from stillhouse.models.kernel import System
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

# Labels are solved: the largest target of an image need not be that of its class.
SOFT_LABELS = True

# Of K_St K_tS's mean diagonal entry: far above rounding in float64, far below what the labels depend on.
_RIDGE = 1e-12

TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: the notebook of Nguyen, Chen, Lee (2021)."""

    model: Annotated[
        Any, settings.plugin("models", only="kernel"), Field(description="what gives the kernel: a name under models")
    ]
    ridge_labels: Annotated[
        float,
        Field(ge=0, description="added to K_St K_tS, over its mean diagonal entry; 0: the solution of least norm"),
    ] = _RIDGE


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """`per_class` random images of each class (examples of all, for regression) with solved labels, in the model's space."""
    model = params.model
    space = whitening.fit(model.space, real)
    kernel = model_kernel.build(model, real.shape, run.seed)
    chosen = sample(real, per_class, run.generator("images"))
    inputs = model_kernel.inputs_at(real, chosen, space, model, run)
    system = System.of_gram(tiles.gram(kernel, inputs.to(torch.float64)), model.ridge)
    sums = _moments(model_kernel.Blocks(real, kernel, inputs, space, model, run))
    weights, normal = solve(sums, params.ridge_labels)
    targets = system.matrix @ weights + model_kernel.shift(model, real)
    return DistilledSet.of(
        real,
        inputs=inputs.cpu(),
        targets=targets.cpu(),
        space=space.settings(),
        model={**settings.dump(model), "seed": run.seed},
        recipe={"numerics": {**system.numerics(), "labels": normal}},
    )


def _moments(blocks: model_kernel.Blocks) -> linalg.Moments:
    """Those of `blocks` over the whole training set, chunk by chunk; resumes from the run's store.

    With the kernel of a ConvNet a pass over the data takes hours.
    """
    real, run, size = blocks.real, blocks.run, len(blocks.support)
    sums = linalg.Moments(size, real.width, run.device)
    kept = run.kept()
    if kept is not None:
        sums = linalg.Moments.unpacked(kept[0]["gram"], kept[0]["cross"], kept[1]["count"])
    left = torch.arange(sums.count, len(real.train))

    def state() -> tuple[dict[str, torch.Tensor], dict[str, int]]:
        return {"gram": sums.packed(), "cross": sums.cross}, {"count": sums.count}

    def trial() -> None:
        for _ in blocks.at(left[:size]):
            pass

    run.foretell(f"Label Solve, {size} images and as many real ones a step", len(left) // size, trial)
    for block, targets in blocks.at(left):
        sums.add(block, targets)
        run.offer(state)
    return sums


def solve(sums: linalg.Moments, relative: float = _RIDGE) -> tuple[torch.Tensor, dict[str, float]]:
    """a (m, c) with (K_St K_tS + ridge I) a = K_St Y_t, and what the solve rests on."""
    gram = sums.gram
    strength = relative * float(gram.diagonal().mean())
    gram.diagonal().add_(strength)
    return linalg.solve_positive(gram, sums.cross), {"ridge": strength, "condition": linalg.condition(gram)}
