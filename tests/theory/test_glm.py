"""Generalised linear models: families against scipy and autograd, one point and several against gradient descent and scipy's
minimisers, the conditions at their bounds; what the theory says cannot be, is not.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from stillhouse.errors import NumericalError
from stillhouse.theory import glm
from stillhouse.theory.glm import FAMILIES, NEGATIVE, Gamma, Linear, Logistic, Poisson, Softmax

SEPARATE = [name for name in FAMILIES if name != "softmax"]
each_family = pytest.mark.parametrize("name", FAMILIES)
each_column = pytest.mark.parametrize("name", SEPARATE)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inside(name: str, eta: torch.Tensor) -> torch.Tensor:
    """Linear predictors of the family's domain."""
    return -eta.abs() - 0.1 if name in NEGATIVE else eta


def direction(name: str) -> float:
    """The sign that scales of one point have."""
    return -1.0 if name in NEGATIVE else 1.0


def minimum(name: str, rows: torch.Tensor, labels: torch.Tensor, penalty: float, start: torch.Tensor) -> torch.Tensor:
    """The minimiser of L by scipy's root finder on autograd's gradient, written without `glm.slope`."""
    family, shape = FAMILIES[name], start.shape

    def gradient(flat: np.ndarray) -> np.ndarray:
        theta = torch.from_numpy(flat).reshape(shape).requires_grad_()
        eta = rows @ theta
        loss = family.potential(eta).mean() - (labels * eta).sum(1).mean() + penalty * theta.square().sum()
        (found,) = torch.autograd.grad(loss, theta)
        return found.flatten().numpy()

    found = optimize.root(gradient, start.flatten().numpy(), method="hybr", options={"xtol": 1e-15})
    assert np.abs(gradient(found.x)).max() < 1e-9
    return torch.from_numpy(found.x).reshape(shape)


# Families


LIKELIHOODS: dict[str, Callable[[float, float], Any]] = {
    "linear": lambda mean, y: stats.norm(mean).logpdf(y),
    "logistic": lambda mean, y: stats.bernoulli(mean).logpmf(y),
    "poisson": lambda mean, y: stats.poisson(mean).logpmf(y),
    "gamma": lambda mean, y: stats.gamma(1, scale=mean).logpdf(y),
    "inverse_gaussian": lambda mean, y: stats.invgauss(mean).logpdf(y),
}


@each_column
def test_the_loss_is_the_negative_log_likelihood_but_for_what_does_not_depend_on_the_mean(name: str) -> None:
    family, eta = FAMILIES[name], inside(name, normal(5, 1))
    for y in (1.0,) if name == "logistic" else (1.0, 3.0):
        told = family.potential(eta) - y * eta[:, 0]
        known = torch.tensor([-LIKELIHOODS[name](float(mean), y) for mean in family.mean(eta)])
        torch.testing.assert_close(told - told[0], known - known[0], rtol=1e-9, atol=1e-9)


@each_family
def test_the_mean_and_the_curvature_are_derivatives_of_the_potential(name: str) -> None:
    family, eta, step = FAMILIES[name], inside(name, normal(6, 3)).requires_grad_(), normal(6, 3, seed=1)
    (mean,) = torch.autograd.grad(family.potential(eta).sum(), eta, create_graph=True)
    torch.testing.assert_close(family.mean(eta), mean)
    (curved,) = torch.autograd.grad((mean * step).sum(), eta, retain_graph=True)
    torch.testing.assert_close(family.curve(eta, step), curved)
    for k in range(3):
        (row,) = torch.autograd.grad(mean[:, k].sum(), eta, retain_graph=True)
        torch.testing.assert_close(family.diagonal(eta)[:, k], row[:, k])


@each_family
def test_the_link_gives_the_linear_predictor_of_a_mean(name: str) -> None:
    family, eta = FAMILIES[name], inside(name, normal(6, 3))
    wanted = eta - eta.mean(1, keepdim=True) if name == "softmax" else eta
    torch.testing.assert_close(family.link(family.mean(eta)), wanted)


