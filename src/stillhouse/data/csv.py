"""Your own table: a CSV file with a header line, one example a row, one column what is to be predicted.

    datasets:
      houses: {kind: csv, path: data/houses.csv, target: price}
      flowers: {kind: csv, path: data/flowers.csv, target: species, task: classification, ignore: [id]}

Rows are split by `test_fraction`, chosen by the digest of what they hold, or the test rows are those of a second file. There is
nothing to check such a set against: its fingerprint is computed and recorded.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field

from stillhouse.data import identity, table
from stillhouse.errors import UserError, did_you_mean
from stillhouse.sets import RealSet, Split

_NOTABLE = 1e-3  # of a column's deviation; rounding below it is not worth a word

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Params:
    """Where the table is and what its columns are for."""

    path: Annotated[str, Field(description="CSV file with a header line and one example a row")] = "data/table.csv"
    target: Annotated[
        str | tuple[str, ...],
        Field(description="column to predict, or a list of columns for several values; always needed"),
    ] = ()
    task: Annotated[
        Literal["regression", "classification"],
        Field(description="whether the target holds numbers, or names of classes"),
    ] = "regression"
    inputs: Annotated[tuple[str, ...], Field(description="columns to predict from; all others if none is named")] = ()
    ignore: Annotated[tuple[str, ...], Field(description="columns to leave out")] = ()
    test: Annotated[str, Field(description="CSV file of the test examples; '': some rows of `path`")] = ""
    test_fraction: Annotated[
        float, Field(gt=0, lt=1, description="share of the rows (of each class) kept for testing; not used with `test`")
    ] = 0.2
    separator: Annotated[
        str | None,
        Field(pattern=r'^[^"\r\n]$', description="what stands between columns; found among , ; and tab if not set"),
    ] = None


@dataclass(frozen=True)
class _Roles:
    """Names of the columns by what they are for."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def read(params: Params, downloads: Path) -> RealSet:
    """The table: inputs (n, d) float32; targets (n, k) float64, or (n,) int64 labels of classes in the order of their names.

    Raises UserError for a table that cannot be read (`table`), settings that do not fit it, fewer than two classes, a class that
    cannot be split, and a column that is the same in all training rows.
    """
    home, roles = _opened(params)
    found = _content(home, roles, params)
    classes = _classes(home, found.texts) if params.task == "classification" else ()
    whole = _split(home, roles, found, classes)
    if params.test:
        other = table.opened(Path(params.test), params.separator)
        _check_same_columns(other, home, roles)
        train, test = whole, _split(other, roles, _content(other, roles, params), classes)
    else:
        testing = _testing(home, found, params.test_fraction)
        train, test = (Split(whole.inputs[part], whole.targets[part]) for part in (~testing, testing))
    _check_constant(home, roles, train)
    return identity.identified("csv", train, test, classes, () if classes else roles.targets)


def files(params: Params) -> list[Path]:
    """The table, or both, for a workflow that has to know when one changes."""
    return [Path(path) for path in (params.path, params.test) if path]


def task(params: Params) -> str:
    """'regression' or 'classification'."""
    return params.task


def smallest_class(params: Params) -> int:
    """Training rows of the class that has fewest, or all of them for regression. Raises UserError for what needs no numbers."""
    home, roles = _opened(params)
    if params.task == "classification":
        column = home.column(roles.targets[0], "target")
        counts = Counter(fields[column].strip() for _, fields in home.rows())
        _classes(home, counts)
    else:
        counts = Counter({"": sum(1 for _ in home.rows())})
    if params.test:
        return min(counts.values())
    _check_divisible(home, counts)
    return min(count - table.held_out(count, params.test_fraction) for count in counts.values())


def _opened(params: Params) -> tuple[table.Table, _Roles]:
    """The table and what its columns are for. Raises UserError for settings that do not fit it."""
    home = table.opened(Path(params.path), params.separator)
    targets = (params.target,) if isinstance(params.target, str) else params.target
    if not targets:
        known = ", ".join(home.names)
        raise UserError(f"{home.path}: 'target' is missing. Set it to the column to predict, one of: {known}.")
    if params.task == "classification" and len(targets) > 1:
        raise UserError(f"{home.path}: target: {len(targets)} columns for classes. Name one column.")
    uses: dict[str, str] = {}
    settings = {"target": targets, "inputs": params.inputs, "ignore": params.ignore}
    for setting, named in settings.items():
        for name in named:
            home.column(name, setting)
            if name in uses:
                raise UserError(
                    f"{home.path}: {setting}: '{name}' stands under '{uses[name]}' as well. Remove it from one."
                )
            uses[name] = setting
    inputs = params.inputs or tuple(name for name in home.names if name not in uses)
    if not inputs:
        raise UserError(f"{home.path}: no column is left to predict from. Take some out of 'ignore' or 'target'.")
    return home, _Roles(inputs, targets)


