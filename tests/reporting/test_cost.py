"""The one reader of cost files."""

import json
from pathlib import Path

import pandas as pd
import pytest

from stillhouse.reporting import cost

KNOWN = ("dataset", "seed")


def rows(folder: Path, *costs: dict[str, object]) -> pd.DataFrame:
    """Two rows of scores a file, seeds from 0 on."""
    made = []
    for seed, content in enumerate(costs):
        file = folder / f"seed{seed}.safetensors"
        (folder / f"seed{seed}.cost.json").write_text(json.dumps(content))
        made += [{"dataset": "mnist", "seed": seed, "file": str(file), "metric": m} for m in ("accuracy", "error")]
    return pd.DataFrame(made)


def test_the_cost_of_a_file_stands_beside_it(tmp_path: Path) -> None:
    made = rows(tmp_path, {"seconds": 1.5})
    assert cost.read(made["file"][0]) == {"seconds": 1.5}


def test_every_line_of_a_record_is_there_once_with_what_is_known_of_its_file(tmp_path: Path) -> None:
    record = [{"seconds": 1.0, "step": 0, "loss": 3.0}, {"seconds": 2.0, "step": 5, "loss": 1.0}]
    found = cost.records(
        rows(tmp_path, {"seconds": 2.5, "record": record}, {"seconds": 1}, {"record": record[:1]}), KNOWN
    )
    assert found.to_dict("records") == [
        {"dataset": "mnist", "seed": 0, **record[0]},
        {"dataset": "mnist", "seed": 0, **record[1]},
        {"dataset": "mnist", "seed": 2, **record[0]},
    ]


def test_without_a_record_there_are_no_lines_but_their_columns(tmp_path: Path) -> None:
    found = cost.records(rows(tmp_path, {"seconds": 1}), KNOWN)
    assert found.empty
    assert {*KNOWN, "step", "seconds", "validation_accuracy"} <= set(found.columns)


def test_a_file_whose_cost_is_lost_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        cost.read(tmp_path / "lost.safetensors")
