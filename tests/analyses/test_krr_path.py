from typing import Any

import pytest
import torch
from sklearn.linear_model import Ridge

from stillhouse import linalg, settings, spaces
from stillhouse.analyses import krr_path
from stillhouse.errors import UserError
from stillhouse.evaluation import judge
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet

FEATURES = ["identity", "random_network", "random_fourier"]


def params(features: Any = "identity", **options: Any) -> krr_path.Params:
    raw = {"kind": "ridge", "features": features, "space": "pixels", "ridge": {"first": -3, "last": 3, "step": 2}}
    return settings.parse_plugin("analyses", {"kind": "krr_path", "model": {**raw, **options}}, "analyses.test")


@pytest.fixture(scope="module", params=FEATURES)
def rows(request: pytest.FixtureRequest, digits: RealSet) -> list[dict[str, Any]]:
    return list(krr_path.analyse(digits, params(request.param), Run(seed=0)))


def test_there_is_a_row_of_single_numbers_for_every_ridge_of_the_grid(rows: list[dict[str, Any]]) -> None:
    assert [row["ridge"] for row in rows] == pytest.approx([1e-3, 1e-1, 10, 1000])
    assert all(isinstance(value, int | float) for row in rows for value in row.values())
    assert len({tuple(row) for row in rows}) == 1


def test_as_few_examples_as_classes_give_the_teacher_of_their_ridge(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["exact_examples"] == 10
        assert row["exact_weight_error"] < 1e-8
        assert row["exact_accuracy"] == row["teacher_accuracy"]


def test_one_set_gives_the_teachers_of_all_ridges(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert row["path_examples"] == row["rank"] <= row["features"] == 64
        assert row["path_weight_error"] < 1e-8


def test_the_ridge_decides_the_accuracy(rows: list[dict[str, Any]]) -> None:
    assert len({row["teacher_accuracy"] for row in rows}) > 2


def test_a_gram_matrix_that_lacks_rank_is_no_obstacle(digits: RealSet) -> None:
    rows = list(krr_path.analyse(digits, params(ridge={"first": -6, "last": 6, "step": 3}), Run(seed=0)))
    blank = int((digits.train.inputs.flatten(1).amax(0) == 0).sum())
    assert blank > 0  # pixels that are never inked
    assert {row["rank"] for row in rows} == {64 - blank}
    assert max(row["exact_weight_error"] for row in rows) < 1e-8
    assert max(row["path_range_error"] for row in rows) < 1e-11
    # A ridge of 1e-6 magnifies rounding in F^T Y in directions in which F has nothing; the condition says by how much. Where
    # it is 1, the rounding of sums over pixels and examples is left: some 10 eps, more or less as threads share them.
    assert all(row["path_weight_error"] < 100 * torch.finfo(torch.float64).eps * row["condition"] for row in rows)
    assert rows[0]["path_weight_error"] > 1e-9


def test_the_set_of_one_ridge_is_not_that_of_another(digits: RealSet) -> None:
    """Theorem 4.1 gives back one teacher, with ridge 0; only the larger set follows the path."""
    model = params().model
    sums = ridge.accumulate(digits, model, Run()).moments
    path = linalg.RidgePath.of_moments(sums.gram, sums.cross)
    small = linalg.pseudo_inverse(path.weights(0.1)).value  # F_S for Y_S = I
    for other in (10.0, 1000.0):
        learned = ridge.solve(small, torch.eye(10, dtype=torch.float64), other)
        assert linalg.relative_error(learned, path.weights(other)) > 0.1


@pytest.mark.parametrize("features", FEATURES)
def test_the_teachers_are_those_of_scikit_learn_and_of_the_judge(digits: RealSet, features: str) -> None:
    run, model = Run(seed=3), params(features, ridge={"first": -1, "last": -1}).model
    (row,) = krr_path.analyse(digits, krr_path.Params(model), run)
    assert row["teacher_accuracy"] == judge.accuracy(ridge.fit_real(digits, model, run), digits, run)
    embedding = ridge.embed(model, digits, run.seed)
    fitted, _ = ridge.split(len(digits.train), model.validation, run.seed)
    pixels, labels = next(digits.train.chunks(len(fitted), fitted))
    reference = Ridge(alpha=0.1, fit_intercept=False, solver="svd")
    reference.fit(embedding.features(pixels).double().numpy(), spaces.one_hot(labels, 10).numpy())
    pixels, labels = next(digits.test.chunks(len(digits.test)))
    scores = torch.from_numpy(reference.predict(embedding.features(pixels).double().numpy()))
    assert row["teacher_accuracy"] == pytest.approx(100 * float((scores.argmax(1) == labels).double().mean()))


def test_only_a_ridge_model_has_a_path() -> None:
    with pytest.raises(UserError, match=r"analyses.test.model: .*kind 'ridge'"):
        params(kind="network")