@each_family
def test_no_curvature_is_above_the_largest_that_is_told(name: str) -> None:
    family = FAMILIES[name]
    eta = inside(name, 3 * normal(500, 2))
    unit = torch.tensor([[1.0, -1.0]], dtype=torch.float64).expand(500, 2) / math.sqrt(2)
    found = (unit * family.curve(eta, unit)).sum(1).max()
    assert float(found) <= family.curvature
    if math.isfinite(family.curvature):
        assert float((unit * family.curve(0 * eta, unit)).sum(1)[0]) == pytest.approx(family.curvature)


@pytest.mark.parametrize("name", NEGATIVE)
def test_the_loss_is_infinite_where_a_linear_predictor_is_not_negative(name: str) -> None:
    eta = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    assert FAMILIES[name].potential(eta).isfinite().tolist() == [True, False, False]


@each_family
def test_the_slope_is_the_gradient_of_what_is_trained(name: str) -> None:
    family, rows = FAMILIES[name], normal(7, 4)
    theta = normal(4, 3, seed=1)
    if name in NEGATIVE:
        rows, theta = rows.abs() + 0.1, -theta.abs() - 0.1
    labels, penalty = family.mean(inside(name, normal(7, 3, seed=2))), torch.tensor([[0.1], [0.2], [0.3], [0.0]])
    theta.requires_grad_()
    eta = rows @ theta
    loss = (family.potential(eta) - (labels * eta).sum(1)).mean() + (penalty * theta.square()).sum()
    (wanted,) = torch.autograd.grad(loss, theta)
    torch.testing.assert_close(glm.slope(family, rows, labels, theta.detach(), penalty), wanted)


# One point without a penalty


def descended(
    name: str, x: torch.Tensor, y: torch.Tensor, start: torch.Tensor, step: float, steps: int = 5000
) -> torch.Tensor:
    theta = start.clone()
    for _ in range(steps):
        theta -= step * (FAMILIES[name].mean(x @ theta) - y) * x.T
    return theta


def start_in_span(name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """0, or a start with a negative linear predictor that knows nothing of theta."""
    if name not in NEGATIVE:
        return torch.zeros_like(x.T)
    return 1.5 * FAMILIES[name].link(y) * x.T / x.square().sum()


@each_column
@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_gradient_descent_on_one_point_finds_the_weights_from_the_span_of_the_point(name: str, scale: float) -> None:
    theta = 0.4 * normal(6)
    x, y = glm.point(FAMILIES[name], theta, scale * direction(name), 0.0)
    start = start_in_span(name, x, y)
    step = 0.9 * glm.step_bound(FAMILIES[name], x[0], float(y), float(x @ start))
    torch.testing.assert_close(descended(name, x, y, start, step)[:, 0], theta, rtol=1e-10, atol=1e-10)


@each_column
def test_from_elsewhere_it_keeps_what_of_the_start_is_orthogonal_to_the_point(name: str) -> None:
    theta = 0.4 * normal(6)
    x, y = glm.point(FAMILIES[name], theta, direction(name), 0.0)
    across = normal(6, 1, seed=1)
    across -= x.T * (x @ across) / x.square().sum()
    start = start_in_span(name, x, y)
    step = 0.9 * glm.step_bound(FAMILIES[name], x[0], float(y), float(x @ start))
    found = descended(name, x, y, start + across, step)
    torch.testing.assert_close(found, theta[:, None] + across, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "logistic", "poisson"])
def test_a_step_above_its_bound_at_the_minimum_does_not_converge(name: str) -> None:
    """2 / (b'' |x|^2) at the minimum itself bounds every step; for linear models it is the bound that is told."""
    theta = 0.4 * normal(6)
    x, y = glm.point(FAMILIES[name], theta, 1.0, 0.0)
    own = 2 / float(FAMILIES[name].diagonal(x @ theta[:, None]) * x.square().sum())
    told = glm.step_bound(FAMILIES[name], x[0], float(y), 0.0)
    assert told <= own * (1 + 1e-12)
    if name == "linear":
        assert told == pytest.approx(own)
    off = theta[:, None] + 1e-3 * x.T
    assert float((descended(name, x, y, off, 1.05 * own, 200) - theta[:, None]).norm()) > float(
        (off - theta[:, None]).norm()
    )


