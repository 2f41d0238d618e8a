"""What learned labels hold: numbers reckoned by hand, and pictures."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from stillhouse.reporting import figures, label_distillation
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet


def made(targets: torch.Tensor, base: str = "", steps: int = 7) -> DistilledSet:
    inputs = torch.rand(len(targets), 1, 4, 4, generator=torch.Generator().manual_seed(0))
    recipe = {"method": {"kind": "label_distillation", "base": base}}
    return DistilledSet(inputs, targets, ("ant", "bee"), schedule={"steps": steps}, recipe=recipe)


def drawn(axis: Any) -> Any:
    """What the first image of an axis holds."""
    return axis.images[0].get_array()


SHARP, FLAT, TURNED = torch.eye(2), torch.full((2, 2), 0.5), torch.tensor([[0.25, 0.75], [1.0, 0.0]])


@pytest.fixture
def study(tmp_path: Path) -> tuple[Layout, pd.DataFrame]:
    """Two experiments, own and foreign images; two seeds of the first."""
    layout = Layout(
        "ld", "Labels", "smoke", "", ["mnist"], ["random", "ld", "letters"], [1], [0, 1],
        {"random": "random real images", "ld": "LD", "letters": "LD, letters", "lenet": "LeNet"}, [], [],
    )  # fmt: skip
    sets = {("letters", 0): made(TURNED, "emnist_letters"), ("ld", 0): made(SHARP), ("ld", 1): made(FLAT, steps=9)}
    rows: list[dict[str, Any]] = []
    for (experiment, seed), distilled in sets.items():
        file = tmp_path / f"{experiment}{seed}.safetensors"
        distilled.save(file)
        shared = {
            "dataset": "mnist", "experiment": experiment, "method": "label_distillation", "per_class": 1, "seed": seed,
            "budget": 0.5 if experiment == "ld" else 1.0, "recipe": f"r{seed}", "file": str(file),
        }  # fmt: skip
        rows += [{**shared, "training_seed": k} for k in range(3)]
    rows.append({**rows[0], "method": "random_images", "file": "nowhere"})
    return layout, pd.DataFrame(rows)


def test_every_set_is_measured_once_and_beside_its_images_classes_where_they_have_any(
    study: tuple[Layout, pd.DataFrame],
) -> None:
    found = label_distillation.gathered(*study)
    assert found["experiment"].tolist() == ["ld", "ld", "letters"]
    three_quarters = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert found["entropy"].tolist() == pytest.approx([0, 1, three_quarters / 2])
    assert found["largest"].tolist() == pytest.approx([1, 0.5, 0.875])
    assert found["own"].tolist() == pytest.approx([100, 50, np.nan], nan_ok=True)
    assert found["steps"].tolist() == [7, 9, 7]


def test_the_table_has_means_over_seeds(study: tuple[Layout, pd.DataFrame]) -> None:
    layout, rows = study
    table = label_distillation.table(layout, label_distillation.gathered(layout, rows))
    assert [[entry.text for entry in line.entries] for line in table.lines] == [
        ["LD, 50 % of its budget", "1", "8", "0.50", "0.75", "75"],
        ["LD, letters", "1", "7", "0.41", "0.88", "–"],
    ]
    assert all(len(line.entries) == len(table.columns) for line in table.lines)


def test_gains_are_told_beside_true_labels(study: tuple[Layout, pd.DataFrame]) -> None:
    layout, rows = study
    shared = {"dataset": "mnist", "per_class": 1, "protocol": "own", "model": "lenet", "metric": "test accuracy"}
    tidy = pd.DataFrame(
        [
            {**shared, "experiment": "random", "method": "random_images", "mean": 40.0},
            {**shared, "experiment": "ld", "method": "label_distillation", "mean": 52.5},
            {**shared, "experiment": "letters", "method": "label_distillation", "mean": 31.0},
        ]
    )
    said = label_distillation.findings(layout, tidy, label_distillation.gathered(layout, rows))
    assert said == [
        "LD: 0.00 to 1.00 bits a label, and 50 to 100 % name their image's own class.",
        "LD, letters: 0.41 bits a label.",
        "mnist, 1 per class, LeNet: LD 52.5 %, +12.5 points beside true labels of random images.",
        "mnist, 1 per class, LeNet: LD, letters 31.0 %, −9.0 points beside true labels of random images.",
    ]


def test_a_picture_has_every_shown_image_above_its_label() -> None:
    sets = {"few": made(TURNED), "many": made(SHARP.repeat(15, 1))}
    figure = label_distillation.picture(sets, {"few": "LD\nLeNet", "many": "LD, 15"})
    above, below, more_above, more_below = figure.axes[:4]
    values = np.ma.masked_invalid(drawn(below))
    assert values.shape == drawn(more_below).shape == (2, 20)
    np.testing.assert_allclose(values[:, :2], TURNED.T)
    assert values[:, 2:].mask.all()
    for strip, labels in ((above, below), (more_above, more_below)):
        assert drawn(strip).shape == (6, 20 * 6)
        assert [text.get_text() for text in labels.get_yticklabels()] == ["ant", "bee"]
    plt.close(figure)


def test_a_picture_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        figures.save(label_distillation.picture({"few": made(TURNED)}, {"few": "LD"}), tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
