"""Scores against numpy's hat matrix; the sketch is unbiased; what is drawn and what is not."""

import dataclasses

import numpy as np
import pytest
import torch

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.methods import leverage_scores, selection
from stillhouse.methods.leverage_scores import Params
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split

SPACE = whitening.Standardised()
CPU = torch.device("cpu")


def standardised(real: RealSet) -> torch.Tensor:
    rows = real.train.inputs.to(torch.float64).flatten(1)
    return (rows - rows.mean(0)) / rows.std(0, correction=0)


def repeated(real: RealSet) -> RealSet:
    """With the first feature twice, and moved: rank lost."""
    again = real.train.inputs[:, :1] * 2 + 1
    return dataclasses.replace(real, train=Split(torch.cat([real.train.inputs, again], 1), real.train.targets))


@pytest.mark.parametrize("intercept", [False, True])
def test_scores_are_the_diagonal_of_the_hat_matrix(table: RealSet, intercept: bool) -> None:
    rows = standardised(table).numpy()
    if intercept:
        rows = np.column_stack([rows, np.ones(len(rows))])
    orthogonal, _ = np.linalg.qr(rows)
    found = leverage_scores.scores(table, SPACE, intercept, CPU)
    np.testing.assert_allclose(found.numpy(), np.square(orthogonal).sum(1), atol=1e-13)


def test_a_column_of_ones_gives_every_row_of_centred_ones_1_over_n_more(table: RealSet) -> None:
    without, beside = (leverage_scores.scores(table, SPACE, ones, CPU) for ones in (False, True))
    torch.testing.assert_close(beside - without, torch.full((60,), 1 / 60, dtype=torch.float64), atol=1e-13, rtol=0)


def test_scores_add_up_to_the_rank_and_a_repeated_feature_changes_none(table: RealSet) -> None:
    found = leverage_scores.scores(table, SPACE, False, CPU)
    assert float(found.sum()) == pytest.approx(4, abs=1e-12)
    torch.testing.assert_close(leverage_scores.scores(repeated(table), SPACE, False, CPU), found, atol=1e-6, rtol=0)


def test_scores_do_not_depend_on_what_is_read_at_once_or_on_the_order(
    table: RealSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = leverage_scores.scores(table, SPACE, False, CPU)
    monkeypatch.setattr(selection, "CHUNK", 7)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    moved = dataclasses.replace(table, train=Split(table.train.inputs[order], table.train.targets[order]))
    torch.testing.assert_close(leverage_scores.scores(moved, SPACE, False, CPU), whole[order], atol=1e-13, rtol=0)


def test_scores_do_not_depend_on_the_units_of_the_features(table: RealSet) -> None:
    """Nor on any invertible map of them: the hat matrix is that of their span."""
    mixed = standardised(table) @ torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    real = dataclasses.replace(table, train=Split(mixed.to(torch.float32), table.train.targets))
    found = leverage_scores.scores(real, SPACE, False, CPU)
    torch.testing.assert_close(found, leverage_scores.scores(table, SPACE, False, CPU), atol=1e-5, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 0.1])
def test_the_gram_matrix_of_the_sketch_is_unbiased(table: RealSet, uniform: float) -> None:
    """Over 1000 seeds its mean is that of all rows, up to five standard errors."""
    params = Params(weighted=True, uniform=uniform)
    rows = torch.cat([standardised(table), table.target_rows(table.train.targets)], 1)
    grams = []
    for seed in range(1000):
        made = leverage_scores.distill(table, 8, params, Run(seed=seed))
        sketch = torch.cat([made.inputs, made.targets], 1)
        grams.append(sketch.T @ sketch)
    found = torch.stack(grams)
    error = (found.mean(0) - rows.T @ rows).abs() / (found.std(0) / len(grams) ** 0.5)
    assert bool((error < 5).all())
    # An unweighted sample has another mean: the test can tell.
    plain = torch.stack(
        [_gram(leverage_scores.distill(table, 8, Params(), Run(seed=s)).inputs, table) for s in range(200)]
    )
    biased = (plain.mean(0) * 60 / 8 - rows[:, :4].T @ rows[:, :4]).abs() / (plain.std(0) * 60 / 8 / 200**0.5)
    assert bool((biased.diagonal() > 5).any())


def _gram(inputs: torch.Tensor, real: RealSet) -> torch.Tensor:
    rows = whitening.fit(SPACE, real).forward(inputs.to(torch.float64))
    return rows.T @ rows


def test_rows_are_drawn_as_often_as_their_probability_says() -> None:
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0], dtype=torch.float64)
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = leverage_scores.draw(probabilities, uniforms).bincount(minlength=6) / 20_000
    assert found[[0, 2, 5]].tolist() == [0, 0, 0]
    torch.testing.assert_close(found, probabilities.to(torch.float32), atol=0.015, rtol=0)  # four deviations


def test_the_ends_of_the_unit_interval_draw_rows_that_have_a_probability() -> None:
    probabilities = torch.tensor([0.0, 0.1, 0.2, 0.0], dtype=torch.float64)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    assert leverage_scores.draw(probabilities, ends).tolist() == [1, 2]


def test_all_shared_alike_is_drawing_at_random(table: RealSet) -> None:
    made = leverage_scores.distill(table, 30, Params(uniform=1.0, weighted=True), Run(seed=0))
    norms = made.inputs.norm(dim=1) / (60 / 30) ** 0.5
    every = standardised(table).norm(dim=1)
    assert bool((norms[:, None] - every).abs().amin(1).lt(1e-5).all())


def test_the_largest_scores_are_taken_and_nothing_is_drawn(table: RealSet) -> None:
    one, two = (leverage_scores.distill(table, 5, Params(choice="largest"), Run(seed=seed)) for seed in (0, 1))
    best = leverage_scores.scores(table, SPACE, False, CPU).topk(5).indices
    assert torch.equal(one.inputs, table.train.inputs[best])
    assert torch.equal(one.inputs, two.inputs)


@pytest.mark.parametrize("params", [Params(), Params(weighted=True), Params(choice="largest")])
def test_every_class_has_as_many_rows_and_they_are_its_own(toy: RealSet, run: Run, params: Params) -> None:
    made = leverage_scores.distill(toy, 4, params, run)
    assert made.labels.tolist() == [0, 1, 2] * 4
    assert bool((made.targets > 0).sum(1).eq(1).all())


def test_a_larger_set_begins_with_the_smaller_one_of_the_same_seed(toy: RealSet, table: RealSet, run: Run) -> None:
    for real, size in ((toy, 9), (table, 3)):
        small, large = (leverage_scores.distill(real, count, Params(), run) for count in (3, 7))
        assert torch.equal(large.inputs[:size], small.inputs)


def test_weights_ask_for_draws() -> None:
    with pytest.raises(UserError, match="choice 'largest' draws nothing"):
        settings.parse(Params, {"choice": "largest", "weighted": True}, "experiments.top")