@pytest.mark.parametrize(("name", "y", "start"), [("poisson", 3.0, -1.0), ("poisson", 0.2, -4.0), ("gamma", 2.0, -1.0)])
def test_no_step_within_the_bound_raises_the_loss(name: str, y: float, start: float) -> None:
    family, x = FAMILIES[name], torch.ones(1, dtype=torch.float64)
    bound = glm.step_bound(family, x, y, start)
    eta = torch.tensor([[start]], dtype=torch.float64)
    before = float(family.potential(eta) - y * eta)
    for _ in range(200):
        eta = eta - 0.999 * bound * (family.mean(eta) - y)
        after = float(family.potential(eta) - y * eta)
        assert after <= before + 1e-12
        before = after
    assert float(family.mean(eta)) == pytest.approx(y)


def test_an_inverse_gaussian_start_from_which_descent_may_leave_the_domain_is_refused() -> None:
    with pytest.raises(NumericalError, match="may leave the domain"):
        glm.step_bound(
            FAMILIES["inverse_gaussian"], torch.ones(1, dtype=torch.float64), 1.0, -2.1
        )  # beyond 4 times g(y)
    assert glm.step_bound(FAMILIES["inverse_gaussian"], torch.ones(1, dtype=torch.float64), 1.0, -1.9) > 0


@pytest.mark.parametrize("name", NEGATIVE)
def test_a_positive_scale_is_outside_of_the_domain_of_families_that_need_negative_predictors(name: str) -> None:
    with pytest.raises(NumericalError, match="take a negative scale"):
        glm.point(FAMILIES[name], normal(3), 1.0, 0.0)


@pytest.mark.parametrize(("theta", "scale"), [(0 * normal(3), 1.0), (normal(3), 0.0)])
def test_there_is_no_point_for_weights_or_a_scale_of_zero(theta: torch.Tensor, scale: float) -> None:
    with pytest.raises(NumericalError, match="of 0"):
        glm.point(Linear(), theta, scale, 0.1)


# One point with a ridge penalty


@each_column
@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_with_a_penalty_the_weights_are_the_only_minimum_on_one_point(name: str, scale: float) -> None:
    theta = 0.4 * normal(4)
    x, y = glm.point(FAMILIES[name], theta, scale * direction(name), 0.05)
    start = start_in_span(name, x, y.clamp(min=0.1)) + (0 if name in NEGATIVE else 0.3 * normal(4, 1, seed=3))
    torch.testing.assert_close(minimum(name, x, y, 0.05, start)[:, 0], theta, rtol=1e-9, atol=1e-9)


def test_a_squared_loss_without_the_half_asks_for_half_of_the_penalty() -> None:
    """(x theta - y)^2 + penalty |theta|^2 has y = a s + penalty / a, and penalty / 2 |theta|^2 half of that."""
    theta, penalty, scale = 0.4 * normal(4), 0.3, 0.7
    x, y = glm.point(Linear(), theta, scale, penalty / 2)
    assert float(y) == pytest.approx(scale * float(theta @ theta) + penalty / scale)
    solved = torch.linalg.solve(x.T @ x + penalty * torch.eye(4, dtype=torch.float64), x.T @ y)
    torch.testing.assert_close(solved[:, 0], theta)


@each_column
def test_a_point_that_is_no_multiple_of_the_weights_gives_them_with_no_label(name: str) -> None:
    """The slope at theta is (g^-1(eta) - y) x + 2 penalty theta: no y makes it 0 if x is not parallel to theta."""
    theta, x = normal(4), inside(name, normal(1, 4, seed=1))
    eta = x @ theta[:, None]
    if name in NEGATIVE and float(eta) > 0:
        x, eta = -x, -eta
    least = min(
        float(glm.slope(FAMILIES[name], x, torch.tensor([[y]], dtype=torch.float64), theta[:, None], 0.1).norm())
        for y in np.linspace(-20, 20, 2001)
    )
    across = theta - x[0] * (x[0] @ theta) / x[0].square().sum()
    assert least >= 0.2 * float(across.norm()) - 1e-12


# Labels that can be chosen, and the bounds


