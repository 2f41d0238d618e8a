"""How sets made for one model do with others, from hand-made accuracies."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from stillhouse.reporting import transfer
from stillhouse.reporting.study import Layout

METHODS = {"whole": "whole", "random": "random_images", "exact": "krr_exact", "other": "krr_exact"}


def rows(*cells: tuple[str, str, int | None, float], dataset: str = "mnist") -> pd.DataFrame:
    """Of (experiment, model, images per class, mean accuracy)."""
    made: list[dict[str, Any]] = [
        {"dataset": dataset, "experiment": experiment, "method": METHODS[experiment], "per_class": size,
         "protocol": f"by_{model}", "model": model, "metric": "test accuracy", "mean": mean}
        for experiment, model, size, mean in cells
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"per_class": "Int64"})


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {"exact": "exact, for Linear", "other": "exact, for RFF", "linear": "Linear", "rff": "RFF"}
    return replace(layout, labels=labels)


CELLS = (
    ("whole", "linear", None, 86.0), ("whole", "rff", None, 93.0),
    ("random", "linear", 1, 40.0), ("random", "linear", 10, 60.0), ("random", "rff", 1, 50.0), ("random", "rff", 10, 70.0),
    ("exact", "linear", 1, 86.0), ("exact", "linear", 10, 86.0), ("exact", "rff", 1, 20.0), ("exact", "rff", 10, 75.0),
    ("other", "linear", 1, 10.5), ("other", "linear", 10, 60.0), ("other", "rff", 1, 93.0), ("other", "rff", 10, 93.0),
)  # fmt: skip


def test_a_gain_is_over_random_images_of_the_same_number_judged_alike() -> None:
    found = transfer.gains(rows(*CELLS)).set_index(["experiment", "model", "per_class"])["gain"]
    assert found.to_dict() == {
        ("exact", "linear", 1): 46.0, ("exact", "linear", 10): 26.0, ("exact", "rff", 1): -30.0, ("exact", "rff", 10): 5.0,
        ("other", "linear", 1): -29.5, ("other", "linear", 10): 0.0, ("other", "rff", 1): 43.0, ("other", "rff", 10): 23.0,
    }  # fmt: skip


def test_random_images_and_the_whole_set_gain_nothing_and_other_metrics_do_not_count() -> None:
    tidy = rows(*CELLS)
    errors = tidy[tidy["experiment"] == "exact"].assign(metric="weight error", mean=1e-12)
    assert len(transfer.gains(pd.concat([tidy, errors]))) == 8


def test_data_sets_are_not_mixed() -> None:
    other = rows(("random", "linear", 1, 0.0), ("exact", "linear", 1, 1.0), dataset="digits")
    found = transfer.gains(pd.concat([rows(*CELLS), other]))
    assert found[found["dataset"] == "digits"]["gain"].tolist() == [1.0]


def test_findings_tell_per_model_how_many_gain_and_the_best_and_the_worst(named: Layout) -> None:
    assert transfer.findings(named, rows(*CELLS)) == [
        "Linear: 2 of 4 distilled sets beat as many random real images. Best +46.0 points (exact, for Linear, mnist, 1 per "
        "class); worst −29.5 points (exact, for RFF, mnist, 1 per class).",
        "RFF: 3 of 4 distilled sets beat as many random real images. Best +43.0 points (exact, for RFF, mnist, 1 per class); "
        "worst −30.0 points (exact, for Linear, mnist, 1 per class).",
    ]


def test_two_protocols_of_one_model_are_each_compared_with_their_own(named: Layout) -> None:
    alone = rows(("random", "linear", 1, 40.0), ("exact", "linear", 1, 86.0))
    longer = alone.assign(protocol="longer", mean=alone["mean"] + pd.Series([10.0, 1.0]))
    both = pd.concat([alone, longer], ignore_index=True)
    assert transfer.gains(both)["gain"].tolist() == [46.0, 37.0]
    assert transfer.findings(named, both)[0].startswith("Linear: 2 of 2 ")
