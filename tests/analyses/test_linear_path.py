from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Lasso

from stillhouse import settings
from stillhouse.analyses import linear_path
from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.evaluation import affine
from stillhouse.evaluation.penalised import REGULARISERS, TIGHT
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.theory.linear_points import Examples, reduced


def analysed(real: RealSet, **options: Any) -> Any:
    """The rows, as pandas has them."""
    params = settings.parse_plugin("analyses", {"kind": "linear_path", **options}, "analyses.test")
    return pd.DataFrame(linear_path.analyse(real, params, Run(seed=0)))


@pytest.fixture
def rows(table: RealSet) -> Any:
    return analysed(table, strengths=[0.01, 0.1], draws=2)


@pytest.fixture
def errors(rows: Any) -> Any:
    return rows[rows["table"] == "errors"]


def test_there_is_a_row_for_every_case_regulariser_and_strength(errors: Any) -> None:
    found = errors.groupby("case", sort=False).size().to_dict()
    assert found == {"as it is": 14, "not centred": 14, "dependent columns": 14, "fewer rows than columns": 14}
    assert not errors.duplicated(["case", "regulariser", "share"]).any()
    assert "group_lasso" not in set(errors["regulariser"])  # one output


def test_points_are_as_many_as_the_rank(errors: Any) -> None:
    sizes = errors.groupby("case")[["examples", "columns", "points"]].first()
    assert sizes.loc["as it is"].tolist() == [60, 5, 5]
    assert sizes.loc["dependent columns"].tolist() == [60, 7, 5]
    assert sizes.loc["fewer rows than columns"].tolist() == [2, 5, 2]


def test_what_is_learned_from_points_is_what_is_learned_from_the_data(errors: Any) -> None:
    alone = errors["unique"].astype(bool)
    unique = errors[alone]
    assert set(errors[~alone]["case"]) == {"dependent columns", "fewer rows than columns"}
    assert unique["error"].max() < 1e-10
    assert unique["error_max"].max() < 1e-10
    assert unique["zeros_agree"].all()
    assert errors["objective_gap"].max() < 1e-12


def test_so_it_is_in_unions_and_not_with_random_examples(errors: Any) -> None:
    plain = errors[errors["case"] == "as it is"]
    assert plain[["error_union_rest", "error_union_other"]].max(axis=None) < 1e-10
    assert plain["error_random"].min() > 1e-2
    assert (plain["score_points"] - plain["score_data"]).abs().max() < 1e-9
    assert plain["score_random"].mean() > 1.2 * plain["score_data"].mean()  # RMSE


def test_moved_data_have_an_intercept_that_it_matters_to_penalise(table: RealSet) -> None:
    found = analysed(table, regularisers=["lasso", "free_lasso"], strengths=[0.1])
    moved = found[found["case"] == "not centred"].set_index("regulariser")
    assert moved["error"].max() < 1e-10
    rows = affine.examples(table, table.train, whitening.fit(whitening.Standardised(), table))
    inputs, targets = rows.inputs.numpy() + [0, 1, 1, 1, 1], rows.targets.numpy() + 1
    strength = float(moved.loc["lasso", "strength"])
    one, other = (REGULARISERS[name].solve(inputs, targets, strength, TIGHT) for name in ("lasso", "free_lasso"))
    assert abs(one - other).max() > 0.05
    assert strength == pytest.approx(0.1 * REGULARISERS["lasso"].unit(inputs, targets))


def test_unions_are_with_examples_that_matter(table: RealSet) -> None:
    """Half of the data alone teaches something else, and so do the data united with others."""
    space = whitening.fit(whitening.Standardised(), table)
    whole = affine.examples(table, table.train, space)
    points = reduced(whole).points
    beside = linear_path._Beside.of(table, whole, points, space, linear_path.Params(), Run(seed=0))
    assert [len(each) for each in (beside.rest, *beside.other)] == [5 + 30, 60 + 30, 5 + 30]
    solve = REGULARISERS["lasso"].solve
    theta, half, other = (
        solve(each.inputs.numpy(), each.targets.numpy(), 1.0, TIGHT)
        for each in (whole, beside.rest[5:].counted(2), beside.other[1])
    )
    assert abs(half - theta).max() > 0.01
    assert abs(other - theta).max() > 0.1


def test_a_path_is_that_of_scikit_learn_and_goes_to_zero(table: RealSet, rows: Any) -> None:
    path = rows[rows["table"] == "path"]
    lasso = path[path["regulariser"] == "lasso"]
    assert len(path) == 2 * 19 * 4
    np.testing.assert_allclose(path["points"], path["data"], atol=1e-10)
    assert (path["random"] - path["data"]).abs().max() > 1e-2
    assert (lasso[lasso["share"] == lasso["share"].max()]["data"] == 0).all()
    weakest = lasso[lasso["share"] == lasso["share"].min()]
    inputs = table.train.inputs.double().numpy()
    standard = (inputs - inputs.mean(0)) / inputs.std(0)
    targets = table.target_rows(table.train.targets).numpy()
    fitted = Lasso(alpha=float(weakest["strength"].iloc[0]) / 120, fit_intercept=False, tol=1e-12, max_iter=10**5)
    coefficients = np.concatenate([[0.0], fitted.fit(standard, targets).coef_])
    np.testing.assert_allclose(weakest["data"], coefficients[weakest["column"].astype(int)], atol=1e-8)
    assert weakest["data"].abs().is_monotonic_decreasing  # the largest are followed


def test_a_set_of_classes_has_several_outputs_and_accuracies(digits: RealSet) -> None:
    found = analysed(digits, regularisers=["ridge", "group_lasso"], strengths=[0.3], examples=200, draws=1, curves=2)
    errors = found[found["table"] == "errors"]
    assert set(errors["metric"].dropna()) == {"test accuracy"}
    plain = errors[errors["case"] == "as it is"].set_index("regulariser")
    assert plain["examples"].tolist() == [200, 200]
    assert plain["score_points"].tolist() == plain["score_data"].tolist()
    assert plain.loc["ridge", "score_data"] > 75
    assert plain.loc["ridge", "error"] < 1e-10
    assert plain["objective_gap"].max() < 1e-12


def test_random_subsets_weigh_as_much_as_the_data(table: RealSet) -> None:
    whole = Examples(torch.ones(60, 1), torch.arange(60.0)[:, None])
    subset = linear_path.random_subset(whole, 6, Run(seed=0))
    assert float(subset.inputs.square().sum()) == pytest.approx(60)
    assert not torch.equal(subset.targets, linear_path.random_subset(whole, 6, Run(seed=0), draw=1).targets)


def test_an_unknown_regulariser_is_named(table: RealSet) -> None:
    with pytest.raises(UserError, match=r"analyses.test.*unknown regulariser 'laso'. Did you mean 'lasso'\?"):
        analysed(table, regularisers=["laso"])
