import dataclasses
import logging
from typing import Any

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.exchange.assemble import assemble
from stillhouse.exchange.declared import Declared
from stillhouse.exchange.found import Found
from stillhouse.sets import RealSet

DSA = Declared(method="dsa", space="standardised")


@pytest.fixture
def found(images: torch.Tensor, labels: torch.Tensor) -> Found:
    return Found(images, labels, {"a.pt": "ab12"}, seed=3, notes={"index": 3})


def refused(found: Found, real: RealSet, declared: Declared = DSA) -> str:
    with pytest.raises(UserError) as problem:
        assemble(found, real, declared, "dc")
    assert "\n" not in str(problem.value)
    return str(problem.value)


def test_hard_labels_become_one_hot_rows(found: Found, toy: RealSet) -> None:
    made = assemble(found, toy, DSA, "dc")
    assert made.targets.dtype == torch.float64
    assert made.targets.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert made.classes == toy.classes
    assert made.inputs is found.images


def test_the_recipe_says_what_it_is_and_where_it_is_from(found: Found, toy: RealSet) -> None:
    declared = dataclasses.replace(DSA, source="Zhao and Bilen 2021", budget=0.1)
    recipe = assemble(found, toy, declared, "dc").recipe
    assert (recipe["dataset"], recipe["experiment"], recipe["method"]) == ("toy", "dsa", {"kind": "dsa"})
    assert (recipe["per_class"], recipe["seed"], recipe["budget"]) == (2, 3, 0.1)
    assert recipe["data"] == toy.identity
    assert recipe["imported"] == {
        "format": "dc", "files": {"a.pt": "ab12"}, "source": "Zhao and Bilen 2021", "space": "standardised", "index": 3,
    }  # fmt: skip


def test_what_is_declared_goes_before_what_is_assumed(found: Found, toy: RealSet) -> None:
    recipe = assemble(found, toy, dataclasses.replace(DSA, experiment="theirs", seed=7), "dc").recipe
    assert (recipe["experiment"], recipe["seed"], recipe["budget"]) == ("theirs", 7, 1.0)


def test_soft_labels_stay_as_they_are(found: Found, toy: RealSet, rows: torch.Tensor) -> None:
    made = assemble(dataclasses.replace(found, labels=rows), toy, DSA, "mtt")
    torch.testing.assert_close(made.targets, rows.to(torch.float64), rtol=0, atol=0)


def test_centred_labels_are_shifted_back(found: Found, toy: RealSet, rows: torch.Tensor, labels: torch.Tensor) -> None:
    made = assemble(dataclasses.replace(found, labels=rows, centred=True), toy, DSA, "kip")
    torch.testing.assert_close(made.targets - rows, torch.full_like(made.targets, 1 / 3))
    hard = torch.nn.functional.one_hot(labels, 3).to(torch.float32) - 1 / 3
    unlearned = assemble(dataclasses.replace(found, labels=hard, centred=True), toy, DSA, "kip")
    torch.testing.assert_close(unlearned.targets, assemble(found, toy, DSA, "dc").targets, rtol=0, atol=1e-7)
    kept = assemble(
        dataclasses.replace(found, labels=rows, centred=True), toy, dataclasses.replace(DSA, labels="one_hot"), "kip"
    )
    torch.testing.assert_close(kept.targets, rows.to(torch.float64), rtol=0, atol=0)


def test_rows_that_contradict_the_convention_are_refused(found: Found, toy: RealSet, labels: torch.Tensor) -> None:
    hard = torch.nn.functional.one_hot(labels, 3).to(torch.float32)
    said = refused(dataclasses.replace(found, labels=hard, centred=True), toy)
    assert said == "--labels centred: every row of labels sums to 1. Say --labels one_hot."
    said = refused(dataclasses.replace(found, labels=hard - 1 / 3), toy)
    assert said == "--labels one_hot: every row of labels sums to 0. Say --labels centred."


def test_columns_come_in_the_order_of_the_data_set(found: Found, toy: RealSet, rows: torch.Tensor) -> None:
    turned = dataclasses.replace(DSA, classes=("cat", "ant", "bee"))
    made = assemble(dataclasses.replace(found, labels=rows), toy, turned, "mtt")
    torch.testing.assert_close(made.targets, rows[:, [1, 2, 0]].to(torch.float64), rtol=0, atol=0)
    hard = assemble(found, toy, turned, "dc")
    assert hard.labels.tolist() == [2, 2, 0, 0, 1, 1]  # cat, ant, bee


