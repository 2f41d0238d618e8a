"""The text that goes with our exports: what a reader of the images has to know, as JSON.

    format      version of this text
    dataset, experiment, classes, outputs, per_class
    columns     what target rows mean: one-hot convention, or values standardised by target_space
    space       in which space the images of this file live, with its fitted values
    schedule    how the set asks to be trained on; model: what it was made for
    recipe      everything that produced it

Arrays of the space (those of ZCA whitening) stand beside the images, as `space.NAME`. A certificate is left out: it is of the
file that it was proven for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stillhouse.errors import UserError
from stillhouse.sets import DistilledSet

FORMAT = 1
_NEEDED = ("classes", "space", "schedule", "recipe", "model")


def describe(distilled: DistilledSet, space: Mapping[str, Any], **more: Any) -> str:
    """The text for a set whose exported images live in `space`; `more` is what the format adds."""
    recipe = dict(distilled.recipe)
    content = {
        "format": FORMAT,
        "dataset": recipe.get("dataset"),
        "experiment": recipe.get("experiment"),
        "per_class": recipe.get("per_class"),
        "classes": list(distilled.classes),
        "outputs": list(distilled.outputs),
        "columns": "standardised values" if distilled.outputs else "one-hot convention",
        "target_space": dict(distilled.target_space),
        "space": {k: v for k, v in space.items() if not isinstance(v, torch.Tensor)},
        "model": distilled.model,
        "schedule": dict(distilled.schedule),
        "recipe": recipe,
        **more,
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)


def space_tensors(space: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The arrays of a space by the name under which they stand beside the images."""
    return {f"space.{k}": v for k, v in space.items() if isinstance(v, torch.Tensor)}


def parse(text: str, where: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The content of the text, its space whole again. Raises UserError for what `describe` did not write."""
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content["format"] != FORMAT:
            raise UserError(f"{where}: a manifest of another version; this one reads {FORMAT}. Export the set again.")
        missing = [name for name in _NEEDED if name not in content]
    except (KeyError, ValueError) as problem:
        raise UserError(f"{where}: its manifest is not what export writes ({problem}). Export the set again.") from None
    if missing:
        raise UserError(f"{where}: '{missing[0]}' is missing from its manifest. Export the set again.")
    arrays = {k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")}
    return {**content, "space": {**content["space"], **arrays}}
