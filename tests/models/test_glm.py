"""The generalised linear model against scikit-learn and statsmodels; what it predicts, and what it refuses."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from stillhouse import settings
from stillhouse.data import identity
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import random_images
from stillhouse.models import glm
from stillhouse.models.glm import Params
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels
from stillhouse.theory.glm import NEGATIVE

VALUES = ["linear", "poisson", "gamma", "inverse_gaussian"]
CPU = torch.device("cpu")


def params(**changed: Any) -> Params:
    return settings.parse(Params, {"penalty": 0.01, "space": "standardised", **changed}, "test")


def features(real: RealSet) -> np.ndarray:
    """Standardised features of the training split."""
    rows = pixels(real.train.inputs).double()
    rows = rows.flatten(1) if rows.ndim == 4 else rows  # of one channel
    over: Any = None if real.train.inputs.ndim == 4 else 0
    found: np.ndarray = (rows.numpy() - rows.numpy().mean(over)) / rows.numpy().std(over)
    return found


@pytest.fixture
def counted(table: RealSet) -> RealSet:
    """The table with counts of 0 and more."""

    def counts(split: Split) -> Split:
        return Split(split.inputs, (split.targets / 8 - 2).round().clamp(min=0))

    return identity.identified("counted", counts(table.train), counts(table.test), (), ("count",))


# Against other solvers


@pytest.mark.parametrize("intercept", [False, True])
def test_softmax_regression_is_that_of_scikit_learn(toy: RealSet, intercept: bool) -> None:
    found = glm.fit_real(toy, params(intercept=intercept, tolerance=1e-12), Run())
    reference = LogisticRegression(
        C=1 / (2 * 60 * 0.01), fit_intercept=intercept, tol=1e-12, solver="newton-cg", max_iter=1000
    )
    reference.fit(features(toy), toy.train.targets.numpy())
    np.testing.assert_allclose(found.weights["weights"].numpy(), reference.coef_.T, atol=1e-8)
    if intercept:
        shift = found.weights["intercept"] - found.weights["intercept"].mean()
        np.testing.assert_allclose(shift.numpy(), reference.intercept_ - reference.intercept_.mean(), atol=1e-8)
    assert ("intercept" in found.weights) == intercept


def test_two_classes_give_logistic_regression_with_half_the_penalty(toy: RealSet) -> None:
    kept = toy.train.targets < 2
    both = Split(toy.train.inputs[kept], toy.train.targets[kept])
    two = identity.identified("two", both, both, ("a", "b"))
    weights = glm.fit_real(two, params(tolerance=1e-12), Run()).weights["weights"]
    reference = LogisticRegression(C=100 / 40, fit_intercept=False, tol=1e-12, solver="newton-cholesky")  # 0.01 / 2
    reference.fit(features(two), two.train.targets.numpy())
    np.testing.assert_allclose((weights[:, 1] - weights[:, 0]).numpy(), reference.coef_[0], atol=1e-6)
    torch.testing.assert_close(weights[:, 0], -weights[:, 1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("intercept", [False, True])
def test_linear_regression_is_ridge_regression_on_standardised_values(table: RealSet, intercept: bool) -> None:
    found = glm.fit_real(table, params(intercept=intercept), Run()).weights
    reference = Ridge(alpha=2 * 0.01 * 60, fit_intercept=intercept)
    reference.fit(features(table), table.target_rows(table.train.targets).numpy())
    np.testing.assert_allclose(found["weights"].numpy(), reference.coef_.reshape(1, -1).T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("intercept", [False, True])
def test_poisson_regression_is_that_of_scikit_learn_on_values_as_they_are(counted: RealSet, intercept: bool) -> None:
    found = glm.fit_real(counted, params(family="poisson", intercept=intercept), Run()).weights
    reference = PoissonRegressor(alpha=0.02, fit_intercept=intercept, solver="newton-cholesky", tol=1e-12)
    reference.fit(features(counted), counted.train.targets[:, 0].numpy())
    np.testing.assert_allclose(found["weights"][:, 0].numpy(), reference.coef_, rtol=1e-7)
    if intercept:
        np.testing.assert_allclose(float(found["intercept"]), reference.intercept_, rtol=1e-8)


def test_gamma_regression_is_that_of_statsmodels_for_a_small_penalty(table: RealSet) -> None:
    found = glm.fit_real(table, params(family="gamma", intercept=True, penalty=1e-9), Run()).weights
    columns = np.hstack([features(table), np.ones((60, 1))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its link, which does not keep to the domain
        kind = sm.families.Gamma(sm.families.links.InversePower())
        reference = sm.GLM(table.train.targets[:, 0].numpy(), columns, family=kind).fit(tol=1e-14)
    mine = torch.cat([found["weights"][:, 0], found["intercept"]]).numpy()
    np.testing.assert_allclose(mine, -reference.params, rtol=1e-5)


@pytest.mark.parametrize("family", VALUES)
def test_the_slope_of_what_is_found_vanishes_with_the_penalty_but_for_the_intercept(
    family: str, table: RealSet
) -> None:
    teacher = glm.fit_real(table, params(family=family, intercept=True, tolerance=1e-11), Run())
    rows = torch.from_numpy(features(table))
    labels = table.target_rows(table.train.targets) if family == "linear" else table.train.targets
    theta, shift = teacher.weights["weights"], teacher.weights["intercept"]
    left = params(family=family, intercept=True).model.mean(rows @ theta + shift) - labels
    size = float(labels.abs().mean())
    assert float((rows.T @ left / 60 + 0.02 * theta).abs().max()) < 1e-9 * size
    assert abs(float(left.mean())) < 1e-9 * size


# Points


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_fit_to_points_ends_with_rounding_and_lies_in_their_span(count: int, columns: int) -> None:
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(count, 6, generator=rng, dtype=torch.float64)
    labels = torch.rand(count, columns, generator=rng, dtype=torch.float64)
    labels = labels / labels.sum(1, keepdim=True)
    family = "softmax" if columns == 3 else "poisson"
    solved = glm.solve(rows, labels, params(family=family), 0.003)
    left = rows.T @ (params(family=family).model.mean(rows @ solved.weights) - labels) / count + 0.006 * solved.weights
    assert float(left.abs().max()) < 1e-13
    projector = torch.linalg.pinv(rows) @ rows
    torch.testing.assert_close(projector @ solved.weights, solved.weights)


def test_real_examples_as_a_distilled_set_give_the_real_set_s_model(toy: RealSet) -> None:
    whole = DistilledSet.of(toy, toy.train.inputs.double() / 255, toy.target_rows(toy.train.targets))
    teacher, student = glm.fit_real(toy, params(), Run()), glm.fit_distilled(whole, toy, params(), Run())
    torch.testing.assert_close(student.weights["weights"], teacher.weights["weights"], rtol=1e-6, atol=1e-7)


def test_a_set_may_ask_for_its_own_penalty(toy: RealSet) -> None:
    made = random_images.distill(toy, 2, random_images.Params(), Run())
    asked = dataclasses.replace(made, schedule={"penalty": 0.3})
    found = glm.fit_distilled(asked, toy, params(), Run())
    wanted = glm.fit_distilled(made, toy, params(penalty=0.3), Run())
    torch.testing.assert_close(found.weights["weights"], wanted.weights["weights"])
    assert found.notes["penalty"] == 0.3


@pytest.mark.parametrize("family", VALUES)
def test_random_examples_train_a_model_of_every_family_to_the_end(family: str, table: RealSet) -> None:
    made = random_images.distill(table, 8, random_images.Params(), Run())
    student = glm.fit_distilled(made, table, params(family=family, intercept=True), Run())
    assert student.notes["slope"] < 1e-11
    assert judge.test_scores(student, table, Run()).shape == (30, 1)


# Passes


@pytest.mark.parametrize("family", ["softmax", "linear"])
def test_it_does_not_depend_on_how_many_examples_are_seen_at_once_or_kept(
    family: str, toy: RealSet, table: RealSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = toy if family == "softmax" else table
    whole = glm.fit_real(real, params(), Run()).weights["weights"]
    monkeypatch.setattr(glm, "CHUNK", 7)
    monkeypatch.setattr(glm, "KEPT", 0)
    torch.testing.assert_close(glm.fit_real(real, params(), Run()).weights["weights"], whole, rtol=1e-6, atol=1e-8)


def test_a_number_of_examples_is_drawn_by_the_seed(toy: RealSet) -> None:
    one, again, other = (
        glm.fit_real(toy, params(examples=20), Run(seed=seed)).weights["weights"] for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, rtol=1e-3)


def test_all_examples_give_one_model_for_every_seed(toy: RealSet) -> None:
    one, other = (glm.fit_real(toy, params(), Run(seed=seed)).weights["weights"] for seed in (0, 1))
    assert torch.equal(one, other)


# Predictions


def test_scores_of_classes_are_probabilities(toy: RealSet) -> None:
    teacher = glm.fit_real(toy, params(), Run())
    scores = judge.test_scores(teacher, toy, Run())
    torch.testing.assert_close(scores.sum(1), torch.ones(30, dtype=torch.float64))
    assert judge.accuracy(teacher, toy, Run()) > 90


@pytest.mark.parametrize("family", VALUES)
def test_predictions_of_values_are_means_in_the_target_space(family: str, table: RealSet) -> None:
    teacher = glm.fit_real(table, params(family=family, intercept=True), Run())
    rows = glm.predictor(teacher, table.dim, CPU)(table.train.inputs)
    eta = torch.from_numpy(features(table)) @ teacher.weights["weights"] + teacher.weights["intercept"]
    mean = params(family=family, intercept=True).model.mean(eta)
    if family in NEGATIVE:
        mean = torch.where(eta < 0, mean, torch.inf).clamp(max=float(table.train.targets.max()))
    wanted = mean if family == "linear" else table.target_space.forward(mean)
    torch.testing.assert_close(rows, wanted, rtol=1e-6, atol=1e-6)
    assert judge.teacher_metrics(teacher, table, Run())["test R2"] > 0.5


@pytest.mark.parametrize("family", NEGATIVE)
def test_where_a_predictor_is_not_negative_the_mean_is_the_largest_of_the_training_split(
    family: str, table: RealSet
) -> None:
    teacher = glm.fit_real(table, params(family=family, intercept=True), Run())
    direction = teacher.weights["weights"][:, 0]
    far = table.train.inputs.double().mean(0) + 1e6 * direction / direction.norm() * table.train.inputs.double().std(0)
    rows = glm.predictor(teacher, table.dim, CPU)(far[None].float())
    assert float(table.target_space.inverse(rows)) == pytest.approx(float(table.train.targets.max()))


def test_what_was_learned_is_weights_and_then_the_intercept(table: RealSet) -> None:
    plain, shifted = (glm.fit_real(table, params(intercept=each), Run()) for each in (False, True))
    assert glm.parameters(plain).shape == (4,)
    assert glm.parameters(shifted).tolist() == [
        *shifted.weights["weights"][:, 0].tolist(),
        float(shifted.weights["intercept"]),
    ]


def test_a_teacher_that_is_saved_predicts_the_same(table: RealSet, tmp_path: Any) -> None:
    teacher = glm.fit_real(table, params(family="gamma", intercept=True), Run())
    teacher.save(tmp_path / "teacher")
    loaded = type(teacher).load(tmp_path / "teacher")
    assert torch.equal(judge.test_scores(loaded, table, Run()), judge.test_scores(teacher, table, Run()))


def test_a_teacher_among_the_run_s_is_found(toy: RealSet, tmp_path: Any) -> None:
    teacher = glm.fit_real(toy, params(), Run())
    marked = dataclasses.replace(teacher, weights={"weights": teacher.weights["weights"] + 1})
    marked.save(tmp_path / "teacher")
    found = glm.find_or_fit(toy, params(), Run(teachers=(tmp_path / "teacher",)))
    assert torch.equal(found.weights["weights"], marked.weights["weights"])


# What it refuses


@pytest.mark.parametrize("family", VALUES)
def test_a_family_of_values_is_refused_for_classes_and_the_other_way_round(
    family: str, toy: RealSet, table: RealSet
) -> None:
    with pytest.raises(UserError, match="targets are classes.*Choose family softmax"):
        glm.fit_real(toy, params(family=family, intercept=True), Run())
    with pytest.raises(UserError, match="targets are values.*Choose family linear"):
        glm.fit_real(table, params(family="softmax"), Run())


@pytest.mark.parametrize(("family", "shift"), [("poisson", 0.0), ("gamma", 1e-9)])
def test_values_that_a_family_cannot_have_are_counted(family: str, shift: float, table: RealSet) -> None:
    least = table.train.targets.min()
    train, test = (Split(split.inputs, split.targets - least - 1 + shift) for split in (table.train, table.test))
    moved = identity.identified("moved", train, test, (), ("v",))
    with pytest.raises(UserError, match=r"moved: \d+ of 60 training targets .* the smallest is -1"):
        glm.fit_real(moved, params(family=family, intercept=True), Run())


@pytest.mark.parametrize("family", NEGATIVE)
def test_families_of_negative_predictors_need_an_intercept(family: str) -> None:
    with pytest.raises(UserError, match=f"family {family} needs an intercept"):
        params(family=family)


def test_a_fit_that_does_not_end_says_so(toy: RealSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glm, "_ITERATIONS", 1)
    with pytest.raises(NumericalError, match="after 1 steps of Newton's method"):
        glm.fit_real(toy, params(), Run())
