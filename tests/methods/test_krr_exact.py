import dataclasses

import pytest
import torch

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError
from stillhouse.evaluation import judge
from stillhouse.methods import krr_exact
from stillhouse.methods.krr_exact import Start, solve
from stillhouse.methods.random_images import sample
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels

FEATURES = ["identity", "random_network", "random_fourier"]


def params(features: str = "identity", **options: object) -> krr_exact.Params:
    model = {"kind": "ridge", "features": features, "space": "standardised"}
    return settings.parse_plugin("methods", {"kind": "krr_exact", "model": model, **options}, "experiments.test")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("start", ["noise", "real"])
@pytest.mark.parametrize("per_class", [1, 3, 6, 10])  # m = c, m < p, near p = 64, m > p
def test_least_squares_on_the_distilled_images_gives_the_teachers_weights_back(
    digits: RealSet, run: Run, features: str, start: str, per_class: int
) -> None:
    distilled = krr_exact.distill(digits, per_class, params(features, start=start), run)
    teacher = ridge.fit_real(digits, params(features).model, run)
    embedding = ridge.embed(params(features).model, digits, run.seed)
    rows = ridge.set_features(distilled, embedding)
    # An independent solver: not the pseudo-inverse that made the set.
    learned = torch.linalg.lstsq(rows, distilled.targets, driver="gelsd").solution
    assert linalg.relative_error(learned, teacher.weights["weights"]) < 1e-8


def test_one_point_per_class_is_the_pseudo_inverse_of_the_weights() -> None:
    """By hand for m = c: D = W Y^+ = W, so F_S = W^+."""
    weights = normal(9, 4)
    features, _ = solve(weights, Start(torch.eye(4, dtype=torch.float64), torch.zeros(9, 4, dtype=torch.float64)))
    torch.testing.assert_close(features, torch.linalg.pinv(weights))


def test_fewer_points_than_classes_fail_with_the_numbers() -> None:
    targets = torch.eye(4, dtype=torch.float64)[:3]
    with pytest.raises(NumericalError, match=r"3 targets of rank 3 .* 4 classes"):
        solve(normal(9, 4), Start(targets, torch.zeros(9, 3, dtype=torch.float64)))


def test_fewer_points_than_classes_cannot_give_the_weights_back_whatever_the_features() -> None:
    """Why the condition m >= c is there: for m < c the recovered weights have rank at most m."""
    weights, targets = normal(9, 4), torch.eye(4, dtype=torch.float64)[:3]
    closest = weights @ torch.linalg.pinv(targets) @ targets
    assert linalg.relative_error(closest, weights) > 0.1


def test_targets_that_lost_a_class_fail_with_the_numbers() -> None:
    targets = torch.eye(4, dtype=torch.float64).repeat(2, 1)
    targets[:, 3] = targets[:, 2]
    with pytest.raises(NumericalError, match="8 targets of rank 3"):
        solve(normal(9, 4), Start(targets, torch.zeros(9, 8, dtype=torch.float64)))


@pytest.mark.parametrize("seed", range(5))
def test_any_free_part_gives_the_weights_back(seed: int) -> None:
    weights, targets = normal(20, 3), torch.eye(3, dtype=torch.float64).repeat(4, 1)
    features, _ = solve(weights, Start(targets, normal(20, 12, seed=seed)))
    recovered = torch.linalg.pinv(features) @ targets
    assert linalg.relative_error(recovered, weights) < 1e-12


