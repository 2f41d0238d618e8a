"""Figures of the kernel studies: accuracy on the way, the transfer matrix, accuracy against corruption, pairs of classes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stillhouse.reporting import corruption as corrupted
from stillhouse.reporting import dgkip
from stillhouse.reporting import matrix as matrices
from stillhouse.reporting.figures import COLOURS, DASHED, DOTTED, GREY, STYLE, legend, plain_numbers
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import part_of_budget

# Two-class tasks: colour and marker of what a machine is trained on.
_MARKS = {"all": (GREY, "|"), "random": (COLOURS[7], "x"), "kip": (COLOURS[1], "s"), "dgkip": (COLOURS[0], "o")}


def progress(layout: Layout, tidy: pd.DataFrame, made: pd.DataFrame, theirs: pd.DataFrame) -> Figure:
    """Validation accuracy against steps (a row of panels a data set) and seconds (the row below), a column a size, a line a
    seed; crosses: what a paper prints (`theirs`). Test accuracy of all real and of random images, for the model of the first.
    """
    datasets = [name for name in layout.datasets if name in set(made["dataset"])]
    sizes = sorted(made["per_class"].unique())
    names = [name for name in layout.experiments if name in set(made["experiment"])]
    colours = dict(zip(names, itertools.cycle(COLOURS), strict=False))
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            2 * len(datasets), len(sizes), figsize=(3.1 * len(sizes) + 0.6, 4.6 * len(datasets) + 0.8),
            squeeze=False, sharey="row", layout="constrained",
        )  # fmt: skip
        for (i, dataset), (j, size) in itertools.product(enumerate(datasets), enumerate(sizes)):
            here = made[(made["dataset"] == dataset) & (made["per_class"] == size)]
            above, below = panels[2 * i, j], panels[2 * i + 1, j]
            for axis, against in ((above, "step"), (below, "seconds")):
                axis.set_title(f"{dataset}, {size} per class", fontsize=9, loc="left")
                _levels(axis, layout, tidy, here)
                for name in names:
                    for _, line in here[here["experiment"] == name].groupby("seed"):
                        axis.plot(
                            line[against], line["validation_accuracy"], color=colours[name], linewidth=1.2,
                            marker="o", markersize=2.5,
                            label=layout.labels[name] + part_of_budget(line["budget"].iloc[0]),
                        )  # fmt: skip
            paper = theirs[(theirs["dataset"] == dataset) & (theirs["per_class"] == size)]
            if len(paper):
                above.plot(
                    paper["step"], paper["accuracy"], "x", color="black", label="published, test accuracy", zorder=5
                )
            above.set_xscale("symlog", linthresh=1)
            below.set_xscale("log")
            for axis, what in ((above, "step"), (below, "seconds")):
                axis.set_xlabel(what)
                plain_numbers(axis, axis.xaxis)
        for row in panels:
            row[0].set_ylabel("validation accuracy, %")
        legend(figure, panels)
    return figure


def _levels(axis: Any, layout: Layout, tidy: pd.DataFrame, here: pd.DataFrame) -> None:
    """What all real images and as many random ones give the model that the first experiment of `here` is made for."""
    first = next(name for name in layout.experiments if name in set(here["experiment"]))
    model = layout.made_for.get(first)
    scored = tidy[(tidy["metric"] == "test accuracy") & (tidy["model"] == model)]
    scored = scored[scored["dataset"] == here["dataset"].iloc[0]]
    sized = scored[scored["per_class"] == here["per_class"].iloc[0]]
    for found, method, style in ((scored, "whole", DASHED), (sized, "random_images", DOTTED)):
        of = found[found["method"] == method].drop_duplicates("experiment")
        for name, level in zip(of["experiment"], of["mean"], strict=True):
            axis.axhline(level, color=GREY, linewidth=1, linestyle=style, label=f"{layout.labels[name]}, test accuracy")


def matrix(found: pd.DataFrame) -> Figure:
    """Test accuracy (numbers) and what is gained over random real images (colours): rows trained on, columns scored by, a
    panel per data set and size; frames stand around sets scored by the model they are made for.
    """
    parts = matrices.blocks(found)
    rows = [matrices.pivoted(part, "mean").shape[0] for _, _, part in parts]
    widest = max(matrices.pivoted(part, "mean").shape[1] for _, _, part in parts)
    longest = found["set"].str.len().max()
    limit = max(float(found[found["method"] != "whole"]["gain"].abs().max()), 1e-9)
    with plt.rc_context({**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}):
        figure, panels = plt.subplots(
            len(parts), 1, figsize=(0.62 * widest + 0.075 * longest + 1.4, 0.32 * sum(rows) + 1.5 * len(parts)),
            squeeze=False, layout="constrained", height_ratios=rows,
        )  # fmt: skip
        for axis, (dataset, size, part) in zip(panels.flat, parts, strict=True):
            drawn = _heat(axis, part, limit)
            axis.set_title(f"{dataset}, {size} per class, scored by", fontsize=9, loc="left")
        bar = figure.colorbar(drawn, ax=panels[:, 0], shrink=0.8 if len(parts) == 1 else 0.5, pad=0.02)
        bar.set_label("points over random real images")
        bar.outline.set_visible(False)
    return figure


def _heat(axis: Any, part: pd.DataFrame, limit: float) -> Any:
    mean, own = matrices.pivoted(part, "mean"), matrices.pivoted(part, "own").eq(True).to_numpy()
    gain = matrices.pivoted(part[part["method"] != matrices.WHOLE], "gain").reindex_like(mean)
    colours = np.ma.masked_invalid(gain.to_numpy(dtype=float))
    # A diverging map that colour-blind readers can tell apart; the whole set stands uncoloured.
    drawn = axis.imshow(colours, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(mean.to_numpy(dtype=float)):
        ink = "white" if abs(colours.filled(0)[i, j]) > 0.5 * limit else "black"
        if np.isfinite(value):
            axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)
        if own[i, j]:
            axis.add_patch(Rectangle((j - 0.45, i - 0.42), 0.9, 0.84, fill=False, edgecolor=ink, linewidth=1.3))
    axis.set_yticks(range(len(mean)), mean.index)
    axis.set_xticks(range(len(mean.columns)), mean.columns, rotation=40, ha="left", rotation_mode="anchor")
    axis.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
    return drawn


def corruption(layout: Layout, tidy: pd.DataFrame, found: pd.DataFrame) -> Figure:
    """Test accuracy against rho, a line a kind of corruption, a panel per data set, size and model; all real images dashed,
    random ones dotted.
    """
    places = found[["dataset", "per_class", "protocol", "model"]].drop_duplicates().to_dict("records")
    across = min(len(places), 3)
    down = -(-len(places) // across)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            down, across, figsize=(3.4 * across + 0.6, 2.6 * down + 0.7), squeeze=False, layout="constrained"
        )
        for axis, place in itertools.zip_longest(panels.flat, places):
            if place is None:
                axis.remove()
                continue
            here = found[(found[list(place)] == list(place.values())).all(axis=1)]
            _corrupted(axis, layout, tidy, here, str(place["model"]))
            axis.set_title(
                f"{place['dataset']}, {place['per_class']} per class, {layout.labels[str(place['model'])]}",
                fontsize=9, loc="left",
            )  # fmt: skip
            axis.set_xlabel("ρ, fraction of the pixels that is replaced")
        for row in panels:
            row[0].set_ylabel("test accuracy, %")
        legend(figure, panels)
    return figure


def _corrupted(axis: Any, layout: Layout, tidy: pd.DataFrame, here: pd.DataFrame, model: str) -> None:
    same = (tidy["metric"] == "test accuracy") & (tidy["model"] == model) & (tidy["dataset"] == here["dataset"].iloc[0])
    for level in tidy[same & (tidy["method"] == "whole")]["mean"].head(1):
        axis.axhline(level, color=GREY, linewidth=1, linestyle=DASHED, label="all real images")
    axis.axhline(here["random"].iloc[0], color=GREY, linewidth=1, linestyle=DOTTED, label="random real images")
    kinds = [kind for kind in corrupted.KINDS if kind != "none" and kind in set(here["kind"])]
    for kind, colour, marker in zip(kinds, COLOURS, "os", strict=False):
        line = here[here["kind"].isin(["none", kind])].sort_values("rho")
        axis.errorbar(
            line["rho"], line["mean"], line["std"].fillna(0), color=colour, marker=marker, markersize=4, linewidth=1.2,
            capsize=2, label=f"replaced by {corrupted.KINDS[kind]}",
        )  # fmt: skip


def pairs(found: pd.DataFrame, quoted: float) -> Figure:
    """Test accuracy in every two-class task, a line each: a row of panels a data set, a column a loss, tasks in the order of
    what all images give the first loss; dotted: a `quoted` accuracy in percent.
    """
    datasets, losses = (list(dict.fromkeys(found[name])) for name in ("dataset", "loss"))
    tasks = found[["dataset", "one", "other"]].drop_duplicates().groupby("dataset", sort=False).size().to_list()
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            len(datasets), len(losses), figsize=(3.4 * len(losses) + 1.6, 0.16 * sum(tasks) + 1.0 * len(datasets) + 0.4),
            squeeze=False, sharey="row", height_ratios=tasks, layout="constrained",
        )  # fmt: skip
        for row, dataset in zip(panels, datasets, strict=True):
            here = found[found["dataset"] == dataset].assign(task=lambda part: part["one"] + " or " + part["other"])
            first = here[(here["loss"] == losses[0]) & (here["trained_on"] == "all")].sort_values("accuracy")
            for axis, loss in zip(row, losses, strict=True):
                axis.axvline(quoted, color="black", linewidth=1, linestyle=DOTTED, label=f"{quoted:.2f} %, as quoted")
                _tasks(axis, here[here["loss"] == loss], first["task"].to_list())
                axis.set_title(f"{dataset}, {loss} loss", fontsize=9, loc="left")
                axis.set_xlabel("test accuracy, %")
        legend(figure, panels)
    return figure


def _tasks(axis: Any, here: pd.DataFrame, order: list[str]) -> None:
    for made, (colour, marker) in _MARKS.items():
        own = here[here["trained_on"] == made].set_index("task").reindex(order)
        if own["accuracy"].notna().any():
            images = int(own["images"].dropna().iloc[0])
            axis.plot(
                own["accuracy"], range(len(order)), marker, color=colour, markersize=7 if marker == "|" else 4,
                label=f"{dgkip.TRAINED_ON[made]}, {images} in all",
            )  # fmt: skip
    axis.set_yticks(range(len(order)), order, fontsize=7)
    axis.set_ylim(-0.7, len(order) - 0.3)
