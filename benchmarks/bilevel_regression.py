"""Seconds for the outer gradient of bilevel distillation (99 points, 100 features, 30 starts), against plain loops, in one run.

    python benchmarks/bilevel_regression.py [--inner-steps 100 175] [--runs R] [--rounds K] [--threads N]

The plain loops take every start of every run through all T inner steps, one after the other, and let autograd go back through
them (Mahowald, Srinivasan, Wang 2025, Algorithm 1). Ours has all starts and runs in one closed form. Beside both: a loop over the
inner steps alone, that takes all starts and runs along at once. All have the same points, batches and starts; losses and
gradients are compared. Exits with status 1 when a target is missed.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable

import torch

from stillhouse import linalg
from stillhouse.methods.bilevel_regression import Descent, Linear, Params, Points
from stillhouse.theory import bilevel

SPEEDUP = 5  # over the plain loops, at least
AGREE = 1e-9  # relative difference of losses and gradients, at most
POINTS, DIM = 99, 100

Found = tuple[torch.Tensor, tuple[torch.Tensor, ...]]


def plain(points: Points, rows: torch.Tensor, wanted: torch.Tensor, starts: torch.Tensor, params: Params) -> Found:
    """Losses (s,) and gradients, run by run, start by start, step by step."""
    losses, gradients = [], []
    for run in range(len(rows)):
        inputs, targets, step = (
            part[run].clone().requires_grad_() for part in (points.inputs, points.targets, points.step)
        )
        total = torch.zeros((), dtype=torch.float64)
        for weights in starts[run]:
            for _ in range(params.inner_steps):
                slope = inputs.T @ (inputs @ weights - targets) / POINTS + params.ridge_inner * weights
                weights = weights - step * slope  # noqa: PLW2901
            total = total + (rows[run] @ weights - wanted[run]).square().sum() / (2 * params.batch)
        loss = total / len(starts[run])
        ridge = params.ridge_outer / 2 * (inputs.square().sum() + targets.square().sum())
        gradients.append(torch.autograd.grad(loss + ridge, [inputs, targets, step]))
        losses.append(loss.detach())
    return torch.stack(losses), tuple(torch.stack(parts) for parts in zip(*gradients, strict=True))


def at_once(points: Points, rows: torch.Tensor, wanted: torch.Tensor, starts: torch.Tensor, params: Params) -> Found:
    """The same with a loop over inner steps alone."""
    parts = (points.inputs, points.targets, points.step)
    inputs, targets, step = (part.clone().requires_grad_() for part in parts)
    weights = bilevel.unrolled(inputs, targets, starts, step, params.ridge_inner, params.inner_steps)
    losses = (rows[:, None] @ weights - wanted[:, None]).square().sum((2, 3)).mean(1) / (2 * params.batch)
    ridge = params.ridge_outer / 2 * (inputs.square().sum() + targets.square().sum())
    return losses.detach(), torch.autograd.grad(losses.sum() + ridge, [inputs, targets, step])


def generators(purpose: int, runs: int) -> list[torch.Generator]:
    """One for each run."""
    return [torch.Generator().manual_seed(100 * purpose + run) for run in range(runs)]


def timed(call: Callable[[], Found], rounds: int) -> tuple[float, Found]:
    """Seconds of the fastest round, and what it gave."""
    best = math.inf
    for _ in range(rounds):
        began = time.perf_counter()
        found = call()
        best = min(best, time.perf_counter() - began)
    return best, found


def apart(one: Found, other: Found) -> float:
    """The largest relative difference of losses and gradients."""
    return max(linalg.relative_error(a, b) for a, b in zip((one[0], *one[1]), (other[0], *other[1]), strict=True))


def main() -> None:
    """Run all, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inner-steps", type=int, nargs="+", default=[100, 175])
    parser.add_argument("--runs", type=int, default=5, help="runs side by side (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each; the fastest counts (default 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    runs, met = chosen.runs, True
    print(f"{runs} runs, {POINTS} points, {DIM} features, {chosen.threads} threads; seconds a step of all runs")
    print(
        f"{'T':>5}{'plain':>10}{'over T alone':>14}{'ours':>10}{'plain/ours':>12}{'T alone/ours':>14}{'difference':>12}"
    )
    for inner_steps in chosen.inner_steps:
        params = Params(inner_steps=inner_steps, step=0.5, scale_starts=1.0)
        points = Points.normal(POINTS, DIM, 1, params, generators(1, runs))
        rng = torch.Generator().manual_seed(0)
        rows = torch.randn(runs, params.batch, DIM, generator=rng, dtype=torch.float64)
        wanted = torch.randn(runs, params.batch, 1, generator=rng, dtype=torch.float64)
        drawn = [
            torch.randn(params.starts, DIM, 1, generator=each, dtype=torch.float64) for each in generators(2, runs)
        ]
        starts = torch.stack(drawn) / math.sqrt(DIM)
        descent = Descent(points, Linear(params), params, lambda r=rows, w=wanted: (r, w), [])
        ours = timed(lambda d=descent, r=rows, w=wanted: d.gradient(r, w, generators(2, runs)), 10 * chosen.rounds)
        given = (points, rows, wanted, starts, params)
        loops = timed(lambda g=given: plain(*g), chosen.rounds)
        together = timed(lambda g=given: at_once(*g), chosen.rounds)
        difference = max(apart(ours[1], loops[1]), apart(ours[1], together[1]))
        ratio, other = loops[0] / ours[0], together[0] / ours[0]
        print(
            f"{inner_steps:5}{loops[0]:10.3f}{together[0]:14.3f}{ours[0]:10.4f}{ratio:11.1f}x{other:13.1f}x{difference:12.1e}",
            flush=True,
        )
        met &= ratio >= SPEEDUP and difference < AGREE
    print("targets met" if met else f"TARGET MISSED (at least {SPEEDUP}x the plain loops, differences below {AGREE:g})")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
