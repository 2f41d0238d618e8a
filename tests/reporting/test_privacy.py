from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import privacy


def attack(mechanism: str, epsilon: float, accuracy: float, auc: float, error: float) -> list[dict[str, Any]]:
    """What two seeds of the analysis say of one mechanism: the second's accuracy is two points higher."""
    common = {"dataset": "digits", "mechanism": mechanism, "epsilon": epsilon, "recipe": "r"}
    made: list[dict[str, Any]] = []
    for seed in (0, 1):
        known = common | {"seed": seed}
        made.append(known | {"table": "accuracy", "accuracy": accuracy + 2 * seed})
        made.append(known | {"table": "membership", "auc": auc, "tpr_at_1_percent_fpr": 0.02, "auc_at_most": 0.75,
                             "tpr_at_most": 0.1})  # fmt: skip
        made += [
            known | {"table": "reconstruction", "relative_error": error, "class": label, "class_found": 0}
            for label in (0, 1)
        ]
    return made


def promise(constant: str, measured: float) -> dict[str, Any]:
    return {"table": "row guarantee", "dataset": "digits", "seed": 0, "data": "made up", "adjacency": "replace",
            "constant": constant, "epsilon": 0.9, "measured_epsilon": measured}  # fmt: skip


@pytest.fixture
def rows() -> pd.DataFrame:
    made = attack("exact", float("inf"), 90.0, 0.7, 1e-11) + attack("rows", 1.0, 90.0, 0.7, 1e-9)
    made += attack("statistics", 0.1, 60.0, 0.5, 1.4) + attack("statistics", 10.0, 89.0, 0.6, 1.25)
    made += [promise("derived", 0.85), promise("printed", 1.0)]
    made += [
        {
            "table": "composition",
            "dataset": "digits",
            "seed": 0,
            "promised_epsilon": 1.0,
            "rows": count,
            "of": 20,
            "epsilon": value,
        }
        for count, value in ((1, 0.9), (20, float("inf")))
    ]
    return pd.DataFrame(made)


def test_what_is_left_and_given_away_stands_in_one_line_a_release(rows: pd.DataFrame) -> None:
    lines = privacy.attacks_table(privacy.summary(rows)).lines
    assert [entry.plain for entry in lines[0].entries] == [
        "no noise", "∞", "91.00 ± 1.41", "0.700", "–", "2.0 %", "–", "1.0e-11", "2 of 4",
    ]  # fmt: skip
    assert [entry.text for entry in lines[2].entries[3:8]] == ["0.500", "0.750", "2.0 %", "10.0 %", "1.40"]


def test_a_broken_promise_is_told(rows: pd.DataFrame) -> None:
    kept = {line.entries[1].text: line.entries[4].text for line in privacy.promises_table(rows).lines}
    assert kept == {"derived": "yes", "printed": "NO"}
    told = [line for line in privacy.findings(rows, privacy.summary(rows)) if "printed constant" in line]
    assert told == [
        "The printed constant promises ε = 0.9 where the true one is 1.000 (made up, replace one); of the promises of the "
        "derived constants, 0 are broken here."
    ]


def test_a_broken_promise_of_the_derived_constant_would_be_told_too(rows: pd.DataFrame) -> None:
    worse = pd.concat([rows, pd.DataFrame([promise("derived", 0.95)])], ignore_index=True)
    assert any("derived constants, 1 are broken" in line for line in privacy.findings(worse, privacy.summary(worse)))


def test_rows_released_together_lose_their_guarantee(rows: pd.DataFrame) -> None:
    lines = privacy.composition_table(rows).lines
    assert [[entry.text for entry in line.entries] for line in lines] == [["1 of 20", "0.9"], ["20 of 20", "∞"]]


def test_findings_tell_the_accuracy_at_both_ends(rows: pd.DataFrame) -> None:
    noise, sums, *_ = privacy.findings(rows, privacy.summary(rows))
    assert "class right 2 of 4 times" in noise
    assert "61.0 % at ε = 0.1 to 90.0 % at ε = 10" in sums
    assert "median error of 1.25 or more" in sums


def test_rebuilt_records_are_named_in_words() -> None:
    assert list(privacy.records({"original": 0, "exact": 1, "rows, epsilon 1": 2})) == [
        "records of the training set", "no noise", "noise on D (Theorem 6.2), ε = 1",
    ]  # fmt: skip
