"""Feature maps phi: (b, d) -> (b, p). Each knows its inverse if it has one.

One file is one map: `Params` and `build(params, dim, seed) -> FeatureMap`. Random maps are drawn on the CPU from their seed
alone, so that a judge draws the same map on any device.
"""

import functools
from typing import Any, Protocol

import torch

from stillhouse import plugins, settings


class FeatureMap(Protocol):
    """phi. Input and output share dtype and device."""

    dim: int  # p

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""

    def reach(self, features: torch.Tensor) -> float:
        """The number by which `features` must be divided to lie in the map's range; 1 for a map onto all of R^p."""

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64, with phi(inverse(f)) = f for every f in the range."""


# A map of 3072 x 3072 takes longer to draw than to apply to a small set.
@functools.lru_cache(maxsize=2)
def build(params: Any, dim: int, seed: int) -> FeatureMap:
    """The feature map of these settings for inputs of `dim` values."""
    built: FeatureMap = plugins.load("features", settings.kind_of(params)).build(params, dim, seed)
    return built
