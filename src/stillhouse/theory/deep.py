"""Networks that are wider than their inputs: Chen, Huang, Weng (2024), Theorems 5.2 and 5.3, and what holds where 5.3 is empty.

Examples are rows, the paper's are columns, so that its formulas stand here transposed: layers A_l = W^(l)^T (d_l-1, d_l) with
d = d_0 < d_1 = ... = d_L = p, features phi(X) = s(... s(X A_1) ... A_L) (m, p), targets Y (m, c), weights W (p, c). Least squares
without ridge learns phi(X)^+ Y; it is to be W. (Theorem 5.1, where phi is onto R^p, is the `inverse` of a feature map.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import torch
from scipy.optimize import minimize

from stillhouse import linalg

Layers = Sequence[torch.Tensor]
Activation = Callable[[torch.Tensor], torch.Tensor]
# What stands in H of Theorem 5.3 (2): W^(L) ... W^(1) (W^(1))^+ as printed, or W^(L) ... W^(2), as if W^(1) (W^(1))^+ were I_p.
Reading = Literal["all layers", "layers after the first"]


def distance_to_row_space(rows: torch.Tensor, matrix: torch.Tensor) -> float:
    """|R - R A^+ A|_F / |R|_F of rows R (m, p) and A (d, p): 0 where every row is a combination of A's, at most 1."""
    return linalg.relative_error(rows @ linalg.pseudo_inverse(matrix).value @ matrix, rows)


def first_preactivations(layers: Layers, undo: Activation, features: torch.Tensor) -> torch.Tensor:
    """What X A_1 (m, p) must be for the network to send X to `features` (m, p): every layer but the first undone.

    `undo` is s^-1; the layers after the first are square and invertible.
    """
    rows = undo(features)
    for layer in reversed(layers[1:]):
        rows = undo(linalg.RowSystem(layer).solve(rows))
    return rows


def one_point_residual(layers: Layers, undo: Activation, weights: torch.Tensor, targets: torch.Tensor) -> float:
    """Theorem 5.2: by how much m = c points miss W, as a distance to what the first layer can make; 0 is its exception.

    For m = c the features must be (W Y^+)^+, so that X A_1 is determined, and p > d of its coordinates are too many for X.
    For s = identity this is the condition of Theorem 5.3 (1), Y W^+ in the row space of A_1 ... A_L, up to the norm.
    """
    wanted = linalg.pseudo_inverse(weights @ linalg.pseudo_inverse(targets).value).value
    return distance_to_row_space(first_preactivations(layers, undo, wanted), layers[0])


@dataclass(frozen=True)
class Optimised:
    """The inputs X (m, d) that a search found, and the relative error of the weights learned from them."""

    inputs: torch.Tensor
    error: float


def optimised_inputs(
    phi: Activation, weights: torch.Tensor, targets: torch.Tensor | None, start: torch.Tensor, steps: int = 300
) -> Optimised:
    """Minimise |phi(X)^+ Y - W|^2 over X (m, d) by L-BFGS from `start`: what a search can do where no construction is known.

    Without targets, Y = phi(X) W, the best there are for these inputs (Theorem 4.2).
    """

    def error(inputs: torch.Tensor) -> torch.Tensor:
        features = phi(inputs)
        wanted = features @ weights if targets is None else targets
        relative: torch.Tensor = (torch.linalg.pinv(features) @ wanted - weights).norm() / weights.norm()
        return relative

    def squared_with_gradient(flat: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, Any]:
        inputs = torch.from_numpy(flat).reshape(start.shape).requires_grad_()
        value = error(inputs).square()
        (gradient,) = torch.autograd.grad(value, inputs)
        return value.item(), gradient.flatten().numpy()

    found = minimize(
        squared_with_gradient,
        start.flatten().numpy(),
        jac=True,
        method="L-BFGS-B",
        # The error is squared, so that scipy's default tolerances would stop at 1e-5 of it.
        options={"maxiter": steps, "ftol": 1e-16, "gtol": 1e-10},
    )
    inputs = torch.from_numpy(found.x).reshape(start.shape)
    return Optimised(inputs, float(error(inputs)))


def product(layers: Layers) -> torch.Tensor:
    """A = A_1 ... A_L (d, p): the whole of a deep linear network."""
    return reduce(torch.matmul, layers)


