"""Tables as text: a header line with the names of the columns, then one example a line.

Fields are separated by a comma, a semicolon or a tab; one that holds such a character stands in double quotes. Every mistake is
named by file, line and column.
"""

import csv
import hashlib
import io
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stillhouse.errors import UserError, did_you_mean

SEPARATORS = (",", ";", "\t")
MISSING = frozenset({"", "?", "na", "n/a", "nan", "none", "null"})  # what stands for a missing number, in lower case


@dataclass(frozen=True)
class Table:
    """The text of a file, its header read."""

    path: Path
    separator: str
    names: tuple[str, ...]
    text: str = field(repr=False)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line and fields of each row.

        Raises UserError for a row of another length than the header, and when there is no row.
        """
        records = _records(self.path, self.text, self.separator)
        next(records)
        line = 0
        for line, fields in records:
            if len(fields) != len(self.names):
                raise UserError(
                    f"{self.path}: line {line}: {len(fields)} fields, the header has {len(self.names)}. Mend the line, put "
                    f"fields that hold {self.separator!r} in double quotes, or set 'separator'."
                )
            yield line, fields
        if not line:
            raise UserError(f"{self.path}: no rows below the header. Add one line for each example.")

    def column(self, name: str, setting: str) -> int:
        """Position of the column called `name`. Raises UserError saying which `setting` asks for it."""
        if name not in self.names:
            raise UserError(f"{self.path}: {setting}: no column '{name}'. {did_you_mean(name, self.names)}")
        return self.names.index(name)


@dataclass(frozen=True)
class Content:
    """What n rows hold in the columns asked for.

    numbers  (n, k) float64
    texts    n fields of the column of texts, if one is asked for
    keys     n digests of whole rows, all columns
    lines    n lines at which the rows begin
    """

    numbers: npt.NDArray[np.float64]
    texts: list[str]
    keys: list[bytes]
    lines: Sequence[int]


def opened(path: Path, separator: str | None = None) -> Table:
    """The table of a file, its separator found from its first line if none is given.

    Raises UserError when the file cannot be read, and for names that are missing, repeated or numbers.
    """
    text = _text(path)
    chosen = separator or _separator(text)
    header = next(_records(path, text, chosen), None)
    if header is None:
        raise UserError(f"{path}: empty. Write a header line with the names of the columns, then one example a line.")
    line, fields = header
    names = tuple(name.strip() for name in fields)
    where = f"{path}: line {line}"
    if all(_is_number(name) for name in names):
        raise UserError(f"{where}: numbers where the names of the columns should be. Add a header line.")
    for i, name in enumerate(names):
        if not name:
            raise UserError(f"{where}: column {i + 1} of {len(names)} has no name. Name it, or remove the column.")
        if name in names[:i]:
            raise UserError(f"{where}: two columns are called '{name}'. Rename one.")
    if len(names) == 1:
        raise UserError(f"{where}: one column, '{names[0]}'. Set 'separator' to what stands between the columns.")
    return Table(path, chosen, names, text)


def content(table: Table, numeric: Sequence[str], textual: str = "", needed: Sequence[str] = ()) -> Content:
    """The columns `numeric` as numbers, and the column `textual` (if any) as it stands.

    Raises UserError for what is no number, is infinite or is missing; it does not advise to leave out those `needed`.
    """
    columns = [table.names.index(name) for name in numeric]
    wording = table.names.index(textual) if textual else None
    numbers, lines = array("d"), array("q")
    texts, keys = [], []
    for line, fields in table.rows():
        lines.append(line)
        keys.append(hashlib.blake2b("\x1f".join(fields).encode(), digest_size=16).digest())
        numbers.extend([_number(table, line, column, fields[column], needed) for column in columns])
        if wording is not None:
            texts.append(_word(table, line, wording, fields[wording]))
    found = np.array(numbers).reshape(len(lines), len(columns))
    missing = np.argwhere(np.isnan(found))
    if len(missing):
        row, column = missing[0]
        advice = "" if numeric[column] in needed else ", or leave the column out with 'ignore'"
        raise UserError(
            f"{table.path}: {len(missing)} missing values, the first in line {lines[row]}, column '{numeric[column]}'. Fill them "
            f"or remove their rows{advice}."
        )
    return Content(found, texts, keys, lines)


def held_out(examples: int, fraction: float) -> int:
    """How many of some examples are for testing: the nearest to the fraction that leaves one on either side."""
    return min(max(round(fraction * examples), 1), examples - 1)


def _number(table: Table, line: int, column: int, text: str, needed: Sequence[str]) -> float:
    """A field as a number, NaN if it is missing."""
    try:
        value = float(text)
    except ValueError:
        if text.strip().lower() in MISSING:
            return math.nan
        raise _not_a_number(table, line, column, text.strip(), needed) from None
    if math.isinf(value) or "_" in text:
        raise _not_a_number(table, line, column, text.strip(), needed)
    return value


def _not_a_number(table: Table, line: int, column: int, text: str, needed: Sequence[str]) -> UserError:
    name = table.names[column]
    where = f"{table.path}: line {line}, column '{name}'"
    if _is_number(text):
        return UserError(f"{where}: '{text}' is infinite. Mend the value, or remove the row.")
    if _is_number(text.replace(",", ".")):
        return UserError(f"{where}: '{text}' is not a number. Write a point for the decimal comma.")
    other = "set 'task' to classification" if name in needed else "leave the column out with 'ignore'"
    return UserError(f"{where}: '{text}' is not a number. Encode it as one, or {other}.")


def _word(table: Table, line: int, column: int, text: str) -> str:
    if word := text.strip():
        return word
    raise UserError(f"{table.path}: line {line}, column '{table.names[column]}': no class. Name it, or remove the row.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_000 as a number; whoever wrote it most likely did not


def _separator(text: str) -> str:
    """The one that divides the first line into most fields."""
    first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    return max(SEPARATORS, key=lambda separator: len(next(csv.reader([first], delimiter=separator), [])))


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """First line and fields of each record that is not blank, the header first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    line = 1
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as problem:
        raise UserError(f"{path}: line {line}: {problem}. Mend the double quotes there.") from problem


def _text(path: Path) -> str:
    """What a file holds. Raises UserError when it cannot be read as UTF-8 text."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Set 'path' to your table, or 'test' to that of the test examples."
        ) from None
    except UnicodeDecodeError as problem:
        line = problem.object.count(b"\n", 0, problem.start) + 1
        raise UserError(
            f"{path}: line {line}: not UTF-8 text. Save it as UTF-8 (some programs say 'CSV UTF-8')."
        ) from None
    except OSError as problem:
        raise UserError(f"{path}: cannot be read: {problem.strerror}. Check the file and its permissions.") from problem
