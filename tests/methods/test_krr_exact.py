import dataclasses

import pytest
import torch

from stillhouse import linalg, settings
from stillhouse.errors import NumericalError, UserError
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


EVERY_RIDGE = [("one", 1e-9), ("one", 1e-4), ("teacher", 1e-6), ("teacher", 1.0), ("bound", 0.01), ("bound", 1.0)]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("start", ["noise", "real"])
@pytest.mark.parametrize("root", ["plus", "minus"])
@pytest.mark.parametrize(("unit", "value"), EVERY_RIDGE)
@pytest.mark.parametrize("per_class", [2, 10])  # m < p = 64, m > p
def test_ridge_regression_on_the_distilled_images_gives_the_teachers_weights_back(
    digits: RealSet, run: Run, features: str, start: str, root: str, unit: str, value: float, per_class: int
) -> None:
    options = params(features, start=start, root=root, ridge_S=value, ridge_S_unit=unit)
    distilled = krr_exact.distill(digits, per_class, options, run)
    certificate = distilled.certificate
    assert certificate is not None
    assert certificate["exact"] is True
    assert 0 < certificate["ridge_S"] <= certificate["ridge_bound"] * (1 + 1e-12)
    assert certificate["ridge_bound"] <= certificate["ridge_limit"] * (1 + 1e-12)
    assert certificate["root"] == root
    # The numbers that a reader of the file has, and a solver that knows nothing of the construction.
    rows = ridge.set_features(distilled, ridge.embed(options.model, digits, run.seed))
    below = distilled.schedule["ridge"] ** 0.5 * torch.eye(64, dtype=torch.float64)
    right = torch.cat([distilled.targets, torch.zeros(64, 10, dtype=torch.float64)])
    learned = torch.linalg.lstsq(torch.cat([rows, below]), right, driver="gelsd").solution
    weights = ridge.fit_real(digits, options.model, run).weights["weights"]
    assert linalg.relative_error(learned, weights) < 1e-4 * (unit == "one" and value == 1e-9) + 1e-8


@pytest.mark.parametrize("features", FEATURES)
def test_the_ridge_of_the_schedule_is_scaled_as_the_features_are(digits: RealSet, run: Run, features: str) -> None:
    """F / a, Y / a and lambda / a^2 give the weights of F, Y and lambda."""
    distilled = krr_exact.distill(digits, 2, params(features, ridge_S=0.5, ridge_S_unit="bound"), run)
    certificate = distilled.certificate
    assert certificate is not None
    assert (certificate["reach"] != 1) == (features == "random_fourier")
    assert distilled.schedule["ridge"] == certificate["ridge_S"] / certificate["reach"] ** 2


def test_units_of_the_ridge(digits: RealSet, run: Run) -> None:
    def made(value: float, unit: str) -> dict[str, float]:
        certificate = krr_exact.distill(digits, 2, params(ridge_S=value, ridge_S_unit=unit), run).certificate
        assert certificate is not None
        return dict(certificate)

    assert made(1e-3, "one")["ridge_S"] == 1e-3
    half = made(0.5, "bound")
    assert half["ridge_S"] == 0.5 * half["ridge_bound"]
    small = made(1e-6, "teacher")
    assert small["ridge_S"] == 1e-6 * small["ridge"]
    capped = made(1.0, "teacher")
    assert capped["ridge"] > capped["ridge_bound"]
    assert capped["ridge_S"] == capped["ridge_bound"]


def test_more_than_the_bound_is_refused_before_anything_runs() -> None:
    with pytest.raises(UserError, match=r"ridge_S \(1.5\) in units of the bound is above 1"):
        params(ridge_S=1.5, ridge_S_unit="bound")
    with pytest.raises(UserError, match="ridge_S"):
        params(ridge_S=-1.0)


def test_noise_gives_way_to_a_fixed_ridge_up_to_the_limit_and_no_further(digits: RealSet, run: Run) -> None:
    first = krr_exact.distill(digits, 2, params(noise=5.0), run).certificate
    assert first is not None
    value = 0.99 * first["ridge_limit"]
    assert value > first["ridge_bound"]
    shrunk = krr_exact.distill(digits, 2, params(noise=5.0, ridge_S=value), run).certificate
    assert shrunk is not None
    assert shrunk["ridge_S"] == value <= shrunk["ridge_bound"]
    assert shrunk["exact"] is True
    with pytest.raises(NumericalError, match="no free part Z satisfies the bound"):
        krr_exact.distill(digits, 2, params(ridge_S=1.01 * first["ridge_limit"]), run)


def test_real_images_cannot_give_way_to_a_fixed_ridge_above_their_bound(digits: RealSet, run: Run) -> None:
    with pytest.raises(NumericalError, match="above the bound of Theorem 4.1"):
        krr_exact.distill(digits, 1, params(start="real", ridge_S=1.0), run)


def test_without_a_ridge_the_root_does_not_matter(digits: RealSet, run: Run) -> None:
    plus, minus = (krr_exact.distill(digits, 2, params(root=root), run) for root in ("plus", "minus"))
    assert torch.equal(plus.inputs, minus.inputs)
    assert plus.schedule == {"ridge": 0.0}
    assert plus.certificate is not None
    assert plus.certificate["root"] is None


def test_the_larger_root_goes_to_the_images_of_ridge_zero_and_the_smaller_to_none(digits: RealSet, run: Run) -> None:
    plain = krr_exact.distill(digits, 2, params(), run).inputs
    larger, smaller = (
        krr_exact.distill(digits, 2, params(ridge_S=1e-9, ridge_S_unit="bound", root=root), run).inputs
        for root in ("plus", "minus")
    )
    assert linalg.relative_error(larger, plain) < 1e-8
    assert float(smaller.norm() / plain.norm()) < 1e-8


def test_the_certificate_says_how_far_the_real_images_moved(digits: RealSet, run: Run) -> None:
    options = params(start="real")
    distilled = krr_exact.distill(digits, 3, options, run)
    certificate = distilled.certificate
    assert certificate is not None
    images = pixels(digits.train.inputs[sample(digits, 3, run.generator("images"))]).to(torch.float64)
    embedding = ridge.embed(options.model, digits, run.seed)
    space = embedding.space.forward(images)
    assert certificate["distance_to_start"] == pytest.approx(linalg.relative_error(distilled.inputs, space))
    wanted = torch.linalg.pinv(embedding.features(images))
    backward = torch.linalg.pinv(ridge.set_features(distilled, embedding))
    assert certificate["residual_D"] == pytest.approx(float((backward - wanted).norm()), rel=1e-6)
    noise = krr_exact.distill(digits, 3, params(), run).certificate
    assert noise is not None
    assert not {"distance_to_start", "residual_D"} & set(noise)


def test_at_least_as_many_real_images_as_features_stay_and_only_their_labels_change(digits: RealSet, run: Run) -> None:
    moved, stayed = (
        krr_exact.distill(digits, per_class, params("random_network", start="real"), run).certificate
        for per_class in (6, 20)  # p = 64
    )
    assert moved is not None
    assert stayed is not None
    assert moved["distance_to_start"] > 1e-2
    assert stayed["distance_to_start"] < 1e-9


@pytest.mark.gpu
@pytest.mark.parametrize("features", FEATURES)
def test_a_gpu_gives_the_weights_back_too(digits: RealSet, features: str) -> None:
    run = Run(seed=0, device=torch.device("cuda"))
    distilled = krr_exact.distill(digits, 3, params(features), run)
    assert distilled.certificate is not None
    assert distilled.certificate["exact"] is True
