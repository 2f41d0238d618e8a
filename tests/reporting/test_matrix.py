"""The transfer matrix, from hand-made accuracies."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import matrix
from stillhouse.reporting.study import Layout

METHODS = {"whole": "whole", "random": "random_images", "kip_a": "kip", "kip_b": "kip"}
# (experiment, model): mean accuracy at ten per class, unless said.
CELLS = {
    ("whole", "a"): 80.0, ("whole", "b"): 90.0, ("random", "a"): 20.0, ("random", "b"): 30.0,
    ("kip_a", "a"): 50.0, ("kip_a", "b"): 25.0, ("kip_b", "a"): 40.0, ("kip_b", "b"): 60.0,
}  # fmt: skip


def tidy(cells: dict[tuple[str, str], float], size: int = 10, dataset: str = "mnist", **more: Any) -> pd.DataFrame:
    made = [
        {"dataset": dataset, "experiment": e, "method": METHODS[e], "per_class": None if e == "whole" else size,
         "protocol": f"by_{model}", "model": model, "metric": "test accuracy", "mean": mean, "budget": 1.0,
         "recipe": f"{e}{model}", **more}
        for (e, model), mean in cells.items()
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"per_class": "Int64"})


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {"whole": "all real images", "random": "random real images", "kip_a": "KIP, for A", "kip_b": "KIP, for B",
              "a": "A", "b": "B"}  # fmt: skip
    return replace(
        layout, datasets=["mnist", "digits"], experiments=["whole", "random", "kip_a", "kip_b"], labels=labels,
        made_for={"kip_a": "a", "kip_b": "b"},
    )  # fmt: skip


def test_a_matrix_has_a_row_a_set_and_a_column_a_model_in_the_studys_order(named: Layout) -> None:
    shuffled = tidy(CELLS).sample(frac=1, random_state=0)
    ((dataset, size, block),) = matrix.blocks(matrix.gathered(named, shuffled))
    assert (dataset, size) == ("mnist", 10)
    mean = matrix.pivoted(block, "mean")
    assert mean.index.tolist() == ["all real images", "random real images", "KIP, for A", "KIP, for B"]
    assert mean.columns.tolist() == ["A", "B"]
    assert mean.to_numpy().tolist() == [[80, 90], [20, 30], [50, 25], [40, 60]]
    gains = matrix.pivoted(block, "gain").to_numpy().tolist()
    assert gains == [[60, 60], [0, 0], [30, -5], [20, 30]]
    assert matrix.pivoted(block, "own").to_numpy().tolist() == [
        [False, False],
        [False, False],
        [True, False],
        [False, True],
    ]


def test_sizes_and_data_sets_have_matrices_of_their_own_each_with_the_whole_set(named: Layout) -> None:
    both = pd.concat([tidy(CELLS, dataset="digits"), tidy(CELLS), tidy({**CELLS, ("kip_a", "a"): 99.0}, size=1)])
    both = both.drop_duplicates(["dataset", "experiment", "model", "per_class"])
    found = matrix.gathered(named, both)
    blocks = matrix.blocks(found)
    assert [(dataset, size) for dataset, size, _ in blocks] == [("mnist", 1), ("mnist", 10), ("digits", 10)]
    assert [matrix.pivoted(block, "mean").loc["KIP, for A", "A"] for _, _, block in blocks] == [99, 50, 50]
    assert [matrix.pivoted(block, "mean").loc["all real images", "B"] for _, _, block in blocks] == [90, 90, 90]


def test_other_metrics_are_no_part_of_it(named: Layout) -> None:
    more = pd.concat([tidy(CELLS), tidy(CELLS).assign(metric="weak epsilon (error)")])
    assert len(matrix.gathered(named, more)) == len(CELLS)


def test_two_protocols_of_one_model_are_two_columns(named: Layout) -> None:
    both = pd.concat([tidy(CELLS), tidy(CELLS, protocol="longer").query("model == 'a'")])
    ((_, _, block),) = matrix.blocks(matrix.gathered(named, both))
    assert matrix.pivoted(block, "mean").columns.tolist() == ["A, by_a", "A, longer", "B"]


def test_the_table_has_points_over_random_images_and_a_star_where_a_set_is_scored_by_its_own_model(
    named: Layout,
) -> None:
    table = matrix.table(matrix.gathered(named, tidy(CELLS)))
    assert [column.head for column in table.columns] == ["trained on", "images per class", "A", "B"]
    assert [[entry.text for entry in line.entries] for line in table.lines] == [
        ["all real images", "10", "+60.0", "+60.0"],
        ["KIP, for A", "10", "+30.0*", "−5.0"],
        ["KIP, for B", "10", "+20.0", "+30.0*"],
    ]
    assert [line.reference for line in table.lines] == [True, False, False]
    assert table.lines[1].entries[3].recipe == "kip_ab"


def test_a_set_that_a_model_did_not_score_has_a_dash(named: Layout) -> None:
    table = matrix.table(matrix.gathered(named, tidy({k: v for k, v in CELLS.items() if k != ("kip_a", "b")})))
    assert [entry.text for entry in table.lines[1].entries] == ["KIP, for A", "10", "+30.0*", "–"]


def test_part_of_a_budget_is_marked(named: Layout) -> None:
    cut = tidy(CELLS)
    cut.loc[cut["experiment"] == "kip_a", "budget"] = 0.33
    assert [line.entries[0].text for line in matrix.table(matrix.gathered(named, cut)).lines] == [
        "all real images", "KIP, for A, 33 % of its budget", "KIP, for B",
    ]  # fmt: skip


def test_findings_tell_own_models_from_others(named: Layout) -> None:
    assert matrix.findings(matrix.gathered(named, tidy(CELLS))) == [
        "Scored by the model they are made for, 2 of 2 sets beat as many random real images; the gain is +30.0 to +30.0 "
        "points, median +30.0.",
        "Scored by a model they are not made for, 1 of 2 sets beat as many random real images; the gain is −5.0 to +20.0 "
        "points, median +7.5.",
        "Of 2 models that some set is made for (a data set and size each), 2 score such a set highest.",
    ]
    upset = {**CELLS, ("kip_b", "a"): 55.0}
    assert "2 models that some set is made for (a data set and size each), 1 score" in matrix.findings(
        matrix.gathered(named, tidy(upset))
    )[-1]  # fmt: skip
