"""T steps of gradient descent in closed form, against the steps themselves; printed sums; lemmas; the wrong thing fails."""

import math
from itertools import pairwise

import pytest
import torch

from stillhouse import linalg
from stillhouse.theory import bilevel

# m, d, k, q, T, ridge: both forms, one and several targets, powers of 2 and their neighbours, no ridge.
CASES = [
    (3, 8, 1, 4, 13, 0.1), (3, 8, 2, 3, 100, 0.0), (8, 5, 2, 3, 100, 0.0), (8, 5, 1, 2, 1, 0.3), (2, 6, 2, 2, 1, 0.3),
    (6, 6, 2, 3, 64, 0.3), (7, 8, 1, 3, 63, 0.01), (1, 4, 1, 2, 2, 0.5),
]  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES, ids=[f"m{m} d{d} T{t} ridge{r}" for m, d, _, _, t, r in CASES])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def problem(m: int, d: int, k: int, q: int) -> Parts:
    """Two runs side by side, with step sizes of their own: X, Y, starts, eta, all tracked."""
    inputs, targets, starts = normal(2, m, d), normal(2, m, k, seed=1), normal(2, q, d, k, seed=2)
    step = torch.tensor([0.3, 0.1], dtype=torch.float64)
    return inputs.requires_grad_(), targets.requires_grad_(), starts.requires_grad_(), step.requires_grad_()


# The closed form


@every_case
def test_the_closed_form_is_the_steps_one_after_the_other(case: tuple[int, int, int, int, int, float]) -> None:
    m, d, k, q, steps, ridge = case
    parts = problem(m, d, k, q)
    wanted, found = (each(*parts, ridge, steps) for each in (bilevel.unrolled, bilevel.trained))
    assert found.shape == (2, q, d, k)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)


@every_case
def test_its_gradients_are_those_through_all_steps(case: tuple[int, int, int, int, int, float]) -> None:
    m, d, k, q, steps, ridge = case
    parts, weight = problem(m, d, k, q), normal(2, q, d, k, seed=3)
    wanted, found = (
        torch.autograd.grad((each(*parts, ridge, steps) * weight).sum(), parts)
        for each in (bilevel.unrolled, bilevel.trained)
    )
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("m", "d"), [(2, 4), (5, 3)])
def test_its_gradients_are_those_of_finite_differences(m: int, d: int) -> None:
    inputs, targets, starts, step = (part.detach()[:1].requires_grad_() for part in problem(m, d, 1, 2))

    def learned(*parts: *Parts) -> torch.Tensor:
        return bilevel.trained(*parts, 0.1, 5)

    assert torch.autograd.gradcheck(learned, (inputs, targets, starts, step), atol=1e-7)


def test_two_steps_by_hand() -> None:
    """m = d = 1, x = 2, y = 3, ridge 1, eta 1/10: slope 2 (2w - 3) + w = 5w - 6; from 0 to 0.6, from there to 0.9."""
    one = torch.ones(1, 1, dtype=torch.float64)
    start, step = torch.zeros(1, 1, 1, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64)
    found = [float(bilevel.trained(2 * one, 3 * one, start, step, 1.0, steps)) for steps in (1, 2)]
    assert found == pytest.approx([0.6, 0.9])


@pytest.mark.parametrize(("m", "d"), [(3, 8), (8, 5)])
def test_many_steps_end_at_ridge_regression_wherever_they_start(m: int, d: int) -> None:
    inputs, targets, starts, _ = (part.detach() for part in problem(m, d, 2, 3))
    step = 0.9 * bilevel.step_bound(torch.linalg.matrix_norm(inputs, 2).square(), m, 0.05)
    found = bilevel.trained(inputs, targets, starts, step, 0.05, 1 << 14)
    for run in range(2):
        # a loss that is a mean over 2 with ridge / 2 is one that is a sum with ridge m
        wanted = linalg.ridge_solve(inputs[run], targets[run], 0.05 * m)
        torch.testing.assert_close(found[run], wanted.expand(3, -1, -1), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("m", "d"), [(3, 8), (8, 5)])
