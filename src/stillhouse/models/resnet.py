"""ResNet (He et al. 2016) for small images, as DC (Zhao et al. 2021) and DSA score distilled sets by it.

A 3 x 3 convolution with 64 channels, then four stages of blocks relu(main(x) + shortcut(x)) with 64, 128, 256 and 512 channels;
main is two 3 x 3 convolutions. The first block of each later stage halves height and width, its shortcut by a 1 x 1
convolution. A normalisation follows every convolution, which has no bias then. 11,173,962 weights of ResNet18 for CIFAR-10.

DC scores by ResNet18 (instance norm) or ResNet18BN (`norm: batch`), which halve by a stride of 2 and average over all pixels
before the classifier. It distils for ResNet18BN_AP (`norm: batch, downsampling: average`), which halves by average pooling after
a convolution of stride 1 and whose classifier sees all pixels: 11,250,762 weights. 28 x 28 images get no margin: 14, 7 and 4
pixels a side follow, with average pooling 3. Initial weights are PyTorch's. Other normalisations, and none, are in no recipe.
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

_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # of each stage


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: ResNet18 of DC and DSA."""

    depth: Annotated[
        Literal[10, 18, 34], Field(description="layers with weights, but for the normalisations and the shortcuts")
    ] = 18
    width: Annotated[
        int, Field(ge=1, description="channels of the first stage; the others have 2, 4, 8 times as many")
    ] = 64
    norm: layers.Norm = "instance"
    downsampling: Annotated[
        Literal["strided", "average"],
        Field(description="strided: convolutions of stride 2; average: average pooling (ResNet18_AP of DC)"),
    ] = "strided"
    initialisation: Initialisation = "pytorch"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


class Block(nn.Module):
    """relu(main(x) + shortcut(x))."""

    def __init__(self, main: nn.Sequential, shortcut: nn.Sequential) -> None:
        super().__init__()
        self.main, self.shortcut = main, shortcut

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, channels, height, width) to the same of the block's channels, halved or not."""
        return nn.functional.relu(self.main(inputs) + self.shortcut(inputs), inplace=True)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is too small."""
    layers.check_images("resnet", shape, _smallest(params))
    channels, size = params.width, (shape[1], shape[2])
    with torch.device("meta"):
        made = _normalised(params, "", shape[0], (channels, *size))
        made.append(("activation", nn.ReLU(inplace=True)))
        for stage, count in enumerate(_BLOCKS[params.depth]):
            for i in range(count):
                width, halved = params.width * 2**stage, stage > 0 and i == 0
                made.append((f"block{stage + 1}_{i + 1}", _block(params, channels, width, size, halved)))
                channels, size = width, _halved(params, size) if halved else size
        if params.downsampling == "strided":
            made.append(("pooling", nn.AdaptiveAvgPool2d(1)))
            size = (1, 1)
        made.append(("flatten", nn.Flatten()))
        made.append(("classifier", nn.Linear(channels * size[0] * size[1], classes)))
    return training.blank(made)


fit_real, fit_distilled, predictor = fitting.functions(build, Params, layers.AT_ONCE)


def _block(params: Params, channels: int, width: int, size: tuple[int, int], halved: bool) -> Block:
    """From activations (b, channels, *size) to `width` channels of the same height and width, or of half of them."""
    after = _halved(params, size) if halved else size
    pools = halved and params.downsampling == "average"
    stride, between = (1, size) if pools or not halved else (2, after)
    pooling = [("pooling", nn.AvgPool2d(2))] if pools else []
    main = _normalised(params, "1", channels, (width, *between), stride)
    main += [("activation", nn.ReLU(inplace=True)), *pooling]
    main += _normalised(params, "2", width, (width, *after))
    shortcut = []
    if halved:
        convolution, *norm = _normalised(params, "", channels, (width, *after), stride, kernel=1)
        shortcut = [convolution, *pooling, *norm]
    return Block(training.blank(main), training.blank(shortcut))


def _normalised(
    params: Params, number: str, channels: int, after: tuple[int, int, int], stride: int = 1, kernel: int = 3
) -> list[tuple[str, nn.Module]]:
    """A convolution from `channels`, and the normalisation of activations (b, *after)."""
    unshifted = params.norm == "none"
    convolution = nn.Conv2d(channels, after[0], kernel, stride, padding=kernel // 2, bias=unshifted)
    norm = layers.normalisation("resnet", params.norm, after)
    return [(f"convolution{number}", convolution), *[(f"norm{number}", each) for each in norm]]


def _halved(params: Params, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width after halving: a convolution of stride 2 rounds up, average pooling rounds down."""
    up = 1 if params.downsampling == "strided" else 0
    return (size[0] + up) // 2, (size[1] + up) // 2


def _smallest(params: Params) -> int:
    """The smallest side of an image that leaves a pixel to the last stage, and two a side to instance norm, which makes one 0."""
    least = 2 if params.norm == "instance" else 1
    return 8 * least if params.downsampling == "average" else 8 * (least - 1) + 1
