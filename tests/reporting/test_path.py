import pandas as pd

from stillhouse.reporting import path

ROW = {
    "dataset": "digits", "seed": 0, "recipe": "r", "ridge": 0.1, "features": 64, "exact_examples": 10, "path_examples": 61,
    "teacher_accuracy": 90.0, "exact_accuracy": 90.0, "exact_weight_error": 1e-15, "path_weight_error": 1e-9,
    "path_range_error": 1e-14,
}  # fmt: skip


def test_accuracies_are_means_and_errors_the_worst_over_seeds() -> None:
    second = {"seed": 1, "teacher_accuracy": 92.0, "exact_accuracy": 91.0, "exact_weight_error": 3e-15}
    found = path.gathered(pd.DataFrame([ROW, ROW | second]))
    (line,) = path.table(found).lines
    assert [entry.text for entry in line.entries] == [
        "0.1",
        "91.00",
        "10",
        "90.50",
        "3.0e-15",
        "61",
        "1.0e-09",
        "1.0e-14",
    ]
    assert line.entries[3].recipe == "r"


def test_findings_tell_the_largest_distances() -> None:
    found = path.gathered(pd.DataFrame([ROW, ROW | {"ridge": 1.0, "exact_accuracy": 89.5, "path_range_error": 2e-13}]))
    exact, whole = path.findings(found)
    assert "Over 2 ridges" in exact
    assert "at most 1.0e-15 in its weights and 0.50 points" in exact
    assert "to 2.0e-13" in whole
