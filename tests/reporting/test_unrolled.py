"""Unrolled sets beside baselines and outside their own schedule, their step sizes and ratios, from hand-made sets and rows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stillhouse.reporting import study, unrolled
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Table
from stillhouse.sets import DistilledSet
from stillhouse.teacher import Teacher

ASKED, ORDINARY = "as_the_set_asks", "ordinary_training"
LABELS = {
    "whole": "all real images", "random": "random real images", "k_means": "k-means", "sldd": "SLDD, 4 images",
    "sldd_1": "SLDD, 1 image", "lenet": "LeNet", "mlp": "MLP",
}  # fmt: skip
METHODS = {"whole": "whole", "random": "random_images", "k_means": "k_means", "sldd": "dd", "sldd_1": "dd"}
SIZES = {"random": 4, "k_means": 4, "sldd": 4, "sldd_1": 1}
STEPS = {"steps": 2, "epochs": 2, "loss": "cross_entropy", "step_sizes": [0.1, 0.2, 0.3, 0.6]}


class Scored:
    """A study of two per class, and the rows of its evaluations."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.layout = replace(
            layout, published="sucholutsky2021, README", datasets=["mnist"], per_class=[1], seeds=[0],
            experiments=list(METHODS), labels=LABELS, made_for={"sldd": "lenet", "sldd_1": "lenet"},
        )  # fmt: skip

    def add(
        self, experiment: str, protocol: str, *values: float, budget: float = 1.0, model: str = "lenet", seed: int = 0
    ) -> None:
        """One evaluation of so many trainings."""
        file = self.folder / f"{experiment}-{seed}.safetensors"
        recipe = {"dataset": "mnist", "experiment": experiment, "seed": seed, "method": {"step_size": 0.05}}
        if experiment == "whole":
            Teacher({"kind": "lenet"}, seed, {"weights": torch.ones(2)}, {}, {}, recipe=recipe).save(file)
        else:
            self.save(file, experiment, recipe)
        shared = {
            "dataset": "mnist", "experiment": experiment, "method": METHODS[experiment], "protocol": protocol, "model": model,
            "per_class": None if experiment == "whole" else 1, "seed": seed, "metric": "test accuracy", "budget": budget,
            "file": str(file), "recipe": f"{experiment}-{seed}", "code": "c",
        }  # fmt: skip
        self.rows += [{**shared, "training_seed": i, "value": value} for i, value in enumerate(values)]

    def save(self, file: Path, experiment: str, recipe: dict[str, Any]) -> None:
        count, asks = SIZES[experiment], METHODS[experiment] == "dd"
        targets = torch.eye(2)[torch.arange(count) % 2] + (torch.tensor([0.5, -0.25]) if asks else 0)
        schedule = {**STEPS, "steps": 1, "step_sizes": [0.1, 0.2]} if experiment == "sldd_1" else STEPS
        made = DistilledSet(
            torch.rand(count, 1, 3, 3, generator=torch.Generator().manual_seed(0)), targets, ("ant", "bee"),
            schedule=schedule if asks else {}, recipe=recipe,
        )  # fmt: skip
        made.save(file)
        file.with_suffix(".cost.json").write_text(json.dumps({"seconds": 1.0}))

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows).astype({"per_class": "Int64"})

    @property
    def tidy(self) -> pd.DataFrame:
        return unrolled.beside_the_first(self.frame, study.tidy(self.layout, self.frame))

    @property
    def found(self) -> pd.DataFrame:
        return unrolled.gathered(self.layout, self.frame, self.tidy)


@pytest.fixture
def scored(tmp_path: Path, layout: Layout) -> Scored:
    made = Scored(tmp_path, layout)
    for experiment, own, ordinary in (
        ("whole", (98.0,), (99.0,)),
        ("random", (40.0, 50.0), (44.0,)),
        ("k_means", (60.0, 60.0), (57.0,)),
        ("sldd", (95.0,), (60.0, 70.0, 80.0)),
        ("sldd_1", (49.0,), (10.0,)),
    ):
        made.add(experiment, ASKED, *own)
        made.add(experiment, ORDINARY, *ordinary)
    return made


def text(table: Table) -> list[list[str]]:
    assert all(len(line.entries) == len(table.columns) for line in table.lines)
    return [[entry.plain for entry in line.entries] for line in table.lines]


def test_a_line_a_set_has_a_column_a_protocol_and_the_paper_beside_the_first_alone(scored: Scored) -> None:
    table = unrolled.table(scored.found)
    heads = [column.head for column in table.columns]
    assert heads == ["trained on", "images", "as the set asks", "published", "ordinary training"]
    assert text(table) == [
        ["all real images", "all", "98.00", "–", "99.00"],
        ["SLDD, 1 image", "1", "49.00", "–", "10.00"],
        ["random real images", "4", "45.00 ± 7.07", "–", "44.00"],
        ["k-means", "4", "60.00 ± 0.00", "–", "57.00"],
        ["SLDD, 4 images", "4", "95.00", "96.00", "70.00 ± 10.00"],
    ]
    assert [line.reference for line in table.lines] == [True, False, True, False, False]
    assert len({line.name for line in table.lines}) == 5


