import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stillhouse import artifact
from stillhouse.reporting import study
from stillhouse.reporting.study import Layout
from stillhouse.sets import recipe_id


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


def test_a_number_published_of_one_experiment_stands_beside_that_one_alone(layout: Layout) -> None:
    kip = {"dataset": "mnist", "method": "kip", "per_class": 1, "seed": 0, "protocol": "own", "model": "fc1", "training_seed": 0,
           "metric": "test accuracy", "value": 80.0, "budget": 1.0, "file": "f", "recipe": "r", "code": "c"}  # fmt: skip
    rows = pd.DataFrame([{**kip, "experiment": name} for name in ("kip_fc1", "kip_fc1_augmented")])
    beside = replace(layout, published="nguyen2021kip, quoted", experiments=["kip_fc1", "kip_fc1_augmented"])
    plain, augmented = study.tidy(beside, rows.astype({"per_class": "Int64"})).to_dict("records")
    assert pd.isna(plain["published"])
    assert augmented["published"] == 85.5
    assert augmented["difference"] == pytest.approx(-5.5)
    assert augmented["published_source"].startswith("nguyen2021kip, quoted, ")


def test_a_study_beside_no_table_has_no_published_numbers_and_no_finding_of_them(layout: Layout) -> None:
    table = study.tidy(replace(layout, published=""), study.scores(layout))
    assert table[["published", "published_source", "difference"]].isna().all().all()
    assert study.findings(table, pd.DataFrame()) == []


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
    weights, paper, single = study.findings(tidy, study.exactness(study.scores(layout)))
    assert "over 8 exact sets" in weights
    assert "at most 2.0e-12" in weights
    assert "at most 0.50 points" in weights
    assert "3 of 3 numbers lie within 1 point" in paper
    assert paper.endswith("mnist, linear, at -0.21.")
    assert "prints one run" in single


def test_numbers_of_less_than_the_published_budget_are_not_held_against_the_paper(tidy: pd.DataFrame) -> None:
    part = tidy.assign(budget=[0.1 if experiment == "exact" else 1.0 for experiment in tidy["experiment"]])
    (paper, _) = study.findings(part, pd.DataFrame())
    assert "1 of 1 numbers" in paper
    assert paper.endswith(" 2 of less than the published budget are left out.")


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


# Analyses


@pytest.fixture
def with_analyses(layout: Layout, tmp_path: Path) -> Layout:
    """The study with two analyses, of two data sets and seeds; one has images."""
    listed = []
    for name, dataset, seed in [
        ("path", "mnist", 0),
        ("path", "mnist", 1),
        ("path", "digits", 0),
        ("attack", "mnist", 0),
    ]:
        file = tmp_path / f"{name} {dataset} {seed}.csv"
        recipe = {"analysis": name, "dataset": dataset, "seed": seed}
        artifact.recipe_path(file).write_text(json.dumps(recipe))
        line = f"{dataset},{name},{seed},{recipe_id(recipe)},0.5"
        file.write_text(f"dataset,analysis,seed,recipe,ridge\n{line}\n")
        images = []
        if name == "attack":
            images = [str(file.with_suffix(".safetensors"))]
            shown = {each: torch.full((2, 1, 4, 4), i) for i, each in enumerate(("original", "exact"))}
            artifact.write(Path(images[0]), "images", shown, {"recipe": recipe, "order": ["original", "exact"]})
        listed.append({"analysis": name, "dataset": dataset, "seed": seed, "file": str(file), "images": images})
    return replace(layout, analyses=listed)


def test_the_rows_of_an_analysis_are_gathered_over_data_sets_and_seeds(with_analyses: Layout) -> None:
    rows = study.analysed(with_analyses, "path")
    assert list(zip(rows["dataset"], rows["seed"], strict=True)) == [("mnist", 0), ("mnist", 1), ("digits", 0)]
    assert set(rows["analysis"]) == {"path"}
    assert rows.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["012345678901", "12e456789012", "1e9999999999"])
def test_the_name_of_a_recipe_is_text_even_where_it_looks_like_a_number(
    layout: Layout, tmp_path: Path, name: str
) -> None:
    (tmp_path / "rows.csv").write_text(f"dataset,analysis,seed,recipe,ridge\nmnist,path,0,{name},0.5\n")
    listed = [{"analysis": "path", "dataset": "mnist", "seed": 0, "file": str(tmp_path / "rows.csv"), "images": []}]
    assert study.analysed(replace(layout, analyses=listed), "path")["recipe"].tolist() == [name]


def test_every_row_of_an_analysis_leads_to_what_made_it(with_analyses: Layout) -> None:
    recipes = study.analysis_recipes(with_analyses)
    rows = pd.concat([study.analysed(with_analyses, name) for name in ("path", "attack")])
    assert sorted(recipes) == sorted(rows["recipe"])
    for row in rows.to_dict("records"):
        recipe = recipes[row["recipe"]]
        assert recipe["made_by"] == {name: row[name] for name in ("analysis", "dataset", "seed")}
        assert (recipe["what"]["metric"], recipe["what"]["dataset"]) == (row["analysis"], row["dataset"])
        file = next(
            e["file"] for e in with_analyses.analyses if recipe_id(recipe["made_by"]) in Path(e["file"]).read_text()
        )
        assert recipe["command"] == f"snakemake --cores all --force '{file}'"  # its name has a space


def test_the_recipe_of_an_analysis_says_the_same_kinds_of_things_as_that_of_a_score(with_analyses: Layout) -> None:
    score = next(iter(study.recipes(study.scores(with_analyses)).values()))
    analysis = next(iter(study.analysis_recipes(with_analyses).values()))
    assert analysis.keys() <= score.keys()
    assert analysis["what"].keys() <= score["what"].keys()


def test_the_images_of_an_analysis_are_those_of_the_first_seed_in_their_order(with_analyses: Layout) -> None:
    images = study.analysis_images(with_analyses, "attack", "mnist")
    assert list(images) == ["original", "exact"]
    np.testing.assert_array_equal(images["exact"], np.ones((2, 1, 4, 4)))


def test_a_study_without_analyses_has_no_recipes_of_them(layout: Layout) -> None:
    assert study.analysis_recipes(layout) == {}
