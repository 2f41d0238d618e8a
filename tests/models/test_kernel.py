"""Kernel ridge regression with a kernel function, against the same thing with an explicit feature map."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import linalg, settings, spaces
from stillhouse.errors import NumericalError
from stillhouse.evaluation import judge
from stillhouse.models import kernel, ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.spaces import StandardSpace
from stillhouse.teacher import Teacher

NTK = {"kind": "fully_connected", "depth": 1}


def params(**changed: Any) -> kernel.Params:
    return settings.parse(kernel.Params, {"kernel": NTK, "space": "standardised", **changed}, "test")


def some(real: RealSet, count: int) -> DistilledSet:
    """The first training images as they are."""
    targets = spaces.one_hot(real.train.targets[:count], real.n_classes)
    return DistilledSet(pixels(real.train.inputs[:count]), targets, real.classes)


def test_a_linear_kernel_is_ridge_regression_on_pixels(digits: RealSet) -> None:
    linear = params(kernel={"kind": "linear"}, space="pixels", centred=False, ridge=1e-3)
    images = some(digits, 40)
    teacher = kernel.fit_distilled(images, digits, linear, Run())
    flat = images.inputs.double().flatten(1)
    strength = 1e-3 * float(flat.square().sum(1).mean())
    wanted = ridge.solve(flat, images.targets, strength)
    tested = pixels(digits.test.inputs[:50])
    found = kernel.predictor(teacher, digits.dim, torch.device("cpu"))(tested)
    torch.testing.assert_close(found, tested.double().flatten(1) @ wanted, rtol=1e-8, atol=1e-10)


def test_centred_targets_sum_to_nothing_and_scores_to_one(digits: RealSet) -> None:
    teacher = kernel.fit_distilled(some(digits, 40), digits, params(), Run())
    scores = kernel.predictor(teacher, digits.dim, torch.device("cpu"))(pixels(digits.test.inputs[:20]))
    torch.testing.assert_close(scores.sum(1), torch.ones(20, dtype=torch.float64))


def test_all_training_images_as_centres_are_kernel_ridge_regression_on_them(toy: RealSet) -> None:
    chosen = params(centres=57, ridges_real={"first": -2, "last": -2})
    teacher = kernel.fit_real(toy, chosen, Run())
    assert teacher.notes["centres"] == teacher.notes["examples"] == 57
    fitted, _ = ridge.split(60, 0.05, 0)
    space = StandardSpace(*(torch.tensor(teacher.space[name]) for name in ("mean", "std")))
    inputs = space.forward(pixels(toy.train.inputs[fitted]).double())
    own = kernel.build(chosen, toy.shape, 0)
    gram = own.gram(inputs)
    strength = 1e-2 * float(gram.diagonal().mean())
    targets = spaces.one_hot(toy.train.targets[fitted], 3) - 1 / 3
    wanted = torch.linalg.solve(gram + strength * torch.eye(57, dtype=torch.float64), targets)
    torch.testing.assert_close(teacher.weights["coefficients"], wanted, rtol=1e-5, atol=1e-7)


def test_more_centres_fit_better(digits: RealSet) -> None:
    few, many = (
        judge.accuracy(kernel.fit_real(digits, params(centres=count), Run()), digits, Run()) for count in (20, 400)
    )
    assert many > few + 5
    assert many > 95


def test_the_ridge_is_the_best_of_the_validation_part(digits: RealSet) -> None:
    notes = kernel.fit_real(digits, params(centres=100), Run()).notes
    best = max(notes["validation_accuracy"])
    assert notes["ridge"] == max(
        r for r, a in zip(notes["ridges"], notes["validation_accuracy"], strict=True) if a == best
    )


def test_float32_kernel_values_change_hardly_a_score(digits: RealSet) -> None:
    images = some(digits, 100)
    scores = []
    for precision in ("float64", "float32"):
        teacher = kernel.fit_distilled(images, digits, params(precision=precision), Run())
        predict = kernel.predictor(teacher, digits.dim, torch.device("cpu"))
        scores.append(predict(pixels(digits.test.inputs[:200])))
    error = linalg.relative_error(scores[1], scores[0])
    assert 0 < error < 1e-4


def test_a_teacher_read_from_its_file_scores_as_before(toy: RealSet, tmp_path: Path) -> None:
    teacher = kernel.fit_real(toy, params(centres=20), Run(seed=3))
    teacher.save(tmp_path / "teacher")
    read = Teacher.load(tmp_path / "teacher")
    first, second = (
        kernel.predictor(each, toy.dim, torch.device("cpu"))(pixels(toy.test.inputs)) for each in (teacher, read)
    )
    assert torch.equal(first, second)


def test_equal_images_are_solved_with_the_ridge_alone(toy: RealSet) -> None:
    images = some(toy, 3)
    twice = DistilledSet(images.inputs.repeat(2, 1, 1, 1), images.targets.repeat(2, 1), images.classes)
    scores = [
        kernel.predictor(kernel.fit_distilled(each, toy, params(), Run()), toy.dim, torch.device("cpu"))(
            pixels(toy.test.inputs)
        )
        for each in (images, twice)
    ]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_what_the_solve_rests_on_is_told(digits: RealSet) -> None:
    notes = kernel.fit_distilled(some(digits, 30), digits, params(), Run()).notes
    assert notes["jitter"] == 0
    assert 1 < notes["condition"] < 1e7
    assert notes["ridge"] > 0


def test_inputs_that_are_no_numbers_are_refused(toy: RealSet) -> None:
    with pytest.raises(NumericalError, match="NaN or infinite"):
        kernel.System.of_gram(torch.full((2, 2), torch.nan, dtype=torch.float64), 1e-6)


def test_scores_of_a_set_stand_beside_those_of_the_teacher(digits: RealSet, tmp_path: Path) -> None:
    chosen = params(centres=200)
    kernel.fit_real(digits, chosen, Run(seed=0)).save(tmp_path / "teacher")
    run = Run(teachers=(tmp_path / "teacher",))
    references = judge.References(digits, chosen, run)
    found = {
        score.metric: score.value for score in judge.judge(some(digits, 30), digits, chosen, 1, 0, run, references)
    }
    assert found["weak epsilon (error)"] == pytest.approx(
        abs(judge.accuracy(Teacher.load(tmp_path / "teacher"), digits, run) - found["test accuracy"])
    )
    assert found["strong epsilon (error)"] >= found["weak epsilon (error)"] > 0
    assert found["strong epsilon (square)"] > 0
    others = judge.judge(some(digits, 30), digits, chosen, 1, 5, run, references)  # a seed without a teacher
    assert [score.metric for score in others] == ["test accuracy"]
