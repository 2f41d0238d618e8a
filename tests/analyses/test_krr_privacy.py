import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.analyses import krr_privacy
from stillhouse.run import Run
from stillhouse.sets import RealSet

SMALL = krr_privacy.Params(
    epsilons=(0.3, 30.0), pool=200, attacked=100, shadows=16, victims=4, records=12, composed=3, per_class=2
)


@pytest.fixture(scope="module")
def rows(digits: RealSet) -> list[dict[str, Any]]:
    return list(krr_privacy.analyse(digits, SMALL, Run(seed=0)))


def of(rows: list[dict[str, Any]], table: str, **values: object) -> Iterator[dict[str, Any]]:
    yield from (row for row in rows if row["table"] == table and all(row[k] == v for k, v in values.items()))


def test_rows_are_flat_and_can_be_written(rows: list[dict[str, Any]]) -> None:
    assert {row["table"] for row in rows} == {
        "membership", "accuracy", "reconstruction", "row guarantee", "composition",
    }  # fmt: skip
    assert json.loads(json.dumps(rows)) == rows


def test_the_same_run_gives_the_same_rows(rows: list[dict[str, Any]], digits: RealSet) -> None:
    assert list(krr_privacy.analyse(digits, SMALL, Run(seed=0))) == rows


def test_rows_with_any_epsilon_give_away_what_a_set_without_noise_does(rows: list[dict[str, Any]]) -> None:
    exact = next(of(rows, "membership", mechanism="exact"))
    assert exact["auc"] > 0.6
    for row in of(rows, "membership", mechanism="rows"):
        assert row["auc"] == pytest.approx(exact["auc"], abs=1e-3)
        assert row["accuracy"] == pytest.approx(exact["accuracy"], abs=0.1)
    assert {row["accuracy"] for row in of(rows, "accuracy", mechanism="rows")} == {
        row["accuracy"] for row in of(rows, "accuracy", mechanism="exact")
    }


def test_noise_on_the_statistics_hides_members_and_costs_accuracy(rows: list[dict[str, Any]]) -> None:
    exact = next(of(rows, "membership", mechanism="exact"))
    private = next(of(rows, "membership", mechanism="statistics", epsilon=0.3))
    assert abs(private["auc"] - 0.5) < 0.07
    assert private["accuracy"] < exact["accuracy"] - 20
    strict, loose = (row["accuracy"] for row in of(rows, "accuracy", mechanism="statistics"))
    assert strict < loose


def test_records_are_reconstructed_unless_the_statistics_are_noisy(rows: list[dict[str, Any]]) -> None:
    for row in of(rows, "reconstruction"):
        if row["mechanism"] == "statistics":
            assert row["relative_error"] > 0.5
        else:
            assert row["relative_error"] < 1e-5
            assert row["class_found"] == row["class"]
    assert [row["class"] for row in of(rows, "reconstruction", mechanism="exact")] == [*range(10), 0, 1]


def test_the_derived_constant_keeps_every_promise_and_the_printed_one_breaks_some(rows: list[dict[str, Any]]) -> None:
    assert all(row["kept"] for row in of(rows, "row guarantee", constant="derived"))
    assert all(row["kept"] for row in of(rows, "row guarantee", constant="printed", adjacency="remove"))
    broken = [row for row in of(rows, "row guarantee", constant="printed", adjacency="replace") if not row["kept"]]
    assert broken
    assert all(row["measured_delta"] > row["delta"] for row in broken)
    assert {row["data"] for row in rows if row["table"] == "row guarantee"} == {"digits", "one feature, 101 examples"}


def test_epsilon_grows_with_the_rows_until_there_is_none(rows: list[dict[str, Any]]) -> None:
    found = list(of(rows, "composition", promised_epsilon=0.3))
    assert [row["rows"] for row in found] == [1, 10, 20, 21, 30]
    epsilons = [row["epsilon"] for row in found]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] <= 0.3
    assert [math.isinf(each) for each in epsilons] == [False, False, False, True, True]
    assert [row["basic_epsilon"] is None for row in found] == [False, False, True, True, True]


def test_pictures_show_the_records_and_what_the_attack_makes_of_them(digits: RealSet) -> None:
    pictures = krr_privacy.pictures(digits, SMALL, Run(seed=0))
    assert list(pictures) == ["original", "exact", "rows, epsilon 1", "statistics, epsilon 1"]
    assert all(each.shape == (12, *digits.shape) for each in pictures.values())
    torch.testing.assert_close(pictures["exact"], pictures["original"], atol=1e-4, rtol=0)
    torch.testing.assert_close(pictures["rows, epsilon 1"], pictures["original"], atol=1e-4, rtol=0)
    assert float((pictures["statistics, epsilon 1"] - pictures["original"]).abs().mean()) > 0.1


def test_settings_can_be_read_from_a_file() -> None:
    read = settings.parse_plugin("analyses", {"kind": "krr_privacy", "epsilons": [1, 2], "pool": 50}, "test")
    assert read == dataclasses.replace(krr_privacy.Params(), epsilons=(1.0, 2.0), pool=50)
