"""Tests of differences, against scipy, statsmodels and what a person would say."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from stillhouse.reporting import significance


def rows(values: Mapping[int, Sequence[float]], first: int = 0) -> pd.DataFrame:
    """Scores of sets by their seed; training seeds follow the judge's rule, from `first` on."""
    made = [
        {"seed": seed, "training_seed": first + seed * len(of) + i, "value": value}
        for seed, of in values.items()
        for i, value in enumerate(of)
    ]
    return pd.DataFrame(made)


ONE = {0: [80.0, 82.0, 81.5], 1: [83.0, 84.0, 82.0], 2: [79.0, 78.0, 80.5], 3: [81.0, 80.0, 82.5]}
OTHER = {0: [75.0, 78.0, 77.5], 1: [79.5, 80.0, 78.0], 2: [76.0, 75.0, 77.5], 3: [75.0, 76.0, 77.5]}


def means(values: Mapping[int, Sequence[float]]) -> list[float]:
    return [float(np.mean(of)) for of in values.values()]


def test_of_several_sets_a_value_is_a_sets_mean_and_sets_of_one_seed_are_pairs() -> None:
    found = significance.compare(rows(ONE), rows(OTHER))
    assert (found.values, found.paired) == (4, True)
    assert found.difference == pytest.approx(np.mean(means(ONE)) - np.mean(means(OTHER)))
    assert found.p == pytest.approx(stats.ttest_rel(means(ONE), means(OTHER)).pvalue)


def test_of_one_set_a_value_is_a_training() -> None:
    found = significance.compare(rows({0: ONE[0]}), rows({0: OTHER[0]}))
    assert (found.values, found.paired) == (3, True)
    assert found.p == pytest.approx(stats.ttest_rel(ONE[0], OTHER[0]).pvalue)


def test_values_of_other_training_seeds_are_no_pairs() -> None:
    found = significance.compare(rows(ONE), rows(OTHER, first=100))
    assert not found.paired
    assert found.p == pytest.approx(stats.ttest_ind(means(ONE), means(OTHER), equal_var=False).pvalue)


def test_the_order_of_rows_does_not_matter_and_the_sign_is_that_of_the_first() -> None:
    one, other = rows(ONE), rows(OTHER)
    found = significance.compare(one, other)
    turned = significance.compare(other.sample(frac=1, random_state=0), one.sample(frac=1, random_state=1))
    assert [turned.p, turned.difference] == pytest.approx([found.p, -found.difference])


def test_many_trainings_on_two_sets_are_not_many_values() -> None:
    """A hundred trainings know their two sets, not the method."""
    rng = np.random.default_rng(0)
    one, other = ({seed: rng.normal(level, 1, 100).tolist() for seed in (0, 1)} for level in (80, 70))
    found = significance.compare(rows(one), rows(other))
    assert found.values == 2
    assert math.isnan(found.p)


@pytest.mark.parametrize("one", [{0: [80.0], 1: [81.0], 2: [82.0]}, {0: [80.0], 1: [80.0], 2: [80.0]}])
def test_differences_that_do_not_vary_are_no_sample(one: dict[int, list[float]]) -> None:
    other = {seed: [of[0] - 10] for seed, of in one.items()}
    assert math.isnan(significance.compare(rows(one), rows(other)).p)


@pytest.mark.parametrize("values", [[0.01, 0.04, 0.03, 0.005], [0.2, 0.9, 0.6], [0.03], [0.04, 0.04, 0.001]])
def test_adjusted_p_are_statsmodels(values: list[float]) -> None:
    for adjust, method in ((significance.holm, "holm"), (significance.bonferroni, "bonferroni")):
        assert adjust(values) == pytest.approx(multipletests(values, method=method)[1].tolist())


def test_what_was_not_tested_does_not_count() -> None:
    found = significance.holm([0.01, math.nan, 0.04])
    assert found[::2] == pytest.approx([0.02, 0.04])
    assert math.isnan(found[1])
    assert significance.bonferroni([0.01, math.nan, 0.04])[::2] == pytest.approx([0.02, 0.08])
    assert significance.holm([]) == significance.bonferroni([]) == []


@pytest.mark.parametrize(
    ("difference", "p", "said"),
    [(1.0, 0.01, "higher"), (-1.0, 0.01, "lower"), (9.0, 0.05, "not decided"), (9.0, math.nan, "not decided")],
)
def test_a_verdict_is_one_of_three(difference: float, p: float, said: str) -> None:
    assert significance.verdict(difference, p) == said


@pytest.mark.parametrize("adjust", [significance.holm, significance.bonferroni])
def test_a_method_like_all_others_is_rarely_said_to_differ_from_the_first_or_to_be_below_the_best(
    adjust: Callable[[list[float]], list[float]],
) -> None:
    """400 boards of eight equal methods, three sets each, of common seeds; the best is another one each time."""
    rng = np.random.default_rng(1)
    scores = rng.normal(50, 1, (400, 8, 3)) + rng.normal(0, 1, (400, 1, 3))
    fixed = np.asarray(stats.ttest_rel(scores[:, 1:], scores[:, :1], axis=2).pvalue)
    assert np.mean([min(adjust(each.tolist())) < significance.LEVEL for each in fixed]) < 0.08
    best = np.take_along_axis(scores, scores.mean(2).argmax(1)[:, None, None], 1)
    chosen = np.asarray(stats.ttest_rel(scores, best, axis=2).pvalue)  # NaN of the best itself
    truly_best = [adjust(each.tolist())[0] < significance.LEVEL for each in chosen]
    assert np.mean(truly_best) < significance.LEVEL
