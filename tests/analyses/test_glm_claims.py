"""Rows of claims: all hold, with numbers that are checked against the data; wrong arithmetic is found out."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from stillhouse import settings
from stillhouse.analyses import glm_claims
from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.evaluation import glm_solvers
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split, pixels
from stillhouse.theory import glm

Rows = list[dict[str, Any]]


def params(**changed: Any) -> glm_claims.Params:
    return settings.parse(glm_claims.Params, {"examples": 200, "examples_softmax": 150, "steps": 50, **changed}, "test")


@pytest.fixture(scope="module")
def of_digits(digits: RealSet) -> Rows:
    return list(glm_claims.analyse(digits, params(), Run(seed=0)))


@pytest.fixture(scope="module")
def values() -> RealSet:
    """Five features and a value above 0."""
    rng = torch.Generator().manual_seed(1)
    rows = torch.randn(90, 5, generator=rng, dtype=torch.float64)
    noise = torch.rand(90, 1, generator=rng, dtype=torch.float64)
    targets = 3 + (0.4 * rows[:, :1] - 0.3 * rows[:, 2:3]).exp() * (1 + noise)
    train, test = (Split(rows[part].float(), targets[part]) for part in (slice(0, 60), slice(60, 90)))
    return identity.identified("values", train, test, (), ("value",))


@pytest.fixture(scope="module")
def of_values(values: RealSet) -> Rows:
    return list(glm_claims.analyse(values, params(), Run(seed=0)))


def claims(rows: Rows) -> Rows:
    return [row for row in rows if row["part"] == "claim"]


def row_of(rows: Rows, family: str, claim: str) -> dict[str, Any]:
    [found] = [row for row in claims(rows) if (row["family"], row["claim"]) == (family, claim)]
    return found


def test_every_claim_holds(of_digits: Rows, of_values: Rows) -> None:
    for row in claims(of_digits) + claims(of_values):
        corrected = (row["family"], row["claim"]) == ("gamma", "Theorem 1")
        assert row["verdict"] == ("holds with correction" if corrected else "holds"), row
        assert row["relative"] < 1e-8
        assert not row["miss"] <= 1e-3


def test_families_follow_from_the_data(of_digits: Rows, of_values: Rows, table: RealSet) -> None:
    assert {row["family"] for row in claims(of_digits)} == {"logistic", "softmax"}
    assert {row["family"] for row in claims(of_values)} == {"linear", "poisson", "gamma"}
    train, test = (Split(part.inputs, part.targets - 100) for part in (table.train, table.test))
    negative = identity.identified("negative", train, test, (), ("v",))
    assert {row["family"] for row in glm_claims.analyse(negative, params(), Run())} == {"linear"}


def test_every_family_has_a_row_of_each_kind(of_digits: Rows, of_values: Rows) -> None:
    for rows, families, alone in (
        (of_digits, ["logistic"], {"a sum of losses"}),
        (of_values, ["linear", "poisson", "gamma"], {"one point with a constant 1"}),
    ):
        for family in families:
            shared = {
                "Theorem 1",
                "any scale",
                "one point, ridge",
                "one point, its label chosen",
                "two points, free intercept",
            }
            assert {row["claim"] for row in claims(rows) if row["family"] == family} == shared | alone


def test_the_norm_of_the_real_weights_is_that_of_scikit_learn_and_within_its_bound(
    digits: RealSet, of_digits: Rows
) -> None:
    row = row_of(of_digits, "logistic", "one point, ridge")
    pair = torch.nonzero(digits.train.targets < 2).flatten()[:200]
    share = float(digits.train.targets[pair].double().mean())
    penalty = 0.01 * share * (1 - share)  # over b'' at the mean label
    assert row["penalty"] == pytest.approx(penalty)
    model = LogisticRegression(C=1 / (2 * len(pair) * penalty), fit_intercept=False, tol=1e-10, max_iter=1000)
    model.fit(pixels(digits.train.inputs[pair]).double().flatten(1).numpy(), digits.train.targets[pair].numpy())
    assert row["norm"] == pytest.approx(float((model.coef_**2).sum()), rel=1e-4)
    assert row["measured"] == pytest.approx(2 * penalty * row["norm"])
    assert 0 < row["measured"] <= row["bound"]
    assert row["bound"] == pytest.approx(glm.simplex_reach(2))


def test_poisson_regression_sees_rounded_values_and_a_constant(values: RealSet, of_values: Rows) -> None:
    row = row_of(of_values, "poisson", "one point, ridge")
    counts = values.train.targets[:, 0].round()
    rows = values.train.inputs.double()
    rows = torch.cat([(rows - rows.mean(0)) / rows.std(0, correction=0), torch.ones(60, 1)], 1)
    model = PoissonRegressor(
        alpha=2 * 0.01 * float(counts.mean()), fit_intercept=False, tol=1e-10, solver="newton-cholesky"
    )
    model.fit(rows.numpy(), counts.numpy())
    assert row["norm"] == pytest.approx(float((model.coef_**2).sum()), rel=1e-6)
    assert row["features"] == 6
    assert row["examples"] == 60


def test_a_hard_label_is_hard_and_a_count_is_whole(of_digits: Rows, of_values: Rows) -> None:
    hard = row_of(of_digits, "logistic", "one point, its label chosen")
    assert hard["labels"] == "hard"
    assert hard["label_from"] == pytest.approx(1, abs=1e-12)
    count = row_of(of_values, "poisson", "one point, its label chosen")
    assert count["labels"] == "count"
    assert count["label_from"] == pytest.approx(round(count["label_from"]), abs=1e-12)


def test_a_sum_of_losses_takes_the_points_that_its_bound_asks_for(of_digits: Rows) -> None:
    row = row_of(of_digits, "logistic", "a sum of losses")
    assert row["points"] == math.ceil(row["measured"] / glm.simplex_reach(2)) > 1
    assert row["penalty"] == pytest.approx(200 * row_of(of_digits, "logistic", "one point, ridge")["penalty"])
    assert row["valid"]


def test_the_rank_of_softmax_weights_is_one_less_than_classes(of_digits: Rows) -> None:
    assert row_of(of_digits, "softmax", "as few as the rank")["points"] == 9
    assert row_of(of_digits, "softmax", "one point a class")["points"] == 10
    assert row_of(of_digits, "softmax", "one point a class")["valid"]


def test_two_classes_have_one_point_of_softmax_weights(digits: RealSet) -> None:
    kept = digits.train.targets < 2
    part = Split(digits.train.inputs[kept], digits.train.targets[kept])
    two = identity.identified("two", part, part, ("0", "1"))
    rows = list(glm_claims.analyse(two, params(), Run()))
    assert {row["verdict"] for row in claims(rows)} == {"holds"}
    assert row_of(rows, "softmax", "as few as the rank")["points"] == 1


def test_curves_are_labels_of_one_point_against_its_scale(of_digits: Rows) -> None:
    curves = [row for row in of_digits if row["part"] == "curve"]
    ridge = row_of(of_digits, "logistic", "one point, ridge")
    measured = curves[0]["bound"] * ridge["bound"]
    assert measured == pytest.approx(ridge["measured"])
    for row in curves[::17]:
        k = row["bound"] * glm.simplex_reach(2)
        assert row["label_from"] == pytest.approx(1 / (1 + math.exp(-row["scale"])) + k / row["scale"])
    whole = [row["label_from"] for row in curves if row["bound"] == 1.0]
    assert min(whole) == pytest.approx(1, abs=1e-3)
    assert min(row["label_from"] for row in curves if row["bound"] == 1.25) > 1


def test_rows_are_flat_and_have_the_same_columns(of_digits: Rows, of_values: Rows) -> None:
    assert len({tuple(row) for row in claims(of_digits) + claims(of_values)}) == 1
    assert all(isinstance(value, int | float | str) for row in of_digits + of_values for value in row.values())


def test_the_same_run_gives_the_same_rows(values: RealSet, of_values: Rows) -> None:
    again = list(glm_claims.analyse(values, params(), Run(seed=0)))
    for one, other in zip(of_values, again, strict=True):
        assert {k: v for k, v in one.items() if v == v} == {k: v for k, v in other.items() if v == v}  # but for nan


def test_labels_without_the_penalty_s_term_fail(values: RealSet, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = glm.labels
    monkeypatch.setattr(
        glm, "labels", lambda family, eta, coefficients, penalty, summed=False: plain(family, eta, coefficients, 0.0)
    )
    verdicts = {row["verdict"] for row in glm_claims.analyse(values, params(), Run()) if row["regulariser"] == "ridge"}
    assert "FAILS" in verdicts


def test_a_real_fit_beyond_the_bound_fails(digits: RealSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver that ended at weights no minimum has: the points give even these back, but the bound tells."""
    found = glm_solvers.penalised

    def wrong(family: str, rows: Any, labels: Any, penalty: float, intercept: bool = False) -> glm_solvers.Fit:
        fit = found(family, rows, labels, penalty, intercept)
        return glm_solvers.Fit(fit.theta * 3, fit.solver) if len(rows) > 100 else fit

    monkeypatch.setattr(glm_solvers, "penalised", wrong)
    monkeypatch.setattr(glm, "scales", lambda *given: (1.0,))
    ridge = row_of(list(glm_claims.analyse(digits, params(), Run())), "logistic", "one point, ridge")
    assert ridge["measured"] > ridge["bound"]
    assert ridge["verdict"] == "FAILS"


