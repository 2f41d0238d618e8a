import numpy as np
import pytest

from stillhouse.data import cifar10, fetch
from stillhouse.errors import UserError


@pytest.fixture
def small(archive, tmp_path, monkeypatch):
    """A mirror with an archive of one random image per class in each split; counts go with it."""
    rng = np.random.default_rng(0)
    members = {
        name: b"".join(bytes([label]) + rng.bytes(3072) for label in labels)
        for name, labels in zip(cifar10.LAYOUT.train, [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)], strict=True)
    }
    members[cifar10.LAYOUT.test[0]] = b"".join(bytes([label]) + rng.bytes(3072) for label in range(10))
    members[cifar10.LAYOUT.names] = "\n".join(cifar10.CLASSES).encode()
    archive(tmp_path / cifar10.FILES[0].wanted, members)
    monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
    monkeypatch.setattr(cifar10, "COUNTS", ((1,) * 10, (1,) * 10))


def test_an_archive_of_the_right_form_with_other_images_is_refused(small, tmp_path):
    with pytest.raises(UserError, match="cifar10: images or labels in .*/cifar-10 differ from the official ones"):
        cifar10.read(cifar10.Params(), tmp_path)


def test_the_classes_come_in_the_order_of_their_labels(small, tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "FINGERPRINT", None)
    monkeypatch.setattr(cifar10, "ORDER", None)
    real = cifar10.read(cifar10.Params(), tmp_path)
    assert real.classes[3] == "cat"
    assert real.train.targets.tolist() == list(range(10))
    assert real.shape == cifar10.SHAPE


def test_the_official_data_are_accepted_in_their_order(official, tmp_path, caplog):
    official(cifar10.FILES)
    real = cifar10.read(cifar10.Params(), tmp_path)
    assert (real.fingerprint, real.order) == (cifar10.FINGERPRINT, cifar10.ORDER)
    assert [real.classes[label] for label in real.train.targets[:3]] == ["frog", "truck", "truck"]
    assert not caplog.records
