"""The regularisation path: what exact sets give at every ridge, beside the teachers."""

from __future__ import annotations

import pandas as pd

from stillhouse.reporting.tables import Column, Entry, Line, Table

_MEANS = ("teacher_accuracy", "exact_accuracy")
_WORST = ("exact_weight_error", "path_weight_error", "path_range_error")


def gathered(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set and ridge: accuracies are means over seeds, errors the worst, sizes the first seed's."""
    keys = ["dataset", "ridge"]
    by_ridge = rows.groupby(keys, sort=False)
    sizes = by_ridge[["exact_examples", "path_examples", "features", "recipe"]].first()
    return sizes.join(by_ridge[list(_MEANS)].mean()).join(by_ridge[list(_WORST)].max()).reset_index()


def table(found: pd.DataFrame) -> Table:
    """A line per ridge."""
    columns = [
        Column("ridge", words=True), Column("teacher, %"), Column("images", "exact at this ridge"),
        Column("accuracy, %", "exact at this ridge"), Column("weight error", "exact at this ridge"),
        Column("images", "one set for all ridges"), Column("weight error", "one set for all ridges"),
        Column("in the data's range", "one set for all ridges"),
    ]  # fmt: skip
    lines = [
        Line(
            row["dataset"],
            [
                Entry(f"{row['ridge']:.3g}"), Entry(f"{row['teacher_accuracy']:.2f}"), Entry(str(row["exact_examples"])),
                Entry(f"{row['exact_accuracy']:.2f}", recipe=row["recipe"], value=round(row["exact_accuracy"], 2)),
                Entry(f"{row['exact_weight_error']:.1e}"), Entry(str(row["path_examples"])),
                Entry(f"{row['path_weight_error']:.1e}"), Entry(f"{row['path_range_error']:.1e}"),
            ],
            name=f"{row['dataset']} ridge {row['ridge']:.3g}",
        )
        for row in found.to_dict("records")
    ]  # fmt: skip
    return Table("path", "Every ridge at once", "data set", columns, lines)


def findings(found: pd.DataFrame) -> list[str]:
    """What the path says, in sentences computed from it."""
    gap = (found["exact_accuracy"] - found["teacher_accuracy"]).abs().max()
    return [
        f"Over {len(found)} ridges, a set of one image per class made for a ridge differs from the teacher of that ridge by "
        f"at most {found['exact_weight_error'].max():.1e} in its weights and {gap:.2f} points in test accuracy; all share "
        "one eigendecomposition.",
        "One set of as many images as the features have rank carries the whole path: trained with any ridge it gives that "
        f"ridge's teacher, in the range of the data to {found['path_range_error'].max():.1e}. Outside of that range a "
        "teacher's weights are rounding errors over the ridge, which the set does not copy: the larger errors at small "
        "ridges are those.",
    ]
