"""Seconds a pair of images of ConvNet3's tangent kernel, its growth with pixels, and neural-tangents beside it, in one run.

    python benchmarks/conv_kernel.py [--neural-tangents PYTHON] [--sides 8 16 32] [--repeats K] [--threads N]

`--neural-tangents` names a Python interpreter that can import neural_tangents and jax (0.6.5 with jax 0.5.3 does); its kernel is
compiled beforehand and runs in a process with as many threads, on the same images in float32. Value, and value with the gradient
by the second images. A pair needs (h w)^2 pairs of pixels, so the exponent of seconds in pixels is to be about 2. Exits with
status 1 when a target is missed; without the interpreter, those that need it are left out, and it says so.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from stillhouse.kernels import convolutional

FASTER = 1.0  # times neural-tangents, at least, at every size
EXPONENT = 2.2  # of seconds in pixels, at most, between the two largest sizes; what does not grow makes it smaller
AGREE = 1e-4  # relative difference in float32, at most
PAIRS = {8: (32, 32), 16: (8, 16), 32: (4, 4)}  # first and second images by side; larger ones need fewer to be measured

# What runs in the other interpreter: it reads images by side, and answers with seconds, values and gradients by side.
NEURAL_TANGENTS = """
import json, sys, time, types
sys.modules["neural_tangents.experimental"] = types.ModuleType("unused")  # it alone needs tensorflow
import jax, numpy as np
from neural_tangents import stax
block = [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=0.1), stax.Relu(), stax.AvgPool((2, 2), (2, 2))]
kernel = stax.serial(*block, *block, *block, stax.Flatten(), stax.Dense(1, 2**0.5, 0.1))[2]
value = jax.jit(lambda y, x: kernel(x, y, "ntk"))
both = jax.jit(jax.value_and_grad(lambda y, x: kernel(x, y, "ntk").sum()))
asked, found = json.load(sys.stdin), {}
for side, pair in asked["images"].items():
    x, y = (np.asarray(part, dtype=np.float32).transpose(0, 2, 3, 1) for part in pair)
    seconds = []
    for function in (value, both):
        result = jax.block_until_ready(function(y, x))
        best = float("inf")
        for _ in range(asked["repeats"]):
            started = time.perf_counter()
            jax.block_until_ready(function(y, x))
            best = min(best, time.perf_counter() - started)
        seconds.append(best / (len(x) * len(y)))
    gradient = np.asarray(result[1]).transpose(0, 3, 1, 2)
    found[side] = {"seconds": seconds, "value": np.asarray(value(y, x)).tolist(), "gradient": gradient.tolist()}
json.dump(found, sys.stdout)
"""


def neural_tangents(python: str, images: dict[int, tuple[torch.Tensor, ...]], repeats: int, threads: int) -> dict:
    """Its seconds a pair, values and gradients, by side; empty where it does not run there."""
    flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    environment = os.environ | {"XLA_FLAGS": flags, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
    asked = {"images": {side: [part.tolist() for part in pair] for side, pair in images.items()}, "repeats": repeats}
    try:
        done = subprocess.run(
            [python, "-c", NEURAL_TANGENTS],
            check=False,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            env=environment,
        )
    except OSError as problem:
        print(f"neural-tangents is left out: {problem}")
        return {}
    if done.returncode:
        print(f"neural-tangents is left out: {done.stderr.strip().splitlines()[-1]}")
        return {}
    return json.loads(done.stdout)


def fastest(step: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest repetition."""
    best = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - started)
    return best


def value_and_gradient(kernel: convolutional.Convolutional, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The gradient of the sum of all values by the second images."""
    other = other.clone().requires_grad_()
    return torch.autograd.grad(kernel(one, other).sum(), other)[0]


def difference(found: torch.Tensor, wanted: list) -> float:
    """Relative to the largest."""
    expected = torch.tensor(wanted)
    return float((found - expected).abs().max() / expected.abs().max())


def main() -> None:
    """Run both, print the comparison, judge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--neural-tangents", metavar="PYTHON", help="an interpreter that can import it")
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 32], choices=list(PAIRS))
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts (default 2)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    rng = torch.Generator().manual_seed(0)
    images = {
        side: tuple(torch.randn(count, 3, side, side, generator=rng) for count in PAIRS[side]) for side in chosen.sides
    }
    theirs = {}
    if chosen.neural_tangents is None:
        print("neural-tangents is left out: --neural-tangents names no interpreter")
    else:
        theirs = neural_tangents(chosen.neural_tangents, images, chosen.repeats, chosen.threads)
    print(
        f"ConvNet3 NTK, float32, {chosen.threads} threads; milliseconds a pair, with the gradient by the second images"
    )
    print(
        f"{'pixels':>8}{'value':>10}{'gradient':>10}{'theirs':>10}{'gradient':>10}{'ratio':>8}{'ratio':>8}{'differ':>10}"
    )
    met, seconds = True, {}
    for side, (one, other) in images.items():
        kernel, pairs = convolutional.build(convolutional.Params(), (3, side, side)), len(one) * len(other)
        kernel(one[:2], other[:2])
        ours = [
            fastest(lambda k=kernel, x=one, y=other: k(x, y), chosen.repeats) / pairs,
            fastest(lambda k=kernel, x=one, y=other: value_and_gradient(k, x, y), chosen.repeats) / pairs,
        ]
        seconds[side] = ours[0]
        line = f"{side:>4}x{side:<3}{1e3 * ours[0]:10.3f}{1e3 * ours[1]:10.3f}"
        if str(side) in theirs:
            their = theirs[str(side)]
            ratios = [a / b for a, b in zip(their["seconds"], ours, strict=True)]
            differ = max(
                difference(kernel(one, other), their["value"]),
                difference(value_and_gradient(kernel, one, other), their["gradient"]),
            )
            line += "".join(f"{1e3 * each:10.3f}" for each in their["seconds"])
            line += "".join(f"{each:7.1f}x" for each in ratios) + f"{differ:10.1e}"
            met &= min(ratios) >= FASTER and differ < AGREE
        print(line, flush=True)
    for small, large in zip(chosen.sides, chosen.sides[1:], strict=False):
        exponent = math.log(seconds[large] / seconds[small]) / math.log((large / small) ** 2)
        print(f"exponent in pixels, {small} x {small} to {large} x {large}: {exponent:.2f}")
        met &= exponent <= EXPONENT or large != max(chosen.sides)
    print("targets met" if met else f"TARGET MISSED ({FASTER:g}x, exponent {EXPONENT:g}, differences below {AGREE:g})")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
