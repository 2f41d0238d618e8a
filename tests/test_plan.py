import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stillhouse import config, plugins
from stillhouse.errors import UserError
from stillhouse.methods import krr_exact, random_images
from stillhouse.plan import Plan

Raw = dict[str, Any]


def planned(raw: Raw) -> Plan:
    return Plan(config.read(raw))


def with_second_study(raw: Raw, **changes: Any) -> Raw:
    both = copy.deepcopy(raw)
    both["studies"]["second"] = {**copy.deepcopy(raw["studies"]["table"]), "pictures": [], **changes}
    return both


def test_paths_name_what_was_run(raw: Raw) -> None:
    plan = planned({**raw, "results": "results/tiny"})
    assert plan.data("mnist") == "data/prepared/mnist.safetensors"
    assert plan.teacher("mnist", "linear", 3) == "results/tiny/teachers/mnist/linear/seed3.safetensors"
    path = "results/tiny/distilled/mnist/exact/pc10/seed3.safetensors"
    assert plan.set("mnist", "exact", 10, 3) == path
    assert plan.cost(path) == "results/tiny/distilled/mnist/exact/pc10/seed3.cost.json"
    assert plan.evaluation("mnist", "exact", "own", "linear") == "results/tiny/evaluated/mnist/exact/own-linear.csv"
    assert plan.report == "results/tiny/report"
    assert plan.study_outputs("table") == {
        "csv": "results/tiny/report/table.csv",
        "md": "results/tiny/report/table.md",
        "tex": "results/tiny/report/table.tex",
        "html": "results/tiny/report/table.html",
        "part": "results/tiny/report/parts/table.json",
        "notebook": "results/tiny/notebooks/table.ipynb",
    }


def test_no_two_files_of_a_plan_are_the_same(raw: Raw) -> None:
    plan = planned(raw)
    files = [path for batch in plan.batches() for path in batch.outputs]
    files += [each.path for each in plan.evaluations("table")]
    files += [plan.teacher(d, m, s) for d in ("digits", "mnist") for m in ("linear", "rff") for s in (0, 1)]
    files += [*plan.study_outputs("table").values(), *plan.figures("table")]
    assert len(files) == len(set(files)) > 30


def test_every_set_that_a_study_asks_for_is_made_once(raw: Raw) -> None:
    made = [path for batch in planned(raw).batches() for path in batch.outputs]
    wanted = {
        f"results/distilled/{dataset}/{experiment}/pc{size}/seed{seed}.safetensors"
        for dataset in ("digits", "mnist")
        for experiment in ("random", "exact")
        for size in (1, 2)
        for seed in (0, 1)
    }
    assert sorted(made) == sorted(wanted)


@pytest.mark.parametrize(
    ("axes", "groups"),
    [
        (("per_class", "seed"), {"": [(1, 0), (1, 1), (2, 0), (2, 1)]}),
        (("seed",), {"_pc1": [(1, 0), (1, 1)], "_pc2": [(2, 0), (2, 1)]}),
        (("per_class",), {"_seed0": [(1, 0), (2, 0)], "_seed1": [(1, 1), (2, 1)]}),
        ((), {"_pc1_seed0": [(1, 0)], "_pc1_seed1": [(1, 1)], "_pc2_seed0": [(2, 0)], "_pc2_seed1": [(2, 1)]}),
        (None, {"_pc1_seed0": [(1, 0)], "_pc1_seed1": [(1, 1)], "_pc2_seed0": [(2, 0)], "_pc2_seed1": [(2, 1)]}),
    ],
)
def test_a_job_makes_the_sets_of_its_methods_axes_together(
    raw: Raw, monkeypatch: pytest.MonkeyPatch, axes: tuple[str, ...] | None, groups: dict[str, Any]
) -> None:
    monkeypatch.setattr(krr_exact, "BATCH", axes)
    if axes is None:
        monkeypatch.delattr(krr_exact, "BATCH")
    batches = [batch for batch in planned(raw).batches() if (batch.dataset, batch.experiment) == ("mnist", "exact")]
    assert {batch.name: list(batch.sets) for batch in batches} == {
        f"distill_mnist_exact{suffix}": sets for suffix, sets in groups.items()
    }
    for batch in batches:
        assert batch.log == f"distill/mnist/{batch.name.removeprefix('distill_mnist_')}"
        assert batch.arguments.split(" --set ")[0].startswith("--set ")
        assert len(batch.arguments.split("--set ")) == len(batch.sets) + 1
        for (size, seed), path in zip(batch.sets, batch.outputs, strict=True):
            assert f"--set {size} {seed} {path}" in batch.arguments


