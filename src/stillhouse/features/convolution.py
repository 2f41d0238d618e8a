"""A random convolutional LeakyReLU network without bias; onto R^p where each convolution, as a matrix, has rank p.

Chen, Huang, Weng (2024), Example 5.3: a convolution is a sparse linear map A (d, p), p = channels x height x width of its
output, so that x = s^-1(phi) A^+ "when the matrix equation has a solution". It has one for all phi if and only if A has rank
p: never for p > d, and not always for p <= d (6 channels that look through 2 x 2 pixels have at most rank 4 at each place).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isqrt, prod
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from stillhouse import linalg
from stillhouse.errors import NumericalError, UserError
from stillhouse.features import leaky_relu, not_onto

Rows = NDArray[np.float64]

# Refinement converges while condition^2 * eps < 1, because a Gram matrix is factorised; and rounding x alone leaves a residual
# of up to condition * eps.
_CONDITION_LIMIT = 1e7
# The matrix equation has a solution where its residual is below this, relatively.
_SOLVED = 1e-10
_REFINEMENTS = 2


@dataclass(frozen=True)
class Params:
    """Settings of the network. Its defaults are the paper's example: a 2 x 2 filter with stride 1."""

    depth: Annotated[int, Field(ge=1, description="convolutions, each followed by a LeakyReLU")] = 1
    channels: Annotated[int, Field(ge=1, description="output channels of every convolution")] = 1
    kernel: Annotated[int, Field(ge=1, description="pixels on a side of a filter")] = 2
    stride: Annotated[int, Field(ge=1, description="pixels between places of the filter")] = 1
    padding: Annotated[
        Literal["valid", "same"], Field(description="none, or zeros so that stride 1 keeps height and width")
    ] = "valid"
    slope: Annotated[float, Field(gt=0, le=1, description="of the LeakyReLU for negative values")] = 0.1
    shape: Annotated[
        tuple[int, ...],
        Field(description="channels, height, width of an input; empty: square images with 1 or 3 channels"),
    ] = ()

    def __post_init__(self) -> None:
        if self.shape and (len(self.shape) != 3 or min(self.shape) < 1):
            raise ValueError(f"shape is channels, height, width, found {list(self.shape)}")


@dataclass(frozen=True)
class Solvability:
    """Whether x A = z has a solution for every z: the extreme singular values of A (d, p), the p-th being 0 for p > d.

    A Gram matrix tells `smallest` from 0 down to some 1e-8 of `largest`, no further.
    """

    inputs: int
    features: int
    smallest: float
    largest: float

    @property
    def holds(self) -> bool:
        """Full column rank: condition number below 1e7."""
        return self.largest < _CONDITION_LIMIT * self.smallest

    def __str__(self) -> str:
        return f"{self.inputs} x {self.features}, singular values {self.smallest:.3g} to {self.largest:.3g}"


