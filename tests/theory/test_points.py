import math

import numpy as np
import pytest
import torch

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.linalg import RidgePath
from stillhouse.theory import points

PER_CLASS = [1, 3, 5, 10]  # for p = 12 and c = 3: m = c, m < p, m > p, m much above p


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tiled(classes: int, per_class: int) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.float64).repeat(per_class, 1)


def learned(features: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """Ridge weights by an independent solver: least squares on the rows with sqrt(ridge) I below."""
    below = math.sqrt(ridge) * np.eye(features.shape[1])
    rows = np.concatenate([features.numpy(), below])
    right = np.concatenate([targets.numpy(), np.zeros((features.shape[1], targets.shape[1]))])
    return torch.from_numpy(np.linalg.lstsq(rows, right, rcond=None)[0])


WEIGHTS = normal(12, 3)


@pytest.mark.parametrize("per_class", PER_CLASS)
def test_every_free_part_gives_an_admissible_d_and_every_admissible_d_is_its_own_free_part(per_class: int) -> None:
    targets = tiled(3, per_class)
    backward = points.admissible(WEIGHTS, targets, normal(12, 3 * per_class, seed=1))
    torch.testing.assert_close(backward @ targets, WEIGHTS)
    torch.testing.assert_close(points.admissible(WEIGHTS, targets, backward), backward)


def test_no_free_part_matters_for_one_point_per_class() -> None:
    targets = normal(3, 3, seed=4)
    wanted = WEIGHTS @ torch.linalg.inv(targets)
    torch.testing.assert_close(points.admissible(WEIGHTS, targets, normal(12, 3)), wanted)


def test_fewer_points_than_classes_or_dependent_targets_cannot_carry_the_weights() -> None:
    with pytest.raises(NumericalError, match=r"2 targets of rank 2 .* 3 classes"):
        points.admissible(WEIGHTS, tiled(3, 1)[:2], normal(12, 2))
    dependent = tiled(3, 2)
    dependent[:, 2] = dependent[:, 0] + dependent[:, 1]
    with pytest.raises(NumericalError, match="6 targets of rank 2"):
        points.admissible(WEIGHTS, dependent, normal(12, 6))


@pytest.mark.parametrize("per_class", PER_CLASS)
@pytest.mark.parametrize("ridge_share", [0.0, 1e-9, 1e-3, 0.5, 1.0])
@pytest.mark.parametrize("signs", ["+", "-"])
def test_ridge_regression_on_the_points_gives_the_weights_back(
    per_class: int, ridge_share: float, signs: points.Signs
) -> None:
    targets = tiled(3, per_class)
    backward = points.admissible(WEIGHTS, targets, 0.1 * normal(12, 3 * per_class, seed=1))
    ridge = ridge_share * points.ridge_bound(backward)
    features = points.points(backward, ridge, signs)
    assert linalg.relative_error(linalg.ridge_pseudo_inverse(features, ridge), backward) < 1e-10
    assert linalg.relative_error(learned(features, targets, ridge), WEIGHTS) < 1e-10


@pytest.mark.parametrize("per_class", PER_CLASS)
@pytest.mark.parametrize("seed", range(4))
def test_every_singular_value_may_have_its_own_root(per_class: int, seed: int) -> None:
    targets = tiled(3, per_class)
    backward = points.admissible(WEIGHTS, targets, 0.1 * normal(12, 3 * per_class, seed=1))
    ridge = 0.1 * points.ridge_bound(backward)
    signs = normal(min(12, 3 * per_class), seed=seed).sign()
    features = points.points(backward, ridge, signs)
    assert linalg.relative_error(learned(features, targets, ridge), WEIGHTS) < 1e-10
    larger = int((torch.linalg.svdvals(features) ** 2 > ridge).sum())  # the roots multiply to the ridge
    assert larger == int((signs > 0).sum())


@pytest.mark.parametrize("signs", ["+", "-"])
def test_both_roots_are_as_exact_for_a_tiny_ridge(signs: points.Signs) -> None:
    """The textbook form of the smaller root, (1 - sqrt(1 - 4 ridge s^2)) / (2 s), has no digit left here."""
    backward = points.admissible(WEIGHTS, tiled(3, 2), normal(12, 6))
    ridge = 1e-20
    found = points.points(backward, ridge, signs)
    values = torch.linalg.svdvals(backward)
    wanted = (1 / values if signs == "+" else ridge * values).sort(descending=True).values
    torch.testing.assert_close(torch.linalg.svdvals(found), wanted, rtol=1e-12, atol=0)


def test_the_roots_meet_at_the_bound() -> None:
    backward = points.admissible(WEIGHTS, tiled(3, 2), normal(12, 6))
    ridge = points.ridge_bound(backward)
    larger, smaller = (torch.linalg.svdvals(points.points(backward, ridge, sign)) for sign in ("+", "-"))
    assert float(larger[-1]) == pytest.approx(math.sqrt(ridge), rel=1e-6)
    assert float(smaller[0]) == pytest.approx(math.sqrt(ridge), rel=1e-6)


def test_a_small_ridge_leaves_the_larger_root_at_the_pseudo_inverse() -> None:
    backward = points.admissible(WEIGHTS, tiled(3, 2), normal(12, 6))
    torch.testing.assert_close(points.points(backward, 1e-12), torch.linalg.pinv(backward))


@pytest.mark.parametrize("ridge", [0.0, 1e-4])
@pytest.mark.parametrize("signs", ["+", "-"])
def test_singular_values_that_are_zero_stay_zero(ridge: float, signs: points.Signs) -> None:
    backward = normal(12, 2) @ normal(2, 6, seed=1)
    features = points.points(backward, ridge, signs)
    assert linalg.rank(features) == 2
    torch.testing.assert_close(linalg.ridge_pseudo_inverse(features, ridge), backward)


def test_a_sign_is_wanted_for_every_singular_value_above_zero() -> None:
    with pytest.raises(ValueError, match=r"\(6,\) signs for 2 singular values"):
        points.points(normal(12, 2) @ normal(2, 6), 1e-4, torch.ones(6))


def test_a_ridge_above_the_bound_fails_with_the_numbers() -> None:
    backward = points.admissible(WEIGHTS, tiled(3, 2), normal(12, 6))
    bound = points.ridge_bound(backward)
    points.points(backward, bound * (1 - 1e-6))
    with pytest.raises(NumericalError, match=r"above the bound .*: 1 of 6 singular values have no root"):
        points.points(backward, bound * (1 + 1e-6))


def test_no_features_have_a_ridge_pseudo_inverse_above_the_bound() -> None:
    """Why the bound is there: sigma / (sigma^2 + ridge) <= 1 / (2 sqrt(ridge)) for every sigma."""
    for seed in range(20):
        features = normal(6, 12, seed=seed) * 10 ** float(normal(1, seed=seed))
        assert points.ridge_bound(linalg.ridge_pseudo_inverse(features, 0.3)) >= 0.3 * (1 - 1e-12)


@pytest.mark.parametrize("per_class", [1, 3, 10])
def test_no_free_part_lifts_the_bound_above_the_limit(per_class: int) -> None:
    targets = normal(3 * per_class, 3, seed=7)
    limit = points.ridge_limit(WEIGHTS, targets)
    plain = points.admissible(WEIGHTS, targets, torch.zeros(12, 3 * per_class, dtype=torch.float64))
    assert points.ridge_bound(plain) == pytest.approx(limit, rel=1e-10)
    for seed in range(20):
        free = normal(12, 3 * per_class, seed=seed) * 10 ** float(normal(1, seed=seed))
        assert points.ridge_bound(points.admissible(WEIGHTS, targets, free)) <= limit * (1 + 1e-10)


def test_the_two_parts_of_d_do_not_mix() -> None:
    targets = normal(9, 3, seed=7)
    free = normal(12, 9, seed=8)
    backward = points.admissible(WEIGHTS, targets, free)
    inverse = torch.linalg.pinv(targets)
    first, second = WEIGHTS @ inverse, free @ (torch.eye(9, dtype=torch.float64) - targets @ inverse)
    torch.testing.assert_close(backward @ backward.T, first @ first.T + second @ second.T)


def test_resampling_reaches_every_ridge_below_the_limit() -> None:
    targets, rng = tiled(3, 4), torch.Generator().manual_seed(0)
    limit = points.ridge_limit(WEIGHTS, targets)

    def draw() -> torch.Tensor:
        return 3 * torch.randn(12, 12, generator=rng, dtype=torch.float64)

    for share in (0.01, 0.5, 0.9, 0.999):
        backward = points.resample(WEIGHTS, targets, share * limit, draw)
        features = points.points(backward, share * limit)
        assert linalg.relative_error(learned(features, targets, share * limit), WEIGHTS) < 1e-8
        assert linalg.rank(features) == 12  # the free part has not been given up


def test_resampling_keeps_the_first_draw_where_its_bound_holds() -> None:
    targets, free = tiled(3, 2), normal(12, 6)
    backward = points.admissible(WEIGHTS, targets, free)
    ridge = points.ridge_bound(backward) * 0.99
    assert torch.equal(points.resample(WEIGHTS, targets, ridge, lambda: free), backward)


def test_resampling_above_the_limit_or_without_success_fails_with_the_numbers() -> None:
    targets = tiled(3, 2)
    limit = points.ridge_limit(WEIGHTS, targets)
    with pytest.raises(NumericalError, match=r"no free part Z satisfies the bound"):
        points.resample(WEIGHTS, targets, limit * 1.001, lambda: normal(12, 6))
    with pytest.raises(NumericalError, match=r"for 2 draws of Z"):
        points.resample(WEIGHTS, targets, limit * 0.999, lambda: 100 * normal(12, 6), tries=2)


def test_the_nearest_admissible_d_is_the_constrained_least_squares_solution() -> None:
    """Row by row: min |d - w|^2 subject to Y^T d = W's row, by its optimality system."""
    targets, wanted = normal(7, 3, seed=3), normal(12, 7, seed=5)
    eye, zero = torch.eye(7, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    system = torch.cat([torch.cat([eye, targets], 1), torch.cat([targets.T, zero], 1)])
    solved = torch.linalg.solve(system, torch.cat([wanted.T, WEIGHTS.T]))[:7].T
    torch.testing.assert_close(points.nearest(WEIGHTS, targets, wanted), solved)


def test_no_admissible_d_is_nearer_and_the_distance_is_the_closed_form() -> None:
    targets, wanted = normal(7, 3, seed=3), normal(12, 7, seed=5)
    distance = points.nearest_distance(WEIGHTS, targets, wanted)
    found = points.nearest(WEIGHTS, targets, wanted)
    assert float((found - wanted).norm()) == pytest.approx(distance, rel=1e-12)
    for seed in range(20):
        other = points.admissible(WEIGHTS, targets, wanted + 0.01 * normal(12, 7, seed=seed))
        assert float((other - wanted).norm()) > distance


@pytest.mark.parametrize("count", [5, 12, 20])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_no_targets_are_nearer_than_the_best_labels_of_the_images(count: int, ridge: float) -> None:
    """Corollary 4.1.1: of all targets of this row space, Y = F_ridge W leaves the least of W - F_ridge^+ Y."""
    images = normal(count, 12, seed=2)
    wanted = linalg.ridge_pseudo_inverse(images, ridge)
    best = points.regularised(images, ridge) @ WEIGHTS
    least = (WEIGHTS - wanted @ best).norm()
    for seed in range(10):
        assert (WEIGHTS - wanted @ (best + 0.1 * normal(count, 3, seed=seed))).norm() > least


@pytest.mark.parametrize("ridge", [0.0, 4.0])
@pytest.mark.parametrize("count", [12, 20])
def test_as_many_images_as_features_stay_as_they_are(count: int, ridge: float) -> None:
    """Corollary 4.1.1 for m >= p: nothing but the labels changes. With a ridge, each singular value needs its own root."""
    images = normal(count, 12, seed=2)
    targets = points.regularised(images, ridge) @ WEIGHTS
    wanted = linalg.ridge_pseudo_inverse(images, ridge)
    assert points.nearest_distance(WEIGHTS, targets, wanted) < 1e-12
    values = torch.linalg.svdvals(images)
    assert ridge == 0 or 0 < int((values**2 < ridge).sum()) < 12  # both roots are needed
    by_backward = (values / (values**2 + ridge)).argsort(descending=True)
    signs = torch.where(values[by_backward] ** 2 > ridge, 1.0, -1.0)
    found = points.points(points.nearest(WEIGHTS, targets, wanted), ridge, signs)
    torch.testing.assert_close(found, images)


def test_fewer_images_than_features_do_not_stay_as_they_are() -> None:
    images = normal(6, 12, seed=2)
    targets = images @ WEIGHTS
    wanted = torch.linalg.pinv(images)
    assert points.nearest_distance(WEIGHTS, targets, wanted) > 0.1
    assert linalg.relative_error(points.points(points.nearest(WEIGHTS, targets, wanted)), images) > 0.01


@pytest.mark.parametrize("ridge", [1e-12, 1e-6, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(6, 12), (12, 12), (20, 12)])
def test_the_ridge_pseudo_inverse_is_that_of_its_singular_values(ridge: float, shape: tuple[int, int]) -> None:
    full = normal(*shape) * torch.logspace(0, -3, 12, dtype=torch.float64)
    for matrix in (full, full[:, :2] @ normal(2, 12)):
        found = linalg.ridge_pseudo_inverse(matrix, ridge)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        values = torch.where(values > 1e-13 * values[0], values, 0)
        wanted = right.T @ torch.diag(values / (values**2 + ridge)) @ left.T
        assert linalg.relative_error(found, wanted) < 1e-10


@pytest.mark.parametrize("shape", [(6, 12), (12, 12), (20, 12)])
def test_regularised_features_are_the_pseudo_inverse_of_the_ridge_pseudo_inverse(shape: tuple[int, int]) -> None:
    features = normal(*shape)
    wanted = torch.linalg.pinv(linalg.ridge_pseudo_inverse(features, 0.3))
    torch.testing.assert_close(points.regularised(features, 0.3), wanted)
    assert torch.equal(points.regularised(features, 0.0), features)


def test_full_rank_follows_from_general_position() -> None:
    """Proposition 4.1, for m + c <= p."""
    targets = tiled(3, 2)
    for seed in range(10):
        free = normal(12, 6, seed=seed)
        assert points.in_general_position(WEIGHTS, free)
        assert linalg.rank(points.points(points.admissible(WEIGHTS, targets, free))) == 6


def test_rank_can_be_lost_where_the_ranges_meet() -> None:
    """Z of full rank with Z P v = -W Y^+ v for one v, so that D v = 0: what the condition of Proposition 4.1 excludes."""
    targets = tiled(3, 2)
    inverse, vector = torch.linalg.pinv(targets), normal(6, 1, seed=3)
    inside = vector - targets @ (inverse @ vector)
    free = normal(12, 6, seed=1)
    free = free - (free @ inside + WEIGHTS @ inverse @ vector) @ inside.T / inside.square().sum()
    assert linalg.rank(free) == 6
    assert not points.in_general_position(WEIGHTS, free)
    assert linalg.rank(points.admissible(WEIGHTS, targets, free)) == 5


def test_general_position_is_out_of_reach_for_more_points() -> None:
    """m + c > p: two ranges of dimensions m and c meet. Full rank holds nevertheless for nearly every Z."""
    free = normal(12, 12)
    assert not points.in_general_position(WEIGHTS, free)
    assert linalg.rank(points.admissible(WEIGHTS, tiled(3, 4), free)) == 12


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("count", [12, 20])
def test_the_full_rank_form_is_enough_for_at_least_p_points(count: int, ridge: float) -> None:
    """Theorem C.1, m >= p; any targets."""
    targets = normal(count, 3, seed=4)
    wanted = points.full_rank_form(WEIGHTS, targets, normal(count, 12, seed=1))
    assert linalg.rank(wanted) == 12
    features = points.from_regularised(wanted, ridge)
    torch.testing.assert_close(points.regularised(features, ridge), wanted)
    torch.testing.assert_close(learned(features, targets, ridge), WEIGHTS)


def test_every_exact_full_rank_set_has_the_full_rank_form_for_at_most_p_points() -> None:
    """Theorem C.1, m <= p: F_ridge W = Y; but having the form is not enough."""
    targets, ridge = tiled(3, 2), 1e-3
    features = points.points(points.admissible(WEIGHTS, targets, normal(12, 6)), ridge)
    wanted = points.regularised(features, ridge)
    torch.testing.assert_close(points.full_rank_form(WEIGHTS, targets, wanted), wanted)
    other = points.full_rank_form(WEIGHTS, targets, normal(6, 12, seed=1))
    torch.testing.assert_close(other @ WEIGHTS, targets)
    assert linalg.relative_error(learned(other, targets, 0.0), WEIGHTS) > 0.1


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("signs", ["+", "-"])
@pytest.mark.parametrize("count", [3, 6, 12, 20])
def test_the_two_sided_form_is_enough_for_any_number_of_points(count: int, ridge: float, signs: points.Signs) -> None:
    """Theorem C.2."""
    targets = normal(count, 3, seed=4)
    wanted = points.two_sided_form(WEIGHTS, targets, normal(count, 12, seed=1))
    features = points.from_regularised(wanted, ridge, signs)
    assert linalg.relative_error(learned(features, targets, ridge), WEIGHTS) < 1e-9


def test_singular_values_below_twice_the_root_of_the_ridge_are_refused() -> None:
    """sigma + ridge / sigma >= 2 sqrt(ridge)."""
    wanted = points.two_sided_form(WEIGHTS, tiled(3, 2), normal(6, 12))
    least = float(torch.linalg.svdvals(wanted)[-1])
    points.from_regularised(wanted, (least / 2) ** 2 * (1 - 1e-9))
    with pytest.raises(NumericalError, match="above the bound"):
        points.from_regularised(wanted, (least / 2) ** 2 * (1 + 1e-9))


def test_the_forms_want_weights_of_full_rank() -> None:
    weights = WEIGHTS.clone()
    weights[:, 2] = weights[:, 1]
    for form in (points.full_rank_form, points.two_sided_form):
        with pytest.raises(NumericalError, match="weights of rank 2 for 3 classes"):
            form(weights, tiled(3, 2), normal(6, 12))


GRID = [10.0**exponent for exponent in range(-6, 6)]


@pytest.mark.parametrize("per_class", [1, 2, 6])
def test_the_path_gives_each_ridges_weights_back_exactly(per_class: int) -> None:
    rows, labels = normal(50, 12, seed=1), normal(50, 3, seed=2)
    solutions = RidgePath.of_rows(rows, labels)
    targets = tiled(3, per_class)
    made = dict(points.path(solutions, GRID, targets, 0.1 * normal(12, 3 * per_class)))
    assert list(made) == GRID
    for ridge, features in made.items():
        assert linalg.relative_error(learned(features, targets, 0.0), learned(rows, labels, ridge)) < 1e-8


@pytest.mark.parametrize("examples", [50, 8])  # full rank and rank-deficient
def test_one_set_of_at_most_p_points_serves_every_ridge_at_once(examples: int) -> None:
    rows, labels = normal(examples, 12, seed=1), normal(examples, 3, seed=2)
    features, targets = points.whole_path_points(rows.T @ rows, rows.T @ labels)
    assert features.shape == (min(examples, 12), 12)
    whole, small = RidgePath.of_rows(rows, labels), RidgePath.of_rows(features, targets)
    for ridge in [0.0, *GRID]:
        assert linalg.relative_error(small.weights(ridge), whole.weights(ridge)) < 1e-10
        assert linalg.relative_error(learned(features, targets, ridge), learned(rows, labels, ridge)) < 1e-8


def test_one_point_fewer_does_not_serve_every_ridge() -> None:
    rows, labels = normal(50, 12, seed=1), normal(50, 3, seed=2)
    features, targets = points.whole_path_points(rows.T @ rows, rows.T @ labels)
    small, whole = RidgePath.of_rows(features[1:], targets[1:]), RidgePath.of_rows(rows, labels)
    assert linalg.relative_error(small.weights(1.0), whole.weights(1.0)) > 1e-3
