from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from stillhouse.reporting import figures, linear_path, tables

ERROR: dict[str, Any] = {
    "dataset": "concrete", "seed": 0, "recipe": "r", "table": "errors", "case": "as it is", "examples": 900, "columns": 9,
    "points": 9, "regulariser": "lasso", "formula": "‖θ‖₁", "solver": "scikit-learn", "unique": True, "share": 0.1,
    "error": 1e-14, "error_max": 2e-14, "objective_gap": 1e-16, "zeros": 2, "zeros_agree": True, "metric": "test RMSE",
    "score_data": 10.0, "score_points": 10.0, "score_random": 30.0, "score_random_std": 4.0, "error_random": 1.5,
    "error_union_rest": 3e-14, "error_union_other": 5e-14,
}  # fmt: skip
CASE = {key: value for key, value in ERROR.items() if not key.startswith(("score", "error_u", "error_r", "metric"))} | {
    "case": "dependent columns", "columns": 11,
}  # fmt: skip
PATH = {"dataset": "concrete", "seed": 0, "recipe": "r", "table": "path", "column": 3}
STREAM = {"dataset": "concrete", "seed": 0, "recipe": "s", "metric": "test RMSE"}


def errors(*changes: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame([ERROR | change for change in changes])


def path_rows() -> list[dict[str, Any]]:
    return [
        PATH | {"regulariser": name, "share": share, "data": 1 - share, "points": 1 - share, "random": 2 - 5 * share}
        for name in ("lasso", "ridge")
        for share in (0.01, 0.1, 1.0)
    ]


def stream_rows(**changes: Any) -> pd.DataFrame:
    sizes = {"all": 300, "last": 100, "random": 9, "points": 9}
    scores = {"all": 5.0, "last": 8.0, "random": 20.0, "points": 5.0}
    distances = {"all": 0.0, "last": 0.5, "random": 1.5, "points": 3e-15}
    rows = [
        STREAM | {"task": task, "examples": 150 * task, "memory": memory, "stored": sizes[memory], "score": scores[memory] + task,
                  "score_std": 0.0, "score_first": scores[memory], "distance": distances[memory] * task}
        for task in (1, 2)
        for memory in sizes
    ]  # fmt: skip
    return pd.DataFrame([row | changes for row in rows])


def texts(line: tables.Line) -> list[str]:
    return [entry.text for entry in line.entries]


def test_errors_are_the_worst_over_strengths_and_scores_those_of_the_best_strength() -> None:
    rows = errors({}, {"share": 0.01, "score_data": 9.0, "score_points": 9.0, "error": 4e-13, "score_random": 40.0})
    (line,) = linear_path.carried_table(linear_path.carried(rows)).lines
    assert line.section == "concrete, test RMSE"
    assert texts(line)[2:] == ["900", "9", "4.0e-13", "3.0e-14", "5.0e-14", "1.5", "9", "9", "40"]
    assert line.entries[9].recipe == "r"


def test_the_best_accuracy_is_the_highest_and_seeds_are_averaged() -> None:
    accuracy = {"dataset": "mnist", "metric": "test accuracy"}
    low, high = ({**accuracy, "share": share, "score_data": score} for share, score in ((0.1, 80.0), (0.3, 85.0)))
    found = linear_path.carried(errors(low, low | {"seed": 1, "score_data": 84.0}, high, high | {"seed": 1}))
    assert found[["score_data", "share"]].to_numpy().tolist() == [[85.0, 0.3]]
    lower = linear_path.carried(errors(low, low | {"seed": 1, "score_data": 94.0}, high))
    assert lower[["score_data", "share"]].to_numpy().tolist() == [[87.0, 0.1]]


def test_every_data_set_and_regulariser_has_its_own_line_whatever_the_order() -> None:
    rows = errors(
        {},
        {"dataset": "mnist", "metric": "test accuracy", "score_data": 80.0},
        {"regulariser": "ridge", "score_data": 7.0},
    )
    found = linear_path.carried(rows).set_index(["dataset", "regulariser"])["score_data"]
    assert found.to_dict() == {("concrete", "lasso"): 10.0, ("mnist", "lasso"): 80.0, ("concrete", "ridge"): 7.0}


def test_where_the_minimiser_is_not_unique_the_objective_stands_for_it() -> None:
    (line,) = linear_path.carried_table(linear_path.carried(errors({"unique": False, "error": 0.5}))).lines
    assert line.entries[4].plain == "1.0e-16 (objective)"
    assert texts(line)[5:7] == ["–", "–"]


def test_cases_tell_sizes_and_the_worst_of_what_is_unique() -> None:
    rows = pd.DataFrame([
        ERROR,
        CASE | {"regulariser": "ridge", "error": 7e-13},
        CASE | {"unique": False, "error": 0.9, "objective_gap": 2e-15, "zeros_agree": False},
        CASE | {"case": "fewer rows than columns", "examples": 4, "points": 4, "unique": False, "error": 0.8},
    ])  # fmt: skip
    first, second, third = linear_path.cases_table(linear_path.cases(rows)).lines
    assert texts(first) == ["as it is", "900", "9", "9", "1", "1.0e-14", "1.0e-16", "yes"]
    assert texts(second) == ["dependent columns", "900", "11", "9", "2", "7.0e-13", "2.0e-15", "yes"]
    assert texts(third)[4:] == ["1", "–", "1.0e-16", "–"]


def test_a_stream_has_a_line_for_each_memory() -> None:
    rows = pd.concat([stream_rows(), stream_rows(seed=1)])
    rows.loc[(rows["seed"] == 1) & (rows["memory"] == "points"), "distance"] = 8e-14
    table = linear_path.stream_table(linear_path.streamed(rows))
    lines = {line.entries[0].text: texts(line)[1:] for line in table.lines}
    assert lines == {
        "all examples so far": ["6", "7", "5", "300", "0"],
        "last task alone": ["9", "10", "8", "100", "1.0e+00"],
        "random examples, as many": ["21", "22", "20", "9", "3.0e+00"],
        "distilled points": ["6", "7", "5", "9", "8.0e-14"],
    }
    assert [line.reference for line in table.lines] == [True, False, False, False]


def test_findings_follow_from_the_rows() -> None:
    rows = pd.DataFrame(
        [ERROR, CASE | {"regulariser": "ridge", "error": 7e-13}, CASE | {"unique": False, "error": 0.9}]
    )
    unique, other, fewer, memory = linear_path.findings(rows, stream_rows())
    assert "2 problems with one minimiser (2 regularisers, 1 strengths, 1 data sets" in unique
    assert "to 7.0e-13 at worst (ridge, concrete, dependent columns)" in unique
    assert "united with other data, to 5.0e-14" in unique
    assert "1 problems without full rank" in other
    assert "enough in 1 of 2 cases" in fewer
    assert "at most 9 points, distilled anew after each of 2 tasks" in memory
    assert "by 6.0e-15 at worst" in memory
    assert "concrete 7 (RMSE; all 7, random 22, last task alone 10)" in memory


def test_tables_can_be_written_in_every_format() -> None:
    rows = pd.DataFrame([ERROR, CASE, *path_rows()])
    for table in (
        linear_path.carried_table(linear_path.carried(rows)), linear_path.cases_table(linear_path.cases(rows)),
        linear_path.stream_table(linear_path.streamed(stream_rows())),
    ):  # fmt: skip
        lines = tables.markdown(table).splitlines()
        assert len({line.count("|") for line in lines}) == 1  # no entry breaks a row
        assert not [c for c in tables.latex(table, table.title) if ord(c) > 127]


def test_paths_have_a_panel_for_each_regulariser_with_circles_on_lines() -> None:
    rows = pd.DataFrame([ERROR, *path_rows(), *({**row, "seed": 1, "data": 9.0} for row in path_rows())])
    figure = linear_path.paths(rows)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["concrete, lasso", "concrete, ridge"]
    random, data, points = figure.axes[0].get_lines()
    assert data.get_ydata().tolist() == points.get_ydata().tolist() == pytest.approx([0.99, 0.9, 0.0])  # type: ignore[union-attr]
    assert (data.get_linestyle(), points.get_linestyle(), points.get_marker()) == ("-", "None", "o")
    assert random.get_linestyle() == "--"


def test_the_stream_has_a_panel_for_each_data_set(tmp_path: Path) -> None:
    rows = pd.concat([stream_rows(), *(stream_rows(dataset=name, metric="test accuracy") for name in "bcdef")])
    figure = linear_path.stream(linear_path.streamed(rows))
    assert isinstance(figure, Figure)
    drawn = [axis for axis in figure.axes if axis.get_lines()]
    assert [axis.get_title(loc="left") for axis in drawn] == ["concrete", *"bcdef"]
    assert [line.get_label() for line in drawn[0].get_lines()] == list(linear_path.MEMORIES.values())
    assert (drawn[0].get_ylabel(), drawn[1].get_ylabel()) == ("test RMSE", "test accuracy, %")
    figures.save(figure, tmp_path / "stream.png")
    assert (tmp_path / "stream.png").stat().st_size > 0
