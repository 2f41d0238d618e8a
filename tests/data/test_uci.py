"""Tables that papers on regression share: every file of them, and what they have in common."""

import dataclasses
import hashlib
import importlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse import data
from stillhouse.data import california_housing, fetch, identity, uci
from stillhouse.errors import UserError
from stillhouse.sets import Split

Official = Callable[[tuple[fetch.RemoteFile, ...]], None]

# sha256 of the published lists of test rows: positions from 0, ascending, one split a line.
LISTS = {
    "concrete": (20, "d88526525e0dc068ddbc165e2d2a7a01f47b57e46b3771649205e0c9d28886f1"),
    "energy": (20, "aa2ce61d239128100644bbc2ab0fa1a4741eaa7ce4b8af3a6e446ea3489d72f8"),
    "power_plant": (20, "257d30a95b7f9af7ab7b624ac771dc863bbc3d55c14287c160252f215d8a2dfd"),
    "wine_quality_red": (20, "6d2a483c95fae18f5f6f637f37c397a4c5806b3d62eebce1af35b8ac6d30ea61"),
    "yacht": (20, "84d5b9a159aa0598e513be7c9baaba8f2c1f07b9b8adaa54b8808c033890b52f"),
    "protein": (5, "2f37992bd2aa4a00cff3cdded6607cbedb5830f69f656113f9c7e49011a9720b"),
}
NAMES = (*LISTS, "california_housing")

# Ten rows of two features and a target, and two of totals as in the archive of California housing.
ROWS = [[i, 0.25 * i * i, 3.5 - i] for i in range(10)]
TOTALS = "-122.230000,37.880000,41,880,129,322,126,8.3252,452600\n-122.22,37.86,21,7099,1106,2401,1138,8.3014,358500\n"


def module(name: str) -> ModuleType:
    return importlib.import_module(f"stillhouse.data.{name}")


def as_split(found: uci.Numbers) -> Split:
    return Split(torch.from_numpy(found[:, :-1].astype(np.float32)), torch.from_numpy(found[:, -1:].copy()))


def known(table: uci.Table, found: uci.Numbers) -> uci.Table:
    """The table of which `found` is the official content."""
    fingerprint, order = identity.hashes({"all": as_split(found)})
    return dataclasses.replace(table, rows=len(found), fingerprint=fingerprint, order=order)


@pytest.fixture
def small() -> uci.Table:
    """A table of ten rows."""
    table = uci.Table("small", uci.file("small"), ("a", "b"), "y", 0, "", "")
    return known(table, np.array(ROWS))


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Puts a file into the mirror where the small table is looked for."""
    monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
    (tmp_path / "uci-regression").mkdir()

    def write(content: str | bytes) -> None:
        path = tmp_path / "uci-regression" / "small.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def text(rows: list[list[float]] = ROWS, between: str = " ", header: str = "") -> str:
    return header + "".join(between.join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize("name", LISTS)
def test_every_usual_split_is_the_published_one(name: str) -> None:
    count, published = LISTS[name]
    digest = hashlib.sha256()
    for split in range(count):
        train, test = uci.positions(module(name).TABLE.rows, split)
        assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(module(name).TABLE.rows))
        digest.update(f"{' '.join(map(str, test.tolist()))}\n".encode())
    assert digest.hexdigest() == published
    assert module(name).Params(split=count - 1).split == count - 1
    with pytest.raises(UserError, match=f"{name}.split: input should be less than {count}, found {count}"):
        data.prepare(name, {"split": count}, Path("raw"), Path("out"))


@pytest.mark.parametrize("name", NAMES)
def test_the_known_table_is_accepted(name: str, official: Official, tmp_path: Path) -> None:
    table = module(name).TABLE
    official((table.file,))
    real = module(name).read(module(name).Params(), tmp_path)
    assert (real.name, real.outputs, real.classes, real.shape) == (name, (table.output,), (), (len(table.inputs),))
    assert len(real.train) == module(name).smallest_class(module(name).Params())
    assert len(real.train) + len(real.test) == table.rows
    assert (real.train.inputs.dtype, real.train.targets.dtype) == (torch.float32, torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_its_card_says_what_the_code_checks(name: str, repository: Path) -> None:
    card = (repository / "data" / "cards" / f"{name}.md").read_text(encoding="utf-8")
    table, params = module(name).TABLE, module(name).Params()
    for heading in ("Source", "Licence", "Citation", "Columns", "Splits", "Mean", "Identity", "Known faults"):
        assert f"**{heading}" in card, heading
    flat = " ".join(card.split())
    assert f"{len(table.inputs)} features: {', '.join(table.inputs)}. Target: {table.output}." in flat
    training = module(name).smallest_class(params)
    assert f"{table.rows} rows; {training} for training, {table.rows - training} for testing." in flat
    assert table.fingerprint in card
    assert table.order in card
    assert table.file.wanted in flat


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_several_sources_and_is_for_regression(name: str) -> None:
    assert len(module(name).TABLE.file.urls) >= 2
    assert module(name).TASK == "regression"


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(between="  \t", header="\n"),
        text(between=",", header="a,b,y\n"),
        text(between=", ", header="first feature,second,y\n"),
        text([[f"{value:+.6e}" for value in row] for row in ROWS]),  # type: ignore[misc]
    ],
    ids=["blanks", "more blanks", "commas", "both", "other digits"],
)
def test_a_table_is_the_same_however_it_is_written(
    small: uci.Table, publish: Callable[[str], None], tmp_path: Path, content: str
) -> None:
    publish(content)
    real = uci.read(small, 3, tmp_path)
    train, test = uci.positions(10, 3)
    rows = torch.tensor(ROWS, dtype=torch.float64)
    assert (len(train), len(test)) == (9, 1)
    assert torch.equal(real.train.inputs.double(), rows[train, :2])
    assert torch.equal(real.test.targets, rows[test, 2:])


def test_one_fingerprint_of_the_table_serves_every_split_and_each_split_has_its_own(
    small: uci.Table, publish: Callable[[str], None], tmp_path: Path
) -> None:
    publish(text())
    found = [uci.read(small, split, tmp_path) for split in range(4)]
    parts = {tuple(uci.positions(10, split)[1].tolist()) for split in range(4)}
    assert len({real.fingerprint for real in found}) == len(parts) > 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (text(ROWS[:9]), "small: 9 rows in .*small.csv, officially 10"),
        (text([*ROWS[:9], [9, 0, 0]]), "small: in .*small.csv values differ from the official ones .values "),
        (text(ROWS[::-1]), "small: in .*small.csv rows are in another order .order "),
        (text([*ROWS[:9], [float("nan")] * 3]), "small: in .*small.csv values differ"),
        (text([row[:2] for row in ROWS]), "small.csv: 2 numbers a line, expected 2 features and the target"),
        ("a b\n", "small.csv: cannot be read as lines of numbers"),
        (text([*ROWS[:9], [1, 2]]), "small.csv: cannot be read as lines of numbers"),
        ("", "small.csv: 0 numbers a line"),
        (b"\xff\xfe", "small.csv: cannot be read as lines of numbers"),
    ],
)
def test_another_table_is_refused(
    small: uci.Table, publish: Callable[[str | bytes], None], tmp_path: Path, content: str | bytes, says: str
) -> None:
    publish(content)
    with pytest.raises(UserError, match=f"{says}.* Delete "):
        uci.read(small, 0, tmp_path)


def archive(path: Path, content: str, member: str = "CaliforniaHousing/cal_housing.data") -> uci.Numbers:
    """The numbers read from scikit-learn's archive with this content."""
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))
    return california_housing.decoded(path)


