"""The formats by their names, and the two ways through them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from stillhouse.errors import UserError
from stillhouse.exchange import hugging_face, image_folder, npz, torch_file
from stillhouse.exchange.assemble import assemble
from stillhouse.exchange.declared import Declared
from stillhouse.exchange.found import Found
from stillhouse.sets import DistilledSet, RealSet

_log = logging.getLogger(__name__)

READERS: dict[str, Callable[[Path, int | None], Found]] = {
    "dc": torch_file.read_dc,
    "mtt": torch_file.read_mtt,
    "kip": npz.read_kip,
    "rfad": npz.read_rfad,
    "folder": image_folder.read,
    "npz": npz.read_npz,
    "tensors": torch_file.read_tensors,
}
WRITERS: dict[str, Callable[[DistilledSet, Path], object]] = {
    "folder": image_folder.write,
    "npz": npz.write_npz,
    "tensors": torch_file.write_tensors,
    "hugging_face": hugging_face.write,
}


def import_set(path: Path, format: str, real: RealSet, declared: Declared, index: int | None = None) -> DistilledSet:
    """The set in the file `path`, which is in one of READERS' formats. Raises UserError saying what is wrong with which file."""
    found = READERS[format](path, index)
    try:
        return assemble(found, real, declared, format)
    except UserError as problem:
        where = "" if str(problem).startswith("--") else f"{path}: "
        raise UserError(f"{where}{problem}") from None


def export_set(distilled: DistilledSet, path: Path, format: str) -> None:
    """Write the set in one of WRITERS' formats. Raises UserError where the format cannot hold it."""
    WRITERS[format](distilled, path)
    _log.info("%s: %d examples as %s", path, len(distilled), format)
