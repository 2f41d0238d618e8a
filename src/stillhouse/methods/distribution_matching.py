"""Distribution matching: images whose mean embedding by random networks is that of real images, class by class.

DM (Zhao and Bilen 2023). For a network drawn at every step, with psi what it makes of an image before its last layer, and batches
T_k of real and the images S_k of each class k,

    sum_k |mean psi(a(S_k)) - mean psi(a(T_k))|^2

is descended over the images; a is one random change of both sides (siamese). No network is trained. Labels are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import nn

from stillhouse import settings, siamese
from stillhouse.methods import matching
from stillhouse.methods.matching import Loop, RealImages, parts
from stillhouse.models import training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.siamese import Siamese


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DM's code."""

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(description="the network whose embeddings are matched: a name under models"),
    ]
    steps: Annotated[int, Field(ge=0, description="updates of the images, each with fresh initial weights")] = 20_000
    full_steps: Annotated[int, Field(ge=1, description="of the published setting: what `steps` is a part of")] = 20_000
    batch: Annotated[int, Field(ge=1, description="real images of each class at every step")] = 256
    learning_rate: Annotated[
        float, Field(gt=0, description="of the images; DM for 100 images per class and more: 10")
    ] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1, description="of the images")] = 0.5
    start: Annotated[Literal["noise", "real"], Field(description="noise: N(0, 1); real: random real images")] = "real"
    augmentation: Annotated[Siamese, Field(description="of both sides; default: all of DSA's operations")] = field(
        default_factory=lambda: Siamese(operations=siamese.ALL)
    )

    def __post_init__(self) -> None:
        training.check_network(self.model)


def budget(params: Params) -> float:
    """The part of the published number of steps."""
    return params.steps / params.full_steps


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """Train m = per_class x classes images, in the model's space, not clipped.

    Raises NumericalError naming the step at which a number is no longer finite. Resumes from the run's store.
    """
    of = RealImages(real, params.model, run)
    images = matching.start(params.start, real, of, per_class, run)
    loop = Loop(params.steps, 1, params.learning_rate, params.momentum)
    images = matching.descend(
        images, Objective(of, real.n_classes, params),
        lambda rng: matching.fresh(params.model, real, rng, run.device), loop, run, f"DM, {len(images)} images",
    )  # fmt: skip
    return matching.finished(real, images, of, params.model, {"steps": params.steps})


class _Pair(NamedTuple):
    """Of a class: real images that are changed, distilled ones that are not, and the change of both."""

    label: int
    real: torch.Tensor
    own: torch.Tensor
    drawn: siamese.Drawn


class Objective:
    """What DM descends (see `matching.Objective`)."""

    def __init__(self, real: RealImages, classes: int, params: Params) -> None:
        self._real, self._classes, self._params = real, classes, params

    def match(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> float:
        """The distance of the mean embeddings: class by class, or of all classes together where layers normalise over a batch."""
        network.requires_grad_(False)
        network.train()
        embed = nn.Sequential(*list(network)[:-1])
        pairs = self._pairs(images, draw)
        slopes, total = torch.empty_like(images), images.new_zeros(())
        for group in [list(pairs)] if training.batch_norms(network) else ([pair] for pair in pairs):
            with torch.no_grad():
                wanted = means(embed, [pair.real for pair in group])
            found = means(embed, [siamese.apply(pair.own, pair.drawn) for pair in group])
            distance = (found - wanted).square().sum()
            for pair, slope in zip(group, torch.autograd.grad(distance, [pair.own for pair in group]), strict=True):
                slopes[pair.label :: self._classes] = slope
            total += distance.detach()
        images.grad = slopes
        return float(total)

    def _pairs(self, images: torch.Tensor, draw: torch.Generator) -> Iterator[_Pair]:
        for label, rows in enumerate(self._real.draw(self._params.batch, draw)):
            drawn = siamese.draw(self._params.augmentation, draw)
            own = images[label :: self._classes].detach().requires_grad_()
            yield _Pair(label, siamese.apply(rows, drawn), own, drawn)

    def train(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> None:
        """Nothing: a step is one update."""


def means(embed: nn.Sequential, batches: list[torch.Tensor]) -> torch.Tensor:
    """Mean embeddings (k, p) of k batches (b_i, *shape), which go through the network together."""
    together = torch.cat(batches)
    found = embed(together) if training.batch_norms(embed) else torch.cat([embed(part) for part in parts(together)])
    return torch.stack([rows.mean(0) for rows in torch.split(found, [len(each) for each in batches])])
