"""Gradient matching and its kin: what accuracy costs, how the matched distance descends, which networks learn from a set, and
what the network that it is made for has to do with it.

DC (Zhao, Mopuri, Bilen 2021): Table 1, Table 2 (cross-architecture), and the ablation of its ConvNet, of which we have what the
paper says in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting import cost, matrix, published, study, transfer
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget, seconds

_PLACE = ["dataset", "per_class", "experiment"]
_CELL = [*_PLACE, "model"]
# Settings of a ConvNet that an ablation varies, and what a reader calls them.
VARIED = {
    "activation": "activation",
    "pooling": "pooling",
    "norm": "normalisation",
    "width": "width",
    "depth": "depth",
}
# What DC says of MNIST, one image per class: the setting, the better value, the other one (absent: all others).
CLAIMS = (
    ("activation", "leaky_relu", "relu"), ("activation", "relu", "sigmoid"), ("pooling", "average", "max"),
    ("norm", "instance", None),
)  # fmt: skip


# Accuracy against seconds


def gathered(rows: pd.DataFrame, tidy: pd.DataFrame) -> pd.DataFrame:
    """Every mean test accuracy of sets (a row of `tidy`) with `seconds`: of making a set, mean over seeds, teachers left out."""
    spent = study.costs(rows[rows["per_class"].notna()])
    taken = spent.groupby(_PLACE)["seconds"].mean()
    accuracy = tidy[(tidy["metric"] == "test accuracy") & tidy["per_class"].notna()]
    return accuracy.join(taken, on=_PLACE).reset_index(drop=True)


def cost_table(layout: Layout, found: pd.DataFrame) -> Table:
    """Seconds a set beside accuracies, in the study's order."""
    models = [name for name in layout.labels if name in set(found["model"])]
    heads = [
        Column("trained on", words=True), Column("images per class"), Column("seconds a set"),
        *(Column(layout.labels[model], "test accuracy, % (points a minute over random)") for model in models),
    ]  # fmt: skip
    random = found[found["method"] == matrix.RANDOM].set_index(transfer.KEYS)["mean"].rename("random")
    joined = found.join(random, on=transfer.KEYS)
    order = {name: i for i, name in enumerate([*layout.datasets, *layout.experiments])}
    lines = []
    for (dataset, size, experiment), group in sorted(
        _groups(joined, _PLACE), key=lambda each: (order[each[0][0]], each[0][1], order[each[0][2]])
    ):
        cells = {row["model"]: _worth(row) for row in group.to_dict("records")}
        label = layout.labels[experiment] + part_of_budget(group["budget"].iloc[0])
        entries = [Entry(label), Entry(str(size)), Entry(seconds(group["seconds"].iloc[0]))]
        lines.append(
            Line(
                dataset, [*entries, *(cells.get(model, Entry()) for model in models)],
                matrix.RANDOM in set(group["method"]), f"{dataset} {size} {label} seconds",
            )
        )  # fmt: skip
    return Table("seconds", "What accuracy costs", "data set", heads, lines)


def _worth(row: Mapping[Any, Any]) -> Entry:
    if row["method"] == matrix.RANDOM or pd.isna(row["random"]):
        return Entry(f"{row['mean']:.2f}", recipe=str(row["recipe"]))
    rate = (row["mean"] - row["random"]) / row["seconds"] * 60
    return Entry(f"{row['mean']:.2f}", f"({rate:+.2g})".replace("-", "−"), str(row["recipe"]))


