"""phi(x) = x: ridge regression on the inputs themselves."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Params:
    """It has no settings."""


@dataclass(frozen=True)
class Identity:
    """phi(x) = x, p = d."""

    dim: int

    @property
    def onto(self) -> bool:
        """Always."""
        return True

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same tensor."""
        return inputs

    def reach(self, features: torch.Tensor) -> float:
        """1: every vector is in the range."""
        return 1.0

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """The same tensor."""
        return features


def build(params: Params, dim: int, seed: int) -> Identity:
    """The identity; `seed` does not matter."""
    return Identity(dim)
