"""Linear regression on distilled points: errors by regulariser and by case, memories of a stream, coefficient paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting.figures import COLOURS, STYLE, legend
from stillhouse.reporting.tables import Column, Entry, Line, Table

NAMES = {
    "ridge": "ridge", "lasso": "lasso", "elastic_net": "elastic net", "free_lasso": "lasso, intercept free",
    "non_negative": "non-negative ridge", "huber": "Huber's penalty", "group_lasso": "group lasso over outputs",
    "subset": "best subset",
}  # fmt: skip
MEMORIES = {
    "all": "all examples so far",
    "points": "distilled points",
    "random": "random examples, as many",
    "last": "last task alone",
}
_PLAIN = "as it is"
_ERRORS = ("error", "error_max", "objective_gap", "error_union_rest", "error_union_other")
_SCORES = ("score_data", "score_points", "score_random", "score_random_std", "error_random")
_STYLES = {
    "all": ("#555555", "-", ""),
    "points": (COLOURS[0], "", "o"),
    "random": (COLOURS[1], "--", ""),
    "last": (COLOURS[2], ":", ""),
}
_PANELS = 4  # data sets whose coefficients are drawn; panels of the stream a row


def part(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one of the analysis's tables, without the columns of the other."""
    return rows[rows["table"] == name].dropna(axis=1, how="all").reset_index(drop=True)


