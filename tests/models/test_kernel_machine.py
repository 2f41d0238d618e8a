"""The kernel machine against scikit-learn, closed forms and its own certificate; one machine for two classes."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from stillhouse import linalg, settings, spaces
from stillhouse.data import identity
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.models import kernel_machine, ridge
from stillhouse.models.kernel_machine import Machine, Params
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels
from stillhouse.theory import duality
from stillhouse.theory.duality import Logistic, Loss, SmoothedHinge, Squared

RBF = {"kind": "rbf", "gamma": 2.0}
LOSSES = ["squared", "logistic", "hinge", "smoothed_hinge"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def params(**changed: Any) -> Params:
    raw = {"kernel": RBF, "space": "pixels", "centres": 60, "examples": 200, "smoothing": 0.5, **changed}
    return settings.parse(Params, raw, "test")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def problem() -> tuple[torch.Tensor, torch.Tensor]:
    """K (50, 50) and labels of +-1 (50, 1) that a machine can learn in part."""
    inputs = drawn(50, 3)
    return torch.exp(-torch.cdist(inputs, inputs).square() / 3), (inputs[:, :1] + drawn(50, 1, seed=1)).sign()


@pytest.fixture
def two(digits: RealSet) -> RealSet:
    """The digits 3 and 8 alone."""

    def kept(split: Split) -> Split:
        index = (split.targets == 3) | (split.targets == 8)
        return Split(split.inputs[index], (split.targets[index] == 8).long())

    return identity.identified("two", kept(digits.train), kept(digits.test), ("3", "8"))


def real_as_distilled(real: RealSet, count: int) -> DistilledSet:
    targets = spaces.one_hot(real.train.targets[:count], real.n_classes)
    return DistilledSet(pixels(real.train.inputs[:count]), targets, real.classes)


# Solvers


def test_the_squared_loss_gives_kernel_ridge_regression(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    gram, labels = problem
    found = kernel_machine.solve(Squared(), gram, labels, 0.02, 1e-12)
    reference = KernelRidge(alpha=0.02 * 50, kernel="precomputed").fit(gram.numpy(), labels.numpy())
    np.testing.assert_allclose(found.weights.numpy(), reference.dual_coef_, rtol=1e-8)


@pytest.mark.parametrize("strength", [0.1, 0.001])
def test_the_hinge_gives_the_support_vector_machine(
    problem: tuple[torch.Tensor, torch.Tensor], strength: float
) -> None:
    """SVC has a bias; a machine whose K is split as K + 1 - 1 has none, so scikit-learn's is held to its own dual optimum."""
    gram, labels = problem
    found = kernel_machine.solve(SmoothedHinge(), gram, labels, strength, 1e-9)
    box = 1 / (50 * strength)  # C, for which alpha / (lambda m) = y a with 0 <= a <= C
    # Every example a second time as -x with label -y: then the best bias is 0, by symmetry.
    doubled = torch.cat([torch.cat([gram, -gram], 1), torch.cat([-gram, gram], 1)]).numpy()
    reference = SVC(C=box / 2, kernel="precomputed", tol=1e-10).fit(doubled, torch.cat([labels, -labels])[:, 0].numpy())
    assert reference.intercept_[0] == pytest.approx(0, abs=1e-6)
    scores = reference.decision_function(doubled[:50])
    np.testing.assert_allclose((gram @ found.weights)[:, 0].numpy(), scores, atol=2e-5)


@pytest.mark.parametrize("strength", [0.1, 0.001])
def test_the_logistic_loss_gives_logistic_regression_on_explicit_features(
    problem: tuple[torch.Tensor, torch.Tensor], strength: float
) -> None:
    gram, labels = problem
    found = kernel_machine.solve(Logistic(), gram, labels, strength, 1e-10)
    values, vectors = torch.linalg.eigh(gram)
    rows = (vectors * values.clamp(min=0).sqrt()).numpy()
    reference = LogisticRegression(C=1 / (50 * strength), fit_intercept=False, tol=1e-10, max_iter=2000)
    reference.fit(rows, labels[:, 0].numpy())
    np.testing.assert_allclose((gram @ found.weights)[:, 0].numpy(), reference.decision_function(rows), atol=1e-4)


@pytest.mark.parametrize("loss", [Logistic(), SmoothedHinge(), SmoothedHinge(0.3), SmoothedHinge(2.0)])
@pytest.mark.parametrize("strength", [10.0, 0.01, 1e-4])
def test_the_gap_that_is_told_is_the_primal_less_the_dual_and_is_small(
    problem: tuple[torch.Tensor, torch.Tensor], loss: Loss, strength: float
) -> None:
    gram, labels = problem
    both = torch.cat([labels, 0.5 * labels.flip(0)], 1)  # real-valued labels too
    found = kernel_machine.solve(loss, gram, both, strength, 1e-8)
    own = duality.norms_squared(found.weights, gram)
    upper = duality.primal(loss, both, gram @ found.weights, own, strength)
    lower = duality.dual_value(loss, both, found.dual, gram, strength)
    torch.testing.assert_close(upper - lower, found.gap, atol=1e-12, rtol=1e-6)
    assert float(found.gap.max()) <= 1e-8
    assert bool(((found.dual >= 0) & (found.dual <= 1)).all())
    other = gram @ (found.weights * 1.02)
    assert bool((duality.primal(loss, both, other, own * 1.02**2, strength) > upper).all())


