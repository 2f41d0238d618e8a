"""Kernel matrices of any size in bounded memory: in tiles, each computed again for the gradient; or row by row into a file.

A tile of r x s pairs costs r s `bytes_per_pair` + (r + s) `bytes_per_example`, in float64, while it is computed and
differentiated; a kernel that has not these attributes is taken to hold a few matrices and a few copies of its inputs. A kernel
that finds gradients better by itself has `pull_back(one, other, gradient)`, which gives those by both of its inputs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from stillhouse.errors import NumericalError
from stillhouse.kernels import Kernel

LIMIT = 2**28  # bytes of one tile
_MATRICES = 8  # that a kernel which says nothing holds for a tile, with what autograd keeps
_COPIES = 4  # of its inputs


class Rows(Protocol):
    """Examples that can be cut into slices: a tensor (n, *shape), or something that makes each slice when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> torch.Tensor: ...


def cross(kernel: Kernel, one: torch.Tensor, other: torch.Tensor, limit: int = LIMIT) -> torch.Tensor:
    """k(one_i, other_j), (a, b), in tiles of at most `limit` bytes; differentiable in both, with first derivatives only."""
    height, width = _tile(kernel, one, len(one), len(other), limit)
    if height >= len(one) and width >= len(other) and not hasattr(kernel, "pull_back"):
        return kernel(one, other)
    found: torch.Tensor = _Cross.apply(kernel, height, width, one, other)  # type: ignore[no-untyped-call]
    return found


def gram(kernel: Kernel, inputs: torch.Tensor, limit: int = LIMIT) -> torch.Tensor:
    """k(x_i, x_j), (a, a), exactly symmetric, in tiles of at most `limit` bytes of which the upper ones are computed."""
    size = min(_tile(kernel, inputs, len(inputs), len(inputs), limit))
    if size >= len(inputs) and not hasattr(kernel, "pull_back"):
        return kernel.gram(inputs)
    found: torch.Tensor = _Gram.apply(kernel, size, inputs)  # type: ignore[no-untyped-call]
    return found


