"""RMSE and R^2 against scikit-learn's, and how the judge scores regression sets."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn import linear_model, metrics  # type: ignore[import-untyped, unused-ignore]

from stillhouse import plugins, settings
from stillhouse.evaluation import judge, regression
from stillhouse.methods import krr_exact, random_images
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split

LINEAR: dict[str, Any] = {"kind": "ridge", "features": "identity", "space": "standardised"}
TRAINED = {"epochs_real": 60, "epochs": 60, "learning_rate": 0.01}
MODELS = [
    LINEAR,
    {"kind": "kernel", "kernel": {"kind": "rbf", "gamma": 0.05}, "space": "standardised", "centres": 60},
    {"kind": "mlp", "width": 32, "space": "standardised", "training": TRAINED},
]


def model(raw: dict[str, Any]) -> Any:
    return settings.parse_plugin("models", raw, "models.test")


def test_errors_of_several_outputs_are_those_of_scikit_learn() -> None:
    rng = torch.Generator().manual_seed(0)
    wanted = torch.randn(50, 3, generator=rng, dtype=torch.float64) * torch.tensor([1.0, 10, 100])
    found = wanted + torch.randn(50, 3, generator=rng, dtype=torch.float64)
    ours = regression.compare(found, wanted)
    assert ours["test RMSE"] == pytest.approx(metrics.root_mean_squared_error(wanted, found))
    assert ours["test R2"] == pytest.approx(metrics.r2_score(wanted, found))


def test_the_mean_as_prediction_has_r2_of_zero() -> None:
    wanted = torch.tensor([[1.0], [2], [6]])
    assert regression.compare(torch.full((3, 1), 3.0), wanted)["test R2"] == pytest.approx(0)


@pytest.mark.parametrize("raw", MODELS, ids=lambda raw: raw["kind"])
def test_every_model_of_values_learns_a_table_and_predicts_in_its_units(raw: dict[str, Any], table: RealSet) -> None:
    params = model(raw)
    teacher = plugins.load("models", raw["kind"]).fit_real(table, params, Run())
    found = judge.teacher_metrics(teacher, table, Run())
    noise = float((table.test.targets - table.test.targets.mean()).std())
    assert found["test R2"] > 0.8
    assert found["test RMSE"] == pytest.approx(noise * (1 - found["test R2"]) ** 0.5, rel=0.02)


def test_the_linear_teacher_is_scikit_learns_ridge_regression(table: RealSet) -> None:
    params = model({**LINEAR, "ridge": {"first": 1.0, "last": 1.0}})
    teacher = ridge.fit_real(table, params, Run())
    fitted, _ = ridge.split(60, params.validation, 0)
    inputs = table.train.inputs.double()
    rows = (inputs - inputs.mean(0)) / inputs.std(0, correction=0)
    theirs = linear_model.Ridge(alpha=10, fit_intercept=False).fit(
        rows[fitted], table.target_rows(table.train.targets[fitted])
    )
    torch.testing.assert_close(
        teacher.weights["weights"].flatten(), torch.from_numpy(theirs.coef_).flatten(), rtol=1e-5, atol=1e-6
    )


def test_an_exact_point_gives_the_teacher_back_and_random_rows_do_not(table: RealSet, tmp_path: Path) -> None:
    params = model(LINEAR)
    run = Run(seed=3)
    ridge.fit_real(table, params, run).save(tmp_path / "teacher")
    references = judge.References(table, params, dataclasses.replace(run, teachers=(tmp_path / "teacher",)))
    exact = krr_exact.distill(table, 1, krr_exact.Params(params), run)
    drawn = random_images.distill(table, 6, random_images.Params(), run)
    scores = {
        name: {s.metric: s.value for s in judge.judge(made, table, params, 1, 3, run, references)}
        for name, made in (("exact", exact), ("random", drawn))
    }
    assert scores["exact"]["parameter distance"] < 1e-8
    assert scores["random"]["parameter distance"] > 0.01
    whole = judge.teacher_metrics(ridge.fit_real(table, params, run), table, run)
    assert scores["exact"]["test RMSE"] == pytest.approx(whole["test RMSE"], rel=1e-6)
    assert set(scores["random"]) == {"test RMSE", "test R2", "parameter distance"}


@pytest.mark.parametrize("method", ["kip", "label_solve"])
def test_kernel_methods_make_points_of_a_table_better_than_random_rows(method: str, table: RealSet) -> None:
    raw = {"kind": "kernel", "kernel": {"kind": "rbf", "gamma": 0.05}, "space": "standardised"}
    settings_of = {"kip": {"labels": "learned", "steps": 30, "learning_rate": 0.05, "batch": 60}, "label_solve": {}}
    params = settings.parse_plugin("methods", {"kind": method, "model": raw, **settings_of[method]}, "test")
    made = plugins.load("methods", method).distill(table, 5, params, Run())
    drawn = random_images.distill(table, 5, random_images.Params(), Run())
    errors = [
        next(s.value for s in judge.judge(each, table, params.model, 1, 0, Run()) if s.metric == "test RMSE")
        for each in (made, drawn)
    ]
    assert errors[0] < errors[1]


@pytest.mark.parametrize("raw", MODELS, ids=lambda raw: raw["kind"])
def test_several_outputs_are_learned_at_once_and_scored_in_their_own_units(raw: dict[str, Any], table: RealSet) -> None:
    def both(split: Split) -> Split:
        return Split(split.inputs, torch.cat([split.targets, 3000 - 200 * split.targets], 1))

    two = dataclasses.replace(table, train=both(table.train), test=both(table.test), outputs=("value", "other"))
    params = model(raw)
    module = plugins.load("models", raw["kind"])
    one, found = (judge.teacher_metrics(module.fit_real(each, params, Run()), each, Run()) for each in (table, two))
    assert found["test R2"] == pytest.approx(one["test R2"], abs=0.1)  # a network has other initial weights for two
    assert found["test RMSE"] == pytest.approx(one["test RMSE"] * (1 + 200) / 2, rel=0.3)
    made = random_images.distill(two, 8, random_images.Params(), Run())
    torch.testing.assert_close(made.values[:, 1], 3000 - 200 * made.values[:, 0])
