import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import stillhouse
from stillhouse import config, provenance
from stillhouse.plan import Plan

SOURCE = Path(stillhouse.__file__).parent


@pytest.fixture(autouse=True)
def no_memory_of_other_sources() -> Iterator[None]:
    provenance._imports.cache_clear()
    yield
    provenance._imports.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of a few modules in place of the real one: a -> b -> c, a -> sub.d, alone; sub/__init__ -> c."""
    files = {
        "__init__.py": "from stillhouse import alone\n",
        "a.py": "import torch\nfrom stillhouse import b\nimport stillhouse.sub.d\n",
        "b.py": "def late():\n    from stillhouse.c import thing\n    return thing\n",
        "c.py": "import json\nthing = 1\n",
        "alone.py": "x = 1\n",
        "circle.py": "from stillhouse import round\n",
        "round.py": "from stillhouse.circle import x\n",
        "whole.py": "from stillhouse import sub\n",
        "sub/__init__.py": "from stillhouse.c import thing\n",
        "sub/d.py": "y = 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the real package, in its place."""
    shutil.copytree(SOURCE, tmp_path / "stillhouse", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "_ROOT", tmp_path / "stillhouse")
    return tmp_path / "stillhouse"


def names(files: set[Path], root: Path) -> set[str]:
    return {file.relative_to(root).as_posix() for file in files}


def rehashed(modules: list[str]) -> str:
    provenance._imports.cache_clear()
    return provenance.code_hash(modules)


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("a", {"a.py", "b.py", "c.py", "sub/d.py"}),
        ("b", {"b.py", "c.py"}),
        ("c", {"c.py"}),
        ("circle", {"circle.py", "round.py"}),
        ("whole", {"whole.py", "sub/__init__.py", "c.py"}),
        ("sub", {"sub/__init__.py", "c.py"}),
    ],
)
def test_the_closure_is_what_is_imported_directly_or_not_and_nothing_else(
    package: Path, module: str, files: set[str]
) -> None:
    assert names(provenance.closure([module]), package) == files


def test_the_closure_of_several_modules_is_their_union(package: Path) -> None:
    assert names(provenance.closure(["c", "alone"]), package) == {"c.py", "alone.py"}


@pytest.mark.parametrize("name", ["a.py", "b.py", "c.py", "sub/d.py"])
def test_a_change_anywhere_in_the_closure_changes_the_hash(package: Path, name: str) -> None:
    before = rehashed(["a"])
    (package / name).write_text((package / name).read_text() + "# changed\n")
    assert rehashed(["a"]) != before


@pytest.mark.parametrize("name", ["alone.py", "circle.py", "__init__.py"])
def test_a_change_outside_the_closure_does_not_change_the_hash(package: Path, name: str) -> None:
    before = rehashed(["a"])
    (package / name).write_text("x = 2\n")
    assert rehashed(["a"]) == before


