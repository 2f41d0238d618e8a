"""Your own images: one sub-folder per class, named for the class.

    my-images/cat/*.png  my-images/dog/*.png            split by `test_fraction`
    my-images/train/cat/*.png  my-images/test/cat/*.png      the split you made

Images lie directly in the class folders; other files there are passed over. Classes are in alphabetical order. Images
are taken as 8-bit colour (transparency is dropped) or, if you wish, grey. There is nothing to check such a set against:
its fingerprint is computed and recorded.
"""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageOps
from pydantic import Field

from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.sets import RealSet, Split

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_SPLITS = ("train", "test")

_log = logging.getLogger(__name__)

Listing = dict[str, list[Path]]
"""The image files of each class, both in alphabetical order."""


@dataclass(frozen=True)
class Params:
    """Where the images are and how they are made equal."""

    path: Annotated[
        str, Field(description="folder with one sub-folder per class, or with train/ and test/ of that kind")
    ] = "data/images"
    test_fraction: Annotated[
        float, Field(gt=0, lt=1, description="share of each class kept for testing; not used where there is a test/")
    ] = 0.2
    size: Annotated[
        int | None, Field(gt=0, description="scale the shorter side to so many pixels and cut out the centre square")
    ] = None
    greyscale: Annotated[bool, Field(description="one channel instead of red, green and blue")] = False


def read(params: Params, downloads: Path) -> RealSet:
    """The images under `params.path` as uint8 (n, channels, height, width), split and labelled.

    Raises UserError for a missing or empty folder, fewer than two classes, a class that cannot be split, a file that
    cannot be read as an image, and images of several sizes when `size` is not set.
    """
    train, test = _splits(Path(params.path), params.test_fraction)
    first = next(iter(train.values()))[0]
    return identity.identified("folder", _decoded(train, first, params), _decoded(test, first, params), tuple(train))


def files(params: Params) -> list[Path]:
    """Every image file, for a workflow that has to know when one changes. Raises UserError as `read` does."""
    return [
        path for split in _splits(Path(params.path), params.test_fraction) for paths in split.values() for path in paths
    ]


def smallest_class(params: Params) -> int:
    """Training images of the class that has fewest."""
    train, _ = _splits(Path(params.path), params.test_fraction)
    return min(len(paths) for paths in train.values())


def _splits(root: Path, test_fraction: float) -> tuple[Listing, Listing]:
    """The files for training and for testing: as the folders say, else divided by `test_fraction`."""
    if not root.is_dir():
        raise UserError(f"folder: no folder '{root}'. Set 'path' to the folder that holds your images.")
    names = [folder.name for folder in _subfolders(root)]
    if not set(_SPLITS) <= set(names):
        return _divided(_listing(root), test_fraction)
    if others := set(names) - set(_SPLITS):
        raise UserError(f"{root}: '{min(others)}' stands beside train/ and test/. Move it into them or away.")
    train, test = (_listing(root / split) for split in _SPLITS)
    if train.keys() != test.keys():
        odd = min(train.keys() ^ test.keys())
        raise UserError(f"{root}: class '{odd}' is in only one of train/ and test/. Give it images in both.")
    return train, test


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(folder: Path) -> Listing:
    """The image files of each class under `folder`."""
    listing = {sub.name: _images(sub) for sub in _subfolders(folder)}
    if not any(listing.values()):
        raise UserError(
            f"{folder}: no images in sub-folders. Put the images of each class in a sub-folder of its name."
        )
    for name, paths in listing.items():
        if not paths:
            known = " ".join(sorted(SUFFIXES))
            raise UserError(f"{folder / name}: no images ({known}). Add some, or remove the folder.")
    if len(listing) == 1:
        raise UserError(f"{folder}: only one class, '{next(iter(listing))}'. Add a sub-folder for a second one.")
    return listing


def _images(folder: Path) -> list[Path]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    images = [p for p in files if p.suffix.lower() in SUFFIXES]
    if len(images) < len(files):
        _log.warning("%s: %d files that are not images are passed over.", folder, len(files) - len(images))
    return images


def _divided(listing: Listing, test_fraction: float) -> tuple[Listing, Listing]:
    """Divide each class by the hash of its file names: the same on every machine, unrelated to their numbering."""
    train: Listing = {}
    test: Listing = {}
    for name, paths in listing.items():
        if len(paths) < 2:
            raise UserError(f"{paths[0].parent}: one image cannot be split. Add images, or make train/ and test/.")
        shuffled = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
        count = min(max(round(test_fraction * len(paths)), 1), len(paths) - 1)
        test[name], train[name] = sorted(shuffled[:count]), sorted(shuffled[count:])
    return train, test


def _decoded(listing: Listing, first: Path, params: Params) -> Split:
    """The images of a split, class by class, in the size of the image `first` if `size` is not set."""
    paths = [path for paths in listing.values() for path in paths]
    width, height = (params.size, params.size) if params.size else _open(first).size
    channels = 1 if params.greyscale else 3
    pixels = np.empty((len(paths), height, width, channels), np.uint8)
    for i, path in enumerate(paths):
        image = _open(path).convert("L" if params.greyscale else "RGB")
        if params.size:
            image = ImageOps.fit(image, (width, height), method=Image.Resampling.LANCZOS)
        elif image.size != (width, height):
            raise _several_sizes(first, (width, height), path, image.size)
        pixels[i] = np.asarray(image).reshape(height, width, channels)
    labels = np.repeat(np.arange(len(listing)), [len(paths) for paths in listing.values()])
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels.astype(np.int64)))


def _several_sizes(first: Path, size: tuple[int, int], other: Path, other_size: tuple[int, int]) -> UserError:
    return UserError(
        f"folder: images of several sizes ({first}: {size[0]} x {size[1]}, {other}: {other_size[0]} x {other_size[1]})."
        f" Set 'size', such as {min(*size, *other_size)}, to scale and crop all images to a square of that side."
    )


def _open(path: Path) -> Image.Image:
    """A decoded image, turned the way its camera says. Raises UserError naming a file that is damaged or not 8-bit."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise UserError(f"{path}: cannot be read as an image ({problem}). Mend or remove it.") from problem
    if image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: more than 8 bits a value (mode {image.mode}). Convert it to 8 bits.")
    return image
