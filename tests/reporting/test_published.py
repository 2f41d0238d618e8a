import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stillhouse import plugins
from stillhouse.errors import UserError
from stillhouse.reporting import published

PAPERS = sorted(path.stem for path in published._FOLDER.glob("*.csv"))


@pytest.mark.parametrize(
    ("method", "dataset", "model", "per_class", "value"),
    [
        ("whole", "mnist", "linear", None, 86.41),
        ("whole", "mnist", "fcnn", None, 93.89),
        ("whole", "mnist", "rff", None, 93.82),
        ("krr_exact", "mnist", "fcnn", 50, 93.85),
        ("whole", "cifar10", "linear", None, 39.48),
        ("krr_exact", "cifar10", "fcnn", 1, 47.87),
        ("krr_exact", "cifar10", "rff", 50, 42.73),
        ("whole", "cifar100", "rff", None, 18.71),
        ("krr_exact", "cifar100", "fcnn", 10, 21.52),
        ("krr_exact", "cifar100", "rff", 50, 18.57),
    ],
)
def test_table_3_of_chen_2024_is_as_printed(
    method: str, dataset: str, model: str, per_class: int | None, value: float
) -> None:
    rows = published.table("chen2024, Table 3")
    same_size = rows["per_class"].isna() if per_class is None else rows["per_class"] == per_class
    found = rows[(rows["method"] == method) & (rows["dataset"] == dataset) & (rows["model"] == model) & same_size]
    assert found["value"].tolist() == [value]
    assert found["metric"].tolist() == ["test accuracy"]
    assert found["source"].tolist() == ["chen2024, Table 3, single run"]


def test_table_3_of_chen_2024_is_complete() -> None:
    rows = published.table("chen2024, Table 3")
    assert len(rows) == 3 * 3 * 4  # data sets, models, and sizes with the whole set
    assert rows.columns.tolist() == [*published.KEYS, "value", "std", "source"]
    assert rows["std"].isna().all()


def test_tables_of_one_paper_are_kept_apart() -> None:
    rows = published.table("chen2024, Table 4")
    chosen = rows[(rows["method"] == "krr_exact") & (rows["dataset"] == "mnist") & (rows["metric"] == "test accuracy")]
    assert chosen["value"].tolist() == [93.72, 93.69, 93.62]
    assert chosen["std"].tolist() == [0.14, 0.17, 0.24]


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("chen2023, Table 3", "published: unknown paper 'chen2023'. Did you mean 'chen2024'?"),
        ("chen2024, Table 9", "published: chen2024 has no 'Table 9'. Did you mean 'Table "),
        ("chen2024", "published: chen2024 has no ''. Known: "),
    ],
)
def test_an_unknown_paper_or_table_names_the_nearest(reference: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        published.table(reference)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_is_written_in_this_projects_words(paper: str) -> None:
    rows = pd.read_csv(published._FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    assert rows.columns.tolist() == [
        "table",
        "method",
        "dataset",
        "model",
        "per_class",
        "metric",
        "value",
        "std",
        "unit",
        "note",
    ]
    assert set(rows["dataset"]) <= set(plugins.available("data"))
    assert {"whole", "krr_exact"} & set(rows["method"])
    assert not rows[["table", "method", "dataset", "model", "metric", "value"]].isna().any().any()
    assert rows[rows["method"] == "whole"]["per_class"].isna().all()
    assert rows[rows["metric"] == "test accuracy"]["value"].between(0, 100).all()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_published_number_stands_once(paper: str) -> None:
    rows = pd.read_csv(published._FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    assert not rows.duplicated(["table", *published.KEYS]).any()


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_has_a_reference_with_a_year(paper: str) -> None:
    assert re.search(r"\b(19|20)\d\d\b", published.citation(f"{paper}, Table 1"))
    papers = yaml.safe_load((published._FOLDER / "papers.yaml").read_text(encoding="utf-8"))
    assert sorted(papers) == PAPERS


def test_the_studies_of_this_repository_stand_beside_tables_that_exist(repository: Path) -> None:
    studies = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))["studies"]
    named = [study["published"] for study in studies.values() if "published" in study]
    assert len(named) > 1
    for each in named:
        assert len(published.table(each))


def test_a_study_beside_no_table_has_no_published_numbers() -> None:
    assert published.table("").empty
    assert published.table("").columns.tolist() == published.table("chen2024, Table 3").columns.tolist()
    assert published.citation("") == ""
