"""Speed and memory of exact distillation's costly part, the teacher, against the obvious way, in one run.

    python benchmarks/exact_krr.py [--data FILE] [--threads N] [--plain-ridges K]

Both fit ridge regression on CIFAR-10's FCNN features (p = 3072), choose among the 24 ridges by validation accuracy and give
the weights. The obvious way holds the full feature matrix and, for every ridge, forms the Gram matrix and solves, as the
authors' code does. Ours: one pass over chunks, one eigendecomposition. Each way runs in a process of its own, so
that its peak memory is its own. Exits with status 1 when a target is missed. Without a prepared CIFAR-10 file, random pixels of
its size stand in: times do not depend on the values.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from stillhouse import settings, spaces
from stillhouse.evaluation import judge
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split
from stillhouse.teacher import Teacher

SPEEDUP = 12  # at least
RATE = 0.7  # of the machine's matrix-multiply rate, at least, while accumulating
MODEL = {"kind": "ridge", "features": "random_network", "space": "standardised"}


def random_cifar() -> RealSet:
    """Random pixels of CIFAR-10's size."""
    rng = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=rng)
        return Split(pixels, torch.randint(0, 10, (count,), generator=rng))

    return RealSet("random pixels", split(50_000), split(10_000), tuple("0123456789"), "", "")


def ours(real: RealSet, params: ridge.Params) -> dict[str, float]:
    """One pass, one eigendecomposition, the whole path."""
    run = Run(seed=0)
    embedding = ridge.embed(params, real, run.seed)
    fitted, _ = ridge.split(len(real.train), params.validation, run.seed)
    started = time.perf_counter()
    teacher = ridge.fit_real(real, params, run)
    seconds = time.perf_counter() - started
    started = time.perf_counter()
    ridge.moments(real, embedding, fitted, run)
    accumulating = time.perf_counter() - started
    started = time.perf_counter()
    features_only(real, embedding, fitted)
    featuring = time.perf_counter() - started
    return {"seconds": seconds, "accumulating": accumulating, "featuring": featuring, **scored(real, teacher)}


def plain(real: RealSet, params: ridge.Params, ridges: int) -> dict[str, float]:
    """The full feature matrix; for every ridge its Gram matrix again and a solve. Runs `ridges` of them, scales to all."""
    run = Run(seed=0)
    embedding = ridge.embed(params, real, run.seed)
    fitted, held_out = ridge.split(len(real.train), params.validation, run.seed)
    grid = params.ridge.values()
    started = time.perf_counter()
    features, targets = whole(real, embedding, fitted)
    validation, labels = whole(real, embedding, held_out)
    prepared = time.perf_counter() - started
    best, weights, chosen = -1.0, torch.empty(0), 0.0
    tried = grid[-ridges:]  # each ridge costs the same; the best is among the larger ones
    started = time.perf_counter()
    for value in tried:
        gram = features.T @ features + value * torch.eye(features.shape[1], dtype=torch.float64)
        found = torch.linalg.solve(gram, features.T @ targets)
        accuracy = float(((validation @ found).argmax(1) == labels.argmax(1)).double().mean())
        if accuracy >= best:
            best, weights, chosen = accuracy, found, value
    each = (time.perf_counter() - started) / len(tried)
    notes = {"ridge": chosen}
    teacher = ridge._teacher(params, run.seed, weights, embedding, real, notes)
    return {"seconds": prepared + each * len(grid), "each": each, "tried": len(tried), **scored(real, teacher)}


