"""What methods that choose or average real examples share."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.features import identity, random_fourier
from stillhouse.methods import groups, selection
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels

STANDARDISED = whitening.Standardised()


def test_a_group_is_a_class_or_all_rows_of_a_regression_set(toy: RealSet, table: RealSet) -> None:
    assert [set(toy.train.targets[group].tolist()) for group in groups.groups(toy, 20)] == [{0}, {1}, {2}]
    [rows] = groups.groups(table, 60)
    assert torch.equal(rows, torch.arange(60))


def test_more_examples_than_a_group_has_are_refused_with_its_name(toy: RealSet, table: RealSet) -> None:
    with pytest.raises(UserError, match=r"toy: per_class 21 .* class 'ant' has \(20\)"):
        groups.groups(toy, 21)
    with pytest.raises(UserError, match=r"table: per_class 61 .* the training split has \(60\)"):
        groups.groups(table, 61)


def test_groups_take_turns() -> None:
    assert groups.in_turn([torch.tensor([1, 2]), torch.tensor([10, 20])]).tolist() == [1, 10, 2, 20]
    pairs = groups.in_turn([torch.tensor([[1, 2], [3, 4]]), torch.tensor([[5, 6], [7, 8]])])
    assert pairs.tolist() == [[1, 2], [5, 6], [3, 4], [7, 8]]


def test_rows_are_the_features_of_a_ridge_model_of_the_same_seed(toy: RealSet) -> None:
    features = random_fourier.Params(variance=4.0, count=5)
    positions = toy.positions(1)
    embedding = selection.embed(features, STANDARDISED, toy, Run(seed=3))
    model = ridge.embed(ridge.Params(features, STANDARDISED), toy, 3)
    wanted = model.features(pixels(toy.train.inputs[positions]).to(torch.float64))
    assert torch.equal(selection.rows(toy, positions, embedding, False, Run(seed=3)), wanted)


def test_targets_stand_beside_the_features_in_their_own_standard(table: RealSet, run: Run) -> None:
    embedding = selection.embed(identity.Params(), STANDARDISED, table, run)
    rows = selection.rows(table, torch.arange(60), embedding, True, run)
    assert rows.shape == (60, 5)
    torch.testing.assert_close(rows.mean(0), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(5, dtype=torch.float64))


def test_examples_are_what_is_stored(toy: RealSet, table: RealSet) -> None:
    images, rows = groups.examples(toy, torch.tensor([4, 7])), groups.examples(table, torch.tensor([4, 7]))
    assert torch.equal(images.inputs, pixels(toy.train.inputs[[4, 7]]))
    assert images.labels.tolist() == toy.train.targets[[4, 7]].tolist()
    assert torch.equal(rows.inputs, table.train.inputs[[4, 7]])
    torch.testing.assert_close(rows.values, table.train.targets[[4, 7]])
    assert (images.space, rows.space) == ({"kind": "pixels"}, {"kind": "pixels"})


@pytest.mark.parametrize("chunk", [7, 2048])
def test_averages_are_numpys_whatever_is_read_at_once(
    chunk: int, table: RealSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "CHUNK", chunk)
    positions, part = torch.arange(5, 35), torch.arange(30) % 4
    inputs, targets, counts = selection.averages(table, positions, part, 4)
    assert counts.tolist() == [8, 8, 7, 7]
    rows = table.train.inputs[positions].numpy().astype(np.float64)
    values = table.train.targets[positions].numpy()
    for each in range(4):
        np.testing.assert_allclose(inputs[each].numpy(), rows[part.numpy() == each].mean(0), rtol=1e-12)
        mean = values[part.numpy() == each].mean(0)
        np.testing.assert_allclose(table.target_space.inverse(targets[each : each + 1])[0].numpy(), mean, rtol=1e-13)


def test_rows_do_not_depend_on_what_is_read_at_once(table: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding, positions = selection.embed(identity.Params(), STANDARDISED, table, run), torch.arange(5, 35)
    whole = selection.rows(table, positions, embedding, True, run)
    monkeypatch.setattr(selection, "CHUNK", 7)
    assert torch.equal(selection.rows(table, positions, embedding, True, run), whole)


def test_least_squares_on_a_rescaled_set_is_weighted_least_squares(table: RealSet, run: Run) -> None:
    rng = torch.Generator().manual_seed(2)
    chosen, weights = torch.arange(0, 60, 3), torch.rand(20, generator=rng, dtype=torch.float64) * 5
    rows, targets = table.train.inputs[chosen], table.target_rows(table.train.targets[chosen])
    space = whitening.fit(STANDARDISED, table)
    made = selection.rescaled(table, rows, targets, weights, space)
    embedding = ridge.embed(ridge.Params(identity.Params(), STANDARDISED), table, 0)
    found = ridge.solve(ridge.set_features(made, embedding), made.target_rows(table), 0.0)
    wanted = LinearRegression(fit_intercept=False).fit(
        space.forward(rows.to(torch.float64)).numpy(), targets.numpy(), sample_weight=weights.numpy()
    )
    np.testing.assert_allclose(found.numpy(), wanted.coef_.T, rtol=1e-11)