def carried(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set and regulariser, of the data as they are: the worst errors over strengths and seeds; scores, means over seeds,
    at the strength that is best for the data.
    """
    plain = part(rows, "errors")
    plain = plain[plain["case"] == _PLAIN].assign(lower=plain["metric"].str.contains("RMSE"))
    keys = ["dataset", "regulariser"]
    worst = plain.groupby(keys, sort=False)[[*_ERRORS]].max()
    shared = ["formula", "solver", "metric", "examples", "columns", "points", "unique", "recipe"]
    sizes = plain.groupby(keys, sort=False)[shared].first()
    scores = plain.groupby([*keys, "share", "lower"], sort=False)[[*_SCORES]].mean().reset_index()
    cost = scores["score_data"].where(scores["lower"], -scores["score_data"])
    best = scores.assign(cost=cost).sort_values("cost", kind="stable").drop_duplicates(keys).set_index(keys)
    return sizes.join(worst).join(best).reset_index()


def carried_table(found: pd.DataFrame) -> Table:
    """A line per data set and regulariser."""
    columns = [
        Column("regulariser", words=True), Column("solved by", words=True), Column("n"), Column("m"),
        Column("alone", "error of θ, points"), Column("with the rest", "error of θ, points"),
        Column("with other data", "error of θ, points"), Column("m random", "error of θ"),
        Column("data", "test score"), Column("points", "test score"), Column("m random", "test score"),
    ]  # fmt: skip
    lines = [
        Line(
            f"{row['dataset']}, {row['metric']}",
            [
                Entry(NAMES[row["regulariser"]], row["formula"]), Entry(row["solver"]), Entry(f"{row['examples']:.0f}"),
                Entry(f"{row['points']:.0f}"),
                _error(row, "error"), _error(row, "error_union_rest"), _error(row, "error_union_other"),
                Entry(f"{row['error_random']:.2g}"),
                Entry(_score(row["score_data"])),
                Entry(_score(row["score_points"]), recipe=row["recipe"], value=float(_score(row["score_points"]))),
                Entry(_score(row["score_random"]), f"± {row['score_random_std']:.2g}"),
            ],
            name=f"{row['dataset']} {row['regulariser']}",
        )
        for row in found.to_dict("records")
    ]  # fmt: skip
    return Table("carried", "What linear regression learns from the points", "data set", columns, lines)


def _error(row: Mapping[Any, Any], name: str) -> Entry:
    """An error, where it means something: the minimiser is unique; else the excess of the objective."""
    if row["unique"]:
        return Entry(f"{row[name]:.1e}")
    return Entry(f"{row['objective_gap']:.1e}", "(objective)") if name == "error" else Entry()


def _score(value: float) -> str:
    return f"{value:.4g}"


def cases(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set and case: rows, columns, points, the worst error of unique minimisers, the worst excess of the objective, and
    whether the same coefficients are zero wherever theta is unique.
    """
    errors = part(rows, "errors")
    unique = errors[errors["unique"].astype(bool)]
    keys = ["dataset", "case"]
    sizes = errors.groupby(keys, sort=False)[["examples", "columns", "points", "recipe"]].first()
    worst = unique.groupby(keys, sort=False).agg(error=("error", "max"), zeros_agree=("zeros_agree", "all"))
    gap = errors.groupby(keys, sort=False).agg(objective_gap=("objective_gap", "max"), solved=("error", "size"))
    return sizes.join(worst).join(gap).reset_index()


def cases_table(found: pd.DataFrame) -> Table:
    """A line per data set and case."""
    columns = [
        Column("data", words=True), Column("rows"), Column("columns"), Column("points"), Column("problems solved"),
        Column("error of unique θ"), Column("excess of the objective"), Column("same zeros", words=True),
    ]  # fmt: skip
    lines = [
        Line(
            row["dataset"],
            [
                Entry(row["case"]), Entry(f"{row['examples']:.0f}"), Entry(f"{row['columns']:.0f}"),
                Entry(f"{row['points']:.0f}", recipe=row["recipe"], value=float(row["points"])),
                Entry(f"{row['solved']:.0f}"),
                Entry() if pd.isna(row["error"]) else Entry(f"{row['error']:.1e}"), Entry(f"{row['objective_gap']:.1e}"),
                Entry() if pd.isna(row["error"]) else Entry("yes" if row["zeros_agree"] else "no"),
            ],
            name=f"{row['dataset']} {row['case']}",
        )
        for row in found.to_dict("records")
    ]  # fmt: skip
    return Table(
        "cases", "Rank, rows and intercept: the worst over regularisers and strengths", "data set", columns, lines
    )


def streamed(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set, memory and task: means over seeds of scores, the worst distance."""
    by = rows.groupby(["dataset", "memory", "task"], sort=False)
    shared = by[["metric", "examples", "stored", "recipe"]].first()
    return shared.join(by[["score", "score_std", "score_first"]].mean()).join(by["distance"].max()).reset_index()


def stream_table(found: pd.DataFrame) -> Table:
    """A line per data set and memory: scores over the tasks so far after each task, and what the end looks like."""
    tasks = sorted(found["task"].unique())
    columns = [
        Column("memory", words=True), *(Column(f"{task}", "test score after task") for task in tasks),
        Column("first task, at the end"), Column("kept"), Column("distance of θ"),
    ]  # fmt: skip
    lines = [
        _memory_line(str(dataset), str(memory), group.sort_values("task").to_dict("records"))
        for (dataset, memory), group in found.groupby(["dataset", "memory"], sort=False)
    ]
    return Table("stream", "Tasks one after the other", "data set", columns, lines)


def _memory_line(dataset: str, memory: str, tasks: Sequence[Mapping[Any, Any]]) -> Line:
    last = tasks[-1]
    entries = [
        Entry(MEMORIES[memory]),
        *(Entry(_score(task["score"])) for task in tasks),
        Entry(_score(last["score_first"]), recipe=last["recipe"], value=float(_score(last["score"]))),
        Entry(f"{last['stored']:.0f}"),
        Entry("0" if memory == "all" else f"{last['distance']:.1e}"),
    ]
    return Line(f"{dataset}, {last['metric']}", entries, memory == "all", f"{dataset} stream {memory}")


def findings(rows: pd.DataFrame, stream: pd.DataFrame) -> list[str]:
    """What both analyses say, in sentences computed from them."""
    errors, plain = part(rows, "errors"), carried(rows)
    unique = errors[errors["unique"].astype(bool)]
    others = errors[~errors["unique"].astype(bool)]
    unions = plain[plain["unique"].astype(bool)][["error_union_rest", "error_union_other"]].max().max()
    worst = unique.sort_values("error").iloc[-1]
    said = [
        f"{len(unique)} problems with one minimiser ({errors['regulariser'].nunique()} regularisers, "
        f"{errors['share'].nunique()} strengths, {errors['dataset'].nunique()} data sets and what is made of them) have the "
        f"same solution from the points as from the data, to {unique['error'].max():.1e} at worst "
        f"({NAMES[worst['regulariser']]}, {worst['dataset']}, {worst['case']}), and "
        f"{unique['error'].median():.1e} in the median; united with other data, to {unions:.1e}. "
        f"As many random examples miss it by {plain['error_random'].min():.2g} to {plain['error_random'].max():.2g}.",
    ]
    if len(others):
        said.append(
            f"Where the minimiser is not unique ({len(others)} problems without full rank), the objective on the data is the "
            f"same at both solutions to {others['objective_gap'].max():.1e}, relatively."
        )
    short = errors[errors["points"] < errors["columns"]].groupby(["dataset", "case"], sort=False)[["points", "columns"]]
    if len(short):
        said.append(
            f"Fewer points than columns are enough in {len(short)} of {len(errors.groupby(['dataset', 'case']))} cases, where "
            "columns depend on others or rows are few: as many as the rank."
        )
    return said + _stream_findings(streamed(stream))


def _stream_findings(found: pd.DataFrame) -> list[str]:
    last = found[found["task"] == found["task"].max()]
    metrics = last.groupby("dataset", sort=False)["metric"].first()
    scores = last.pivot_table(index="dataset", columns="memory", values="score", sort=False).map(_score)
    told = [
        f"{name} {row['points']} ({str(metrics[name]).removeprefix('test ')}; all {row['all']}, random {row['random']}, "
        f"last task alone {row['last']})"
        for name, row in scores.iterrows()
    ]
    points = found[found["memory"] == "points"]
    return [
        f"A memory of at most {points['stored'].max():.0f} points, distilled anew after each of {found['task'].max()} tasks, "
        "forgets nothing: what ridge regression learns from it differs from what all examples so far teach by "
        f"{points['distance'].max():.1e} at worst. After the last task: {'; '.join(told)}."
    ]


def paths(rows: pd.DataFrame) -> Figure:
    """Coefficients against the strength: lines from the data, circles on them from the points, dashed from as many random
    examples. A row of panels for each of the first data sets, a column for each regulariser.
    """
    found = part(rows, "path")
    found = found[found["seed"] == found["seed"].min()]
    datasets = list(dict.fromkeys(found["dataset"]))[:_PANELS]
    followed = list(dict.fromkeys(found["regulariser"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(datasets), len(followed), figsize=(3.6 * len(followed), 2.3 * len(datasets) + 0.6),
            squeeze=False, sharex=True, layout="constrained",
        )  # fmt: skip
        for (i, dataset), (j, name) in itertools.product(enumerate(datasets), enumerate(followed)):
            here = found[(found["dataset"] == dataset) & (found["regulariser"] == name)]
            axis = panels[i, j]
            for colour, (_, line) in zip(itertools.cycle(COLOURS), here.groupby("column", sort=False), strict=False):
                axis.plot(
                    line["share"],
                    line["random"],
                    "--",
                    color=colour,
                    linewidth=0.8,
                    alpha=0.7,
                    label="m random examples",
                )
                axis.plot(line["share"], line["data"], color=colour, linewidth=1.2, label="data")
                axis.plot(
                    line["share"], line["points"], "o", color=colour, markersize=3.5, fillstyle="none", label="m points"
                )
            size = 1.6 * float(here[["data", "points"]].abs().max().max())
            axis.set_ylim(-size, size)  # random examples may be far out
            axis.set_xscale("log")
            axis.set_title(f"{dataset}, {NAMES[name]}", fontsize=9, loc="left")
        for axis in panels[-1]:
            axis.set_xlabel("strength, in its unit")
        for row in panels:
            row[0].set_ylabel("coefficient")
        legend(figure, panels)
    return figure


def stream(found: pd.DataFrame) -> Figure:
    """Test scores over the tasks so far after each task, a panel a data set, a line a memory (`streamed`)."""
    datasets = list(dict.fromkeys(found["dataset"]))
    across = min(len(datasets), _PANELS)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            math.ceil(len(datasets) / across), across,
            figsize=(2.7 * across + 0.4, 2.4 * math.ceil(len(datasets) / across) + 0.6), squeeze=False, layout="constrained",
        )  # fmt: skip
        for axis, dataset in itertools.zip_longest(panels.flat, datasets):
            if dataset is None:
                axis.remove()
                continue
            here = found[found["dataset"] == dataset]
            _memories(axis, here, sorted(here["task"].unique()))
            axis.set_title(dataset, fontsize=9, loc="left")
        legend(figure, panels)
    return figure


def _memories(axis: Any, here: pd.DataFrame, tasks: Sequence[int]) -> None:
    metric = str(here["metric"].iloc[0])
    for name, (colour, style, marker) in _STYLES.items():
        line = here[here["memory"] == name].sort_values("task")
        axis.plot(line["task"], line["score"], color=colour, linestyle=style, marker=marker, markersize=5, fillstyle="none",
                  label=MEMORIES[name])  # fmt: skip
    if "RMSE" in metric:
        axis.set_yscale("log")
        axis.minorticks_off()
        low, high = here["score"].min(), here["score"].max()
        ticks = [low * (high / low) ** (i / 3) for i in range(4)]
        axis.set_yticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axis.set_xticks(tasks, [str(task) for task in tasks])
    axis.set_xlabel("tasks so far")
    axis.set_ylabel(metric + ("" if "RMSE" in metric else ", %"))
