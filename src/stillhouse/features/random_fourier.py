"""Random Fourier features of the Gaussian kernel: phi(x) = sqrt(2/p) cos(x A + b), with p = d.

Rahimi and Recht (2007); inverted in Chen, Huang, Weng (2024), Example 5.4, once the features are scaled into [-1, 1].
Their text draws the phases b from [0, 2 pi], as here; their code draws them from [0, pi].
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg


@dataclass(frozen=True)
class Params:
    """Settings of the features."""

    variance: Annotated[
        float,
        Field(
            gt=0,
            description="sigma^2 of the kernel exp(-|x-y|^2 / (2 sigma^2)); frequencies are N(0, 1/sigma^2); Chen et al.: 1000",
        ),
    ] = 1000.0


class RandomFourier:
    """phi(x) = sqrt(2/p) cos(x A + b); A (d, p), b (p,), p = d."""

    def __init__(self, frequencies: torch.Tensor, phases: torch.Tensor) -> None:
        self.frequencies, self.phases, self.dim = frequencies, phases, len(phases)
        self._as_type: dict[tuple[torch.dtype, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""
        key = (inputs.dtype, inputs.device)
        if key not in self._as_type:
            self._as_type[key] = (self.frequencies.to(inputs), self.phases.to(inputs))
        frequencies, phases = self._as_type[key]
        angles = torch.addmm(phases, inputs, frequencies)
        features: torch.Tensor = angles.cos_().mul_(math.sqrt(2 / self.dim))
        return features

    def reach(self, features: torch.Tensor) -> float:
        """The largest absolute feature over sqrt(2/p): what is left lies in the cosine's range."""
        return float(features.abs().max()) / math.sqrt(2 / self.dim)

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64: (arccos(sqrt(p/2) phi) - b) A^-1."""
        angles = torch.arccos((features * math.sqrt(self.dim / 2)).clamp(-1, 1)) - self.phases.to(features)
        return self._system.solve(angles)

    @cached_property
    def _system(self) -> linalg.SquareSystem:
        return linalg.SquareSystem(self.frequencies)


def build(params: Params, dim: int, seed: int) -> RandomFourier:
    """Draw frequencies and phases in float64 from `seed`."""
    rng = torch.Generator().manual_seed(seed)
    frequencies = torch.randn(dim, dim, generator=rng, dtype=torch.float64) / math.sqrt(params.variance)
    phases = torch.rand(dim, generator=rng, dtype=torch.float64) * (2 * math.pi)
    return RandomFourier(frequencies, phases)