def test_from_zero_with_a_ridge_it_is_the_part_of_ridge_regression_that_t_steps_reach(m: int, d: int) -> None:
    """(I - C^T) (X^T X + m lambda I)^-1 X^T Y."""
    inputs, targets, starts, step = (part.detach()[0] for part in problem(m, d, 2, 1))
    once = (1 - step * 0.05) * torch.eye(d, dtype=torch.float64) - step / m * inputs.T @ inputs
    reached = torch.eye(d, dtype=torch.float64) - torch.linalg.matrix_power(once, 30)
    found = bilevel.trained(inputs, targets, torch.zeros_like(starts), step, 0.05, 30)[0]
    torch.testing.assert_close(found, reached @ linalg.ridge_solve(inputs, targets, 0.05 * m), atol=1e-10, rtol=0)


@pytest.mark.parametrize("steps", [1, 7, 8, 100])
def test_a_linear_kernel_learns_what_linear_steps_from_zero_learn(steps: int) -> None:
    inputs, targets, starts, step = (part.detach() for part in problem(4, 6, 2, 1))
    gram = inputs @ inputs.mT
    found = inputs.mT @ bilevel.coefficients(gram, targets, step, 0.1, steps)
    wanted = bilevel.unrolled(inputs, targets, torch.zeros_like(starts), step, 0.1, steps)[:, 0]
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


def test_in_a_kernels_space_many_steps_end_at_kernel_ridge_regression() -> None:
    rows = normal(5, 3)
    gram = torch.exp(-torch.cdist(rows, rows).square())
    step = bilevel.step_bound(torch.linalg.eigvalsh(gram)[-1], 5, 0.02) / 2
    found = bilevel.coefficients(gram, normal(5, 2, seed=1), step, 0.02, 1 << 16)
    wanted = torch.linalg.solve(gram + 5 * 0.02 * torch.eye(5, dtype=torch.float64), normal(5, 2, seed=1))
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


# What is printed

STEPS = 12


