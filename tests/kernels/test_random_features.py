import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse import kernels, settings
from stillhouse.errors import UserError
from stillhouse.kernels import convolutional, random_features, tiles
from stillhouse.kernels.random_features import Params, RandomFeatures

SHAPE = (2, 4, 4)
# A bias that counts, so that what goes wrong with it is seen.
BIAS = 0.3


def built(shape: tuple[int, ...] = SHAPE, seed: int = 0, **options: Any) -> RandomFeatures:
    kernel = kernels.build(Params(**{"networks": 2, "width": 5, "convolutions": (1, 1), **options}), shape, seed)
    assert isinstance(kernel, RandomFeatures)
    return kernel


def images(count: int, shape: tuple[int, ...] = SHAPE, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(one: torch.Tensor, other: torch.Tensor, **options: Any) -> torch.Tensor:
    params = convolutional.Params(regime="nngp", readout="flatten", **options)
    return kernels.build(params, tuple(one.shape[1:]))(one, other)


def draws(count: int, one: torch.Tensor, other: torch.Tensor, **options: Any) -> torch.Tensor:
    """(count, a, b): the kernels of so many networks, each by itself."""
    kernel = built(tuple(one.shape[1:]), **{**options, "networks": count})
    rows, columns = (kernel.features(side).reshape(len(side), count, -1) for side in (one, other))
    return count * torch.einsum("asp,bsp->sab", rows, columns) + kernel.offset


def standard_scores(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How many standard errors the mean of (s, a, b) is from (a, b)."""
    return (found.mean(0) - wanted) / (found.std(0) / math.sqrt(len(found)))


def test_the_mean_over_draws_is_the_exact_kernel_where_one_convolution_makes_it_unbiased() -> None:
    options: dict[str, Any] = {"convolutions": (1,), "bias_variance": BIAS, "weight_variance": 1.7}
    one, other = images(2), images(3, seed=2)
    found = draws(300, one, other, width=3, **options)
    scores = standard_scores(found, exact(one, other, **options))
    assert float(scores.abs().max()) < 3.5
    for wrong in ({"bias_variance": 0.0}, {"weight_variance": 1.2}):
        assert float(standard_scores(found, exact(one, other, **{**options, **wrong})).abs().max()) > 5


def test_of_more_convolutions_a_narrow_network_is_biased_and_a_wide_one_less() -> None:
    """Why the docstring says unbiased of one convolution only: the bias is of order 1 / width."""
    options: dict[str, Any] = {"convolutions": (2,), "bias_variance": 0.0}
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    wanted = exact(x, -x, **options)
    narrow, wide = (draws(300, x, -x, width=width, **options) for width in (1, 16))
    assert float(standard_scores(narrow, wanted)) < -6
    assert float(wanted - wide.mean()) < float(wanted - narrow.mean()) / 6


@pytest.mark.parametrize("name", ["networks", "width"])
def test_the_error_falls_as_one_over_the_root_of_networks_and_of_width(name: str) -> None:
    x = images(4)
    wanted = exact(x, x, convolutions=(1,), bias_variance=BIAS)
    errors = []
    for times in (1, 16):
        found = draws(60 * (times if name == "networks" else 1), x, x, convolutions=(1,), bias_variance=BIAS,
                      width=2 * (times if name == "width" else 1))  # fmt: skip
        means = found.reshape(60, -1, 4, 4).mean(1)
        errors.append(float((means - wanted).square().mean().sqrt()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.25)


def test_wide_networks_come_near_neural_tangents_convnet3() -> None:
    vectors = json.loads((Path(__file__).parent / "ntk_vectors.json").read_text(encoding="utf-8"))
    group = vectors["convolutional"]
    one, other = (_channels_first(group[side]) for side in ("one", "other"))
    wanted = torch.tensor(group["convnet3"]["nngp"], dtype=torch.float64)
    options = {
        "weight_variance": vectors["weight_variance"],
        "bias_variance": vectors["bias_variance"],
        "convolutions": (1, 1, 1),
    }
    found = draws(24, one.float(), other.float(), width=128, **options).double()
    assert float(standard_scores(found, wanted).abs().max()) < 3.5
    assert float((found.mean(0) - wanted).norm() / wanted.norm()) < 0.05


def _channels_first(described: dict[str, Any]) -> torch.Tensor:
    """Inputs of the test vectors, by the formula in them, (a, channels, height, width)."""
    shape, start = described["shape"], described["start"]
    i = torch.arange(start, start + math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.3 * i) + 0.5 * torch.cos((0.37 * i**2) % 7)).view(shape).permute(0, 3, 1, 2)


def test_the_kernel_is_rfads_two_phi_phi_transposed_plus_a_hundredth() -> None:
    """With the networks as PyTorch's modules, features flattened and divided by the root of how many there are."""
    kernel, x = built((3, 8, 8), convolutions=(1, 2), networks=3), images(4, (3, 8, 8))
    parts = []
    for layers in kernel.networks:
        first, second, third = (nn.Conv2d(len(w[0]), len(w), 3, padding=1).double() for w, _ in layers)
        for module, (weights, bias) in zip((first, second, third), layers, strict=True):
            module.weight.data, module.bias.data = weights.double(), bias.double()  # type: ignore[union-attr]
        pool = nn.AvgPool2d(2)
        network = nn.Sequential(first, nn.ReLU(), pool, second, nn.ReLU(), third, nn.ReLU(), pool, nn.Flatten())
        parts.append(network(x).detach())
    features = torch.cat(parts, 1)
    phi = features / math.sqrt(features.shape[1])
    torch.testing.assert_close(kernel(x[:2], x), 2 * phi[:2] @ phi.T + 0.01)


def test_weights_have_the_variance_over_nine_times_the_channels_and_biases_theirs() -> None:
    (first, second), *_ = built(width=100, weight_variance=1.5, bias_variance=0.2, networks=1).networks
    assert float(first[0].var()) == pytest.approx(1.5 / (9 * 2), rel=0.1)
    assert float(second[0].var()) == pytest.approx(1.5 / (9 * 100), rel=0.02)
    assert float(torch.cat([first[1], second[1]]).var()) == pytest.approx(0.2, rel=0.3)


def test_the_kernel_is_the_inner_product_of_its_features_plus_the_offset() -> None:
    kernel, one, other = built(), images(3), images(4, seed=2)
    features = kernel.features(one)
    assert features.shape == (3, 2 * 5)
    torch.testing.assert_close(kernel(one, other), features @ kernel.features(other).T + kernel.offset)


def test_gram_is_exactly_symmetric_and_agrees_with_the_kernel_and_the_diagonal() -> None:
    for dtype in (torch.float32, torch.float64):
        x = images(7).to(dtype)
        gram = built().gram(x)
        assert gram.dtype == dtype
        assert torch.equal(gram, gram.T)
        torch.testing.assert_close(gram, built()(x, x))
        torch.testing.assert_close(gram.diagonal(), built().diagonal(x))


def test_the_seed_alone_decides() -> None:
    state, x = torch.random.get_rng_state(), images(3)
    assert torch.equal(built(seed=5)(x, x), built(seed=5)(x, x))
    assert not torch.equal(built(seed=5)(x, x), built(seed=6)(x, x))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert kernels.random(Params())


def test_values_and_gradients_do_not_depend_on_how_many_images_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def value_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        kernel, y = built(), images(5).requires_grad_()
        value = kernel(images(3, seed=2), y)
        return value, torch.autograd.grad(value.square().sum(), y)[0]

    together = value_and_gradient()
    monkeypatch.setattr(random_features, "_AT_ONCE_CPU", 2 * 5 * 16)
    for few, all_ in zip(value_and_gradient(), together, strict=True):
        torch.testing.assert_close(few, all_)


@pytest.mark.parametrize("what", ["one", "other", "gram", "diagonal"])
def test_gradients_are_those_of_finite_differences(what: str) -> None:
    kernel, x, y = built(), images(2), images(3, seed=2)
    functions = {
        "one": lambda inputs: kernel(inputs, y),
        "other": lambda inputs: kernel(y, inputs),
        "gram": kernel.gram,
        "diagonal": kernel.diagonal,
    }
    assert torch.autograd.gradcheck(functions[what], (x.requires_grad_(),))


def test_images_that_need_no_gradient_are_not_followed_and_the_others_keep_no_activations() -> None:
    kernel, y = built((1, 8, 8), width=16, networks=1), images(50, (1, 8, 8)).requires_grad_()
    assert not kernel.features(images(3, (1, 8, 8))).requires_grad
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = kernel.features(y)
    # One layer's activations alone are 50 x 16 x 64 values.
    assert sum(kept.values()) <= y.numel() + features.numel()
    assert features.requires_grad


def test_tiling_passes_every_image_once_through_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    passed = []
    plain = random_features.activations

    def counted(images: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        passed.append(len(images))
        return plain(images, *rest, **named)

    monkeypatch.setattr(random_features, "activations", counted)
    kernel, one, other = built(networks=2), images(300), images(20, seed=2)
    limit = 300 * 20 * 8 * 3
    found = tiles.cross(kernel, one, other, limit)
    assert sum(passed) == 2 * 320
    torch.testing.assert_close(found, kernel(one, other))


def test_settings_that_do_not_go_with_the_images_are_refused() -> None:
    with pytest.raises(UserError, match="examples are images"):
        built((64,))
    with pytest.raises(UserError, match="4 x 4 pixels cannot be pooled 3 times"):
        built(convolutions=(1, 1, 1))
    with pytest.raises(UserError, match="here"):
        settings.parse_plugin("kernels", {"kind": "random_features", "convolutions": []}, "here")


def test_an_odd_row_is_left_out_as_by_the_exact_kernel() -> None:
    options: dict[str, Any] = {"convolutions": (1,), "bias_variance": BIAS}
    x = images(3, (1, 5, 3))
    scores = standard_scores(draws(300, x, x, width=3, **options), exact(x, x, **options))
    assert float(scores.abs().max()) < 3.5
