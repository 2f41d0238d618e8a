import dataclasses

import pytest
import torch

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError
from stillhouse.evaluation import judge
from stillhouse.methods import krr_labels, random_images
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.theory import labels

WIDE = {"kind": "random_network", "widths": [64, 100]}  # p = 100 > d = 64
NARROW = {"kind": "random_fourier", "count": 30}
FEATURES = ["random_network", NARROW, WIDE]
RIDGES = [0.0, 1e-3, 10.0]


def params(features: object, **options: object) -> krr_labels.Params:
    model = {"kind": "ridge", "features": features, "space": "standardised"}
    return settings.parse_plugin("methods", {"kind": "krr_labels", "model": model, **options}, "experiments.test")


def learned(distilled: DistilledSet, embedding: ridge.Embedding) -> torch.Tensor:
    """Ridge weights from what stands in the file, by an independent solver."""
    rows = ridge.set_features(distilled, embedding)
    below = distilled.schedule["ridge"] ** 0.5 * torch.eye(rows.shape[1], dtype=torch.float64)
    right = torch.cat([distilled.targets, torch.zeros(rows.shape[1], 10, dtype=torch.float64)])
    return torch.linalg.lstsq(torch.cat([rows, below]), right, driver="gelsd").solution


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("value", RIDGES)
@pytest.mark.parametrize("per_class", [1, 4, 12])  # m < p, and m > p of rank p
def test_the_weights_learned_are_as_far_from_the_teachers_as_the_theorem_says(
    digits: RealSet, run: Run, features: object, value: float, per_class: int
) -> None:
    options = params(features, ridge_S=value)
    distilled = krr_labels.distill(digits, per_class, options, run)
    certificate = distilled.certificate
    assert certificate is not None
    weights = ridge.fit_real(digits, options.model, run).weights["weights"]
    embedding = ridge.embed(options.model, digits, run.seed)
    error = linalg.relative_error(learned(distilled, embedding), weights)
    assert error == pytest.approx(certificate["predicted_error"], abs=1e-8)
    assert certificate["error_images"] == pytest.approx(error, abs=1e-8)
    assert certificate["exact"] is (certificate["rank_features"] == len(weights))
    assert certificate["rank_features"] == min(10 * per_class, len(weights))


def test_its_images_are_random_real_images(digits: RealSet, run: Run) -> None:
    distilled = krr_labels.distill(digits, 3, params(WIDE), run)
    assert torch.equal(distilled.inputs, random_images.distill(digits, 3, random_images.Params(), run).inputs)


def test_without_a_ridge_its_labels_are_the_teachers_predictions(digits: RealSet, run: Run) -> None:
    distilled = krr_labels.distill(digits, 12, params(NARROW), run)
    teacher = ridge.fit_real(digits, params(NARROW).model, run)
    scores = ridge.predictor(teacher, 64, run.device)(distilled.inputs.to(torch.float64))
    torch.testing.assert_close(distilled.targets, scores)
    # Why SOFT_LABELS: the teacher errs on some images.
    assert distilled.labels.tolist() != list(range(10)) * 12


def test_solved_labels_come_nearer_than_one_hot_ones(digits: RealSet, run: Run) -> None:
    options = params(WIDE)
    distilled = krr_labels.distill(digits, 4, options, run)
    plain = random_images.distill(digits, 4, random_images.Params(), run)
    embedding = ridge.embed(options.model, digits, run.seed)
    weights = ridge.fit_real(digits, options.model, run).weights["weights"]
    assert distilled.certificate is not None
    one_hot = linalg.relative_error(
        ridge.solve(ridge.set_features(plain, embedding), plain.targets.to(torch.float64), 0.0), weights
    )
    assert distilled.certificate["error_images"] < 0.9 * one_hot


def test_labels_that_miss_are_caught_by_the_certificate(
    digits: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = labels.labels

    def disturbed(weights: torch.Tensor, features: torch.Tensor, value: float) -> torch.Tensor:
        return original(weights, features, value) * (1 + 1e-5)

    monkeypatch.setattr(labels, "labels", disturbed)
    with pytest.raises(NumericalError, match="predicted_error"):
        krr_labels.distill(digits, 12, params(NARROW), run)


@pytest.mark.parametrize("value", RIDGES)
def test_a_judge_who_knows_only_the_file_trains_as_it_asks(
    digits: RealSet, run: Run, value: float, tmp_path: object
) -> None:
    options = params(WIDE, ridge_S=value)
    teacher = ridge.fit_real(digits, options.model, run)
    krr_labels.distill(digits, 12, options, run).save(f"{tmp_path}/set.safetensors")
    loaded = DistilledSet.load(f"{tmp_path}/set.safetensors")
    other = dataclasses.replace(run, seed=99)
    scores = list(judge.judge(loaded, digits, options.model, trainings=1, seed=99, run=other))
    assert scores[0].value == judge.accuracy(teacher, digits, run)  # 120 images, p = 100: exact
