import numpy as np
import pytest
import torch

from stillhouse.data import whitening
from stillhouse.evaluation import affine
from stillhouse.sets import RealSet
from stillhouse.spaces import PixelSpace


def test_rows_begin_with_a_one_and_go_on_with_the_input_in_its_space(table: RealSet, toy: RealSet) -> None:
    rows = affine.examples(table, table.train, whitening.fit(whitening.Standardised(), table))
    values = table.train.inputs.double().numpy()
    standard = (values - values.mean(0)) / values.std(0)
    assert rows.inputs.dtype == torch.float64
    np.testing.assert_allclose(rows.inputs, np.concatenate([np.ones((60, 1)), standard], axis=1), atol=1e-12)
    images = affine.examples(toy, toy.test, PixelSpace())
    np.testing.assert_allclose(images.inputs[:, 1:], toy.test.inputs.flatten(1).numpy() / 255, atol=1e-7)
    assert torch.equal(images.targets.argmax(1), toy.test.targets)


def test_they_do_not_depend_on_how_many_are_read_at_once(table: RealSet, monkeypatch: pytest.MonkeyPatch) -> None:
    space = whitening.fit(whitening.Standardised(), table)
    whole = affine.examples(table, table.train, space)
    monkeypatch.setattr(affine, "_CHUNK", 7)
    torch.testing.assert_close(affine.examples(table, table.train, space).inputs, whole.inputs)


def test_scores_are_in_the_units_of_the_data(table: RealSet, toy: RealSet) -> None:
    values = table.test.targets
    assert affine.metric(table) == "test RMSE"
    assert affine.score(table, table.target_rows(values + 3), values) == pytest.approx(3)
    scores = torch.eye(3, dtype=torch.float64)[toy.test.targets]
    scores[:6] = -scores[:6]
    assert affine.metric(toy) == "test accuracy"
    assert affine.score(toy, scores, toy.test.targets) == pytest.approx(80)
