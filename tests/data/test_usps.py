import gzip

import pytest
import torch

from stillhouse.data import fetch, usps
from stillhouse.errors import UserError


def line(label, *levels):
    return " ".join([str(label), *map(str, levels), *["-1.000"] * (256 - len(levels))])


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Writes both files, with one example per class unless told otherwise, and the counts to go with them."""

    def write(train=(), test=(), content=None):
        (tmp_path / "usps").mkdir(exist_ok=True)
        for file, changed in zip(usps.FILES, (train, test), strict=True):
            lines = [line(label) for label in range(10)]
            lines[: len(changed)] = changed
            text = content if content is not None else "\n".join(lines).encode()
            (tmp_path / file.wanted).write_bytes(gzip.compress(text))
        monkeypatch.setenv(fetch.MIRROR, str(tmp_path))
        monkeypatch.setattr(usps, "COUNTS", ((1,) * 10, (1,) * 10))

    return write


def test_grey_levels_become_pixels_from_zero_to_one(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(usps, "FINGERPRINT", None)
    publish(train=[line(0, -1, 1, 0, "0.001", "-0.999")])
    real = usps.read(usps.Params(), tmp_path)
    assert real.train.inputs.dtype == torch.float32
    assert real.train.inputs[0, 0, 0, :6].tolist() == pytest.approx([0, 1, 0.5, 0.5005, 0.0005, 0], abs=1e-7)
    assert real.shape == usps.SHAPE


def test_another_way_of_writing_the_same_numbers_is_the_same_data(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(usps, "FINGERPRINT", None)
    publish(train=[line(0, "-0.631", "0.862")])
    one = usps.read(usps.Params(), tmp_path)
    publish(train=[line("0.0000", "-0.63100", "8.62e-1") + " "])
    assert usps.read(usps.Params(), tmp_path).fingerprint == one.fingerprint


def test_other_images_of_the_same_form_are_refused(publish, tmp_path):
    publish()
    with pytest.raises(UserError, match="usps: images or labels in .*/usps differ from the official ones"):
        usps.read(usps.Params(), tmp_path)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (line(0, "nan", "inf"), "2 of 2570 numbers are NaN or infinite"),
        (line(0, "0.0005"), "grey levels are not from -1 to 1 in steps of 0.001"),
        (line(0, "1.001"), "grey levels are not from -1 to 1"),
        (line("0.5"), "a label is not a digit"),
        (line(-1), "a label is not a digit"),
        (line(0) + " 1", "cannot be read as lines of numbers"),
        ("zero" + line(0)[1:], "cannot be read as lines of numbers"),
    ],
)
def test_a_wrong_number_is_refused_by_file(publish, tmp_path, first, says):
    publish(train=[first])
    with pytest.raises(UserError, match=f"zip.train.gz: {says}.* Delete it or replace it"):
        usps.read(usps.Params(), tmp_path)


def test_a_label_that_is_no_digit_is_refused(publish, tmp_path):
    publish(test=[line(10)])
    with pytest.raises(UserError, match="usps: test label 10 in .* of 10 classes"):
        usps.read(usps.Params(), tmp_path)


@pytest.mark.parametrize(("content", "says"), [(b"1 2 3\n", "3 numbers a line"), (b"", "numbers a line")])
def test_a_file_with_other_columns_is_named(publish, tmp_path, content, says):
    publish(content=content)
    with pytest.raises(UserError, match=f"zip.train.gz: .*{says}"):
        usps.read(usps.Params(), tmp_path)


def test_a_file_cut_short_is_named(publish, tmp_path):
    publish()
    path = tmp_path / usps.FILES[1].wanted
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="zip.test.gz: cannot be read"):
        usps.read(usps.Params(), tmp_path)


def test_the_known_data_are_accepted(official, tmp_path):
    official(usps.FILES)
    real = usps.read(usps.Params(), tmp_path)
    assert real.fingerprint == usps.FINGERPRINT
    assert (len(real.train), len(real.test)) == (7291, 2007)
    assert (real.train.inputs.min(), real.train.inputs.max()) == (0, 1)
