"""The ConvNet that most of the field distils for and scores by: blocks of convolution, normalisation, activation, pooling.

Gidaris and Komodakis (2018), as used by DC (Zhao et al. 2021), DSA and what came after: `depth` blocks of a 3 x 3 convolution
with `width` channels, then a linear layer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.errors import UserError
from stillhouse.models import fitting, layers, training
from stillhouse.models.training import Initialisation, Training

TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DC and DSA."""

    width: Annotated[int, Field(ge=1, description="channels of every block")] = 128
    depth: Annotated[int, Field(ge=1, description="blocks; each pooling halves height and width, rounded down")] = 3
    norm: layers.Norm = "instance"
    activation: Annotated[layers.Activation, Field(description="slope of leaky_relu: 0.01")] = "relu"
    pooling: Annotated[
        Literal["average", "max", "none"], Field(description="of 2 x 2 pixels at the end of a block")
    ] = "average"
    padding: Annotated[
        int,
        Field(ge=1, description="of the first convolution; 3 makes 28 x 28 into 32 x 32, as DC does for one channel"),
    ] = 1
    initialisation: Initialisation = "pytorch"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is pooled to nothing."""
    layers.check_images("convnet", shape)
    channels, grow = shape[0], 2 * (params.padding - 1)
    size = (shape[1] + grow, shape[2] + grow)
    made: list[tuple[str, nn.Module]] = []
    with torch.device("meta"):
        for i in range(1, params.depth + 1):
            padding, after = params.padding if i == 1 else 1, (params.width, *size)
            made += layers.convolution("convnet", i, channels, after, params.norm, params.activation, padding=padding)
            channels = params.width
            if params.pooling != "none":
                size = (size[0] // 2, size[1] // 2)
                _check_depth(params, shape, i, size)
                made.append((f"pooling{i}", _POOLINGS[params.pooling]()))
        made.append(("flatten", nn.Flatten()))
        made.append(("classifier", nn.Linear(channels * size[0] * size[1], classes)))
    return training.blank(made)


fit_real, fit_distilled, predictor = fitting.functions(build, Params, layers.AT_ONCE)


_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "average": layers.AveragePooling,
    "max": functools.partial(nn.MaxPool2d, 2),
}


def _check_depth(params: Params, shape: tuple[int, ...], block: int, size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise UserError(
            f"models/convnet: depth {params.depth} is too much for images of {shape[1]} x {shape[2]}: block {block} pools "
            f"them to nothing. Use depth {block - 1} or pooling none."
        )
