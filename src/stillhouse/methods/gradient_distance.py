"""How far apart two gradients of a network's loss are: what gradient matching descends.

DC (Zhao, Mopuri, Bilen 2021), equation 9 and code. Gradients are one tensor for each of the network's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

# Added to the product of two norms, so that a gradient of 0 has a cosine of 0 (DC's code).
_EPSILON = 1e-6

Gradients = Sequence[torch.Tensor]
Kind = Annotated[
    Literal["layerwise", "squared", "cosine"],
    Field(
        description="of two gradients; layerwise: 1 - cosine of what goes into each output of each layer, summed, without "
        "biases, scales and shifts (DC's own); squared: sum of squared differences; cosine: 1 - cosine of all weights in one"
    ),
]


def distance(kind: Kind, found: Gradients, wanted: Gradients) -> torch.Tensor:
    """The distance of that kind, (), differentiable in both."""
    return _KINDS[kind](found, wanted)


def layerwise(found: Gradients, wanted: Gradients) -> torch.Tensor:
    """Sum over weights (outputs, ...) of two dimensions and more, and over their outputs, of 1 - cosine."""
    rows = [(one.flatten(1), other.flatten(1)) for one, other in zip(found, wanted, strict=True) if one.ndim > 1]
    return torch.stack([_apart(one, other).sum() for one, other in rows]).sum()


def squared(found: Gradients, wanted: Gradients) -> torch.Tensor:
    """Sum of squared differences over all weights."""
    parts = [(one - other).square().sum() for one, other in zip(found, wanted, strict=True)]
    return torch.stack(parts).sum()


def cosine(found: Gradients, wanted: Gradients) -> torch.Tensor:
    """1 - cosine of all weights as one vector."""
    one, other = (torch.cat([each.flatten() for each in gradients]) for gradients in (found, wanted))
    return _apart(one, other)


def _apart(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1 - cosine along the last axis."""
    lengths = one.norm(dim=-1) * other.norm(dim=-1)
    apart: torch.Tensor = 1 - (one * other).sum(-1) / (lengths + _EPSILON)
    return apart


_KINDS: dict[str, Callable[[Gradients, Gradients], torch.Tensor]] = {
    "layerwise": layerwise,
    "squared": squared,
    "cosine": cosine,
}
