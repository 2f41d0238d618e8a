"""Chen, Huang, Weng (2024), Theorems 5.1, 5.2 and 5.3: that they hold, and what fails where a condition does not."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from stillhouse import features, linalg, settings
from stillhouse.errors import UserError
from stillhouse.features import leaky_relu
from stillhouse.features.random_network import RandomNetwork
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.theory import deep

SLOPE = 0.1
undo = partial(leaky_relu.undo, slope=SLOPE)

# d, p, c, number of layers
SIZES = [(6, 10, 3, 3), (4, 6, 2, 2), (9, 12, 4, 1)]
every_size = pytest.mark.parametrize(("d", "p", "c", "depth"), SIZES)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layers_of(d: int, p: int, depth: int) -> list[torch.Tensor]:
    """d < d_1 = ... = d_L = p."""
    return [normal(d, p, seed=20) / d**0.5] + [normal(p, p, seed=21 + i) / p**0.5 for i in range(depth - 1)]


def learned(rows: torch.Tensor, targets: torch.Tensor, rcond: float = 1e-10) -> torch.Tensor:
    """Least squares of least norm. Features that a deep linear network makes have rank d < p: the rest is rounding."""
    return torch.linalg.lstsq(rows, targets, rcond=rcond, driver="gelsd").solution


def error(rows: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> float:
    return linalg.relative_error(learned(rows, targets), weights)


def trained(phi: Callable[[torch.Tensor], torch.Tensor], d: int, c: int, penalty: float = 0.0) -> torch.Tensor:
    """Weights (p, c) of ridge regression on 60 random examples."""
    return ridge.solve(phi(normal(60, d, seed=30)), normal(60, c, seed=31), penalty)


# Theorem 5.1: a map that is onto R^p.


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "identity"},
        *({"kind": "random_network", "depth": depth} for depth in (1, 2, 3)),
        {"kind": "random_network", "widths": [50, 40, 30]},
        {"kind": "random_fourier"},
        {"kind": "random_fourier", "count": 40},
        {"kind": "convolution"},
        {"kind": "convolution", "channels": 4, "stride": 2},
        {"kind": "convolution", "depth": 2},
    ],
)
@pytest.mark.parametrize("extra", [0, 1, 10])
def test_5_1_one_point_per_class_gives_the_weights_back_through_a_map_that_is_onto(
    digits: RealSet, run: Run, options: dict[str, object], extra: int
) -> None:
    """X = phi^-1(D^+), D = W Y^+ + Z (I - Y Y^+); the examples are 5.1 and 5.2, 5.4, 5.3."""
    params = settings.parse_plugin("models", {"kind": "ridge", "features": options, "space": "standardised"}, "here")
    weights = ridge.fit_real(digits, params, run).weights["weights"]
    phi = ridge.feature_map(params, digits.dim, run.seed)
    assert phi.onto
    targets = torch.eye(10, dtype=torch.float64).repeat(2, 1)[: 10 + extra]
    inverse = torch.linalg.pinv(targets)
    free = normal(len(weights), len(targets)) * weights.std()
    wanted = torch.linalg.pinv(weights @ inverse + free - free @ targets @ inverse)
    reach = phi.reach(wanted)
    points = phi.inverse(wanted / reach)
    assert points.shape == (10 + extra, 64)
    assert error(phi(points), targets / reach, weights) < 1e-8


def test_5_1_says_nothing_of_a_map_that_is_not_onto_and_labels_do_it_there() -> None:
    """Not onto: m >= p points of any kind, with the teacher's predictions as targets."""
    phi = features.build(settings.parse_plugin("features", {"kind": "random_network", "widths": [20]}, "here"), 8, 0)
    weights, points = normal(20, 3), normal(25, 8, seed=1)
    with pytest.raises(UserError, match="not onto"):
        phi.inverse(torch.linalg.pinv(weights))
    assert error(phi(points), phi(points) @ weights, weights) < 1e-12


# Theorem 5.2: a network that is wider than its inputs.


