import math
from dataclasses import replace
from pathlib import Path

import pytest

from stillhouse.reporting import study, tables
from stillhouse.reporting.study import Layout
from stillhouse.reporting.tables import Cell, Row


@pytest.fixture
def lines(layout: Layout) -> list[Row]:
    return tables.rows(layout, study.tidy(layout, study.scores(layout)))


@pytest.mark.parametrize(
    ("cell", "texts"),
    [
        (Cell(86.2, 0.2828, 86.41, "r"), ("86.20 ± 0.28", "86.41", "−0.21")),
        (Cell(87.0, 0.5, 86.41, "r"), ("87.00 ± 0.50", "86.41", "+0.59")),
        (Cell(87.004, math.nan, None, "r"), ("87.00", "–", "–")),
        (Cell(86.41, 0.0, 86.41, "r"), ("86.41 ± 0.00", "86.41", "+0.00")),
    ],
)
def test_a_cell_reads(cell: Cell, texts: tuple[str, str, str]) -> None:
    assert (cell.entry.plain, cell.theirs, cell.difference) == texts


def test_lines_are_data_set_size_and_training_set(lines: list[Row]) -> None:
    assert [(line.dataset, line.per_class, line.label) for line in lines] == [
        (dataset, *each)
        for dataset in ("mnist", "digits")
        for each in [
            ("all", "all real images"), ("1", "exact_sets"), ("1", "random real images"), ("10", "exact_sets"),
            ("10", "random real images"),
        ]
    ]  # fmt: skip


def test_the_whole_set_and_random_images_are_the_references(lines: list[Row]) -> None:
    assert {line.label for line in lines if line.reference} == {"all real images", "random real images"}


