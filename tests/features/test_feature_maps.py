import math

import pytest
import torch

from stillhouse import features, plugins, settings
from stillhouse.errors import UserError
from stillhouse.run import stream

DIM = 12


def inputs(count: int = 7, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(3), dtype=dtype)


def built(kind: str, seed: int = 0, **options: object) -> features.FeatureMap:
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


@pytest.mark.parametrize("kind", ["random_network", "random_fourier", "convolution"])
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


def test_the_default_network_is_drawn_as_before_widths_were_a_setting() -> None:
    rng = torch.Generator().manual_seed(5)
    for layer in built("random_network", 5, depth=3).layers:  # type: ignore[attr-defined]
        assert torch.equal(layer, torch.randn(DIM, DIM, generator=rng, dtype=torch.float64) / DIM**0.5)


def test_equal_widths_are_the_network_of_that_depth() -> None:
    named = built("random_network", widths=[DIM, DIM])
    assert torch.equal(named(inputs()), built("random_network", depth=2)(inputs()))


@pytest.mark.parametrize("widths", [[12, 9, 5], [5], [11, 11, 1]])
def test_a_narrowing_network_is_onto_and_its_pre_images_are_exact(widths: list[int]) -> None:
    """Example 5.2."""
    feature_map = built("random_network", widths=widths)
    wanted = torch.randn(4, widths[-1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert feature_map.onto
    assert feature_map.dim == widths[-1]
    torch.testing.assert_close(feature_map(feature_map.inverse(wanted)), wanted, rtol=1e-11, atol=1e-11)


def test_of_all_pre_images_of_one_layer_the_shortest_is_found() -> None:
    feature_map = built("random_network", widths=[5])
    given = inputs()
    found = feature_map.inverse(feature_map(given))
    assert bool((found.norm(dim=1) < given.norm(dim=1)).all())
    # It is shortest if and only if it is orthogonal to what the layer does not see.
    torch.testing.assert_close((given - found) @ feature_map.layers[0], torch.zeros(7, 5, dtype=torch.float64))  # type: ignore[attr-defined]
    torch.testing.assert_close((found * (given - found)).sum(1), torch.zeros(7, dtype=torch.float64))


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("random_network", {"widths": [20]}, "p = 20 > d = 12"),
        ("random_network", {"widths": [6, 8]}, r"widths \[12, 6, 8\] rise"),
        ("random_fourier", {"count": 13}, "p = 13 > d = 12"),
        ("convolution", {"channels": 20, "shape": [3, 2, 2]}, "p = 20 > d = 12"),
    ],
)
def test_a_widening_map_gives_features_and_says_that_it_has_no_inverse(
    kind: str, options: dict[str, object], said: str
) -> None:
    feature_map = built(kind, **options)
    found = feature_map(inputs())
    assert found.shape == (7, feature_map.dim)
    assert not feature_map.onto
    with pytest.raises(UserError, match=f"not onto R\\^p: .*{said}.*krr_labels"):
        feature_map.inverse(found)


def test_a_network_that_widens_reaches_less_than_all_of_its_features() -> None:
    """Why it is refused: linear inside an orthant, its features are a set of d dimensions in R^p."""
    feature_map = built("random_network", widths=[20], slope=1)
    many = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert int(torch.linalg.matrix_rank(feature_map(many))) == DIM


@pytest.mark.parametrize(
    ("options", "said"),
    [({"widths": [4, 0]}, "at least 1"), ({"widths": [4, 3], "depth": 3}, "2 widths make no network of depth 3")],
)
def test_settings_that_make_no_network_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        built("random_network", **options)


@pytest.mark.parametrize("count", [1, 7, 12])
def test_fourier_features_up_to_the_number_of_inputs_are_undone(count: int) -> None:
    """Example 5.4."""
    feature_map = built("random_fourier", count=count)
    wanted = torch.randn(4, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = wanted / feature_map.reach(wanted)
    assert feature_map.onto
    torch.testing.assert_close(feature_map(feature_map.inverse(wanted)), wanted, rtol=1e-11, atol=1e-11)


def test_as_many_fourier_features_as_inputs_are_the_default_drawn_as_before() -> None:
    rng = torch.Generator().manual_seed(5)
    feature_map = built("random_fourier", 5, count=DIM)
    frequencies = torch.randn(DIM, DIM, generator=rng, dtype=torch.float64) / math.sqrt(1000)
    assert torch.equal(feature_map.frequencies, frequencies)  # type: ignore[attr-defined]
    assert torch.equal(feature_map.phases, torch.rand(DIM, generator=rng, dtype=torch.float64) * (2 * math.pi))  # type: ignore[attr-defined]
    assert torch.equal(built("random_fourier", 5)(inputs()), feature_map(inputs()))


def test_more_fourier_features_come_nearer_to_the_kernel() -> None:
    x = inputs()
    kernel = torch.exp(-torch.cdist(x, x).square() / (2 * 30.0))
    few, many = (built("random_fourier", variance=30.0, count=count)(x) for count in (50, 20000))
    assert float((many @ many.T - kernel).abs().max()) < 4 / math.sqrt(20000)
    assert float((few @ few.T - kernel).abs().max()) > 4 / math.sqrt(20000)


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
