"""Figures of the leaderboard: accuracies as dots, and accuracy against the seconds that a set took."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from stillhouse.reporting import leaderboard
from stillhouse.reporting.figures import COLOURS, DASHED, DOTTED, GREY, STYLE, legend, plain_numbers
from stillhouse.reporting.leaderboard import Board
from stillhouse.reporting.matrix import RANDOM
from stillhouse.reporting.study import Layout

_MARKERS = ["o", "s", "D", "^", "v", "P", "X"]
_SIZES = [0, 1, 2, 4, 6]  # of COLOURS: those that also differ in grey
_ACROSS = 4  # panels a row of `seconds`
_WIDEST = 34  # characters of a name, before it is folded
_INSTANT = 0.01  # seconds below which a set counts as made in no time


def dots(layout: Layout, boards: list[Board]) -> Figure:
    """Test accuracy, a line a set, a row of panels a board, a column a data set, a colour and marker a size.

    Pale bars are deviations over sets, thin ones over trainings. Dotted: as many random real images, of the size's colour;
    dashed: all real images. Lines are in the order of the mean rank in their row.
    """
    datasets = [name for name in layout.datasets if any(name in set(board.rows["dataset"]) for board in boards)]
    sizes = sorted({int(size) for board in boards for size in board.rows["per_class"]})
    names = [_names(layout, board) for board in boards]
    longest = min(_WIDEST, max(len(name) for each in names for name in each.values()))
    folded = [[textwrap.fill(name, _WIDEST) for name in each.values()] for each in names]
    lines = max(name.count("\n") + 1 for each in folded for name in each)
    heights = [max(0.13 + 0.1 * len(sizes), 0.05 + 0.15 * lines) * max(len(each), 2) for each in names]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(boards), len(datasets),
            figsize=(3.0 * len(datasets) + 0.065 * longest + 0.3, sum(heights) + 0.65 * len(boards) + 0.5),
            squeeze=False, sharey="row", height_ratios=heights, layout="constrained",
        )  # fmt: skip
        for row, board, order, called in zip(panels, boards, names, folded, strict=True):
            for axis, dataset in zip(row, datasets, strict=True):
                here = board.rows[board.rows["dataset"] == dataset]
                _dots(axis, here, list(order), sizes)
                axis.set_title(f"{dataset}, scored by {board.name}", fontsize=9, loc="left")
                axis.set_xlabel("test accuracy, %")
            row[0].set_yticks(range(len(order)), called)
            row[0].set_ylim(len(order) - 0.5, -0.5)
        legend(figure, panels)
    return figure


def _names(layout: Layout, board: Board) -> dict[str, str]:
    """What a board's experiments are called, random images left out, by mean rank over data sets and sizes. Where an experiment
    has other parts of its budget on other data sets, no number is named.
    """
    made = board.rows[board.rows["method"] != RANDOM]
    ranks = made.groupby("experiment")["rank"].mean().sort_values(kind="stable")
    called = {name: list(group.unique()) for name, group in made.groupby("experiment")["set"]}
    return {
        name: called[name][0] if len(called[name]) == 1 else f"{layout.labels[name]}, reduced budget"
        for name in map(str, ranks.index)
    }


def _dots(axis: Any, here: pd.DataFrame, order: list[str], sizes: list[int]) -> None:
    for level in here["whole"].dropna().unique()[:1]:
        axis.axvline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
    for place, size in enumerate(sizes):
        colour, marker = COLOURS[_SIZES[place % len(_SIZES)]], _MARKERS[place % len(_MARKERS)]
        own = here[(here["per_class"] == size) & here["experiment"].isin(order)]
        for level in here[(here["per_class"] == size)]["random"].dropna().unique()[:1]:
            axis.axvline(
                level, color=colour, linewidth=1.2, linestyle=DOTTED, label=f"random real images, {size} per class"
            )
        # Sizes stand below one another, the smallest first.
        heights = [order.index(name) + 0.26 * (place - (len(sizes) - 1) / 2) for name in own["experiment"]]
        for spread, width, alpha in (("over_sets", 5.0, 0.35), ("over_trainings", 1.2, 1.0)):
            low, high = own["mean"] - own[spread].fillna(0), own["mean"] + own[spread].fillna(0)
            axis.hlines(heights, low, high, color=colour, linewidth=width, alpha=alpha)
        axis.plot(
            own["mean"], heights, marker, color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.6,
            label=f"{size} per class",
        )  # fmt: skip


def seconds(layout: Layout, boards: list[Board]) -> Figure:
    """Test accuracy against seconds a set, a panel per board, data set and size; numbers are ranks, the line joins sets that are
    better than all that took less. Dashed: all real images; dotted: random ones. Sets that were made elsewhere are left out.
    """
    parts = [(board, *cell) for board in boards for cell in leaderboard.cells(board)]
    experiments = [name for name in layout.experiments if any(name in set(b.rows["experiment"]) for b in boards)]
    marks = {
        name: (COLOURS[i % len(COLOURS)], _MARKERS[(i + i // len(COLOURS)) % len(_MARKERS)])
        for i, name in enumerate(experiments)
    }
    of_board = len(parts) // len(boards)
    across = of_board if 1 < of_board <= _ACROSS else min(len(parts), _ACROSS)
    down = math.ceil(len(parts) / across)
    entries = len(experiments) + 2
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            down, across, figsize=(3.2 * across + 0.4, 2.7 * down + 0.1 * entries + 0.4),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        for axis in panels.flat[len(parts) :]:
            axis.remove()
        for axis, (board, dataset, size, rows) in zip(panels.flat, parts, strict=False):
            _against_seconds(axis, rows, marks)
            axis.set_title(f"{dataset}, {size} per class\nscored by {board.name}", fontsize=9, loc="left")
            axis.set_xlabel("seconds a set")
        for row in panels:
            row[0].set_ylabel("test accuracy, %")
        legend(figure, panels)
    return figure


def _against_seconds(axis: Any, rows: pd.DataFrame, marks: dict[str, tuple[str, str]]) -> None:
    for column, style, label in (("whole", DASHED, "all real images"), ("random", DOTTED, "random real images")):
        for level in rows[column].dropna().unique()[:1]:
            axis.axhline(level, color=GREY, linewidth=1, linestyle=style, label=label)
    timed = rows[rows["seconds"].notna() & (rows["method"] != RANDOM)].assign(
        taken=lambda part: part["seconds"].clip(lower=_INSTANT)
    )
    front = better_than_all_faster(timed)
    axis.plot(front["taken"], front["mean"], color="#bbbbbb", linewidth=1.5, drawstyle="steps-post", zorder=1)
    for row in sorted(timed.to_dict("records"), key=lambda row: list(marks).index(str(row["experiment"]))):
        colour, marker = marks[str(row["experiment"])]
        axis.plot(
            row["taken"], row["mean"], marker, color=colour, markersize=7 if marker in "PX" else 6, markeredgecolor="white",
            markeredgewidth=0.5, label=row["set"],
        )  # fmt: skip
        axis.annotate(
            str(row["rank"]), (row["taken"], row["mean"]), xytext=(4, 3), textcoords="offset points", fontsize=6.5,
            color=GREY,
        )  # fmt: skip
    axis.set_xscale("log")
    plain_numbers(axis, axis.xaxis, LogLocator(numticks=7))


def better_than_all_faster(timed: pd.DataFrame) -> pd.DataFrame:
    """The rows whose `mean` is above that of every row that took less (`taken`), in order of time."""
    ordered = timed.sort_values(["taken", "mean"], ascending=[True, False], kind="stable")
    return ordered[ordered["mean"] > ordered["mean"].cummax().shift(fill_value=-math.inf)]