@every_loss
def test_equal_examples_are_no_obstacle(loss: str) -> None:
    gram, labels = torch.ones(4, 4, dtype=torch.float64), torch.tensor([[1.0], [1], [-1], [1]], dtype=torch.float64)
    found = kernel_machine.solve(params(loss=loss).objective, gram, labels, 0.1, 1e-7)
    scores = gram @ found.weights
    torch.testing.assert_close(scores, scores[:1].expand(4, 1))
    assert float(scores[0]) > 0


def test_a_gap_that_stays_large_stops_with_its_number(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    with pytest.raises(NumericalError, match=r"gap is still .*above its tolerance -0.001"):
        kernel_machine.solve(Logistic(), *problem, 1e-3, -1e-3)  # out of reach, however rounding falls


def test_explicit_features_and_kernels_give_one_machine(problem: tuple[torch.Tensor, torch.Tensor]) -> None:
    gram, labels = problem
    rows = torch.linalg.cholesky(gram)
    for loss in (Logistic(), SmoothedHinge(), SmoothedHinge(0.5)):
        explicit = kernel_machine.solve_features(loss, rows, labels, 0.01, 1e-12)
        found = kernel_machine.solve(loss, gram, labels, 0.01, 1e-9)
        torch.testing.assert_close(rows @ explicit.weights, gram @ found.weights, atol=1e-4, rtol=1e-4)


# Models


@every_loss
def test_with_all_examples_as_centres_the_real_set_gives_what_the_same_set_as_a_distilled_one_gives(
    digits: RealSet, loss: str
) -> None:
    few = dataclasses.replace(digits, train=Split(digits.train.inputs[:80], digits.train.targets[:80]))
    model, run = params(loss=loss, centres=80, examples=0, validation=0.0125, tolerance=1e-9), Run(seed=0)
    fitted, _ = ridge.split(80, 0.0125, 0)
    inputs, targets = pixels(few.train.inputs[fitted]), spaces.one_hot(few.train.targets[fitted], 10)
    teacher = kernel_machine.fit_real(few, model, run)
    student = kernel_machine.fit_distilled(DistilledSet(inputs, targets, few.classes), few, model, run)
    scores = [
        kernel_machine.predictor(each, few.dim, run.device)(pixels(few.test.inputs[:50])) for each in (teacher, student)
    ]
    torch.testing.assert_close(*scores, atol=2e-3, rtol=1e-3)


@every_loss
def test_it_learns_the_digits(digits: RealSet, loss: str) -> None:
    teacher = kernel_machine.fit_real(digits, params(loss=loss, kernel={"kind": "rbf", "gamma": 10.0}), Run(seed=0))
    assert judge.accuracy(teacher, digits, Run(seed=0)) > 85
    assert teacher.notes["gap"] <= 10 * 1e-7
    assert teacher.notes["validation_accuracy"] > 0.8
    assert (teacher.notes["centres"], teacher.notes["examples"]) == (60, 200)


def test_the_norm_of_the_notes_is_that_of_the_machine(digits: RealSet) -> None:
    teacher = kernel_machine.fit_real(digits, params(), Run(seed=0))
    machine = Machine.of(teacher, torch.device("cpu"))
    assert float(machine.norms().sum().sqrt()) == pytest.approx(teacher.notes["norm"])


@every_loss
def test_two_classes_have_one_machine_whose_sign_decides(two: RealSet, loss: str) -> None:
    run = Run(seed=0)
    teacher = kernel_machine.fit_real(two, params(loss=loss), run)
    assert teacher.weights["factors"].shape == (60, 1)
    scores = kernel_machine.predictor(teacher, two.dim, run.device)(pixels(two.test.inputs))
    torch.testing.assert_close(scores[:, 0], -scores[:, 1])
    assert judge.accuracy(teacher, two, run) > 85
    student = kernel_machine.fit_distilled(real_as_distilled(two, 30), two, params(loss=loss), run)
    assert judge.accuracy(student, two, run) > 80


def test_labels_and_targets_are_each_others_inverse() -> None:
    for labels in (drawn(5, 1), drawn(5, 4)):
        torch.testing.assert_close(kernel_machine.labels_of(kernel_machine.targets_of(labels)), labels)
    assert kernel_machine.labels_of(torch.eye(2)).tolist() == [[-1], [1]]
    assert kernel_machine.labels_of(torch.eye(3))[1].tolist() == [-1, 1, -1]


def test_centres_are_balanced_and_begin_the_examples(digits: RealSet) -> None:
    order = kernel_machine.balanced(digits, torch.arange(300), torch.Generator().manual_seed(0))
    assert order.sort().values.tolist() == list(range(300))
    assert digits.train.targets[order[:20]].bincount(minlength=10).tolist() == [2] * 10


def test_single_precision_kernel_values_give_nearly_the_same_machine(digits: RealSet) -> None:
    run = Run(seed=0)
    models = [params(precision=each, loss="logistic") for each in ("float64", "float32")]
    teachers = [kernel_machine.fit_real(digits, each, run) for each in models]
    scores = [kernel_machine.predictor(each, digits.dim, run.device)(pixels(digits.test.inputs)) for each in teachers]
    assert linalg.relative_error(scores[1], scores[0]) < 1e-4


def test_a_ridge_of_nought_is_refused() -> None:
    with pytest.raises(UserError, match="ridge"):
        params(ridge=0)
