import math
import struct
from pathlib import Path

import pytest

from stillhouse.data import fashion_mnist, fetch
from stillhouse.errors import UserError


def test_the_official_files_are_accepted(official, tmp_path):
    official(fashion_mnist.FILES)
    real = fashion_mnist.read(fashion_mnist.Params(), tmp_path)
    assert (real.fingerprint, real.order) == (fashion_mnist.FINGERPRINT, fashion_mnist.ORDER)
    assert [real.classes[label] for label in real.train.targets[:3]] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]


def test_other_images_of_the_same_form_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "COUNTS", ((1, 1, *[0] * 8), (1, 0, *[0] * 8)))
    for file, shape in zip(fashion_mnist.FILES, [(2, 28, 28), (2,), (1, 28, 28), (1,)], strict=True):
        path = Path("mirror", file.wanted)
        path.parent.mkdir(parents=True, exist_ok=True)
        header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
        path.write_bytes(header + bytes(i % 2 for i in range(math.prod(shape))))
    monkeypatch.setenv(fetch.MIRROR, "mirror")
    with pytest.raises(UserError, match="fashion_mnist: images or labels in mirror/fashion-mnist differ"):
        fashion_mnist.read(fashion_mnist.Params(), tmp_path)


def test_without_network_and_mirror_one_line_names_its_four_files(tmp_path, monkeypatch):
    names = {file.name: file.checksum for file in fashion_mnist.FILES}
    files = fetch.remote_files("fashion-mnist", ["http://127.0.0.1:9/"], names)
    monkeypatch.setattr(fashion_mnist, "FILES", files)
    with pytest.raises(UserError) as caught:
        fashion_mnist.read(fashion_mnist.Params(), tmp_path)
    assert "\n" not in str(caught.value)
    assert all(file.wanted in str(caught.value) for file in files)
    assert "STILLHOUSE_MIRROR" in str(caught.value)
