"""One point for a generalised linear model: what was claimed and measured, labels against scales, and the points themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting import claims
from stillhouse.reporting.figures import COLOURS, STYLE, legend
from stillhouse.reporting.tables import Column, Entry, Line, Table

FAMILIES = {"linear": "linear", "logistic": "logistic", "poisson": "Poisson", "gamma": "gamma", "softmax": "softmax"}
_EXACT = 1e-8  # below it a claim of exactness holds
_ROUNDING = 1e-12  # of labels
_NAMED = 3.0  # scale up to which a curve's lowest place is named: far out all of them end at 1
_SHOWN = 1e-18  # the smallest error that a figure tells from 0

_Images = Mapping[str, Mapping[str, np.ndarray[Any, Any]]]  # data set -> family -> (m, channels, h, w)


def claimed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are claims."""
    chosen = rows[rows["part"] == "claim"].reset_index(drop=True)
    return chosen.astype({"examples": int, "features": int, "points": int, "valid": bool})


def claims_table(found: pd.DataFrame) -> Table:
    """A line for each family and claim: the worst numbers over data sets and seeds."""
    columns = [
        Column("claim", words=True), Column("statement", words=True), Column("data sets"), Column("points"),
        Column("largest, relative", "error"), Column("must miss", "error"), Column("verdict", words=True),
        Column("finding", words=True), Column("test", words=True),
    ]  # fmt: skip
    lines = []
    for (family, claim), group in found.groupby(["family", "claim"], sort=False):
        ranked = group.assign(rank=group["verdict"].map(claims.VERDICTS.index)).sort_values(["rank", "relative"])
        worst = ranked.iloc[-1]
        points = sorted(set(group["points"]))
        entries = [
            Entry(str(claim), recipe=str(worst["recipe"])), Entry(str(worst["statement"]), _under(worst)),
            Entry(str(group["dataset"].nunique())),
            Entry(str(points[0]) if len(points) == 1 else f"{points[0]}–{points[-1]}"),
            _small(group["relative"].max()), _small(group["miss"].min()), Entry(str(worst["verdict"])),
            Entry(str(worst["finding"])), Entry(str(worst["test"]).rpartition("/")[2], link=str(worst["test"])),
        ]  # fmt: skip
        lines.append(Line(FAMILIES[str(family)], entries, name=f"{family}: {claim}"))
    notes = (
        "b' is the mean as a function of the linear predictor, λ that of λ‖θ‖² beside the mean loss of m points, W Lambert's "
        "function.",
    )
    return Table("claims", "Claims", "family", columns, lines, notes)


def numbers_table(found: pd.DataFrame) -> Table:
    """A line for each data set, family and claim: sizes, the bound, labels and errors."""
    columns = [
        Column("family", words=True), Column("claim", words=True), Column("n × d"), Column("points"), Column("a"),
        Column("label"), Column("2λ‖θ‖²"), Column("its bound"), Column("‖θ_S − θ‖_∞", "error"), Column("relative", "error"),
        Column("real examples", "solver", words=True), Column("points", "solver", words=True),
    ]  # fmt: skip
    lines = []
    for row in _worst(found).to_dict("records"):
        ridge = row["penalty"] > 0
        entries = [
            Entry(FAMILIES[row["family"]]), Entry(row["claim"]), Entry(f"{row['examples']} × {row['features']}"),
            Entry(str(row["points"])), Entry() if pd.isna(row["scale"]) else Entry(f"{row['scale']:.3g}"),
            Entry(_label(row) + ("" if row["valid"] else " (not of examples)")),
            Entry(f"{row['measured']:.3g}") if ridge else Entry(), Entry(f"{row['bound']:.3g}") if ridge else Entry(),
            _small(row["error"]), _small(row["relative"]), Entry(row["solver_real"]), Entry(row["solvers"]),
        ]  # fmt: skip
        lines.append(Line(row["dataset"], entries, name=f"{row['dataset']} {row['family']}: {row['claim']}"))
    return Table("numbers", "Numbers", "data set", columns, lines)


