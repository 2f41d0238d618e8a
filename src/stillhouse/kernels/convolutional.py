"""Infinitely wide convolutional ReLU networks: 3 x 3 convolutions with zero padding, average pooling, flatten or global readout.

With C input channels, weights of variance s / fan in, biases of variance b (NTK parameterisation; Arora et al. 2019, Novak et
al. 2019), K[p, q] the covariance of what stands at pixel p for x and at pixel q for x', and Theta[p, q] the tangent kernel:

    K <- <x_p, x'_q> / C                                              the input; Theta does not count
    K <- (s / 9) sum_o K[p + o, q + o] + b                            convolution: one offset o moves both pixels
    Theta <- K + (s / 9) sum_o Theta[p + o, q + o]
    K, Theta <- E[phi(u) phi(v)], Theta E[phi'(u) phi'(v)]            ReLU, by `arc_cosine`, with K of (x, x) and (x', x')
    K, Theta <- means over the 2 x 2 x 2 x 2 pairs                    average pooling
    K, Theta <- mean over p = q (flatten), over all p, q (global); then K <- s K + b and Theta <- s K + b + s Theta.

Pooling mixes pairs of pixels, so with it all (h w)^2 of them are needed; without it and flattened, only those with p = q.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch.utils import checkpoint as checkpoints

from stillhouse.errors import UserError
from stillhouse.kernels import pixel_pairs, tiles
from stillhouse.kernels.arc_cosine import LeakyReLU, expectations

_TILE = 2**28  # bytes of what is prepared for the images of one tile
_NEAR, _NEAR_GPU = 2**17, 2**24  # values of a state that a processor keeps near


@dataclass(frozen=True)
class Params:
    """Settings of the network. Named in the field: ConvNet3 (1, 1, 1), ConvNet (2, 1, 1), both flattened; Myrtle-5 (2, 1, 1),
    Myrtle-7 (2, 2, 2), Myrtle-10 (3, 3, 3), all with global readout; Conv-k (k,) without pooling, flattened.
    """

    convolutions: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, description="3 x 3 convolutions with ReLU in each block"),
    ] = (1, 1, 1)
    pooling: Annotated[Literal["average", "none"], Field(description="of 2 x 2 pixels after each block, or none")] = (
        "average"
    )
    readout: Annotated[
        Literal["flatten", "global"],
        Field(description="a dense layer on all pixels, or on their mean, which then is the last block's pooling"),
    ] = "flatten"
    regime: Annotated[
        Literal["ntk", "nngp"], Field(description="trained to the end (tangent kernel), or only its last layer")
    ] = "ntk"
    slope: Annotated[float, Field(ge=0, le=1, description="of the LeakyReLU for negative values; 0: ReLU")] = 0.0
    weight_variance: Annotated[float, Field(gt=0, description="times fan in, of weights")] = 2.0
    bias_variance: Annotated[float, Field(ge=0, description="of biases")] = 0.01


_checkpoint = functools.partial(checkpoints.checkpoint, use_reentrant=False, preserve_rng_state=False)


class Convolutional:
    """The kernel for images (channels, height, width)."""

    bytes_per_pair = 8
    bytes_per_example = 0  # its own tiles bound its memory

    def __init__(self, params: Params, shape: tuple[int, int, int]) -> None:
        self._tile = _Tile(params, shape)

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b)."""
        return tiles.cross(self._tile, one, other, _TILE)

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a)."""
        return tiles.gram(self._tile, inputs, _TILE)

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""
        return self._tile.diagonal(inputs)


def build(params: Params, shape: tuple[int, ...], seed: int = 0) -> Convolutional:
    """Raises UserError for examples that are not images, or too small for so much pooling."""
    if len(shape) != 3:
        raise UserError(f"kernel: convolutional: examples are images (channels, height, width), not {list(shape)}.")
    channels, height, width = shape
    pools = _pools(params)
    if min(height, width) >> pools < 1:
        raise UserError(
            f"kernel: convolutional: {height} x {width} pixels cannot be pooled {pools} times. Give fewer convolutions."
        )
    return Convolutional(params, (channels, height, width))


def _pools(params: Params) -> int:
    """How many blocks end with pooling of 2 x 2 pixels."""
    if params.pooling == "none":
        return 0
    return len(params.convolutions) - (params.readout == "global")


Prepared = tuple[
    torch.Tensor, ...
]  # of images: what the first layer sees of them, then their variances at each ReLU after it
Variances = Callable[
    [torch.Tensor], tuple[torch.Tensor, torch.Tensor]
]  # (*pairs, h w) of both images, from their state
Step = Literal["pooled relu", "convolution", "relu", "pool", "relu inside windows"]


def _steps(params: Params) -> list[Step]:
    """What is done to the covariances after the first convolution, up to the readout."""
    steps: list[Step] = []
    for block, convolutions in enumerate(params.convolutions):
        for _ in range(convolutions):
            steps += ["convolution", "relu"]
        steps += ["pool"] if block < _pools(params) else []
    del steps[0]
    if steps[:2] == ["relu", "pool"]:
        steps[:2] = ["pooled relu"]
    if steps[-2:] == ["relu", "pool"] and params.readout == "flatten":
        steps[-2:] = ["relu inside windows"]  # all that is flattened after pooling
    return steps


class _Tile:
    """The kernel of few enough images that all that is prepared for them fits into memory."""

    bytes_per_pair = 8

    def __init__(self, params: Params, shape: tuple[int, int, int]) -> None:
        self.params, self.steps = params, _steps(params)
        self.side, pixels = shape[1:], shape[1] * shape[2]
        self.same = params.pooling == "none" and params.readout == "flatten"
        self.states: pixel_pairs.States = pixel_pairs.SamePixels() if self.same else pixel_pairs.AllPairs()
        self.fused = self.steps[0] == "pooled relu"
        self.seen = 3 if self.fused else 1  # tensors that the first layer sees
        self.tangent = params.regime == "ntk"
        self.values_per_pair = pixels if self.same else pixels**2 // (16 if self.fused else 1)
        # Patches, their means and variances; as much again for gradients, twice.
        self.bytes_per_example = 3 * 8 * pixels * (2 * 9 * shape[0] + sum(params.convolutions))

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b), without gradient."""
        left, right = self._prepare(one), self._prepare(other)
        found = one.new_empty(len(one), len(other))
        for rows, columns in self._chunks(found):
            found[rows, columns] = self._values(_cut(left, rows), _cut(right, columns))
        return found

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a), without gradient."""
        prepared = self._prepare(inputs)
        found = inputs.new_zeros(len(inputs), len(inputs))
        for rows, columns in self._chunks(found):
            if columns.stop > rows.start:
                needed = slice(max(rows.start, columns.start), columns.stop)
                found[rows, needed] = self._values(_cut(prepared, rows), _cut(prepared, needed))
        return found.triu() + found.triu(1).T

    def pull_back(
        self, one: torch.Tensor, other: torch.Tensor, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        """Gradients by those of both inputs that ask for one; chunks of pairs whose gradients are 0 cost nothing."""
        with torch.enable_grad():
            prepared = (self._prepare(one), self._prepare(other))
        sums = [tuple(torch.zeros_like(part) for part in side) for side in prepared]
        for places in self._chunks(gradient):
            if not bool(gradient[places].any()):
                continue
            cuts = [
                tuple(part[place].detach().requires_grad_(part.requires_grad) for part in side)
                for side, place in zip(prepared, places, strict=True)
            ]
            with torch.enable_grad():
                value = self._values(*cuts)
            asked = [part for part in (*cuts[0], *cuts[1]) if part.requires_grad]
            found = iter(torch.autograd.grad(value, asked, gradient[places]))
            for totals, side, place in zip(sums, cuts, places, strict=True):
                for total, part in zip(totals, side, strict=True):
                    if part.requires_grad:
                        total[place].add_(next(found))
        return tuple(
            torch.autograd.grad(side, inputs, totals)[0] if inputs.requires_grad else None
            for inputs, side, totals in zip((one, other), prepared, sums, strict=True)
        )

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""

        def values(part: torch.Tensor) -> torch.Tensor:
            seen = self._see(part)
            return self._propagate(seen, seen, self._own, self.tangent)

        return torch.cat([_checkpoint(values, inputs[rows]) for rows in tiles.slices(len(inputs), self._near(inputs))])

    def _near(self, inputs: torch.Tensor) -> int:
        """Pairs of images whose states a processor keeps near."""
        return max(1, (_NEAR if inputs.device.type == "cpu" else _NEAR_GPU) // self.values_per_pair)

    def _chunks(self, block: torch.Tensor) -> Iterator[tuple[slice, slice]]:
        near = self._near(block)
        height = max(1, int(near**0.5) // 2) if self.same else 1
        for rows in tiles.slices(len(block), height):
            for columns in tiles.slices(block.shape[1], max(1, near // height)):
                yield rows, columns

    def _see(self, inputs: torch.Tensor) -> Prepared:
        """Patches (a, h w, k), whose products are covariances after the first convolution; or what `by_window` makes of them."""
        weight = math.sqrt(self.params.weight_variance / (9 * inputs.shape[1]))
        pixels = torch.nn.functional.unfold(inputs * weight, 3, padding=1)  # (a, k - 1, h w)
        bias = math.sqrt(self.params.bias_variance)
        patches = torch.nn.functional.pad(pixels, (0, 0, 0, 1), value=bias).mT.contiguous()
        return pixel_pairs.by_window(patches, self.side) if self.fused else (patches,)

    def _own(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Variances of images paired with themselves."""
        own = self.states.own(state)
        return own, own

    def _prepare(self, inputs: torch.Tensor) -> Prepared:
        def variances(*seen: torch.Tensor) -> Prepared:
            found: list[torch.Tensor] = []

            def own(state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                found.append(self.states.own(state))
                return found[-1], found[-1]

            self._propagate(seen, seen, own, tangent=False)
            return tuple(found)

        seen = self._see(inputs)
        parts = [_checkpoint(variances, *_cut(seen, rows)) for rows in tiles.slices(len(inputs), self._near(inputs))]
        return (*seen, *(torch.cat(each) for each in zip(*parts, strict=True)))

    def _values(self, one: Prepared, other: Prepared) -> torch.Tensor:
        """(a, b)."""
        left, right = [part[:, None] for part in one], [part[None] for part in other]
        both = iter(zip(left[self.seen :], right[self.seen :], strict=True))
        return self._propagate(tuple(left[: self.seen]), tuple(right[: self.seen]), lambda _: next(both), self.tangent)

    def _propagate(self, one: Prepared, other: Prepared, variances: Variances, tangent: bool) -> torch.Tensor:
        """From what the first layer sees to the kernel (*pairs); `variances` are asked for at each ReLU after it."""
        states, weight, bias = self.states, self.params.weight_variance, self.params.bias_variance
        activation, side = LeakyReLU(self.params.slope), self.side
        if self.fused:
            side = (side[0] // 2, side[1] // 2)
            found = pixel_pairs.pooled_relu(one, other, activation, tangent)
            kernel, *slopes = (state.reshape(*state.shape[:-2], *side, *side) for state in found)
        else:
            kernel = states.first(one[0], other[0], side)
            slopes = [kernel] if tangent else []
        for step in self.steps[int(self.fused) :]:
            if step == "convolution":
                # Theta's bias and K come together: (s / 9) sum (K + Theta) + b.
                slopes = [states.convolve(kernel + each, weight / 9, bias) for each in slopes]
                kernel = states.convolve(kernel, weight / 9, bias)
            elif step == "pool":
                kernel, *slopes = (pixel_pairs.pool(state) for state in (kernel, *slopes))
            else:
                of_one, of_other = variances(kernel)
                if step == "relu inside windows":
                    windows = pixel_pairs.windows(_side(kernel))
                    kernel, *slopes = (pixel_pairs.inside(state, windows) for state in (kernel, *slopes))
                    of_one, of_other = of_one[..., windows][..., :, None, :], of_other[..., windows][..., None, :, :]
                else:
                    of_one, of_other = states.of_one(of_one, kernel), states.of_other(of_other, kernel)
                kernel, derivative = expectations(kernel, of_one, of_other, self.params.slope)
                slopes = [each * derivative for each in slopes]
        total = sum(slopes, kernel)
        return weight * self._read(total) + bias

    def _read(self, state: torch.Tensor) -> torch.Tensor:
        """(*pairs): the mean that the last layer sees."""
        if self.same:
            return state.mean((0, 1))
        if self.steps[-1] == "relu inside windows":
            return state.flatten(-3).mean(-1)
        return state.flatten(-4).mean(-1) if self.params.readout == "global" else self.states.own(state).mean(-1)


def _side(state: torch.Tensor) -> tuple[int, int]:
    return state.shape[-2], state.shape[-1]


def _cut(prepared: Prepared, rows: slice) -> Prepared:
    return tuple(part[rows] for part in prepared)
