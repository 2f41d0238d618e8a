"""Kernels of infinitely wide convolutional networks against neural-tangents' values, loops, and finite differences."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from stillhouse import kernels, settings
from stillhouse.errors import UserError
from stillhouse.kernels import arc_cosine, convolutional, pixel_pairs
from stillhouse.kernels.convolutional import Params

Regime = Literal["ntk", "nngp"]
VECTORS = json.loads((Path(__file__).parent / "ntk_vectors.json").read_text(encoding="utf-8"))["convolutional"]
NETWORKS: dict[str, dict[str, Any]] = {
    "convnet3": {"convolutions": (1, 1, 1)},
    "convnet": {"convolutions": (2, 1, 1)},
    "myrtle5": {"convolutions": (2, 1, 1), "readout": "global"},
    "myrtle10": {"convolutions": (3, 3, 3), "readout": "global"},
}
# One of each kind of first layer, last layer and readout, for images of 4 x 5 pixels.
SMALL = [
    Params((1,)),
    Params((1, 1), slope=0.2),
    Params((2, 1), regime="nngp"),
    Params((1, 2), readout="global"),
    Params((2,), pooling="none"),
    Params((2,), pooling="none", readout="global"),
    Params((1, 1), bias_variance=0.0, regime="nngp"),
]


def closed_form(start: int, shape: list[int]) -> torch.Tensor:
    """The vectors' inputs, channels first."""
    i = torch.arange(start, start + math.prod(shape), dtype=torch.float64)
    values = torch.sin(1.3 * i) + 0.5 * torch.cos((0.37 * i**2) % 7)
    return values.reshape(shape).permute(0, 3, 1, 2).contiguous()


def images(count: int, seed: int = 0, shape: tuple[int, int, int] = (2, 4, 5)) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def kernel_of(params: Params, shape: tuple[int, ...] = (2, 4, 5)) -> convolutional.Convolutional:
    return convolutional.build(params, shape)


