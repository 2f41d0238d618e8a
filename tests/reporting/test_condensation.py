"""What is said of gradient matching, from hand-made numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stillhouse.reporting import condensation, matrix
from stillhouse.reporting.study import Layout
from stillhouse.sets import DistilledSet

METHODS = {"whole": "whole", "random": "random_images", "dc": "gradient_matching", "dsa": "gradient_matching"}


def scored(experiment: str, model: str, mean: float, std: float = 1.0, size: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "dataset": "mnist", "experiment": experiment, "method": METHODS.get(experiment, "gradient_matching"),
        "per_class": None if experiment == "whole" else size, "protocol": f"by_{model}", "model": model,
        "metric": "test accuracy", "mean": mean, "std": std, "seeds": 3, "published": float("nan"), "budget": 1.0,
        "recipe": f"{experiment}{model}", **more,
    }  # fmt: skip


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"per_class": "Int64"})


def filed(
    folder: Path, experiment: str, seconds: float, model: dict[str, Any] | None = None, seed: int = 0, record: Any = ()
) -> dict[str, Any]:
    """A row of scores whose file and cost file exist."""
    file = folder / f"{experiment}{seed}.safetensors"
    recipe = {"method": {"kind": METHODS.get(experiment, "gradient_matching"), "model": model}, "seed": seed}
    DistilledSet(torch.zeros(2, 1, 2, 2), torch.eye(2), ("a", "b"), recipe=recipe).save(file)
    cost = {"seconds": seconds, "peak_memory_mb": 1, "device": "cpu", "threads": 1, "record": list(record)}
    file.with_suffix(".cost.json").write_text(json.dumps(cost))
    return {
        "dataset": "mnist", "experiment": experiment, "method": METHODS.get(experiment, "gradient_matching"), "per_class": 1,
        "seed": seed, "budget": 0.1, "file": str(file),
    }  # fmt: skip


@pytest.fixture
def named(layout: Layout) -> Layout:
    labels = {"whole": "all real images", "random": "random real images", "dc": "DC", "dsa": "DSA", "net": "ConvNet",
              "other": "MLP", "bn": "MLP"}  # fmt: skip
    return replace(
        layout, published="", datasets=["mnist"], experiments=["whole", "random", "dc", "dsa"], labels=labels,
        made_for={"dc": "net", "dsa": "bn"},
    )  # fmt: skip


# Accuracy against seconds

TIDY = frame(
    scored("whole", "net", 99), scored("random", "net", 60, 3), scored("dc", "net", 90, 0.5), scored("dsa", "net", 91)
)


@pytest.fixture
def timed(tmp_path: Path) -> pd.DataFrame:
    rows = [filed(tmp_path, "random", 1), filed(tmp_path, "dc", 50), filed(tmp_path, "dc", 70, seed=1)]
    return condensation.gathered(frame(*rows, filed(tmp_path, "dsa", 600)), TIDY)


def test_seconds_are_the_mean_over_seeds_and_the_whole_set_has_none(timed: pd.DataFrame) -> None:
    assert timed.set_index("experiment")["seconds"].to_dict() == {"random": 1, "dc": 60, "dsa": 600}


def test_the_table_of_costs_has_points_a_minute_over_random_images(named: Layout, timed: pd.DataFrame) -> None:
    table = condensation.cost_table(named, timed)
    assert [[entry.plain for entry in line.entries] for line in table.lines] == [
        ["random real images", "1", "1", "60.00"],
        ["DC", "1", "60", "90.00 (+30)"],
        ["DSA", "1", "600", "91.00 (+3.1)"],
    ]
    assert [line.reference for line in table.lines] == [True, False, False]


def test_the_cheapest_set_within_both_deviations_is_named(named: Layout, timed: pd.DataFrame) -> None:
    assert condensation.cost_findings(named, timed) == [
        "mnist, 1 per class, ConvNet: most accurate is DSA with 91.00 % after 600 seconds a set; DC with 90.00 % after 60 "
        "seconds a set lies within both deviations."
    ]
    sharp = condensation.cost_findings(named, timed.assign(std=0.1))
    assert sharp == ["mnist, 1 per class, ConvNet: most accurate is DSA with 91.00 % after 600 seconds a set."]


# The distance on its way


def test_what_is_left_of_the_distance_is_a_mean_over_seeds(named: Layout, tmp_path: Path) -> None:
    records = [
        [{"step": 0, "seconds": 1.0, "distance": 100.0}, {"step": 9, "seconds": 2.0, "distance": last}]
        for last in (40.0, 20.0)
    ]
    rows = frame(*(filed(tmp_path, "dc", 1, seed=i, record=record) for i, record in enumerate(records)))
    made = condensation.distances(rows)
    assert len(made) == 4
    assert condensation.distance_findings(named, made) == [
        "mnist, 1 per class, DC: 30 % of the first step's distance is left after 10 steps."
    ]


def test_sets_without_a_record_of_distances_have_none(named: Layout, tmp_path: Path) -> None:
    other = [{"step": 0, "seconds": 1.0, "validation_accuracy": 3.0}]
    for record in ((), other):
        made = condensation.distances(frame(filed(tmp_path, "dc", 1, record=record)))
        assert made.empty
        assert condensation.distance_findings(named, made) == []


# Networks against networks

CELLS = [
    scored("random", "net", 60), scored("random", "other", 50),
    scored("dc", "net", 90, 0.5, published=91.7), scored("dc", "other", 70, published=69.6),
    scored("dsa", "net", 65, published=63.9), scored("dsa", "other", 71, published=70.5),
]  # fmt: skip


def crossed(named: Layout, *cells: dict[str, Any], reference: str = "") -> pd.DataFrame:
    layout = replace(named, published=reference)
    return condensation.crossed(layout, matrix.gathered(layout, frame(*cells)))


def test_a_set_is_scored_by_its_own_network_where_both_have_one_label(named: Layout) -> None:
    own = crossed(named, *CELLS).set_index(["experiment", "model"])["own"].to_dict()
    assert {key for key, value in own.items() if value} == {("dc", "net"), ("dsa", "other")}


def test_the_papers_line_stands_below_ours(named: Layout) -> None:
    table = condensation.cross_table(crossed(named, *CELLS).assign(published_std=0.5))
    assert [[entry.plain for entry in line.entries] for line in table.lines] == [
        ["random real images", "1", "ours", "60.0 ± 1.0", "50.0 ± 1.0"],
        ["DC", "1", "ours", "90.0* ± 0.5", "70.0 ± 1.0"],
        ["DC", "1", "paper", "91.7* ± 0.5", "69.6 ± 0.5"],
        ["DSA", "1", "ours", "65.0 ± 1.0", "71.0* ± 1.0"],
        ["DSA", "1", "paper", "63.9 ± 0.5", "70.5* ± 0.5"],
    ]
    assert table.lines[1].entries[3].recipe == "dcnet"
    assert table.lines[2].entries[3].recipe == ""  # the paper's number cannot be made again here


def test_without_published_numbers_there_is_no_line_of_the_paper(named: Layout) -> None:
    cells = [{**cell, "published": float("nan")} for cell in CELLS]
    table = condensation.cross_table(crossed(named, *cells))
    assert {line.entries[2].text for line in table.lines} == {"ours"}


def test_deviations_of_dcs_table_2_are_found_by_experiment_and_model(named: Layout) -> None:
    layout = replace(
        named, experiments=["random", "cross_mlp"], labels={**named.labels, "cross_mlp": "DC for MLP", "lenet_dc": "LeNet"},
        made_for={},
    )  # fmt: skip
    cells = [scored("random", "lenet_dc", 50), scored("cross_mlp", "lenet_dc", 75, published=77.3)]
    found = crossed(layout, *cells, reference="zhao2021dc, Table 2").set_index("experiment")["published_std"]
    assert found["cross_mlp"] == 5.8
    assert pd.isna(found["random"])


def test_findings_name_the_best_networks_and_the_agreement_with_the_paper(named: Layout) -> None:
    assert condensation.cross_findings(crossed(named, *CELLS)) == [
        "mnist, 1 per class, means over the other side: best to distil for is DC (80.0 %), worst DSA (68.0 %); best at learning "
        "from sets is ConvNet (77.5 %), worst MLP (70.5 %). On its own set a network has 80.5 %, on others 67.5 %.",
        "mnist, 1 per class: over 4 cells the rank correlation of our accuracies with the paper's is 1.00; the mean difference "
        "is +0.1 points.",
    ]
    upset = [{**cell, "mean": 100 - cell["mean"]} for cell in CELLS]
    assert "with the paper's is −1.00" in condensation.cross_findings(crossed(named, *upset))[1]


# What of the network matters

USUAL = {"kind": "convnet", "width": 32, "depth": 3, "norm": "instance", "activation": "relu", "pooling": "average"}
NETWORKS = {
    "usual": USUAL, "leaky": {**USUAL, "activation": "leaky_relu"}, "wide": {**USUAL, "width": 128},
    "narrow": {**USUAL, "width": 4}, "both": {**USUAL, "width": 128, "norm": "none"}, "mlp": {"kind": "mlp", "width": 32},
}  # fmt: skip
MEANS = {"usual": 80.0, "leaky": 82.0, "wide": 85.0, "narrow": 60.0, "both": 70.0, "mlp": 50.0}


@pytest.fixture
def varied(layout: Layout) -> Layout:
    labels = {"random": "random real images", **{name: name for name in NETWORKS}, **{f"n_{n}": n for n in NETWORKS}}
    return replace(
        layout, published="", datasets=["mnist"], experiments=["random", *NETWORKS], labels=labels,
        made_for={name: f"n_{name}" for name in NETWORKS},
    )  # fmt: skip


def ablation(layout: Layout, folder: Path) -> pd.DataFrame:
    rows = frame(filed(folder, "random", 1), *(filed(folder, name, 1, model) for name, model in NETWORKS.items()))
    cells = [scored("random", f"n_{name}", 40) for name in NETWORKS]
    cells += [scored(name, f"n_{name}", mean) for name, mean in MEANS.items()]
    cells += [scored(name, "n_usual", mean - 5, protocol="by_usual") for name, mean in MEANS.items()]
    cells += [scored("random", "n_usual", 40, protocol="by_usual")]
    return condensation.ablated(layout, rows, frame(*cells))


def test_an_ablation_holds_what_differs_from_the_usual_network_in_one_setting(varied: Layout, tmp_path: Path) -> None:
    found = ablation(varied, tmp_path)
    own = found[found["own"]][["varied", "value", "mean", "usual", "gain"]].to_numpy().tolist()
    assert own == [
        ["activation", "leaky_relu", 82, False, 42],
        ["activation", "relu", 80, True, 40],
        ["width", "4", 60, False, 20],
        ["width", "32", 80, True, 40],
        ["width", "128", 85, False, 45],
    ]


def test_the_ablations_table_has_each_set_by_its_own_network_and_by_the_usual_one(
    varied: Layout, tmp_path: Path
) -> None:
    table = condensation.ablation_table(varied, ablation(varied, tmp_path))
    assert [[entry.plain for entry in line.entries] for line in table.lines[:3]] == [
        ["activation", "leaky_relu", "1", "82.00 ± 1.00", "+42.0", "77.00 ± 1.00", "+37.0"],
        ["activation", "relu (usual)", "1", "80.00 ± 1.00", "+40.0", "80.00 ± 1.00", "+40.0"],
        ["width", "4", "1", "60.00 ± 1.00", "+20.0", "55.00 ± 1.00", "+15.0"],
    ]
    assert [line.reference for line in table.lines] == [False, True, False, True, False]
    less = ablation(varied, tmp_path).assign(budget=0.02)
    values = [line.entries[1].text for line in condensation.ablation_table(varied, less).lines]
    assert values[:2] == ["leaky_relu, 2 % of its budget", "relu (usual), 2 % of its budget"]


def test_findings_of_an_ablation_hold_dcs_claims_against_the_numbers(varied: Layout, tmp_path: Path) -> None:
    found = ablation(varied, tmp_path)
    assert condensation.ablation_findings(found) == [
        "mnist, 1 per class, best of each setting: activation leaky_relu (82.0 %; relu: 80.0 %), width 128 (85.0 %; 4: 60.0 %).",
        "mnist, 1 per class: DC finds activation leaky_relu better than relu; that holds here (+2.0 points on relu, both "
        "deviations together 1.4).",
    ]
    turned = found.assign(mean=-found["mean"])
    assert "that does not hold here (−2.0 points on relu" in condensation.ablation_findings(turned)[1]


def test_a_study_without_variants_has_no_ablation(varied: Layout, tmp_path: Path) -> None:
    rows = frame(filed(tmp_path, "random", 1), filed(tmp_path, "usual", 1, USUAL))
    found = condensation.ablated(varied, rows, frame(scored("random", "n_usual", 40), scored("usual", "n_usual", 80)))
    assert condensation.ablation_table(varied, found).lines == []
    assert condensation.ablation_findings(found) == []
