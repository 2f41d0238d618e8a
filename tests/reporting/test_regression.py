"""Tables, figures and sentences of regression studies, from hand-made errors."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D

from stillhouse.reporting import figures, page, regression, tables
from stillhouse.reporting.regression import DISTANCE, ERROR, R2
from stillhouse.reporting.study import Layout

METHODS = {"whole": "whole", "random": "random_images", "centres": "k_means", "exact": "krr_exact"}


@pytest.fixture
def sets(layout: Layout) -> Layout:
    labels = {"whole": "all real examples", "random": "random rows", "centres": "k-means", "exact": "exact", "linear": "Linear",
              "rbf": "RBF"}  # fmt: skip
    return dataclasses.replace(
        layout, datasets=["yacht", "energy"], experiments=list(METHODS), per_class=[2, 10], labels=labels
    )


def rows(metric: str, *cells: tuple[str, str, int | None, float, float], model: str = "linear") -> pd.DataFrame:
    """Of (data set, experiment, m, mean, deviation)."""
    made: list[dict[str, Any]] = [
        {"dataset": dataset, "experiment": experiment, "method": METHODS[experiment], "per_class": size, "protocol": "own",
         "model": model, "metric": metric, "mean": mean, "std": std, "seeds": 2, "published": float("nan"), "budget": 1.0,
         "recipe": f"{dataset}{experiment}{size}"}
        for dataset, experiment, size, mean, std in cells
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"per_class": "Int64"})


ERRORS = rows(
    ERROR,
    ("yacht", "whole", None, 10.0, 0.0), ("yacht", "random", 2, 200.0, 300.0), ("yacht", "centres", 2, 15.0, 0.04),
    ("yacht", "exact", 2, 10.0, 0.0), ("yacht", "random", 10, 10.4, 0.2), ("yacht", "centres", 10, 10.6, 0.0),
    ("yacht", "exact", 10, 10.0, 0.0), ("energy", "whole", None, 0.5, 0.01), ("energy", "random", 2, 0.9, 0.1),
    ("energy", "centres", 2, 0.52, 0.1), ("energy", "exact", 2, 0.5, 0.01), ("energy", "random", 10, 0.6, 0.1),
    ("energy", "centres", 10, 0.51, 0.1), ("energy", "exact", 10, 0.5, 0.01),
)  # fmt: skip
DISTANCES = rows(
    DISTANCE,
    ("yacht", "random", 2, 0.9, 0.1), ("yacht", "exact", 2, 2e-15, 1e-15), ("yacht", "random", 10, 0.3, 0.5),
    ("yacht", "exact", 10, 1.26e-13, 1e-15), ("energy", "random", 2, 1.0, 0.0), ("energy", "exact", 2, 0.2, 0.0),
)  # fmt: skip


def written(table: tables.Table) -> dict[tuple[str, str], list[str]]:
    return {(line.section, line.entries[0].plain): [entry.plain for entry in line.entries[1:]] for line in table.lines}


def test_a_line_is_what_was_trained_on_and_a_column_a_number_of_examples(sets: Layout) -> None:
    made = regression.table(sets, ERRORS, ERROR)
    assert [column.head for column in made.columns] == ["trained on", "m = 2", "m = 10", "all"]
    found = written(made)
    assert list(found) == [
        (dataset, sets.labels[each])
        for dataset in ("yacht", "energy")
        for each in ("whole", "random", "centres", "exact")
    ]
    assert found["yacht", "all real examples"] == ["–", "–", "10.0 ± 0.0"]
    assert found["yacht", "random rows"] == ["200 ± 300", "10.4 ± 0.2", "–"]
    assert found["energy", "k-means"] == ["0.520 ± 0.100", "0.510 ± 0.100", "–"]
    assert [line.reference for line in made.lines] == [True, True, False, False] * 2


def test_every_number_leads_to_its_recipe_and_is_compared_by_its_own_name(sets: Layout) -> None:
    made = regression.table(sets, ERRORS, ERROR)
    assert made.lines[2].entries[1].recipe == "yachtcentres2"
    part = page.part(sets, "", [], [made, regression.table(sets, DISTANCES, DISTANCE)], [], {})
    numbers = page.metrics(dataclasses.replace(part, tables=[dataclasses.asdict(made)] + part.tables[1:]))
    assert numbers["yacht k-means error"] == {"m = 2": 15.0, "m = 10": 10.6}
    assert numbers["yacht exact distance"] == {"m = 2": 2e-15, "m = 10": 1.3e-13}


def test_a_metric_that_the_whole_set_has_not_got_has_no_column_for_it(sets: Layout) -> None:
    made = regression.table(sets, DISTANCES, DISTANCE)
    assert [column.head for column in made.columns] == ["trained on", "m = 2", "m = 10"]
    assert written(made)["yacht", "exact"] == ["2.0e-15 ± 1.0e-15", "1.3e-13 ± 1.0e-15"]


def test_r2_has_three_decimals_whatever_its_size_and_its_sign(sets: Layout) -> None:
    cells = [
        ("yacht", "random", 2, -0.0123, 0.5),
        ("yacht", "random", 10, 0.98765, 0.0),
        ("yacht", "centres", 2, -1e-5, 0.0),
    ]
    made = written(regression.table(sets, rows(R2, *cells), R2))
    assert made["yacht", "random rows"] == ["−0.012 ± 0.500", "0.988 ± 0.000"]
    assert made["yacht", "k-means"][0] == "0.000 ± 0.000"


def test_one_seed_has_no_deviation(sets: Layout) -> None:
    single = ERRORS.assign(seeds=1, std=float("nan"))  # as the deviation of one value is
    assert written(regression.table(sets, single, ERROR))["yacht", "exact"] == ["10.0", "10.0", "–"]


def test_several_models_are_sections_of_their_own(sets: Layout) -> None:
    both = pd.concat([ERRORS, ERRORS.assign(model="rbf", mean=ERRORS["mean"] * 2)], ignore_index=True)
    made = regression.table(sets, both.sort_values(["dataset", "per_class"], kind="stable"), ERROR)
    sections = list(dict.fromkeys(line.section for line in made.lines))
    assert sections == ["energy, Linear", "energy, RBF", "yacht, Linear", "yacht, RBF"]
    assert [line.section for line in made.lines] == [section for section in sections for _ in range(4)]
    assert written(made)["yacht, RBF", "exact"] == ["20.0 ± 0.0", "20.0 ± 0.0", "–"]
    assert len({line.name for line in made.lines}) == 16


def test_findings_tell_where_each_comes_near_the_whole_set_and_which_beat_chance(sets: Layout) -> None:
    assert regression.findings(sets, ERRORS) == [
        "random rows: within 5 % of the test RMSE of all real examples first at m = 10 on yacht; not up to m = 10 on energy.",
        "k-means: within 5 % of the test RMSE of all real examples first at m = 2 on energy; not up to m = 10 on yacht.",
        "exact: within 5 % of the test RMSE of all real examples first at m = 2 on yacht, energy.",
        "A smaller mean test RMSE than as many random real examples: k-means in 3 of 4 cells, exact in 4 of 4 cells.",
    ]


def test_findings_tell_how_often_and_how_closely_the_teacher_is_given_back(sets: Layout) -> None:
    assert regression.findings(sets, DISTANCES) == [
        "exact: the teacher's parameters in 2 of 3 cells, to 1.3e-13 or better (relative, mean over seeds)."
    ]


def test_findings_of_several_models_name_them(sets: Layout) -> None:
    both = pd.concat([ERRORS, ERRORS.assign(model="rbf")], ignore_index=True)
    assert regression.findings(sets, both)[1].startswith("k-means, by Linear: ")


def points(axis: Any, label: str) -> list[tuple[float, float]]:
    """What a line with deviations passes through."""
    [drawn] = [handle for handle, name in zip(*axis.get_legend_handles_labels(), strict=True) if name == label]
    assert isinstance(drawn, ErrorbarContainer)
    return [(x, y) for x, y in np.asarray(drawn.lines[0].get_xydata(), dtype=float).tolist()]


def test_the_figure_has_a_panel_per_data_set_the_whole_set_dashed_and_every_experiment(sets: Layout) -> None:
    drawn = regression.figure(sets, ERRORS, ERROR)
    assert [axis.get_title(loc="left") for axis in drawn.axes] == ["yacht", "energy"]
    for axis, level in zip(drawn.axes, (10.0, 0.5), strict=True):
        handles, labels = axis.get_legend_handles_labels()
        assert labels == ["all real examples", "random rows", "k-means", "exact"]
        assert isinstance(handles[0], Line2D)
        assert (handles[0].get_linestyle(), np.asarray(handles[0].get_ydata()).tolist()) == ("--", [level, level])
        assert [tick.get_text() for tick in axis.get_xticklabels()] == ["2", "10"]
    assert points(drawn.axes[0], "random rows") == [(2, 200), (10, 10.4)]


def test_values_that_span_decades_are_drawn_on_a_logarithmic_axis(sets: Layout) -> None:
    assert [axis.get_yscale() for axis in regression.figure(sets, ERRORS, ERROR).axes] == ["log", "linear"]


def test_a_deviation_above_its_mean_has_no_lower_end_on_a_logarithmic_axis(sets: Layout) -> None:
    [yacht, _] = regression.figure(sets, ERRORS, ERROR).axes
    [drawn] = [each for each in yacht.containers if each.get_label() == "random rows"]
    assert isinstance(drawn, ErrorbarContainer)
    ends = [np.asarray(bar)[:, 1].tolist() for bar in drawn.lines[2][0].get_segments()]
    assert ends == [[200.0, 500.0], pytest.approx([10.2, 10.6])]


def test_distances_that_are_rounding_share_one_place_at_the_bottom(sets: Layout) -> None:
    [yacht, energy] = regression.figure(sets, DISTANCES, DISTANCE).axes
    assert [value for _, value in points(yacht, "exact")] == pytest.approx([0.1, 0.1])
    assert [tick.get_text() for tick in yacht.get_yticklabels()] == ["≤ $10^{-8}$", "1"]
    assert energy.get_yscale() == "linear"


def test_the_same_rows_give_the_same_picture(sets: Layout, tmp_path: Path) -> None:
    for name in ("one", "two"):
        figures.save(regression.figure(sets, DISTANCES, DISTANCE), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