def test_a_wrong_construction_is_caught_by_the_certificate(
    digits: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = krr_exact.solve

    def disturbed(weights: torch.Tensor, start: Start) -> tuple[torch.Tensor, dict[str, object]]:
        features, proof = original(weights, start)
        return features * (1 + 1e-6 * normal(*features.shape)), proof

    monkeypatch.setattr(krr_exact, "solve", disturbed)
    with pytest.raises(NumericalError, match="error_features"):
        krr_exact.distill(digits, 1, params(), run)


def test_the_certificate_says_what_the_theorem_asks_for(digits: RealSet, run: Run) -> None:
    certificate = krr_exact.distill(digits, 2, params("random_network"), run).certificate
    assert certificate is not None
    assert certificate["exact"] is True
    assert (certificate["examples"], certificate["classes"]) == (20, 10)
    assert (certificate["rank_targets"], certificate["rank_weights"], certificate["rank_D"]) == (10, 10, 20)
    assert certificate["error_features"] < 1e-8
    assert certificate["error_images"] < 1e-8
    assert certificate["cosine"] == pytest.approx(1)
    assert certificate["ridge_bound"] > 0


def test_float32_images_are_stored_as_such_and_not_called_exact(digits: RealSet, run: Run) -> None:
    distilled = krr_exact.distill(digits, 2, params("random_network", dtype="float32"), run)
    assert distilled.inputs.dtype == torch.float32
    assert distilled.certificate is not None
    assert distilled.certificate["exact"] is False
    assert distilled.certificate["error_images"] < 0.1


def test_noise_has_a_tenth_of_the_spread_of_the_weights(digits: RealSet, run: Run) -> None:
    """Chen et al.'s code: Z = 0.1 std(Y^+ W) N(0, 1)."""
    teacher = ridge.fit_real(digits, params().model, run)
    weights = teacher.weights["weights"]
    embedding = ridge.embed(params().model, digits, run.seed)
    start = krr_exact._from_noise(digits, 20, params(), run, weights, embedding)
    spread = float((weights @ torch.linalg.pinv(start.targets)).std())
    assert float(start.free.std()) == pytest.approx(0.1 * spread, rel=0.05)


def test_the_nearest_set_to_real_images_has_their_predictions_as_targets(digits: RealSet, run: Run) -> None:
    """Corollary 4.1.1: Y = phi(X) W makes the distance of the pseudo-inverses smallest."""
    teacher = ridge.fit_real(digits, params().model, run)
    distilled = krr_exact.distill(digits, 2, params(start="real"), run)
    images = pixels(digits.train.inputs[sample(digits, 2, run.generator("images"))]).to(torch.float64)
    embedding = ridge.embed(params().model, digits, run.seed)
    torch.testing.assert_close(distilled.targets, embedding.features(images) @ teacher.weights["weights"])


def test_no_admissible_set_is_nearer_to_the_real_images_pseudo_inverse(digits: RealSet, run: Run) -> None:
    teacher = ridge.fit_real(digits, params().model, run)
    weights = teacher.weights["weights"]
    embedding = ridge.embed(params().model, digits, run.seed)
    start = krr_exact._from_real(digits, 2, params(start="real"), run, weights, embedding)
    backward = torch.linalg.pinv(solve(weights, start)[0])
    nearest = (backward - start.free).norm()
    projector = torch.eye(20, dtype=torch.float64) - start.targets @ torch.linalg.pinv(start.targets)
    for seed in range(5):
        other = backward + 0.01 * normal(*backward.shape, seed=seed) @ projector
        assert (other - start.free).norm() > nearest


def test_with_at_least_as_many_real_images_as_features_the_images_stay_and_the_labels_change() -> None:
    """Corollary 4.1.1 for m >= d: pure label distillation."""
    weights, images = normal(6, 3), normal(9, 6, seed=1)
    features, _ = solve(weights, Start(images @ weights, torch.linalg.pinv(images)))
    torch.testing.assert_close(features, images)


@pytest.mark.parametrize("features", FEATURES)
def test_a_judge_who_knows_only_the_file_scores_it_as_the_teacher(
    digits: RealSet, run: Run, features: str, tmp_path: object
) -> None:
    model = params(features).model
    teacher = ridge.fit_real(digits, model, run)
    krr_exact.distill(digits, 1, params(features), run).save(f"{tmp_path}/set.safetensors")
    loaded = DistilledSet.load(f"{tmp_path}/set.safetensors")
    scores = list(judge.judge(loaded, digits, model, trainings=1, seed=99, run=dataclasses.replace(run, seed=99)))
    assert scores[0].training_seed == run.seed  # the set names the seed of its feature map
    assert scores[0].value == judge.accuracy(teacher, digits, run)


def test_a_teacher_that_is_there_already_is_used(digits: RealSet, run: Run, tmp_path: object) -> None:
    teacher = ridge.fit_real(digits, params().model, run)
    changed = dataclasses.replace(teacher, weights={"weights": teacher.weights["weights"] * 2})
    changed.save(f"{tmp_path}/teacher.safetensors")
    with_it = dataclasses.replace(run, teachers=(tmp_path / "teacher.safetensors",))  # type: ignore[operator]
    plain = krr_exact.distill(digits, 1, params(), run)
    doubled = krr_exact.distill(digits, 1, params(), with_it)
    torch.testing.assert_close(doubled.inputs * 2, plain.inputs)


def test_a_teacher_of_other_data_or_seed_is_not_used(digits: RealSet, run: Run, tmp_path: object) -> None:
    ridge.fit_real(digits, params().model, run).save(f"{tmp_path}/teacher.safetensors")
    path = (tmp_path / "teacher.safetensors",)  # type: ignore[operator]
    model = settings.dump(params().model)
    assert Run(seed=0, teachers=path).find_teacher(model, 0, digits.fingerprint) is not None
    assert Run(seed=0, teachers=path).find_teacher(model, 1, digits.fingerprint) is None
    assert Run(seed=0, teachers=path).find_teacher(model, 0, "other data") is None


@pytest.mark.gpu
@pytest.mark.parametrize("features", FEATURES)
def test_a_gpu_gives_the_weights_back_too(digits: RealSet, features: str) -> None:
    run = Run(seed=0, device=torch.device("cuda"))
    distilled = krr_exact.distill(digits, 3, params(features), run)
    assert distilled.certificate is not None
    assert distilled.certificate["exact"] is True
