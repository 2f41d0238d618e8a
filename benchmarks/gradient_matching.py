"""Seconds of an outer step of DC, against the class-by-class loop of its recipe, in one run.

    python benchmarks/gradient_matching.py [--data FILE] [--per-class 1 10] [--rounds N] [--classes K] [--device D] [--threads N]

DC (Zhao, Mopuri, Bilen 2021) with its ConvNet on CIFAR-10: an update matches the gradient of 256 real images of each class,
and between two updates of a step the network is trained on the distilled images. The plain loop is written here: PyTorch's own
layers, whole batches, float32, one backward pass through the sum over classes. Ours is methods/gradient_matching in float32,
whose images' gradient must be the same, and with the real images' products in bfloat16. A step's seconds are those of one
update times their number, and of one epoch of the network times theirs. The variants take turns; of their ratios the median
counts. On a CPU seconds are of computing, whatever else runs there.

Exits with status 1 when gradients differ, or when the best variant of equal accuracy misses the target. Reduced precision counts
where the study `dc_precision` has its accuracy over seeds beside that of float32. Without a prepared file, random pixels serve.
"""

import argparse
import copy
import csv
import functools
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillhouse import linalg, run, settings
from stillhouse.methods import gradient_matching, matching
from stillhouse.methods.matching import RealImages
from stillhouse.sets import RealSet, Split

TARGETS = {"cpu": 1.8, "cuda": 3.0}  # at least, at every size
AGREE = 1e-5  # relative difference of the images' gradients in float32, at most
MODEL = {"kind": "convnet", "space": "standardised"}
REPORT = Path("results/report/dc_precision.csv")
EXACT, ROUGH = "dc", "dc_bf16"  # its experiments in float32 and with the real images' products in bfloat16


class Drawn:
    """Real images that are drawn already, of the first classes alone."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self._batches = batches

    def draw(self, count: int, rng: torch.Generator) -> Iterator[torch.Tensor]:
        """What was drawn."""
        return iter(self._batches)


def random_cifar() -> RealSet:
    """Random pixels of CIFAR-10's size."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8, generator=rng)
    split = Split(images, torch.arange(5000) % 10)
    return RealSet("random pixels", split, split, tuple("0123456789"), "", "")


def plain_network(like: nn.Module, device: torch.device) -> nn.Sequential:
    """DC's ConvNet of PyTorch's layers, with the weights of `like`."""
    blocks = [
        (nn.Conv2d(channels, 128, 3, padding=1), nn.GroupNorm(128, 128), nn.ReLU(), nn.AvgPool2d(2))
        for channels in (3, 128, 128)
    ]
    network = nn.Sequential(*(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(2048, 10))
    with torch.no_grad():
        for own, given in zip(network.parameters(), like.parameters(), strict=True):
            own.copy_(given)
    return network.to(device)


def plain_update(network: nn.Module, images: torch.Tensor, batches: list[torch.Tensor]) -> torch.Tensor:
    """The gradient of the recipe's distance in `images` (m, *shape), classes in turn, of the classes that have a batch."""
    images = images.clone().requires_grad_()
    weights = list(network.parameters())
    total = images.new_zeros(())
    for label, rows in enumerate(batches):
        wanted = torch.autograd.grad(loss(network, rows, label), weights)
        found = torch.autograd.grad(loss(network, images[label::10], label), weights, create_graph=True)
        for one, other in zip(found, wanted, strict=True):
            if one.ndim > 1:
                a, b = one.flatten(1), other.detach().flatten(1)
                total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-6)).sum()
    [slopes] = torch.autograd.grad(total, [images])
    return slopes


def loss(network: nn.Module, images: torch.Tensor, label: int) -> torch.Tensor:
    """The mean cross entropy of images of one class."""
    return nn.functional.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))


def plain_epoch(network: nn.Module, images: torch.Tensor) -> None:
    """One pass of plain SGD over the images, which are one batch."""
    labels = torch.arange(len(images), device=images.device) % 10
    weights = list(network.parameters())
    slopes = torch.autograd.grad(nn.functional.cross_entropy(network(images), labels), weights)
    with torch.no_grad():
        for weight, slope in zip(weights, slopes, strict=True):
            weight.sub_(slope, alpha=0.01)


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds, and what came out."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    began = now()
    made = work()
    return now() - began, made