def findings(found: pd.DataFrame) -> list[str]:
    """What the claims say, in sentences computed from them."""
    failed = found[found["verdict"] == "FAILS"]
    worst = found.iloc[int(found["relative"].argmax())]
    said = [
        f"{found['claim'].nunique()} claims, measured in {len(found)} cases of {found['family'].nunique()} families and "
        f"{found['dataset'].nunique()} data sets: {len(found) - len(failed)} hold. The largest distance of what points give to "
        f"what real examples give is {found['error'].max():.1e} in an entry and {worst['relative']:.1e} relatively "
        f"({worst['dataset']}, {FAMILIES[worst['family']]}, {worst['claim']})."
    ]
    missed = found["miss"].min()
    if not pd.isna(missed):
        said.append(f"Where a claim says that it cannot be exact, the relative distance is {missed:.2g} or more.")
    ridge = found[(found["penalty"] > 0) & (found["bound"] > 0) & (found["points"] == 1)]
    if len(ridge):
        nearest = (ridge["measured"] / ridge["bound"]).max()
        said.append(
            f"2λ‖θ‖² of the real examples is at most {100 * nearest:.0f} % of its bound, so a label that an example can have "
            "exists in every case."
        )
    hard = found[found["labels"].isin(["hard", "count"])]
    if len(hard):
        said.append(
            f"Hard labels and counts serve as well: {len(hard)} cases, relative error {hard['relative'].max():.1e} or less."
        )
    summed = found[found["claim"] == "a sum of losses"]
    said += [
        f"{row['dataset']}: for a sum of losses and not a mean, {row['finding']}; {row['points']} points have labels in [0, 1]."
        for row in summed.to_dict("records")
    ]
    outside = found[~found["valid"]]
    if len(outside):
        names = ", ".join(
            sorted({f"{FAMILIES[f]} ({c})" for f, c in zip(outside["family"], outside["claim"], strict=True)})
        )
        said.append(f"Exact, but with labels that no example has: {names}.")
    return said


def labels(rows: pd.DataFrame) -> Figure:
    """Left: the label of one point of a logistic model against its scale, for parts of the bound on 2 penalty |theta|^2, those of
    the data sets in colour. Right: the errors of all claims, a line a family, a colour a data set.
    """
    curves, found = rows[rows["part"] == "curve"], claimed(rows)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1, 2, figsize=(7.4, 3.6), squeeze=False, layout="constrained", width_ratios=(1.15, 1)
        )
        colours = dict(zip(dict.fromkeys(found["dataset"]), COLOURS * len(found), strict=False))
        _curves(panels[0, 0], curves, colours)
        _errors(panels[0, 1], found, colours)
        legend(figure, panels)
    return figure


def _curves(axis: Any, curves: pd.DataFrame, colours: Mapping[Any, str]) -> None:
    axis.axhspan(0, 1, color="#eef4ee", zorder=0)
    axis.axhline(1, color="#555555", linewidth=0.8)
    for dataset, own in curves.groupby("dataset", sort=False):
        measured, *given = dict.fromkeys(own["bound"])
        for shade, part in zip(np.linspace(0.7, 0.2, len(given)), given, strict=True):
            line = own[own["bound"] == part].drop_duplicates("scale")
            axis.plot(line["scale"], line["label_from"], color=str(round(float(shade), 2)), linewidth=1)
            near = line[line["scale"] < _NAMED]
            lowest = near.iloc[int(near["label_from"].argmin())]
            axis.annotate(
                f"{100 * part:.0f} %", (lowest["scale"], lowest["label_from"]), fontsize=7, color="#555555", ha="center",
                va="top", xytext=(0, -2), textcoords="offset points",
            )  # fmt: skip
        line = own[own["bound"] == measured].drop_duplicates("scale")
        name = f"{dataset}: {100 * measured:.0f} % of the bound"
        axis.plot(line["scale"], line["label_from"], color=colours[dataset], linewidth=1.8, label=name)
    axis.set_xscale("log")
    axis.set_ylim(0.5, 1.5)
    axis.set_xlabel("a ‖θ‖²")
    axis.set_ylabel("label y of one point")
    axis.set_title("logistic: labels that examples can have", fontsize=9, loc="left")