def test_experiments_with_one_label_share_a_line(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    other = tidy[tidy["experiment"] == "exact"].assign(experiment="exact_rff", model="rff", mean=50.0)
    labels = {**layout.labels, "exact_rff": "exact_sets", "rff": "RFF"}
    both = replace(layout, labels=labels)
    lines = tables.rows(both, tables.pd.concat([tidy, other]))
    line = next(line for line in lines if (line.dataset, line.per_class, line.label) == ("mnist", "1", "exact_sets"))
    assert {name: cell.mean for name, cell in line.cells.items()} == {"linear": 86.2, "rff": 50.0}
    assert tables.models(both, lines) == {"linear": "Linear", "rff": "RFF"}


@pytest.mark.parametrize("change", [{"experiment": "another"}, {"protocol": "another"}])
def test_no_number_is_lost_where_two_would_share_a_cell(layout: Layout, change: dict[str, str]) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    other = tidy[tidy["experiment"] == "exact"].assign(mean=50.0, recipe="other", **change)
    both = replace(layout, labels={**layout.labels, "another": "exact_sets"})
    table = tables.pd.concat([tidy, other])
    cells = [cell for line in tables.rows(both, table) for cell in line.cells.values()]
    assert len(cells) == (table["metric"] == "test accuracy").sum()


@pytest.mark.parametrize(
    ("budget", "label"),
    [(1.0, "exact_sets"), (0.5, "exact_sets, 50 % of its budget"), (1 / 30, "exact_sets, 3.3 % of its budget"),
     (50 / 30_000, "exact_sets, 0.17 % of its budget")],
)  # fmt: skip
def test_a_run_of_less_than_the_published_budget_says_so_beside_its_name(
    layout: Layout, budget: float, label: str
) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    tidy.loc[(tidy["experiment"] == "exact") & (tidy["dataset"] == "mnist"), "budget"] = budget
    lines = tables.rows(layout, tidy)
    assert [line.label for line in lines if line.dataset == "mnist" and not line.reference] == [label, label]
    assert {line.label for line in lines if line.dataset == "digits" and not line.reference} == {"exact_sets"}


def test_parts_of_a_budget_do_not_share_a_line_with_the_whole(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    other = tidy[tidy["experiment"] == "exact"].assign(experiment="exact_rff", model="rff", budget=0.5)
    labels = {**layout.labels, "exact_rff": "exact_sets", "rff": "RFF"}
    both = tables.rows(replace(layout, labels=labels), tables.pd.concat([tidy, other]))
    mnist = [(line.label, set(line.cells)) for line in both if (line.dataset, line.per_class) == ("mnist", "1")]
    assert ("exact_sets", {"linear"}) in mnist
    assert ("exact_sets, 50 % of its budget", {"rff"}) in mnist


def test_markdown_holds_the_numbers_in_their_rows(layout: Layout, lines: list[Row]) -> None:
    text = tables.markdown(tables.scores(layout, lines))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.strip().splitlines()]
    assert rows[0] == [
        "data set", "trained on", "images per class", "Linear ours", "Linear paper", "Linear diff.",
    ]  # fmt: skip
    assert rows[2:6] == [
        ["mnist", "all real images", "all", "86.20 ± 0.28", "86.41", "−0.21"],
        ["mnist", "exact_sets", "1", "86.20 ± 0.28", "86.41", "−0.21"],
        ["mnist", "random real images", "1", "32.00 ± 2.83", "–", "–"],
        ["mnist", "exact_sets", "10", "86.30 ± 0.28", "86.41", "−0.11"],
    ]
    assert rows[7][0] == "digits"
    assert len(rows) == 2 + 10
    assert text.endswith("|\n")


def test_one_seed_has_no_deviation(one_seed: Layout) -> None:
    text = tables.markdown(tables.scores(one_seed, tables.rows(one_seed, study.tidy(one_seed, study.scores(one_seed)))))
    assert "±" not in text
    assert "nan" not in text
    assert "| 60.50 |" in text.replace("  ", "")


def test_a_model_without_a_number_has_dashes(layout: Layout, lines: list[Row]) -> None:
    both = replace(layout, labels={**layout.labels, "rff": "RFF"})
    lines[1].cells["rff"] = Cell(50.0, 0.1, None, "r")
    text = tables.markdown(tables.scores(both, lines))
    assert "RFF ours" in text
    first = [cell.strip() for cell in text.splitlines()[2].strip("|").split("|")]
    assert first[-3:] == ["–", "–", "–"]


def test_latex_has_booktabs_rules_and_the_numbers(layout: Layout, lines: list[Row]) -> None:
    text = tables.latex(tables.scores(layout, lines), "A caption.")
    assert text.startswith("% needs \\usepackage{booktabs}")
    assert r"\cmidrule(lr){4-6}" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert r"\begin{tabular}{llrrrr}" in text
    assert r"\caption{A caption.}" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    cells = [[cell.strip() for cell in line.removesuffix(r"\\").split("&")] for line in body if line]
    assert len(cells) == 10
    assert all(len(line) == 6 for line in cells)
    assert cells[0] == ["mnist", "all real images", "all", r"86.20 $\pm$ 0.28", "86.41", "$-$0.21"]
    assert cells[1][1] == r"exact\_sets"
    assert cells[2][3:] == [r"32.00 $\pm$ 2.83", "--", "--"]


def test_latex_is_plain_ascii(layout: Layout, lines: list[Row]) -> None:
    assert tables.latex(tables.scores(layout, lines), "A caption.").isascii()


@pytest.mark.parametrize(
    ("name", "label"), [("exact", "100% real"), ("exact", "R&D"), ("exact", "#1"), ("linear", "R&D"), ("linear", "a_b")]
)
def test_latex_escapes_what_labels_may_hold(layout: Layout, name: str, label: str) -> None:
    named = replace(layout, labels={**layout.labels, name: label})
    rows = tables.rows(named, study.tidy(named, study.scores(named)))
    text = tables.latex(tables.scores(named, rows), "A caption.")
    assert f" {label}" not in text
    assert "".join(f"\\{c}" if c in "%&_#" else c for c in label) in text


CLAIMS = tables.Table(
    "claims",
    "What is claimed",
    "group",
    [tables.Column("claim", words=True), tables.Column("error")],
    [
        tables.Line("ridge", [tables.Entry("4.1, 100%"), tables.Entry("1e-15", recipe="r")], name="4.1"),
        tables.Line("ridge", [tables.Entry("4.2"), tables.Entry("0.25", "± 0.01", value=0.25)], name="4.2"),
    ],
)


def test_a_table_of_any_kind_reads_in_markdown() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.markdown(CLAIMS).splitlines()]
    assert rows[0] == ["group", "claim", "error"]
    assert rows[2:] == [["ridge", "4.1, 100%", "1e-15"], ["ridge", "4.2", "0.25 ± 0.01"]]


