"""Centres against scikit-learn's, their labels and values, weights by cluster size, and clusters that are empty."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from stillhouse.methods import k_means
from stillhouse.methods.k_means import Params
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels


def standardised(real: RealSet, inputs: torch.Tensor) -> np.ndarray:
    rows = real.train.inputs.to(torch.float64).flatten(1)
    return ((inputs.to(torch.float64).flatten(1) - rows.mean(0)) / rows.std(0, correction=0)).numpy()


def inertia(rows: np.ndarray, centres: np.ndarray) -> float:
    return float(np.square(rows[:, None] - centres[None]).sum(2).min(1).sum())


def test_the_centres_are_as_good_as_scikit_learns(table: RealSet, run: Run) -> None:
    made = k_means.distill(table, 4, Params(starts=100), run)
    rows = standardised(table, table.train.inputs)
    best = KMeans(4, n_init=100, random_state=5).fit(rows).inertia_
    assert inertia(rows, standardised(table, made.inputs)) < 1.01 * best
    assert inertia(rows, rows[:4]) > 1.2 * best


def test_mini_batches_come_near(table: RealSet, run: Run) -> None:
    rows = standardised(table, table.train.inputs)
    lloyd, batches = (k_means.distill(table, 4, Params(starts=10, lloyd_up_to=n), run) for n in (60, 59))
    assert not torch.equal(lloyd.inputs, batches.inputs)
    assert inertia(rows, standardised(table, batches.inputs)) < 1.1 * inertia(rows, standardised(table, lloyd.inputs))


def test_a_centre_is_the_mean_of_the_rows_nearest_to_it_and_its_value_their_mean_value(
    table: RealSet, run: Run
) -> None:
    made = k_means.distill(table, 5, Params(), run)
    rows = standardised(table, table.train.inputs)
    nearest = np.square(rows[:, None] - standardised(table, made.inputs)[None]).sum(2).argmin(1)
    for each in range(5):
        of = torch.from_numpy(nearest == each)
        torch.testing.assert_close(made.inputs[each], table.train.inputs[of].mean(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(made.values[each], table.train.targets[of].mean(0))


def test_values_decide_clusters_only_when_they_are_asked_to(table: RealSet, run: Run) -> None:
    """A value that says nothing of the inputs falls apart into its two sizes when it counts, and averages out when not."""
    values = torch.tensor([0.0, 1000.0], dtype=torch.float64).repeat(30)[:, None]
    near = Split(table.train.inputs[:1] + 1e-3 * table.train.inputs, values)
    real = dataclasses.replace(table, train=near)
    apart = k_means.distill(real, 2, Params(targets=True), run)
    assert sorted(round(float(value)) for value in apart.values) == [0, 1000]
    mixed = k_means.distill(real, 2, Params(), run)
    assert bool(((mixed.values > 200) & (mixed.values < 800)).all())


def test_one_centre_is_the_mean_of_all(table: RealSet, toy: RealSet, run: Run) -> None:
    made = k_means.distill(table, 1, Params(weighted=True), run)
    torch.testing.assert_close(made.inputs, torch.zeros(1, 4, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(made.values, table.train.targets.mean(0, keepdim=True))
    images = k_means.distill(toy, 1, Params(), run)
    for label in range(3):
        mean = pixels(toy.train.inputs[toy.positions(label)]).mean(0)
        torch.testing.assert_close(images.inputs[label], mean)


def test_every_class_has_its_own_centres_with_its_label(toy: RealSet, run: Run) -> None:
    made = k_means.distill(toy, 3, Params(), run)
    assert torch.equal(made.targets, torch.eye(3).repeat(3, 1))
    means = torch.stack([pixels(toy.train.inputs[toy.positions(label)]).mean(0) for label in range(3)])
    near = (made.inputs[:, None] - means[None]).flatten(2).norm(dim=2).argmin(1)
    assert near.tolist() == [0, 1, 2] * 3


def counted(plain: DistilledSet, weighted: DistilledSet, real: RealSet) -> torch.Tensor:
    """(m,) cluster sizes over the mean size, as the targets show them."""
    return (weighted.targets / plain.targets).mean(1).square() * len(real.train) / len(plain)


def test_weights_are_the_sizes_of_the_clusters(table: RealSet, run: Run) -> None:
    plain, weighted = (k_means.distill(table, 4, Params(weighted=each), run) for each in (False, True))
    sizes = counted(plain, weighted, table)
    rows = standardised(table, table.train.inputs)
    nearest = np.square(rows[:, None] - standardised(table, plain.inputs)[None]).sum(2).argmin(1)
    np.testing.assert_allclose(sizes.numpy(), np.bincount(nearest, minlength=4), rtol=1e-9)
    moved = torch.from_numpy(standardised(table, plain.inputs)) * (sizes * 4 / 60).sqrt()[:, None]
    torch.testing.assert_close(weighted.inputs, moved, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("lloyd_up_to", [0, 1000])
def test_fewer_distinct_rows_than_centres_leave_no_cluster_empty(table: RealSet, run: Run, lloyd_up_to: int) -> None:
    rows, values = table.train.inputs[:3].repeat(4, 1), torch.arange(12, dtype=torch.float64)[:, None]
    real = dataclasses.replace(table, train=Split(rows, values))
    made = k_means.distill(real, 6, Params(lloyd_up_to=lloyd_up_to), run)
    assert len(set(map(tuple, made.inputs.tolist()))) == 3
    assert bool(made.targets.isfinite().all())


def test_the_order_of_the_rows_does_not_move_the_best_centres(table: RealSet, run: Run) -> None:
    shift = torch.tensor([[9.0, 0, 0, 0], [0, 90, 0, 0], [0, 0, 0.9, 0]]).repeat(20, 1)
    apart = dataclasses.replace(table, train=Split(table.train.inputs + shift, table.train.targets))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    moved = dataclasses.replace(apart, train=Split(apart.train.inputs[order], apart.train.targets[order]))
    one, two = (k_means.distill(real, 3, Params(starts=20), run) for real in (apart, moved))
    by_value = [made.inputs[made.values[:, 0].argsort()] for made in (one, two)]
    torch.testing.assert_close(by_value[0], by_value[1])
