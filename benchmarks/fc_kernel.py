"""Seconds for a block of the fully connected NTK (one hidden ReLU layer, 5000 x 500 x 3072, float32) and for its gradient.

    python benchmarks/fc_kernel.py [--threads 1 2] [--rounds K] [--neural-tangents PYTHON]

The gradient is that of sum(G K), G random, with respect to the 500: what a step of KIP needs. Compared, turn by turn in one
run, each with the fastest of its turns: the expression written plainly for autograd; neural-tangents, jitted, in a process of
the interpreter PYTHON that has it; and the matrix products alone, one for the value and two for the gradient, which nothing
can fall below. Exits with status 1 when ours is slower than the plain expression or neural-tangents, or does not agree.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from stillhouse import kernels, linalg
from stillhouse.kernels.fully_connected import Params

REAL, DISTILLED, DIM = 5000, 500, 3072
WEIGHT, BIAS = 2.0, 0.01
AGREE = 1e-5  # relative difference of values and gradients, at most
PARTS = ("value", "gradient")


def plain(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The NTK as it is written, (a, b)."""
    kernel = WEIGHT * (one @ other.T) / one.shape[1] + BIAS
    rows, columns = (WEIGHT * each.square().mean(1) + BIAS for each in (one, other))
    norm = (rows[:, None] * columns).sqrt()
    cosine = (kernel / norm).clamp(-1, 1)
    dot = (math.pi - cosine.arccos()) / (2 * math.pi)
    last = WEIGHT * (norm * (1 - cosine.square()).sqrt() / (2 * math.pi) + dot * kernel) + BIAS
    return last + WEIGHT * dot * kernel


class NeuralTangents:
    """neural-tangents in a process of its own, that computes when it is asked to."""

    def __init__(self, python: str, folder: Path, threads: int) -> None:
        script = Path(__file__).parent / "neural_tangents" / "fc_kernel.py"
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [python, str(script), str(folder), str(threads)],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if self._answer() != "ready":
            sys.exit(f"{python}: neural-tangents does not run there; see {script.name}")

    def seconds(self, part: str) -> float:
        """Of one computation."""
        assert self._process.stdin is not None
        print(part, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def gradient(
    kernel: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    one: torch.Tensor,
    other: torch.Tensor,
    g: torch.Tensor,
) -> torch.Tensor:
    """Of sum(G K) with respect to `other`."""
    tracked = other.clone().requires_grad_()
    (found,) = torch.autograd.grad((kernel(one, tracked) * g).sum(), tracked)
    return found


def compare(threads: int, rounds: int, python: str | None, folder: Path) -> bool:
    """Time everything with so many threads, print it, judge it."""
    torch.set_num_threads(threads)
    one, other, g = (torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("one", "other", "weights"))
    ours = kernels.build(Params(weight_variance=WEIGHT, bias_variance=BIAS), (DIM,))
    calls: dict[str, dict[str, Callable[[], float]]] = {
        "ours": {
            "value": lambda: seconds(lambda: ours(one, other)),
            "gradient": lambda: seconds(lambda: gradient(ours, one, other, g)),
        },
        "products": {
            "value": lambda: seconds(lambda: one @ other.T),
            "gradient": lambda: seconds(lambda: (one @ other.T, g.T @ one)),
        },
        "plain": {
            "value": lambda: seconds(lambda: plain(one, other)),
            "gradient": lambda: seconds(lambda: gradient(plain, one, other, g)),
        },
    }
    found = {"value": ours(one, other), "gradient": gradient(ours, one, other, g)}
    wanted = [{"value": plain(one, other), "gradient": gradient(plain, one, other, g)}]
    theirs = None if python is None else NeuralTangents(python, folder, threads)
    if theirs is not None:
        calls["theirs"] = {part: partial(theirs.seconds, part) for part in PARTS}
        wanted.append({part: torch.from_numpy(np.load(folder / f"{part}.npy")) for part in PARTS})
    best = {(who, part): math.inf for who in calls for part in PARTS}
    for _ in range(rounds):
        for part in PARTS:
            for who in calls:
                best[who, part] = min(best[who, part], calls[who][part]())
    if theirs is not None:
        theirs.close()
    met = True
    for part in PARTS:
        own, bound = best["ours", part], best["products", part]
        apart = max(linalg.relative_error(found[part], other_way[part]) for other_way in wanted)
        line = f"{threads:7}  {part:10}{own:9.3f}{bound:11.3f}{own / bound:8.2f}x"
        for who in ("plain", "theirs"):
            line += f"{best[who, part]:9.3f}{best[who, part] / own:8.2f}x" if who in calls else f"{'-':>18}"
            met &= best.get((who, part), math.inf) >= own
        print(f"{line}{apart:12.1e}", flush=True)
        met &= apart < AGREE
    return met


def main() -> None:
    """Run all, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each; the fastest counts (default 10)")
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="an interpreter that has neural-tangents")
    chosen = parser.parse_args()
    if chosen.neural_tangents is None:
        print("neural-tangents: not compared (name an interpreter that has it with --neural-tangents)")
    print(f"NTK of {REAL} x {DISTILLED} examples with {DIM} values, float32, {os.cpu_count()} processors; seconds")
    print(f"{'threads':>7}  {'':10}{'ours':>9}{'products':>11}{'ratio':>9}{'plain':>9}{'ratio':>9}"
          f"{'theirs':>9}{'ratio':>9}{'difference':>12}")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        for part, size in (("one", (REAL, DIM)), ("other", (DISTILLED, DIM)), ("weights", (REAL, DISTILLED))):
            np.save(folder / f"{part}.npy", rng.standard_normal(size, dtype=np.float32))
        met = [compare(threads, chosen.rounds, chosen.neural_tangents, folder) for threads in chosen.threads]
    print("targets met" if all(met) else f"TARGET MISSED (no slower than the others, differences below {AGREE:g})")
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
