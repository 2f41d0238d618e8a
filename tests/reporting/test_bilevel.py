"""The rate's tables, findings and figure, from hand-made rows beside the paper's table."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from stillhouse.reporting import bilevel, figures, published, tables

REFERENCE = "mahowald2025, section 2.3"
KNOWN = {"dataset": "gaussian_regression", "seed": 0, "recipe": "r"}


def rate(inner_steps: int, repeat: int, slope: float, **changed: Any) -> dict[str, Any]:
    numbers = {"first": 100, "last": 500, "looks": 41, "slope": slope, "intercept": 3.0, "r2": 0.99, "mu": -slope / 0.0025,
               "slope_batch": slope, "r2_batch": 0.8, "loss_start": 50.0, "loss_end": 0.1, "step_size": 1.5,
               "step_ratio": 0.03 + 0.01 * repeat}  # fmt: skip
    return {**KNOWN, "part": "rate", "inner_steps": inner_steps, "repeat": repeat, **numbers, **changed}


def curve(inner_steps: int, step: int, loss: float, **changed: Any) -> dict[str, Any]:
    return {**KNOWN, "part": "curve", "inner_steps": inner_steps, "step": step, "loss": loss, "lowest": loss / 2,
            "highest": loss * 2, **changed}  # fmt: skip


def bound(inner_steps: int, step: int, least: float, promised: float = 0.0) -> dict[str, Any]:
    return {**KNOWN, "part": "bound", "inner_steps": inner_steps, "step": step, "ridge": 0.001, "smoothness": 100.0,
            "least": least, "slope_promised": promised, "slope_possible": -2.5e-6}  # fmt: skip


def tried(name: str, **numbers: float) -> dict[str, Any]:
    return {**KNOWN, "part": "tried", "tried": name, "inner_steps": 100, **numbers}


ROWS = pd.DataFrame(
    [
        rate(100, 0, -0.005), rate(100, 1, -0.006), rate(175, 0, -0.010), rate(175, 1, -0.012),
        *(curve(steps, step, 50 * np.exp(-0.005 * step)) for steps in (100, 175) for step in (0, 300, 600)),
        bound(100, 0, -0.5), bound(100, 250, -2.0),
        {**KNOWN, "part": "free", "inner_steps": 100, "runs": 40, "negative": 3},
        tried("no floor", stopped=100.0), tried("longer", slope=-0.007, r2=0.99, mu=2.8, loss_end=0.2, step_size=1.0),
    ]
)  # fmt: skip


@pytest.fixture
def found() -> pd.DataFrame:
    return bilevel.rates(ROWS, REFERENCE)


def test_rates_are_means_over_runs_beside_the_papers(found: pd.DataFrame) -> None:
    first, last = found.to_dict("records")
    assert (first["inner_steps"], first["runs"], last["inner_steps"]) == (100, 2, 175)
    assert first["slope"] == pytest.approx(-0.0055)
    assert first["slope_std"] == pytest.approx(0.001 / np.sqrt(2))  # sample deviation of two
    assert first["step_ratio"] == 0.04  # the largest
    assert (first["slope_published"], first["slope_published_std"]) == (-0.0052, 0.0005)
    assert (last["mu_published"], last["r2_published"]) == (4.097, 0.9967)


def test_runs_of_all_seeds_are_counted() -> None:
    again = pd.concat([ROWS, ROWS.assign(seed=1)], ignore_index=True)
    assert bilevel.rates(again, REFERENCE)["runs"].tolist() == [4, 4]
    assert len(bilevel.bounds_table(again, bilevel.rates(again, REFERENCE)).lines) == 2  # of the first seed


def test_the_table_sets_ours_beside_the_papers(found: pd.DataFrame) -> None:
    table = bilevel.rate_table(found)
    assert [entry.plain for entry in table.lines[0].entries] == [
        "100", "2", "−0.00550 ± 0.00071", "−0.0052 ± 0.0005", "0.9900 ± 0.0000", "0.9974", "2.20 ± 0.28", "2.087 ± 0.182",
    ]  # fmt: skip
    assert table.lines[0].entries[2].recipe == "r"
    assert table.lines[0].entries[2].value == -0.0055
    assert all(len(line.entries) == len(table.columns) for line in table.lines)


def test_one_run_has_no_deviation_and_what_is_not_published_is_a_dash() -> None:
    alone = bilevel.rates(pd.DataFrame([rate(20, 0, -0.005, dataset="another")]), REFERENCE)
    shown = [entry.plain for entry in bilevel.rate_table(alone).lines[0].entries]
    assert shown == ["20", "1", "−0.00500", "–", "0.9900", "–", "2.00", "–"]
    assert "paper" not in bilevel.findings(ROWS[ROWS["part"] == "curve"].assign(dataset="another"), alone)[0]


def test_bounds_and_other_choices_are_lines_of_their_own(found: pd.DataFrame) -> None:
    lines = bilevel.bounds_table(ROWS, found).lines
    assert [entry.plain for entry in lines[1].entries] == [
        "100", "250", "100", "2", "0.001", "0.0e+00", "−2.5e-06", "−0.00550",
    ]  # fmt: skip
    stopped, went_on = bilevel.tried_table(ROWS).lines
    assert [entry.plain for entry in stopped.entries] == ["no floor", "100", "–", "–", "–", "–", "–", "100"]
    assert [entry.plain for entry in went_on.entries] == [
        "longer",
        "100",
        "−0.00700",
        "0.9900",
        "2.80",
        "0.2",
        "1.00",
        "–",
    ]
    assert bilevel.tried_table(ROWS[ROWS["part"] == "rate"]).lines == []


def test_findings_compare_slopes_within_both_deviations(found: pd.DataFrame) -> None:
    slopes, mu, theorem, others, free = bilevel.findings(ROWS, found)
    assert "T = 100: −0.00550 ± 0.00071 (paper −0.0052 ± 0.0005)" in slopes
    assert "2 of 2 are no further from the paper than both deviations together; the furthest is 0.0007 away" in slopes
    assert "rises with T, from 2.20 to 4.40" in mu
    assert "at most 4 % of the bound" in mu
    assert "no more than 2.5e-06, 0.045 % of the flattest measured" in theorem
    assert "0.5 to 2, where the theorem needs less than λ_O = 0.001: it promises something at 0 of them" in theorem
    assert theorem.endswith("it explains almost nothing.")
    assert "climbs its loss: T = 100: 3 of 40 short runs end so" in free
    assert others.endswith("their step size leaves its bound: no floor (T = 100).")


def test_findings_say_so_where_rates_differ_or_do_not_rise() -> None:
    rows = pd.DataFrame([rate(100, 0, -0.009), rate(100, 1, -0.0091), rate(125, 0, -0.004), rate(125, 1, -0.0041)])
    promising = pd.DataFrame([{**bound(100, 0, 0.5, promised=-1e-5), "slope_possible": -0.003}])
    rows = pd.concat([rows, promising], ignore_index=True)
    slopes, mu, theorem = bilevel.findings(rows, bilevel.rates(rows, REFERENCE))
    assert theorem.endswith("M = 0 only. M, measured at 1 points, is 0 to 0, where the theorem needs less than λ_O = 0.001: "
                            "it promises something at 1 of them.")  # fmt: skip
    assert "0 of 2 are no further from the paper than both deviations together; the furthest is 0.0038 away" in slopes
    assert "does not rise with every T" in mu


def test_the_figure_draws_curves_fits_and_the_paper(found: pd.DataFrame, tmp_path: Path) -> None:
    drawn = bilevel.figure(ROWS, found)
    above, below = drawn.axes
    assert above.get_yscale() == "log"
    lines = {line.get_label(): line for line in above.get_lines() if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"T = 100", "T = 175", "fit"}
    assert np.asarray(lines["T = 100"].get_ydata()) == pytest.approx(50 * np.exp([0, -1.5, -3]))
    ends = next(line.get_ydata() for line in above.get_lines() if line.get_label() == "fit")
    assert np.asarray(ends) == pytest.approx(np.exp([3 - 0.55, 3 - 2.75]))
    assert {str(each.get_label()) for each in below.containers} == {"ours", "paper"}
    for name in ("one.png", "two.png"):
        figures.save(bilevel.figure(ROWS, found), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    plt.close(drawn)


def test_tables_can_be_written_in_latex(found: pd.DataFrame) -> None:
    for table in (bilevel.rate_table(found), bilevel.bounds_table(ROWS, found), bilevel.tried_table(ROWS)):
        text = tables.latex(table, "rates")
        assert text.isascii()
        assert text.count("\\\\") >= len(table.lines)


def test_the_papers_table_is_complete_and_agrees_with_itself() -> None:
    """mu_T = (1 - exp(slope)) / 0.0025, to what rounding the slopes leaves."""
    known = published.table(REFERENCE).set_index("metric")["value"]
    assert len(known) == 12
    for inner_steps in (100, 125, 150, 175):
        mu = (1 - np.exp(known[f"slope of log loss at T = {inner_steps}"])) / 0.0025
        assert known[f"mu_T at T = {inner_steps}"] == pytest.approx(mu, abs=0.02)
        assert 0.996 < known[f"R2 of log loss at T = {inner_steps}"] < 0.998
