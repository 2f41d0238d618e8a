"""Figures: accuracy against size, and distilled images. The same content gives the same bytes."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from PIL import Image

from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

# Okabe and Ito's colours, told apart by colour-blind readers, in this order; a brown and a grey stand for their yellow, too
# light, and their black, the paper's here.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5F4F", "#999999"]
GREY = "#555555"  # of what everything is measured against
DASHED, DOTTED = (0, (4, 2)), (0, (1, 1.5))
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
}
_COLUMNS = 10  # images a row
_PANELS = 4  # panels a row
# The data's pixels lie in [0, 1]; images that leave it by more than this are drawn on a scale of their own.
_SLACK = 0.5
# Most that a channel may change, of 255, where a figure is saved with a palette: less than the eye tells apart.
_UNSEEN = 20


def save(figure: Figure, path: Path | str) -> None:
    """Write as PNG without anything that changes from run to run."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=160, metadata={"Software": None})
    plt.close(figure)
    small(Image.open(drawn)).save(path, "PNG", optimize=True)


def small(image: Image.Image) -> Image.Image:
    """The image with 256 colours, a third of the size as PNG, where nobody sees it: charts, unlike most photographs."""
    full = image.convert("RGB")
    few = full.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    apart = np.abs(np.asarray(few.convert("RGB"), dtype=np.int16) - np.asarray(full, dtype=np.int16)).max()
    return few if apart <= _UNSEEN else full


def accuracy(layout: Layout, tidy: pd.DataFrame) -> Figure:
    """Test accuracy against images per class: a panel per data set and model, the whole set as a line, the paper as crosses.

    Where there is one size alone, every set has a line of its own instead.
    """
    chosen = tidy[tidy["metric"] == "test accuracy"]
    one_size = chosen["per_class"].nunique() == 1
    models = [name for name in layout.labels if name in set(chosen["model"])]
    folds = math.ceil(len(models) / _PANELS)  # rows of panels a data set
    across = math.ceil(len(models) / folds)
    names = _names(layout)
    height = 0.22 * len(names) + 0.8 if one_size else 2.3
    width = 0.07 * max(map(len, names), default=0) if one_size else 0.4  # beside the panels
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            folds * len(layout.datasets), across,
            figsize=(2.9 * across + width, height * folds * len(layout.datasets) + 0.7),
            squeeze=False, sharex=not one_size, sharey=one_size, layout="constrained",
        )  # fmt: skip
        for i, dataset in enumerate(layout.datasets):
            places = panels[folds * i : folds * (i + 1)].flat
            for axis, model in itertools.zip_longest(places, models):
                if model is None:
                    axis.remove()
                    continue
                cell = chosen[(chosen["dataset"] == dataset) & (chosen["model"] == model)]
                (_lines if one_size else _panel)(axis, layout, cell)
                axis.set_title(f"{dataset}, {layout.labels[model]}", fontsize=9, loc="left")
        if not one_size:
            for line in panels:
                line[0].set_ylabel("test accuracy, %")
        for column in panels.T:
            lowest = [axis for axis in column if axis.figure is not None][-1]
            lowest.set_xlabel("test accuracy, %" if one_size else "images per class")
            lowest.tick_params(labelbottom=True)
        legend(figure, panels)
    return figure


def _names(layout: Layout) -> list[str]:
    """What distilled and random sets are called, each once."""
    return list(dict.fromkeys(layout.labels[e] for e in layout.experiments if e != "whole"))


def _lines(axis: Any, layout: Layout, cell: pd.DataFrame) -> None:
    """Accuracies of sets of one size: a line a set, from above in the study's order."""
    names = _names(layout)
    for level in cell[cell["per_class"].isna()]["mean"]:
        axis.axvline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
    sized = cell[cell["per_class"].notna()]
    places = sized["experiment"].map(layout.labels).map(names.index)
    axis.errorbar(
        sized["mean"], places, xerr=sized["std"].fillna(0), color=COLOURS[0], linestyle="", marker="o", markersize=4,
        capsize=2, label="sets, mean and deviation",
    )  # fmt: skip
    theirs = sized["published"].notna()
    if theirs.any():
        axis.plot(sized["published"][theirs], places[theirs], "x", color="black", label="paper", zorder=5)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def _panel(axis: Any, layout: Layout, cell: pd.DataFrame) -> None:
    whole = cell[cell["per_class"].isna()]
    for level in whole["mean"]:
        axis.axhline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
    sized = cell[cell["per_class"].notna()]
    names = _names(layout)
    for name, colour in zip(names, itertools.cycle(COLOURS), strict=False):
        line = sized[sized["experiment"].map(layout.labels) == name].sort_values("per_class")
        if len(line):
            # Exact sets lie on one another: each later one is drawn smaller.
            size = 7 - 1.5 * names.index(name)
            axis.errorbar(
                line["per_class"].astype(float), line["mean"], line["std"].fillna(0), color=colour, marker="o",
                markersize=max(size, 3), linewidth=1.2, capsize=2, label=name,
            )  # fmt: skip
    theirs = sized.dropna(subset=["published"]).drop_duplicates(["per_class", "published"])
    if len(theirs):
        axis.plot(theirs["per_class"].astype(float), theirs["published"], "x", color="black", label="paper", zorder=5)
    axis.set_xscale("log")
    ticks = sorted(set(sized["per_class"].astype(int)))
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()


