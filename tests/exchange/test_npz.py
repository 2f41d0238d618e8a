from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.exchange import npz
from stillhouse.sets import DistilledSet


def test_images_of_kip_have_their_channels_last(tmp_path: Path) -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros((2, 3)))
    found = npz.read_kip(tmp_path / "a.npz")
    assert found.images.shape == (2, 3, 4, 5)
    assert found.images[1, 2, 3, 4] == images[1, 3, 4, 2]
    assert found.centred


def test_images_of_rfad_have_their_channels_first_and_numbers_are_noted(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros((2, 3)), jit=0.005, k=np.array(1.5), valid_loss=1.25)
    found = npz.read_rfad(tmp_path / "a.npz")
    torch.testing.assert_close(found.images, torch.from_numpy(images), rtol=0, atol=0)
    assert found.notes == {"jit": 0.005, "k": 1.5, "valid_loss": 1.25}
    assert found.centred


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"labels": np.zeros((2, 3))}, "'images' is missing; it has labels"),
        ({"images": np.zeros((2, 4, 4, 1))}, "'labels' is missing; it has images"),
        ({"images": np.zeros((2, 16)), "labels": np.zeros((2, 3))}, r"images \(2, 16\), expected \(m, height, width"),
        ({"images": np.array(["a"]), "labels": np.zeros((2, 3))}, "'images' holds <U1, expected numbers"),
        ({}, "it has nothing"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], text: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=text):
        npz.read_kip(tmp_path / "a.npz")


def test_an_array_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.array([{"a": 1}], dtype=object), labels=np.zeros((2, 3)))
    with pytest.raises(UserError, match="a.npz: cannot be read as arrays .*save them as numbers"):
        npz.read_kip(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="a.npz: cannot be read as arrays") as problem:
        npz.read_rfad(tmp_path / "a.npz")
    assert "\n" not in str(problem.value)


def test_one_array_or_an_index_or_no_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="one array without a name"):
        npz.read_kip(tmp_path / "a.npy")
    with pytest.raises(UserError, match="--index"):
        npz.read_kip(tmp_path / "a.npy", 0)
    with pytest.raises(UserError, match="b.npz: no such file"):
        npz.read_kip(tmp_path / "b.npz")


def test_numbers_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    images = np.arange(16, dtype=">f4").reshape(1, 1, 4, 4)
    np.savez(tmp_path / "a.npz", images=images, labels=np.zeros((1, 3), dtype=">f8"))
    assert npz.read_rfad(tmp_path / "a.npz").images.flatten().tolist() == list(range(16))


def test_an_export_is_read_by_numpy_alone(tmp_path: Path, made: DistilledSet) -> None:
    npz.write_npz(made, tmp_path / "set.npz")
    with np.load(tmp_path / "set.npz") as archive:
        np.testing.assert_array_equal(archive["images"], made.inputs.numpy())
        np.testing.assert_array_equal(archive["labels"], made.targets.numpy())


def test_equal_sets_give_equal_bytes(tmp_path: Path, made: DistilledSet) -> None:
    for name in ("a.npz", "b.npz"):
        npz.write_npz(made, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_that_export_did_not_write_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 1, 4, 4)), labels=np.zeros((2, 3)))
    with pytest.raises(UserError, match="'manifest' is missing, so export did not write it"):
        npz.read_npz(tmp_path / "a.npz")
    for text, said in (
        ("{", "not what export writes"),
        ('{"format": 0}', "another version"),
        ('{"format": 1}', "'classes'"),
    ):
        np.savez(tmp_path / "a.npz", images=np.zeros((2, 1, 4, 4)), labels=np.zeros((2, 3)), manifest=np.array(text))
        with pytest.raises(UserError, match=said):
            npz.read_npz(tmp_path / "a.npz")
