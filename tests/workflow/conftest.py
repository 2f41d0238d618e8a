"""What the workflow's tests share: a small study on digits, run once for real, and copies and clones of its tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
# All that a clone has and a run needs. Tests never run in the repository itself: a run there may be under way.
SHIPPED = (
    "Snakefile", "params.yaml", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "pyproject.toml",
    "workflow", "src", "notebooks", "scales", "profiles",
)  # fmt: skip
STUDY = "krr_recovery"
SMALL = {
    "datasets": ["digits"],
    "experiments": ["whole", "krr_linear", "krr_rff", "random"],
    "per_class": [1, 2],
    "seeds": [0],
    "pictures": [{"dataset": "digits", "per_class": 1, "experiments": ["random", "krr_linear"]}],
}
# A study without distilled sets, beside it.
ANALYSED = "krr_path"
# What holds results, apart from the rendered report.
RESULTS = ("data/prepared", "results/teachers", "results/distilled", "results/evaluated", "results/analyses")
_JOB = re.compile(r"^(?:local)?rule (\w+):$")
_WILDCARDS = re.compile(r"^    wildcards: (.+)$")


@dataclass(frozen=True)
class Result:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Tree:
    """A copy or a clone of the repository, and the commands that a person runs in it."""

    root: Path
    home: Path  # where git and dvc look for a person's settings: nothing of the tester's own

    def run(self, *command: str, check: bool = True) -> Result:
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return Result(done.returncode, done.stdout, done.stderr)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start it in a process group of its own, its two outputs as one."""
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def snakemake(self, *arguments: str, check: bool = True) -> Result:
        return self.run("snakemake", "--cores", "2", *arguments, check=check)

    def dvc(self, *arguments: str) -> Result:
        return self.run("dvc", *arguments)

    def git(self, *arguments: str) -> Result:
        return self.run("git", *arguments)

    def planned(self, *arguments: str) -> set[str]:
        """The jobs that `snakemake --dry-run` would run."""
        return jobs(self.snakemake("--dry-run", *arguments).text)

    def ran(self, *arguments: str) -> set[str]:
        """Run snakemake for real; the jobs that it ran."""
        return jobs(self.snakemake(*arguments).text)

    def edit(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def append(self, file: str, text: str = "\n# A remark.\n") -> None:
        path = self.root / file
        path.write_text(path.read_text() + text)

    def contents(self, *folders: str) -> dict[str, bytes]:
        """The files below `folders`, by name."""
        return {str(f.relative_to(self.root)): f.read_bytes() for f in self._files(folders)}

    def times(self, *folders: str) -> dict[str, int]:
        """When the files below `folders` were last written, in nanoseconds."""
        return {str(f.relative_to(self.root)): f.stat().st_mtime_ns for f in self._files(folders)}

    def results(self) -> dict[str, bytes]:
        """Everything that has to be the same on every run: all results that hold no timings."""
        found = self.contents(*RESULTS, "results/report")
        timed = (".cost.json", ".html", f"parts/{STUDY}.json")  # the one study whose report tells seconds
        return {name: content for name, content in found.items() if not name.endswith(timed)}

    def _files(self, folders: tuple[str, ...]) -> list[Path]:
        return sorted(f for folder in folders for f in (self.root / folder).rglob("*") if f.is_file())

    @property
    def environment(self) -> dict[str, str]:
        # Without compiled sources every job would compile its imports again.
        dropped = ("PYTHONDONTWRITEBYTECODE", "SNAKEMAKE_", "GIT_", "DVC_", "PYTEST_")
        return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {
            "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(self.root / "src"),
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Tester", "GIT_AUTHOR_EMAIL": "tester@example.org",
            "GIT_COMMITTER_NAME": "Tester", "GIT_COMMITTER_EMAIL": "tester@example.org",
            "DVC_NO_ANALYTICS": "1", "DVC_GLOBAL_CONFIG_DIR": str(self.home / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(self.home / "system"), "DVC_SITE_CACHE_DIR": str(self.home / "site"),
            "AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "tester", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip


def jobs(log: str) -> set[str]:
    """Names of the jobs in a log of snakemake: the rule, and its wildcards' values. `all` makes nothing."""
    found: list[str] = []
    for line in log.splitlines():
        if job := _JOB.match(line):
            found.append(job[1])
        elif wildcards := _WILDCARDS.match(line):
            found[-1] += " " + " ".join(pair.split("=")[1] for pair in wildcards[1].split(", "))
    assert len(set(found)) == len(found), f"a job stands twice in\n{log}"
    total = re.search(r"^total +(\d+)$", log, re.MULTILINE)
    assert len(found) == (int(total[1]) if total else 0), f"jobs were overlooked in\n{log}"
    assert bool(found) != ("Nothing to be done" in log), f"neither jobs nor that there are none in\n{log}"
    return set(found) - {"all"}


@dataclass(frozen=True)
class First:
    """The one run of everything, what it took and the jobs it ran. Its tree is for reading only: copy it."""

    tree: Tree
    seconds: float
    jobs: set[str]


@dataclass(frozen=True)
class Published:
    """The results of the one run as a person shares them: committed in git, pushed with dvc to a folder."""

    tree: Tree
    remote: Path


@dataclass(frozen=True)
class Edited:
    """A fresh clone in which a setting of krr_linear was edited and snakemake run: before, and what it ran. For reading only."""

    tree: Tree
    contents_before: dict[str, bytes]
    times_before: dict[str, int]
    jobs: set[str]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Tree:
    """The repository with the small study and no results. For reading only: copy it."""
    root = tmp_path_factory.mktemp("sources")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info", ".ipynb_checkpoints")
    for name in SHIPPED:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target, ignore=unwanted) if source.is_dir() else shutil.copy2(source, target)
    tree = Tree(root, home)
    tree.edit(
        lambda params: params.update(
            studies={
                STUDY: params["studies"][STUDY] | SMALL,
                ANALYSED: params["studies"][ANALYSED] | {"datasets": ["digits"]},
            }
        )
    )
    return tree


@pytest.fixture(scope="session")
def first(sources: Tree, tmp_path_factory: pytest.TempPathFactory) -> First:
    tree = copy(sources, tmp_path_factory.mktemp("first") / "tree")
    started = time.perf_counter()
    ran = tree.ran()
    return First(tree, time.perf_counter() - started, ran)


@pytest.fixture(scope="session")
def published(first: First, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp("published")
    tree = copy(first.tree, folder / "tree")
    tree.git("init", "--quiet", "--initial-branch", "main")
    tree.dvc("remote", "add", "--local", "--default", "folder", str(folder / "remote"))
    tree.dvc("commit", "--force")
    tree.git("add", "--all")
    tree.git("commit", "--quiet", "--message", "Results")
    tree.dvc("push")
    return Published(tree, folder / "remote")


@pytest.fixture(scope="session")
def copies(first: First, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Tree]:
    """Makes copies, times included, of the tree in which everything was made."""
    return lambda: copy(first.tree, tmp_path_factory.mktemp("copy") / "tree")


@pytest.fixture(scope="session")
def clones(published: Published, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Tree]:
    """Makes fresh clones that pulled the results."""
    return lambda: pulled(published.tree, tmp_path_factory.mktemp("clone") / "tree", str(published.remote))


@pytest.fixture(scope="session")
def edited(clones: Callable[[], Tree]) -> Edited:
    tree = clones()
    contents, times = tree.contents(*RESULTS), tree.times(*RESULTS)
    tree.edit(lambda params: params["experiments"]["krr_linear"].update(noise=0.2))
    return Edited(tree, contents, times, tree.ran())


@pytest.fixture
def edited_copy(edited: Edited, tmp_path: Path) -> Tree:
    return copy(edited.tree, tmp_path / "edited")


@pytest.fixture
def fresh(sources: Tree, tmp_path: Path) -> Tree:
    """A copy in which nothing was made yet."""
    return copy(sources, tmp_path / "fresh")


@pytest.fixture
def tree(copies: Callable[[], Tree]) -> Tree:
    return copies()


@pytest.fixture
def clone(clones: Callable[[], Tree]) -> Tree:
    return clones()


@pytest.fixture
def pull() -> Callable[..., Tree]:
    """Makes a fresh clone that pulled the results from a remote of the test's own."""
    return pulled


@pytest.fixture
def shared(published: Published, tmp_path: Path) -> Tree:
    """A copy, times included, of the tree whose results were committed and pushed."""
    return copy(published.tree, tmp_path / "shared")


def copy(tree: Tree, root: Path) -> Tree:
    shutil.copytree(tree.root, root, symlinks=True)
    return Tree(root, tree.home)


def pulled(origin: Tree, root: Path, address: str, settings: Mapping[str, str] | None = None) -> Tree:
    """A clone of `origin` that pulled the results from the remote at `address`."""
    origin.run("git", "clone", "--quiet", str(origin.root), str(root))
    tree = Tree(root, origin.home)
    tree.dvc("remote", "add", "--local", "--default", "remote", address)
    for name, value in (settings or {}).items():
        tree.dvc("remote", "modify", "--local", "remote", name, value)
    tree.dvc("pull")
    return tree
