"""Files as bytes: what identifies one, and writing one in a single step."""

import hashlib
import os
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


def place(path: Path, content: bytes) -> None:
    """Write in one step: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)
