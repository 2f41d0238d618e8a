"""What the duality gap gives and proves: one image per class in every two-class task, and the bounds in certificates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table

TRAINED_ON = {"all": "all images", "random": "random images", "kip": "KIP", "dgkip": "DGKIP"}

_READ = (
    "loss", "gap", "norm", "distance", "bound", "bound_ball", "agreement", "certain_ball", "validation_error",
    "error_at_most_ball", "validation_error_real", "distance_over_bound",
)  # fmt: skip


def gathered(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds of the pairs' numbers: one row for each data set, pair, loss and what was trained on."""
    keys = ["dataset", "one", "other", "loss", "trained_on"]
    numbers = ["accuracy", "gap", "distance", "bound", "bound_ball", "certain", "error_at_most", "agreement"]
    named = rows.astype({"one": str, "other": str})  # classes may be called 0 to 9
    by = named.groupby(keys, sort=False)
    return by[["images", "recipe"]].first().join(by[numbers].mean()).reset_index()


def columns(found: pd.DataFrame) -> list[tuple[str, str]]:
    """Loss and what was trained on, in the order of a table's columns: references first."""
    present = found[["loss", "trained_on"]].drop_duplicates()
    pairs = [(str(row["loss"]), str(row["trained_on"])) for row in present.to_dict("records")]
    return sorted(
        pairs, key=lambda pair: (list(dict.fromkeys(found["loss"])).index(pair[0]), list(TRAINED_ON).index(pair[1]))
    )


def pairs_table(found: pd.DataFrame) -> Table:
    """A line per pair of classes: test accuracies of machines of each loss."""
    shown = columns(found)
    keys = ["dataset", "one", "other", "loss", "trained_on"]
    wide = {tuple(row[key] for key in keys): row for row in found.to_dict("records")}
    heads = [Column("classes", words=True), *(Column(TRAINED_ON[made], f"{loss} loss, %") for loss, made in shown)]
    lines = []
    for dataset, one, other in found[["dataset", "one", "other"]].drop_duplicates().itertuples(index=False):
        cells = [wide[dataset, one, other, loss, made] for loss, made in shown]
        entries = [
            Entry(f"{cell['accuracy']:.2f}", recipe=cell["recipe"], value=round(float(cell["accuracy"]), 2))
            for cell in cells
        ]
        lines.append(Line(dataset, [Entry(f"{one} or {other}"), *entries], name=f"{dataset} {one} or {other}"))
    return Table("pairs", "Every pair of classes: test accuracy in percent", "data set", heads, lines)


def summary_table(found: pd.DataFrame) -> Table:
    """A line for each loss and what was trained on: accuracies over the pairs, and what the bounds are worth."""
    heads = [
        Column("loss", words=True), Column("trained on", words=True), Column("images"), Column("least", "accuracy, %"),
        Column("median", "accuracy, %"), Column("largest", "accuracy, %"), Column("‖θ_S − θ_O‖", "means over pairs"),
        Column("its bound", "means over pairs"), Column("certain, %", "means over pairs"),
        Column("agree, %", "means over pairs"),
    ]  # fmt: skip
    lines = []
    for dataset, part in found.groupby("dataset", sort=False):
        for loss, made in columns(part):
            own = part[(part["loss"] == loss) & (part["trained_on"] == made)]
            accuracy, means = own["accuracy"], own[["distance", "bound_ball", "certain", "agreement"]].mean()
            bounded = [Entry()] * 4
            if made != "all":
                bounded = [
                    Entry(f"{means['distance']:.2f}"), Entry(f"{means['bound_ball']:.2f}"), Entry(f"{means['certain']:.1f}"),
                    Entry(f"{means['agreement']:.1f}"),
                ]  # fmt: skip
            median = Entry(
                f"{accuracy.median():.2f}", recipe=own["recipe"].iloc[0], value=round(float(accuracy.median()), 2)
            )
            entries = [
                Entry(loss), Entry(TRAINED_ON[made]), Entry(str(own["images"].iloc[0])), Entry(f"{accuracy.min():.2f}"),
                median, Entry(f"{accuracy.max():.2f}"), *bounded,
            ]  # fmt: skip
            name = f"{dataset} {loss} {TRAINED_ON[made]}"
            lines.append(Line(str(dataset), entries, made in ("all", "random"), name))
    return Table("pairs_summary", "Two-class tasks: accuracy over all pairs, and the bounds", "data set", heads, lines)


