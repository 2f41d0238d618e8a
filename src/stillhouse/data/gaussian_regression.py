"""Gaussian regression: made-up linear data, y = X theta + noise, X and theta standard normal (Mahowald et al., 2025).

Mahowald, Srinivasan, Wang (Toward dataset distillation for regression problems, 2025) use 1000 examples of 100 features and an
80/20 split. `examples` counts both parts here, and `noise`, which the paper does not state, is a tenth of a feature's deviation.

The last examples are for testing. Everything is drawn from NumPy's first generator, whose numbers are the same in every version.
Inputs, and then targets, are rounded to single precision, so that the order in which a machine sums does not show.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

# The seed is part of what the data set is.
from numpy.random import RandomState
from pydantic import Field

from stillhouse.data import identity
from stillhouse.data.table import held_out
from stillhouse.sets import RealSet, Split

TASK = "regression"


@dataclass(frozen=True)
class Params:
    """How many examples of what size, and how noisy."""

    examples: Annotated[int, Field(ge=2, description="n, training and test examples together")] = 1000
    dim: Annotated[int, Field(ge=1, description="d, features of an example")] = 100
    outputs: Annotated[int, Field(ge=1, description="k, targets of an example")] = 1
    noise: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="standard deviation of the noise (the paper states none)")
    ] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**32, description="of examples, theta and noise")] = 0
    test_fraction: Annotated[float, Field(gt=0, lt=1, description="share kept for testing")] = 0.2


def read(params: Params, downloads: Path) -> RealSet:
    """The examples drawn from `params.seed`. Needs no file."""
    generator = RandomState(params.seed)
    inputs = generator.standard_normal((params.examples, params.dim)).astype(np.float32)
    theta = generator.standard_normal((params.dim, params.outputs))
    noise = params.noise * generator.standard_normal((params.examples, params.outputs))
    values = (inputs.astype(np.float64) @ theta + noise).astype(np.float32).astype(np.float64)
    train, test = (
        Split(torch.from_numpy(inputs[part]), torch.from_numpy(values[part]))
        for part in (slice(smallest_class(params)), slice(smallest_class(params), None))
    )
    names = tuple(f"y{i}" for i in range(1, params.outputs + 1)) if params.outputs > 1 else ("y",)
    return identity.identified("gaussian_regression", train, test, (), names)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return params.examples - held_out(params.examples, params.test_fraction)
