"""A fully connected network whose every layer is trained: the FCNN of Chen, Huang, Weng (2024) beyond its random features.

    f(x) = W s(... s(x A_1) ... A_L),   s the LeakyReLU

The paper draws A and fits W alone (models/ridge with features random_network); here all of them are learned. The MLP of DC (Zhao
et al. 2021) has depth 2, width 128, activation relu and biases.
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
    """Settings. Defaults: the shape of the network in Chen et al. (2024), section 7."""

    depth: Annotated[int, Field(ge=0, description="hidden layers, L; 0: linear")] = 1
    width: Annotated[int, Field(ge=0, description="of the hidden layers; 0: as many as values in an image, d")] = 0
    activation: Annotated[layers.Activation, Field(description="s, after every hidden layer")] = "leaky_relu"
    slope: Annotated[float, Field(gt=0, le=1, description="of leaky_relu for negative values")] = 0.1
    bias: Annotated[bool, Field(description="whether layers have one; the paper's have none")] = False
    initialisation: Initialisation = "pytorch"
    space: whitening.SpaceSettings = field(default_factory=Pixels)
    training: Annotated[Training, Field(description="how it is trained")] = field(default_factory=Training)


def build(params: Params, shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """The network, without values."""
    widths = [torch.Size(shape).numel()]
    widths += [params.width or widths[0]] * params.depth
    made: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    with torch.device("meta"):
        for i in range(params.depth):
            made.append((f"hidden{i + 1}", nn.Linear(widths[i], widths[i + 1], params.bias)))
            made.append((f"activation{i + 1}", layers.activation(params.activation, params.slope)))
        made.append(("classifier", nn.Linear(widths[-1], classes, params.bias)))
    return training.blank(made)


fit_real, fit_distilled, predictor = fitting.functions(build, Params)