@every_size
def test_5_2_one_point_per_class_misses_what_the_first_layer_can_make(d: int, p: int, c: int, depth: int) -> None:
    layers = layers_of(d, p, depth)
    weights = trained(RandomNetwork(layers, SLOPE), d, c)
    assert deep.one_point_residual(layers, undo, weights, torch.eye(c, dtype=torch.float64)) > 0.05


@every_size
def test_5_2_has_its_exception_where_the_weights_come_from_one_point_per_class(
    d: int, p: int, c: int, depth: int
) -> None:
    layers, targets = layers_of(d, p, depth), normal(c, c, seed=1)
    points = normal(c, d, seed=2)
    rows = RandomNetwork(layers, SLOPE)(points)
    weights = learned(rows, targets)
    assert deep.one_point_residual(layers, undo, weights, targets) < 1e-12
    torch.testing.assert_close(deep.first_preactivations(layers, undo, rows), points @ layers[0])


def searched(d: int, p: int, depth: int, targets: torch.Tensor | None) -> float:
    """The smallest error that a search for two points reaches; slope 0.5, because kinks of 0.1 catch the search anywhere."""
    phi = RandomNetwork(layers_of(d, p, depth), 0.5)
    weights = trained(phi, d, 2)
    return min(deep.optimised_inputs(phi, weights, targets, normal(2, d, seed=seed), 300).error for seed in (0, 4))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("targets", [torch.eye(2, dtype=torch.float64), None], ids=["given labels", "learned labels"])
def test_5_2_a_search_for_one_point_per_class_stays_far_from_the_weights(
    depth: int, targets: torch.Tensor | None
) -> None:
    """The numerical counter-example: d = 4, p = 6, c = m = 2. Labels that are learned with the points do not help either."""
    assert searched(4, 6, depth, targets) > 0.08


def test_5_2_the_same_search_succeeds_where_the_network_is_not_wider_than_its_inputs() -> None:
    """That it fails above is the theorem's doing, not the search's."""
    assert searched(6, 6, 1, torch.eye(2, dtype=torch.float64)) < 1e-6


@pytest.mark.parametrize("depth", [1, 2])
def test_5_2_between_one_point_per_class_and_as_many_as_features_a_search_finds_exact_points(depth: int) -> None:
    """The theorem says nothing of c < m < p: five points, p = 6, with learned labels."""
    phi = RandomNetwork(layers_of(4, 6, depth), SLOPE)
    weights = trained(phi, 4, 2)
    found = [deep.optimised_inputs(phi, weights, None, normal(5, 4, seed=seed)) for seed in (0, 1)]
    best = min(found, key=lambda each: each.error)
    rows = phi(best.inputs)
    assert error(rows, rows @ weights, weights) < 1e-8


@every_size
def test_5_2_as_many_points_as_features_are_exact_with_the_right_labels(d: int, p: int, c: int, depth: int) -> None:
    phi = RandomNetwork(layers_of(d, p, depth), SLOPE)
    weights, points = trained(phi, d, c), normal(p, d, seed=9)
    assert error(phi(points), phi(points) @ weights, weights) < 1e-11


def test_the_search_reports_the_error_of_the_inputs_it_returns() -> None:
    phi = RandomNetwork(layers_of(4, 6, 1), SLOPE)
    weights, targets = normal(6, 2), torch.eye(2, dtype=torch.float64)
    found = deep.optimised_inputs(phi, weights, targets, normal(2, 4), steps=20)
    assert error(phi(found.inputs), targets, weights) == pytest.approx(found.error)


# Theorem 5.3: a deep linear network that is wider than its inputs.


@every_size
@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_5_3_1_the_exception_holds_for_every_weights_that_were_trained_and_for_no_others(
    d: int, p: int, c: int, depth: int, penalty: float
) -> None:
    layers, targets = layers_of(d, p, depth), normal(c, c, seed=1)
    matrix = deep.product(layers)
    assert matrix.shape == (d, p)
    from_training = trained(lambda inputs: inputs @ matrix, d, c, penalty)
    assert deep.deep_linear_residual(layers, from_training, targets) < 1e-10
    assert deep.deep_linear_residual(layers, normal(p, c, seed=5), targets) > 0.1


