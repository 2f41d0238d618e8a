"""What a file took to make: the cost file beside it, and the record of its progress where it was trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stillhouse import artifact

_RECORDED = ("step", "seconds", "validation_accuracy")


def read(path: Path | str) -> dict[str, Any]:
    """The cost file beside a result: seconds, memory, device, and perhaps a record (`Run.record`)."""
    found: dict[str, Any] = json.loads(artifact.cost_path(Path(path)).read_text(encoding="utf-8"))
    return found


def records(rows: pd.DataFrame, known: Sequence[str]) -> pd.DataFrame:
    """Every line of every record once: the columns `known` of its file's first row in `rows`, and what the line holds."""
    found = [
        {**{name: row[name] for name in known}, **line}
        for row in rows.drop_duplicates("file").to_dict("records")
        for line in read(row["file"]).get("record", [])
    ]
    return pd.DataFrame(found) if found else pd.DataFrame(columns=[*known, *_RECORDED])
