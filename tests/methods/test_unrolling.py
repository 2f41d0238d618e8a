"""Unrolled training: its result and its back-gradient, and what memory it takes."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch.func import functional_call

from stillhouse import settings
from stillhouse.methods import unrolling
from stillhouse.models import training
from stillhouse.theory import bilevel

NETWORKS: dict[str, dict[str, Any]] = {
    "smooth": {"kind": "mlp", "width": 5, "depth": 2, "activation": "sigmoid", "bias": True},
    "relu": {"kind": "mlp", "width": 6, "activation": "relu", "bias": True},
    "convolution": {"kind": "convnet", "width": 3, "depth": 1},
    "pooling and margin": {"kind": "lenet", "margin": 7},
}
SHAPE, CLASSES = (1, 4, 4), 3

Weights = dict[str, torch.Tensor]


def prepared(name: str, steps: int = 2, size: int = 4) -> tuple[unrolling.Loss, Weights, list[torch.Tensor]]:
    """A mean cross-entropy, initial weights, and parts: inputs (S, b, *shape) and soft targets (S, b, c); all in float64."""
    params = settings.parse_plugin("models", NETWORKS[name], "models.test")
    network = training.build(params, SHAPE, CLASSES)
    rng = torch.Generator().manual_seed(3)
    training.initialise(network, rng, torch.device("cpu"), "xavier_normal")
    network.to(torch.float64)

    def loss(weights: Weights, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return training.loss("cross_entropy", functional_call(network, dict(weights), (inputs,)), targets) / len(inputs)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    weights = {key: weight.detach() + 0.1 * drawn(*weight.shape) for key, weight in network.named_parameters()}
    return loss, weights, [drawn(steps, size, *SHAPE), drawn(steps, size, CLASSES)]


def through_the_graph(
    loss: unrolling.Loss, weights: Weights, parts: Sequence[torch.Tensor], order: Sequence[int], rates: torch.Tensor
) -> Weights:
    """The same training, whose whole graph automatic differentiation keeps."""
    for place, rate in zip(order, rates, strict=True):
        value = loss(weights, *(part[place] for part in parts))
        slopes = torch.autograd.grad(value, tuple(weights.values()), create_graph=True)
        weights = {name: weight - rate * slope for (name, weight), slope in zip(weights.items(), slopes, strict=True)}
    return weights


def derivatives(
    train: Callable[..., Weights], name: str, order: Sequence[int]
) -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """What training ends in, and the gradient of an outer loss with respect to weights, parts and step sizes."""
    loss, weights, parts = prepared(name)
    rates = torch.linspace(0.1, 0.5, len(order), dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (*weights.values(), *parts, rates)]
    final = train(loss, weights, parts, order, rates)
    images = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    outer = loss(final, images, torch.eye(CLASSES, dtype=torch.float64)[torch.arange(20) % CLASSES])
    return list(final.values()), torch.autograd.grad(outer, leaves, materialize_grads=True)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("order", [[0, 1, 0, 1, 0, 1], [1], [1, 1, 0]])
def test_the_back_gradient_is_that_of_the_whole_graph(name: str, order: list[int]) -> None:
    found, wanted = (derivatives(train, name, order) for train in (unrolling.trained, through_the_graph))
    for one, other in zip((*found[0], *found[1]), (*wanted[0], *wanted[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert all(float(slope.abs().max()) > 0 for slope in found[1])


def test_the_back_gradient_is_that_of_finite_differences() -> None:
    loss, weights, parts = prepared("smooth", size=2)
    rates = torch.tensor([0.3, 0.1, 0.4], dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (rates, *parts, *weights.values())]

    def outer(rates: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, *flat: torch.Tensor) -> torch.Tensor:
        start = dict(zip(weights, flat, strict=True))
        final = unrolling.trained(loss, start, [inputs, targets], [0, 1, 0], rates)
        return torch.stack([(weight * weight).sum() for weight in final.values()]).sum()

    assert torch.autograd.gradcheck(outer, leaves, atol=1e-7, fast_mode=True)


def test_linear_regression_ends_where_the_closed_form_does_with_the_same_derivatives() -> None:
    rng = torch.Generator().manual_seed(0)
    inputs, targets, start = (torch.randn(*s, generator=rng, dtype=torch.float64) for s in ((6, 4), (6, 2), (4, 2)))
    step = torch.tensor(0.2, dtype=torch.float64)
    leaves = [each.requires_grad_() for each in (inputs, targets, start, step)]

    def loss(weights: Weights, rows: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (rows @ weights["w"] - wanted).square().sum() / (2 * len(rows))

    one = unrolling.trained(loss, {"w": start}, [inputs[None], targets[None]], [0] * 7, step.expand(7))["w"]
    other = bilevel.trained(inputs, targets, start[None], step, 0.0, 7)[0]
    torch.testing.assert_close(one, other)
    for found, wanted in zip(
        torch.autograd.grad(one.sin().sum(), leaves), torch.autograd.grad(other.sin().sum(), leaves), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_a_part_that_no_step_takes_has_no_gradient_and_the_weights_given_are_left_alone() -> None:
    loss, weights, parts = prepared("relu")
    before = {name: weight.clone() for name, weight in weights.items()}
    inputs = parts[0].requires_grad_()
    rates = torch.full((3,), 0.1, dtype=torch.float64)
    final = unrolling.trained(loss, weights, parts, [1, 1, 1], rates)
    [slope] = torch.autograd.grad([weight.sum() for weight in final.values()], [inputs])
    assert float(slope[0].abs().max()) == 0 < float(slope[1].abs().max())
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())


def test_the_path_begins_with_the_weights_given_and_ends_with_what_training_ends_in() -> None:
    loss, weights, parts = prepared("convolution")
    rates = torch.linspace(0.1, 0.3, 4, dtype=torch.float64)
    found = unrolling.path(loss, weights, parts, [0, 1, 0, 1], rates)
    final = unrolling.trained(loss, weights, parts, [0, 1, 0, 1], rates)
    assert len(found) == 5
    assert all(torch.equal(found[0][name], weight) for name, weight in weights.items())
    assert all(torch.equal(found[-1][name], weight) for name, weight in final.items())


class Held:
    """Counts the numbers that graphs hold for their backward passes, and the most at one time."""

    class _Box:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: torch.Tensor) -> Any:
        box = self._Box(tensor.detach())
        self._add(tensor.numel())
        weakref.finalize(box, self._add, -tensor.numel())
        return box

    def unpack(self, box: Any) -> torch.Tensor:
        found: torch.Tensor = box.tensor
        return found

    def _add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


def most_held(train: Callable[..., Weights], steps: int) -> tuple[int, int]:
    """The most numbers held at a time in and after so many steps on large parts, and how many weights there are."""
    loss, weights, parts = prepared("relu", size=200)
    rates = torch.full((steps,), 0.01, dtype=torch.float64).requires_grad_()
    for each in (*weights.values(), *parts):
        each.requires_grad_()
    held = Held()
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        final = train(loss, weights, parts, [0] * steps, rates)
        torch.autograd.backward([weight.sum() for weight in final.values()])
    return held.most, sum(weight.numel() for weight in weights.values())


def test_graphs_of_one_step_at_a_time_are_held_and_one_copy_of_the_weights_a_step() -> None:
    (few, size), (many, _) = (most_held(unrolling.trained, steps) for steps in (4, 24))
    assert many - few <= 20 * (size + 1)  # one step size each
    (few, _), (many, _) = (most_held(through_the_graph, steps) for steps in (4, 24))
    assert many - few > 20 * 20 * size  # what the whole graph takes: activations of every step
