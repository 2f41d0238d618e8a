import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages import prepare


def prepared(settings: Mapping[str, object], folder: Path, caplog: pytest.LogCaptureFixture) -> tuple[RealSet, str]:
    """The set that was saved as `mine`, and what was logged."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        prepare.prepare(dict(settings), "mine", folder, Run(), folder / "mine.safetensors")
    return RealSet.load(folder / "mine.safetensors"), caplog.messages[-1]


def test_the_log_counts_the_examples_of_a_regression_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"kind": "gaussian_regression", "examples": 10, "dim": 3, "outputs": 2}
    real, said = prepared(settings, tmp_path, caplog)
    counts = {"train": 8, "test": 2, "shape": [3], "outputs": ["y1", "y2"]}
    assert said == f"mine: {json.dumps(counts)}, fingerprint {real.fingerprint[:16]}, order {real.order[:16]}"


def test_the_log_counts_the_examples_and_classes_of_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(10)), encoding="utf-8")
    real, said = prepared({"kind": "csv", "path": str(path), "target": "y", "task": "classification"}, tmp_path, caplog)
    counts = {"train": 8, "test": 2, "shape": [1], "classes": 2}
    assert said == f"mine: {json.dumps(counts)}, fingerprint {real.fingerprint[:16]}, order {real.order[:16]}"


def test_a_table_of_your_own_is_saved_as_it_was_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "t.csv"
    path.write_text("x,what,y\n" + "".join(f"{i},a,{i / 3}\n" for i in range(5)), encoding="utf-8")
    settings = {"kind": "csv", "path": str(path), "target": "y", "ignore": ["what"]}
    real, _ = prepared(settings, tmp_path, caplog)
    assert (real.name, real.outputs, real.regression) == ("mine", ("y",), True)
    inputs = torch.cat([real.train.inputs, real.test.inputs]).double()
    assert torch.equal(torch.cat([real.train.targets, real.test.targets]), inputs / 3)