def test_the_names_of_jobs_and_their_logs_are_unique(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_images, "BATCH", ())
    batches = planned(raw).batches()
    assert len({batch.name for batch in batches}) == len({batch.log for batch in batches}) == len(batches) == 10


def test_a_set_made_for_a_model_needs_its_teacher_and_others_none(raw: Raw) -> None:
    teachers = {b.experiment: b.teachers for b in planned(raw).batches() if b.dataset == "digits"}
    assert teachers["random"] == ()
    assert teachers["exact"] == tuple(f"results/teachers/digits/linear/seed{seed}.safetensors" for seed in (0, 1))


def test_a_method_that_needs_no_teacher_as_it_is_set_gets_none(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krr_exact, "teachers", lambda params: ())
    assert all(batch.teachers == () for batch in planned(raw).batches())


def test_a_method_may_name_the_seeds_of_its_teachers(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krr_exact, "teacher_seeds", lambda params: (7, 8), raising=False)
    teachers = {b.experiment: b.teachers for b in planned(raw).batches() if b.dataset == "digits"}
    assert teachers["exact"] == tuple(f"results/teachers/digits/linear/seed{seed}.safetensors" for seed in (7, 8))


def test_a_method_that_reads_another_data_set_waits_for_it_and_is_told_where_it_is(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_images, "datasets", lambda params: ("usps",), raising=False)
    batches = planned(raw).batches()
    for batch in batches:
        asked = batch.experiment == "random"
        assert batch.others == ((("usps", "data/prepared/usps.safetensors"),) if asked else ())
        assert ("--other usps data/prepared/usps.safetensors" in batch.extras) == asked


def test_a_data_set_that_a_method_reads_and_that_is_not_known_is_refused(
    raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_images, "datasets", lambda params: ("uspss",), raising=False)
    with pytest.raises(UserError, match=r"experiments.random: unknown dataset 'uspss'. Did you mean 'usps'"):
        planned(raw)


def test_a_users_own_file_that_a_method_reads_makes_its_sets_old(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_images, "files", lambda params, size: [Path(f"theirs{size}.pt")], raising=False)
    assert {b.files for b in planned(raw).batches() if b.experiment == "random"} == {("theirs1.pt", "theirs2.pt")}


def test_a_users_own_file_that_is_not_there_is_one_line_with_its_place(raw: Raw, tmp_path: Path) -> None:
    asked = {"method": "imported", "format": "npz", "files": {1: str(tmp_path / "none.npz"), 2: "two.npz"}}
    raw["experiments"]["theirs"] = asked
    raw["studies"]["table"]["experiments"].append("theirs")
    with pytest.raises(UserError, match=r"^params.yaml: experiments.theirs: .*none.npz[^\n]*$"):
        planned(raw)


@pytest.mark.parametrize("only", ["mnist", ["mnist"], "mnist,"])
def test_only_keeps_one_data_set_everywhere(raw: Raw, only: Any) -> None:
    plan = planned({**raw, "only": only})
    assert {batch.dataset for batch in plan.batches()} == {"mnist"}
    assert {each.dataset for each in plan.evaluations("table")} == {"mnist"}
    assert json.loads(plan.settings_of_study("table"))["datasets"] == ["mnist"]
    assert plan.seeds("digits", "linear") == []


def test_only_leaves_out_pictures_and_studies_of_other_data_sets(raw: Raw) -> None:
    plan = planned({**with_second_study(raw, datasets=["mnist"]), "only": "digits"})
    assert list(plan.studies) == ["table"]
    assert plan.pictures("table") == []
    assert plan.figures("table") == ["results/report/figures/table_accuracy.png"]
    assert plan.pictured_sets("table") == []


def test_only_does_not_change_what_another_data_set_is_made_with(raw: Raw) -> None:
    assert planned({**raw, "only": "mnist"}).batches() == [b for b in planned(raw).batches() if b.dataset == "mnist"]


def test_the_same_model_is_each_sets_own_and_all_of_the_study_for_sets_made_for_none(raw: Raw) -> None:
    raw["experiments"]["exact_rff"] = {"method": "krr_exact", "model": "rff"}
    raw["studies"]["table"]["experiments"] += ["exact_rff"]
    plan = planned(raw)
    study = plan.studies["table"]
    models = {experiment: plan.models_of(study, experiment, "own") for experiment in study.experiments}
    assert models == {
        "whole": ["linear", "rff"],
        "random": ["linear", "rff"],
        "exact": ["linear"],
        "exact_rff": ["rff"],
    }
    digits = [(each.experiment, each.model) for each in plan.evaluations("table") if each.dataset == "digits"]
    assert digits == [(experiment, model) for experiment, each in models.items() for model in each]


