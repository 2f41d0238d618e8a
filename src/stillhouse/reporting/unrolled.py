"""What unrolled training (DD, SLDD) gives: sets trained as they ask and otherwise, beside baselines; the step sizes that they
ask for; how many images are enough.

The first protocol of such a study trains as the set asks; published numbers are of that, and stand beside no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.evaluation import ratios
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Column, Entry, Line, Table, part_of_budget
from stillhouse.sets import DistilledSet

WHOLE = "whole"
_KEYS = ["dataset", "experiment", "per_class", "protocol", "model"]
# Percentages A for which d_A is told: Sucholutsky and Schonlau (2021) leave them to the reader.
_ENOUGH = (50, 75, 90, 95, 99)


def first_protocol(rows: pd.DataFrame) -> str:
    """The one that trains as a set asks: the study names it first."""
    return str(rows["protocol"].iloc[0])


def beside_the_first(rows: pd.DataFrame, tidy: pd.DataFrame) -> pd.DataFrame:
    """`tidy` without published numbers beside other protocols than the first."""
    theirs = ["published", "published_source", "difference"]
    found = tidy.copy()
    found.loc[found["protocol"] != first_protocol(rows), theirs] = None
    return found


def gathered(layout: Layout, rows: pd.DataFrame, tidy: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment, size and column, in the study's order: test accuracy in percent (mean and sample deviation over
    all trainings of all seeds), how many `trainings`, `images` of the set (missing for the whole one), what is `published`,
    `asks` (whether the set has step sizes of its own), `set` and `column` (what they are called), `place` of the column.
    """
    scored = rows[rows["metric"] == "test accuracy"]
    counts = scored.groupby(_KEYS, dropna=False, sort=False).agg(trainings=("value", "size"), file=("file", "first"))
    found = tidy[tidy["metric"] == "test accuracy"].merge(counts.reset_index(), on=_KEYS)
    made = {file: _set(file) for file in found[found["method"] != WHOLE]["file"].unique()}
    found["images"] = pd.array([made[file][0] if file in made else None for file in found["file"]], dtype="Int64")
    found["asks"] = [file in made and made[file][1] for file in found["file"]]
    found["set"] = found["experiment"].map(dict(layout.labels)) + found["budget"].map(part_of_budget)
    columns = list(dict.fromkeys(zip(rows["protocol"], rows["model"], strict=True)))
    protocols = [protocol for protocol, _ in columns]
    found["column"] = [
        _words(protocol) + (f", {layout.labels[model]}" if protocols.count(protocol) > 1 else "")
        for protocol, model in zip(found["protocol"], found["model"], strict=True)
    ]
    found["place"] = [columns.index(each) for each in zip(found["protocol"], found["model"], strict=True)]
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    ranked = found.assign(a=found["dataset"].map(order), b=found["images"].fillna(0), c=found["experiment"].map(order))
    ranked = ranked.sort_values(["a", "b", "c", "place"], kind="stable")
    return ranked.drop(columns=[*"abc", "file"]).reset_index(drop=True)


def table(found: pd.DataFrame) -> Table:
    """A line a set, a column a protocol; what is published stands beside the first."""
    shown = _columns(found)
    compared = found["published"].notna().any()
    heads = [Column("trained on", words=True), Column("images")]
    heads += [Column(name, "test accuracy, %") for name in shown]
    if compared:
        heads.insert(3, Column("published", "test accuracy, %"))
    lines = []
    for (dataset, experiment, _), group in _sets(found):
        cells = {row["column"]: row for row in group.to_dict("records")}
        entries = [Entry(group["set"].iloc[0]), Entry(_images(group["images"].iloc[0]))]
        entries += [_accuracy(cells.get(name)) for name in shown]
        if compared:
            theirs = group["published"].dropna()
            entries.insert(3, Entry(f"{theirs.iloc[0]:.2f}") if len(theirs) else Entry())
        reference = group["method"].iloc[0] in (WHOLE, "random_images")
        name = f"{dataset} {entries[1].text} {group['set'].iloc[0]} {experiment}"
        lines.append(Line(str(dataset), entries, reference, name))
    notes = ("A set that asks for no step sizes is trained as the model's settings say, also in the first column.",)
    return Table("protocols", "Test accuracy: trained as the set asks, and otherwise", "data set", heads, lines, notes)


