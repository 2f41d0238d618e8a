"""Definitions 2 and 3 of KIP, by hand."""

import pytest
import torch

from stillhouse.evaluation import approximation

LABELS = torch.tensor([0, 1, 0, 1])
WANTED = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])  # right, right, wrong, wrong
FOUND = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])  # right, wrong, right, wrong


def test_equal_accuracy_is_a_weak_approximation_and_no_strong_one() -> None:
    found = approximation.compare(FOUND, WANTED, LABELS)
    assert found["weak epsilon (error)"] == 0
    assert found["strong epsilon (error)"] == 50


def test_squares_by_hand() -> None:
    found = approximation.compare(FOUND, WANTED, LABELS)
    assert found["weak epsilon (square)"] == 0  # two examples at squared distance 2 from their target, for both
    assert found["strong epsilon (square)"] == pytest.approx(0.5)  # half of 2 at two of four examples
    half = approximation.compare(WANTED / 2, WANTED, LABELS)
    assert half["strong epsilon (square)"] == pytest.approx(0.125)
    # Right: half of 1/4; wrong: half of (1 + 1/4); beside 0 and 1.
    assert half["weak epsilon (square)"] == pytest.approx(abs((0.125 + 0.625) / 2 - 0.5))


def test_a_model_approximates_itself() -> None:
    scores = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    found = approximation.compare(scores, scores, torch.arange(20) % 3)
    assert set(found.values()) == {0.0}


def test_weak_is_at_most_strong_for_the_zero_one_loss() -> None:
    rng = torch.Generator().manual_seed(1)
    for _ in range(20):
        one, other = torch.randn(2, 30, 4, generator=rng)
        found = approximation.compare(one, other, torch.arange(30) % 4)
        assert found["weak epsilon (error)"] <= found["strong epsilon (error)"]
