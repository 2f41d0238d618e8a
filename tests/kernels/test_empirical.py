import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from stillhouse import kernels, settings
from stillhouse.errors import UserError
from stillhouse.kernels import convolutional, empirical, fully_connected
from stillhouse.kernels.empirical import Empirical, Params

SHAPE = (1, 4, 8)
# A bias that counts, so that what goes wrong with it is seen.
BIAS = 0.3

NETWORKS: dict[str, Any] = {
    "one hidden layer": fully_connected.Params(depth=1, bias_variance=BIAS),
    "three hidden layers": fully_connected.Params(depth=3, slope=0.2, weight_variance=1.5, bias_variance=BIAS),
    "blocks, flattened": convolutional.Params((2, 1), bias_variance=BIAS),
    "blocks, global": convolutional.Params((1, 1), readout="global", slope=0.1, bias_variance=BIAS),
    "no pooling": convolutional.Params((2,), pooling="none", bias_variance=BIAS),
    "no pooling, global": convolutional.Params((2,), pooling="none", readout="global", bias_variance=BIAS),
}


def changed(of: Any, **options: Any) -> Any:
    return type(of)(**{**of.__dict__, **options})


def built(of: Any, shape: tuple[int, ...] = SHAPE, seed: int = 0, **options: Any) -> Empirical:
    kernel = kernels.build(Params(of, **{"width": 48, "networks": 40, **options}), shape, seed)
    assert isinstance(kernel, Empirical)
    return kernel


