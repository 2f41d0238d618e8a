"""Figures of unrolled training: accuracies by protocol, learned step sizes, distillation ratios, images with learned labels."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, gridspec
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from stillhouse.reporting.figures import COLOURS, DASHED, DOTTED, GREY, STYLE, draw, drawable, legend
from stillhouse.reporting.study import Layout
from stillhouse.reporting.unrolled import WHOLE
from stillhouse.sets import DistilledSet

_MARKERS = "osD^v"
_CARDS = 5  # images with their labels a row


def accuracies(found: pd.DataFrame) -> Figure:
    """Test accuracy of every set (`unrolled.gathered`), a line a set, a colour and marker a protocol; a panel a data set. The
    whole set is dashed, crosses are published numbers.
    """
    datasets = list(dict.fromkeys(found["dataset"]))
    columns = list(dict.fromkeys(found.sort_values("place", kind="stable")["column"]))
    sets = found[found["method"] != WHOLE]
    names = [_named(part) for dataset in datasets for part in [sets[sets["dataset"] == dataset]]]
    longest = max((len(name) for each in names for name in each), default=0)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(datasets), 1, figsize=(5.0 + 0.065 * longest, 0.34 * sum(map(len, names)) + 0.8 * len(datasets) + 0.5),
            squeeze=False, height_ratios=[max(len(each), 1) for each in names], layout="constrained",
        )  # fmt: skip
        for axis, dataset, lines in zip(panels[:, 0], datasets, names, strict=True):
            here = found[found["dataset"] == dataset]
            whole = here[(here["method"] == WHOLE) & (here["place"] == here["place"].min())]
            for level in whole["mean"]:
                axis.axvline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
            own = here[here["method"] != WHOLE].assign(line=lambda part: _labels(part))
            for column, colour, marker in zip(
                columns, itertools.cycle(COLOURS), itertools.cycle(_MARKERS), strict=False
            ):
                part = own[own["column"] == column]
                axis.errorbar(
                    part["mean"], part["line"].map(lines.index), xerr=part["std"].fillna(0), color=colour, linestyle="",
                    marker=marker, markersize=5, capsize=2, label=column,
                )  # fmt: skip
            theirs = own.dropna(subset=["published"])
            if len(theirs):
                axis.plot(
                    theirs["published"],
                    theirs["line"].map(lines.index),
                    "x",
                    color="black",
                    label="published",
                    zorder=5,
                )
            axis.set_yticks(range(len(lines)), lines)
            axis.set_ylim(len(lines) - 0.5, -0.5)
            axis.set_xlim(0, 100)
            axis.set_xlabel("test accuracy, %")
            axis.set_title(dataset, fontsize=9, loc="left")
        legend(figure, panels)
    return figure


def step_sizes(layout: Layout, sizes: pd.DataFrame) -> Figure:
    """Learned step sizes in the order of the steps, a panel per data set and experiment: a colour an epoch, joined within it, the
    first seed's; dotted: before the first outer step.
    """
    keys = ["dataset", "experiment", "per_class"]
    parts = [(key, part[part["seed"] == part["seed"].min()]) for key, part in sizes.groupby(keys, sort=False)]
    across = min(len(parts), 3)
    down = math.ceil(len(parts) / across)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            down, across, figsize=(3.1 * across + 0.5, 2.2 * down + 0.7), squeeze=False, layout="constrained"
        )
        for axis, each in itertools.zip_longest(panels.flat, parts):
            if each is None:
                axis.remove()
                continue
            (dataset, experiment, _), part = each
            shades = colormaps["viridis"](np.linspace(0.1, 0.8, int(part["epoch"].max())))
            for (epoch, line), colour in zip(part.groupby("epoch"), shades, strict=True):
                axis.plot(
                    line["step"],
                    line["step_size"],
                    "o-",
                    color=colour,
                    markersize=4,
                    linewidth=1.2,
                    label=f"epoch {epoch}",
                )
            axis.axhline(part["start"].iloc[0], color=GREY, linewidth=1, linestyle=DOTTED, label="at the start")
            axis.set_ylim(0, 1.1 * max(part["step_size"].max(), part["start"].iloc[0]))
            axis.margins(x=0.08)
            axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
            axis.set_xlabel("step t")
            axis.set_title(f"{dataset}, {layout.labels[str(experiment)]}", fontsize=9, loc="left")
        for row in panels:
            row[0].set_ylabel("step size r")
        legend(figure, panels)
    return figure


def ratio(made: pd.DataFrame) -> Figure:
    """r_M against the number of images M, a line a family of sets (`unrolled.ratio`), a panel a data set."""
    datasets = list(dict.fromkeys(made["dataset"]))
    families = list(dict.fromkeys(made["family"]))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, len(datasets), figsize=(3.6 * len(datasets) + 0.5, 3.1), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, dataset in zip(panels[0], datasets, strict=True):
            here = made[made["dataset"] == dataset]
            axis.axhline(100, color=GREY, linewidth=1, linestyle=DASHED, label="whole set")
            for family, colour, marker in zip(
                families, itertools.cycle(COLOURS), itertools.cycle(_MARKERS), strict=False
            ):
                line = here[here["family"] == family].sort_values("images")
                spread = 100 * line["std"].fillna(0) / line["whole"]
                axis.errorbar(
                    line["images"].astype(float), line["ratio"], spread, color=colour, marker=marker, markersize=5,
                    linewidth=1.2, capsize=2, label=family,
                )  # fmt: skip
            counts = sorted(set(here["images"].astype(int)))
            axis.set_xscale("log")
            axis.set_xticks(counts, [str(count) for count in counts])
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.minorticks_off()
            axis.set_ylim(0, max(105, 1.05 * made["ratio"].max()))
            axis.set_xlabel("distilled images M")
            axis.set_title(dataset, fontsize=9, loc="left")
        panels[0, 0].set_ylabel("r_M, %")
        legend(figure, panels)
    return figure


def soft_labels(distilled: DistilledSet) -> Figure:
    """Every image with its labels beside it as bars: one a class, to the right where it is positive; all on one scale, the
    largest of an image in full colour.
    """
    images, _ = drawable(distilled.pictures().numpy())
    targets = distilled.targets.numpy()
    count, classes = targets.shape
    across = min(count, _CARDS)
    down = math.ceil(count / across)
    low, high = min(float(targets.min()), 0.0), max(float(targets.max()), 0.0)
    slack = 0.04 * (high - low)
    names = [name if len(name) <= 10 else f"{name[:9]}…" for name in distilled.classes]
    bars = 0.105 * classes + 0.1  # inches
    label = 0.06 * max(map(len, names)) + 0.1
    with plt.rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure = plt.figure(figsize=(across * (1.15 + label + 0.85), down * (max(bars, 1.15) + 0.2)))
        cards = gridspec.GridSpec(
            down, across, figure=figure, left=0.01, right=0.99, top=0.97, bottom=0.03, wspace=0.1, hspace=0.16
        )
        for place, (image, row) in enumerate(zip(images, targets, strict=True)):
            card = cards[place // across, place % across].subgridspec(
                1, 3, width_ratios=[1.15, label, 0.85], wspace=0.03
            )
            draw(figure.add_subplot(card[0]), image)
            _bars(figure.add_subplot(card[2]), row, names, (low - slack, high + slack))
    return figure


def _bars(axis: Any, row: np.ndarray[Any, Any], names: list[str], limits: tuple[float, float]) -> None:
    colours = [COLOURS[0] if value >= 0 else COLOURS[1] for value in row]
    drawn = axis.barh(range(len(row)), row, height=0.72, color=colours)
    for place, bar in enumerate(drawn):
        bar.set_alpha(1.0 if place == int(row.argmax()) else 0.55)
    axis.axvline(0, color=GREY, linewidth=0.7)
    axis.set_xlim(limits)
    axis.set_ylim(len(row) - 0.4, -0.6)
    axis.set_yticks(range(len(row)), names, fontsize=6)
    axis.set_xticks([])
    axis.tick_params(length=0, pad=2)
    axis.get_yticklabels()[int(row.argmax())].set_fontweight("bold")


def _named(part: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(_labels(part)))


def _labels(part: pd.DataFrame) -> list[str]:
    """What a line is called: its set, and how many images where that differs among them."""
    counts = part["images"].nunique() > 1
    return [f"{name} ({count})" if counts else name for name, count in zip(part["set"], part["images"], strict=True)]
