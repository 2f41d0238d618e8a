"""Figures of unrolled training, from hand-made numbers and sets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stillhouse.reporting import figures, unrolled_figures
from stillhouse.reporting.figures import COLOURS
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

FOUND = pd.DataFrame(
    [
        {"dataset": "mnist", "experiment": e, "method": method, "set": name, "images": images, "mean": mean, "std": 2.0,
         "column": column, "place": place, "published": published}
        for e, method, name, images, means, published in (
            ("whole", "whole", "all", None, (98.0, 99.0), None),
            ("random", "random_images", "random", 10, (40.0, 45.0), None),
            ("dd", "dd", "DD", 10, (93.0, 60.0), 94.0),
        )
        for place, (column, mean) in enumerate(zip(("as the set asks", "ordinary"), means, strict=True))
        for published in [published if place == 0 else None]
    ]
).astype({"images": "Int64"})  # fmt: skip
SIZES = pd.DataFrame(
    [
        {"dataset": "mnist", "experiment": "dd", "per_class": 1, "seed": seed, "start": 0.02, "step": t + 1, "epoch": t // 2 + 1,
         "part": t % 2 + 1, "step_size": size + seed}
        for seed in (0, 1)
        for t, size in enumerate((0.1, 0.2, 0.3, 0.6))
    ]
)  # fmt: skip
RATIOS = pd.DataFrame(
    [
        {"dataset": "mnist", "family": family, "images": images, "ratio": ratio, "std": 1.0, "whole": 50.0}
        for family, images, ratio in (("SLDD", 5, 80.0), ("SLDD", 2, 30.0), ("random", 10, 40.0))
    ]
)  # fmt: skip


def labelled(count: int = 3) -> DistilledSet:
    rng = torch.Generator().manual_seed(0)
    targets = torch.tensor([[0.9, -0.3, 0.2]]).repeat(count, 1)
    targets[1] = torch.tensor([-0.1, 0.4, 1.6])
    return DistilledSet(torch.randn(count, 1, 5, 5, generator=rng), targets, ("ant", "bee", "caterpillars"))


def drawn(axis: Any) -> dict[str, tuple[list[float], list[float]]]:
    """By label: abscissas and ordinates of the lines of a panel."""
    lines, labels = axis.get_legend_handles_labels()
    found = [getattr(line, "lines", [line])[0] for line in lines]
    return {name: (list(line.get_xdata()), list(line.get_ydata())) for name, line in zip(labels, found, strict=True)}


@pytest.fixture
def named(layout: Layout) -> Layout:
    return replace(layout, labels={"dd": "DD"})


@pytest.mark.parametrize(
    "draw",
    [
        lambda layout: unrolled_figures.accuracies(FOUND),
        lambda layout: unrolled_figures.step_sizes(layout, SIZES),
        lambda layout: unrolled_figures.ratio(RATIOS),
        lambda layout: unrolled_figures.soft_labels(labelled(2)),
    ],
    ids=["accuracies", "step_sizes", "ratio", "soft_labels"],
)
def test_a_figure_saved_twice_has_the_same_bytes(
    draw: Callable[[Layout], Figure], named: Layout, tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        figures.save(draw(named), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_accuracies_have_a_line_a_set_and_a_colour_a_protocol() -> None:
    figure = unrolled_figures.accuracies(FOUND)
    (axis,) = figure.axes
    found, ticks = drawn(axis), [label.get_text() for label in axis.get_yticklabels()]
    plt.close(figure)
    assert ticks == ["random", "DD"]
    assert found["as the set asks"] == ([40.0, 93.0], [0, 1])
    assert found["ordinary"] == ([45.0, 60.0], [0, 1])
    assert found["published"] == ([94.0], [1])
    assert found["all real images"][0] == [98.0, 98.0]


def test_sets_of_several_sizes_say_how_many_images_they_have() -> None:
    figure = unrolled_figures.accuracies(FOUND.assign(images=pd.array([None, None, 10, 10, 5, 5], dtype="Int64")))
    ticks = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    plt.close(figure)
    assert ticks == ["random (10)", "DD (5)"]


def test_step_sizes_have_a_line_an_epoch_of_the_first_seed(named: Layout) -> None:
    figure = unrolled_figures.step_sizes(named, SIZES)
    (axis,) = figure.axes
    found, title, (low, high) = drawn(axis), axis.get_title(loc="left"), axis.get_ylim()
    plt.close(figure)
    assert title == "mnist, DD"
    assert low == 0
    assert high > 0.6
    assert found["epoch 1"] == ([1, 2], [0.1, 0.2])
    assert found["epoch 2"] == ([3, 4], [0.3, 0.6])
    assert found["at the start"][1] == [0.02, 0.02]


def test_ratios_are_joined_by_family_in_the_order_of_their_images() -> None:
    figure = unrolled_figures.ratio(RATIOS)
    found = drawn(figure.axes[0])
    plt.close(figure)
    assert found["SLDD"] == ([2.0, 5.0], [30.0, 80.0])
    assert found["random"] == ([10.0], [40.0])


def test_what_is_better_than_the_whole_set_is_in_sight() -> None:
    figure = unrolled_figures.ratio(RATIOS.assign(ratio=[80.0, 30.0, 120.0]))
    _, high = figure.axes[0].get_ylim()
    plt.close(figure)
    assert high > 120


def test_every_image_has_its_labels_beside_it_all_on_one_scale() -> None:
    made = labelled()
    figure = unrolled_figures.soft_labels(made)
    pictures, bars = ([axis for axis in figure.axes if bool(axis.images) == drawn] for drawn in (True, False))
    widths = [[bar.get_width() for bar in axis.patches if isinstance(bar, Rectangle)] for axis in bars]
    limits = {axis.get_xlim() for axis in bars}
    shown = [[label.get_text() for label in axis.get_yticklabels()] for axis in bars]
    bold = [[label.get_text() for label in axis.get_yticklabels() if label.get_fontweight() == "bold"] for axis in bars]
    colours = [to_hex(patch.get_facecolor()) for patch in bars[1].patches]
    plt.close(figure)
    assert len(pictures) == len(bars) == 3
    assert widths == [pytest.approx(row) for row in made.targets.tolist()]
    ((low, high),) = limits
    assert low < -0.3 < 1.6 < high
    assert shown[0] == ["ant", "bee", "caterpill…"]
    assert [each[0] for each in bold[:2]] == ["ant", "caterpill…"]
    assert colours == [COLOURS[1].lower(), COLOURS[0].lower(), COLOURS[0].lower()]