def deep_linear_residual(layers: Layers, weights: torch.Tensor, targets: torch.Tensor) -> float:
    """Theorem 5.3 (1): distance of Y W^+ (m, p) to the row space of A; 0, the exception, for every W that was trained."""
    return distance_to_row_space(targets @ linalg.pseudo_inverse(weights).value, product(layers))


def out_of_reach(layers: Layers, weights: torch.Tensor) -> float:
    """|W - Q Q^T W|_F / |W|_F, the columns of Q (p, d) a basis of A's row space: what no deep linear network learns.

    phi(X)^+ Y lies in the row space of phi(X) = X A, for any number of points, any targets and any ridge. So the error of the
    learned weights is never below this, and `deep_linear_inputs` attains it. 0 for W = phi(X)_lambda^+ Y itself.
    """
    return distance_to_row_space(weights.T, product(layers))


def deep_linear_inputs(
    layers: Layers, weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor
) -> torch.Tensor:
    """X (m, d), m >= c, from which a deep linear network learns the part of W that it can learn; all of a W that was trained.

    Not in the paper. With A^T = Q R, phi(X) = T Q^T for T = X R^T (m, d), so that phi(X)^+ Y = Q T^+ Y: this is Theorem 4.1
    in d dimensions for Q^T W. `free` is its Z (d, m); the targets have rank c.
    """
    basis, triangle = torch.linalg.qr(product(layers).T)
    inverse = linalg.pseudo_inverse(targets).value
    backward = basis.T @ weights @ inverse + free - free @ targets @ inverse
    return linalg.RowSystem(triangle.T).solve(linalg.pseudo_inverse(backward).value)


@dataclass(frozen=True)
class PrintedCondition:
    """What Theorem 5.3 (2) asks for, in numbers: H (p, 2p) and the last p x p block of its right singular vectors."""

    reading: Reading
    features: int
    rank_h: int
    rank_block: int

    @property
    def deficit(self) -> int:
        """Ranks that the block lacks: p - d for H as printed and of full rank."""
        return self.features - self.rank_block

    @property
    def holds(self) -> bool:
        """Both have rank p."""
        return self.rank_h == self.rank_block == self.features


def printed_condition(layers: Layers, weights: torch.Tensor, reading: Reading) -> PrintedCondition:
    """Theorem 5.3 (2), its condition.

    As printed, H = [A^T A_1^+T, W W^+ - I]. A_1^+T has a null space of dimension p - d, and (z, 0) is in that of H for each z
    there; so once H has rank p, the block, which shows the second half of a basis of H's null space, has rank d exactly.
    """
    stacked = _stacked(layers, weights, reading)
    features = stacked.shape[1]
    return PrintedCondition(reading, features, linalg.rank(stacked), linalg.rank(_null_space(stacked)[features:]))


def printed_construction(
    layers: Layers, weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor, reading: Reading
) -> torch.Tensor:
    """X (m, d) of the proof of Theorem 5.3 (2), the block's inverse read as its pseudo-inverse; `free` is Z'^T (m, p).

    [C1, C2] = Y W^+ K^+, B = ((I - Y Y^+) Z'^T - C2) N2^+T, X = (C1 + B N1^T) A_1^+ with K = H^T and [N1; N2] its null space.
    """
    stacked = _stacked(layers, weights, reading)
    features = stacked.shape[1]
    null = _null_space(stacked)
    particular = targets @ linalg.pseudo_inverse(weights).value @ linalg.pseudo_inverse(stacked).value
    kept = free - targets @ (linalg.pseudo_inverse(targets).value @ free)
    steps = (kept - particular[:, features:]) @ linalg.pseudo_inverse(null[features:].T).value
    preactivations = particular[:, :features] + steps @ null[:features].T
    return preactivations @ linalg.pseudo_inverse(layers[0]).value


def _stacked(layers: Layers, weights: torch.Tensor, reading: Reading) -> torch.Tensor:
    """H^T (2p, p) of Theorem 5.3 (2)."""
    eye = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    first = eye if reading == "layers after the first" else linalg.pseudo_inverse(layers[0]).value @ layers[0]
    projector = weights @ linalg.pseudo_inverse(weights).value
    return torch.cat([reduce(torch.matmul, layers[1:], first), projector - eye])


def _null_space(stacked: torch.Tensor) -> torch.Tensor:
    """The last p of H's right singular vectors, (2p, p)."""
    left: torch.Tensor = torch.linalg.svd(stacked).U
    return left[:, stacked.shape[1] :]
