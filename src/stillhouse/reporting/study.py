"""A study's rows: scores gathered over seeds, beside the published numbers, each with the recipe that makes it again."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact
from stillhouse.reporting import cost, published
from stillhouse.sets import recipe_id

COLUMNS = [
    "study", "dataset", "experiment", "method", "per_class", "protocol", "model", "metric", "mean", "std", "seeds",
    "published", "published_source", "difference", "budget", "recipe",
]  # fmt: skip
_GROUP = ["dataset", "experiment", "method", "per_class", "protocol", "model", "metric"]


@dataclass(frozen=True)
class Layout:
    """How a study is laid out: what the workflow passes to its notebook, as JSON."""

    name: str
    title: str
    scale: str
    published: str
    datasets: list[str]
    experiments: list[str]
    per_class: list[int]
    seeds: list[int]
    labels: Mapping[str, str]
    rows: list[str]
    pictures: list[Mapping[str, Any]]
    analyses: list[Mapping[str, Any]] = field(default_factory=list)
    made_for: Mapping[str, str] = field(default_factory=dict)  # experiment -> the model it is made for, if any

    @classmethod
    def from_json(cls, text: str) -> Layout:
        """Read it."""
        return cls(**json.loads(text))


def scores(layout: Layout) -> pd.DataFrame:
    """All rows of scores of the study: one per distilled set, training seed and metric."""
    types: Any = {"per_class": "Int64", "recipe": str, "code": str}
    parts = [pd.read_csv(path, dtype=types) for path in layout.rows]
    rows = pd.concat(parts, ignore_index=True)
    asked = rows["per_class"].isna() | rows["per_class"].isin(layout.per_class)
    return rows[asked & rows["seed"].isin(layout.seeds)].reset_index(drop=True)


def tidy(layout: Layout, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per number of the report: mean and sample standard deviation over seeds, and the published number."""
    gathered = rows.groupby(_GROUP, dropna=False, sort=False)
    table = gathered.agg(
        mean=("value", "mean"), std=("value", "std"), seeds=("seed", "nunique"), budget=("budget", "first")
    ).reset_index()
    table["recipe"] = [_identity(group) for _, group in gathered]
    table = published.beside(table, layout.published)
    table["difference"] = table["mean"] - table["published"]
    table.insert(0, "study", layout.name)
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    ranked = table.assign(
        a=table["dataset"].map(order), b=table["per_class"].fillna(0), c=table["experiment"].map(order)
    )
    keys = ["a", "b", "c", "model", "metric"]
    return ranked.sort_values(keys, kind="stable")[COLUMNS].reset_index(drop=True)


def analysed(layout: Layout, name: str) -> pd.DataFrame:
    """The rows of one analysis of the study, over its data sets and seeds."""
    files = [each["file"] for each in layout.analyses if each["analysis"] == name]
    return pd.concat([pd.read_csv(file, dtype={"recipe": str}) for file in files], ignore_index=True)


def analysis_images(layout: Layout, name: str, dataset: str) -> dict[str, Any]:
    """The images of an analysis on one data set, of the first seed: label -> (k, channels, h, w)."""
    [file] = [
        image
        for each in layout.analyses
        if (each["analysis"], each["dataset"], each["seed"]) == (name, dataset, layout.seeds[0])
        for image in each["images"]
    ]
    tensors, header = artifact.read(Path(file), "images")
    return {label: tensors[label].numpy() for label in header["order"]}


def analysis_recipes(layout: Layout) -> dict[str, dict[str, Any]]:
    """For every file of an analysis, by its recipe's id: what made it and the command that makes it again."""
    found = {}
    for each in layout.analyses:
        made_by = json.loads(artifact.recipe_path(Path(each["file"])).read_text(encoding="utf-8"))
        what = {"metric": each["analysis"], "dataset": each["dataset"], "experiment": f"seed {each['seed']}", "model": "",
                "per_class": None}  # fmt: skip
        command = f"snakemake --cores all --force {shlex.quote(each['file'])}"
        found[recipe_id(made_by)] = {"what": what, "command": command, "made_by": made_by}
    return found