def test_a_protocol_that_names_a_model_scores_every_set_by_it(raw: Raw) -> None:
    raw["protocols"]["by_rff"] = {"model": "rff"}
    raw["studies"]["table"]["protocols"] = ["by_rff"]
    plan = planned(raw)
    assert {each.model for each in plan.evaluations("table")} == {"rff"}
    assert plan.seeds("digits", "rff") == [0, 1]
    assert plan.seeds("digits", "linear") == []


def test_an_evaluation_reads_the_sets_it_scores_and_for_the_whole_set_the_teachers(raw: Raw) -> None:
    plan = planned(raw)
    assert plan.evaluated_files("digits", "exact", "own", "linear") == [
        f"results/distilled/digits/exact/pc{size}/seed{seed}.safetensors" for size in (1, 2) for seed in (0, 1)
    ]
    assert plan.evaluated_files("digits", "whole", "own", "linear") == [
        f"results/teachers/digits/linear/seed{seed}.safetensors" for seed in (0, 1)
    ]


def test_a_protocol_scores_the_sets_of_the_studies_that_ask_for_it(raw: Raw) -> None:
    raw["protocols"]["by_rff"] = {"model": "rff"}
    plan = planned(with_second_study(raw, per_class=[3], seeds=[4], protocols=["by_rff"]))
    assert plan.evaluated_files("mnist", "exact", "by_rff", "rff") == [plan.set("mnist", "exact", 3, 4)]
    assert plan.set("mnist", "exact", 3, 4) not in plan.evaluated_files("mnist", "exact", "own", "linear")


def test_a_study_without_the_whole_set_asks_for_no_teachers_scores(raw: Raw) -> None:
    raw["studies"]["table"]["experiments"] = ["random", "exact"]
    assert planned(raw).seeds("digits", "linear") == []


def test_two_studies_ask_for_the_union_of_their_sets(raw: Raw) -> None:
    both = planned(
        with_second_study(raw, datasets=["digits"], experiments=["whole", "exact"], per_class=[2, 3], seeds=[1, 5])
    )
    union = sorted(
        {(size, seed) for size in (1, 2) for seed in (0, 1)} | {(size, seed) for size in (2, 3) for seed in (1, 5)}
    )
    assert both.sets("digits", "exact") == union
    assert both.sets("digits", "random") == planned(raw).sets("digits", "random")
    assert both.sets("mnist", "exact") == planned(raw).sets("mnist", "exact")
    assert both.seeds("digits", "linear") == [0, 1, 5]
    made = [path for batch in both.batches() for path in batch.outputs]
    assert len(made) == len(set(made)) == 16 + 3


def test_a_second_study_does_not_change_what_the_first_one_shows(raw: Raw) -> None:
    both = planned(with_second_study(raw, per_class=[5], seeds=[9]))
    assert both.settings_of_study("table") == planned(raw).settings_of_study("table")


def test_pictures_show_the_first_seed(raw: Raw) -> None:
    raw["studies"]["table"]["seeds"] = [4, 0]
    plan = planned(raw)
    sets = [f"results/distilled/mnist/{name}/pc2/seed4.safetensors" for name in ("random", "exact")]
    assert plan.pictured_sets("table") == sets
    assert plan.figures("table") == [
        "results/report/figures/table_accuracy.png",
        "results/report/figures/table_mnist_pc2.png",
    ]
    (picture,) = json.loads(plan.settings_of_study("table"))["pictures"]
    assert picture == {
        "figure": "mnist_pc2", "dataset": "mnist", "per_class": 2, "sets": dict(zip(["random", "exact"], sets, strict=True)),
    }  # fmt: skip


def test_pictured_sets_are_among_the_sets_that_are_made(raw: Raw) -> None:
    plan = planned(raw)
    assert set(plan.pictured_sets("table")) <= {path for batch in plan.batches() for path in batch.outputs}


def test_settings_are_the_same_text_however_they_are_written(raw: Raw) -> None:
    turned = copy.deepcopy(raw)
    turned["models"]["linear"] = dict(reversed(raw["models"]["linear"].items()))
    turned["experiments"]["exact"] = {"model": "linear", "noise": 0.1, "start": "noise", "method": "krr_exact"}
    one, two = planned(raw), planned(turned)
    for dataset in ("digits", "mnist"):
        assert one.settings_of_experiment("exact", dataset) == two.settings_of_experiment("exact", dataset)
        assert one.settings_of_model("linear", dataset) == two.settings_of_model("linear", dataset)
        assert one.settings_of_dataset(dataset) == two.settings_of_dataset(dataset)


