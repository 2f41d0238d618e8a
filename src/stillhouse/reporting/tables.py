"""Tables: what stands in them, once, and how they read in Markdown, in LaTeX and on the page.

`Table` is any table of the report. `scores` makes the one that most studies have: lines are data set, images per class and
what was trained on; columns are models, ours beside the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from stillhouse.reporting.study import Layout

_DASH = "–"
# What labels, statements and numbers hold beside ASCII, as LaTeX writes it; a combining hat stands after its letter.
_MATHS = {
    "±": r"\pm", "−": "-", "×": r"\times", "≈": r"\approx", "≤": r"\le", "≥": r"\ge", "∈": r"\in", "∞": r"\infty",
    "∏": r"\prod", "ρ": r"\rho", "θ": r"\theta", "√": r"\surd", "‖": r"\Vert", "λ": r"\lambda", "σ": r"\sigma",
    "ε": r"\varepsilon", "δ": r"\delta", "φ": r"\varphi", "⁺": "^{+}", "²": "^{2}", "¹": "^{1}", "⁽": "^{(}", "⁾": "^{)}",
    "ˡ": "^{l}", "ᵢ": "_{i}", "₀": "_{0}", "₁": "_{1}", "ᵀ": "^{T}", "\u0302": r"\hat{\ }",
}  # fmt: skip
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {c: f"${text}$" for c, text in _MATHS.items()} | {_DASH: "--", "…": r"\dots{}"}
)


@dataclass(frozen=True)
class Column:
    """A column: its head, the heading it shares with its neighbours of the same group, and whether it holds words."""

    head: str
    group: str = ""
    words: bool = False


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a table: text, a spread in small print, and where more is said about it.

    recipe  the id of the recipe that makes the number again
    link    a file of this repository, such as the test that shows the claim
    value   the number itself, for `dvc metrics diff`
    """

    text: str = _DASH
    spread: str = ""
    recipe: str = ""
    link: str = ""
    value: float | None = None

    @property
    def plain(self) -> str:
        """Text and spread."""
        return f"{self.text} {self.spread}".strip()


@dataclass(frozen=True)
class Line:
    """One line: the section it stands in, its entries, whether it is what others are measured against, and a name in words."""

    section: str
    entries: Sequence[Entry]
    reference: bool = False
    name: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and lines; `sections` says what sections are, `title` what the table shows."""

    name: str
    title: str
    sections: str
    columns: Sequence[Column]
    lines: Sequence[Line]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Cell:
    """One number: ours over sets and trainings on them, the published one, and the recipe of ours."""

    mean: float
    std: float
    published: float | None
    recipe: str

    @property
    def entry(self) -> Entry:
        """Mean ± deviation in percent; the mean alone of one set that was trained on once."""
        return Entry(f"{self.mean:.2f}", self.spread(".2f"), self.recipe, value=float(f"{self.mean:.2f}"))

    def spread(self, form: str) -> str:
        """The deviation in a number format; '' where there is a single value."""
        return f"± {self.std:{form}}" if math.isfinite(self.std) else ""

    @property
    def theirs(self) -> str:
        """The published number, or a dash."""
        return _DASH if self.published is None else f"{self.published:.2f}"

    @property
    def difference(self) -> str:
        """Ours minus theirs, with its sign, or a dash."""
        return _DASH if self.published is None else f"{self.mean - self.published:+.2f}".replace("-", "−")


@dataclass(frozen=True)
class Row:
    """One line: data set, images per class ('all' for the whole set), what was trained on, one cell a model."""

    dataset: str
    per_class: str
    label: str
    cells: dict[str, Cell]
    reference: bool  # the whole set and random images: what everything is measured against


def rows(layout: Layout, tidy: pd.DataFrame, metric: str = "test accuracy") -> list[Row]:
    """The table's lines in order. Experiments with one label share a line, one model each."""
    chosen = tidy[tidy["metric"] == metric]
    lines: dict[tuple[str, str, str], dict[str, Cell]] = {}
    reference: dict[tuple[str, str, str], bool] = {}
    for row in chosen.to_dict("records"):
        size = "all" if pd.isna(row["per_class"]) else str(row["per_class"])
        key = (str(row["dataset"]), size, layout.labels[str(row["experiment"])] + part_of_budget(row["budget"]))
        if str(row["model"]) in lines.get(key, {}):  # two experiments or protocols of one label: none is dropped
            key = (key[0], size, f"{key[2]} ({row['experiment']}, {row['protocol']})")
        theirs = None if pd.isna(row["published"]) else float(row["published"])
        cell = Cell(float(row["mean"]), float(row["std"]), theirs, str(row["recipe"]))
        lines.setdefault(key, {})[str(row["model"])] = cell
        reference[key] = row["method"] in ("whole", "random_images")
    return [Row(*key, cells, reference[key]) for key, cells in lines.items()]


def part_of_budget(budget: float) -> str:
    """What a run of less than the published budget is marked with."""
    return "" if budget >= 1 else f", {100 * min(budget, 0.99):.2g} % of its budget"


def models(layout: Layout, lines: list[Row]) -> dict[str, str]:
    """The columns: model names and what they are called, in the order of params.yaml."""
    present = {name for line in lines for name in line.cells}
    return {name: label for name, label in layout.labels.items() if name in present}


