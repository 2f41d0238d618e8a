import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import study
from stillhouse.reporting.study import Layout


def row_of(table: pd.DataFrame, dataset: str, experiment: str, size: int | None, metric: str = "test accuracy") -> Any:
    same = table["per_class"].isna() if size is None else table["per_class"] == size
    found = table[
        (table["dataset"] == dataset) & (table["experiment"] == experiment) & same & (table["metric"] == metric)
    ]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture
def tidy(layout: Layout) -> pd.DataFrame:
    return study.tidy(layout, study.scores(layout))


def test_the_columns_are_these(tidy: pd.DataFrame) -> None:
    assert tidy.columns.tolist() == [
        "study", "dataset", "experiment", "method", "per_class", "protocol", "model", "metric", "mean", "std", "seeds",
        "published", "published_source", "difference", "budget", "recipe",
    ]  # fmt: skip
    assert set(tidy["study"]) == {"tiny"}


def test_mean_and_deviation_are_over_seeds(tidy: pd.DataFrame) -> None:
    random = row_of(tidy, "mnist", "random", 10)
    assert random["mean"] == 65.5
    assert random["std"] == pytest.approx(math.sqrt(50))  # of 60.5 and 70.5, with n - 1
    assert random["seeds"] == 2
    whole = row_of(tidy, "digits", "whole", None)
    assert (whole["mean"], whole["std"]) == (93.0, pytest.approx(math.sqrt(2)))
    assert row_of(tidy, "mnist", "exact", 1, "weight error")["mean"] == pytest.approx(1.5e-12)


@pytest.mark.parametrize(
    ("experiment", "size", "published"), [("whole", None, 86.41), ("exact", 1, 86.41), ("exact", 10, 86.41)]
)
def test_the_published_number_stands_beside_ours(
    tidy: pd.DataFrame, experiment: str, size: int | None, published: float
) -> None:
    row = row_of(tidy, "mnist", experiment, size)
    assert row["published"] == published
    assert row["difference"] == pytest.approx(row["mean"] - published)
    assert row["published_source"] == "chen2024, Table 3, single run"


@pytest.mark.parametrize(
    ("dataset", "experiment", "size"), [("digits", "exact", 1), ("digits", "whole", None), ("mnist", "random", 1)]
)
def test_what_the_paper_does_not_have_stays_empty(
    tidy: pd.DataFrame, dataset: str, experiment: str, size: int | None
) -> None:
    row = row_of(tidy, dataset, experiment, size)
    assert row[["published", "published_source", "difference"]].isna().all()


def test_every_number_has_one_row_in_the_order_of_the_study(tidy: pd.DataFrame) -> None:
    accuracies = tidy[tidy["metric"] == "test accuracy"]
    found = [(d, e, 0 if pd.isna(s) else s) for d, e, s in
             zip(accuracies["dataset"], accuracies["experiment"], accuracies["per_class"], strict=True)]  # fmt: skip
    assert found == [
        (dataset, *each)
        for dataset in ("mnist", "digits")
        for each in [("whole", 0), ("exact", 1), ("random", 1), ("exact", 10), ("random", 10)]
    ]
    assert len(tidy) == 10 + 4  # and the weight errors


def test_rows_that_the_study_does_not_ask_for_are_left_out(layout: Layout) -> None:
    less = replace(layout, per_class=[10], seeds=[1])
    rows = study.scores(less)
    assert set(rows["seed"]) == {1}
    assert set(rows["per_class"].dropna()) == {10}
    assert rows["per_class"].isna().sum() == 2  # the whole set has no size
    table = study.tidy(less, rows)
    assert row_of(table, "mnist", "random", 10)["mean"] == 70.5
    assert math.isnan(row_of(table, "mnist", "random", 10)["std"])


def test_every_number_has_a_recipe_of_its_own(layout: Layout, tidy: pd.DataFrame) -> None:
    recipes = study.recipes(study.scores(layout))
    assert sorted(recipes) == sorted(tidy["recipe"])
    assert len(set(tidy["recipe"])) == len(tidy)


