import argparse
from pathlib import Path

import pytest
import torch

from stillhouse import cli
from stillhouse.exchange import formats
from stillhouse.sets import DistilledSet, RealSet


def stillhouse(*arguments: object) -> None:
    cli.main([str(each) for each in arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        stillhouse(*arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err.strip().removeprefix("stillhouse: ")


@pytest.fixture
def files(tmp_path: Path, toy: RealSet, images: torch.Tensor, labels: torch.Tensor) -> Path:
    """A folder with a prepared data set and a file of DC's code with two experiments."""
    toy.save(tmp_path / "data")
    torch.save({"data": [[images, labels], [-images, labels]], "accs_all_exps": {}}, tmp_path / "dc.pt")
    return tmp_path


def test_import_and_export_go_through_every_option(files: Path, images: torch.Tensor) -> None:
    stillhouse(
        "import", files / "dc.pt", files / "set", "--format", "dc", "--data", files / "data", "--index", 1, "--space",
        '{"kind": "standardised", "mean": [0.5], "std": [0.25]}', "--method", "dsa", "--experiment", "theirs", "--source",
        "an address", "--budget", "0.5", "--classes", "bee", "ant", "cat",
    )  # fmt: skip
    made = DistilledSet.load(files / "set")
    torch.testing.assert_close(made.inputs, -images, rtol=0, atol=0)
    assert made.labels.tolist() == [1, 1, 0, 0, 2, 2]
    assert made.space == {"kind": "standardised", "mean": [0.5], "std": [0.25]}
    assert (made.recipe["experiment"], made.recipe["method"]["kind"], made.recipe["seed"]) == ("theirs", "dsa", 1)
    assert (made.recipe["imported"]["source"], made.recipe["budget"]) == ("an address", 0.5)
    stillhouse("export", files / "set", files / "out.npz", "--format", "npz")
    stillhouse("import", files / "out.npz", files / "again", "--format", "npz", "--data", files / "data")
    torch.testing.assert_close(DistilledSet.load(files / "again").inputs, made.inputs, rtol=0, atol=0)


def test_the_choices_are_the_formats_there_are() -> None:
    (commands,) = [each for each in cli._parser()._actions if isinstance(each, argparse._SubParsersAction)]
    for name, known in (("import", formats.READERS), ("export", formats.WRITERS)):
        (format,) = [each for each in commands.choices[name]._actions if each.dest == "format"]
        assert [*(format.choices or ())] == [*known]


def test_mistakes_are_one_line_and_leave_no_file(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["import", files / "dc.pt", files / "set", "--format", "dc", "--data", files / "data", "--method", "dc"]
    assert "holds 2 experiments. Choose one with --index" in refused(capsys, *asked)
    assert refused(capsys, *asked, "--index", 0).startswith("--space: in which space do the images live?")
    assert refused(capsys, *asked, "--index", 0, "--space", "{kind").startswith("--space: {kind is no JSON")
    assert refused(capsys, *asked, "--index", 0, "--space", "pixel").startswith("--space: unknown space 'pixel'.")
    assert refused(capsys, "export", files / "none", files / "out", "--format", "npz").startswith(
        f"{files / 'none'}: no"
    )
    assert sorted(each.name for each in files.iterdir()) == ["data", "dc.pt"]
