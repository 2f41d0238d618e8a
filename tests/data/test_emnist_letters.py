import gzip
import math
import struct

import pytest
import torch

from stillhouse.data import emnist_letters, fetch
from stillhouse.errors import UserError


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Writes both files: 26 letters in order, 8 images each, with pixels and labels that may be changed."""

    def write(change=lambda pixels, labels: None):
        pixels, labels = torch.zeros(208, 28, 28, dtype=torch.uint8), torch.arange(208) // 8 + 1
        pixels[:, 0, 0] = torch.arange(208)
        change(pixels, labels)
        for file, values in zip(emnist_letters.FILES, (pixels, labels.to(torch.uint8)), strict=True):
            path = tmp_path / file.wanted
            path.parent.mkdir(exist_ok=True)
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            path.write_bytes(gzip.compress(header + bytes(values.numpy().tobytes()), 1))
        monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
        monkeypatch.setattr(emnist_letters, "COUNTS", ((7,) * 26, (1,) * 26))

    return write


def test_the_official_files_are_accepted(official, tmp_path):
    official(emnist_letters.FILES)
    real = emnist_letters.read(emnist_letters.Params(), tmp_path)
    assert real.fingerprint == emnist_letters.FINGERPRINT
    assert (real.shape, len(real.train), len(real.test)) == (emnist_letters.SHAPE, 18200, 2600)


def test_letters_of_the_official_files_stand_upright(official, tmp_path):
    """The bar of a T is above its middle, the foot of an L below it."""
    official(emnist_letters.FILES)
    real = emnist_letters.read(emnist_letters.Params(), tmp_path)
    rows = {
        name: real.train.inputs[real.positions(ord(name) - ord("a"))].sum(3, dtype=torch.float64).mean((0, 1))
        for name in "tu"
    }
    place = torch.arange(28) - 13.5
    widest = {name: float(place[of.argmax()]) for name, of in rows.items()}
    assert widest["t"] < 0 < widest["u"]


def test_rows_and_columns_are_exchanged_back(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(emnist_letters, "FINGERPRINT", None)
    publish(lambda pixels, labels: pixels[:, 3, 20:25].fill_(255))
    real = emnist_letters.read(emnist_letters.Params(), tmp_path)
    lit = (real.train.inputs == 255).nonzero()
    assert set(lit[:, 3].tolist()) == {3}
    assert set(lit[:, 2].tolist()) == {20, 21, 22, 23, 24}
    assert real.train.inputs.is_contiguous()


def test_every_eighth_image_is_for_testing_and_labels_begin_at_0(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(emnist_letters, "FINGERPRINT", None)
    publish()
    real = emnist_letters.read(emnist_letters.Params(), tmp_path)
    assert real.test.inputs[:, 0, 0, 0].tolist() == list(range(7, 208, 8))
    assert real.test.targets.tolist() == list(range(26))
    assert sorted({*real.train.inputs[:, 0, 0, 0].tolist(), *real.test.inputs[:, 0, 0, 0].tolist()}) == list(range(208))
    assert (real.classes[0], real.classes[-1]) == ("a", "z")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda pixels, labels: None, "emnist_letters: images or labels in .*/emnist-letters differ from the official"),
        (lambda pixels, labels: labels.sub_(1), "labels-idx1-ubyte.gz: labels are not from 1 to 26. Delete it"),
        (lambda pixels, labels: labels.add_(1), "emnist_letters: training label 26 in .*, of 26 classes"),
    ],
)
def test_other_data_of_the_same_form_are_refused(change, says, publish, tmp_path):
    publish(change)
    with pytest.raises(UserError, match=says):
        emnist_letters.read(emnist_letters.Params(), tmp_path)


def test_files_of_another_length_are_named(publish, tmp_path, monkeypatch):
    publish()
    monkeypatch.setattr(emnist_letters, "COUNTS", ((6,) * 26, (1,) * 26))
    with pytest.raises(
        UserError, match=f"images-idx3-ubyte.gz: not an idx file of {math.prod((26, 7))} x 28 x 28 bytes"
    ):
        emnist_letters.read(emnist_letters.Params(), tmp_path)