def cost_findings(layout: Layout, found: pd.DataFrame) -> list[str]:
    """Per data set, size and model: the most accurate set, and the cheapest within both deviations of it."""
    said = []
    made = found[~found["method"].isin([matrix.WHOLE, matrix.RANDOM])]
    for (dataset, size, _, model), group in _groups(made, transfer.KEYS):
        if len(group) < 2:
            continue
        best = group.iloc[int(group["mean"].argmax())]
        apart = (group["std"].fillna(0) ** 2 + (0 if pd.isna(best["std"]) else best["std"]) ** 2) ** 0.5
        near = group[best["mean"] - group["mean"] <= apart]
        cheap = near.iloc[int(near["seconds"].argmin())]
        where = f"{dataset}, {size} per class, {layout.labels[str(model)]}"
        text = f"{where}: most accurate is {_cell(layout, best)}"
        if cheap["experiment"] != best["experiment"]:
            text += f"; {_cell(layout, cheap)} lies within both deviations"
        said.append(text + ".")
    return said


def _cell(layout: Layout, row: pd.Series) -> str:
    taken = seconds(row["seconds"])
    return f"{layout.labels[str(row['experiment'])]} with {row['mean']:.2f} % after {taken} seconds a set"


# The distance on its way


def distances(rows: pd.DataFrame) -> pd.DataFrame:
    """Every recorded line with the matched distance: data set, experiment, images per class, seed, step, seconds, distance."""
    made = cost.records(rows, ("dataset", "experiment", "per_class", "seed", "budget"))
    return made.dropna(subset=["distance"]).reset_index(drop=True) if "distance" in made else made.head(0)


def distance_findings(layout: Layout, made: pd.DataFrame) -> list[str]:
    """What is left of the first step's distance after the last step, means over seeds."""
    said = []
    for (dataset, size, experiment), record in _groups(made, _PLACE):
        ordered = record.sort_values("step").groupby("seed")["distance"]
        left = (ordered.last() / ordered.first()).mean()
        said.append(
            f"{dataset}, {size} per class, {layout.labels[experiment]}: {100 * left:.0f} % of the first step's distance is left "
            f"after {int(record['step'].max()) + 1} steps."
        )
    return said


# Networks against networks


def crossed(layout: Layout, found: pd.DataFrame) -> pd.DataFrame:
    """The transfer matrix (`matrix.gathered`) with `published_std` beside `published`.

    `own` holds where a set is scored by a network with the label of the one it is made for: DC distils for networks with batch
    normalisation and scores by the same ones with instance normalisation.
    """
    theirs = published.table(layout.published).drop_duplicates(_CELL).set_index(_CELL)["std"].to_dict()
    spreads = [theirs.get(tuple(row[name] for name in _CELL), math.nan) for row in found.to_dict("records")]
    made_for = found["experiment"].map(dict(layout.made_for)).map(dict(layout.labels))
    return found.assign(published_std=spreads, own=made_for == found["model"].map(dict(layout.labels)))


def cross_table(found: pd.DataFrame) -> Table:
    """Mean ± deviation in percent: a line a set, a column a network that scores, and the paper's line below ours."""
    columns = list(dict.fromkeys(found["scored_by"]))
    heads = [Column("distilled for", words=True), Column("images per class"), Column("", words=True)]
    heads += [Column(name, "test accuracy, %, by") for name in columns]
    lines = []
    for dataset, size, block in matrix.blocks(found):
        for (_, name), group in _groups(block, ["experiment", "set"]):
            reference = bool(group["method"].isin([matrix.WHOLE, matrix.RANDOM]).all())
            cells = {row["scored_by"]: row for row in group.to_dict("records")}
            lines.append(_crossed_line(dataset, size, str(name), "ours", cells, columns, reference))
            if group["published"].notna().any():
                lines.append(_crossed_line(dataset, size, str(name), "paper", cells, columns, reference))
    return Table("cross", "Networks that distil, networks that score (* the same)", "data set", heads, lines)


def _crossed_line(
    dataset: str, size: int, name: str, whose: str, cells: Mapping[str, Mapping[Any, Any]], columns: list[str], reference: bool
) -> Line:  # fmt: skip
    entries = [_accuracy(cells[column], whose) if column in cells else Entry() for column in columns]
    return Line(
        dataset, [Entry(name), Entry(str(size)), Entry(whose), *entries], reference,
        f"{dataset} {size} {name} {whose} cross",
    )  # fmt: skip


