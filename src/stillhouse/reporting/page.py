"""The results page: every study's table, figures and recipes in one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from stillhouse.reporting import tables
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Table

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Image:
    """A figure of a study: its file, relative to the report, and what it shows."""

    file: str
    caption: str


@dataclass(frozen=True)
class Part:
    """A study on the page."""

    name: str
    title: str
    scale: str
    citation: str
    notes: list[str]
    tables: list[dict[str, Any]]
    figures: list[dict[str, str]]
    recipes: dict[str, Any]


def part(
    layout: Layout,
    citation: str,
    notes: Sequence[str],
    shown: Sequence[Table],
    figures: Sequence[Image],
    recipes: dict[str, Any],
) -> Part:
    """Put a study's pieces together; `notes` are sentences for under the first table."""
    return Part(
        name=layout.name, title=layout.title, scale=layout.scale, citation=citation, notes=list(notes),
        tables=[asdict(table) for table in shown], figures=[asdict(figure) for figure in figures], recipes=recipes,
    )  # fmt: skip


def save(study: Part, path: Path | str) -> None:
    """Write a study's part as JSON, for `write`."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(asdict(study), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write(parts: Sequence[Path], out: Path, numbers: Path) -> None:
    """Read the studies' parts; write the page, whose figures lie beside it, and the numbers alone as JSON."""
    studies = [Part(**json.loads(path.read_text(encoding="utf-8"))) for path in parts]
    out.write_text(render(studies, out.parent), encoding="utf-8")
    numbers.write_text(json.dumps({s.name: metrics(s) for s in studies}, indent=1) + "\n", encoding="utf-8")


def metrics(study: Part) -> dict[str, dict[str, float]]:
    """The numbers of its tables by line, then column: what `dvc metrics diff` compares. Accuracies are means in percent."""
    found: dict[str, dict[str, float]] = {}
    for table in study.tables:
        for line in table["lines"]:
            heads = [column["group"] or column["head"] for column in table["columns"]]
            numbers = zip(heads, (entry["value"] for entry in line["entries"]), strict=True)
            found.setdefault(line["name"], {}).update({head: value for head, value in numbers if value is not None})
    return {name: numbers for name, numbers in found.items() if numbers}


def render(studies: Sequence[Part], folder: Path) -> str:
    """The page as HTML; figures are read from `folder` and embedded."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["embed"] = lambda file: _embed(folder / file)
    environment.filters["groups"] = lambda columns: tables.groups([Column(**column) for column in columns])
    environment.filters["pretty"] = _pretty
    environment.filters["made"] = _made
    environment.filters["called"] = _called
    return environment.get_template("page.html").render(studies=studies)


def _pretty(recipe: Any) -> str:
    """JSON, escaped for the text of an element: quotation marks, of which it is full, stay there as they are."""
    return html.escape(json.dumps(recipe, indent=1, sort_keys=True, ensure_ascii=False), quote=False)


def _made(recipes: dict[str, dict[str, Any]]) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The recipes of numbers with the id of their first set's recipe in its place, and those of sets, each once: a set is
    scored by many models.
    """
    numbers, sets = {}, {}
    for id, recipe in recipes.items():
        if not recipe.get("values"):
            numbers[id] = recipe
            continue
        first = recipe["values"][0]["recipe"]
        numbers[id] = {**recipe, "made_by": first}
        sets[first] = recipe["made_by"]
    return numbers, sets


def _called(made_by: dict[str, Any]) -> str:
    """What a set's recipe is of, or a teacher's, in words."""
    size = made_by.get("per_class")
    found = (
        made_by.get("data", {}).get("name"),
        made_by.get("experiment") or f"{made_by.get('model', {}).get('kind', '')} on all real examples",
        f"{size} per class" if size else None,
    )
    return ", ".join(each for each in found if each)


def _embed(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
