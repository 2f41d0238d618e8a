"""A hand-made study: what two data sets' evaluations would have written, with numbers that are easy to reckon with."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet, recipe_id
from stillhouse.stages.evaluate import COLUMNS
from stillhouse.teacher import Teacher

# (data set, experiment, per_class): accuracies of seeds 0 and 1.
ACCURACIES = {
    ("mnist", "whole", 0): (86.0, 86.4),
    ("mnist", "exact", 1): (86.0, 86.4),
    ("mnist", "exact", 10): (86.1, 86.5),
    ("mnist", "random", 1): (30.0, 34.0),
    ("mnist", "random", 10): (60.5, 70.5),
    ("digits", "whole", 0): (92.0, 94.0),
    ("digits", "exact", 1): (92.0, 93.5),
    ("digits", "exact", 10): (92.0, 94.0),
    ("digits", "random", 1): (50.0, 51.0),
    ("digits", "random", 10): (80.0, 81.0),
}
METHODS = {"whole": "whole", "exact": "krr_exact", "random": "random_images"}


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """The study, with its rows, sets, teachers and costs in files that no test changes."""
    folder = tmp_path_factory.mktemp("study")
    files = [folder / f"{dataset}-{experiment}.csv" for dataset in ("mnist", "digits") for experiment in METHODS]
    made = Layout(
        name="tiny",
        title="A tiny study",
        scale="smoke",
        published="chen2024, Table 3",
        datasets=["mnist", "digits"],
        experiments=["whole", "exact", "random"],
        per_class=[1, 10],
        seeds=[0, 1],
        labels={"whole": "all real images", "exact": "exact_sets", "random": "random real images", "linear": "Linear"},
        rows=[str(file) for file in files],
        pictures=[],
    )
    for file in files:
        dataset, experiment = file.stem.split("-")
        write_rows(
            file, [row for key in ACCURACIES if key[:2] == (dataset, experiment) for row in scored(folder, *key)]
        )
    return made


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def scored(folder: Path, dataset: str, experiment: str, size: int) -> list[dict[str, Any]]:
    """The rows of both seeds, whose files are made too."""
    rows = []
    for seed, value in enumerate(ACCURACIES[dataset, experiment, size]):
        file = folder / "results" / f"{dataset}_{experiment}_pc{size}_seed{seed}.safetensors"
        recipe = {"dataset": dataset, "experiment": experiment, "per_class": size, "seed": seed}
        save(file, recipe)
        shared = {
            "dataset": dataset, "experiment": experiment, "method": METHODS[experiment], "per_class": size or "", "seed": seed,
            "protocol": "own", "model": "linear", "training_seed": seed, "budget": 1.0, "file": str(file),
            "recipe": recipe_id(recipe), "code": "c0de",
        }  # fmt: skip
        rows.append({**shared, "metric": "test accuracy", "value": value})
        if experiment == "exact":
            rows.append({**shared, "metric": "weight error", "value": (seed + 1) * 1e-12})
    return rows


def save(file: Path, recipe: dict[str, Any]) -> None:
    rng = torch.Generator().manual_seed(recipe["seed"] + recipe["per_class"])
    if recipe["experiment"] == "whole":
        Teacher({"kind": "ridge"}, recipe["seed"], {"weights": torch.ones(2, 2)}, {}, {}, recipe=recipe).save(file)
    else:
        certificate = {"error_images": 1e-12} if recipe["experiment"] == "exact" else None
        made = DistilledSet(torch.rand(2 * recipe["per_class"], 1, 4, 4, generator=rng),
                            torch.eye(2).repeat(recipe["per_class"], 1), ("ant", "bee"),
                            recipe=recipe, certificate=certificate)  # fmt: skip
        made.save(file)
    cost = {"seconds": 1.5, "peak_memory_mb": 100 + recipe["seed"], "device": "cpu: any", "threads": 1, "host": "h"}
    file.with_suffix(".cost.json").write_text(json.dumps(cost))


@pytest.fixture
def one_seed(layout: Layout) -> Layout:
    """The same study of seed 0 alone."""
    return replace(layout, seeds=[0])
