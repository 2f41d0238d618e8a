import math

import pytest
import torch

from stillhouse.kernels.arc_cosine import LeakyReLU, expectations

SLOPES = [0.0, 0.1, 0.7]


def by_integration(cosine: float, slope: float) -> tuple[float, float]:
    """E[phi(u) phi(v)], E[phi'(u) phi'(v)] of standard Gaussians: (u, v) = rho (cos s, cos(s - t)), s uniform, E[rho^2] = 2."""
    points = 400_000
    around = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * math.pi / points)
    u, v = around.cos(), (around - math.acos(cosine)).cos()
    activated = [torch.where(each > 0, each, slope * each) for each in (u, v)]
    slopes = [torch.where(each > 0, 1.0, slope).double() for each in (u, v)]
    return 2 * float((activated[0] * activated[1]).mean()), float((slopes[0] * slopes[1]).mean())


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("cosine", [-1.0, -0.8, 0.0, 0.3, 0.999, 1.0])
def test_expectations_are_the_integrals_over_the_gaussian_plane(cosine: float, slope: float) -> None:
    product, derivative = expectations(numbers(cosine), numbers(1.0), numbers(1.0), slope)
    wanted = by_integration(cosine, slope)
    assert float(product) == pytest.approx(wanted[0], abs=1e-9)
    assert float(derivative) == pytest.approx(wanted[1], abs=2e-5)  # a step function, on so many points


@pytest.mark.parametrize("slope", SLOPES)
def test_variances_scale_the_product_and_not_the_derivative(slope: float) -> None:
    p, q, cosine = 2.5, 0.4, -0.3
    product, derivative = expectations(numbers(cosine * math.sqrt(p * q)), numbers(p), numbers(q), slope)
    unit = expectations(numbers(cosine), numbers(1.0), numbers(1.0), slope)
    torch.testing.assert_close(product, math.sqrt(p * q) * unit[0])
    torch.testing.assert_close(derivative, unit[1])


@pytest.mark.parametrize("slope", SLOPES)
def test_of_one_variable_the_square_is_half_of_the_variance(slope: float) -> None:
    product, derivative = expectations(numbers(3.0), numbers(3.0), numbers(3.0), slope)
    assert float(product) == pytest.approx(LeakyReLU(slope).half * 3)
    assert float(derivative) == pytest.approx(LeakyReLU(slope).half, abs=1e-7)


@pytest.mark.parametrize("slope", SLOPES)
def test_gradients_are_what_finite_differences_give_and_broadcast(slope: float) -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = (torch.rand(size, generator=rng, dtype=torch.float64) + 0.5 for size in ((4, 1), (3,)))
    cosine = torch.rand(2, 4, 3, generator=rng, dtype=torch.float64) * 1.8 - 0.9
    covariance = cosine * (one * other).sqrt()
    given = [each.requires_grad_() for each in (covariance, one, other)]
    assert torch.autograd.gradcheck(lambda k, p, q: expectations(k, p, q, slope), given, eps=1e-6, atol=1e-8, rtol=1e-7)


@pytest.mark.parametrize("cosine", [1.0, -1.0])
def test_at_the_tip_of_the_cone_the_derivatives_are_finite_and_the_smooth_ones_right(cosine: float) -> None:
    # Variances with roots that no processor rounds: the cosine is 1 or -1 to the last bit.
    given = numbers(cosine * 4).requires_grad_(), numbers(4.0).requires_grad_(), numbers(4.0).requires_grad_()
    product, derivative = expectations(*given, 0.0)
    by_product = torch.autograd.grad(product, given, retain_graph=True)
    assert [float(each) for each in by_product] == pytest.approx([0.5 if cosine > 0 else 0.0, 0, 0], abs=1e-7)
    assert [float(each) for each in torch.autograd.grad(derivative, given)] == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_variance_nothing_comes_out_and_all_derivatives_are_finite(dtype: torch.dtype) -> None:
    given = (
        torch.zeros(3, dtype=dtype, requires_grad=True),
        torch.tensor([0.0, 0.0, 1.0], dtype=dtype, requires_grad=True),
        torch.tensor([0.0, 1.0, 0.0], dtype=dtype, requires_grad=True),
    )
    product, derivative = expectations(*given, 0.1)
    assert float(product.detach().abs().max()) < 1e-15
    found = torch.autograd.grad(product.sum() + derivative.sum(), given)
    assert all(bool(each.isfinite().all()) for each in found)


def test_rounding_above_one_counts_as_parallel() -> None:
    product, derivative = expectations(numbers(1 + 1e-15), numbers(1.0), numbers(1.0), 0.0)
    assert float(product) == pytest.approx(0.5)
    assert float(derivative) == 0.5
