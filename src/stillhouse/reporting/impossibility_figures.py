"""Figures of what fewer points reach than exact distillation needs, beside what is proven."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from stillhouse.reporting.figures import COLOURS, DASHED, GREY, STYLE, legend, plain_numbers
from stillhouse.reporting.impossibility import fewer, part

_SERIES: dict[str, tuple[str, str, Any]] = {
    "subset": ("best random subset", COLOURS[7], "-"),
    "greedy": ("greedy subset", COLOURS[1], "-"),
    "found": ("best found, points anywhere", COLOURS[0], "-"),
    "bound": ("proven: no set is nearer", GREY, DASHED),
}


def floors(rows: pd.DataFrame) -> Figure:
    """Distance against the number of points, a panel a data set."""
    found = part(rows, "gaussian")
    datasets = list(dict.fromkeys(found["dataset"]))
    with plt.rc_context(STYLE):
        figure, panels = _panels(1, len(datasets))
        for axis, dataset in zip(panels[0], datasets, strict=True):
            here = fewer(found[found["dataset"] == dataset])
            for name, (label, colour, style) in _SERIES.items():
                shown = here[here[name] > 0]
                axis.plot(shown["m"], shown[name], color=colour, linestyle=style, linewidth=1.3, label=label)
            axis.fill_between(here["m"], here["bound"], here["found"], color=COLOURS[0], alpha=0.12, linewidth=0)
            size = int(here["n"].iloc[0])
            axis.axvline(size, color="#999999", linewidth=0.8, linestyle=":", label="n: exact")
            axis.set_yscale("log")
            axis.set_title(f"{dataset}, n = {size}", fontsize=9, loc="left")
            axis.set_xlabel("points")
        panels[0, 0].set_ylabel("distance, relative")
        legend(figure, panels)
    return figure


def epsilons(rows: pd.DataFrame) -> Figure:
    """Points within epsilon against examples: a row a data set and ridge, a column a number of features.

    Bands reach from what is proven to be needed to what is found; dotted: greedy subsets; dashed: the effective dimension.
    """
    found = part(rows, "epsilon")
    datasets = list(dict.fromkeys(found["dataset"]))
    dims = {dataset: sorted(set(found.loc[found["dataset"] == dataset, "d"])) for dataset in datasets}
    lines = [(dataset, loss) for dataset in datasets for loss in ("mean", "sum")]
    with plt.rc_context(STYLE):
        figure, panels = _panels(len(lines), max(map(len, dims.values())))
        for row, (dataset, loss) in zip(panels, lines, strict=True):
            for axis in row[len(dims[dataset]) :]:
                axis.set_axis_off()
            for axis, dim in zip(row, dims[dataset], strict=False):
                _bands(axis, found[(found["dataset"] == dataset) & (found["d"] == dim)], loss)
                ridge = "ridge grows" if loss == "mean" else "ridge stays"
                axis.set_title(f"{dataset}, {dim} features, {ridge}", fontsize=9, loc="left")
                axis.set_xlabel("examples")
            row[0].set_ylabel("points")
        legend(figure, panels)
    return figure


def _bands(axis: Any, here: pd.DataFrame, loss: str) -> None:
    first = here["n"].min()  # where both ridges are the same
    here = here[(here["loss"] == loss) | (here["n"] == first)].sort_values("n")
    for value, colour in zip(sorted(set(here["epsilon"]), reverse=True), COLOURS, strict=False):
        line = here[here["epsilon"] == value]
        axis.fill_between(line["n"], line["m_bound"], line["m_found"], color=colour, alpha=0.15, linewidth=0)
        axis.plot(
            line["n"], line["m_found"], "o-", color=colour, markersize=3, linewidth=1.2, label=f"within {value:g}"
        )
        axis.plot(line["n"], line["m_greedy"], ":", color=colour, linewidth=1, label=f"greedy, within {value:g}")
    axis.plot(
        here["n"], here["effective_dimension"], color=GREY, linewidth=1, linestyle=DASHED, label="effective dimension"
    )
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted(set(here["n"]))
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    plain_numbers(axis, axis.yaxis, LogLocator(subs=(1, 2, 5)))


def paths(rows: pd.DataFrame) -> Figure:
    """Largest distance over the ridge path against points (above), and together with other data (below), a column a data set
    and number of features.
    """
    path, union = fewer(part(rows, "path")), fewer(part(rows, "union"))
    columns = list(dict.fromkeys(zip(path["dataset"], path["d"], strict=True)))
    with plt.rc_context(STYLE):
        figure, panels = _panels(2, len(columns), sharex="col")
        for (above, below), (dataset, dim) in zip(panels.T, columns, strict=True):
            here = path[(path["dataset"] == dataset) & (path["d"] == dim)]
            cases = dict.fromkeys(zip(here["n"], here["weights"], strict=True))
            for (size, weights), colour in zip(cases, COLOURS, strict=False):
                line = here[(here["n"] == size) & (here["weights"] == weights)]
                label = f"n = {size}, {weights} weights"
                above.plot(line["m"], line["path"], "o-", color=colour, markersize=3, linewidth=1.2, label=label)
                if weights == "free":
                    chosen = (union["dataset"] == dataset) & (union["d"] == dim) & (union["n"] == size)
                    _unions(below, union[chosen], colour)
            above.set_title(f"{dataset}, {dim} feature{'s' if dim > 1 else ''}", fontsize=9, loc="left")
            above.set_yscale("log")
            below.set_yscale("log")
            below.set_xlabel("points")
        panels[0, 0].set_ylabel("distance alone")
        panels[1, 0].set_ylabel("with other data")
        legend(figure, panels)
    return figure


def _unions(axis: Any, here: pd.DataFrame, colour: str) -> None:
    """The worse of both other data: sets made for the path, and one point at its worst penalty."""
    worst = here.groupby(["set", "m"])["union"].max()
    for name, style, label in (("path", "o-", None), ("one point", "x", "one point, exact at its penalty")):
        line = worst.loc[[name]].reset_index()
        axis.plot(
            line["m"],
            line["union"],
            style,
            color=colour,
            markersize=3 if label is None else 6,
            linewidth=1.2,
            label=label,
        )


def _panels(rows: int, columns: int, **shared: Any) -> tuple[Figure, Any]:
    size = (3.0 * columns + 0.6, 2.5 * rows + 0.6)
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **shared)
