"""What a setting means: every parameter with its type, default, meaning and source, read from the code that uses it."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from stillhouse import config, plugins, settings
from stillhouse.data import whitening
from stillhouse.errors import UserError, did_you_mean
from stillhouse.evaluation.judge import Protocol

_WORDS = {str: "text", int: "whole number", float: "number", bool: "true | false", type(None): "none"}
_PACKAGES = ("methods", "analyses", "models", "features", "kernels", "data")
_SPACES = {space.KIND: space for space in (whitening.Pixels, whitening.Standardised, whitening.Zca)}


def explain(name: str | None) -> Iterator[str]:
    """Lines about one plugin or space, or about the sections of params.yaml. Raises UserError for an unknown name."""
    if name is None:
        yield from _sections()
        return
    if name in _SPACES:
        yield f"space {name}: {_SPACES[name].__doc__}"
        yield from fields(_SPACES[name], "  ")
        return
    homes = [package for package in _PACKAGES if name in plugins.available(package)]
    if not homes:
        known = [each for package in _PACKAGES for each in plugins.available(package)]
        raise UserError(f"explain: nothing is called '{name}'. {did_you_mean(name, [*known, *_SPACES])}")
    for package in homes:
        yield f"{package}/{name}: {plugins.summary(package, name)}"
        yield from fields(plugins.load(package, name).Params, "  ")


def _sections() -> Iterator[str]:
    yield "scale: name of the budget: laptop (params.yaml itself), smoke, paper (overlays in scales/)"
    yield "results: folder of everything that is computed"
    yield "only: restrict every study to these data sets, comma separated; empty: all"
    yield "shards: jobs that share the pass over a real set when a teacher is trained; the same teacher up to rounding"
    yield "studies: one table or figure of a paper each"
    yield from fields(config.Study, "  ")
    yield "protocols: how distilled sets are scored"
    yield from fields(Protocol, "  ")
    yield "experiments: a method with its settings each: {label, method, ...}; 'stillhouse explain METHOD' lists the settings"
    yield "analyses: an analysis with its settings each: {kind, ...}; 'stillhouse explain ANALYSIS' lists the settings"
    yield "models: a model with its settings each: {label, kind, ...}; 'stillhouse explain MODEL' lists the settings"
    yield "spaces: what a model sees of an image: pixels, standardised, zca; a value may be given per data set"
    yield (
        "datasets: data sets of your own: {kind: folder, path: ...} for images, {kind: csv, path: ..., target: ...} for a table; "
        "'stillhouse explain folder' and 'stillhouse explain csv' list the settings"
    )


def fields(cls: type, indent: str = "") -> Iterator[str]:
    """One line per setting of a dataclass: name, type, default, meaning."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        notes = (getattr(note, "description", None) for note in typing.get_args(hints[field.name]))
        about = next(filter(None, notes), "")
        default = "required" if _required(field) else f"default {_shown(field)}"
        yield f"{indent}{field.name}: {_type_name(hints[field.name])}, {default}. {about}".rstrip()
        inner = _dataclass_in(hints[field.name])
        if inner is not None:
            yield from fields(inner, indent + "  ")


def _required(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _shown(field: "dataclasses.Field[Any]") -> str:
    value = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
    return str(settings.dump(value))


def _type_name(hint: Any) -> str:
    """A type in a reader's words."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type_name(parts[0])
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if isinstance(hint, types.UnionType):
        return " | ".join(map(_type_name, parts))
    if origin is tuple:
        return f"list of {_type_name(parts[0])}"
    return _WORDS.get(hint, "settings")


def _dataclass_in(hint: Any) -> type | None:
    """The dataclass whose fields a setting has, also in a list; None for plain values and for plugins."""
    parts = [hint, *(part for outer in typing.get_args(hint) for part in (outer, *typing.get_args(outer)))]
    return next(
        (p for p in parts if isinstance(p, type) and dataclasses.is_dataclass(p) and p.__name__ != "Params"), None
    )
