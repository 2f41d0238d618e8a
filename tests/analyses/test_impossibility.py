"""Fewer points than exact distillation needs: the rows against what must hold between them and against scikit-learn."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from stillhouse import linalg, settings
from stillhouse.analyses import impossibility
from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split

SMALL = {
    "kind": "impossibility", "examples": 7, "subsets": 5, "restarts": 1, "steps": 8, "sizes": [8, 16], "dimensions": [2, 9],
    "epsilons": [0.3, 0.1],
    "logistic": {"examples": [4, 6], "dimensions": [2], "points": 2, "restarts": 1, "steps": 8,
                 "penalties": {"first": -2, "last": 0, "step": 1}},
}  # fmt: skip


def params(**changed: Any) -> impossibility.Params:
    parsed: impossibility.Params = settings.parse_plugin("analyses", {**SMALL, **changed}, "analyses.test")
    return parsed


@pytest.fixture(scope="module")
def table() -> RealSet:
    """A curved function of three features, with noise; 40 rows to train on, of which the last repeats the first's inputs."""
    rng = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        rows = torch.randn(count, 3, generator=rng) * torch.tensor([1.0, 10.0, 0.1]) + 5
        targets = rows[:, 0].sin() * 3 + rows[:, 1] / 10 + 0.3 * torch.randn(count, generator=rng)
        return Split(rows, targets[:, None].to(torch.float64))

    train = split(40)
    train.inputs[-1] = train.inputs[0]
    return identity.identified("table", train, split(10), (), outputs=("height",))


@pytest.fixture(scope="module")
def pool(table: RealSet) -> impossibility.Pool:
    return impossibility.examples(table, params(), Run(seed=0))


@pytest.fixture(scope="module")
def gaussian(pool: impossibility.Pool) -> list[dict[str, Any]]:
    return list(impossibility.gaussian(pool, params(), Run(seed=0)))


@pytest.fixture(scope="module")
def epsilon(pool: impossibility.Pool) -> list[dict[str, Any]]:
    return list(impossibility.epsilon(pool, params(), Run(seed=0)))


@pytest.fixture(scope="module")
def logistic(pool: impossibility.Pool) -> list[dict[str, Any]]:
    return list(impossibility.logistic(pool, params().logistic, Run(seed=0)))