def test_published_numbers_stand_beside_the_first_protocol_alone(scored: Scored) -> None:
    columns = ["published", "published_source", "difference"]

    def beside(tidy: pd.DataFrame, protocol: str) -> list[bool]:
        own = tidy[(tidy["experiment"] == "sldd") & (tidy["protocol"] == protocol)]
        return [bool(known) for known in own[columns].notna().to_numpy()[0]]

    assert beside(scored.tidy, ASKED) == [True] * 3
    assert beside(scored.tidy, ORDINARY) == [False] * 3
    assert beside(study.tidy(scored.layout, scored.frame), ORDINARY) == [True] * 3


def test_without_published_numbers_there_is_no_column_of_them(scored: Scored) -> None:
    scored.layout = replace(scored.layout, published="")
    assert [column.head for column in unrolled.table(scored.found).columns][2:] == [
        "as the set asks",
        "ordinary training",
    ]


def test_two_models_of_one_protocol_are_two_columns_and_what_was_not_scored_has_a_dash(scored: Scored) -> None:
    scored.add("random", ORDINARY, 33.0, model="mlp")
    table = unrolled.table(scored.found)
    assert [column.head for column in table.columns][4:] == ["ordinary training, LeNet", "ordinary training, MLP"]
    assert [line[-1] for line in text(table)] == ["–", "–", "33.00", "–", "–"]


def test_part_of_a_budget_is_marked(scored: Scored) -> None:
    scored.rows = [{**row, "budget": 0.25 if row["experiment"] == "sldd" else 1.0} for row in scored.rows]
    assert text(unrolled.table(scored.found))[-1][0] == "SLDD, 4 images, 25 % of its budget"


def test_findings_set_a_set_beside_itself_otherwise_and_the_best_baseline_of_as_many_images(scored: Scored) -> None:
    assert unrolled.findings(scored.found) == [
        "mnist, SLDD, 1 image: 49.00 % as the set asks; the same images otherwise: 10.00 % (ordinary training).",
        "mnist, SLDD, 4 images: 95.00 % as the set asks; the same images otherwise: 70.00 % (ordinary training). The best "
        "baseline of as many images, k-means, has 57.00 % (ordinary training).",
    ]


def test_a_baseline_under_the_first_protocol_counts_where_there_is_no_other(scored: Scored) -> None:
    scored.rows = [row for row in scored.rows if row["protocol"] == ASKED]
    assert unrolled.findings(scored.found)[1] == (
        "mnist, SLDD, 4 images: 95.00 % as the set asks. The best baseline of as many images, k-means, has 60.00 % (as the set "
        "asks)."
    )


def test_step_sizes_are_counted_by_step_epoch_and_part(scored: Scored) -> None:
    sizes = unrolled.step_sizes(scored.frame)
    own = sizes[sizes["experiment"] == "sldd"]
    assert own[["step", "epoch", "part", "step_size"]].to_numpy().tolist() == [
        [1, 1, 1, 0.1], [2, 1, 2, 0.2], [3, 2, 1, 0.3], [4, 2, 2, 0.6],
    ]  # fmt: skip
    assert set(own["start"]) == {0.05}
    assert set(sizes["experiment"]) == {"sldd", "sldd_1"}
    assert unrolled.step_findings(scored.layout, own) == [
        "mnist, SLDD, 4 images: step sizes are 0.1 to 0.6 after 0.05 at the start; their means by epoch: 0.15, 0.45."
    ]


def test_a_study_of_baselines_alone_has_no_step_sizes(scored: Scored) -> None:
    sizes = unrolled.step_sizes(scored.frame[scored.frame["method"] != "dd"])
    assert sizes.empty
    assert "step_size" in sizes


def test_r_m_is_over_the_whole_set_by_the_same_model_as_the_set_asks(scored: Scored) -> None:
    made = unrolled.ratio(scored.found)
    assert dict(zip(made["experiment"], made["ratio"].round(4), strict=True)) == {
        "sldd_1": 50.0, "random": 45.9184, "k_means": 61.2245, "sldd": 96.9388,
    }  # fmt: skip
    assert text(unrolled.ratio_table(made))[0] == ["SLDD, 1 image", "1", "49.00", "98.00", "50.0"]
    assert unrolled.ratio_findings(made)[0] == ("mnist, SLDD, 1 image: M = 1, r_M = 50.0 %, 49.00 of 98.00 %.")


def test_d_a_is_the_fewest_images_of_a_family_that_are_enough(scored: Scored) -> None:
    table = unrolled.size_table(unrolled.ratio(scored.found))
    assert [column.head for column in table.columns][2:] == ["50 %", "75 %", "90 %", "95 %", "99 %"]
    assert text(table) == [
        ["SLDD", "1, 4", "1", "4", "4", "4", "–"],
        ["random real images", "4", "–", "–", "–", "–", "–"],
        ["k-means", "4", "4", "–", "–", "–", "–"],
    ]


def test_a_set_whose_model_no_whole_set_was_trained_with_has_no_ratio(scored: Scored) -> None:
    scored.rows = [row for row in scored.rows if row["experiment"] != "whole"]
    assert unrolled.ratio(scored.found).empty


@pytest.mark.parametrize(("most", "wanted"), [(20, ["sldd", "sldd_1"]), (3, ["sldd_1"]), (0, [])])
def test_sets_with_learned_labels_are_those_whose_targets_are_not_one_hot(
    most: int, wanted: Sequence[str], scored: Scored
) -> None:
    found = unrolled.with_learned_labels(scored.frame, most)
    assert list(found) == wanted
    assert all(len(made) == SIZES[name] for name, made in found.items())
