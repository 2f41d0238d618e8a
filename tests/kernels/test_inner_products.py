"""What holds for every kernel that is a function of inner products: linear, RBF, fully connected networks."""

from typing import Any

import pytest
import torch

from stillhouse import kernels, settings
from stillhouse.kernels import inner_products

SHAPE = (2, 3)
KERNELS: list[dict[str, Any]] = [
    {"kind": "linear", "weight_variance": 1.5, "bias_variance": 0.2},
    {"kind": "rbf", "gamma": 0.7},
    {"kind": "fully_connected"},
    {"kind": "fully_connected", "depth": 3, "slope": 0.2},
    {"kind": "fully_connected", "depth": 2, "regime": "nngp"},
]
every = pytest.mark.parametrize("raw", KERNELS, ids=lambda raw: "-".join(str(value) for value in raw.values()))


def built(raw: dict[str, Any], shape: tuple[int, ...] = SHAPE) -> kernels.Kernel:
    return kernels.build(settings.parse_plugin("kernels", raw, "kernel"), shape)


def inputs(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(value: torch.Tensor, weights: torch.Tensor, *of: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad((value * weights).sum(), of)


@pytest.fixture(params=[1, 8, 2**18], ids=["rows", "few", "whole"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of one row, of some rows with a rest, and one tile."""
    monkeypatch.setattr(inner_products, "_TILE_ON_CPU", request.param)


@every
@pytest.mark.usefixtures("tiles")
def test_the_gram_matrix_is_the_block_of_a_set_with_itself_and_exactly_symmetric(raw: dict[str, Any]) -> None:
    kernel, x = built(raw), inputs(11)
    found = kernel.gram(x)
    torch.testing.assert_close(found, kernel(x, x), rtol=1e-7, atol=1e-7)  # on the diagonal, the angle's rounding
    off = ~torch.eye(11, dtype=torch.bool)
    torch.testing.assert_close(found[off], kernel(x, x)[off], rtol=1e-12, atol=1e-12)
    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), kernel.diagonal(x))


@every
def test_tiles_change_nothing_but_rounding(raw: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, x, y = built(raw), inputs(11).requires_grad_(), inputs(5, seed=1).requires_grad_()

    def everything() -> list[torch.Tensor]:
        block, gram = kernel(x, y), kernel.gram(x)
        block_weights, gram_weights = inputs(55, seed=2)[:, 0, 0].view(11, 5), inputs(121, seed=3)[:, 0, 0].view(11, 11)
        return [block, gram, *gradients(block, block_weights, x, y), *gradients(gram, gram_weights, x)]

    whole = everything()
    monkeypatch.setattr(inner_products, "_TILE_ON_CPU", 10)
    for one, other in zip(whole, everything(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@every
def test_gradients_are_what_finite_differences_give(raw: dict[str, Any]) -> None:
    kernel, x, y = built(raw), inputs(4).requires_grad_(), inputs(3, seed=1).requires_grad_()
    tight: dict[str, Any] = {"eps": 1e-5, "atol": 1e-8, "rtol": 1e-7}
    assert torch.autograd.gradcheck(kernel, (x, y), **tight)
    assert torch.autograd.gradcheck(kernel, (x.detach(), y), **tight)
    assert torch.autograd.gradcheck(kernel, (x, y.detach()), **tight)
    assert torch.autograd.gradcheck(kernel.gram, (x,), **tight)
    assert torch.autograd.gradcheck(kernel.diagonal, (x,), **tight)


@every
def test_one_tensor_as_both_arguments_gets_both_gradients(raw: dict[str, Any]) -> None:
    kernel, x = built(raw), inputs(4).requires_grad_()
    weights = torch.ones(4, 4, dtype=torch.float64).triu(1)  # off the diagonal
    both = gradients(kernel(x, x), weights, x)[0]
    torch.testing.assert_close(both, gradients(kernel.gram(x), weights, x)[0], rtol=1e-10, atol=1e-10)


@every
def test_values_are_the_same_bits_with_a_gradient_and_without(raw: dict[str, Any]) -> None:
    kernel, x, y = built(raw), inputs(6), inputs(3, seed=1)
    kept = x.clone(), y.clone()
    tracked = kernel(x.clone().requires_grad_(), y), kernel.gram(x.clone().requires_grad_())
    assert torch.equal(kernel(x, y), tracked[0])
    assert torch.equal(kernel.gram(x), tracked[1])
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


@every
def test_backward_can_be_repeated(raw: dict[str, Any]) -> None:
    kernel, x, y = built(raw), inputs(6).requires_grad_(), inputs(3, seed=1)
    for value in (kernel(x, y).sum(), kernel.gram(x).sum()):
        first = torch.autograd.grad(value, x, retain_graph=True)[0]
        assert torch.equal(torch.autograd.grad(value, x)[0], first)


@every
def test_one_matrix_is_all_that_is_kept_for_the_gradient(raw: dict[str, Any]) -> None:
    kernel, x, y = built(raw), inputs(40), inputs(30, seed=1).requires_grad_()
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kernel(x, y)
    assert sum(tensor.numel() for tensor in kept) <= 40 * 30 + 2 * (40 + 30) + x.numel() + y.numel()
    assert [tuple(tensor.shape) for tensor in kept].count((40, 30)) == 1


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_inputs(raw: dict[str, Any], dtype: torch.dtype) -> None:
    kernel, x = built(raw), inputs(3, dtype=dtype).requires_grad_()
    for value in (kernel(x, x), kernel.gram(x), kernel.diagonal(x)):
        assert value.dtype == dtype
        assert gradients(value, torch.ones_like(value), x)[0].dtype == dtype


@every
def test_one_example_is_enough(raw: dict[str, Any]) -> None:
    kernel, x = built(raw), inputs(1)
    torch.testing.assert_close(kernel.gram(x)[0], kernel.diagonal(x))
    torch.testing.assert_close(kernel(x, x)[0], kernel.diagonal(x), rtol=1e-7, atol=1e-7)


@every
def test_the_gram_matrix_of_standardised_images_is_positive(raw: dict[str, Any]) -> None:
    """Fewer images than pixels, smooth as photographs are: neighbours average each other."""
    noise = torch.randn(120, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
    for dtype, floor in ((torch.float64, 0.0), (torch.float32, -1e-5)):
        gram = built(raw, (3, 16, 16)).gram(images.to(dtype)).double()
        assert float(torch.linalg.eigvalsh(gram)[0]) > floor * float(gram.diagonal().mean())
