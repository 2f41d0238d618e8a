"""Energy: heating load of simulated buildings from their shape (Tsanas, Xifara, 2012)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="energy",
    file=uci.file("energy"),
    inputs=(
        "relative_compactness",
        "surface_area",
        "wall_area",
        "roof_area",
        "overall_height",
        "orientation",
        "glazing_area",
        "glazing_area_distribution",
    ),
    output="heating_load",
    rows=768,
    fingerprint="f25d9bd95bf2b8e1795826c42e1922b76ab5cf192e2ce993ef0dc526691121ab",
    order="ca94cb84c037c896f4db3a380e63a7e747f3fa513c38e1fcab21d788a224dba5",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=20, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Energy from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
