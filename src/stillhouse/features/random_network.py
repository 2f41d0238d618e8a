"""A random fully connected LeakyReLU network of constant width p = d, without bias: onto R^p, and invertible.

Chen, Huang, Weng (2024), Example 5.2: x = (W^(1))^-1 s^-1(... (W^(L))^-1 s^-1(phi)), s the LeakyReLU.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg


@dataclass(frozen=True)
class Params:
    """Settings of the network."""

    depth: Annotated[int, Field(ge=1, description="hidden layers, L")] = 1
    slope: Annotated[float, Field(gt=0, le=1, description="of the LeakyReLU for negative values")] = 0.1


class RandomNetwork:
    """phi(x) = s(... s(x A_1) ... A_L), A_l (d, d) with entries of N(0, 1/d)."""

    def __init__(self, layers: list[torch.Tensor], slope: float) -> None:
        self.layers, self.slope, self.dim = layers, slope, layers[-1].shape[1]
        self._as_type: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""
        key = (inputs.dtype, inputs.device)
        if key not in self._as_type:
            self._as_type[key] = [layer.to(inputs) for layer in self.layers]
        for layer in self._as_type[key]:
            inputs = torch.nn.functional.leaky_relu_(inputs @ layer, self.slope)
        return inputs

    def reach(self, features: torch.Tensor) -> float:
        """1: every vector is in the range."""
        return 1.0

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64, layer by layer from the last."""
        for system in reversed(self._systems):
            features = system.solve(torch.where(features < 0, features / self.slope, features))
        return features

    @cached_property
    def _systems(self) -> list[linalg.SquareSystem]:
        return [linalg.SquareSystem(layer) for layer in self.layers]


def build(params: Params, dim: int, seed: int) -> RandomNetwork:
    """Draw the weights in float64 from `seed`."""
    rng = torch.Generator().manual_seed(seed)
    layers = [torch.randn(dim, dim, generator=rng, dtype=torch.float64) / dim**0.5 for _ in range(params.depth)]
    return RandomNetwork(layers, params.slope)
