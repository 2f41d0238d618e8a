"""Tables and findings of the duality gap, from hand-made rows and certificates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stillhouse.reporting import dgkip
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

BOUNDS = {
    "gap": 0.1,
    "distance": 1.0,
    "bound": 2.5,
    "bound_ball": 2.0,
    "certain": 20.0,
    "error_at_most": 80.0,
    "agreement": 90.0,
}


def row(one: str, other: str, loss: str, made: str, accuracy: float, **changed: Any) -> dict[str, Any]:
    known = {
        "dataset": "digits",
        "seed": 0,
        "recipe": "r",
        "one": one,
        "other": other,
        "loss": loss,
        "trained_on": made,
    }
    own = BOUNDS if made != "all" else {name: float("nan") for name in BOUNDS}
    return {**known, "images": 1000 if made == "all" else 2, "accuracy": accuracy, **own, **changed}


@pytest.fixture
def found() -> pd.DataFrame:
    rows = []
    for (one, other), shift in ((("a", "b"), 0.0), (("a", "c"), 10.0)):
        rows += [
            row(one, other, "squared", "dgkip", 80 + shift, certain=20 + shift, distance=1 + shift / 20),
            row(one, other, "squared", "all", 85 + shift),
            row(one, other, "squared", "random", 60 + shift),
            row(one, other, "squared", "kip", 81 + shift),
            row(one, other, "logistic", "all", 84 + shift),
            row(one, other, "logistic", "dgkip", 79 + shift, agreement=95.0),
        ]
    return dgkip.gathered(pd.DataFrame(rows))


def test_numbers_are_means_over_seeds() -> None:
    rows = [row("a", "b", "squared", "dgkip", 80.0), row("a", "b", "squared", "dgkip", 90.0, seed=1, gap=0.3)]
    (only,) = dgkip.gathered(pd.DataFrame(rows)).to_dict("records")
    assert (only["accuracy"], only["gap"], only["images"]) == (85.0, pytest.approx(0.2), 2)


def test_every_pair_is_a_line_with_references_first(found: pd.DataFrame) -> None:
    table = dgkip.pairs_table(found)
    heads = [(column.group, column.head) for column in table.columns[1:]]
    assert heads == [
        ("squared loss, %", "all images"), ("squared loss, %", "random images"), ("squared loss, %", "KIP"),
        ("squared loss, %", "DGKIP"), ("logistic loss, %", "all images"), ("logistic loss, %", "DGKIP"),
    ]  # fmt: skip
    assert [entry.text for entry in table.lines[1].entries] == [
        "a or c",
        "95.00",
        "70.00",
        "91.00",
        "90.00",
        "94.00",
        "89.00",
    ]
    assert table.lines[0].entries[1].recipe == "r"


def test_the_summary_tells_accuracies_over_pairs_and_bounds_of_sets_alone(found: pd.DataFrame) -> None:
    lines = {line.name: [entry.text for entry in line.entries] for line in dgkip.summary_table(found).lines}
    assert lines["digits squared DGKIP"] == [
        "squared", "DGKIP", "2", "80.00", "85.00", "90.00", "1.25", "2.00", "25.0", "90.0",
    ]  # fmt: skip
    assert lines["digits squared all images"][-4:] == ["–"] * 4
    assert all(len(entries) == 10 for entries in lines.values())


def test_findings_say_which_pairs_reach_a_quoted_accuracy(found: pd.DataFrame) -> None:
    squared, logistic, means, *_ = dgkip.findings(found, 88.63)
    assert "of 2 two-class tasks, sets of 2 images distilled by the duality gap reach 88.63 % in 1" in squared
    assert "the nearest is a or c with 90.00 %" in squared
    assert "80.00 to 90.00 %" in squared
    assert "the nearest is a or c with 89.00 %" in logistic
    assert means == (
        "digits, squared loss, means over pairs: DGKIP 85.00 %, all images 90.00 %, random images 65.00 %, KIP 86.00 %."
    )


def test_findings_say_what_the_bounds_are_worth(found: pd.DataFrame) -> None:
    last = dgkip.findings(found, 88.63)[-1]
    assert "all 8 machines of sets lie within their bounds" in last
    assert "50 to 75 % of the sharper bound" in last
    assert "proves 20.0 to 30.0 %" in last
    assert "90.0 to 95.0 % agree" in last


CERTIFICATE = {
    "loss": "logistic", "gap": 0.25, "norm": 4.0, "distance": 1.0, "bound": 2.0, "bound_ball": 1.5, "agreement": 0.9,
    "certain_ball": 0.2, "validation_error": 0.3, "error_at_most_ball": 0.8, "validation_error_real": 0.25,
    "distance_over_bound": 0.66,
}  # fmt: skip


def sets(folder: Path, *certificates: dict[str, Any] | None) -> pd.DataFrame:
    rows = []
    for seed, certificate in enumerate(certificates):
        file = folder / f"set{seed}"
        DistilledSet(torch.zeros(2, 2), torch.eye(2), ("a", "b"), certificate=certificate).save(file)
        known = {"dataset": "mnist", "experiment": "gap", "per_class": 1, "seed": seed, "recipe": f"r{seed}"}
        rows += [{**known, "metric": metric, "file": str(file)} for metric in ("test accuracy", "another")]
    return pd.DataFrame(rows)


def test_certificates_of_the_gap_are_read_and_others_are_not(tmp_path: Path, layout: Layout) -> None:
    rows = sets(tmp_path, CERTIFICATE, {**CERTIFICATE, "gap": 0.75, "validation_error": 0.2}, None, {"exact": True})
    found = dgkip.certified(rows)
    assert found["seed"].tolist() == [0, 1]
    table = dgkip.bounds_table(replace(layout, labels={"gap": "by the gap"}), found)
    assert [entry.text for entry in table.lines[0].entries] == [
        "by the gap", "1", "logistic", "0.5", "0.250", "0.500", "0.375", "20.0", "90.0", "25.0", "80.0",
    ]  # fmt: skip
    assert len(table.columns) == len(table.lines[0].entries)


def test_findings_of_certificates_tell_their_range_and_that_the_derivation_is_ours(tmp_path: Path) -> None:
    held, proven, ours = dgkip.bounds_findings(
        dgkip.certified(sets(tmp_path, CERTIFICATE, {**CERTIFICATE, "validation_error": 0.2}))
    )
    assert "on all 2 sets" in held
    assert "66 to 66 %" in held
    assert "20.0 to 20.0 %" in proven
    assert "−5.0 to +5.0 points" in proven
    assert "our own derivation" in ours
