import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.data import csv
from stillhouse.errors import UserError
from stillhouse.sets import RealSet
from stillhouse.settings import parse

HOUSES = [f"{i},{10 * i},{i % 3},house {i}" for i in range(20)]  # number, size, rooms, name
FLOWERS = [f"{i},{i * i},{'rose' if i % 4 else 'tulip'}" for i in range(20)]  # 15 roses, 5 tulips


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(rows: list[str], header: str = "number,size,rooms,name", path: str = "t.csv") -> None:
    Path(path).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def flowers(rows: list[str] = FLOWERS, path: str = "t.csv") -> None:
    write(rows, "length,width,kind", path)


def params(**settings: Any) -> csv.Params:
    return parse(csv.Params, {"path": "t.csv", **settings}, "mine")


def read(**settings: Any) -> RealSet:
    return csv.read(params(**settings), Path("downloads"))


def houses(**settings: Any) -> RealSet:
    return read(**{"target": "size", "ignore": ["name"], **settings})


def refused(says: str, **settings: Any) -> None:
    with pytest.raises(UserError, match=says) as caught:
        read(**settings)
    assert "\n" not in str(caught.value)


def test_every_other_column_is_an_input_and_the_target_keeps_its_units() -> None:
    write(HOUSES)
    real = houses()
    assert (real.regression, real.outputs, real.classes, real.shape) == (True, ("size",), (), (2,))
    assert (real.train.inputs.dtype, real.train.targets.dtype) == (torch.float32, torch.float64)
    for split in (real.train, real.test):
        numbers, rooms = split.inputs.T
        assert torch.equal(split.targets, 10 * numbers.double()[:, None])
        assert torch.equal(rooms, numbers % 3)
    assert sorted(torch.cat([real.train.inputs, real.test.inputs])[:, 0].tolist()) == list(range(20))
    assert (len(real.train), len(real.test)) == (16, 4)


def test_several_targets_and_chosen_inputs_come_in_the_order_given() -> None:
    write(HOUSES)
    real = read(target=["rooms", "size"], inputs=["number"])
    assert (real.outputs, real.shape) == (("rooms", "size"), (1,))
    numbers = real.train.inputs.double()
    assert torch.equal(real.train.targets, torch.cat([numbers % 3, 10 * numbers], 1))


def test_target_values_are_kept_to_the_last_digit() -> None:
    write(["1,0.1", "2,123456789.123456789", "3,-7e-300"], "x,y")
    write(["1,0.1"], "x,y", "test.csv")
    assert read(target="y", test="test.csv").train.targets.flatten().tolist() == [0.1, 123456789.123456789, -7e-300]


def test_classes_are_labelled_in_the_order_of_their_names_and_each_gives_its_share() -> None:
    flowers()
    real = read(target="kind", task="classification")
    assert (real.regression, real.classes, real.outputs) == (False, ("rose", "tulip"), ())
    assert torch.equal(real.train.targets, (real.train.inputs[:, 0] % 4 == 0).long())
    assert (torch.bincount(real.train.targets).tolist(), torch.bincount(real.test.targets).tolist()) == (
        [12, 4],
        [3, 1],
    )


@pytest.mark.parametrize(("names", "order"), [("10 9 1", "1 9 10"), ("10 9 x", "10 9 x"), ("-1 1 0", "-1 0 1")])
def test_classes_that_are_numbers_are_ordered_as_numbers(names: str, order: str) -> None:
    flowers([f"{i},{i * i},{name}" for i, name in enumerate(names.split() * 2)])
    assert read(target="kind", task="classification").classes == tuple(order.split())


def test_the_split_is_the_same_for_every_order_of_the_rows_and_choice_of_columns() -> None:
    write(HOUSES)
    one = houses()
    write(HOUSES[::-1])
    turned = houses()
    assert turned.fingerprint == one.fingerprint
    assert turned.order != one.order
    assert torch.equal(houses(ignore=["name", "rooms"]).test.inputs.flatten(), turned.test.inputs[:, 0])


def test_a_row_more_moves_no_other_row_but_one_that_makes_room() -> None:
    write(HOUSES)
    before = set(houses().test.inputs[:, 0].tolist())
    write([*HOUSES, "20,200,2,house 20"])
    assert len(before - set(houses().test.inputs[:, 0].tolist())) <= 1


def test_the_fingerprint_changes_with_a_value_a_target_and_the_split() -> None:
    write(HOUSES)
    found = {houses().fingerprint, houses(test_fraction=0.3).fingerprint}
    write(["0,1,0,house 0", *HOUSES[1:]])
    found.add(houses().fingerprint)
    write(["0,0,1,house 0", *HOUSES[1:]])
    found.add(houses().fingerprint)
    assert len(found) == 4


def test_a_file_of_test_rows_is_the_test_split_whatever_the_order_of_its_columns() -> None:
    write(HOUSES)
    write(["other,7,70"], "what,number,size", "test.csv")
    real = read(target="size", inputs=["number"], test="test.csv", test_fraction=0.9)
    assert (len(real.train), real.test.inputs.tolist(), real.test.targets.tolist()) == (20, [[7]], [[70]])


