"""What a computation gets from outside: chance, a device, a place to report and to keep what it has done so far."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from tqdm import tqdm

from stillhouse import machine
from stillhouse.errors import UserError
from stillhouse.sets import RealSet
from stillhouse.teacher import Teacher

T = TypeVar("T")

_WORTH_FORETELLING = 50  # steps: below, what is foretold would be over as soon as it is told


State = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]


class Store(Protocol):
    """Where a long computation keeps what it has done so far, so that a killed one goes on where it stopped."""

    folder: Path  # for files that the computation makes again if they are lost; its own, removed when it ends

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The state offered last that was kept, or None at the start."""

    def offer(self, state: Callable[[], State]) -> None:
        """Keep the state if enough time has passed since the last one; `state` is called only then."""

    def record(self, numbers: Mapping[str, float]) -> None:
        """Add a line to the record of how the computation goes; the store adds the seconds spent so far."""


@dataclass(frozen=True)
class Run:
    """One seed on one device.

    seed      decides everything that is drawn
    device    where large tensors live
    log       what a person wants to know afterwards
    show      draw progress bars (only when a person is watching)
    teachers  teachers that are already trained, for methods that need one
    others    prepared real sets beside the one in hand, by name, for methods that read one
    store     where a long computation keeps its state, or None
    clock     seconds, to say how long a long computation will take; no result depends on it, and None says nothing
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("stillhouse"))
    show: bool = False
    teachers: tuple[Path, ...] = ()
    others: Mapping[str, Path] = field(default_factory=dict)
    store: Store | None = None
    clock: Callable[[], float] | None = None

    def generator(self, purpose: str) -> torch.Generator:
        """A generator for one purpose; draws for one purpose do not move those for another."""
        return torch.Generator().manual_seed(stream(self.seed, purpose))

    def progress(self, items: Iterable[T], total: int, what: str) -> Iterator[T]:
        """The items, with a progress bar on a terminal."""
        yield from tqdm(items, total=total, desc=what, disable=not self.show, leave=False, file=sys.stderr)

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The state to go on from, or None to start at the beginning."""
        return None if self.store is None else self.store.kept()

    def offer(self, state: Callable[[], State]) -> None:
        """Offer the state after a step, to be kept now and then: tensors, and JSON-able values."""
        if self.store is not None:
            self.store.offer(state)

    def record(self, **numbers: float) -> None:
        """Say how it goes: a line of numbers for the cost file, where the seconds stand beside it."""
        self.log.debug("%s", numbers)
        if self.store is not None:
            self.store.record(numbers)

    def foretell(self, what: str, steps: int, trial: Callable[[], object]) -> None:
        """Say, before so many steps begin, how long they will take and how much memory: from one `trial` that is timed.

        A trial must change nothing that a step depends on. The first is for what happens once, such as filling caches.
        """
        if self.clock is None or steps < _WORTH_FORETELLING:
            return
        trial()
        began = self.clock()
        trial()
        seconds = self.clock() - began
        self.log.info(
            "%s: %d steps of about %.2g s, %s in all; %.0f MB so far",
            what, steps, seconds, _duration(steps * seconds), machine.peak_memory() / 1e6,
        )  # fmt: skip

    def other(self, name: str) -> RealSet:
        """A real set beside the one in hand. Raises UserError where it is not there."""
        if name not in self.others:
            raise UserError(
                f"{name}: this method reads that data set too. Give its prepared file (--other {name} FILE)."
            )
        return RealSet.load(self.others[name])

    def find_teacher(self, model: object, seed: int, fingerprint: str) -> Teacher | None:
        """The teacher of this model, seed and data among `teachers`, or None."""
        for path in self.teachers:
            teacher = Teacher.load(path)
            if (teacher.model, teacher.seed, teacher.data["fingerprint"]) == (model, seed, fingerprint):
                return teacher
        return None


def start(
    device: str, threads: int, seed: int = 0, teachers: tuple[Path, ...] = (), others: Mapping[str, Path] | None = None
) -> Run:
    """A run on a device by name ('auto': a GPU where there is one), with so many CPU threads and without TF32.

    Raises UserError where the device cannot be used.
    """
    machine.keep_freed_memory()
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    name = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as problem:
        raise UserError(
            f"--device {name}: not usable here ({str(problem).splitlines()[0]}). Use cpu or auto."
        ) from None
    if found.type not in ("cpu", "cuda"):
        raise UserError(f"--device {name}: expected cpu, cuda or auto.")
    return Run(
        seed=seed, device=found, show=sys.stderr.isatty(), teachers=teachers, others=others or {}, clock=machine.seconds
    )


@contextlib.contextmanager
def one_thread_each() -> Iterator[int]:
    """Meanwhile each of Python's threads computes on one core; gives the number of those that this process may use."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield cores
    finally:
        torch.set_num_threads(cores)


def _duration(seconds: float) -> str:
    """'40 s', '12 min' or '3.5 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def stream(seed: int, purpose: str) -> int:
    """A 63-bit seed from a seed and a purpose."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
