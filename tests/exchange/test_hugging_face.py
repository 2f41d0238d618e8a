import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.exchange import hugging_face
from stillhouse.sets import DistilledSet

HERE = importlib.util.find_spec("datasets") is not None


@pytest.mark.skipif(HERE, reason="datasets is installed")
def test_without_the_package_it_says_what_to_install(tmp_path: Path, made: DistilledSet) -> None:
    with pytest.raises(
        UserError, match="--format hugging_face: the package 'datasets' is not installed. Run 'pip install"
    ):
        hugging_face.write(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not HERE, reason="needs the package datasets")
def test_the_package_reads_what_was_written(tmp_path: Path, made: DistilledSet) -> None:
    import datasets  # type: ignore[import-not-found,import-untyped,unused-ignore]

    hugging_face.write(made, tmp_path / "out")
    rows = datasets.load_from_disk(str(tmp_path / "out")).with_format("torch")
    shape = json.loads(rows.info.description)["shape"]
    torch.testing.assert_close(rows[:]["image"].view(-1, *shape), made.inputs, rtol=0, atol=0)
    torch.testing.assert_close(rows[:]["target"].to(torch.float64), made.targets, rtol=0, atol=1e-6)
    assert rows[:]["label"].tolist() == made.labels.tolist()
    assert rows.features["label"].names == list(made.classes)


def test_what_it_cannot_hold_or_would_overwrite_is_refused(tmp_path: Path, made: DistilledSet) -> None:
    whitened = dataclasses.replace(made, space={"kind": "zca", "vectors": torch.eye(16)})
    with pytest.raises(UserError, match=r"its space \(zca\) holds matrices. Export it as npz"):
        hugging_face.write(whitened, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out: exists already"):
        hugging_face.write(made, tmp_path / "out")
