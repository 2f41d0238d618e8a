"""A random fully connected LeakyReLU network without bias; onto R^p where no layer is wider than the one before.

Chen, Huang, Weng (2024), Example 5.2: for d >= d_1 >= ... >= d_L = p and weights of full rank,
x = (W^(1))^+ s^-1(... (W^(L))^+ s^-1(phi)), s the LeakyReLU. A network that widens is a feature map without an inverse.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg
from stillhouse.features import leaky_relu, not_onto


@dataclass(frozen=True)
class Params:
    """Settings of the network."""

    depth: Annotated[int, Field(ge=1, description="hidden layers, L, all of width d unless `widths` is given")] = 1
    slope: Annotated[float, Field(gt=0, le=1, description="of the LeakyReLU for negative values")] = 0.1
    widths: Annotated[
        tuple[int, ...],
        Field(
            description="of the hidden layers in order, d_1 to d_L = p; empty: `depth` layers of the inputs' width d"
        ),
    ] = ()

    def __post_init__(self) -> None:
        if any(width < 1 for width in self.widths):
            raise ValueError(f"widths are at least 1, found {list(self.widths)}")
        if self.widths and self.depth not in (1, len(self.widths)):
            raise ValueError(f"{len(self.widths)} widths make no network of depth {self.depth}; leave depth out")


class RandomNetwork:
    """phi(x) = s(... s(x A_1) ... A_L), A_l (d_l-1, d_l) with entries of N(0, 1/d_l-1)."""

    def __init__(self, layers: list[torch.Tensor], slope: float) -> None:
        self.layers, self.slope, self.dim = layers, slope, layers[-1].shape[1]
        self._widths = (len(layers[0]), *(layer.shape[1] for layer in layers))
        self._as_type: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}

    @property
    def onto(self) -> bool:
        """Whether d >= d_1 >= ... >= d_L: Gaussian weights then have full rank, and each layer is onto."""
        return all(one >= other for one, other in pairwise(self._widths))

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""
        key = (inputs.dtype, inputs.device)
        if key not in self._as_type:
            self._as_type[key] = [layer.to(inputs) for layer in self.layers]
        for layer in self._as_type[key]:
            inputs = torch.nn.functional.leaky_relu_(inputs @ layer, self.slope)
        return inputs

    def reach(self, features: torch.Tensor) -> float:
        """1: every vector is in the range of a network that is onto."""
        return 1.0

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64: the pre-image of least norm, layer by layer from the last."""
        if not self.onto:
            raise not_onto("a random network", self._widths)
        for system in reversed(self._systems):
            features = system.solve(leaky_relu.undo(features, self.slope))
        return features

    @cached_property
    def _systems(self) -> list[linalg.RowSystem]:
        return [linalg.RowSystem(layer) for layer in self.layers]


def build(params: Params, dim: int, seed: int) -> RandomNetwork:
    """Draw the weights in float64 from `seed`."""
    rng = torch.Generator().manual_seed(seed)
    widths = (dim, *(params.widths or (dim,) * params.depth))
    layers = [
        torch.randn(fan_in, fan_out, generator=rng, dtype=torch.float64) / fan_in**0.5
        for fan_in, fan_out in pairwise(widths)
    ]
    return RandomNetwork(layers, params.slope)
