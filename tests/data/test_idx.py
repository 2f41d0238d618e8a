import gzip
import struct

import numpy as np
import pytest

from stillhouse.data import idx
from stillhouse.errors import UserError

VALUES = np.arange(24, dtype=np.uint8)
PLAIN = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 4) + VALUES.tobytes()


@pytest.mark.parametrize("content", [PLAIN, gzip.compress(PLAIN)], ids=["plain", "gzip"])
def test_the_values_of_a_file_are_read_in_its_shape(tmp_path, content):
    path = tmp_path / "images"
    path.write_bytes(content)
    np.testing.assert_array_equal(idx.read(path, (2, 3, 4)), VALUES.reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(PLAIN)[:-10], "cut short or damaged"),
        (gzip.compress(PLAIN)[:-8] + bytes(8), "cut short or damaged"),
        (PLAIN[:-1], "holds 23 values after its header, which announces 24"),
        (PLAIN + b"x", "holds more values"),
        (b"", "not an idx file of 2 x 3 x 4 bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 2, 4, 3) + VALUES.tobytes(), "not an idx file of 2 x 3 x 4 bytes"),
        (struct.pack(">HBB3I", 0, 13, 3, 2, 3, 4) + VALUES.tobytes(), "not an idx file of 2 x 3 x 4 bytes"),
        (struct.pack(">HBB2I", 0, 8, 2, 2, 12) + VALUES.tobytes(), "not an idx file of 2 x 3 x 4 bytes"),
        (b"<html>log in</html>", "not an idx file"),
    ],
    ids=["cut gzip", "bad gzip", "short", "long", "empty", "other lengths", "floats", "other axes", "html"],
)
def test_any_other_file_is_refused_by_name_with_what_to_do(tmp_path, content, says):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"images.gz: .*{says}.* Delete it or replace it"):
        idx.read(path, (2, 3, 4))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="images.gz: cannot be read: No such file"):
        idx.read(tmp_path / "images.gz", (1,))


def test_no_more_is_unpacked_than_announced(tmp_path, monkeypatch):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(PLAIN + bytes(50_000_000), 1))
    asked = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(UserError, match="holds more values"):
        idx.read(path, (2, 3, 4))
    assert asked == [len(PLAIN) + 1]


def test_a_split_has_one_channel_and_integer_labels(tmp_path):
    (tmp_path / "x").write_bytes(PLAIN)
    (tmp_path / "y").write_bytes(struct.pack(">HBBI", 0, 8, 1, 2) + b"\x07\x01")
    split = idx.read_split(tmp_path / "x", tmp_path / "y", 2, (1, 3, 4))
    assert split.inputs.shape == (2, 1, 3, 4)
    assert split.targets.tolist() == [7, 1]
