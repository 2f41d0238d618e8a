# ruff: noqa: E501 (one case is one line)
import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from stillhouse import config, settings
from stillhouse.errors import UserError
from stillhouse.models import mlp
from stillhouse.plan import Plan

Raw = dict[str, Any]


def edited(raw: Raw, place: str, value: Any) -> Raw:
    """`raw` with the value at a place such as 'studies.table.seeds'; None removes it."""
    *above, last = place.split(".")
    inner = raw
    for name in above:
        inner = inner.setdefault(name, {})
    inner[last] = value
    if value is None:
        del inner[last]
    return raw


def refusal(raw: Raw) -> str:
    """The one line that a reader of params.yaml gets before the first job."""
    with pytest.raises(UserError) as caught:
        Plan(config.read(raw)).batches()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("overlays", [[], ["smoke"], ["paper"], ["smoke", "paper"]])
def test_the_files_of_this_repository_are_right(repository: Path, overlays: list[str]) -> None:
    files = tuple(repository / "scales" / f"{name}.yaml" for name in overlays)
    read = config.load(repository / "params.yaml", files)
    assert read.scale == (overlays[-1] if overlays else "laptop")
    assert Plan(read).batches()


def test_the_scales_of_this_repository_keep_their_results_apart(repository: Path) -> None:
    overlays = sorted((repository / "scales").glob("*.yaml"))
    read = [config.load(repository / "params.yaml", tuple(each)) for each in [[], *([o] for o in overlays)]]
    assert len({each.results for each in read}) == len(overlays) + 1