def test_the_largest_pull_of_two_classes_is_that_of_a_logistic_model() -> None:
    u = np.linspace(0, 5, 100_001)
    assert glm.simplex_reach(2) == pytest.approx(float((u / (1 + np.exp(u))).max()), abs=1e-9)
    assert glm.simplex_reach(2) == pytest.approx(0.278464542)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_largest_pull_of_several_classes_is_lamberts_function(classes: int) -> None:
    def pull(eta: np.ndarray) -> float:
        p = np.exp(eta - eta.max()) / np.exp(eta - eta.max()).sum()
        return float(p @ eta - eta[0])

    starts = [np.random.default_rng(seed).normal(size=classes) for seed in range(5)]
    found = -min(optimize.minimize(pull, start, method="BFGS").fun for start in starts)
    assert found == pytest.approx(glm.simplex_reach(classes), rel=1e-8)


@each_family
def test_no_linear_predictor_pulls_a_label_more_than_its_reach(name: str) -> None:
    family = FAMILIES[name]
    labels = family.mean(inside(name, normal(6, 3)))
    if name in ("softmax", "logistic"):
        labels = torch.eye(3, dtype=torch.float64).repeat(2, 1)
    reach = family.reach(labels)
    if name == "softmax":
        eta = 6 * normal(20_000, 3, seed=1)
        tried = ((labels[:, None] - family.mean(eta)) * eta).sum(2).amax(1)
        assert bool((tried <= reach).all())
        assert float(tried.max()) > 0.98 * float(reach[0])
        return
    grid = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    grid = -torch.logspace(-6, 4, 80_001, dtype=torch.float64) if name in NEGATIVE else grid
    tried = ((labels[:, :, None] - family.mean(grid)) * grid).amax(2).sum(1)
    assert bool((tried <= reach * (1 + 1e-12)).all())
    if name == "logistic":  # its bound is that of hard labels of 1: for 0 it is reached by -eta
        reach = reach[:1]
        tried = tried[:1]
    torch.testing.assert_close(tried, reach, rtol=1e-4, atol=1e-4)


@each_column
@pytest.mark.parametrize("penalty", [0.01, 0.3])
def test_the_norm_of_what_is_learned_obeys_its_bound(name: str, penalty: float) -> None:
    """2 penalty |theta|^2 <= mean reach, for theta of any data."""
    family = FAMILIES[name]
    rows = torch.cat([normal(40, 2, seed=3), torch.ones(40, 1, dtype=torch.float64)], 1)
    means = family.mean(inside(name, 0.3 * rows[:, :1] - 1))
    labels = (
        (means > means.median()).double() if name == "logistic" else means * (1 + 0.3 * normal(40, 1, seed=4)).abs()
    )
    start = torch.zeros(3, 1, dtype=torch.float64)
    start[2] = family.link(labels.mean()[None, None])[0]
    theta = minimum(name, rows, labels, penalty, start)
    assert 0 < 2 * penalty * float(theta.square().sum()) <= float(family.reach(labels).mean())


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999, 1.0])
def test_a_logistic_point_has_a_hard_label_at_both_scales_up_to_the_bound(part: float) -> None:
    theta = 0.7 * normal(5)
    square = float(theta @ theta)
    penalty = part * glm.simplex_reach(2) / (2 * square) * (1 - 1e-15)
    for label in (1, 0):
        scales = glm.scales(Logistic(), square, penalty, label)
        assert all((scale > 0) == (label == 1) for scale in scales)
        for scale in scales:
            _, y = glm.point(Logistic(), theta, scale, penalty)
            assert float(y) == pytest.approx(label, abs=1e-12)
    between = math.sqrt(scales[0] * scales[1]) if part < 1 else abs(scales[0])
    for factor, valid in ((between, True), (abs(scales[0]) / 3, False), (abs(scales[1]) * 3, False)):
        _, y = glm.point(Logistic(), theta, factor, penalty)
        assert bool(Logistic().valid(y)) == valid


