"""Kernel matrices in tiles and in files are the kernel matrices."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import NumericalError
from stillhouse.kernels import Kernel, fully_connected, tiles

KERNEL = fully_connected.build(fully_connected.Params(depth=2), (6,), 0)
IDENTITY = {"kind": "fully_connected", "depth": 2}


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Watched:
    """A kernel that says what a pair costs and remembers what it was asked for; it raises when asked once too often."""

    bytes_per_pair, bytes_per_example = 80, 16

    def __init__(self, calls: int = 10**6) -> None:
        self.left, self.sizes = calls, list[tuple[int, int]]()

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.sizes.append((len(one), len(other)))
        return KERNEL(one, other)

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        self.sizes.append((len(inputs), len(inputs)))
        return KERNEL.gram(inputs)

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        return KERNEL.diagonal(inputs)


class Explicit(Watched):
    """The inner product, with gradients that it finds without its value."""

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return one.detach() @ other.detach().T

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        return self(inputs, inputs)

    def pull_back(
        self, one: torch.Tensor, other: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        return (
            gradient @ other.detach() if one.requires_grad else None,
            gradient.T @ one.detach() if other.requires_grad else None,
        )


@pytest.mark.parametrize("limit", [1, 1000, 10**6])
def test_tiles_give_the_value_and_gradients_of_one_piece(limit: int) -> None:
    x, y, weights = rows(11, 0).requires_grad_(), rows(7, 1).requires_grad_(), torch.randn(
        11, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )  # fmt: skip
    whole = KERNEL(x, y)
    tiled = tiles.cross(Watched(), x, y, limit)
    torch.testing.assert_close(tiled, whole, rtol=1e-13, atol=0)
    for found, wanted in zip(
        torch.autograd.grad((tiled * weights).sum(), (x, y)),
        torch.autograd.grad((whole * weights).sum(), (x, y)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 1000, 10**6])
def test_a_symmetric_block_in_tiles_is_symmetric_and_has_the_gradient_of_one_piece(limit: int) -> None:
    x = rows(11, 0).requires_grad_()
    weights = torch.randn(11, 11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)  # not symmetric
    whole, tiled = KERNEL.gram(x), tiles.gram(Watched(), x, limit)
    assert torch.equal(tiled, tiled.T)
    torch.testing.assert_close(tiled, whole, rtol=1e-13, atol=0)
    (found,) = torch.autograd.grad((tiled * weights).sum(), x)
    (wanted,) = torch.autograd.grad((whole * weights).sum(), x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1, 1000, 10**6])
def test_a_kernel_that_gives_its_own_gradients_is_asked_for_them(limit: int) -> None:
    x, y = rows(5, 0).requires_grad_(), rows(4, 1).requires_grad_()
    weights = torch.randn(5, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    by_x, by_y = torch.autograd.grad((tiles.cross(Explicit(), x, y, limit) * weights[:, :4]).sum(), (x, y))
    torch.testing.assert_close(by_x, (weights[:, :4] @ y).detach())
    torch.testing.assert_close(by_y, (weights[:, :4].T @ x).detach())
    (found,) = torch.autograd.grad((tiles.gram(Explicit(), x, limit) * weights).sum(), x)
    torch.testing.assert_close(found, ((weights + weights.T) @ x).detach())


@pytest.mark.parametrize("needs", [(True, False), (False, True), (False, False)])
def test_an_input_that_asks_for_no_gradient_gets_none(needs: tuple[bool, bool]) -> None:
    x, y = rows(5, 0).requires_grad_(needs[0]), rows(4, 1).requires_grad_(needs[1])
    found = tiles.cross(Watched(), x, y, 1000)
    assert found.requires_grad == any(needs)
    for part, need in zip((x, y), needs, strict=True):
        if need:
            (gradient,) = torch.autograd.grad(found.sum(), part, retain_graph=True)
            assert gradient.shape == part.shape


def test_no_tile_is_larger_than_the_limit_and_no_pair_is_computed_twice() -> None:
    kernel = Watched()
    tiles.cross(kernel, rows(40, 0), rows(9, 1), 2000)
    assert max(80 * a * b + 16 * (a + b) for a, b in kernel.sizes) <= 2000
    assert sum(a * b for a, b in kernel.sizes) == 40 * 9
    assert len(kernel.sizes) < 40 * 9 * 80 / 2000 * 3
    kernel = Watched()
    tiles.gram(kernel, rows(40, 0), 2000)
    assert max(80 * a * b + 16 * (a + b) for a, b in kernel.sizes) <= 2000
    assert sum(a * b for a, b in kernel.sizes) < 0.6 * 40 * 40


def test_half_the_bytes_per_value_allow_twice_the_pairs() -> None:
    kernel = Watched()
    tiles.cross(kernel, rows(16, 0).float(), rows(16, 1).float(), 2000)
    assert max(80 * a * b for a, b in kernel.sizes) > 2000


def stored(path: Path, kernel: Kernel, one: Any, other: torch.Tensor, **options: Any) -> torch.Tensor:
    return tiles.stored_block(path, kernel, options.pop("identity", IDENTITY), one, other, rows=4, **options)


def test_a_stored_block_is_the_kernels_block(tmp_path: Path) -> None:
    x, y, seen = rows(11, 0), rows(7, 1), list[tuple[int, int]]()
    found = stored(tmp_path / "new" / "block", Watched(), x, y, progress=lambda *at: seen.append(at))
    torch.testing.assert_close(found, KERNEL(x, y), rtol=1e-13, atol=0)
    assert seen == [(4, 11), (8, 11), (11, 11)]


def test_a_stopped_job_goes_on_after_the_last_recorded_rows_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    x, y = rows(11, 0), rows(7, 1)
    stored(tmp_path / "whole", Watched(), x, y)
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path / "stopped", Watched(calls=2), x, y)
    assert json.loads(tiles.record_path(tmp_path / "stopped").read_text())["done"] == 8
    again = Watched()
    stored(tmp_path / "stopped", again, x, y)
    assert again.sizes == [(3, 7)]
    assert (tmp_path / "stopped").read_bytes() == (tmp_path / "whole").read_bytes()
    done = Watched()
    stored(tmp_path / "stopped", done, x, y)
    assert not done.sizes


def test_rows_written_but_not_recorded_are_computed_again(tmp_path: Path) -> None:
    """As a job leaves them that is killed between the two."""
    x, y, path = rows(11, 0), rows(7, 1), tmp_path / "block"
    wanted = stored(path, Watched(), x, y).clone()
    record = json.loads(tiles.record_path(path).read_text())
    tiles.record_path(path).write_text(json.dumps({**record, "done": 4}))
    content = bytearray(path.read_bytes())
    content[5 * 7 * 8 :] = b"\1" * len(content[5 * 7 * 8 :])
    path.write_bytes(content)
    again = Watched()
    assert torch.equal(stored(path, again, x, y), wanted)
    assert again.sizes == [(4, 7), (3, 7)]


CHANGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "another kernel": lambda _: {"identity": {**IDENTITY, "depth": 3}},
    "other rows": lambda _: {"one": rows(11, 5)},
    "other columns": lambda _: {"other": rows(7, 5)},
    "another type": lambda _: {"other": rows(7, 1).float()},
    "more rows": lambda _: {"one": rows(12, 0)},
    "a cut file": lambda path: {"cut": path.write_bytes(path.read_bytes()[:100])},
    "a record that is none": lambda path: {"cut": tiles.record_path(path).write_text("{}")},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_not_the_beginning_of_this_block_is_thrown_away(change: str, tmp_path: Path) -> None:
    path = tmp_path / "block"
    given: dict[str, Any] = {"one": rows(11, 0), "other": rows(7, 1)}
    stored(path, Watched(), **given)
    given |= CHANGES[change](path)
    given.pop("cut", None)
    again = Watched()
    found = stored(path, again, **given)
    assert sum(a for a, _ in again.sizes) == len(given["one"])
    torch.testing.assert_close(found, KERNEL(given["one"].to(given["other"]), given["other"]), rtol=1e-5, atol=1e-5)


def test_a_record_does_not_outlive_the_rows_that_it_vouches_for(tmp_path: Path) -> None:
    x, y, path = rows(11, 0), rows(7, 1), tmp_path / "block"
    wanted = stored(path, Watched(), x, y).clone()
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        stored(path, Watched(calls=0), x, y)  # the file is there again, whole and empty
    assert torch.equal(stored(path, Watched(), x, y), wanted)


def test_rows_may_be_made_when_they_are_asked_for(tmp_path: Path) -> None:
    x, y = rows(11, 0), rows(7, 1)

    class Lazy:
        longest = 0

        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, part: slice) -> torch.Tensor:
            self.longest = max(self.longest, len(x[part]))
            return x[part] / 2

    lazy = Lazy()
    torch.testing.assert_close(stored(tmp_path / "block", Watched(), lazy, y), KERNEL(x / 2, y), rtol=1e-13, atol=0)
    assert lazy.longest == 4


def test_what_a_caller_does_to_a_stored_block_does_not_reach_the_file(tmp_path: Path) -> None:
    x, y = rows(11, 0), rows(7, 1)
    found = stored(tmp_path / "block", Watched(), x, y)
    wanted = found.clone()
    found.zero_()
    assert torch.equal(stored(tmp_path / "block", Watched(calls=0), x, y), wanted)


def test_values_that_are_not_finite_stop_the_job(tmp_path: Path) -> None:
    x = rows(11, 0)
    x[6] = float("nan")
    with pytest.raises(NumericalError, match="examples 4 to 8"):
        stored(tmp_path / "block", Watched(), x, rows(7, 1))
    assert json.loads(tiles.record_path(tmp_path / "block").read_text())["done"] == 4
