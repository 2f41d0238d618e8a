"""How far exact images lie from the real ones they start at, and what lambda_S has to do with it.

Chen, Huang, Weng (2024), section 4.2 and Figure 2: every number is read from the certificate in a distilled-set file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table

_READ = ("ridge_S", "ridge_bound", "distance_to_start", "residual_D", "error_images")


def certified(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per certified set: data set, experiment, images per class, seed, and what its certificate says."""
    found = []
    for _, row in rows[rows["metric"] == "weight error"].drop_duplicates("file").iterrows():
        certificate = artifact.header(Path(row["file"]))["certificate"]
        known = {name: row[name] for name in ("dataset", "experiment", "model", "per_class", "seed")}
        found.append({**known, **{name: certificate.get(name) for name in _READ}})
    return pd.DataFrame(found)


def table(layout: Layout, found: pd.DataFrame) -> Table:
    """Means over seeds."""
    columns = [
        Column("trained on", words=True), Column("images per class"), Column("model", words=True), Column("λ_S"),
        Column("bound on λ_S"), Column("distance to start"), Column("residual of D"), Column("weight error"),
    ]  # fmt: skip
    keys = ["dataset", "experiment", "model", "per_class"]
    means = found.groupby(keys, sort=False, dropna=False)[list(_READ)].mean().reset_index()
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    means = means.assign(a=means["dataset"].map(order), b=means["experiment"].map(order))
    means = means.sort_values(["a", "per_class", "b"], kind="stable")
    lines = [_line(layout, row) for row in means.to_dict("records")]
    return Table("closeness", "Distance to the initial images, and λ_S", "data set", columns, lines)


def _line(layout: Layout, row: Mapping[Any, Any]) -> Line:
    label, model = layout.labels[str(row["experiment"])], layout.labels[str(row["model"])]
    size = str(row["per_class"])
    numbers = [_number(row[name]) for name in _READ]
    entries = [Entry(label), Entry(size), Entry(model), *numbers]
    return Line(str(row["dataset"]), entries, name=f"{row['dataset']} {size} {label}, {model}")


def _number(value: float) -> Entry:
    return Entry() if pd.isna(value) else Entry(f"{value:.3g}")


def findings(layout: Layout, found: pd.DataFrame) -> list[str]:
    """What the certificates say, in sentences computed from them."""
    said = [
        "Distance to start: |X_S − X̂_S| / |X̂_S| between the exact images and the real images they start at, in the "
        "space the model sees. Corollary 4.1.1 makes the pseudo-inverses as close as they can be, not the images; its residual "
        "|D − X̂_S⁺| stands beside. A start at noise has no images to be close to."
    ]
    if (found["ridge_S"] > 0).any():
        said.append(
            "λ_S: with the larger root the images hardly differ from those for λ_S = 0; with the smaller root they shrink "
            "towards zero, the mean image of the space, and are drawn as such."
        )
    near = found.dropna(subset=["distance_to_start"])
    for model, sets in near.groupby("model", sort=False):
        least, most = sets["distance_to_start"].min(), sets["distance_to_start"].max()
        said.append(
            f"{layout.labels[str(model)]}: over {len(sets)} sets that start at real images, the distance is {least:.2g} to "
            f"{most:.3g}. With λ_S = 0 it is zero, but for rounding, from as many images as features on: labels alone do it."
        )
    return said
