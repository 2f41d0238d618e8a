"""Herding against a search by hand, and the error of its mean against its rate and against chance."""

import math

import numpy as np
import pytest
import torch

from stillhouse.data import whitening
from stillhouse.features import random_fourier
from stillhouse.methods import herding
from stillhouse.methods.herding import Params, herd
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels


def cloud(rows: int, features: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mean_error(rows: torch.Tensor, chosen: torch.Tensor) -> float:
    return float((rows[chosen].mean(0) - rows.mean(0)).norm())


def test_each_next_one_is_the_best_of_all_that_are_left() -> None:
    rows = cloud(15, 3).numpy()
    chosen: list[int] = []
    for _ in range(15):
        left = [i for i in range(15) if i not in chosen]
        chosen.append(min(left, key=lambda i: np.linalg.norm(rows[[*chosen, i]].mean(0) - rows.mean(0))))
    assert herd(torch.from_numpy(rows), 15).tolist() == chosen


def test_with_repeats_the_error_of_the_mean_falls_as_one_over_m() -> None:
    """Welling (2009), Proposition 1: what is owed never leaves a ball."""
    rows = cloud(2000, 4)
    owed = (rows.mean(0) - rows[herd(rows, 400, repeats=True)]).cumsum(0).norm(dim=1)
    assert float(owed.max()) < 0.5 * float((rows - rows.mean(0)).norm(dim=1).mean())
    errors = (owed / torch.arange(1, 401)).unfold(0, 10, 10).mean(1).numpy()
    slope = np.polyfit(np.log(np.arange(5, 400, 10)), np.log(errors), 1)[0]
    assert -1.15 < slope < -0.85


@pytest.mark.parametrize("repeats", [False, True])
def test_the_error_of_the_mean_is_far_below_that_of_chance(repeats: bool) -> None:
    rows = cloud(2000, 4)
    chosen = herd(rows, 320, repeats)
    for m in (10, 40, 160, 320):
        drawn = [torch.randperm(2000, generator=torch.Generator().manual_seed(s))[:m] for s in range(20)]
        assert mean_error(rows, chosen[:m]) < 0.15 * np.mean([mean_error(rows, each) for each in drawn])


def test_all_of_them_are_each_taken_once() -> None:
    assert sorted(herd(cloud(30, 2), 30).tolist()) == list(range(30))
    assert sorted(herd(torch.ones(4, 2, dtype=torch.float64), 4).tolist()) == [0, 1, 2, 3]


def test_the_order_of_the_rows_does_not_matter() -> None:
    rows, order = cloud(40, 3), torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert order[herd(rows[order], 10)].tolist() == herd(rows, 10).tolist()


def test_every_class_follows_its_own_mean(toy: RealSet, run: Run) -> None:
    made = herding.distill(toy, 5, Params(), run)
    assert made.labels.tolist() == [0, 1, 2] * 5
    for label in range(3):
        images = pixels(toy.train.inputs[toy.positions(label)]).to(torch.float64).flatten(1)
        # One channel: standardising moves and scales all pixels alike, which changes no distance's rank.
        assert torch.equal(made.inputs[label::3].flatten(1), images[herd(images, 5)].to(torch.float32))


def test_features_are_matched_where_they_are_asked_for(table: RealSet) -> None:
    """Features of the Gaussian kernel: kernel herding. Another seed has other features."""
    params = Params(features=random_fourier.Params(variance=4.0, count=200))
    made = [herding.distill(table, 12, params, Run(seed=seed)) for seed in (0, 1)]
    plain = herding.distill(table, 12, Params(), Run(seed=0))
    assert not torch.equal(made[0].inputs, made[1].inputs)
    discrepancies = [discrepancy(table, each.inputs) for each in (made[0], plain)]
    assert discrepancies[0] < 0.7 * discrepancies[1]


def discrepancy(real: RealSet, inputs: torch.Tensor) -> float:
    """Maximum mean discrepancy of the Gaussian kernel of variance 4 between inputs and all training rows, in closed form."""
    space = whitening.fit(whitening.Standardised(), real)
    some, every = (space.forward(each.to(torch.float64)) for each in (inputs, real.train.inputs))

    def kernel(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((-torch.cdist(one, other).square() / 8).exp().mean())

    return math.sqrt(kernel(some, some) - 2 * kernel(some, every) + kernel(every, every))


def test_targets_are_matched_where_they_are_asked_for(table: RealSet, run: Run) -> None:
    made = herding.distill(table, 8, Params(targets=True), run)
    rows = whitening.fit(whitening.Standardised(), table).forward(table.train.inputs.to(torch.float64))
    chosen = herd(torch.cat([rows, table.target_rows(table.train.targets)], 1), 8)
    assert torch.equal(made.inputs, table.train.inputs[chosen])
    assert chosen.tolist() != herd(rows, 8).tolist()


def test_an_example_comes_again_only_where_it_may(table: RealSet, run: Run) -> None:
    once, again = (herding.distill(table, 40, Params(repeats=each), run) for each in (False, True))
    assert len(set(map(tuple, once.inputs.tolist()))) == 40
    assert len(set(map(tuple, again.inputs.tolist()))) < 40
