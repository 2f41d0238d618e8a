"""How fast bilevel distillation descends, beside the paper's table, and what its theorem promises."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting import published
from stillhouse.reporting.figures import COLOURS, STYLE, legend
from stillhouse.reporting.tables import Column, Entry, Line, Table

# The columns of a rate, and what the paper calls them.
_MEASURED = {"slope": "slope of log loss", "r2": "R2 of log loss", "mu": "mu_T"}
# Of the slope measured: what explains less of it explains almost nothing.
_NOTHING = 0.01
_DIGITS = {"slope": 5, "r2": 4, "mu": 2}


def rates(rows: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Per data set and T: means and sample deviations over runs (name and name_std), how many (runs), the mean intercept and the
    mean window (first, last), the largest part of the step size's bound (step_ratio), and the paper's numbers of the table
    `reference` (name_published, name_published_std), missing where it has none.
    """
    by = rows[rows["part"] == "rate"].groupby(["dataset", "inner_steps"], sort=True)
    numbers = by[[*_MEASURED]]
    found = numbers.mean().join(numbers.std().add_suffix("_std"))
    found = found.join(by[["intercept", "first", "last"]].mean()).join(by[["step_ratio"]].max())
    found = found.join(by.size().rename("runs")).join(by[["recipe"]].first()).reset_index()
    theirs = published.table(reference).set_index(["dataset", "metric"])
    for name, metric in _MEASURED.items():
        keys = [(row["dataset"], f"{metric} at T = {row['inner_steps']}") for row in found.to_dict("records")]
        beside = theirs.reindex(pd.MultiIndex.from_tuples(keys))
        found[f"{name}_published"] = beside["value"].to_numpy()
        found[f"{name}_published_std"] = beside["std"].to_numpy()
    return found


def rate_table(found: pd.DataFrame) -> Table:
    """A line for each T: ours beside the paper's."""
    heads = {"slope": "slope of log loss", "r2": "R²", "mu": "mu_T"}
    columns = [Column("T"), Column("runs")]
    columns += [Column(who, heads[name]) for name in _MEASURED for who in ("ours", "paper")]
    lines = []
    for row in found.to_dict("records"):
        numbers = [entry for name in _MEASURED for entry in (_ours(row, name), _theirs(row, name))]
        entries = [Entry(str(row["inner_steps"])), Entry(str(row["runs"])), *numbers]
        lines.append(Line(str(row["dataset"]), entries, name=f"{row['dataset']} T = {row['inner_steps']}"))
    return Table("rates", "How fast the loss falls: fits of log loss against outer steps", "data set", columns, lines)


def bounds_table(rows: pd.DataFrame, found: pd.DataFrame) -> Table:
    """A line for each T and step: what Theorem 2.9 is made of and promises, beside the measured slope."""
    columns = [
        Column("T"), Column("outer step"), Column("L"), Column("M"), Column("λ_O"), Column("promised", "slope"),
        Column("promised for M = 0", "slope"), Column("measured", "slope"),
    ]  # fmt: skip
    measured = found.set_index(["dataset", "inner_steps"])["slope"]
    lines = []
    for row in _bounds(rows).to_dict("records"):
        convexity = max(0.0, -row["least"])
        entries = [
            Entry(str(row["inner_steps"])), Entry(f"{row['step']:.0f}"), Entry(f"{row['smoothness']:.3g}", recipe=row["recipe"]),
            Entry(f"{convexity:.3g}"), Entry(f"{row['ridge']:.3g}"), Entry(_signed(row["slope_promised"], ".1e")),
            Entry(_signed(row["slope_possible"], ".1e")),
            Entry(_signed(measured[row["dataset"], row["inner_steps"]], ".5f")),
        ]  # fmt: skip
        name = f"{row['dataset']} T = {row['inner_steps']} step {row['step']:.0f}"
        lines.append(Line(str(row["dataset"]), entries, name=name))
    return Table("bilevel_bounds", "What Theorem 2.9 promises", "data set", columns, lines)


