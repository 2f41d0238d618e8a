"""What training costs beside a closed form, from hand-made records."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import race
from stillhouse.reporting.study import Layout
from stillhouse.teacher import Teacher

# Step, seconds, accuracy on the validation images. One second a step after two that are spent once.
RECORD = [(0, 2.0, 50.0), (1, 3.0, 91.4), (3, 5.0, 91.5), (5, 7.0, 95.0)]
EXACT, TEACHER = 1.5, 2.5  # seconds


class Study:
    """Rows, cost files and teachers of a study: data set -> seed -> size -> record of the trained set."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def add(self, experiment: str, seed: int, size: int | None, cost: dict[str, Any], **changed: Any) -> Path:
        """A file's rows, and its cost."""
        known = {"dataset": "mnist", "budget": 1.0} | changed
        file = self.folder / f"{known['dataset']}-{experiment}-{size}-{seed}.safetensors"
        method = {"whole": "whole", "exact": "krr_exact", "kip": "kip"}[experiment]
        row = {"experiment": experiment, "method": method, "per_class": size, "seed": seed, "file": str(file), **known}
        self.rows += [{**row, "metric": "test accuracy"}, {**row, "metric": "weight error"}]
        file.with_suffix(".cost.json").write_text(json.dumps(cost))
        return file

    def of(self, seed: int = 0, size: int = 1, record: Any = RECORD, budget: float = 0.5, **changed: Any) -> None:
        """A teacher with 92.0 % on its validation images, an exact and a trained set."""
        teacher = self.add("whole", seed, None, {"seconds": TEACHER}, **changed)
        scores = {"validation_accuracy": [0.3, 0.92, 0.9]}
        Teacher({"kind": "ridge"}, seed, {}, {}, {}, notes=scores).save(teacher)
        self.add("exact", seed, size, {"seconds": EXACT}, **changed)
        lines = [{"step": a, "seconds": b, "validation_accuracy": c} for a, b, c in record]
        self.add("kip", seed, size, {"seconds": record[-1][1], "record": lines}, budget=budget, **changed)

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows).astype({"per_class": "Int64"})

    @property
    def found(self) -> pd.DataFrame:
        return race.race(self.frame, race.progress(self.frame))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def texts(layout: Layout, found: pd.DataFrame) -> list[list[str]]:
    table = race.table(replace(layout, published="chen2024, Table 4"), found)
    assert all(len(line.entries) == len(table.columns) for line in table.lines)
    return [[line.section, *(entry.plain for entry in line.entries)] for line in table.lines]


def test_progress_is_every_recorded_line_once_beside_the_teacher_of_its_seed(study: Study) -> None:
    study.of()
    made = race.progress(study.frame)
    assert list(zip(made["step"], made["seconds"], made["validation_accuracy"], strict=True)) == RECORD
    assert set(made["teacher"]) == {92.0}  # the best of its ridges
    assert set(made["experiment"]) == {"kip"}  # sets without a record have no progress
    assert set(made["budget"]) == {0.5}


def test_a_step_costs_what_the_record_says_without_what_is_computed_once(study: Study) -> None:
    study.of()
    [row] = study.found.to_dict("records")
    assert (row["dataset"], row["per_class"], row["steps"]) == ("mnist", 1, 5)
    assert row["step"] == 1.0
    assert row["full"] == 2 + 10 * 1.0  # five steps are half of the budget
    assert row["extrapolated"]
    assert row["exact"] == EXACT + TEACHER


def test_a_full_budget_is_measured_and_not_extrapolated(study: Study) -> None:
    study.of(budget=1.0)
    [row] = study.found.to_dict("records")
    assert row["full"] == 7.0
    assert not row["extrapolated"]


