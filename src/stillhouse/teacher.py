"""A teacher: a model trained on the whole real set. One safetensors file, checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillhouse import artifact


@dataclass(frozen=True)
class Teacher:
    """A trained model.

    model    its settings, as JSON values
    seed     of its initial weights (for ridge regression: of the feature map) and of the validation split
    weights  what training found, by name
    space    what it sees of an image, with fitted values
    data     name, fingerprint and order of the real set it was trained on
    notes    how training went: validation accuracies, ranks
    """

    model: Mapping[str, Any]
    seed: int
    weights: Mapping[str, torch.Tensor]
    space: Mapping[str, Any]
    data: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path | str) -> None:
        """Write as one file; equal teachers give equal bytes."""
        header = {"model": self.model, "seed": self.seed, "data": self.data, "notes": self.notes, "recipe": self.recipe}
        fitted = {k: v for k, v in self.space.items() if isinstance(v, torch.Tensor)}
        header["space"] = {k: v for k, v in self.space.items() if k not in fitted}
        tensors = {**self.weights, **{f"space.{k}": v for k, v in fitted.items()}}
        artifact.write(Path(path), "teacher", tensors, header)

    @classmethod
    def load(cls, path: Path | str) -> Teacher:
        """Read a teacher. Raises UserError saying what is wrong with the file."""
        tensors, header = artifact.read(Path(path), "teacher")
        fitted = {k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")}
        weights = {k: v for k, v in tensors.items() if not k.startswith("space.")}
        return cls(
            model=header["model"],
            seed=header["seed"],
            weights=weights,
            space={**header["space"], **fitted},
            data=header["data"],
            notes=header["notes"],
            recipe=header["recipe"],
        )
