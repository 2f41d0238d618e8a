"""The ConvNet that most of the field distils for and scores by: blocks of convolution, normalisation, activation, pooling.

Gidaris and Komodakis (2018), as used by DC (Zhao et al. 2021), DSA and what came after: `depth` blocks of a 3 x 3 convolution
with `width` channels, then a linear layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.data.whitening import Pixels
from stillhouse.errors import UserError
from stillhouse.models import training
from stillhouse.models.training import Training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

# Images that go through the network together on a CPU. More leave the cache and make the allocator give pages back and fetch
# them anew at every layer: 256 at once take about a third longer in float32, and eight times the memory.
_AT_ONCE = 32

_GROUPS = 4  # of norm: group, as in DC

TASKS = ("classification", "regression")


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DC and DSA."""

    width: Annotated[int, Field(ge=1, description="channels of every block")] = 128
    depth: Annotated[int, Field(ge=1, description="blocks; each pooling halves height and width, rounded down")] = 3
    norm: Annotated[
        Literal["instance", "group", "layer", "batch", "none"],
        Field(description="what is normalised after a convolution; group: in 4 groups"),
    ] = "instance"
    activation: Annotated[
        Literal["relu", "leaky_relu", "sigmoid"], Field(description="after the normalisation; leaky_relu: slope 0.01")
    ] = "relu"
    pooling: Annotated[
        Literal["average", "max", "none"], Field(description="of 2 x 2 pixels at the end of a block")
    ] = "average"
    padding: Annotated[
        int,
        Field(ge=1, description="of the first convolution; 3 makes 28 x 28 into 32 x 32, as DC does for one channel"),
    ] = 1
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is pooled to nothing."""
    if len(shape) != 3:
        raise UserError(f"models/convnet: needs images (channels, height, width), found shape {shape}. Use models/mlp.")
    channels, grow = shape[0], 2 * (params.padding - 1)
    size = (shape[1] + grow, shape[2] + grow)
    layers: list[tuple[str, nn.Module]] = []
    with torch.device("meta"):
        for i in range(1, params.depth + 1):
            padding = params.padding if i == 1 else 1
            layers.append((f"convolution{i}", nn.Conv2d(channels, params.width, 3, padding=padding)))
            channels = params.width
            layers += [(f"norm{i}", _norm(params, (channels, *size)))] if params.norm != "none" else []
            layers.append((f"activation{i}", _ACTIVATIONS[params.activation]()))
            if params.pooling != "none":
                size = (size[0] // 2, size[1] // 2)
                _check_depth(params, shape, i, size)
                layers.append((f"pooling{i}", _POOLINGS[params.pooling](2)))
        layers.append(("flatten", nn.Flatten()))
        layers.append(("classifier", nn.Linear(channels * size[0] * size[1], classes)))
    return training.blank(layers)


def fit_real(real: RealSet, params: Params, run: Run) -> Teacher:
    """Train on the whole real set."""
    return training.fit_real(build(params, real.shape, real.width), real, params, run, _AT_ONCE)


def fit_distilled(distilled: DistilledSet, real: RealSet, params: Params, run: Run) -> Teacher:
    """Train on a distilled set."""
    return training.fit_distilled(build(params, real.shape, real.width), distilled, real, params, run, _AT_ONCE)


def predictor(teacher: Teacher, dim: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixels (b, *shape) to scores (b, c), on `device`."""
    params = settings.parse(Params, teacher.model, "model")
    at_once = _AT_ONCE if device.type == "cpu" else None
    return training.predictor(build(params, *training.shape(teacher)), teacher, params.training, device, at_once)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "sigmoid": nn.Sigmoid,
}
_POOLINGS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


def _norm(params: Params, shape: tuple[int, int, int]) -> nn.Module:
    """The normalisation of activations (b, *shape), with a trained scale and shift."""
    channels = shape[0]
    if params.norm == "batch":
        return nn.BatchNorm2d(channels)
    if params.norm == "layer":
        return nn.LayerNorm(shape)
    if params.norm == "group" and channels % _GROUPS:
        raise UserError(
            f"models/convnet: norm group makes {_GROUPS} groups of {channels} channels. Choose another width."
        )
    return nn.GroupNorm(channels if params.norm == "instance" else _GROUPS, channels)


def _check_depth(params: Params, shape: tuple[int, ...], block: int, size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise UserError(
            f"models/convnet: depth {params.depth} is too much for images of {shape[1]} x {shape[2]}: block {block} pools "
            f"them to nothing. Use depth {block - 1} or pooling none."
        )
