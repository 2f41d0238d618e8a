"""A network whose classifier is solved and not trained: ridge regression on its features, averaged over batches.

Bohdal, Yang, Hospedales (2020), label distillation by ridge regression. Features of a batch phi (b, q), what goes into the last
layer and, where that has a bias, a column of ones, and its targets Y (b, c) give

    W_l = phi^T (phi phi^T + ridge I)^-1 Y,    W <- (1 - share) W + share W_l,    scores = scale phi W

from W = 0 and scale = 1. The features and the scale descend the cross-entropy of these scores on the batch by Adam; the gradient
goes through W_l, and not through the W before it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from stillhouse.errors import NumericalError
from stillhouse.models import training
from stillhouse.models.training import Examples, Readout
from stillhouse.run import Run


class Solved:
    """A network with its solved classifier: weights W (q, c) and scale (1,), float64, and Adam for what is trained."""

    def __init__(self, network: nn.Sequential, readout: Readout, learning_rate: float) -> None:
        last = network[-1]
        assert isinstance(last, nn.Linear)
        self.network, self._readout = network, readout
        self._body, self._constant = network[:-1], last.bias is not None
        empty = last.weight.new_empty(0, dtype=torch.float64)  # says where, and in which precision
        self.weights = empty.new_zeros(last.in_features + self._constant, last.out_features)
        self.scale = empty.new_ones(1).requires_grad_()
        self.optimiser = torch.optim.Adam(self._body.parameters(), lr=learning_rate)
        self.optimiser.add_param_group({"params": [self.scale], "lr": readout.learning_rate})

    def trained(self) -> dict[str, torch.Tensor]:
        """What the optimiser moves, by name."""
        return {**dict(self._body.named_parameters()), "scale": self.scale}

    def rows(self, inputs: torch.Tensor) -> torch.Tensor:
        """phi (b, q), float64, of inputs (b, *shape)."""
        features: torch.Tensor = self._body(inputs).to(torch.float64)
        return torch.cat([features, features.new_ones(len(features), 1)], 1) if self._constant else features

    def solve(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """W (q, c) with the part of a batch, rows (b, q) and targets (b, c), in which it is differentiable."""
        own: torch.Tensor = rows.T @ self.factor(rows, targets.to(rows))
        return (1 - self._readout.share) * self.weights + self._readout.share * own

    def factor(self, rows: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """(phi phi^T + ridge I)^-1 of a right side (b, c); NaN where features are too large for a factorisation."""
        system = rows @ rows.T + self._readout.ridge * torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        factor, failed = torch.linalg.cholesky_ex(system)
        return torch.where(failed > 0, torch.nan, torch.cholesky_solve(right, factor))

    def descend(self, rows: torch.Tensor, weights: torch.Tensor, targets: torch.Tensor) -> float:
        """A step of features and scale on a batch; `weights`, with their graph, are W from now on. Returns the loss."""
        mean = training.loss("cross_entropy", self.scale * (rows @ weights), targets.to(rows)) / len(rows)
        self.optimiser.zero_grad()
        mean.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.weights = weights.detach()
        return float(mean.detach())

    @torch.no_grad()
    def install(self) -> nn.Sequential:
        """The network with W, scaled, as its last layer."""
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        scaled = (self.scale * self.weights).T
        last.weight.copy_(scaled[:, : last.in_features])
        if self._constant:
            last.bias.copy_(scaled[:, -1])
        return self.network


def train(
    network: nn.Sequential, examples: Examples, readout: Readout, learning_rate: float, batch: int, steps: int, run: Run
) -> dict[str, float]:
    """Train in place for so many steps, epoch after epoch in a new order; returns the number of steps and the first and the last
    loss. The last layer holds the classifier.

    Raises NumericalError, naming the step, for a loss that is NaN or infinite.
    """
    solved = Solved(network, readout, learning_rate)
    losses = []
    network.train()
    order = training.batches(examples.count, batch, steps, run.generator("batches"))
    for step, index in enumerate(run.progress(order, steps, "training"), start=1):
        inputs, targets = examples.pick(index)
        rows = solved.rows(inputs)
        losses.append(solved.descend(rows, solved.solve(rows, targets), targets))
        if not math.isfinite(losses[-1]):
            raise NumericalError(f"training: the loss is {losses[-1]} at step {step} of {steps}")
    solved.install()
    network.eval()
    return {"steps": steps, "loss_first": losses[0], "loss_last": losses[-1]}
