from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.teacher import Teacher


def teacher(**changes: Any) -> Teacher:
    content = {
        "model": {"kind": "ridge", "features": {"kind": "identity"}, "ridge": {"first": -3.0}},
        "seed": 5,
        "weights": {"weights": torch.arange(6.0, dtype=torch.float64).reshape(3, 2), "bias": torch.ones(2)},
        "space": {"kind": "zca", "mean": [0.5], "scale": 1.0, "vectors": torch.eye(3), "values": torch.ones(3)},
        "data": {"name": "toy", "fingerprint": "f", "order": "o"},
        "notes": {"ridge": 0.1, "validation_accuracy": [0.5, 0.75]},
        "recipe": {"seed": 5},
    }
    return Teacher(**{**content, **changes})


def test_a_teacher_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = teacher()
    written.save(tmp_path / "teacher")
    read = Teacher.load(tmp_path / "teacher")
    for name in ("model", "seed", "data", "notes", "recipe"):
        assert getattr(read, name) == getattr(written, name)
    for name in ("weights", "space"):
        found, wanted = getattr(read, name), getattr(written, name)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            same = torch.equal(found[key], value) if isinstance(value, torch.Tensor) else found[key] == value
            assert same, key
    assert read.weights["weights"].dtype == torch.float64


def test_equal_teachers_give_equal_bytes(tmp_path: Path) -> None:
    first = teacher()
    first.save(tmp_path / "first")
    teacher(space=dict(reversed(first.space.items())), notes=dict(reversed(first.notes.items()))).save(
        tmp_path / "turned"
    )
    Teacher.load(tmp_path / "first").save(tmp_path / "again")
    assert (tmp_path / "first").read_bytes() == (tmp_path / "turned").read_bytes() == (tmp_path / "again").read_bytes()


def test_teachers_that_differ_in_one_weight_differ_in_bytes(tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in teacher().weights.items()}
    weights["weights"][2, 1] += 1e-15 * 5
    assert not torch.equal(weights["weights"], teacher().weights["weights"])
    teacher().save(tmp_path / "one")
    teacher(weights=weights).save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.1, 0.8, 0.999])
def test_a_teacher_cut_short_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "teacher"
    teacher().save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UserError, match=r"teacher: not a complete safetensors file"):
        Teacher.load(path)


def test_a_teacher_whose_weights_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "teacher"
    teacher().save(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 128
    path.write_bytes(content)
    with pytest.raises(UserError, match="its content was changed after it was written"):
        Teacher.load(path)
