import io
import tarfile

import numpy as np
import pytest

from stillhouse.data import cifar_binary
from stillhouse.errors import UserError

LAYOUT = cifar_binary.Layout(train=("c/one.bin", "c/two.bin"), test=("c/test.bin",), names="c/names.txt", label_bytes=2)
CLASSES = ("cat", "dog")


def record(coarse, fine, grey):
    return bytes([coarse, fine]) + bytes([grey]) * 1024 + bytes([grey + 1]) * 1024 + bytes([grey + 2]) * 1024


MEMBERS = {
    "c/names.txt": b"cat\ndog\n\n",
    "c/test.bin": record(9, 1, 50),
    "c/two.bin": record(9, 0, 20) + record(9, 1, 30),
    "c/one.bin": record(9, 1, 0) + record(9, 0, 10),
}


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def read(path):
    return cifar_binary.read(path, LAYOUT, CLASSES, train=4, test=1)


def test_records_are_read_in_order_with_their_last_label_and_their_channels(archive, tmp_path):
    train, test = read(archive(tmp_path / "a.tar.gz", MEMBERS))
    assert train.targets.tolist() == [1, 0, 0, 1]
    assert train.inputs[:, :, 0, 0].tolist() == [[0, 1, 2], [10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert (test.targets.tolist(), test.inputs.shape) == ([1], (1, 3, 32, 32))


def test_pixels_go_row_by_row(archive, tmp_path):
    ramp = (np.arange(3072) % 251).astype(np.uint8)
    path = archive(tmp_path / "a.tar.gz", MEMBERS | {"c/test.bin": b"\0\1" + ramp.tobytes()})
    np.testing.assert_array_equal(read(path)[1].inputs[0].numpy(), ramp.reshape(3, 32, 32))


def test_names_may_begin_with_a_dot_and_the_archive_may_be_packed_otherwise(archive, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w:xz") as tar:
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert len(read(path)[0]) == 4


def test_a_hostile_archive_writes_nothing_and_its_own_files_are_still_read(archive, tmp_path):
    hostile = {
        "../escape.bin": b"x",
        "/tmp/stillhouse-escape.bin": b"x",
        "c": link("c", "/etc"),
        "c/one.bin ": link("c/one.bin", "/etc/passwd"),  # the name of a wanted member, as a link
    }
    path = archive(tmp_path / "in" / "a.tar.gz", hostile | MEMBERS)
    train, _ = read(path)
    assert train.targets.tolist() == [1, 0, 0, 1]
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.tar.gz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_is_no_substitute_for_a_member(archive, tmp_path, kind):
    members = MEMBERS | {"c/one.bin": link("c/one.bin", "c/two.bin", kind)}
    with pytest.raises(UserError, match="a.tar.gz: has no file c/one.bin. Delete it or replace it"):
        read(archive(tmp_path / "a.tar.gz", members))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"c/test.bin": MEMBERS["c/test.bin"][:-1]}, "its member c/test.bin is not 3074 bytes long"),
        ({"c/test.bin": MEMBERS["c/test.bin"] * 1000}, "its member c/test.bin is not 3074 bytes long"),
        ({"c/names.txt": b"dog\ncat\n"}, "c/names.txt lists other classes, or in another order"),
        ({"c/names.txt": b"\xff\xfe"}, "c/names.txt lists other classes"),
    ],
    ids=["short", "long", "class order", "not text"],
)
def test_a_wrong_member_is_named(archive, tmp_path, changes, says):
    with pytest.raises(UserError, match=f"a.tar.gz: .*{says}.* Delete it or replace it"):
        read(archive(tmp_path / "a.tar.gz", MEMBERS | changes))


def test_an_archive_cut_short_is_named(archive, tmp_path):
    path = archive(tmp_path / "a.tar.gz", MEMBERS | {"c/one.bin": np.random.default_rng(0).bytes(6148)})
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match="a.tar.gz: cut short or damaged"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>"])
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(UserError, match="a.tar.gz: cut short or damaged"):
        read(tmp_path / "a.tar.gz")