def _errors(axis: Any, found: pd.DataFrame, colours: Mapping[Any, str]) -> None:
    families = [name for name in FAMILIES if name in set(found["family"])]
    for place, (dataset, colour) in enumerate(colours.items()):
        own = found[found["dataset"] == dataset]
        height = own["family"].map(families.index) + 0.7 * ((place + 0.5) / len(colours) - 0.5)
        shown = own["relative"].clip(lower=_SHOWN)
        axis.plot(shown, height, "o", color=colour, markersize=3.5, alpha=0.8, label=str(dataset))
    axis.axvline(_EXACT, color="#555555", linewidth=1, linestyle=(0, (4, 2)), label="exact is below")
    axis.set_xscale("log")
    axis.set_yticks(range(len(families)), [FAMILIES[name] for name in families])
    axis.set_ylim(len(families) - 0.5, -0.5)
    axis.set_xlabel("relative error of what points give")
    axis.set_title("all claims", fontsize=9, loc="left")


def points(images: _Images) -> Figure:
    """The points, a row a data set: images, or bars of a table's features, each family's own scale; red is above zero."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(7.4, 1.35 * len(images)), layout="constrained")
        rows = figure.subfigures(len(images), 1, squeeze=False)
        for row, (dataset, found) in zip(rows[:, 0], images.items(), strict=True):
            pictured = next(iter(found.values())).shape[2] > 1
            shown = [(family, each) for family, own in found.items() for each in own]
            panels = row.subplots(1, len(shown), squeeze=False)[0]
            for place, (axis, (family, each)) in enumerate(zip(panels, shown, strict=True)):
                (_image if pictured else _bars)(axis, each)
                first = place == 0 or shown[place - 1][0] != family
                axis.set_title(FAMILIES[family] if first else "", fontsize=7, loc="left")
            row.suptitle(str(dataset), fontsize=8, x=0.01, ha="left")
    return figure


def _image(axis: Any, each: np.ndarray[Any, Any]) -> None:
    values = each.mean(0)
    limit = max(float(np.abs(values).max()), math.ulp(0))
    axis.set_axis_off()
    axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")


def _bars(axis: Any, each: np.ndarray[Any, Any]) -> None:
    values = each.ravel()
    axis.bar(range(len(values)), values, color=[COLOURS[1] if value > 0 else COLOURS[0] for value in values])
    axis.set_xticks(range(len(values)), [str(i + 1) for i in range(len(values))], fontsize=6)
    axis.tick_params(axis="y", labelsize=6)
    axis.grid(False, axis="x")


def _worst(found: pd.DataFrame) -> pd.DataFrame:
    """Of several seeds, the one with the largest relative error."""
    keys = ["dataset", "family", "claim"]
    return found.loc[found.groupby(keys, sort=False)["relative"].idxmax()].reset_index(drop=True)


def _under(row: pd.Series[Any]) -> str:
    """Regulariser and kind of label, in small print."""
    without = "without a penalty" if row["regulariser"] == "none" else str(row["regulariser"])
    return f"({without}; labels {row['labels']})"


def _label(row: Mapping[Any, Any]) -> str:
    low, high = (0.0 if abs(value) < _ROUNDING else value for value in (row["label_from"], row["label_to"]))
    return f"{low:.4g}" if math.isclose(low, high, rel_tol=1e-9) else f"{low:.3g} to {high:.3g}"


def _small(value: float) -> Entry:
    if pd.isna(value):
        return Entry()
    return Entry("0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.2g}", value=float(f"{value:.3g}"))
