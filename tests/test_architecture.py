"""How the code may be laid out: data -> features, kernels, models -> methods; evaluation -> reporting."""

import ast
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import stillhouse

ROOT = Path(stillhouse.__file__).parent
FILES = sorted(file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*.py"))
TREES = {file: ast.parse((ROOT / file).read_text(encoding="utf-8")) for file in FILES}

# A part may import those above it in this list, and itself.
LAYERS = ("theory", "data", "features", "kernels", "models", "methods")
# What no part of the list, and nothing that it stands on, may import.
ABOVE = {"analyses", "evaluation", "reporting", "stages", "plan", "config", "explain", "cli"}
BASE = (
    "artifact",
    "augmentation",
    "errors",
    "linalg",
    "moments",
    "plugins",
    "provenance",
    "run",
    "sets",
    "settings",
    "teacher",
)
# What the field's sets come in, and who may call what reads and writes it.
TORCH_FILES = {"exchange/torch_file.py": {"torch.load", "torch.save"}}


def part(module: str) -> str:
    """'models' for models/ridge.py, 'sets' for sets.py."""
    return module.removesuffix(".py").replace("/", ".").split(".")[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module imported, at any depth of the file, as it is named: 'torch', 'stillhouse.sets'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            if node.module == "stillhouse":
                yield from (f"stillhouse.{alias.name}" for alias in node.names)


def loaded_plugins(tree: ast.AST) -> Iterator[str]:
    """The packages whose plugins are loaded by name: 'models' for plugins.load("models", ...)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name(node.func) in (
            "plugins.load",
            "settings.parse_plugin",
            "settings.plugin",
            "settings.plugins_of",
        ):
            assert node.args, ast.unparse(node)
            yield node.args[0].value if isinstance(node.args[0], ast.Constant) else "?"


def name(node: ast.AST) -> str:
    """'torch.cuda.manual_seed' for that expression; '' for one that is no dotted name."""
    if isinstance(node, ast.Attribute):
        return f"{name(node.value)}.{node.attr}" if name(node.value) else ""
    return node.id if isinstance(node, ast.Name) else ""


def parts_used(file: str) -> set[str]:
    """The parts of this package that a file imports or loads by name."""
    own = {part(each.removeprefix("stillhouse.")) for each in imports(TREES[file]) if each.startswith("stillhouse.")}
    return {*own, *loaded_plugins(TREES[file])}


def test_there_is_something_to_check() -> None:
    assert {"sets.py", "methods/krr_exact.py", "evaluation/judge.py", "reporting/page.py"} <= set(FILES)
    assert {"models", "linalg", "sets", "run"} <= parts_used("methods/krr_exact.py")
    assert "models" in parts_used("evaluation/judge.py")  # by name


@pytest.mark.parametrize("file", [file for file in FILES if part(file) in LAYERS])
def test_code_points_from_data_to_methods(file: str) -> None:
    later = set(LAYERS[LAYERS.index(part(file)) + 1 :])
    assert not parts_used(file) & (later | ABOVE)


@pytest.mark.parametrize("module", BASE)
def test_what_everything_stands_on_knows_nothing_above_it(module: str) -> None:
    assert not parts_used(f"{module}.py") & {"models", "methods", *ABOVE}


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "evaluation"])
def test_evaluation_knows_no_method_and_no_report(file: str) -> None:
    assert not parts_used(file) & {"methods", "analyses", "reporting", "stages", "plan", "config", "cli"}


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "analyses"])
def test_analyses_know_methods_and_evaluation_but_not_what_runs_or_shows_them(file: str) -> None:
    assert not parts_used(file) & {"reporting", "stages", "plan", "config", "explain", "cli"}


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "exchange"])
def test_exchange_knows_sets_and_spaces_but_not_what_makes_or_scores_them(file: str) -> None:
    assert not parts_used(file) & {"kernels", "models", "methods", *ABOVE}


@pytest.mark.parametrize("file", [file for file in FILES if part(file) == "reporting"])
def test_reporting_computes_no_result(file: str) -> None:
    assert not parts_used(file) & {*LAYERS, "analyses", "stages", "plan", "config", "cli"}


@pytest.mark.parametrize("file", FILES)
def test_the_package_knows_nothing_of_the_workflow(file: str) -> None:
    assert not {each.split(".")[0] for each in imports(TREES[file])} & {"snakemake", "dvc", "papermill"}


@pytest.mark.parametrize("file", FILES)
def test_imports_name_the_whole_path(file: str) -> None:
    """The hash of the source follows these, and no relative ones."""
    assert not [each for each in imports(TREES[file]) if each.startswith(".")]


@pytest.mark.parametrize("file", sorted({*FILES} - {"plugins.py"}))
def test_only_plugins_import_by_name(file: str) -> None:
    """The hash of the source does not see what is imported by name."""
    used = {name(node).split(".")[-1] for node in ast.walk(TREES[file])}
    assert not used & {"import_module", "__import__", "spec_from_file_location", "run_path"}
    assert "importlib.util" not in set(imports(TREES[file]))


@pytest.mark.parametrize("file", [file for file in FILES if part(file) in ("theory", "methods", "analyses")])
def test_what_a_result_is_computed_with_is_imported_or_named_in_its_settings(file: str) -> None:
    """Plugins that settings name are part of the hash of the source, those loaded by a name in the code are not."""
    called = {name(node.func) for node in ast.walk(TREES[file]) if isinstance(node, ast.Call)}
    assert not called & {"plugins.load", "settings.parse_plugin"}


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_named_for_what_is_in_it(file: str) -> None:
    vague = ("utils", "util", "helpers", "helper", "common", "misc", "tools")
    assert not set(file.removesuffix(".py").split("/")) & set(vague)


@pytest.mark.parametrize("file", FILES)
def test_everything_public_says_what_it_is_for(file: str) -> None:
    tree = TREES[file]
    bare = [] if ast.get_docstring(tree) else ["the module"]
    bodies = [("", tree)] + [(f"{node.name}.", node) for node in tree.body if isinstance(node, ast.ClassDef)]
    for prefix, body in bodies:
        for node in body.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                bare += [] if ast.get_docstring(node) or prefix.startswith("_") else [prefix + node.name]
    assert not bare


@pytest.mark.parametrize("file", FILES)
def test_nothing_seeds_a_generator_that_others_share(file: str) -> None:
    seeding = {
        "torch.manual_seed", "torch.seed", "torch.random.manual_seed", "torch.cuda.manual_seed", "torch.set_rng_state",
        "torch.cuda.manual_seed_all", "np.random.seed", "numpy.random.seed", "random.seed",
    }  # fmt: skip
    assert not seeding & {name(node) for node in ast.walk(TREES[file])}


@pytest.mark.parametrize("file", FILES)
def test_whatever_is_drawn_is_drawn_from_a_generator_that_was_passed_in(file: str) -> None:
    drawing = {
        f"torch.{each}" for each in ("rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial")
    }
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Call) and name(node.func) in drawing:
            assert "generator" in {keyword.arg for keyword in node.keywords}, ast.unparse(node)
    assert "random" not in set(imports(TREES[file]))
    assert not [
        used for node in ast.walk(TREES[file]) if (used := name(node)).startswith(("np.random", "numpy.random"))
    ]


@pytest.mark.parametrize("file", sorted({*FILES} - {"run.py"}))
def test_no_function_picks_a_device_or_a_number_of_threads(file: str) -> None:
    choosing = {
        "torch.cuda.is_available",
        "torch.set_default_device",
        "torch.set_num_threads",
        "torch.set_default_dtype",
    }
    assert not choosing & {name(node) for node in ast.walk(TREES[file])}


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if part(file) in {*LAYERS, *BASE, "analyses", "evaluation", "exchange", "reporting"}],
)
def test_no_result_depends_on_the_clock(file: str) -> None:
    assert not {each.split(".")[0] for each in imports(TREES[file])} & {"time", "datetime"}


@pytest.mark.parametrize("file", FILES)
def test_no_file_is_read_that_could_run_code(file: str) -> None:
    assert not {each.split(".")[0] for each in imports(TREES[file])} & {
        "pickle",
        "joblib",
        "dill",
        "cloudpickle",
        "shelve",
    }
    used = {name(node) for node in ast.walk(TREES[file])} - TORCH_FILES.get(file, set())
    assert not used & {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "eval", "exec", "pd.read_pickle"}
    assert "allow_pickle" not in {keyword.arg for node in ast.walk(TREES[file]) if isinstance(node, ast.Call)
                                  for keyword in node.keywords}  # fmt: skip


@pytest.mark.parametrize("file", TORCH_FILES)
def test_others_files_are_read_as_tensors_and_numbers_alone(file: str) -> None:
    """Numbers are NumPy's, of types that cannot hold objects."""
    calls = [node for node in ast.walk(TREES[file]) if isinstance(node, ast.Call) and name(node.func) == "torch.load"]
    assert calls
    for call in calls:
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("weights_only") == "True", ast.unparse(call)


@pytest.mark.parametrize("file", FILES)
def test_nothing_outside_the_repository_is_named(file: str) -> None:
    texts = [
        node.value for node in ast.walk(TREES[file]) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not [text for text in texts if "../shared" in text or text.startswith(("/work", "/home", "/tmp"))]


def test_every_file_of_the_package_is_installed_with_it(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["stillhouse"]
    data = [file.relative_to(ROOT).as_posix() for file in ROOT.rglob("*") if file.is_file()]
    data = [file for file in data if not file.endswith((".py", ".pyc"))]
    assert data
    assert not [file for file in data if not any(fnmatch(file, pattern) for pattern in patterns)]
