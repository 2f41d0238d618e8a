import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.exchange import files, torch_file
from stillhouse.sets import DistilledSet


@pytest.fixture
def dc(tmp_path: Path, images: torch.Tensor, labels: torch.Tensor) -> Path:
    """What DC's main.py writes: two experiments, and for each network that was trained on them a NumPy number."""
    accuracies = {"ConvNet": [np.float64(each) for each in (0.2, 0.3, 0.6, 0.7)], "MLP": []}
    path = tmp_path / "res_DC_toy_ConvNet_2ipc.pt"
    torch.save({"data": [[images, labels], [images + 1, labels]], "accs_all_exps": accuracies}, path)
    return path


def test_a_file_of_dc_gives_the_experiment_that_is_chosen(dc: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    found = torch_file.read_dc(dc, 1)
    torch.testing.assert_close(found.images, images + 1, rtol=0, atol=0)
    torch.testing.assert_close(found.labels, labels, rtol=0, atol=0)
    assert found.seed == 1
    assert found.files == {dc.name: files.sha256(dc)}


@pytest.mark.parametrize(("index", "mean"), [(0, 25.0), (1, 65.0)])
def test_accuracies_in_the_file_are_those_of_the_experiment(dc: Path, index: int, mean: float) -> None:
    notes = torch_file.read_dc(dc, index).notes
    assert notes["reported"].keys() == {"ConvNet"}
    assert notes["reported"]["ConvNet"]["networks"] == 2
    assert notes["reported"]["ConvNet"]["mean"] == pytest.approx(mean)
    assert (notes["index"], notes["of"]) == (index, 2)


def test_accuracies_that_are_not_as_many_for_each_experiment_are_left_out(tmp_path: Path, images: torch.Tensor) -> None:
    pairs = [[images, torch.arange(6)]] * 2
    torch.save({"data": pairs, "accs_all_exps": {"ConvNet": [0.1, 0.2, 0.3]}}, tmp_path / "a.pt")
    assert "reported" not in torch_file.read_dc(tmp_path / "a.pt", 0).notes


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_old_and_of_new_versions_of_torch_are_read(
    tmp_path: Path, images: torch.Tensor, labels: torch.Tensor, zipped: bool
) -> None:
    content = {"data": [[images, labels]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert torch_file.read_dc(tmp_path / "a.pt").notes["reported"]["ConvNet"]["mean"] == pytest.approx(50)


def test_numbers_of_numpy_1_are_read(tmp_path: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    """NumPy 1 names its module otherwise in the file than NumPy 2."""
    whole, old = tmp_path / "new.pt", tmp_path / "old.pt"
    torch.save({"data": [[images, labels]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(old, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                new = (
                    b"numpy._core.multiarray\nscalar" if b"numpy._core" in content else b"numpy.core.multiarray\nscalar"
                )
                assert content.count(new) == 1
                content = content.replace(new, b"numpy.core.multiarray\nscalar")
            target.writestr(entry, content)
    assert torch_file.read_dc(old).notes["reported"]["ConvNet"]["mean"] == pytest.approx(50)


def test_one_of_several_experiments_has_to_be_chosen(dc: Path) -> None:
    with pytest.raises(UserError, match="holds 2 experiments. Choose one with --index 0 to 1"):
        torch_file.read_dc(dc)
    with pytest.raises(UserError, match="no experiment 2; it holds 2"):
        torch_file.read_dc(dc, 2)
    with pytest.raises(UserError, match="no experiment -1"):
        torch_file.read_dc(dc, -1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"images": torch.zeros(1)}, "'data', a list of .images, labels., is missing; it has entries images"),
        ({"data": []}, "'data', a list"),
        (torch.zeros(2, 3), r"it has a tensor \(2, 3\)"),
        ({"data": [torch.zeros(3)]}, r"experiment 0 is a tensor \(3,\), expected \[images, labels\]"),
        ({"data": [[torch.zeros(3)]]}, "experiment 0 is list of 1"),
        ({"data": [[[1, 2], torch.zeros(2)]]}, "images: expected a tensor, found list of 2"),
        ({"data": [[torch.zeros(2), None]]}, "labels: expected a tensor, found NoneType"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, content: Any, text: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match=text):
        torch_file.read_dc(tmp_path / "a.pt")


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["in the data", "in the accuracies", "plain pickle", "old format"])
def test_a_file_that_runs_code_is_refused_and_not_run(
    tmp_path: Path, images: torch.Tensor, labels: torch.Tensor, how: str
) -> None:
    attack, path = Attack(tmp_path / "attacked"), tmp_path / "a.pt"
    content: dict[str, Any] = {"data": [[images, labels]], "accs_all_exps": {}}
    if how == "in the accuracies":
        content["accs_all_exps"] = {"ConvNet": [attack]}
    else:
        content["data"].append(attack)
    if how == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how != "old format")
    with pytest.raises(UserError) as problem:
        torch_file.read_dc(path, 0)
    assert not (tmp_path / "attacked").exists()
    assert "\n" not in str(problem.value)
    assert str(problem.value).startswith(f"{path}: ")
    if how != "plain pickle":
        assert "needs 'posix.mkdir' to be read, which could run code, so it is not opened" in str(problem.value)
    pickle.loads(pickle.dumps(attack))
    assert (tmp_path / "attacked").exists()  # where it is not refused, it does run


def test_an_array_of_objects_among_the_numbers_is_refused(tmp_path: Path, images: torch.Tensor) -> None:
    torch.save(
        {"data": [[images, images]], "accs_all_exps": {"a": np.array([Attack(tmp_path / "no")])}}, tmp_path / "a.pt"
    )
    with pytest.raises(UserError, match="could run code"):
        torch_file.read_dc(tmp_path / "a.pt")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 cut"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(
        UserError, match=r"a.pt: cannot be read as tensors, lists and numbers \(\w+\). Get the file again"
    ) as p:
        torch_file.read_dc(tmp_path / "a.pt")
    assert "\n" not in str(p.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a.pt: no such file"):
        torch_file.read_dc(tmp_path / "a.pt")


@pytest.mark.parametrize("images_name", ["images_best.pt", "images_3000.pt", "images_zca_3000.pt"])
def test_files_of_mtt_are_a_pair(tmp_path: Path, images: torch.Tensor, labels: torch.Tensor, images_name: str) -> None:
    labels_name = "labels_best.pt" if "best" in images_name else "labels_3000.pt"
    torch.save(images, tmp_path / images_name)
    torch.save(labels, tmp_path / labels_name)
    found = torch_file.read_mtt(tmp_path / images_name)
    torch.testing.assert_close(found.images, images, rtol=0, atol=0)
    torch.testing.assert_close(found.labels, labels, rtol=0, atol=0)
    assert found.files == {name: files.sha256(tmp_path / name) for name in (images_name, labels_name)}


def test_of_a_folder_of_mtt_the_best_is_read(tmp_path: Path, images: torch.Tensor, rows: torch.Tensor) -> None:
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(rows.requires_grad_(), tmp_path / "labels_best.pt")  # learned labels, as they are saved
    found = torch_file.read_mtt(tmp_path)
    assert not found.labels.requires_grad
    torch.testing.assert_close(found.labels, rows.detach(), rtol=0, atol=0)


def test_a_half_of_a_pair_is_refused(tmp_path: Path, images: torch.Tensor) -> None:
    torch.save(images, tmp_path / "images_best.pt")
    with pytest.raises(UserError, match="labels_best.pt: no such file"):
        torch_file.read_mtt(tmp_path)
    with pytest.raises(UserError, match="expected a file images_X.pt, beside its labels_X.pt"):
        torch_file.read_mtt(tmp_path / "labels_best.pt")
    torch.save({"labels": images}, tmp_path / "labels_best.pt")
    with pytest.raises(UserError, match="labels_best.pt: expected a tensor, found entries labels"):
        torch_file.read_mtt(tmp_path)
    with pytest.raises(UserError, match="--index"):
        torch_file.read_mtt(tmp_path, 0)


def test_tensors_are_read_by_torch_alone_and_make_a_tensor_dataset(tmp_path: Path, made: DistilledSet) -> None:
    torch_file.write_tensors(made, tmp_path / "set.pt")
    content = torch.load(tmp_path / "set.pt", weights_only=True)
    image, target = torch.utils.data.TensorDataset(content["images"], content["targets"])[3]
    torch.testing.assert_close(image, made.inputs[3], rtol=0, atol=0)
    torch.testing.assert_close(target, made.targets[3], rtol=0, atol=0)
    torch.testing.assert_close(content["labels"], made.labels, rtol=0, atol=0)


def test_equal_sets_give_equal_bytes(tmp_path: Path, made: DistilledSet) -> None:
    for name in ("a.pt", "b.pt"):
        torch_file.write_tensors(made, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_file_that_export_did_not_write_is_refused(dc: Path) -> None:
    with pytest.raises(UserError, match="not a set that export wrote as tensors; it has entries accs_all_exps, data"):
        torch_file.read_tensors(dc)