def test_above_the_bound_no_scale_has_a_label_of_a_logistic_model() -> None:
    theta = normal(5)
    penalty = 1.001 * glm.simplex_reach(2) / (2 * float(theta @ theta))
    with pytest.raises(NumericalError, match="up to 0.278465"):
        glm.scales(Logistic(), float(theta @ theta), penalty, 1)
    labels = [float(glm.point(Logistic(), theta, scale, penalty)[1]) for scale in np.geomspace(1e-4, 1e3, 2000)]
    assert min(labels) > 1


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 3.0])
def test_a_poisson_point_has_every_count_above_its_least_label_and_none_below(penalty: float) -> None:
    theta = 0.6 * normal(5)
    square = float(theta @ theta)
    least = glm.least_count(square, penalty)
    tried = [float(glm.point(Poisson(), theta, scale, penalty)[1]) for scale in np.geomspace(1e-5, 20, 4000)]
    assert least <= min(tried) <= least * 1.001
    for count in (math.ceil(least), math.ceil(least) + 3, 100):
        scales = glm.scales(Poisson(), square, penalty, count)
        assert scales[0] < scales[1]
        for scale in scales:
            assert float(glm.point(Poisson(), theta, scale, penalty)[1]) == pytest.approx(count, rel=1e-12)
    with pytest.raises(NumericalError, match="too small"):
        glm.scales(Poisson(), square, penalty, math.ceil(least) - 1 or 0.5)
    low, high = glm.scales(Poisson(), square, penalty, least)
    assert low == pytest.approx(high, rel=1e-6)


def test_a_poisson_point_has_the_count_zero_at_negative_scales_up_to_one_over_e() -> None:
    theta = 0.6 * normal(5)
    square = float(theta @ theta)
    for part in (0.1, 0.99):
        penalty = part / (2 * math.e * square)
        for scale in glm.scales(Poisson(), square, penalty, 0):
            assert scale < 0
            assert float(glm.point(Poisson(), theta, scale, penalty)[1]) == pytest.approx(0, abs=1e-12)
    with pytest.raises(NumericalError, match="above 1/e"):
        glm.scales(Poisson(), square, 1.01 / (2 * math.e * square), 0)


@pytest.mark.parametrize("label", [0.1, 1.0, 50.0])
def test_a_gamma_point_has_any_positive_label_if_twice_the_penalty_times_the_square_is_below_one(label: float) -> None:
    theta = normal(5)
    square = float(theta @ theta)
    (scale,) = glm.scales(Gamma(), square, 0.45 / square, label)
    assert scale < 0
    assert float(glm.point(Gamma(), theta, scale, 0.45 / square)[1]) == pytest.approx(label)
    for bound in (0.5, 0.7):
        with pytest.raises(NumericalError, match="no point has the label"):
            glm.scales(Gamma(), square, bound / square, label)
        assert float(glm.point(Gamma(), theta, scale, bound / square)[1]) <= 1e-12


@pytest.mark.parametrize("label", [2.0, -2.0])
def test_a_linear_point_has_labels_of_either_sign_but_no_small_ones(label: float) -> None:
    theta = 0.5 * normal(5)
    square = float(theta @ theta)
    for scale in glm.scales(Linear(), square, 0.1, label):
        assert float(glm.point(Linear(), theta, scale, 0.1)[1]) == pytest.approx(label)
    with pytest.raises(NumericalError, match="too small"):
        glm.scales(Linear(), square, 0.1, 1.99 * math.sqrt(0.2 * square))


def test_other_families_have_no_closed_form_for_a_label() -> None:
    with pytest.raises(NumericalError, match="InverseGaussian"):
        glm.scales(FAMILIES["inverse_gaussian"], 1.0, 0.1, 1.0)


# Several points and columns


def weights_of(name: str, size: int = 5, columns: int = 3) -> torch.Tensor:
    theta = 0.5 * normal(size, columns)
    return theta - theta.mean(1, keepdim=True) if name == "softmax" else theta