def race(layout: Layout, made: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Accuracy against seconds: a panel per data set, a curve per size, the teacher dashed; an exact set, whose
    accuracy is its teacher's, is a diamond there.
    """
    datasets = [name for name in layout.datasets if name in set(made["dataset"])]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(datasets), figsize=(3.2 * len(datasets) + 0.4, 3.0), squeeze=False, layout="constrained"
        )
        for axis, dataset in zip(panels[0], datasets, strict=True):
            here = made[made["dataset"] == dataset]
            level = here["teacher"].mean()
            axis.axhline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
            for size, colour in zip(sorted(here["per_class"].unique()), COLOURS, strict=False):
                for _, line in here[here["per_class"] == size].groupby("seed"):
                    axis.plot(
                        line["seconds"], line["validation_accuracy"], color=colour, label=f"KIP, {size} per class"
                    )
                exact = found[(found["dataset"] == dataset) & (found["per_class"] == size)]["exact"].mean()
                axis.plot(exact, level, "D", color=colour, markersize=5, label=f"exact, {size} per class")
            axis.set_title(dataset, fontsize=9, loc="left")
            axis.set_xlabel("seconds, one core")
            axis.set_xscale("log")
            plain_numbers(axis, axis.xaxis, LogLocator(subs=(1, 3)))
        panels[0, 0].set_ylabel("validation accuracy, %")
        legend(figure, panels)
    return figure


def privacy(found: pd.DataFrame, names: Mapping[str, str]) -> Figure:
    """Test accuracy (left) and the area under the attack's curve (right) against epsilon, a line a mechanism, a row a
    data set.
    """
    datasets = list(dict.fromkeys(found["dataset"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(datasets), 2, figsize=(7.0, 2.5 * len(datasets) + 0.7), squeeze=False, layout="constrained"
        )
        for row, dataset in zip(panels, datasets, strict=True):
            here = found[found["dataset"] == dataset]
            for axis, value, spread in ((row[0], "mean", "std"), (row[1], "auc", None)):
                _mechanisms(axis, here, names, value, spread)
                axis.set_xscale("log")
                axis.set_xlabel("ε")
                axis.set_title(dataset, fontsize=9, loc="left")
            row[0].set_ylabel("test accuracy, %")
            row[1].set_ylabel("membership inference, AUC")
            row[1].axhline(0.5, color="#999999", linewidth=0.8, linestyle=":", label="guessing")
        legend(figure, panels)
    return figure


def _mechanisms(axis: Any, here: pd.DataFrame, names: Mapping[str, str], value: str, spread: str | None) -> None:
    exact = here[here["mechanism"] == "exact"]
    axis.axhline(exact[value].mean(), color=GREY, linewidth=1, linestyle=DASHED, label=names["exact"])
    for name, colour in zip([n for n in names if n != "exact"], COLOURS, strict=False):
        line = here[here["mechanism"] == name].sort_values("epsilon")
        bars = None if spread is None else line[spread].fillna(0)
        axis.errorbar(
            line["epsilon"],
            line[value],
            bars,
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1.2,
            capsize=2,
            label=names[name],
        )


def path(found: pd.DataFrame) -> Figure:
    """Test accuracy (lines: teachers; circles: exact sets) and weight errors against the ridge, a column a data set."""
    datasets = list(dict.fromkeys(found["dataset"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            2,
            len(datasets),
            figsize=(3.4 * len(datasets) + 0.4, 4.4),
            squeeze=False,
            sharex="col",
            layout="constrained",
        )
        for (above, below), dataset in zip(panels.T, datasets, strict=True):
            here = found[found["dataset"] == dataset].sort_values("ridge")
            above.plot(here["ridge"], here["teacher_accuracy"], color=GREY, label="teacher of that ridge")
            above.plot(
                here["ridge"],
                here["exact_accuracy"],
                "o",
                color=COLOURS[0],
                markersize=4,
                label="exact set, one image per class",
            )
            above.set_title(dataset, fontsize=9, loc="left")
            below.plot(here["ridge"], here["exact_weight_error"], "o-", color=COLOURS[0], markersize=4, linewidth=1)
            below.plot(
                here["ridge"],
                here["path_range_error"],
                "s-",
                color=COLOURS[1],
                markersize=4,
                linewidth=1,
                label="one set for all ridges",
            )
            below.set_xscale("log")
            below.set_yscale("log")
            below.set_xlabel("ridge")
        panels[0, 0].set_ylabel("test accuracy, %")
        panels[1, 0].set_ylabel("weight error")
        legend(figure, panels)
    return figure


def image_rows(rows: Mapping[str, np.ndarray[Any, Any]]) -> Figure:
    """Rows of images (k, channels, h, w) with values of any scale around 0 or above, one row a label."""
    columns = max(len(images) for images in rows.values())
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(rows),
            columns,
            figsize=(0.72 * columns + 1.9, 0.78 * len(rows) + 0.2),
            squeeze=False,
            layout="constrained",
        )
        for line, (label, images) in zip(panels, rows.items(), strict=True):
            for axis, image in zip(line, np.moveaxis(images, 1, -1), strict=True):
                draw(axis, image.clip(0, 1))
            line[0].text(-0.15, 0.5, _folded(label), transform=line[0].transAxes, ha="right", va="center", fontsize=8)
    return figure


def plain_numbers(axis: Any, along: Any, ticks: LogLocator | None = None) -> None:
    """Write 500 instead of 5 x 10^2 along a logarithmic x or y axis of `axis`, at `ticks`; none: as they are."""
    if ticks is not None:
        along.set_major_locator(ticks)
    along.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.minorticks_off()


def legend(figure: Figure, panels: Any) -> None:
    """One legend below, every label once, in as many columns as the figure is wide enough for; longer labels are folded."""
    width, mark = 0.075, 0.5  # inches of a character at this size of type, and of what stands beside a label
    longest = int((figure.get_figwidth() - mark) / width)
    drawn = [pair for axis in panels.flat for pair in zip(*axis.get_legend_handles_labels(), strict=True)]
    entries: dict[str, Any] = {}
    for line, label in drawn:
        entries.setdefault(textwrap.fill(label, longest), line)
    widest = max((len(line) for label in entries for line in label.splitlines()), default=1) * width + mark
    columns = max(1, min(len(entries), int(figure.get_figwidth() / widest)))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False)


def pictures(sets: Mapping[str, DistilledSet], labels: Mapping[str, str]) -> Figure:
    """Rows of distilled images, one row a set, one column a class (the first ten): the first image of each class."""
    any_set = next(iter(sets.values()))
    columns = min(_COLUMNS, len(any_set.classes))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(sets),
            columns,
            figsize=(0.72 * columns + 1.9, 0.78 * len(sets) + 0.3),
            squeeze=False,
            layout="constrained",
        )
        for row, (name, distilled) in zip(panels, sets.items(), strict=True):
            images, stretched = _first_of_each_class(distilled, columns)
            for axis in row:
                axis.set_axis_off()
            for axis, image in zip(row, images, strict=False):  # learned labels: there may be fewer images than classes
                draw(axis, image)
            text = _folded(labels[name]) + ("\n(own scale)" if stretched else "")
            row[0].text(-0.15, 0.5, text, transform=row[0].transAxes, ha="right", va="center", fontsize=8)
        for axis, name in zip(panels[0], any_set.classes, strict=False):
            axis.set_title(name, fontsize=7)
    return figure


def sheet(distilled: DistilledSet, limit: int = 100) -> Figure:
    """The images of one set, ten a row, at most `limit`."""
    images, _ = drawable(distilled.pictures()[:limit].numpy())
    lines = math.ceil(len(images) / _COLUMNS)
    figure, panels = plt.subplots(
        lines, _COLUMNS, figsize=(7.2, 0.78 * lines + 0.2), squeeze=False, layout="constrained"
    )
    for axis in panels.flat:
        axis.set_axis_off()
    for axis, image, label in zip(panels.flat, images, distilled.labels.tolist(), strict=False):
        draw(axis, image)
        axis.set_title(distilled.classes[label], fontsize=6)
    return figure


def _first_of_each_class(distilled: DistilledSet, columns: int) -> tuple[np.ndarray[Any, Any], bool]:
    # Classes take turns in every set, so the first of each class are the first of all.
    return drawable(distilled.pictures()[:columns].numpy())


def drawable(images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], bool]:
    """Images (m, channels, h, w) as (m, h, w, channels) in [0, 1], and whether they were drawn on a scale of their own."""
    shown = np.moveaxis(images, 1, -1)
    if shown.min() >= -_SLACK and shown.max() <= 1 + _SLACK:
        return shown.clip(0, 1), False
    low, high = (np.percentile(shown, q, axis=(1, 2, 3), keepdims=True) for q in (1, 99))
    return ((shown - low) / np.maximum(high - low, 1e-12)).clip(0, 1), True


def _folded(label: str) -> str:
    """A row's label in lines short enough for the space beside it."""
    return "\n".join(part for line in label.split("\n") for part in textwrap.wrap(line, 26))


def draw(axis: Any, image: np.ndarray[Any, Any]) -> None:
    """An image (height, width, channels) of values in [0, 1], without an axis."""
    axis.set_axis_off()
    grey = image.shape[-1] == 1
    axis.imshow(image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
