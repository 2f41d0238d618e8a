"""California housing: median house value of census block groups, in 100,000 dollars of 1990 (Pace, Barry, 1997).

The columns are those of scikit-learn's `fetch_california_housing`: rooms, bedrooms and people are given per household.
The source that scikit-learn reads holds totals, from which they are computed. Papers share no split: `test_fraction` of the
rows are for testing, by the permutations that the UCI tables are split with.
"""

import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from stillhouse.data import fetch, uci
from stillhouse.sets import RealSet

TASK = "regression"
TABLE = uci.Table(
    name="california_housing",
    file=uci.file(
        "california-housing",
        (
            "https://ndownloader.figshare.com/files/5976036",
            "https://raw.githubusercontent.com/robintux/Datasets4StackOverFlowQuestions/"
            "a8328d9d0acafc4e6d9021acd35968cdcc035832/fetch_california_housing.csv",
        ),
    ),
    inputs=("MedInc", "HouseAge", "AveRooms", "AveBedrms", "Population", "AveOccup", "Latitude", "Longitude"),
    output="MedHouseVal",
    rows=20640,
    fingerprint="a0f71e592dae4213937658c98537eecda4f124c01d24b2ce9fdcd2fbfcd7cb59",
    order="0b2c62780e295f64610a3371b0fccdf3150722ca7ef70ceaded8ad4c78c0c789",
)
_MEMBER = "CaliforniaHousing/cal_housing.data"
_LIMIT = 10_000_000  # bytes; the member is shorter


@dataclass(frozen=True)
class Params:
    """Which split, and how much of the rows is for testing."""

    split: Annotated[int, Field(ge=0, lt=20, description="which of 20 permutations of the rows divides them")] = 0
    test_fraction: Annotated[float, Field(gt=0, lt=1, description="share of the rows kept for testing")] = 0.2


def read(params: Params, downloads: Path) -> RealSet:
    """California housing from a table or from scikit-learn's archive. Raises UserError when it is missing or differs."""
    path = fetch.obtain(TABLE.file, downloads)
    return uci.divided(TABLE, decoded(path), path, params.split, params.test_fraction)


def smallest_class(params: Params) -> int:
    """Training examples."""
    return uci.training_rows(TABLE.rows, params.test_fraction)


def decoded(path: Path) -> uci.Numbers:
    """(n, 9) numbers of a table, or of the totals in an archive. Raises UserError naming the file when it holds neither."""
    return _from_totals(path) if tarfile.is_tarfile(path) else uci.numbers(path, TABLE)


def _from_totals(path: Path) -> uci.Numbers:
    """(n, 9) numbers from the archive's longitude, latitude, age, rooms, bedrooms, people, households, income, value."""
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile(_MEMBER)
            lines = member.read(_LIMIT).decode("ascii").split() if member else []
        totals = np.array([line.split(",") for line in lines], dtype=np.float64)
        longitude, latitude, age, rooms, bedrooms, people, households, income, value = totals.T
    except (tarfile.TarError, KeyError, OSError, EOFError, zlib.error, ValueError) as problem:
        raise fetch.unusable(path, f"holds no {_MEMBER} of nine numbers a line ({problem})") from problem
    per_household = (total / households for total in (rooms, bedrooms, people))
    average_rooms, average_bedrooms, occupancy = per_household
    return np.stack(
        [income, age, average_rooms, average_bedrooms, people, occupancy, latitude, longitude, value / 100_000], axis=1
    )