def test_a_test_row_may_lack_no_column_and_no_class() -> None:
    flowers()
    chosen = {"target": "kind", "task": "classification", "test": "test.csv"}
    write(["1,2,rose"], "length,widht,kind", "test.csv")
    refused(r"test.csv: no column 'width', which t.csv has. Did you mean 'widht'\?", **chosen)
    flowers(["1,2,rose", "1,2,lily"], "test.csv")
    refused("test.csv: line 3, column 'kind': no training row has the class 'lily'", **chosen)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "t.csv: 'target' is missing. Set it to .* one of: number, size, rooms, name"),
        ({"target": "sise"}, "t.csv: target: no column 'sise'. Did you mean 'size'?"),
        ({"target": "size", "ignore": ["nam"]}, "t.csv: ignore: no column 'nam'. Did you mean 'name'?"),
        ({"target": "size", "inputs": ["size"]}, "t.csv: inputs: 'size' stands under 'target' as well"),
        ({"target": ["size", "size"]}, "t.csv: target: 'size' stands under 'target' as well"),
        ({"target": "size", "ignore": ["number", "rooms", "name"]}, "t.csv: no column is left to predict from"),
        ({"target": ["size", "name"], "task": "classification"}, "t.csv: target: 2 columns for classes. Name one"),
        ({"target": "size"}, "t.csv: line 2, column 'name': 'house 0' is not a number. Encode it as one, or leave"),
        ({"target": "name"}, "'house 0' is not a number. Encode it as one, or set 'task' to classification"),
        ({"target": "name", "task": "classification"}, "t.csv: class 'house 0' has one row, which cannot be split"),
        ({"target": "size", "ignore": ["name"], "test": "no.csv"}, "no.csv: no such file"),
        ({"target": "size", "path": "no.csv"}, "no.csv: no such file. Set 'path' to your table"),
    ],
)
def test_settings_that_do_not_fit_the_table_are_answered_in_one_line(settings: dict[str, Any], says: str) -> None:
    write(HOUSES)
    refused(says, **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"task": "clustering"}, "mine.task: input should be 'regression' or 'classification', found 'clustering'"),
        ({"test_fraction": 1}, "mine.test_fraction: .*less than 1, found 1"),
        ({"separator": ",,"}, "mine.separator: .*pattern.* found ',,'"),
        ({"taget": "size"}, "mine: unknown parameter 'taget'. Did you mean 'target'?"),
    ],
)
def test_wrong_settings_are_refused_without_a_look_at_the_table(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        params(**settings)


def test_one_class_is_not_enough() -> None:
    flowers(["1,2,rose", "2,3,rose"])
    refused("t.csv: only one class, 'rose'. Add rows of a second one", target="kind", task="classification")


def test_one_row_can_be_neither_split_nor_learnt_from() -> None:
    write(["1,2"], "x,y")
    refused("t.csv: one row cannot be split. Add rows, or set 'test'", target="y")
    write(["1,2", "3,4"], "x,y")
    refused("t.csv: only one row is left to train on. Add rows, or lower 'test_fraction'", target="y")


def test_a_column_that_never_changes_in_training_is_named() -> None:
    write([f"{i},7.5,{i}" for i in range(4)], "x,same,y")
    refused(
        "t.csv: column 'same' is 7.5 in all 3 training rows, in single precision. Put it under 'ignore'", target="y"
    )
    refused("t.csv: target 'same' is 7.5 in all 3 training rows. Name another target", target="same")
    assert read(target="y", ignore=["same"]).shape == (1,)


def test_a_number_beyond_single_precision_is_named() -> None:
    write(["1,2", "1e39,3"], "x,y")
    refused(r"t.csv: line 3, column 'x': 1e\+39 is too large for single precision. Scale the column", target="y")


def test_large_numbers_with_small_differences_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    write([f"{1_700_000_000 + i},{i},{i}" for i in range(0, 1000, 10)], "second,x,y")
    with caplog.at_level(logging.WARNING):
        read(target="y")
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith("t.csv: column 'second': single precision rounds it by up to ")
    assert said.endswith(f"deviate by {np.arange(0, 1000, 10).std():.2g}. Subtract a constant.")


@pytest.mark.parametrize("fraction", [0.001, 0.2, 0.5, 0.75])
def test_what_is_counted_before_reading_is_what_reading_gives(fraction: float) -> None:
    write(HOUSES)
    chosen = {"target": "size", "ignore": ["name"], "test_fraction": fraction}
    assert csv.smallest_class(params(**chosen)) == len(read(**chosen).train)
    flowers()
    chosen = {"target": "kind", "task": "classification", "test_fraction": fraction}
    assert csv.smallest_class(params(**chosen)) == min(torch.bincount(read(**chosen).train.targets).tolist())


def test_with_a_file_of_test_rows_all_rows_count() -> None:
    flowers()
    flowers(FLOWERS[:2], "test.csv")
    assert csv.smallest_class(params(target="kind", task="classification", test="test.csv")) == 5
    assert csv.smallest_class(params(target="length", test="test.csv")) == 20


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        (["1,2,rose"], {"target": "kind", "task": "classification"}, "only one class"),
        (["1,2,rose", "1,2,tulip"], {"target": "kind", "task": "classification"}, "class 'rose' has one row"),
        (["1,2,rose", "1,2"], {"target": "length"}, "line 3: 2 fields"),
        (["1,2,rose"], {"target": "lenght"}, "no column 'lenght'"),
        ([], {"target": "length"}, "no rows below the header"),
    ],
)
def test_counting_refuses_what_needs_no_numbers_to_see(rows: list[str], settings: dict[str, Any], says: str) -> None:
    flowers(rows)
    with pytest.raises(UserError, match=says):
        csv.smallest_class(params(**settings))


def test_a_workflow_is_told_the_files_and_the_task() -> None:
    assert csv.files(params()) == [Path("t.csv")]
    assert csv.files(params(test="u.csv")) == [Path("t.csv"), Path("u.csv")]
    assert csv.task(params()) == "regression"
    assert csv.task(params(task="classification")) == "classification"
