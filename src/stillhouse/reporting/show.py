"""A distilled set in a few lines of text."""

import json
from collections.abc import Iterator
from typing import Any

from stillhouse.sets import DistilledSet, recipe_id


def describe(distilled: DistilledSet) -> Iterator[str]:
    """What it is, how it was made, what is proven about it."""
    shape = tuple(distilled.inputs.shape[1:])
    yield f"{distilled.name}: {len(distilled)} examples of shape {shape}, {len(distilled.classes)} classes"
    yield f"classes: {', '.join(distilled.classes)}"
    yield f"inputs: {distilled.inputs.dtype}, {float(distilled.inputs.min()):.4g} to {float(distilled.inputs.max()):.4g}"
    yield f"space: {distilled.space['kind']}"
    yield f"schedule: {json.dumps(dict(distilled.schedule))}"
    yield f"recipe {recipe_id(distilled.recipe)}:"
    yield from _lines(distilled.recipe)
    if distilled.certificate:
        yield "certificate:"
        yield from _lines(distilled.certificate)


def _lines(entries: Any, indent: str = "  ") -> Iterator[str]:
    for name, value in sorted(entries.items()):
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {value}"
