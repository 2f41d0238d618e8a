"""Random features of finite convolutional networks, whose inner products approach the NNGP kernel of the infinite one: RFAD.

Loo, Hasani, Amini, Rus (2022), "Efficient Dataset Distillation Using Random Feature Approximation". Each of N networks is blocks
of [3 x 3 convolution, ReLU] and a 2 x 2 average pooling, with weights N(0, w / fan in) and biases N(0, b), fan in = 9 x channels
at the borders as well. For its P last activations h(x), flattened, a linear readout with weights N(0, w / P) and a bias N(0, b)
has covariance w <h(x), h(y)> / P + b, so the mean over networks is

    K = w Phi Phi^T + b,   Phi = [h_1 ... h_N] / sqrt(N P),   (a, N P)

With w = 2 and b = 0.01 it is RFAD's 2 Phi Phi^T + 0.01. For one convolution K is, in the mean over draws, the NNGP kernel of
`convolutional` with readout flatten; for more it is so up to O(1 / width). Its error is otherwise of order 1 / sqrt(N width).

A block of a x b costs a + b passes through N networks and a product, where the exact kernel costs a b (height width)^2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from stillhouse.errors import UserError

RANDOM = True

# Activations of one layer that are in memory together. Few on a CPU, where they should stay in its cache.
_AT_ONCE_CPU = 2**21
_AT_ONCE = 2**27
# Channels innermost: convolutions take two thirds of the time on a CPU.
_LAYOUT = torch.channels_last

# Weights (out, in, 3, 3) and biases (out,).
Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Params:
    """Settings of the networks. Defaults: RFAD, for images of 32 x 32 pixels."""

    networks: Annotated[int, Field(ge=1, description="random networks, N; RFAD: 8")] = 8
    width: Annotated[int, Field(ge=1, description="channels of every convolution; RFAD: 256")] = 256
    convolutions: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="3 x 3 convolutions of each block; a block ends with 2 x 2 average pooling"),
    ] = (1, 1, 1)
    weight_variance: Annotated[float, Field(gt=0, description="w, over the fan in, of every layer")] = 2.0
    bias_variance: Annotated[float, Field(ge=0, description="b of every layer; RFAD: 0.01")] = 0.01


class RandomFeatures:
    """K of the module for the given networks; `offset` is b."""

    # Tiling would pass images through the networks once for each tile: what bounds memory is here. So a block is one tile as
    # long as it, a product and a gradient of its size do not exceed that of `tiles`.
    bytes_per_pair = 3 * 8
    bytes_per_example = 0

    def __init__(self, networks: list[list[Layer]], params: Params) -> None:
        self.networks, self.params, self.offset = networks, params, params.bias_variance
        self._as_type: dict[tuple[torch.dtype, torch.device], list[list[Layer]]] = {}

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> sqrt(w) Phi (a, p), p = N P: F with k(x, y) = F_x F_y^T + offset."""
        return torch.cat([self._features(layers, inputs) for layers in self._like(inputs)], dim=1)

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b), network by network: without gradients there are no more than P features of each.

        With a gradient by one argument the p features of the other are kept: for 5000 images and RFAD's networks 0.7 GB.
        """
        parts = (self._features(layers, one) @ self._features(layers, other).T for layers in self._like(one))
        return functools.reduce(torch.add, parts) + self.offset

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a)."""
        features = (self._features(layers, inputs) for layers in self._like(inputs))
        product = functools.reduce(torch.add, (each @ each.T for each in features))
        return (product + product.T) / 2 + self.offset  # rounding of a product need not be symmetric

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""
        parts = (self._features(layers, inputs).square().sum(1) for layers in self._like(inputs))
        return functools.reduce(torch.add, parts) + self.offset

    def _features(self, layers: list[Layer], inputs: torch.Tensor) -> torch.Tensor:
        """One network's part of `features`, (a, P), a chunk of images at a time.

        Activations are computed again in the backward pass rather than kept: 500 images of 32 x 32 pixels would keep 0.9 GB for
        each network of RFAD's width. What does not need a gradient is passed once.
        """
        run: Callable[[torch.Tensor], torch.Tensor]
        run = functools.partial(activations, layers=layers, convolutions=self.params.convolutions)
        budget = _AT_ONCE_CPU if inputs.device.type == "cpu" else _AT_ONCE
        at_once = max(1, budget // (self.params.width * math.prod(inputs.shape[2:])))
        if torch.is_grad_enabled() and inputs.requires_grad:
            run = functools.partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
        chunks = torch.split(inputs.contiguous(memory_format=_LAYOUT), at_once)
        last = torch.cat([run(chunk).flatten(1) for chunk in chunks])
        return last * math.sqrt(self.params.weight_variance / (len(self.networks) * last.shape[1]))

    def _like(self, inputs: torch.Tensor) -> list[list[Layer]]:
        """The networks with the inputs' dtype, on their device."""
        key = (inputs.dtype, inputs.device)
        if key not in self._as_type:
            self._as_type[key] = [
                [(weights.to(inputs).contiguous(memory_format=_LAYOUT), bias.to(inputs)) for weights, bias in layers]
                for layers in self.networks
            ]
        return self._as_type[key]


def activations(
    images: torch.Tensor, layers: Sequence[Layer], convolutions: Sequence[int], pools: int | None = None,
    slope: float = 0.0,
) -> torch.Tensor:  # fmt: skip
    """Last activations (a, out, height', width') of images (a, channels, height, width) in blocks of so many layers.

    The first `pools` blocks (None: all) end with average pooling of 2 x 2 pixels; an odd last row or column is left out.
    """
    remaining = iter(layers)
    for block, count in enumerate(convolutions):
        for _ in range(count):
            weights, bias = next(remaining)
            images = functional.conv2d(images, weights, bias, padding=1)
            images = functional.leaky_relu(images, slope, inplace=True)
        if pools is None or block < pools:
            images = functional.avg_pool2d(images, 2)
    return images


def build(params: Params, shape: tuple[int, ...], seed: int) -> RandomFeatures:
    """Draw the networks on the CPU from `seed`. Raises UserError for what is no image or is pooled to nothing."""
    if len(shape) != 3:
        raise UserError(f"kernel: random_features: examples are images (channels, height, width), not {list(shape)}.")
    if min(shape[1:]) < 2 ** len(params.convolutions):
        raise UserError(
            f"kernel: random_features: {shape[1]} x {shape[2]} pixels cannot be pooled {len(params.convolutions)} times. "
            "Give fewer convolutions."
        )
    rng = torch.Generator().manual_seed(seed)
    channels = [shape[0]] + [params.width] * (sum(params.convolutions) - 1)

    def normal(*size: int, variance: float) -> torch.Tensor:
        # Drawn in float32, three times as fast: another type would be another draw, no better one.
        return math.sqrt(variance) * torch.randn(*size, generator=rng, dtype=torch.float32)

    networks = [
        [
            (
                normal(params.width, into, 3, 3, variance=params.weight_variance / (9 * into)),
                normal(params.width, variance=params.bias_variance),
            )
            for into in channels
        ]
        for _ in range(params.networks)
    ]
    return RandomFeatures(networks, params)
