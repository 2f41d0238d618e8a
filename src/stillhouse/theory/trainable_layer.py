"""One more trainable layer before the ridge regression: what Theorem D.1 of Chen, Huang, Weng (2024) is about.

With examples as rows, F (m, p) features, A (p, h) the layer, V (h, c) the weights behind it, Y (m, c) targets; the model that
has to be given back is W (p, c) = A V. Two readings of "trained with regularisation":

1. A is given and V is fitted with ridge lambda. With (c / (c + 1)) F^+ = D admissible for W, and A such that
   (F A)(F A)^T = c lambda I_m, the fitted V has A V = W. Then lambda and the bound on it are gone: a scale is all that is left.
   This is the theorem's printed condition. A is no minimum over A: training it as well leads away from W.

2. Both are trained: min |F A V - Y|^2 + lambda_A |A|^2 + lambda_V |V|^2. By the balanced factorisation of B = A V (h >= rank B)

       min over A V = B of lambda_A |A|^2 + lambda_V |V|^2 = 2 mu |B|_*,     mu = sqrt(lambda_A lambda_V),

   this is min over B of |F B - Y|^2 + 2 mu |B|_*, |.|_* the sum of singular values. For W and Y of rank c, W is its only minimum
   for some F if and only if

       Y^T Y - 4 mu (W^T W)^1/2 is positive semi-definite,

   as Y^T Y - 4 lambda W^T W is for one layer (the `ridge_limit` of `points`). Proof and construction: docs/theory/points.md.
"""

from __future__ import annotations

import math

import torch

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.theory import points

# Rounding makes the least eigenvalue at the limit itself slightly negative, relative to the largest.
_AT_THE_LIMIT = 1e-12


def scaled_points(weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor, scale: float) -> torch.Tensor:
    """Theorem D.1's F_S (m, p): (scale / (scale + 1)) F_S^+ = D, scale > 0 being its c, for rank D = m <= p."""
    return scale / (scale + 1) * points.points(points.admissible(weights, targets, free))


def given_layer(features: torch.Tensor, ridge: float, scale: float) -> torch.Tensor:
    """A (p, m) = sqrt(scale ridge) F^+, for F (m, p) of rank m: then (F A)(F A)^T = scale ridge I_m."""
    return math.sqrt(scale * ridge) * linalg.pseudo_inverse(features).value


def trained_points(weights: torch.Tensor, targets: torch.Tensor, free: torch.Tensor, penalty: float) -> torch.Tensor:
    """F_S (m, p) = Y K W^+ + (I_m - Y Y^+) Z (I_p - W W^+), from which both layers, trained with mu = `penalty`, have A V = W.

    K (c, c) solves K^T N (I - K) = mu H, with N = Y^T Y and H = (W^T W)^1/2. Raises NumericalError, with the numbers, for rank
    Y < c, rank W < c and a penalty above `penalty_limit`.
    """
    points.carrying(weights, targets)
    return points.two_sided_form(weights, targets @ _gain(weights, targets, penalty), free)


def penalty_limit(weights: torch.Tensor, targets: torch.Tensor) -> float:
    """The largest mu for which any features give W (p, c) back: 1 / (4 e), e the largest eigenvalue of N^-1/2 H N^-1/2."""
    return 1 / (4 * float(torch.linalg.eigvalsh(_relative(weights, targets))[-1]))


def balanced(weights: torch.Tensor, ridge_layer: float, ridge_weights: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A (p, c) and V (c, c) with A V = W (p, c) that make ridge_layer |A|^2 + ridge_weights |V|^2 least: 2 mu |W|_*."""
    left, values, right = torch.linalg.svd(weights, full_matrices=False)
    share = (ridge_weights / ridge_layer) ** 0.25
    return left * (values.sqrt() * share), values.sqrt()[:, None] / share * right


def _gain(weights: torch.Tensor, targets: torch.Tensor, penalty: float) -> torch.Tensor:
    """K = I / 2 + N^-1 S, where S N^-1 S = N / 4 - mu H: the geometric mean of N and N / 4 - mu H, from N^1/2."""
    gram = targets.T @ targets
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    inside = eye / 4 - penalty * _relative(weights, targets)
    if float(torch.linalg.eigvalsh(inside)[0]) < -_AT_THE_LIMIT:
        raise NumericalError(
            f"penalty {penalty:.6g} is above {penalty_limit(weights, targets):.6g}: no features give these weights back, because "
            "Y^T Y - 4 mu (W^T W)^1/2 is not positive semi-definite"
        )
    return eye / 2 + _root(gram, -0.5) @ _root(inside, 0.5) @ _root(gram, 0.5)


def _relative(weights: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """N^-1/2 H N^-1/2, (c, c)."""
    inverse = _root(targets.T @ targets, -0.5)
    return inverse @ _root(weights.T @ weights, 0.5) @ inverse


def _root(matrix: torch.Tensor, power: float) -> torch.Tensor:
    """A symmetric positive semi-definite matrix to a power."""
    values, vectors = torch.linalg.eigh(matrix)
    root: torch.Tensor = (vectors * values.clamp(min=0) ** power) @ vectors.T
    return root
