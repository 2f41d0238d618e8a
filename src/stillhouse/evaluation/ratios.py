"""How much of the whole set's accuracy a few distilled examples give, and how few are enough: Sucholutsky and Schonlau (2021)."""

from __future__ import annotations

from collections.abc import Mapping


def distillation_ratio(accuracy: float, whole: float) -> float:
    """r_M in percent: the accuracy of training on M distilled examples over that of training on the whole set."""
    return 100 * accuracy / whole


def distillation_size(accuracies: Mapping[int, float], whole: float, percent: float) -> int | None:
    """d_A: the fewest distilled examples M, of those whose accuracy is known, with r_M of at least A = `percent`; None where
    none has.
    """
    enough = [count for count, accuracy in accuracies.items() if distillation_ratio(accuracy, whole) >= percent]
    return min(enough, default=None)
