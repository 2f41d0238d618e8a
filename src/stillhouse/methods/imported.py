"""Somebody else's distilled set, read from a released file: DC, DSA, DM and MTT `.pt`, KIP and RFAD `.npz`, image folders, ours.

Nothing is distilled. What the file does not say is declared, as for `stillhouse import` (docs/exchange.md), and the set is
scored as any other: by the same models, under the same protocols, beside the same baselines. The sets of all seeds are one, but
where a file of DC's code holds several: seed 0 is its first.

    dsa_released:
      label: DSA, the authors' set
      method: imported
      format: dc
      made_by: dsa
      source: "github.com/VICO-UoE/DatasetCondensation, released sets"
      space: dc
      files: {cifar10: {1: released/res_DSA_CIFAR10_ConvNet_1ipc.pt, 10: released/res_DSA_CIFAR10_ConvNet_10ipc.pt}}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from stillhouse import spaces
from stillhouse.errors import UserError
from stillhouse.exchange import formats
from stillhouse.exchange.declared import Declared
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet


@dataclass(frozen=True)
class Params:
    """Where the files are and what is declared of them."""

    files: Annotated[
        Mapping[int, str],
        Field(description="the file, or folder, of each number of images per class: {1: path, 10: path}"),
    ] = field(default_factory=dict)
    format: Annotated[
        Literal["dc", "mtt", "kip", "rfad", "folder", "npz", "tensors"],
        Field(description="whose files they are; see docs/exchange.md"),
    ] = "dc"
    made_by: Annotated[
        str, Field(description="the method that made the sets, such as dsa; '': the file's manifest says it")
    ] = ""
    source: Annotated[str, Field(description="where the files are from: a paper, an address")] = ""
    space: Annotated[
        Any, Field(description="in which space the images live: pixels, dc, standardised, zca, pixel_zca, or settings")
    ] = None
    labels: Annotated[
        Literal["one_hot", "centred"] | None,
        Field(description="of real-valued rows: as they are, or one-hot less 1/c; none: what the format has"),
    ] = None
    classes: Annotated[
        tuple[str, ...] | None, Field(description="the order of the label columns; none: the data set's")
    ] = None
    index: Annotated[
        int | None,
        Field(ge=0, description="format dc: which experiment of the file; none: that of the set's seed"),
    ] = None
    sha256: Annotated[
        Mapping[int, str],
        Field(description="what the file of a size must have; of MTT's two, that of what sha256sum prints of them"),
    ] = field(default_factory=dict)
    budget: Annotated[float, Field(gt=0, description="fraction of the paper's budget they were made with")] = 1.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.sha256) - set(self.files))
        if unknown:
            raise ValueError(f"sha256 of {unknown[0]} images per class, for which files names none")


def budget(params: Params) -> float:
    """The fraction of the paper's budget."""
    return params.budget


def files(params: Params, per_class: int) -> list[Path]:
    """The files behind a set of that size, for a workflow that has to know when one changes.

    Raises UserError where none is named, or what is named is not there.
    """
    return list(_behind(_named(params, per_class), params.format))


def distill(real: RealSet, per_class: int, params: Params, run: Run) -> DistilledSet:
    """The set of the file, classes in turn unless it asks for an order of its own; its recipe says where it is from.

    Raises UserError for a file that is missing, is another than `sha256` says, has another size, or does not fit `real`.
    """
    path = _named(params, per_class)
    declared = Declared(
        method=params.made_by or None, source=params.source or None, space=params.space, labels=params.labels,
        classes=params.classes, seed=run.seed, budget=params.budget,
    )  # fmt: skip
    index = run.seed if params.index is None and params.format == "dc" else params.index
    try:
        found = formats.import_set(path, params.format, real, declared, index)
    except UserError as problem:
        # As `stillhouse import` says it: its options are settings here.
        text = re.sub(r"(?<!\S)--method\b", "made_by", str(problem))
        raise UserError(re.sub(r"(?<!\S)--(?=[a-z])", "", text)) from None
    _check(found, path, per_class, params, real)
    made_by = found.recipe["method"]["kind"]
    named = replace(found, recipe={"imported": {**found.recipe["imported"], "method": made_by}})
    return named if found.schedule else in_turn(named)


def in_turn(found: DistilledSet) -> DistilledSet:
    """The set with the first example of every class before the second of any; others' files go class by class."""
    labels, count = found.labels, found.targets.shape[1]
    turn = spaces.one_hot(labels, count).cumsum(0)[torch.arange(len(found)), labels].to(torch.long)
    order = (turn * count + labels).argsort()
    return replace(found, inputs=found.inputs[order], targets=found.targets[order])


def digest(files: Mapping[str, str]) -> str:
    """What `sha256` is compared with, for sha256 of files by their names: of one file, its own; of several, that of the lines
    that sha256sum prints of them, by name.
    """
    if len(files) == 1:
        return next(iter(files.values()))
    return hashlib.sha256("".join(f"{files[name]}  {name}\n" for name in sorted(files)).encode()).hexdigest()


def _named(params: Params, per_class: int) -> Path:
    if per_class not in params.files:
        known = ", ".join(map(str, sorted(params.files))) or "none"
        raise UserError(
            f"files: no file for {per_class} images per class; there are for {known}. Name one, or leave the size out."
        )
    return Path(params.files[per_class])


def _behind(path: Path, format: str) -> list[Path]:
    """The files that stand behind what is named: itself, what is in a folder, the labels beside the images of MTT's code."""
    if path.is_dir():
        inside = path.rglob("*") if format == "folder" else path.glob("*_best.pt")
        found = sorted(file for file in inside if file.is_file())
    else:
        found = [path, *(sorted(path.parent.glob("labels_*.pt")) if format == "mtt" else ())]
    if not found or not found[0].is_file():
        raise UserError(f"{path}: no such file. Put the released set there, or name in files where it is.")
    return found


def _check(found: DistilledSet, path: Path, per_class: int, params: Params, real: RealSet) -> None:
    """The file must be the one that is meant, of the size that is meant."""
    wanted, has = params.sha256.get(per_class), digest(found.recipe["imported"]["files"])
    if wanted is not None and wanted.lower() != has:
        raise UserError(
            f"{path}: has sha256 {has}, but params.yaml says {wanted}. Get the file again, or correct sha256 if it is right."
        )
    if len(found) != real.size(per_class):
        held = len(found) // real.n_classes
        raise UserError(f"{path}: holds {held} images per class, not {per_class}. Name it in files under {held}.")
