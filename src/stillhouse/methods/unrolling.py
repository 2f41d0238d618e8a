"""Gradient descent on a distilled set as a function that can be differentiated: T inner steps, and their gradient backwards.

Training starts at theta_0 and goes through parts D_0, ..., D_{S-1} of the set, in a given order and with a step size each:

    theta_{t+1} = theta_t - r_t g_t,   g_t = gradient at theta_t of the loss on part D_{o(t)}

From v_T = dL/dtheta_T of any outer loss L, backwards (Maclaurin et al. 2015; Wang et al. 2018, DD):

    dL/dr_t = -<v_{t+1}, g_t>,   dL/dD_{o(t)} += -r_t d<v_{t+1}, g_t>/dD,   v_t = v_{t+1} - r_t d<v_{t+1}, g_t>/dtheta_t

Forwards the weights of every step are kept, T + 1 times the parameters, and no graph. Backwards each step's graph is made anew
and dropped: memory holds the activations of one step, however many there are, at the price of one more gradient a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Weights = Mapping[str, torch.Tensor]
# The mean loss of weights on one part of the set, such as inputs (b, *shape) and targets (b, c): a number.
Loss = Callable[..., torch.Tensor]


def trained(
    loss: Loss, weights: Weights, parts: Sequence[torch.Tensor], order: Sequence[int], rates: torch.Tensor
) -> dict[str, torch.Tensor]:
    """theta_T from theta_0 = `weights`: differentiable, once, in weights, parts and rates.

    loss    of weights and one part, loss(weights, inputs, targets): twice differentiable
    parts   tensors (S, b, ...) whose entries at one place are a part, such as inputs (S, b, *shape) and targets (S, b, c)
    order   (T,) places of the parts, one a step
    rates   (T,) step sizes
    """
    names = tuple(weights)
    inputs = (rates, *parts, *weights.values())
    final = _Training.apply(loss, names, len(parts), tuple(order), *inputs)  # type: ignore[no-untyped-call]
    return dict(zip(names, final, strict=True))


def path(
    loss: Loss, weights: Weights, parts: Sequence[torch.Tensor], order: Sequence[int], rates: torch.Tensor
) -> list[dict[str, torch.Tensor]]:
    """theta_0, ..., theta_T, without a graph."""
    found = [{name: weight.detach() for name, weight in weights.items()}]
    for place, rate in zip(order, rates.detach(), strict=True):
        slopes = gradient(loss, found[-1], [part[place] for part in parts])
        found.append(descended(found[-1], slopes, rate))
    return found


def gradient(loss: Loss, weights: Weights, part: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of the loss with respect to the weights, without a graph."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    with torch.enable_grad():
        value = loss(leaves, *(each.detach() for each in part))
    return dict(zip(leaves, torch.autograd.grad(value, tuple(leaves.values())), strict=True))


def descended(weights: Weights, slopes: Weights, rate: torch.Tensor) -> dict[str, torch.Tensor]:
    """One step: weights - rate slopes."""
    return {name: weight - rate * slopes[name] for name, weight in weights.items()}


def pulled(
    loss: Loss, weights: Weights, part: Sequence[torch.Tensor], rate: torch.Tensor, slopes: Sequence[torch.Tensor]
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Of one step, from `slopes` v_{t+1} in the order of the weights: v_t, dL/dpart and dL/drate."""
    leaves = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    data = [each.detach().requires_grad_() for each in part]
    with torch.enable_grad():
        value = loss(leaves, *data)
        own = torch.autograd.grad(value, tuple(leaves.values()), create_graph=True)
    along = sum((slope * each.detach()).sum() for slope, each in zip(slopes, own, strict=True))
    # A part that the gradient does not depend on, or weights that no other gradient depends on, have none.
    found = torch.autograd.grad(
        own, (*leaves.values(), *data), [-rate * slope for slope in slopes], materialize_grads=True
    )
    before = [slope + change for slope, change in zip(slopes, found, strict=False)]
    return before, list(found[len(leaves) :]), -torch.as_tensor(along)


class _Training(torch.autograd.Function):
    """`trained` with its gradient written down."""

    @staticmethod
    def forward(
        ctx: Any, loss: Loss, names: tuple[str, ...], count: int, order: tuple[int, ...], rates: torch.Tensor,
        *tensors: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        parts, weights = tensors[:count], dict(zip(names, tensors[count:], strict=True))
        steps = path(loss, weights, parts, order, rates)
        ctx.loss, ctx.names, ctx.order = loss, names, order
        ctx.save_for_backward(rates, *parts, *(weight for step in steps[:-1] for weight in step.values()))
        ctx.count = count
        return tuple(weight.clone() for weight in steps[-1].values())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: torch.Tensor) -> tuple[Any, ...]:
        rates, *rest = ctx.saved_tensors
        parts, flat = rest[: ctx.count], rest[ctx.count :]
        of_rates, of_parts = torch.zeros_like(rates), [torch.zeros_like(part) for part in parts]
        back: list[torch.Tensor] = list(slopes)
        width = len(ctx.names)
        for step in reversed(range(len(ctx.order))):
            place = ctx.order[step]
            weights = dict(zip(ctx.names, flat[step * width : (step + 1) * width], strict=True))
            back, changes, of_rates[step] = pulled(
                ctx.loss, weights, [part[place] for part in parts], rates[step], back
            )
            for total, change in zip(of_parts, changes, strict=True):
                total[place] += change
        return (None, None, None, None, of_rates, *of_parts, *back)
