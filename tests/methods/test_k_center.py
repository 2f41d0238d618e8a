"""The radius of greedy centres against the best that a search through all sets finds."""

import itertools

import pytest
import torch

from stillhouse.data import whitening
from stillhouse.features import random_fourier
from stillhouse.methods import k_center
from stillhouse.methods.k_center import Params, farthest
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels


def cloud(rows: int, features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radius(rows: torch.Tensor, centres: torch.Tensor) -> float:
    return float((rows[:, None] - centres[None]).norm(dim=2).amin(1).max())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_radius_is_at_most_twice_the_best(seed: int, count: int) -> None:
    rows = cloud(12, 2, seed)
    best = min(radius(rows, rows[list(each)]) for each in itertools.combinations(range(12), count))
    assert best <= radius(rows, rows[farthest(rows, count)]) <= 2 * best


def test_on_a_line_by_hand() -> None:
    """Mean 3.2: 3 comes first, then 10, then 0, then the far end of what is left."""
    rows = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0], dtype=torch.float64)[:, None]
    assert farthest(rows, 5).tolist() == [3, 4, 0, 1, 2]


def test_the_first_is_nearest_to_the_mean_and_every_next_one_farthest_from_all_before() -> None:
    rows = cloud(50, 3)
    chosen = farthest(rows, 8).tolist()
    assert chosen[0] == int((rows - rows.mean(0)).norm(dim=1).argmin())
    for k in range(1, 8):
        gaps = (rows[:, None] - rows[None, chosen[:k]]).norm(dim=2).amin(1)
        assert chosen[k] == int(gaps.argmax())


def test_each_is_chosen_once_even_where_rows_are_equal() -> None:
    assert sorted(farthest(torch.ones(4, 2, dtype=torch.float64), 4).tolist()) == [0, 1, 2, 3]


def test_rows_nearly_on_one_another_are_told_apart() -> None:
    """By differences: with products, distances of 1e-9 beside norms of 1 would be rounding."""
    rows = torch.tensor([[1.0], [1.0 + 1e-9], [1.0 + 3e-9]], dtype=torch.float64)
    assert farthest(rows, 2).tolist() == [1, 2]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows, order = cloud(40, 3), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert order[farthest(rows[order], 10)].tolist() == farthest(rows, 10).tolist()


def test_every_class_has_its_own_centres(toy: RealSet, run: Run) -> None:
    made = k_center.distill(toy, 4, Params(), run)
    assert made.labels.tolist() == [0, 1, 2] * 4
    for label in range(3):
        images = pixels(toy.train.inputs[toy.positions(label)]).flatten(1)
        rows = whitening.fit(whitening.Standardised(), toy).forward(
            pixels(toy.train.inputs[toy.positions(label)]).to(torch.float64)
        )
        assert torch.equal(made.inputs[label::3].flatten(1), images[farthest(rows.flatten(1), 4)])


def test_features_and_targets_are_compared_where_they_are_asked_for(table: RealSet) -> None:
    plain = k_center.distill(table, 6, Params(), Run(seed=0))
    beside = k_center.distill(table, 6, Params(targets=True), Run(seed=0))
    assert not torch.equal(plain.inputs, beside.inputs)
    rows = torch.cat([_standardised(table, table.train.inputs), table.target_rows(table.train.targets)], 1)
    chosen = torch.cat([_standardised(table, beside.inputs), beside.targets], 1)
    [places] = [[int((rows - each).norm(dim=1).argmin()) for each in chosen]]
    assert places == farthest(rows, 6).tolist()
    mapped = k_center.distill(table, 6, Params(features=random_fourier.Params(variance=1.0, count=50)), Run(seed=0))
    assert not torch.equal(plain.inputs, mapped.inputs)


def _standardised(real: RealSet, inputs: torch.Tensor) -> torch.Tensor:
    return whitening.fit(whitening.Standardised(), real).forward(inputs.to(torch.float64))