class Convolution:
    """x -> x A for images of one shape; A (d, p) is sparse. Filters (out, in, kernel, kernel)."""

    def __init__(self, filters: torch.Tensor, shape: tuple[int, int, int], stride: int, same: bool) -> None:
        self.filters, self.shape, self._stride = filters, shape, stride
        before = (filters.shape[-1] - 1) // 2
        after = filters.shape[-1] - 1 - before
        self._padding = (before, after, before, after) if same else (0, 0, 0, 0)
        height, width = (
            (size + (before + after) * same - filters.shape[-1]) // stride + 1 for size in (shape[1], shape[2])
        )
        self.output = (len(filters), height, width)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""
        padded = torch.nn.functional.pad(inputs.reshape(-1, *self.shape), self._padding)
        return torch.nn.functional.conv2d(padded, self.filters.to(inputs), stride=self._stride).flatten(1)

    @cached_property
    def matrix(self) -> sparse.csc_array:
        """A (d, p): which pixel stands under which weight at which place."""
        dim = prod(self.shape)
        pixels = torch.arange(1, dim + 1, dtype=torch.float64).reshape(1, *self.shape)
        padded = torch.nn.functional.pad(pixels, self._padding)
        # (in * kernel * kernel, places); 0 is padding.
        under = torch.nn.functional.unfold(padded, self.filters.shape[-1], stride=self._stride)[0].long() - 1
        weights = self.filters.flatten(1)  # (out, in * kernel * kernel)
        pixel = under.expand(len(weights), *under.shape)
        feature = torch.arange(prod(self.output)).reshape(len(weights), 1, -1).expand_as(pixel)
        value = weights[:, :, None].expand_as(pixel)
        inside = pixel >= 0
        place = (pixel[inside].numpy(), feature[inside].numpy())
        return sparse.csc_array((value[inside].numpy(), place), shape=(dim, prod(self.output)))

    @cached_property
    def solvability(self) -> Solvability:
        """Measured by power iteration on A^T A and on its inverse."""
        dim, features = self.matrix.shape
        # A convolution is symmetric under reversal, so a start without symmetry: a random one, always the same.
        start = torch.randn(features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        gram, factors = self.matrix.T @ self.matrix, self._gram_factors
        largest = linalg.operator_norm(lambda vector: torch.from_numpy(gram @ vector.numpy()), start)
        if factors is None:
            return Solvability(dim, features, 0.0, largest)
        inverse = linalg.operator_norm(lambda vector: torch.from_numpy(factors.solve(vector.numpy())), start)
        return Solvability(dim, features, 1 / inverse, largest)

    def solve(self, values: Rows) -> Rows:
        """The x (b, d) of least norm with x A = z for z (b, p): z (A^T A)^-1 A^T, refined.

        Raises NumericalError with the numbers where there is none to 1e-10 of z.
        """
        found, residual = np.zeros((len(values), self.matrix.shape[0])), values
        if self._gram_factors is not None:
            for _ in range(1 + _REFINEMENTS):
                found += (self.matrix @ self._gram_factors.solve(residual.T)).T
                residual = values - found @ self.matrix
        if not np.linalg.norm(residual) <= _SOLVED * np.linalg.norm(values):
            left = float(np.linalg.norm(residual) / np.linalg.norm(values))
            raise NumericalError(
                f"a convolution cannot be undone: x A = z holds to {left:.3g} of z, not to {_SOLVED:g}; A is {self.solvability}"
            )
        return found

    @cached_property
    def _gram_factors(self) -> SuperLU | None:
        """Sparse LU of A^T A (p, p); None where that is singular."""
        dim, features = self.matrix.shape
        if features > dim:
            return None
        try:
            return splu(sparse.csc_array(self.matrix.T @ self.matrix))
        except RuntimeError:  # a zero pivot
            return None


class ConvolutionalNetwork:
    """phi(x) = s(... s(x A_1) ... A_L)."""

    def __init__(self, layers: list[Convolution], slope: float) -> None:
        self.layers, self.slope, self.dim = layers, slope, prod(layers[-1].output)

    @property
    def onto(self) -> bool:
        """Whether every layer's matrix equation has a solution for whatever stands on its right."""
        return all(layer.solvability.holds for layer in self.layers)

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(b, d) -> (b, p)."""
        for layer in self.layers:
            inputs = torch.nn.functional.leaky_relu_(layer(inputs), self.slope)
        return inputs

    def reach(self, features: torch.Tensor) -> float:
        """1: every vector is in the range of a network that is onto."""
        return 1.0

    def inverse(self, features: torch.Tensor) -> torch.Tensor:
        """(b, p) -> (b, d), float64, the pre-image of least norm, layer by layer from the last, on the CPU.

        Raises NumericalError with the numbers where a layer's matrix equation has no solution.
        """
        widths = (prod(self.layers[0].shape), *(prod(layer.output) for layer in self.layers))
        if any(one < other for one, other in pairwise(widths)):
            raise not_onto("a convolutional network", widths)
        found = features.cpu()
        for layer in reversed(self.layers):
            found = torch.from_numpy(layer.solve(leaky_relu.undo(found, self.slope).numpy()))
        return found.to(features.device)


def build(params: Params, dim: int, seed: int) -> ConvolutionalNetwork:
    """Draw the filters in float64 from `seed`, with entries of N(0, 1 / fan in). Raises UserError for another shape."""
    rng = torch.Generator().manual_seed(seed)
    shape, layers = _shape(params.shape, dim), []
    for _ in range(params.depth):
        fan_in = shape[0] * params.kernel**2
        size = (params.channels, shape[0], params.kernel, params.kernel)
        filters = torch.randn(*size, generator=rng, dtype=torch.float64) / fan_in**0.5
        layers.append(Convolution(filters, shape, params.stride, params.padding == "same"))
        shape = layers[-1].output
        if min(shape) < 1:
            raise UserError(
                f"features: convolution: nothing is left of {layers[-1].shape} after kernel {params.kernel}. "
                "Choose a smaller kernel, stride or depth, or padding same."
            )
    return ConvolutionalNetwork(layers, params.slope)


def _shape(given: tuple[int, ...], dim: int) -> tuple[int, int, int]:
    """The shape of inputs with `dim` values: as given, or square with 1 or 3 channels (no number is both s^2 and 3 s^2)."""
    guesses = [(channels, isqrt(dim // channels), isqrt(dim // channels)) for channels in (1, 3)]
    for channels, height, width in [given] if given else guesses:
        if channels * height * width == dim:
            return channels, height, width
    what = (
        f"shape {list(given)} has {prod(given)} values" if given else "no square image of 1 or 3 channels has as many"
    )
    raise UserError(f"features: convolution: inputs have {dim} values, {what}. Set shape: [channels, height, width].")
