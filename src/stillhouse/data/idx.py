"""The idx format of MNIST and the sets made like it: a header with the lengths of the axes, then the bytes."""

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from stillhouse.data.fetch import unusable
from stillhouse.errors import UserError
from stillhouse.sets import Split

_UNSIGNED_BYTE = 0x08  # third byte of the magic number: the type of the values; the fourth is the number of axes


def read_splits(paths: Sequence[Path], counts: tuple[int, int], shape: tuple[int, int, int]) -> tuple[Split, Split]:
    """Training and test split, of so many examples, from `paths`: images and labels of one, then of the other."""
    train_images, train_labels, test_images, test_labels = paths
    train = read_split(train_images, train_labels, counts[0], shape)
    return train, read_split(test_images, test_labels, counts[1], shape)


def read_split(images: Path, labels: Path, count: int, shape: tuple[int, int, int]) -> Split:
    """One split from its two files: (count, *shape) uint8 pixels with one channel, (count,) int64 labels."""
    pixels = read(images, (count, *shape[1:])).reshape(count, *shape)
    targets = read(labels, (count,)).astype(np.int64)
    return Split(torch.from_numpy(pixels), torch.from_numpy(targets))


def read(path: Path, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The bytes in an idx file, compressed or not, which must have exactly this shape.

    Raises UserError naming the file when it is damaged, cut short, too long, or holds something else.
    """
    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTE, len(shape), *shape)
    size = int(np.prod(shape))
    content = _content(path, len(header) + size + 1)
    if content[: len(header)] != header:
        raise unusable(path, f"not an idx file of {' x '.join(map(str, shape))} bytes")
    if len(content) != len(header) + size:
        found = "more" if len(content) > len(header) + size else f"{len(content) - len(header)}"
        raise unusable(path, f"holds {found} values after its header, which announces {size}")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(tuple(shape))


def _content(path: Path, limit: int) -> bytearray:
    """The first `limit` bytes of what `path` holds, decompressed if it is gzip; no more is ever unpacked."""
    try:
        with path.open("rb") as stream:
            compressed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            return bytearray(stream.read(limit))
    except (EOFError, zlib.error, gzip.BadGzipFile) as problem:
        raise unusable(path, "cut short or damaged") from problem
    except OSError as problem:
        raise UserError(f"{path}: cannot be read: {problem.strerror}. Check the file and its permissions.") from problem
