"""Where a long computation keeps its state on disk: named for its recipe, so that another one's state is never taken up."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from stillhouse import artifact
from stillhouse.run import State


class Store:
    """State and record of one computation, in a folder of its own."""

    def __init__(self, folder: Path, interval: float = 60.0) -> None:
        """Take up what is in `folder`, if anything; keep a state every `interval` seconds."""
        self.folder, self._interval = folder, interval
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "state.safetensors"
        self._tensors: dict[str, torch.Tensor] | None = None
        self._numbers: dict[str, Any] = {}
        self.records: list[dict[str, float]] = []
        earlier = 0.0
        if self._file.is_file():
            self._tensors, header = artifact.read(self._file, "state")
            self._numbers, self.records, earlier = header["numbers"], header["records"], header["seconds"]
        self._began = time.perf_counter() - earlier
        self._kept_at = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Spent on this computation, in earlier runs up to the state taken up, and in this one."""
        return time.perf_counter() - self._began

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The state kept last, or None."""
        return None if self._tensors is None else (dict(self._tensors), self._numbers)

    def offer(self, state: Callable[[], State]) -> None:
        """Keep the state if it is time."""
        if time.perf_counter() - self._kept_at < self._interval:
            return
        tensors, numbers = state()
        header: Mapping[str, Any] = {"numbers": numbers, "records": self.records, "seconds": self.seconds}
        artifact.write(self._file, "state", tensors, header)
        self._kept_at = time.perf_counter()

    def record(self, numbers: Mapping[str, float]) -> None:
        """Add a line with the seconds spent so far."""
        self.records.append({"seconds": round(self.seconds, 3), **numbers})

    def remove(self) -> None:
        """The computation has ended and its result is written: nothing is left to take up."""
        shutil.rmtree(self.folder)
