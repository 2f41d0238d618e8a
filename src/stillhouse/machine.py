"""What this machine offers, and what only one process on it may do; without importing anything heavy."""

import ctypes
import fcntl
import resource
import sys
import time
from pathlib import Path
from typing import TextIO

from stillhouse.errors import UserError

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


def gpus() -> int:
    """NVIDIA GPUs of this machine, counted by their device files; 0 where the driver makes none."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def hold(lock: Path) -> TextIO:
    """Hold `lock` until the file returned is closed, or this process ends in whatever way: a killed run leaves no lock.

    Raises UserError while another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = lock.open("a", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"{lock}: another run is working in this folder. Wait until it has ended.") from None
    return file


def seconds() -> float:
    """A clock for durations."""
    return time.perf_counter()


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_freed_memory() -> None:
    """Have the C library keep up to 1 GB that is freed for what is allocated next, where it is glibc.

    Left alone it gives every tensor above 32 MB, and many below, back to the system, which hands its pages out again one by one
    and cleared: a quarter of the time of a ConvNet's gradient.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(_TRIM_THRESHOLD, 1 << 30)
