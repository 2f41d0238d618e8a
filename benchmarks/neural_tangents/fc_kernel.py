"""The other side of fc_kernel.py, for an interpreter that has neural-tangents (0.6.5 works with jax 0.5.3); not run by hand.

    python benchmarks/neural_tangents/fc_kernel.py FOLDER THREADS

Reads one, other and weights from FOLDER and leaves value and gradient there; then, for each line 'value' or 'gradient' that
it is sent, computes that once and answers with the seconds.
"""

import os
import sys
import time
import types
from pathlib import Path


def main() -> None:
    """Answer until the input ends."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    # XLA has as many threads as there are processors that it may use. Both are read when jax starts.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    # Its experimental part alone needs tensorflow.
    sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")
    import jax
    import numpy as np
    from neural_tangents import stax

    one, other, weights = (jax.numpy.asarray(np.load(folder / f"{name}.npy")) for name in ("one", "other", "weights"))
    dense = stax.Dense(1, W_std=2**0.5, b_std=0.1)
    kernel = stax.serial(dense, stax.Relu(), dense)[2]
    value = jax.jit(lambda x, y: kernel(x, y, "ntk"))
    gradient = jax.jit(jax.grad(lambda y, x, g: (g * kernel(x, y, "ntk")).sum()))
    calls = {"value": lambda: value(one, other), "gradient": lambda: gradient(other, one, weights)}
    for name, call in calls.items():
        np.save(folder / f"{name}.npy", np.asarray(call()))
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        jax.block_until_ready(calls[line.strip()]())
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