def test_folders_are_the_classes_by_their_names(found: Found, toy: RealSet) -> None:
    named = RealSet("toy", toy.train, toy.test, ("b/c", "a", "d"), "", "")
    images = (255 * found.images.clamp(0, 1)).to(torch.uint8)
    whole = dataclasses.replace(found, images=images, notes={"folders": ["a", "b_c", "d"]})
    made = assemble(whole, named, Declared(method="d4m"), "folder")
    assert made.labels.tolist() == [1, 1, 0, 0, 2, 2]
    assert made.space == {"kind": "pixels"}
    torch.testing.assert_close(made.inputs, images / 255)


def test_other_classes_are_refused(found: Found, toy: RealSet) -> None:
    said = refused(found, toy, dataclasses.replace(DSA, classes=("ant", "bee", "dog")))
    assert said.startswith("class 'cat' is only in toy: 3 classes, toy has 3.")
    said = refused(found, toy, dataclasses.replace(DSA, classes=("ant", "bee", "cat", "dog")))
    assert said.startswith("class 'dog' is only in the file: 4 classes")
    assert refused(found, toy, dataclasses.replace(DSA, classes=("ant", "ant", "bee", "cat"))).startswith("class '4'")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": torch.zeros(6, 3, 4, 4)}, "images of shape (3, 4, 4), but toy has (1, 4, 4). Give the data set"),
        ({"images": torch.zeros(6, 4, 4, 1)}, "images of shape (4, 4, 1), but toy has (1, 4, 4). Their axes"),
        ({"images": torch.zeros(6, 16)}, "images of shape (16,), but toy has (1, 4, 4)"),
        ({"images": torch.zeros(5, 1, 4, 4)}, "5 images with 6 labels"),
        ({"images": torch.zeros(0, 1, 4, 4), "labels": torch.zeros(0)}, "0 images with 0 labels"),
        ({"images": torch.zeros(4, 1, 4, 4), "labels": torch.zeros(4)}, "4 images are not as many for each of toy's 3"),
        ({"images": torch.zeros(6, 1, 4, 4, dtype=torch.int64)}, "images of torch.int64, expected floats or bytes"),
        ({"images": torch.full((6, 1, 4, 4), torch.nan)}, "96 of 96 values of images are NaN or infinite"),
        ({"labels": torch.full((6, 3), torch.inf)}, "18 of 18 values of labels are NaN or infinite"),
        ({"labels": torch.zeros(6, 4)}, "labels of shape (6, 4), but toy has 3 classes"),
        ({"labels": torch.zeros(6, 3, 1)}, "labels of shape (6, 3, 1), but toy has 3 classes"),
        ({"labels": torch.arange(6)}, "labels 0 to 5, but toy has 3 classes, from 0"),
        ({"labels": torch.arange(6) % 3 - 1}, "labels -1 to 1, but toy has 3 classes"),
        ({"labels": torch.arange(6) / 2}, "labels that are no whole numbers"),
        ({"labels": torch.arange(6) % 2}, "0 images with label 2 of 3 classes, 3 with label 0"),
    ],
)
def test_what_does_not_fit_the_data_set_is_one_line(
    found: Found, toy: RealSet, changes: dict[str, Any], text: str
) -> None:
    assert refused(dataclasses.replace(found, **changes), toy).startswith(text)


def test_method_and_space_have_to_be_declared(found: Found, toy: RealSet) -> None:
    assert refused(found, toy, Declared(space="pixels")).startswith(
        "--method: what made the set? The file does not say."
    )
    assert refused(found, toy, Declared(method="dc")).startswith("--space: in which space do the images live?")
    bytes_ = dataclasses.replace(found, images=torch.zeros(6, 1, 4, 4, dtype=torch.uint8))
    assert refused(bytes_, toy).startswith("--space standardised: images of 8 bits are pixels")


def test_sets_of_values_are_refused(found: Found, table: RealSet) -> None:
    assert refused(found, table).startswith("table: sets of values are not imported")


@pytest.mark.parametrize(("std", "level"), [(0.01, logging.INFO), (10.0, logging.WARNING)])
def test_a_space_that_leaves_most_pixels_out_of_range_is_warned_of(
    found: Found, toy: RealSet, caplog: pytest.LogCaptureFixture, std: float, level: int
) -> None:
    caplog.set_level(logging.INFO)
    assemble(found, toy, Declared(method="dc", space={"kind": "standardised", "mean": [0.5], "std": [std]}), "dc")
    (record,) = caplog.records
    assert record.levelno == level
    assert ("is it the right one?" in record.getMessage()) == (level == logging.WARNING)