@every_size
@pytest.mark.parametrize("extra", ["none", "one", "as many again", "more than p"])
def test_5_3_one_point_per_class_already_gives_trained_weights_back(
    d: int, p: int, c: int, depth: int, extra: str
) -> None:
    layers = layers_of(d, p, depth)
    m = {"none": c, "one": c + 1, "as many again": 2 * c, "more than p": p + 2}[extra]
    matrix, targets = deep.product(layers), normal(m, c, seed=1)
    weights = trained(lambda inputs: inputs @ matrix, d, c)
    points = deep.deep_linear_inputs(layers, weights, targets, normal(d, m, seed=2))
    assert points.shape == (m, d)
    assert error(points @ matrix, targets, weights) < 1e-10


def test_5_3_more_classes_than_inputs_are_no_hindrance() -> None:
    """The theorem asks for W of rank c; trained weights have rank d at most, and are given back all the same."""
    layers, targets = layers_of(3, 8, 2), normal(5, 5, seed=1)
    matrix = deep.product(layers)
    weights = trained(lambda inputs: inputs @ matrix, 3, 5)
    assert linalg.rank(weights) == 3
    points = deep.deep_linear_inputs(layers, weights, targets, normal(3, 5, seed=2))
    assert error(points @ matrix, targets, weights) < 1e-10


@every_size
@pytest.mark.parametrize("extra", [0, 1, 40])
def test_5_3_no_number_of_points_gives_weights_back_that_no_training_makes(
    d: int, p: int, c: int, depth: int, extra: int
) -> None:
    """What lies outside the row space of A_1 ... A_L is left, by any points; the construction leaves no more."""
    layers, weights = layers_of(d, p, depth), normal(p, c, seed=5)
    matrix, targets = deep.product(layers), normal(c + extra, c, seed=1)
    left = deep.out_of_reach(layers, weights)
    assert left > 0.1
    for seed in range(5):
        points = normal(c + extra, d, seed=seed)
        assert error(points @ matrix, targets, weights) >= left * (1 - 1e-10)
        assert error(points @ matrix, points @ matrix @ weights, weights) >= left * (1 - 1e-10)
        assert linalg.relative_error(ridge.solve(points @ matrix, targets, 0.3), weights) >= left * (1 - 1e-10)
    built = deep.deep_linear_inputs(layers, weights, targets, normal(d, c + extra, seed=2))
    assert error(built @ matrix, targets, weights) == pytest.approx(left, rel=1e-9)


@every_size
def test_5_3_2_as_printed_its_condition_cannot_hold(d: int, p: int, c: int, depth: int) -> None:
    """H has rank p, and therefore the block has rank d < p, for arbitrary and for trained weights."""
    layers = layers_of(d, p, depth)
    for weights in (normal(p, c, seed=5), trained(lambda inputs: inputs @ deep.product(layers), d, c)):
        found = deep.printed_condition(layers, weights, "all layers")
        assert (found.rank_h, found.rank_block, found.deficit) == (p, d, p - d)
        assert not found.holds


def test_5_3_2_as_printed_is_not_helped_by_fewer_inputs_than_classes() -> None:
    """There H itself lacks rank; the p vectors shown are then not its whole null space, and p - d does not count them."""
    found = deep.printed_condition(layers_of(2, 6, 2), normal(6, 3, seed=5), "all layers")
    assert found.rank_h == 5
    assert not found.holds


def test_5_3_2_the_null_vectors_that_the_first_layer_brings_are_there_by_hand() -> None:
    """L = 1, d = 1, p = 2, A_1 = (1, 0), W = (1, 0)^T: H = [[1, 0, 0, 0], [0, 0, 0, -1]], null space e_2, e_3."""
    found = deep.printed_condition(
        [torch.tensor([[1.0, 0.0]], dtype=torch.float64)],
        torch.tensor([[1.0], [0.0]], dtype=torch.float64),
        "all layers",
    )
    # e_3 = (z2 = (1, 0)) is in the block, e_2 = (z1 = (0, 1), z2 = 0) is not: rank d = 1.
    assert (found.rank_h, found.rank_block) == (2, 1)


