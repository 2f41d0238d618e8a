"""The two things everything else passes around: a real data set and a distilled one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillhouse import artifact, spaces
from stillhouse.errors import NumericalError, UserError

_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a real set. `inputs`: (n, *shape), uint8 pixels or floats, may be memory-mapped; `targets`: (n,) int64."""

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def chunks(self, size: int, index: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pixels in [0, 1] as float32 (b, *shape) with their targets (b,), `size` at a time, so memory does not grow with n.

        `index` (ascending positions) restricts to a part of the split.
        """
        total = len(self) if index is None else len(index)
        for start in range(0, total, size):
            rows: Any = slice(start, start + size) if index is None else index[start : start + size]
            yield pixels(self.inputs[rows]), self.targets[rows]


def pixels(inputs: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as float32 in [0, 1]; floats as float32."""
    return inputs.to(torch.float32) / 255 if inputs.dtype == torch.uint8 else inputs.to(torch.float32)


@dataclass(frozen=True, eq=False)
class RealSet:
    """A real data set: both official splits, its classes in order, and what proves its identity.

    `fingerprint` does not depend on the order of the examples; `order` is the hash of the order in this copy.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    order: str

    @classmethod
    def load(cls, path: Path | str) -> RealSet:
        """Read a prepared data set, memory-mapped. Raises UserError for a damaged file."""
        # The fingerprint was checked when the file was prepared; hashing it in every job would read it twice.
        tensors, header = artifact.read(Path(path), "real set", verify=False)
        return cls(
            name=header["name"],
            train=Split(tensors["train_inputs"], tensors["train_targets"]),
            test=Split(tensors["test_inputs"], tensors["test_targets"]),
            classes=tuple(header["classes"]),
            fingerprint=header["fingerprint"],
            order=header["order"],
        )

    def save(self, path: Path | str) -> None:
        """Write as one memory-mappable safetensors file."""
        tensors = {
            "train_inputs": self.train.inputs,
            "train_targets": self.train.targets,
            "test_inputs": self.test.inputs,
            "test_targets": self.test.targets,
        }
        identity = {"name": self.name, "classes": self.classes, "fingerprint": self.fingerprint, "order": self.order}
        artifact.write(Path(path), "real set", tensors, identity)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example: (channels, height, width) for images."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def dim(self) -> int:
        """Values per example, d."""
        return self.train.inputs[0].numel()

    @property
    def n_classes(self) -> int:
        """Number of classes, c."""
        return len(self.classes)

    @property
    def identity(self) -> dict[str, str]:
        """Name, fingerprint and order: what a result says of its data."""
        return {"name": self.name, "fingerprint": self.fingerprint, "order": self.order}

    def positions(self, label: int) -> torch.Tensor:
        """Positions in the training split of the examples of one class, ascending."""
        return torch.nonzero(self.train.targets == label).flatten()


@dataclass(frozen=True, eq=False)
class DistilledSet:
    """A synthetic training set of m = per_class x c examples.

    inputs    (m, *shape), floating, in the space named by `space`
    targets   (m, c), real-valued
    classes   class names in the order of the target columns
    space     how the inputs came from pixels, and so how to undo it (see `spaces`): settings with fitted values
    model     the model it was made for, or None: settings, and the seed of its initial weights
    schedule  how it asks to be trained on, or empty: order, learning rates, ridge
    recipe    everything that produced it: method, settings, seed, data, source, versions
    certificate  what was proven about it on the spot, for exact methods
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]
    space: Mapping[str, Any] = field(default_factory=lambda: {"kind": "pixels"})
    model: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or self.targets.ndim != 2:
            raise NumericalError(
                f"{tuple(self.inputs.shape)} inputs do not go with {tuple(self.targets.shape)} targets"
            )
        for name, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise NumericalError(f"{bad} of {tensor.numel()} {name} of the distilled set are NaN or infinite")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> torch.Tensor:
        """(m,) the class with the largest target, for counting and pictures."""
        return self.targets.argmax(1)

    @property
    def name(self) -> str:
        """Data set / experiment, from the recipe."""
        return f"{self.recipe.get('dataset', '?')}/{self.recipe.get('experiment', '?')}"

    def pictures(self) -> torch.Tensor:
        """The inputs as pixels, (m, *shape) float32, not clipped: pixels of 0 to 1 where the method kept them there."""
        return spaces.from_settings(self.space).inverse(self.inputs.to(torch.float64)).to(torch.float32)

    def inputs_in(self, space: spaces.Space) -> torch.Tensor:
        """The inputs (m, *shape), float64, in a model's fitted space: as they are in the same one, else through pixels."""
        inputs = self.inputs.to(torch.float64)
        if spaces.same(self.space, space.settings()):
            return inputs
        return space.forward(spaces.from_settings(self.space).inverse(inputs))

    def save(self, path: Path | str) -> None:
        """Write as one safetensors file; equal sets give equal bytes."""
        space, space_tensors = _split_tensors(self.space)
        header = {
            "format": _FORMAT,
            "classes": list(self.classes),
            "space": space,
            "model": self.model,
            "schedule": self.schedule,
            "recipe": self.recipe,
            "certificate": self.certificate,
        }
        tensors = {"inputs": self.inputs, "targets": self.targets}
        artifact.write(
            Path(path), "distilled set", tensors | {f"space.{k}": v for k, v in space_tensors.items()}, header
        )

    @classmethod
    def load(cls, path: Path | str) -> DistilledSet:
        """Read a distilled set. Raises UserError saying what is wrong with the file."""
        tensors, header = artifact.read(Path(path), "distilled set")
        if header.get("format") != _FORMAT:
            raise UserError(f"{path}: format {header.get('format')}, this version reads {_FORMAT}. Update stillhouse.")
        fitted = {k.removeprefix("space."): v for k, v in tensors.items() if k.startswith("space.")}
        if len(header["classes"]) != tensors["targets"].shape[1]:
            raise UserError(
                f"{path}: {len(header['classes'])} class names for {tensors['targets'].shape[1]} target columns."
            )
        return cls(
            inputs=tensors["inputs"],
            targets=tensors["targets"],
            classes=tuple(header["classes"]),
            space={**header["space"], **fitted},
            model=header["model"],
            schedule=header["schedule"],
            recipe=header["recipe"],
            certificate=header["certificate"],
        )


def recipe_id(recipe: Mapping[str, Any]) -> str:
    """Twelve characters that name a recipe: the sha256 of its JSON text."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def _split_tensors(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    tensors = {k: v for k, v in settings.items() if isinstance(v, torch.Tensor)}
    return {k: v for k, v in settings.items() if k not in tensors}, tensors
