"""The Gaussian kernel k(x, y) = exp(-gamma |x - y|^2 / d), d values an input.

Nguyen, Chen, Lee (2021) have an RBF kernel in their tables; which gamma they used is not known to us, so 1 is our choice.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field

from stillhouse.kernels.inner_products import InnerProductKernel


@dataclass(frozen=True)
class Params:
    """Settings of the kernel."""

    gamma: Annotated[float, Field(gt=0, description="of exp(-gamma |x-y|^2 / d); KIP's is not known")] = 1.0


def build(params: Params, shape: tuple[int, ...], seed: int) -> InnerProductKernel:
    """The kernel for inputs of `shape`; `seed` does not matter."""
    return InnerProductKernel(Gaussian(params.gamma), math.prod(shape), centred=True)


@dataclass(frozen=True)
class Gaussian:
    """exp(-gamma (p + q - 2 S))."""

    gamma: float

    def value(self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """(a, b)."""
        # Rounding makes some distances negative.
        distances = torch.add(rows[:, None] + columns, products, alpha=-2).clamp_(min=0)
        return distances.mul_(-self.gamma).exp_()

    def gradient(
        self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All in terms of dL/df f."""
        of_exponent = self.value(products, rows, columns).mul_(of_value)
        by_rows, by_columns = of_exponent.sum(1) * -self.gamma, of_exponent.sum(0) * -self.gamma
        return of_exponent.mul_(2 * self.gamma), by_rows, by_columns

    def diagonal(self, squares: torch.Tensor) -> torch.Tensor:
        """Ones, that depend on the inputs with slope 0."""
        return (squares - squares).exp()
