"""A study's table: rows are data set, images per class and what was trained on; columns are models; three formats."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from stillhouse.reporting.study import Layout

_DASH = "–"
_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "−": "$-$", _DASH: "--"})


@dataclass(frozen=True)
class Cell:
    """One number: ours over seeds, the published one, and the recipe of ours."""

    mean: float
    std: float
    seeds: int
    published: float | None
    recipe: str

    @property
    def ours(self) -> str:
        """Mean ± deviation in percent; the mean alone for one seed."""
        return f"{self.mean:.2f}" if self.seeds < 2 else f"{self.mean:.2f} ± {self.std:.2f}"

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
        key = (str(row["dataset"]), size, layout.labels[str(row["experiment"])])
        if str(row["model"]) in lines.get(key, {}):  # two experiments or protocols of one label: none is dropped
            key = (key[0], size, f"{key[2]} ({row['experiment']}, {row['protocol']})")
        theirs = None if pd.isna(row["published"]) else float(row["published"])
        cell = Cell(float(row["mean"]), float(row["std"]), int(row["seeds"]), theirs, str(row["recipe"]))
        lines.setdefault(key, {})[str(row["model"])] = cell
        reference[key] = row["method"] in ("whole", "random_images")
    return [Row(*key, cells, reference[key]) for key, cells in lines.items()]


def models(layout: Layout, lines: list[Row]) -> dict[str, str]:
    """The columns: model names and what they are called, in the order of params.yaml."""
    present = {name for line in lines for name in line.cells}
    return {name: label for name, label in layout.labels.items() if name in present}


def frame(layout: Layout, lines: list[Row]) -> pd.DataFrame:
    """The table as text cells, for Markdown and LaTeX."""
    columns = models(layout, lines)
    body = [
        [line.dataset, line.per_class, line.label] + [text for name in columns for text in _texts(line.cells.get(name))]
        for line in lines
    ]
    heads = [(label, part) for label in columns.values() for part in ("ours", "paper", "diff.")]
    left = [("", "data set"), ("", "images per class"), ("", "trained on")]
    return pd.DataFrame(body, columns=pd.MultiIndex.from_tuples([*left, *heads]))


def markdown(layout: Layout, lines: list[Row]) -> str:
    """A Markdown table; every line stands for itself, so that some of them can be quoted."""
    table = frame(layout, lines)
    table.columns = pd.Index([" ".join(name).strip() for name in table.columns])
    align = ["left", "right", "left"] + ["right"] * (table.shape[1] - 3)
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=align)) + "\n"


def latex(layout: Layout, lines: list[Row], caption: str) -> str:
    """A LaTeX table with booktabs rules."""
    table = frame(layout, lines)
    table[("", "data set")] = table[("", "data set")].mask(table[("", "data set")].duplicated(), "")
    table = table.map(_escaped)
    table.columns = pd.MultiIndex.from_tuples([tuple(map(_escaped, name)) for name in table.columns])
    columns = "lrl" + "rrr" * ((table.shape[1] - 3) // 3)
    style = table.style.hide(axis="index")
    text = style.to_latex(
        hrules=True, column_format=columns, multicol_align="c", caption=_escaped(caption), position_float="centering"
    )
    heads, rest = str(text).split("\\\\\n", 1)
    rules = "".join(rf"\cmidrule(lr){{{i}-{i + 2}}}" for i in range(4, table.shape[1], 3))
    narrow = heads.replace("\\begin{tabular}", "\\small\n\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}")
    return "% needs \\usepackage{booktabs}; in two columns, write table* for table\n" + f"{narrow}\\\\\n{rules}\n{rest}"


def _escaped(text: str) -> str:
    return text.translate(_LATEX)


def _texts(cell: Cell | None) -> tuple[str, str, str]:
    return (_DASH,) * 3 if cell is None else (cell.ours, cell.theirs, cell.difference)
