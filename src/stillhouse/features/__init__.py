"""Feature maps phi: (b, d) -> (b, p). Each knows its inverse if it has one.

One file is one map: `Params` and `build(params, dim, seed) -> FeatureMap`. Random maps are drawn on the CPU from their seed
alone, so that a judge draws the same map on any device.
"""

import functools
from typing import Any, Protocol

import torch

from stillhouse import plugins, settings
from stillhouse.errors import UserError


class FeatureMap(Protocol):
    """phi. Input and output share dtype and device."""

    @property
    def dim(self) -> int:
        """p."""

    @property
    def onto(self) -> bool:
        """Whether all of R^p, divided by its reach, has pre-images: what Theorem 5.1 of Chen, Huang, Weng (2024) asks for."""

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""

    def reach(self, features: torch.Tensor) -> float:
        """The number by which `features` must be divided to lie in the map's range; 1 for a map onto all of R^p."""

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64, with phi(inverse(f)) = f. Raises UserError for a map that is not onto."""


# A map of 3072 x 3072 takes longer to draw than to apply to a small set.
@functools.lru_cache(maxsize=2)
def build(params: Any, dim: int, seed: int) -> FeatureMap:
    """The feature map of these settings for inputs of `dim` values."""
    built: FeatureMap = plugins.load("features", settings.kind_of(params)).build(params, dim, seed)
    return built


def not_onto(name: str, widths: tuple[int, ...]) -> UserError:
    """What to say of a map without an inverse: it passes through `widths` = (d, ..., p), and one is above the one before."""
    dim, features = widths[0], widths[-1]
    what = f"p = {features} > d = {dim}" if features > dim else f"its widths {list(widths)} rise"
    return UserError(f"features: {name} is not onto R^p: {what}. Make it narrower or use the method krr_labels.")
