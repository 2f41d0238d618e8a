"""Power plant: hourly electrical output of a combined cycle power plant, in MW, from the weather (Tüfekci, 2014)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="power_plant",
    file=uci.file("power-plant"),
    inputs=("AT", "V", "AP", "RH"),
    output="PE",
    rows=9568,
    fingerprint="70c0b05f05285eb38f0bb239e4cbd53dd7cba5f74a51e4c2bbc8979d187bb2bc",
    order="6721822c15d6756fcdb2ab7f7ab98e41bad7a5acd838cadea3ee3cbbc1384e7d",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=20, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Power plant from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
