"""Privacy of exact distillation: Chen, Huang, Weng (2024), Proposition 6.1 and Theorem 6.2, and what holds beyond them.

Ridge regression W = (F^T F + ridge I)^-1 F^T Y of features F (n, p), |f_i| <= B, and one-hot targets Y (n, c). Taking out the
example (x, y) changes W by a matrix of rank one:

    W - W' = (F'^T F' + ridge I)^-1 x (y - W^T x)^T

Two mechanisms. `rows` (Theorem 6.2) hides W behind the free part of D = W Y_S^+ + Z P, P = I - Y_S Y_S^+, Z ~ N(0, sigma^2): each
column of D (a row of the paper's D) is private alone, and the columns together are not, because D Y_S = W. `statistics` adds the
noise to F^T F and F^T Y, so that whatever is computed from them is private, whole distilled sets included.

n real, m distilled, p features, c classes. In every function the noise is passed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.special import log_ndtr, ndtr, ndtri

from stillhouse import linalg, spaces
from stillhouse.errors import NumericalError

Adjacency = Literal["remove", "replace"]

# Diagonal entries and eigenvalues of the projector P that count as 0: rounding makes some 1e-15.
_ZERO = 1e-10
_HALVINGS = 200
# |E| <= sigma (sqrt(2 p) + t) with probability 1 - exp(-t^2 / 2): t = 5 leaves 4e-6.
_DEVIATIONS = 5.0


@dataclass(frozen=True)
class Domain:
    """The data sets that a guarantee speaks of, and which two of them are adjacent. None of it may depend on the data.

    norm         B, the largest norm of an example's features
    smallest     the smallest eigenvalue of F^T F + ridge I over all these data sets, those with an example taken out included.
                 The ridge itself is always one, and asks nothing of the data; sigma_0^2 in the paper, where the ridge is 0
    class_sizes  (c,) the most examples that a class may have
    adjacency    remove: one has an example more; replace: one example differs, in features and class
    """

    norm: float
    smallest: float
    class_sizes: torch.Tensor
    adjacency: Adjacency

    @property
    def reach(self) -> float:
        """The largest |(F'^T F' + ridge I)^-1 x|, B / smallest; twice that for `replace`, by way of the common n - 1 examples."""
        return self.norm / self.smallest * (2 if self.adjacency == "replace" else 1)


# --- Gaussian noise ---------------------------------------------------------------------------------------------------------


def gaussian_delta(epsilon: float, shift: float) -> float:
    """The smallest delta for which N(0, I) and N(v, I) with |v| = shift are (epsilon, delta)-indistinguishable.

    Phi(shift/2 - epsilon/shift) - e^epsilon Phi(-shift/2 - epsilon/shift). Balle and Wang (2018), Theorem 8.
    """
    if shift == 0:
        return 0.0
    if math.isinf(shift):
        return 1.0
    tail = math.exp(epsilon + float(log_ndtr(-shift / 2 - epsilon / shift)))
    return max(0.0, float(ndtr(shift / 2 - epsilon / shift)) - tail)


def largest_shift(epsilon: float, delta: float) -> float:
    """The largest sensitivity, in standard deviations of the noise, that is (epsilon, delta)-private: the analytic Gaussian
    mechanism, exact for every epsilon >= 0. Rounded down.
    """
    low, high = 0.0, 1.0
    while gaussian_delta(epsilon, high) <= delta:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(epsilon, middle) <= delta else (low, middle)
    return low


def smallest_epsilon(delta: float, shift: float) -> float:
    """The smallest epsilon for which a shift of so many standard deviations is (epsilon, delta)-private. Rounded up."""
    if math.isinf(shift):
        return math.inf
    if gaussian_delta(0, shift) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while gaussian_delta(high, shift) > delta:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(middle, shift) <= delta else (middle, high)
    return high


def classical_noise(epsilon: float, delta: float) -> float:
    """sqrt(2 ln(1.25 / delta)) / epsilon: noise for sensitivity 1, proven for epsilon < 1 only (Dwork and Roth, 2014, A.1)."""
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def largest_power(false_positive_rate: float, shift: float) -> float:
    """The largest true positive rate of any test between N(0, I) and N(v, I), |v| = shift, at this false positive rate."""
    return float(ndtr(ndtri(false_positive_rate) + shift))


def largest_area(shift: float) -> float:
    """The largest area under the curve of any test between N(0, I) and N(v, I), |v| = shift: Phi(shift / sqrt 2)."""
    return float(ndtr(shift / math.sqrt(2)))


# --- What one example changes -----------------------------------------------------------------------------------------------


def removal(
    gram: torch.Tensor, weights: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A (b, p) and R (b, c): taking out example i changes the weights by W - W' = A_i R_i^T.

    `gram` is F^T F + ridge I (p, p) with all the examples, `rows` (b, p) and `targets` (b, c) are some of them.
    A_i = (gram - x x^T)^-1 x = gram^-1 x / (1 - x^T gram^-1 x), R_i = y - W^T x.
    """
    solved = linalg.solve_positive(gram, rows.T).T
    leverage = (solved * rows).sum(1, keepdim=True)
    return solved / (1 - leverage), targets - rows @ weights


