import math

import numpy as np
import pytest
import torch

from stillhouse import linalg
from stillhouse.theory import labels, points


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learned(features: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    """Ridge weights by an independent solver: least squares on the rows with sqrt(ridge) I below."""
    rows = np.concatenate([features.numpy(), math.sqrt(ridge) * np.eye(features.shape[1])])
    right = np.concatenate([targets.numpy(), np.zeros((features.shape[1], targets.shape[1]))])
    return torch.from_numpy(np.linalg.lstsq(rows, right, rcond=None)[0])


WEIGHTS = normal(12, 3)
RIDGES = [0.0, 1e-6, 0.5, 100.0]


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("count", [12, 13, 30])
def test_labels_for_at_least_p_images_of_rank_p_give_the_weights_back(count: int, ridge: float) -> None:
    features = normal(count, 12, seed=1)
    targets = labels.labels(WEIGHTS, features, ridge)
    assert linalg.relative_error(learned(features, targets, ridge), WEIGHTS) < 1e-10
    assert labels.residual(WEIGHTS, features) < 1e-12


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("count", [1, 3, 11])
def test_labels_for_fewer_images_leave_what_the_theorem_says_whatever_the_ridge(count: int, ridge: float) -> None:
    features = normal(count, 12, seed=1)
    found = learned(features, labels.labels(WEIGHTS, features, ridge), ridge)
    assert float((found - WEIGHTS).norm()) == pytest.approx(labels.residual(WEIGHTS, features), rel=1e-9)
    assert labels.residual(WEIGHTS, features) > 0.1


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("count", [3, 20])
def test_labels_are_the_least_squares_solution_of_least_norm(ridge: float, count: int) -> None:
    """W_S is linear in the labels; numpy solves for them from that map alone."""
    features = normal(count, 2) @ normal(2, 12, seed=1) if count == 20 else normal(count, 12, seed=1)
    forward = linalg.ridge_pseudo_inverse(features, ridge)
    wanted = np.linalg.lstsq(forward.numpy(), WEIGHTS.numpy(), rcond=1e-12)[0]
    torch.testing.assert_close(labels.labels(WEIGHTS, features, ridge), torch.from_numpy(wanted))


def test_no_other_labels_come_nearer() -> None:
    features = normal(5, 12, seed=1)
    best = labels.labels(WEIGHTS, features, 0.5)
    least = (learned(features, best, 0.5) - WEIGHTS).norm()
    for seed in range(10):
        assert (learned(features, best + 0.01 * normal(5, 3, seed=seed), 0.5) - WEIGHTS).norm() > least


def test_fewer_images_are_enough_where_the_weights_lie_in_their_row_space() -> None:
    """Theorem 4.2's exception for m < p."""
    features = normal(5, 12, seed=1)
    weights = features.T @ normal(5, 3, seed=2)
    assert labels.residual(weights, features) < 1e-12
    assert linalg.relative_error(learned(features, labels.labels(weights, features), 0.0), weights) < 1e-12


def test_without_a_ridge_labels_are_the_models_predictions() -> None:
    features = normal(5, 12, seed=1)
    assert torch.equal(labels.labels(WEIGHTS, features), features @ WEIGHTS)


def test_labels_and_points_agree_where_both_are_exact() -> None:
    """The points for the labels of p images are those images (Corollary 4.1.1)."""
    features = normal(12, 12, seed=1)
    targets = labels.labels(WEIGHTS, features)
    torch.testing.assert_close(points.points(points.nearest(WEIGHTS, targets, torch.linalg.inv(features))), features)