def tried_table(rows: pd.DataFrame) -> Table:
    """A line for each other choice of what the paper leaves open."""
    columns = [
        Column("in place of our choice", words=True), Column("T"), Column("slope"), Column("R²"), Column("mu_T"),
        Column("loss at the end"), Column("inner step size"), Column("stopped at step"),
    ]  # fmt: skip
    lines = []
    for row in _tried(rows).to_dict("records"):
        numbers = [Entry()] * 5
        if np.isnan(row["stopped"]):
            slope = Entry(_signed(row["slope"], ".5f"), recipe=row["recipe"])
            rest = (f"{row['r2']:.4f}", f"{row['mu']:.2f}", f"{row['loss_end']:.3g}", f"{row['step_size']:.2f}")
            numbers = [slope, *map(Entry, rest)]
        stopped = Entry() if np.isnan(row["stopped"]) else Entry(f"{row['stopped']:.0f}", recipe=row["recipe"])
        entries = [Entry(str(row["tried"])), Entry(str(row["inner_steps"])), *numbers, stopped]
        lines.append(
            Line(str(row["dataset"]), entries, name=f"{row['dataset']} {row['tried']} T = {row['inner_steps']}")
        )
    return Table("tried", "Other choices of what the paper leaves open", "data set", columns, lines)


