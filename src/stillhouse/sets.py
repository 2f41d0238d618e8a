"""The two things everything else passes around: a real data set and a distilled one."""

from __future__ import annotations

import functools
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
    """One split of a real set.

    inputs   (n, *shape), uint8 pixels or floats, may be memory-mapped
    targets  (n,) int64 class labels, or (n, k) float64 values in their own units
    """

    inputs: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def chunks(self, size: int, index: torch.Tensor | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pixels in [0, 1] as float32 (b, *shape) with their targets, `size` at a time, so memory does not grow with n.

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

    A regression set has no classes; `outputs` names its k values. `fingerprint` does not depend on the order of the examples;
    `order` is the hash of the order in this copy.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    order: str
    outputs: tuple[str, ...] = ()

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
            outputs=tuple(header.get("outputs", ())),
        )

    def save(self, path: Path | str) -> None:
        """Write as one memory-mappable safetensors file."""
        tensors = {
            "train_inputs": self.train.inputs,
            "train_targets": self.train.targets,
            "test_inputs": self.test.inputs,
            "test_targets": self.test.targets,
        }
        named = {"name": self.name, "classes": self.classes, "outputs": self.outputs}
        artifact.write(Path(path), "real set", tensors, {**named, "fingerprint": self.fingerprint, "order": self.order})

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
        """Number of classes, c; 0 of a regression set."""
        return len(self.classes)

    @property
    def regression(self) -> bool:
        """Whether targets are values and not classes."""
        return bool(self.outputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of target rows stand for: classes, or outputs."""
        return self.outputs or self.classes

    @property
    def width(self) -> int:
        """Columns of target rows: c classes, or k outputs."""
        return len(self.columns)

    @functools.cached_property
    def target_space(self) -> spaces.StandardSpace:
        """Of a regression set: what a value's row is, by mean and standard deviation of each output over the training split.

        Raises NumericalError for an output that never changes.
        """
        values = self.train.targets.to(torch.float64)
        mean, std = values.mean(0), values.std(0, correction=0)
        if bool((std <= 1e-12 * mean.abs()).any()):
            constant = self.outputs[int((std - 1e-12 * mean.abs()).argmin())]
            raise NumericalError(f"{self.name}: output '{constant}' is the same for all training examples")
        return spaces.StandardSpace(mean, std)

    def target_rows(self, targets: torch.Tensor) -> torch.Tensor:
        """What models are trained on, (b, width) float64: one-hot rows of labels (b,), or values (b, k) in the target space."""
        if self.regression:
            return self.target_space.forward(targets.to(torch.float64))
        return spaces.one_hot(targets, self.n_classes)

    def size(self, per_class: int) -> int:
        """Examples m of a distilled set: per_class for each class, or per_class as it is for a regression set."""
        return per_class if self.regression else per_class * self.n_classes

    def merit(self, scores: torch.Tensor, targets: torch.Tensor) -> float:
        """How good scores (b, width) are for targets, summed over examples; 1 each is perfect, and their mean is the accuracy,
        or one minus the mean squared error in the target space. `merit_name` says which.
        """
        if self.regression:
            return float((1 - (scores.to(torch.float64).cpu() - self.target_rows(targets)).square().mean(1)).sum())
        return int((scores.argmax(1).cpu() == targets).sum())

    @property
    def merit_name(self) -> str:
        """What the mean of `merit` is called."""
        return "r2" if self.regression else "accuracy"

    @property
    def identity(self) -> dict[str, str]:
        """Name, fingerprint and order: what a result says of its data."""
        return {"name": self.name, "fingerprint": self.fingerprint, "order": self.order}

    def positions(self, label: int) -> torch.Tensor:
        """Positions in the training split of the examples of one class, ascending."""
        return torch.nonzero(self.train.targets == label).flatten()


@dataclass(frozen=True, eq=False)
class DistilledSet:
    """A synthetic training set of m examples: per_class x c, or per_class of a regression set.

    inputs    (m, *shape), floating, in the space named by `space`
    targets   (m, c), real-valued; of a regression set (m, k), in the target space
    classes   class names in the order of the target columns; none for a regression set
    space     how the inputs came from pixels, and so how to undo it (see `spaces`): settings with fitted values
    model     the model it was made for, or None: settings, and the seed of its initial weights where they are part of it
    schedule  how it asks to be trained on, or empty: order, learning rates, ridge
    recipe    everything that produced it: method, settings, seed, data, source, versions
    certificate  what was proven about it on the spot, for exact methods
    outputs   of a regression set: names of the target columns
    target_space  of a regression set: how target rows came from values, as settings with fitted values
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    classes: tuple[str, ...]
    space: Mapping[str, Any] = field(default_factory=lambda: {"kind": "pixels"})
    model: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    certificate: Mapping[str, Any] | None = None
    outputs: tuple[str, ...] = ()
    target_space: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets) or self.targets.ndim != 2:
            raise NumericalError(
                f"{tuple(self.inputs.shape)} inputs do not go with {tuple(self.targets.shape)} targets"
            )
        for name, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            bad = int((~torch.isfinite(tensor)).sum())
            if bad:
                raise NumericalError(f"{bad} of {tensor.numel()} {name} of the distilled set are NaN or infinite")

    @classmethod
    def of(cls, real: RealSet, inputs: torch.Tensor, targets: torch.Tensor, **more: Any) -> DistilledSet:
        """A set distilled from `real`: its columns and its target space are real's."""
        space = real.target_space.settings() if real.regression else {}
        return cls(inputs, targets, real.classes, outputs=real.outputs, target_space=space, **more)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def labels(self) -> torch.Tensor:
        """(m,) the class with the largest target, for counting and pictures. Raises UserError for a regression set."""
        if self.outputs:
            raise UserError(f"{self.name}: a regression set has values and no classes. Read `values`.")
        return self.targets.argmax(1)

    @property
    def values(self) -> torch.Tensor:
        """Of a regression set: the targets (m, k) in their own units, float64. Raises UserError for one of classes."""
        if not self.outputs:
            raise UserError(f"{self.name}: a set of classes has no values. Read `labels` or `targets`.")
        return spaces.from_settings(self.target_space).inverse(self.targets.to(torch.float64))

    def target_rows(self, real: RealSet) -> torch.Tensor:
        """The targets (m, width) as rows of `real`: as they are, but for a regression set standardised otherwise."""
        if not real.regression or spaces.same(self.target_space, real.target_space.settings()):
            return self.targets
        return real.target_rows(self.values)

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
            "outputs": list(self.outputs),
            "target_space": dict(self.target_space),
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
        named, outputs = header["classes"], header.get("outputs", [])
        if len(named or outputs) != tensors["targets"].shape[1]:
            raise UserError(
                f"{path}: {len(named or outputs)} names of classes or outputs for {tensors['targets'].shape[1]} target columns."
            )
        return cls(
            inputs=tensors["inputs"],
            targets=tensors["targets"],
            classes=tuple(named),
            space={**header["space"], **fitted},
            model=header["model"],
            schedule=header["schedule"],
            recipe=header["recipe"],
            certificate=header["certificate"],
            outputs=tuple(outputs),
            target_space=header.get("target_space", {}),
        )


def recipe_id(recipe: Mapping[str, Any]) -> str:
    """Twelve characters that name a recipe: the sha256 of its JSON text."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]


def _split_tensors(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    tensors = {k: v for k, v in settings.items() if isinstance(v, torch.Tensor)}
    return {k: v for k, v in settings.items() if k not in tensors}, tensors
