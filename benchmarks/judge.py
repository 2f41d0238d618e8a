"""Wall seconds to train 20 ConvNets on 10 CIFAR-10 images for 300 epochs, against a plain loop of 20 trainings, in one run.

    python benchmarks/judge.py [--networks K] [--epochs E] [--rounds R] [--threads N] [--device D] [--all]

The plain loop trains one network after the other in float32 with all threads, as the authors' codes do; its initial weights,
steps and learning rates are ours. Ours is what the judge does on this device (models/ensemble.py), in float32 and with products
in bfloat16. Every network is scored on all test images (untimed): a variant counts only if its accuracy is that of the loop, by
the paired differences over seeds. `--all` times the strategy of the other kind of device too. Exits with status 1 when the target
of this device is missed.
"""

import argparse
import dataclasses
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stillhouse import machine, settings
from stillhouse.data import whitening
from stillhouse.evaluation import judge
from stillhouse.methods import random_images
from stillhouse.models import ensemble, training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

SPEEDUP = {"cpu": 1.8, "cuda": 8.0}
AGREE = 0.01  # relative difference of float32 weights after a tenth of the training: rounding grows with every step
MODEL = {
    "kind": "convnet",
    "space": "standardised",
    "training": {"optimiser": "sgd", "learning_rate": 0.01, "schedule": "step", "loss": "cross_entropy"},
}


def model(epochs: int, precision: str = "float32") -> Any:
    """DC's ConvNet, trained as DC does."""
    chosen = {**MODEL["training"], "epochs": epochs, "precision": precision}  # type: ignore[dict-item]
    return settings.parse_plugin("models", {**MODEL, "training": chosen}, "benchmark")


def plain(distilled: DistilledSet, real: RealSet, params: Any, seeds: range, run: Run) -> list[Teacher]:
    """One network after the other, all images a step."""
    space = whitening.fit(params.space, real)
    inputs = distilled.inputs_in(space).to(run.device, torch.float32)
    labels = distilled.labels.to(run.device)
    teachers = []
    for seed in seeds:
        network = training.build(params, real.shape, real.n_classes)
        rng = dataclasses.replace(run, seed=seed).generator("initial weights")
        training.initialise(network, rng, run.device, params.initialisation)
        optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        for epoch in range(params.training.epochs):
            optimiser.param_groups[0]["lr"] = 0.01 if 2 * epoch < params.training.epochs else 0.001
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()
            optimiser.step()
        notes = {"shape": list(real.shape), "scores": real.n_classes}
        teachers.append(Teacher.of(real, params, seed, network.state_dict(), space, notes))
    return teachers


def seconds(work: Any, device: torch.device) -> tuple[float, list[Teacher]]:
    """Wall seconds, and the networks."""
    began = time.perf_counter()
    found = list(work())
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, found


def accuracies(teachers: list[Teacher], real: RealSet, run: Run) -> list[float]:
    """Percent of all test images, of each network."""
    return [judge.accuracy(each, real, run) for each in teachers]


def same(differences: list[float]) -> bool:
    """Whether their mean is within two standard errors of 0, or below a quarter of a point."""
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return abs(statistics.fmean(differences)) <= max(2 * error, 0.25)


def main() -> None:
    """Run all, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/cifar10.safetensors"))
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1, help="the fastest of so many counts (default 1)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--all", action="store_true", help="the strategies of all devices")
    chosen = parser.parse_args()
    machine.keep_freed_memory()  # as every job does
    torch.set_num_threads(chosen.threads)
    run = Run(device=torch.device(chosen.device))
    real = RealSet.load(chosen.data)
    distilled = random_images.distill(real, 1, random_images.Params(), run)
    seeds = range(chosen.networks)

    def ours(precision: str, strategy: ensemble.Strategy | None, epochs: int) -> list[Teacher]:
        params = model(epochs, precision)
        return list(ensemble.train(distilled, real, params, seeds, run, lambda teacher: teacher, strategy))

    own = ensemble.choose(distilled, real, model(chosen.epochs), seeds, run.device)
    strategies = [own] + [each for each in ("cores", "stacked") if chosen.all and each != own]
    variants = {
        f"{each}, {precision}": (precision, each) for each in strategies for precision in ("float32", "bfloat16")
    }
    short = max(1, chosen.epochs // 10)
    exact = plain(distilled, real, model(short), seeds[:2], run)
    for one, other in zip(exact, ours("float32", own, short)[:2], strict=True):
        apart = max(float((one.weights[n] - w).norm() / w.norm().clamp(min=1e-3)) for n, w in other.weights.items())
        if apart > AGREE:
            sys.exit(f"after {short} epochs the weights are {apart:.1e} apart: the loop and the judge train otherwise")
    best = dict.fromkeys(("plain loop", *variants), math.inf)
    scored: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for name, before in best.items():
            if name == "plain loop":
                spent, found = seconds(lambda: plain(distilled, real, model(chosen.epochs), seeds, run), run.device)
            else:
                spent, found = seconds(lambda v=variants[name]: ours(*v, chosen.epochs), run.device)
            best[name] = min(before, spent)
            scored.setdefault(name, []) or scored[name].extend(accuracies(found, real, run))
    print(
        f"{chosen.networks} ConvNets, {len(distilled)} images, {chosen.epochs} epochs, {chosen.threads} threads, {run.device}"
    )
    print(f"{'':24}{'seconds':>9}{'speedup':>9}{'accuracy':>18}{'difference':>20}")
    reached = 0.0
    for name, spent in best.items():
        differences = [a - b for a, b in zip(scored[name], scored["plain loop"], strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        mean, deviation = statistics.fmean(scored[name]), statistics.stdev(scored[name])
        print(
            f"{name:24}{spent:9.1f}{best['plain loop'] / spent:8.2f}x{mean:10.2f} +- {deviation:.2f}"
            f"{statistics.fmean(differences):+13.3f} +- {error:.3f}"
        )
        if same(differences):
            reached = max(reached, best["plain loop"] / spent)
    target = SPEEDUP[run.device.type]
    print(f"target met: {reached:.2f}x" if reached >= target else f"TARGET MISSED: {reached:.2f}x of {target}x")
    sys.exit(0 if reached >= target else 1)


if __name__ == "__main__":
    main()
