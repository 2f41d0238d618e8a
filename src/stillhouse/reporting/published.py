"""What the papers published: one CSV a paper in `published/`, in this project's words for data sets, methods and models."""

from pathlib import Path

import pandas as pd
import yaml

from stillhouse.errors import UserError, did_you_mean

_FOLDER = Path(__file__).parent / "published"
# What has to agree for a published number to stand beside one of ours.
KEYS = ["dataset", "method", "model", "per_class", "metric"]


def table(reference: str) -> pd.DataFrame:
    """The rows of 'paper, table' with columns KEYS, value, std, source. Raises UserError for an unknown paper or table."""
    paper, _, name = (part.strip() for part in reference.partition(","))
    papers = sorted(path.stem for path in _FOLDER.glob("*.csv"))
    if paper not in papers:
        raise UserError(f"published: unknown paper '{paper}'. {did_you_mean(paper, papers)}")
    rows = pd.read_csv(_FOLDER / f"{paper}.csv", dtype={"per_class": "Int64"})
    if name not in set(rows["table"]):
        raise UserError(f"published: {paper} has no '{name}'. {did_you_mean(name, set(rows['table']))}")
    chosen = rows[rows["table"] == name].copy()
    chosen["source"] = [f"{paper}, {name}" + (f", {note}" if isinstance(note, str) else "") for note in chosen["note"]]
    return chosen[[*KEYS, "value", "std", "source"]].reset_index(drop=True)


def citation(reference: str) -> str:
    """The paper's reference, as printed under a table."""
    papers: dict[str, str] = yaml.safe_load((_FOLDER / "papers.yaml").read_text(encoding="utf-8"))
    return papers[reference.partition(",")[0].strip()]