def test_the_small_configuration_of_these_tests_is_right(raw: Raw) -> None:
    assert len(Plan(config.read(raw)).batches()) == 4


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("studeis", {}, "unknown parameter 'studeis'. Did you mean 'studies'?"),
        ("shards", 0, "shards: expected a whole number above 0, found 0."),
        ("shards", "many", "shards: expected a whole number above 0, found 'many'."),
        ("shards", True, "shards: expected a whole number above 0, found True."),
        ("models", [1], "models: expected named entries, found [1]."),
        ("studies.table", [1], "studies.table: expected 'name: value' lines, found [1]."),
        ("studies.table.sedes", [0], "studies.table: unknown parameter 'sedes'. Did you mean 'seeds'?"),
        ("studies.table.title", None, "studies.table: 'title' is missing. Add it."),
        ("studies.table.title", 3, "studies.table.title: input should be a valid string, found 3."),
        ("studies.table.per_class", [0], "studies.table.per_class[0]: input should be greater than or equal to 1"),
        ("studies.table.per_class", [1, 1.5], "studies.table.per_class[1]: input should be a valid integer"),
        ("studies.table.per_class", ["1"], "studies.table.per_class[0]: input should be a valid integer"),
        ("studies.table.per_class", 1, "studies.table.per_class: input should be a valid tuple, found 1."),
        ("studies.table.per_class", [], "studies.table: 'per_class' is missing. A study has experiments, per_class and"),
        ("studies.table.analyses", ["claim"], "studies.table.analyses: unknown analysis 'claim'. "),
        ("studies.table.pictures", [{"dataset": "mnist", "per_class": 2, "experiments": ["random"]}] * 2,
         "studies.table.pictures[1]: a second picture of mnist at that size. Give it a 'name'."),
        ("studies.table.seeds", [0, -1], "studies.table.seeds[1]: input should be greater than or equal to 0"),
        ("studies.table.seeds", [], "studies.table.seeds: tuple should have at least 1 item"),
        ("studies.table.datasets", ["mnits"], "studies.table.datasets: unknown dataset 'mnits'. Did you mean 'mnist'?"),
        ("studies.table.datasets", ["folder"], "studies.table.datasets: unknown dataset 'folder'. "),
        ("studies.table.datasets", ["digits", "digits"], "studies.table.datasets: 'digits' stands there twice. Remove one."),
        ("studies.table.experiments", ["randm"], "studies.table.experiments: unknown experiment 'randm'. Did you mean 'random'?"),
        ("studies.table.experiments", ["random", "random"], "studies.table.experiments: 'random' stands there twice. Remove one."),
        ("studies.table.protocols", ["onw"], "studies.table.protocols: unknown protocol 'onw'. Did you mean 'own'?"),
        ("studies.table.pictures", [{"dataset": "svhn", "per_class": 2, "experiments": ["random"]}],
         "studies.table.pictures[0]: 'svhn' is not among the study's datasets that are distilled."),
        ("studies.table.pictures", [{"dataset": "mnist", "per_class": 3, "experiments": ["random"]}],
         "studies.table.pictures[0]: '3' is not among the study's per_class that are distilled."),
        ("studies.table.pictures", [{"dataset": "mnist", "per_class": 2, "experiments": ["whole"]}],
         "studies.table.pictures[0]: 'whole' is not among the study's experiments that are distilled."),
        ("studies.table.pictures", [{"dataset": "mnist", "per_clas": 2, "experiments": ["random"]}],
         "studies.table: 'pictures[0].per_class' is missing. Add it."),
        ("studies.a table", {}, "studies.a table: "),
        ("protocols.p", {"model": "linaer"}, "protocols.p.model: unknown model 'linaer'. Did you mean 'linear'?"),
        ("protocols.p", {"model": "linear", "trainings": 0}, "protocols.p.trainings: input should be greater than or equal to 1"),
        ("protocols.p", {"model": "linear", "training": "long"}, "protocols.p.training: input should be 'own', 'redrawn' or 'common', found 'long'."),
        ("protocols.p", {}, "protocols.p: 'model' is missing. Add it."),
        ("experiments.exact.nosie", 1, "experiments.exact: unknown parameter 'nosie'. Did you mean 'noise'?"),
        ("experiments.exact.noise", "loud", "experiments.exact.noise: input should be a valid number"),
        ("experiments.exact.noise", -1, "experiments.exact.noise: input should be greater than 0, found -1."),
        ("experiments.exact.noise", {"mnist": "loud"}, "experiments.exact.noise: input should be a valid number"),
        ("experiments.exact.noise", {"mnits": 1}, "experiments.exact.noise: input should be a valid number"),
        ("analyses.a", {"kind": "krr_claim"}, "analyses.a: unknown analyses 'krr_claim'. Did you mean 'krr_claims'?"),
        ("analyses.a", {"kind": "krr_path", "model": "linaer"}, "analyses.a.model: unknown model 'linaer'."),
        ("experiments.exact.start", "nois", "experiments.exact.start: input should be 'noise' or 'real', found 'nois'."),
        ("experiments.exact.method", "kr_exact", "experiments.exact: unknown methods 'kr_exact'. Did you mean 'krr_exact'?"),
        ("experiments.exact.method", None, "experiments.exact: 'method' is missing. Add 'method: NAME'; "),
        ("experiments.exact.model", "linaer", "experiments.exact.model: unknown model 'linaer'. Did you mean 'linear'?"),
        ("experiments.exact.model", None, "experiments.exact: 'model' is missing. Add it."),
        ("experiments.exact.model", 3, "experiments.exact.model: expected a name. Write the model under models and name it here."),
        ("experiments.random.ridge", 1, "experiments.random: unknown parameter 'ridge'. "),
        ("experiments.two-fold", {"method": "random_images"}, "experiments.two-fold: names become file names; "),
        ("experiments.../escape", {"method": "random_images"}, "experiments."),
        ("models.linear.rigde", {}, "models.linear: unknown parameter 'rigde'. Did you mean 'ridge'?"),
        ("models.linear.ridge", {"frist": 1}, "models.linear.ridge: unknown parameter 'frist'. Did you mean 'first'?"),
        ("models.linear.ridge", 3, "models.linear.ridge: input should be a dictionary"),
        ("models.linear.validation", 2, "models.linear.validation: input should be less than 1, found 2."),
        ("models.linear.kind", "rigde", "models.linear: unknown models 'rigde'. Did you mean 'ridge'?"),
        ("models.linear.kind", None, "models.linear: expected the name of one of models or {kind: name, ...}, found "),
        ("models.linear.features", None, "models.linear: 'features' is missing. Add it."),
        ("models.linear.features", "identiy", "models.linear.features: unknown features 'identiy'. Did you mean 'identity'?"),
        ("models.rff.features.varience", 3, "models.rff.features: unknown parameter 'varience'. Did you mean 'variance'?"),
        ("spaces.paper.kind", "standardized", "spaces.paper: unknown space 'standardized'. Did you mean 'standardised'?"),
        ("spaces.paper.maen", [0.5], "spaces.paper: unknown parameter 'maen'. Did you mean 'mean'?"),
        ("spaces.paper.std", "wide", "spaces.paper.std: "),
        ("datasets.mine", {"path": "x"}, "datasets.mine: expected the name of one of data or {kind: name, ...}, found "),
        ("datasets.mine", {"kind": "foldr"}, "datasets.mine: unknown data 'foldr'. Did you mean 'folder'?"),
        ("datasets.mine", {"kind": "folder", "pth": "x"}, "datasets.mine: unknown parameter 'pth'. Did you mean 'path'?"),
        ("only", "mnits", "only: no study has the data set 'mnits'. Did you mean 'mnist'?"),
        ("only", "mnist svhn", "only: no study has the data set 'svhn'. "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_place(raw: Raw, place: str, value: Any, text: str) -> None:
    assert refusal(edited(raw, place, value)).startswith(f"params.yaml: {text}")


def test_more_images_than_the_smallest_class_has_are_refused(raw: Raw) -> None:
    edited(raw, "studies.table.datasets", ["usps", "digits"])
    edited(raw, "studies.table.pictures", None)
    edited(raw, "studies.table.per_class", [1, 134])
    assert refusal(raw) == (
        "params.yaml: studies.table.per_class: 134 is more than the smallest class of digits has (133). "
        "Choose 133 or fewer."
    )
    edited(raw, "studies.table.per_class", [1, 133])
    assert Plan(config.read(raw)).batches()


def test_a_definition_that_nothing_uses_is_checked_too(raw: Raw) -> None:
    edited(raw, "experiments.unused", {"method": "random_images", "size": 3})
    assert refusal(raw).startswith("params.yaml: experiments.unused: unknown parameter 'size'. ")


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (
            "models.linear.space",
            "papr",
            "params.yaml: models.linear.space: unknown space 'papr'. Did you mean 'paper'?",
        ),
        (
            "spaces.paper.maen",
            {"mnist": [1]},
            "params.yaml: spaces.paper: unknown parameter 'maen'. Did you mean 'mean'?",
        ),
    ],
)
def test_a_mistake_in_a_space_has_its_place(raw: Raw, place: str, value: Any, text: str) -> None:
    assert refusal(edited(raw, place, value)).startswith(text)


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        ("spaces.paper.mean", {"mnits": [0.1307]}, "params.yaml: spaces.paper.mean: unknown dataset 'mnits'."),
        (
            "studies.table.published",
            "chen2025, Table 3",
            "params.yaml: studies.table.published: unknown paper 'chen2025'.",
        ),
        ("studies.table.published", "chen2024, Table 9", "params.yaml: studies.table.published: "),
        ("models.linear.ridge", {"first": 9}, "params.yaml: models.linear.ridge: "),
        ("experiments.whole", {"method": "random_images"}, "params.yaml: experiments.whole: "),
        ("models.same", {"kind": "ridge", "features": "identity"}, "params.yaml: models.same: "),
        ("only", 3, "params.yaml: only: "),
    ],
)
def test_a_mistake_is_found_before_the_first_job(raw: Raw, place: str, value: Any, text: str) -> None:
    assert refusal(edited(raw, place, value)).startswith(text)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"studies: [", "not valid YAML: "),
        (b"a: 1\n b: 2\n", "not valid YAML: "),
        (b"- 1\n", "expected 'name: value' lines at the top."),
        (b"", "expected 'name: value' lines at the top."),
        (b"\xff\xfe\x00", "cannot read: "),
    ],
)
def test_a_file_that_is_not_yaml_is_one_line(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: {text}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml: cannot read: .*No such file"):
        config.load(tmp_path / "params.yaml")


def test_a_mistake_in_an_overlay_names_the_overlay(tmp_path: Path, raw: Raw) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "large.yaml").write_text("studies: ]")
    with pytest.raises(UserError, match=r"large\.yaml: not valid YAML"):
        config.load(tmp_path / "params.yaml", (tmp_path / "large.yaml",))


