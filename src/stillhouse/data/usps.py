"""USPS: 16 x 16 grey handwritten digits from envelopes (Hull, 1994).

The files are the texts that accompany the book "The Elements of Statistical Learning" (Hastie, Tibshirani, Friedman).
Grey levels are given from -1 to 1 in steps of 0.001. That is 2001 levels, more than a byte holds, so pixels are kept as
float32 (v + 1) / 2, from 0 to 1. Several packings of the same text are in use; the fingerprint of the values decides.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stillhouse.data import fetch, identity
from stillhouse.sets import RealSet, Split

FILES = fetch.remote_files(
    "usps",
    (
        "https://hastie.su.domains/ElemStatLearn/datasets/",
        "https://web.stanford.edu/~hastie/ElemStatLearn/datasets/",
    ),
    {"zip.train.gz": "", "zip.test.gz": ""},
)
CLASSES = tuple("0123456789")
SHAPE = (1, 16, 16)
COUNTS = (
    (1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
    (359, 264, 198, 166, 200, 160, 170, 147, 166, 177),
)
FINGERPRINT = "08cd405a3a23e3c72c3ec3eeff3fa4c093ea7fdd53f3134a7b5d47fbbf291b99"
ORDER = None  # the files have no published checksum, so no order can be called official
_STEPS = 1000  # per unit of the grey level


@dataclass(frozen=True)
class Params:
    """USPS has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """USPS from its two text files. Raises UserError when they are missing or differ from the known data."""
    paths = fetch.obtain_all(FILES, downloads)
    train, test = (_split(path) for path in paths)
    real = identity.identified("usps", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, paths[0].parent)


def _split(path: Path) -> Split:
    """The digits of a file as (n, 1, 16, 16) float32 pixels and (n,) int64 labels."""
    table = _table(path)
    if bad := int((~np.isfinite(table)).sum()):
        raise fetch.unusable(path, f"{bad} of {table.size} numbers are NaN or infinite")
    labels = table[:, 0].astype(np.int64)
    if not (table[:, 0] == labels).all() or labels.min() < 0:
        raise fetch.unusable(path, "a label is not a digit")
    return Split(torch.from_numpy(_pixels(path, table[:, 1:])), torch.from_numpy(labels))


def _table(path: Path) -> npt.NDArray[np.float64]:
    """(n, 257) numbers: one digit a line, its label and 256 grey levels."""
    try:
        lines = gzip.decompress(path.read_bytes()).decode("ascii").split("\n")
        table = np.array([line.split() for line in lines if line.strip()], dtype=np.float64)
    except (OSError, EOFError, zlib.error, ValueError) as problem:
        raise fetch.unusable(path, f"cannot be read as lines of numbers in gzip ({problem})") from problem
    if table.ndim != 2 or table.shape[1] != 1 + 16 * 16:
        raise fetch.unusable(path, f"{table.shape[-1]} numbers a line, expected a label and 256 grey levels")
    return table


def _pixels(path: Path, levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """(n, 256) grey levels as (n, 1, 16, 16) float32, by way of whole steps so that the text's digits do not matter."""
    steps = np.rint(levels * _STEPS)
    if np.abs(levels * _STEPS - steps).max() > 1e-6 or np.abs(steps).max() > _STEPS:
        raise fetch.unusable(path, "grey levels are not from -1 to 1 in steps of 0.001")
    return ((steps + _STEPS) / (2 * _STEPS)).astype(np.float32).reshape(-1, *SHAPE)