def whole(real: RealSet, embedding: ridge.Embedding, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All features (n, p) and one-hot targets (n, c) in float64."""
    pixels, labels = next(iter(real.train.chunks(len(index), index)))
    return embedding.features(pixels).to(torch.float64), spaces.one_hot(labels, real.n_classes)


def features_only(real: RealSet, embedding: ridge.Embedding, index: torch.Tensor) -> None:
    """What reading and embedding alone cost."""
    for pixels, _ in real.train.chunks(2048, index):
        embedding.features(pixels)


def scored(real: RealSet, teacher: Teacher) -> dict[str, float]:
    """Test accuracy and the chosen ridge."""
    return {"accuracy": judge.accuracy(teacher, real, Run()), "ridge": teacher.notes["ridge"]}


def multiply_rate(dtype: torch.dtype, size: int = 3072) -> float:
    """Multiplications and additions per second of a square matrix product, the best of three."""
    a = torch.randn(size, size, dtype=dtype)
    a @ a
    times = []
    for _ in range(3):
        started = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def one(way: str, arguments: argparse.Namespace) -> None:
    """Run one way and print its numbers as JSON."""
    torch.set_num_threads(arguments.threads)
    real = RealSet.load(arguments.data) if arguments.data.is_file() else random_cifar()
    params = settings.parse_plugin("models", MODEL, "benchmark")
    numbers = ours(real, params) if way == "ours" else plain(real, params, arguments.plain_ridges)
    numbers["memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({**numbers, "data": real.name, "examples": len(real.train), "features": real.dim}))


def main() -> None:
    """Run both ways, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/cifar10.safetensors"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--plain-ridges", type=int, default=24, help="ridges the obvious way really runs (default: all 24)"
    )
    parser.add_argument("--way", choices=["ours", "plain"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        one(arguments.way, arguments)
        return
    results = {way: measured(way) for way in ("plain", "ours")}
    torch.set_num_threads(arguments.threads)
    sys.exit(report(results["plain"], results["ours"], arguments.threads))


def measured(way: str) -> dict[str, float]:
    """The numbers of one way, from a process of its own."""
    done = subprocess.run([sys.executable, *sys.argv, "--way", way], check=True, capture_output=True, text=True)
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def report(plain: dict[str, float], ours: dict[str, float], threads: int) -> int:
    """Print the comparison; 0 if every target is met, else 1."""
    n, p = 0.95 * ours["examples"], ours["features"]
    ratio = plain["seconds"] / ours["seconds"]
    # What accumulation has to do: features n x d x p in float32, the Gram matrix's upper half in float64.
    wanted = 2 * n * p * p / multiply_rate(torch.float32) + n * p * (p + 1) / multiply_rate(torch.float64)
    rate = wanted / ours["accumulating"]
    gram = n * p * (p + 1) / multiply_rate(torch.float64) / (ours["accumulating"] - ours["featuring"])
    print(f"{ours['data']}, {n:.0f} x {p} features, 24 ridges, {threads} threads")
    print(f"{'':14}{'seconds':>10}{'memory, MB':>12}{'accuracy, %':>13}{'ridge':>10}")
    for name, row in (("obvious way", plain), ("ours", ours)):
        print(f"{name:14}{row['seconds']:10.1f}{row['memory_mb']:12.0f}{row['accuracy']:13.2f}{row['ridge']:10.3g}")
    if plain["tried"] < 24:
        print(f"obvious way: {plain['tried']:.0f} ridges run at {plain['each']:.2f} s each, scaled to 24")
    print(f"speed-up {ratio:.1f}x (target {SPEEDUP}x), memory {plain['memory_mb'] / ours['memory_mb']:.1f}x less")
    print(f"accumulation: {100 * rate:.0f} % of the machine's matrix-multiply rate (target {100 * RATE:.0f} %)")
    print(f"its Gram part alone: {100 * gram:.0f} %")
    same = abs(plain["accuracy"] - ours["accuracy"]) < 0.005 and abs(plain["ridge"] / ours["ridge"] - 1) < 1e-9
    met = ratio >= SPEEDUP and rate >= RATE and (same or plain["tried"] < 24)
    print("targets met" if met else "TARGET MISSED")
    return 0 if met else 1


if __name__ == "__main__":
    main()
