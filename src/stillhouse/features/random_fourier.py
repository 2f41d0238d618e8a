"""Random Fourier features of the Gaussian kernel: phi(x) = sqrt(2/p) cos(x A + b).

Rahimi and Recht (2007); inverted for p <= d in Chen, Huang, Weng (2024), Example 5.4, once the features are scaled into
[-1, 1]: x = (arccos(sqrt(p/2) phi) - b) A^+. For p > d there is no inverse. Their text draws the phases b from [0, 2 pi],
as here; their code draws them from [0, pi].
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg
from stillhouse.features import not_onto


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
    count: Annotated[
        int | None, Field(gt=0, description="features, p; none: as many as an input has values, d, as Chen et al. have")
    ] = None


class RandomFourier:
    """phi(x) = sqrt(2/p) cos(x A + b); A (d, p), b (p,)."""

    def __init__(self, frequencies: torch.Tensor, phases: torch.Tensor) -> None:
        self.frequencies, self.phases, self.dim = frequencies, phases, len(phases)
        self._as_type: dict[tuple[torch.dtype, torch.device], tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def onto(self) -> bool:
        """Whether p <= d: A, Gaussian, then has rank p."""
        return self.dim <= len(self.frequencies)

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
        """(b, p) -> (b, d), float64: (arccos(sqrt(p/2) phi) - b) A^+."""
        if not self.onto:
            raise not_onto("random Fourier features", tuple(self.frequencies.shape))
        angles = torch.arccos((features * math.sqrt(self.dim / 2)).clamp(-1, 1)) - self.phases.to(features)
        return self._system.solve(angles)

    @cached_property
    def _system(self) -> linalg.RowSystem:
        return linalg.RowSystem(self.frequencies)


def build(params: Params, dim: int, seed: int) -> RandomFourier:
    """Draw frequencies and phases in float64 from `seed`."""
    rng = torch.Generator().manual_seed(seed)
    count = params.count or dim
    frequencies = torch.randn(dim, count, generator=rng, dtype=torch.float64) / math.sqrt(params.variance)
    phases = torch.rand(count, generator=rng, dtype=torch.float64) * (2 * math.pi)
    return RandomFourier(frequencies, phases)
