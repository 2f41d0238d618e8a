"""KIP with an explicit feature map: its labels, its gradient, what label solving means."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stillhouse import linalg, settings
from stillhouse.evaluation import judge
from stillhouse.methods import kip, kip_features
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages.store import Store

FCNN = {"kind": "ridge", "features": {"kind": "random_network"}, "space": "standardised"}


def params(**changed: object) -> kip.Params:
    return settings.parse(kip.Params, {"model": FCNN, "steps": 12, "batch": 32, **changed}, "test")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, kip_features.Problem]:
    """Real features (40, 7), targets (40, 3), distilled features (4, 7)."""
    rows, targets, features = drawn(40, 7), drawn(40, 3, seed=1), drawn(4, 7, seed=2)
    return rows, targets, features, kip_features.Problem(rows.T @ rows, rows.T @ targets, 1e-2)


def plain_labels(rows: torch.Tensor, targets: torch.Tensor, features: torch.Tensor, strength: float) -> torch.Tensor:
    """Y_S = A^+ Y with the column of every real example, as the paper writes it."""
    kernel = features @ features.T + strength * torch.eye(len(features), dtype=torch.float64)
    return torch.linalg.pinv(rows @ features.T @ torch.linalg.inv(kernel)) @ targets


def test_labels_from_moments_are_those_of_the_plain_formula(case: tuple) -> None:  # type: ignore[type-arg]
    rows, targets, features, problem = case
    fit = kip_features.solve_labels(features, problem)
    torch.testing.assert_close(fit.targets, plain_labels(rows, targets, features, fit.ridge), rtol=1e-10, atol=1e-12)


def test_weights_are_what_ridge_regression_learns_from_the_labels(case: tuple) -> None:  # type: ignore[type-arg]
    *_, features, problem = case
    fit = kip_features.solve_labels(features, problem)
    torch.testing.assert_close(fit.weights, ridge.solve(features, fit.targets, fit.ridge), rtol=1e-10, atol=1e-12)
    assert fit.ridge == pytest.approx(1e-2 * float((features @ features.T).trace()) / 4)


def test_with_solved_labels_the_ridge_does_not_matter(case: tuple) -> None:  # type: ignore[type-arg]
    *_, features, problem = case
    other = kip_features.solve_labels(features, dataclasses.replace(problem, ridge_S=10.0))
    torch.testing.assert_close(other.weights, kip_features.solve_labels(features, problem).weights)


def test_solved_labels_project_least_squares_onto_the_span_of_the_features(case: tuple) -> None:  # type: ignore[type-arg]
    rows, targets, features, problem = case
    found = kip_features.solve_labels(features, problem).weights
    mixed = drawn(4, 4, seed=6) @ features
    torch.testing.assert_close(kip_features.solve_labels(mixed, problem).weights, found)
    left = torch.linalg.lstsq(rows, targets).solution - found
    torch.testing.assert_close(features @ problem.gram @ left, torch.zeros(4, 3, dtype=torch.float64))


def test_over_all_real_examples_the_gradient_does_not_depend_on_the_ridge(case: tuple) -> None:  # type: ignore[type-arg]
    rows, targets, features, problem = case

    def gradient(count: int, ridge_S: float) -> torch.Tensor:
        fit = kip_features.solve_labels(features, dataclasses.replace(problem, ridge_S=ridge_S))
        return kip_features.feature_gradient(
            features, fit, kip_features.batch_loss(fit.weights, rows[:count], targets[:count])[1], ridge_S
        )

    torch.testing.assert_close(gradient(40, 1e-3), gradient(40, 10.0))
    assert linalg.relative_error(gradient(20, 1e-3), gradient(20, 10.0)) > 0.01  # over a batch it does


@pytest.mark.parametrize("count", [7, 11])
def test_as_many_images_as_features_give_least_squares_on_the_real_set_whatever_they_show(
    case: tuple,  # type: ignore[type-arg]
    count: int,
) -> None:
    rows, targets, _, problem = case
    fit = kip_features.solve_labels(drawn(count, 7, seed=5), problem)
    torch.testing.assert_close(fit.weights, torch.linalg.lstsq(rows, targets).solution)
    torch.testing.assert_close(fit.weights, ridge.solve(drawn(count, 7, seed=5), fit.targets, fit.ridge))


@pytest.mark.parametrize("count", [4, 11])
def test_gradient_is_that_of_the_plain_formula(case: tuple, count: int) -> None:  # type: ignore[type-arg]
    rows, targets, _, problem = case
    features = drawn(count, 7, seed=3).requires_grad_()
    fit = kip_features.solve_labels(features.detach(), problem)
    kernel = features @ features.T
    kernel = kernel + problem.ridge_S * kernel.diagonal().mean() * torch.eye(count, dtype=torch.float64)
    weights = features.T @ torch.linalg.solve(kernel, fit.targets)
    wanted = (rows @ weights - targets).square().mean()
    wanted.backward()
    loss, slope = kip_features.batch_loss(fit.weights, rows, targets)
    assert float(loss) == pytest.approx(float(wanted.detach()))
    found = kip_features.feature_gradient(features.detach(), fit, slope, problem.ridge_S)
    # With m >= p the loss is at its minimum over all weights, and the gradient 0.
    torch.testing.assert_close(found, features.grad, rtol=1e-8, atol=1e-12)
    assert (float(found.norm()) < 1e-10) == (count > 7)


def test_over_all_real_examples_the_change_of_the_labels_does_not_matter(case: tuple) -> None:  # type: ignore[type-arg]
    """Envelope theorem: finite differences with the labels solved again agree with the gradient at fixed labels."""
    rows, targets, features, problem = case
    fit = kip_features.solve_labels(features, problem)
    _, slope = kip_features.batch_loss(fit.weights, rows, targets)
    found = kip_features.feature_gradient(features, fit, slope, problem.ridge_S)
    direction, step = drawn(4, 7, seed=4), 1e-5
    losses = [
        float(
            kip_features.batch_loss(
                kip_features.solve_labels(features + sign * step * direction, problem).weights, rows, targets
            )[0]
        )
        for sign in (1, -1)
    ]
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(float((found * direction).sum()), rel=1e-6)


def test_equal_images_are_no_obstacle(case: tuple) -> None:  # type: ignore[type-arg]
    *_, features, problem = case
    twice = torch.cat([features, features])
    torch.testing.assert_close(
        kip_features.solve_labels(twice[:6], problem).weights,
        kip_features.solve_labels(features, problem).weights,
        rtol=1e-6,
        atol=1e-8,
    )


def test_training_makes_it_better(digits: RealSet) -> None:
    scores = []
    for steps in (0, 40):
        made = kip.distill(digits, 1, params(steps=steps, batch=500), Run(seed=0))
        [score] = judge.judge(made, digits, params().model, 1, 0, Run(seed=0))
        scores.append(score.value)
    assert scores[1] > scores[0] + 1
    teacher = ridge.fit_real(digits, params().model, Run(seed=0))
    assert judge.accuracy(teacher, digits, Run(seed=0)) >= scores[1] - 1


def test_the_judge_learns_the_weights_that_training_ended_with(digits: RealSet, tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = kip.distill(digits, 1, params(), Run(seed=1, store=store))
    learned = ridge.fit_distilled(made, digits, params().model, Run(seed=1)).weights["weights"]
    embedding = ridge.embed(params().model, digits, 1)
    _, held_out = ridge.split(len(digits.train), 0.05, 1)
    assert kip_features.Examples(digits, embedding, held_out, Run(seed=1), "x").merit(learned) == pytest.approx(
        store.records[-1]["validation_accuracy"]
    )


def test_features_kept_on_disk_change_nothing(digits: RealSet, tmp_path: Path) -> None:
    kept = kip.distill(digits, 2, params(), Run(seed=0, store=Store(tmp_path)))
    again = kip.distill(digits, 2, params(), Run(seed=0))
    torch.testing.assert_close(kept.inputs, again.inputs, rtol=1e-4, atol=1e-5)


def test_moments_of_the_pass_are_those_of_the_teacher(digits: RealSet) -> None:
    embedding = ridge.embed(params().model, digits, 0)
    fitted, _ = ridge.split(len(digits.train), 0.05, 0)
    sums = linalg.Moments(embedding.map.dim, 10)
    kip_features.Examples(digits, embedding, fitted, Run(seed=0), "x", sums)
    assert torch.equal(sums.gram, ridge.moments(digits, embedding, fitted, Run(seed=0)).gram)
