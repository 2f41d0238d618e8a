"""Corrupted sets: accuracy against the fraction rho of each image's pixels that is replaced and never trained.

Nguyen, Chen, Lee (2021), section 3. rho and what replaces the pixels are read from the recipes in the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting import transfer
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget

# What replaces pixels: the names of settings, and what a reader calls them.
KINDS = {"none": "nothing", "zero": "zeros", "noise": "noise"}
_PLACE = ["dataset", "per_class", "protocol", "model"]


def gathered(rows: pd.DataFrame, tidy: pd.DataFrame) -> pd.DataFrame:
    """Per set that can be corrupted and model: `kind`, `rho`, mean accuracy and its deviation, `random`: that of random images
    of the same number, and `kept`: the part that is left of what the uncorrupted set gains over them, where there is one.
    """
    settings = {
        row["experiment"]: artifact.header(Path(row["file"]))["recipe"]["method"]
        for row in rows.drop_duplicates("experiment").to_dict("records")
        if row["method"] not in ("whole", "random_images")
    }
    levels = {name: float(each["corruption"]) for name, each in settings.items() if "corruption" in each}
    found = transfer.gains(tidy)
    found = found[found["experiment"].isin(levels)].copy()
    found["rho"] = found["experiment"].map(levels)
    kinds = found["experiment"].map(lambda name: settings[name]["corruption_kind"])
    found["kind"] = kinds.where(found["rho"] > 0, "none")
    full = found[found["rho"] == 0].drop_duplicates(_PLACE).set_index(_PLACE)["gain"].rename("full")
    found = found.join(full, on=_PLACE)
    found["kept"] = (found["gain"] / found["full"]).where(found["full"] > 0)
    order = {name: i for i, name in enumerate(KINDS)}
    ranked = found.assign(a=found["kind"].map(order))
    return ranked.sort_values([*_PLACE, "a", "rho"], kind="stable").drop(columns=["a", "full"]).reset_index(drop=True)


def table(layout: Layout, found: pd.DataFrame) -> Table:
    """Accuracy at every level, beside random real images, and what is left of the gain."""
    columns = [
        Column("replaced by", words=True), Column("images per class"), Column("model", words=True), Column("ρ"),
        Column("test accuracy, %"), Column("random real images, %"), Column("gain, points"), Column("gain that is left, %"),
    ]  # fmt: skip
    lines = [_line(layout, row) for row in found.to_dict("records")]
    return Table("corruption", "Corrupted sets", "data set", columns, lines)


def _line(layout: Layout, row: Mapping[Any, Any]) -> Line:
    model, kind = layout.labels[str(row["model"])], KINDS[row["kind"]] + part_of_budget(row["budget"])
    spread = f"± {row['std']:.2f}" if row["seeds"] > 1 else ""
    entries = [
        Entry(kind), Entry(str(row["per_class"])), Entry(model), Entry(f"{row['rho']:g}"),
        Entry(f"{row['mean']:.2f}", spread, str(row["recipe"])), Entry(f"{row['random']:.2f}"),
        Entry(f"{row['gain']:+.2f}".replace("-", "−")),
        Entry() if pd.isna(row["kept"]) else Entry(f"{100 * row['kept']:.0f}".replace("-", "−")),
    ]  # fmt: skip
    return Line(
        str(row["dataset"]), entries, row["kind"] == "none",
        f"{row['dataset']} {row['per_class']} {model} {kind} {row['rho']:g} corruption",
    )  # fmt: skip


def findings(layout: Layout, found: pd.DataFrame) -> list[str]:
    """What the levels say, in sentences computed from them."""
    said = []
    for place, here in found.groupby(_PLACE, sort=False):
        dataset, size, _, model = place
        worst = here[here["kind"] != "none"].sort_values("rho").groupby("kind", sort=False).tail(1)
        parts = [
            f"with {100 * row['rho']:.0f} % of the pixels replaced by {KINDS[row['kind']]} a set scores {row['mean']:.2f} %"
            + (
                ""
                if pd.isna(row["kept"])
                else f", {100 * row['kept']:.0f} % of the uncorrupted set's gain".replace("-", "−")
            )
            for row in worst.to_dict("records")
        ]
        if parts:
            said.append(
                f"{dataset}, {size} per class, {layout.labels[str(model)]}: {'; '.join(parts)}; as many random real images, "
                f"uncorrupted, score {here['random'].iloc[0]:.2f} %."
            )
    return said
