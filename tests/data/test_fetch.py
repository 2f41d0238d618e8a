import errno
import hashlib
import stat
import sys
import time
from pathlib import Path

import pytest

from stillhouse.data import fetch
from stillhouse.data.fetch import RemoteFile, obtain, obtain_all
from stillhouse.errors import UserError

CONTENT = bytes(range(256)) * 1000
CHECKSUM = "md5:" + hashlib.md5(CONTENT).hexdigest()
NOWHERE = "http://127.0.0.1:9/data.gz"  # the discard port: nothing listens there


def remote(*urls, checksum=CHECKSUM, exact=False):
    return RemoteFile("data.gz", "toy", urls, checksum, exact)


def parts(folder):
    return list(folder.rglob("*.part"))


def test_a_download_has_the_content_of_the_source_and_can_be_read_by_all(site, tmp_path):
    site.files["data.gz"] = CONTENT
    path = obtain(remote(site.address + "data.gz"), tmp_path)
    assert path == tmp_path / "toy" / "data.gz"
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not parts(tmp_path)


def test_a_file_downloaded_before_is_not_fetched_again(site, tmp_path):
    site.files["data.gz"] = CONTENT
    file = remote(site.address + "data.gz")
    assert obtain(file, tmp_path) == obtain(file, tmp_path)
    assert len(site.asked) == 1


def test_when_the_first_source_is_down_the_second_is_used(site, tmp_path):
    site.files["b/data.gz"] = CONTENT
    path = obtain(remote(NOWHERE, site.address + "a/data.gz", site.address + "b/data.gz"), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_source_with_the_wrong_checksum_is_refused_and_the_next_is_used(site, tmp_path):
    site.files |= {"a/data.gz": b"a page that asks you to log in", "b/data.gz": CONTENT}
    path = obtain(remote(site.address + "a/data.gz", site.address + "b/data.gz"), tmp_path)
    assert path.read_bytes() == CONTENT


def test_wrong_content_never_reaches_its_final_place(site, tmp_path):
    site.files["data.gz"] = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=f"published is {CHECKSUM}"):
        obtain(remote(site.address + "data.gz"), tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(site, tmp_path):
    site.files["data.gz"] = CONTENT
    site.cuts["data.gz"] = [100_000, 50_000]
    assert obtain(remote(site.address + "data.gz"), tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == ["", "bytes=100000-", "bytes=150000-"]


def test_a_server_that_gives_no_pieces_is_asked_for_the_whole_again(site, tmp_path):
    site.files["data.gz"] = CONTENT
    site.cuts["data.gz"] = [100_000]
    site.ranges = False
    assert obtain(remote(site.address + "data.gz"), tmp_path).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(site, tmp_path):
    site.files["data.gz"] = CONTENT
    site.cuts["data.gz"] = [0] * 100
    with pytest.raises(UserError, match="connection lost"):
        obtain(remote(site.address + "data.gz"), tmp_path)
    assert len(site.asked) == 1


def test_what_an_interrupted_run_left_is_completed_by_the_next_one(site, tmp_path):
    site.files["data.gz"] = CONTENT
    site.cuts["data.gz"] = [1000, 0]
    file = remote(site.address + "data.gz")
    with pytest.raises(UserError, match="connection lost"):
        obtain(file, tmp_path)
    assert obtain(file, tmp_path).read_bytes() == CONTENT
    assert site.asked[-1] == ("data.gz", "bytes=1000-")
    assert not parts(tmp_path)


def test_a_complete_piece_left_behind_is_used(site, tmp_path):
    site.files["data.gz"] = CONTENT
    file = remote(site.address + "data.gz")
    path = obtain(file, tmp_path)
    name = f".data.gz.{fetch.zlib.crc32(file.urls[0].encode()):08x}.part"
    path.rename(path.with_name(name))
    assert obtain(file, tmp_path).read_bytes() == CONTENT


def test_without_a_published_checksum_an_old_piece_is_not_trusted(site, tmp_path):
    site.files["data.gz"] = CONTENT
    site.cuts["data.gz"] = [1000, 0]
    file = remote(site.address + "data.gz", checksum="")
    with pytest.raises(UserError):
        obtain(file, tmp_path)
    obtain(file, tmp_path)
    assert site.asked[-1] == ("data.gz", "")


def test_a_mirror_folder_comes_before_the_internet_and_is_read_where_it_lies(site, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "toy").mkdir(parents=True)
    (mirror / "toy" / "data.gz").write_bytes(b"the same data in another packing")
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(mirror))
    assert obtain(remote(site.address + "data.gz"), tmp_path / "downloads") == mirror / "toy" / "data.gz"
    assert not site.asked


def test_a_mirror_url_comes_before_the_internet_and_may_hold_another_packing(site, tmp_path, monkeypatch):
    site.files["mirror/toy/data.gz"] = b"the same data in another packing"
    monkeypatch.setenv("STILLHOUSE_MIRROR", site.address + "mirror/")
    path = obtain(remote(NOWHERE), tmp_path)
    assert path.read_bytes() == b"the same data in another packing"


def test_where_only_the_checksum_proves_the_data_a_mirror_must_have_it_too(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "data.gz").write_bytes(CONTENT + b"!")
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path))
    with pytest.raises(UserError, match="published is"):
        obtain(remote(NOWHERE, exact=True), tmp_path / "downloads")
    with pytest.raises(UserError, match="published is"):
        obtain(remote(NOWHERE, exact=True), tmp_path)  # the same file, as one downloaded before


