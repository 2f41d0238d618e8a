"""Nearest neighbours, against scikit-learn's."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from stillhouse import settings, spaces
from stillhouse.errors import UserError
from stillhouse.evaluation import judge
from stillhouse.models import nearest
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.teacher import Teacher

CPU = torch.device("cpu")


def params(**changed: Any) -> nearest.Params:
    return settings.parse(nearest.Params, changed, "test")


def some(real: RealSet, count: int) -> DistilledSet:
    """The first training images as they are."""
    targets = spaces.one_hot(real.train.targets[:count], real.n_classes)
    return DistilledSet(pixels(real.train.inputs[:count]), targets, real.classes)


def scores(distilled: DistilledSet, real: RealSet, chosen: nearest.Params, images: torch.Tensor) -> torch.Tensor:
    teacher = nearest.fit_distilled(distilled, real, chosen, Run())
    return nearest.predictor(teacher, real.dim, CPU)(images)


def line(*places: float, targets: torch.Tensor) -> DistilledSet:
    """One-pixel examples at these places."""
    inputs = torch.tensor(places, dtype=torch.float64).view(-1, 1, 1, 1)
    return DistilledSet(inputs, targets.to(torch.float64), tuple("abcdef"[: targets.shape[1]]))


@pytest.fixture
def pixel(toy: RealSet) -> RealSet:
    """A real set of one-pixel images."""
    parts = {name: dataclasses.replace(getattr(toy, name), inputs=getattr(toy, name).inputs[:, :, :1, :1].contiguous())
             for name in ("train", "test")}  # fmt: skip
    return dataclasses.replace(toy, **parts)


@pytest.mark.parametrize("neighbours", [1, 4, 7])
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0])
def test_shares_of_neighbours_are_scikit_learns(digits: RealSet, neighbours: int, norm: float) -> None:
    distilled, tested = some(digits, 200), pixels(digits.test.inputs[:100])
    found = scores(distilled, digits, params(neighbours=neighbours, norm=norm), tested)
    theirs = KNeighborsClassifier(neighbours, p=norm, algorithm="brute")
    theirs.fit(distilled.inputs.double().flatten(1).numpy(), distilled.labels.numpy())
    wanted = theirs.predict_proba(tested.double().flatten(1).numpy())
    np.testing.assert_allclose(found.numpy() / neighbours, wanted, atol=3e-6)


def test_the_space_decides_what_is_near(digits: RealSet) -> None:
    whitened = params(space={"kind": "zca", "per_image": False}, neighbours=3)
    distilled, tested = some(digits, 100), pixels(digits.test.inputs[:50])
    teacher = nearest.fit_distilled(distilled, digits, whitened, Run())
    space = spaces.from_settings(teacher.space)
    rows, seen = (space.forward(each.double()).flatten(1).numpy() for each in (distilled.inputs, tested))
    wanted = KNeighborsClassifier(3, algorithm="brute").fit(rows, distilled.labels.numpy()).predict_proba(seen)
    found = nearest.predictor(teacher, digits.dim, CPU)(tested)
    np.testing.assert_allclose(found.numpy() / 3, wanted, atol=3e-6)


def test_soft_targets_are_summed(pixel: RealSet) -> None:
    targets = torch.tensor([[0.5, 0.25, 0.25], [0.0, 2.0, -1.0], [9.0, 9.0, 9.0]])
    found = scores(line(0.0, 0.2, 1.0, targets=targets), pixel, params(neighbours=2), torch.full((1, 1, 1, 1), 0.15))
    torch.testing.assert_close(found, torch.tensor([[0.5, 2.25, -0.75]], dtype=torch.float64), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("place", "winner"), [(0.3, 0), (0.3125, 0), (0.32, 1)])
def test_of_equal_votes_those_of_the_nearest_neighbour_win(pixel: RealSet, place: float, winner: int) -> None:
    """Two votes each; 0.3125 is as far from 0.125 as from 0.5, and the first of these in the set is class 0's."""
    distilled = line(0.125, 0.5, 0.625, 0.75, targets=torch.eye(2)[[0, 1, 1, 0]])
    found = scores(distilled, pixel, params(neighbours=4), torch.full((1, 1, 1, 1), place))
    assert found.argmax(1).tolist() == [winner]
    assert 0 < float((found[0, 0] - found[0, 1]).abs()) < 1e-5