@each_family
@pytest.mark.parametrize("summed", [False, True])
def test_labels_make_the_weights_the_minimum_on_any_points_that_span_them(name: str, summed: bool) -> None:
    theta, rows = weights_of(name, 3), normal(4, 3, seed=1)
    if name in NEGATIVE:
        rows, theta = rows.abs(), -theta.abs()
    coefficients = glm.coefficients(rows, theta)
    labels = glm.labels(FAMILIES[name], rows @ theta, coefficients, 0.02, summed)
    penalty = 0.02 / len(rows) if summed else 0.02  # the mean's penalty of a sum of losses
    start = theta * 1.1
    torch.testing.assert_close(minimum(name, rows, labels, penalty, start), theta, rtol=1e-8, atol=1e-8)
    if name == "softmax":
        torch.testing.assert_close(labels.sum(1), torch.ones(4, dtype=torch.float64))


def test_every_set_that_gives_the_weights_back_has_such_labels() -> None:
    """Any data with a minimum theta: Y - g^-1(X theta), over 2 penalty m, are coefficients."""
    rows, labels = normal(9, 4), torch.eye(3, dtype=torch.float64).repeat(3, 1)
    theta = minimum("softmax", rows, labels, 0.05, torch.zeros(4, 3, dtype=torch.float64))
    coefficients = (labels - Softmax().mean(rows @ theta)) / (2 * 0.05 * 9)
    torch.testing.assert_close(rows.T @ coefficients, theta, rtol=1e-8, atol=1e-8)


def test_fewer_points_than_the_rank_span_no_weights() -> None:
    theta = weights_of("softmax")
    assert glm.fewest(theta) == 2
    assert glm.fewest(theta, intercept=True) == 3
    assert glm.fewest(torch.zeros_like(theta), intercept=True) == 0
    glm.coefficients(normal(2, 2, seed=1) @ torch.linalg.svd(theta, full_matrices=False).U[:, :2].T, theta)
    with pytest.raises(NumericalError, match="need at least 2 points"):
        glm.coefficients(theta.T[:1], theta)
    with pytest.raises(NumericalError, match="do not span"):
        glm.coefficients(normal(2, 5, seed=1), theta)  # two points elsewhere
    with pytest.raises(NumericalError, match="less their mean"):
        glm.coefficients(theta.T[:2], theta, intercept=True)


