import dataclasses
from typing import Any

import pytest
import torch
from scipy.stats import kstest

from stillhouse import linalg, settings, spaces
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import attacks, judge
from stillhouse.methods import krr_private
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels
from stillhouse.theory import privacy

FEATURES = ["identity", "random_network", "random_fourier"]


def params(features: str = "identity", space: Any = "pixels", **options: Any) -> krr_private.Params:
    model = {"kind": "ridge", "features": features, "space": space}
    made: krr_private.Params = settings.parse_plugin(
        "methods", {"kind": "krr_private", "model": model, **options}, "test"
    )
    return made


def clipped_rows(real: RealSet, chosen: krr_private.Params, run: Run) -> torch.Tensor:
    features = ridge.embed(chosen.model, real, run.seed).features(pixels(real.train.inputs))
    return privacy.clipped(features, chosen.norm)


def ridge_weights(real: RealSet, chosen: krr_private.Params, run: Run) -> torch.Tensor:
    """Of the clipped training examples, by an independent solver."""
    rows = clipped_rows(real, chosen, run)
    eye = torch.eye(rows.shape[1], dtype=torch.float64)
    return torch.linalg.solve(
        rows.T @ rows + chosen.ridge * eye, rows.T @ spaces.one_hot(real.train.targets, real.n_classes)
    )


def learned(distilled: DistilledSet, real: RealSet, chosen: krr_private.Params, run: Run) -> torch.Tensor:
    rows = ridge.set_features(distilled, ridge.embed(chosen.model, real, run.seed))
    return torch.linalg.lstsq(rows, distilled.targets, driver="gelsd").solution


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("epsilon", [1e-3, 1.0])
def test_rows_give_the_weights_without_noise_whatever_epsilon(
    digits: RealSet, run: Run, features: str, epsilon: float
) -> None:
    chosen = params(features, mechanism="rows", epsilon=epsilon)
    distilled = krr_private.distill(digits, 2, chosen, run)
    # Features of real images are float32.
    assert linalg.relative_error(learned(distilled, digits, chosen, run), ridge_weights(digits, chosen, run)) < 1e-4


def test_rows_with_one_image_per_class_are_refused_with_the_reason(digits: RealSet, run: Run) -> None:
    with pytest.raises(NumericalError, match=r"10 of 10 columns of D get no noise.*at least two examples per class"):
        krr_private.distill(digits, 1, params(mechanism="rows"), run)


def test_a_record_is_read_off_the_file_that_rows_make(digits: RealSet, run: Run) -> None:
    """The image is in the file at epsilon = 0.01, for who knows the others."""
    chosen = params(mechanism="rows", epsilon=0.01)
    weights = learned(krr_private.distill(digits, 2, chosen, run), digits, chosen, run)
    rows, targets = clipped_rows(digits, chosen, run), spaces.one_hot(digits.train.targets, 10)
    found = attacks.reconstruct(rows[1:].T @ rows[1:], rows[1:].T @ targets[1:], chosen.ridge, weights, chosen.norm)
    assert linalg.relative_error(found.features, rows[0]) < 1e-5
    assert found.label == int(digits.train.targets[0])


def test_each_column_of_rows_has_the_noise_that_its_epsilon_asks_for(digits: RealSet, run: Run) -> None:
    """From the stored images alone: D = F_S^+, and what is left of it after W Y_S^+."""
    chosen = params(mechanism="rows", epsilon=0.5, adjacency="replace")
    distilled = krr_private.distill(digits, 3, chosen, run)
    points = torch.linalg.pinv(distilled.inputs.flatten(1))
    noise = points - ridge_weights(digits, chosen, run) @ torch.linalg.pinv(distilled.targets)
    sizes = torch.bincount(digits.train.targets).double() + 1
    needed = 2 * sizes.max().sqrt() / 3 / privacy.largest_shift(0.5, 1e-5)
    assert float(noise.std()) == pytest.approx(float(needed), rel=0.1)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("per_class", [1, 3, 10])
def test_statistics_give_the_weights_of_the_noisy_statistics(
    digits: RealSet, run: Run, features: str, per_class: int
) -> None:
    chosen = params(features, epsilon=3.0)
    distilled = krr_private.distill(digits, per_class, chosen, run)
    rows, targets = clipped_rows(digits, chosen, run), spaces.one_hot(digits.train.targets, 10)
    noise = torch.randn(64, 74, generator=run.generator("privacy noise"), dtype=torch.float64)
    scale = 2**0.5 / privacy.largest_shift(3.0, 1e-5)
    expected = privacy.private_weights(rows.T @ rows, rows.T @ targets, chosen.ridge, chosen.norm, scale, noise)
    assert linalg.relative_error(learned(distilled, digits, chosen, run), expected) < 1e-6
    assert distilled.certificate is not None
    assert distilled.certificate["error_images"] < 1e-6
    assert distilled.certificate["sigma"] == pytest.approx(scale)


