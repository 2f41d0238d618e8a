"""Dataset condensation: images on which a network's loss has the gradient that it has on real images.

DC (Zhao, Mopuri, Bilen 2021), Algorithm 1, and with `augmentation` DSA (Zhao and Bilen 2021). For initial weights theta drawn at
every step, and batches T_k of real and the images S_k of each class k, with the cross entropy l,

    sum_k D(grad l(a(S_k); theta), grad l(a(T_k); theta))

is descended over the images, D a distance of gradients (gradient_distance) and a one random change of both sides (siamese; DC:
none). With more than one update in a step, theta is trained on the images in between, so that gradients match along the way.
Labels are fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from stillhouse import settings, siamese
from stillhouse.methods import gradient_distance, matching
from stillhouse.methods.matching import Loop, RealImages, parts
from stillhouse.models import training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.siamese import Siamese

# DC's code: for so many images per class, updates of the images in a step and epochs of the network between two. 100 images:
# what the author gives in the repository's issues.
_LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10), 100: (100, 2)}
# DC's code: real images of each class that give batch normalisation its mean and variance, once for all classes of an update.
_STATISTICS = 16


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DC, its code's where the paper gives none."""

    model: Annotated[
        Any,
        settings.plugin("models"),
        Field(description="the network whose gradients are matched: a name under models"),
    ]
    steps: Annotated[int, Field(ge=0, description="K, each with fresh initial weights")] = 1000
    full_steps: Annotated[int, Field(ge=1, description="of the published setting: what `steps` is a part of")] = 1000
    updates: Annotated[
        int | None,
        Field(
            ge=1,
            description="of the images in a step; absent: DC's for so many images per class, 1 below 10, else 10, 20, 30, 40, "
            "50 or 100, the last that is not above",
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Field(
            ge=1,
            description="of the network on the images between two updates; absent: DC's, 50, 25, 20, 15, 10 or 2 for those",
        ),
    ] = None
    batch: Annotated[int, Field(ge=1, description="real images of each class at every update")] = 256
    learning_rate: Annotated[float, Field(gt=0, description="of the images; DC for an MLP: 0.01")] = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, description="of the images")] = 0.5
    network_learning_rate: Annotated[float, Field(gt=0, description="of the network, by plain SGD")] = 0.01
    network_batch: Annotated[int, Field(ge=1, description="images a step of the network")] = 256
    start: Annotated[
        Literal["noise", "real"], Field(description="noise: N(0, 1) (DC); real: random real images (DSA)")
    ] = "noise"
    distance: gradient_distance.Kind = "layerwise"
    augmentation: Annotated[Siamese, Field(description="of both sides, and of the images that train the network")] = (
        field(default_factory=Siamese)
    )
    precision: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="of the products of real images before the last layer; gradients stay in float32"),
    ] = "float32"

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
    updates, epochs = loops(params, per_class)
    loop = Loop(params.steps, updates, params.learning_rate, params.momentum)
    images = matching.descend(
        images, Objective(of, real.n_classes, params, epochs),
        lambda rng: matching.fresh(params.model, real, rng, run.device), loop, run, f"DC, {len(images)} images",
    )  # fmt: skip
    return matching.finished(real, images, of, params.model, {"updates": updates, "epochs": epochs})


def loops(params: Params, per_class: int) -> tuple[int, int]:
    """Updates of the images in a step, and epochs of the network between two."""
    updates, epochs = _LOOPS[max(count for count in _LOOPS if count <= per_class)]
    return params.updates or updates, params.epochs or epochs


class Objective:
    """What DC descends (see `matching.Objective`)."""

    def __init__(self, real: RealImages, classes: int, params: Params, epochs: int) -> None:
        self._real, self._classes, self._params, self._epochs = real, classes, params, epochs

    def match(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> float:
        """The distance of the gradients, class by class: one class's images have no part in another's."""
        self._freeze(network, draw)
        weights = list(network.parameters())
        slopes, total = torch.empty_like(images), images.new_zeros(())
        for label, rows in enumerate(self._real.draw(self._params.batch, draw)):
            drawn = siamese.draw(self._params.augmentation, draw)
            wanted = gradient(
                network, weights, parts(siamese.apply(rows, drawn)), self._labels(label, rows), self._params.precision
            )
            own = images[label :: self._classes].detach().requires_grad_()
            scores = network(siamese.apply(own, drawn))
            loss = nn.functional.cross_entropy(scores, self._labels(label, own))
            found = torch.autograd.grad(loss, weights, create_graph=True)
            distance = gradient_distance.distance(self._params.distance, found, wanted)
            [slopes[label :: self._classes]] = torch.autograd.grad(distance, [own])
            total += distance.detach()
        images.grad = slopes
        return float(total)

    def train(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> None:
        """So many epochs of plain SGD on the images, each augmented by its own numbers."""
        network.train()
        weights = list(network.parameters())
        labels = torch.arange(len(images), device=images.device) % self._classes
        for _ in range(self._epochs):
            order = torch.randperm(len(images), generator=draw)
            for index in torch.split(order, self._params.network_batch):
                drawn = siamese.draw(self._params.augmentation, draw, len(index))
                there = index.to(images.device)
                chosen = siamese.apply(images[there], drawn)
                together = (chosen,) if training.batch_norms(network) else parts(chosen)
                slopes = gradient(network, weights, together, labels[there])
                with torch.no_grad():
                    for weight, slope in zip(weights, slopes, strict=True):
                        weight.sub_(slope, alpha=self._params.network_learning_rate)

    def _freeze(self, network: nn.Sequential, draw: torch.Generator) -> None:
        """Give batch normalisation its mean and variance by real images of all classes; one image a class has none of its own."""
        network.train()
        normalising = training.batch_norms(network)
        if normalising:
            with torch.no_grad():
                network(torch.cat(list(self._real.draw(_STATISTICS, draw))))
        for layer in normalising:
            layer.eval()

    @staticmethod
    def _labels(label: int, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images),), label, device=images.device)


def gradient(
    network: nn.Sequential,
    weights: Sequence[torch.Tensor],
    images: Sequence[torch.Tensor],
    labels: torch.Tensor,
    precision: str = "float32",
) -> list[torch.Tensor]:
    """Of the mean cross entropy of a batch with labels (b,), given in parts that go through the network one after the other."""
    total: list[torch.Tensor] = []
    for part, of in zip(images, torch.split(labels, [len(each) for each in images]), strict=True):
        scores = network(part) if precision == "float32" else training.scores(network, part, precision)
        loss = nn.functional.cross_entropy(scores, of, reduction="sum") / len(labels)
        found = torch.autograd.grad(loss, weights)
        total = [one.add_(other) for one, other in zip(total, found, strict=True)] if total else list(found)
    return total
