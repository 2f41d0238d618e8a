"""The other solvers: they agree with each other and with worked cases, and minimise what they say."""

import numpy as np
import pytest

from stillhouse.errors import NumericalError
from stillhouse.evaluation import glm_solvers
from stillhouse.evaluation.glm_solvers import Array

FAMILIES = ["linear", "logistic", "poisson", "gamma"]
each_family = pytest.mark.parametrize("family", FAMILIES)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def problem(family: str) -> tuple[Array, Array]:
    """X (50, 4), its last column 1, and labels of the family."""
    rows = np.hstack([normal(50, 3), np.ones((50, 1))])
    eta = rows @ np.array([[0.3], [-0.2], [0.1], [-1.5]])
    noise = np.random.default_rng(1)
    labels = {
        "linear": eta + 0.3 * normal(50, 1, seed=2),
        "logistic": (noise.random((50, 1)) < 1 / (1 + np.exp(-eta - 1))).astype(float),
        "poisson": noise.poisson(np.exp(eta + 2)).astype(float),
        "gamma": noise.gamma(3, -1 / eta / 3),
    }[family]
    return rows, labels


def mean(family: str, eta: Array) -> Array:
    return {"linear": eta, "logistic": 1 / (1 + np.exp(-eta)), "poisson": np.exp(eta), "gamma": -1 / eta}[family]


@each_family
@pytest.mark.parametrize("intercept", [False, True])
def test_the_gradient_of_what_is_asked_for_vanishes_at_what_is_found(family: str, intercept: bool) -> None:
    rows, labels = problem(family)
    fit = glm_solvers.penalised(family, rows[:, :3] if intercept else rows, labels, 0.02, intercept)
    penalty = np.array([[0.02], [0.02], [0.02], [0.0 if intercept else 0.02]])
    slope = rows.T @ (mean(family, rows @ fit.theta) - labels) / 50 + 2 * penalty * fit.theta
    assert np.abs(slope).max() < 1e-12
    assert fit.solver.startswith("scipy" if family == "gamma" else "scikit-learn")


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("valid", [True, False])
def test_so_it_does_for_classes(intercept: bool, classes: int, valid: bool) -> None:
    rows, labels = normal(40, 3), np.eye(classes)[np.arange(40) % classes]
    if not valid:
        labels += 0.1 * (labels - 1 / classes)
    fit = glm_solvers.penalised("softmax", rows, labels, 0.01, intercept)
    columns = np.hstack([rows, np.ones((40, 1))]) if intercept else rows
    eta = columns @ fit.theta
    p = np.exp(eta) / np.exp(eta).sum(1, keepdims=True)
    penalty = np.array([[0.01]] * 3 + [[0.0]] * intercept)
    assert np.abs(columns.T @ (p - labels) / 40 + 2 * penalty * fit.theta).max() < 1e-11
    assert fit.solver.startswith("scikit-learn" if valid else "scipy")
    if not intercept:
        assert glm_solvers.slope("softmax", rows, labels, fit.theta, 0.01) < 1e-11


@each_family
def test_scipy_finds_what_scikit_learn_finds(family: str) -> None:
    rows, labels = problem(family)
    for intercept in (False, True):
        used = rows[:, :3] if intercept else rows
        fit = glm_solvers.penalised(family, used, labels, 0.02, intercept)
        other = glm_solvers._by_scipy(family, used, labels, 0.02, intercept)
        np.testing.assert_allclose(fit.theta, other.theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["logistic", "softmax"])
def test_labels_between_classes_are_examples_with_weights(family: str) -> None:
    """A label of 0.3 is that of three examples of one class and seven of the other."""
    rows = normal(3, 2)
    soft = (
        np.array([[0.3], [0.8], [0.5]])
        if family == "logistic"
        else np.array([[0.3, 0.5, 0.2], [0.1, 0.1, 0.8], [0.6, 0.4, 0]])
    )
    copies = np.repeat(rows, 10, 0)
    if family == "logistic":
        hard = np.concatenate([np.arange(10) < 10 * y for y in soft[:, 0]]).astype(float)[:, None]
    else:
        hard = np.eye(3)[np.concatenate([np.repeat(np.arange(3), np.round(10 * y).astype(int)) for y in soft])]
    found, wanted = (glm_solvers.penalised(family, x, y, 0.02) for x, y in ((rows, soft), (copies, hard)))
    np.testing.assert_allclose(found.theta, wanted.theta, rtol=1e-8, atol=1e-10)


