"""Seconds a step of KIP with labels solved on the whole real set, against the plain formula, in one run.

    python benchmarks/kip_step.py [--data FILE] [--per-class 1 10 50] [--steps K] [--threads N]

The plain formula holds the features of all real examples, forms A = F F_S^T K^-1 with a row for each, takes its
pseudo-inverse for the labels, and lets autograd find the gradient of the loss over a batch (Chen, Huang, Weng 2024, section
7.2). Ours takes the labels from the moments and the gradient in closed form. Both start at the same images and draw the same
batch; labels and gradients are compared. Exits with status 1 when a target is missed. Without a prepared file, random pixels
of CIFAR-10's size stand in.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from stillhouse import linalg, settings
from stillhouse.methods import kip, kip_features, random_images
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split, pixels
from stillhouse.stages.store import Store

SPEEDUP = 7  # at least, at every size; reading the batch's rows bounds it for few images (docs/theory/kip.md)
AGREE = 1e-4  # relative difference of labels and gradients, at most: the plain formula runs in float32 apart from its solves
MODEL = {"kind": "ridge", "features": "random_network", "space": "standardised"}


def random_cifar() -> RealSet:
    """Random pixels of CIFAR-10's size."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50_000, 3, 32, 32), dtype=torch.uint8, generator=rng)
    split = Split(images, torch.randint(0, 10, (50_000,), generator=rng))
    return RealSet("random pixels", split, split, tuple("0123456789"), "", "")


def plain_step(
    inputs: torch.Tensor,
    embedding: ridge.Embedding,
    rows: torch.Tensor,
    targets: torch.Tensor,
    batch: torch.Tensor,
    factor: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels (m, c) and gradient (m, d), as the formula is written; `rows` (n, p), `targets` (n, c)."""
    inputs = inputs.clone().requires_grad_()
    features = embedding.map(inputs).double()
    kernel = features @ features.T
    kernel = kernel + factor * kernel.diagonal().mean() * torch.eye(len(inputs), dtype=torch.float64)
    with torch.no_grad():
        predictions = rows.double() @ torch.linalg.solve(kernel, features).T
        labels = torch.linalg.pinv(predictions) @ targets.double()
    weights = features.T @ torch.linalg.solve(kernel, labels)
    loss = (rows[batch] @ weights.float() - targets[batch]).square().mean()
    loss.backward()
    return labels, inputs.grad


def our_step(
    inputs: torch.Tensor,
    embedding: ridge.Embedding,
    problem: kip_features.Problem,
    rows: torch.Tensor,
    targets: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same from the moments and in closed form; `rows` (b, p), `targets` (b, c) are the batch's."""
    inputs = inputs.clone().requires_grad_()
    features = embedding.map(inputs)
    exact = features.detach().double()
    fit = kip_features.solve_labels(exact, problem)
    _, slope = kip_features.batch_loss(fit.weights, rows, targets)
    features.backward(kip_features.feature_gradient(exact, fit, slope, problem.ridge_S).to(features))
    return fit.targets, inputs.grad


def timed(
    step: Callable[[], tuple[torch.Tensor, torch.Tensor]], repeats: int
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Seconds of the fastest repetition, and what it gave."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        labels, gradient = step()
        best = min(best, time.perf_counter() - started)
    return best, labels, gradient


def main() -> None:
    """Run both, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/prepared/cifar10.safetensors"))
    parser.add_argument("--per-class", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--steps", type=int, default=2, help="repetitions of each; the fastest counts (default 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    real = RealSet.load(chosen.data) if chosen.data.is_file() else random_cifar()
    params = settings.parse(kip.Params, {"model": MODEL}, "benchmark")
    run = Run(seed=0)
    embedding = ridge.embed(params.model, real, 0)
    fitted, _ = ridge.split(len(real.train), params.model.validation, 0)
    sums = linalg.Moments(embedding.map.dim, real.n_classes)
    met = True
    with tempfile.TemporaryDirectory() as folder:
        examples = kip_features.Examples(
            real, embedding, fitted, Run(seed=0, store=Store(Path(folder) / "store")), "fitted", sums
        )
        problem = kip_features.Problem(sums.gram, sums.cross, params.ridge_S)
        held, targets = (part.clone() for part in examples.at(torch.arange(len(fitted))))
        print(
            f"{real.name}: {len(fitted)} examples, p = {embedding.map.dim}, batch {params.batch}, {chosen.threads} threads"
        )
        print(f"{'images':>8}{'plain, s':>12}{'ours, s':>12}{'ratio':>9}{'labels':>12}{'gradient':>12}")
        for per_class in chosen.per_class:
            positions = random_images.sample(real, per_class, run.generator("images"))
            start = embedding.space.forward(pixels(real.train.inputs[positions])).flatten(1)
            batch = torch.randint(len(fitted), (params.batch,), generator=run.generator("batches"))
            ours = timed(lambda s=start, b=batch: our_step(s, embedding, problem, *examples.at(b)), 3 * chosen.steps)
            plain = timed(
                lambda s=start, b=batch: plain_step(s, embedding, held, targets, b, params.ridge_S), chosen.steps
            )
            ratio = plain[0] / ours[0]
            labels, gradient = (linalg.relative_error(ours[i], plain[i]) for i in (1, 2))
            print(
                f"{len(start):8}{plain[0]:12.3f}{ours[0]:12.3f}{ratio:8.1f}x{labels:12.1e}{gradient:12.1e}", flush=True
            )
            met &= ratio >= SPEEDUP and max(labels, gradient) < AGREE
    print("targets met" if met else f"TARGET MISSED (at least {SPEEDUP}x, differences below {AGREE:g})")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
