from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import artifact
from stillhouse.errors import NumericalError, UserError
from stillhouse.sets import DistilledSet, RealSet, Split, pixels, recipe_id


def distilled(**changes: Any) -> DistilledSet:
    rng = torch.Generator().manual_seed(0)
    content = {
        "inputs": torch.randn(4, 1, 2, 3, generator=rng),
        "targets": torch.randn(4, 2, generator=rng, dtype=torch.float64),
        "classes": ("ant", "bee"),
        "space": {
            "kind": "zca", "mean": [0.5], "std": [0.25], "per_image": False, "scale": 1.0,
            "vectors": torch.eye(6), "values": torch.full((6,), 4.0),
        },
        "model": {"kind": "ridge", "features": {"kind": "identity"}, "seed": 3},
        "schedule": {"ridge": 0.0},
        "recipe": {"dataset": "toy", "experiment": "exact", "seed": 3, "per_class": 2},
        "certificate": {"error_images": 1e-12, "exact": True},
    }  # fmt: skip
    return DistilledSet(**{**content, **changes})


def test_a_distilled_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = distilled()
    written.save(tmp_path / "set")
    read = DistilledSet.load(tmp_path / "set")
    for name in ("inputs", "targets"):
        assert getattr(read, name).dtype == getattr(written, name).dtype
        assert torch.equal(getattr(read, name), getattr(written, name))
    for name in ("classes", "model", "schedule", "recipe", "certificate"):
        assert getattr(read, name) == getattr(written, name)
    assert read.space.keys() == written.space.keys()
    assert all(torch.equal(torch.as_tensor(read.space[k]), torch.as_tensor(v))
               for k, v in written.space.items() if k != "kind")  # fmt: skip
    assert read.space["kind"] == "zca"


def test_a_set_without_extras_is_read_as_it_was_written(tmp_path: Path) -> None:
    DistilledSet(torch.zeros(2, 3), torch.eye(2), ("ant", "bee")).save(tmp_path / "set")
    read = DistilledSet.load(tmp_path / "set")
    assert (read.space, read.model, read.schedule, read.recipe, read.certificate) == (
        {"kind": "pixels"},
        None,
        {},
        {},
        None,
    )


def test_equal_sets_give_equal_bytes(tmp_path: Path) -> None:
    first = distilled()
    turned = {
        field.name: dict(reversed(value.items())) if isinstance(value := getattr(first, field.name), dict) else value
        for field in fields(first)
    }
    first.save(tmp_path / "first")
    DistilledSet(**turned).save(tmp_path / "turned")
    DistilledSet.load(tmp_path / "first").save(tmp_path / "again")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "turned").read_bytes()
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("part", ["schedule", "recipe", "model", "certificate"])
def test_sets_that_differ_in_their_header_differ_in_bytes(tmp_path: Path, part: str) -> None:
    distilled().save(tmp_path / "one")
    distilled(**{part: {"kind": "another"}}).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.005, 0.2, 0.7, 0.99])
def test_a_set_cut_short_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "set"
    distilled().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(
        UserError, match=r"not a complete safetensors file .*Make it again or pull it again\."
    ) as caught:
        DistilledSet.load(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("old", "new"), [(b'\\"bee\\"', b'\\"eel\\"'), (b"1e-12", b"1e-13"), (b'\\"seed\\": 3}', b'\\"seed\\": 9}')]
)
def test_an_edited_header_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "set"
    distilled().save(path)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match="its content was changed after it was written"):
        DistilledSet.load(path)


def test_another_kind_of_file_is_refused(tmp_path: Path, toy: RealSet) -> None:
    toy.save(tmp_path / "real")
    distilled().save(tmp_path / "set")
    with pytest.raises(UserError, match=r"real: holds a real set; expected a distilled set\.$"):
        DistilledSet.load(tmp_path / "real")
    with pytest.raises(UserError, match=r"set: holds a distilled set; expected a real set\.$"):
        RealSet.load(tmp_path / "set")


def test_a_set_of_a_later_format_asks_for_an_update(tmp_path: Path) -> None:
    distilled().save(tmp_path / "set")
    tensors, header = artifact.read(tmp_path / "set", "distilled set")
    artifact.write(tmp_path / "set", "distilled set", tensors, {**header, "format": 99})
    with pytest.raises(UserError, match=r"format 99, this version reads 1\. Update stillhouse\."):
        DistilledSet.load(tmp_path / "set")


