"""Whether one method's accuracies are higher than another's, or the difference is not decided.

Scores come from distilled sets (seeds), and from trainings on each (training seeds). Trainings on one set say nothing of other
sets, so where there are several sets, one value is a set's mean over its trainings. Where there is one set, one value is a
training, and what is decided is about these two sets, not about the methods.

Values of two methods are pairs where they are of the same training seeds: their networks start from the same weights. Then the
test is Student's for pairs, else Welch's; both are two-sided and hold for few values that are about normal. Wilcoxon's test would
need six pairs to fall below 5 %.

Over many comparisons the probability of any wrong decision stays below LEVEL by Holm (1979), *A simple sequentially rejective
multiple test procedure*: over all that are made with one fixed method, or over all pairs where the data choose which are made.
The best in a ranking is chosen by the data too, but "not the best" can be wrong for one method alone, the truly best, which is
beside k - 1 others, whichever comes out first (Hsu 1981): there the k - 1 tests' p times k - 1 are enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

LEVEL = 0.05
FEWEST = 3  # values that a test needs; with two, a deviation is hardly known
_EQUAL = 1e-9  # differences that vary by less do not vary: copies of one result are no sample

HIGHER, LOWER, OPEN = "higher", "lower", "not decided"


@dataclass(frozen=True)
class Comparison:
    """One method beside another: the difference of their means, the test's p (NaN where there are too few values or none of
    them varies), how many values each has, and whether they were pairs.
    """

    difference: float
    p: float
    values: int
    paired: bool


def compare(one: pd.DataFrame, other: pd.DataFrame) -> Comparison:
    """Rows of scores of two methods on the same data set, size, protocol and model, with `seed`, `training_seed` and `value`."""
    by = "seed" if max(one["seed"].nunique(), other["seed"].nunique()) > 1 else "training_seed"
    first, second = (rows.groupby(by)["value"].mean() for rows in (one, other))
    trained = [rows.groupby(by)["training_seed"].agg(frozenset).to_dict() for rows in (one, other)]
    paired, values = trained[0] == trained[1], min(len(first), len(second))
    difference = float(first.mean() - second.mean())
    varying = [(first - second)] if paired else [first, second]
    if values < FEWEST or all(float(each.max() - each.min()) < _EQUAL for each in varying):
        return Comparison(difference, math.nan, values, paired)
    a, b = first.to_numpy(dtype=float), second.to_numpy(dtype=float)
    found = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
    return Comparison(difference, float(found.pvalue), values, paired)


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p of each of several tests, in their order; NaN, no test, stays NaN and does not count."""
    tested = sorted((p, place) for place, p in enumerate(values) if not math.isnan(p))
    adjusted, largest = list(values), 0.0
    for before, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - before) * p))
        adjusted[place] = largest
    return adjusted


def bonferroni(values: Sequence[float]) -> list[float]:
    """Adjusted p of each of several tests: times their number, NaN not counted."""
    tested = sum(not math.isnan(p) for p in values)
    return [p if math.isnan(p) else min(1.0, tested * p) for p in values]


def verdict(difference: float, p: float) -> str:
    """'higher', 'lower' or 'not decided'; `p` is adjusted."""
    if math.isnan(p) or p >= LEVEL:
        return OPEN
    return HIGHER if difference > 0 else LOWER
