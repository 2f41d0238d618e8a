"""How closely a model that learns from a distilled set follows the one that learns from the real set.

Nguyen, Chen, Lee (2021), Definitions 2 and 3, for f of the distilled and g of the real set and a loss l, over the test set:
weak epsilon is |E l(f) - E l(g)|, strong epsilon E l(f, g), the first about accuracy alone, the second about predictions.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget

# Zero-one loss: in percent of the test examples. Square: half the squared distance.
ERROR = ("weak epsilon (error)", "strong epsilon (error)")
SQUARE = ("weak epsilon (square)", "strong epsilon (square)")
_KEYS = ["dataset", "per_class", "experiment", "method", "protocol", "model", "budget"]


def gathered(tidy: pd.DataFrame) -> pd.DataFrame:
    """One row per set and model that has epsilons: a column each, means over seeds; in the order of `tidy`."""
    chosen = tidy[tidy["metric"].isin([*ERROR, *SQUARE])]
    order = chosen[_KEYS].drop_duplicates()
    wide = chosen.pivot(index=_KEYS, columns="metric", values="mean").reindex(columns=[*ERROR, *SQUARE])
    return order.join(wide, on=_KEYS).reset_index(drop=True)


def tables(layout: Layout, found: pd.DataFrame) -> list[Table]:
    """The table of epsilons; none where nothing has them."""
    columns = [
        Column("trained on", words=True), Column("images per class"), Column("model", words=True),
        Column("weak", "ε, zero-one loss, %"), Column("strong", "ε, zero-one loss, %"),
        Column("weak", "ε, half squared distance"), Column("strong", "ε, half squared distance"),
    ]  # fmt: skip
    lines = [_line(layout, row) for row in found.to_dict("records")]
    title = "ε-approximation of the model of all real images"
    return [Table("approximation", title, "data set", columns, lines)] if lines else []


def _line(layout: Layout, row: dict[Any, Any]) -> Line:
    label = layout.labels[str(row["experiment"])] + part_of_budget(row["budget"])
    model = layout.labels[str(row["model"])]
    size = str(row["per_class"])
    entries = [
        Entry(label), Entry(size), Entry(model), *(_number(row[name], ".2f") for name in ERROR),
        *(_number(row[name], ".3g") for name in SQUARE),
    ]  # fmt: skip
    return Line(
        str(row["dataset"]), entries, row["method"] == "random_images", f"{row['dataset']} {size} {label}, {model} ε"
    )


def _number(value: float, form: str) -> Entry:
    return Entry() if pd.isna(value) else Entry(f"{value:{form}}")


def findings(found: pd.DataFrame) -> list[str]:
    """What the epsilons say, in sentences computed from them."""
    said = []
    errors = found.dropna(subset=list(ERROR))
    if len(errors):
        weak, strong = (errors[name] for name in ERROR)
        kept = int((weak <= strong * (1 + 1e-9) + 1e-9).sum())
        said.append(
            f"ε: the model of a distilled set and that of all real images differ in test accuracy by {weak.min():.2f} to "
            f"{weak.max():.2f} points (weak), and give different classes to {strong.min():.2f} to {strong.max():.2f} % of the "
            f"test images (strong). For zero-one loss weak is at most strong; it is in {kept} of {len(errors)} cells. The "
            "model of all real images is fitted to all of them in the span of some (`centres`, docs/theory/kernels.md)."
        )
    return said
