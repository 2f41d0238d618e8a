"""Where a result comes from: the hash of the source that made it, and the versions it ran with."""

import ast
import functools
import hashlib
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent
_PACKAGE = "stillhouse"
# Packages whose version may change a result.
_VERSIONED = ("torch", "numpy", "scipy", "scikit-learn", "statsmodels", "safetensors")


def code_hash(modules: Iterable[str], folders: Iterable[str] = ()) -> str:
    """Sixteen characters that change when the source of one of `modules`, or of anything of ours it imports, changes.

    Modules are named below the package: `methods.krr_exact`. Plugins chosen by name at run time are not imported
    statically: name them too. `folders` are those whose files, of any kind, count as source.
    """
    digest = hashlib.sha256()
    others = {file for folder in folders for file in (_ROOT / folder).rglob("*") if file.is_file()}
    for file in sorted(closure(modules) | others):
        digest.update(file.relative_to(_ROOT).as_posix().encode())
        digest.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:16]


def closure(modules: Iterable[str]) -> set[Path]:
    """The source files of `modules` and of all that they import from this package, directly or not."""
    found: set[Path] = set()
    waiting = [_file(module) for module in modules]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imports(file))
    return found


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in _VERSIONED}


def device_kind(device: Any) -> str:
    """What kind of device a result was computed on; its bytes may differ on another."""
    if device.type == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {platform.machine()}"


def _file(module: str) -> Path:
    path = _ROOT.joinpath(*module.split("."))
    source = path.with_suffix(".py")
    return source if source.is_file() else path / "__init__.py"


@functools.cache
def _imports(file: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            # The package's own __init__ only re-exports and holds the version, which must not make results old.
            if name.startswith(f"{_PACKAGE}.") and _file(name.removeprefix(f"{_PACKAGE}.")).is_file():
                found.append(_file(name.removeprefix(f"{_PACKAGE}.")))
    return tuple(found)
