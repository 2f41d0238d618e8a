"""Against the package neural-tangents itself, where it can be imported (0.6.5 with jax 0.5.3)."""

import importlib
import sys
import types
from typing import Any

import pytest
import torch

from stillhouse import kernels
from stillhouse.kernels.fully_connected import Params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stax() -> Any:
    """neural_tangents.stax, in float64."""
    # Its experimental part alone needs tensorflow.
    sys.modules.setdefault("neural_tangents.experimental", types.ModuleType("neural_tangents.experimental"))
    try:
        jax, stax = (importlib.import_module(name) for name in ("jax", "neural_tangents.stax"))
    except ImportError as problem:  # it is not there, or its jax is one that it does not work with
        pytest.skip(str(problem))
    jax.config.update("jax_enable_x64", True)
    return stax


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("depth", [1, 4])
def test_fully_connected_kernels_and_gradients_are_those_of_neural_tangents(
    stax: Any, depth: int, slope: float, regime: str
) -> None:
    jax = pytest.importorskip("jax")
    weight, bias = 1.7, 0.05
    dense = stax.Dense(1, W_std=weight**0.5, b_std=bias**0.5)
    hidden = [dense, stax.LeakyRelu(slope)] * depth
    kernel = stax.serial(*hidden, dense)[2]
    rng = torch.Generator().manual_seed(0)
    one, other, weights = (
        torch.randn(*size, generator=rng, dtype=torch.float64) for size in ((6, 20), (4, 20), (6, 4))
    )
    theirs = kernel(one.numpy(), other.numpy(), regime)
    slopes = jax.grad(lambda y: (weights.numpy() * kernel(one.numpy(), y, regime)).sum())(other.numpy())
    params = Params(depth=depth, regime=regime, slope=slope, weight_variance=weight, bias_variance=bias)  # type: ignore[arg-type]
    tracked = other.clone().requires_grad_()
    ours = kernels.build(params, (20,))(one, tracked)
    torch.testing.assert_close(ours, torch.tensor(theirs.tolist(), dtype=torch.float64), rtol=1e-10, atol=0)
    (gradient,) = torch.autograd.grad((weights * ours).sum(), tracked)
    torch.testing.assert_close(gradient, torch.tensor(slopes.tolist(), dtype=torch.float64), rtol=1e-8, atol=1e-10)