def sums(ridge: float, shift: int = 0, with_step: bool = True, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """What the targets add to C^T W_0, and sum_{j=1}^T binomial(T + shift, j) gamma^j (-X^T X)^(j-1) X^T Y in its place, with or
    without gamma = eta / m. Points of norms around 1, as the experiments have them.
    """
    inputs, targets = normal(4, 6, seed=seed) / math.sqrt(6), normal(4, 1, seed=seed + 1)
    step = torch.tensor(0.8, dtype=torch.float64)
    start = torch.zeros(1, 6, 1, dtype=torch.float64)
    wanted = bilevel.unrolled(inputs, targets, start, step, ridge, STEPS)[0]
    gamma, term, total = float(step) / 4 if with_step else 1.0, inputs.T @ targets, torch.zeros_like(wanted)
    for j in range(1, STEPS + 1):
        total = total + math.comb(STEPS + shift, j) * gamma**j * term
        term = -inputs.T @ (inputs @ term)
    return total, wanted


def test_the_sum_of_appendix_a5_is_right_for_ridge_0() -> None:
    assert linalg.relative_error(*sums(0.0)) < 1e-12


@pytest.mark.parametrize(("ridge", "error"), [(0.001, 0.001), (0.1, 0.1), (1.0, 0.5)])
def test_the_sum_of_appendix_a5_is_wrong_for_every_other_ridge(ridge: float, error: float) -> None:
    assert linalg.relative_error(*sums(ridge)) > error


@pytest.mark.parametrize("seed", range(3))
def test_without_gamma_or_with_another_binomial_the_sum_is_wrong_even_for_ridge_0(seed: int) -> None:
    """Faults of what equation (4) and A.4 print. Without gamma the error is of the size of what is computed."""
    assert linalg.relative_error(*sums(0.0, with_step=False, seed=seed)) > 0.5
    assert linalg.relative_error(*sums(0.0, shift=-1, seed=seed)) > 0.02
    assert linalg.relative_error(*sums(0.0, shift=1, seed=seed)) > 0.02


# The bound on the step size


@pytest.mark.parametrize(("m", "d", "ridge"), [(4, 6, 0.1), (6, 4, 0.0), (6, 4, 0.5)])
def test_lemma_2_4_steps_shrink_below_the_bound_and_grow_above_it(m: int, d: int, ridge: float) -> None:
    inputs = normal(m, d)
    bound = bilevel.step_bound(torch.linalg.matrix_norm(inputs, 2).square(), m, ridge)
    top = torch.linalg.svd(inputs).Vh[0][None, :, None]
    for part, grows in ((0.99, False), (1.01, True)):
        found = bilevel.trained(inputs, torch.zeros(m, 1, dtype=torch.float64), top, part * bound, ridge, 50)
        assert (float(found.norm()) > 1) == grows


# Lemma 2.3: an exact match for all starts needs m >= d


def exact_points(m: int, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """m orthonormal points with the targets that the weights (d, k) give them."""
    inputs = torch.linalg.qr(normal(len(weights), m)).Q.T
    return inputs, inputs @ weights


def test_lemma_2_3_as_many_points_as_features_teach_the_weights_to_every_start() -> None:
    weights = normal(5, 1, seed=4)
    found = bilevel.trained(*exact_points(5, weights), normal(7, 5, 1, seed=5), torch.tensor(2.5).double(), 0.0, 60)
    torch.testing.assert_close(found, weights.expand(7, -1, -1), atol=1e-10, rtol=0)


def test_lemma_2_3_one_point_fewer_leaves_a_direction_of_the_start_for_any_number_of_steps() -> None:
    weights, starts = normal(5, 1, seed=4), normal(7, 5, 1, seed=5)
    inputs, targets = exact_points(4, weights)
    silent = torch.linalg.svd(inputs).Vh[-1]
    for steps in (60, 6000):
        found = bilevel.trained(inputs, targets, starts, torch.tensor(2.0).double(), 0.0, steps)
        torch.testing.assert_close(inputs @ found, (inputs @ weights).expand(7, -1, -1))
        torch.testing.assert_close(silent @ found, silent @ starts)  # untouched: two starts, two answers
        assert float((found - weights).norm(dim=1).max()) > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_lemma_2_3_no_points_fewer_than_features_give_all_starts_one_answer(seed: int) -> None:
    """Whatever points, targets and step size: C^T has an eigenvalue (1 - eta ridge)^T that no start loses."""
    inputs, targets = normal(4, 5, seed=seed), normal(4, 1, seed=seed + 10)
    starts, step = normal(6, 5, 1, seed=seed + 20), torch.tensor(0.1 + 0.2 * seed, dtype=torch.float64)
    found = bilevel.trained(inputs, targets, starts, step, 0.01, 40)
    spread = (found - found.mean(0)).norm()
    silent = torch.linalg.svd(inputs).Vh[-1]
    least = (1 - float(step) * 0.01) ** 40 * (silent @ (starts - starts.mean(0))).norm()
    assert float(spread) >= float(least) > 0.1


# Theorem 2.9


def test_theorem_2_9_promises_the_paper_a_slope_two_thousand_times_flatter_than_it_measures() -> None:
    slope = bilevel.guaranteed_slope(ridge=0.001, convexity=0.0, rate=0.0025)
    assert slope == pytest.approx(-2.5e-6, rel=1e-3)
    assert -0.0052 / slope > 2000


def test_theorem_2_9_promises_nothing_where_the_loss_is_less_convex_than_its_ridge() -> None:
    assert bilevel.guaranteed_slope(0.001, 0.001, 0.1) == bilevel.guaranteed_slope(0.001, 5.0, 0.1) == 0
    slopes = [bilevel.guaranteed_slope(0.1, convexity, 0.5) for convexity in (0.0, 0.05, 0.09)]
    assert slopes[0] == pytest.approx(math.log(1 - 0.05))
    assert all(one < other < 0 for one, other in pairwise(slopes))


def test_theorem_2_9_holds_for_a_quadratic_whose_curvature_is_known() -> None:
    """1/2 sum h_i w_i^2 + ridge/2 |w|^2 with h from 0 to 2: steps of 1/L shrink it at least as fast as promised."""
    curved, ridge = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64), 0.1
    weights, rate, losses = torch.ones(3, dtype=torch.float64), 1 / 2.1, []
    for _ in range(20):
        losses.append(float(((curved + ridge) * weights.square()).sum() / 2))
        weights = weights - rate * (curved + ridge) * weights
    promised = bilevel.guaranteed_slope(ridge, 0.0, rate)
    assert all(math.log(later / earlier) <= promised for earlier, later in pairwise(losses))
