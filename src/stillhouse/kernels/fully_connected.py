"""Infinitely wide fully connected networks with LeakyReLU: the NTK (trained by gradient descent) or the NNGP (last layer only).

[Dense, activation] x depth, Dense, in the NTK parameterisation, every Dense with weight variance w and bias variance b:

    K_1 = w <x, y> / d + b,   T_1 = K_1
    K_l+1 = w E[phi(u) phi(v)] + b,   T_l+1 = K_l+1 + w T_l E[phi'(u) phi'(v)],   (u, v) of covariance K_l   (arc_cosine)

NNGP is K, NTK is T, of layer depth + 1. Lee et al. (2018), Jacot et al. (2018).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Literal

import torch
from pydantic import Field

from stillhouse.kernels import arc_cosine
from stillhouse.kernels.arc_cosine import LeakyReLU
from stillhouse.kernels.inner_products import InnerProductKernel


@dataclass(frozen=True)
class Params:
    """Settings of the network. Nguyen, Chen, Lee (2021) have bias variance 1e-4 in the paper and 0.01 in their notebook."""

    depth: Annotated[int, Field(ge=1, description="hidden layers")] = 1
    regime: Annotated[Literal["ntk", "nngp"], Field(description="all layers learn, or only the last")] = "ntk"
    slope: Annotated[float, Field(ge=0, lt=1, description="of the LeakyReLU for negative values; 0 is the ReLU")] = 0.0
    weight_variance: Annotated[float, Field(gt=0, description="w of every layer; 2 keeps a ReLU's scale")] = 2.0
    bias_variance: Annotated[
        float, Field(ge=0, description="b of every layer; KIP's notebook 0.01, its paper 1e-4")
    ] = 0.01


def build(params: Params, shape: tuple[int, ...], seed: int) -> InnerProductKernel:
    """The kernel for inputs of `shape`; `seed` does not matter."""
    return InnerProductKernel(Recursion(params), math.prod(shape))


class Recursion:
    """The recursion of the module, for S = <x, y> / d, p = |x|^2 / d, q = |y|^2 / d."""

    def __init__(self, params: Params) -> None:
        self.depth, self.tangent = params.depth, params.regime == "ntk"
        self.weight, self.bias = params.weight_variance, params.bias_variance
        self.activation = LeakyReLU(params.slope)

    def value(self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """K or T of layer depth + 1, (a, b)."""
        *_, (kernel, tangent) = self._layers(products, self._norms(rows, columns))
        return tangent if self.tangent else kernel

    def gradient(
        self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Backwards through the layers, whose K and T are computed again."""
        norms = list(self._norms(rows, columns))
        layers = list(islice(self._layers(products, iter(norms)), self.depth))  # (K_l, T_l), l = 1 .. depth
        halves = [[arc_cosine.inverse(2 * p) for p in self._variances(squares)] for squares in (rows, columns)]
        of_rows, of_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        of_kernel = of_tangent = of_value  # T_l+1 contains K_l+1
        scale = 1.0  # a power of w that the tiles below lack
        for layer in reversed(range(self.depth)):
            kernel, tangent = layers[layer]
            of_derivative = of_tangent * tangent if self.tangent else None
            found = self.activation.gradient(kernel, norms[layer], of_kernel, of_derivative)
            scale *= self.weight
            of_rows = self._step_back(of_rows) + found.logarithm.sum(1) * (scale * halves[0][layer])
            of_columns = self._step_back(of_columns) + found.logarithm.sum(0) * (scale * halves[1][layer])
            of_kernel = found.covariance
            if self.tangent:
                of_tangent = found.derivative.mul_(of_tangent)
                of_kernel += of_tangent
        return of_kernel.mul_(scale * self.weight), of_rows * self.weight, of_columns * self.weight

    def diagonal(self, squares: torch.Tensor) -> torch.Tensor:
        """By scalar recursion: the angle is 0 in every layer."""
        kernel = tangent = self.weight * squares + self.bias
        for _ in range(self.depth):
            kernel = self._step(kernel)
            tangent = kernel + self.weight * self.activation.half * tangent
        return tangent if self.tangent else kernel

    def _layers(
        self, products: torch.Tensor, norms: Iterator[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """(K_l, T_l) for l = 1 .. depth + 1; T only where it is wanted."""
        kernel = tangent = torch.mul(products, self.weight).add_(self.bias)
        yield kernel, tangent
        for norm in norms:
            expected = self.activation.value(kernel, norm)
            kernel = expected.product.mul_(self.weight).add_(self.bias)
            if self.tangent:
                tangent = expected.derivative.mul_(tangent).mul_(self.weight).add_(kernel)
            yield kernel, tangent

    def _norms(self, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[torch.Tensor]:
        """r of layers 1 .. depth, (a, b)."""
        for one, other in zip(self._variances(rows), self._variances(columns), strict=True):
            yield arc_cosine.deviation(one)[:, None] * arc_cosine.deviation(other)

    def _variances(self, squares: torch.Tensor) -> Iterator[torch.Tensor]:
        """K_l(x, x) of layers 1 .. depth, (a,)."""
        variance = self.weight * squares + self.bias
        for _ in range(self.depth):
            yield variance
            variance = self._step(variance)

    def _step(self, variance: torch.Tensor) -> torch.Tensor:
        return self.weight * self.activation.half * variance + self.bias

    def _step_back(self, of_variance: torch.Tensor) -> torch.Tensor:
        return self.weight * self.activation.half * of_variance
