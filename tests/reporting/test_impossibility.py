"""Tables, sentences and figures of what fewer points reach, from numbers that are easy to reckon with."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from stillhouse.reporting import figures, impossibility, impossibility_figures, tables

SHARED = {"dataset": "concrete", "analysis": "impossibility", "seed": 0, "recipe": "r"}


def floor(count: int, found: float, bound: float) -> dict[str, Any]:
    return {
        "part": "gaussian", "n": 4, "d": 3, "m": count, "subset": 8 * found, "greedy": 4 * found, "found": found,
        "bound": bound, "found_scikit": found + 1e-7, "resolution": 1e-6, "test": found / 10, "condition_found": 20.0,
    }  # fmt: skip


def within(loss: str, size: int, value: float, bound: int, found: int) -> dict[str, Any]:
    return {
        "part": "epsilon", "n": size, "d": 2, "loss": loss, "epsilon": value, "m_bound": bound, "m_found": found,
        "m_greedy": 3 * found, "effective_dimension": 10.0,
    }  # fmt: skip


def followed(size: int, weights: str, count: int, distance: float) -> dict[str, Any]:
    return {"part": "path", "n": size, "d": 2, "weights": weights, "m": count, "path": distance, "subset": 1.0}


def joined(kind: str, others: str, count: int, alone: float, union: float) -> dict[str, Any]:
    return {
        "part": "union", "n": 3, "d": 2, "weights": "free", "set": kind, "m": count, "others": others, "alone": alone,
        "union": union, "ignored": 0.7, "penalty": 0.1 if kind == "one point" else None,
    }  # fmt: skip


ROWS = pd.DataFrame(
    [
        SHARED | row
        for row in (
            floor(1, 0.4, 0.2), floor(2, 0.1, 0.02), floor(3, 1e-5, 5e-6), floor(4, 0.0, 0.0),
            {"part": "contrast", "kernel": "linear", "n": 4, "d": 3, "m": 1, "bound": 1.0, "found_scikit": 1e-15},
            {"part": "contrast", "kernel": "quadratic", "n": 4, "d": 3, "m": 4, "bound": 0.03, "found_scikit": 2e-14},
            within("mean", 50, 0.3, 2, 3), within("mean", 50, 0.1, 4, 6), within("mean", 100, 0.3, 2, 3),
            within("mean", 100, 0.1, 4, 6), within("sum", 100, 0.3, 3, 5), within("sum", 100, 0.1, 7, 9),
            followed(3, "free", 1, 0.2), followed(3, "free", 2, 9e-4), followed(3, "free", 3, 1e-15),
            followed(3, "equal", 1, 0.3), followed(3, "equal", 2, 0.02), followed(3, "equal", 3, 1e-15),
            joined("one point", "same labels", 1, 1e-15, 0.5), joined("one point", "opposite labels", 1, 1e-15, 0.6),
            joined("path", "same labels", 1, 0.2, 0.3), joined("path", "same labels", 2, 9e-4, 0.04),
            joined("path", "opposite labels", 1, 0.2, 0.1), joined("path", "opposite labels", 2, 9e-4, 0.01),
            joined("path", "same labels", 3, 0.0, 0.0),
        )
    ]
    + [{**SHARED, "seed": 1, **floor(1, 0.9, 0.8)}]
)  # fmt: skip


def texts(table: tables.Table, line: int) -> list[str]:
    return [entry.text for entry in table.lines[line].entries]


def test_a_part_has_its_own_columns_of_the_first_seed() -> None:
    found = impossibility.part(ROWS, "contrast")
    assert list(found["m"]) == [1, 4]
    assert "loss" not in found
    assert set(impossibility.part(ROWS, "gaussian")["seed"]) == {0}
    assert list(impossibility.fewer(impossibility.part(ROWS, "gaussian"))["m"]) == [1, 2, 3]


def test_floors_stand_beside_subsets_and_what_is_proven() -> None:
    table = impossibility.floors_table(ROWS)
    assert texts(table, 0) == ["1 of 4", "3.2", "1.6", "0.4", "0.2", "0.4", "0.04", "2e+01"]
    assert texts(table, 2)[3:5] == ["1.0e-05", "5.0e-06"]
    assert [line.reference for line in table.lines] == [False, False, False, True]


def test_kernels_stand_beside_the_gaussian() -> None:
    table = impossibility.kernels_table(ROWS)
    assert [texts(table, i)[0] for i in range(3)] == ["linear", "quadratic", "Gaussian"]
    assert texts(table, 2)[3:] == ["4", "1.0e-07", "5.0e-06"]


def test_points_within_epsilon_stand_in_threes() -> None:
    table = impossibility.epsilon_table(ROWS)
    assert texts(table, 0) == ["2", "grows with n", "50", "10.0", "2", "3", "9", "4", "6", "18"]
    assert texts(table, 2)[1] == "stays"
    assert [column.group for column in table.columns[4:]] == ["points within 0.3"] * 3 + ["points within 0.1"] * 3


def test_paths_end_with_all_examples() -> None:
    table = impossibility.path_table(ROWS)
    assert texts(table, 0) == ["2", "3", "free", "0.2", "9.0e-04", "1.0e-15"]
    larger = [SHARED | followed(9, "free", count, 0.1 / count) for count in (1, 9)]
    table = impossibility.path_table(pd.concat([ROWS, pd.DataFrame(larger)]))
    assert texts(table, 2) == ["2", "9", "free", "0.1", "–", "0.011"]


def test_unions_are_those_with_the_worse_other_data() -> None:
    (line,) = impossibility.union_table(ROWS).lines
    assert [entry.text for entry in line.entries] == [
        "2", "3", "1.0e-15", "0.6", "0.7", "2", "9.0e-04", "0.04", "0.7",
    ]  # fmt: skip


def test_findings_are_reckoned_from_the_rows() -> None:
    said = "\n".join(impossibility.findings(ROWS))
    for part in (
        "all n = 4 examples give f exactly",
        "5.0e-06 of its norm is proven to be missed",
        "best set found misses 1.0e-05, above what rounding could make of 0 for 1 of 1 data sets",
        "over 3 sizes the best set found is 2.00 to 5.0 times as far as proven to be needed, 2.0 times in the middle",
        "Half of the points miss 0.1, half of the examples chosen greedily 0.4, at random 0.8 at best",
        "to 1e-07",
        "at most d + 1, here 4, whatever n is. They are exact to 2e-14; with one less the quadratic kernel misses 3.0e-02",
        "concrete, 2 features, within 0.3, n = 50, 100: 3, 3 points with a mean loss, of which 2, 2 are proven",
        "With the ridge of n = 50 for every n it is 3, 5, of which 2, 3 are needed",
        "0.60 to 0.90 for ε = 0.1, 0.30 to 0.50 for ε = 0.3",
        "the sets found have 1.3 to 1.7 times as many, 1.5 times on average",
        "is there to 1e-15; the nearest of all smaller sets found is 9.0e-04 away",
        "within 0.001, 2 points for n = 3",
        "With equal weights, n − 1 of n = 3 points stay 2.0e-02 away",
        "misses the union by up to 0.60, and leaving it out misses 0.70",
        "of 2 sets within 0.001 of the path the worst, at 9.0e-04, misses a union by 4.0e-02",
    ):
        assert part in said


@pytest.mark.parametrize("make", ["floors_table", "kernels_table", "epsilon_table", "path_table", "union_table"])
def test_tables_read_in_every_form(make: str) -> None:
    table = getattr(impossibility, make)(ROWS)
    assert tables.markdown(table).count("\n") == 2 + len(table.lines)
    assert "\\toprule" in tables.latex(table, table.title)
    assert len({line.name for line in table.lines}) == len(table.lines)


def test_floors_are_drawn_above_what_is_proven() -> None:
    figure = impossibility_figures.floors(ROWS)
    (axis,) = figure.axes
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in axis.lines}
    assert drawn["best found, points anywhere"] == [0.4, 0.1, 1e-5]
    assert drawn["proven: no set is nearer"] == [0.2, 0.02, 5e-6]
    plt.close(figure)


def test_both_ridges_start_from_the_same_numbers_of_points() -> None:
    figure = impossibility_figures.epsilons(ROWS)
    grows, stays = figure.axes
    for axis, wanted in ((grows, [3, 3]), (stays, [3, 5])):
        (line,) = [line for line in axis.lines if line.get_label() == "within 0.3"]
        assert np.asarray(line.get_ydata()).tolist() == wanted
    plt.close(figure)


def test_paths_are_drawn_alone_and_in_the_worse_union(tmp_path: Path) -> None:
    figure = impossibility_figures.paths(ROWS)
    above, below = figure.axes
    assert [np.asarray(line.get_ydata()).tolist() for line in above.lines] == [[0.2, 9e-4], [0.3, 0.02]]
    assert [np.asarray(line.get_ydata()).tolist() for line in below.lines] == [[0.3, 0.04], [0.6]]
    figures.save(figure, tmp_path / "paths.png")
    assert (tmp_path / "paths.png").stat().st_size > 1000
