"""AlexNet (Krizhevsky et al. 2012) for small images, as DC (Zhao et al. 2021) and DSA score distilled sets by it.

Five convolutions with ReLU (5 x 5 with 128 and 192 channels, 3 x 3 with 256, 192 and 192), 2 x 2 max pooling after the first,
the second and the last, and the classifier without hidden linear layers before it. 1,872,202 weights for CIFAR-10.
28 x 28 images get a margin of 2.

DC has no normalisation here; its code also knows AlexNetBN, with batch normalisation after every convolution (`norm: batch`).
Other normalisations are in no recipe. Initial weights are PyTorch's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.models import fitting, layers, training
from stillhouse.models.training import Initialisation, Training

TASKS = ("classification", "regression")

_SMALLEST = 8  # three poolings halve it

# Channels in halves of the first convolution's, side of the kernel, whether pooling follows.
_CONVOLUTIONS = ((2, 5, True), (3, 5, True), (4, 3, False), (3, 3, False), (3, 3, True))


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DC and DSA."""

    width: Annotated[
        int,
        Field(
            ge=2,
            multiple_of=2,
            description="channels of the first convolution; the others have 1.5, 2, 1.5, 1.5 times as many",
        ),
    ] = 128
    norm: layers.Norm = "none"
    margin: layers.Margin = None
    initialisation: Initialisation = "pytorch"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is too small."""
    margin = layers.margin(params.margin, shape)
    layers.check_images("alexnet", shape, _SMALLEST, margin)
    channels, height, width = shape[0], shape[1] + 2 * margin, shape[2] + 2 * margin
    made: list[tuple[str, nn.Module]] = []
    with torch.device("meta"):
        for i, (halves, kernel, pooled) in enumerate(_CONVOLUTIONS, start=1):
            after = (params.width * halves // 2, height, width)
            padding = kernel // 2 + (margin if i == 1 else 0)
            made += layers.convolution("alexnet", i, channels, after, params.norm, kernel=kernel, padding=padding)
            channels = after[0]
            if pooled:
                made.append((f"pooling{i}", nn.MaxPool2d(2)))
                height, width = height // 2, width // 2
        made.append(("flatten", nn.Flatten()))
        made.append(("classifier", nn.Linear(channels * height * width, classes)))
    return training.blank(made)


fit_real, fit_distilled, predictor = fitting.functions(build, Params, layers.AT_ONCE)
