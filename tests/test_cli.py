import argparse
import contextlib
import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stillhouse import cli, plugins
from stillhouse.sets import DistilledSet, RealSet, Split
from stillhouse.teacher import Teacher

RIDGE = json.dumps({"kind": "ridge", "features": "identity", "space": "standardised"})
EXACT = json.dumps({"kind": "krr_exact", "model": json.loads(RIDGE)})
RANDOM = json.dumps({"kind": "random_images"})
KIP = json.dumps({"kind": "kip", "model": json.loads(RIDGE), "steps": 5, "batch": 16})
PATH = json.dumps({"kind": "krr_path", "model": {**json.loads(RIDGE), "ridge": {"first": -1, "last": 1}}})


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that has to end with a status; gives the one line it leaves on stderr."""

    def run(status: int, *arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(each) for each in arguments])
        assert ended.value.code == status
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("stillhouse: ")
        assert err.count("\n") == 1
        return err.strip().removeprefix("stillhouse: ")

    return run


def stillhouse(*arguments: object) -> None:
    cli.main([str(each) for each in arguments])


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working directory of its own: below it jobs keep their state."""
    with contextlib.chdir(tmp_path_factory.mktemp("working")):
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run once, on digits."""
    folder = tmp_path_factory.mktemp("made")
    stillhouse("prepare", "digits", folder / "data", "--downloads", folder / "raw")
    stillhouse("teach", folder / "data", folder / "teacher.safetensors", "--model", RIDGE, "--code", "c0de")
    wanted = ["--set", 1, 0, folder / "one.safetensors", "--set", 2, 0, folder / "two.safetensors"]
    teachers = ["--teachers", folder / "teacher.safetensors"]
    stillhouse(
        "distill", folder / "data", "--experiment", "exact", "--method", EXACT, *wanted, *teachers, "--code", "c0de"
    )
    sets = [folder / "one.safetensors", folder / "two.safetensors"]
    scoring = ["--protocol", "own", "--model-name", "linear", "--model", RIDGE, "--code", "c0de"]
    stillhouse("evaluate", folder / "data", *sets, "--out", folder / "sets.csv", *scoring)
    stillhouse("evaluate", folder / "data", teachers[1], "--out", folder / "whole.csv", "--whole", *scoring)
    return folder


def commands() -> dict[str, argparse.ArgumentParser]:
    actions = cli._parser()._actions
    (found,) = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found)


def test_all_commands_are_there() -> None:
    assert list(commands()) == [
        "prepare", "teach", "accumulate", "merge", "distill", "evaluate", "analyse", "page", "import", "export", "list",
        "explain", "show", "check", "table",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", *commands()])
def test_help_says_what_a_command_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        stillhouse(*name.split(), "--help")
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    if not name:
        assert all(each in shown for each in commands())
        return
    parser = commands()[name]
    assert parser.description
    assert " ".join(parser.description.split()) in shown
    assert all(action.option_strings[0] in shown for action in parser._actions if action.option_strings)


@pytest.mark.parametrize(
    "arguments", [[], ["distil"], ["list", "nothing"], ["teach", "data"], ["distill", "--set", "1"]]
)
def test_a_wrong_command_ends_with_status_2_and_its_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: stillhouse")


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stillhouse", "list", "methods"], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == plugins.available("methods")


# Looks


@pytest.mark.parametrize("what", ["methods", "analyses", "data", "features", "models"])
def test_list_names_each_with_a_summary(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    stillhouse("list", what)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == plugins.available(what)
    assert all(len(line) == 2 for line in lines)


def test_list_names_the_studies_of_a_params_file(
    tmp_path: Path, raw: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    stillhouse("list", "studies", "--params", tmp_path / "params.yaml")
    assert capsys.readouterr().out.split(maxsplit=1) == ["table", "A table\n"]


@pytest.mark.parametrize(
    "name", sorted({n for p in ("methods", "analyses", "models", "features", "data") for n in plugins.available(p)})
)
def test_everything_that_is_listed_can_be_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    stillhouse("explain", name)
    assert f"/{name}: " in capsys.readouterr().out


def test_explain_of_an_analysis_has_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    stillhouse("explain", "krr_path")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("analyses/krr_path: ")
    assert [line for line in shown if line.startswith("  model: settings, required. ")]
    stillhouse("explain", "krr_claims")
    assert "  examples: whole number, default 1500. " in capsys.readouterr().out


def test_explain_shows_settings_with_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    stillhouse("explain", "krr_exact")
    shown = capsys.readouterr().out
    assert "  noise: number, default 0.1. " in shown
    assert "  start: noise | real, default noise. " in shown
    stillhouse("explain", "zca")
    assert "  regularisation: number, default 0.1. " in capsys.readouterr().out


def test_explain_without_a_name_tells_every_section_of_the_params_file(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stillhouse("explain")
    shown = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert [name for name in shown if not name.startswith(" ")] == [
        "scale", "results", "only", "shards", "studies", "protocols", "experiments", "analyses", "models", "spaces",
        "datasets",
    ]  # fmt: skip
    assert set(yaml.safe_load((repository / "params.yaml").read_text())) <= set(shown)


def test_explain_of_an_unknown_name_has_the_nearest(fails: Callable[..., str]) -> None:
    assert fails(2, "explain", "krr_exat") == "explain: nothing is called 'krr_exat'. Did you mean 'krr_exact'?"


def test_check_counts_what_is_asked_for(
    tmp_path: Path, raw: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    params, over = tmp_path / "params.yaml", tmp_path / "over.yaml"
    params.write_text(yaml.safe_dump(raw))
    over.write_text("studies: {table: {seeds: [0]}}")
    stillhouse("check", params)
    assert capsys.readouterr().out == f"{params}: right. 1 studies, 16 distilled sets.\n"
    stillhouse("check", params, over)
    assert capsys.readouterr().out == f"{params}, {over}: right. 1 studies, 8 distilled sets.\n"


def test_check_tells_the_first_mistake(tmp_path: Path, raw: dict[str, Any], fails: Callable[..., str]) -> None:
    raw["experiments"]["exact"]["nosie"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert fails(2, "check", tmp_path / "params.yaml") == (
        "params.yaml: experiments.exact: unknown parameter 'nosie'. Did you mean 'noise'?"
    )


def test_table_prints_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.md").write_text("| 86.41 ± 0.10 |\n", encoding="utf-8")
    stillhouse("table", tmp_path / "study.md")
    assert "| 86.41 ± 0.10 |" in capsys.readouterr().out


def test_show_tells_recipe_and_certificate_and_draws(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stillhouse("show", made / "two.safetensors", "--picture", tmp_path / "two.png")
    shown = capsys.readouterr().out
    assert shown.startswith("digits/exact: 20 examples of shape (1, 8, 8), 10 classes\n")
    for line in ("space: standardised", "  per_class: 2", "certificate:", "  exact: True", "  code: c0de"):
        assert f"\n{line}\n" in shown
    assert (tmp_path / "two.png").read_bytes().startswith(b"\x89PNG")


# Stages


def test_prepare_saves_the_data_set(made: Path, digits: RealSet) -> None:
    real = RealSet.load(made / "data")
    assert (real.name, real.fingerprint, real.order) == ("digits", digits.fingerprint, digits.order)


def test_prepare_takes_settings_and_another_name(tmp_path: Path) -> None:
    stillhouse("prepare", "mine", tmp_path / "data", "--settings", '{"kind": "digits"}')
    assert RealSet.load(tmp_path / "data").name == "mine"


def test_teach_saves_a_teacher_with_its_recipe_and_cost(made: Path, digits: RealSet) -> None:
    teacher = Teacher.load(made / "teacher.safetensors")
    assert teacher.weights["weights"].shape == (64, 10)
    assert teacher.recipe["data"]["fingerprint"] == digits.fingerprint
    assert (teacher.recipe["seed"], teacher.recipe["code"]) == (0, "c0de")
    cost = json.loads((made / "teacher.cost.json").read_text())
    assert cost.keys() == {"seconds", "peak_memory_mb", "host", "device", "threads"}
    assert cost["threads"] == 1


def test_distill_saves_each_set_with_its_recipe_and_cost(made: Path, digits: RealSet) -> None:
    for name, size in (("one", 1), ("two", 2)):
        distilled = DistilledSet.load(made / f"{name}.safetensors")
        assert len(distilled) == 10 * size
        assert distilled.certificate is not None
        assert distilled.certificate["exact"] is True
        recipe = distilled.recipe
        assert (recipe["dataset"], recipe["experiment"], recipe["per_class"], recipe["seed"]) == (
            "digits",
            "exact",
            size,
            0,
        )
        assert recipe["data"]["fingerprint"] == digits.fingerprint
        assert recipe["method"]["noise"] == 0.1  # a default, written out
        assert recipe["versions"]["torch"].startswith(torch.__version__.split("+")[0])
        assert (made / f"{name}.cost.json").exists()


def test_evaluate_writes_a_row_for_each_set_and_metric(made: Path) -> None:
    rows = list(csv.DictReader((made / "sets.csv").open()))
    assert [(row["per_class"], row["metric"]) for row in rows] == [
        ("1", "test accuracy"), ("1", "weight error"), ("2", "test accuracy"), ("2", "weight error"),
    ]  # fmt: skip
    assert {row["experiment"] for row in rows} == {"exact"}
    (whole,) = csv.DictReader((made / "whole.csv").open())
    assert (whole["experiment"], whole["method"], whole["per_class"]) == ("whole", "whole", "")
    assert {row["value"] for row in rows if row["metric"] == "test accuracy"} == {whole["value"]}
    assert 85 < float(whole["value"]) < 99
    assert all(float(row["value"]) < 1e-8 for row in rows if row["metric"] == "weight error")


def test_a_method_that_keeps_a_record_has_it_in_the_cost_file_and_leaves_no_state(made: Path, tmp_path: Path) -> None:
    stillhouse(
        "distill", made / "data", "--experiment", "kip", "--method", KIP, "--set", 1, 0, tmp_path / "set",
        "--unfinished", tmp_path / "unfinished", "--keep-every", 0,
    )  # fmt: skip
    cost = json.loads((tmp_path / "set.cost.json").read_text())
    assert [line["step"] for line in cost["record"]] == [0, 1, 2, 3, 4, 5]
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_analyse_writes_rows_with_their_recipe_and_cost(made: Path, tmp_path: Path) -> None:
    stillhouse(
        "analyse",
        made / "data",
        tmp_path / "rows.csv",
        "--analysis",
        "path",
        "--settings",
        PATH,
        "--seed",
        3,
        "--code",
        "c0de",
    )
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [float(row["ridge"]) for row in rows] == pytest.approx([0.1, 10**-0.5, 1, 10**0.5, 10])
    assert {(row["dataset"], row["analysis"], row["seed"]) for row in rows} == {("digits", "path", "3")}
    recipe = json.loads((tmp_path / "rows.recipe.json").read_text())
    assert (recipe["analysis"], recipe["seed"], recipe["code"]) == ("path", 3, "c0de")
    assert (tmp_path / "rows.cost.json").exists()


def test_the_same_command_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    stillhouse("prepare", "digits", tmp_path / "data")
    stillhouse("teach", tmp_path / "data", tmp_path / "teacher.safetensors", "--model", RIDGE, "--code", "c0de")
    wanted = [
        "--set",
        2,
        0,
        tmp_path / "two.safetensors",
        "--set",
        1,
        0,
        tmp_path / "one.safetensors",
    ]  # in another order
    stillhouse("distill", made / "data", "--experiment", "exact", "--method", EXACT, *wanted, "--code", "c0de")
    for name in ("data", "teacher.safetensors", "one.safetensors", "two.safetensors"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes(), name
    scoring = ["--protocol", "own", "--model-name", "linear", "--model", RIDGE, "--code", "c0de"]
    sets = [made / "one.safetensors", made / "two.safetensors"]
    stillhouse("evaluate", made / "data", *sets, "--out", tmp_path / "sets.csv", *scoring)
    assert (tmp_path / "sets.csv").read_bytes() == (made / "sets.csv").read_bytes()


def test_no_other_file_is_left(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == [
        "data", "one.cost.json", "one.safetensors", "sets.csv", "teacher.cost.json", "teacher.safetensors",
        "two.cost.json", "two.safetensors", "whole.csv",
    ]  # fmt: skip


# Mistakes


@pytest.mark.parametrize("wanted", [["1", "x"], ["-1", "0"], ["1.5", "0"], ["one", "0"], ["1", "-0"]])
def test_a_set_that_is_no_number_is_refused(
    made: Path, fails: Callable[..., str], wanted: list[str], tmp_path: Path
) -> None:
    text = fails(
        2, "distill", made / "data", "--experiment", "e", "--method", RANDOM, "--set", *wanted, tmp_path / "out"
    )
    assert text.startswith("--set: expected PER_CLASS SEED FILE with whole numbers, found '")
    assert not (tmp_path / "out").exists()


def test_more_images_than_a_class_has_are_refused(made: Path, fails: Callable[..., str], tmp_path: Path) -> None:
    text = fails(
        2, "distill", made / "data", "--experiment", "e", "--method", RANDOM, "--set", 500, 0, tmp_path / "out"
    )
    assert text.startswith("digits: per_class 500 asks for more examples than class '0' has (136).")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(
    made: Path, fails: Callable[..., str], device: str, tmp_path: Path
) -> None:
    text = fails(2, "teach", made / "data", tmp_path / "out", "--model", RIDGE, "--device", device)
    assert text.startswith(f"--device {device}: not usable here (")
    assert text.endswith("Use cpu or auto.")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ('{"kind": "ridge", "featuers": 1}', "model: unknown parameter 'featuers'. Did you mean 'features'?"),
        ('{"kind": "rigde"}', "model: unknown models 'rigde'. Did you mean 'ridge'?"),
        ("3", "model: expected the name of one of models or {kind: name, ...}, found 3."),
    ],
)
def test_wrong_settings_are_one_line(
    made: Path, fails: Callable[..., str], model: str, text: str, tmp_path: Path
) -> None:
    assert fails(2, "teach", made / "data", tmp_path / "out", "--model", model) == text


def test_a_damaged_file_is_one_line(made: Path, fails: Callable[..., str], tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((made / "one.safetensors").read_bytes()[:-10])
    assert fails(2, "show", cut).startswith(f"{cut}: not a complete safetensors file")


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "missing"],
        ["table", "missing"],
        ["check", "missing"],
        ["list", "studies", "--params", "missing"],
        ["teach", "missing", "out", "--model", RIDGE],
        ["distill", "missing", "--experiment", "e", "--method", RANDOM, "--set", "1", "0", "out"],
        ["analyse", "missing", "out", "--analysis", "a", "--settings", PATH],
        ["page", "out", "--studies", "missing", "--metrics", "out"],
    ],
)
def test_a_missing_file_is_one_line_that_names_it(fails: Callable[..., str], arguments: list[str]) -> None:
    text = fails(2, *arguments)
    assert text.startswith("missing: ")
    assert "no such file" in text.lower()


def test_a_folder_that_cannot_be_made_is_one_line(made: Path, fails: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    text = fails(2, "teach", made / "data", tmp_path / "file" / "out", "--model", RIDGE)
    assert str(tmp_path / "file") in text


def test_a_number_that_must_not_be_ends_with_status_3_and_leaves_no_file(
    toy: RealSet, fails: Callable[..., str], tmp_path: Path
) -> None:
    black = Split(torch.zeros_like(toy.train.inputs), toy.train.targets)
    replace(toy, train=black).save(tmp_path / "data")
    text = fails(3, "teach", tmp_path / "data", tmp_path / "out", "--model", RIDGE)
    assert text.startswith("stopped on a number: space: channel 1 of 1 is constant")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "digits", "out", "--settings", '{"size": 3}'],
        ["distill", "data", "--experiment", "e", "--method", "{}", "--set", "1", "0", "out"],
        ["distill", "data", "--experiment", "e", "--method", RANDOM, "--set", "0", "0", "out"],
        ["teach", "data", "out", "--model", RIDGE, "--threads", "0"],
        ["analyse", "data", "out", "--analysis", "a", "--settings", "{}"],
        ["analyse", "data", "out", "--analysis", "a", "--settings", '{"kind": "krr_paths"}'],
    ],
)
def test_other_mistakes_are_one_line(
    made: Path, fails: Callable[..., str], arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").symlink_to(made / "data")
    fails(2, *arguments)


def test_a_reader_that_stops_early_is_no_mistake() -> None:
    running = subprocess.Popen([sys.executable, "-m", "stillhouse", "list", "data"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert running.stdout is not None
    assert running.stderr is not None
    running.stdout.close()
    with running.stderr:
        assert running.stderr.read() == b""
    running.wait()