def accuracy_is_equal(report: Path) -> bool:
    """Whether the study's table has mean accuracies of both precisions over several seeds, nowhere further apart than their
    deviations together.
    """
    if not report.is_file():
        return False
    keys = ("dataset", "per_class", "protocol", "model")
    with report.open(encoding="utf-8", newline="") as file:
        read = csv.DictReader(file)
        rows = [row for row in read if row["metric"] == "test accuracy" and row["std"] and int(row["seeds"]) > 1]
    exact, rough = (
        {tuple(row[key] for key in keys): row for row in rows if row["experiment"] == name} for name in (EXACT, ROUGH)
    )
    both = exact.keys() & rough.keys()
    return bool(both) and all(
        abs(float(exact[key]["mean"]) - float(rough[key]["mean"]))
        <= math.hypot(float(exact[key]["std"]), float(rough[key]["std"]))
        for key in both
    )


def compare(real: RealSet, per_class: int, classes: int, rounds: int, given: run.Run) -> tuple[dict[str, float], float]:
    """Ratios of the plain loop's seconds to each precision's, and the relative difference of the gradients in float32."""
    params = {
        precision: settings.parse(gradient_matching.Params, {"model": MODEL, "precision": precision}, "benchmark")
        for precision in ("float32", "bfloat16")
    }
    of = RealImages(real, params["float32"].model, given)
    network = matching.fresh(params["float32"].model, real, given.generator("network"), given.device)
    plain = plain_network(network, given.device)
    drawn = of.draw(params["float32"].batch, given.generator("batches"))
    batches = [rows for _, rows in zip(range(classes), drawn, strict=False)]
    images = matching.start("noise", real, of, per_class, given)
    updates, epochs = gradient_matching.loops(params["float32"], per_class)
    fixed: Any = Drawn(batches)
    ours = {name: gradient_matching.Objective(fixed, 10, each, epochs=1) for name, each in params.items()}

    def update(name: str) -> torch.Tensor:
        if name == "plain":
            return plain_update(plain, images, batches)
        matched = images.clone().requires_grad_()
        ours[name].match(network, matched, given.generator("unused"))
        assert matched.grad is not None
        return matched.grad

    def epoch(name: str) -> None:
        if name == "plain":
            plain_epoch(copy.deepcopy(plain), images)
        else:
            ours[name].train(copy.deepcopy(network), images, given.generator("unused"))

    ratios: dict[str, list[float]] = {name: [] for name in ours}
    timed_here = torch.arange(len(images), device=images.device) % 10 < classes
    for turn in range(rounds + 1):
        seconds, slopes = {}, {}
        for name in ("plain", *ours):
            matching_seconds, slopes[name] = timed(functools.partial(update, name), given.device)
            training_seconds = timed(functools.partial(epoch, name), given.device)[0] if updates > 1 else 0.0
            seconds[name] = updates * matching_seconds * 10 / classes + (updates - 1) * epochs * training_seconds
        if turn == 0:  # for what happens once
            apart = linalg.relative_error(slopes["float32"][timed_here], slopes["plain"][timed_here])
            continue
        for name, found in ratios.items():
            found.append(seconds["plain"] / seconds[name])
        shown = "".join(f"{name} {each:9.3f} s   " for name, each in seconds.items())
        print(f"  {per_class:3} per class, a step: {shown}", flush=True)
    return {name: statistics.median(found) for name, found in ratios.items()}, apart


def main() -> None:
    """Run all variants in turn, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/cifar10.safetensors"))
    parser.add_argument("--report", type=Path, default=REPORT, help="accuracies of both precisions over seeds")
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--rounds", type=int, default=3, help="that are timed, after one that is not (default 3)")
    parser.add_argument("--classes", type=int, default=10, help="whose match is timed, and counted as ten (default 10)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    given = run.start(chosen.device, chosen.threads)
    real = RealSet.load(chosen.data) if chosen.data.is_file() else random_cifar()
    target = TARGETS[given.device.type]
    counts = ["float32", *(["bfloat16"] if accuracy_is_equal(chosen.report) else [])]
    print(f"{real.name}, {given.device}, {chosen.threads} threads; equal in accuracy: {', '.join(counts)}")
    met = True
    for per_class in chosen.per_class:
        ratios, apart = compare(real, per_class, chosen.classes, chosen.rounds, given)
        said = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items())
        print(f"{per_class:3} per class: {said}; gradients in float32 differ by {apart:.1e}", flush=True)
        met &= max(ratios[name] for name in counts) >= target and apart <= AGREE
    print("targets met" if met else f"TARGET MISSED (at least {target}x, differences of at most {AGREE:g})")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
