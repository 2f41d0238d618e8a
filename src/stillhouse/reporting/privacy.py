"""What attacks find in distilled sets, with and without noise: tables of membership, reconstruction and promises kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from stillhouse.reporting.tables import Column, Entry, Line, Table

NAMES = {
    "exact": "no noise",
    "rows": "noise on D (Theorem 6.2)",
    "statistics": "noise on the sums (joint)",
}


def records(images: Mapping[str, Any]) -> dict[str, Any]:
    """The analysis's images by what a reader calls them: its labels are 'original' and 'mechanism' or 'mechanism, epsilon e'."""
    found = {}
    for label, shown in images.items():
        mechanism, _, epsilon = label.partition(", epsilon ")
        name = NAMES.get(mechanism, "records of the training set")
        found[f"{name}, ε = {epsilon}" if epsilon else name] = shown
    return found


def part(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one of the analysis's tables, without the columns of the others."""
    return rows[rows["table"] == name].dropna(axis=1, how="all").reset_index(drop=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per data set, mechanism and epsilon, means over seeds: accuracy of the whole set's release, attack figures,
    reconstruction.
    """
    keys = ["dataset", "mechanism", "epsilon"]
    accuracy = part(rows, "accuracy").groupby(keys, sort=False)["accuracy"].agg(["mean", "std", "count"])
    attack = part(rows, "membership").groupby(keys, sort=False)
    members = attack[["auc", "tpr_at_1_percent_fpr", "auc_at_most", "tpr_at_most"]].mean()
    built = part(rows, "reconstruction")
    built["right"] = built["class"] == built["class_found"]
    records = built.groupby(keys, sort=False).agg(
        error=("relative_error", "median"),
        right=("right", "sum"),
        records=("right", "size"),
        recipe=("recipe", "first"),
    )
    return accuracy.join(members).join(records).reset_index()


def attacks_table(found: pd.DataFrame) -> Table:
    """Accuracy that is left, and how far attacks get."""
    columns = [
        Column("release", words=True), Column("ε"), Column("test accuracy, %"), Column("AUC", "membership inference"),
        Column("at most", "membership inference"), Column("TPR at 1 % FPR", "membership inference"),
        Column("at most", "membership inference"), Column("median error", "reconstruction of a record"),
        Column("class found", "reconstruction of a record"),
    ]  # fmt: skip
    lines = [_attack(row) for row in found.to_dict("records")]
    return Table("attacks", "What is left, and what is given away", "data set", columns, lines)


def _attack(row: Mapping[Any, Any]) -> Line:
    spread = f"± {row['std']:.2f}" if row["count"] > 1 else ""
    bounded = row["mechanism"] == "statistics"
    entries = [
        Entry(NAMES[row["mechanism"]]),
        Entry(_epsilon(row["epsilon"])),
        Entry(f"{row['mean']:.2f}", spread, recipe=row["recipe"], value=round(row["mean"], 2)),
        Entry(f"{row['auc']:.3f}"), Entry(f"{row['auc_at_most']:.3f}") if bounded else Entry(),
        Entry(f"{100 * row['tpr_at_1_percent_fpr']:.1f} %"),
        Entry(f"{100 * row['tpr_at_most']:.1f} %") if bounded else Entry(),
        Entry(f"{row['error']:.1e}" if row["error"] < 0.01 else f"{row['error']:.2f}"),
        Entry(f"{row['right']} of {row['records']}"),
    ]  # fmt: skip
    name = f"{row['dataset']} {row['mechanism']} epsilon {_epsilon(row['epsilon'])}"
    return Line(row["dataset"], entries, row["mechanism"] == "exact", name)


def promises_table(rows: pd.DataFrame) -> Table:
    """One row of D: the epsilon that is promised and the one that the worst records found really have."""
    columns = [
        Column("adjacency", words=True), Column("constant", words=True), Column("promised ε"), Column("measured ε"),
        Column("kept", words=True),
    ]  # fmt: skip
    keys = ["data", "adjacency", "constant", "epsilon"]
    worst = part(rows, "row guarantee").groupby(keys, sort=False)["measured_epsilon"].max().reset_index()
    lines = [
        Line(
            row["data"],
            [
                Entry(f"{row['adjacency']} one"), Entry(row["constant"]), Entry(f"{row['epsilon']:g}"),
                Entry(f"{row['measured_epsilon']:.3g}"),
                Entry("yes" if row["measured_epsilon"] <= row["epsilon"] * (1 + 1e-9) else "NO"),
            ],
        )
        for row in worst.to_dict("records")
    ]  # fmt: skip
    return Table("promises", "The promise for one row of D, measured", "data", columns, lines)


def composition_table(rows: pd.DataFrame) -> Table:
    """Several rows of D together: their noise is shared, and after m − c of them none of W is hidden."""
    found = part(rows, "composition")
    found = found[found["seed"] == found["seed"].min()]
    promised = sorted(found["promised_epsilon"].unique())
    columns = [
        Column("rows released together", words=True),
        *(Column(f"{each:g}", "ε of one row alone") for each in promised),
    ]
    lines = [
        Line(
            str(dataset),
            [
                Entry(f"{count:.0f} of {group['of'].iloc[0]:.0f}"),
                *(Entry(_epsilon(group[group["promised_epsilon"] == each]["epsilon"].iloc[0])) for each in promised),
            ],
        )
        for (dataset, count), group in found.groupby(["dataset", "rows"], sort=False)
    ]
    return Table("composition", "Several rows of D together: ε of the release", "data set", columns, lines)


def _epsilon(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"


def findings(rows: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """What the attacks say, in sentences computed from them."""
    rowwise, exact = found[found["mechanism"] == "rows"], found[found["mechanism"] == "exact"]
    joint = found[found["mechanism"] == "statistics"]
    said = [
        "Noise on D is no protection once the labels are known: it lies where Y_S does not look, so least squares gives W "
        "back exactly, accuracy and attacks are those without noise at every ε "
        f"(AUC {rowwise['auc'].min():.3f} to {rowwise['auc'].max():.3f}, without noise {exact['auc'].mean():.3f}), and "
        "whoever knows all records but one rebuilds that one "
        f"(median error up to {rowwise['error'].max():.0e}, "
        f"class right {rowwise['right'].sum()} of {rowwise['records'].sum()} times). "
        "Theorem 6.2 speaks of single rows of D, for an adversary who does not know Y_S; with one image per class (m = c) "
        "it says nothing, and the method refuses.",
    ]
    if len(joint):
        ends = joint.groupby("epsilon", sort=True)["mean"].mean()
        said.append(
            "Noise on the sums FᵀF and FᵀY is private for everything that is made of them, any number of images, with their "
            f"labels: test accuracy {ends.iloc[0]:.1f} % at ε = {ends.index[0]:g} to {ends.iloc[-1]:.1f} % at "
            f"ε = {ends.index[-1]:g}, and records are rebuilt with a median error of {joint['error'].min():.2f} or more. "
            "This mechanism is not the paper's."
        )
    said += _promises(part(rows, "row guarantee"))
    said.append(
        "An attack that fails proves nothing; the guarantee is the theorem's, for the assumptions that "
        "docs/theory/privacy.md names. Noise in these files comes from a seed that they tell, so that they can be made "
        "again: none of them is a private release."
    )
    return said


def _promises(promises: pd.DataFrame) -> list[str]:
    """The worst broken promise of the printed constant, and how many the derived ones break."""
    broken = promises[promises["measured_epsilon"] > promises["epsilon"] * (1 + 1e-9)]
    printed = broken[broken["constant"] == "printed"]
    if not len(printed):
        return []
    worst = printed.iloc[int((printed["measured_epsilon"] / printed["epsilon"]).argmax())]
    derived = int((broken["constant"] == "derived").sum())
    return [
        f"The printed constant promises ε = {worst['epsilon']:g} where the true one is {worst['measured_epsilon']:.3f} "
        f"({worst['data']}, {worst['adjacency']} one); of the promises of the derived constants, {derived} are broken here."
    ]
