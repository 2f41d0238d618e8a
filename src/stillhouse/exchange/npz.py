"""Archives of NumPy arrays: the sets of KIP and RFAD, and our own. No array that is a pickle is read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from stillhouse import artifact
from stillhouse.errors import UserError
from stillhouse.exchange import files, manifest
from stillhouse.exchange.found import Found
from stillhouse.sets import DistilledSet

Arrays = Mapping[str, np.ndarray]
# What RFAD's files say besides: the ridge as a multiple of tr(K)/m, the log of Platt's scale, and how the best was found.
_RFAD_NUMBERS = ("jit", "k", "valid_loss", "best_iter")


def read_kip(path: Path, index: int | None = None) -> Found:
    """A file of KIP or label solve: images (m, height, width, channels), labels (m, c), centred.

    Raises UserError for another content.
    """
    arrays = _load(path, index)
    images = _array(arrays, "images", path)
    if images.ndim != 4:
        raise UserError(f"{path}: images {tuple(images.shape)}, expected (m, height, width, channels). See --format.")
    labels = _array(arrays, "labels", path)
    return Found(images.permute(0, 3, 1, 2).contiguous(), labels, {path.name: files.sha256(path)}, centred=True)


def read_rfad(path: Path, index: int | None = None) -> Found:
    """A file of RFAD: images (m, channels, height, width), labels (m, c), centred, and numbers. Raises UserError."""
    arrays = _load(path, index)
    notes = {name: arrays[name].item() for name in _RFAD_NUMBERS if name in arrays and arrays[name].size == 1}
    images, labels = (_array(arrays, name, path) for name in ("images", "labels"))
    return Found(images, labels, {path.name: files.sha256(path)}, centred=True, notes=notes)


def read_npz(path: Path, index: int | None = None) -> Found:
    """What `write_npz` wrote."""
    arrays = _load(path, index)
    if "manifest" not in arrays:
        raise UserError(f"{path}: 'manifest' is missing, so export did not write it. See --format for others' files.")
    images, targets = (_array(arrays, name, path) for name in ("images", "labels"))
    tensors = {name: _array(arrays, name, path) for name in arrays if name.startswith("space.")}
    declared = manifest.parse(str(arrays["manifest"]), path, tensors)
    return Found(images, targets, {path.name: files.sha256(path)}, manifest=declared)


def write_npz(distilled: DistilledSet, path: Path) -> None:
    """images (m, *shape) and labels (m, c), the target rows, as the set has them; the manifest; the space's arrays."""
    tensors = {"images": distilled.inputs, "labels": distilled.targets, **manifest.space_tensors(distilled.space)}
    arrays = {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}
    arrays["manifest"] = np.array(manifest.describe(distilled, distilled.space))
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # its other argument has a name that no array of ours has
    artifact.place(path, buffer.getvalue())


def _load(path: Path, index: int | None) -> Arrays:
    files.check(path)
    if index is not None:
        raise UserError(f"--index: {path} holds one set. Leave it out.")
    try:
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            raise UserError(f"{path}: one array without a name. Expected an archive of images and labels, .npz.")
        with loaded as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as problem:
        raise UserError(
            f"{path}: cannot be read as arrays ({str(problem).splitlines()[0] if str(problem) else type(problem).__name__})."
            " Get the file again; if its arrays hold objects, save them as numbers."
        ) from None


def _array(arrays: Arrays, name: str, path: Path) -> torch.Tensor:
    if name not in arrays:
        has = ", ".join(sorted(arrays)) or "nothing"
        raise UserError(f"{path}: '{name}' is missing; it has {has}. See --format for what is read.")
    if arrays[name].dtype.kind not in "fiu":
        raise UserError(f"{path}: '{name}' holds {arrays[name].dtype}, expected numbers. Save it as numbers.")
    return torch.from_numpy(np.ascontiguousarray(arrays[name].astype(arrays[name].dtype.newbyteorder("="))))