def _content(home: table.Table, roles: _Roles, params: Params) -> table.Content:
    """Inputs as numbers, with targets behind them or as texts."""
    if params.task == "classification":
        return table.content(home, roles.inputs, roles.targets[0])
    return table.content(home, (*roles.inputs, *roles.targets), needed=roles.targets)


def _check_same_columns(other: table.Table, home: table.Table, roles: _Roles) -> None:
    for name in (*roles.inputs, *roles.targets):
        if name not in other.names:
            raise UserError(
                f"{other.path}: no column '{name}', which {home.path} has. {did_you_mean(name, other.names)}"
            )


def _classes(home: table.Table, names: Iterable[str]) -> tuple[str, ...]:
    """The classes in order: by number if all are whole numbers, else by alphabet."""
    classes = set(names)
    if len(classes) < 2:
        raise UserError(
            f"{home.path}: only one class, '{min(classes)}'. Add rows of a second one, or name another target."
        )
    numbered = all(name.isdecimal() for name in classes)
    return tuple(sorted(classes, key=lambda name: (int(name) if numbered else 0, name)))


def _split(home: table.Table, roles: _Roles, found: table.Content, classes: tuple[str, ...]) -> Split:
    """All rows of a file as examples."""
    values = found.numbers[:, : len(roles.inputs)]
    with np.errstate(over="ignore"):
        inputs = values.astype(np.float32)
    for row, column in np.argwhere(np.isinf(inputs))[:1]:
        where = f"{home.path}: line {found.lines[row]}, column '{roles.inputs[column]}'"
        raise UserError(f"{where}: {values[row, column]:g} is too large for single precision. Scale the column.")
    _warn_of_rounding(home, roles, values, inputs)
    if not classes:
        return Split(torch.from_numpy(inputs), torch.from_numpy(found.numbers[:, len(roles.inputs) :].copy()))
    labels = {name: label for label, name in enumerate(classes)}
    for line, name in zip(found.lines, found.texts, strict=True):
        if name not in labels:
            where = f"{home.path}: line {line}, column '{roles.targets[0]}'"
            raise UserError(f"{where}: no training row has the class '{name}'. Add some, or remove the row.")
    return Split(torch.from_numpy(inputs), torch.tensor([labels[name] for name in found.texts]))


def _warn_of_rounding(
    home: table.Table, roles: _Roles, values: npt.NDArray[np.float64], inputs: npt.NDArray[np.float32]
) -> None:
    """Log which columns lose what tells their rows apart, as large numbers with small differences do."""
    lost, deviations = np.abs(values - inputs).max(0), values.std(0)
    for name, rounding, deviation in zip(roles.inputs, lost, deviations, strict=True):
        if rounding > _NOTABLE * deviation:
            how = f"rounds it by up to {rounding:.2g}, and its values deviate by {deviation:.2g}"
            _log.warning("%s: column '%s': single precision %s. Subtract a constant.", home.path, name, how)


def _testing(home: table.Table, found: table.Content, fraction: float) -> torch.Tensor:
    """(n,) whether a row is for testing, chosen by its digest: the same on every machine and in every order of the rows."""
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(found.texts or [""] * len(found.keys)):
        groups.setdefault(name, []).append(row)
    _check_divisible(home, {name: len(rows) for name, rows in groups.items()})
    testing = torch.zeros(len(found.keys), dtype=torch.bool)
    for rows in groups.values():
        shuffled = sorted(rows, key=found.keys.__getitem__)
        testing[shuffled[: table.held_out(len(rows), fraction)]] = True
    return testing


def _check_divisible(home: table.Table, counts: Mapping[str, int]) -> None:
    """`counts` of rows by class; one nameless group for regression."""
    for name, count in counts.items():
        if count == 1:
            what = f"class '{name}' has one row, which" if name else "one row"
            raise UserError(f"{home.path}: {what} cannot be split. Add rows, or set 'test' to a file of test rows.")


def _check_constant(home: table.Table, roles: _Roles, train: Split) -> None:
    """Refuse a column that never changes: it cannot be standardised, and says nothing."""
    if len(train) == 1:
        raise UserError(f"{home.path}: only one row is left to train on. Add rows, or lower 'test_fraction'.")
    for name, values in zip(roles.inputs, train.inputs.T, strict=True):
        if bool((values == values[0]).all()):
            raise UserError(
                f"{home.path}: column '{name}' is {float(values[0]):g} in all {len(values)} training rows, in single precision. "
                "Put it under 'ignore'."
            )
    if train.targets.ndim == 1:
        return  # of each class some rows are for training
    for name, values in zip(roles.targets, train.targets.T, strict=True):
        if bool((values == values[0]).all()):
            raise UserError(
                f"{home.path}: target '{name}' is {float(values[0]):g} in all {len(values)} training rows. Name another target."
            )
