import hashlib

import numpy as np
import pytest
import scipy.io

from stillhouse.data import fetch, svhn
from stillhouse.errors import UserError

LABELS = (10, 1, 2, 3, 4, 5, 6, 7, 8, 9)  # 10 means the digit 0
RNG = np.random.default_rng(0)


def mat(labels=LABELS, **changes):
    pixels = RNG.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
    return {"X": pixels, "y": np.array(labels, np.uint8).reshape(-1, 1)} | changes


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Writes a training and a test file into a mirror and declares their checksums the published ones."""

    def write(train, test):
        monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
        (tmp_path / "svhn").mkdir()
        checksums = {}
        for name, content in (("train_32x32.mat", train), ("test_32x32.mat", test)):
            path = tmp_path / "svhn" / name
            scipy.io.savemat(path, content)
            checksums[name] = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setattr(svhn, "FILES", fetch.remote_files("svhn", ["http://127.0.0.1:9/"], checksums, exact=True))
        monkeypatch.setattr(svhn, "COUNTS", ((1,) * 10, (1,) * 10))

    return write


def test_label_ten_is_the_digit_zero_and_axes_are_put_in_order(publish, tmp_path):
    train = mat()
    publish(train, mat())
    real = svhn.read(svhn.Params(), tmp_path)
    assert real.train.targets.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert real.shape == svhn.SHAPE
    assert real.train.inputs[4, 2, 10, 20] == train["X"][10, 20, 2, 4]


def test_a_file_without_the_published_md5_is_refused_even_from_a_mirror(publish, tmp_path):
    publish(mat(), mat())
    scipy.io.savemat(tmp_path / "svhn" / "test_32x32.mat", mat())
    with pytest.raises(UserError, match="test_32x32.mat: md5:.*, published is md5:.* Delete it or replace it"):
        svhn.read(svhn.Params(), tmp_path)


def test_other_class_counts_than_the_published_are_refused(publish, tmp_path):
    publish(mat(labels=[1, *LABELS[1:]]), mat())
    with pytest.raises(UserError, match="svhn: 0 training examples of class '0'"):
        svhn.read(svhn.Params(), tmp_path)


@pytest.mark.parametrize(
    "train",
    [
        {"y": np.ones((10, 1))},
        mat(X=np.zeros((32, 32, 3, 10))),
        mat(X=np.zeros((32, 32, 3, 9), np.uint8)),
        mat(X=np.zeros((3, 3), np.uint8)),
        mat(labels=[0, *LABELS[1:]]),
        mat(labels=[11, *LABELS[1:]]),
    ],
    ids=["no X", "floats", "other number", "other axes", "label 0", "label 11"],
)
def test_a_file_of_another_form_is_named(publish, tmp_path, train):
    publish(train, mat())
    with pytest.raises(UserError, match="train_32x32.mat: .* Delete it or replace it"):
        svhn.read(svhn.Params(), tmp_path)


def test_the_counts_are_the_published_ones():
    assert tuple(map(sum, svhn.COUNTS)) == (73257, 26032)


def test_the_official_files_are_accepted(official, tmp_path):
    official(svhn.FILES)
    real = svhn.read(svhn.Params(), tmp_path)
    assert (len(real.train), len(real.test)) == (73257, 26032)
