import pytest
import torch

from stillhouse import kernels
from stillhouse.errors import UserError
from stillhouse.kernels import rbf
from stillhouse.settings import parse_plugin


def differences(x: torch.Tensor, y: torch.Tensor, gamma: float) -> torch.Tensor:
    """The formula, pair by pair, in float64."""
    return (-gamma * (x.double()[:, None] - y.double()).square().mean(2)).exp()


def inputs(count: int, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 4.0])
def test_it_is_the_formula_pair_by_pair(gamma: float) -> None:
    kernel, x, y = kernels.build(rbf.Params(gamma), (6,)), inputs(7), inputs(4, seed=1)
    torch.testing.assert_close(kernel(x, y), differences(x, y, gamma), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(kernel.gram(x), differences(x, x, gamma), rtol=1e-13, atol=1e-15)


def test_an_example_is_exactly_like_itself() -> None:
    x = 1e3 * inputs(9).float()
    kernel = kernels.build(rbf.Params(), (6,))
    assert torch.equal(kernel.gram(x).diagonal(), torch.ones(9))
    assert torch.equal(kernel.diagonal(x), torch.ones(9))


def test_rounding_makes_no_two_examples_more_alike_than_one_is_to_itself() -> None:
    x = torch.randn(300, 50, generator=torch.Generator().manual_seed(0))
    found = kernels.build(rbf.Params(), (50,))(x, x.clone()).diagonal()
    assert float(found.max()) == 1
    assert float(found.min()) > 1 - 1e-5


@pytest.mark.parametrize("call", ["cross", "gram"])
def test_what_all_examples_have_in_common_costs_no_digits(call: str) -> None:
    """Without moving the inputs float32 would lose the distances: (100^2 eps) is above 1e-4."""
    x, y = (100 + inputs(5).float()), (100 + inputs(4, seed=1).float())
    kernel = kernels.build(rbf.Params(), (6,))
    found, wanted = (
        (kernel(x, y), differences(x, y, 1.0)) if call == "cross" else (kernel.gram(x), differences(x, x, 1.0))
    )
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)


def test_gradients_are_right_where_examples_coincide() -> None:
    """k is smooth there: no derivative at a copy."""
    kernel, x = kernels.build(rbf.Params(2.0), (6,)), inputs(3)
    y = torch.cat([x[:2], x[:1] + 1e-9]).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (x.requires_grad_(), y), eps=1e-5, atol=1e-9)
    pairs = torch.cat([x, x]).detach().requires_grad_()
    assert torch.autograd.gradcheck(kernel.gram, (pairs,), eps=1e-5, atol=1e-9)


def test_a_gamma_that_makes_no_kernel_is_refused() -> None:
    with pytest.raises(UserError, match="gamma"):
        parse_plugin("kernels", {"kind": "rbf", "gamma": 0}, "kernel")
