"""What methods that train points share: class-balanced batches of real examples, parts of images that are frozen, when
progress is recorded, what is kept of a run, and when it stops for numbers that are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch

from stillhouse.errors import NumericalError
from stillhouse.sets import RealSet

# Steps before which progress is recorded: each half as far again as the one before, so that a run of 30 000 has some 25.
_RECORDED = 1.5


def state(support: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What the next step needs of tensors that are trained, by name, and of their optimiser."""
    tensors = {f"support.{name}": tensor.detach() for name, tensor in support.items()}
    for name, tensor in support.items():
        moments = {k: v for k, v in optimiser.state[tensor].items() if isinstance(v, torch.Tensor)}
        tensors |= {f"{name}.{k}": v for k, v in moments.items()}
    return tensors


def put_back(
    kept: Mapping[str, torch.Tensor], support: Mapping[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> None:
    """Put what `state` gave back where it belongs."""
    for name, tensor in support.items():
        with torch.no_grad():
            tensor.copy_(kept[f"support.{name}"])
        # Moments lie where their tensor does; a count of steps, which has no dimension, stays on the CPU.
        optimiser.state[tensor] = {k: v.to(tensor.device) if v.ndim else v for k, v in under(kept, name).items()}


def under(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Those whose names begin with 'name.', without it."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def check_finite(step: int, what: str, value: float, support: Mapping[str, torch.Tensor]) -> None:
    """Raise NumericalError with the step's number where `what` has no finite value, or its gradient has none."""
    slopes = [tensor.grad for tensor in support.values() if tensor.grad is not None]
    if not math.isfinite(value) or not all(bool(slope.isfinite().all()) for slope in slopes):
        raise NumericalError(
            f"step {step}: the {what} is {value}, or its gradient has entries that are NaN or infinite"
        )


class Balanced:
    """Batches with the same number of examples of every class, each drawn without replacement within its batch.

    Of a regression set, examples of all alike.
    """

    def __init__(self, real: RealSet, index: torch.Tensor) -> None:
        """Of the training examples at `index`."""
        labels = torch.zeros_like(index) if real.regression else real.train.targets[index]
        self._by_class = [index[labels == label] for label in range(max(1, real.n_classes))]

    def draw(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Positions (b,) of count // c examples of each class, at least one and at most all of a class's."""
        share = max(1, count // len(self._by_class))
        chosen = [of[torch.randperm(len(of), generator=rng)[:share]] for of in self._by_class]
        return torch.cat(chosen)


def corrupt(
    inputs: torch.Tensor, fraction: float, kind: str, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace a random `fraction` of each image's pixels, all channels of a pixel together: (m, *shape) inputs and a mask of
    what was replaced, (m, *shape) bool.

    kind: 'zero' puts 0, the mean of a standardised space; 'noise' a draw from N(0, 1). KIP, section 3 (rho-corruption).
    """
    # Inputs without channels and positions, such as tables, lose single values.
    positions = inputs.shape[2:] if inputs.ndim > 3 else inputs.shape[1:]
    pixels = positions.numel()
    order = torch.rand(len(inputs), pixels, generator=rng).argsort(1)
    mask = torch.zeros(len(inputs), pixels, dtype=torch.bool)
    mask.scatter_(1, order[:, : round(fraction * pixels)], True)
    mask = mask.view(len(inputs), *([1] * (inputs.ndim - 1 - len(positions))), *positions).expand(inputs.shape)
    mask = mask.to(inputs.device)
    drawn = torch.randn(inputs.shape, generator=rng, dtype=torch.float64)  # in any case: kinds differ in nothing else
    content = drawn.to(inputs) if kind == "noise" else torch.zeros_like(inputs)
    return torch.where(mask, content, inputs), mask


def record_steps(steps: int) -> Iterator[int]:
    """The steps before which progress is recorded: 0, 1, 2, 3, 4, 6, 9, 14, ..., each half as far again as the one before."""
    step = 0
    while step < steps:
        yield step
        step = max(step + 1, round(step * _RECORDED))
