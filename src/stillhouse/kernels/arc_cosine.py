"""What a LeakyReLU makes of Gaussians: the arc-cosine kernels of degree 1 and 0, with derivatives that stay finite.

(u, v) is Gaussian with mean 0, variances p and q and covariance k; phi(u) = max(u, 0) + a min(u, 0), slope a; r = sqrt(p q),
c = k / r, t = arccos c. With A = (1 + a^2) / 2 and B = (1 - a)^2 / (2 pi)

    E[phi'(u) phi'(v)] = A - B t                                     (degree 0)
    E[phi(u) phi(v)]   = B r sqrt(1 - c^2) + k (A - B t)             (degree 1)
    E[phi(u)^2]        = A p

Cho and Saul (2009), "Kernel Methods for Deep Learning", for a = 0. The derivatives of degree 1,

    d/dk = A - B t,    d/dp = B r sqrt(1 - c^2) / (2 p),

are finite everywhere. Degree 0 has d/dc = B / sqrt(1 - c^2): where u and v are parallel it has the tip of a cone, |t|, and the
derivative there is taken to be 0, the middle of the cone's directions and what a central difference gives. For the same reason
c = 0 stands in where p or q is 0.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch.autograd.function import once_differentiable


class Expectations(NamedTuple):
    """E[phi(u) phi(v)], and E[phi'(u) phi'(v)]."""

    product: torch.Tensor
    derivative: torch.Tensor


class Gradient(NamedTuple):
    """What `LeakyReLU.gradient` gives: dL/dk; 2 p dL/dp, entry by entry, which is 2 q dL/dq too; E[phi'(u) phi'(v)]."""

    covariance: torch.Tensor
    logarithm: torch.Tensor
    derivative: torch.Tensor


@dataclass(frozen=True)
class LeakyReLU:
    """phi, by its slope for negative values."""

    slope: float

    @property
    def half(self) -> float:
        """A: E[phi(u)^2] / p."""
        return (1 + self.slope**2) / 2

    @property
    def bend(self) -> float:
        """B: how far phi is from linear."""
        return (1 - self.slope) ** 2 / (2 * math.pi)

    def value(self, covariance: torch.Tensor, norm: torch.Tensor) -> Expectations:
        """For k, and r > 0 (see `deviation`), both of one shape. Not for autograd: `expectations` is."""
        cosine, derivative = self._turn(covariance, norm)
        product = _squared_sine(cosine).sqrt_().mul_(norm).mul_(self.bend).addcmul_(derivative, covariance)
        return Expectations(product, derivative)

    def gradient(
        self, covariance: torch.Tensor, norm: torch.Tensor, of_product: torch.Tensor, of_derivative: torch.Tensor | None
    ) -> Gradient:
        """From dL/dE[phi phi], and dL/dE[phi' phi'] or none where it is 0."""
        cosine, derivative = self._turn(covariance, norm)
        squared = _squared_sine(cosine)
        sine = squared.sqrt()
        logarithm = torch.mul(sine, norm).mul_(of_product)
        by_covariance = of_product * derivative
        if of_derivative is not None:
            # 1 / sine, and 0 where that is 0.
            by_cosine = sine.div_(squared.clamp_(min=torch.finfo(squared.dtype).tiny)).mul_(of_derivative)
            logarithm.addcmul_(by_cosine, cosine, value=-1)
            by_covariance.addcdiv_(by_cosine, norm, value=self.bend)
        logarithm.mul_(self.bend)
        return Gradient(by_covariance, logarithm, derivative)

    def _turn(self, covariance: torch.Tensor, norm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """c and A - B t."""
        cosine = torch.div(covariance, norm).clamp_(-1, 1)
        return cosine, cosine.arccos().mul_(-self.bend).add_(self.half)


def deviation(variance: torch.Tensor) -> torch.Tensor:
    """sqrt(p), and instead of 0 a number so small that it does no harm and c = k / r is 0 for k = 0."""
    return variance.sqrt().clamp(min=math.sqrt(torch.finfo(variance.dtype).tiny))


def inverse(values: torch.Tensor) -> torch.Tensor:
    """1 / values for values >= 0, and 0 for 0."""
    return values.reciprocal().masked_fill_(values == 0, 0)


def expectations(
    covariance: torch.Tensor, one: torch.Tensor, other: torch.Tensor, slope: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for covariances k and variances p and q that broadcast to k's shape.

    Differentiable once in all three, also where u and v are parallel, opposite or 0 (see the module).
    """
    found = _Expectations.apply(covariance, one, other, LeakyReLU(slope))  # type: ignore[no-untyped-call]
    return cast("tuple[torch.Tensor, torch.Tensor]", found)


class _Expectations(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, covariance: torch.Tensor, one: torch.Tensor, other: torch.Tensor, activation: LeakyReLU
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(covariance, one, other)
        ctx.activation = activation
        return activation.value(covariance, deviation(one) * deviation(other))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_product: torch.Tensor, of_derivative: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        covariance, one, other = ctx.saved_tensors
        found = ctx.activation.gradient(covariance, deviation(one) * deviation(other), of_product, of_derivative)
        return (
            found.covariance,
            (found.logarithm * inverse(2 * one)).sum_to_size(one.shape) if ctx.needs_input_grad[1] else None,
            (found.logarithm * inverse(2 * other)).sum_to_size(other.shape) if ctx.needs_input_grad[2] else None,
            None,
        )


def _squared_sine(cosine: torch.Tensor) -> torch.Tensor:
    """1 - c^2, as a product whose factors lose nothing near c = 1."""
    return (1 - cosine).mul_(cosine + 1)
