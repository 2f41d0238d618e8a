"""Protein: how far predicted protein structures are from the true ones, in ångström (Rana, 2013)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="protein",
    file=uci.file("protein-tertiary-structure"),
    inputs=("F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9"),
    output="RMSD",
    rows=45730,
    fingerprint="51c8eba0533b043216941c9be91711d48d6c38025c503727bc655e6c0d974629",
    order="c2b5d34ecf6bc640147116a2a162cbb2b70dc95beec7e016d31fbefe6dbcf06c",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=5, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Protein from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
