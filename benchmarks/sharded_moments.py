"""Time and memory of the one pass over a real set, as it grows, and the same pass shared by several jobs.

    python benchmarks/sharded_moments.py [--features P] [--examples N ...] [--shards S] [--threads T]

Sums Gram and cross-moments of synthetic features (p = 1024, 10 classes), made chunk by chunk and never held, for 125 000 to
1 000 000 examples. Each size runs in a process of its own, so that its peak memory is its own. Seconds are the process's
own on the CPU, so that a busy machine does not bend the line; those on the clock stand beside them. Making the examples is not
counted. The shards of the smallest size run in processes of their own too, and are merged through their files. Exits
with status 1 when a target is missed.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from stillhouse import linalg, moments, spaces
from stillhouse.linalg import Moments
from stillhouse.moments import Part, Statistics

CHUNK = 2048
CLASSES = 10
SAME = 1e-12  # relative difference of merged shards and one job, at most
LINEAR = 0.2  # relative difference of the seconds per example at the largest size and at a quarter of it, at most
MEMORY = 0.05  # relative growth of peak memory from the smallest size to the largest, at most
DATA = {"name": "synthetic", "fingerprint": "none", "order": "none"}


def chunk(number: int, count: int, features: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (b, p), float32 as a feature map makes them, and one-hot targets (b, c) of the `number`-th chunk of all."""
    rng = torch.Generator().manual_seed(number)
    rows = torch.randn(CHUNK, features, generator=rng)
    labels = torch.randint(CLASSES, (CHUNK,), generator=rng)
    kept = min(CHUNK, count - number * CHUNK)
    return rows[:kept], spaces.one_hot(labels[:kept], CLASSES)


def summed(count: int, features: int, start: int, stop: int) -> tuple[Moments, float, float]:
    """The moments of examples `start` to `stop` of `count`, with the seconds on the CPU and on the clock that adding took."""
    sums, cpu, clock = Moments(features, CLASSES), 0.0, 0.0
    for number in range(start // CHUNK, -(-stop // CHUNK)):
        rows, targets = chunk(number, count, features)
        own = slice(max(start - number * CHUNK, 0), stop - number * CHUNK)
        began = time.process_time(), time.perf_counter()
        sums.add(rows[own], targets[own])
        cpu, clock = cpu + time.process_time() - began[0], clock + time.perf_counter() - began[1]
    return sums, cpu, clock


def job(arguments: argparse.Namespace) -> None:
    """Sum one shard, save it if asked, print what it took as JSON."""
    torch.set_num_threads(arguments.threads)
    count, number, shards = arguments.job
    start, stop = moments.shard(count, number, shards)
    sums, cpu, clock = summed(count, arguments.features, start, stop)
    if arguments.out:
        part = Part(DATA, count, start, stop)
        shape = (arguments.features,)
        Statistics(sums, {}, 0, {"kind": "pixels"}, shape, tuple("0123456789"), (part,)).save(arguments.out)
    # Linux counts in kilobytes, macOS in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"cpu": cpu, "clock": clock, "memory_mb": peak / 1e6, "examples": sums.count}))


def started(arguments: argparse.Namespace, count: int, number: int, shards: int, out: Path | None) -> dict[str, float]:
    """The numbers of one job, from a process of its own."""
    options = ["--features", arguments.features, "--threads", arguments.threads, "--job", count, number, shards]
    options += ["--out", out] if out else []
    done = subprocess.run([sys.executable, __file__, *map(str, options)], check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def merging(arguments: argparse.Namespace, count: int) -> float:
    """How far the merged moments of several jobs are from those of one, relatively: the larger of F^T F and F^T Y."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(arguments.shards + 1)]
        started(arguments, count, 1, 1, files[0])
        for number, file in enumerate(files[1:], 1):
            started(arguments, count, number, arguments.shards, file)
        one, many = Statistics.load(files[0]).moments, moments.load_merged(files[1:]).moments
    return max(linalg.relative_error(many.gram, one.gram), linalg.relative_error(many.cross, one.cross))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """b of seconds = a n^b, by least squares on the logarithms."""
    logs = torch.tensor([sizes, seconds], dtype=torch.float64).log()
    x, y = logs - logs.mean(1, keepdim=True)
    return float((x @ y) / (x @ x))


def slope(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """Seconds per example of the line through zero that fits best, and the largest relative deviation from it."""
    n, t = torch.tensor([sizes, seconds], dtype=torch.float64)
    found = float((n @ t) / (n @ n))
    return found, float((t / (found * n) - 1).abs().max())


def main() -> None:
    """Run every size, then the shards, print and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--examples", type=int, nargs="+", default=[125_000, 250_000, 500_000, 1_000_000])
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--job", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job(arguments)
        return
    sys.exit(report(arguments, sorted(arguments.examples)))


def report(arguments: argparse.Namespace, sizes: list[int]) -> int:
    """Print the measurements; 0 if every target is met, else 1."""
    print(f"p = {arguments.features}, {CLASSES} classes, {arguments.threads} threads")
    print(f"{'examples':>10}{'CPU s':>9}{'clock s':>9}{'CPU us/example':>16}{'memory, MB':>12}")
    found = []
    for size in sizes:
        found.append(started(arguments, size, 1, 1, None))
        row = found[-1]
        each = 1e6 * row["cpu"] / size
        print(f"{size:10}{row['cpu']:9.2f}{row['clock']:9.2f}{each:16.2f}{row['memory_mb']:12.1f}", flush=True)
    seconds = [row["cpu"] for row in found]
    per_example, deviation = slope(sizes, seconds)
    quarter = min(range(len(sizes)), key=lambda i: abs(sizes[i] - sizes[-1] / 4))
    bend = (seconds[-1] / sizes[-1]) / (seconds[quarter] / sizes[quarter]) - 1
    growth = found[-1]["memory_mb"] / found[0]["memory_mb"] - 1
    error = merging(arguments, sizes[0])
    print(f"{1e6 * per_example:.2f} us/example, largest deviation from that line {100 * deviation:.1f} %,"
          f" time grows as n^{exponent(sizes, seconds):.3f}")  # fmt: skip
    print(
        f"per example, {sizes[-1]} against {sizes[quarter]}: {100 * bend:+.1f} % (target within {100 * LINEAR:.0f} %)"
    )
    print(f"memory, {sizes[-1]} against {sizes[0]}: {100 * growth:+.1f} % (target below +{100 * MEMORY:.0f} %)")
    print(f"{arguments.shards} shards merged against one job: {error:.1e} (target {SAME:.0e})")
    met = abs(bend) <= LINEAR and growth <= MEMORY and error <= SAME
    print("targets met" if met else "TARGET MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    main()
