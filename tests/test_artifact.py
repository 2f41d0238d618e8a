import errno
import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from stillhouse import artifact
from stillhouse.errors import UserError

TENSORS = {"weights": torch.arange(12.0).reshape(3, 4), "labels": torch.tensor([2, 0, 1])}
HEADER = {"seed": 3, "classes": ["ant", "bee"], "notes": {"ridge": 0.1}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some.safetensors"
    artifact.write(path, "teacher", TENSORS, HEADER)
    return path


def refusal(path: Path, kind: str = "teacher") -> str:
    with pytest.raises(UserError) as caught:
        artifact.read(path, kind)
    return str(caught.value)


def test_what_is_written_is_read(file: Path) -> None:
    tensors, header = artifact.read(file, "teacher")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert header == {"kind": "teacher", **HEADER}
    assert artifact.header(file) == header


def test_no_other_file_remains_beside_it(file: Path) -> None:
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_equal_content_gives_equal_bytes_in_any_order(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "some.safetensors"
    artifact.write(other, "teacher", dict(reversed(TENSORS.items())), dict(reversed(HEADER.items())))
    assert other.read_bytes() == file.read_bytes()


def test_how_a_tensor_lies_in_memory_does_not_count(file: Path, tmp_path: Path) -> None:
    turned = {**TENSORS, "weights": TENSORS["weights"].T.contiguous().T}
    assert not turned["weights"].is_contiguous()
    artifact.write(tmp_path / "turned", "teacher", turned, HEADER)
    assert (tmp_path / "turned").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_is_refused(file: Path, part: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * part)])
    text = refusal(file)
    assert text.startswith(f"{file}: not a complete safetensors file")
    assert text.endswith("Make it again or pull it again.")
    assert "\n" not in text


def test_a_file_that_goes_on_after_its_end_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    assert str(file) in refusal(file)


@pytest.mark.parametrize("byte", range(-72, 0, 7))
def test_a_flipped_byte_in_the_tensors_is_refused(file: Path, byte: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)
    assert refusal(file) == f"{file}: its content was changed after it was written. Make it again or pull it again."


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'\\"seed\\": 3', b'\\"seed\\": 4'), (b"ant", b"cat"), (b"0.1", b"0.2"), (b'"weights"', b'"weighty"')],
)
def test_an_edited_header_is_refused(file: Path, old: bytes, new: bytes) -> None:
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new))
    assert refusal(file).startswith(f"{file}: its content was changed")


def test_without_verification_the_tensors_are_not_hashed(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    tensors, _ = artifact.read(file, "teacher", verify=False)
    assert tensors.keys() == TENSORS.keys()


def test_a_file_of_another_kind_is_refused(file: Path) -> None:
    assert refusal(file, "distilled set") == f"{file}: holds a teacher; expected a distilled set."


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"stillhouse": "not JSON"}, {"stillhouse": "[]"}])
def test_a_safetensors_file_of_others_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "other.safetensors"
    save_file(TENSORS, path, metadata=metadata)
    text = refusal(path)
    assert text == f"{path}: a safetensors file, but not one that Stillhouse wrote. Expected a teacher."


def pickled(path: Path) -> None:
    torch.save(TENSORS, path)


def text(path: Path) -> None:
    path.write_text(json.dumps(HEADER))


@pytest.mark.parametrize("make", [pickled, text, Path.touch])
def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "weights.safetensors"
    make(path)
    found = refusal(path)
    assert found.startswith(f"{path}: not a complete safetensors file")
    assert "\n" not in found


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir])
def test_a_missing_file_says_how_to_get_it(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file")
    found = refusal(tmp_path / "file")
    assert found == f"{tmp_path / 'file'}: no such file. Make it with snakemake, or fetch it with 'make pull'."


def test_a_full_disk_is_one_line_and_leaves_what_was_there(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = file.read_bytes()
    monkeypatch.setattr(artifact, "save_file", full)
    for path in (file, file.with_name("new.safetensors")):
        with pytest.raises(UserError) as caught:
            artifact.write(path, "teacher", TENSORS, {**HEADER, "seed": 4})
        assert str(caught.value).startswith(f"{path}: cannot write: ")
        assert "No space left" in str(caught.value)
        assert str(caught.value).endswith("Free some space or choose another folder.")
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert file.read_bytes() == before


def test_a_file_that_may_not_grow_leaves_nothing_behind(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
        with pytest.raises(UserError) as caught:
            artifact.write(tmp_path / "large", "teacher", {"weights": torch.zeros(1 << 18)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value).startswith(f"{tmp_path / 'large'}: cannot write: ")
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_half_a_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        save_file(tensors, path, metadata=metadata)
        seen.append(artifact.header(file)["seed"])  # the new file is complete, and the old one still stands

    monkeypatch.setattr(artifact, "save_file", watched)
    artifact.write(file, "teacher", TENSORS, {**HEADER, "seed": 4})
    assert seen == [3]
    assert artifact.header(file)["seed"] == 4


def test_who_reads_the_old_file_goes_on_reading_it(file: Path) -> None:
    before = file.read_bytes()
    with file.open("rb") as reading:
        artifact.write(file, "teacher", TENSORS, {**HEADER, "seed": 4})
        assert reading.read() == before
    assert file.read_bytes() != before


def test_other_users_may_read_the_file(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o644


def test_an_empty_tensor_and_a_scalar_survive(tmp_path: Path) -> None:
    tensors = {"none": torch.zeros(0, 3), "one": torch.tensor(2.5, dtype=torch.float64)}
    artifact.write(tmp_path / "file", "teacher", tensors, {})
    found, _ = artifact.read(tmp_path / "file", "teacher")
    assert found["none"].shape == (0, 3)
    assert found["one"].item() == 2.5


def test_a_header_with_numbers_as_keys_is_read_back(tmp_path: Path) -> None:
    artifact.write(tmp_path / "file", "teacher", TENSORS, {"ranks": {2: "a", 10: "b"}})
    assert artifact.read(tmp_path / "file", "teacher")[1]["ranks"] == {"2": "a", "10": "b"}
