import math

import pandas as pd

from stillhouse.reporting import claims

ROW = {
    "dataset": "digits", "analysis": "krr_claims", "seed": 0, "recipe": "12e4", "group": "points", "claim": "Theorem 4.1",
    "statement": "it holds", "condition": "m ≥ c", "error": 2e-15, "miss": math.nan, "verdict": "holds", "finding": "so",
    "test": "tests/theory/test_points.py",
}  # fmt: skip


def rows(*changes: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame([ROW | change for change in changes])


def test_a_claim_is_a_line_with_its_numbers_verdict_and_test() -> None:
    (line,) = claims.table(rows({})).lines
    assert [entry.text for entry in line.entries] == [
        "Theorem 4.1", "it holds", "2.0e-15", "–", "holds", "so", "test_points.py",
    ]  # fmt: skip
    assert line.entries[0].recipe == "12e4"
    assert line.entries[1].spread == "m ≥ c"
    assert line.entries[6].link == "tests/theory/test_points.py"


def test_of_several_seeds_the_worst_stands_in_the_table() -> None:
    (line,) = claims.table(
        rows({"miss": 0.5}, {"error": 0.25, "miss": 0.125, "verdict": "FAILS", "finding": "no"}, {"miss": 1.0})
    ).lines
    assert [entry.text for entry in line.entries[2:6]] == ["0.25", "0.12", "FAILS", "no"]


def test_verdicts_are_counted_once_a_statement() -> None:
    several = rows({}, {"seed": 1}, {"claim": "Theorem 4.2"}, {"claim": "5.3", "verdict": "vacuous"})
    assert claims.findings(several)[0] == "3 statements: 2 hold, 1 vacuous."