def scores(layout: Layout, lines: list[Row]) -> Table:
    """The table of test accuracies; the paper's columns are left out where it has no number to set beside ours."""
    shown = models(layout, lines)
    compared = any(cell.published is not None for line in lines for cell in line.cells.values())
    left = [Column("trained on", words=True), Column("images per class")]
    parts = ("ours", "paper", "diff.") if compared else ("",)
    columns = [*left, *(Column(part or label, label if part else "") for label in shown.values() for part in parts)]
    made = [
        Line(
            line.dataset,
            [Entry(line.label), Entry(line.per_class)]
            + [entry for name in shown for entry in _entries(line.cells.get(name), compared)],
            line.reference,
            f"{line.dataset} {line.per_class} {line.label}",
        )
        for line in lines
    ]
    return Table("accuracy", "Test accuracy in percent", "data set", columns, made)


def costs(layout: Layout, spent: pd.DataFrame) -> Table:
    """What every experiment's sets took (`study.costs`): seconds of the mean set, and the memory of the largest process."""
    columns = [Column("made", words=True), Column("images per class"), Column("sets"), Column("seconds a set"),
               Column("memory, MB")]  # fmt: skip
    keys = ["dataset", "per_class", "experiment"]
    by = spent[spent["per_class"].notna()].groupby(keys, sort=False)
    means = by.agg(
        sets=("file", "nunique"), seconds=("seconds", "mean"), memory=("peak_memory_mb", "max")
    ).reset_index()
    order = {name: place for place, name in enumerate([*layout.datasets, *layout.experiments])}
    ranked = means.assign(a=means["dataset"].map(order), c=means["experiment"].map(order))
    lines = [
        Line(
            row["dataset"],
            [
                Entry(layout.labels[row["experiment"]]), Entry(str(row["per_class"])), Entry(str(row["sets"])),
                Entry(seconds(row["seconds"])), Entry(f"{row['memory']:.0f}"),
            ],
            name=f"{row['dataset']} {row['per_class']} {layout.labels[row['experiment']]} cost",
        )
        for row in ranked.sort_values(["a", "per_class", "c"], kind="stable").to_dict("records")
    ]  # fmt: skip
    return Table("costs", "What a set took to make, without its teacher", "data set", columns, lines)


def seconds(value: float) -> str:
    """Seconds with three digits, all of them before the point where there are more."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _entries(cell: Cell | None, compared: bool) -> list[Entry]:
    if cell is None:
        return [Entry()] * (3 if compared else 1)
    return [cell.entry, Entry(cell.theirs), Entry(cell.difference)] if compared else [cell.entry]


def frame(table: Table) -> pd.DataFrame:
    """The table as text, with its sections as the first column."""
    heads = [("", table.sections), *((column.group, column.head) for column in table.columns)]
    body = [[line.section, *(entry.plain for entry in line.entries)] for line in table.lines]
    return pd.DataFrame(body, columns=pd.MultiIndex.from_tuples(heads))


def markdown(table: Table) -> str:
    """A Markdown table; every line stands for itself, so that some of them can be quoted."""
    shown = frame(table)
    shown.columns = pd.Index([" ".join(name).strip() for name in shown.columns])
    align = ["left", *("left" if column.words else "right" for column in table.columns)]
    return str(shown.to_markdown(index=False, disable_numparse=True, colalign=align)) + "\n"


def latex(table: Table, caption: str) -> str:
    """A LaTeX table with booktabs rules."""
    shown = frame(table)
    first = shown.columns[0]
    shown[first] = shown[first].mask(shown[first].duplicated(), "")
    shown = shown.map(_escaped)
    spans = groups(table.columns, first=2)
    heads = [tuple(map(_escaped, name)) for name in shown.columns]
    shown.columns = pd.MultiIndex.from_tuples(heads) if spans else pd.Index([head for _, head in heads])
    columns = "l" + "".join("l" if column.words else "r" for column in table.columns)
    style = shown.style.hide(axis="index")
    text = str(
        style.to_latex(
            hrules=True,
            column_format=columns,
            multicol_align="c",
            caption=_escaped(caption),
            position_float="centering",
        )
    )
    if spans:
        top, rest = text.split("\\\\\n", 1)
        rules = "".join(rf"\cmidrule(lr){{{start}-{end}}}" for _, start, end in spans)
        text = f"{top}\\\\\n{rules}\n{rest}"
    narrow = text.replace("\\begin{tabular}", "\\small\n\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}", 1)
    return f"% needs \\usepackage{{booktabs}}; in two columns, write table* for table\n{narrow}"


def groups(columns: Sequence[Column], first: int = 1) -> list[tuple[str, int, int]]:
    """Headings that neighbouring columns share, with the numbers of their first and last column; `first` is the first's."""
    found: list[tuple[str, int, int]] = []
    for place, column in enumerate(columns, first):
        if column.group and found and found[-1][0] == column.group and found[-1][2] == place - 1:
            found[-1] = (column.group, found[-1][1], place)
        elif column.group:
            found.append((column.group, place, place))
    return found


def _escaped(text: str) -> str:
    return text.translate(_LATEX)
