"""What T steps of gradient descent on distilled points learn, and what it takes for them to learn the real weights: Mahowald,
Srinivasan, Wang (2025), section 2 and appendix A.

Inner loss of weights W (d, k) on points X (m, d) with targets Y (m, k), ridge lambda, step size eta:

    (1/2m) |X W - Y|^2 + lambda/2 |W|^2,     W_{t+1} = C W_t + (eta/m) X^T Y,     C = (1 - eta lambda) I - (eta/m) X^T X

so that W_T = C^T W_0 + S_T (eta/m) X^T Y with S_T = sum_{j<T} C^j. Powers and sums come from repeated squaring, C^{2a} = C^a C^a
and S_{a+b} = S_a + C^a S_b, with matrix products alone: differentiable, right for ridge 0, where no inverse exists for m < d, and
for a step of any size. For few points the m x m matrix K = (1 - eta lambda) I - (eta/m) X X^T does the work, since X C = K X.

Any dimensions may stand before m: runs side by side, each with a step size of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

# The m x m form multiplies starts twice as often; for m below this part of d its smaller matrices outweigh that.
_FEW = 0.75


def unrolled(
    inputs: torch.Tensor, targets: torch.Tensor, starts: torch.Tensor, step: torch.Tensor, ridge: float, steps: int
) -> torch.Tensor:
    """W_T (..., q, d, k) of T `steps` from each of q `starts` (..., q, d, k), one after the other; `step` eta is (...)."""
    count, eta = inputs.shape[-2], step[..., None, None]
    weights = _beside(starts)
    wanted = _repeated(targets, starts)
    for _ in range(steps):
        slope = inputs.mT @ (inputs @ weights - wanted) / count + ridge * weights
        weights = weights - eta * slope
    return _apart(weights, starts)


def trained(
    inputs: torch.Tensor, targets: torch.Tensor, starts: torch.Tensor, step: torch.Tensor, ridge: float, steps: int
) -> torch.Tensor:
    """The same in closed form, for inputs (..., m, d), targets (..., m, k) and starts (..., q, d, k); differentiable in all."""
    count, dim = inputs.shape[-2:]
    eta = step[..., None, None]
    kept, begun = 1 - eta * ridge, _beside(starts)
    if count > _FEW * dim:
        # A step as one matrix: [[C, (eta/m) X^T Y], [0, I]] takes [W; I] on, so that its powers hold the sums as well.
        once = kept * _eye(inputs, dim) - eta / count * (inputs.mT @ inputs)
        moved = torch.cat([once, eta / count * (inputs.mT @ targets)], -1)
        unit = _eye(inputs, targets.shape[-1]).expand(*inputs.shape[:-2], -1, -1)
        fixed = torch.cat([unit.new_zeros(*unit.shape[:-1], dim), unit], -1)
        squares = _squares(torch.cat([moved, fixed], -2), steps)
        columns = torch.cat([begun, _repeated(unit, starts)], -2)
        return _apart(_power(squares, columns, steps)[..., :dim, :], starts)
    # C^T = kept^T I - (eta/m) X^T [sum_j kept^{T-1-j} K^j] X, since C^j X^T = X^T K^j.
    squares = _squares(kept * _eye(inputs, count) - eta / count * (inputs @ inputs.mT), steps)
    learned = _series(squares, targets, torch.ones_like(kept), steps)
    forgotten = _series(squares, inputs @ begun, kept, steps)
    moved = eta / count * (inputs.mT @ (_repeated(learned, starts) - forgotten))
    return _apart(kept**steps * begun + moved, starts)


def coefficients(
    gram: torch.Tensor, targets: torch.Tensor, step: torch.Tensor, ridge: float, steps: int
) -> torch.Tensor:
    """A (..., m, k) of the function f = sum_j A_j k(x_j, .) after T steps of gradient descent in the space of the kernel, from 0:

    A_{t+1} = K A_t + (eta/m) Y,   K = (1 - eta lambda) I - (eta/m) K_SS for the kernel values K_SS (..., m, m) of the points.

    As T grows it is the kernel ridge regression (K_SS + m lambda I)^-1 Y, if the step is below its bound.
    """
    count, eta = gram.shape[-1], step[..., None, None]
    kept = 1 - eta * ridge
    squares = _squares(kept * _eye(gram, count) - eta / count * gram, steps)
    return _series(squares, eta / count * targets, torch.ones_like(kept), steps)


def step_bound(largest: torch.Tensor, count: int, ridge: float) -> torch.Tensor:
    """Lemma 2.4: eta < 2m / (sigma_1^2 + m lambda), below which all eigenvalues of C are between -1 and 1 and the steps converge.

    `largest` is sigma_1^2 of the points X (m, d), (...), or the largest eigenvalue of their kernel matrix.
    """
    return 2 * count / (largest + count * ridge)


def guaranteed_slope(ridge: float, convexity: float, rate: float) -> float:
    """Theorem 2.9 as a slope of log loss against steps: log(1 - rate (lambda_O - M)), at most 0.

    rate       the step of outer gradient descent; the theorem's factor 1 - (lambda_O - M) / L has the largest allowed, 1/L
    ridge      lambda_O of the outer loss
    convexity  M: no eigenvalue of the Hessian of the outer loss without its ridge is below -M (Lemma 2.7)

    For M >= lambda_O it promises nothing: 0.
    """
    return math.log1p(-rate * (ridge - convexity)) if ridge > convexity else 0.0


def _squares(matrix: torch.Tensor, steps: int) -> list[torch.Tensor]:
    """A, A^2, A^4, ... up to the highest power of 2 in `steps`."""
    found = [matrix]
    for _ in range(steps.bit_length() - 1):
        found.append(found[-1] @ found[-1])
    return found


def _power(squares: Sequence[torch.Tensor], columns: torch.Tensor, steps: int) -> torch.Tensor:
    """A^T B for columns B."""
    for place, square in enumerate(squares):
        if steps >> place & 1:
            columns = square @ columns
    return columns


def _series(squares: Sequence[torch.Tensor], columns: torch.Tensor, factor: torch.Tensor, steps: int) -> torch.Tensor:
    """V_T = sum_{j<T} factor^{T-1-j} A^j B for columns B, by V_{a+b} = factor^b V_a + A^a V_b with a = 1, 2, 4, ..."""
    total, block, done = torch.zeros_like(columns), columns, 0
    for place, square in enumerate(squares):
        if steps >> place & 1:
            total = factor**done * block + square @ total
            done += 1 << place
        if place + 1 < len(squares):
            block = factor ** (1 << place) * block + square @ block
    return total


def _beside(starts: torch.Tensor) -> torch.Tensor:
    """(..., q, d, k) as columns (..., d, q k)."""
    return starts.movedim(-3, -2).flatten(-2)


def _apart(columns: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Columns (..., d, q k) as (..., q, d, k)."""
    return columns.reshape(*columns.shape[:-1], starts.shape[-3], starts.shape[-1]).movedim(-2, -3)


def _repeated(columns: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """(..., a, k) for each of q starts, (..., a, q k)."""
    return columns.repeat(*[1] * (columns.ndim - 1), starts.shape[-3])


def _eye(like: torch.Tensor, size: int) -> torch.Tensor:
    return torch.eye(size, dtype=like.dtype, device=like.device)