def by_loops(one: torch.Tensor, other: torch.Tensor, regime: str) -> float:
    """Convolution, ReLU, 2 x 2 pooling, flattening, dense layer for one pair (C, h, w), as the recursion is written."""
    channels, height, width = one.shape
    pixels = list(itertools.product(range(height), range(width)))

    def first(x: torch.Tensor, y: torch.Tensor, p: tuple[int, int], q: tuple[int, int]) -> float:
        total = 0.0
        for i, j in itertools.product((-1, 0, 1), repeat=2):
            a, b, c, d = p[0] + i, p[1] + j, q[0] + i, q[1] + j
            if 0 <= a < height and 0 <= b < width and 0 <= c < height and 0 <= d < width:
                total += float(x[:, a, b] @ y[:, c, d]) / channels
        return 2 * total / 9 + 0.01

    mean = 0.0
    for p, q in itertools.product(pixels, repeat=2):
        if (p[0] // 2, p[1] // 2) != (q[0] // 2, q[1] // 2):
            continue
        covariance, radius = first(one, other, p, q), math.sqrt(first(one, one, p, p) * first(other, other, q, q))
        angle = math.acos(covariance / radius)
        derivative = (math.pi - angle) / (2 * math.pi)
        product = radius * math.sin(angle) / (2 * math.pi) + covariance * derivative
        tangent = covariance * derivative if regime == "ntk" else 0.0
        mean += (product + tangent) / 16
    return 2 * mean / (height // 2 * (width // 2)) + 0.01


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
@pytest.mark.parametrize("network", NETWORKS)
def test_values_are_those_of_neural_tangents(network: str, regime: str) -> None:
    one, other = (closed_form(VECTORS[side]["start"], VECTORS[side]["shape"]) for side in ("one", "other"))
    params = settings.parse_plugin("kernels", {"kind": "convolutional", "regime": regime, **NETWORKS[network]}, "here")
    found = kernels.build(params, tuple(one.shape[1:]))(one, other)
    wanted = torch.tensor(VECTORS[network][regime], dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)


@pytest.mark.parametrize("regime", ["ntk", "nngp"])
def test_one_pooled_convolution_is_what_loops_over_pixels_give(regime: Regime) -> None:
    one, other = images(1, 1, (2, 4, 4)), images(1, 2, (2, 4, 4))
    found = kernel_of(Params((1,), regime=regime), (2, 4, 4))(one, other)
    assert float(found) == pytest.approx(by_loops(one[0], other[0], regime), rel=1e-12)


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("regime", ["ntk", "nngp"])
def test_equal_pixels_alone_give_what_all_pairs_of_pixels_give(regime: Regime, depth: int) -> None:
    params = Params((depth,), pooling="none", regime=regime, slope=0.1)
    fast, slow = kernel_of(params), kernel_of(params)
    slow._tile.states, slow._tile.same = pixel_pairs.AllPairs(), False
    x, y = images(5), images(4, 1)
    torch.testing.assert_close(fast(x, y), slow(x, y), rtol=1e-12, atol=0)
    torch.testing.assert_close(fast.diagonal(x), slow.diagonal(x), rtol=1e-7, atol=0)


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("tangent", [True, False])
def test_the_fused_first_block_is_relu_then_pooling(tangent: bool, slope: float) -> None:
    patches, other = (torch.randn(3, 20, 7, generator=torch.Generator().manual_seed(i)).double() for i in (0, 1))
    side, states = (4, 5), pixel_pairs.AllPairs()
    fused = pixel_pairs.pooled_relu(
        pixel_pairs.by_window(patches, side), pixel_pairs.by_window(other, side), arc_cosine.LeakyReLU(slope), tangent
    )
    kernel = states.first(patches, other, side)
    of_one = states.of_one(patches.square().sum(-1), kernel)
    of_other = states.of_other(other.square().sum(-1), kernel)
    product, derivative = arc_cosine.expectations(kernel, of_one, of_other, slope)
    plain = [product, kernel * derivative] if tangent else [product]
    for found, wanted in zip(fused, plain, strict=True):
        torch.testing.assert_close(found, pixel_pairs.as_matrix(pixel_pairs.pool(wanted)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("params", SMALL, ids=str)
def test_a_gram_matrix_is_exactly_symmetric_and_the_kernel_of_all_pairs(params: Params) -> None:
    kernel, x = kernel_of(params), images(5)
    gram = kernel.gram(x)
    assert torch.equal(gram, gram.T)
    torch.testing.assert_close(gram, kernel(x, x), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(gram.diagonal(), kernel.diagonal(x), rtol=1e-7, atol=1e-9)
    assert float(torch.linalg.eigvalsh(gram)[0]) > 0


def mismatch(function: Callable[..., torch.Tensor], given: Sequence[torch.Tensor], step: float) -> float:
    """Of the derivative along random directions, relative to central differences; the worst of three."""
    rng, worst = torch.Generator().manual_seed(2), 0.0
    leaves = [each.clone().requires_grad_() for each in given]
    weights = torch.randn(function(*given).shape, generator=rng, dtype=torch.float64)
    gradients = torch.autograd.grad((function(*leaves) * weights).sum(), leaves)
    for _ in range(3):
        along = [torch.randn(each.shape, generator=rng, dtype=torch.float64) for each in given]
        ahead, behind = (
            function(*(x + sign * step * d for x, d in zip(given, along, strict=True))) for sign in (1, -1)
        )
        wanted = float(((ahead - behind) * weights).sum()) / (2 * step)
        found = float(sum((g * d).sum() for g, d in zip(gradients, along, strict=True)))
        worst = max(worst, abs(found - wanted) / abs(wanted))
    return worst


@pytest.mark.parametrize("params", SMALL, ids=str)
def test_gradients_are_those_of_finite_differences(params: Params) -> None:
    kernel, x, y = kernel_of(params), images(2), images(3, 1)
    assert mismatch(kernel, (x, y), 1e-5) < 1e-6
    assert mismatch(lambda one: kernel(one, y), (x,), 1e-5) < 1e-6
    assert mismatch(lambda other: kernel(x, other), (y,), 1e-5) < 1e-6
    assert mismatch(lambda other: kernel(x, other + 0.01), (x,), 1e-5) < 1e-4  # near the tip of the cone


@pytest.mark.parametrize("params", SMALL, ids=str)
def test_gradients_where_images_meet_themselves_are_those_of_finite_differences(params: Params) -> None:
    """Cosines of 1, whose rounding a larger step drowns."""
    kernel, x = kernel_of(params), images(3)
    assert mismatch(kernel.gram, (x,), 1e-3) < 1e-3
    assert mismatch(kernel.diagonal, (x,), 1e-3) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("params", SMALL, ids=str)
def test_gradients_at_equal_images_and_at_blank_ones_are_finite(params: Params, dtype: torch.dtype) -> None:
    x = images(3).to(dtype)
    x[0] = 0
    x.requires_grad_()
    kernel = kernel_of(params)
    for value in (kernel.gram(x), kernel(x, x), kernel(x, x.detach().clone()), kernel.diagonal(x)):
        (gradient,) = torch.autograd.grad(value.sum(), x)
        assert bool(torch.isfinite(gradient).all())
        assert float(gradient.abs().max()) < 100


@pytest.mark.parametrize("params", SMALL, ids=str)
def test_float32_agrees_with_float64(params: Params) -> None:
    kernel, x, y = kernel_of(params), images(4), images(3, 1)
    value = kernel(x.float(), y.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), kernel(x, y), rtol=1e-5, atol=1e-6)
    # On the diagonal the angle is the square root of a rounding.
    torch.testing.assert_close(kernel.gram(x.float()).double(), kernel.gram(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("near", [1, 100, 2**20])
@pytest.mark.parametrize("params", [Params((1, 1)), Params((2,), pooling="none")], ids=str)
def test_no_value_depends_on_how_many_pairs_are_done_at_once(
    params: Params, near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = images(5), images(7, 1).requires_grad_()
    kernel = kernel_of(params)
    wanted = kernel(x, y)
    (gradient,) = torch.autograd.grad(wanted.square().sum(), y)
    monkeypatch.setattr(convolutional, "_NEAR", near)
    monkeypatch.setattr(convolutional, "_TILE", 40_000 * near)
    found = kernel(x, y)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), y)[0], gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(kernel.gram(x), kernel(x, x), rtol=1e-7, atol=1e-9)


def test_an_odd_last_row_or_column_is_left_out_of_pooling() -> None:
    x, y = images(2, 0, (1, 5, 5)), images(2, 1, (1, 5, 5))
    kernel = kernel_of(Params((1,)), (1, 5, 5))
    # The convolution before pooling still sees the last row, the patches around it are left out.
    moved = x.clone()
    moved[:, :, 4, 4] += 1  # seen by the patch around (3, 3)
    assert not torch.equal(kernel(moved, y), kernel(x, y))
    torch.testing.assert_close(pixel_pairs.windows((5, 5)), pixel_pairs.windows((4, 5)))


@pytest.mark.parametrize(("shape", "said"), [((12,), "images"), ((3, 4, 4), "cannot be pooled 3 times")])
def test_examples_that_do_not_go_with_the_network_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        convolutional.build(Params(), shape)


@pytest.mark.parametrize("wrong", [{"convolutions": []}, {"convolutions": [1, 0]}, {"pooling": "max"}])
def test_settings_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"here.{next(iter(wrong))}"):
        settings.parse_plugin("kernels", {"kind": "convolutional", **wrong}, "here")