def of(rows: list[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    return [row for row in rows if wanted.items() <= row.items()]


def test_every_part_has_rows_of_single_values(table: RealSet) -> None:
    less = {"examples": 3, "sizes": [3], "dimensions": [1], "epsilons": [0.5], "steps": 2}
    rows = list(impossibility.analyse(table, params(**less), Run(seed=0)))
    assert list(dict.fromkeys(row["part"] for row in rows)) == ["gaussian", "contrast", "epsilon", "path", "union"]
    assert all(isinstance(value, int | float | str | None) for row in rows for value in row.values())


def test_floors_lie_between_what_is_proven_and_subsets(gaussian: list[dict[str, Any]]) -> None:
    assert [row["m"] for row in gaussian] == list(range(1, 8))
    for row in gaussian[:-1]:
        assert 0 < row["bound"] <= row["found"] <= row["greedy"] * (1 + 1e-9)
        assert row["found"] <= row["subset"] * (1 + 1e-9)
        assert row["found_scikit"] == pytest.approx(row["found"], abs=1e-6)
        assert row["resolution"] < 1e-4
    assert [row["found"] for row in gaussian] == sorted((row["found"] for row in gaussian), reverse=True)
    assert gaussian[-1]["found"] <= gaussian[-1]["resolution"]
    assert gaussian[-1]["bound"] == 0
    assert gaussian[-1]["test"] < 1e-8 < gaussian[0]["test"]
    assert 0 < gaussian[0]["smallest_coefficient"] < 1


def test_finitely_many_features_need_no_more_points_than_that(pool: impossibility.Pool) -> None:
    linear, quadratic = impossibility.contrast(pool, params())
    assert (linear["m"], quadratic["m"]) == (1, 4)
    for row in (linear, quadratic):
        assert isinstance(row["found_scikit"], float)
        assert row["found_scikit"] < 1e-9
    assert isinstance(quadratic["bound"], float)
    assert 0 < quadratic["bound"] < 1


def test_sets_within_epsilon_are_no_smaller_than_proven_and_no_larger_than_greedy_ones(
    epsilon: list[dict[str, Any]],
) -> None:
    assert [(row["d"], row["loss"], row["n"], row["epsilon"]) for row in epsilon] == [
        (dim, loss, size, value)
        for dim in (2, 3)
        for loss, size in (("mean", 8), ("mean", 16), ("sum", 16))
        for value in (0.3, 0.1)
    ]
    for row in epsilon:
        assert 1 <= row["m_bound"] <= row["m_found"] <= row["m_greedy"] <= row["n"]
        assert row["found"] <= row["epsilon"]
        assert row["found_scikit"] == pytest.approx(row["found"], abs=1e-6)
        assert 0 < row["effective_dimension"] < row["n"]
    (mean,), (fixed,) = (of(epsilon, d=2, loss=loss, n=16, epsilon=0.1) for loss in ("mean", "sum"))
    assert mean["ridge"] / fixed["ridge"] == pytest.approx(16 / 8)


def test_paths_are_told_alike_by_both_solvers_and_are_exact_with_all_examples(logistic: list[dict[str, Any]]) -> None:
    found = of(logistic, part="path")
    assert [(row["n"], row["weights"], row["m"]) for row in found] == [
        (size, weights, count) for size, weights in ((4, "free"), (4, "equal"), (6, "free")) for count in (1, 2, size)
    ]
    for row in found:
        assert row["path_scikit"] == pytest.approx(row["path"], rel=1e-6, abs=1e-9)
        assert (row["path"] < 1e-10) == (row["m"] == row["n"])
        assert row["path"] <= row["subset"] + 1e-12


def test_one_point_is_exact_alone_and_not_in_a_union_where_all_examples_are(logistic: list[dict[str, Any]]) -> None:
    found = of(logistic, part="union")
    for row in found:
        assert row["union_scikit"] == pytest.approx(row["union"], rel=1e-5, abs=1e-9)
    points = of(found, set="one point")
    assert sorted({row["penalty"] for row in points}) == pytest.approx([1e-2, 1e-1, 1.0])
    assert max(row["alone"] for row in points) < 1e-10 < min(row["union"] for row in points)
    assert max(row["union"] for row in found if row["m"] == row["n"]) < 1e-10
    assert {row["others"] for row in found} == {"same labels", "opposite labels"}


def test_the_same_seed_gives_the_same_rows(
    table: RealSet, pool: impossibility.Pool, gaussian: list[dict[str, Any]]
) -> None:
    assert list(impossibility.gaussian(pool, params(), Run(seed=0))) == gaussian
    assert torch.equal(impossibility.examples(table, params(), Run(seed=0)).rows, pool.rows)
    assert not torch.equal(impossibility.examples(table, params(), Run(seed=1)).rows, pool.rows)


def test_examples_are_standardised_and_no_input_comes_twice(table: RealSet) -> None:
    pool = impossibility.examples(table, params(sizes=[100]), Run(seed=0))
    assert pool.rows.shape == (39, 3)
    assert linalg.rank(torch.cdist(pool.rows, pool.rows) + torch.eye(39, dtype=torch.float64)) == 39
    whole = table.train.inputs.double()
    wanted = (whole - whole.mean(0)) / whole.std(0, correction=0)
    assert float(torch.cdist(pool.rows, wanted).amin(1).max()) < 1e-6


def test_directions_are_those_of_partial_least_squares(table: RealSet) -> None:
    pool = impossibility.examples(table, params(sizes=[100]), Run(seed=0))
    centred = impossibility.Pool(pool.rows - pool.rows.mean(0), pool.targets - pool.targets.mean(), pool.test)
    found = centred.along(2)
    model = PLSRegression(n_components=2, scale=False).fit(centred.rows.numpy(), centred.targets.numpy())
    theirs = centred.rows.numpy() @ model.x_rotations_
    both = np.concatenate([found.rows.numpy(), theirs], 1)
    values = np.linalg.svd(both / np.linalg.norm(both, axis=0), compute_uv=False)
    assert values[2] < 1e-10 < values[1]  # four columns that span two directions
    assert centred.along(3) is centred


def test_the_kernel_ridge_teacher_is_a_gaussian_process_mean(pool: impossibility.Pool) -> None:
    pool = pool.first(12)
    chosen = impossibility.Gaussian.of(pool.rows, 1.0)
    target = chosen.teacher(pool, 0.1)
    distances = torch.cdist(pool.rows, pool.rows)[tuple(torch.triu_indices(12, 12, 1))]
    length = float(distances.median())
    model = GaussianProcessRegressor(RBF(length), alpha=0.1, optimizer=None).fit(
        pool.rows.numpy(), pool.targets.numpy()
    )
    np.testing.assert_allclose(target.sum.at(pool.test).numpy(), model.predict(pool.test.numpy()), rtol=1e-8)


def test_classes_are_refused(digits: RealSet) -> None:
    with pytest.raises(UserError, match=r"digits: targets are classes, .* Choose a regression set\."):
        next(iter(impossibility.analyse(digits, params(), Run())))