def _accuracy(row: Mapping[Any, Any], whose: str) -> Entry:
    mean, std = ("published", "published_std") if whose == "paper" else ("mean", "std")
    if pd.isna(row[mean]):
        return Entry()
    spread = "" if pd.isna(row[std]) else f"± {row[std]:.1f}"
    recipe = str(row["recipe"]) if whose == "ours" else ""
    return Entry(f"{row[mean]:.1f}" + ("*" if row["own"] else ""), spread, recipe)


def cross_findings(found: pd.DataFrame) -> list[str]:
    """Which networks are best to distil for and to score by, and how our order of the cells agrees with the paper's."""
    sets = found[~found["method"].isin([matrix.WHOLE, matrix.RANDOM])]
    said = []
    for dataset, size, block in matrix.blocks(sets):
        rows, columns = (block.groupby(name, sort=False)["mean"].mean() for name in ("set", "scored_by"))
        own, other = (block[block["own"] == same]["mean"].mean() for same in (True, False))
        said.append(
            f"{dataset}, {size} per class, means over the other side: best to distil for is {rows.idxmax()} "
            f"({rows.max():.1f} %), worst {rows.idxmin()} ({rows.min():.1f} %); best at learning from sets is {columns.idxmax()} "
            f"({columns.max():.1f} %), worst {columns.idxmin()} ({columns.min():.1f} %)."
            + (
                ""
                if pd.isna(own) or pd.isna(other)
                else f" On its own set a network has {own:.1f} %, on others {other:.1f} %."
            )
        )
        both = block.dropna(subset=["published"])
        if len(both) > 2:
            agree = both["mean"].rank().corr(both["published"].rank())
            said.append(
                f"{dataset}, {size} per class: over {len(both)} cells the rank correlation of our accuracies with the paper's is "
                f"{agree:.2f}; the mean difference is {(both['mean'] - both['published']).mean():+.1f} points.".replace(
                    " -", " −"
                )
            )
    return said


# What of the network matters


