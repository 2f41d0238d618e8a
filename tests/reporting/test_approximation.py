"""The table of epsilons, from hand-made numbers."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import approximation
from stillhouse.reporting.study import Layout

METRICS = (*approximation.ERROR, *approximation.SQUARE)


def tidy(*sets: tuple[str, int, tuple[float, ...]], **more: Any) -> pd.DataFrame:
    """Of (experiment, images per class, epsilons in the order of METRICS); each has a test accuracy too."""
    made = [
        {"dataset": "mnist", "experiment": name, "method": "random_images" if name == "random" else "kip", "per_class": size,
         "protocol": "by_fc1", "model": "fc1", "metric": metric, "mean": value, "budget": 1.0, **more}
        for name, size, values in sets
        for metric, value in zip(("test accuracy", *METRICS), (50.0, *values), strict=False)
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"per_class": "Int64"})


@pytest.fixture
def named(layout: Layout) -> Layout:
    return replace(layout, labels={"random": "random real images", "kip": "KIP", "fc1": "FC1"})


def texts(layout: Layout, rows: pd.DataFrame) -> list[list[str]]:
    (table,) = approximation.tables(layout, approximation.gathered(rows))
    assert all(len(line.entries) == len(table.columns) for line in table.lines)
    return [[entry.plain for entry in line.entries] for line in table.lines]


def test_every_set_has_a_line_with_its_four_epsilons(named: Layout) -> None:
    rows = tidy(("random", 10, (30.0, 50.0, 0.1, 0.2)), ("kip", 10, (5.25, 12.5, 0.01234, 0.0456)))
    assert texts(named, rows) == [
        ["random real images", "10", "FC1", "30.00", "50.00", "0.1", "0.2"],
        ["KIP", "10", "FC1", "5.25", "12.50", "0.0123", "0.0456"],
    ]


def test_the_order_is_that_of_the_study_and_not_of_the_alphabet(named: Layout) -> None:
    rows = tidy(
        ("random", 1, (1.0, 1.0, 1.0, 1.0)), ("kip", 1, (2.0, 2.0, 2.0, 2.0)), ("kip", 10, (3.0, 3.0, 3.0, 3.0))
    )
    assert [line[:2] for line in texts(named, rows)] == [["random real images", "1"], ["KIP", "1"], ["KIP", "10"]]


def test_an_epsilon_that_was_not_measured_is_a_dash(named: Layout) -> None:
    assert texts(named, tidy(("kip", 10, (5.0, 12.0))))[0][3:] == ["5.00", "12.00", "–", "–"]


def test_part_of_a_budget_is_marked(named: Layout) -> None:
    assert texts(named, tidy(("kip", 10, (5.0, 12.0, 0.1, 0.2)), budget=0.1))[0][0] == "KIP, 10 % of its budget"


def test_a_study_without_epsilons_has_no_table_of_them(named: Layout) -> None:
    found = approximation.gathered(tidy(("kip", 10, ())))
    assert approximation.tables(named, found) == []
    assert approximation.findings(found) == []


def test_findings_give_the_ranges_and_count_where_weak_is_at_most_strong() -> None:
    rows = tidy(("random", 10, (30.0, 50.0, 0.1, 0.2)), ("kip", 10, (5.0, 12.5, 0.01, 0.04)))
    (told,) = approximation.findings(approximation.gathered(rows))
    assert "by 5.00 to 30.00 points (weak)" in told
    assert "to 12.50 to 50.00 % of the test images (strong)" in told
    assert "in 2 of 2 cells." in told
    wrong = tidy(("random", 10, (30.0, 29.0, 0.1, 0.2)), ("kip", 10, (5.0, 12.5, 0.01, 0.04)))
    assert approximation.findings(approximation.gathered(wrong))[0].count("in 1 of 2 cells.") == 1
