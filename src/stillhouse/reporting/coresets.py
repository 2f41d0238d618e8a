"""What coresets are worth: beside random images of the same number, and what choosing them found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting import transfer
from stillhouse.reporting.study import Layout


def beside_random(layout: Layout, tidy: pd.DataFrame) -> list[str]:
    """Per data set, model that scores and size, in sentences: which sets beat random images by more than both standard
    deviations together, which fall short of them by as much, and the best and the worst.
    """
    made = transfer.gains(tidy).dropna(subset=["gain"])
    accuracy = tidy[(tidy["metric"] == "test accuracy") & (tidy["method"] == "random_images")]
    spread = accuracy.set_index(transfer.KEYS)["std"].rename("random_std")
    made = made.join(spread, on=transfer.KEYS)
    made["noise"] = made["std"].fillna(0) + made["random_std"].fillna(0)
    return [_compared(layout, cells) for _, cells in made.groupby(transfer.KEYS, sort=False)]


def _compared(layout: Layout, cells: pd.DataFrame) -> str:
    first = cells.iloc[0]
    above, below = cells[cells["gain"] > cells["noise"]], cells[cells["gain"] < -cells["noise"]]
    best, worst = (cells.iloc[int(at)] for at in (cells["gain"].argmax(), cells["gain"].argmin()))
    return (
        f"{first['dataset']}, {first['per_class']} per class, {layout.labels[first['model']]}: random images "
        f"{first['random']:.1f} %. Beyond both deviations, {len(above)} of {len(cells)} sets are better "
        f"({_names(layout, above)}) and {len(below)} worse ({_names(layout, below)}). Best {_named(layout, best)}, worst "
        f"{_named(layout, worst)}."
    )


def _names(layout: Layout, cells: pd.DataFrame) -> str:
    return ", ".join(layout.labels[str(name)] for name in dict.fromkeys(cells["experiment"])) or "none"


def _named(layout: Layout, row: pd.Series) -> str:
    return f"{layout.labels[str(row['experiment'])]}, {row['mean']:.1f} %"


def choices(layout: Layout, rows: pd.DataFrame) -> list[str]:
    """What the methods that look at training say of it, in sentences, means over seeds: how much a network forgot, and how far
    the best of many draws stood above the others.
    """
    files = rows[rows["per_class"].notna()].drop_duplicates("file")
    found = [
        {**{name: row[name] for name in ("dataset", "experiment", "per_class")}, **numerics}
        for row in files.to_dict("records")
        if (numerics := artifact.header(Path(row["file"]))["recipe"].get("numerics"))
    ]
    return [*_forgotten(layout, pd.DataFrame(found)), *_best_draws(layout, pd.DataFrame(found))]


def _forgotten(layout: Layout, found: pd.DataFrame) -> Iterator[str]:
    if "forgetting_events" not in found:
        return
    # Sets of all sizes of a seed come from the same training.
    told = found.dropna(subset=["forgetting_events"])
    for (dataset, experiment), part in told.groupby(["dataset", "experiment"], sort=False):
        means = part[["never_learned", "never_forgotten", "forgetting_events"]].mean()
        yield (
            f"{dataset}, {layout.labels[str(experiment)]}: the network never learned {means['never_learned']:.0f} examples, "
            f"learned {means['never_forgotten']:.0f} and never forgot them, and forgot the others "
            f"{means['forgetting_events']:.0f} times in all."
        )


def _best_draws(layout: Layout, found: pd.DataFrame) -> Iterator[str]:
    if "mean_validation_accuracy" not in found:
        return
    told = found.dropna(subset=["mean_validation_accuracy"])
    for (dataset, experiment, size), part in told.groupby(["dataset", "experiment", "per_class"], sort=False):
        means = part[["validation_accuracy", "mean_validation_accuracy"]].mean()
        yield (
            f"{dataset}, {size} per class, {layout.labels[str(experiment)]}: the best draw has "
            f"{means['validation_accuracy']:.1f} % on the images that chose it, the mean draw "
            f"{means['mean_validation_accuracy']:.1f} %."
        )