def test_line_endings_do_not_change_the_hash(package: Path) -> None:
    before = rehashed(["a"])
    for file in package.rglob("*.py"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert b"\r\n" in (package / "a.py").read_bytes()
    assert rehashed(["a"]) == before


def test_where_the_package_lies_does_not_change_the_hash(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules = ["stages.distill", "methods.krr_exact"]
    there = rehashed(modules)
    monkeypatch.setattr(provenance, "_ROOT", SOURCE)
    assert rehashed(modules) == there


def test_a_module_that_moves_changes_the_hash(package: Path) -> None:
    assert rehashed(["c"]) != rehashed(["alone"])
    (package / "e.py").write_text((package / "c.py").read_text())
    assert rehashed(["c"]) != rehashed(["e"])


def test_the_order_of_modules_does_not_count(package: Path) -> None:
    assert rehashed(["a", "alone"]) == rehashed(["alone", "a"])


@pytest.fixture
def changes(copied: Path, raw: dict[str, Any]) -> Callable[[str], set[str]]:
    """What becomes old when a file of the package changes, of everything that a small configuration asks for."""
    raw["experiments"]["exact_rff"] = {"method": "krr_exact", "model": "rff"}
    raw["experiments"]["trained"] = {"method": "kip", "model": "linear"}
    raw["analyses"] = {"path": {"kind": "krr_path", "model": "linear"}, "claims": {"kind": "krr_claims"}}
    plan = Plan(config.read(raw))

    def hashes() -> dict[str, str]:
        provenance._imports.cache_clear()
        return {
            **{f"data {name}": plan.code_of_dataset(name) for name in ("digits", "mnist")},
            **{f"teacher {name}": plan.code_of_teacher(name) for name in ("linear", "rff")},
            **{f"method {name}": plan.code_of_method(name) for name in ("random", "exact", "exact_rff", "trained")},
            **{f"analysis {name}": plan.code_of_analysis(name) for name in ("path", "claims")},
            **{f"score {name}": plan.code_of_evaluation(name) for name in ("linear", "rff")},
            "report": plan.code_of_report(),
        }

    def changed(file: str) -> set[str]:
        before = hashes()
        path = copied / file
        content = path.read_bytes()
        path.write_bytes(content + b"\n# changed\n")
        after = hashes()
        path.write_bytes(content)
        return {name for name in before if before[name] != after[name]}

    return changed


METHODS = {"method random", "method exact", "method exact_rff", "method trained"}
EXACT = {"method exact", "method exact_rff"}
ANALYSES = {"analysis path", "analysis claims"}
TEACHERS = {"teacher linear", "teacher rff"}
SCORES = {"score linear", "score rff"}


@pytest.mark.parametrize(
    ("file", "old"),
    [
        ("features/random_fourier.py", {"teacher rff", "method exact_rff", "score rff", "analysis claims"}),
        (
            "features/identity.py",
            {"teacher linear", "method exact", "method trained", "score linear", "analysis path", "analysis claims"},
        ),
        ("features/convolution.py", {"analysis claims"}),
        ("features/random_network.py", {"analysis claims"}),
        ("theory/points.py", EXACT | ANALYSES),
        ("theory/deep.py", {"analysis claims"}),
        ("theory/privacy.py", {"analysis claims"}),
        ("analyses/krr_path.py", {"analysis path"}),
        ("analyses/krr_claims.py", {"analysis claims"}),
        ("analyses/krr_privacy.py", {"analysis claims"}),
        ("methods/krr_exact.py", EXACT),
        ("methods/kip.py", {"method trained"}),
        ("methods/random_images.py", METHODS),
        ("models/ridge.py", {*TEACHERS, *SCORES, *EXACT, *ANALYSES, "method trained"}),
        ("linalg.py", {*TEACHERS, *SCORES, *EXACT, *ANALYSES, "method trained"}),
        ("evaluation/judge.py", SCORES),
        ("evaluation/attacks.py", {"analysis claims"}),
        ("stages/analyse.py", ANALYSES),
        ("stages/distill.py", METHODS),
        ("stages/teach.py", TEACHERS),
        ("data/digits.py", {"data digits"}),
        ("data/svhn.py", set()),
        ("reporting/tables.py", {"report"}),
        ("cli.py", set()),
        ("plan.py", set()),
        ("__init__.py", set()),
    ],
)
def test_a_change_makes_old_what_it_can_change_and_nothing_else(
    changes: Callable[[str], set[str]], file: str, old: set[str]
) -> None:
    assert changes(file) == old


@pytest.mark.parametrize(
    "file",
    [
        "reporting/templates/page.html",
        "reporting/published/chen2024.csv",
        *(f"reporting/{file.name}" for file in sorted((SOURCE / "reporting").glob("*.py"))),
    ],
)
def test_whatever_the_report_is_rendered_from_makes_it_old(changes: Callable[[str], set[str]], file: str) -> None:
    assert changes(file) == {"report"}


def test_everything_that_a_job_imports_is_in_its_closure() -> None:
    modules = [
        "stages.distill",
        "methods.krr_exact",
        "methods.random_images",
        "models.ridge",
        "features.random_fourier",
    ]
    script = f"""
import importlib, json, sys
for module in {modules}: importlib.import_module("stillhouse." + module)
print(json.dumps([m.__file__ for n, m in sys.modules.items() if n.split(".")[0] == "stillhouse"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = {Path(file) for file in json.loads(done.stdout)}
    # A package's own __init__ runs before its modules. That of stillhouse only hands on names; others may only describe.
    describing = {file for file in imported if file.name == "__init__.py" and only_a_docstring(file)}
    describing.add(SOURCE / "__init__.py")
    assert {SOURCE / "methods" / "krr_exact.py", SOURCE / "linalg.py"} <= imported
    assert imported - describing <= provenance.closure(modules)


def only_a_docstring(file: Path) -> bool:
    return all(isinstance(node, ast.Expr) for node in ast.parse(file.read_text()).body)


def test_versions_are_of_python_and_of_what_computes() -> None:
    versions = provenance.versions()
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert versions.keys() >= {"python", "torch", "numpy"}


def test_a_cpu_is_told_with_its_architecture() -> None:
    assert provenance.device_kind(torch.device("cpu")).startswith("cpu: ")
