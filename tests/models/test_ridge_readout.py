"""The solved classifier: against its closed form, its gradient, and what a trained network does with it."""

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional

from stillhouse import settings
from stillhouse.errors import NumericalError
from stillhouse.models import mlp, ridge_readout, training
from stillhouse.models.ridge_readout import Readout, Solved
from stillhouse.run import Run


def network(seed: int = 0, bias: bool = True) -> Any:
    """From 6 values through 5 features to 3 scores, float64."""
    params = settings.parse(mlp.Params, {"width": 5, "activation": "sigmoid", "bias": bias, "space": "pixels"}, "test")
    made = training.build(params, (1, 2, 3), 3)
    training.initialise(made, torch.Generator().manual_seed(seed), torch.device("cpu"), "pytorch")
    return made.to(torch.float64)


def batch(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 1, 2, 3, generator=rng, dtype=torch.float64)
    return inputs, torch.rand(count, 3, generator=rng, dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_batch_gives_the_ridge_weights_of_its_features(count: int) -> None:
    """From the other side: (phi^T phi + ridge I)^-1 phi^T Y."""
    inputs, targets = batch(count)
    solved = Solved(network(), Readout(ridge=0.3, share=1.0), 1e-3)
    rows = solved.rows(inputs)
    assert torch.equal(rows[:, -1], torch.ones(count, dtype=torch.float64))
    wanted = torch.linalg.solve(rows.T @ rows + 0.3 * torch.eye(6, dtype=torch.float64), rows.T @ targets)
    torch.testing.assert_close(solved.solve(rows, targets), wanted)


def test_weights_are_an_average_over_batches_that_begins_at_0() -> None:
    solved = Solved(network(), Readout(share=0.25), 1e-300)
    total = torch.zeros(6, 3, dtype=torch.float64)
    for seed in range(3):
        inputs, targets = batch(4, seed)
        rows = solved.rows(inputs)
        own = torch.linalg.solve(rows.T @ rows + torch.eye(6, dtype=torch.float64), rows.T @ targets)
        total = 0.75 * total + 0.25 * own
        solved.descend(rows, solved.solve(rows, targets), targets)
    torch.testing.assert_close(solved.weights, total.detach())


def test_the_gradient_goes_through_the_batch_but_not_through_the_average_before_it() -> None:
    """One step of Adam moves every entry by the learning rate against its gradient, found here by finite differences."""
    inputs, targets = batch(4)
    before = torch.randn(6, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)

    def loss(made: Any) -> float:
        with torch.no_grad():
            phi = torch.cat([made[:-1](inputs), torch.ones(4, 1, dtype=torch.float64)], 1)
            own = phi.T @ torch.linalg.solve(phi @ phi.T + torch.eye(4, dtype=torch.float64), targets)
            return float(functional.cross_entropy(phi @ (0.5 * before + 0.5 * own), targets))

    made, weights = network(), dict(network()[:-1].named_parameters())
    slopes = {}
    for name, weight in weights.items():
        place = dict(made[:-1].named_parameters())[name].data.view(-1)
        slopes[name] = torch.zeros_like(place)
        for i in range(len(place)):
            at, ends = float(weight.data.view(-1)[i]), []
            for shift in (1e-5, -1e-5):
                place[i] = at + shift
                ends.append(loss(made))
            place[i] = at
            slopes[name][i] = (ends[0] - ends[1]) / 2e-5
    solved = Solved(made, Readout(share=0.5), 1e-4)
    solved.weights = before
    rows = solved.rows(inputs)
    told = solved.descend(rows, solved.solve(rows, targets), targets)
    assert told == pytest.approx(loss(network()))
    for name, weight in solved.trained().items():
        if name != "scale":
            assert weight.grad is not None
            torch.testing.assert_close(weight.grad.view(-1), slopes[name], rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(weights[name] - weight, 1e-4 * weight.grad.sign(), rtol=1e-2, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
def test_the_network_ends_with_the_classifier_as_its_last_layer(bias: bool) -> None:
    inputs, targets = batch(8)
    solved = Solved(network(bias=bias), Readout(share=0.5, learning_rate=0.1), 0.01)
    for _ in range(5):
        rows = solved.rows(inputs)
        solved.descend(rows, solved.solve(rows, targets), targets)
    assert abs(float(solved.scale.detach()) - 1) > 0.01
    wanted = solved.scale * (solved.rows(inputs) @ solved.weights)
    torch.testing.assert_close(solved.install()(inputs), wanted)


def test_training_brings_the_loss_down_and_is_that_of_its_seed() -> None:
    inputs, _ = batch(12)
    targets = torch.eye(3)[torch.arange(12) % 3]
    examples = training.Examples(12, lambda index: (inputs[index].float(), targets[index]))
    ends = []
    for seed in (0, 0, 1):
        made = network().float()
        notes = ridge_readout.train(made, examples, Readout(share=0.1), 0.01, 5, 60, Run(seed=seed))
        ends.append(made(inputs.float()))
        assert notes["steps"] == 60
    assert notes["loss_last"] < notes["loss_first"] - 0.01
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_loss_that_is_no_number_stops_with_the_step() -> None:
    inputs, targets = batch(4)
    targets[1, 0] = torch.nan
    examples = training.Examples(4, lambda index: (inputs[index], targets[index]))
    with pytest.raises(NumericalError, match="training: the loss is nan at step 1 of 3"):
        ridge_readout.train(network(), examples, Readout(), 1e-3, 4, 3, Run())


@pytest.mark.parametrize("wrong", [{"ridge": 0}, {"share": 0}, {"share": 1.5}, {"learning_rate": -1}])
def test_settings_without_meaning_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Exception, match=next(iter(wrong))):
        settings.parse(Readout, {**dataclasses.asdict(Readout()), **wrong}, "test")
