"""Labels for given images: Chen, Huang, Weng (2024), Theorem 4.2, in feature space (Theorem 5.1).

With examples as rows, F (m, p) the features of the images, W (p, c) the weights wanted, F_lambda = (F_lambda^+)^+ as in `points`,

    Y_S = F_lambda W,     W_S = F_lambda^+ Y_S = P W,     P = F^+ F the projector onto the row space of F.

These are the targets of least norm among those that bring W_S nearest to W. What is left does not depend on lambda, and is zero
for rank F = p. Nothing is asked of the feature map: this is how a map that is not onto R^p is served.
"""

from __future__ import annotations

import torch

from stillhouse import linalg
from stillhouse.theory.points import regularised


def labels(weights: torch.Tensor, features: torch.Tensor, ridge: float = 0.0) -> torch.Tensor:
    """Y_S (m, c) from which ridge regression on features F (m, p) learns the weights nearest to W (p, c)."""
    return regularised(features, ridge) @ weights


def residual(weights: torch.Tensor, features: torch.Tensor) -> float:
    """|W_S - W|_F = |(F_lambda^+ F_lambda - I_p) W|_F, the least that any targets reach, whatever the ridge."""
    return float((weights - linalg.pseudo_inverse(features).value @ (features @ weights)).norm())