def _tile(kernel: Kernel, inputs: torch.Tensor, height: int, width: int, limit: int) -> tuple[int, int]:
    """Rows and columns of a tile: the longer side is halved until it fits."""
    pair = getattr(kernel, "bytes_per_pair", _MATRICES * 8)
    example = getattr(kernel, "bytes_per_example", _COPIES * 8 * inputs[:1].numel())
    share = inputs.element_size() / 8
    while height * width > 1 and share * (height * width * pair + (height + width) * example) > limit:
        if height >= width:
            height = -(-height // 2)
        else:
            width = -(-width // 2)
    return max(height, 1), max(width, 1)


def slices(total: int, size: int, start: int = 0) -> Iterator[slice]:
    """Slices of `size` that cover start to total."""
    for first in range(start, total, size):
        yield slice(first, min(first + size, total))


class _Cross(torch.autograd.Function):
    """A block tile by tile. Nothing is kept for the gradient but the inputs."""

    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, height: int, width: int, one: torch.Tensor, other: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(one, other)
        ctx.kernel, ctx.height, ctx.width = kernel, height, width
        found = one.new_empty(len(one), len(other))
        for rows in slices(len(one), height):
            for columns in slices(len(other), width):
                found[rows, columns] = kernel(one[rows], other[columns])
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        one, other = ctx.saved_tensors
        sums = [
            torch.zeros_like(part) if need else None
            for part, need in zip((one, other), ctx.needs_input_grad[3:], strict=True)
        ]
        for rows in slices(len(one), ctx.height):
            for columns in slices(len(other), ctx.width):
                parts = (
                    one[rows].detach().requires_grad_(sums[0] is not None),
                    other[columns].detach().requires_grad_(sums[1] is not None),
                )
                found = _pull_back(ctx.kernel, *parts, gradient[rows, columns])
                for total, place, part in zip(sums, (rows, columns), found, strict=True):
                    if total is not None and part is not None:
                        total[place] += part
        return (None, None, None, *sums)


class _Gram(torch.autograd.Function):
    """A symmetric block from its upper tiles."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, size: int, inputs: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(inputs)
        ctx.kernel, ctx.size = kernel, size
        found = inputs.new_empty(len(inputs), len(inputs))
        for rows in slices(len(inputs), size):
            found[rows, rows] = kernel.gram(inputs[rows])
            for columns in slices(len(inputs), size, rows.stop):
                found[rows, columns] = kernel(inputs[rows], inputs[columns])
                found[columns, rows] = found[rows, columns].T
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (inputs,) = ctx.saved_tensors
        total = torch.zeros_like(inputs)
        for rows in slices(len(inputs), ctx.size):
            total[rows] += _pull_back_gram(ctx.kernel, inputs[rows].detach().requires_grad_(), gradient[rows, rows])
            for columns in slices(len(inputs), ctx.size, rows.stop):
                parts = (inputs[rows].detach().requires_grad_(), inputs[columns].detach().requires_grad_())
                both = gradient[rows, columns] + gradient[columns, rows].T
                for place, part in zip((rows, columns), _pull_back(ctx.kernel, *parts, both), strict=True):
                    if part is not None:
                        total[place] += part
        return None, None, total


def _pull_back(
    kernel: Kernel, one: torch.Tensor, other: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    """Gradients by those of the two inputs that ask for one, None for the others."""
    if hasattr(kernel, "pull_back"):
        given: tuple[torch.Tensor | None, ...] = kernel.pull_back(one, other, gradient)
        return given
    with torch.enable_grad():
        value = kernel(one, other)
    asked = [part for part in (one, other) if part.requires_grad]
    found = iter(torch.autograd.grad(value, asked, gradient, allow_unused=True))
    return tuple(next(found) if part.requires_grad else None for part in (one, other))


def _pull_back_gram(kernel: Kernel, inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    if hasattr(kernel, "pull_back"):
        # Each pair once: what the lower triangle asks for is asked of the upper one.
        upper = (gradient + gradient.T).triu(1) + gradient.diagonal().diag()
        one, other = kernel.pull_back(inputs, inputs, upper)
        return torch.as_tensor(one + other)
    with torch.enable_grad():
        value = kernel.gram(inputs)
    return torch.autograd.grad(value, inputs, gradient)[0]


@dataclass(frozen=True)
class _Record:
    """What is in a block's file: which block it is, and how many of its rows are there."""

    digest: str
    done: int


def stored_block(
    path: Path,
    kernel: Kernel,
    identity: Mapping[str, Any],
    one: Rows,
    other: torch.Tensor,
    rows: int = 256,
    limit: int = LIMIT,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """k(one_i, other_j), (n, m), in a memory-mapped file at `path`, computed `rows` examples at a time.

    A killed job goes on after the last rows that it recorded and ends with the same bytes. `identity` is what makes the kernel
    this one (settings, seed); with the inputs it decides whether the file holds the beginning of this block or is thrown away.
    `progress` is told the rows done and their total. Raises NumericalError where a value is not finite.
    """
    total, columns, dtype = len(one), len(other), other.dtype
    digest = _digest({**identity, "rows": rows, "limit": limit}, one, other, rows)
    row_bytes = columns * other.element_size()
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _done(path, digest, total * row_bytes)
    if done == 0:
        record_path(path).unlink(missing_ok=True)
    with path.open("r+b" if done else "wb") as file:
        file.truncate(total * row_bytes)
        for part in slices(total, rows, done):
            with torch.no_grad():
                block = cross(kernel, one[part].to(other), other, limit)
            if not bool(torch.isfinite(block).all()):
                raise NumericalError(f"{path}: kernel values of examples {part.start} to {part.stop} are not finite")
            file.seek(part.start * row_bytes)
            file.write(block.cpu().contiguous().numpy().tobytes())
            file.flush()
            os.fsync(file.fileno())
            _record(path, _Record(digest, part.stop))
            if progress is not None:
                progress(part.stop, total)
    # A private mapping: what the caller writes to it does not reach the file.
    return torch.from_file(str(path), shared=False, size=total * columns, dtype=dtype).reshape(total, columns)


def record_path(path: Path) -> Path:
    """The file beside a block that says how much of it is done."""
    return path.with_name(f"{path.name}.record.json")


def _record(path: Path, record: _Record) -> None:
    """In one step: a killed job leaves the record before or the record after."""
    temporary = record_path(path).with_suffix(".new")
    temporary.write_text(json.dumps(asdict(record)), encoding="utf-8")
    os.replace(temporary, record_path(path))


def _done(path: Path, digest: str, size: int) -> int:
    """Rows of this very block that are in the file: 0 for another block, or a file that is not whole."""
    try:
        record = _Record(**json.loads(record_path(path).read_text(encoding="utf-8")))
        whole = path.stat().st_size == size
    except (OSError, ValueError, TypeError):
        return 0
    return record.done if whole and record.digest == digest else 0


def _digest(identity: Mapping[str, Any], one: Rows, other: torch.Tensor, rows: int) -> str:
    """sha256 of the identity and of both inputs, read in slices."""
    found = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for inputs in (one, other):
        found.update(f"{len(inputs)} {tuple(inputs[:1].shape)} {inputs[:1].dtype}".encode())
        for part in slices(len(inputs), rows):
            found.update(np.ascontiguousarray(inputs[part].detach().cpu().numpy()).data)
    return found.hexdigest()
