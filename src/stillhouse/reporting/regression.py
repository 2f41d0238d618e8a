"""Sets whose targets are values: errors by the number of examples m, in tables, figures and sentences.

The metrics are the judge's: test RMSE in the target's units, test R2, and the relative distance of what a model learned from a
set to its teacher's parameters.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting import figures
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Cell, Column, Entry, Line, Table, rows

ERROR, R2, DISTANCE = "test RMSE", "test R2", "parameter distance"
# Metric: name of its table, and title.
_TITLES = {
    ERROR: ("error", "Test RMSE, in the units of the target"),
    R2: ("r2", "Test R²"),
    DISTANCE: ("distance", "Distance of the learned parameters to the teacher's, relative to their norm"),
}
_NEAR = 0.05  # of the whole set's RMSE
_SAME = 1e-8  # parameters closer than this are the teacher's
_PANELS = 3  # panels a row
_DECADE = 10.0  # values that span more are drawn on a logarithmic axis
_DIGITS = 3


def table(layout: Layout, tidy: pd.DataFrame, metric: str) -> Table:
    """Lines are what was trained on, columns the number of examples; a section is a data set, and a model if there are more."""
    several = tidy["model"].nunique() > 1
    lines: dict[tuple[str, str], dict[str, Cell]] = {}
    references = set()
    for row in rows(layout, tidy, metric):
        for model, cell in row.cells.items():
            key = (f"{row.dataset}, {layout.labels[model]}" if several else row.dataset, row.label)
            lines.setdefault(key, {})[row.per_class] = cell
            references |= {key} if row.reference else set()
    sections = list(dict.fromkeys(section for section, _ in lines))
    sizes = {str(size): f"m = {size}" for size in layout.per_class}
    sizes |= {"all": "all"} if any("all" in cells for cells in lines.values()) else {}
    name, title = _TITLES[metric]
    columns = [Column("trained on", words=True), *map(Column, sizes.values())]
    made = [
        Line(
            key[0], [Entry(key[1]), *(_entry(lines[key].get(size), metric) for size in sizes)], key in references,
            f"{key[0]} {key[1]} {name}",
        )
        for key in sorted(lines, key=lambda key: sections.index(key[0]))
    ]  # fmt: skip
    return Table(name, title, "data set", columns, made)


def _entry(cell: Cell | None, metric: str) -> Entry:
    """Three digits, or three decimals of R2, and the deviation with as many decimals."""
    if cell is None:
        return Entry()
    exponent = math.floor(math.log10(abs(cell.mean))) if cell.mean and metric != R2 else -1
    form = ".1e" if exponent < -_DIGITS else f".{max(0, _DIGITS - 1 - exponent)}f"
    text = f"{cell.mean:z{form}}"
    said = f"−{text[1:]}" if text.startswith("-") else text
    return Entry(said, cell.spread(form), cell.recipe, value=float(text))


def figure(layout: Layout, tidy: pd.DataFrame, metric: str) -> Figure:
    """A metric against the number of examples: a panel per data set and model, a line per experiment, the whole set dashed."""
    chosen = tidy[tidy["metric"] == metric]
    places = list(_panels(layout, chosen))
    several = len({model for _, model, _ in places}) > 1
    across = min(_PANELS, len(places))
    down = math.ceil(len(places) / across)
    with plt.rc_context(figures.STYLE):
        drawn, panels = plt.subplots(
            down, across, figsize=(2.9 * across + 0.4, 2.3 * down + 0.9), squeeze=False, layout="constrained"
        )
        for axis, place in itertools.zip_longest(panels.flat, places):
            if place is None:
                axis.remove()
                continue
            dataset, model, cell = place
            _panel(axis, layout, cell)
            axis.set_title(f"{dataset}, {layout.labels[model]}" if several else dataset, fontsize=9, loc="left")
            axis.set_xlabel("examples, m")
        for line in panels:
            line[0].set_ylabel(metric.replace("R2", "R²"))
        figures.legend(drawn, panels)
    return drawn


def _panels(layout: Layout, chosen: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Data set, model and their rows, in the study's order, where there are any."""
    models = [name for name in layout.labels if name in set(chosen["model"])]
    for dataset, model in itertools.product(layout.datasets, models):
        cell = chosen[(chosen["dataset"] == dataset) & (chosen["model"] == model)]
        if len(cell):
            yield dataset, model, cell