@pytest.mark.parametrize("intercept", [False, True])
def test_coefficients_of_points_that_span_all_are_those_of_least_norm(intercept: bool) -> None:
    theta, rows = weights_of("linear"), normal(8, 5, seed=1)
    found = glm.coefficients(rows, theta, intercept)
    torch.testing.assert_close(rows.T @ found, theta)
    if intercept:
        torch.testing.assert_close(found.sum(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    system = torch.cat([rows, torch.ones(8, 1, dtype=torch.float64)], 1) if intercept else rows
    wanted = torch.cat([theta, torch.zeros(1, 3, dtype=torch.float64)]) if intercept else theta
    torch.testing.assert_close(found, torch.linalg.pinv(system.T) @ wanted)


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("intercept", [False, True])
def test_points_from_coefficients_give_the_weights_and_are_the_nearest_that_do(classes: bool, intercept: bool) -> None:
    theta, wanted = weights_of("softmax" if classes else "linear"), normal(8, 5, seed=1)
    coefficients = glm.directions(8, 3, classes, intercept)
    found = glm.points(theta, coefficients, wanted)
    torch.testing.assert_close(found.T @ coefficients, theta)
    other = found + (torch.eye(8, dtype=torch.float64) - coefficients @ torch.linalg.pinv(coefficients)) @ normal(
        8, 5, seed=2
    )
    torch.testing.assert_close(other.T @ coefficients, theta)
    assert float((other - wanted).norm()) > float((found - wanted).norm())


def test_points_are_refused_where_coefficients_do_not_carry_the_weights() -> None:
    with pytest.raises(NumericalError, match="coefficients of rank 2"):
        glm.points(weights_of("linear"), glm.directions(2, 3, classes=False), normal(2, 5))


@pytest.mark.parametrize("count", [2, 3, 4, 7])
@pytest.mark.parametrize("columns", [1, 2])
def test_directions_sum_to_zero_with_an_intercept_and_carry_every_column(count: int, columns: int) -> None:
    found = glm.directions(count, columns, classes=False, intercept=True)
    assert found.shape == (count, columns)
    torch.testing.assert_close(found.sum(0), torch.zeros(columns, dtype=torch.float64), atol=1e-14, rtol=0)
    assert int(torch.linalg.matrix_rank(found)) == min(columns, count - 1)


@pytest.mark.parametrize("count", [3, 6, 8])
def test_directions_of_classes_sum_to_zero_over_classes_and_name_one_in_turn(count: int) -> None:
    found = glm.directions(count, 3, classes=True)
    torch.testing.assert_close(found.sum(1), torch.zeros(count, dtype=torch.float64), atol=1e-14, rtol=0)
    assert found.argmax(1).tolist() == [i % 3 for i in range(count)]


def test_softmax_regression_of_two_classes_is_logistic_regression_with_half_the_penalty() -> None:
    """theta = (-w/2, w/2) has |theta|^2 = |w|^2 / 2."""
    rows, which = normal(12, 3), (torch.arange(12) % 3 > 0).long()
    hard = torch.nn.functional.one_hot(which, 2).double()
    theta = minimum("softmax", rows, hard, 0.1, torch.zeros(3, 2, dtype=torch.float64))
    w = minimum("logistic", rows, hard[:, 1:], 0.05, torch.zeros(3, 1, dtype=torch.float64))
    torch.testing.assert_close(theta, torch.cat([-w / 2, w / 2], 1), rtol=1e-8, atol=1e-8)


# Room for labels of classes


def test_two_classes_have_room_up_to_the_bound_at_the_scale_of_a_logistic_model() -> None:
    w = normal(5)
    theta = torch.stack([-w / 2, w / 2], 1)
    coefficients = glm.directions(2, 2, classes=True)
    scales = glm.roomiest(theta.T @ theta, coefficients)
    square = float(theta.square().sum())
    torch.testing.assert_close(scales * square, torch.full_like(scales, 1 + glm.simplex_reach(2)), rtol=1e-6, atol=0)
    means = (scales[:, None] * (theta.T @ theta)).softmax(1)
    limit = glm.largest_penalty(means, coefficients / scales[:, None])
    torch.testing.assert_close(2 * limit * square, torch.full_like(limit, glm.simplex_reach(2)))


@pytest.mark.parametrize("classes", [3, 10])
def test_equiangular_classes_have_room_up_to_the_bound(classes: int) -> None:
    """theta with theta^T theta = s / (c - 1) (I - 1 1^T / c): no set of points can do better than one a class does here."""
    square = 2.3
    gram = square / (classes - 1) * (torch.eye(classes, dtype=torch.float64) - 1 / classes)
    coefficients = glm.directions(classes, classes, classes=True)
    scales = glm.roomiest(gram, coefficients)[:, None]
    limit = glm.largest_penalty((scales * gram).softmax(1), coefficients / scales)
    torch.testing.assert_close(
        2 * limit * square, torch.full_like(limit, glm.simplex_reach(classes)), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("together", [False, True])
def test_no_other_scale_leaves_labels_more_room(together: bool) -> None:
    theta = weights_of("softmax", 6, 4)
    rows = glm.points(theta, glm.directions(8, 4, classes=True), 0.1 * normal(8, 6, seed=1))
    coefficients = glm.coefficients(rows, theta)
    eta = rows @ theta

    def limits(scales: torch.Tensor) -> torch.Tensor:
        found = glm.largest_penalty((scales[:, None] * eta).softmax(1), coefficients / scales[:, None])
        return found.min()[None] if together else found

    found = glm.roomiest(eta, coefficients, together)
    assert bool((found == found[0]).all()) == together
    best = limits(found)
    for factor in np.geomspace(0.01, 100, 101):
        assert bool((limits(found * factor) <= best * (1 + 1e-9)).all())


def test_more_classes_may_leave_no_room_at_the_penalty_of_the_real_data() -> None:
    """Two examples of six classes: they are a set with labels in the simplex, one point a class is none at this penalty."""
    rows, labels = torch.tensor([[1.0], [-1.0]], dtype=torch.float64), torch.eye(6, dtype=torch.float64)[:2]
    theta = minimum("softmax", rows, labels, 0.3, torch.zeros(1, 6, dtype=torch.float64))
    coefficients = glm.directions(6, 6, classes=True)
    scales = glm.roomiest(theta.T @ theta, coefficients)[:, None]
    limit = float(glm.largest_penalty((scales * (theta.T @ theta)).softmax(1), coefficients / scales).min())
    assert 0 < limit < 0.3


def test_labels_are_in_the_simplex_up_to_the_largest_penalty_and_not_beyond() -> None:
    theta = weights_of("softmax", 6, 4)
    coefficients = glm.directions(4, 4, classes=True)
    eta = theta.T @ theta
    limit = float(glm.largest_penalty(eta.softmax(1), coefficients).min())
    for part, valid in ((0.999, True), (1.001, False)):
        labels = glm.labels(Softmax(), eta, coefficients, part * limit)
        assert bool(Softmax().valid(labels).all()) == valid


def test_points_whose_coefficients_are_not_negative_have_labels_for_every_penalty() -> None:
    assert math.isinf(float(glm.largest_penalty(torch.ones(1, 1), torch.ones(1, 1))))


def test_a_sum_of_losses_takes_as_many_points_as_the_bound_goes_into_the_norm() -> None:
    theta, penalty = normal(5), 1.0
    square = float(theta @ theta)
    count = math.ceil(2 * penalty * square / glm.simplex_reach(2))
    assert count > 2
    for points, valid in ((count, True), (count - 1, False)):
        u = torch.linspace(0.1, 5, 2000, dtype=torch.float64)[:, None]
        tried = torch.sigmoid(u) + 2 * penalty * square / (points * u)  # of `points` times the same one
        assert bool((tried <= 1).any()) == valid


# Intercepts


@pytest.mark.parametrize("name", ["linear", "logistic", "poisson", "gamma"])
def test_two_points_around_any_centre_give_weights_and_an_intercept_without_penalty(name: str) -> None:
    family, theta = FAMILIES[name], 0.3 * normal(3)[:, None]
    beta = -2.0 if name in NEGATIVE else 0.4
    coefficients = torch.tensor([[0.5], [-0.5]], dtype=torch.float64) / 0.8
    rows = glm.points(theta, coefficients, 0.2 * normal(1, 3, seed=1).repeat(2, 1))
    torch.testing.assert_close(rows[0] - rows[1], 2 * 0.8 * theta[:, 0])
    labels = glm.labels(family, rows @ theta + beta, coefficients, 0.03)

    def gradient(flat: np.ndarray) -> np.ndarray:
        own, shift = torch.from_numpy(flat[:3])[:, None], flat[3]
        left = family.mean(rows @ own + shift) - labels
        return np.append((rows.T @ left / 2 + 0.06 * own).numpy(), float(left.mean()))

    found = optimize.root(gradient, np.append(0.9 * theta.numpy(), beta), options={"xtol": 1e-15}).x
    np.testing.assert_allclose(found, np.append(theta.numpy(), beta), rtol=1e-8)


def test_one_point_gives_no_weights_beside_an_intercept_without_penalty() -> None:
    """The intercept's slope makes the residual 0, and then that of the weights is 2 penalty theta."""
    x, y = normal(1, 3), 0.8

    def loss(flat: np.ndarray) -> float:
        eta = float(x @ torch.from_numpy(flat[:3])) + flat[3]
        return float(np.logaddexp(0, eta) - y * eta + 0.1 * flat[:3] @ flat[:3])

    found = optimize.minimize(loss, np.full(4, 0.5), method="BFGS", options={"gtol": 1e-8}).x
    np.testing.assert_allclose(found, [0, 0, 0, math.log(4)], atol=1e-5)


def test_one_point_gives_weights_and_a_penalised_intercept_at_one_scale_alone() -> None:
    """The last coordinate of a point is 1, which asks for a = 1 / beta."""
    theta = 0.5 * normal(4)
    x, y = glm.point(Logistic(), theta, 1 / float(theta[-1]), 0.05)
    assert float(x[0, -1]) == pytest.approx(1)
    torch.testing.assert_close(minimum("logistic", x, y, 0.05, 0 * theta[:, None])[:, 0], theta, rtol=1e-8, atol=1e-8)
