"""Wine quality, red: tasters' median score of Portuguese wines, 0 to 10, from laboratory tests (Cortez et al., 2009)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stillhouse.data import uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="wine_quality_red",
    file=uci.file("wine-quality-red"),
    inputs=(
        "fixed_acidity",
        "volatile_acidity",
        "citric_acid",
        "residual_sugar",
        "chlorides",
        "free_sulfur_dioxide",
        "total_sulfur_dioxide",
        "density",
        "pH",
        "sulphates",
        "alcohol",
    ),
    output="quality",
    rows=1599,
    fingerprint="9a2bb01260ca96fbf1ef837e509b8fb673acceab4f989549491e6475cbbef97a",
    order="66b4b38755b1d3a351fdf83b23c0b8c019bcbaa4f1afa92acf979a9cba8a5360",
)


@dataclass(frozen=True)
class Params:
    """Which split."""

    split: Annotated[int, Field(ge=0, lt=20, description=uci.SPLIT)] = 0


def read(params: Params, downloads: Path) -> RealSet:
    """Wine quality, red from its table. Raises UserError when it is missing or differs from the known data."""
    return uci.read(TABLE, params.split, downloads)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows)
