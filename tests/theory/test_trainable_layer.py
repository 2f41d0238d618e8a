import math

import pytest
import torch

from stillhouse import linalg
from stillhouse.errors import NumericalError
from stillhouse.theory import points, trainable_layer


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


WEIGHTS = normal(8, 3)
TARGETS = torch.eye(3, dtype=torch.float64).repeat(2, 1)


def objective(
    features: torch.Tensor, targets: torch.Tensor, layer: torch.Tensor, behind: torch.Tensor, ridge: tuple[float, float]
) -> torch.Tensor:
    error: torch.Tensor = (features @ layer @ behind - targets).square().sum()
    return error + ridge[0] * layer.square().sum() + ridge[1] * behind.square().sum()


def trained(features: torch.Tensor, targets: torch.Tensor, ridge: tuple[float, float], width: int = 4) -> torch.Tensor:
    """A V of both layers, each trained in turn while the other rests, from a random start; knows nothing of the construction."""
    inputs, eye = features.shape[1], torch.eye(width, dtype=torch.float64)
    layer, gram = normal(inputs, width, seed=11), features.T @ features
    for _ in range(1500):
        seen = features @ layer
        behind = torch.linalg.solve(seen.T @ seen + ridge[1] * eye, seen.T @ targets)
        # Row by row: (V V^T kron F^T F + ridge I) A = F^T Y V^T.
        system = torch.kron(gram, behind @ behind.T)
        system.diagonal().add_(ridge[0])
        layer = torch.linalg.solve(system, (features.T @ targets @ behind.T).flatten()).reshape(inputs, width)
    return layer @ behind


@pytest.mark.parametrize("scale", [0.1, 1.0, 50.0])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_with_the_layer_given_no_bound_on_the_ridge_is_left(scale: float, ridge: float) -> None:
    """Theorem D.1 as printed; the ridge may be far above the limit of Theorem 4.1."""
    features = trainable_layer.scaled_points(WEIGHTS, TARGETS, normal(8, 6, seed=1), scale)
    layer = trainable_layer.given_layer(features, ridge, scale)
    seen = features @ layer
    torch.testing.assert_close(seen @ seen.T, scale * ridge * torch.eye(6, dtype=torch.float64))
    eye = torch.eye(6, dtype=torch.float64)
    behind = torch.linalg.solve(seen.T @ seen + ridge * eye, seen.T @ TARGETS)
    torch.testing.assert_close(layer @ behind, WEIGHTS)
    assert points.ridge_limit(WEIGHTS, TARGETS) < 1


def test_the_given_layer_is_no_minimum_so_training_it_leads_away_from_the_weights() -> None:
    ridge, scale = 0.05, 1.0
    features = trainable_layer.scaled_points(WEIGHTS, TARGETS, normal(8, 6, seed=1), scale)
    layer = trainable_layer.given_layer(features, ridge, scale).requires_grad_()
    behind = torch.linalg.solve(
        (features @ layer).T @ (features @ layer) + ridge * torch.eye(6), (features @ layer).T @ TARGETS
    )
    objective(features, TARGETS, layer, behind.detach(), (0.0, ridge)).backward()
    assert layer.grad is not None
    assert float(layer.grad.norm()) > 1e-3  # nor without a penalty on the layer
    for penalty in (1e-3, 1e-2, 1e-1):
        assert linalg.relative_error(trained(features, TARGETS, (penalty, penalty)), WEIGHTS) > 0.01


