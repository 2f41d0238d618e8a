"""Kernels k(x, y) of examples, among them those of infinitely wide networks. Differentiable in both arguments.

One file is one kernel, or one family: `Params` and `build(params, shape, seed) -> Kernel`. A file whose kernels are drawn at
random says `RANDOM = True`: then another seed is another kernel; for the others the seed is nothing.
"""

from typing import Any, Protocol, runtime_checkable

import torch

from stillhouse import plugins, settings


class Kernel(Protocol):
    """k. Inputs are (a, *shape) in the model's space, and shape, dtype and device are one for all; results have that dtype."""

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """(a, *shape), (b, *shape) -> (a, b) of k(one_i, other_j); differentiable in both."""

    def gram(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a, a), exactly symmetric, each pair computed once where that saves something; differentiable."""

    def diagonal(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> (a,) of k(x_i, x_i), the diagonal of `gram`; differentiable."""


@runtime_checkable
class ExplicitKernel(Kernel, Protocol):
    """A kernel that is a product of features: k(x, y) = F_x F_y^T + offset."""

    offset: float

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """(a, *shape) -> F (a, p)."""


def build(params: Any, shape: tuple[int, ...], seed: int = 0) -> Kernel:
    """The kernel of these settings for examples of `shape`. Raises UserError where they do not go together."""
    built: Kernel = plugins.load("kernels", settings.kind_of(params)).build(params, shape, seed)
    return built


def random(params: Any) -> bool:
    """Whether another seed is another kernel."""
    return bool(getattr(plugins.load("kernels", settings.kind_of(params)), "RANDOM", False))
