"""A teacher: a model trained on the whole real set. One safetensors file, checked when read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillhouse import artifact, settings
from stillhouse.sets import RealSet
from stillhouse.spaces import Space


@dataclass(frozen=True)
class Teacher:
    """A trained model.

    model    its settings, as JSON values
    seed     of its initial weights (for ridge regression: of the feature map) and of the validation split
    weights  what training found, by name
    space    what it sees of an image, with fitted values
    data     name, fingerprint and order of the real set it was trained on
    notes    how training went: validation accuracies, ranks
    target_space  of a regression set: how its target rows came from values, so what a prediction means
    """

    model: Mapping[str, Any]
    seed: int
    weights: Mapping[str, torch.Tensor]
    space: Mapping[str, Any]
    data: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    target_space: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, real: RealSet, params: Any, seed: int, weights: Mapping[str, torch.Tensor], space: Space, notes: Mapping[str, Any]
    ) -> Teacher:  # fmt: skip
        """A model with settings `params` that learned `weights` of `real` (or of a set distilled from it)."""
        return cls(
            model=settings.dump(params),
            seed=seed,
            # As a file holds them: the layout of a factor moves a product's last bits.
            weights={name: weight.detach().cpu().contiguous() for name, weight in weights.items()},
            space=space.settings(),
            data=real.identity,
            notes=notes,
            target_space=real.target_space.settings() if real.regression else {},
        )

    def save(self, path: Path | str) -> None:
        """Write as one file; equal teachers give equal bytes."""
        header = {
            "model": self.model,
            "seed": self.seed,
            "data": self.data,
            "notes": self.notes,
            "recipe": self.recipe,
            "target_space": self.target_space,
        }
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
            target_space=header["target_space"],
        )
