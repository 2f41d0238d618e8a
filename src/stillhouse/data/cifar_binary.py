"""The binary distribution of CIFAR-10 and CIFAR-100: records of label bytes and 3072 pixel bytes in a tar archive.

Members are read by name into memory and nothing is extracted, so an archive can write nowhere, whatever it holds.
"""

import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from stillhouse.data.fetch import unusable
from stillhouse.sets import Split

SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32  # bytes of an image: red, green, blue, each row by row
_NAMES_LIMIT = 10_000  # bytes; the lists of class names are shorter


@dataclass(frozen=True)
class Layout:
    """Where things stand in an archive.

    train, test  members holding the records of a split, in order, equally many in each
    names        member listing the class names, one a line, in the order of their labels
    label_bytes  labels before the pixels of a record; the last is the one that counts
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int

    def batch_size(self, examples: int, members: Sequence[str]) -> int:
        """Bytes of one of `members`, which together hold so many `examples`."""
        return examples // len(members) * (self.label_bytes + _PIXELS)


def read(archive: Path, layout: Layout, classes: tuple[str, ...], train: int, test: int) -> tuple[Split, Split]:
    """Both splits of an archive with `train` and `test` examples: (n, 3, 32, 32) uint8 pixels, (n,) int64 labels.

    Raises UserError naming the archive when it is damaged, lacks a member, or one has another length or other classes.
    """
    sizes = {name: layout.batch_size(train, layout.train) for name in layout.train}
    sizes |= {name: layout.batch_size(test, layout.test) for name in layout.test}
    # One byte more than is right is enough to see that a member is too long.
    found = _members(archive, {name: size + 1 for name, size in sizes.items()} | {layout.names: _NAMES_LIMIT})
    for name, size in sizes.items():
        if len(found[name]) != size:
            raise unusable(archive, f"its member {name} is not {size} bytes long")
    if tuple(found[layout.names].decode("utf-8", errors="replace").split()) != classes:
        raise unusable(archive, f"its member {layout.names} lists other classes, or in another order")
    train_split, test_split = (
        _decoded([found[name] for name in names], layout.label_bytes) for names in (layout.train, layout.test)
    )
    return train_split, test_split


def _decoded(batches: Sequence[bytes], label_bytes: int) -> Split:
    records = [np.frombuffer(batch, np.uint8).reshape(-1, label_bytes + _PIXELS) for batch in batches]
    pixels = np.concatenate([r[:, label_bytes:] for r in records]).reshape(-1, *SHAPE)
    targets = np.concatenate([r[:, label_bytes - 1] for r in records]).astype(np.int64)
    return Split(torch.from_numpy(pixels), torch.from_numpy(targets))


def _members(archive: Path, limits: Mapping[str, int]) -> dict[str, bytes]:
    """At most so many bytes of each regular file that `limits` names, in one pass. Links are passed over."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive, "r|*") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                content = tar.extractfile(member) if name in limits and member.isreg() else None
                if content is not None:
                    found[name] = content.read(limits[name])
                if len(found) == len(limits):
                    return found
    except (tarfile.TarError, EOFError, zlib.error, OSError) as problem:
        raise unusable(archive, f"cut short or damaged ({problem})") from problem
    raise unusable(archive, f"has no file {', '.join(name for name in limits if name not in found)}")