@pytest.mark.parametrize(("d", "p"), [(8, 8), (11, 8)])
def test_5_3_2_holds_as_printed_where_the_network_is_not_wider_than_its_inputs(d: int, p: int) -> None:
    """Outside the theorem's own d < p, (W^(1))^+ has no null space: then all is as it says."""
    layers = [normal(d, p, seed=20) / d**0.5, normal(p, p, seed=21) / p**0.5]
    weights, targets = normal(p, 3, seed=5), normal(5, 3, seed=1)
    assert deep.printed_condition(layers, weights, "all layers").holds
    points = deep.printed_construction(layers, weights, targets, normal(5, p, seed=2), "all layers")
    assert error(points @ deep.product(layers), targets, weights) < 1e-9


@every_size
@pytest.mark.parametrize("extra", [0, 1, 4])
def test_5_3_2_with_a_pseudo_inverse_in_its_place_the_printed_construction_gives_trained_weights_back(
    d: int, p: int, c: int, depth: int, extra: int
) -> None:
    """Not in the paper. Of weights that were not trained it leaves what no network of these layers learns, and no more."""
    layers, targets = layers_of(d, p, depth), normal(c + extra, c, seed=1)
    matrix, free = deep.product(layers), normal(c + extra, p, seed=2)
    weights, arbitrary = trained(lambda inputs: inputs @ matrix, d, c), normal(p, c, seed=5)
    points = deep.printed_construction(layers, weights, targets, free, "all layers")
    assert error(points @ matrix, targets, weights) < 1e-9
    points = deep.printed_construction(layers, arbitrary, targets, free, "all layers")
    assert error(points @ matrix, targets, arbitrary) == pytest.approx(deep.out_of_reach(layers, arbitrary), rel=1e-9)


@pytest.mark.parametrize(("d", "p", "c", "depth"), [(6, 10, 3, 3), (4, 6, 2, 2)])
@pytest.mark.parametrize("extra", [1, 3])
def test_5_3_2_read_without_the_first_layer_its_condition_holds_and_its_points_are_wrong(
    d: int, p: int, c: int, depth: int, extra: int
) -> None:
    """Then the pre-activations Z1 are free in R^p, and X A_1 = Z1 A_1^+ A_1 is not Z1, for trained weights and others."""
    layers, targets = layers_of(d, p, depth), normal(c + extra, c, seed=1)
    matrix, free = deep.product(layers), normal(c + extra, p, seed=2)
    for weights in (normal(p, c, seed=5), trained(lambda inputs: inputs @ matrix, d, c)):
        assert deep.printed_condition(layers, weights, "layers after the first").holds
        points = deep.printed_construction(layers, weights, targets, free, "layers after the first")
        assert error(points @ matrix, targets, weights) > 0.05


@pytest.mark.parametrize("p", [6, 10])
def test_5_3_2_read_without_the_first_layer_it_holds_for_inputs_as_many_as_features(p: int) -> None:
    """Where A_1 is square, both readings are one."""
    layers, weights, targets = layers_of(p, p, 2), normal(p, 2, seed=5), normal(4, 2, seed=1)
    points = deep.printed_construction(layers, weights, targets, normal(4, p, seed=2), "layers after the first")
    assert error(points @ deep.product(layers), targets, weights) < 1e-8


@every_size
def test_the_distance_to_a_row_space_is_the_sine_of_the_angle(d: int, p: int, c: int, depth: int) -> None:
    basis = torch.linalg.qr(normal(p, d)).Q
    inside, outside = normal(c, d, seed=1) @ basis.T, normal(c, p, seed=2)
    outside = outside - outside @ basis @ basis.T
    both = inside / inside.norm() * 0.8 + outside / outside.norm() * 0.6
    assert deep.distance_to_row_space(both, normal(d, d, seed=3) @ basis.T) == pytest.approx(0.6)