def test_class_names_that_do_not_go_with_the_targets_are_refused(tmp_path: Path) -> None:
    distilled(classes=("ant", "bee", "cat")).save(tmp_path / "set")
    with pytest.raises(UserError, match=r"set: 3 names of classes or outputs for 2 target columns\.$"):
        DistilledSet.load(tmp_path / "set")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_numbers_that_must_not_be_are_refused(part: str, bad: float) -> None:
    tensor = getattr(distilled(), part).clone()
    tensor.view(-1)[1] = bad
    with pytest.raises(
        NumericalError, match=rf"^1 of {tensor.numel()} {part} of the distilled set are NaN or infinite$"
    ):
        distilled(**{part: tensor})


@pytest.mark.parametrize("targets", [torch.zeros(3, 2), torch.zeros(4)])
def test_targets_that_do_not_go_with_the_inputs_are_refused(targets: torch.Tensor) -> None:
    with pytest.raises(NumericalError, match="do not go with"):
        distilled(targets=targets)


def test_the_label_of_an_example_is_its_largest_target() -> None:
    targets = torch.tensor([[0.9, 0.1], [-2.0, -1.0], [0.0, 3.0], [0.2, 0.1]])
    assert distilled(targets=targets).labels.tolist() == [0, 1, 1, 0]


def test_pictures_undo_the_space() -> None:
    inputs = torch.tensor([[[[0.0, 1.0]]], [[[-1.0, 2.0]]]])
    made = DistilledSet(inputs, torch.eye(2), ("ant", "bee"), {"kind": "standardised", "mean": [0.5], "std": [0.25]})
    torch.testing.assert_close(made.pictures(), torch.tensor([[[[0.5, 0.75]]], [[[0.25, 1.0]]]]))
    assert made.pictures().dtype == torch.float32


def test_a_set_is_called_by_its_data_set_and_experiment() -> None:
    assert distilled().name == "toy/exact"


def test_a_recipe_is_named_by_its_content_and_not_its_order() -> None:
    recipe = {"seed": 0, "method": {"kind": "krr_exact", "noise": 0.1}}
    assert recipe_id(recipe) == recipe_id({"method": {"noise": 0.1, "kind": "krr_exact"}, "seed": 0})
    assert recipe_id(recipe) != recipe_id({**recipe, "seed": 1})
    assert len(recipe_id(recipe)) == 12


def test_a_real_set_is_read_as_it_was_written(tmp_path: Path, toy: RealSet) -> None:
    toy.save(tmp_path / "real")
    read = RealSet.load(tmp_path / "real")
    for split in ("train", "test"):
        assert torch.equal(getattr(read, split).inputs, getattr(toy, split).inputs)
        assert torch.equal(getattr(read, split).targets, getattr(toy, split).targets)
        assert getattr(read, split).inputs.dtype == torch.uint8
    for name in ("name", "classes", "fingerprint", "order", "shape", "dim", "n_classes"):
        assert getattr(read, name) == getattr(toy, name)
    assert (toy.shape, toy.dim, toy.n_classes) == ((1, 4, 4), 16, 3)


def test_equal_real_sets_give_equal_bytes(tmp_path: Path, toy: RealSet) -> None:
    toy.save(tmp_path / "one")
    replace(toy).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
