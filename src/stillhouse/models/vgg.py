"""VGG (Simonyan and Zisserman 2015) for small images, as DC (Zhao et al. 2021) and DSA score distilled sets by it.

Five stages of 3 x 3 convolutions, each with normalisation and ReLU, and 2 x 2 max pooling after each stage; 64, 128, 256, 512
and 512 channels; the classifier is the one linear layer of three that is left. 9,231,114 weights of VGG11 for CIFAR-10.
28 x 28 images get a margin of 2. Initial weights are PyTorch's.

DC scores by VGG11 with instance norm and distils for VGG11BN (`norm: batch`), whose statistics it takes from real images. Other
normalisations are in no recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.models import fitting, layers, training
from stillhouse.models.training import Initialisation, Training

TASKS = ("classification", "regression")

_SMALLEST = 32  # five poolings halve it

# Of each stage: channels as multiples of the first one's, and the number of convolutions.
_CHANNELS = (1, 2, 4, 8, 8)
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: VGG11 of DC and DSA."""

    depth: Annotated[
        Literal[11, 13, 16, 19], Field(description="which VGG; the number counts the two linear layers left out here")
    ] = 11
    width: Annotated[
        int, Field(ge=1, description="channels of the first stage; the others have 2, 4, 8, 8 times as many")
    ] = 64
    norm: layers.Norm = "instance"
    margin: layers.Margin = None
    initialisation: Initialisation = "pytorch"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is too small."""
    margin = layers.margin(params.margin, shape)
    layers.check_images("vgg", shape, _SMALLEST, margin)
    channels, height, width = shape[0], shape[1] + 2 * margin, shape[2] + 2 * margin
    made: list[tuple[str, nn.Module]] = []
    number = 0
    with torch.device("meta"):
        for stage, (times, count) in enumerate(zip(_CHANNELS, _CONVOLUTIONS[params.depth], strict=True), start=1):
            after = (times * params.width, height, width)
            for _ in range(count):
                number += 1
                padding = 1 + margin if number == 1 else 1
                made += layers.convolution("vgg", number, channels, after, params.norm, padding=padding)
                channels = after[0]
            made.append((f"pooling{stage}", nn.MaxPool2d(2)))
            height, width = height // 2, width // 2
        made.append(("flatten", nn.Flatten()))
        made.append(("classifier", nn.Linear(channels * height * width, classes)))
    return training.blank(made)


fit_real, fit_distilled, predictor = fitting.functions(build, Params, layers.AT_ONCE)
