"""Image folders: a sub-folder for each class, and for our own a manifest that names images, targets and order.

    out/manifest.json  out/ant/0000.png  out/bee/0001.png  ...

PNG of 8 bits: pixels below 0 or above 1 are clipped, the rest rounded to 1/255. The manifest says how much was lost.
Folders without a manifest are read as well: others' sets of images, each with the class of its folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stillhouse.data.folder import SUFFIXES
from stillhouse.errors import UserError
from stillhouse.exchange import files, manifest
from stillhouse.exchange.found import Found
from stillhouse.sets import DistilledSet

_NAME = "manifest.json"
_MODES = {1: "L", 3: "RGB"}  # channels -> mode of the image


def read(path: Path, index: int | None = None) -> Found:
    """The images of a folder as uint8 (m, channels, height, width).

    With a manifest, those it names, in its order, with its targets. Without one, all images of the sub-folders in alphabetical
    order, and labels that count the folders, whose names are the note `folders`. Raises UserError.
    """
    if index is not None:
        raise UserError(f"--index: {path} holds one set. Leave it out.")
    if not path.is_dir():
        raise UserError(f"{path}: no such folder. Give the folder that has a sub-folder for each class.")
    if (path / _NAME).is_file():
        return _read_named(path)
    folders = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    named = [
        (image, place)
        for place, folder in enumerate(folders)
        for image in sorted(folder.iterdir())
        if image.suffix.lower() in SUFFIXES
    ]
    if not named:
        raise UserError(f"{path}: no images in sub-folders. Put the images of each class in a sub-folder of its name.")
    labels = torch.tensor([place for _, place in named])
    notes = {"folders": [folder.name for folder in folders]}
    return Found(_stacked([image for image, _ in named]), labels, {path.name: _digest(path, named)}, notes=notes)


def write(distilled: DistilledSet, path: Path) -> dict[str, Any]:
    """The images as 8-bit PNG in a sub-folder for each class, with the manifest; returns what clipping and rounding cost.

    Raises UserError for a set that has no images of one or three channels, and where `path` has something in it.
    """
    shape = tuple(distilled.inputs.shape[1:])
    if distilled.outputs or len(shape) != 3 or shape[0] not in _MODES:
        raise UserError(
            f"{distilled.name}: examples of shape {shape} are no images of classes with one or three channels. "
            "Export it as npz or tensors."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path}: exists and is not an empty folder. Remove it or choose another.")
    pictures = distilled.pictures()
    stored = (pictures.clamp(0, 1) * 255).round().to(torch.uint8)
    lost = {
        "clipped": float(((pictures < 0) | (pictures > 1)).to(torch.float64).mean()),
        "largest_error": float((stored.to(torch.float32) / 255 - pictures).abs().max()),
        "bits": 8,
    }
    folders = [folder_name(name) for name in distilled.classes]
    listed = [
        {"file": f"{folders[label]}/{place:04d}.png", "target": target}
        for place, (label, target) in enumerate(zip(distilled.labels.tolist(), distilled.targets.tolist(), strict=True))
    ]
    text = manifest.describe(
        distilled, {"kind": "pixels"}, made_in={"space": distilled.space["kind"]}, images=listed, lost=lost
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as made:
        whole = Path(made) / path.name
        for each, image in zip(listed, stored, strict=True):
            file = whole / str(each["file"])
            file.parent.mkdir(parents=True, exist_ok=True)
            array = image.permute(1, 2, 0).squeeze(2) if shape[0] == 1 else image.permute(1, 2, 0)
            Image.fromarray(array.numpy()).save(file)
        (whole / _NAME).write_text(text + "\n", encoding="utf-8")
        os.replace(whole, path)
    return lost


def folder_name(name: str) -> str:
    """A class name as the name of a folder: 'T-shirt_top' for 'T-shirt/top'."""
    return name.replace("/", "_").replace("\\", "_").strip(". ") or "_"


def _read_named(path: Path) -> Found:
    declared = manifest.parse((path / _NAME).read_text(encoding="utf-8"), path / _NAME, {})
    try:
        named = [(path / each["file"], each["target"]) for each in declared["images"]]
        targets = torch.tensor([target for _, target in named], dtype=torch.float64)
    except (KeyError, TypeError, ValueError) as problem:
        raise UserError(f"{path / _NAME}: its list of images is damaged ({problem}). Export the set again.") from None
    if not named:
        raise UserError(f"{path / _NAME}: names no image. Export the set again.")
    for image, _ in named:
        if not image.resolve().is_relative_to(path.resolve()):
            raise UserError(f"{path / _NAME}: names '{image}', which is outside the folder. Export the set again.")
        files.check(image)
    # The list of images is in the set that is made; the rest says how it came about.
    rest = {k: v for k, v in declared.items() if k != "images"}
    found = _stacked([image for image, _ in named])
    return Found(found, targets, {path.name: _digest(path, named)}, notes={"lost": declared.get("lost")}, manifest=rest)


def _stacked(images: list[Path]) -> torch.Tensor:
    arrays = [_pixels(image) for image in images]
    for image, array in zip(images, arrays, strict=True):
        if array.shape != arrays[0].shape:
            raise UserError(
                f"{image}: pixels {array.shape} (height, width, channels), {images[0].name} has {arrays[0].shape}. "
                "Bring all images to one size and one mode."
            )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def _pixels(image: Path) -> np.ndarray:
    try:
        with Image.open(image) as file:
            file.load()
            if file.mode.startswith(("I", "F")):
                raise ValueError(f"more than 8 bits a value, mode {file.mode}")
            mode = file.mode if file.mode in _MODES.values() else "RGB"
            array = np.asarray(file.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise UserError(f"{image}: cannot be read as an image ({problem}). Mend or remove it.") from None
    return array[:, :, None] if array.ndim == 2 else array


def _digest(path: Path, named: list[tuple[Path, Any]]) -> str:
    """sha256 over the names, targets and contents of all images."""
    digest = hashlib.sha256()
    for image, target in named:
        digest.update(f"{image.relative_to(path).as_posix()} {json.dumps(target)} {files.sha256(image)}\n".encode())
    return digest.hexdigest()
