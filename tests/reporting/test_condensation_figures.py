"""Figures of gradient matching, from hand-made numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stillhouse.reporting import condensation_figures, figures
from stillhouse.reporting.study import Layout

SET = {"dataset": "mnist", "per_class": 1, "protocol": "by_net", "model": "net", "metric": "test accuracy", "budget": 1.0,
       "std": 1.0, "recipe": "r"}  # fmt: skip
WHOLE = {**SET, "experiment": "whole", "method": "whole", "per_class": None, "mean": 99.0}
RANDOM = {**SET, "experiment": "random", "method": "random_images", "mean": 60.0}
MADE = [
    {**SET, "experiment": "dc", "method": "gradient_matching", "mean": 90.0, "seconds": 100.0, "budget": 0.1},
    {**SET, "experiment": "dc", "method": "gradient_matching", "mean": 95.0, "seconds": 900.0, "budget": 0.1, "per_class": 10},
    {**SET, "experiment": "dsa", "method": "gradient_matching", "mean": 88.0, "seconds": 200.0},
]  # fmt: skip
TIDY = pd.DataFrame([WHOLE, RANDOM, *MADE]).astype({"per_class": "Int64"})
TIMED = pd.DataFrame([{**RANDOM, "seconds": 1.0}, *MADE]).astype({"per_class": "Int64"})
RECORDS = pd.DataFrame(
    [
        {"dataset": "mnist", "per_class": 1, "experiment": "dc", "seed": seed, "budget": 1.0, "step": step,
         "seconds": 1.0 + step, "distance": 200.0 / (1 + step)}
        for seed in (0, 1)
        for step in (0, 9, 99)
    ]
)  # fmt: skip
CROSSED = pd.DataFrame(
    [
        {"dataset": "mnist", "per_class": 1, "experiment": e, "method": "gradient_matching", "set": e.upper(), "scored_by": by,
         "mean": mean, "std": 1.0, "own": own, "published": published, "published_std": 0.5}
        for e, by, mean, own, published in (
            ("dc", "ConvNet", 90.0, True, 91.7), ("dc", "MLP", 70.0, False, 69.6), ("dsa", "ConvNet", 60.0, False, None),
        )
    ]
)  # fmt: skip
ABLATED = pd.DataFrame(
    [
        {"dataset": "mnist", "per_class": 1, "varied": varied, "value": value, "mean": mean, "std": 1.0, "random": 50.0,
         "own": own}
        for varied, value, mean, own in (
            ("width", "32", 80.0, True), ("width", "128", 85.0, True), ("width", "128", 20.0, False),
            ("norm", "none", 70.0, True),
        )
    ]
)  # fmt: skip


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {"whole": "all real images", "random": "random real images", "dc": "DC", "dsa": "DSA", "net": "ConvNet"}
    return replace(layout, datasets=["mnist"], experiments=["whole", "random", "dc", "dsa"], labels=labels)


def entries(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def points(axis: Any) -> list[tuple[list[float], list[float]]]:
    """Abscissas and ordinates of everything with error bars."""
    return [(list(each.lines[0].get_xdata()), list(each.lines[0].get_ydata())) for each in axis.containers]


def lines(axis: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(each.get_xdata()), list(each.get_ydata())) for each in axis.lines]


def texts(axis: Any) -> list[str]:
    return [text.get_text() for text in axis.texts]


@pytest.mark.parametrize(
    "draw",
    [
        lambda layout: condensation_figures.seconds(layout, TIDY, TIMED),
        lambda layout: condensation_figures.descent(layout, RECORDS),
        lambda layout: condensation_figures.crossed(CROSSED),
        lambda layout: condensation_figures.ablation(ABLATED),
    ],
)
def test_the_same_numbers_give_the_same_bytes(draw: Callable[[Layout], Figure], named: Layout, tmp_path: Path) -> None:
    for name in ("one", "two"):
        figures.save(draw(named), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_accuracy_stands_against_seconds_with_references_as_lines(named: Layout) -> None:
    figure = condensation_figures.seconds(named, TIDY, TIMED)
    (axis,) = figure.axes
    assert points(axis) == [([100], [90]), ([900], [95]), ([200], [88])]
    assert {"all real images", "random real images", "DSA, 1 per class"} <= set(entries(figure))
    assert "DC, 10 % of its budget, 10 per class" in entries(figure)
    plt.close(figure)


def test_seconds_have_numbers_below_them_though_no_power_of_ten_is_among_them(named: Layout) -> None:
    near = TIMED[TIMED["per_class"] == 1].assign(seconds=lambda rows: rows["seconds"].clip(lower=150, upper=800))
    figure = condensation_figures.seconds(named, TIDY, near)
    figure.canvas.draw()
    low, high = figure.axes[0].get_xlim()
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels() if low <= label.get_position()[0] <= high]
    assert "200" in shown or "500" in shown


def test_the_distance_is_drawn_as_a_part_of_the_first_steps(named: Layout) -> None:
    figure = condensation_figures.descent(named, RECORDS)
    left, right = figure.axes
    assert lines(left) == [([1, 10, 100], [1, 0.1, 0.01])] * 2  # two seeds
    assert lines(right) == [([1, 10, 100], [1, 0.1, 0.01])] * 2  # a second a step
    plt.close(figure)


def test_networks_against_networks_stand_beside_the_papers(named: Layout) -> None:
    figure = condensation_figures.crossed(CROSSED)
    ours, paper = figure.axes[:2]
    assert texts(ours) == ["90.0\n± 1.0", "70.0\n± 1.0", "60.0\n± 1.0"]
    assert texts(paper) == ["91.7\n± 0.5", "69.6\n± 0.5"]
    frames = [patch for patch in ours.patches if isinstance(patch, Rectangle)]
    assert [(patch.get_x() + 0.46, patch.get_y() + 0.45) for patch in frames] == [(0, 0)]
    plt.close(figure)


def test_without_the_papers_numbers_there_is_one_panel(named: Layout) -> None:
    figure = condensation_figures.crossed(CROSSED.assign(published=float("nan")))
    assert len(figure.axes) == 2  # the other holds the scale
    plt.close(figure)


def test_an_ablation_has_a_panel_a_setting_of_sets_scored_by_their_own_networks(named: Layout) -> None:
    figure = condensation_figures.ablation(ABLATED)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["normalisation", "width"]
    norm, width = figure.axes
    assert points(width) == [([0, 1], [80, 85])]
    assert [label.get_text() for label in width.get_xticklabels()] == ["32", "128"]
    assert points(norm) == [([0], [70])]
    plt.close(figure)