def findings(found: pd.DataFrame, quoted: float) -> list[str]:
    """What the pairs say of a `quoted` accuracy in percent, and of distilling by the gap, in sentences computed from them."""
    said = []
    for dataset, part in found.groupby("dataset", sort=False):
        made = part[part["trained_on"] == "dgkip"]
        for loss, own in made.groupby("loss", sort=False):
            count, above = len(own), int((own["accuracy"] >= quoted).sum())
            near = own.iloc[int((own["accuracy"] - quoted).abs().argmin())]
            said.append(
                f"{dataset}, {loss} loss: of {count} two-class tasks, sets of {own['images'].iloc[0]} images distilled by the "
                f"duality gap reach {quoted:.2f} % in {above}; the nearest is {near['one']} or {near['other']} with "
                f"{near['accuracy']:.2f} %. Over all pairs they have {own['accuracy'].min():.2f} to "
                f"{own['accuracy'].max():.2f} %."
            )
        said += [_compared(str(dataset), part, str(loss)) for loss in dict.fromkeys(made["loss"])]
        bounded = part.dropna(subset=["distance"])
        ratio = bounded["distance"] / bounded["bound_ball"]
        said.append(
            f"{dataset}: all {len(bounded)} machines of sets lie within their bounds; the distance to the machine of all images "
            f"is {100 * ratio.min():.0f} to {100 * ratio.max():.0f} % of the sharper bound. "
            f"The bound proves {made['certain'].min():.1f} to {made['certain'].max():.1f} % of a pair's test predictions for "
            f"sets distilled by the gap, and {made['agreement'].min():.1f} to {made['agreement'].max():.1f} % agree."
        )
    return said


def _compared(dataset: str, part: pd.DataFrame, loss: str) -> str:
    """Means over pairs beside all images, random ones and KIP's."""
    means = part[part["loss"] == loss].groupby("trained_on")["accuracy"].mean()
    others = ", ".join(
        f"{TRAINED_ON[name]} {means[name]:.2f} %" for name in TRAINED_ON if name in means.index and name != "dgkip"
    )
    return f"{dataset}, {loss} loss, means over pairs: DGKIP {means['dgkip']:.2f} %, {others}."


def certified(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per set with a duality-gap certificate: data set, experiment, model, images per class, seed, what it says."""
    found = []
    for _, row in rows[rows["metric"] == "test accuracy"].drop_duplicates("file").iterrows():
        certificate = artifact.header(Path(row["file"])).get("certificate") or {}
        if "bound_ball" in certificate:
            known = {name: row[name] for name in ("dataset", "experiment", "per_class", "seed", "recipe")}
            found.append({**known, **{name: certificate[name] for name in _READ}})
    return pd.DataFrame(found)


def bounds_table(layout: Layout, found: pd.DataFrame) -> Table:
    """Means over seeds of what the certificates say."""
    heads = [
        Column("trained on", words=True), Column("images per class"), Column("loss", words=True), Column("gap"),
        Column("distance", "‖θ_S − θ_O‖ / ‖θ_O‖"), Column("bound", "‖θ_S − θ_O‖ / ‖θ_O‖"),
        Column("sharper bound", "‖θ_S − θ_O‖ / ‖θ_O‖"), Column("certain, %", "validation images"),
        Column("agree, %", "validation images"), Column("error, %", "validation images"),
        Column("at most, %", "validation images"),
    ]  # fmt: skip
    keys = ["dataset", "experiment", "per_class", "loss"]
    by = found.groupby(keys, sort=False)
    means = by[[name for name in _READ if name != "loss"]].mean().join(by[["recipe"]].first()).reset_index()
    lines = [_bounded(layout, row) for row in means.to_dict("records")]
    return Table("bounds", "The bounds, and what they bound", "data set", heads, lines)


def _bounded(layout: Layout, row: Mapping[Any, Any]) -> Line:
    label, size = layout.labels[str(row["experiment"])], str(row["per_class"])
    relative = [row[name] / row["norm"] for name in ("distance", "bound", "bound_ball")]
    shares = [row[name] for name in ("certain_ball", "agreement", "validation_error", "error_at_most_ball")]
    entries = [
        Entry(label), Entry(size), Entry(row["loss"]), Entry(f"{row['gap']:.3g}", recipe=row["recipe"]),
        *(Entry(f"{each:.3f}") for each in relative), *(Entry(f"{100 * each:.1f}") for each in shares),
    ]  # fmt: skip
    return Line(str(row["dataset"]), entries, name=f"{row['dataset']} {size} {label}")


def bounds_findings(found: pd.DataFrame) -> list[str]:
    """What the certificates say, in sentences computed from them."""
    used, sure = found["distance_over_bound"], 100 * found["certain_ball"]
    more = 100 * (found["validation_error"] - found["validation_error_real"])
    return [
        f"All bounds hold on all {len(found)} sets, or they would not have been written. The distance of a machine to that of "
        f"the real set is {100 * used.min():.0f} to {100 * used.max():.0f} % of what is proven.",
        f"The bounds prove {sure.min():.1f} to {sure.max():.1f} % of the predictions on validation images; the error there is "
        f"{more.min():+.1f} to {more.max():+.1f} points beside that of the real set's machine.".replace(" -", " −"),
        "The method follows our own derivation of the duality-gap objective (docs/theory/dgkip.md): the original's tables are "
        "not at hand, so no published number stands beside these.",
    ]
