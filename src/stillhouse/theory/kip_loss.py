"""What the loss of kernel inducing points has to do with recovered weights: Chen, Huang, Weng (2024), Theorem 6.1 and
Proposition 6.1.

KIP (Nguyen, Chen, Lee 2021) looks for distilled points whose weights W_S make the loss on the real data small:

    L(W_S) = |F W_S - Y|_F^2,     F (n, p), Y (n, c), W_S (p, c).

For W of least squares (ridge 0) the normal equations F^T (F W - Y) = 0 give L(W_S) = L(W) + |F (W_S - W)|_F^2. So W_S = W is
always enough for the least loss, which is 0 for n <= p and F of full rank; for n >= p and F of full rank it is needed as well.
"""

from __future__ import annotations

import torch

from stillhouse import linalg
from stillhouse.theory import points


def loss(features: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> float:
    """KIP's L = |F W - Y|_F^2 for features (n, p), targets (n, c) and weights (p, c): a sum, as ridge regression's."""
    return float((features @ weights - targets).square().sum())


def excess(features: torch.Tensor, weights: torch.Tensor, found: torch.Tensor) -> float:
    """|F (W_S - W)|_F^2: by how much the loss of W_S (p, c) exceeds that of the least-squares weights W (p, c)."""
    return float((features @ (found - weights)).square().sum())


def other_features(
    features: torch.Tensor, targets: torch.Tensor, free: torch.Tensor, ridge: float = 0.0
) -> torch.Tensor:
    """Proposition 6.1: features (n, p) other than F that with the same targets Y (n, c), n > c = rank Y, give the same weights.

    The weights are rebuilt from F and Y, and F' has F'^+ = F^+ + Z (I_n - Y Y^+) for any Z (p, n): weights do not tell which data
    they were learned from. Raises NumericalError when Z is too large for the ridge (Theorem 4.1).
    """
    backward = linalg.ridge_pseudo_inverse(features, ridge)
    return points.points(points.admissible(backward @ targets, targets, backward + free), ridge)
