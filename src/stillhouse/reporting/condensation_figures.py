"""Figures of gradient matching: accuracy against seconds, the distance on its way, networks against networks, the ablation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator

from stillhouse.reporting import condensation, matrix
from stillhouse.reporting.figures import COLOURS, DASHED, DOTTED, GREY, STYLE, legend, plain_numbers
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import part_of_budget

_MARKERS = "osD^vPX"  # one a size
_BRIGHT = 0.55  # of the colour scale: above it numbers are black


def seconds(layout: Layout, tidy: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Test accuracy against seconds a set: a panel a data set and model that scores, a colour an experiment, a marker a size; all
    real images dashed, random ones dotted.
    """
    places = found[["dataset", "protocol", "model"]].drop_duplicates().to_dict("records")
    across = min(len(places), 3)
    down = -(-len(places) // across)
    made = [name for name in layout.experiments if name in set(found[found["method"] != matrix.RANDOM]["experiment"])]
    colours = dict(zip(made, itertools.cycle(COLOURS), strict=False))
    markers = dict(zip(sorted(found["per_class"].unique()), itertools.cycle(_MARKERS), strict=False))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            down, across, figsize=(3.4 * across + 0.6, 2.8 * down + 0.9), squeeze=False, layout="constrained"
        )
        for axis, place in itertools.zip_longest(panels.flat, places):
            if place is None:
                axis.remove()
                continue
            here, everything = (part[(part[list(place)] == list(place.values())).all(axis=1)] for part in (found, tidy))
            _levels(axis, everything)
            for row in here[here["method"] != matrix.RANDOM].to_dict("records"):
                spread = 0 if pd.isna(row["std"]) else row["std"]
                label = layout.labels[row["experiment"]] + part_of_budget(row["budget"])
                axis.errorbar(
                    row["seconds"], row["mean"], spread, color=colours[row["experiment"]],
                    marker=markers[row["per_class"]], markersize=5, capsize=2, linestyle="",
                    label=f"{label}, {row['per_class']} per class",
                )  # fmt: skip
            axis.set_title(f"{place['dataset']}, {layout.labels[str(place['model'])]}", fontsize=9, loc="left")
            _logarithmic(axis, "seconds a set")
        for row in panels:
            row[0].set_ylabel("test accuracy, %")
        legend(figure, panels)
    return figure


def _levels(axis: Any, here: pd.DataFrame) -> None:
    """What all real images and random ones of each size give."""
    accuracy = here[here["metric"] == "test accuracy"]
    for level in accuracy[accuracy["method"] == matrix.WHOLE]["mean"]:
        axis.axhline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
    for row in accuracy[accuracy["method"] == matrix.RANDOM].to_dict("records"):
        axis.axhline(row["mean"], color=GREY, linewidth=1, linestyle=DOTTED, label="random real images")
        axis.annotate(
            f"{row['per_class']}", (1, row["mean"]), xycoords=("axes fraction", "data"), fontsize=7, color=GREY,
            xytext=(2, 0), textcoords="offset points", va="center",
        )  # fmt: skip


def descent(layout: Layout, made: pd.DataFrame) -> Figure:
    """The matched distance, as a part of the first step's, against steps (left) and seconds (right): a row of panels a data set
    and size, a line a seed.
    """
    places = made[["dataset", "per_class"]].drop_duplicates().to_dict("records")
    names = [name for name in layout.experiments if name in set(made["experiment"])]
    colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(places), 2, figsize=(7.2, 2.5 * len(places) + 0.8), squeeze=False, sharey="row", layout="constrained"
        )
        for row, place in zip(panels, places, strict=True):
            here = made[(made["dataset"] == place["dataset"]) & (made["per_class"] == place["per_class"])]
            for name in names:
                for _, record in here[here["experiment"] == name].groupby("seed"):
                    line = record.sort_values("step")
                    part = line["distance"] / line["distance"].iloc[0]
                    for axis, against in zip(row, (line["step"] + 1, line["seconds"]), strict=True):
                        axis.plot(
                            against, part, color=colours[name], linewidth=1.2, marker="o", markersize=2.5,
                            label=layout.labels[name] + part_of_budget(line["budget"].iloc[0]),
                        )  # fmt: skip
            row[0].set_ylabel("distance / first step's")
            for axis, what in zip(row, ("step", "seconds"), strict=True):
                axis.set_title(f"{place['dataset']}, {place['per_class']} per class", fontsize=9, loc="left")
                _logarithmic(axis, what)
        legend(figure, panels)
    return figure


def _logarithmic(axis: Any, what: str) -> None:
    axis.set_xscale("log")
    axis.set_xlabel(what)
    plain_numbers(axis, axis.xaxis, LogLocator(subs=(1, 2, 5), numticks=12))  # less than a power of ten may be shown