OVERLAYS = [
    {},
    {"scale": "large"},
    {"studies": {"table": {"seeds": [0]}}},
    {"studies": {"table": {"seeds": [0]}, "another": {"title": "new"}}},
    {"spaces": {"paper": {"mean": [0.5]}}},
    {"spaces": {"paper": {"kind": {"mnist": "pixels"}}}},
    {"datasets": {"mine": {"kind": "folder", "path": "x"}}},
    {"experiments": {}},
    {"experiments": None},
]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_overlays_merge_as_snakemake_merges_them(
    raw: Raw, overlay: Raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("params", raw), ("over", overlay)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    theirs = copy.deepcopy(raw)
    update_config(theirs, overlay)
    monkeypatch.setattr(config, "read", lambda merged: merged)
    assert config.load(tmp_path / "params.yaml", (tmp_path / "over.yaml",)) == theirs


def test_an_overlay_changes_what_it_names_and_nothing_else(raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    (tmp_path / "over.yaml").write_text("scale: tiny\nstudies: {table: {seeds: [7]}}\n")
    read = config.load(tmp_path / "params.yaml", (tmp_path / "over.yaml",))
    assert (read.scale, read.studies["table"].seeds) == ("tiny", (7,))
    assert read.studies["table"].per_class == (1, 2)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [("", ()), (None, ()), ("mnist", ("mnist",)), ("mnist,digits", ("mnist", "digits")), ("mnist, digits", ("mnist", "digits")),
     ("mnist digits", ("mnist", "digits")), (["digits"], ("digits",))],
)  # fmt: skip
def test_only_is_a_list_in_any_writing(raw: Raw, only: Any, wanted: tuple[str, ...]) -> None:
    assert config.read({**raw, "only": only}).only == wanted


def test_a_space_gives_each_data_set_its_own_constants(raw: Raw) -> None:
    read = config.read(raw)
    assert read.model("linear", "mnist").space.mean == (0.1307,)
    assert read.model("linear", "digits").space.mean is None
    assert read.method("exact", "mnist").model == read.model("linear", "mnist")


def test_a_setting_may_have_a_value_for_each_data_set(raw: Raw) -> None:
    read = config.read(edited(raw, "experiments.exact.noise", {"mnist": 0.5}))
    assert read.method("exact", "mnist").noise == 0.5
    assert read.method("exact", "digits").noise == 0.1


def test_a_study_may_have_analyses_alone(raw: Raw) -> None:
    raw["analyses"] = {"path": {"kind": "krr_path", "model": "linear"}}
    raw["studies"]["paths"] = {
        "title": "Paths", "datasets": ["digits"], "seeds": [0], "analyses": ["path"], "notebook": "paths"
    }  # fmt: skip
    assert config.read(raw).studies["paths"].experiments == ()
    assert config.read(raw).analysis("path", "digits").model.features is not None


def test_labels_are_those_given_or_the_names(raw: Raw) -> None:
    del raw["models"]["rff"]["label"]
    read = config.read(raw)
    assert [read.label(name) for name in ("random", "linear", "rff", "whole")] == [
        "random real images", "Linear", "rff", "all real images",
    ]  # fmt: skip


def test_a_data_set_of_ones_own_has_the_settings_given(raw: Raw) -> None:
    raw["datasets"] = {"mine": {"kind": "folder", "path": "images", "size": 32}}
    read = config.read(raw)
    assert (read.dataset("mine").path, read.dataset("mine").size) == ("images", 32)
    assert settings.kind_of(read.dataset("digits")) == "digits"


def test_a_model_may_have_settings_for_each_data_set_and_for_all_others(raw: Raw) -> None:
    raw["models"]["net"] = {
        "kind": "mlp", "width": {"digits": 3}, "training": {"digits": {"epochs": 7}, "otherwise": {"epochs": 8}},
    }  # fmt: skip
    found = config.read(raw)
    digits, mnist = (found.model("net", dataset) for dataset in ("digits", "mnist"))
    assert (digits.width, digits.training.epochs) == (3, 7)
    assert (mnist.width, mnist.training.epochs) == (mlp.Params().width, 8)


def test_a_space_may_have_values_for_all_other_data_sets(raw: Raw) -> None:
    raw["spaces"]["shared"] = {"kind": "standardised", "mean": {"digits": [0.3], "otherwise": [0.1]}, "std": [0.5]}
    raw["models"]["net"] = {"kind": "mlp", "space": "shared"}
    found = config.read(raw)
    assert [found.model("net", dataset).space.mean for dataset in ("digits", "mnist")] == [(0.3,), (0.1,)]


def test_what_a_model_has_for_one_data_set_is_checked_too(raw: Raw) -> None:
    raw["models"]["net"] = {"kind": "mlp", "training": {"digits": {"epochs": 0}}}
    with pytest.raises(UserError, match=r"^params.yaml: models.net.training.epochs: "):
        config.read(raw)
