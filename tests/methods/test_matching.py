"""What gradient and distribution matching share, held for both: the loop, going on after an interruption, what comes out."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.methods import distribution_matching, gradient_matching, matching
from stillhouse.methods.matching import Loop, RealImages
from stillhouse.methods.support import record_steps
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages.store import Store

CONVNET = {"kind": "convnet", "width": 4, "depth": 1, "space": "standardised"}
MLP = {"kind": "mlp", "width": 8, "space": "standardised"}
ALL = {"operations": ["color", "crop", "cutout", "flip", "scale", "rotate"]}
LESS = {"batch": 8, "steps": 3}
DC = {"method": gradient_matching, "model": CONVNET, **LESS}
DM = {"method": distribution_matching, "model": CONVNET, **LESS}
CASES: dict[str, dict[str, Any]] = {
    "DC": DC,
    "DC, updates": {**DC, "updates": 3, "epochs": 2},
    "DC, batch norm": {**DC, "model": {**CONVNET, "norm": "batch"}, "updates": 3, "epochs": 1},
    "DSA": {**DC, "updates": 3, "epochs": 2, "augmentation": ALL, "start": "real"},
    "DM": DM,
    "DM, batch norm": {**DM, "model": {**CONVNET, "norm": "batch"}},
}

every_case = pytest.mark.parametrize("name", sorted(CASES))


def params(case: dict[str, Any], **changed: Any) -> Any:
    raw = {name: value for name, value in {**case, **changed}.items() if name != "method"}
    return settings.parse(case["method"].Params, raw, "test")


class Interrupted(Exception):  # noqa: N818
    """Stands for the signal."""


@every_case
def test_an_interrupted_run_goes_on_with_the_same_bits(name: str, toy: RealSet, tmp_path: Path) -> None:
    method, chosen = CASES[name]["method"], params(CASES[name])
    whole = Store(tmp_path / "whole", interval=0)
    wanted = method.distill(toy, 2, chosen, Run(seed=0, store=whole))
    last = 4 if CASES[name].get("updates") else 2  # in the middle of a step, where there is one

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["update"] == last:
                raise Interrupted

    with pytest.raises(Interrupted):
        method.distill(toy, 2, chosen, Run(seed=0, store=Dying(tmp_path / "one", interval=0)))
    store = Store(tmp_path / "one", interval=0)
    assert store.kept()[1]["update"] == last  # type: ignore[index]
    resumed = method.distill(toy, 2, chosen, Run(seed=0, store=store))
    assert torch.equal(resumed.inputs, wanted.inputs)
    assert [{**line, "seconds": 0} for line in store.records] == [{**line, "seconds": 0} for line in whole.records]
    assert [line["step"] for line in store.records] == list(record_steps(3))


@every_case
def test_the_set_is_in_the_model_s_space_with_fixed_labels_for_all_initial_weights(name: str, toy: RealSet) -> None:
    chosen = params(CASES[name])
    made = CASES[name]["method"].distill(toy, 2, chosen, Run(seed=0))
    assert made.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert made.targets.sum(1).tolist() == [1] * 6
    assert made.inputs.dtype == torch.float32
    assert made.space == whitening.fit(chosen.model.space, toy).settings()
    assert made.model == settings.dump(chosen.model)
    assert not made.schedule


# Batch normalisation in DM makes something finite of images of any size.
@pytest.mark.parametrize("name", sorted({*CASES} - {"DM, batch norm"}))
def test_numbers_that_are_none_stop_with_the_step(name: str, toy: RealSet) -> None:
    chosen = params(CASES[name], learning_rate=1e38, steps=20)
    with pytest.raises(NumericalError, match=r"step \d+: the distance is"):
        CASES[name]["method"].distill(toy, 1, chosen, Run(seed=0))


@pytest.mark.parametrize("name", ["DC", "DC, updates", "DM"])
def test_how_long_it_takes_is_said_before_it_begins_and_leaves_no_trace(
    name: str, toy: RealSet, caplog: pytest.LogCaptureFixture
) -> None:
    chosen = params(CASES[name], steps=17 if CASES[name].get("updates") else 50, model=MLP, batch=1)
    ticks = iter([0.0, 12.0])
    with caplog.at_level(logging.INFO):
        told = CASES[name]["method"].distill(toy, 1, chosen, Run(seed=0, clock=lambda: next(ticks)))
    assert "3 images: 5" in caplog.text
    assert "steps of about 12 s" in caplog.text
    untold = CASES[name]["method"].distill(toy, 1, chosen, Run(seed=0))
    assert torch.equal(told.inputs, untold.inputs)


@pytest.mark.parametrize("method", [gradient_matching, distribution_matching])
def test_the_part_of_the_published_steps(method: Any) -> None:
    full = method.Params(params({"method": method, "model": MLP}).model)
    assert method.budget(full) == 1
    assert method.budget(dataclasses.replace(full, steps=full.steps // 10)) == pytest.approx(0.1)


@pytest.mark.parametrize("method", [gradient_matching, distribution_matching])
def test_a_model_without_initial_weights_is_refused(method: Any) -> None:
    with pytest.raises(UserError, match=r"test.*needs a network, such as convnet or mlp, found 'ridge'"):
        params({"method": method, "model": {"kind": "ridge", "features": "identity"}})


def test_real_images_come_class_by_class_each_as_often_and_none_twice(digits: RealSet) -> None:
    of = RealImages(digits, params(DC).model, Run(seed=0))
    first = list(of.draw(20, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in first] == [20] * 10
    everything = of.space.forward(digits.train.inputs.to(torch.float32) / 255)
    for label, rows in enumerate(first):
        own = everything[digits.train.targets == label]
        found = (rows[:, None] == own[None]).flatten(2).all(2).any(0)
        assert int(found.sum()) == 20
    again = torch.cat(list(of.draw(20, torch.Generator().manual_seed(1))))
    assert not torch.equal(torch.cat(first), again)


def test_images_start_from_noise_or_from_real_ones(toy: RealSet) -> None:
    of = RealImages(toy, params(DC).model, Run(seed=0))
    noise = matching.start("noise", toy, of, 500, Run(seed=0))
    assert noise.shape == (1500, 1, 4, 4)
    assert float(noise.mean()) == pytest.approx(0, abs=0.03)
    assert float(noise.std()) == pytest.approx(1, abs=0.03)
    real = matching.start("real", toy, of, 2, Run(seed=0))
    everything = of.at(torch.arange(60))
    for i, image in enumerate(real):
        place = torch.nonzero((everything == image).flatten(1).all(1)).flatten()
        assert toy.train.targets[place].tolist() == [i % 3]


class _Slope:
    """An objective whose gradient is 1, or what `of` says, and that counts what is asked of it."""

    def __init__(self) -> None:
        self.networks: list[nn.Sequential] = []
        self.trained = 0

    def match(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> float:
        self.networks.append(network)
        images.grad = torch.ones_like(images)
        return 1.0

    def train(self, network: nn.Sequential, images: torch.Tensor, draw: torch.Generator) -> None:
        self.trained += 1


def descended(loop: Loop) -> tuple[torch.Tensor, _Slope]:
    objective = _Slope()
    build: Callable[[torch.Generator], nn.Sequential] = lambda rng: nn.Sequential(nn.Identity())  # noqa: E731
    return matching.descend(torch.zeros(2, 3), objective, build, loop, Run(seed=0), "test"), objective


def test_updates_have_momentum_and_keep_it_from_step_to_step() -> None:
    found, _ = descended(Loop(steps=3, updates=1, learning_rate=0.1, momentum=0.5))
    torch.testing.assert_close(found, torch.full((2, 3), -0.1 * (1 + 1.5 + 1.75)))


def test_every_step_has_its_own_network_trained_between_its_updates() -> None:
    _, objective = descended(Loop(steps=2, updates=3, learning_rate=0.1, momentum=0.5))
    first, second = objective.networks[:3], objective.networks[3:]
    assert len({id(each) for each in first}) == len({id(each) for each in second}) == 1
    assert first[0] is not second[0]
    assert objective.trained == 2 * 2


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (32, [32]), (33, [17, 16]), (100, [25] * 4), (256, [32] * 8)])
def test_a_batch_goes_through_a_network_in_parts_of_nearly_the_same_size(count: int, sizes: list[int]) -> None:
    images = torch.arange(count)
    found = matching.parts(images)
    assert [len(part) for part in found] == sizes
    torch.testing.assert_close(torch.cat(found), images)
