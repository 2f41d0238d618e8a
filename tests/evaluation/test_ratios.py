import pytest

from stillhouse.evaluation.ratios import distillation_ratio, distillation_size

# Soft-label images of MNIST and a LeNet that reaches 99 % on all of it (Sucholutsky and Schonlau 2021).
ACCURACIES = {10: 96.0, 5: 92.0, 1: 40.0}


def test_the_ratio_is_that_of_accuracies_in_percent() -> None:
    assert distillation_ratio(92.0, 99.0) == pytest.approx(92.93, abs=0.005)
    assert distillation_ratio(99.0, 99.0) == 100
    assert distillation_ratio(50.0, 40.0) == 125  # a distilled set may be better


@pytest.mark.parametrize(("percent", "wanted"), [(30, 1), (90, 5), (95, 10), (99, None)])
def test_the_size_is_the_smallest_with_that_ratio(percent: float, wanted: int | None) -> None:
    assert distillation_size(ACCURACIES, 99.0, percent) == wanted


def test_a_ratio_that_is_met_exactly_is_enough_and_larger_sets_may_be_worse() -> None:
    assert distillation_size({5: 90.0, 10: 80.0}, 100.0, 90.0) == 5
    assert distillation_size({}, 100.0, 1.0) is None
