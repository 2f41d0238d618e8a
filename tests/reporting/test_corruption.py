"""Accuracy against corruption, from hand-made sets whose recipes say how they were corrupted."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from stillhouse.reporting import corruption
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

# Experiment: corruption, its kind, accuracy. Random images have 20 %.
SETS = {
    "kip": (0.0, "zero", 60.0),
    "zero_50": (0.5, "zero", 50.0),
    "zero_90": (0.9, "zero", 30.0),
    "noise_90": (0.9, "noise", 10.0),
}


def tidy(folder: Path, accuracies: dict[str, float] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows, whose files exist, and what `study.tidy` makes of them, as far as it is used."""
    made = []
    for name, (rho, kind, mean) in SETS.items():
        method = {"kind": "kip", "corruption": rho, "corruption_kind": kind}
        file = folder / f"{name}.safetensors"
        DistilledSet(torch.rand(2, 1, 4, 4), torch.eye(2), ("a", "b"), recipe={"method": method}).save(file)
        made.append({"experiment": name, "method": "kip", "mean": mean, "file": str(file)})
    solved = folder / "ls.safetensors"
    recipe = {"method": {"kind": "label_solve"}}
    DistilledSet(torch.rand(2, 1, 4, 4), torch.eye(2), ("a", "b"), recipe=recipe).save(solved)
    made += [
        {"experiment": "ls", "method": "label_solve", "mean": 40.0, "file": str(solved)},
        {"experiment": "random", "method": "random_images", "mean": 20.0, "file": "random"},
        {"experiment": "whole", "method": "whole", "mean": 90.0, "file": "whole"},
    ]
    rows = pd.DataFrame(made).assign(
        dataset="mnist", per_class=10, protocol="by_fc1", model="fc1", metric="test accuracy", std=1.0, seeds=2, budget=1.0,
        recipe="r",
    )  # fmt: skip
    rows["mean"] = [
        (accuracies or {}).get(name, mean) for name, mean in zip(rows["experiment"], rows["mean"], strict=True)
    ]
    rows.loc[rows["experiment"] == "whole", "per_class"] = None
    return rows, rows.astype({"per_class": "Int64"})


@pytest.fixture
def named(layout: Layout) -> Layout:
    return replace(layout, labels={**{name: name for name in (*SETS, "ls", "random", "whole")}, "fc1": "FC1"})


def test_levels_are_read_from_the_recipes_and_only_sets_that_can_be_corrupted_have_one(tmp_path: Path) -> None:
    found = corruption.gathered(*tidy(tmp_path))
    assert list(zip(found["experiment"], found["kind"], found["rho"], strict=True)) == [
        ("kip", "none", 0.0), ("zero_50", "zero", 0.5), ("zero_90", "zero", 0.9), ("noise_90", "noise", 0.9),
    ]  # fmt: skip
    assert set(found["random"]) == {20.0}


def test_what_is_left_is_of_what_the_uncorrupted_set_gains_over_random_images(tmp_path: Path) -> None:
    assert corruption.gathered(*tidy(tmp_path))["kept"].tolist() == [1.0, 0.75, 0.25, -0.25]


def test_where_the_uncorrupted_set_gains_nothing_nothing_is_said_to_be_left(tmp_path: Path) -> None:
    assert corruption.gathered(*tidy(tmp_path, {"kip": 20.0}))["kept"].isna().all()


def test_the_table_has_a_line_a_level(tmp_path: Path, named: Layout) -> None:
    table = corruption.table(named, corruption.gathered(*tidy(tmp_path)))
    assert [[entry.plain for entry in line.entries] for line in table.lines] == [
        ["nothing", "10", "FC1", "0", "60.00 ± 1.00", "20.00", "+40.00", "100"],
        ["zeros", "10", "FC1", "0.5", "50.00 ± 1.00", "20.00", "+30.00", "75"],
        ["zeros", "10", "FC1", "0.9", "30.00 ± 1.00", "20.00", "+10.00", "25"],
        ["noise", "10", "FC1", "0.9", "10.00 ± 1.00", "20.00", "−10.00", "−25"],
    ]
    assert [line.reference for line in table.lines] == [True, False, False, False]
    assert len({line.name for line in table.lines}) == 4


def test_findings_tell_the_highest_level_of_each_kind(tmp_path: Path, named: Layout) -> None:
    assert corruption.findings(named, corruption.gathered(*tidy(tmp_path))) == [
        "mnist, 10 per class, FC1: with 90 % of the pixels replaced by zeros a set scores 30.00 %, 25 % of the uncorrupted "
        "set's gain; with 90 % of the pixels replaced by noise a set scores 10.00 %, −25 % of the uncorrupted set's gain; as "
        "many random real images, uncorrupted, score 20.00 %."
    ]