def images(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def infinite(of: Any, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return kernels.build(of, tuple(one.shape[1:]))(one, other)


def standard_scores(draws: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How many standard errors the mean of (s, a, b) is from (a, b)."""
    return (draws.mean(0) - wanted) / (draws.std(0) / math.sqrt(len(draws)))


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
@pytest.mark.parametrize("name", NETWORKS)
def test_infinite_kernels_are_what_finite_networks_have_within_the_error_of_the_sample(name: str, regime: Any) -> None:
    of = changed(NETWORKS[name], regime=regime)
    one, other = images(3), images(4, seed=2)
    draws = torch.stack(list(built(of).draws(one, other)))
    wanted = infinite(of, one, other)
    assert float(standard_scores(draws, wanted).abs().max()) < 4
    assert float((draws.mean(0) - wanted).norm() / wanted.norm()) < 0.15


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_wrong_recursion_is_seen(name: str, regime: Any) -> None:
    of = changed(NETWORKS[name], regime=regime)
    x = images(3)
    draws = torch.stack(list(built(of).draws(x, x)))
    wrong = [changed(of, bias_variance=0.0), changed(of, weight_variance=of.weight_variance * 1.3)]
    wrong.append(changed(of, regime={"nngp": "ntk", "ntk": "nngp"}[regime]))
    if isinstance(of, convolutional.Params) and of.pooling == "none":  # else few pixels are left, and those much alike
        wrong.append(changed(of, readout={"flatten": "global", "global": "flatten"}[of.readout]))
    for params in wrong:
        assert float(standard_scores(draws, infinite(params, x, x)).abs().max()) > 5


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_the_error_falls_as_one_over_the_root_of_the_width(regime: Any) -> None:
    of = changed(NETWORKS["one hidden layer"], regime=regime)
    x = images(4)
    errors = []
    for width in (16, 256):
        draws = torch.stack(list(built(of, width=width, networks=60).draws(x, x)))
        errors.append(float((draws - infinite(of, x, x)).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


def test_the_tangent_kernel_of_one_hidden_layer_is_its_closed_form() -> None:
    """Jacot et al. (2018): by hand, with the parameters that were drawn."""
    of = changed(NETWORKS["one hidden layer"], slope=0.2)
    kernel, x = built(of, networks=1, width=7), images(3)
    w, b, d, n = of.weight_variance, BIAS, 32, 7
    first, bias, last, _ = kernel.network.drawn(kernel.seeds[0], x)
    before = x.flatten(1) @ first.T * math.sqrt(w / d) + bias * math.sqrt(b)
    hidden, slopes = functional.leaky_relu(before, 0.2), torch.where(before > 0, 1.0, 0.2) * last[0]
    inputs = w / d * x.flatten(1) @ x.flatten(1).T + b
    wanted = w / n * hidden @ hidden.T + b + w / n * (slopes @ slopes.T) * inputs
    torch.testing.assert_close(kernel(x, x), wanted)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_tangent_kernel_is_the_inner_product_of_derivatives_by_every_parameter(name: str) -> None:
    """By central differences of the output."""
    kernel, x = built(NETWORKS[name], networks=1, width=3), images(2)
    drawn, step = kernel.network.drawn(kernel.seeds[0], x), 1e-6
    rows = []
    for example in x:
        derivatives = []
        for place, tensor in enumerate(drawn):
            for entry in range(tensor.numel()):
                ends = []
                for sign in (1, -1):
                    moved = [each.clone() for each in drawn]
                    moved[place].view(-1)[entry] += sign * step
                    ends.append(kernel.network.output(tuple(moved), example))
                derivatives.append((ends[0] - ends[1]) / (2 * step))
        rows.append(torch.stack(derivatives))
    jacobian = torch.stack(rows)
    torch.testing.assert_close(kernel(x, x), jacobian @ jacobian.T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
@pytest.mark.parametrize("name", ["three hidden layers", "blocks, flattened"])
def test_gram_is_symmetric_and_agrees_with_the_kernel_the_diagonal_and_the_mean_of_the_draws(
    name: str, regime: Any
) -> None:
    for dtype in (torch.float32, torch.float64):
        kernel, x = built(changed(NETWORKS[name], regime=regime), networks=2, width=8), images(3).to(dtype)
        gram = kernel.gram(x)
        assert gram.dtype == dtype
        assert torch.equal(gram, gram.T)
        torch.testing.assert_close(gram, kernel(x, x))
        torch.testing.assert_close(gram.diagonal(), kernel.diagonal(x))
        torch.testing.assert_close(gram, torch.stack(list(kernel.draws(x, x))).mean(0))


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
def test_values_do_not_depend_on_how_many_examples_go_at_once(regime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    of = changed(NETWORKS["blocks, flattened"], regime=regime)
    one, other = images(3), images(5, seed=2)
    together = built(of, networks=2, width=4)
    monkeypatch.setattr(empirical, "_AT_ONCE", 1)
    single = built(of, networks=2, width=4)
    torch.testing.assert_close(single(one, other), together(one, other))
    torch.testing.assert_close(single.diagonal(one), together.diagonal(one))


@pytest.mark.parametrize("regime", ["nngp", "ntk"])
@pytest.mark.parametrize("name", ["three hidden layers", "no pooling"])
def test_gradients_are_those_of_finite_differences_of_the_same_networks(name: str, regime: Any) -> None:
    kernel = built(changed(NETWORKS[name], regime=regime), (1, 2, 3), networks=1, width=3)
    one, other = images(1, (1, 2, 3)).requires_grad_(), images(2, (1, 2, 3), seed=2).requires_grad_()
    assert torch.autograd.gradcheck(kernel, (one, other))


def test_the_seed_alone_decides_and_every_network_is_another() -> None:
    of, x, state = NETWORKS["one hidden layer"], images(3), torch.random.get_rng_state()
    assert torch.equal(built(of, seed=5)(x, x), built(of, seed=5)(x, x))
    assert not torch.equal(built(of, seed=5)(x, x), built(of, seed=6)(x, x))
    one, other = built(of, networks=2).draws(x, x)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert kernels.random(Params())


def test_settings_are_read_with_those_of_the_infinite_kernel_and_come_back() -> None:
    raw = {"kind": "empirical", "of": {"kind": "convolutional", "convolutions": [1]}, "width": 8}
    parsed = settings.parse_plugin("kernels", raw, "here")
    assert parsed == Params(convolutional.Params((1,)), width=8)
    assert settings.parse_plugin("kernels", settings.dump(parsed), "here") == parsed


def test_what_is_no_network_is_refused_and_so_are_inputs_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"here.*only fully_connected and convolutional.*'rbf'"):
        settings.parse_plugin("kernels", {"kind": "empirical", "of": "rbf"}, "here")
    with pytest.raises(UserError, match="images"):
        built(NETWORKS["no pooling"], (12,))
