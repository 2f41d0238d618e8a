from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from stillhouse.reporting import figures, study
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

CLASSES = tuple("abc")


def made(size: int = 2, spread: float = 0.0, channels: int = 1, classes: tuple[str, ...] = CLASSES) -> DistilledSet:
    rng = torch.Generator().manual_seed(size)
    inputs = torch.rand(size * len(classes), channels, 4, 4, generator=rng)
    targets = torch.eye(len(classes)).repeat(size, 1)
    return DistilledSet(inputs * (1 + spread) - spread / 2, targets, classes)


def accuracy(layout: Layout) -> Figure:
    return figures.accuracy(layout, study.tidy(layout, study.scores(layout)))


def images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


@pytest.mark.parametrize(
    "draw",
    [
        accuracy,
        lambda layout: figures.sheet(made(5)),
        lambda layout: figures.pictures({"a": made(), "b": made(3, spread=9.0)}, {"a": "one", "b": "two"}),
    ],
    ids=["accuracy", "sheet", "pictures"],
)
def test_a_figure_saved_twice_has_the_same_bytes(
    draw: Callable[[Layout], Figure], layout: Layout, tmp_path: Path
) -> None:
    for name in ("one.png", "two.png"):
        figures.save(draw(layout), tmp_path / "figures" / name)
    one, two = ((tmp_path / "figures" / name).read_bytes() for name in ("one.png", "two.png"))
    assert one.startswith(b"\x89PNG")
    assert one == two


def test_a_saved_figure_is_closed(tmp_path: Path) -> None:
    before = plt.get_fignums()
    figures.save(figures.sheet(made()), tmp_path / "sheet.png")
    assert plt.get_fignums() == before


def test_there_is_a_panel_for_each_data_set_and_model(layout: Layout) -> None:
    figure = accuracy(layout)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["mnist, Linear", "digits, Linear"]
    plt.close(figure)


def test_a_panel_shows_the_whole_set_the_sets_and_the_paper(layout: Layout) -> None:
    figure = accuracy(layout)
    mnist = figure.axes[0]
    lines = dict(zip(mnist.get_legend_handles_labels()[1], mnist.get_legend_handles_labels()[0], strict=True))
    assert list(lines["all real images"].get_ydata()) == [86.2, 86.2]
    assert list(lines["exact_sets"].lines[0].get_xdata()) == [1, 10]
    assert list(lines["exact_sets"].lines[0].get_ydata()) == pytest.approx([86.2, 86.3])
    assert list(lines["random real images"].lines[0].get_ydata()) == pytest.approx([32.0, 65.5])
    assert list(lines["paper"].get_ydata()) == [86.41, 86.41]
    assert "paper" not in figure.axes[1].get_legend_handles_labels()[1]  # nothing is published for digits
    assert sorted(text.get_text() for text in figure.legends[0].get_texts()) == sorted(lines)
    plt.close(figure)


def test_every_experiment_is_drawn(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    more = [f"more{i}" for i in range(6)]
    parts = [tidy[tidy["experiment"] == "exact"].assign(experiment=name, mean=10.0) for name in more]
    layout = replace(
        layout, experiments=[*layout.experiments, *more], labels={**layout.labels, **{name: name for name in more}}
    )
    figure = figures.accuracy(layout, pd.concat([tidy, *parts]))
    drawn = figure.axes[0].get_legend_handles_labels()[1]
    plt.close(figure)
    assert set(more) <= set(drawn)


def test_a_row_of_pictures_holds_the_first_image_of_each_class() -> None:
    one, two = made(1), made(3)
    figure = figures.pictures({"one": one, "two": two}, {"one": "first", "two": "second"})
    shown = images(figure)
    assert len(shown) == 6
    for image, wanted in zip(shown, torch.cat([one.inputs[:3], two.inputs[:3]]), strict=True):
        np.testing.assert_allclose(image, wanted[0].numpy(), rtol=1e-6)
    assert [axis.get_title() for axis in figure.axes[:3]] == list(CLASSES)
    assert [axis.texts[0].get_text() for axis in figure.axes if axis.texts] == ["first", "second"]
    plt.close(figure)


def test_of_many_classes_ten_are_shown() -> None:
    figure = figures.pictures({"one": made(1, classes=tuple(map(str, range(14))))}, {"one": "first"})
    assert len(images(figure)) == 10
    plt.close(figure)


def test_images_near_the_datas_range_are_clipped_and_others_get_a_scale_of_their_own() -> None:
    figure = figures.pictures(
        {"near": made(1, spread=0.2), "far": made(1, spread=40.0)}, {"near": "near", "far": "far"}
    )
    shown = images(figure)
    near, far = shown[:3], shown[3:]
    np.testing.assert_allclose(near[0], made(1, spread=0.2).inputs[0, 0].clamp(0, 1).numpy(), rtol=1e-6)
    for image in far:
        assert (image.min(), image.max()) == (0, 1)
        assert len(np.unique(image)) > 10
    assert [axis.texts[0].get_text() for axis in figure.axes if axis.texts] == ["near", "far\n(own scale)"]
    plt.close(figure)


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 4)), (3, (4, 4, 3))])
def test_images_are_drawn_in_grey_or_in_colour(channels: int, shape: tuple[int, ...]) -> None:
    figure = figures.sheet(made(channels=channels))
    assert {image.shape for image in images(figure)} == {shape}
    plt.close(figure)


@pytest.mark.parametrize(("size", "shown"), [(2, 6), (50, 100)])
def test_a_sheet_shows_every_image_up_to_a_hundred(size: int, shown: int) -> None:
    figure = figures.sheet(made(size))
    assert len(images(figure)) == shown
    assert [axis.get_title() for axis in figure.axes[:4]] == ["a", "b", "c", "a"]
    plt.close(figure)
