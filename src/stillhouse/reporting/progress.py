"""How trained sets get there: accuracy against steps and seconds, from the records in their cost files, beside what the
authors' own runs print on their way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stillhouse.reporting import cost, published
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget, seconds

RUN = ["dataset", "per_class", "experiment"]
_SHARE = 0.9  # of a run's whole gain
_AT_STEP = re.compile(r"test accuracy at step (\d+)")


def gathered(layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """Every recorded line once: data set, experiment and the model it is made for, images per class, seed, step, seconds,
    accuracy on the validation images in percent.
    """
    made = cost.records(rows, ("dataset", "experiment", "method", "per_class", "seed", "budget"))
    made["model"] = made["experiment"].map(dict(layout.made_for))
    return made.dropna(subset=["validation_accuracy"]).reset_index(drop=True)


def printed(layout: Layout, made: pd.DataFrame) -> pd.DataFrame:
    """What the papers print of runs of ours (`gathered`) at a step: RUN, step and test accuracy in percent."""
    known = published.table(layout.published)
    steps = known["metric"].str.extract(_AT_STEP, expand=False)
    known = known.assign(step=pd.to_numeric(steps)).dropna(subset=["step"])
    found = [
        {**{name: run[name] for name in RUN}, "step": int(row["step"]), "accuracy": row["value"]}
        for run in made[[*RUN, "method", "model"]].drop_duplicates().to_dict("records")
        for row in known.to_dict("records")
        if all(row[name] == run[name] for name in ("dataset", "method", "model", "per_class"))
        and row["experiment"] in ("", run["experiment"])
    ]
    return pd.DataFrame(found, columns=[*RUN, "step", "accuracy"]).sort_values([*RUN, "step"])


def table(layout: Layout, tidy: pd.DataFrame, made: pd.DataFrame) -> Table:
    """Of every run its first record, those nearest to steps that a paper prints, and its last; means over seeds."""
    columns = [
        Column("trained on", words=True), Column("images per class"), Column("step"), Column("seconds"),
        Column("validation accuracy, %"), Column("test accuracy, %"),
        Column("step", "published"), Column("test accuracy, %", "published"),
    ]  # fmt: skip
    theirs = printed(layout, made)
    scored = tidy[tidy["metric"] == "test accuracy"].set_index([*RUN, "model"])["mean"].to_dict()
    lines = []
    for run, record in _runs(layout, made):
        final = scored.get((*run, record["model"].iloc[0]))
        for at, paper in _shown(record, _of(theirs, run)):
            last = at["step"].max() == record["step"].max()
            lines.append(_line(layout, run, at, final if last else None, paper))
    return Table("progress", "On the way", "data set", columns, lines)


def _runs(layout: Layout, made: pd.DataFrame) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The records of each data set, size and experiment, in the study's order."""
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    found = [(tuple(key), record) for key, record in made.groupby(RUN, sort=False)]
    return sorted(found, key=lambda each: (order[each[0][0]], each[0][1], order[each[0][2]]))


def _of(theirs: pd.DataFrame, run: tuple[Any, ...]) -> dict[int, float]:
    """What is printed of one run: step -> accuracy."""
    same = (theirs[RUN] == list(run)).all(axis=1)
    return dict(zip(theirs[same]["step"], theirs[same]["accuracy"], strict=True))


def _shown(record: pd.DataFrame, theirs: Mapping[int, float]) -> list[tuple[pd.DataFrame, tuple[int, float] | None]]:
    """The lines of a run's record to show, one a seed, and what is printed beside them."""
    steps = sorted(record["step"].unique())
    chosen = [(min(steps, key=lambda step, at=at: abs(step - at)), (at, value)) for at, value in theirs.items()]  # type: ignore[misc]
    beside = {step for step, _ in chosen}
    ends = [(step, None) for step in dict.fromkeys((steps[0], steps[-1])) if step not in beside]
    last = record.loc[record.groupby("seed")["step"].idxmax()]  # a run that stops early ends before the others
    ordered = sorted([*chosen, *ends], key=lambda each: (each[0], each[1] or ()))
    return [(last if step == steps[-1] else record[record["step"] == step], paper) for step, paper in ordered]


def _line(
    layout: Layout, run: tuple[Any, ...], at: pd.DataFrame, final: float | None, paper: tuple[int, float] | None
) -> Line:
    dataset, size, experiment = run
    label = layout.labels[experiment] + part_of_budget(at["budget"].iloc[0])
    ends = sorted({int(at["step"].min()), int(at["step"].max())})
    step = "–".join(map(str, ends))
    accuracy = at["validation_accuracy"]
    spread = f"± {accuracy.std():.2f}" if len(at) > 1 else ""
    entries = [
        Entry(label), Entry(str(size)), Entry(step), Entry(seconds(at["seconds"].mean())),
        Entry(f"{accuracy.mean():.2f}", spread, value=round(accuracy.mean(), 2)),
        Entry() if final is None else Entry(f"{final:.2f}", value=round(final, 2)),
        *((Entry(), Entry()) if paper is None else (Entry(str(paper[0])), Entry(f"{paper[1]:.2f}"))),
    ]  # fmt: skip
    return Line(dataset, entries, name=f"{dataset} {size} {label} step {step}")


def findings(layout: Layout, made: pd.DataFrame) -> list[str]:
    """What the records say, in sentences computed from them."""
    if not len(made):
        return []
    said = [
        "On the way: validation accuracy is that on training images that are held out, before some of the steps and after the "
        "last; test accuracy is that of the finished set. Seconds hold what is computed once, before the first step."
    ]
    parts = _steps_to_most(made)
    if len(parts):
        said.append(
            f"Of what a run gains in validation accuracy between its first record and its last, {100 * _SHARE:.0f} % is there "
            f"after {100 * parts.median():.0f} % of its steps (median of {len(parts)} runs; {100 * parts.min():.0f} to "
            f"{100 * parts.max():.0f} %)."
        )
    theirs = printed(layout, made)
    for run, record in _runs(layout, made):
        beside = [(at, *paper) for at, paper in _shown(record, _of(theirs, run)) if paper is not None]
        if beside:
            ours = ", ".join(f"{at['validation_accuracy'].mean():.2f} at {at['step'].max():.0f}" for at, _, _ in beside)
            printed_here = ", ".join(f"{value:.2f} at {step}" for _, step, value in beside)
            said.append(
                f"{run[0]}, {run[1]} per class, {layout.labels[run[2]]}: on validation images {ours} steps; the authors' "
                f"run has on the test images {printed_here}."
            )
    return said


def _steps_to_most(made: pd.DataFrame) -> pd.Series:
    """Per run that gains: the part of its steps after which most of the gain (_SHARE) is first recorded."""
    parts = []
    for _, record in made.groupby([*RUN, "seed"], sort=False):
        ordered = record.sort_values("step")
        accuracy = ordered["validation_accuracy"]
        gain = accuracy.iloc[-1] - accuracy.iloc[0]
        if gain > 0:
            there = ordered[accuracy >= accuracy.iloc[0] + _SHARE * gain]["step"].iloc[0]
            parts.append(there / ordered["step"].iloc[-1])
    return pd.Series(parts, dtype=float)
