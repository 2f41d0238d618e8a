"""What every stage leaves beside its result: what the run cost."""

import contextlib
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stillhouse import artifact, machine
from stillhouse.stages.store import Store


def write_text(path: Path, text: str) -> None:
    """Write in one step: a reader sees the whole file or none."""
    artifact.place(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write as indented JSON with sorted keys."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


@contextlib.contextmanager
def cost(path: Path, device: str, threads: int, store: Store | None = None) -> Iterator[None]:
    """Write, after the block, what it took: seconds, the process's peak memory in MB, and on what machine.

    With a store, the seconds of the runs that were interrupted count too, and the record of how it went stands there as well.
    """
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started if store is None else store.seconds
    peak = machine.peak_memory() / 1e6
    found: dict[str, Any] = {"seconds": round(seconds, 3), "peak_memory_mb": round(peak), "host": platform.node()}
    found |= {"device": device, "threads": threads}
    if store is not None and store.records:
        found["record"] = store.records
    write_json(artifact.cost_path(path), found)
