"""Settings as typed, frozen dataclasses: read from YAML with one-line errors, written back as plain JSON.

A field may hold a plugin's settings (`features: identity` or `features: {kind: random_fourier, variance: 1000}`):
annotate it with `plugin("features")`.
"""

import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import pydantic
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import ErrorDetails, PydanticCustomError

from stillhouse import plugins
from stillhouse.errors import UserError, did_you_mean

T = TypeVar("T")


def parse(cls: type[T], raw: Any, where: str) -> T:
    """An instance of the dataclass `cls` from the mapping `raw`, which stands at `where` in the reader's file.

    Raises UserError with the first problem: the place, what is wrong, the nearest known name.
    """
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise UserError(f"{where}: expected 'name: value' lines, found {raw!r}.")
    _refuse_unknown(cls, raw, where)
    try:
        reader: TypeAdapter[T] = _adapter(cls)  # type: ignore[arg-type]
        parsed: T = reader.validate_python(_without_kind(cls, raw))
    except pydantic.ValidationError as problem:
        raise UserError(_one_line(cls, problem.errors()[0], where)) from None
    return parsed


def parse_plugin(package: str, raw: Any, where: str) -> Any:
    """The `Params` of a plugin from `kind` or `{kind: ..., setting: ...}`."""
    if isinstance(raw, str):
        raw = {"kind": raw}
    if not isinstance(raw, Mapping) or "kind" not in raw:
        raise UserError(f"{where}: expected the name of one of {package} or {{kind: name, ...}}, found {raw!r}.")
    module = plugins.load(package, str(raw["kind"]), where)
    return parse(module.Params, {k: v for k, v in raw.items() if k != "kind"}, where)


def plugin(package: str, only: str | tuple[str, ...] | None = None) -> Any:
    """Annotation for a field that holds the settings of one of `stillhouse.<package>`, or of those alone."""
    kinds = (only,) if isinstance(only, str) else only

    def read(raw: Any) -> Any:
        if dataclasses.is_dataclass(raw):
            return raw
        kind = raw.get("kind") if isinstance(raw, Mapping) else raw
        if kinds is not None and kind not in kinds:
            known = " or ".join(f"'{each}'" for each in kinds)
            raise UserError(f": this method needs one of kind {known}, found '{kind}'. Choose another.")
        return parse_plugin(package, raw, "")

    return pydantic.PlainValidator(placed(read))


def plugins_of(package: str) -> Any:
    """Annotation for a field that holds the settings of any number of `stillhouse.<package>`, as a tuple."""

    def read(raw: Any) -> tuple[Any, ...]:
        if not isinstance(raw, list | tuple):
            raise UserError(f": expected a list of {package}, found {raw!r}.")
        return tuple(
            each if dataclasses.is_dataclass(each) else parse_plugin(package, each, f"[{place}]")
            for place, each in enumerate(raw)
        )

    return pydantic.PlainValidator(placed(read))


def placed(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`read` as a validator whose UserError says, after a place of its own, what is wrong; `parse` puts its place before."""

    def validate(raw: Any) -> Any:
        try:
            return read(raw)
        except UserError as problem:
            raise PydanticCustomError("placed", "{text}", {"text": str(problem)}) from None

    return validate


def dump(params: Any) -> Any:
    """Settings as JSON-able values, every default written out; a plugin's settings carry its `kind`."""
    if dataclasses.is_dataclass(params) and not isinstance(params, type):
        fields = {f.name: dump(getattr(params, f.name)) for f in dataclasses.fields(params)}
        return {"kind": kind_of(params), **fields} if _is_plugin(type(params)) else fields
    if isinstance(params, Mapping):
        return {str(k): dump(v) for k, v in params.items()}
    if isinstance(params, list | tuple):
        return [dump(v) for v in params]
    return params


def kind_of(params: Any) -> str:
    """The name under which a plugin's settings are chosen: the file that holds them, or the class's KIND."""
    return str(getattr(type(params), "KIND", type(params).__module__.rsplit(".", 1)[1]))


def kinds_in(dumped: Any) -> Iterator[str]:
    """Every `kind` that stands in dumped settings, at any depth."""
    if isinstance(dumped, Mapping):
        if "kind" in dumped:
            yield str(dumped["kind"])
        for value in dumped.values():
            yield from kinds_in(value)
    elif isinstance(dumped, list):
        for value in dumped:
            yield from kinds_in(value)


def _is_plugin(cls: type) -> bool:
    return cls.__name__ == "Params" or hasattr(cls, "KIND")


def _without_kind(cls: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in raw.items() if not (k == "kind" and _is_plugin(cls))}


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    cls.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return TypeAdapter(cls)


def _refuse_unknown(cls: Any, raw: Mapping[str, Any], where: str) -> None:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in _without_kind(cls, raw):
        if key not in known:
            raise UserError(f"{where}: unknown parameter '{key}'. {did_you_mean(str(key), known)}")


def _one_line(cls: type, error: ErrorDetails, where: str) -> str:
    place = "".join(f".{part}" if isinstance(part, str) else f"[{part}]" for part in error["loc"] if part != "args")
    if error["type"] == "missing":
        return f"{where}: '{place.lstrip('.')}' is missing. Add it."
    if error["type"] == "placed":
        return f"{where}{place}{error['msg']}"
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        *above, name = error["loc"]
        known = [field.name for field in dataclasses.fields(_nested(cls, above))]
        return f"{where}{place.rsplit('.', 1)[0]}: unknown parameter '{name}'. {did_you_mean(str(name), known)}"
    return f"{where}{place}: {_lowered(error['msg'])}, found {error['input']!r}."


def _nested(cls: Any, path: list[int | str]) -> Any:
    """The dataclass that the fields of `path` lead to."""
    for name in path:
        hint = typing.get_type_hints(cls)[str(name)]
        cls = next((t for t in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(t)), cls)
    return cls


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
