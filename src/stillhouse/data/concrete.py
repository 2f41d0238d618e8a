"""Concrete: compressive strength of concrete, in MPa, from its mixture and its age (Yeh, 1998)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="concrete",
    file=uci.file("concrete"),
    inputs=(
        "cement",
        "blast_furnace_slag",
        "fly_ash",
        "water",
        "superplasticizer",
        "coarse_aggregate",
        "fine_aggregate",
        "age",
    ),
    output="compressive_strength",
    rows=1030,
    fingerprint="840fb7452246e6741491a87f5e308127ed93167990dac0fac5463479e278f454",
    order="039ace0a154dd85b909a72ece5af7852ac6a3bf427ee3c60ed9d104eff04c37f",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=20, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Concrete from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
