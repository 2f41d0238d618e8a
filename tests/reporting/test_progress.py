"""Records of trained sets beside what the authors' own runs print, from hand-made cost files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import progress, study
from stillhouse.reporting.study import Layout

# Step, seconds, validation accuracy.
RECORD = [(0, 2.0, 20.0), (21, 4.0, 38.0), (108, 9.0, 43.0), (243, 20.0, 45.5), (300, 25.0, 46.0)]
MODELS = {"whole": "fc1", "random": "fc1", "kip_fc1": "fc1", "kip_fc1_paper": "fc1_paper"}
METHODS = {"whole": "whole", "random": "random_images", "kip_fc1": "kip", "kip_fc1_paper": "kip"}


class Runs:
    """Rows and cost files of runs on CIFAR-10."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.layout = replace(
            layout, published="nguyen2021kip, quoted; nguyen2021kip, colab", datasets=["cifar10"], per_class=[1, 10],
            experiments=["whole", "random", "kip_fc1", "kip_fc1_paper"],
            labels={"whole": "all", "random": "random", "kip_fc1": "KIP", "kip_fc1_paper": "KIP, paper", "fc1": "FC1"},
            made_for={"kip_fc1": "fc1", "kip_fc1_paper": "fc1_paper"},
        )  # fmt: skip

    def add(
        self, experiment: str = "kip_fc1", size: int = 10, seed: int = 0, record: Any = RECORD, budget: float = 1.0,
        accuracy: float = 46.5,
    ) -> None:  # fmt: skip
        """One finished run."""
        file = self.folder / f"{experiment}-{size}-{seed}.safetensors"
        lines = [{"step": a, "seconds": b, "validation_accuracy": c} for a, b, c in record]
        file.with_suffix(".cost.json").write_text(json.dumps({"seconds": 30.0, "record": lines}))
        self.rows.append(
            {"dataset": "cifar10", "experiment": experiment, "method": METHODS[experiment], "per_class": size, "seed": seed,
             "protocol": "same_model", "model": MODELS[experiment], "training_seed": seed, "metric": "test accuracy",
             "value": accuracy, "budget": budget, "file": str(file), "recipe": "r", "code": "c"}
        )  # fmt: skip

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows).astype({"per_class": "Int64"})

    @property
    def made(self) -> pd.DataFrame:
        return progress.gathered(self.layout, self.frame)

    @property
    def lines(self) -> list[list[str]]:
        table = progress.table(self.layout, study.tidy(self.layout, self.frame), self.made)
        assert all(len(line.entries) == len(table.columns) for line in table.lines)
        return [[entry.plain for entry in line.entries] for line in table.lines]


@pytest.fixture
def runs(tmp_path: Path, layout: Layout) -> Runs:
    return Runs(tmp_path, layout)


def test_a_run_is_shown_where_it_begins_and_ends_and_nearest_to_every_step_that_is_printed(runs: Runs) -> None:
    runs.add()
    assert runs.lines == [
        ["KIP", "10", "0", "2", "20.00", "–", "–", "–"],
        ["KIP", "10", "21", "4", "38.00", "–", "20", "41.41"],
        ["KIP", "10", "108", "9", "43.00", "–", "100", "45.44"],
        ["KIP", "10", "243", "20", "45.50", "–", "200", "46.23"],
        ["KIP", "10", "300", "25", "46.00", "46.50", "300", "46.74"],
    ]


def test_what_is_printed_of_one_experiment_stands_beside_no_other_and_of_one_size_beside_no_other(runs: Runs) -> None:
    runs.add("kip_fc1_paper")
    runs.add(size=1)
    assert [line[:3] for line in runs.lines] == [
        ["KIP", "1", "0"], ["KIP", "1", "300"], ["KIP, paper", "10", "0"], ["KIP, paper", "10", "300"],
    ]  # fmt: skip
    assert {line[-1] for line in runs.lines} == {"–"}


def test_seeds_are_averaged_and_one_that_stops_early_ends_where_it_stops(runs: Runs) -> None:
    runs.add(seed=0, accuracy=46.0)
    runs.add(seed=1, accuracy=48.0, record=[*RECORD[:2], (150, 11.0, 48.0)])
    first, near_20, *_, last = runs.lines
    assert first[2:5] == ["0", "2", "20.00 ± 0.00"]
    assert near_20[2:5] == ["21", "4", "38.00 ± 0.00"]
    assert last[2:6] == ["150–300", "18", "47.00 ± 1.41", "47.00"]


def test_a_run_of_part_of_its_budget_says_so(runs: Runs) -> None:
    runs.add(budget=0.05)
    assert {line[0] for line in runs.lines} == {"KIP, 5 % of its budget"}


def test_lines_without_validation_accuracy_are_no_part_of_the_progress(runs: Runs) -> None:
    runs.add(record=[*RECORD, (301, 26.0, None)])
    assert runs.made["step"].tolist() == [step for step, _, _ in RECORD]


def test_findings_tell_when_most_of_the_gain_is_there(runs: Runs) -> None:
    runs.add(record=[(0, 1.0, 10.0), (50, 2.0, 27.9), (75, 3.0, 28.0), (100, 4.0, 30.0)])
    runs.add(seed=1, record=[(0, 1.0, 10.0), (25, 2.0, 50.0), (100, 4.0, 30.0)])
    runs.add(size=1, record=[(0, 1.0, 30.0), (100, 4.0, 29.0)])  # gains nothing: not counted
    (told,) = [line for line in progress.findings(runs.layout, runs.made) if "Of what a run gains" in line]
    assert "90 % is there after 50 % of its steps (median of 2 runs; 25 to 75 %)" in told


def test_findings_set_the_record_beside_what_is_printed(runs: Runs) -> None:
    runs.add()
    told = progress.findings(runs.layout, runs.made)[-1]
    assert told == (
        "cifar10, 10 per class, KIP: on validation images 38.00 at 21, 43.00 at 108, 45.50 at 243, 46.00 at 300 steps; the "
        "authors' run has on the test images 41.41 at 20, 45.44 at 100, 46.23 at 200, 46.74 at 300."
    )


def test_a_study_without_records_has_no_progress(runs: Runs, tmp_path: Path) -> None:
    runs.add(record=[])
    assert runs.made.empty
    assert runs.lines == []
    assert progress.findings(runs.layout, runs.made) == []
