import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import kernels, linalg
from stillhouse.errors import UserError
from stillhouse.kernels.fully_connected import Params
from stillhouse.settings import parse_plugin

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "ntk_vectors.json").read_text(encoding="utf-8"))
REGIMES = ["ntk", "nngp"]


def built(dim: int, **options: Any) -> kernels.Kernel:
    return kernels.build(Params(**options), (dim,))


def closed_form(start: int, shape: list[int]) -> torch.Tensor:
    """The inputs of the vectors, as the file describes them."""
    index = torch.arange(start, start + math.prod(shape), dtype=torch.float64)
    values: torch.Tensor = (1.3 * index).sin() + 0.5 * (0.37 * index * index).remainder(7).cos()
    return values.reshape(shape)


def vectors(depth: int, regime: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    stored = VECTORS["fully_connected"]
    wanted = torch.tensor(stored[str(depth)][regime], dtype=torch.float64)
    return closed_form(**stored["one"]), closed_form(**stored["other"]), wanted


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_kernels_are_those_of_neural_tangents(depth: int, regime: str) -> None:
    one, other, wanted = vectors(depth, regime)
    found = built(12, depth=depth, regime=regime)(one, other)
    assert float(((found - wanted) / wanted).abs().max()) < 1e-12


WRONG = [{"bias_variance": 1e-4}, {"weight_variance": 2.01}, {"depth": 1}, {"slope": 0.01}, {"regime": "nngp"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_other_settings_are_other_kernels(wrong: dict[str, Any]) -> None:
    one, other, wanted = vectors(2, "ntk")
    found = built(12, **{"depth": 2, **wrong})(one, other)
    assert float(((found - wanted) / wanted).abs().max()) > 1e-3


def test_two_examples_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 2.0]], dtype=torch.float64)
    nngp = torch.tensor([[9.353333, 3.596009], [3.596009, 3.52]], dtype=torch.float64)
    ntk = torch.tensor([[18.696667, 5.631257], [5.631257, 7.03]], dtype=torch.float64)
    torch.testing.assert_close(built(3, regime="nngp").gram(x), nngp, rtol=0, atol=1e-6)
    torch.testing.assert_close(built(3).gram(x), ntk, rtol=0, atol=1e-6)


def test_an_almost_linear_activation_gives_the_kernel_of_a_linear_network() -> None:
    """Slope 1: K = w (w S + b) + b and T = K + w (w S + b), w E[phi'] being w."""
    x, y = normal(4), normal(3, seed=1)
    w, b = 1.3, 0.2
    first = w * (x @ y.T) / 6 + b
    options = {"slope": 1 - 1e-9, "weight_variance": w, "bias_variance": b}
    torch.testing.assert_close(built(6, regime="nngp", **options)(x, y), w * first + b)
    torch.testing.assert_close(built(6, **options)(x, y), w * first + b + w * first)


