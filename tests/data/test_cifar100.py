import hashlib
import logging

import numpy as np
import pytest

from stillhouse.data import cifar100, fetch
from stillhouse.errors import UserError


@pytest.fixture
def small(archive, tmp_path, monkeypatch):
    """The path of an archive with one random image per class in each split, in a mirror; counts go with it."""
    rng = np.random.default_rng(0)
    members = {
        name: b"".join(bytes([0, label]) + rng.bytes(3072) for label in range(100))
        for name in cifar100.LAYOUT.train + cifar100.LAYOUT.test
    }
    members[cifar100.LAYOUT.names] = "\n".join(cifar100.CLASSES).encode()
    monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
    monkeypatch.setattr(cifar100, "COUNTS", ((1,) * 100, (1,) * 100))
    return archive(tmp_path / cifar100.FILES[0].wanted, members)


def test_an_archive_of_the_right_form_with_other_images_is_refused(small, tmp_path):
    with pytest.raises(UserError, match="cifar100: images or labels in .*/cifar-100 differ from the official ones"):
        cifar100.read(cifar100.Params(), tmp_path)


def test_the_fine_label_is_the_one_that_counts(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar100, "FINGERPRINT", None)
    assert cifar100.read(cifar100.Params(), tmp_path).train.targets.tolist() == list(range(100))


def test_a_copy_that_is_not_the_official_archive_is_said_once_to_differ_in_order(small, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cifar100, "FINGERPRINT", None)
    with caplog.at_level(logging.WARNING):
        real = cifar100.read(cifar100.Params(), tmp_path)
    assert caplog.text.count("their order may differ") == 1
    assert real.order[:12] in caplog.text


def test_the_official_archive_is_in_the_official_order(small, tmp_path, monkeypatch, caplog):
    checksum = "md5:" + hashlib.md5(small.read_bytes()).hexdigest()
    file = fetch.RemoteFile("cifar-100-binary.tar.gz", "cifar-100", (), checksum)
    monkeypatch.setattr(cifar100, "FILES", (file,))
    monkeypatch.setattr(cifar100, "FINGERPRINT", None)
    cifar100.read(cifar100.Params(), tmp_path)
    assert not caplog.records


def test_the_official_data_are_accepted_in_any_order(official, tmp_path):
    official(cifar100.FILES)
    real = cifar100.read(cifar100.Params(), tmp_path)
    assert real.fingerprint == cifar100.FINGERPRINT
    assert (real.n_classes, real.classes[0], real.classes[99]) == (100, "apple", "worm")
