"""Files that hold tensors and a recipe: safetensors, never a pickle; same content, same bytes; checked when read.

The header has one entry, `stillhouse`: a JSON text with sorted keys, because the order of several entries would change
from run to run. It carries a sha256 over everything else in the file, so a cut or edited file is refused.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stillhouse.errors import UserError

_HEADER = "stillhouse"


def write(path: Path, kind: str, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-able `header` to `path` in one step: a reader sees the whole file or none."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = json.loads(json.dumps({"kind": kind, **header}))  # as it will be read: keys are text, tuples are lists
    digest = _digest(stored, json.dumps(content, sort_keys=True))
    sealed = json.dumps({"content": content, "sha256": digest}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        temporary = Path(folder) / path.name
        try:
            save_file(stored, temporary, metadata={_HEADER: sealed})
        except (OSError, SafetensorError) as problem:
            raise UserError(f"{path}: cannot write: {problem}. Free some space or choose another folder.") from problem
        temporary.chmod(0o644)
        os.replace(temporary, path)


def read(path: Path, kind: str, verify: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors and the header of a file written by `write`.

    `verify=False` skips the digest of the tensors, for large files whose content has a fingerprint of its own; where the
    platform allows they are memory-mapped then.
    Raises UserError when the file is missing, cut short, edited, or of another kind.
    """
    with _safe(path) as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    header = _opened(path, kind, metadata)
    if verify and _digest(tensors, json.dumps(header["content"], sort_keys=True)) != header["sha256"]:
        raise UserError(f"{path}: its content was changed after it was written. Make it again or pull it again.")
    if verify:
        # In the file a tensor lies wherever its header ends, and a product's last bits depend on where its factors lie.
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    return tensors, header["content"]


def place(path: Path, content: bytes) -> None:
    """Write any file in one step: a reader sees the whole of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def cost_path(path: Path) -> Path:
    """The file beside a result that says what it took to make: the one thing that differs from run to run."""
    return path.with_suffix(".cost.json")


def recipe_path(path: Path) -> Path:
    """The file beside a table of rows that says what made it."""
    return path.with_suffix(".recipe.json")


def header(path: Path) -> dict[str, Any]:
    """The header alone of a file of any kind, without reading or checking the tensors. Raises UserError as `read` does."""
    with _safe(path) as file:
        content: dict[str, Any] = _opened(path, "", file.metadata() or {})["content"]
    return content


@contextlib.contextmanager
def _safe(path: Path) -> Iterator[Any]:
    """The file, open; what is wrong with it becomes one line."""
    if not path.is_file():
        raise UserError(f"{path}: no such file. Make it with snakemake, or fetch it with 'make pull'.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as problem:
        text = f"{path}: not a complete safetensors file ({problem}). Make it again or pull it again."
        raise UserError(text) from problem


def _opened(path: Path, kind: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(metadata[_HEADER])
        found = header["content"]["kind"]
    except (KeyError, TypeError, ValueError) as problem:
        raise UserError(
            f"{path}: a safetensors file, but not one that Stillhouse wrote. Expected a {kind or 'result'}."
        ) from problem
    if kind and found != kind:
        raise UserError(f"{path}: holds a {found}; expected a {kind}.")
    return header


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data if tensor.numel() else b"")
    return digest.hexdigest()
