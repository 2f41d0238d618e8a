"""What README.md tells a reader to run is run: its own lines, taken from the file."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What a clone has and a test needs; results, data and the environment stay where they are.
TREE = [
    "Snakefile", "params.yaml", "Makefile", "dvc.yaml", "pyproject.toml", "constraints.txt", "README.md", "LICENSE",
    "workflow", "src", "notebooks", "scales", "profiles", "data/embedded",
]  # fmt: skip


def blocks(language: str) -> list[str]:
    """The fenced code of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands(program: str) -> list[str]:
    """The lines of the shell blocks that call `program`, without comments."""
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] == program]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clone has, whose environment is the one that runs these tests."""
    copy = tmp_path_factory.mktemp("clone")
    for name in TREE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").mkdir()
    (copy / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (copy / ".venv" / ".installed").touch()
    return copy


def run(line: str, where: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a reader would in the activated environment, without a mirror."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {k: v for k, v in os.environ.items() if k != "STILLHOUSE_MIRROR"}
    return subprocess.run(
        line, shell=True, cwd=where, capture_output=True, text=True, check=False,
        env={**kept, "PATH": path, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("line", [line for line in commands("make") if line != "make pull"])
def test_make_prints_the_plain_command_of_every_target_the_readme_names(line: str, tree: Path) -> None:
    done = run(f"{line} --dry-run", tree)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^(snakemake|pytest|dvc|awk)\b", done.stdout, flags=re.MULTILINE), done.stdout


@pytest.mark.parametrize(
    "line", [line for line in commands("snakemake") if "slurm" not in line and "kubern" not in line]
)
def test_every_snakemake_line_plans_its_jobs(line: str, tree: Path) -> None:
    done = run(f"{line} --dry-run", tree)
    assert done.returncode == 0, done.stderr
    assert "Job stats" in done.stdout


@pytest.mark.parametrize("line", [line for line in commands("stillhouse") if " show " not in line])
def test_every_look_shows_something(line: str, tree: Path) -> None:
    done = run(line, tree)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1


def test_the_mistake_the_readme_shows_gives_the_line_the_readme_shows(tree: Path, tmp_path: Path) -> None:
    [line] = [line.strip() for line in README.splitlines() if "Did you mean" in line]
    wrong = (tree / "params.yaml").read_text().replace("model: linear, start: noise", "model: linear, rigde: 1")
    (tmp_path / "params.yaml").write_text(wrong)
    done = run("stillhouse check params.yaml", tmp_path)
    assert done.returncode == 2
    assert line.split("Did you")[0] in done.stderr


def test_the_table_in_the_readme_is_the_reports() -> None:
    table = README.partition("<!-- table -->")[2].partition("<!-- /table -->")[0].strip().splitlines()
    report = (ROOT / "results/report/krr_recovery.md").read_text(encoding="utf-8").splitlines()
    assert len(table) > 5
    assert [line for line in table if line not in report] == []
    [error] = re.findall(r"at most (\S+), relatively", README)
    part = json.loads((ROOT / "results/report/parts/krr_recovery.json").read_text(encoding="utf-8"))
    assert any(f"at most {error} " in note for note in part["notes"])


def test_the_findings_in_the_readme_are_the_reports() -> None:
    findings = README.partition("<!-- findings -->")[2].partition("<!-- /findings -->")[0]
    told = 0
    for line in findings.strip().splitlines()[2:]:
        [table] = re.findall(r"\]\((results/report/(\w+)\.md)\)", line)
        notes = json.loads((ROOT / f"results/report/parts/{table[1]}.json").read_text(encoding="utf-8"))["notes"]
        report = (ROOT / table[0]).read_text(encoding="utf-8") + " ".join(notes)
        numbers = re.findall(r"\*\*(.+?)\*\*", line)
        assert numbers
        assert [number for number in numbers if number not in report] == []
        told += len(numbers)
    assert told > 5


def test_every_path_the_readme_names_is_there() -> None:
    named = set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))
    named |= {
        p for cell in re.findall(r"^\| (`.*?) \|", README, flags=re.MULTILINE) for p in re.findall(r"`([^`]+)`", cell)
    }
    assert len(named) > 15
    homes = [ROOT, ROOT / "src/stillhouse"]
    assert [p for p in named if not any((home / p).exists() for home in homes)] == []


@pytest.mark.slow
def test_a_reader_who_types_make_gets_the_table_the_page_and_a_set_to_load(tree: Path) -> None:
    first = commands("make")[0]
    done = run(first, tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| mnist" in done.stdout
    assert "results/report/krr_recovery.html" in done.stdout
    assert (tree / "results/report/krr_recovery.html").is_file()
    [show] = [line for line in commands("stillhouse") if " show " in line]
    shown = run(show, tree)
    assert "exact: True" in shown.stdout, shown.stderr
    assert (tree / show.split()[-1]).is_file()
    snippet = next(block for block in blocks("python") if "DistilledSet.load" in block)
    loaded = run(f'python -c "{snippet.replace(chr(34), chr(39))}\nprint(distilled.inputs.shape)"', tree)
    assert "[10, 1, 28, 28]" in loaded.stdout, loaded.stderr
