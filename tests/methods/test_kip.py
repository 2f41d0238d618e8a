"""KIP's loop, for kernels and for feature maps: what it leaves, stopping, and going on after an interruption."""

import itertools
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import kip
from stillhouse.methods.support import record_steps
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages.store import Store

FCNN = {"kind": "ridge", "features": {"kind": "random_network"}, "space": "standardised"}
NTK = {"kind": "kernel", "kernel": {"kind": "fully_connected", "depth": 1}, "space": "standardised"}
NETWORKS = {"kind": "random_features", "networks": 2, "width": 4, "convolutions": [1]}

every_kind = pytest.mark.parametrize(
    "settings_of",
    [
        {"model": FCNN},
        {"model": NTK},  # labels solved
        {"model": NTK, "labels": "fixed", "corruption": 0.5},
        {"model": NTK, "labels": "learned", "augmentation": {"shift": 1}, "family": [NTK["kernel"], NETWORKS]},
        {"model": NTK, "labels": "learned", "patience": 8, "check_every": 2},
    ],
)


def params(**changed: Any) -> kip.Params:
    return settings.parse(kip.Params, {"steps": 12, "batch": 40, **changed}, "test")


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@every_kind
def test_an_interrupted_run_goes_on_with_the_same_bits(
    settings_of: dict[str, Any], digits: RealSet, tmp_path: Path
) -> None:
    chosen = params(**settings_of)
    whole = kip.distill(digits, 1, chosen, Run(seed=0, store=Store(tmp_path / "whole", interval=0)))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["step"] == 7:
                raise Interrupted

    with pytest.raises(Interrupted):
        kip.distill(digits, 1, chosen, Run(seed=0, store=Dying(tmp_path / "one", interval=0)))
    store = Store(tmp_path / "one", interval=0)
    assert store.kept()[1]["step"] == 7  # type: ignore[index]
    resumed = kip.distill(digits, 1, chosen, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, whole.inputs)
    assert torch.equal(resumed.targets, whole.targets)
    done = store.records[-1]["step"]
    assert [line["step"] for line in store.records] == [
        *itertools.takewhile(lambda s: s <= done, record_steps(12)),
        done,
    ]


@every_kind
def test_training_makes_it_better(settings_of: dict[str, Any], digits: RealSet) -> None:
    scores = []
    for steps in (0, 60):
        chosen = params(**{**settings_of, "steps": steps, "batch": 400, "learning_rate": 0.03})
        made = kip.distill(digits, 1, chosen, Run(seed=0))
        [score] = judge.judge(made, digits, chosen.model, 1, 0, Run(seed=0))
        scores.append(score.value)
    assert scores[1] > scores[0] + 1


@pytest.mark.parametrize(("model", "rate"), [(FCNN, 3e37), (NTK, 1e200)])
def test_numbers_that_are_none_stop_with_the_step(model: dict[str, Any], rate: float, digits: RealSet) -> None:
    with pytest.raises(NumericalError, match=r"step \d+"):
        kip.distill(digits, 1, params(model=model, learning_rate=rate), Run(seed=0))


def test_progress_is_recorded_ever_less_often() -> None:
    assert list(record_steps(13)) == [0, 1, 2, 3, 4, 6, 9]
    assert len(list(record_steps(30_000))) < 30
    assert kip.budget(params(model=NTK, steps=3000)) == pytest.approx(0.1)


def test_without_a_better_accuracy_for_so_long_it_ends_with_the_best_set(digits: RealSet, tmp_path: Path) -> None:
    # Steps so large that every one makes it worse than the start, or hardly better.
    store = Store(tmp_path)
    chosen = params(model=NTK, labels="fixed", steps=60, learning_rate=30.0, patience=4, check_every=2)
    made = kip.distill(digits, 1, chosen, Run(seed=0, store=store))
    steps = made.recipe["numerics"]["steps"]
    assert 4 <= steps < 60
    last = store.records[-1]
    assert last["step"] == steps
    assert last["validation_accuracy"] == max(line["validation_accuracy"] for line in store.records)


def test_how_long_it_takes_is_said_before_it_begins(digits: RealSet, caplog: pytest.LogCaptureFixture) -> None:
    chosen = params(model=NTK, labels="fixed", steps=50)
    ticks = iter([0.0, 12.0])
    with caplog.at_level(logging.INFO):
        told = kip.distill(digits, 1, chosen, Run(seed=0, clock=lambda: next(ticks)))
    assert "KIP, 10 images: 50 steps of about 12 s, 10 min in all; " in caplog.text
    assert "MB so far" in caplog.text
    untold = kip.distill(digits, 1, chosen, Run(seed=0))
    assert torch.equal(told.inputs, untold.inputs)  # the trial leaves no trace


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": FCNN, "labels": "fixed"},
        {"model": FCNN, "family": [NETWORKS]},
        {"model": FCNN, "corruption": 0.5},
        {"model": NTK, "corruption": 1.0},
        {"model": {"kind": "mlp"}},
        {"model": NTK, "family": "ntk"},
        {"model": NTK, "family": ["no such kernel"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="test"):
        params(**wrong)