def test_settings_hold_every_default_and_the_data_sets_own_constants(raw: Raw) -> None:
    plan = planned(raw)
    mnist = json.loads(plan.settings_of_experiment("exact", "mnist"))
    assert mnist == {
        "kind": "krr_exact",
        "start": "noise",
        "noise": 0.1,
        "dtype": "float64",
        "ridge_S": 0.0,
        "ridge_S_unit": "one",
        "root": "plus",
        "model": json.loads(plan.settings_of_model("linear", "mnist")),
    }
    assert mnist["model"]["space"] == {"kind": "standardised", "mean": [0.1307], "std": [0.3081]}
    assert json.loads(plan.settings_of_model("linear", "digits"))["space"]["mean"] is None


def test_a_label_is_not_a_setting_of_a_method_but_of_a_study(raw: Raw) -> None:
    named = copy.deepcopy(raw)
    named["experiments"]["exact"]["label"] = "another name"
    named["models"]["linear"]["label"] = "LINEAR"
    one, two = planned(raw), planned(named)
    assert one.settings_of_experiment("exact", "mnist") == two.settings_of_experiment("exact", "mnist")
    assert one.settings_of_study("table") != two.settings_of_study("table")
    labels = json.loads(two.settings_of_study("table"))["labels"]
    assert (labels["exact"], labels["linear"], labels["whole"]) == ("another name", "LINEAR", "all real images")


def test_a_study_is_told_which_model_a_set_is_made_for(raw: Raw) -> None:
    assert json.loads(planned(raw).settings_of_study("table"))["made_for"] == {"exact": "linear"}


def test_a_setting_makes_only_its_own_experiment_old(raw: Raw) -> None:
    louder = copy.deepcopy(raw)
    louder["experiments"]["exact"]["noise"] = 0.2
    one, two = planned(raw), planned(louder)
    assert one.settings_of_experiment("exact", "mnist") != two.settings_of_experiment("exact", "mnist")
    assert one.settings_of_experiment("random", "mnist") == two.settings_of_experiment("random", "mnist")
    assert one.settings_of_model("linear", "mnist") == two.settings_of_model("linear", "mnist")


@pytest.mark.parametrize("source", ["code_of_dataset", "code_of_teacher", "code_of_method", "code_of_evaluation"])
def test_the_source_of_a_job_has_a_short_hash(raw: Raw, source: str) -> None:
    argument = {"code_of_dataset": "mnist", "code_of_method": "exact"}.get(source, "linear")
    found = getattr(planned(raw), source)(argument)
    assert len(found) == 16
    assert found == getattr(planned(raw), source)(argument)


