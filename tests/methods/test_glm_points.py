"""Points for generalised linear models: exact by solvers that are not ours, labels within their range where the certificate says
so, and what it says against brute force.
"""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from stillhouse import settings
from stillhouse.data import identity
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import glm_points, random_images
from stillhouse.models import glm as model_glm
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels
from stillhouse.spaces import from_settings
from stillhouse.theory import glm

FAMILIES = [("linear", False), ("linear", True), ("poisson", False), ("poisson", True), ("gamma", True)]
FAMILIES += [("inverse_gaussian", True)]
every_family = pytest.mark.parametrize(("family", "intercept"), FAMILIES)
starts = pytest.mark.parametrize("start", ["noise", "real"])


def params(model: dict[str, Any] | None = None, **changed: Any) -> glm_points.Params:
    kind = {"kind": "glm", "space": "standardised", "penalty": 0.01, **(model or {})}
    return settings.parse(glm_points.Params, {"model": kind, **changed}, "test")


def two(real: RealSet) -> RealSet:
    """The first two classes alone."""
    parts = [(part, part.targets < 2) for part in (real.train, real.test)]
    train, test = (Split(part.inputs[kept], part.targets[kept]) for part, kept in parts)
    return identity.identified("two", train, test, real.classes[:2])


def learned_by_scikit_learn(made: DistilledSet, real: RealSet, family: str, intercept: bool) -> np.ndarray:
    """theta, and the intercept below it, from the stored set alone: its inputs, targets and schedule."""
    rows, penalty = made.inputs.flatten(1).numpy(), made.schedule["penalty"]
    assert made.schedule["loss"] == "mean"
    if family == "softmax":
        which, classes = np.indices(made.targets.shape).reshape(2, -1)
        model: Any = LogisticRegression(
            C=1 / (2 * penalty * len(made)), fit_intercept=intercept, tol=1e-13, solver="newton-cg", max_iter=1000
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its line search, where rounding ends it
            model.fit(rows[which], classes, sample_weight=made.targets.numpy().ravel().clip(0))
    elif family == "linear":
        model = Ridge(alpha=2 * penalty * len(made), fit_intercept=intercept).fit(rows, made.targets[:, 0].numpy())
    else:
        model = PoissonRegressor(alpha=2 * penalty, fit_intercept=intercept, solver="newton-cholesky", tol=1e-13)
        model.fit(rows, made.values[:, 0].numpy())
    theta = model.coef_.reshape(-1, real.dim).T
    return np.vstack([theta, np.atleast_1d(model.intercept_)]) if intercept else theta


def wanted(real: RealSet, asked: glm_points.Params) -> np.ndarray:
    teacher = model_glm.fit_real(real, asked.model, Run())
    parts = [teacher.weights["weights"]]
    if asked.model.intercept:
        parts.append(teacher.weights["intercept"][None])
    return torch.cat(parts).numpy()


# Exactness, without our own solver


@pytest.mark.parametrize("per_class", [1, 3])
@pytest.mark.parametrize("intercept", [False, True])
def test_scikit_learn_finds_the_softmax_weights_on_one_point_a_class(
    toy: RealSet, per_class: int, intercept: bool
) -> None:
    asked = params({"intercept": intercept})
    made = glm_points.distill(toy, per_class, asked, Run())
    found = learned_by_scikit_learn(made, toy, "softmax", intercept)
    if intercept:  # known up to a constant
        found[-1] -= found[-1].mean()
    theta = wanted(toy, asked)
    theta[-1] -= theta[-1].mean() if intercept else 0
    np.testing.assert_allclose(found, theta, atol=1e-8 * float(np.linalg.norm(theta)))
    assert made.certificate is not None
    assert made.certificate["labels_valid"]


@pytest.mark.parametrize(("family", "intercept"), [each for each in FAMILIES if each[0] in ("linear", "poisson")])
@starts
def test_scikit_learn_finds_the_weights_on_as_few_points_as_are_needed(
    table: RealSet, family: str, intercept: bool, start: str
) -> None:
    asked = params({"family": family, "intercept": intercept}, start=start)
    made = glm_points.distill(table, 1 + intercept, asked, Run())
    found, theta = learned_by_scikit_learn(made, table, family, intercept), wanted(table, asked)
    np.testing.assert_allclose(found, theta, atol=1e-9 * float(np.linalg.norm(theta)))


@every_family
@pytest.mark.parametrize("per_class", [2, 3, 5])
def test_every_family_gets_its_weights_back_with_labels_that_examples_can_have(
    table: RealSet, family: str, intercept: bool, per_class: int
) -> None:
    made = glm_points.distill(table, per_class, params({"family": family, "intercept": intercept}), Run())
    proven = made.certificate
    assert proven is not None
    assert proven["exact"]
    assert proven["error_images"] < 1e-11
    assert proven["labels_valid"]
    assert len(made) == proven["examples"] == per_class


@starts
def test_the_slope_of_what_the_schedule_says_vanishes_at_the_teacher(toy: RealSet, start: str) -> None:
    """Written from the set's own fields: mean (softmax(x theta) - y) x + 2 penalty theta."""
    asked = params(start=start, penalty_S=0.3)
    made = glm_points.distill(toy, 2, asked, Run())
    theta, rows = torch.from_numpy(wanted(toy, asked)), made.inputs.flatten(1)
    left = rows.T @ ((rows @ theta).softmax(1) - made.targets) / len(rows) + 2 * made.schedule["penalty"] * theta
    assert float(left.norm()) < 1e-12 * float(theta.norm())
    assert made.schedule["penalty"] == pytest.approx(0.003)


def test_the_judge_finds_the_teacher_s_scores(toy: RealSet, table: RealSet) -> None:
    for real, asked, size in ((toy, params(), 1), (table, params({"family": "poisson", "intercept": True}), 2)):
        made = glm_points.distill(real, size, asked, Run())
        teacher = model_glm.fit_real(real, asked.model, Run())
        student = model_glm.fit_distilled(made, real, asked.model, Run())
        torch.testing.assert_close(judge.test_scores(student, real, Run()), judge.test_scores(teacher, real, Run()))


def test_other_labels_do_not_give_the_weights(toy: RealSet) -> None:
    asked = params()
    made = glm_points.distill(toy, 1, asked, Run())
    other = dataclasses.replace(made, targets=torch.eye(3, dtype=torch.float64))
    student = model_glm.fit_distilled(other, toy, asked.model, Run())
    theta = torch.from_numpy(wanted(toy, asked))
    assert float((student.weights["weights"] - theta).norm()) > 0.1 * float(theta.norm())


# Points


def test_points_of_scale_one_without_noise_are_the_weights(toy: RealSet) -> None:
    asked = params(scale=1.0, noise=0.0)
    made = glm_points.distill(toy, 1, asked, Run())
    torch.testing.assert_close(made.inputs.flatten(1), torch.from_numpy(wanted(toy, asked)).T)


def test_one_point_of_values_is_that_of_the_theorem(table: RealSet) -> None:
    asked = params({"family": "poisson"}, scale=0.3)
    made = glm_points.distill(table, 1, asked, Run())
    theta = torch.from_numpy(wanted(table, asked))[:, 0]
    x, y = glm.point(glm.Poisson(), theta, 0.3, 0.01)
    torch.testing.assert_close(made.inputs, x)
    torch.testing.assert_close(made.values, y)


def test_points_that_start_from_real_examples_are_the_nearest_with_such_coefficients(toy: RealSet) -> None:
    """Nothing that keeps X^T B = theta is nearer to the sampled images, for any scale of B."""
    asked = params(start="real")
    made = glm_points.distill(toy, 3, asked, Run(seed=3))
    chosen = random_images.sample(toy, 3, Run(seed=3).generator("images"))
    images = from_settings(made.space).forward(pixels(toy.train.inputs[chosen]).double()).flatten(1)
    theta = torch.from_numpy(wanted(toy, asked))
    base = torch.linalg.pinv(glm.directions(9, 3, classes=True)).T
    own = float((made.inputs.flatten(1) - images).norm())
    for scale in np.geomspace(0.01, 100, 50):
        assert own <= float((glm.points(theta, base / scale, images) - images).norm()) + 1e-9
    assert own < 0.5 * float(images.norm())


@pytest.mark.parametrize("intercept", [False, True])
def test_no_one_scale_leaves_labels_of_classes_more_room(toy: RealSet, intercept: bool) -> None:
    best = glm_points.distill(toy, 1, params({"intercept": intercept}, noise=0.0), Run()).certificate
    assert best is not None
    assert best["penalty_limit"] > best["penalty"]
    for scale in np.geomspace(0.1, 10, 15) * best["scale_from"]:
        other = glm_points.distill(toy, 1, params({"intercept": intercept}, noise=0.0, scale=scale), Run()).certificate
        assert other is not None
        assert other["penalty_limit"] <= best["penalty_limit"] * (1 + 1e-9)


def test_labels_are_valid_up_to_the_penalty_that_the_certificate_names(toy: RealSet) -> None:
    limit = glm_points.distill(toy, 1, params(start="real"), Run()).certificate["penalty_limit"]  # type: ignore[index]
    for part, valid in ((0.99, True), (1.01, False)):
        proven = glm_points.distill(toy, 1, params(start="real", penalty_S=part * limit / 0.01), Run()).certificate
        assert proven is not None
        assert proven["labels_valid"] == valid
        assert proven["exact"]


# Hard labels


@pytest.mark.parametrize("per_class", [1, 4])
def test_two_classes_take_hard_labels(toy: RealSet, per_class: int) -> None:
    real, asked = two(toy), params(labels="hard")
    made = glm_points.distill(real, per_class, asked, Run())
    hard = torch.eye(2, dtype=torch.float64).repeat(per_class, 1)
    torch.testing.assert_close(made.targets, hard, atol=1e-12, rtol=0)
    # A model of the second class against the first has the weights w of theta = (-w/2, w/2), and half of the penalty.
    reference = LogisticRegression(C=1 / (0.01 * len(made)), fit_intercept=False, tol=1e-13, solver="newton-cholesky")
    reference.fit(made.inputs.flatten(1).numpy(), hard.argmax(1).numpy())
    theta = wanted(real, asked)
    np.testing.assert_allclose(reference.coef_[0], theta[:, 1] - theta[:, 0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("per_class", [1, 4])
def test_poisson_points_take_counts(table: RealSet, per_class: int) -> None:
    made = glm_points.distill(table, per_class, params({"family": "poisson"}, labels="hard"), Run())
    torch.testing.assert_close(made.values, made.values.round(), atol=1e-9, rtol=0)
    assert made.certificate is not None
    assert made.certificate["exact"]


def test_noise_that_turns_a_point_to_another_class_is_refused_for_hard_labels(toy: RealSet) -> None:
    with pytest.raises(NumericalError, match="lower noise"):
        glm_points.distill(two(toy), 20, params(labels="hard", noise=30.0), Run())


# What the certificate says


def test_the_certificate_names_ranks_and_the_bound_on_the_norm(toy: RealSet, table: RealSet) -> None:
    proven = glm_points.distill(toy, 2, params({"intercept": True}), Run()).certificate
    assert proven is not None
    assert (proven["rank_weights"], proven["examples_needed"], proven["examples"]) == (2, 3, 6)
    theta = wanted(toy, params({"intercept": True}))[:-1]
    assert proven["norm_measured"] == pytest.approx(0.02 * float((theta**2).sum()))
    assert proven["norm_measured"] < proven["norm_bound"] == pytest.approx(glm.simplex_reach(3))
    linear = glm_points.distill(table, 1, params(), Run()).certificate
    assert linear is not None
    assert linear["norm_bound"] == pytest.approx(0.25)  # of standardised values, mean y^2 / 4
    assert "penalty_limit" not in linear


def test_a_teacher_that_is_no_minimum_of_the_real_data_is_given_back_all_the_same(toy: RealSet, tmp_path: Any) -> None:
    """The statement asks nothing of theta but, for classes, that its rows sum to 0; labels stay valid while there is room."""
    asked = params()
    teacher = model_glm.fit_real(toy, asked.model, Run())
    half = dataclasses.replace(teacher, weights={"weights": 0.5 * teacher.weights["weights"]})
    half.save(tmp_path / "teacher")
    made = glm_points.distill(toy, 1, asked, Run(teachers=(tmp_path / "teacher",)))
    assert made.certificate is not None
    assert made.certificate["exact"]
    student = model_glm.fit_distilled(made, toy, asked.model, Run())
    torch.testing.assert_close(student.weights["weights"], half.weights["weights"])


def test_a_teacher_beyond_the_bound_of_a_minimum_is_found_out(toy: RealSet, tmp_path: Any) -> None:
    asked = params()
    teacher = model_glm.fit_real(toy, asked.model, Run())
    wrong = dataclasses.replace(teacher, weights={"weights": 10 * teacher.weights["weights"]})
    wrong.save(tmp_path / "teacher")
    with pytest.raises(NumericalError, match="norm_measured"):
        glm_points.distill(toy, 1, asked, Run(teachers=(tmp_path / "teacher",)))


# What it refuses


def test_an_intercept_of_values_takes_one_point_more(table: RealSet) -> None:
    with pytest.raises(UserError, match="table: per_class 1 is too small: 1 columns and an intercept need 2 points"):
        glm_points.distill(table, 1, params({"intercept": True}), Run())


def test_points_outside_of_the_domain_are_refused(table: RealSet) -> None:
    asked = params({"family": "gamma", "intercept": True}, scale=1e6)
    with pytest.raises(NumericalError, match="outside of the domain; lower scale"):
        glm_points.distill(table, 2, asked, Run())


def test_hard_labels_of_three_classes_or_other_families_are_refused(toy: RealSet, table: RealSet) -> None:
    with pytest.raises(
        UserError, match="toy: labels: hard is for two classes or one column of poisson, found 3 of softmax"
    ):
        glm_points.distill(toy, 1, params(labels="hard"), Run())
    with pytest.raises(UserError, match="found 1 of linear"):
        glm_points.distill(table, 1, params(labels="hard"), Run())


@pytest.mark.parametrize("more", [{"start": "real"}, {"scale": 1.0}, {"model": {"intercept": True}}])
def test_hard_labels_leave_no_other_scale(more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="labels: hard takes a scale for each point"):
        params(**{"labels": "hard", **more})


def test_the_teacher_that_it_needs_is_its_model_s() -> None:
    asked = params()
    assert glm_points.teachers(asked) == (asked.model,)
    with pytest.raises(UserError, match="needs one of kind 'glm', found 'ridge'"):
        settings.parse(glm_points.Params, {"model": {"kind": "ridge", "features": "identity"}}, "test")
