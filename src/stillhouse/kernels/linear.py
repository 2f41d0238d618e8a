"""The linear kernel k(x, y) = w <x, y> / d + b: ridge regression on the inputs themselves, or a network without activation."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from stillhouse.kernels.inner_products import InnerProductKernel


@dataclass(frozen=True)
class Params:
    """Settings of the kernel."""

    weight_variance: Annotated[float, Field(gt=0, description="w, over the inner product's mean over d inputs")] = 1.0
    bias_variance: Annotated[float, Field(ge=0, description="b, added to every value")] = 0.0


def build(params: Params, shape: tuple[int, ...], seed: int) -> InnerProductKernel:
    """The kernel for inputs of `shape`; `seed` does not matter."""
    return InnerProductKernel(Affine(params.weight_variance, params.bias_variance), math.prod(shape))


@dataclass(frozen=True)
class Affine:
    """w S + b."""

    weight: float
    bias: float

    def value(self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(a, b)."""
        return torch.mul(products, self.weight).add_(self.bias)

    def gradient(
        self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """By S alone."""
        return of_value * self.weight, torch.zeros_like(rows), torch.zeros_like(columns)

    def diagonal(self, squares: torch.Tensor) -> torch.Tensor:
        """(a,)."""
        return squares * self.weight + self.bias
