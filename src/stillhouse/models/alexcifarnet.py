"""AlexCifarNet, the network of Wang et al. (2018, DD) and Sucholutsky and Schonlau (2021, SLDD) for CIFAR-10.

From Krizhevsky's cuda-convnet: two 5 x 5 convolutions with 64 channels, each with ReLU, 3 x 3 max pooling that halves, and
response normalisation (in the second block before the pooling), then linear layers of 384 and 192 units with ReLU and the
classifier. 1,756,426 weights for CIFAR-10.

DD and SLDD draw Xavier-normal initial weights with gain 1 and biases 0; LD (Bohdal et al. 2020) has the same network with
PyTorch's (`initialisation: pytorch`). The recipes are for 32 x 32 images of three channels and say nothing of others, which go
through the same layers without a margin.
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


@dataclass(frozen=True)
class Params:
    """Settings. Defaults: DD and SLDD."""

    width: Annotated[
        int,
        Field(
            ge=1, description="channels of the convolutions; the linear layers have six and three times as many units"
        ),
    ] = 64
    initialisation: Initialisation = "xavier_normal"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


class ResponseNorm(nn.Module):
    """x / (1 + alpha m)^beta, m the mean of x^2 over 4 channels: the one, two before it and one after, zero beyond the last.

    alpha = 0.001 / 9 and beta = 0.75, as in DD. PyTorch's LocalResponseNorm is the same function, but its average over a fifth
    dimension takes three times as long on a CPU.
    """

    size, alpha, beta = 4, 0.001 / 9, 0.75

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Of activations (b, channels, height, width)."""
        channels = inputs.shape[1]
        squares = nn.functional.pad(inputs.square(), (0, 0, 0, 0, self.size // 2, self.size - self.size // 2 - 1))
        total = sum(squares[:, i : i + channels] for i in range(self.size))
        return inputs * (1 + self.alpha / self.size * total) ** -self.beta


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values. Raises UserError for what is no image."""
    layers.check_images("alexcifarnet", shape)
    width = params.width
    pixels = -(-shape[1] // 4) * -(-shape[2] // 4)  # each pooling halves height and width, rounded up
    with torch.device("meta"):
        return training.blank(
            [
                ("convolution1", nn.Conv2d(shape[0], width, 5, padding=2)),
                ("activation1", nn.ReLU(inplace=True)),
                ("pooling1", nn.MaxPool2d(3, stride=2, padding=1)),
                ("norm1", ResponseNorm()),
                ("convolution2", nn.Conv2d(width, width, 5, padding=2)),
                ("activation2", nn.ReLU(inplace=True)),
                ("norm2", ResponseNorm()),
                ("pooling2", nn.MaxPool2d(3, stride=2, padding=1)),
                ("flatten", nn.Flatten()),
                ("hidden1", nn.Linear(width * pixels, 6 * width)),
                ("activation3", nn.ReLU(inplace=True)),
                ("hidden2", nn.Linear(6 * width, 3 * width)),
                ("activation4", nn.ReLU(inplace=True)),
                ("classifier", nn.Linear(3 * width, classes)),
            ]
        )


fit_real, fit_distilled, predictor = fitting.functions(build, Params, layers.AT_ONCE)