def test_pictures_are_the_points(digits: RealSet, values: RealSet) -> None:
    shown = glm_claims.pictures(digits, params(), Run())
    assert {name: tuple(each.shape) for name, each in shown.items()} == {
        "logistic": (1, 1, 8, 8),
        "softmax": (10, 1, 8, 8),
    }
    pair = torch.nonzero(digits.train.targets < 2).flatten()[:200]
    images, labels = pixels(digits.train.inputs[pair]), digits.train.targets[pair]
    apart = (images[labels == 1].mean(0) - images[labels == 0].mean(0)).flatten()
    assert float(torch.nn.functional.cosine_similarity(shown["logistic"].flatten(), apart, dim=0)) > 0.5
    lines = glm_claims.pictures(values, params(), Run())
    assert {name: tuple(each.shape) for name, each in lines.items()} == dict.fromkeys(
        ("linear", "poisson", "gamma"), (1, 1, 1, 5)
    )


def test_one_class_is_refused(digits: RealSet) -> None:
    part = Split(digits.train.inputs[:20], torch.zeros(20, dtype=torch.int64))
    with pytest.raises(UserError, match="one: two classes are needed, found 1"):
        list(glm_claims.analyse(identity.identified("one", part, part, ("a",)), params(), Run()))


def test_relative_errors_are_those_of_the_worst_solver() -> None:
    wanted, labels = np.array([[3.0], [4.0]]), np.zeros((1, 1))
    fits = [glm_solvers.Fit(wanted + np.array([[0.0], [each]]), name) for each, name in ((1e-3, "one"), (-0.5, "two"))]
    found = glm_claims.Learned.of(fits, wanted, labels)
    assert found.error == 0.5
    assert found.relative == pytest.approx(0.1)
    assert found.solvers == "one, two"
