import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from stillhouse import artifact, spaces
from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.exchange import formats
from stillhouse.exchange.declared import Declared
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.stages import evaluate

EXACT = ["npz", "tensors"]


@pytest.mark.parametrize("format", EXACT)
def test_what_is_exported_is_imported_value_by_value(
    tmp_path: Path, toy: RealSet, made: DistilledSet, format: str
) -> None:
    formats.export_set(made, tmp_path / "out", format)
    back = formats.import_set(tmp_path / "out", format, toy, Declared())
    assert back.inputs.dtype == made.inputs.dtype
    torch.testing.assert_close(back.inputs, made.inputs, rtol=0, atol=0)
    torch.testing.assert_close(back.targets, made.targets, rtol=0, atol=0)
    assert spaces.same(back.space, made.space)
    assert (back.classes, back.schedule, back.model) == (made.classes, made.schedule, made.model)
    assert back.certificate is None
    for key in ("dataset", "experiment", "method", "per_class", "seed", "budget"):
        assert back.recipe[key] == made.recipe[key]
    assert back.recipe["imported"]["made_by"] == made.recipe


@pytest.mark.parametrize("format", EXACT)
def test_a_whitened_set_keeps_its_whitening(tmp_path: Path, toy: RealSet, made: DistilledSet, format: str) -> None:
    fitted = whitening.fit(whitening.parse("zca"), toy).settings()
    whitened = dataclasses.replace(made, inputs=made.inputs.to(torch.float64), space=fitted)
    formats.export_set(whitened, tmp_path / "out", format)
    back = formats.import_set(tmp_path / "out", format, toy, Declared())
    assert spaces.same(back.space, fitted)
    torch.testing.assert_close(back.inputs, whitened.inputs, rtol=0, atol=0)