def test_a_hard_label_of_one_example_needs_no_example_of_the_other_class() -> None:
    """y = 1, x = 1: sigma(-theta) = 2 penalty theta."""
    fit = glm_solvers.penalised("logistic", np.ones((1, 1)), np.ones((1, 1)), 0.1)
    theta = float(fit.theta[0, 0])
    assert 1 / (1 + np.exp(theta)) == pytest.approx(0.2 * theta)


@pytest.mark.parametrize(
    ("family", "labels"), [("logistic", [[1.7]]), ("poisson", [[-0.4]]), ("softmax", [[1.4, -0.6, 0.2]])]
)
def test_labels_that_no_example_has_are_left_to_scipy(family: str, labels: list[list[float]]) -> None:
    rows, given = normal(1, 3), np.array(labels)
    fit = glm_solvers.penalised(family, rows, given, 0.3)
    assert fit.solver.startswith("scipy")
    assert glm_solvers.slope(family, rows, given, fit.theta, 0.3) < 1e-10


@pytest.mark.parametrize("family", ["linear", "poisson", "gamma"])
def test_without_a_penalty_the_mean_residual_vanishes(family: str) -> None:
    rows, labels = problem(family)
    start = np.zeros((4, 1))
    start[-1] = -1
    fit = glm_solvers.unpenalised(family, rows, labels, start)
    assert np.abs(rows.T @ (mean(family, rows @ fit.theta) - labels)).max() < 1e-6


@each_family
def test_solvers_within_the_span_find_the_point_of_least_norm_that_fits_one_example(family: str) -> None:
    """x^T theta = g(y), theta = g(y) x / |x|^2."""
    x, y = normal(1, 5), np.array([[0.7]])
    link = {"linear": 0.7, "logistic": np.log(0.7 / 0.3), "poisson": np.log(0.7), "gamma": -1 / 0.7}[family]
    wanted = link * x.T / (x @ x.T)
    start = 1.3 * wanted if family == "gamma" else np.zeros((5, 1))
    found = glm_solvers.within_span(family, x, y, start, 0.5 / float((x @ x.T)[0, 0]))
    assert len(found) == (2 if family == "gamma" else 3)
    assert len({fit.solver for fit in found}) == len(found)
    for fit in found:
        np.testing.assert_allclose(fit.theta, wanted, atol=1e-10, err_msg=fit.solver)


def test_solvers_within_the_span_find_the_least_norm_for_classes_too() -> None:
    rows, theta = normal(2, 6), normal(6, 3, seed=1)
    theta = np.linalg.pinv(rows) @ rows @ (theta - theta.mean(1, keepdims=True))
    eta = rows @ theta
    labels = np.exp(eta) / np.exp(eta).sum(1, keepdims=True)
    step = 4 / (0.5 * float(np.linalg.norm(rows, 2)) ** 2) * 0.5
    found = glm_solvers.within_span("softmax", rows, labels, np.zeros((6, 3)), step)
    assert [fit.solver for fit in found] == ["gradient descent", "scipy L-BFGS, CG"]
    for fit in found:
        np.testing.assert_allclose(fit.theta, theta, atol=1e-9)


def test_gradient_descent_takes_the_steps_it_is_told() -> None:
    x, y = np.array([[2.0]]), np.array([[3.0]])
    fit = glm_solvers.gradient_descent("linear", x, y, np.array([[1.0]]), 0.1, 2)
    assert float(fit.theta[0, 0]) == pytest.approx(1.32)  # 1 + 0.1 (3 - 2) 2 = 1.2, then 1.2 + 0.1 (3 - 2.4) 2 = 1.32


def test_newtons_method_without_a_pseudo_inverse_needs_as_many_examples_as_parameters() -> None:
    rows, labels = problem("poisson")
    start = np.array([[0.0], [0.0], [0.0], [np.log(labels.mean())]])
    found = glm_solvers.newton("poisson", rows, labels, start)
    np.testing.assert_allclose(found, glm_solvers.unpenalised("poisson", rows, labels, start).theta, rtol=1e-6)
    with pytest.raises(np.linalg.LinAlgError):
        glm_solvers.newton("poisson", np.array([[1.0, 2.0]]), np.ones((1, 1)), np.zeros((2, 1)))


def test_a_gamma_model_without_a_start_in_its_domain_says_so() -> None:
    rows = np.array([[1.0], [-1.0]])  # of either sign: no theta has negative predictors for both
    with pytest.raises(NumericalError, match="no linear predictor was found"):
        glm_solvers.penalised("gamma", rows, np.ones((2, 1)), 0.1)


def test_a_solver_that_does_not_end_at_a_minimum_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels = problem("gamma")
    monkeypatch.setattr(glm_solvers, "_ENDED", 1e-30)
    with pytest.raises(NumericalError, match="the slope is still"):
        glm_solvers.penalised("gamma", rows, labels, 0.1)
