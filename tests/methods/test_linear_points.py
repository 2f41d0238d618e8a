import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.linear_model import ElasticNet

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import linear_points
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split
from stillhouse.theory import linear_points as theory

MODEL = {"kind": "ridge", "features": "identity", "space": "standardised"}
SETS = {"table": 4, "digits": 62}  # rank of their features


def params(**model: Any) -> linear_points.Params:
    return settings.parse(linear_points.Params, {"model": {**MODEL, **model}}, "test")


@pytest.fixture(params=SETS)
def real(request: pytest.FixtureRequest) -> RealSet:
    found: RealSet = request.getfixturevalue(request.param)
    return found


def enough(real: RealSet) -> int:
    """The least per_class that gives as many points as the rank, or more."""
    return -(-SETS[real.name] // (real.size(1)))


def weights(made: DistilledSet, real: RealSet, run: Run) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a student and of the teacher, both with the ridge that they choose."""
    model = params().model
    student, teacher = ridge.fit_distilled(made, real, model, run), ridge.fit_real(real, model, run)
    assert student.notes["ridge"] == teacher.notes["ridge"]
    return student.weights["weights"], teacher.weights["weights"]


@pytest.mark.parametrize("more", [0, 3])
def test_a_student_chooses_the_teacher_s_ridge_and_learns_its_weights(real: RealSet, more: int, run: Run) -> None:
    made = linear_points.distill(real, enough(real) + more, params(), run)
    assert "ridge" not in made.schedule
    found, wanted = weights(made, real, run)
    assert linalg.relative_error(found, wanted) < 1e-9


def test_the_judge_sees_the_teacher(real: RealSet, run: Run, tmp_path: Path) -> None:
    model = params().model
    teacher = ridge.fit_real(real, model, run)
    teacher.save(tmp_path / "teacher")
    linear_points.distill(real, enough(real), params(), run).save(tmp_path / "set")
    taught = dataclasses.replace(run, teachers=(tmp_path / "teacher",))
    references = judge.References(real, model, taught)
    scores = list(judge.judge(DistilledSet.load(tmp_path / "set"), real, model, 1, 0, taught, references))
    found = {score.metric: score.value for score in scores}
    for metric, value in judge.teacher_metrics(teacher, real, run).items():
        assert found[metric] == pytest.approx(value, rel=1e-10)
    assert found["parameter distance"] < 1e-9
    assert found["weight error"] < 1e-9


def test_the_points_carry_other_regularisers(table: RealSet, run: Run) -> None:
    """The part that the teacher fits, seen as the teacher sees it, by scikit-learn."""
    made = linear_points.distill(table, 4, params(), run)
    embedding = ridge.embed(params().model, table, run.seed)
    fitted, _ = ridge.split(len(table.train), params().model.validation, run.seed)
    rows, targets = next(ridge.feature_chunks(table.train, embedding, fitted, run))
    found = []
    for inputs, values in ((rows, table.target_rows(targets)), (ridge.set_features(made, embedding), made.targets)):
        model = ElasticNet(alpha=20 / (2 * len(inputs)), fit_intercept=False, tol=1e-12, max_iter=10**5)
        found.append(torch.from_numpy(model.fit(inputs.double().numpy(), values[:, 0].numpy()).coef_))
    assert float(found[0].norm()) > 0.1
    assert linalg.relative_error(found[1], found[0]) < 1e-9


def test_the_certificate_names_rank_errors_and_every_ridge(real: RealSet, run: Run) -> None:
    certificate = linear_points.distill(real, enough(real), params(), run).certificate
    assert certificate is not None
    assert certificate["rank"] == SETS[real.name]
    assert certificate["points"] >= certificate["rank"]
    assert certificate["exact"] is True
    assert max(certificate["error_gram"], certificate["error_cross"]) < 1e-11
    assert certificate["ridges"] == params().model.ridge.values()
    assert len(certificate["errors"]) == len(certificate["ridges"])
    assert certificate["error_images"] == max(certificate["errors"]) < 1e-9
    assert set(certificate["errors_predicted"]) == set(certificate["least_deviation"]) == {0.0}
    assert json.loads(json.dumps(certificate)) == certificate


@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_points_err_by_what_is_predicted(table: RealSet, size: int, run: Run) -> None:
    made = linear_points.distill(table, size, params(), run)
    certificate = made.certificate
    assert certificate is not None
    assert not certificate["exact"]
    model = params().model
    embedding = ridge.embed(model, table, run.seed)
    sums = ridge.accumulate(table, model, run).moments
    teachers = linalg.RidgePath.of_moments(sums.gram, sums.cross)
    for place, each in enumerate(certificate["ridges"]):
        found = ridge.solve(ridge.set_features(made, embedding), made.targets, each)
        error = linalg.relative_error(found, teachers.weights(each))
        assert error == pytest.approx(certificate["errors"][place], rel=1e-6)
        assert error == pytest.approx(certificate["errors_predicted"][place], rel=1e-6)
        assert error * float(teachers.weights(each).norm()) <= certificate["slope"] / (2 * each) * (1 + 1e-9)
        assert 0 < certificate["least_deviation"][place] < 1
    larger = linear_points.distill(table, size + 1, params(), run).certificate
    assert larger is not None
    assert larger["error_gram"] < certificate["error_gram"]


def test_moments_that_are_not_those_of_the_data_stop_the_job(
    table: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized = theory.resized
    monkeypatch.setattr(theory, "resized", lambda *given: resized(*given).counted(1 + 1e-6))
    with pytest.raises(NumericalError, match=r"do not give back .*error_gram 1.00e-06"):
        linear_points.distill(table, 4, params(), run)


def test_an_error_above_the_prediction_stops_the_job(table: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theory, "ridge_gap", lambda tail, strength: 0.0)
    with pytest.raises(NumericalError, match="do not give back what the data teach: 3 points, rank 4"):
        linear_points.distill(table, 3, params(), run)


def test_points_may_stand_for_the_features_of_a_network_that_can_be_undone(digits: RealSet, run: Run) -> None:
    network = {"kind": "random_network", "widths": [20], "slope": 0.1}
    chosen = params(features=network)
    made = linear_points.distill(digits, 2, chosen, run)
    assert made.certificate is not None
    assert made.certificate["exact"]
    assert made.certificate["rank"] == 20 == len(made)
    student, teacher = ridge.fit_distilled(made, digits, chosen.model, run), ridge.fit_real(digits, chosen.model, run)
    assert linalg.relative_error(student.weights["weights"], teacher.weights["weights"]) < 1e-8


def test_a_map_of_bounded_features_is_refused(digits: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match="features of random_fourier are bounded"):
        linear_points.distill(digits, 1, params(features={"kind": "random_fourier", "variance": 100.0}), run)


def test_features_that_agree_to_the_last_digits_are_no_obstacle(table: RealSet, run: Run) -> None:
    """A copy of a column, but for the last bit of some: the difference is lost in F^T F, and not in F^T Y."""

    def doubled(split: Split) -> Split:
        column = split.inputs[:, :1] - 5
        copy = column.clone()
        copy[::10] = column[::10].nextafter(torch.tensor(torch.inf))
        return Split(torch.cat([column, split.inputs[:, 1:], copy], 1), split.targets)

    twice = dataclasses.replace(table, train=doubled(table.train), test=doubled(table.test))
    chosen = params(ridge={"first": -1, "last": -1})
    made = linear_points.distill(twice, 5, chosen, run)
    assert made.certificate is not None
    assert made.certificate["exact"]
    student, teacher = ridge.fit_distilled(made, twice, chosen.model, run), ridge.fit_real(twice, chosen.model, run)
    assert teacher.notes["rank"] == 4
    assert linalg.relative_error(student.weights["weights"], teacher.weights["weights"]) < 1e-11
    fewer = linear_points.distill(twice, 4, chosen, run).certificate
    assert fewer is not None
    assert fewer["errors_everywhere"][0] > 1e-9 > fewer["errors"][0]


def test_points_of_a_regression_set_have_its_outputs(table: RealSet, run: Run) -> None:
    made = linear_points.distill(table, 4, params(), run)
    assert (made.classes, made.outputs) == ((), table.outputs)
    assert made.targets.dtype == made.inputs.dtype == torch.float64
    assert math.isfinite(float(made.values.sum()))