def recipes(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """For every number of the report, by its `recipe`: what it is and everything that made each of its sets."""
    found = {}
    for _, group in rows.groupby(_GROUP, dropna=False, sort=False):
        first = group.iloc[0]
        found[_identity(group)] = {
            "what": {name: None if pd.isna(first[name]) else _plain(first[name]) for name in _GROUP},
            "judged_by_source": first["code"],
            "values": [_value(row) for _, row in group.iterrows()],
            "command": f"snakemake --cores all --force {shlex.join(sorted(set(group['file'])))}",
            **_made_by(Path(first["file"])),
        }
    return found


def exactness(rows: pd.DataFrame) -> pd.DataFrame:
    """For sets with a certificate, per data set and model: the largest weight error, and the largest distance of a set's
    accuracy to its teacher's, in points.
    """
    keys = ["dataset", "model", "seed"]
    accuracy = rows[rows["metric"] == "test accuracy"]
    teachers = accuracy[accuracy["experiment"] == "whole"].set_index(keys)["value"].rename("teacher")
    errors = rows[rows["metric"] == "weight error"].set_index("file")["value"].rename("weight error")
    certified = accuracy.join(errors, on="file", how="inner").join(teachers, on=keys)
    certified["accuracy gap"] = (certified["value"] - certified["teacher"]).abs()
    gathered = certified.groupby(["dataset", "model"], sort=False)
    return gathered.agg(
        sets=("file", "nunique"), weight_error=("weight error", "max"), accuracy_gap=("accuracy gap", "max")
    ).reset_index()


def findings(table: pd.DataFrame, exact: pd.DataFrame) -> list[str]:
    """What the numbers say, in sentences computed from them."""
    said = []
    if len(exact):
        said.append(
            f"Weights: over {exact['sets'].sum()} exact sets, what a model learns from the stored images differs from the "
            f"teacher's weights by at most {exact['weight_error'].max():.1e} (relative, float64), and test accuracy by at most "
            f"{exact['accuracy_gap'].max():.2f} points."
        )
    beside = table[table["published"].notna() & (table["metric"] == "test accuracy")]
    compared = beside[beside["budget"] >= 1]
    if len(compared):
        furthest = compared.iloc[int(compared["difference"].abs().argmax())]
        within = (compared["difference"].abs() <= 1).sum()
        said.append(
            f"Beside the paper: {within} of {len(compared)} numbers lie within 1 point of the published one; the furthest is "
            f"{furthest['dataset']}, {furthest['model']}, at {furthest['difference']:+.2f}."
            + (
                f" {len(beside) - len(compared)} of less than the published budget are left out."
                if len(beside) > len(compared)
                else ""
            )
        )
    if compared["published_source"].str.contains("single run").any():
        said.append(
            "The paper prints one run without deviation, and does not say whether its sets start from noise or from real "
            "images: both stand beside the same number."
        )
    return said


def spent(found: pd.DataFrame) -> list[str]:
    """What it took (`costs`), in a sentence."""
    seconds = found["seconds"].sum()
    where = ", ".join(sorted(set(found["device"])))
    threads = found["threads"].max()
    return [
        f"Cost: {len(found)} distilled sets and teachers in {seconds:.0f} seconds of computing ({where}, {threads} "
        f"thread{'s' if threads > 1 else ''} a job), at most {found['peak_memory_mb'].max():.0f} MB a process."
    ]


def picture_labels(layout: Layout, table: pd.DataFrame) -> dict[str, str]:
    """What a row of images is called: the experiment's label, and its model where it is made for one."""
    scored_by = table.groupby("experiment")["model"].unique()
    return {
        str(name): "\n".join([layout.labels[str(name)], *(layout.labels[m] for m in models if len(models) == 1)])
        for name, models in scored_by.items()
    }


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Seconds and peak memory of every file that was scored, from the cost files beside them."""
    files = rows[["dataset", "experiment", "per_class", "seed", "file"]].drop_duplicates("file")
    return pd.concat([files.reset_index(drop=True), pd.DataFrame(map(cost.read, files["file"]))], axis=1)


def _identity(group: pd.DataFrame) -> str:
    parts = group[[*_GROUP, "seed", "training_seed", "recipe", "code"]].astype(str)
    return hashlib.sha256(parts.to_csv(index=False).encode()).hexdigest()[:10]


def _value(row: Any) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in ("seed", "training_seed", "value", "file", "recipe")}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _made_by(file: Path) -> dict[str, Any]:
    """The recipe inside the first seed's file; the others differ in their seed alone."""
    header = artifact.header(file)
    kept = {"made_by": header["recipe"]}
    if header.get("certificate"):
        kept["certificate"] = header["certificate"]
    return kept
