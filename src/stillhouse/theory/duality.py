"""The duality gap of a regularised kernel machine, and what it says of a machine that is never trained.

For a distilled set of m points x_j with labels y_j, a loss that is convex in the score, and lambda > 0:

    P(theta) = (1/m) sum_j loss(y_j, f(x_j)) + lambda/2 |theta|^2,       f(x) = <theta, phi(x)>
    D(alpha) = -(1/m) sum_j loss*(-alpha_j) - 1/(2 lambda m^2) alpha^T K_SS alpha
    theta(alpha) = 1/(lambda m) sum_j alpha_j phi(x_j),                  DG = P(theta) - D(alpha)

DG bounds how far any theta of the feature space, such as what the real set gives, is from the minimiser theta*_S of P: statements
and proofs are in docs/theory/dgkip.md. After the duality-gap objective of DGKIP (Aoyama et al., arXiv 2502.12607), whose text
we do not have: the derivation is ours.

Machines are columns: scores, labels and dual variables are (m, k), what belongs to a machine is (k,). Losses of the margin
z = y f are psi(z) with psi* finite on -[0, 1]; their dual variable is p in [0, 1] with alpha = y p, which for y = +-1 says
y alpha in [0, 1] and is right for every real label, where y alpha in [0, 1] is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from stillhouse.errors import NumericalError

# What rounding may add to a distance or a score, relatively: sums over examples lose some digits of float64's sixteen.
_ROUNDING = 1e-9


class Loss(Protocol):
    """A loss(y, f), convex in f. All take and give (m, k)."""

    @property
    def confined(self) -> bool:
        """Whether dual variables are confined to [0, 1]; otherwise every number is feasible."""

    def value(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """loss(y, f)."""

    def alpha(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """alpha of the dual variable."""

    def conjugate(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """loss*(-alpha) = max over f of -alpha f - loss(y, f): infinite outside of what is feasible."""

    def answer(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The dual variable with alpha = -d loss / d f, a subgradient where there are several: Fenchel-Young is tight there."""

    def curvature(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """d^2 loss / d f^2, a generalised one where there are several."""


@dataclass(frozen=True)
class Squared:
    """(f - y)^2 / 2; alpha is any number."""

    confined = False

    def value(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(f - y)^2 / 2."""
        return (scores - labels).square() / 2

    def alpha(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """The dual variable is alpha itself."""
        return dual

    def conjugate(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """alpha^2 / 2 - alpha y."""
        return dual.square() / 2 - dual * labels

    def answer(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """y - f."""
        return labels - scores

    def curvature(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """1."""
        return torch.ones_like(scores)


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(-y f))."""

    confined = True

    def value(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """log(1 + exp(-y f))."""
        return torch.nn.functional.softplus(-labels * scores)

    def alpha(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """y p."""
        return labels * dual

    def conjugate(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """p log p + (1 - p) log(1 - p); the derivative stays finite at 0 and 1."""
        tiny = torch.finfo(dual.dtype).tiny
        found = dual * dual.clamp(min=tiny).log() + (1 - dual) * (1 - dual).clamp(min=tiny).log()
        return _within(found, dual)

    def answer(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """1 / (1 + exp(y f))."""
        return torch.sigmoid(-labels * scores)

    def curvature(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """y^2 p (1 - p)."""
        return labels.square() * torch.sigmoid(scores * labels) * torch.sigmoid(-scores * labels)


@dataclass(frozen=True)
class SmoothedHinge:
    """max(0, 1 - y f), with a parabola of width `smoothing`, gamma, below its kink; gamma = 0 is the hinge loss.

    1 - z - gamma/2 for z <= 1 - gamma, (1 - z)^2 / (2 gamma) up to z = 1, then 0.
    """

    smoothing: float = 0.0
    confined = True

    def value(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """max over p in [0, 1] of p (1 - z) - gamma/2 p^2."""
        short = 1 - labels * scores
        dual = self.answer(labels, scores)
        return dual * short - self.smoothing / 2 * dual.square()

    def alpha(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """y p."""
        return labels * dual

    def conjugate(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
        """gamma/2 p^2 - p."""
        return _within(self.smoothing / 2 * dual.square() - dual, dual)

    def answer(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(1 - z) / gamma brought into [0, 1]."""
        short = 1 - labels * scores
        return (short > 0).to(short) if self.smoothing == 0 else (short / self.smoothing).clamp(0, 1)

    def curvature(self, labels: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """y^2 / gamma on the parabola, else 0."""
        dual = self.answer(labels, scores)
        inside = ((dual > 0) & (dual < 1)).to(scores)
        return labels.square() * inside / self.smoothing if self.smoothing > 0 else torch.zeros_like(scores)


def _within(found: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
    return torch.where((dual >= 0) & (dual <= 1), found, torch.full_like(found, float("inf")))


@dataclass(frozen=True)
class Gap:
    """DG of every machine (k,) and its two parts, which are not negative.

    total     P(theta) - D(alpha)
    young     (1/m) sum loss(y, f) + loss*(-alpha) + alpha f, the Fenchel-Young residual
    distance  |theta - theta(alpha)|^2, of which lambda/2 is the other part
    ridge     lambda
    """

    total: torch.Tensor
    young: torch.Tensor
    distance: torch.Tensor
    ridge: float

    @property
    def radius(self) -> torch.Tensor:
        """sqrt(2 DG / lambda): theta*_S is no farther from theta (Theorem 1)."""
        return (2 * self.total.clamp(min=0) / self.ridge).sqrt()

    @property
    def ball(self) -> torch.Tensor:
        """sqrt(DG / lambda - |theta - theta(alpha)|^2 / 4): theta*_S is no farther from the middle of the two (Theorem 2).

        Computed as young / lambda + distance / 4, where nothing cancels.
        """
        return (self.young.clamp(min=0) / self.ridge + self.distance / 4).sqrt()

    @property
    def reach(self) -> torch.Tensor:
        """|theta - theta(alpha)| / 2 + `ball`: theta*_S is no farther from theta, and this is never above `radius`."""
        return self.distance.sqrt() / 2 + self.ball


def expansion(loss: Loss, labels: torch.Tensor, dual: torch.Tensor, ridge: float) -> torch.Tensor:
    """(m, k) factors of phi(x_j) in theta(alpha)."""
    return loss.alpha(labels, dual) / (ridge * len(labels))


def primal(loss: Loss, labels: torch.Tensor, scores: torch.Tensor, norms: torch.Tensor, ridge: float) -> torch.Tensor:
    """P (k,) of machines with scores (m, k) on the set and squared norms |theta|^2 (k,)."""
    return loss.value(labels, scores).mean(0) + ridge / 2 * norms


def dual_value(loss: Loss, labels: torch.Tensor, dual: torch.Tensor, gram: torch.Tensor, ridge: float) -> torch.Tensor:
    """D (k,) of dual variables (m, k), for K_SS (m, m); minus infinity for infeasible ones."""
    return -loss.conjugate(labels, dual).mean(0) - ridge / 2 * norms_squared(expansion(loss, labels, dual, ridge), gram)


def fenchel_young(loss: Loss, labels: torch.Tensor, scores: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
    """(1/m) sum loss(y, f) + loss*(-alpha) + alpha f (k,): never negative, 0 where alpha = -d loss / d f."""
    tight = loss.value(labels, scores) + loss.conjugate(labels, dual) + loss.alpha(labels, dual) * scores
    return tight.mean(0)


def norms_squared(factors: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """|sum_j b_j phi(x_j)|^2 (k,) for factors b (m, k)."""
    return (factors * (gram @ factors)).sum(0).clamp(min=0)


def gap(
    loss: Loss, labels: torch.Tensor, scores: torch.Tensor, norms: torch.Tensor, dual: torch.Tensor, gram: torch.Tensor,
    ridge: float,
) -> Gap:  # fmt: skip
    """DG of machines theta with `scores` (m, k) on the set and |theta|^2 `norms` (k,), for dual variables (m, k)."""
    factors = expansion(loss, labels, dual, ridge)
    own = norms_squared(factors, gram)
    total = primal(loss, labels, scores, norms, ridge) + loss.conjugate(labels, dual).mean(0) + ridge / 2 * own
    young = fenchel_young(loss, labels, scores, dual)
    distance = (norms - 2 * (factors * scores).sum(0) + own).clamp(min=0)
    return Gap(total, young, distance, ridge)


def interval(radius: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    """R (b, k): |f(x) - g(x)| <= |theta_f - theta_g| sqrt(k(x, x)) for radii (k,) and k(x, x) (b,)."""
    return diagonal.sqrt()[:, None] * radius


def two_sided(scores: torch.Tensor) -> torch.Tensor:
    """(b, 2) scores -f and f of both classes for one machine's (b, 1); those of one machine a class (b, c) as they are."""
    return torch.cat([-scores, scores], 1) if scores.shape[1] == 1 else scores


def certain(scores: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """(b,) whether every machine within `radii` (b, c) of `scores` (b, c) names the class that the scores name."""
    top = scores.argmax(1)
    low, high = _at(scores - radii, top), _others(scores + radii, top)
    return low > high


def errors_between(scores: torch.Tensor, radii: torch.Tensor, classes: torch.Tensor) -> tuple[float, float]:
    """The least and the largest share of examples that a machine within `radii` (b, c) of `scores` can get wrong.

    It may err where the lowest score of the right class is not above the highest of another, and must where its highest is
    below another's lowest.
    """
    may = _at(scores - radii, classes) <= _others(scores + radii, classes)
    must = _at(scores + radii, classes) < _others(scores - radii, classes)
    return float(must.double().mean()), float(may.double().mean())


def _at(scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return scores.gather(1, classes[:, None])[:, 0]


def _others(scores: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(b,) the largest score but that of `classes`."""
    return scores.scatter(1, classes[:, None], -float("inf")).amax(1)


def verify(what: str, found: torch.Tensor, bound: torch.Tensor, scale: float) -> float:
    """The largest found / bound, after checking found <= bound up to rounding relative to `scale`, the size of what was
    subtracted to get `found`. Raises NumericalError with the numbers: the theorem holds, so the code is wrong.
    """
    excess = found - bound * (1 + _ROUNDING) - _ROUNDING * scale
    if not bool((excess <= 0).all()):
        worst = int(excess.flatten().nan_to_num(nan=float("inf")).argmax())
        raise NumericalError(
            f"{what} is {float(found.flatten()[worst])!r}, above its proven bound {float(bound.flatten()[worst])!r}: a bug"
        )
    floor = torch.full_like(bound, _ROUNDING * scale + torch.finfo(bound.dtype).tiny)
    return float((found / torch.maximum(bound, floor)).max())