def test_a_table_without_groups_has_one_line_of_heads_in_latex() -> None:
    text = tables.latex(CLAIMS, "A caption.")
    assert r"\begin{tabular}{llr}" in text
    assert "cmidrule" not in text
    assert text[text.index(r"\toprule") : text.index(r"\midrule")].count(r"\\") == 1
    assert r"100\%" in text


def test_neighbouring_columns_of_a_group_share_a_heading() -> None:
    columns = [
        tables.Column(head, group) for head, group in [("a", ""), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "x")]
    ]
    assert tables.groups(columns) == [("x", 2, 3), ("y", 4, 4), ("x", 5, 5)]


def test_where_nothing_was_published_there_is_one_column_a_model(layout: Layout) -> None:
    alone = replace(layout, published="")
    lines = tables.rows(alone, study.tidy(alone, study.scores(alone)))
    assert [column.head for column in tables.scores(alone, lines).columns] == [
        "trained on",
        "images per class",
        "Linear",
    ]


def test_the_letters_of_the_theory_are_maths_in_latex() -> None:
    entries = [tables.Entry("λ_S ≤ 1 / 4σ'₁²; X_S = W⁺Y_S, ‖φ(X)‖ ≈ √ε × δ … ∏W⁽ˡ⁾"), tables.Entry("> 4.8×")]
    text = tables.latex(tables.Table("t", "T", "part", CLAIMS.columns, [tables.Line("ridge", entries)]), "λ_S > 0")
    assert text.isascii()
    assert r"$\lambda$\_S $\le$ 1 / 4$\sigma$'$_{1}$$^{2}$" in text
    assert r"> 4.8$\times$" in text


def test_the_latex_of_this_repositorys_report_is_plain_ascii(repository: Path) -> None:
    written = sorted((repository / "results/report").glob("*.tex"))
    assert len(written) > 1
    assert [file.name for file in written if not file.read_text(encoding="utf-8").isascii()] == []


def test_costs_are_the_mean_of_a_cells_sets_and_the_memory_of_the_largest_process(layout: Layout) -> None:
    spent = study.costs(study.scores(layout))
    slow = (spent["experiment"] == "exact") & (spent["seed"] == 1)
    spent.loc[slow, "seconds"] = 2501.5
    table = tables.costs(layout, spent)
    found = [[line.section, *(entry.text for entry in line.entries)] for line in table.lines]
    assert found[:3] == [
        ["mnist", "exact_sets", "1", "2", "1252", "101"], ["mnist", "random real images", "1", "2", "1.5", "101"],
        ["mnist", "exact_sets", "10", "2", "1252", "101"],
    ]  # fmt: skip
    assert len(found) == 8  # the whole set is no distilled one


@pytest.mark.parametrize(
    ("value", "text"), [(0.01234, "0.0123"), (2.0, "2"), (99.94, "99.9"), (1234.4, "1234"), (100.4, "100")]
)
def test_seconds_are_never_written_with_an_exponent_where_they_are_many(value: float, text: str) -> None:
    assert tables.seconds(value) == text
