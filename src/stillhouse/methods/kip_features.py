"""KIP's objective where the kernel is that of an explicit feature map phi, with labels solved on the whole real set.

Chen, Huang, Weng (2024), section 7.2 and code. For examples as rows, F_S = phi(X_S) (m, p):

    K = F_S F_S^T + lambda_S I,   W_S = F_S^T K^-1 Y_S,   minimise |F_b W_S - Y_b|^2 / (b c) over X_S for batches b of real
    examples

Labels that fit all n real examples best are Y_S = A^+ Y with A = F F_S^T K^-1 (n, m). They need no column per example: with
the moments G = F^T F and C = F^T Y, Y_S = K a with (F_S G F_S^T) a = F_S C. So a step costs m p^2 instead of m n p, whatever
n is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError
from stillhouse.methods.random_images import sample
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels


@dataclass(frozen=True)
class Problem:
    """What stays the same from step to step: G = F^T F (p, p) and C = F^T Y (p, c) of the real features, lambda_S's factor."""

    gram: torch.Tensor
    cross: torch.Tensor
    ridge_S: float  # noqa: N815

    @functools.cached_property
    def least_squares(self) -> torch.Tensor:
        """What all real examples give without a ridge, (p, c)."""
        return linalg.solve_positive(self.gram, self.cross)


@dataclass(frozen=True)
class Fit:
    """What kernel ridge regression makes of features F_S (m, p), float64.

    factor        lower Cholesky factor of F_S F_S^T + ridge I, or of F_S^T F_S + ridge I where m > p
    coefficients  a = K^-1 Y_S, (m, c)
    targets       Y_S = K a, (m, c)
    weights       W_S = F_S^T a, (p, c)
    ridge         lambda_S
    """

    factor: torch.Tensor
    coefficients: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    ridge: float


class Objective:
    """What KIP descends (see `kip.Objective`); the support set is 'inputs' (m, d), float32, alone."""

    def __init__(self, real: RealSet, model: ridge.Params, batch: int, ridge_S: float, run: Run) -> None:
        self._real, self._model, self._batch, self._run = real, model, batch, run
        self._embedding = ridge.embed(model, real, run.seed)
        fitted, held_out = ridge.split(len(real.train), model.validation, run.seed)
        sums = linalg.Moments(self._embedding.map.dim, real.width, run.device)
        self._examples = Examples(real, self._embedding, fitted, run, "fitted", sums)
        self._held_out = Examples(real, self._embedding, held_out, run, "held_out")
        self._problem = Problem(sums.gram, sums.cross, ridge_S)

    def start(self, per_class: int) -> dict[str, torch.Tensor]:
        """Random real images."""
        chosen = sample(self._real, per_class, self._run.generator("images"))
        started = self._embedding.space.forward(pixels(self._real.train.inputs[chosen])).flatten(1).to(self._run.device)
        self._started = started.clone()
        return {"inputs": started}

    def descend(self, support: Mapping[str, torch.Tensor], draw: torch.Generator) -> float:
        """Labels from the moments, the gradient in closed form, then through phi. Raises NumericalError for features of NaN."""
        features = self._embedding.map(support["inputs"])
        exact = features.detach().to(torch.float64)
        if not bool(exact.isfinite().all()):
            raise NumericalError("features of the images are NaN or infinite")
        fit = solve_labels(exact, self._problem)
        loss, slope = batch_loss(fit.weights, *self._examples.drawn(self._batch, draw))
        torch.autograd.backward(features, feature_gradient(exact, fit, slope, self._problem.ridge_S).to(features))
        return float(loss)

    @torch.no_grad()
    def score(self, support: Mapping[str, torch.Tensor]) -> float:
        """Merit of the held-out examples, in percent. Raises NumericalError for features of NaN."""
        features = self._embedding.map(support["inputs"]).to(torch.float64)
        if not bool(features.isfinite().all()):
            raise NumericalError("features of the images are NaN or infinite")
        return self._held_out.merit(solve_labels(features, self._problem).weights)

    def finish(self, support: Mapping[str, torch.Tensor], steps: int) -> DistilledSet:
        """With the labels solved once more, for the inputs in float64."""
        inputs = support["inputs"].to(torch.float64)
        fit = solve_labels(self._embedding.map(inputs), self._problem)
        moved = linalg.relative_error(inputs, self._started.to(inputs))
        merit = {f"validation_{self._real.merit_name}": self._held_out.merit(fit.weights)}
        self._run.record(step=steps, **merit, distance_to_start=moved)
        return DistilledSet.of(
            self._real,
            inputs=inputs.reshape(-1, *self._real.shape).cpu(),
            targets=fit.targets.cpu(),
            space=self._embedding.space.settings(),
            model={**settings.dump(self._model), "seed": self._run.seed},
            schedule={"ridge": fit.ridge},
        )


