"""Coresets beside random images, and what choosing them found, from hand-made numbers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stillhouse.reporting import coresets
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

METHODS = {
    "whole": "whole", "random": "random_images", "herding": "herding", "centres": "k_center", "forgotten": "forgetting",
    "best": "optimised_random",
}  # fmt: skip


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {
        "herding": "herding",
        "centres": "k-center",
        "forgotten": "forgetting",
        "best": "best draw",
        "net": "ConvNet",
    }
    return replace(layout, labels=labels)


def tidy(*cells: tuple[str, str, int | None, float, float]) -> pd.DataFrame:
    """Of (data set, experiment, images per class, mean accuracy, deviation)."""
    made: list[dict[str, Any]] = [
        {"dataset": dataset, "experiment": experiment, "method": METHODS[experiment], "per_class": size, "protocol": "by_net",
         "model": "net", "metric": "test accuracy", "mean": mean, "std": std}
        for dataset, experiment, size, mean, std in cells
    ]  # fmt: skip
    return pd.DataFrame(made).astype({"per_class": "Int64"})


def test_a_set_is_better_or_worse_beyond_both_deviations_together(named: Layout) -> None:
    found = coresets.beside_random(
        named,
        tidy(
            ("mnist", "whole", None, 99.0, 0.1), ("mnist", "random", 10, 90.0, 1.0), ("mnist", "herding", 10, 93.5, 1.0),
            ("mnist", "centres", 10, 88.5, 1.0), ("mnist", "forgotten", 10, 60.0, 5.0),
        ),
    )  # fmt: skip
    assert found == [
        "mnist, 10 per class, ConvNet: random images 90.0 %. Beyond both deviations, 1 of 3 sets are better (herding) and 1 "
        "worse (forgetting). Best herding, 93.5 %, worst forgetting, 60.0 %."
    ]


def test_sizes_and_data_sets_are_told_apart_and_one_seed_has_no_deviation(named: Layout) -> None:
    nan = float("nan")
    cells = [
        ("mnist", "random", 1, 50.0, nan), ("mnist", "herding", 1, 49.9, nan), ("mnist", "random", 10, 80.0, 2.0),
        ("mnist", "herding", 10, 81.0, 0.0), ("digits", "random", 1, 40.0, nan), ("digits", "herding", 1, 40.1, nan),
    ]  # fmt: skip
    found = coresets.beside_random(named, tidy(*cells))
    assert [each.split(":")[0] for each in found] == [
        "mnist, 1 per class, ConvNet", "mnist, 10 per class, ConvNet", "digits, 1 per class, ConvNet"
    ]  # fmt: skip
    assert ["0 of 1 sets are better (none) and 1 worse (herding)" in each for each in found] == [True, False, False]
    assert "0 of 1 sets are better (none) and 0 worse (none)" in found[1]
    assert "1 of 1 sets are better (herding) and 0 worse (none)" in found[2]


def test_a_study_without_random_images_says_nothing(named: Layout) -> None:
    found = coresets.beside_random(named, tidy(("mnist", "herding", 1, 50.0, 1.0)))
    assert found == []


def made(folder: Path, experiment: str, size: int, seed: int, numerics: dict[str, Any] | None) -> dict[str, Any]:
    """A row of a set, whose file is written; scored twice, it counts once."""
    file = folder / f"{experiment}{size}{seed}.safetensors"
    recipe = {} if numerics is None else {"numerics": numerics}
    DistilledSet(torch.rand(2, 1, 4, 4), torch.eye(2), ("ant", "bee"), recipe=recipe).save(file)
    return {"dataset": "mnist", "experiment": experiment, "per_class": size, "seed": seed, "file": str(file)}


def test_choices_are_told_by_means_over_seeds(named: Layout, tmp_path: Path) -> None:
    rows = [made(tmp_path, "herding", 1, 0, None)]
    for seed, (never, kept, times) in enumerate([(10, 900, 200), (20, 800, 400)]):
        said: dict[str, Any] = {"never_learned": never, "never_forgotten": kept, "forgetting_events": times}
        rows += [made(tmp_path, "forgotten", size, seed, said) for size in (1, 10)]
        said = {"draw": 3, "validation_accuracy": 50.0 + 2 * seed, "mean_validation_accuracy": 44.0}
        rows.append(made(tmp_path, "best", 1, seed, said))
    whole = {"dataset": "mnist", "experiment": "whole", "per_class": None, "seed": 0, "file": "none"}
    frame = pd.DataFrame([whole, *rows, *rows[:3]]).astype({"per_class": "Int64"})
    assert coresets.choices(named, frame) == [
        "mnist, forgetting: the network never learned 15 examples, learned 850 and never forgot them, and forgot the others "
        "300 times in all.",
        "mnist, 1 per class, best draw: the best draw has 51.0 % on the images that chose it, the mean draw 44.0 %.",
    ]


def test_sets_that_say_nothing_of_themselves_are_left_out(named: Layout, tmp_path: Path) -> None:
    rows = pd.DataFrame([made(tmp_path, "herding", 1, 0, None)]).astype({"per_class": "Int64"})
    assert coresets.choices(named, rows) == []
