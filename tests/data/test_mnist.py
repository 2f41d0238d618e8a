"""The real data, from the repository's own copy."""

import gzip
import logging
import shutil

import pytest
import torch

from stillhouse.data import fetch, mnist
from stillhouse.errors import UserError


@pytest.fixture(scope="module")
def real(repository):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(fetch.MIRROR, raising=False)
        patch.setattr(fetch, "EMBEDDED", repository / "data" / "embedded")
        yield mnist.read(mnist.Params(), repository / "no-downloads")


@pytest.fixture
def mirror(repository, tmp_path, monkeypatch):
    """A mirror holding a copy of the four files, to be spoiled."""
    folder = tmp_path / "mirror"
    shutil.copytree(repository / "data" / "embedded" / "mnist", folder / "mnist")
    monkeypatch.setenv(fetch.MIRROR, str(folder))
    return folder / "mnist"


def rewrite(path, change):
    with gzip.open(path) as stream:
        content = bytearray(stream.read())
    path.write_bytes(gzip.compress(bytes(change(content)), 1))


def reversed_after(header, size):
    """Turns the order of the records of `size` bytes that follow the header."""

    def change(content):
        rows = [content[i : i + size] for i in range(header, len(content), size)]
        return content[:header] + b"".join(reversed(rows))

    return change


def test_the_embedded_files_are_the_official_ones_bit_for_bit(repository):
    for file in mnist.FILES:
        assert fetch.matches(file, repository / "data" / "embedded" / file.wanted)


def test_it_has_the_official_fingerprint_order_and_splits(real):
    assert (real.fingerprint, real.order) == (mnist.FINGERPRINT, mnist.ORDER)
    assert (len(real.train), len(real.test), real.shape) == (60000, 10000, mnist.SHAPE)
    assert real.classes == tuple("0123456789")
    assert real.train.inputs.dtype == torch.uint8
    assert real.train.targets.dtype == torch.int64


def test_the_first_labels_are_those_everybody_knows(real):
    assert real.train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert real.test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_its_mean_and_deviation_are_the_published_ones(real):
    share = torch.bincount(real.train.inputs.flatten(), minlength=256) / real.train.inputs.numel()  # of each level
    levels = torch.arange(256) / 255
    mean = (share * levels).sum()
    assert mean.item() == pytest.approx(0.1307, abs=5e-5)
    assert (share * (levels - mean) ** 2).sum().sqrt().item() == pytest.approx(0.3081, abs=5e-5)


def test_a_reordered_copy_is_accepted_with_its_own_order(mirror, tmp_path, caplog):
    rewrite(mirror / "t10k-images-idx3-ubyte.gz", reversed_after(16, 784))
    rewrite(mirror / "t10k-labels-idx1-ubyte.gz", reversed_after(8, 1))
    with caplog.at_level(logging.WARNING):
        real = mnist.read(mnist.Params(), tmp_path)
    assert real.fingerprint == mnist.FINGERPRINT
    assert real.order != mnist.ORDER
    assert caplog.text.count("in another order") == 1


def test_one_flipped_pixel_is_refused(mirror, tmp_path):
    def flip(content):
        content[16 + 784 * 5000 + 400] ^= 1
        return content

    rewrite(mirror / "t10k-images-idx3-ubyte.gz", flip)
    with pytest.raises(UserError, match="mnist: images or labels in .*mirror/mnist differ from the official"):
        mnist.read(mnist.Params(), tmp_path)


def test_a_file_cut_short_is_named(mirror, tmp_path):
    path = mirror / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:1_000_000])
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz: cut short or damaged. Delete it"):
        mnist.read(mnist.Params(), tmp_path)


def test_files_of_the_wrong_split_are_named(mirror, tmp_path):
    shutil.copy(mirror / "t10k-labels-idx1-ubyte.gz", mirror / "train-labels-idx1-ubyte.gz")
    with pytest.raises(UserError, match="train-labels-idx1-ubyte.gz: not an idx file of 60000 bytes"):
        mnist.read(mnist.Params(), tmp_path)
