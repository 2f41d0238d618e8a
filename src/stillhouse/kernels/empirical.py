"""The kernel of finite random networks, in the mean over several: Monte Carlo for the kernels of infinitely wide ones.

It knows nothing of their recursions. The network has the layers of the infinite one's settings, n channels or units each, and the
NTK parameterisation: parameters v from N(0, 1), a layer sqrt(w / fan in) V x + sqrt(b) v. For its scalar output f and the P last
activations h that its readout sees,

    NNGP   the covariance of f given h:  w <h(x), h(y)> / P + b
    NTK    <df/dv (x), df/dv (y)> over all parameters, Jacot et al. (2018)

Both approach the infinite kernel with an error of order 1 / sqrt(n networks), and a bias of order 1 / n from the second hidden
layer on. An NTK's derivative by the inputs is that of these networks: where activations have kinks it is no estimate of the
infinite kernel's derivative, as moving the kinks does not count.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any

import torch
from pydantic import Field
from torch.func import grad, vmap
from torch.nn import functional

from stillhouse import kernels, settings
from stillhouse.kernels import convolutional, fully_connected, random_features

RANDOM = True

# Values that are in memory together for each argument: a layer's activations, or derivatives by all parameters.
_AT_ONCE = 2**25


@dataclass(frozen=True)
class Params:
    """Settings: whose kernel, and how large a sample."""

    of: Annotated[
        Any,
        settings.plugin("kernels"),
        Field(description="settings of the infinitely wide network: fully_connected or convolutional"),
    ] = field(default_factory=fully_connected.Params)
    width: Annotated[int, Field(ge=1, description="units or channels of every hidden layer, n")] = 512
    networks: Annotated[int, Field(ge=1, description="independent networks, each as wide")] = 10

    def __post_init__(self) -> None:
        if not isinstance(self.of, fully_connected.Params | convolutional.Params):
            kind = settings.kind_of(self.of)
            raise ValueError(f"of: only fully_connected and convolutional are kernels of networks, not '{kind}'")


# V (out, in, ...) and v (out,) of every layer, the readout's last, in one list.
Parameters = tuple[torch.Tensor, ...]


class _Network:
    """The finite network of the infinite one's settings, as a function of its parameters."""

    def __init__(self, params: Params, shape: tuple[int, ...]) -> None:
        self.of, self._width = params.of, params.width
        self._convolves = isinstance(self.of, convolutional.Params)
        self.inside = params.width if not self._convolves else params.width * prod(shape[1:])
        self.shapes = [*self._hidden_shapes(shape), (1, self._last(shape))]

    def _hidden_shapes(self, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Of the weights of every hidden layer."""
        width = self._width
        if not self._convolves:
            return [(width, prod(shape)), *[(width, width)] * (self.of.depth - 1)]
        return [(width, shape[0], 3, 3), *[(width, width, 3, 3)] * (sum(self.of.convolutions) - 1)]

    def _last(self, shape: tuple[int, ...]) -> int:
        """P."""
        if not self._convolves or self.of.readout == "global":
            return self._width
        return self._width * (shape[1] >> self._pools) * (shape[2] >> self._pools)

    @property
    def _pools(self) -> int:
        """A global readout is the last block's pooling."""
        return 0 if self.of.pooling == "none" else len(self.of.convolutions) - (self.of.readout == "global")

    def drawn(self, seed: int, like: torch.Tensor) -> Parameters:
        """From N(0, 1), on the CPU, from the seed alone; with the dtype of `like` and on its device."""
        rng = torch.Generator().manual_seed(seed)
        sizes = [size for shape in self.shapes for size in (shape, shape[:1])]
        return tuple(torch.randn(*size, generator=rng, dtype=torch.float32).to(like) for size in sizes)

    def last(self, parameters: Parameters, inputs: torch.Tensor) -> torch.Tensor:
        """Last activations h, (a, *shape) -> (a, P)."""
        *hidden, _ = self._layers(parameters)
        if not self._convolves:
            found = inputs.flatten(1)
            for weights, bias in hidden:
                found = functional.leaky_relu(functional.linear(found, weights, bias), self.of.slope)
            return found
        found = random_features.activations(inputs, hidden, self.of.convolutions, self._pools, self.of.slope)
        return found.mean((2, 3)) if self.of.readout == "global" else found.flatten(1)

    def output(self, parameters: Parameters, example: torch.Tensor) -> torch.Tensor:
        """f of one example (*shape), a number."""
        weights, bias = self._layers(parameters)[-1]
        return functional.linear(self.last(parameters, example[None]), weights, bias).squeeze()

    def covariance_features(self, parameters: Parameters, inputs: torch.Tensor) -> Parameters:
        """Their inner products, summed, are the NNGP kernel."""
        last = self.last(parameters, inputs)
        constant = last.new_full((len(last), 1), self.of.bias_variance**0.5)
        return last * (self.of.weight_variance / last.shape[1]) ** 0.5, constant

    def tangent_features(self, parameters: Parameters, inputs: torch.Tensor) -> Parameters:
        """df/dv (a, ...) for all parameters: their inner products, summed, are the NTK."""
        derivatives: Parameters = vmap(grad(self.output), (None, 0))(parameters, inputs)
        return tuple(each.flatten(1) for each in derivatives)

    def _layers(self, parameters: Parameters) -> list[random_features.Layer]:
        """What each layer computes with: sqrt(w / fan in) V and sqrt(b) v."""
        w, b = self.of.weight_variance, self.of.bias_variance
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        return [(weights * (w / weights[0].numel()) ** 0.5, bias * b**0.5) for weights, bias in pairs]


class Empirical:
    """The mean of the kernels of `draws`."""

    # What bounds memory is here; a tile would compute activations or derivatives again.
    bytes_per_pair = 3 * 8
    bytes_per_example = 0

    def __init__(self, network: _Network, seeds: list[int], tangent: bool) -> None:
        self.network, self.seeds = network, seeds
        self._features = network.tangent_features if tangent else network.covariance_features
        values = sum(prod(shape) for shape in network.shapes) if tangent else network.inside
        self._at_once = max(1, _AT_ONCE // values)

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b)."""
        return functools.reduce(torch.add, self.draws(one, other)) / len(self.seeds)

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a)."""
        product = self(inputs, inputs)
        return (product + product.T) / 2  # rounding of a product need not be symmetric

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,)."""

        def of(parameters: Parameters, chunk: torch.Tensor) -> torch.Tensor:
            return functools.reduce(torch.add, (part.square().sum(1) for part in self._features(parameters, chunk)))

        draws = (self.network.drawn(seed, inputs) for seed in self.seeds)
        parts = (torch.cat([of(drawn, chunk) for chunk in torch.split(inputs, self._at_once)]) for drawn in draws)
        return functools.reduce(torch.add, parts) / len(self.seeds)

    def draws(self, one: torch.Tensor, other: torch.Tensor) -> Iterator[torch.Tensor]:
        """The kernel (a, b) of each network: their deviation over sqrt(networks) is the standard error of the mean."""
        for seed in self.seeds:
            parameters = self.network.drawn(seed, one)
            yield torch.cat([self._row(parameters, chunk, other) for chunk in torch.split(one, self._at_once)])

    def _row(self, parameters: Parameters, chunk: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The kernel of a few examples with all others: features of the others are computed, not kept."""
        left = self._features(parameters, chunk)

        def block(right: Parameters) -> torch.Tensor:
            return functools.reduce(torch.add, (each @ its.T for each, its in zip(left, right, strict=True)))

        return torch.cat([block(self._features(parameters, part)) for part in torch.split(other, self._at_once)], dim=1)


def build(params: Params, shape: tuple[int, ...], seed: int) -> Empirical:
    """Draw the networks' seeds from `seed`. Raises UserError where the infinite kernel's settings do not go with `shape`."""
    kernels.build(params.of, shape)
    rng = torch.Generator().manual_seed(seed)
    seeds = torch.randint(2**62, (params.networks,), generator=rng).tolist()
    return Empirical(_Network(params, shape), seeds, params.of.regime == "ntk")
