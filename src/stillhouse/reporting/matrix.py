"""The transfer matrix: sets made for one kernel or network, scored by every other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pandas as pd

from stillhouse.reporting import transfer
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget

WHOLE, RANDOM = "whole", "random_images"


def gathered(layout: Layout, tidy: pd.DataFrame) -> pd.DataFrame:
    """One row per set and model that scores it: what they are called (`set`, `scored_by`), mean accuracy, `gain` over random
    real images of the same number by the same model, and whether the set is made for that very model (`own`). Random images
    gain 0; the whole set has a row a size.
    """
    accuracy = tidy[tidy["metric"] == "test accuracy"]
    random = accuracy[accuracy["method"] == RANDOM]
    whole = accuracy[accuracy["method"] == WHOLE].drop(columns="per_class")
    whole = whole.merge(random[transfer.KEYS], on=[key for key in transfer.KEYS if key != "per_class"])
    made = transfer.gains(pd.concat([whole, accuracy[accuracy["method"] != WHOLE]]))
    found = pd.concat([random.assign(gain=0.0), made], ignore_index=True)
    found["own"] = found["experiment"].map(dict(layout.made_for)) == found["model"]
    found["set"] = found["experiment"].map(dict(layout.labels)) + found["budget"].map(part_of_budget)
    columns = {(row["protocol"], row["model"]): None for row in found.to_dict("records")}
    names = {each: layout.labels[each[1]] for each in columns}
    twice = {name for name in names.values() if list(names.values()).count(name) > 1}
    found["scored_by"] = [
        f"{names[key]}, {key[0]}" if names[key] in twice else names[key]
        for key in zip(found["protocol"], found["model"], strict=True)
    ]
    place = {name: i for i, name in enumerate([*layout.datasets, *layout.experiments, *layout.labels])}
    ranked = found.assign(
        a=found["dataset"].map(place), b=found["per_class"], c=found["experiment"].map(place), d=found["model"].map(place)
    )  # fmt: skip
    return ranked.sort_values(["a", "b", "c", "d", "protocol"], kind="stable").drop(columns=list("abcd"))


def blocks(found: pd.DataFrame) -> list[tuple[str, int, pd.DataFrame]]:
    """The matrices: data set, images per class, and their rows."""
    pairs = product(dict.fromkeys(found["dataset"]), dict.fromkeys(found["per_class"]))
    parts = [(d, size, found[(found["dataset"] == d) & (found["per_class"] == size)]) for d, size in pairs]
    return [(dataset, int(size), part) for dataset, size, part in parts if len(part)]


def pivoted(block: pd.DataFrame, value: str) -> pd.DataFrame:
    """One matrix of `blocks`: sets x what scores, in the study's order; missing where nothing was scored."""
    wide = block.pivot(index=["experiment", "set"], columns="scored_by", values=value)
    rows = dict.fromkeys(zip(block["experiment"], block["set"], strict=True))
    return wide.loc[list(rows), list(dict.fromkeys(block["scored_by"]))].droplevel("experiment")


def table(found: pd.DataFrame) -> Table:
    """Points gained over as many random real images; those of sets made for the very model have a star."""
    columns = list(dict.fromkeys(found["scored_by"]))
    heads = [Column("trained on", words=True), Column("images per class"), *(Column(c, "scored by") for c in columns)]
    lines = [
        _line(dataset, size, str(name), group, columns)
        for dataset, size, block in blocks(found[found["method"] != RANDOM])
        for (_, name), group in block.groupby(["experiment", "set"], sort=False)
    ]
    return Table(
        "matrix", "Points of test accuracy over as many random real images (* made for this model)", "data set", heads, lines
    )  # fmt: skip


def _line(dataset: str, size: int, name: str, group: pd.DataFrame, columns: list[str]) -> Line:
    cells = {row["scored_by"]: _gain(row) for row in group.to_dict("records")}
    entries = [Entry(name), Entry(str(size)), *(cells.get(column, Entry()) for column in columns)]
    return Line(dataset, entries, WHOLE in set(group["method"]), f"{dataset} {size} {name} gain")


def _gain(row: Mapping[Any, Any]) -> Entry:
    return Entry(_signed(row["gain"]) + ("*" if row["own"] else ""), recipe=str(row["recipe"]))


def findings(found: pd.DataFrame) -> list[str]:
    """What the matrix says, in sentences computed from it."""
    sets = found[~found["method"].isin([WHOLE, RANDOM])]
    said = []
    for own, words in ((True, "the model they are made for"), (False, "a model they are not made for")):
        gain = sets[sets["own"] == own]["gain"]
        if len(gain):
            said.append(
                f"Scored by {words}, {int((gain > 0).sum())} of {len(gain)} sets beat as many random real images; the gain "
                f"is {_signed(gain.min())} to {_signed(gain.max())} points, median {_signed(gain.median())}."
            )
    keys = ["dataset", "per_class", "scored_by"]
    columns = [group for _, group in sets.groupby(keys, sort=False) if group["own"].any()]
    best = [bool(group.sort_values("mean")["own"].iloc[-1]) for group in columns]
    if best:
        said.append(
            f"Of {len(best)} models that some set is made for (a data set and size each), {sum(best)} score such a set highest."
        )
    return said


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")
