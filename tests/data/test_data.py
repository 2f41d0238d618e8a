"""What holds for every data set, and for `prepare`."""

import errno
import importlib
import re
from pathlib import Path

import pytest
import torch

from stillhouse import artifact, data, plugins
from stillhouse.errors import UserError
from stillhouse.sets import RealSet

NAMES = ["cifar10", "cifar100", "digits", "emnist_letters", "fashion_mnist", "folder", "mnist", "svhn", "usps"]
OFFICIAL = [name for name in NAMES if name != "folder"]


def module(name):
    return importlib.import_module(f"stillhouse.data.{name}")


def test_every_data_set_is_found_by_its_file_alone():
    assert set(NAMES) <= set(plugins.available("data"))


@pytest.mark.parametrize("name", plugins.available("data"))
def test_every_data_set_has_settings_with_defaults_and_a_reader(name):
    assert module(name).Params() == module(name).Params()
    assert callable(module(name).read)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_known_counts_go_with_the_classes(name):
    train, test = module(name).COUNTS
    assert len(train) == len(test) == len(module(name).CLASSES) == len(set(module(name).CLASSES))


@pytest.mark.parametrize("name", [n for n in OFFICIAL if n != "digits"])
def test_every_file_has_several_sources_and_lies_in_one_folder(name):
    files = module(name).FILES
    assert len({file.folder for file in files}) == 1
    assert all(len(file.urls) >= 2 and all(url.endswith("/" + file.name) for url in file.urls) for file in files)


@pytest.mark.parametrize("name", OFFICIAL)
def test_its_card_says_what_the_code_checks(name, repository):
    card = (repository / "data" / "cards" / f"{name}.md").read_text(encoding="utf-8")
    for heading in ("Source", "Licence", "Citation", "Classes", "Splits", "Mean", "Known faults"):
        assert f"**{heading}" in card, heading
    assert f" {', '.join(module(name).CLASSES)}." in " ".join(card.split())
    assert all(str(sum(counts)) in card for counts in module(name).COUNTS)
    assert (module(name).FINGERPRINT or "No fingerprint") in card


def test_preparing_saves_what_it_returns(tmp_path):
    out = tmp_path / "prepared" / "digits.safetensors"
    made = data.prepare("digits", {}, tmp_path, out)
    loaded = RealSet.load(out)
    identity = (loaded.name, loaded.classes, loaded.fingerprint, loaded.order)
    assert identity == ("digits", made.classes, made.fingerprint, made.order)
    assert torch.equal(loaded.train.inputs, made.train.inputs)
    assert torch.equal(loaded.test.targets, made.test.targets)


def test_preparing_twice_gives_the_same_bytes(tmp_path):
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path in paths:
        data.prepare("digits", {}, tmp_path, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_an_unknown_data_set_is_answered_with_the_nearest_name(tmp_path):
    with pytest.raises(UserError, match="unknown data 'minst'. Did you mean 'mnist'?"):
        data.prepare("minst", {}, tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("folder", {"pth": "x"}, "folder: unknown parameter 'pth'. Did you mean 'path'?"),
        ("folder", {"test_fraction": 1.5}, "folder.test_fraction: .*less than 1, found 1.5"),
        ("folder", {"size": 0}, "folder.size: .*greater than 0, found 0"),
        ("mnist", {"size": 28}, "mnist: unknown parameter 'size'. None is known."),
    ],
)
def test_wrong_settings_are_answered_in_one_line(tmp_path, name, settings, says):
    with pytest.raises(UserError, match=says) as caught:
        data.prepare(name, settings, tmp_path, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_disk_that_fills_while_saving_is_named_and_leaves_no_file(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact, "save_file", full)
    with pytest.raises(UserError, match="digits.safetensors: cannot write: .*No space left on device.*Free some space"):
        data.prepare("digits", {}, tmp_path, tmp_path / "digits.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_no_reader_can_run_code_from_a_file():
    sources = [p.read_text(encoding="utf-8") for p in Path(data.__file__).parent.glob("*.py")]
    assert not [
        s for s in sources if re.search(r"import pickle|pickle\.load|extractall|np\.load\(|torch\.load\(|eval\(", s)
    ]
