"""What a convolutional network does to covariances of pixels: for all pairs of pixels of two images, or for equal pixels only.

A state holds the covariance (or the tangent kernel) of what stands at pixel p of one image and at pixel q of another. Its leading
or trailing dimensions number the pairs of images; `one` and `other` broadcast there, (a, 1) and (1, b), or (a,) for both.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from stillhouse.kernels.arc_cosine import LeakyReLU

Side = tuple[int, int]  # height and width


class States(Protocol):
    """Which pairs of pixels there are, and where they are kept."""

    def first(self, one: torch.Tensor, other: torch.Tensor, side: Side) -> torch.Tensor:
        """The state of products of patches (*pairs, h w, k)."""

    def of_one(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Values (*pairs, h w) of the first image, to broadcast with a state."""

    def of_other(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Values (*pairs, h w) of the second image, to broadcast with a state."""

    def own(self, state: torch.Tensor) -> torch.Tensor:
        """(*pairs, h w) where both pixels are the same."""

    def convolve(self, state: torch.Tensor, weight: float, bias: float) -> torch.Tensor:
        """weight times sums over the 9 offsets that move both pixels, with 0 outside the image, plus bias."""


class AllPairs:
    """States (*pairs of images, h, w, h, w): every pixel of one image with every pixel of the other."""

    def first(self, one: torch.Tensor, other: torch.Tensor, side: Side) -> torch.Tensor:
        """(*pairs, h, w, h, w)."""
        product = one @ other.mT
        return product.reshape(*product.shape[:-2], *side, *side)

    def of_one(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(*pairs, h, w, 1, 1)."""
        return values.reshape(*values.shape[:-1], *state.shape[-4:-2], 1, 1)

    def of_other(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(*pairs, 1, 1, h, w)."""
        return values.reshape(*values.shape[:-1], 1, 1, *state.shape[-2:])

    def own(self, state: torch.Tensor) -> torch.Tensor:
        """(*pairs, h w)."""
        return as_matrix(state).diagonal(dim1=-2, dim2=-1)

    def convolve(self, state: torch.Tensor, weight: float, bias: float) -> torch.Tensor:
        """Along rows of both images, then along columns of both."""
        return _convolve(state, ((-4, -2), (-3, -1)), weight, bias)


class SamePixels:
    """States (h, w, *pairs of images): each pixel of one image with the same pixel of the other."""

    def first(self, one: torch.Tensor, other: torch.Tensor, side: Side) -> torch.Tensor:
        """(h, w, *pairs)."""
        if one.ndim == 3:
            return (one * other).sum(-1).T.reshape(*side, -1)
        product = one[:, 0].transpose(0, 1) @ other[0].permute(1, 2, 0)  # (h w, a, b)
        return product.reshape(*side, *product.shape[1:])

    def of_one(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(h, w, *pairs)."""
        moved = values.movedim(-1, 0)
        return moved.reshape(*state.shape[:2], *moved.shape[1:])

    def of_other(self, values: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """(h, w, *pairs)."""
        return self.of_one(values, state)

    def own(self, state: torch.Tensor) -> torch.Tensor:
        """(*pairs, h w)."""
        return state.flatten(0, 1).movedim(0, -1)

    def convolve(self, state: torch.Tensor, weight: float, bias: float) -> torch.Tensor:
        """Along rows, then along columns."""
        return _convolve(state, ((0,), (1,)), weight, bias)


def as_matrix(state: torch.Tensor) -> torch.Tensor:
    """(*pairs, h, w, h, w) -> (*pairs, h w, h w)."""
    return state.flatten(-4, -3).flatten(-2, -1)


def windows(side: Side) -> torch.Tensor:
    """(4, h / 2 w / 2) the first, second, third and fourth pixels of windows of 2 x 2. An odd last row or column is in none."""
    height, width = side[0] // 2, side[1] // 2
    even = torch.arange(side[0] * side[1]).reshape(side)[: 2 * height, : 2 * width]
    return even.reshape(height, 2, width, 2).permute(1, 3, 0, 2).reshape(4, -1)


def inside(state: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(*pairs, h, w, h, w) -> (*pairs, 4, 4, q): both pixels in one window, by their `places` (4, q) in it (see `windows`)."""
    return as_matrix(state)[..., places[:, None], places]


def pool(state: torch.Tensor) -> torch.Tensor:
    """Means over 2 x 2 pixels of both images, (*pairs, h, w, h, w) -> (*pairs, h / 2, w / 2, h / 2, w / 2)."""
    found: torch.Tensor = _Pool.apply(state)  # type: ignore[no-untyped-call]
    return found


def pooled_relu(
    one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...], activation: LeakyReLU, tangent: bool
) -> tuple[torch.Tensor, ...]:
    """Pooled K, and Theta if `tangent`, after the first convolution and ReLU, (*pairs, q, q), q = h w / 4.

    `one` and `other` are what `by_window` gives, with (*pairs) in front.
    """
    lead = one[1].ndim - 2
    pairs = [max(sizes) for sizes in zip(one[1].shape[:lead], other[1].shape[:lead], strict=True)]
    flat = [part.reshape(-1, *part.shape[lead:]) for part in (*one, *other)]
    states = _PooledReLU.apply(activation, tangent, *flat)  # type: ignore[no-untyped-call]
    return tuple(state.reshape(*pairs, *state.shape[1:]) for state in states)


def by_window(patches: torch.Tensor, side: Side) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of patches (a, h w, k): directions (a, 4, q, k) and norms (a, 4, q) by place in a window; means over windows (a, q, k)."""
    cut = patches[:, windows(side)]
    norm = torch.linalg.vector_norm(cut, dim=-1)
    unit = cut / norm.clamp(min=torch.finfo(norm.dtype).tiny)[..., None]
    return unit, norm, cut.mean(1)


def _convolve(state: torch.Tensor, diagonals: tuple[tuple[int, ...], ...], weight: float, bias: float) -> torch.Tensor:
    found: torch.Tensor = _Convolve.apply(state, diagonals, weight, bias)  # type: ignore[no-untyped-call]
    return found


class _Convolve(torch.autograd.Function):
    """Sums of three neighbours along each diagonal in turn, times a weight, plus a bias. The sums are their own adjoint."""

    @staticmethod
    def forward(
        ctx: Any, state: torch.Tensor, diagonals: tuple[tuple[int, ...], ...], weight: float, bias: float
    ) -> torch.Tensor:
        ctx.diagonals, ctx.weight = diagonals, weight
        return _box(state, diagonals).mul_(weight).add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _box(gradient, ctx.diagonals).mul_(ctx.weight), None, None, None


def _box(state: torch.Tensor, diagonals: tuple[tuple[int, ...], ...]) -> torch.Tensor:
    for dims in diagonals:
        found = state.clone(memory_format=torch.contiguous_format)
        _without(found, dims, first=True).add_(_without(state, dims, first=False))
        _without(found, dims, first=False).add_(_without(state, dims, first=True))
        state = found
    return state


def _without(state: torch.Tensor, dims: tuple[int, ...], first: bool) -> torch.Tensor:
    """All but the first or all but the last along each of `dims`."""
    for dim in dims:
        state = state.narrow(dim, int(first), state.shape[dim] - 1)
    return state


class _Pool(torch.autograd.Function):
    """Dimension by dimension, the outer ones first: long runs of memory while the state is large."""

    @staticmethod
    def forward(ctx: Any, state: torch.Tensor) -> torch.Tensor:
        ctx.shape = state.shape
        for dim in range(-4, 0):
            state = _every_other(state, dim, 0) + _every_other(state, dim, 1)
        return state.mul_(1 / 16)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        share = gradient / 16
        for dim in range(-1, -5, -1):
            shape = list(share.shape)
            shape[dim] = ctx.shape[dim]
            wide = share.new_zeros(shape)
            for start in (0, 1):
                _every_other(wide, dim, start).copy_(share)
            share = wide
        return share


def _every_other(state: torch.Tensor, dim: int, start: int) -> torch.Tensor:
    """From `start` in steps of 2 up to the last whole window."""
    places = [slice(None)] * state.ndim
    places[dim] = slice(start, 2 * (state.shape[dim] // 2), 2)
    return state[tuple(places)]


class _PooledReLU(torch.autograd.Function):
    """The first block where it is one convolution with ReLU and pooling: nearly all of the work, (h w)^2 of each.

    With n the norm of a patch, c and t the cosine and the angle of two patches, A and B of the ReLU (`arc_cosine`), the block is

        Theta = mean n n' c (A - B t),    K = Theta + B mean n n' sqrt(1 - c^2)

    over the 16 pairs of pixels in two windows, where the part with A is the product of mean patches. One pixel of each window at
    a time: (h w / 4)^2 pairs, which the processor keeps near. Inputs as `by_window` gives them, of b images for `other` and of as
    many or one for `one`; states (b, q, q).
    """

    @staticmethod
    def forward(ctx: Any, activation: LeakyReLU, tangent: bool, *seen: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(*seen)
        ctx.activation = activation
        unit, norm, mean, other_unit, other_norm, other_mean = seen
        slopes = torch.matmul(mean, other_mean.mT).mul_(activation.half)  # (b, q, q)
        cosine, angles = torch.empty_like(slopes), slopes.new_empty(2, *slopes.shape)
        inner, sums = torch.empty_like(angles), torch.zeros_like(angles)
        for other_part, columns in zip(other_unit.mT.unbind(1), other_norm[..., None, :].unbind(1), strict=True):
            inner.zero_()
            for part, rows in zip(unit.unbind(1), norm[..., None].unbind(1), strict=True):
                _angles(part, other_part, cosine, *angles)
                angles[0].mul_(cosine)
                inner.addcmul_(angles, rows)
            sums.addcmul_(inner, columns)
        sums.mul_(activation.bend / 16)
        slopes -= sums[0]
        return (slopes + sums[1], slopes) if tangent else (slopes.add_(sums[1]),)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_kernel: torch.Tensor, by_slopes: torch.Tensor | None = None) -> tuple[Any, ...]:
        unit, norm, mean, other_unit, other_norm, other_mean = ctx.saved_tensors
        by_both = by_kernel if by_slopes is None else by_kernel + by_slopes
        share = ctx.activation.bend / 16
        by_angle, by_sine = by_both * -share, by_kernel * share
        one, other = any(ctx.needs_input_grad[2:5]), any(ctx.needs_input_grad[5:])
        found = [torch.zeros_like(part) for part in (unit, norm, other_unit, other_norm)]
        patches, other_patches = unit * norm[..., None], other_unit * other_norm[..., None]
        cosine, angle, sine, by_cosine, by_norms = (torch.empty_like(by_both) for _ in range(5))
        for v in range(4):
            for u in range(4):
                _angles(unit[:, u], other_unit[:, v].mT, cosine, angle, sine)
                torch.mul(by_angle, angle, out=by_cosine)
                torch.mul(by_cosine, cosine, out=by_norms).addcmul_(by_sine, sine)
                if by_slopes is not None:
                    # c / sqrt(1 - c^2), which is taken to be 0 where patches are parallel (see `arc_cosine`).
                    torch.mul(sine, sine, out=angle).add_(torch.finfo(sine.dtype).tiny)
                    by_cosine.addcmul_(cosine.mul_(sine).div_(angle), by_slopes, value=share)
                if one:
                    found[0][:, u] += (by_cosine @ other_patches[:, v]).sum_to_size(unit[:, u].shape)
                    found[1][:, u] += (by_norms @ other_norm[:, v, :, None])[..., 0].sum_to_size(norm[:, u].shape)
                if other:
                    found[2][:, v] += by_cosine.mT @ patches[:, u]
                    found[3][:, v] += (norm[:, u, None, :] @ by_norms)[:, 0]
        found[0] *= norm[..., None]
        found[2] *= other_norm[..., None]
        by_linear = ctx.activation.half * by_both
        by_mean = (by_linear @ other_mean).sum_to_size(mean.shape) if one else None
        by_other_mean = by_linear.mT @ mean if other else None
        return None, None, found[0], found[1], by_mean, found[2], found[3], by_other_mean


def _angles(
    unit: torch.Tensor, other: torch.Tensor, cosine: torch.Tensor, angle: torch.Tensor, sine: torch.Tensor
) -> None:
    """Fills in the cosine, the angle and its sine (b, q, q) of directions (b or 1, q, k) and (b, k, q)."""
    torch.matmul(unit, other, out=cosine)
    cosine.clamp_(-1, 1)
    torch.acos(cosine, out=angle)
    torch.addcmul(cosine.new_ones(()), cosine, cosine, value=-1, out=sine).sqrt_()