def normal(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_nngp_is_the_covariance_of_wide_random_networks(slope: float) -> None:
    x, rng = normal(3), torch.Generator().manual_seed(5)
    w, b, width, draws = 2.0, 0.3, 200, 200
    found = torch.zeros(3, 3, dtype=torch.float64)
    for _ in range(draws):
        hidden = x
        for _ in range(2):
            weights = torch.randn(hidden.shape[1], width, generator=rng, dtype=torch.float64)
            bias = torch.randn(width, generator=rng, dtype=torch.float64)
            hidden = torch.nn.functional.leaky_relu(
                hidden @ weights * math.sqrt(w / hidden.shape[1]) + math.sqrt(b) * bias, slope
            )
        found += (w * hidden @ hidden.T / width + b) / draws  # the last layer's own mean
    wanted = built(6, depth=2, regime="nngp", slope=slope, bias_variance=b).gram(x)
    assert float((found / wanted - 1).abs().max()) < 0.05
    other = built(6, depth=1, regime="nngp", slope=slope, bias_variance=b).gram(x)
    assert float((found / other - 1).abs().max()) > 0.1


def central_difference(function: Any, at: torch.Tensor, weights: torch.Tensor, step: float = 1e-5) -> torch.Tensor:
    """Of sum(weights function(x)), value by value."""
    found = torch.zeros_like(at)
    for place in range(at.numel()):
        moved = torch.zeros_like(at).view(-1)
        moved[place] = step
        move = moved.view_as(at)
        found.view(-1)[place] = ((function(at + move) - function(at - move)) * weights).sum() / (2 * step)
    return found


# Where the angle is 0 or pi the kernel has the tip of a cone, whose central difference is of the order of the step.
LOOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


def special(x: torch.Tensor) -> torch.Tensor:
    """A copy, a parallel, an opposite, an almost equal vector and one that is none of it."""
    return torch.stack([x[0], 2.5 * x[1], -x[2], x[0] + 1e-12, x[0] + x[1]])


@pytest.mark.parametrize("bias", [0.0, 0.01])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("depth", [1, 2])
def test_gradients_are_right_for_copies_and_for_parallel_and_opposite_vectors(
    depth: int, regime: str, bias: float
) -> None:
    x = normal(3)
    y, weights = special(x), normal(3, 5, seed=7)
    kernel = built(6, depth=depth, regime=regime, bias_variance=bias)
    one, other = x.clone().requires_grad_(), y.clone().requires_grad_()
    by_one, by_other = torch.autograd.grad((weights * kernel(one, other)).sum(), (one, other))
    torch.testing.assert_close(by_one, central_difference(lambda moved: kernel(moved, y), x, weights), **LOOSE)
    torch.testing.assert_close(by_other, central_difference(lambda moved: kernel(x, moved), y, weights), **LOOSE)


@pytest.mark.parametrize("regime", REGIMES)
def test_gradients_of_the_gram_matrix_are_right_on_its_diagonal_and_for_copies(regime: str) -> None:
    kernel, x = built(6, depth=2, regime=regime), normal(3)
    alone = x.clone().requires_grad_()
    diagonal = torch.autograd.grad(kernel.gram(alone).diagonal().sum(), alone)[0]
    smooth = central_difference(kernel.diagonal, x, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(diagonal, smooth, rtol=1e-8, atol=1e-8)  # nothing of the cone is left there
    both = torch.cat([x, special(x)])
    tracked, weights = both.clone().requires_grad_(), normal(8, 8, seed=7)
    found = torch.autograd.grad((weights * kernel.gram(tracked)).sum(), tracked)[0]
    torch.testing.assert_close(found, central_difference(kernel.gram, both, weights), **LOOSE)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize(("depth", "bias"), [(1, 0.0), (1, 0.01), (3, 0.01)])
def test_gradients_are_right_at_the_zero_vector(depth: int, bias: float, regime: str) -> None:
    x, y = normal(3), normal(2, seed=1)
    x[1] = 0
    kernel, weights = built(6, depth=depth, regime=regime, bias_variance=bias), normal(3, 2, seed=7)
    tracked = x.clone().requires_grad_()
    found = torch.autograd.grad((weights * kernel(tracked, y)).sum(), tracked)[0]
    torch.testing.assert_close(found, central_difference(lambda moved: kernel(moved, y), x, weights), **LOOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("depth", [1, 3])
def test_without_bias_zeros_have_kernel_0_and_finite_gradients(depth: int, regime: str, dtype: torch.dtype) -> None:
    x = normal(3).to(dtype)
    x[1:] = 0
    kernel, tracked = built(6, depth=depth, regime=regime, bias_variance=0.0), x.clone().requires_grad_()
    gram, block = kernel.gram(tracked), kernel(tracked, x)
    assert float(gram.detach()[1:].abs().max()) < 1e-15
    assert float(block.detach()[1:].abs().max()) < 1e-15
    assert bool(torch.autograd.grad(gram.sum() + block.sum(), tracked)[0].isfinite().all())


@pytest.mark.parametrize("regime", REGIMES)
def test_float32_keeps_six_digits_of_a_block_and_three_of_a_copy(regime: str) -> None:
    """Of a copy the angle, 0, is known to the square root of the rounding; the NTK feels it, the NNGP does not.

    How many units the cosine loses is the processor's (the order of its sums): four of them make an angle of 1e-3.
    """
    x, y = normal(200, 3072), normal(30, 3072, seed=1)
    kernel = built(3072, regime=regime)
    y[:10] = x[:10]
    weights = normal(200, 30, seed=2)

    def everything(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        tracked = y.to(dtype).requires_grad_()
        value = kernel(x.to(dtype), tracked)
        return value.detach(), torch.autograd.grad((weights.to(dtype) * value).sum(), tracked)[0]

    (single, single_gradient), (double, double_gradient) = everything(torch.float32), everything(torch.float64)
    error = (single.double() - double).abs() / double.diagonal().mean()
    copies = torch.zeros_like(error, dtype=torch.bool)
    copies.diagonal()[:10] = True
    assert float(error[~copies].max()) < 1e-6
    assert float(error[copies].max()) < (1e-3 if regime == "ntk" else 1e-6)
    assert linalg.relative_error(single_gradient.double(), double_gradient) < 1e-5


@pytest.mark.parametrize("setting", [{"depth": 0}, {"slope": 1.0}, {"regime": "ntk2"}, {"bias_variance": -1}])
def test_settings_that_make_no_kernel_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(setting))):
        parse_plugin("kernels", {"kind": "fully_connected", **setting}, "kernel")