def test_a_recipe_holds_what_makes_the_number_again(layout: Layout, tidy: pd.DataFrame) -> None:
    recipe = study.recipes(study.scores(layout))[row_of(tidy, "mnist", "exact", 1)["recipe"]]
    assert recipe["what"] == {
        "dataset": "mnist", "experiment": "exact", "method": "krr_exact", "per_class": 1, "protocol": "own", "model": "linear",
        "metric": "test accuracy",
    }  # fmt: skip
    assert [(each["seed"], each["value"]) for each in recipe["values"]] == [(0, 86.0), (1, 86.4)]
    assert recipe["judged_by_source"] == "c0de"
    assert recipe["made_by"] == {"dataset": "mnist", "experiment": "exact", "per_class": 1, "seed": 0}
    assert recipe["certificate"] == {"error_images": 1e-12}
    files = [each["file"] for each in recipe["values"]]
    assert recipe["command"] == f"snakemake --cores all --force {' '.join(files)}"
    assert all(Path(file).exists() for file in files)


def test_a_number_of_the_whole_set_leads_to_its_teachers(layout: Layout, tidy: pd.DataFrame) -> None:
    recipe = study.recipes(study.scores(layout))[row_of(tidy, "mnist", "whole", None)["recipe"]]
    assert recipe["what"]["per_class"] is None
    assert recipe["made_by"]["experiment"] == "whole"


def test_a_recipe_is_named_by_what_made_the_number(layout: Layout) -> None:
    rows = study.scores(layout)
    before = set(study.recipes(rows))
    for column, value in (("code", "other"), ("recipe", "other"), ("training_seed", 9)):
        changed = rows.copy()
        changed.loc[0, column] = value
        assert len(before - set(study.recipes(changed))) == 1, column


def test_exactness_compares_with_the_teacher_of_the_same_seed(layout: Layout) -> None:
    exact = study.exactness(study.scores(layout)).set_index("dataset")
    assert exact["sets"].to_dict() == {"mnist": 4, "digits": 4}
    assert exact["accuracy_gap"].to_dict() == pytest.approx({"mnist": 0.1, "digits": 0.5})
    assert exact["weight_error"].to_dict() == pytest.approx({"mnist": 2e-12, "digits": 2e-12})


def test_findings_say_what_the_numbers_say(layout: Layout, tidy: pd.DataFrame) -> None:
    weights, paper = study.findings(tidy, study.exactness(study.scores(layout)))
    assert "over 8 exact sets" in weights
    assert "at most 2.0e-12" in weights
    assert "at most 0.50 points" in weights
    assert "3 of 3 numbers lie within 1 point" in paper
    assert "mnist, linear, at -0.21" in paper


def test_findings_without_anything_to_compare_are_none(layout: Layout, tidy: pd.DataFrame) -> None:
    alone = tidy[tidy["experiment"] == "random"]
    rows = study.scores(layout)
    assert study.findings(alone, study.exactness(rows[rows["experiment"] == "random"])) == []


def test_costs_are_those_of_every_file_once(layout: Layout) -> None:
    cost = study.costs(study.scores(layout))
    assert len(cost) == cost["file"].nunique() == 20
    (sentence,) = study.spent(cost)
    assert sentence.startswith("Cost: 20 distilled sets and teachers in 30 seconds of computing (cpu: any, 1 thread")
    assert sentence.endswith("at most 101 MB a process.")


def test_pictures_are_labelled_by_experiment_and_its_only_model(layout: Layout, tidy: pd.DataFrame) -> None:
    assert study.picture_labels(layout, tidy)["exact"] == "exact_sets\nLinear"
    two = pd.concat([tidy, tidy.assign(model="rff")])
    assert study.picture_labels(layout, two)["exact"] == "exact_sets"


def test_a_layout_is_read_from_the_workflows_json(layout: Layout) -> None:
    assert Layout.from_json(json.dumps(asdict(layout))) == layout