def test_only_a_set_of_ones_own_has_files_that_the_user_owns(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(frozen=True)
    class Listed:
        path: str = "x"

    raw["datasets"] = {"mine": {"kind": "folder", "path": "images"}}
    monkeypatch.setattr(plugins.load("data", "folder"), "files", lambda params: [Path(params.path, "a", "1.png")])
    plan = planned(raw)
    assert plan.source_files("mine") == ["images/a/1.png"]
    assert plan.source_files("mnist") == []


def test_a_model_written_out_in_an_experiment_is_refused_as_no_study_would_score_by_it(raw: Raw) -> None:
    raw["experiments"]["exact"]["model"] = {"kind": "ridge", "features": "identity"}
    with pytest.raises(UserError, match=r"params\.yaml: experiments\.exact\.model: expected a name\. Write the model"):
        planned(raw)


def test_every_distilled_set_is_scored(raw: Raw) -> None:
    assert {each.experiment for each in planned(raw).evaluations("table")} == {"whole", "random", "exact"}


def with_analysis(raw: Raw) -> Raw:
    raw["analyses"] = {"path": {"kind": "krr_path", "model": "linear", "label": "the path"}}
    raw["studies"]["paths"] = {
        "title": "Paths", "datasets": ["digits", "mnist"], "seeds": [0, 2], "analyses": ["path"], "notebook": "paths",
        "figures": ["path"],
    }  # fmt: skip
    return raw


def test_an_analysis_runs_once_per_data_set_and_seed(raw: Raw) -> None:
    plan = planned(with_analysis(raw))
    assert [each.path for each in plan.analyses("paths")] == [
        f"results/analyses/{dataset}/path/seed{seed}.csv" for dataset in ("digits", "mnist") for seed in (0, 2)
    ]
    assert plan.analyses() == plan.analyses("paths")
    assert plan.analyses("table") == []
    assert len({each.job for each in plan.analyses()}) == 4
    assert plan.recipe(plan.analyses()[0].path) == "results/analyses/digits/path/seed0.recipe.json"


def test_a_study_of_analyses_has_no_sets_and_the_figures_it_names(raw: Raw) -> None:
    plan = planned(with_analysis(raw))
    assert plan.figures("paths") == ["results/report/figures/paths_path.png"]
    assert plan.evaluations("paths") == []
    layout = json.loads(plan.settings_of_study("paths"))
    assert layout["labels"]["path"] == "the path"
    assert [each["seed"] for each in layout["analyses"]] == [0, 2, 0, 2]


def test_where_every_model_scores_every_set_a_label_says_what_a_set_was_made_for(raw: Raw) -> None:
    raw["protocols"]["by_rff"] = {"model": "rff"}
    raw["studies"]["table"]["protocols"] = ["by_rff"]
    assert json.loads(planned(raw).settings_of_study("table"))["labels"]["exact"] == "exact"
    raw["experiments"]["exact_rff"] = {"label": "exact", "method": "krr_exact", "model": "rff"}
    raw["studies"]["table"]["experiments"] += ["exact_rff"]
    labels = json.loads(planned(raw).settings_of_study("table"))["labels"]
    assert labels["exact"] == "exact, for Linear"
    assert labels["exact_rff"] == "exact, for RFF"
    raw["experiments"]["herding"] = {"method": "herding", "model": "net"}
    raw["models"]["net"] = {"label": "Net", "kind": "mlp"}
    raw["studies"]["table"]["experiments"] += ["herding"]
    assert json.loads(planned(raw).settings_of_study("table"))["labels"]["herding"] == "herding, by Net"
    assert labels["random"] == "random real images"


def test_a_picture_may_have_a_name(raw: Raw) -> None:
    raw["studies"]["table"]["pictures"] += [{"dataset": "mnist", "per_class": 2, "experiments": ["exact"], "name": "b"}]
    figures = planned(raw).figures("table")
    assert [Path(each).stem for each in figures] == ["table_accuracy", "table_mnist_pc2", "table_mnist_pc2_b"]


def with_values(raw: Raw, **changes: Any) -> Raw:
    """A study of a table of values, scored by the same linear model."""
    values = copy.deepcopy(raw)
    values["studies"]["table"] |= {"datasets": ["concrete"], "published": "", "pictures": [], **changes}
    values["models"]["linear"]["space"] = "standardised"
    return values


def test_a_study_of_values_has_a_figure_of_errors_and_compares_parameters_with_the_teachers(raw: Raw) -> None:
    plan = planned(with_values(raw))
    assert plan.figures("table") == ["results/report/figures/table_error.png"]
    teachers = [plan.teacher("concrete", "linear", seed) for seed in (0, 1)]
    assert plan.references("concrete", "exact", "linear") == teachers
    assert planned(raw).references("mnist", "exact", "linear") == []
    assert json.loads(plan.settings_of_study("table"))["labels"]["whole"] == "all real examples"


def test_a_method_or_model_for_classes_does_not_get_values(raw: Raw) -> None:
    for section, name, entry, place in (
        ("experiments", "random", {"method": "krr_private", "model": "linear"}, r"experiment 'random' \(methods/krr_private\)"),
        ("models", "linear", {"kind": "kernel_machine", "kernel": "rbf"}, r"model 'linear' \(models/kernel_machine\)"),
    ):  # fmt: skip
        wrong = with_values(raw, experiments=["whole", "random"], protocols=["linear"])
        wrong["protocols"]["linear"] = {"model": "linear"}
        del wrong["experiments"]["exact"]
        wrong[section][name] = entry
        with pytest.raises(
            UserError, match=rf"studies.table: {place} is for classification, and concrete is a regression"
        ):
            planned(wrong)


def test_a_study_has_classes_or_values(raw: Raw) -> None:
    with pytest.raises(UserError, match=r"studies.table.datasets: digits has classes and concrete has values"):
        planned(with_values(raw, datasets=["digits", "concrete"]))


def test_a_set_of_values_is_no_larger_than_the_real_one(raw: Raw) -> None:
    with pytest.raises(UserError, match=r"per_class: 928 is more than concrete has for training \(927\)"):
        planned(with_values(raw, per_class=[928]))