@pytest.mark.parametrize(
    ("accuracies", "reached"),
    [([50, 91.4, 91.5, 95], 5.0), ([91.5, 91.4, 0, 0], 2.0), ([50, 99, 40, 99], 3.0), ([1, 2, 91.49, 91.4], math.inf)],
)
def test_the_teacher_is_reached_at_the_first_record_within_half_a_point(
    study: Study, accuracies: list[float], reached: float
) -> None:
    study.of(record=[(step, seconds, a) for (step, seconds, _), a in zip(RECORD, accuracies, strict=True)])
    assert study.found["reached"].tolist() == [reached]


def test_seeds_are_averaged(study: Study) -> None:
    study.of(seed=0)
    study.of(seed=1, record=[(step, 3 * seconds, a) for step, seconds, a in RECORD])
    [row] = study.found.to_dict("records")
    assert row["step"] == 2.0
    assert row["reached"] == 10.0
    assert row["full"] == 24.0


def test_where_one_seed_did_not_reach_the_teacher_no_mean_says_so(study: Study, layout: Layout) -> None:
    study.of(seed=0)  # after 5 seconds
    study.of(seed=1, record=[(step, seconds, 50.0) for step, seconds, _ in RECORD])  # not in 7
    [row] = study.found.to_dict("records")
    assert math.isinf(row["reached"])
    assert texts(layout, study.found)[0][3] == "> 6"


def test_data_sets_and_sizes_have_lines_of_their_own_in_the_order_of_the_rows(study: Study, layout: Layout) -> None:
    study.of(size=10)
    study.of(size=1)
    study.of(size=10, dataset="cifar10")
    assert [line[:2] for line in texts(layout, study.found)] == [["mnist", "10"], ["mnist", "1"], ["cifar10", "10"]]


def test_a_line_has_ours_and_the_papers_seconds_and_marks_what_is_extrapolated(study: Study, layout: Layout) -> None:
    study.of()
    assert texts(layout, study.found) == [
        ["mnist", "1", "1.000", "5", "≈ 12", "4.0", "1.2×", "≈ 3.0×", "159", "16", "9.9"]
    ]


def test_a_run_that_did_not_reach_the_teacher_has_a_lower_bound(study: Study, layout: Layout) -> None:
    study.of(budget=1.0, record=[(step, seconds, 50.0) for step, seconds, _ in RECORD])
    assert texts(layout, study.found)[0][2:8] == ["1.000", "> 7", "7", "4.0", "> 1.8×", "1.8×"]


def test_the_papers_estimate_stands_as_it_is_printed(study: Study, layout: Layout) -> None:
    study.of(dataset="cifar100", size=50)
    assert texts(layout, study.found)[0][-3:] == ["396000", "25", "15840"]


def test_where_the_paper_has_nothing_there_is_a_dash(study: Study, layout: Layout) -> None:
    study.of(dataset="digits")
    assert texts(layout, study.found)[0][-3:] == ["–", "–", "–"]


def test_findings_count_the_cells_that_were_run_in_full_and_name_the_papers_estimate(study: Study) -> None:
    study.of(budget=1.0)
    study.of(budget=1.0, size=10, record=[(step, 2 * seconds, a) for step, seconds, a in RECORD])
    study.of(size=50)
    meaning, ours, theirs = race.findings(study.found)
    assert "within 0.5 points of the teacher" in meaning
    assert "Over the 2 cells whose full budget was run here, KIP took 1.8 to 3.5 times" in ours
    assert "15840, divides by an estimate" in theirs
    assert "396 000 s" in theirs
    assert "466.1" in theirs


def test_findings_name_the_cells_where_labels_alone_nearly_do_it(study: Study) -> None:
    study.of(record=[(0, 0.5, 95.0), (10, 4.0, 95.0)])
    assert study.found["reached"].tolist() == [0.5]
    told = [line for line in race.findings(study.found) if "solved labels alone" in line]
    assert len(told) == 1
    assert "mnist at 1 per class" in told[0]


def test_findings_without_a_full_run_say_nothing_of_ratios(study: Study) -> None:
    study.of()
    assert len(race.findings(study.found)) == 2