def crossed(found: pd.DataFrame) -> Figure:
    """Test accuracy, mean and deviation (`condensation.crossed`): rows distilled for, columns scored by; ours on the left, the
    paper's on the right where there are any; a row of panels a data set and size. Frames: the same network on both sides.
    """
    parts = matrix.blocks(found)
    beside = bool(found["published"].notna().any())
    wide = [matrix.pivoted(part, "mean").shape for _, _, part in parts]
    longest = found["set"].str.len().max()
    shown = found["mean"] if not beside else pd.concat([found["mean"], found["published"]])
    limits = (float(shown.min()), max(float(shown.max()), float(shown.min()) + 1e-9))
    with plt.rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, panels = plt.subplots(
            len(parts), 1 + beside,
            figsize=(
                0.72 * max(columns for _, columns in wide) * (1 + beside) + 0.075 * longest + 1.6,
                sum(0.42 * rows + 1.5 for rows, _ in wide),
            ),
            squeeze=False, sharey="row", height_ratios=[rows for rows, _ in wide], layout="constrained",
        )  # fmt: skip
        for row, (dataset, size, part) in zip(panels, parts, strict=True):
            own = matrix.pivoted(part, "own").eq(True).to_numpy()
            drawn = _heat(
                row[0], matrix.pivoted(part, "mean"), matrix.pivoted(part, "std").to_numpy(float), own, limits
            )
            row[0].set_title(f"{dataset}, {size} per class, ours, scored by", fontsize=9, loc="left")
            if beside:
                theirs, spread = (matrix.pivoted(part, name) for name in ("published", "published_std"))
                _heat(row[1], theirs, spread.to_numpy(float), own, limits)
                row[1].set_title("paper, scored by", fontsize=9, loc="left")
        bar = figure.colorbar(drawn, ax=panels, shrink=0.7, pad=0.02)
        bar.set_label("test accuracy, %")
        bar.outline.set_visible(False)
    return figure


def _heat(
    axis: Any, mean: pd.DataFrame, spread: np.ndarray[Any, Any], own: np.ndarray[Any, Any], limits: tuple[float, float]
) -> Any:
    values = mean.to_numpy(dtype=float)
    drawn = axis.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=limits[0], vmax=limits[1], aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        ink = "black" if (value - limits[0]) / (limits[1] - limits[0]) > _BRIGHT else "white"
        text = f"{value:.1f}" + (f"\n± {spread[i, j]:.1f}" if np.isfinite(spread[i, j]) else "")
        axis.text(j, i, text, ha="center", va="center", fontsize=7, color=ink)
        if own[i, j]:
            axis.add_patch(Rectangle((j - 0.46, i - 0.45), 0.92, 0.9, fill=False, edgecolor=ink, linewidth=1.3))
    axis.set_yticks(range(len(mean)), mean.index)
    axis.set_xticks(range(len(mean.columns)), mean.columns, rotation=40, ha="left", rotation_mode="anchor")
    axis.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    return drawn


def ablation(found: pd.DataFrame) -> Figure:
    """Test accuracy of every value of every setting by the network that the set is made for: a row of panels a data set and size,
    a column a setting; bars: deviation; dashes: as many random images, by the same network.
    """
    own = found[found["own"]]
    places = own[["dataset", "per_class"]].drop_duplicates().to_dict("records")
    settings = [name for name in condensation.VARIED if name in set(own["varied"])]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(places), len(settings), figsize=(1.9 * len(settings) + 0.6, 2.4 * len(places) + 0.6),
            squeeze=False, sharey="row", layout="constrained",
        )  # fmt: skip
        for (i, place), (j, setting) in itertools.product(enumerate(places), enumerate(settings)):
            axis = panels[i, j]
            here = own[(own["dataset"] == place["dataset"]) & (own["per_class"] == place["per_class"])]
            part = here[here["varied"] == setting]
            at = np.arange(len(part))
            axis.errorbar(
                at, part["mean"], part["std"].fillna(0), color=COLOURS[0], marker="o", markersize=4, linestyle="",
                capsize=2, label="distilled",
            )  # fmt: skip
            axis.plot(
                at, part["random"], color=GREY, marker="_", markersize=12, linestyle="", label="random real images"
            )
            axis.set_xticks(at, part["value"], rotation=30, ha="right", rotation_mode="anchor")
            axis.set_xlim(-0.5, len(part) - 0.5)
            axis.set_title(condensation.VARIED[setting], fontsize=9, loc="left")
            if j == 0:
                axis.set_ylabel(f"{place['dataset']}, {place['per_class']} per class\ntest accuracy, %")
        legend(figure, panels)
    return figure
