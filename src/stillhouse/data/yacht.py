"""Yacht: residuary resistance of sailing yachts per unit weight from their hulls and speed (Gerritsma et al., 1981)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="yacht",
    file=uci.file("yacht"),
    inputs=(
        "longitudinal_position",
        "prismatic_coefficient",
        "length_displacement_ratio",
        "beam_draught_ratio",
        "length_beam_ratio",
        "froude_number",
    ),
    output="residuary_resistance",
    rows=308,
    fingerprint="9df37a30c809e3fcffc389d3de0e59062d5d4526941e1705abc39a830dc671b5",
    order="5af5f7db5696ab33ab0167c8ce9bf2957d1fae8567753297a0f8771f9dec51f3",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=20, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Yacht from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