def test_an_image_folder_gives_back_pixels_to_half_of_a_level_and_targets_exactly(
    tmp_path: Path, toy: RealSet, made: DistilledSet
) -> None:
    formats.export_set(made, tmp_path / "out", "folder")
    back = formats.import_set(tmp_path / "out", "folder", toy, Declared())
    assert back.space == {"kind": "pixels"}
    torch.testing.assert_close(back.inputs, made.pictures().clamp(0, 1), rtol=0, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close(back.targets, made.targets, rtol=0, atol=0)
    assert back.recipe["imported"]["lost"]["clipped"] > 0
    assert back.schedule == made.schedule


def test_what_is_declared_of_an_export_goes_before_its_manifest(
    tmp_path: Path, toy: RealSet, made: DistilledSet
) -> None:
    formats.export_set(made, tmp_path / "out", "npz")
    back = formats.import_set(tmp_path / "out", "npz", toy, Declared(method="dsa", seed=9, budget=1.0))
    assert (back.recipe["method"], back.recipe["experiment"]) == ({"kind": "dsa"}, "dsa")
    assert (back.recipe["seed"], back.recipe["budget"]) == (9, 1.0)
    with pytest.raises(UserError, match="--space: the file's manifest says it"):
        formats.import_set(tmp_path / "out", "npz", toy, Declared(space="pixels"))


def test_an_export_for_other_classes_is_refused(
    tmp_path: Path, digits: RealSet, toy: RealSet, made: DistilledSet
) -> None:
    formats.export_set(made, tmp_path / "out", "npz")
    other = RealSet("other", toy.train, toy.test, ("ant", "bee", "dog"), "", "")
    with pytest.raises(UserError, match="out: class 'cat' is only in the file"):
        formats.import_set(tmp_path / "out", "npz", other, Declared())
    turned = RealSet("other", toy.train, toy.test, ("cat", "bee", "ant"), "", "")
    back = formats.import_set(tmp_path / "out", "npz", turned, Declared())
    torch.testing.assert_close(back.targets, made.targets.flip(1), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"out: images of shape \(1, 4, 4\), but digits has \(1, 8, 8\)"):
        formats.import_set(tmp_path / "out", "npz", digits, Declared())


def test_sets_of_values_are_exported_as_arrays(tmp_path: Path, table: RealSet) -> None:
    recipe = {"dataset": "table", "experiment": "e", "method": {"kind": "k"}, "per_class": 2}
    values = DistilledSet.of(table, table.train.inputs[:2], torch.ones(2, 1, dtype=torch.float64), recipe=recipe)
    formats.export_set(values, tmp_path / "out.npz", "npz")
    with np.load(tmp_path / "out.npz") as archive:
        assert '"columns": "standardised values"' in str(archive["manifest"])
    with pytest.raises(UserError, match="sets of values are not imported"):
        formats.import_set(tmp_path / "out.npz", "npz", table, Declared())


def test_an_imported_set_is_saved_with_the_same_bytes(tmp_path: Path, toy: RealSet, images: torch.Tensor) -> None:
    torch.save({"data": [[images, torch.tensor([0, 0, 1, 1, 2, 2])]], "accs_all_exps": {}}, tmp_path / "dc.pt")
    for name in ("a", "b"):
        declared = Declared(method="dc", space="standardised", source="a test")
        formats.import_set(tmp_path / "dc.pt", "dc", toy, declared).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert DistilledSet.load(tmp_path / "a").recipe["imported"]["files"].keys() == {"dc.pt"}


RIDGE = {"kind": "ridge", "features": "identity", "space": "standardised"}


def test_the_judge_scores_an_imported_file_as_the_images_that_are_in_it(tmp_path: Path, digits: RealSet) -> None:
    """The first two training images of each digit, standardised and saved as DC's code saves them."""
    data = tmp_path / "digits.safetensors"
    digits.save(data)
    chosen = torch.cat([digits.positions(label)[:2] for label in range(10)])
    pixels = digits.train.inputs[chosen].to(torch.float64) / 255
    space = whitening.fit(whitening.parse("standardised"), digits)
    pair = [space.forward(pixels).to(torch.float32), torch.arange(10).repeat_interleave(2)]
    torch.save({"data": [pair], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, tmp_path / "dc.pt")
    imported = formats.import_set(tmp_path / "dc.pt", "dc", digits, Declared(method="dsa", space="standardised"))
    imported.save(tmp_path / "imported.safetensors")

    one_hot = torch.nn.functional.one_hot(digits.train.targets[chosen], 10).to(torch.float64)
    direct = DistilledSet(pixels, one_hot, digits.classes, recipe={**imported.recipe, "experiment": "direct"})
    direct.save(tmp_path / "direct.safetensors")

    sets = [tmp_path / "imported.safetensors", tmp_path / "direct.safetensors"]
    evaluate.evaluate_sets(data, sets, "own", "linear", RIDGE, 1, Run(), "c0de", tmp_path / "rows.csv")
    theirs, ours = csv.DictReader((tmp_path / "rows.csv").open())
    assert (theirs["dataset"], theirs["experiment"], theirs["method"], theirs["per_class"]) == (
        "digits",
        "dsa",
        "dsa",
        "2",
    )
    assert (theirs["metric"], theirs["budget"], theirs["seed"]) == ("test accuracy", "1.0", "0")
    assert float(theirs["value"]) == pytest.approx(float(ours["value"]), abs=0.3)
    assert float(theirs["value"]) > 50


def test_formats_of_our_own_are_read_and_written_alike() -> None:
    assert [*formats.READERS] == ["dc", "mtt", "kip", "rfad", "folder", "npz", "tensors"]
    assert set(formats.WRITERS) - set(formats.READERS) == {"hugging_face"}


def test_a_set_is_written_whole_or_not_at_all(tmp_path: Path, made: DistilledSet) -> None:
    for format in ("npz", "tensors", "folder"):
        formats.export_set(made, tmp_path / "deep" / format, format)
    assert sorted(each.name for each in (tmp_path / "deep").iterdir()) == ["folder", "npz", "tensors"]


def test_a_set_of_another_kind_is_not_exported(tmp_path: Path) -> None:
    artifact.write(tmp_path / "other", "teacher", {"a": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="holds a teacher; expected a distilled set"):
        DistilledSet.load(tmp_path / "other")
