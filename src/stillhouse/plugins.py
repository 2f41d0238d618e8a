"""Finding things that are one file each: methods, data sets, feature maps, models. Nothing is registered anywhere."""

import ast
import functools
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from stillhouse.errors import UserError, did_you_mean


def available(package: str) -> list[str]:
    """Names of the modules of `stillhouse.<package>` that can be chosen in params.yaml (those with a `Params` class).

    Read from the sources, so that listing imports nothing heavy.
    """
    return list(_names(package))


@functools.cache  # a plan asks a thousand times, and the sources do not change under it
def _names(package: str) -> tuple[str, ...]:
    folder = Path(importlib.import_module(f"stillhouse.{package}").__path__[0])
    names = [module.name for module in pkgutil.iter_modules([str(folder)])]
    return tuple(sorted(n for n in names if "\nclass Params" in (folder / f"{n}.py").read_text(encoding="utf-8")))


def load(package: str, name: str, where: str | None = None) -> ModuleType:
    """The module `stillhouse.<package>.<name>`.

    Raises UserError, naming the nearest known name, when there is none.
    """
    known = available(package)
    if name not in known:
        prefix = "" if where is None else f"{where}: "
        raise UserError(f"{prefix}unknown {package} '{name}'. {did_you_mean(name, known)}")
    return importlib.import_module(f"stillhouse.{package}.{name}")


def summary(package: str, name: str) -> str:
    """The first sentence of a module's docstring, read without importing it."""
    folder = Path(importlib.import_module(f"stillhouse.{package}").__path__[0])
    text = ast.get_docstring(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
