from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

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
        lambda layout: figures.race(layout, MADE, FOUND),
    ],
    ids=["accuracy", "sheet", "pictures", "race"],
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


def test_a_chart_is_saved_with_a_palette_that_nobody_sees(layout: Layout, tmp_path: Path) -> None:
    figure = accuracy(layout)
    figure.canvas.draw()
    figure.savefig(tmp_path / "full.png", dpi=160)
    full = np.asarray(Image.open(tmp_path / "full.png").convert("RGB"), dtype=int)
    figures.save(figure, tmp_path / "chart.png")
    saved = Image.open(tmp_path / "chart.png")
    assert saved.mode == "P"
    assert np.abs(np.asarray(saved.convert("RGB"), dtype=int) - full).max() <= 20
    assert (tmp_path / "chart.png").stat().st_size < 0.6 * (tmp_path / "full.png").stat().st_size


def test_an_image_of_many_colours_keeps_them() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    kept = figures.small(Image.fromarray(colours))
    assert kept.mode == "RGB"
    assert (np.asarray(kept) == colours).all()


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


def test_of_many_models_a_data_sets_panels_fold_into_rows(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    more = {f"m{i}": f"M{i}" for i in range(5)}
    parts = [tidy.assign(model=name) for name in more]
    figure = figures.accuracy(replace(layout, labels={**layout.labels, **more}), pd.concat(parts))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    labelled = [axis.get_title(loc="left") for axis in figure.axes if axis.get_xlabel() == "images per class"]
    plt.close(figure)
    assert titles == [f"{dataset}, M{i}" for dataset in ("mnist", "digits") for i in range(5)]
    assert labelled == ["digits, M2", "digits, M3", "digits, M4"]  # the lowest of each of three columns


def test_all_published_numbers_of_a_size_are_drawn(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    tidy.loc[
        (tidy["experiment"] == "random") & (tidy["dataset"] == "mnist") & (tidy["per_class"] == 1), "published"
    ] = 25.0
    figure = figures.accuracy(layout, tidy)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    crosses: Any = lines[labels.index("paper")]
    plt.close(figure)
    drawn = sorted(zip(crosses.get_xdata(), crosses.get_ydata(), strict=True))
    assert drawn == [(1, 25.0), (1, 86.41), (10, 86.41)]


def test_where_there_is_one_size_every_set_has_a_line(layout: Layout) -> None:
    tidy = study.tidy(layout, study.scores(layout))
    figure = figures.accuracy(layout, tidy[tidy["per_class"].isna() | (tidy["per_class"] == 10)])
    mnist = figure.axes[0]
    assert [label.get_text() for label in mnist.get_yticklabels()] == ["exact_sets", "random real images"]
    lines: dict[str, Any] = dict(zip(*reversed(mnist.get_legend_handles_labels()), strict=True))
    sets = lines["sets, mean and deviation"].lines[0]
    assert list(zip(sets.get_xdata(), sets.get_ydata(), strict=True)) == [(pytest.approx(86.3), 0), (65.5, 1)]
    assert list(zip(lines["paper"].get_xdata(), lines["paper"].get_ydata(), strict=True)) == [(86.41, 0)]
    assert list(lines["all real images"].get_xdata()) == [86.2, 86.2]
    assert mnist.get_ylim() == (1.5, -0.5)  # the first from above
    plt.close(figure)


MADE = pd.DataFrame(
    [
        {"dataset": dataset, "per_class": size, "seed": seed, "step": step, "seconds": 10.0**step * size,
         "validation_accuracy": 50.0 + 10 * step + seed, "teacher": 90.0}
        for dataset in ("digits", "mnist")
        for size in (10, 1)
        for seed in (0, 1)
        for step in (0, 1, 2)
    ]
)  # fmt: skip
FOUND = pd.DataFrame(
    [{"dataset": d, "per_class": s, "exact": 3.0 * s} for d in ("digits", "mnist") for s in (10, 1)]
)  # fmt: skip


def test_the_race_has_a_panel_for_each_data_set_in_the_order_of_the_study(layout: Layout) -> None:
    figure = figures.race(layout, MADE, FOUND)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["mnist", "digits"]
    plt.close(figure)
    figure = figures.race(layout, MADE[MADE["dataset"] == "digits"], FOUND)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["digits"]
    plt.close(figure)


def test_the_race_shows_every_seeds_curve_the_teacher_and_the_exact_sets_at_its_height(layout: Layout) -> None:
    figure = figures.race(layout, MADE, FOUND)
    lines, labels = figure.axes[0].get_legend_handles_labels()
    drawn = [(label, list(line.get_xdata()), list(line.get_ydata())) for line, label in zip(lines, labels, strict=True)]
    plt.close(figure)
    assert [each[2] for each in drawn if each[0] == "all real images"] == [[90.0, 90.0]]
    assert [each[1:] for each in drawn if each[0] == "KIP, 10 per class"] == [
        ([10.0, 100.0, 1000.0], [50.0 + seed, 60.0 + seed, 70.0 + seed]) for seed in (0, 1)
    ]
    assert [each[1:] for each in drawn if each[0].startswith("exact")] == [([3.0], [90.0]), ([30.0], [90.0])]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "all real images", "KIP, 1 per class", "exact, 1 per class", "KIP, 10 per class", "exact, 10 per class",
    ]  # fmt: skip


def test_a_size_has_one_colour_whatever_shows_it(layout: Layout) -> None:
    figure = figures.race(layout, MADE, FOUND)
    for axis in figure.axes:
        colours: dict[str, set[str]] = {}
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True):
            if "per class" in label:
                colours.setdefault(label.split(", ")[1], set()).add(line.get_color())
        assert [len(each) for each in colours.values()] == [1, 1]
        assert len(set.union(*colours.values())) == 2
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


def test_a_legend_is_no_wider_than_its_figure() -> None:
    with plt.rc_context(figures.STYLE):
        figure, panels = plt.subplots(1, 1, figsize=(3.4, 3), squeeze=False, layout="constrained")
        panels[0, 0].plot([0, 1], label="the best of so many random draws, by LeNet in few steps, 5 % of its budget")
        figures.legend(figure, panels)
        figure.canvas.draw()
    [legend] = figure.legends
    placed = legend.get_window_extent()
    assert placed.x0 >= 0
    assert placed.x1 <= figure.bbox.x1
    assert legend.get_texts()[0].get_text().count("\n") == 1