@pytest.mark.parametrize("share", [0.1, 0.9])
@pytest.mark.parametrize("unequal", [1.0, 7.0])
@pytest.mark.parametrize("targets", [TARGETS, TARGETS[:3], normal(5, 3, seed=3), normal(10, 3, seed=3)])
def test_both_layers_trained_on_the_points_give_the_weights_back(
    share: float, unequal: float, targets: torch.Tensor
) -> None:
    penalty = share * trainable_layer.penalty_limit(WEIGHTS, targets)
    features = trainable_layer.trained_points(WEIGHTS, targets, normal(len(targets), 8, seed=1), penalty)
    found = trained(features, targets, (penalty * unequal, penalty / unequal))
    assert linalg.relative_error(found, WEIGHTS) < 1e-5  # what so many turns reach


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_the_weights_fulfil_the_optimality_condition_of_the_nuclear_norm_problem(share: float) -> None:
    """F^T (Y - F W) = mu P Q^T for W = P S Q^T: necessary and sufficient, the problem being convex."""
    penalty = share * trainable_layer.penalty_limit(WEIGHTS, TARGETS)
    features = trainable_layer.trained_points(WEIGHTS, TARGETS, normal(6, 8, seed=1), penalty)
    left, _, right = torch.linalg.svd(WEIGHTS, full_matrices=False)
    torch.testing.assert_close(features.T @ (TARGETS - features @ WEIGHTS), penalty * left @ right)


def test_no_other_weights_are_as_good() -> None:
    penalty = 0.9 * trainable_layer.penalty_limit(WEIGHTS, TARGETS)
    features = trainable_layer.trained_points(WEIGHTS, TARGETS, normal(6, 8, seed=1), penalty)

    def value(weights: torch.Tensor) -> float:
        fit = (features @ weights - TARGETS).square().sum()
        return float(fit + 2 * penalty * torch.linalg.matrix_norm(weights, "nuc"))

    for seed in range(50):
        assert value(WEIGHTS + 10.0 ** -(seed % 4) * normal(8, 3, seed=seed)) > value(WEIGHTS)


def test_the_balanced_factors_are_those_of_least_penalty() -> None:
    one, two = 0.3, 2.0
    layer, behind = trainable_layer.balanced(WEIGHTS, one, two)
    torch.testing.assert_close(layer @ behind, WEIGHTS)
    least = one * layer.square().sum() + two * behind.square().sum()
    nuclear = 2 * math.sqrt(one * two) * torch.linalg.matrix_norm(WEIGHTS, "nuc")
    torch.testing.assert_close(least, nuclear)
    for seed in range(20):
        turn = torch.eye(3, dtype=torch.float64) + 0.2 * normal(3, 3, seed=seed)
        other = one * (layer @ turn).square().sum() + two * torch.linalg.solve(turn, behind).square().sum()
        assert other >= least


def test_a_penalty_above_the_limit_is_refused_with_the_numbers() -> None:
    limit = trainable_layer.penalty_limit(WEIGHTS, TARGETS)
    trainable_layer.trained_points(WEIGHTS, TARGETS, normal(6, 8), limit)
    with pytest.raises(NumericalError, match="penalty .* no features give these weights back"):
        trainable_layer.trained_points(WEIGHTS, TARGETS, normal(6, 8), limit * 1.001)


def test_no_features_give_weights_back_above_the_limit() -> None:
    """Whatever F is, the trained weights B have Y^T Y - 4 mu (B^T B)^1/2 positive semi-definite."""
    for seed in range(8):
        features, targets, penalty = normal(6, 5, seed=seed), normal(6, 2, seed=seed + 20), 0.3 * (seed + 1) / 8
        found = trained(features, targets, (penalty, penalty))
        values, vectors = torch.linalg.eigh(found.T @ found)
        root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        assert float(torch.linalg.eigvalsh(targets.T @ targets - 4 * penalty * root)[0]) > -1e-6


def test_targets_and_weights_of_lost_rank_are_refused() -> None:
    dependent = TARGETS.clone()
    dependent[:, 2] = dependent[:, 1]
    with pytest.raises(NumericalError, match="targets of rank 2"):
        trainable_layer.trained_points(WEIGHTS, dependent, normal(6, 8), 1e-3)
    weights = WEIGHTS.clone()
    weights[:, 2] = weights[:, 1]
    with pytest.raises(NumericalError, match="weights of rank 2"):
        trainable_layer.trained_points(weights, TARGETS, normal(6, 8), 1e-3)
