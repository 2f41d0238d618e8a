"""KIP's objective where the kernel is a function, such as that of an infinitely wide network.

Nguyen, Chen, Lee (2021), Algorithm 1. Derivatives of the loss with respect to the two kernel matrices are written down, so
that the solve is done once, in float64, and automatic differentiation is left with the kernels alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from stillhouse import kernels, linalg, settings
from stillhouse.augmentation import Augmentation, augment
from stillhouse.data import whitening
from stillhouse.kernels import ExplicitKernel, Kernel, tiles
from stillhouse.methods import label_solve
from stillhouse.methods.random_images import sample
from stillhouse.methods.support import Balanced, corrupt
from stillhouse.models import kernel as model_kernel
from stillhouse.models import ridge
from stillhouse.models.kernel import System
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet


class Objective:
    """What KIP descends (see `kip.Objective`).

    The support set is 'inputs' (m, *shape) in the model's precision and, where labels are learned, 'targets' (m, c), float64:
    one-hot minus 1/c at the start.
    """

    def __init__(
        self, real: RealSet, model: model_kernel.Params, run: Run, *, batch: int, ridge_S: float, labels: str,
        family: tuple[Any, ...], augmentation: Augmentation, corruption: float, corruption_kind: str,
    ) -> None:  # fmt: skip
        self._real, self._model, self._run = real, model, run
        self._batch, self._ridge, self._labels = batch, ridge_S, labels
        self._augmentation = augmentation
        self._corruption = (corruption, corruption_kind)
        self._family = family or (model.kernel,)
        self._space = whitening.fit(model.space, real)
        self._fitted, self._held_out = ridge.split(len(real.train), model.validation, run.seed)
        self._batches = Balanced(real, self._fitted)

    def start(self, per_class: int) -> dict[str, torch.Tensor]:
        """Random real images, a part of each replaced and frozen where there is corruption, and their centred labels."""
        chosen = sample(self._real, per_class, self._run.generator("images"))
        inputs = self._inputs(chosen)
        self._started, self._frozen = corrupt(inputs, *self._corruption, self._run.generator("corruption"))
        targets = self._real.target_rows(self._real.train.targets[chosen]).to(self._run.device)
        self._targets = targets - self._shift
        trained = {"inputs": self._started.clone()}
        return trained | ({"targets": self._targets.clone()} if self._labels == "learned" else {})

    def descend(self, support: Mapping[str, torch.Tensor], draw: torch.Generator) -> float:
        """The loss of a class-balanced batch, for a kernel of the family."""
        kernel = self._drawn(draw)
        rows, wanted = self._drawn_batch(draw)
        inputs = support["inputs"]
        if self._labels == "solved":
            across = tiles.cross(kernel, rows, inputs)
            loss, slope = solved_loss(across.detach().to(torch.float64), wanted)
            torch.autograd.backward(across, slope.to(across))
        else:
            across, gram = matrices(kernel, rows, inputs)
            exact = across.detach().to(torch.float64)
            system = System.of_gram(gram.detach(), self._ridge)
            targets = support.get("targets", self._targets)
            loss, slopes = fixed_loss(exact, system, targets.detach(), wanted, self._ridge)
            torch.autograd.backward([across, gram], [slopes.across.to(across), slopes.gram])
            if "targets" in support:
                targets.grad = slopes.targets
        if inputs.grad is not None:
            inputs.grad.masked_fill_(self._frozen, 0.0)
        return loss

    @torch.no_grad()
    def score(self, support: Mapping[str, torch.Tensor]) -> float:
        """Merit, in percent, of what the model's own kernel says of the held-out examples."""
        blocks = self._blocks(support)
        weights, _, _ = self._weights(support, blocks, self._fitted)
        return 100 * blocks.merits(self._held_out, [weights])[0]

    @torch.no_grad()
    def finish(self, support: Mapping[str, torch.Tensor], steps: int) -> DistilledSet:
        """Labels that are solved are solved on all training examples."""
        everything = torch.arange(len(self._real.train))
        _, targets, system = self._weights(support, self._blocks(support), everything)
        inputs = support["inputs"].detach()
        moved = linalg.relative_error(inputs, self._started)
        self._run.record(
            step=steps, **{f"validation_{self._real.merit_name}": self.score(support)}, distance_to_start=moved
        )
        return DistilledSet.of(
            self._real,
            inputs=inputs.cpu(),
            targets=(targets + self._shift).cpu(),
            space=self._space.settings(),
            model={**settings.dump(self._model), "seed": self._run.seed},
            recipe={"numerics": {"steps": steps, **system.numerics()}},
        )

    @property
    def _shift(self) -> float:
        return model_kernel.shift(self._model, self._real)

    def _drawn(self, draw: torch.Generator) -> Kernel:
        """A kernel of the family; a random one is drawn anew at every step."""
        place, seed = (int(torch.randint(high, (), generator=draw)) for high in (len(self._family), 2**31))
        return kernels.build(self._family[place], self._real.shape, seed)

    def _drawn_batch(self, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (b, *shape), augmented, and centred targets (b, c), float64."""
        positions = self._batches.draw(self._batch, draw)
        wanted = self._real.target_rows(self._real.train.targets[positions]) - self._shift
        return augment(self._inputs(positions), self._augmentation, draw), wanted.to(self._run.device)

    def _inputs(self, positions: torch.Tensor) -> torch.Tensor:
        return model_kernel.inputs_at(self._real, positions, self._space, self._model, self._run)

    def _blocks(self, support: Mapping[str, torch.Tensor]) -> model_kernel.Blocks:
        """Of the model's own kernel."""
        kernel = model_kernel.build(self._model, self._real.shape, self._run.seed)
        return model_kernel.Blocks(self._real, kernel, support["inputs"], self._space, self._model, self._run)

    def _weights(
        self, support: Mapping[str, torch.Tensor], blocks: model_kernel.Blocks, solved_on: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, System]:
        """Coefficients a (m, c), centred targets (m, c) and the system; labels that are solved are so on `solved_on`."""
        system = System.of_gram(tiles.gram(blocks.kernel, support["inputs"].to(torch.float64)), self._ridge)
        if self._labels == "solved":
            weights, _ = label_solve.solve(blocks.moments(solved_on))
            return weights, system.matrix @ weights, system
        targets = support.get("targets", self._targets).detach()
        return system.cholesky.solve(targets), targets, system


def matrices(kernel: Kernel, rows: torch.Tensor, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """K_bS (b, m), and K_SS (m, m) in float64, of rows (b, *shape) and inputs (m, *shape); differentiable in the inputs.

    A kernel that is a product of explicit features passes the inputs through them once for both.
    """
    if isinstance(kernel, ExplicitKernel):
        own = kernel.features(inputs)
        exact = own.to(torch.float64)
        return kernel.features(rows) @ own.T + kernel.offset, exact @ exact.T + kernel.offset
    return tiles.cross(kernel, rows, inputs), tiles.gram(kernel, inputs.to(torch.float64))


class Slopes(NamedTuple):
    """Derivatives of the loss: with respect to K_bS (b, m), to K_SS (m, m) before the ridge is added, and to Y_S (m, c)."""

    across: torch.Tensor
    gram: torch.Tensor
    targets: torch.Tensor


def fixed_loss(
    across: torch.Tensor, system: System, targets: torch.Tensor, wanted: torch.Tensor, ridge_S: float
) -> tuple[float, Slopes]:
    """Half the mean square of K_bS (K_SS + lambda I)^-1 Y_S - Y_b and its derivatives; lambda = ridge_S tr(K_SS) / m.

    across K_bS (b, m), targets Y_S (m, c), wanted Y_b (b, c), all float64. With a = (K_SS + lambda I)^-1 Y_S and the residual
    R / (b c): dL/dK_bS = R a^T, dL/dY_S = g = (K_SS + lambda I)^-1 K_bS^T R, dL/dK_SS = -g a^T - ridge_S / m tr(g a^T) I.
    """
    solved = system.cholesky.solve(targets)
    residual = across @ solved - wanted
    loss = float(residual.square().mean()) / 2
    residual = residual / residual.numel()
    pulled = system.cholesky.solve(across.T @ residual)
    gram = -pulled @ solved.T
    gram.diagonal().sub_(ridge_S / len(gram) * (pulled * solved).sum())
    return loss, Slopes(residual @ solved.T, gram, pulled)


def solved_loss(across: torch.Tensor, wanted: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Half the mean square of K_bS a - Y_b for the best a, which is K_SS's inverse times the best labels, and its derivative
    with respect to K_bS (b, m): a's own change does not change the minimum (envelope theorem), and K_SS has no part in it.
    """
    weights = linalg.solve_positive(across.T @ across, across.T @ wanted)
    residual = across @ weights - wanted
    return float(residual.square().mean()) / 2, residual @ weights.T / residual.numel()
