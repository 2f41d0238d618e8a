"""What learned labels of real images hold: pictures of images above their labels, and numbers beside the images' own classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting.figures import STYLE
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget
from stillhouse.sets import DistilledSet

METHOD = "label_distillation"
_SHOWN = 20  # images of a picture
_INCH = 0.42  # side of an image
_FLAT = 0.5  # height of a row of labels, in sides of an image


def gathered(layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per set of this method: the `steps` that it is trained for, and means over its images.

    entropy   of a label, in bits
    largest   entry of a label
    own       share of images, in percent, whose largest entry is that of their own class; missing for images of other data
    """
    found = []
    for _, row in rows[rows["method"] == METHOD].drop_duplicates("file").iterrows():
        distilled = DistilledSet.load(row["file"])
        known = {name: row[name] for name in ("dataset", "experiment", "per_class", "seed", "budget", "recipe")}
        found.append({**known, "steps": distilled.schedule["steps"], **_measured(distilled)})
    ranked = pd.DataFrame(found)
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    places = ranked.assign(a=ranked["dataset"].map(order), b=ranked["per_class"], c=ranked["experiment"].map(order))
    return places.sort_values(["a", "b", "c", "seed"], kind="stable").drop(columns=list("abc")).reset_index(drop=True)


def _measured(distilled: DistilledSet) -> dict[str, float]:
    labels = distilled.targets.numpy().astype(np.float64)
    logs = np.log2(labels, out=np.zeros_like(labels), where=labels > 0)
    classes = np.arange(len(labels)) % labels.shape[1]  # those of the images, which take turns
    others = distilled.recipe["method"]["base"]
    return {
        "entropy": 0.0 - float((labels * logs).sum(1).mean()),  # no -0.0
        "largest": float(labels.max(1).mean()),
        "own": np.nan if others else float(100 * (labels.argmax(1) == classes).mean()),
    }


def table(layout: Layout, found: pd.DataFrame) -> Table:
    """Means over seeds of what `gathered` found."""
    heads = [
        Column("labels", words=True), Column("images per class"), Column("steps of training"),
        Column("entropy, bits", "of a label"), Column("largest entry", "of a label"), Column("names its own class, %"),
    ]  # fmt: skip
    keys = ["dataset", "per_class", "experiment"]
    by = found.groupby(keys, sort=False)
    numbers = by[["steps", "entropy", "largest", "own"]].mean().join(by[["recipe", "budget"]].first()).reset_index()
    lines = [_line(layout, row) for row in numbers.to_dict("records")]
    return Table("labels", "What the labels hold", "data set", heads, lines)


def _line(layout: Layout, row: Mapping[Any, Any]) -> Line:
    label, size = layout.labels[str(row["experiment"])] + part_of_budget(row["budget"]), str(row["per_class"])
    own = Entry() if np.isnan(row["own"]) else Entry(f"{row['own']:.0f}")
    entries = [
        Entry(label), Entry(size), Entry(f"{row['steps']:.0f}"),
        Entry(f"{row['entropy']:.2f}", recipe=str(row["recipe"]), value=round(float(row["entropy"]), 2)),
        Entry(f"{row['largest']:.2f}"), own,
    ]  # fmt: skip
    return Line(str(row["dataset"]), entries, name=f"{row['dataset']} {size} {label} entropy")


def findings(layout: Layout, tidy: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What the labels say, and what they gain over true labels of random real images, in sentences computed from them."""
    said = []
    for experiment, part in found.groupby("experiment", sort=False):
        own = f", and {_range(part['own'], '.0f')} % name their image's own class" if part["own"].notna().all() else ""
        said.append(f"{layout.labels[str(experiment)]}: {_range(part['entropy'], '.2f')} bits a label{own}.")
    keys = ["dataset", "per_class", "protocol", "model"]
    accuracy = tidy[(tidy["metric"] == "test accuracy") & tidy["per_class"].notna()]
    true = accuracy[accuracy["method"] == "random_images"].set_index(keys)["mean"].rename("true")
    gains = accuracy[accuracy["method"] == METHOD].join(true, on=keys, how="inner")
    for _, row in gains.iterrows():
        gain = f"{row['mean'] - row['true']:+.1f}".replace("-", "−")
        said.append(
            f"{row['dataset']}, {row['per_class']} per class, {layout.labels[str(row['model'])]}: "
            f"{layout.labels[str(row['experiment'])]} {row['mean']:.1f} %, {gain} points beside true labels of random images."
        )
    return said


def _range(values: pd.Series, form: str) -> str:
    """'0.50 to 0.75', or '0.50' where both read the same."""
    low, high = (f"{each:{form}}" for each in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def picture(sets: Mapping[str, DistilledSet], labels: Mapping[str, str]) -> Figure:
    """The first images of each set above their labels: a column an image, a row a class, dark where the label is large."""
    across = max(min(_SHOWN, len(each)) for each in sets.values())
    heights = [part for each in sets.values() for part in (1.0, _FLAT * len(each.classes))]
    quiet = {**STYLE, "axes.grid": False, "axes.spines.left": False, "axes.spines.bottom": False}
    with plt.rc_context(quiet):
        figure, panels = plt.subplots(
            2 * len(sets), 1, figsize=(_INCH * across + 1.4, _INCH * sum(heights) + 0.5 * len(sets)),
            height_ratios=heights, layout="constrained",
        )  # fmt: skip
        for above, below, (name, each) in zip(panels[::2], panels[1::2], sets.items(), strict=True):
            drawn = _labelled(above, below, each, across)
            above.set_title(labels[name].replace("\n", ", "), fontsize=9, loc="left")
        bar = figure.colorbar(drawn, ax=panels, shrink=0.5, pad=0.02, aspect=30)
        bar.set_label("entry of the label")
        bar.outline.set_visible(False)
    return figure


def _labelled(above: Any, below: Any, distilled: DistilledSet, across: int) -> Any:
    """Images side by side as one picture, on the same axis as the columns below them; room for `across`."""
    count = min(_SHOWN, len(distilled))
    images = np.moveaxis(distilled.pictures()[:count].numpy(), 1, -1).clip(0, 1)
    strip = np.concatenate([images, np.ones((across - count, *images.shape[1:]))])
    side = strip.shape[2]
    wide = np.concatenate(list(np.pad(strip, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)), 1)
    above.imshow(wide[..., 0] if wide.shape[-1] == 1 else wide, cmap="gray", vmin=0, vmax=1, aspect="auto")
    above.set_xlim(-0.5, across * (side + 2) - 0.5)
    above.set_axis_off()
    blank = np.full((len(distilled.classes), across - count), np.nan)
    values = np.concatenate([distilled.targets[:count].numpy().T, blank], 1)
    drawn = below.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    below.set_yticks(range(len(distilled.classes)), distilled.classes, fontsize=7)
    below.set_xticks([])
    below.tick_params(length=0)
    return drawn
