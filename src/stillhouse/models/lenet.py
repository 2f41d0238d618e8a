"""LeNet, the network of Wang et al. (2018, DD) and Sucholutsky and Schonlau (2021, SLDD) for MNIST.

Two 5 x 5 convolutions with 6 and 16 channels, each with ReLU and 2 x 2 max pooling, then linear layers of 120 and 84 units
with ReLU and the classifier: the widths of LeCun et al. (1998). 61,706 weights for MNIST.

28 x 28 images get a margin of 2, larger ones none. DD and SLDD draw Xavier-normal initial weights with gain 1 and biases 0. DC
(Zhao et al. 2021) and LD (Bohdal et al. 2020) have the same network with PyTorch's (`initialisation: pytorch`). DD gives two
classes one score; here every class has its own.
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

_SMALLEST = 16  # (16 - 4) / 2 = 6 after the first convolution and pooling, (6 - 4) / 2 = 1 after the second


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DD and SLDD."""

    margin: layers.Margin = None
    initialisation: Initialisation = "xavier_normal"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image and for an image that is too small."""
    margin = layers.margin(params.margin, shape)
    layers.check_images("lenet", shape, _SMALLEST, margin)
    height, width = ((((side + 2 * margin - 4) // 2) - 4) // 2 for side in shape[1:])
    with torch.device("meta"):
        return training.blank(
            [
                ("convolution1", nn.Conv2d(shape[0], 6, 5, padding=margin)),
                ("activation1", nn.ReLU(inplace=True)),
                ("pooling1", nn.MaxPool2d(2)),
                ("convolution2", nn.Conv2d(6, 16, 5)),
                ("activation2", nn.ReLU(inplace=True)),
                ("pooling2", nn.MaxPool2d(2)),
                ("flatten", nn.Flatten()),
                ("hidden1", nn.Linear(16 * height * width, 120)),
                ("activation3", nn.ReLU(inplace=True)),
                ("hidden2", nn.Linear(120, 84)),
                ("activation4", nn.ReLU(inplace=True)),
                ("classifier", nn.Linear(84, classes)),
            ]
        )


fit_real, fit_distilled, predictor = fitting.functions(build, Params)
