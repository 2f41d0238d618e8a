"""Sets of others as an experiment, from files made small."""

import dataclasses
import hashlib
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse import settings
from stillhouse.errors import UserError
from stillhouse.exchange import formats
from stillhouse.methods import imported
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.stages.distill import Wanted, distill

SPACE = {"kind": "standardised", "mean": [0.5], "std": [0.25]}
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def images(seed: int = 1, count: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A file of DC's code with two experiments, class by class."""
    torch.save({"data": [[images(1), LABELS], [images(2), LABELS]]}, tmp_path / "dc.pt")
    return tmp_path / "dc.pt"


def params(file: Path | str, per_class: int = 2, **changed: Any) -> imported.Params:
    raw = {"files": {per_class: str(file)}, "made_by": "dsa", "space": SPACE, **changed}
    return settings.parse(imported.Params, {k: v for k, v in raw.items() if v is not None}, "here")


def made(real: RealSet, chosen: imported.Params, per_class: int = 2, seed: int = 0) -> DistilledSet:
    return imported.distill(real, per_class, chosen, Run(seed=seed))


def refusal(real: RealSet, chosen: imported.Params, per_class: int = 2, seed: int = 0) -> str:
    with pytest.raises(UserError) as caught:
        made(real, chosen, per_class, seed)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_images_are_those_of_the_file_in_their_space_classes_in_turn(toy: RealSet, released: Path) -> None:
    found = made(toy, params(released))
    assert torch.equal(found.inputs, images(1)[[0, 2, 4, 1, 3, 5]])
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    torch.testing.assert_close(found.pictures(), found.inputs * 0.25 + 0.5)


def test_each_seed_has_an_experiment_of_the_file_unless_one_is_named(toy: RealSet, released: Path) -> None:
    assert torch.equal(made(toy, params(released), seed=1).inputs[0], images(2)[0])
    assert torch.equal(made(toy, params(released, index=0), seed=1).inputs[0], images(1)[0])
    assert "no experiment 5; it holds 2. Choose index 0 to 1." in refusal(toy, params(released), seed=5)


def test_a_set_that_asks_for_an_order_keeps_it(toy: RealSet, tmp_path: Path) -> None:
    targets = torch.eye(3)[LABELS]
    recipe = {"method": {"kind": "dd"}, "experiment": "mine", "seed": 0, "budget": 1.0}
    ours = DistilledSet(images(), targets, toy.classes, schedule={"order": [[0, 1], [2, 5]]}, recipe=recipe)
    formats.export_set(ours, tmp_path / "ours.npz", "npz")
    found = made(toy, params(tmp_path / "ours.npz", format="npz", made_by=None, space=None))
    assert torch.equal(found.inputs, ours.inputs)
    assert found.schedule == {"order": [[0, 1], [2, 5]]}
    assert found.recipe["imported"]["method"] == "dd"


def test_soft_labels_go_with_their_images(toy: RealSet, tmp_path: Path) -> None:
    rows = torch.tensor([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.0, 0.1, 0.9]]) - 1 / 3
    np.savez(tmp_path / "kip.npz", images=images(count=3).permute(0, 2, 3, 1).numpy(), labels=rows.numpy())
    found = made(toy, params(tmp_path / "kip.npz", 1, format="kip", made_by="kip"), 1)
    assert torch.equal(found.inputs, images(count=3)[[0, 2, 1]])
    torch.testing.assert_close(found.targets, (rows + 1 / 3)[[0, 2, 1]].double())


def test_the_recipe_of_a_job_says_where_the_set_is_from(toy: RealSet, released: Path, tmp_path: Path) -> None:
    toy.save(tmp_path / "toy.safetensors")
    chosen = params(released, source="their page", budget=0.5)
    wanted = [Wanted(2, 1, tmp_path / "set.safetensors")]
    distill(
        tmp_path / "toy.safetensors", "theirs", settings.dump(chosen), wanted, Run(), "c0de", 1, tmp_path / "u", 60.0
    )
    recipe = DistilledSet.load(tmp_path / "set.safetensors").recipe
    assert (recipe["experiment"], recipe["method"]["kind"], recipe["budget"]) == ("theirs", "imported", 0.5)
    assert (recipe["per_class"], recipe["seed"]) == (2, 1)
    told = recipe["imported"]
    assert (told["method"], told["source"], told["format"], told["index"]) == ("dsa", "their page", "dc", 1)
    assert told["files"] == {"dc.pt": hashlib.sha256(released.read_bytes()).hexdigest()}