def test_totals_of_california_become_means_per_household(tmp_path: Path) -> None:
    first, second = archive(tmp_path / "california-housing.csv", TOTALS).tolist()
    assert first == [8.3252, 41, 880 / 126, 129 / 126, 322, 322 / 126, 37.88, -122.23, 4.526]
    assert second == [8.3014, 21, 7099 / 1138, 1106 / 1138, 2401, 2401 / 1138, 37.86, -122.22, 3.585]


def test_the_archive_and_the_table_of_california_are_the_same_data(official: Official, tmp_path: Path) -> None:
    official((california_housing.TABLE.file,))
    path = fetch.obtain(california_housing.TABLE.file, tmp_path)
    table = california_housing.decoded(path)[:2000]
    income, age, rooms, bedrooms, people, occupancy, latitude, longitude, value = table.T
    households = np.rint(people / occupancy)
    totals = [longitude, latitude, age, rooms * households, bedrooms * households, people, households, income]
    lines = "".join(
        ",".join(f"{each:.6f}" for each in row) + "\n" for row in zip(*totals, value * 100_000, strict=True)
    )
    again = archive(tmp_path / "archive", lines)
    assert identity.hashes({"all": as_split(again)}) == identity.hashes({"all": as_split(table)})


@pytest.mark.parametrize(
    ("content", "member"),
    [(TOTALS, "other.data"), ("1,2,3\n", ""), ("a" + TOTALS, ""), ("", ""), (TOTALS + "1,2\n", "")],
)
def test_an_archive_of_something_else_is_named(tmp_path: Path, content: str, member: str) -> None:
    with pytest.raises(
        UserError, match="holds no CaliforniaHousing/cal_housing.data of nine numbers a line.* Delete it"
    ):
        archive(tmp_path / "x.csv", content, member or "CaliforniaHousing/cal_housing.data")


@pytest.mark.parametrize(("fraction", "training"), [(0.2, 16512), (1e-9, 20639)])
def test_california_is_divided_by_the_share_asked_for(
    official: Official, tmp_path: Path, fraction: float, training: int
) -> None:
    official((california_housing.TABLE.file,))
    params = california_housing.Params(test_fraction=fraction)
    assert california_housing.smallest_class(params) == training
    assert len(california_housing.read(params, tmp_path).train) == training


@pytest.mark.parametrize("settings", [{"test_fraction": 0}, {"test_fraction": 1}, {"split": -1}])
def test_california_has_no_empty_part(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="california_housing"):
        data.prepare("california_housing", settings, Path("raw"), Path("out"))