def test_what_a_mirror_lacks_is_fetched_from_elsewhere(site, tmp_path, monkeypatch):
    site.files["data.gz"] = CONTENT
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path))
    assert obtain(remote(site.address + "data.gz"), tmp_path / "downloads").read_bytes() == CONTENT


def test_a_mirror_that_does_not_exist_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_MIRROR", str(tmp_path / "mirorr"))
    with pytest.raises(UserError, match="STILLHOUSE_MIRROR: no folder .*mirorr"):
        obtain(remote(NOWHERE), tmp_path)


def test_the_embedded_copy_comes_before_the_internet(site, tmp_path):
    embedded = Path("data/embedded/toy/data.gz")
    embedded.parent.mkdir(parents=True)
    embedded.write_bytes(CONTENT)
    assert obtain(remote(site.address + "data.gz"), tmp_path) == embedded
    assert not site.asked


def test_without_any_source_one_line_says_which_files_to_put_where(tmp_path):
    files = fetch.remote_files("toy", ["http://127.0.0.1:9/"], {"a.gz": "", "b.gz": ""})
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        obtain_all(files, tmp_path)
    text = str(caught.value)
    assert "\n" not in text
    assert "set STILLHOUSE_MIRROR to a folder or URL that holds toy/a.gz, toy/b.gz" in text
    assert "127.0.0.1:9: no connection" in text
    assert time.monotonic() - started < 3


def test_an_address_that_never_answers_is_given_up_after_the_timeout(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(fetch, "_TIMEOUT", (0.05, 0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/data.gz"
        with pytest.raises(UserError, match="no answer in time"):
            obtain(remote(url), tmp_path)


def test_a_full_disk_is_named_as_such(site, tmp_path, monkeypatch):
    site.files["data.gz"] = CONTENT

    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match="toy/data.gz: cannot write: No space left on device. Free some space"):
        obtain(remote(site.address + "data.gz"), tmp_path)


def test_a_file_matches_only_with_the_published_checksum(tmp_path):
    (tmp_path / "x").write_bytes(CONTENT)
    assert fetch.matches(remote(), tmp_path / "x")
    assert not fetch.matches(remote(checksum=CHECKSUM.replace("md5:", "md5:0")), tmp_path / "x")
    assert not fetch.matches(remote(checksum=""), tmp_path / "x")


def test_no_progress_bar_is_drawn_when_nobody_watches(site, tmp_path, capsys):
    site.files["data.gz"] = CONTENT
    assert not sys.stderr.isatty()
    obtain(remote(site.address + "data.gz"), tmp_path)
    assert capsys.readouterr().err == ""