def findings(rows: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What the rates say, in sentences computed from them."""
    said = []
    for dataset, part in found.groupby("dataset", sort=False):
        said += _rates_said(str(dataset), part)
        said += _bounds_said(str(dataset), part, _bounds(rows[rows["dataset"] == dataset]))
    stopped = _tried(rows)
    stopped = stopped[stopped["stopped"].notna()]
    if len(stopped):
        which = ", ".join(f"{row['tried']} (T = {row['inner_steps']})" for row in stopped.to_dict("records"))
        said.append(
            f"Of the other choices, these stop, as their numbers end or their step size leaves its bound: {which}."
        )
    free = rows[rows["part"] == "free"]
    if len(free):
        counts = free.groupby("inner_steps")[["negative", "runs"]].sum()
        told = "; ".join(f"T = {steps}: {row['negative']:.0f} of {row['runs']:.0f}" for steps, row in counts.iterrows())
        said.append(
            f"A learned step size that nothing holds can turn negative at the start, where the learner climbs its loss: {told} "
            "short runs end so. Elsewhere here it is held at `least_step`."
        )
    return said


def _rates_said(dataset: str, part: pd.DataFrame) -> list[str]:
    slopes = "; ".join(f"T = {row['inner_steps']}: {_beside(row, 'slope')}" for row in part.to_dict("records"))
    rising = bool((part.sort_values("inner_steps")["mu"].diff().dropna() > 0).all())
    mu = f"{part['mu'].iloc[0]:.2f} to {part['mu'].iloc[-1]:.2f}"
    compared = part.dropna(subset=["slope_published"])
    near = (compared["slope"] - compared["slope_published"]).abs()
    within = int((near <= compared["slope_std"] + compared["slope_published_std"]).sum())
    told = f"{dataset}: log loss falls with slopes of {slopes}."
    if len(compared):
        told += (
            f" {within} of {len(compared)} are no further from the paper than both deviations together; the furthest is "
            f"{near.max():.4f} away. The paper states no noise, no start and no window: these are numbers of our choices "
            "(docs/theory/bilevel.md)."
        )
    return [
        told,
        f"{dataset}: μ_T = (1 − e^slope)/α {'rises with T' if rising else 'does not rise with every T'}, from {mu}; R² is "
        f"{part['r2'].min():.4f} to {part['r2'].max():.4f} on all examples. The learned step size comes to at most "
        f"{100 * part['step_ratio'].max():.0f} % of the bound of Lemma 2.4.",
    ]


def _bounds_said(dataset: str, part: pd.DataFrame, bounds: pd.DataFrame) -> list[str]:
    if bounds.empty:
        return []
    possible, slowest = bounds["slope_possible"].abs().max(), part["slope"].abs().min()
    ridge, convexity = bounds["ridge"].max(), (-bounds["least"]).clip(lower=0)
    promising = int((bounds["slope_promised"] < 0).sum())
    told = (
        f"{dataset}: with outer steps of the size used, Theorem 2.9 can promise a slope of no more than {possible:.1e}, "
        f"{100 * possible / slowest:.2g} % of the flattest measured, and that for M = 0 only. M, measured at {len(bounds)} "
        f"points, is {convexity.min():.2g} to {convexity.max():.2g}, where the theorem needs less than λ_O = {ridge:.3g}: it "
        f"promises something at {promising} of them."
    )
    return [told + (" Of the rate it explains almost nothing." if possible < _NOTHING * slowest else "")]


def figure(rows: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Above: loss on a logarithmic scale against outer steps, a line a T (geometric mean of all runs, shaded from the lowest to
    the highest), with the mean fit, dashed, over the mean window. Below: mu_T against T, beside the paper's. A column a data set.
    """
    curves = rows[rows["part"] == "curve"]
    datasets = list(dict.fromkeys(found["dataset"]))
    with plt.rc_context(STYLE):
        drawn, panels = plt.subplots(
            2, len(datasets), figsize=(5.4 * len(datasets) + 0.4, 6.0), squeeze=False, layout="constrained"
        )
        for (above, below), dataset in zip(panels.T, datasets, strict=True):
            here = found[found["dataset"] == dataset].sort_values("inner_steps")
            for row, colour in zip(here.to_dict("records"), itertools.cycle(COLOURS), strict=False):
                same = (curves["dataset"] == dataset) & (curves["inner_steps"] == row["inner_steps"])
                _curve(above, curves[same], row, colour)
            above.set_yscale("log")
            above.set_title(dataset, fontsize=9, loc="left")
            above.set_xlabel("outer steps")
            _mu(below, here)
        panels[0, 0].set_ylabel("loss on all training examples")
        panels[1, 0].set_ylabel("μ_T = (1 − e^slope) / α")
        legend(drawn, panels)
    return drawn


def _curve(axis: Any, curve: pd.DataFrame, row: Mapping[Any, Any], colour: str) -> None:
    by = curve.groupby("step")  # over seeds of the analysis
    line = np.exp(by["loss"].apply(lambda losses: np.log(losses).mean()))
    axis.fill_between(line.index, by["lowest"].min(), by["highest"].max(), color=colour, alpha=0.15, linewidth=0)
    axis.plot(line.index, line, color=colour, linewidth=1.2, label=f"T = {row['inner_steps']}")
    ends = np.array([row["first"], row["last"]])
    axis.plot(
        ends,
        np.exp(row["intercept"] + row["slope"] * ends),
        color="black",
        linewidth=1,
        linestyle=(0, (4, 2)),
        label="fit",
    )


def _mu(axis: Any, here: pd.DataFrame) -> None:
    shared: dict[str, Any] = {"capsize": 3, "markersize": 5, "linewidth": 1.2}
    axis.errorbar(
        here["inner_steps"], here["mu"], here["mu_std"].fillna(0), color=COLOURS[0], marker="o", label="ours", **shared
    )
    theirs = here.dropna(subset=["mu_published"])
    if len(theirs):
        axis.errorbar(
            theirs["inner_steps"], theirs["mu_published"], theirs["mu_published_std"].fillna(0), color="black", marker="x",
            linestyle="", label="paper", **{**shared, "linewidth": 0}, elinewidth=1.0,
        )  # fmt: skip
    axis.set_xticks(here["inner_steps"])
    axis.set_xlabel("T, inner steps")


def _bounds(rows: pd.DataFrame) -> pd.DataFrame:
    """Of the first seed."""
    found: pd.DataFrame = rows[(rows["part"] == "bound") & (rows["seed"] == rows["seed"].min())]
    return found


def _tried(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set, choice and T: means over seeds, and the first step at which one stopped, if any did."""
    found = rows[rows["part"] == "tried"]
    if found.empty:
        return pd.DataFrame(columns=["dataset", "tried", "inner_steps", "stopped"])
    numbers = ["slope", "r2", "mu", "loss_end", "step_size", "stopped"]
    known = found.reindex(columns=[*found.columns.difference(numbers), *numbers])
    by = known.groupby(["dataset", "tried", "inner_steps"], sort=False)
    gathered = by[numbers[:-1]].mean().join(by[["stopped"]].min()).join(by[["recipe"]].first())
    return gathered.reset_index()


def _ours(row: Mapping[Any, Any], name: str) -> Entry:
    spread = row[f"{name}_std"]
    text, digits = _number(row[name], name), _DIGITS[name]
    return Entry(
        text,
        "" if np.isnan(spread) else f"± {spread:.{digits}f}",
        recipe=row["recipe"],
        value=round(float(row[name]), digits),
    )


def _theirs(row: Mapping[Any, Any], name: str) -> Entry:
    value, spread = row[f"{name}_published"], row[f"{name}_published_std"]
    if np.isnan(value):
        return Entry()
    digits = {"slope": 4, "r2": 4, "mu": 3}[name]  # as printed
    return Entry(_signed(value, f".{digits}f"), "" if np.isnan(spread) else f"± {spread:.{digits}f}")


def _beside(row: Mapping[Any, Any], name: str) -> str:
    ours = _ours(row, name).plain
    theirs = row[f"{name}_published"]
    return ours if np.isnan(theirs) else f"{ours} (paper {_theirs(row, name).plain})"


def _number(value: float, name: str) -> str:
    return _signed(value, f".{_DIGITS[name]}f")


def _signed(value: float, form: str) -> str:
    return f"{value:{form}}".replace("-", "−", 1) if value < 0 else f"{value:{form}}"
