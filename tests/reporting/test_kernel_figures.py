"""Figures of the kernel studies, from hand-made numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stillhouse.reporting import figures, kernel_figures, matrix
from stillhouse.reporting.study import Layout

SCORED = {("whole", "a"): 80.0, ("whole", "b"): 90.0, ("random", "a"): 20.0, ("random", "b"): 30.0,
          ("kip_a", "a"): 50.0, ("kip_a", "b"): 25.0, ("kip_b", "a"): 40.0, ("kip_b", "b"): 60.0}  # fmt: skip
METHODS = {"whole": "whole", "random": "random_images", "kip_a": "kip", "kip_b": "kip"}
TIDY = pd.DataFrame(
    [
        {"dataset": "mnist", "experiment": e, "method": METHODS[e], "per_class": None if e == "whole" else 10,
         "protocol": f"by_{m}", "model": m, "metric": "test accuracy", "mean": mean, "std": 1.0, "budget": 1.0, "recipe": "r"}
        for (e, m), mean in SCORED.items()
    ]
).astype({"per_class": "Int64"})  # fmt: skip
MADE = pd.DataFrame(
    [
        {"dataset": "mnist", "experiment": e, "per_class": 10, "seed": seed, "step": step, "seconds": 2.0 + step,
         "validation_accuracy": 20.0 + step + seed, "budget": budget}
        for e, budget in (("kip_a", 1.0), ("kip_b", 0.1))
        for seed in (0, 1)
        for step in (0, 5, 10)
    ]
)  # fmt: skip
THEIRS = pd.DataFrame([{"dataset": "mnist", "experiment": "kip_a", "per_class": 10, "step": 5, "accuracy": 33.0}])
LEVELS = pd.DataFrame(
    [
        {"dataset": "mnist", "per_class": 10, "protocol": "by_a", "model": "a", "kind": kind, "rho": rho, "mean": mean,
         "std": 1.0, "random": 20.0}
        for kind, rho, mean in (("none", 0.0, 60.0), ("zero", 0.5, 50.0), ("zero", 0.9, 30.0), ("noise", 0.9, 10.0))
    ]
)  # fmt: skip
PAIRS = pd.DataFrame(
    [
        {"dataset": "mnist", "one": "a", "other": other, "loss": loss, "trained_on": made, "images": images,
         "accuracy": level + gain}
        for other, level in (("b", 80.0), ("c", 70.0))
        for loss in ("squared", "logistic")
        for made, images, gain in (("all", 100, 5.0), ("random", 2, -20.0), ("kip", 2, 0.0), ("dgkip", 2, 1.0))
        if loss == "squared" or made != "kip"
    ]
)  # fmt: skip


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {"whole": "all real images", "random": "random real images", "kip_a": "KIP, for A", "kip_b": "KIP, for B",
              "a": "A", "b": "B"}  # fmt: skip
    return replace(
        layout, datasets=["mnist"], experiments=["whole", "random", "kip_a", "kip_b"], labels=labels,
        made_for={"kip_a": "a", "kip_b": "b"},
    )  # fmt: skip


def drawn(axis: Any) -> list[tuple[str, list[float], list[float]]]:
    """Label, abscissas and ordinates of every line of a panel."""
    lines, labels = axis.get_legend_handles_labels()
    found = [getattr(line, "lines", [line])[0] for line in lines]
    return [(label, list(line.get_xdata()), list(line.get_ydata())) for label, line in zip(labels, found, strict=True)]


@pytest.mark.parametrize(
    "draw",
    [
        lambda layout: kernel_figures.progress(layout, TIDY, MADE, THEIRS),
        lambda layout: kernel_figures.matrix(matrix.gathered(layout, TIDY)),
        lambda layout: kernel_figures.corruption(layout, TIDY, LEVELS),
        lambda layout: kernel_figures.pairs(PAIRS, 85.63),
    ],
    ids=["progress", "matrix", "corruption", "pairs"],
)
def test_a_figure_saved_twice_has_the_same_bytes(
    draw: Callable[[Layout], Figure], named: Layout, tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        figures.save(draw(named), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_progress_has_every_seeds_curve_against_steps_and_seconds(named: Layout) -> None:
    figure = kernel_figures.progress(named, TIDY, MADE, THEIRS)
    steps, seconds = (drawn(axis) for axis in figure.axes)
    plt.close(figure)
    for panel, xs in ((steps, [0, 5, 10]), (seconds, [2.0, 7.0, 12.0])):
        curves = [each for each in panel if each[0] == "KIP, for A"]
        assert curves == [("KIP, for A", xs, [20.0 + seed, 25.0 + seed, 30.0 + seed]) for seed in (0, 1)]
        assert sum(each[0] == "KIP, for B, 10 % of its budget" for each in panel) == 2
    assert [each[1:] for each in steps if each[0] == "published, test accuracy"] == [([5], [33.0])]
    assert "published, test accuracy" not in {each[0] for each in seconds}


def test_progress_shows_what_the_first_experiments_model_makes_of_all_and_of_random_images(named: Layout) -> None:
    figure = kernel_figures.progress(named, TIDY, MADE, THEIRS)
    levels = {label: ys for label, _, ys in drawn(figure.axes[1]) if "real images" in label}
    plt.close(figure)
    assert levels == {"all real images, test accuracy": [80.0, 80.0], "random real images, test accuracy": [20.0, 20.0]}


def test_the_matrix_shows_every_accuracy_and_the_gain_as_its_colour(named: Layout) -> None:
    figure = kernel_figures.matrix(matrix.gathered(named, TIDY))
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["80.0", "90.0", "20.0", "30.0", "50.0", "25.0", "40.0", "60.0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "all real images", "random real images", "KIP, for A", "KIP, for B",
    ]  # fmt: skip
    assert [label.get_text() for label in axis.get_xticklabels()] == ["A", "B"]
    colours: Any = axis.images[0].get_array()
    assert colours.mask.tolist() == [[True, True], [False, False], [False, False], [False, False]]
    assert colours[1:].tolist() == [[0, 0], [30, -5], [20, 30]]
    assert axis.images[0].get_clim() == (-30, 30)
    plt.close(figure)


def test_the_matrix_frames_sets_scored_by_their_own_model_in_ink_that_stands_out(named: Layout) -> None:
    figure = kernel_figures.matrix(matrix.gathered(named, TIDY))
    axis = figure.axes[0]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    middles = [(round(f.get_x() + f.get_width() / 2, 6), round(f.get_y() + f.get_height() / 2, 6)) for f in frames]
    inks = {text.get_text(): text.get_color() for text in axis.texts}
    plt.close(figure)
    assert middles == [(0, 2), (1, 3)]
    assert [to_hex(frame.get_edgecolor()) for frame in frames] == ["#ffffff", "#ffffff"]
    assert (inks["50.0"], inks["25.0"], inks["80.0"]) == ("white", "black", "black")


def test_every_size_has_a_matrix_of_its_own(named: Layout) -> None:
    both = pd.concat([TIDY, TIDY[TIDY["per_class"].notna()].assign(per_class=1)])
    figure = kernel_figures.matrix(matrix.gathered(named, both))
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.texts]
    plt.close(figure)
    assert titles == ["mnist, 1 per class, scored by", "mnist, 10 per class, scored by"]


def test_corruption_has_a_line_a_kind_from_the_uncorrupted_set_on(named: Layout) -> None:
    figure = kernel_figures.corruption(named, TIDY, LEVELS)
    (axis,) = figure.axes
    found = {label: (xs, ys) for label, xs, ys in drawn(axis)}
    colours = {to_hex(line.get_color()) for line in axis.lines if np.size(line.get_xdata()) == 3}
    plt.close(figure)
    assert found["replaced by zeros"] == ([0.0, 0.5, 0.9], [60.0, 50.0, 30.0])
    assert found["replaced by noise"] == ([0.0, 0.9], [60.0, 10.0])
    assert found["all real images"][1] == [80.0, 80.0]
    assert found["random real images"][1] == [20.0, 20.0]
    assert len(colours) == 1


def test_corruption_has_a_panel_for_each_data_set_size_and_model(named: Layout) -> None:
    sizes = [LEVELS.assign(per_class=size) for size in (1, 10, 50, 100)]
    figure = kernel_figures.corruption(named, TIDY, pd.concat(sizes))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    plt.close(figure)
    assert titles == [f"mnist, {size} per class, A" for size in (1, 10, 50, 100)]


def test_pairs_have_a_line_each_in_the_order_of_what_all_images_give_and_a_panel_a_loss(named: Layout) -> None:
    figure = kernel_figures.pairs(PAIRS, 85.63)
    squared, logistic = figure.axes
    tasks = [label.get_text() for label in squared.get_yticklabels()]
    found = {label: (xs, ys) for label, xs, ys in drawn(squared)}
    names = [label for label, _, _ in drawn(logistic)]
    plt.close(figure)
    assert tasks == ["a or c", "a or b"]
    assert found["DGKIP, 2 in all"] == ([71.0, 81.0], [0, 1])
    assert found["all images, 100 in all"] == ([75.0, 85.0], [0, 1])
    assert found["85.63 %, as quoted"][0] == [85.63, 85.63]
    assert "KIP, 2 in all" in found
    assert "KIP, 2 in all" not in names  # which has no logistic loss
    assert [axis.get_title(loc="left") for axis in (squared, logistic)] == [
        "mnist, squared loss",
        "mnist, logistic loss",
    ]
