"""What convolutional networks are built of: a convolution with its normalisation and activation, and which images they take."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from stillhouse.errors import UserError

# Images that go through a network together on a CPU. More leave the cache and make the allocator give pages back and fetch
# them anew at every layer: 256 at once take up to a third longer in float32 (ConvNet), and eight times the memory.
AT_ONCE = 32

Norm = Annotated[
    Literal["instance", "group", "layer", "batch", "none"],
    Field(description="what is normalised after a convolution; group: in 4 groups"),
]
Activation = Literal["relu", "leaky_relu", "sigmoid"]
Margin = Annotated[
    int | None,
    Field(
        ge=0,
        description="zeros around an image; absent: the 2 that make 28 x 28 into 32 x 32, as DD and DC do for MNIST, else none",
    ),
]

_GROUPS = 4  # of norm: group, as in DC
_WIDEST = 64  # pixels a row that are averaged by a product of matrices: it takes time in proportion to them


def convolution(
    model: str,
    number: int,
    channels: int,
    shape: tuple[int, int, int],
    norm: str,
    active: str = "relu",
    kernel: int = 3,
    padding: int = 1,
) -> list[tuple[str, nn.Module]]:
    """A convolution from `channels` to (b, *shape), normalisation and activation, by names that end with `number`.

    Raises UserError, naming the model, as `normalisation` does.
    """
    made: list[tuple[str, nn.Module]] = [
        (f"convolution{number}", nn.Conv2d(channels, shape[0], kernel, padding=padding))
    ]
    made += [(f"norm{number}", each) for each in normalisation(model, norm, shape)]
    return [*made, (f"activation{number}", activation(active))]


class AveragePooling(nn.Module):
    """The mean of every 2 x 2 pixels; an odd last row or column is left out. Any number of derivatives, as `nn.AvgPool2d(2)`.

    On a CPU that layer reads pixel by pixel. Two rows of pixels times a matrix are the same sums, four times as fast both ways:
    that saves 7 % of a ConvNet's gradient in float32 and 29 % in bfloat16.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., height, width) to half of both."""
        height, width = inputs.shape[-2:]
        if inputs.device.type != "cpu" or width > _WIDEST:
            return nn.functional.avg_pool2d(inputs, 2)
        mean = torch.eye(width // 2, dtype=inputs.dtype).repeat_interleave(2, 0) / 4
        mean = nn.functional.pad(mean, (0, 0, 0, width % 2))  # (width, width // 2)
        pairs = inputs[..., : height - height % 2, :].reshape(*inputs.shape[:-2], height // 2, 2 * width)
        return pairs @ mean.repeat(2, 1)


def activation(kind: str, slope: float = 0.01) -> nn.Module:
    """The activation of that name; `slope` is that of leaky_relu for negative values, in DC 0.01."""
    if kind == "leaky_relu":
        return nn.LeakyReLU(slope, inplace=True)
    return nn.ReLU(inplace=True) if kind == "relu" else nn.Sigmoid()


def normalisation(model: str, norm: str, shape: tuple[int, int, int]) -> list[nn.Module]:
    """The layer that normalises activations (b, *shape), with a trained scale and shift; none for norm none.

    Raises UserError, naming the model, where the channels do not fall into groups.
    """
    channels = shape[0]
    if norm == "none":
        return []
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "layer":
        return [nn.LayerNorm(shape)]
    if norm == "group" and channels % _GROUPS:
        raise UserError(
            f"models/{model}: norm group makes {_GROUPS} groups of {channels} channels. Choose another width."
        )
    return [nn.GroupNorm(channels if norm == "instance" else _GROUPS, channels)]


def margin(given: int | None, shape: tuple[int, ...]) -> int:
    """Zeros on each side of an image: those given, or what the recipes have for one of this shape."""
    if given is not None:
        return given
    return 2 if shape[1:] == (28, 28) else 0


def check_images(model: str, shape: tuple[int, ...], smallest: int = 1, margin: int | None = None) -> None:
    """Raise UserError, naming the model, for what is no image and for one below `smallest` x `smallest` with its margin.

    `margin` is absent for a model that has no such setting.
    """
    if len(shape) != 3:
        raise UserError(f"models/{model}: needs images (channels, height, width), found shape {shape}. Use models/mlp.")
    side = min(shape[1:])
    if side + 2 * (margin or 0) < smallest:
        advice = "Use " if margin is None else f"Set margin: {-(-(smallest - side) // 2)} or use "
        raise UserError(
            f"models/{model}: images of {shape[1]} x {shape[2]} are too small; {smallest} x {smallest} are the smallest that "
            f"it takes. {advice}models/convnet."
        )