def addition(
    gram: torch.Tensor, weights: torch.Tensor, rows: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A (b, p) and R (b, c): adding example i changes the weights by W' - W = A_i R_i^T; `gram` and W are without it.

    A_i = gram^-1 x / (1 + x^T gram^-1 x), R_i = y - W^T x.
    """
    solved = linalg.solve_positive(gram, rows.T).T
    leverage = (solved * rows).sum(1, keepdim=True)
    return solved / (1 + leverage), targets - rows @ weights


# --- Mechanism `rows`: Theorem 6.2 ------------------------------------------------------------------------------------------


def projector(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Y_S^+ (c, m) and P = I - Y_S Y_S^+ (m, m) of targets Y_S (m, c). Raises NumericalError where rank Y_S < c."""
    inverse = linalg.pseudo_inverse(targets)
    if inverse.rank < targets.shape[1]:
        raise NumericalError(f"{len(targets)} targets have rank {inverse.rank}, below {targets.shape[1]} classes")
    eye = torch.eye(len(targets), dtype=targets.dtype, device=targets.device)
    return inverse.value, eye - targets @ inverse.value


def row_sensitivities(targets: torch.Tensor, domain: Domain) -> torch.Tensor:
    """(m,) how far one example moves each column W u_j of W Y_S^+ at most: reach |Y u_j|, u_j the j-th column of Y_S^+.

    The residual of the target Y u_j at one example is at most |Y u_j|: the objective at 0 bounds it. For one-hot Y,
    |Y u|^2 = sum_c n_c u_c^2.
    """
    inverse, _ = projector(targets)
    return domain.reach * (domain.class_sizes.to(inverse) @ inverse.square()).sqrt()


def row_noise(targets: torch.Tensor, domain: Domain, epsilon: float, delta: float) -> float:
    """sigma of Z for which every column of D, each by itself, is (epsilon, delta)-private. Theorem 6.2 with the derived constant.

    Column j has noise sigma |P_j| per entry. Raises NumericalError where that is 0.
    """
    return _over_noise_factors(targets, row_sensitivities(targets, domain)) / largest_shift(epsilon, delta)


def printed_row_noise(targets: torch.Tensor, domain: Domain, epsilon: float, delta: float) -> float:
    """sigma as Theorem 6.2 prints it: max_j 2 sqrt(ln(1.25/delta)) B |Y u_j| / (sigma_0^2 epsilon |P_j|).

    The adjacency of `domain` is not used: the theorem names none.
    """
    inverse, _ = projector(targets)
    lengths = (domain.class_sizes.to(inverse) @ inverse.square()).sqrt()
    constant = 2 * math.sqrt(math.log(1.25 / delta)) * domain.norm / (domain.smallest * epsilon)
    return _over_noise_factors(targets, constant * lengths)


def _over_noise_factors(targets: torch.Tensor, needed: torch.Tensor) -> float:
    """max_j needed_j / |P_j|."""
    _, kernel = projector(targets)
    squares = kernel.diagonal()  # |P_j|^2 = P_jj
    hidden = int((squares < _ZERO).sum())
    if hidden:
        raise NumericalError(
            f"{hidden} of {len(targets)} columns of D get no noise: the j-th row of I - Y_S Y_S^+ is 0, so that D shows W u_j "
            f"itself, for {targets.shape[1]} classes. No noise makes Theorem 6.2 hold; it needs at least two examples per class"
        )
    return float((needed / squares.sqrt()).max())


def joint_shift(released: torch.Tensor, targets: torch.Tensor, domain: Domain, sigma: float) -> float:
    """How many standard deviations one example moves the columns `released` (r,) of D together, at most; inf without noise.

    Together they are Gaussian with covariance sigma^2 P_rr in each of p coordinates, and move by A R^T U_r (`removal`):
    |A| |P_rr^-1/2 U_r^T R| <= reach sqrt(sum_c n_c M_cc), M = U_r P_rr^-1 U_r^T. Where P_rr v = 0, v = Y_S a for some a, and
    D_r v = W a is released as it is.
    """
    inverse, kernel = projector(targets)
    inner = kernel[released][:, released]
    if float(torch.linalg.eigvalsh(inner)[0]) < _ZERO:
        return math.inf
    chosen = inverse[:, released]
    diagonal = (chosen * torch.linalg.solve(inner, chosen.T).T).sum(1)
    return domain.reach * math.sqrt(float(domain.class_sizes.to(diagonal) @ diagonal)) / sigma


def composed_epsilon(
    released: torch.Tensor, targets: torch.Tensor, domain: Domain, sigma: float, delta: float
) -> float:
    """The epsilon that the columns `released` (r,) of D keep together; inf once they give away a combination of W's columns.

    They always do for r > m - c.
    """
    return smallest_epsilon(delta, joint_shift(released, targets, domain, sigma))


def basic_epsilon(released: torch.Tensor, targets: torch.Tensor, domain: Domain, sigma: float, delta: float) -> float:
    """The same by basic composition: epsilons and deltas add up, each column taking delta / r.

    Valid only for independent noise, that is, where P_rr is diagonal (for tiled one-hot targets: no two of one class). Raises
    NumericalError elsewhere: summed epsilons stay finite for columns that give W away.
    """
    _, kernel = projector(targets)
    inner = kernel[released][:, released]
    largest = float((inner - inner.diagonal().diag()).abs().max())
    if largest > _ZERO:
        raise NumericalError(
            f"the noise of these {len(released)} columns is correlated (up to {largest:.1e}): no composition"
        )
    part = delta / len(released)
    return sum(composed_epsilon(column[None], targets, domain, sigma, part) for column in released)


def tight_case(others: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Data on which the sensitivity for `replace` is reached as `others` grows: one feature, B = 1, two classes, no ridge.

    Features (n, 1), targets (n, 2), targets of the set (4, 2), and the features (1,) that replace those of the first example.
    The first class is one example with x = 1, to be replaced by -1; all the others have x = 1 and are of the second class,
    whose targets in the set are larger so that its columns of D ask for no more noise than those of the first class.
    """
    rows = torch.ones(others + 1, 1, dtype=torch.float64)
    targets = spaces.one_hot((torch.arange(others + 1) > 0).long(), 2)
    set_targets = torch.tensor([[1.0, 0.0], [0.0, math.sqrt(others)]], dtype=torch.float64).repeat(2, 1)
    return rows, targets, set_targets, -rows[0]


# --- Mechanism `statistics`: the whole set is private -----------------------------------------------------------------------


def clipped(rows: torch.Tensor, norm: float) -> torch.Tensor:
    """Features (b, p) in float64, those longer than `norm` scaled down to it."""
    rows = rows.to(torch.float64)
    scaled: torch.Tensor = rows * (norm / rows.norm(dim=1, keepdim=True).clamp(min=norm))
    return scaled


def statistics_sensitivity(adjacency: Adjacency) -> float:
    """How far one example moves (F^T F / B^2, F^T Y / B) at most, in the Frobenius norm, for one-hot Y.

    remove:   |x x^T|^2 + |x y^T|^2 <= 2.
    replace:  for t = x.x', |x x^T - x'x'^T|^2 + |x y^T - x'y'^T|^2 <= 4 - 2 t^2 - 2 t [y = y'] <= 9/2, at t = -1/2 and y = y'.
    """
    return math.sqrt(2) if adjacency == "remove" else math.sqrt(4.5)


def statistics_noise(epsilon: float, delta: float, adjacency: Adjacency) -> float:
    """Standard deviation of the noise on (F^T F / B^2, F^T Y / B) for (epsilon, delta)-privacy of both together."""
    return statistics_sensitivity(adjacency) / largest_shift(epsilon, delta)


def noisy_statistics(
    gram: torch.Tensor, cross: torch.Tensor, norm: float, scale: float, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """F^T F (p, p) and F^T Y (p, c) with Gaussian noise of `scale`, from standard normal `noise` (p, p + c).

    The symmetric part is taken of a Gram matrix with independent noise in all its p^2 entries, which is post-processing: on the
    diagonal the noise has standard deviation B^2 scale, off it B^2 scale / sqrt(2).
    """
    features = len(gram)
    square, rest = noise[:, :features], noise[:, features:]
    return gram + norm**2 * scale * (square + square.T) / 2, cross + norm * scale * rest


def noise_ridge(features: int, norm: float, scale: float) -> float:
    """B^2 scale (sqrt(2 p) + 5): added to the noisy Gram matrix, it leaves it positive definite with probability 1 - 4e-6.

    It is a function of public numbers. The largest eigenvalue of the noise is at most B^2 scale sqrt(2 p) on average and is
    1-Lipschitz in it. Privacy does not rest on it.
    """
    return norm**2 * scale * (math.sqrt(2 * features) + _DEVIATIONS)


def private_weights(
    gram: torch.Tensor, cross: torch.Tensor, ridge: float, norm: float, scale: float, noise: torch.Tensor
) -> torch.Tensor:
    """Ridge weights (p, c) from the noisy statistics; every later step is post-processing."""
    noisy, right = noisy_statistics(gram, cross, norm, scale, noise)
    noisy.diagonal().add_(ridge + noise_ridge(len(gram), norm, scale))
    return linalg.solve_positive(noisy, right)