def ablated(layout: Layout, rows: pd.DataFrame, tidy: pd.DataFrame) -> pd.DataFrame:
    """Per varied setting (`varied`, `value`, and whether it is that of the study's first distilled set, `usual`), set and
    network that scores it: mean accuracy and deviation, `random`: that of as many random images, `gain`, and `own`: whether it
    is the network that the set is made for.

    The usual set stands once in each setting, and once for each network, whatever protocols it has. Settings are read from the
    recipes in the files.
    """
    networks = {
        row["experiment"]: artifact.header(Path(row["file"]))["recipe"]["method"].get("model") or {}
        for row in rows.drop_duplicates("experiment").to_dict("records")
        if row["method"] not in (matrix.WHOLE, matrix.RANDOM)
    }
    order = [name for name in layout.experiments if name in networks]
    if not order:
        return pd.DataFrame()
    usual, found = networks[order[0]], transfer.gains(tidy)
    found = found.drop_duplicates(_CELL)
    found["own"] = found["experiment"].map(dict(layout.made_for)) == found["model"]
    parts = []
    for setting in VARIED:
        values = {name: networks[name].get(setting) for name in order}
        varied = [
            name for name in order
            if networks[name].get("kind") == usual.get("kind") and values[name] != values[order[0]]
            and all(networks[name].get(other) == usual.get(other) for other in VARIED if other != setting)
        ]  # fmt: skip
        for name in sorted([order[0], *varied], key=lambda name: _ranked(values[name])) if varied else []:
            cells = found[found["experiment"] == name]
            parts.append(cells.assign(varied=setting, value=str(values[name]), usual=name == order[0]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _ranked(value: Any) -> tuple[float, str]:
    """Numbers by size, words in the order of the alphabet."""
    return (float(value), "") if isinstance(value, int | float) else (0.0, str(value))


def ablation_table(layout: Layout, found: pd.DataFrame) -> Table:
    """A line a value of a setting: its set scored by its own network and by the usual one."""
    heads = [Column("varied", words=True), Column("value", words=True), Column("images per class")]
    for by in ("by the network it is made for", "by the usual network"):
        heads += [Column("test accuracy, %", by), Column("over random images", by)]
    lines = []
    common = layout.made_for.get(str(found[found["usual"]]["experiment"].iloc[0])) if len(found) else None
    keys = ["dataset", "per_class", "varied", "value"]
    for (dataset, size, setting, value), group in _groups(found, keys):
        own, usual = (group[mask] for mask in (group["own"], group["model"] == common))
        cells = [entry for part in (own, usual) for entry in _gained(part)]
        label = f"{value} (usual)" if group["usual"].any() else str(value)
        label += part_of_budget(group["budget"].iloc[0])
        lines.append(
            Line(
                str(dataset), [Entry(VARIED[str(setting)]), Entry(label), Entry(str(size)), *cells],
                bool(group["usual"].any()), f"{dataset} {size} {setting} {value} ablation",
            )
        )  # fmt: skip
    return Table("ablation", "The ConvNet that sets are made for", "data set", heads, lines)


def _gained(part: pd.DataFrame) -> list[Entry]:
    if not len(part):
        return [Entry(), Entry()]
    row = part.iloc[0]
    spread = "" if pd.isna(row["std"]) else f"± {row['std']:.2f}"
    gain = Entry() if pd.isna(row["gain"]) else Entry(f"{row['gain']:+.1f}".replace("-", "−"))
    return [Entry(f"{row['mean']:.2f}", spread, str(row["recipe"]), value=round(float(row["mean"]), 2)), gain]


def ablation_findings(found: pd.DataFrame) -> list[str]:
    """Per data set and size, of sets scored by their own networks: the best value of every setting, and DC's claims beside it."""
    said = []
    own = found[found["own"]] if len(found) else found
    for (dataset, size), here in _groups(own, ["dataset", "per_class"]):
        best = []
        for (setting,), part in _groups(here, ["varied"]):
            ranked = part.sort_values("mean", kind="stable")
            top, low = ranked.iloc[-1], ranked.iloc[0]
            best.append(
                f"{VARIED[str(setting)]} {top['value']} ({top['mean']:.1f} %; {low['value']}: {low['mean']:.1f} %)"
            )
        said.append(f"{dataset}, {size} per class, best of each setting: {', '.join(best)}.")
        said += [
            f"{dataset}, {size} per class: {text}" for claim in CLAIMS if (text := _judged(here, *claim)) is not None
        ]
    return said


def _judged(here: pd.DataFrame, setting: str, better: str, other: str | None) -> str | None:
    """A claim of DC beside our accuracies; None where a value is missing."""
    part = here[here["varied"] == setting].set_index("value")
    rest = [each for each in part.index if each != better and other in (None, each)]
    if better not in part.index or not rest:
        return None
    means = part["mean"].to_dict()
    rival = max(rest, key=means.__getitem__)
    one, two = part.loc[better], part.loc[rival]
    points = one["mean"] - two["mean"]
    spread = (one["std"] ** 2 + two["std"] ** 2) ** 0.5
    clear = "" if pd.isna(spread) else f", both deviations together {spread:.1f}"
    holds = f"that {'holds' if points > 0 else 'does not hold'} here ({points:+.1f} points on {rival}{clear})"
    than = other or "all other values"
    return f"DC finds {VARIED[setting]} {better} better than {than}; {holds}.".replace("(-", "(−")


def _groups(frame: pd.DataFrame, keys: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """Rows with the same values of `keys`, in the order of their first; none of a frame without rows."""
    if len(frame):
        yield from ((tuple(key), group) for key, group in frame.groupby(list(keys), sort=False))
