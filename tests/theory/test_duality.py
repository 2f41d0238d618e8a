"""Duality: conjugates, the gap and what it bounds, against scipy's minimisers and worked cases; the wrong thing fails."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import optimize

from stillhouse.errors import NumericalError
from stillhouse.theory import duality
from stillhouse.theory.duality import Gap, Logistic, Loss, SmoothedHinge, Squared

LOSSES: list[Loss] = [Squared(), Logistic(), SmoothedHinge(), SmoothedHinge(0.5)]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=["squared", "logistic", "hinge", "smoothed hinge"])
COUNT, EXAMPLES, RIDGE = 200, 6, 0.05


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """m = 6 examples of features (m, 4) and labels +-1, and 200 machines theta (4, 200) with dual variables (m, 200)."""

    def __init__(self, loss: Loss) -> None:
        self.loss, self.features = loss, normal(EXAMPLES, 4)
        self.gram = self.features @ self.features.T
        self.label = torch.tensor([1.0, -1, 1, 1, -1, -1], dtype=torch.float64)[:, None]
        self.labels = self.label.repeat(1, COUNT)
        self.machines = normal(4, COUNT, seed=1) * (3 * uniform(COUNT, seed=2))
        drawn = normal(EXAMPLES, COUNT, seed=3) * 2 if not loss.confined else uniform(EXAMPLES, COUNT, seed=3)
        # Half of the confined ones at the ends of [0, 1], where the hinge has its own.
        self.dual = drawn.round() if loss.confined else drawn
        self.dual[:, ::2] = drawn[:, ::2]

    def gap(self) -> Gap:
        scores, norms = self.features @ self.machines, self.machines.square().sum(0)
        return duality.gap(self.loss, self.labels, scores, norms, self.dual, self.gram, RIDGE)

    def theta(self, dual: torch.Tensor) -> torch.Tensor:
        return self.features.T @ duality.expansion(self.loss, self.labels[:, : dual.shape[1]], dual, RIDGE)

    def minimum(self) -> torch.Tensor:
        """theta*_S (4, 1) by scipy alone: the losses are written again here, as a smooth problem with slack for the hinge."""
        rows, signs = self.features.numpy(), self.label[:, 0].numpy()
        if self.loss == SmoothedHinge():
            return torch.from_numpy(_hinge(rows, signs))[:, None]
        plain: Any = {
            Squared(): lambda z: (1 - z) ** 2 / 2,
            Logistic(): lambda z: np.logaddexp(0, -z),
            SmoothedHinge(0.5): lambda z: np.where(z > 1, 0, np.where(z < 0.5, 0.75 - z, (1 - z) ** 2)),
        }[self.loss]

        def objective(theta: np.ndarray) -> float:
            return float(plain(signs * (rows @ theta)).mean() + RIDGE / 2 * theta @ theta)

        found = optimize.minimize(objective, np.zeros(4), method="BFGS", options={"gtol": 1e-9})
        return torch.from_numpy(found.x)[:, None]


def _hinge(rows: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """min (1/m) sum s + ridge/2 |theta|^2 over s >= 0, s >= 1 - y f."""
    m = len(rows)
    asked: dict[str, Any] = {
        "fun": lambda v: v[4:].mean() + RIDGE / 2 * v[:4] @ v[:4],
        "x0": np.concatenate([np.zeros(4), np.ones(m)]),
        "jac": lambda v: np.concatenate([RIDGE * v[:4], np.full(m, 1 / m)]),
        "constraints": {
            "type": "ineq",
            "fun": lambda v: v[4:] - 1 + signs * (rows @ v[:4]),
            "jac": lambda v: np.hstack([signs[:, None] * rows, np.eye(m)]),
        },
        "bounds": [(None, None)] * 4 + [(0, None)] * m,
        "options": {"ftol": 1e-15, "maxiter": 500},
    }
    return np.asarray(optimize.minimize(method="SLSQP", **asked).x[:4])


@pytest.fixture(params=LOSSES, ids=["squared", "logistic", "hinge", "smoothed hinge"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


# Losses


def labels_and_duals() -> Iterator[tuple[float, float]]:
    for label in (1.0, -1.0, 0.3, -0.7):
        for dual in (0.0, 0.2, 0.5, 0.9, 1.0):
            yield label, dual


@every_loss
def test_conjugates_are_the_largest_difference_of_line_and_loss_for_real_valued_labels_too(loss: Loss) -> None:
    scores = torch.linspace(-200, 200, 40_001, dtype=torch.float64)[:, None]
    for label, dual in labels_and_duals():
        one, other = torch.tensor([[label]], dtype=torch.float64), torch.tensor([[dual]], dtype=torch.float64)
        tried = torch.cat([scores, 1 / one])  # where the hinge has its kink
        largest = (-loss.alpha(one, other) * tried - loss.value(one, tried)).max()
        assert float(loss.conjugate(one, other)) == pytest.approx(float(largest), abs=3e-5)


@every_loss
def test_what_is_not_feasible_has_an_infinite_conjugate(loss: Loss) -> None:
    label = torch.ones(1, 2, dtype=torch.float64)
    outside = torch.tensor([[-0.1, 1.1]], dtype=torch.float64)
    assert bool(loss.conjugate(label, outside).isinf().all()) == loss.confined
    far = torch.tensor([[1e3], [-1e3]], dtype=torch.float64)
    differences = -loss.alpha(label, outside) * far - loss.value(label, far)
    assert bool((differences.amax(0) > 50).all()) == loss.confined  # and grows with the score


def test_the_product_of_label_and_alpha_does_not_tell_what_is_feasible_for_labels_other_than_signs() -> None:
    label, alpha = (
        torch.tensor([[0.5]], dtype=torch.float64),
        0.9,
    )  # y alpha = 0.45 is in [0, 1], alpha / y = 1.8 is not
    scores = torch.linspace(-1000, 0, 1001, dtype=torch.float64)[:, None]
    assert float((-alpha * scores - Logistic().value(label, scores)).max()) > 300


@every_loss
def test_the_answer_is_minus_the_slope_and_makes_fenchel_young_tight(loss: Loss) -> None:
    labels, scores = normal(50, 3, seed=4).sign(), (2 * normal(50, 3, seed=5)).requires_grad_()
    (slope,) = torch.autograd.grad(loss.value(labels, scores).sum(), scores)
    answer = loss.answer(labels, scores.detach())
    torch.testing.assert_close(loss.alpha(labels, answer), -slope)
    tight = duality.fenchel_young(loss, labels, scores.detach(), answer)
    torch.testing.assert_close(tight, torch.zeros_like(tight), atol=1e-14, rtol=0)


@pytest.mark.parametrize("loss", [Squared(), Logistic(), SmoothedHinge(0.5)])
def test_curvature_is_the_second_derivative(loss: Loss) -> None:
    labels, scores = uniform(50, 3, seed=6) - 0.2, 2 * normal(50, 3, seed=7)
    slopes = [-loss.alpha(labels, loss.answer(labels, scores + step)) for step in (1e-6, -1e-6)]
    found = (slopes[0] - slopes[1]) / 2e-6
    torch.testing.assert_close(loss.curvature(labels, scores), found, atol=1e-6, rtol=1e-6)


def test_the_smoothed_hinge_lies_below_the_hinge_by_at_most_half_its_width() -> None:
    labels, scores = torch.ones(401, 1, dtype=torch.float64), torch.linspace(-2, 2, 401, dtype=torch.float64)[:, None]
    below = SmoothedHinge().value(labels, scores) - SmoothedHinge(0.3).value(labels, scores)
    torch.testing.assert_close(SmoothedHinge().value(labels, scores), (1 - scores).clamp(min=0))
    assert 0 <= float(below.min()) < float(below.max()) <= 0.15 + 1e-12


def test_the_gradient_of_the_logistic_conjugate_is_finite_at_the_ends() -> None:
    free = torch.tensor([[-800.0], [800.0]], dtype=torch.float64, requires_grad=True)
    Logistic().conjugate(torch.ones(2, 1, dtype=torch.float64), torch.sigmoid(free)).sum().backward()  # type: ignore[no-untyped-call]
    assert free.grad is not None
    assert bool(free.grad.isfinite().all())


# The gap


def test_the_dual_is_never_above_the_primal_and_meets_it_at_the_minimum(case: Case) -> None:
    best = case.minimum()
    least = duality.primal(case.loss, case.label, case.features @ best, best.square().sum(0), RIDGE)
    found = duality.dual_value(case.loss, case.labels, case.dual, case.gram, RIDGE)
    assert bool((found <= least + 1e-12).all())
    if case.loss != SmoothedHinge():  # whose slope at the kink is not told by the score
        answer = case.loss.answer(case.label, case.features @ best)
        met = duality.dual_value(case.loss, case.label, answer, case.gram, RIDGE)
        assert float(met) == pytest.approx(float(least), abs=1e-9)


def test_the_gap_is_fenchel_young_and_half_lambda_times_the_squared_distance(case: Case) -> None:
    found = case.gap()
    torch.testing.assert_close(found.total, found.young + RIDGE / 2 * found.distance)
    torch.testing.assert_close(found.distance, (case.machines - case.theta(case.dual)).square().sum(0))
    assert bool((found.young >= -1e-14).all())


def test_the_gap_is_the_primal_less_the_dual(case: Case) -> None:
    scores, norms = case.features @ case.machines, case.machines.square().sum(0)
    upper = duality.primal(case.loss, case.labels, scores, norms, RIDGE)
    lower = duality.dual_value(case.loss, case.labels, case.dual, case.gram, RIDGE)
    torch.testing.assert_close(case.gap().total, upper - lower)


def test_theorem_1_the_minimum_is_within_the_radius_for_any_machine_and_any_feasible_dual(case: Case) -> None:
    distance = (case.machines - case.minimum()).norm(dim=0)
    assert bool((distance <= case.gap().radius + 1e-6).all())


def test_theorem_2_the_minimum_is_in_the_ball_around_the_middle_which_lies_in_the_first(case: Case) -> None:
    best, found = case.minimum(), case.gap()
    middle = (case.machines + case.theta(case.dual)) / 2
    assert bool(((middle - best).norm(dim=0) <= found.ball + 1e-6).all())
    assert bool(((case.machines - best).norm(dim=0) <= found.reach + 1e-6).all())
    assert bool((found.reach <= found.radius * (1 + 1e-12)).all())
    assert float((found.reach / found.radius).min()) < 0.9  # and is really sharper for some


def test_both_squared_distances_together_are_within_the_bound_of_one(case: Case) -> None:
    best = case.minimum()
    both = (case.machines - best).square().sum(0) + (case.theta(case.dual) - best).square().sum(0)
    assert bool((both <= 2 * case.gap().total / RIDGE + 1e-5).all())


def test_the_ball_computed_without_cancellation_is_the_one_of_the_statement(case: Case) -> None:
    found = case.gap()
    torch.testing.assert_close(found.ball.square(), found.total / RIDGE - found.distance / 4)


def test_a_machine_that_is_the_duals_own_has_half_the_squared_bound(case: Case) -> None:
    case.machines = case.theta(case.dual)
    found = case.gap()
    torch.testing.assert_close(found.distance, torch.zeros(COUNT, dtype=torch.float64), atol=1e-10, rtol=0)
    torch.testing.assert_close(found.reach.square(), found.total / RIDGE, atol=1e-3, rtol=1e-3)
    assert bool(((case.machines - case.minimum()).square().sum(0) <= found.total / RIDGE + 1e-5).all())


def test_half_the_constant_is_too_small(case: Case) -> None:
    """|theta*_S - theta_O|^2 <= DG / lambda is false: a part of theta_O that no example sees costs lambda/2 of its square."""
    best, unseen = case.minimum(), 0.7
    dual = case.loss.answer(case.label, case.features @ best)
    if case.loss == SmoothedHinge():
        dual = _hinge_dual(case)
    found = duality.gap(
        case.loss, case.label, case.features @ best, best.square().sum(0) + unseen**2, dual, case.gram, RIDGE
    )
    assert float(found.radius) == pytest.approx(unseen, abs=1e-4)
    assert float(found.total) / RIDGE < 0.51 * unseen**2


def _hinge_dual(case: Case) -> torch.Tensor:
    signed = case.label * case.features
    system = (signed @ signed.T).numpy() / (RIDGE * EXAMPLES**2)
    asked: dict[str, Any] = {
        "fun": lambda p: p @ system @ p / 2 - p.mean(),
        "x0": np.full(EXAMPLES, 0.5),
        "jac": lambda p: system @ p - 1 / EXAMPLES,
        "bounds": [(0, 1)] * EXAMPLES,
        "options": {"ftol": 1e-16, "gtol": 1e-12},
    }
    return torch.from_numpy(optimize.minimize(method="L-BFGS-B", **asked).x)[:, None]


@pytest.mark.parametrize("loss", [Logistic(), SmoothedHinge(), SmoothedHinge(0.5)])
def test_nothing_is_claimed_of_duals_that_are_not_feasible(loss: Loss) -> None:
    case = Case(loss)
    case.dual = 1 + 0.5 * uniform(EXAMPLES, COUNT, seed=8)
    assert bool(case.gap().radius.isinf().all())


def test_duals_that_are_not_feasible_would_break_the_bound() -> None:
    """The hinge's -p beyond [0, 1]: 'D' exceeds the least P, and the 'radius' is less than the distance."""

    class Unguarded(SmoothedHinge):
        def conjugate(self, labels: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
            return -dual

    # One example with k = 1 and label 1: theta* = 1 / lambda for lambda > 1, P(theta*) = 1 - 1 / (2 lambda).
    one, strong = torch.ones(1, 1, dtype=torch.float64), 4.0
    theta = one / strong
    least = duality.primal(SmoothedHinge(), one, theta, theta.square()[0], strong)
    assert float(least) == pytest.approx(1 - 1 / 8)
    assert float(duality.dual_value(Unguarded(), one, 1.5 * one, one, strong)) > float(least)
    wrong = duality.gap(Unguarded(), one, theta + 0.5, (theta + 0.5).square()[0], 1.5 * one, one, strong)
    right = duality.gap(Unguarded(), one, theta + 0.5, (theta + 0.5).square()[0], one, one, strong)
    assert float(wrong.radius) < 0.5 <= float(right.radius)


def test_the_first_bound_cannot_be_improved() -> None:
    """One example, k = 1, hinge, lambda > 1: theta* = 1 / lambda, and theta_O = 0 is as far as the radius says."""
    one = torch.ones(1, 1, dtype=torch.float64)
    found = duality.gap(SmoothedHinge(), one, 0 * one, 0 * one[0], one, one, 4.0)
    assert float(found.radius) == pytest.approx(1 / 4)


@pytest.mark.parametrize(("theta", "dual"), [(0.2, 0.7), (-1.0, 0.5), (0.9, 0.1), (0.3, 1.0)])
def test_the_ball_cannot_be_improved(theta: float, dual: float) -> None:
    """The same with lambda = 1: theta* = 1 lies on the ball's surface for every theta_O <= 1 and every alpha."""
    one = torch.ones(1, 1, dtype=torch.float64)
    found = duality.gap(SmoothedHinge(), one, theta * one, theta**2 * one[0], dual * one, one, 1.0)
    assert abs(1 - (theta + dual) / 2) == pytest.approx(float(found.ball))
    assert float(found.reach) == pytest.approx(max(1 - theta, 1 - dual))


def test_with_the_best_dual_the_gap_is_how_far_the_machine_is_from_the_least_primal() -> None:
    case = Case(Logistic())
    best = case.minimum()
    case.dual = case.loss.answer(case.labels, case.features @ best.repeat(1, COUNT))
    least = duality.primal(case.loss, case.label, case.features @ best, best.square().sum(0), RIDGE)
    upper = duality.primal(case.loss, case.labels, case.features @ case.machines, case.machines.square().sum(0), RIDGE)
    torch.testing.assert_close(case.gap().total, upper - least, atol=1e-8, rtol=1e-8)


# Predictions


def test_theorem_3_scores_are_within_their_intervals_and_certain_classes_are_right(case: Case) -> None:
    x = normal(50, 4, seed=9)
    best, found = case.minimum(), case.gap()
    theirs, ours = x @ case.machines, x @ best
    widths = duality.interval(found.radius, x.square().sum(1))
    assert bool(((theirs - ours).abs() <= widths + 1e-5).all())
    certain = torch.stack(
        [duality.certain(duality.two_sided(theirs[:, [i]]), widths[:, [i]].repeat(1, 2)) for i in range(COUNT)], 1
    )
    torch.testing.assert_close(certain, theirs.abs() > widths)  # the sign's own condition
    assert bool((theirs.sign() == ours.sign())[certain].all())
    middle = (theirs + x @ case.theta(case.dual)) / 2
    assert bool(((middle - ours).abs() <= duality.interval(found.ball, x.square().sum(1)) + 1e-5).all())


def test_theorem_4_errors_of_several_machines_lie_between_their_bounds() -> None:
    rng = torch.Generator().manual_seed(0)
    scores, radii = normal(300, 4), 0.3 * uniform(300, 4, seed=1)
    classes = torch.randint(4, (300,), generator=rng)
    least, most = duality.errors_between(scores, radii, classes)
    sure = duality.certain(scores, radii)
    assert 0 < least < most < 1
    assert 0 < float(sure.double().mean()) < 1
    tried = []
    for i in range(300):
        moved = scores + radii * (2 * uniform(300, 4, seed=10 + i) - 1).sign()
        tried.append(float((moved.argmax(1) != classes).double().mean()))
        assert bool((moved.argmax(1) == scores.argmax(1))[sure].all())
    assert least <= min(tried) < max(tried) <= most
    worst = scores + torch.where(torch.nn.functional.one_hot(classes, 4) == 1, -radii, radii)
    assert float((worst.argmax(1) != classes).double().mean()) == pytest.approx(most)  # both are reached
    kindest = scores - torch.where(torch.nn.functional.one_hot(classes, 4) == 1, -radii, radii)
    assert float((kindest.argmax(1) != classes).double().mean()) == pytest.approx(least)


def test_a_violated_bound_stops_with_both_numbers_and_rounding_does_not() -> None:
    found, bound = torch.tensor([1.0, 2.0 + 1e-12], dtype=torch.float64), torch.tensor([1.5, 2.0], dtype=torch.float64)
    assert duality.verify("it", found, bound, 1.0) == pytest.approx(1.0)
    with pytest.raises(NumericalError, match=r"it is 2\.1, above its proven bound 2\.0: a bug"):
        duality.verify("it", found + 0.1 - 1e-12, bound, 1.0)
    with pytest.raises(NumericalError, match="nan"):
        duality.verify("it", found * math.nan, bound, 1.0)
