"""Tables, sentences and figures of the claims about one point, from numbers that are easy to reckon with."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stillhouse.reporting import figures, glm, tables

ROW: dict[str, Any] = {
    "dataset": "mnist", "seed": 0, "recipe": "r", "part": "claim", "family": "logistic", "claim": "one point, ridge",
    "statement": "a statement", "regulariser": "ridge", "labels": "soft", "examples": 100, "features": 20, "points": 1,
    "penalty": 0.1, "norm": 1.0, "measured": 0.2, "bound": 0.25, "scale": 1.5, "label_from": 0.8, "label_to": 0.8, "valid": True,
    "error": 1e-15, "relative": 2e-15, "miss": 0.5, "solver_real": "one", "solvers": "two, three", "verdict": "holds",
    "finding": "a finding", "test": "tests/theory/test_glm.py",
}  # fmt: skip
CURVES = [
    {"dataset": "mnist", "seed": 0, "recipe": "r", "part": "curve", "family": "logistic", "scale": u, "bound": part,
     "label_from": 1 / (1 + math.exp(-u)) + part / u}
    for part in (0.1, 0.5, 1.0) for u in (0.2, 1.0, 4.0)
]  # fmt: skip


def rows(*changed: dict[str, Any]) -> pd.DataFrame:
    """Claims as they are read from a file, with curves beside them."""
    return pd.DataFrame([*({**ROW, **each} for each in changed or ({},)), *CURVES])


def test_claims_are_the_rows_without_curves_with_whole_numbers() -> None:
    found = glm.claimed(rows())
    assert len(found) == 1
    assert found["points"].dtype == int
    assert found["valid"].dtype == bool


def test_a_claim_has_one_line_with_its_worst_numbers() -> None:
    worse = {"dataset": "concrete", "relative": 3e-9, "miss": 0.2, "points": 2, "finding": "worse", "recipe": "s"}
    (line,) = glm.claims_table(glm.claimed(rows({}, worse))).lines
    texts = [entry.text for entry in line.entries]
    assert texts == ["one point, ridge", "a statement", "2", "1–2", "3.0e-09", "0.2", "holds", "worse", "test_glm.py"]
    assert line.entries[0].recipe == "s"
    assert line.entries[1].spread == "(ridge; labels soft)"
    assert line.section == "logistic"


def test_a_failed_claim_is_told_whatever_its_error() -> None:
    failed = {"dataset": "concrete", "verdict": "FAILS", "relative": 1e-16}
    (line,) = glm.claims_table(glm.claimed(rows({}, failed))).lines
    assert line.entries[6].text == "FAILS"
    assert line.entries[4].text == "2.0e-15"


def test_numbers_stand_by_data_set_with_the_worst_seed() -> None:
    second = {"seed": 1, "relative": 9e-15, "scale": math.nan, "label_from": 0.1, "label_to": 0.9, "valid": False}
    (line,) = glm.numbers_table(glm.claimed(rows({}, second))).lines
    assert [entry.text for entry in line.entries][2:10] == [
        "100 × 20", "1", "–", "0.1 to 0.9 (not of examples)", "0.2", "0.25", "1.0e-15", "9.0e-15",
    ]  # fmt: skip
    assert line.section == "mnist"


def test_a_claim_without_a_penalty_has_no_bound_and_rounding_is_no_label() -> None:
    plain = {"regulariser": "none", "penalty": 0.0, "label_from": -1e-17, "label_to": 1.0}
    (line,) = glm.numbers_table(glm.claimed(rows(plain))).lines
    assert [entry.text for entry in line.entries][5:8] == ["0 to 1", "–", "–"]
    (claim,) = glm.claims_table(glm.claimed(rows(plain))).lines
    assert claim.entries[1].spread == "(without a penalty; labels soft)"


def test_tables_can_be_written_in_latex() -> None:
    found = glm.claimed(rows())
    for table in (glm.claims_table(found), glm.numbers_table(found)):
        text = tables.latex(table, "caption")
        assert text.isascii()
        assert "logistic" in text


def test_findings_are_computed_from_the_rows() -> None:
    found = glm.claimed(
        rows(
            {},
            {
                "claim": "one point, its label chosen",
                "labels": "hard",
                "relative": 5e-15,
                "error": 4e-15,
                "miss": math.nan,
            },
            {
                "claim": "a sum of losses",
                "points": 40,
                "bound": 10.0,
                "finding": "one point alone would ask for 9",
                "miss": math.nan,
            },
            {"claim": "as few as the rank", "family": "softmax", "points": 9, "valid": False, "miss": 0.3},
        )
    )
    said = glm.findings(found)
    assert said[0].startswith("4 claims, measured in 4 cases of 2 families and 1 data sets: 4 hold.")
    assert "4.0e-15 in an entry and 5.0e-15 relatively (mnist, logistic, one point, its label chosen)" in said[0]
    assert "0.3 or more" in said[1]
    assert "80 % of its bound" in said[2]
    assert "1 cases, relative error 5.0e-15" in said[3]
    assert "40 points have labels in [0, 1]" in said[4]
    assert said[5].endswith("softmax (as few as the rank).")


def test_findings_count_what_fails_and_say_nothing_of_what_there_is_not() -> None:
    plain = {"regulariser": "none", "penalty": 0.0, "bound": 0.0, "verdict": "FAILS", "miss": math.nan}
    (only,) = glm.findings(glm.claimed(rows(plain)))
    assert "1 cases of 1 families and 1 data sets: 0 hold" in only


def test_the_figure_of_labels_has_a_curve_for_each_part_of_the_bound_and_a_point_for_each_claim() -> None:
    figure = glm.labels(rows({}, {"dataset": "concrete", "family": "gamma"}))
    left, right = figure.axes
    assert [line.get_label() for line in left.lines if not str(line.get_label()).startswith("_")] == [
        "mnist: 10 % of the bound"
    ]
    assert len(left.lines) == 1 + 3  # a line at 1, three curves
    assert [text.get_text() for text in left.texts] == ["50 %", "100 %"]
    assert [tick.get_text() for tick in right.get_yticklabels()] == ["logistic", "gamma"]
    dots = [line for line in right.lines if line.get_marker() == "o"]
    assert [len(np.atleast_1d(line.get_xdata())) for line in dots] == [1, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_points_are_images_or_bars(count: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = {
        "mnist": {"logistic": rng.normal(size=(1, 1, 6, 6)), "softmax": rng.normal(size=(3, 3, 6, 6))},
        "table": {"linear": np.array([1.0, -2.0]).reshape(1, 1, 1, 2), "gamma": np.zeros((1, 1, 1, 2))},
        "other": {"linear": np.ones((1, 1, 1, 4))},
    }
    figure = glm.points(dict(list(images.items())[:count]))
    shown = [(len(axis.images), len(axis.patches)) for axis in figure.axes]
    assert shown == ([(1, 0)] * 4 + [(0, 2)] * 2 + [(0, 4)])[: 4 if count == 1 else None]
    figures.save(figure, tmp_path / "one.png")
    again = glm.points(dict(list(images.items())[:count]))
    figures.save(again, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
