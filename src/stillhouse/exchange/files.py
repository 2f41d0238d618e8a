"""Files of others as bytes: whether there is one, and what identifies it."""

import hashlib
from pathlib import Path

from stillhouse.errors import UserError


def sha256(path: Path) -> str:
    """The sha256 of a file's bytes. Raises UserError when there is no such file."""
    check(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path) -> None:
    """Raise UserError unless there is a file at `path`."""
    if not path.is_file():
        raise UserError(f"{path}: no such file. Give the path of the file that holds the set.")
