import math

import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from stillhouse import linalg, spaces
from stillhouse.evaluation import attacks
from stillhouse.sets import RealSet, pixels
from stillhouse.theory import points, privacy


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_digits(digits: RealSet, count: int, size: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rows = privacy.clipped(pixels(digits.train.inputs[:count]).flatten(1), size)
    return rows, spaces.one_hot(digits.train.targets[:count], 10)


def ridge_weights(rows: torch.Tensor, targets: torch.Tensor, ridge: float) -> torch.Tensor:
    eye = torch.eye(rows.shape[1], dtype=torch.float64)
    return torch.linalg.solve(rows.T @ rows + ridge * eye, rows.T @ targets)


# --- Membership


def test_each_example_is_in_half_of_the_shadow_sets() -> None:
    members = attacks.memberships(12, 50, generator())
    assert members.shape == (12, 50)
    assert bool((members.sum(0) == 6).all())
    assert 0.35 < float(members[::2].double().mean()) < 0.65


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    statistic, members = normal(40, 5).round(decimals=1), normal(40, 5, seed=1) > 0  # rounded: with ties
    found = attacks.roc(statistic + members, members)
    assert found.auc == pytest.approx(roc_auc_score(members.flatten(), (statistic + members).flatten()))


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1])
def test_the_true_positive_rate_is_that_of_the_best_threshold_that_is_allowed(rate: float) -> None:
    inside, outside = normal(300) + 1, normal(300, seed=1)
    statistic = torch.cat([inside, outside])
    members = torch.arange(600) < 300
    best = max(
        float((inside > threshold).double().mean())
        for threshold in [*statistic.tolist(), -math.inf]
        if float((outside > threshold).double().mean()) <= rate
    )
    assert attacks.roc(statistic, members, rate).tpr == pytest.approx(best)


def test_the_likelihood_ratio_is_that_of_two_fitted_gaussians() -> None:
    shadow, members, attacked = normal(20, 3), normal(20, 3, seed=1) > 0, normal(4, 3, seed=2)
    found = attacks.likelihood_ratios(shadow, members, attacked)
    for target in range(3):
        ins, outs = (shadow[kept, target].numpy() for kept in (members[:, target], ~members[:, target]))
        expected = norm.logpdf(attacked[:, target], ins.mean(), ins.std(ddof=1))
        expected -= norm.logpdf(attacked[:, target], outs.mean(), outs.std(ddof=1))
        torch.testing.assert_close(found[:, target], torch.as_tensor(expected))


def attack(digits: RealSet, noise: float) -> attacks.Roc:
    rows, targets = of_digits(digits, 200)
    members, draw = attacks.memberships(48, 200, generator()), generator(1)

    def release(gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(64, 74, generator=draw, dtype=torch.float64)
        return privacy.private_weights(gram, cross, 0.01, 1.0, noise, drawn)

    scores = torch.zeros(48, 200, dtype=torch.float64)
    for index, _, weights in attacks.trainings(rows, targets, members, {"": release}):
        scores[index] = attacks.own_scores(weights, rows, targets)
    return attacks.roc(attacks.likelihood_ratios(scores[:32], members[:32], scores[32:]), members[32:])


def test_members_are_found_in_weights_without_noise_and_not_under_much_of_it(digits: RealSet) -> None:
    found = attack(digits, 0.0)
    assert found.auc > 0.75
    assert found.tpr > 0.1
    assert abs(attack(digits, 5.0).auc - 0.5) < 0.05


def test_every_release_is_of_the_same_training_set() -> None:
    rows, targets = normal(30, 4), spaces.one_hot(torch.arange(30) % 3, 3)
    members = attacks.memberships(3, 30, generator())
    releases = {name: lambda gram, cross: torch.linalg.solve(gram, cross) for name in ("one", "other")}
    found = list(attacks.trainings(rows, targets, members, releases))
    assert [(index, name) for index, name, _ in found] == [(i, name) for i in range(3) for name in releases]
    for index, _, weights in found:
        torch.testing.assert_close(weights, ridge_weights(rows[members[index]], targets[members[index]], 0.0))


# --- One row


def distance(one: torch.Tensor, other: torch.Tensor, set_targets: torch.Tensor) -> float:
    """Largest distance of the columns of W Y_S^+ and W' Y_S^+, each over its noise."""
    inverse = torch.linalg.pinv(set_targets)
    factors = (torch.eye(len(set_targets), dtype=torch.float64) - set_targets @ inverse).norm(dim=0)
    return float((((one - other) @ inverse).norm(dim=0) / factors).max())


def test_the_worst_adjacent_records_are_those_that_refitting_finds() -> None:
    rows, targets = privacy.clipped(normal(25, 4), 1.0), spaces.one_hot(torch.arange(25) % 3, 3)
    set_targets = normal(7, 3, seed=3)
    weights, gram = ridge_weights(rows, targets, 0.2), rows.T @ rows + 0.2 * torch.eye(4, dtype=torch.float64)
    kept = [torch.arange(25) != index for index in range(25)]
    refitted = [distance(weights, ridge_weights(rows[each], targets[each], 0.2), set_targets) for each in kept]
    removed = attacks.worst_removal(gram, weights, rows, targets, set_targets)
    torch.testing.assert_close(removed, torch.tensor(refitted, dtype=torch.float64))
    refitted = []
    for other in range(25):
        changed, labels = rows.clone(), targets.clone()
        changed[5], labels[5] = rows[other], targets[other]
        refitted.append(distance(weights, ridge_weights(changed, labels, 0.2), set_targets))
    replaced = attacks.worst_replacement(gram, weights, (rows[5], targets[5]), rows, targets, set_targets)
    torch.testing.assert_close(replaced, torch.tensor(refitted, dtype=torch.float64), atol=1e-7, rtol=1e-9)


# --- Reconstruction


def missing(rows: torch.Tensor, targets: torch.Tensor, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The sums that the informed adversary knows."""
    kept = torch.arange(len(rows)) != index
    return rows[kept].T @ rows[kept], rows[kept].T @ targets[kept]


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("size", [1.0, 1000.0])  # 1000: nothing is clipped, and the length is not known
def test_the_missing_record_is_read_off_exact_weights(digits: RealSet, index: int, size: float) -> None:
    rows, targets = of_digits(digits, 500, size)
    weights = ridge_weights(rows, targets, 0.5)
    found = attacks.reconstruct(*missing(rows, targets, index), 0.5, weights, size)
    assert linalg.relative_error(found.features, rows[index]) < 1e-6
    assert found.label == int(digits.train.targets[index])


def test_the_missing_record_is_not_found_under_noise_on_the_statistics(digits: RealSet) -> None:
    rows, targets = of_digits(digits, 500)
    scale = privacy.statistics_noise(1.0, 1e-5, "remove")
    weights = privacy.private_weights(rows.T @ rows, rows.T @ targets, 0.5, 1.0, scale, normal(64, 74))
    ridge = 0.5 + privacy.noise_ridge(64, 1.0, scale)
    for index in range(5):
        found = attacks.reconstruct(*missing(rows, targets, index), ridge, weights, 1.0)
        assert linalg.relative_error(found.features, rows[index]) > 0.5


def test_what_is_recovered_is_what_least_squares_learns() -> None:
    weights, set_targets = normal(6, 3), torch.eye(3, dtype=torch.float64).repeat(3, 1)
    features = torch.linalg.pinv(points.admissible(weights, set_targets, normal(6, 9, seed=1)))
    torch.testing.assert_close(attacks.recovered(features, set_targets), weights)