def test_statistics_come_near_the_weights_without_noise_as_epsilon_grows(digits: RealSet, run: Run) -> None:
    distances = []
    for epsilon in (1.0, 1e2, 1e4, 1e10):
        chosen = params(epsilon=epsilon)
        found = learned(krr_private.distill(digits, 2, chosen, run), digits, chosen, run)
        distances.append(linalg.relative_error(found, ridge_weights(digits, chosen, run)))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.01


def test_statistics_do_not_give_a_record_away(digits: RealSet, run: Run) -> None:
    chosen = params(epsilon=1.0)
    distilled = krr_private.distill(digits, 2, chosen, run)
    rows, targets = clipped_rows(digits, chosen, run), spaces.one_hot(digits.train.targets, 10)
    assert distilled.certificate is not None
    found = attacks.reconstruct(
        rows[1:].T @ rows[1:],
        rows[1:].T @ targets[1:],
        chosen.ridge + distilled.certificate["ridge_noise"],
        learned(distilled, digits, chosen, run),
        chosen.norm,
    )
    assert linalg.relative_error(found.features, rows[0]) > 0.5


def accuracy(digits: RealSet, run: Run, chosen: krr_private.Params) -> float:
    distilled = krr_private.distill(digits, 2, chosen, run)
    scores = list(judge.judge(distilled, digits, chosen.model, trainings=1, seed=0, run=run))
    return scores[0].value


def test_a_judge_pays_for_privacy_under_statistics_and_not_under_rows(digits: RealSet, run: Run) -> None:
    strict, loose = (accuracy(digits, run, params(epsilon=epsilon)) for epsilon in (0.1, 100.0))
    assert loose > strict + 20
    flat = {accuracy(digits, run, params(mechanism="rows", epsilon=epsilon)) for epsilon in (0.1, 100.0)}
    assert len(flat) == 1


def certificate(real: RealSet, run: Run, chosen: krr_private.Params) -> dict[str, Any]:
    made = krr_private.distill(real, 2, chosen, run).certificate
    assert made is not None
    return dict(made)


def test_the_certificate_promises_what_is_proven(toy: RealSet, run: Run) -> None:
    joint = certificate(toy, run, params(epsilon=0.5, adjacency="replace"))
    assert (joint["guarantee"], joint["epsilon"], joint["delta"], joint["adjacency"]) == ("joint", 0.5, 1e-5, "replace")
    assert joint["sensitivity"] == pytest.approx(4.5**0.5)
    assert "without the recipe" in joint["release"]
    rows = certificate(toy, run, params(mechanism="rows"))
    assert rows["guarantee"] == "each row of D alone"
    assert any("public" in each for each in rows["assumptions"])


def test_only_secret_noise_on_the_statistics_in_a_fixed_space_makes_a_private_file(toy: RealSet, run: Run) -> None:
    fixed = {"kind": "standardised", "mean": [0.5], "std": [0.25]}
    assert certificate(toy, run, params(noise="secret"))["this_file_is_private"] is True
    assert certificate(toy, run, params(space=fixed, noise="secret"))["this_file_is_private"] is True
    for chosen, reason in (
        (params(), "seed"),
        (params(space="standardised", noise="secret"), "fitted on the data"),
        (params(mechanism="rows", noise="secret"), "D Y_S = W"),
    ):
        made = certificate(toy, run, chosen)
        assert made["this_file_is_private"] is False
        assert reason in made["why_not"][0]


def test_the_certificate_of_a_private_set_tells_nothing_of_the_data(toy: RealSet, run: Run) -> None:
    """Adjacent data sets have the same certificate, but for how well the released set gives the released weights."""
    train = Split(toy.train.inputs[1:], toy.train.targets[1:])
    one, other = (certificate(real, run, params()) for real in (toy, dataclasses.replace(toy, train=train)))
    del one["error_images"], other["error_images"]
    assert one == other


def test_secret_noise_is_standard_normal_and_never_the_same() -> None:
    one, other = (krr_private._secret_normal(200, 100) for _ in range(2))
    assert one.dtype == torch.float64
    assert not torch.equal(one, other)
    assert bool(one.isfinite().all())
    assert kstest(one.flatten().numpy(), "norm").pvalue > 1e-9
    assert abs(float((one * other).mean())) < 0.06  # 8 standard deviations


def test_secret_noise_makes_different_sets_of_one_seed(toy: RealSet, run: Run) -> None:
    chosen = params(noise="secret")
    assert not torch.equal(*(krr_private.distill(toy, 1, chosen, run).inputs for _ in range(2)))


def test_no_example_counts_for_more_than_its_norm(toy: RealSet, run: Run) -> None:
    """What the sensitivity rests on: an image as bright as can be weighs no more than any other."""
    bright = dataclasses.replace(toy, train=Split(toy.train.inputs.clone(), toy.train.targets))
    bright.train.inputs[0] = 255
    rows = clipped_rows(bright, params(norm=0.7), run)
    assert float(rows.norm(dim=1).max()) <= 0.7 * (1 + 1e-12)


def test_settings_that_are_no_privacy_parameters_are_refused() -> None:
    for wrong in ({"epsilon": 0}, {"delta": 1}, {"norm": -1}, {"ridge": 0}, {"mechanism": "row"}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            params(**wrong)
