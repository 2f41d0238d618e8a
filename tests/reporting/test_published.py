import re
from collections.abc import Mapping
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
    assert rows.columns.tolist() == [*published.KEYS, "experiment", "value", "std", "source"]
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


HEAD = ["table", "method", "dataset", "model", "per_class", "metric", "value", "std", "unit", "note"]
# Data sets that papers report and this project does not have.
FOREIGN = {"celeba", "tiny_imagenet", "any", "imdb", "sst5", "trec50", "trec6"}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_is_written_in_this_projects_words(paper: str) -> None:
    rows = pd.read_csv(published._FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    assert rows.columns.tolist() in (HEAD, [*HEAD, "experiment"])
    assert set(rows["dataset"]) <= {*plugins.available("data"), *FOREIGN}
    assert all(re.fullmatch(r"\w+", name) for column in ("method", "model") for name in rows[column])
    assert set(rows["method"]) & {"whole", "frepo", *plugins.available("methods")}
    assert not rows[["table", "method", "dataset", "model", "metric", "value"]].isna().any().any()
    assert not rows["table"].str.contains(";").any()  # which separates tables in a reference
    assert rows[rows["method"] == "whole"]["per_class"].isna().all()
    assert rows[rows["metric"].str.startswith("test accuracy")]["value"].between(2, 100).all()  # percent, no fraction


@pytest.mark.parametrize("paper", PAPERS)
def test_every_published_number_stands_once(paper: str) -> None:
    rows = pd.read_csv(published._FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    beside = ["experiment"] if "experiment" in rows else []
    assert not rows.duplicated(["table", *published.KEYS, *beside]).any()


@pytest.mark.parametrize(
    ("paper", "tables"),
    [
        ("nguyen2021kip", {"quoted": 6, "colab": 7, "colab, any class": 2}),
        (
            "nguyen2021kipconv",
            {
                "Table 1 (submission)": 68, "Table 2 (submission)": 28, "Table 1 (camera-ready)": 2, "quoted by MTT": 2,
                "quoted in PAD": 5, "LS checkpoints": 36, "LS checkpoints, ZCA": 24, "KIP checkpoints": 10, "nn_training": 1,
                "blog": 1, "Table 1 (quoted)": 6, "Table 1": 12,
            },
        ),
        ("loo2022rfad", {"Fig 1": 2, "main table": 2}),
        ("zhou2022frepo", {"quoted in PAD": 8, "earlier version": 2, "abstract": 2}),
        ("aoyama2025dgkip", {"third-party summary": 1}),
        ("mahowald2025", {"section 2.3": 12}),
    ],
)  # fmt: skip
def test_all_numbers_of_the_kernel_papers_are_carried(paper: str, tables: dict[str, int]) -> None:
    for name, count in tables.items():
        assert len(published.table(f"{paper}, {name}")) == count, name
    assert len(pd.read_csv(published._FOLDER / f"{paper}.csv")) == sum(tables.values())


@pytest.mark.parametrize(
    ("reference", "key", "value"),
    [
        ("nguyen2021kip, quoted", ("mnist", "kip", "fc1", 1, "test accuracy", "kip_fc1_augmented"), 85.5),
        ("nguyen2021kip, quoted", ("cifar10", "kip", "fc1", 10, "test accuracy", "kip_fc1_augmented"), 53.1),
        ("nguyen2021kip, colab", ("cifar10", "kip", "fc1", 10, "test accuracy at step 300", "kip_fc1"), 46.74),
        ("nguyen2021kip, colab", ("cifar10", "random_images", "fc1", 10, "test accuracy", ""), 24.26),
        ("nguyen2021kip, colab", ("cifar10", "label_solve", "fc1", 50, "test accuracy", ""), 46.99),
        ("nguyen2021kip, colab, any class", ("cifar10", "label_solve", "fc1", 50, "test accuracy", ""), 46.93),
        ("nguyen2021kipconv, LS checkpoints", ("cifar10", "label_solve", "ntk_convnet3", 10, "test accuracy", ""), 46.44),
        ("nguyen2021kipconv, LS checkpoints, ZCA", ("cifar10", "label_solve", "ntk_convnet3", 10, "test accuracy", ""), 52.9),
        ("nguyen2021kipconv, LS checkpoints", ("mnist", "label_solve", "ntk_convnet", 1, "half mean square error", ""), 0.027602),
        ("nguyen2021kipconv, Table 1 (submission)", ("cifar10", "kip", "ntk_convnet", 50, "test accuracy", "kip_convnet"), 79.7),
        ("nguyen2021kipconv, Table 1 (submission)", ("svhn", "dsa", "convnet", 10, "test accuracy", ""), 79.2),
        ("loo2022rfad, main table", ("cifar10", "kip", "convnet", 10, "test accuracy", "kip_rfad"), 66.3),
        ("zhou2022frepo, quoted in PAD", ("cifar100", "frepo", "convnet", 50, "test accuracy", ""), 44.3),
        ("aoyama2025dgkip, third-party summary", ("cifar10", "dgkip", "unknown", 1, "test accuracy", ""), 85.63),
    ],
)  # fmt: skip
def test_numbers_of_the_kernel_papers_are_as_printed(reference: str, key: tuple[object, ...], value: float) -> None:
    rows = published.table(reference).set_index([*published.KEYS, "experiment"])["value"].to_dict()
    assert rows[key] == value


@pytest.mark.parametrize(
    ("paper", "tables"),
    [
        ("wang2018dd", {"project page": 9}),
        (
            "sucholutsky2021",
            {"README": 4, "README (text)": 2, "run logs (text)": 15, "run logs (text), another run": 1},
        ),
    ],
)
def test_all_numbers_of_unrolled_training_are_carried(paper: str, tables: dict[str, int]) -> None:
    for name, count in tables.items():
        assert len(published.table(f"{paper}, {name}")) == count, name
    assert len(pd.read_csv(published._FOLDER / f"{paper}.csv")) == sum(tables.values())


@pytest.mark.parametrize(
    ("reference", "key", "value"),
    [
        ("wang2018dd, project page", ("mnist", "dd", "lenet", 1, "test accuracy", "dd_fixed"), 93.8),
        ("wang2018dd, project page", ("mnist", "dd", "lenet", 10, "test accuracy", "dd_random"), 79.5),
        ("sucholutsky2021, README", ("mnist", "dd", "lenet", 1, "test accuracy", "sldd"), 96),
        ("sucholutsky2021, README", ("mnist", "dd", "lenet", 1, "test accuracy", "sldd_5"), 92),
        ("sucholutsky2021, README", ("cifar10", "dd", "alexcifarnet", 10, "test accuracy", "sldd_cifar"), 60),
        ("sucholutsky2021, run logs (text)", ("imdb", "dd", "text_convnet", 10, "test accuracy", "tdd"), 76.26),
        ("sucholutsky2021, run logs (text)", ("trec6", "dd", "bilstm", 1, "test accuracy", "tdd_random"), 61.99),
    ],
)  # fmt: skip
def test_numbers_of_unrolled_training_are_as_printed(reference: str, key: tuple[object, ...], value: float) -> None:
    rows = published.table(reference).set_index([*published.KEYS, "experiment"])["value"].to_dict()
    assert rows[key] == value


@pytest.mark.parametrize(
    ("paper", "tables"),
    [
        ("zhao2021dc", {"Table 1": 64, "README": 2, "Table 2": 36, "Table 3": 8, "Table 4": 20, "quoted in PAD": 4}),
        ("zhao2021dsa", {"Tables 1-2": 14, "quoted in PAD": 3, "quoted in AutoPalette": 12, "abstract": 4, "NAS": 1}),
        ("zhao2023dm", {"README": 5, "quoted in PAD": 8}),
        ("cui2022dcbench", {"leaderboard": 87}),
    ],
)
def test_all_numbers_of_gradient_matching_are_carried(paper: str, tables: dict[str, int]) -> None:
    for name, count in tables.items():
        assert len(published.table(f"{paper}, {name}")) == count, name
    assert len(pd.read_csv(published._FOLDER / f"{paper}.csv")) == sum(tables.values())


@pytest.mark.parametrize(
    ("reference", "key", "value"),
    [
        ("zhao2021dc, Table 1", ("mnist", "gradient_matching", "convnet_dc", 1, "test accuracy", "dc"), 91.7),
        ("zhao2021dc, Table 1", ("cifar10", "gradient_matching", "convnet_dc", 50, "test accuracy", "dc"), 53.9),
        ("zhao2021dc, Table 1", ("svhn", "k_center", "convnet_dc", 1, "test accuracy", "k_center_net"), 21.0),
        ("zhao2021dc, Table 1", ("mnist", "forgetting", "convnet_dc", 50, "test accuracy", "forgetting"), 88.2),
        ("zhao2021dc, Table 1", ("fashion_mnist", "herding", "convnet_dc", 10, "test accuracy", "herding_net"), 71.1),
        ("zhao2021dc, README", ("cifar100", "gradient_matching", "convnet_dc", 10, "test accuracy", "dc"), 25.2),
        ("zhao2021dc, Table 2", ("mnist", "gradient_matching", "lenet_dc", 1, "test accuracy", "cross_mlp"), 77.3),
        ("zhao2021dc, Table 2", ("mnist", "gradient_matching", "mlp_dc", 1, "test accuracy", "dc"), 69.6),
        ("zhao2021dc, Table 2", ("mnist", "gradient_matching", "resnet_dc", 1, "test accuracy", "cross_vgg"), 89.1),
        ("zhao2021dc, Table 3", ("cifar10", "dd", "alexcifarnet", 10, "test accuracy", ""), 36.8),
        ("zhao2021dsa, Tables 1-2", ("cifar10", "gradient_matching", "convnet_dsa", 10, "test accuracy", "dsa"), 52.1),
        ("zhao2021dsa, quoted in PAD", ("cifar100", "gradient_matching", "convnet_dsa", 50, "test accuracy", "dsa"), 42.8),
        ("zhao2023dm, quoted in PAD", ("cifar10", "distribution_matching", "convnet_dsa", 10, "test accuracy", "dm"), 48.9),
        ("cui2022dcbench, leaderboard",
         ("cifar10", "k_center", "convnet_dsa", 10, "test accuracy, best of augmentations", ""), 41.49),
    ],
)  # fmt: skip
def test_numbers_of_gradient_matching_are_as_printed(reference: str, key: tuple[object, ...], value: float) -> None:
    rows = published.table(reference).set_index([*published.KEYS, "experiment"])["value"].to_dict()
    assert rows[key] == value


def test_every_network_of_dcs_table_2_scores_the_sets_of_every_other() -> None:
    rows = published.table("zhao2021dc, Table 2")
    assert len(rows.drop_duplicates(["experiment", "model"])) == 36
    assert rows["experiment"].nunique() == rows["model"].nunique() == 6


def test_an_unconfirmed_number_says_so_where_it_is_shown() -> None:
    (source,) = published.table("aoyama2025dgkip, third-party summary")["source"]
    assert "unconfirmed" in source


# What stands beside what

KIP = {"dataset": "cifar10", "method": "kip", "model": "fc1", "per_class": 10, "metric": "test accuracy"}


def beside(reference: str, *ours: Mapping[str, object]) -> list[object]:
    rows = pd.DataFrame([{**KIP, **each} for each in ours]).astype({"per_class": "Int64"})
    found = published.beside(rows, reference)
    assert len(found) == len(rows)
    assert found["experiment"].tolist() == rows["experiment"].tolist()
    return [None if pd.isna(value) else value for value in found["published"]]


def test_a_number_of_one_experiment_stands_beside_no_other() -> None:
    ours = ({"experiment": "kip_fc1"}, {"experiment": "kip_fc1_augmented"}, {"experiment": "kip_fc1"})
    assert beside("nguyen2021kip, quoted", *ours) == [None, 53.1, None]


def test_a_number_without_experiment_stands_beside_all_of_its_method() -> None:
    ours = [{"method": "random_images", "experiment": name} for name in ("random", "also_random")]
    assert beside("nguyen2021kip, colab", *ours) == [24.26, 24.26]


def test_the_number_of_the_very_experiment_goes_before_that_of_its_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["T,kip,cifar10,fc1,10,test accuracy,50,,%,,", "T,kip,cifar10,fc1,10,test accuracy,60,,%,of mine,mine"]
    (tmp_path / "paper.csv").write_text("\n".join([",".join([*HEAD, "experiment"]), *lines]) + "\n")
    monkeypatch.setattr(published, "_FOLDER", tmp_path)
    ours = pd.DataFrame([{**KIP, "experiment": "mine"}, {**KIP, "experiment": "other"}]).astype({"per_class": "Int64"})
    found = published.beside(ours, "paper, T")
    assert found["published"].tolist() == [60, 50]
    assert found["published_source"].tolist() == ["paper, T, of mine", "paper, T"]


def test_several_tables_stand_beside_a_study_each_number_with_its_source() -> None:
    ours = [{"experiment": "kip_fc1_augmented"}, {"experiment": "random", "method": "random_images"}]
    reference = "nguyen2021kip, quoted; nguyen2021kip, colab"
    assert beside(reference, *ours) == [53.1, 24.26]
    sources = published.table(reference)["source"]
    assert sources.str.startswith("nguyen2021kip, quoted").sum() == 6
    assert sources.str.startswith("nguyen2021kip, colab").sum() == 7


def test_of_two_tables_with_the_same_number_the_first_named_is_kept() -> None:
    one, two = "nguyen2021kipconv, Table 1 (submission)", "nguyen2021kipconv, Table 1 (camera-ready)"
    ours = {"model": "ntk_convnet", "per_class": 1, "experiment": "kip_convnet"}
    assert beside(f"{one}; {two}", ours) == [63.4]
    assert beside(f"{two}; {one}", ours) == [64.7]


@pytest.mark.parametrize(
    "reference", ["nguyen2021kip, colab; chen2024, Table 9", "chen2024, Table 3; nguyen2020kip, colab"]
)
def test_every_one_of_several_tables_is_checked(reference: str) -> None:
    with pytest.raises(UserError, match="Did you mean"):
        published.check(reference, "params.yaml: studies.kip.published")


def test_papers_of_several_tables_are_cited_once_each() -> None:
    text = published.citation("nguyen2021kip, quoted; nguyen2021kip, colab; chen2024, Table 3")
    assert text.count("Kernel Ridge-Regression. ICLR 2021.") == 1
    assert text.count("NeurIPS 2024.") == 1


def test_experiments_that_published_numbers_name_are_ours_where_a_study_stands_beside_them(repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    for study in params["studies"].values():
        rows = published.table(study.get("published", ""))
        scored_here = rows[rows["dataset"].isin(study["datasets"]) & rows["model"].isin(params["models"])]
        assert set(scored_here["experiment"]) - {""} <= set(params["experiments"])


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_has_a_reference_with_a_year(paper: str) -> None:
    assert re.search(r"\b(19|20)\d\d\b", published.citation(f"{paper}, Table 1"))
    papers = yaml.safe_load((published._FOLDER / "papers.yaml").read_text(encoding="utf-8"))
    assert set(PAPERS) <= set(papers)  # papers of theorems alone have no numbers


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
