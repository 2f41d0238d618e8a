import pytest
import torch

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.theory import kip_loss, points


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TARGETS = torch.eye(3, dtype=torch.float64)


def trained(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features, targets = normal(count, 12, seed=1), normal(count, 3, seed=2)
    return features, targets, torch.linalg.lstsq(features, targets, driver="gelsd").solution


def distilled(weights: torch.Tensor, count: int = 6) -> torch.Tensor:
    """What least squares learns from exact points for these weights."""
    labels = TARGETS.repeat(count // 3, 1)
    return torch.linalg.pinv(points.points(points.admissible(weights, labels, normal(12, count)))) @ labels


@pytest.mark.parametrize("count", [4, 12])
def test_exact_points_have_no_loss_for_at_most_p_real_examples(count: int) -> None:
    """Theorem 6.1, n <= p: sufficient."""
    features, targets, weights = trained(count)
    assert kip_loss.loss(features, targets, distilled(weights)) < 1e-18


def test_for_fewer_real_examples_than_features_other_weights_have_no_loss_either() -> None:
    """So for n < p exactness is not necessary."""
    features, targets, weights = trained(4)
    silent = torch.eye(12, dtype=torch.float64) - torch.linalg.pinv(features) @ features
    other = weights + silent @ normal(12, 3, seed=5)
    assert linalg.relative_error(other, weights) > 1
    assert kip_loss.loss(features, targets, other) < 1e-18
    assert kip_loss.excess(features, weights, other) < 1e-18


@pytest.mark.parametrize("count", [4, 12, 40])
def test_the_loss_above_the_least_is_the_distance_of_the_weights_seen_through_the_features(count: int) -> None:
    features, targets, weights = trained(count)
    for seed in range(5):
        other = weights + normal(12, 3, seed=seed)
        above = kip_loss.loss(features, targets, other) - kip_loss.loss(features, targets, weights)
        assert above == pytest.approx(kip_loss.excess(features, weights, other), rel=1e-10)


@pytest.mark.parametrize("count", [12, 40])
def test_for_at_least_p_real_examples_only_exact_weights_have_the_least_loss(count: int) -> None:
    """Theorem 6.1, n >= p: necessary. The excess is at least sigma_p(F)^2 |W_S - W|^2, and exact points have none."""
    features, _, weights = trained(count)
    assert kip_loss.excess(features, weights, distilled(weights)) < 1e-18
    least = float(torch.linalg.svdvals(features)[-1]) ** 2
    for seed in range(5):
        other = weights + 1e-3 * normal(12, 3, seed=seed)
        difference = float((other - weights).square().sum())
        assert kip_loss.excess(features, weights, other) >= least * difference * (1 - 1e-9) > 0


def test_weights_of_ridge_regression_do_not_have_the_least_loss() -> None:
    """Why Theorem 6.1 asks for lambda = 0: recovering a ridge teacher exactly leaves KIP's loss above its least."""
    features, targets, least_squares = trained(40)
    teacher = linalg.ridge_pseudo_inverse(features, 5.0) @ targets
    above = kip_loss.loss(features, targets, distilled(teacher)) - kip_loss.loss(features, targets, least_squares)
    assert above > 0.01


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("count", [5, 12, 20])
def test_other_data_give_the_same_weights(count: int, ridge: float) -> None:
    """Proposition 6.1: infinitely many data sets, all with the same targets."""
    features, targets = normal(count, 12, seed=1), normal(count, 3, seed=2)
    wanted = linalg.ridge_pseudo_inverse(features, ridge) @ targets
    for seed in range(3):
        other = kip_loss.other_features(features, targets, 0.01 * normal(12, count, seed=seed), ridge)
        assert linalg.relative_error(other, features) > 1e-3
        assert linalg.relative_error(linalg.ridge_pseudo_inverse(other, ridge) @ targets, wanted) < 1e-10


def test_as_many_examples_as_classes_are_known_from_the_weights() -> None:
    """Why Proposition 6.1 asks for n > c: for n = c there is one F of full rank."""
    features = normal(3, 12, seed=1)
    other = kip_loss.other_features(features, TARGETS, normal(12, 3))
    torch.testing.assert_close(other, features)


def test_a_free_part_too_large_for_the_ridge_is_refused() -> None:
    with pytest.raises(NumericalError, match="above the bound"):
        kip_loss.other_features(normal(5, 12), normal(5, 3), 100 * normal(12, 5), 0.1)
