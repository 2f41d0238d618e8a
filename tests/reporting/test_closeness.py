"""Certificates of exact sets as a table, from hand-made files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stillhouse.reporting import closeness
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

LABELS = {"noise": "from noise", "real": "from real images", "linear": "Linear"}


class Rows:
    """Rows of scores, whose files have these certificates."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []

    def add(self, experiment: str, seed: int = 0, size: int = 1, dataset: str = "mnist", **certificate: Any) -> None:
        file = self.folder / f"{dataset}-{experiment}-{size}-{seed}"
        DistilledSet(torch.zeros(2, 2), torch.eye(2), ("a", "b"), certificate={"exact": True, **certificate}).save(file)
        known = {"dataset": dataset, "experiment": experiment, "model": "linear", "per_class": size, "seed": seed}
        self.rows += [
            {**known, "metric": m, "file": str(file)} for m in ("test accuracy", "weight error", "weight error")
        ]

    @property
    def certified(self) -> pd.DataFrame:
        return closeness.certified(pd.DataFrame(self.rows))


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    return Rows(tmp_path)


@pytest.fixture
def figures(layout: Layout) -> Layout:
    return replace(layout, experiments=["whole", "noise", "real"], labels=LABELS)


def texts(layout: Layout, found: pd.DataFrame) -> list[list[str]]:
    table = closeness.table(layout, found)
    assert all(len(line.entries) == len(table.columns) for line in table.lines)
    return [[line.section, *(entry.plain for entry in line.entries)] for line in table.lines]


REAL = {"ridge_S": 0.5, "ridge_bound": 2.0, "distance_to_start": 0.25, "residual_D": 0.125, "error_images": 1e-12}
NOISE = {"ridge_S": 0.0, "ridge_bound": 4.0, "error_images": 3e-12}


def test_every_certified_file_is_read_once(rows: Rows) -> None:
    rows.add("real", **REAL)
    rows.add("noise", **NOISE)
    found = rows.certified
    assert found["experiment"].tolist() == ["real", "noise"]
    assert found.loc[0, list(REAL)].to_dict() == REAL
    assert found.loc[1, ["distance_to_start", "residual_D"]].isna().all()


def test_files_that_are_not_certified_are_not_read(rows: Rows) -> None:
    rows.add("real", **REAL)
    random = {**rows.rows[0], "experiment": "random", "file": "missing"}
    rows.rows.append(random)
    assert rows.certified["experiment"].tolist() == ["real"]


def test_a_line_has_means_over_seeds(rows: Rows, figures: Layout) -> None:
    rows.add("real", **REAL)
    rows.add("real", seed=1, **REAL | {"distance_to_start": 0.75, "error_images": 3e-12})
    assert texts(figures, rows.certified) == [
        ["mnist", "from real images", "1", "Linear", "0.5", "2", "0.5", "0.125", "2e-12"]
    ]


def test_lines_are_in_the_order_of_the_study(rows: Rows, figures: Layout) -> None:
    for dataset in ("digits", "mnist"):
        for size in (10, 1):
            for experiment in ("real", "noise"):
                rows.add(experiment, size=size, dataset=dataset, **REAL)
    assert [line[:3] for line in texts(figures, rows.certified)] == [
        [dataset, label, size]
        for dataset in ("mnist", "digits")
        for size in ("1", "10")
        for label in ("from noise", "from real images")
    ]


def test_a_start_at_noise_has_no_distance(rows: Rows, figures: Layout) -> None:
    rows.add("noise", **NOISE)
    rows.add("real", **REAL)
    noise, real = texts(figures, rows.certified)
    assert noise[4:] == ["0", "4", "–", "–", "3e-12"]
    assert real[6:8] == ["0.25", "0.125"]
    assert closeness.findings(figures, rows.certified)[2].startswith(
        "Linear: over 1 sets that start at real images, the distance is 0.25"
    )


def test_a_study_of_noise_alone_has_a_table_too(rows: Rows, figures: Layout) -> None:
    rows.add("noise", **NOISE)
    assert texts(figures, rows.certified)[0][6:8] == ["–", "–"]
    assert len(closeness.findings(figures, rows.certified)) == 1


def test_findings_span_the_distances_of_each_model(rows: Rows, figures: Layout) -> None:
    for seed, distance in enumerate((0.25, 3.0, 12.0)):
        rows.add("real", seed=seed, **REAL | {"distance_to_start": distance})
    meaning, roots, spread = closeness.findings(figures, rows.certified)
    assert "not the images" in meaning
    assert "smaller root" in roots
    assert spread.startswith("Linear: over 3 sets that start at real images, the distance is 0.25 to 12. ")
