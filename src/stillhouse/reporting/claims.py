"""A paper's statements in a table: what each says, what was measured, the verdict, and the test that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stillhouse.reporting.tables import Column, Entry, Line, Table

# Verdicts in the order in which a reader wants them counted.
VERDICTS = ("holds", "holds with correction", "vacuous", "FAILS")


def table(rows: pd.DataFrame) -> Table:
    """One line per claim of one data set and seed; the worst numbers where there are several."""
    columns = [
        Column("claim", words=True), Column("statement, and its condition", words=True),
        Column("error", "measured"), Column("must miss", "measured"), Column("verdict", words=True),
        Column("finding", words=True), Column("test", words=True),
    ]  # fmt: skip
    found = [_worst(group) for _, group in rows.groupby(["group", "claim", "statement"], sort=False)]
    return Table("claims", "Claims", "part", columns, [_line(row) for row in found])


def _worst(group: pd.DataFrame) -> Mapping[Any, Any]:
    """Of several data sets and seeds: the worst verdict, the largest error, the smallest miss."""
    last = group.iloc[int(group["verdict"].map(VERDICTS.index).argmax())]
    return {**last.to_dict(), "error": group["error"].max(), "miss": group["miss"].min()}


def _line(row: Mapping[Any, Any]) -> Line:
    finding = "" if pd.isna(row["finding"]) else str(row["finding"])
    entries = [
        Entry(str(row["claim"]), recipe=str(row["recipe"])), Entry(str(row["statement"]), str(row["condition"])),
        _number(row["error"]), _number(row["miss"]), Entry(str(row["verdict"])), Entry(finding),
        Entry(str(row["test"]).rpartition("/")[2], link=str(row["test"])),
    ]  # fmt: skip
    return Line(str(row["group"]), entries, name=f"{row['claim']}: {row['statement']}")


def _number(value: float) -> Entry:
    if pd.isna(value):
        return Entry()
    text = "0" if value == 0 else f"{value:.1e}" if value < 1e-3 else f"{value:.2g}"
    return Entry(text, value=float(f"{value:.3g}"))


def findings(rows: pd.DataFrame) -> list[str]:
    """How many statements have which verdict, and what the columns mean."""
    verdicts = rows.drop_duplicates(["claim", "statement"])["verdict"].value_counts()
    words = {name: name.replace("holds", "hold") for name in VERDICTS}
    counted = ", ".join(f"{verdicts[name]} {words[name]}" for name in VERDICTS if name in verdicts)
    return [
        f"{len(rows.drop_duplicates(['claim', 'statement']))} statements: {counted}.",
        "Error: the largest relative distance of the weights that are learned from the points to those wanted, in "
        "float64, where the statement should hold; exact is below 1e-8. Must miss: the smallest such distance where the "
        "statement says that it cannot hold. Verdicts follow from these numbers. 'Holds with correction': the condition or "
        "the constant is not as printed, the finding says what is right. 'Vacuous': the condition as printed cannot be met.",
    ]