def _panel(axis: Any, layout: Layout, cell: pd.DataFrame) -> None:
    for level in cell[cell["per_class"].isna()]["mean"]:
        axis.axhline(level, color="#555555", linewidth=1, linestyle=(0, (4, 2)), label=layout.labels["whole"])
    sized = _scaled(axis, cell[cell["per_class"].notna()])
    for place, name in enumerate(name for name in layout.experiments if name != "whole"):
        line = sized[sized["experiment"] == name].sort_values("per_class")
        if len(line):
            # Beyond eight, colours come again with another marker.
            colour, marker = figures.COLOURS[place % len(figures.COLOURS)], "os^D"[place // len(figures.COLOURS)]
            axis.errorbar(
                line["per_class"].astype(float), line["mean"], line[["below", "above"]].T, color=colour, marker=marker,
                markersize=4, linewidth=1.2, capsize=2, label=layout.labels[name],
            )  # fmt: skip
    axis.set_xscale("log")
    ticks = sorted(set(sized["per_class"].astype(int)))
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()


def _scaled(axis: Any, sized: pd.DataFrame) -> pd.DataFrame:
    """Choose the axis of values; the rows with what is drawn: `mean`, and the bar's length `below` and `above` it.

    On a logarithmic axis a deviation that is no smaller than its mean has no lower end. Distances that are rounding share one
    place at the bottom: beside fifteen decades of it nothing else could be told apart.
    """
    shown = sized.assign(below=sized["std"].fillna(0), above=sized["std"].fillna(0))
    rounding = (shown["metric"] == DISTANCE) & (shown["mean"] <= _SAME)
    rest = shown[~rounding]
    low, high = (rest["mean"].min(), (rest["mean"] + rest["above"]).max()) if len(rest) else (1.0, 1.0)
    if rounding.any() or (low > 0 and high > _DECADE * low):
        bottom = low / 3 if rounding.any() else low / 1.3
        shown.loc[rounding, ["mean", "below", "above"]] = [bottom, 0.0, 0.0]
        shown["below"] = shown["below"].where(shown["below"] < shown["mean"], 0.0)
        axis.set_yscale("log")
        axis.set_ylim(bottom / 1.3, high * 1.3)
    if rounding.any():
        decades = [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        limit = f"≤ $10^{{{round(math.log10(_SAME))}}}$"
        axis.set_yticks([bottom, *decades], [limit, *(f"{decade:g}" for decade in decades)])
    return shown


def findings(layout: Layout, tidy: pd.DataFrame) -> list[str]:
    """What the numbers say, in sentences computed from them."""
    return [*_near(layout, tidy), *_beside_random(layout, tidy), *_recovered(layout, tidy)]


def _near(layout: Layout, tidy: pd.DataFrame) -> Iterator[str]:
    """Per experiment and model, the smallest m whose mean RMSE is near that of the whole set, by data set."""
    errors = tidy[tidy["metric"] == ERROR]
    keys = ["dataset", "protocol", "model"]
    whole = errors[errors["per_class"].isna()][[*keys, "mean"]].rename(columns={"mean": "whole"})
    sized = errors[errors["per_class"].notna()].merge(whole, on=keys)
    for (name, model), cells in sized.groupby(["experiment", "model"], sort=False):
        by_size: dict[int, list[str]] = {}
        never = []
        for dataset, of in cells.groupby("dataset", sort=False):
            near = of[of["mean"] <= (1 + _NEAR) * of["whole"]]["per_class"]
            if len(near):
                by_size.setdefault(int(near.min()), []).append(str(dataset))
            else:
                never.append(str(dataset))
        said = [f"at m = {size} on {', '.join(by_size[size])}" for size in sorted(by_size)]
        said += [f"not up to m = {cells['per_class'].max()} on {', '.join(never)}"] if never else []
        yield (
            f"{_named(layout, tidy, str(name), str(model))}: within {100 * _NEAR:.0f} % of the test RMSE of "
            f"{layout.labels['whole']} first {'; '.join(said)}."
        )


def _beside_random(layout: Layout, tidy: pd.DataFrame) -> Iterator[str]:
    """In how many cells an experiment's mean RMSE is below that of as many random examples."""
    keys = ["dataset", "per_class", "protocol", "model"]
    errors = tidy[(tidy["metric"] == ERROR) & tidy["per_class"].notna()]
    random = errors[errors["method"] == "random_images"][[*keys, "mean"]].rename(columns={"mean": "random"})
    made = errors[errors["method"] != "random_images"].merge(random, on=keys)
    if len(made):
        counts = [
            f"{_named(layout, tidy, str(name), str(model))} in {int((of['mean'] < of['random']).sum())} of {len(of)} cells"
            for (name, model), of in made.groupby(["experiment", "model"], sort=False)
        ]
        yield f"A smaller mean test RMSE than as many random real examples: {', '.join(counts)}."


def _recovered(layout: Layout, tidy: pd.DataFrame) -> Iterator[str]:
    """Which experiments give back the teacher's parameters, and how closely."""
    distances = tidy[(tidy["metric"] == DISTANCE) & tidy["per_class"].notna()]
    for (name, model), of in distances.groupby(["experiment", "model"], sort=False):
        same = of[of["mean"] <= _SAME]
        if len(same):
            yield (
                f"{_named(layout, tidy, str(name), str(model))}: the teacher's parameters in {len(same)} of {len(of)} cells, to "
                f"{same['mean'].max():.1e} or better (relative, mean over seeds)."
            )


def _named(layout: Layout, tidy: pd.DataFrame, experiment: str, model: str) -> str:
    several = tidy["model"].nunique() > 1
    return layout.labels[experiment] + (f", by {layout.labels[model]}" if several else "")