def findings(found: pd.DataFrame) -> list[str]:
    """What the table says, in sentences computed from it."""
    said = []
    first = _columns(found)[0]
    for (dataset, _, _), group in _sets(found[found["asks"]]):
        cells = {row["column"]: row for row in group.to_dict("records")}
        if first not in cells:
            continue
        others = [f"{cells[name]['mean']:.2f} % ({name})" for name in cells if name != first]
        text = f"{dataset}, {group['set'].iloc[0]}: {cells[first]['mean']:.2f} % {first}"
        said.append(text + (f"; the same images otherwise: {', '.join(others)}." if others else "."))
        like = found[(found["dataset"] == dataset) & (found["images"] == group["images"].iloc[0]) & ~found["asks"]]
        # Baselines ask for nothing: the first column trains them as another one does.
        like = like[like["place"] > 0] if (like["place"] > 0).any() else like
        if len(like):
            best = like.loc[like["mean"].idxmax()]
            said[-1] += (
                f" The best baseline of as many images, {best['set']}, has {best['mean']:.2f} % ({best['column']})."
            )
    return said


def step_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """Every step that a set of `rows` asks for: its data set, experiment, per_class and seed; `step` t, `epoch` and `part` of
    it, counted from 1, its `step_size`, and that before the first outer step (`start`).
    """
    found: list[dict[str, Any]] = []
    for row in rows[rows["method"] != WHOLE].drop_duplicates("file").to_dict("records"):
        header = artifact.header(Path(row["file"]))
        schedule = header["schedule"]
        if "step_sizes" not in schedule:
            continue
        known = {name: row[name] for name in ("dataset", "experiment", "per_class", "seed")}
        known["start"] = header["recipe"]["method"].get("step_size")
        for t, size in enumerate(schedule["step_sizes"]):
            place = {"step": t + 1, "epoch": t // schedule["steps"] + 1, "part": t % schedule["steps"] + 1}
            found.append({**known, **place, "step_size": size})
    names = ["dataset", "experiment", "per_class", "seed", "start", "step", "epoch", "part", "step_size"]
    return pd.DataFrame(found, columns=names)


def step_findings(layout: Layout, sizes: pd.DataFrame) -> list[str]:
    """What the learned step sizes are, in sentences computed from them."""
    said = []
    for (dataset, experiment), group in sizes.groupby(["dataset", "experiment"], sort=False):
        epochs = group.groupby("epoch")["step_size"].mean()
        by_epoch = ", ".join(f"{mean:.3g}" for mean in epochs)
        said.append(
            f"{dataset}, {layout.labels[str(experiment)]}: step sizes are {group['step_size'].min():.3g} to "
            f"{group['step_size'].max():.3g} after {group['start'].iloc[0]:g} at the start; their means by epoch: {by_epoch}."
        )
    return said


def ratio(found: pd.DataFrame) -> pd.DataFrame:
    """Rows of the first protocol with `whole`, the whole set's accuracy by the same model, and `ratio`, r_M in percent, in the
    order of their images; sets of models that no whole set was trained with have none.
    """
    asked = found[found["protocol"] == found.sort_values("place")["protocol"].iloc[0]]
    whole = asked[asked["method"] == WHOLE][["dataset", "model", "mean"]].rename(columns={"mean": "whole"})
    made: pd.DataFrame = asked[asked["method"] != WHOLE].merge(whole, on=["dataset", "model"])
    made["ratio"] = [ratios.distillation_ratio(m, w) for m, w in zip(made["mean"], made["whole"], strict=True)]
    made["family"] = made["set"].str.split(",").str[0]
    return made


def ratio_table(made: pd.DataFrame) -> Table:
    """r_M: a line a set."""
    heads = [Column("trained on", words=True), Column("images M"), Column("test accuracy, %"), Column("whole set, %"),
             Column("r_M, %")]  # fmt: skip
    lines = [
        Line(
            row["dataset"],
            [
                Entry(row["set"]), Entry(str(row["images"])), _accuracy(row), Entry(f"{row['whole']:.2f}"),
                Entry(f"{row['ratio']:.1f}", value=round(row["ratio"], 1)),
            ],
            row["method"] == "random_images",
            f"{row['dataset']} {row['images']} {row['set']} {row['experiment']} ratio",
        )
        for row in made.to_dict("records")
    ]  # fmt: skip
    return Table("ratios", "Distillation ratio r_M: accuracy over that of the whole set", "data set", heads, lines)


def size_table(made: pd.DataFrame) -> Table:
    """d_A: a line a family of sets (what their names have in common before a comma), a column a percentage A."""
    heads = [Column("trained on", words=True), Column("sizes known", words=True)]
    heads += [Column(f"{percent} %", "d_A: images for r_M of at least") for percent in _ENOUGH]
    lines = []
    for (dataset, family), group in made.groupby(["dataset", "family"], sort=False):
        # Where one number of images stands for several sets, the best of them is what it can give.
        best = {int(row["images"]): float(row["mean"]) for row in group.sort_values("mean").to_dict("records")}
        whole = float(group["whole"].iloc[0])
        found = [ratios.distillation_size(best, whole, percent) for percent in _ENOUGH]
        known = ", ".join(map(str, sorted(best)))
        entries = [Entry(str(family)), Entry(known), *(Entry() if each is None else Entry(str(each)) for each in found)]
        reference = group["method"].iloc[0] == "random_images"
        lines.append(Line(str(dataset), entries, reference, f"{dataset} {family} size"))
    return Table("sizes", "Distillation size d_A, of the sizes that are known", "data set", heads, lines)


def ratio_findings(made: pd.DataFrame) -> list[str]:
    """What r_M is for every set that asks for step sizes, in sentences."""
    return [
        f"{row['dataset']}, {row['set']}: M = {row['images']}, r_M = {row['ratio']:.1f} %, {row['mean']:.2f} of "
        f"{row['whole']:.2f} %."
        for row in made[made["asks"]].to_dict("records")
    ]


def with_learned_labels(rows: pd.DataFrame, most: int = 20) -> dict[str, DistilledSet]:
    """Sets of at most so many images whose targets are not one-hot, the first of each experiment, by its name."""
    found: dict[str, DistilledSet] = {}
    for row in rows[rows["method"] != WHOLE].drop_duplicates("experiment").to_dict("records"):
        made = DistilledSet.load(Path(row["file"]))
        learned = not bool(((made.targets == 0) | (made.targets == 1)).all())
        if learned and len(made) <= most:
            found[str(row["experiment"])] = made
    return found


def _set(file: str) -> tuple[int, bool]:
    """How many images, and whether it has step sizes of its own."""
    made = DistilledSet.load(Path(file))
    return len(made), "step_sizes" in made.schedule


def _sets(found: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    return list(found.groupby(["dataset", "experiment", "per_class"], sort=False, dropna=False))


def _columns(found: pd.DataFrame) -> list[str]:
    """What the columns are called, in the study's order."""
    return list(dict.fromkeys(found.sort_values("place", kind="stable")["column"]))


def _accuracy(cell: Mapping[Any, Any] | None) -> Entry:
    if cell is None:
        return Entry()
    spread = f"± {cell['std']:.2f}" if cell["trainings"] > 1 else ""
    return Entry(f"{cell['mean']:.2f}", spread, str(cell["recipe"]), value=round(float(cell["mean"]), 2))


def _images(count: Any) -> str:
    return "all" if pd.isna(count) else str(count)


def _words(protocol: str) -> str:
    """A protocol's name as words: as_the_set_asks becomes 'as the set asks'."""
    return protocol.replace("_", " ")
