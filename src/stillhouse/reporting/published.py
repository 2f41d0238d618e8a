"""What the papers published: one CSV a paper in `published/`, in this project's words for data sets, methods and models.

A reference names what a study stands beside: 'paper, table', or several with semicolons between them. A row with an
`experiment` stands beside that experiment of params.yaml alone; one without, beside any experiment of its method.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from stillhouse.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

_FOLDER = Path(__file__).parent / "published"
# What has to agree for a published number to stand beside one of ours.
KEYS = ["dataset", "method", "model", "per_class", "metric"]
_READ = [*KEYS, "experiment", "value", "std", "source"]


def table(reference: str) -> "pd.DataFrame":
    """The rows of all tables named, with columns KEYS, experiment, value, std, source; none for ''.

    Where two of them have a number for the same place, that of the one named first is kept. Raises UserError for an unknown one.
    """
    import pandas as pd  # slow to import, and `check` runs before every workflow

    check(reference, "published")
    types: Any = {"per_class": "Int64", "value": float, "std": float}
    parts = [_rows(paper, name) for paper, name in _named(reference)]
    if not parts:
        return pd.DataFrame(columns=_READ).astype(types)
    rows = pd.concat(parts, ignore_index=True).astype(types)
    return rows.drop_duplicates([*KEYS, "experiment"]).reset_index(drop=True)


def beside(ours: "pd.DataFrame", reference: str) -> "pd.DataFrame":
    """Rows of ours (KEYS and experiment) with columns `published` and `published_source`: what is published of that very
    experiment, or else of any of its method; missing where nothing is.
    """
    names = {"value": "published", "source": "published_source"}
    known = table(reference).rename(columns=names).drop(columns="std")
    own, any_of = known[known["experiment"] != ""], known[known["experiment"] == ""]
    joined = ours.merge(own, on=[*KEYS, "experiment"], how="left")
    general = ours[KEYS].merge(any_of.drop(columns="experiment"), on=KEYS, how="left")
    for column in names.values():
        joined[column] = joined[column].where(joined[column].notna(), general[column])
    return joined


def check(reference: str, where: str) -> None:
    """Raise UserError at `where` when a table does not exist, without reading its numbers; '' is none and right."""
    known = {path.stem: path for path in sorted(_FOLDER.glob("*.csv"))}
    for paper, name in _named(reference):
        if paper not in known:
            raise UserError(f"{where}: unknown paper '{paper}'. {did_you_mean(paper, known)}")
        with known[paper].open(encoding="utf-8", newline="") as file:
            tables = {row["table"] for row in csv.DictReader(file)}
        if name not in tables:
            raise UserError(f"{where}: {paper} has no '{name}'. {did_you_mean(name, tables)}")


def citation(reference: str) -> str:
    """The papers' references, as printed under a table, each once; '' for none."""
    papers: dict[str, str] = yaml.safe_load((_FOLDER / "papers.yaml").read_text(encoding="utf-8"))
    return " ".join(papers[paper] for paper in dict.fromkeys(paper for paper, _ in _named(reference)))


def _named(reference: str) -> Iterator[tuple[str, str]]:
    """Paper and table of each part of a reference."""
    for part in filter(None, (part.strip() for part in reference.split(";"))):
        paper, _, name = part.partition(",")
        yield paper.strip(), name.strip()


def _rows(paper: str, name: str) -> "pd.DataFrame":
    import pandas as pd

    types: Any = {"per_class": "Int64", "experiment": str}
    rows = pd.read_csv(_FOLDER / f"{paper}.csv", dtype=types)
    chosen = rows[rows["table"] == name].copy()
    chosen["experiment"] = chosen["experiment"].fillna("") if "experiment" in chosen else ""
    chosen["source"] = [f"{paper}, {name}" + (f", {note}" if isinstance(note, str) else "") for note in chosen["note"]]
    return chosen[_READ]
