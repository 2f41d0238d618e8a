import math

import pytest
import torch

from stillhouse import features, plugins, settings
from stillhouse.run import stream

DIM = 12


def inputs(count: int = 7, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(3), dtype=dtype)


def built(kind: str, seed: int = 0, **options: float) -> features.FeatureMap:
    return features.build(settings.parse_plugin("features", {"kind": kind, **options}, kind), DIM, seed)


@pytest.mark.parametrize("kind", plugins.available("features"))
def test_every_map_gives_p_features_of_the_inputs_type(kind: str) -> None:
    for dtype in (torch.float32, torch.float64):
        found = built(kind)(inputs(dtype=dtype))
        assert found.shape == (7, built(kind).dim)
        assert found.dtype == dtype


@pytest.mark.parametrize("kind", plugins.available("features"))
def test_every_map_gives_its_own_features_back_from_what_inverse_finds(kind: str) -> None:
    feature_map = built(kind)
    wanted = torch.randn(5, feature_map.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = wanted / feature_map.reach(wanted)
    found = feature_map(feature_map.inverse(wanted))
    assert float((found - wanted).abs().max()) < 1e-10


@pytest.mark.parametrize("kind", plugins.available("features"))
def test_every_map_leaves_its_input_alone(kind: str) -> None:
    given = inputs()
    kept = given.clone()
    built(kind)(given)
    assert torch.equal(given, kept)


@pytest.mark.parametrize("kind", ["random_network", "random_fourier"])
def test_a_random_map_is_drawn_from_its_seed_alone(kind: str) -> None:
    state = torch.random.get_rng_state()
    again = plugins.load("features", kind)
    params = again.Params()
    assert torch.equal(again.build(params, DIM, 5)(inputs()), again.build(params, DIM, 5)(inputs()))
    assert not torch.equal(again.build(params, DIM, 5)(inputs()), again.build(params, DIM, 6)(inputs()))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_network_is_the_formula_of_example_5_2_by_hand() -> None:
    feature_map = built("random_network", slope=0.1)
    product = inputs() @ feature_map.layers[0]  # type: ignore[attr-defined]
    torch.testing.assert_close(feature_map(inputs()), torch.where(product > 0, product, 0.1 * product))


def test_the_networks_weights_have_variance_one_over_fan_in() -> None:
    module = plugins.load("features", "random_network")
    weights = module.build(module.Params(), 400, 0).layers[0]
    assert float(weights.std()) == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert abs(float(weights.mean())) < 1e-3


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_network_of_any_depth_is_undone_layer_by_layer(depth: int) -> None:
    feature_map = built("random_network", depth=depth)
    assert len(feature_map.layers) == depth  # type: ignore[attr-defined]
    torch.testing.assert_close(feature_map.inverse(feature_map(inputs())), inputs(), rtol=1e-8, atol=1e-8)


def test_fourier_features_approach_the_gaussian_kernel() -> None:
    module = plugins.load("features", "random_fourier")
    dim, variance = 1500, 900.0
    feature_map = module.build(module.Params(variance=variance), dim, 0)
    x = torch.randn(6, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.7
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * variance))
    # The error of a mean over p features is of the order of 1 / sqrt(p).
    assert float((feature_map(x) @ feature_map(x).T - kernel).abs().max()) < 4 / math.sqrt(dim)


def test_fourier_phases_fill_the_whole_circle_as_in_the_paper() -> None:
    module = plugins.load("features", "random_fourier")
    phases = module.build(module.Params(), 2000, 0).phases
    assert 0 <= float(phases.min()) < 0.05
    assert 6.2 < float(phases.max()) < 2 * math.pi


def test_what_a_method_and_a_judge_draw_from_one_seed_is_one_map() -> None:
    seed = stream(4, "feature map")
    assert torch.equal(built("random_fourier", seed)(inputs()), built("random_fourier", seed)(inputs()))
