"""Files of torch.save: the sets of DC, DSA, DM and those who keep to their code, of MTT, and our own tensors.

Read as tensors, lists and numbers alone; a file that needs more could run code and is refused unread. NumPy's numbers are let
through besides: the accuracies in every file of DC's code are such.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stillhouse import artifact
from stillhouse.errors import UserError
from stillhouse.exchange import files, manifest
from stillhouse.exchange.found import Found
from stillhouse.sets import DistilledSet

# float64 and float32 scalars, as NumPy 1 and 2 write them. None of these calls anything but itself.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
]


def read_dc(path: Path, index: int | None = None) -> Found:
    """A file of DC, DSA, DM: {"data": [[images, labels] of each experiment], "accs_all_exps": {model: accuracies}}.

    `index` is the experiment, from 0; it can be left out where there is one. Raises UserError for another content.
    """
    content = _load(path)
    data = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(data, list | tuple) or not data:
        has = f"it has {_what(content)}"
        raise UserError(
            f"{path}: not a file of DC's code: 'data', a list of [images, labels], is missing; {has}. See --format."
        )
    if index is None and len(data) > 1:
        raise UserError(f"{path}: holds {len(data)} experiments. Choose one with --index 0 to {len(data) - 1}.")
    chosen = index or 0
    if not 0 <= chosen < len(data):
        raise UserError(f"{path}: no experiment {chosen}; it holds {len(data)}. Choose --index 0 to {len(data) - 1}.")
    pair = data[chosen]
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise UserError(f"{path}: experiment {chosen} is {_what(pair)}, expected [images, labels]. See --format.")
    images, labels = (_tensor(each, f"{path}: {name}") for each, name in zip(pair, ("images", "labels"), strict=True))
    notes = {"index": chosen, "of": len(data), **_accuracies(content.get("accs_all_exps"), chosen, len(data))}
    return Found(images, labels, {path.name: files.sha256(path)}, seed=chosen, notes=notes)


def read_mtt(path: Path, index: int | None = None) -> Found:
    """Two files of MTT and those who keep to its code: tensors images_X.pt and labels_X.pt in one folder.

    `path` is the folder, of which images_best.pt is read, or the file of the images. Labels are hard, or rows where they were
    learned. Raises UserError where one is missing or holds something else.
    """
    if index is not None:
        raise UserError(f"--index: {path} holds one set. Leave it out.")
    images_file = path / "images_best.pt" if path.is_dir() else path
    name = re.sub("^images(_zca)?", "labels", images_file.name)
    if name == images_file.name:
        raise UserError(f"{images_file}: expected a file images_X.pt, beside its labels_X.pt, or their folder.")
    labels_file = images_file.with_name(name)
    found = {file: _tensor(_load(file), str(file)) for file in (images_file, labels_file)}
    digests = {file.name: files.sha256(file) for file in found}
    return Found(found[images_file], found[labels_file], digests)


def read_tensors(path: Path, index: int | None = None) -> Found:
    """What `write_tensors` wrote."""
    if index is not None:
        raise UserError(f"--index: {path} holds one set. Leave it out.")
    content = _load(path)
    if not isinstance(content, Mapping) or not {"images", "targets", "manifest"} <= set(content):
        raise UserError(f"{path}: not a set that export wrote as tensors; it has {_what(content)}. See --format.")
    declared = manifest.parse(str(content["manifest"]), path, content)
    images, targets = (_tensor(content[name], f"{path}: {name}") for name in ("images", "targets"))
    return Found(images, targets, {path.name: files.sha256(path)}, manifest=declared)


def write_tensors(distilled: DistilledSet, path: Path) -> None:
    """A dictionary of tensors, which `torch.load` reads with weights_only, for `TensorDataset(images, targets)`.

    images (m, *shape) and targets (m, c) as the set has them, labels (m,) of classes, the manifest, the space's arrays.
    """
    content: dict[str, Any] = {"images": distilled.inputs.contiguous(), "targets": distilled.targets.contiguous()}
    if not distilled.outputs:
        content["labels"] = distilled.labels
    content |= {"manifest": manifest.describe(distilled, distilled.space), **manifest.space_tensors(distilled.space)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    artifact.place(path, buffer.getvalue())


def _load(path: Path) -> Any:
    files.check(path)
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch would rather have been saved otherwise
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # damaged files end in errors of many kinds, and none of them is ours
        named = re.search(r"GLOBAL (\S+)|Unsupported (?:class|global)[^\w]*(\S+)", str(problem))
        if named is not None:
            what = next(each for each in named.groups() if each)
            raise UserError(
                f"{path}: needs '{what}' to be read, which could run code, so it is not opened. Save its tensors again "
                "where you trust it, as torch.save of tensors, lists and numbers, or as .npz."
            ) from None
        raise UserError(
            f"{path}: cannot be read as tensors, lists and numbers ({type(problem).__name__}). Get the file again; if "
            "it holds other objects, save its tensors alone."
        ) from None


def _tensor(found: Any, where: str) -> torch.Tensor:
    if not isinstance(found, torch.Tensor):
        raise UserError(f"{where}: expected a tensor, found {_what(found)}. Save it as one, or see --format.")
    return found.detach()


def _what(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"entries {', '.join(sorted(map(str, content)))[:80]}" if content else "no entries"
    if isinstance(content, torch.Tensor):
        return f"a tensor {tuple(content.shape)}"
    return (
        f"{type(content).__name__} of {len(content)}" if isinstance(content, list | tuple) else type(content).__name__
    )


def _accuracies(found: Any, chosen: int, experiments: int) -> dict[str, Any]:
    """What the file says of the accuracy of networks trained on this experiment's set, in percent."""
    if not isinstance(found, Mapping):
        return {}
    reported = {}
    for model, values in found.items():
        numbers = [float(each) for each in values] if isinstance(values, list | tuple) else []
        # One experiment after the other, each with as many networks.
        share = len(numbers) // experiments
        own = numbers[chosen * share : (chosen + 1) * share] if share * experiments == len(numbers) else []
        if own and all(map(math.isfinite, own)):
            reported[str(model)] = {"mean": round(100 * sum(own) / share, 6), "networks": share}
    return {"reported": reported} if reported else {}
