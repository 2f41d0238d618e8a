"""What the papers published: one CSV a paper in `published/`, in this project's words for data sets, methods and models."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from stillhouse.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_FOLDER = Path(__file__).parent / "published"
# What has to agree for a published number to stand beside one of ours.
KEYS = ["dataset", "method", "model", "per_class", "metric"]


def table(reference: str) -> "pd.DataFrame":
    """The rows of 'paper, table' with columns KEYS, value, std, source; none for ''. Raises UserError for an unknown one."""
    import pandas as pd  # slow to import, and `check` runs before every workflow

    if not reference:
        return pd.DataFrame(columns=[*KEYS, "value", "std", "source"]).astype({"per_class": "Int64", "value": float})
    check(reference, "published")
    paper, _, name = (part.strip() for part in reference.partition(","))
    rows = pd.read_csv(_FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    chosen = rows[rows["table"] == name].copy()
    chosen["source"] = [f"{paper}, {name}" + (f", {note}" if isinstance(note, str) else "") for note in chosen["note"]]
    return chosen[[*KEYS, "value", "std", "source"]].reset_index(drop=True)


def check(reference: str, where: str) -> None:
    """Raise UserError at `where` when there is no such table, without reading it; '' is none and right."""
    if not reference:
        return
    paper, _, name = (part.strip() for part in reference.partition(","))
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.csv"))}
    if paper not in known:
        raise UserError(f"{where}: unknown paper '{paper}'. {did_you_mean(paper, known)}")
    with known[paper].open(encoding="utf-8", newline="") as file:
        tables = {row["table"] for row in csv.DictReader(file)}
    if name not in tables:
        raise UserError(f"{where}: {paper} has no '{name}'. {did_you_mean(name, tables)}")


def citation(reference: str) -> str:
    """The paper's reference, as printed under a table; '' for none."""
    if not reference:
        return ""
    papers: dict[str, str] = yaml.safe_load((_FOLDER / "papers.yaml").read_text(encoding="utf-8"))
    return papers[reference.partition(",")[0].strip()]