def test_settings_go_through_json(released: Path) -> None:
    chosen = params(released, sha256={2: "ab"})
    again = settings.parse_plugin("methods", settings.dump(chosen), "here")
    assert again == chosen
    assert again.files == {2: str(released)}


def test_a_file_with_the_sha256_that_is_stated_is_read(toy: RealSet, released: Path) -> None:
    digest = hashlib.sha256(released.read_bytes()).hexdigest()
    assert len(made(toy, params(released, sha256={2: digest.upper()}))) == 6


def test_another_file_than_stated_is_refused_with_both_sums(toy: RealSet, released: Path) -> None:
    digest = hashlib.sha256(released.read_bytes()).hexdigest()
    text = refusal(toy, params(released, sha256={2: "0" * 64}))
    assert text.startswith(f"{released}: has sha256 {digest}, but params.yaml says {'0' * 64}.")


def test_the_sum_of_two_files_is_what_sha256sum_says_of_its_own_lines(toy: RealSet, tmp_path: Path) -> None:
    torch.save(images(), tmp_path / "images_best.pt")
    torch.save(LABELS, tmp_path / "labels_best.pt")
    command = "sha256sum images_best.pt labels_best.pt | sha256sum"
    said = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()[
        0
    ]
    chosen = params(tmp_path, format="mtt", made_by="mtt", space="pixels", sha256={2: said})
    assert made(toy, chosen, seed=3).labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert [file.name for file in imported.files(chosen, 2)] == ["images_best.pt", "labels_best.pt"]
    file = dataclasses.replace(chosen, files={2: str(tmp_path / "images_best.pt")})
    assert imported.files(file, 2) == imported.files(chosen, 2)


def test_what_is_wrong_is_said_in_the_words_of_params_yaml(toy: RealSet, released: Path) -> None:
    assert refusal(toy, params(released, made_by=None)).endswith("made_by: what made the set? The file does not say. "
                                                                 "Give a name, such as made_by dsa.")  # fmt: skip
    assert refusal(toy, params(released, space=None)).startswith("space: in which space do the images live?")
    without = refusal(toy, params(released, format="mtt"))
    assert without.endswith("expected a file images_X.pt, beside its labels_X.pt, or their folder.")
    assert "--" not in refusal(toy, params(released, labels="centred", format="rfad"))


def test_a_file_of_another_size_is_refused(toy: RealSet, released: Path) -> None:
    text = refusal(toy, params(released, per_class=10), per_class=10)
    assert text == f"{released}: holds 2 images per class, not 10. Name it in files under 2."


def test_a_size_without_a_file_or_a_file_that_is_not_there_is_refused_before_a_job(released: Path) -> None:
    chosen = params(released)
    assert imported.files(chosen, 2) == [released]
    with pytest.raises(UserError, match="files: no file for 50 images per class; there are for 2"):
        imported.files(chosen, 50)
    with pytest.raises(UserError, match=r"lost\.pt: no such file"):
        imported.files(params(released.with_name("lost.pt")), 2)
    with pytest.raises(UserError, match="sha256 of 10 images per class, for which files names none"):
        params(released, sha256={10: "ab"})


def test_every_file_of_a_folder_makes_its_set_old(toy: RealSet, tmp_path: Path, released: Path) -> None:
    formats.export_set(made(toy, params(released)), tmp_path / "folder", "folder")
    chosen = params(tmp_path / "folder", format="folder", made_by="dsa", space=None)
    names = [file.relative_to(tmp_path / "folder").as_posix() for file in imported.files(chosen, 2)]
    assert names == ["ant/0000.png", "ant/0003.png", "bee/0001.png", "bee/0004.png", "cat/0002.png", "cat/0005.png",
                     "manifest.json"]  # fmt: skip
    assert made(toy, chosen).labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(UserError, match="no such file"):
        imported.files(params(tmp_path / "empty", format="folder"), 2)


@pytest.mark.parametrize("format", formats.READERS)
def test_every_format_that_is_read_can_be_named(format: str) -> None:
    assert params("file", format=format).format == format