def solve_labels(features: torch.Tensor, problem: Problem) -> Fit:
    """The labels that fit all real examples best for features F_S (m, p), float64, and what is learned from them.

    W_S ranges over the span of the rows of F_S whatever lambda_S is, so a minimises |F F_S^T a - Y|, and Y_S = K a. With m >= p
    that span is everything, and W_S is least squares on the whole real set, whatever the images are.
    """
    if len(features) < features.shape[1]:
        small = features @ features.T
        half = features @ problem.gram
        coefficients = linalg.solve_positive(half @ features.T, features @ problem.cross)
    else:
        small = features.T @ features
        coefficients = features @ linalg.solve_positive(small, problem.least_squares)
    strength = problem.ridge_S * float(features.square().sum()) / len(features)
    small.diagonal().add_(strength)
    weights = features.T @ coefficients
    targets = features @ weights + strength * coefficients
    return Fit(torch.linalg.cholesky(small), coefficients, targets, weights, strength)


def batch_loss(weights: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """|F_b W - Y_b|^2 / (b c) for features F_b (b, p), and its derivative with respect to W, (p, c), float64."""
    residual = rows @ weights.to(rows) - targets.to(rows)
    slope = (2 / residual.numel()) * (rows.T @ residual)
    return residual.square().mean().to(weights), slope.to(weights)


def feature_gradient(features: torch.Tensor, fit: Fit, slope: torch.Tensor, ridge_S: float) -> torch.Tensor:
    """Derivative (m, p) of the loss with respect to F_S, Y_S held fixed, from its derivative `slope` with respect to W_S.

    dW = dF^T a - F^T K^-1 dK a with dK = dF F^T + F dF^T + d lambda I; every product has c columns, none is m x m x p.
    Where Y_S is the best for all real examples, its own change does not change the loss over them (envelope theorem).
    """
    if len(features) < features.shape[1]:
        dual = torch.cholesky_solve(features @ slope, fit.factor)
    else:
        dual = features @ torch.cholesky_solve(slope, fit.factor)
    trace = 2 * ridge_S / len(features) * (dual * fit.coefficients).sum()
    pulled = slope - features.T @ dual
    return fit.coefficients @ pulled.T - dual @ fit.weights.T - trace * features


class Examples:
    """Features and targets of real examples at any positions.

    Where the run has a store, features are computed once and kept in a file that is mapped, not read: a step takes b rows of
    it instead of a product with a p x p matrix, and all that grows with n is memory the system can take back at any time.
    """

    def __init__(
        self, real: RealSet, embedding: ridge.Embedding, index: torch.Tensor, run: Run, name: str,
        sums: linalg.Moments | None = None,
    ) -> None:  # fmt: skip
        """The training examples of `real` at `index`; adds them to `sums` on the way. `name` is that of the store's file."""
        self._real, self._embedding, self._index, self._run = real, embedding, index, run
        self._mapped: torch.Tensor | None = None
        if run.store is not None:
            path, shape = run.store.folder / f"{name}.float32", (len(index), embedding.map.dim)
            self._mapped = torch.from_file(str(path), shared=True, size=shape[0] * shape[1]).view(shape)
        if sums is not None or run.store is not None:
            self._fill(sums)

    def _fill(self, sums: linalg.Moments | None) -> None:
        start, total = 0, -(-len(self._index) // ridge.CHUNK)
        chunks = ridge.feature_chunks(self._real.train, self._embedding, self._index, self._run)
        for rows, labels in self._run.progress(chunks, total, "features"):
            if sums is not None:
                sums.add(rows, self._real.target_rows(labels).to(rows.device))
            if self._mapped is not None:
                self._mapped[start : start + len(rows)] = rows.cpu()
            start += len(rows)

    def drawn(self, count: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (b, p), float32, and target rows (b, c) of b = min(count, n) examples, each drawn from all of them."""
        return self.at(torch.randint(len(self._index), (min(count, len(self._index)),), generator=draw))

    def merit(self, weights: torch.Tensor) -> float:
        """Mean merit of what weights (p, c) say of the examples, in percent (`RealSet.merit`)."""
        total = 0.0
        for positions in torch.split(torch.arange(len(self._index)), ridge.CHUNK):
            rows, _ = self.at(positions)
            total += self._real.merit(rows @ weights.to(rows), self._real.train.targets[self._index[positions]])
        return 100 * total / len(self._index)

    def at(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (b, p), float32, and target rows (b, c) of the examples at `positions` of the index."""
        index = self._index[positions]
        if self._mapped is not None:
            found = self._mapped[positions].to(self._run.device)
        else:
            found = self._embedding.features(pixels(self._real.train.inputs[index]).to(self._run.device))
        return found, self._real.target_rows(self._real.train.targets[index]).to(found)