def test_a_real_set_is_memory_mapped(tmp_path: Path, toy: RealSet) -> None:
    path = tmp_path / "mapped.safetensors"
    toy.save(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    read = RealSet.load(path)
    mapped = [line.split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    ranges = [(int(start, 16), int(rest.split()[0], 16)) for start, rest in ((each[0], each[1]) for each in mapped)]
    assert any(start <= read.train.inputs.data_ptr() < end for start, end in ranges)


def test_a_real_set_cut_short_is_refused(tmp_path: Path, toy: RealSet) -> None:
    path = tmp_path / "real"
    toy.save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"real: not a complete safetensors file"):
        RealSet.load(path)


def test_positions_are_those_of_one_class_ascending(toy: RealSet) -> None:
    assert toy.positions(1).tolist() == list(range(1, 60, 3))


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_chunks_are_bounded_and_join_to_the_whole(toy: RealSet, size: int) -> None:
    chunks = list(toy.train.chunks(size))
    assert all(len(inputs) == len(targets) <= size for inputs, targets in chunks)
    assert len(chunks) == -(-60 // size)
    assert torch.equal(torch.cat([inputs for inputs, _ in chunks]), toy.train.inputs.to(torch.float32) / 255)
    assert torch.equal(torch.cat([targets for _, targets in chunks]), toy.train.targets)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_chunks_of_a_part_hold_that_part_in_order(toy: RealSet, size: int) -> None:
    part = torch.tensor([0, 3, 4, 11, 59])
    chunks = list(toy.train.chunks(size, part))
    assert max(len(inputs) for inputs, _ in chunks) <= size
    assert torch.equal(torch.cat([inputs for inputs, _ in chunks]), pixels(toy.train.inputs[part]))
    assert torch.equal(torch.cat([targets for _, targets in chunks]), toy.train.targets[part])


def test_bytes_become_pixels_of_zero_to_one_and_floats_stay() -> None:
    assert pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx([0, 0.2, 1])
    floats = torch.tensor([-1.5, 3.0], dtype=torch.float64)
    assert pixels(floats).tolist() == [-1.5, 3.0]
    assert pixels(floats).dtype == torch.float32


def test_an_empty_split_has_no_chunks() -> None:
    assert list(Split(torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64)).chunks(3)) == []


def test_values_are_standardised_by_the_training_split_and_given_back_exactly(table: RealSet) -> None:
    rows = table.target_rows(table.train.targets)
    torch.testing.assert_close(rows.mean(0), torch.zeros(1, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(1, dtype=torch.float64))
    values = DistilledSet.of(table, table.train.inputs, rows).values
    torch.testing.assert_close(values, table.train.targets, rtol=1e-14, atol=0)
    read = table.target_rows(table.test.targets)  # by the mean and deviation of the training split, not its own
    assert abs(float(read.mean())) > 1e-3


def test_a_regression_set_is_read_as_it_was_written(table: RealSet, tmp_path: Path) -> None:
    table.save(tmp_path / "real")
    read = RealSet.load(tmp_path / "real")
    assert (read.outputs, read.classes, read.width, read.regression) == (("value",), (), 1, True)
    assert torch.equal(read.train.targets, table.train.targets)
    made = DistilledSet.of(read, table.train.inputs[:3], read.target_rows(read.train.targets[:3]))
    made.save(tmp_path / "set")
    again = DistilledSet.load(tmp_path / "set")
    assert torch.equal(again.values, made.values)
    assert again.outputs == ("value",)


def test_rows_of_another_standard_are_brought_to_that_of_the_real_set(table: RealSet) -> None:
    rows = table.target_rows(table.train.targets[:5])
    own = {"kind": "standardised", "mean": [10.0], "std": [4.0]}
    made = replace(DistilledSet.of(table, table.train.inputs[:5], rows), target_space=own)
    wanted = (10 + 4 * rows - table.target_space.mean) / table.target_space.std
    torch.testing.assert_close(made.target_rows(table), wanted)


def test_classes_and_values_are_not_taken_for_one_another(table: RealSet, toy: RealSet) -> None:
    made = DistilledSet.of(table, table.train.inputs[:2], table.target_rows(table.train.targets[:2]))
    with pytest.raises(UserError, match="has values and no classes"):
        _ = made.labels
    with pytest.raises(UserError, match="has no values"):
        _ = distilled().values


def test_a_value_that_never_changes_is_named(table: RealSet) -> None:
    both = torch.cat([table.train.targets, torch.full((60, 1), 7.0, dtype=torch.float64)], 1)
    constant = replace(table, train=Split(table.train.inputs, both), outputs=("value", "seven"))
    with pytest.raises(NumericalError, match="output 'seven' is the same for all"):
        _ = constant.target_space


def test_merit_counts_right_classes_and_takes_squared_errors_from_one(table: RealSet, toy: RealSet) -> None:
    scores = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert toy.merit(scores, torch.tensor([0, 1, 1])) == 2
    targets = table.train.targets[:4]
    rows = table.target_rows(targets)
    assert table.merit(rows, targets) == 4
    assert table.merit(rows + 0.5, targets) == pytest.approx(3.0)
    assert table.merit(torch.zeros(60, 1), table.train.targets) == pytest.approx(
        0, abs=1e-9
    )  # the mean explains nothing


def test_a_set_is_per_class_times_classes_or_per_class_of_values(table: RealSet, toy: RealSet) -> None:
    assert (toy.size(4), table.size(4)) == (12, 4)