@pytest.mark.parametrize("tile", [1, 2, 100])
def test_of_equally_far_examples_the_first_of_the_set_comes_first(tile: int) -> None:
    references = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]).double()
    for norm in (1.0, 2.0):
        found = nearest.nearest(torch.zeros(1, 2).double(), iter(torch.split(references, tile)), 4, norm)
        assert found.tolist() == [[1, 3, 5, 0]]


def test_a_set_with_fewer_examples_than_neighbours_has_all_as_neighbours(pixel: RealSet) -> None:
    found = scores(line(0.0, 1.0, targets=torch.eye(3)[:2]), pixel, params(neighbours=9), torch.full((1, 1, 1, 1), 0.9))
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-5)
    assert int(found.argmax()) == 1


@pytest.mark.parametrize("kept", [0, nearest.KEPT])
@pytest.mark.parametrize("tile", [37, 4096])
def test_the_whole_set_is_read_in_tiles(
    digits: RealSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: int, tile: int
) -> None:
    monkeypatch.setattr(nearest, "TILE", tile)
    monkeypatch.setattr(nearest, "KEPT", kept)
    chosen = params(space="standardised", neighbours=3)
    nearest.fit_real(digits, chosen, Run()).save(tmp_path / "teacher")
    teacher = Teacher.load(tmp_path / "teacher")
    assert teacher.weights["references"].dtype == digits.train.inputs.dtype
    space = spaces.from_settings(teacher.space)
    rows, seen = (
        space.forward(pixels(each.inputs).double()).flatten(1).numpy() for each in (digits.train, digits.test)
    )
    theirs = KNeighborsClassifier(3, algorithm="brute").fit(rows, digits.train.targets.numpy())
    wanted = 100 * theirs.score(seen, digits.test.targets.numpy())
    # Float32 may turn a tie of distances or of votes.
    assert judge.accuracy(teacher, digits, Run()) == pytest.approx(wanted, abs=0.6)


def test_a_part_of_the_whole_set_is_drawn_by_the_seed(digits: RealSet) -> None:
    one, again, other = (nearest.fit_real(digits, params(examples=50), Run(seed=seed)) for seed in (1, 1, 2))
    assert len(one.weights["references"]) == one.notes["examples"] == 50
    assert torch.equal(one.weights["references"], again.weights["references"])
    assert not torch.equal(one.weights["references"], other.weights["references"])
    everything = nearest.fit_real(digits, params(), Run())
    assert torch.equal(everything.weights["references"], digits.train.inputs)


def test_every_training_image_is_its_own_nearest_neighbour(toy: RealSet) -> None:
    teacher = nearest.fit_real(toy, params(), Run())
    found = nearest.predictor(teacher, toy.dim, CPU)(pixels(toy.train.inputs))
    assert torch.equal(found.argmax(1), toy.train.targets)


def test_the_judge_scores_a_set_by_it(digits: RealSet) -> None:
    [score] = judge.judge(some(digits, 100), digits, params(), 1, 0, Run())
    theirs = KNeighborsClassifier(1, algorithm="brute")
    theirs.fit(pixels(digits.train.inputs[:100]).double().flatten(1).numpy(), digits.train.targets[:100].numpy())
    seen = pixels(digits.test.inputs).double().flatten(1).numpy()
    assert score.value == pytest.approx(100 * theirs.score(seen, digits.test.targets.numpy()), abs=0.3)


def test_settings_that_no_neighbours_have_are_refused() -> None:
    with pytest.raises(UserError, match="neighbours: input should be greater than or equal to 1"):
        params(neighbours=0)
    with pytest.raises(UserError, match="norm: input should be greater than or equal to 1"):
        params(norm=0.5)
