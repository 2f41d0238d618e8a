"""The linear kernel k(x, y) = w <x, y> / d + b: ridge regression on the inputs, or an infinitely wide linear layer."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from stillhouse import linalg


@dataclass(frozen=True)
class Params:
    """Settings of the kernel."""

    weight_variance: Annotated[float, Field(gt=0, description="w, of the inner product's mean over the d inputs")] = 1.0
    bias_variance: Annotated[float, Field(ge=0, description="b, added to every value")] = 0.0


@dataclass(frozen=True)
class Linear:
    """k(x, y) = w <x, y> / d + b."""

    params: Params

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b)."""
        return self._of(one.flatten(1) @ other.flatten(1).T, one)

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a)."""
        product = inputs.flatten(1) @ inputs.flatten(1).T
        return self._of(product.triu() + product.triu(1).T, inputs)

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""
        return self._of(inputs.flatten(1).square().sum(1), inputs)

    def _of(self, products: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = products * (self.params.weight_variance / inputs[0].numel()) + self.params.bias_variance
        return scaled


def build(params: Params, shape: tuple[int, ...], seed: int) -> Linear:
    """The kernel; neither shape nor `seed` matters."""
    return Linear(params)
