"""Kernels that see two examples through S = <x, y> / d, p = |x|^2 / d and q = |y|^2 / d alone: k(x, y) = f(S, p, q).

One matrix product gives S; f works entry by entry on tiles of rows that stay in the processor's cache, forward and backward.
Between the two only S is kept. Backward costs one more product for each argument that needs a gradient, and none for the other:

    d/dx_i = 1/d (sum_j f_S(i, j) y_j + 2 x_i sum_j f_p(i, j)),   and likewise for y_j
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch.autograd.function import once_differentiable

from stillhouse import linalg

# Entries a tile has: few enough that the tiles an entry-wise rule holds at a time fit into a core's cache, many enough that
# calling it costs nothing. A GPU has no such cache, and calls cost more.
_TILE_ON_CPU = 2**18
_TILE_ELSEWHERE = 2**24


class Rule(Protocol):
    """f(S, p, q), with S (a, b), p (a,), q (b,)."""

    def value(self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """f, (a, b), as a new tensor."""

    def gradient(
        self, products: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, of_value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """From dL/df (a, b): dL/dS (a, b), as a new tensor; dL/dp (a,) and dL/dq (b,)."""

    def diagonal(self, squares: torch.Tensor) -> torch.Tensor:
        """f(p, p, p), (a,); differentiable by autograd."""


@dataclass(frozen=True)
class InnerProductKernel:
    """k by its rule, for inputs of `dim` values; differentiable once.

    `centred`: f sees differences only, and inputs are moved so that the second ones have mean 0: p + q - 2 S then loses nothing
    to what they have in common.
    """

    rule: Rule
    dim: int
    centred: bool = False

    @property
    def bytes_per_pair(self) -> int:
        """In float64: S, k, and both gradients."""
        return 4 * 8

    @property
    def bytes_per_example(self) -> int:
        """In float64: its gradient, and where it is moved to."""
        return (2 if self.centred else 1) * self.dim * 8

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b)."""
        one, other = self._moved(one.flatten(1), other.flatten(1)), self._moved(other.flatten(1), other.flatten(1))
        return cast(torch.Tensor, _Cross.apply(one, other, self.rule))  # type: ignore[no-untyped-call]

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a)."""
        moved = self._moved(inputs.flatten(1), inputs.flatten(1))
        off_diagonal = cast(torch.Tensor, _OffDiagonal.apply(moved, self.rule))  # type: ignore[no-untyped-call]
        return off_diagonal.diagonal_scatter(self.diagonal(inputs))

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""
        return self.rule.diagonal(_mean_squares(inputs.flatten(1)))

    def _moved(self, these: torch.Tensor, those: torch.Tensor) -> torch.Tensor:
        return these - those.detach().mean(0) if self.centred else these


def _mean_squares(inputs: torch.Tensor) -> torch.Tensor:
    # As the square of a norm, which needs no second (n, d) tensor.
    norms: torch.Tensor = torch.linalg.vector_norm(inputs, dim=1)
    return norms.square() / inputs.shape[1]


def _tiles(matrix: torch.Tensor) -> Iterator[slice]:
    entries = _TILE_ON_CPU if matrix.device.type == "cpu" else _TILE_ELSEWHERE
    height = max(1, entries // max(1, matrix.shape[1]))
    yield from (slice(start, start + height) for start in range(0, len(matrix), height))


class _Cross(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, one: torch.Tensor, other: torch.Tensor, rule: Rule) -> torch.Tensor:
        products = torch.addmm(one.new_zeros(()), one, other.T, beta=0, alpha=1 / one.shape[1])
        rows, columns = _mean_squares(one), _mean_squares(other)
        ctx.rule = rule
        ctx.save_for_backward(one, other, products, rows, columns)
        values = torch.empty_like(products) if any(ctx.needs_input_grad) else products
        for tile in _tiles(products):
            values[tile] = rule.value(products[tile], rows[tile], columns)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        one, other, products, rows, columns = ctx.saved_tensors
        of_products, of_rows, of_columns = (torch.empty_like(each) for each in (products, rows, columns))
        of_columns.zero_()
        for tile in _tiles(products):
            found = ctx.rule.gradient(products[tile], rows[tile], columns, of_values[tile])
            of_products[tile], of_rows[tile] = found[:2]
            of_columns += found[2]
        return (
            _to_inputs(of_products, of_rows, one, other) if ctx.needs_input_grad[0] else None,
            _to_inputs(of_products.T, of_columns, other, one) if ctx.needs_input_grad[1] else None,
            None,
        )


class _OffDiagonal(torch.autograd.Function):
    """The Gram matrix with whatever on its diagonal: above it computed, below it copied."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, rule: Rule) -> torch.Tensor:
        products = inputs.new_zeros(len(inputs), len(inputs))
        linalg.add_gram(products, inputs.T)
        products.div_(inputs.shape[1])
        squares = _mean_squares(inputs)
        ctx.rule = rule
        ctx.save_for_backward(inputs, products, squares)
        upper = torch.zeros_like(products)
        for tile in _tiles(products):
            onwards = slice(tile.start, None)
            upper[tile, onwards] = rule.value(products[tile, onwards], squares[tile], squares[onwards])
        upper.triu_(1)
        return upper + upper.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: torch.Tensor) -> tuple[torch.Tensor, None]:
        inputs, products, squares = ctx.saved_tensors
        of_products, of_squares = torch.zeros_like(products), torch.zeros_like(squares)
        for tile in _tiles(products):
            onwards = slice(tile.start, None)
            of_pair = (of_values[tile, onwards] + of_values[onwards, tile].T).triu_(1)
            found = ctx.rule.gradient(products[tile, onwards], squares[tile], squares[onwards], of_pair)
            of_products[tile, onwards] = found[0]
            of_squares[tile] += found[1]
            of_squares[onwards] += found[2]
        return _to_inputs(of_products + of_products.T, of_squares, inputs, inputs), None


def _to_inputs(
    of_products: torch.Tensor, of_squares: torch.Tensor, these: torch.Tensor, those: torch.Tensor
) -> torch.Tensor:
    """dL/dx (a, d) from dL/dS (a, b) and dL/dp (a,), for x in `these` and y in `those`."""
    scale = 1 / these.shape[1]
    return torch.addmm(these * (2 * of_squares[:, None]), of_products, those, beta=scale, alpha=scale)
