import dataclasses
import inspect
import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse import plugins, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import random_images
from stillhouse.models import convnet, fitting, mlp, ridge, training
from stillhouse.models.training import Training
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, pixels
from stillhouse.teacher import Teacher

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 8},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2},
}
every_network = pytest.mark.parametrize("kind", sorted(SMALL))


def params(kind: str, space: Any = "pixels", **options: Any) -> Any:
    raw = {**SMALL[kind], "space": space, "training": {"epochs": 3, "epochs_real": 2, "batch": 16, **options}}
    return settings.parse_plugin("models", raw, "models.test")


def fit_real(real: RealSet, model: Any, run: Run) -> Teacher:
    teacher: Teacher = plugins.load("models", settings.kind_of(model)).fit_real(real, model, run)
    return teacher


def fit_distilled(distilled: DistilledSet, real: RealSet, model: Any, run: Run) -> Teacher:
    teacher: Teacher = plugins.load("models", settings.kind_of(model)).fit_distilled(distilled, real, model, run)
    return teacher


def scores(teacher: Teacher, images: torch.Tensor) -> torch.Tensor:
    module = plugins.load("models", str(teacher.model["kind"]))
    found: torch.Tensor = module.predictor(teacher, images[0].numel(), torch.device("cpu"))(images)
    return found


def content(teacher: Teacher, folder: Path) -> bytes:
    teacher.save(folder / "teacher")
    return (folder / "teacher").read_bytes()


def equal(one: Teacher, other: Teacher) -> bool:
    return all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())


@pytest.fixture
def distilled(toy: RealSet, run: Run) -> DistilledSet:
    return random_images.distill(toy, 2, random_images.Params(), run)


@every_network
def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_weights(
    kind: str, toy: RealSet, tmp_path: Path
) -> None:
    first = fit_real(toy, params(kind), Run(seed=3))
    torch.rand(7)
    again, other = (fit_real(toy, params(kind), Run(seed=seed)) for seed in (3, 4))
    assert content(first, tmp_path) == content(again, tmp_path)
    assert not equal(first, other)


@every_network
def test_shared_generators_and_defaults_are_left_alone(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    def state() -> tuple[Any, ...]:
        shared = (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
        return (*shared, torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())

    before = state()
    scores(fit_distilled(distilled, toy, params(kind), run), pixels(toy.test.inputs))
    fit_real(toy, params(kind), run)
    assert state() == before


@every_network
def test_a_teacher_read_from_its_file_scores_as_before(kind: str, toy: RealSet, run: Run, tmp_path: Path) -> None:
    teacher = fit_real(toy, params(kind, "standardised"), run)
    teacher.save(tmp_path / "teacher")
    images = pixels(toy.test.inputs)
    found = scores(Teacher.load(tmp_path / "teacher"), images)
    assert found.shape == (30, 3)
    assert torch.equal(found, scores(teacher, images))


@every_network
def test_memory_mapped_images_are_read_a_batch_at_a_time(
    kind: str, toy: RealSet, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(fitting, "pixels", lambda rows: (seen.append(len(rows)), pixels(rows))[1])
    toy.save(tmp_path / "toy")
    mapped = fit_real(RealSet.load(tmp_path / "toy"), params(kind), run)
    assert (max(seen), sum(seen)) == (16, 2 * len(toy.train))
    assert content(mapped, tmp_path) == content(fit_real(toy, params(kind), run), tmp_path)


@every_network
def test_every_epoch_sees_every_example_once_in_an_order_of_its_own(kind: str, toy: RealSet, run: Run) -> None:
    seen: list[int] = []

    def pick(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.extend(index.tolist())
        return pixels(toy.train.inputs[index]), torch.zeros(len(index), 3)

    model = params(kind)
    network = plugins.load("models", kind).build(model, toy.shape, 3)
    training.initialise(network, run.generator("initial weights"), run.device)
    steps = 2 * training.steps_of_epoch(60, model.training)
    training.train(network, training.Examples(60, pick), model.training, steps, run)
    assert sorted(seen[:60]) == sorted(seen[60:]) == list(range(60))
    assert seen[:60] != seen[60:] != sorted(seen[60:])


@every_network
def test_every_step_augments_its_examples_each_by_numbers_of_its_own(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    shown: list[torch.Tensor] = []
    model = params(kind, augmentation={"operations": ["color"]})
    network = plugins.load("models", kind).build(model, toy.shape, 3)
    network[0].register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    training.initialise(network, run.generator("initial weights"), run.device)
    same = torch.rand(1, *toy.shape, generator=run.generator("an image")).expand(6, *toy.shape)
    training.train(
        network, training.Examples(6, lambda index: (same[index], torch.eye(3)[index % 3])), model.training, 2, run
    )
    assert len(shown) == 2
    assert len(torch.cat(shown).flatten(1).unique(dim=0)) == 12


@every_network
def test_targets_that_are_no_probabilities_are_made_hard_where_that_is_asked_for(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    shifted = dataclasses.replace(distilled, targets=distilled.targets - 0.1)
    soft = dataclasses.replace(distilled, targets=distilled.targets * 0.7 + 0.1)
    either, hard = (params(kind, loss="cross_entropy", targets=each) for each in ("own_or_hard", "hard"))
    own = params(kind, loss="cross_entropy")
    assert equal(fit_distilled(shifted, toy, either, run), fit_distilled(shifted, toy, hard, run))
    assert equal(fit_distilled(soft, toy, either, run), fit_distilled(soft, toy, own, run))
    assert not equal(fit_distilled(soft, toy, either, run), fit_distilled(soft, toy, hard, run))


@every_network
def test_a_set_may_prescribe_an_optimiser_and_a_number_of_steps(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    asked = {"steps": 4, "optimiser": "adam", "learning_rate": 0.01, "batch": 6, "loss": "mse"}
    asking = dataclasses.replace(distilled, schedule=asked)
    same = params(kind, epochs=4, batch=6, learning_rate=0.01, weight_decay=0.0, loss="mse")
    other = params(kind, optimiser="sgd", learning_rate=1.0, batch=2, augmentation={"operations": ["color"]})
    found = fit_distilled(asking, toy, other, run)
    assert equal(found, fit_distilled(distilled, toy, same, run))
    assert found.notes["steps"] == 4


@every_network
def test_the_test_split_is_not_looked_at(kind: str, toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    blind = dataclasses.replace(toy, test=dataclasses.replace(toy.test, inputs=255 - toy.test.inputs))
    assert equal(*(fit_real(real, params(kind, "standardised"), run) for real in (toy, blind)))
    assert equal(*(fit_distilled(distilled, real, params(kind, "standardised"), run) for real in (toy, blind)))


@every_network
def test_the_judge_scores_it(kind: str, toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    model = dataclasses.replace(params(kind, "standardised", epochs=60, learning_rate=0.01), width=16, depth=1)
    found = list(judge.judge(distilled, toy, model, 2, 0, run))
    assert [score.training_seed for score in found] == [0, 1]
    assert all(score.value > 90 for score in found)


@every_network
def test_a_set_in_the_models_space_is_trained_on_as_it_is_and_one_of_pixels_is_moved_there(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    """Training on pixels and on their standardised values in the standardised space are the same; without moving they differ."""
    model = params(kind, "standardised")
    space = fitting.whitening.fit(model.space, toy)
    moved = dataclasses.replace(
        distilled, inputs=space.forward(distilled.inputs.to(torch.float64)), space=space.settings()
    )
    mistaken = dataclasses.replace(moved, space={"kind": "pixels"})
    of_pixels, as_it_is, wrong = (fit_distilled(each, toy, model, run) for each in (distilled, moved, mistaken))
    assert equal(of_pixels, as_it_is)
    assert not equal(of_pixels, wrong)


@pytest.mark.parametrize("depth", [0, 1])
def test_a_linear_network_reaches_the_least_squares_solution(depth: int, toy: RealSet) -> None:
    """Also through a hidden layer, where the product of the two layers' weights is what is learned."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 1, 2, 2, generator=rng, dtype=torch.float64)
    targets = torch.randn(40, 3, generator=rng, dtype=torch.float64)
    teacher = fit_linear(inputs, targets, depth, 0.0, toy)
    learned = torch.eye(4)
    for weight in teacher.weights.values():
        learned = learned @ weight.T
    wanted = torch.linalg.lstsq(inputs.flatten(1), targets).solution.to(torch.float32)
    torch.testing.assert_close(learned, wanted, rtol=1e-4, atol=1e-5)


def test_weight_decay_is_ridge_regression_with_as_many_times_the_ridge_as_examples(toy: RealSet) -> None:
    rng = torch.Generator().manual_seed(1)
    inputs = torch.randn(30, 1, 2, 2, generator=rng, dtype=torch.float64)
    targets = torch.randn(30, 3, generator=rng, dtype=torch.float64)
    teacher = fit_linear(inputs, targets, 0, 0.2, toy)
    wanted = ridge.solve(inputs.flatten(1), targets, 30 * 0.2).to(torch.float32)
    torch.testing.assert_close(teacher.weights["classifier.weight"].T, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(wanted, ridge.solve(inputs.flatten(1), targets, 0.0).to(torch.float32), atol=1e-2)


def fit_linear(
    inputs: torch.Tensor, targets: torch.Tensor, depth: int, weight_decay: float, real: RealSet
) -> Teacher:  # fmt: skip
    """A linear network of `depth` hidden layers, by gradient descent in full batches; of `real`, only the name."""
    rule = {"optimiser": "sgd", "learning_rate": 0.1, "weight_decay": weight_decay, "epochs": 400}
    raw = {"kind": "mlp", "depth": depth, "slope": 1.0, "training": rule}
    model = settings.parse_plugin("models", raw, "models.test")
    small = dataclasses.replace(real, train=dataclasses.replace(real.train, inputs=real.train.inputs[:, :, :2, :2]))
    return mlp.fit_distilled(DistilledSet(inputs, targets, real.classes), small, model, Run())


@every_network
def test_initial_weights_are_those_pytorch_would_draw(kind: str) -> None:
    model = params(kind)
    network = plugins.load("models", kind).build(model, (2, 8, 8), 3)
    training.initialise(network, torch.Generator().manual_seed(5), torch.device("cpu"))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        reference = torch.nn.Sequential(
            *(
                [torch.nn.Linear(128, 8, bias=False), torch.nn.Linear(8, 3, bias=False)]
                if kind == "mlp"
                else [
                    torch.nn.Conv2d(2, 4, 3),
                    torch.nn.GroupNorm(4, 4),
                    torch.nn.Conv2d(4, 4, 3),
                    torch.nn.GroupNorm(4, 4),
                    torch.nn.Linear(16, 3),
                ]
            )
        )
    for found, wanted in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gradient_of_a_batch_does_not_depend_on_how_many_go_through_together(
    precision: str, toy: RealSet, run: Run
) -> None:
    model = params("convnet", batch=60, precision=precision)
    weights = []
    for at_once in (7, None):
        network = convnet.build(model, toy.shape, 3)
        weights.append(fitting.fit_real(network, toy, model, run, at_once).weights["convolution1.weight"])
    torch.testing.assert_close(*weights, rtol=0, atol=1e-5 if precision == "float32" else 1e-3)


def test_batch_normalisation_sees_the_whole_batch(toy: RealSet, run: Run) -> None:
    model = dataclasses.replace(params("convnet", batch=60), norm="batch")
    networks = [convnet.build(model, toy.shape, 3) for _ in range(2)]
    assert equal(*(fitting.fit_real(n, toy, model, run, size) for n, size in zip(networks, (7, None), strict=True)))


def test_bfloat16_is_near_to_float32_and_not_the_same(toy: RealSet, run: Run) -> None:
    exact, rounded = (fit_real(toy, params("convnet", precision=p), run) for p in ("float32", "bfloat16"))
    found, wanted = scores(rounded, pixels(toy.test.inputs)), scores(exact, pixels(toy.test.inputs))
    assert found.dtype == torch.float32
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [("constant", [1, 1, 1, 1]), ("step", [1, 1, 0.1, 0.1]), ("cosine", [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])],
)
def test_the_learning_rate_follows_the_schedule(schedule: str, wanted: list[float]) -> None:
    assert [training.rate(schedule, step / 4) for step in range(4)] == pytest.approx(wanted)


def test_the_first_step_of_sgd_is_the_learning_rate_times_the_mean_gradient(toy: RealSet, run: Run) -> None:
    """By hand, for a linear network: the gradient of half the squared distance is F^T (F W - Y) / n."""
    plain: dict[str, Any] = {"optimiser": "sgd", "learning_rate": 0.01, "weight_decay": 0.0, "epochs_real": 1}
    model = dataclasses.replace(params("mlp", batch=60, **plain), depth=0)
    network = mlp.build(model, toy.shape, 3)
    training.initialise(network, run.generator("initial weights"), run.device)
    start = next(network.parameters()).detach().T
    rows, targets = pixels(toy.train.inputs).flatten(1), torch.eye(3)[toy.train.targets]
    wanted = start - 0.01 * rows.T @ (rows @ start - targets) / 60
    torch.testing.assert_close(fit_real(toy, model, run).weights["classifier.weight"].T, wanted)


def test_cross_entropy_is_minus_the_logarithm_of_the_softmax_at_the_target() -> None:
    predicted, targets = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]]), torch.tensor([[0.2, 0.8, 0], [0, 0, 1]])
    by_hand = -(targets * (predicted - predicted.exp().sum(1, keepdim=True).log())).sum()
    torch.testing.assert_close(training.loss("cross_entropy", predicted, targets), by_hand)


@every_network
def test_cross_entropy_refuses_targets_that_are_no_probabilities(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    model = params(kind, loss="cross_entropy")
    soft = dataclasses.replace(distilled, targets=distilled.targets * 0.7 + 0.1)
    fit_distilled(soft, toy, model, run)
    for targets in (distilled.targets * 2, distilled.targets * 1.2 - 0.2 / 3):
        with pytest.raises(UserError, match=r"no probabilities .* Set training.loss: mse"):
            fit_distilled(dataclasses.replace(distilled, targets=targets), toy, model, run)


@every_network
def test_a_loss_that_is_nan_or_infinite_stops_with_the_step(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    far = dataclasses.replace(distilled, inputs=distilled.inputs * 1e6)
    model = dataclasses.replace(params(kind, optimiser="sgd", learning_rate=1e6, epochs=50))
    with pytest.raises(NumericalError, match=r"the loss is (nan|inf) at step \d+ of 50"):
        fit_distilled(far, toy, model, run)


def test_weights_that_are_infinite_after_the_last_step_stop_it(toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    model = params("mlp", optimiser="sgd", learning_rate=1e38, epochs=1)
    far = dataclasses.replace(distilled, targets=distilled.targets * 1e6)
    with pytest.raises(NumericalError, match="weights are NaN or infinite after step 1 of 1"):
        fit_distilled(far, toy, model, run)


def test_a_loss_that_has_grown_is_said(
    toy: RealSet, distilled: DistilledSet, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "stillhouse"):
        fit_distilled(distilled, toy, params("mlp", epochs=30), run)
        assert not caplog.records
        fit_distilled(distilled, toy, params("mlp", learning_rate=1.0, epochs=2), run)
    assert "the loss grew from" in caplog.text


@every_network
def test_a_schedule_that_is_not_obeyed_is_refused(kind: str, toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    closed_form = dataclasses.replace(distilled, schedule={"ridge": 0.0})
    fit_distilled(closed_form, toy, params(kind), run)
    asking = dataclasses.replace(distilled, schedule={"ridge": 0.0, "learning_rate": 0.02})
    with pytest.raises(UserError, match="schedule asks for learning_rate, which models/"):
        fit_distilled(asking, toy, params(kind), run)


def stepwise(
    distilled: DistilledSet, sizes: list[float], steps: int = 1, loss: str = "mse", **more: Any
) -> DistilledSet:
    schedule = {"steps": steps, "epochs": len(sizes) // steps, "step_sizes": sizes, "loss": loss, **more}
    return dataclasses.replace(distilled, schedule=schedule)


def test_a_schedule_of_step_sizes_is_followed_part_by_part(toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    """By hand, for a linear network and half the squared distance; nothing of the model's own training is done."""
    model = dataclasses.replace(params("mlp", optimiser="adam", epochs=7), depth=0)
    network = mlp.build(model, toy.shape, 3)
    training.initialise(network, run.generator("initial weights"), run.device)
    wanted = next(network.parameters()).detach().T.double()
    rows, targets = distilled.inputs.flatten(1).double(), distilled.targets.double()
    sizes = [0.3, 0.2, 0.1, 0.05, 0.4, 0.02]
    for size, part in zip(sizes, [slice(0, 2), slice(2, 4), slice(4, 6)] * 2, strict=True):
        wanted = wanted - size * rows[part].T @ (rows[part] @ wanted - targets[part]) / 2
    teacher = fit_distilled(stepwise(distilled, sizes, 3), toy, model, run)
    torch.testing.assert_close(teacher.weights["classifier.weight"].T.double(), wanted, rtol=1e-5, atol=1e-6)
    assert (teacher.notes["steps"], teacher.notes["examples"]) == (6, 6)


@every_network
def test_a_schedule_with_cross_entropy_takes_targets_that_are_no_probabilities(
    kind: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    """The gradient is linear in the targets: twice the targets for half the step give the same, but for the softmax's weight."""
    uneven = dataclasses.replace(distilled, targets=distilled.targets * 3 - 1)
    [first] = [weight.double() for name, weight in one_step(kind, uneven, toy, run).items() if name == LAST]
    [twice, none] = [
        one_step(kind, dataclasses.replace(uneven, targets=factor * uneven.targets), toy, run)[LAST].double()
        for factor in (2, 0)
    ]
    torch.testing.assert_close(twice - none, 2 * (first - none), rtol=1e-3, atol=1e-6)
    assert float((first - none).abs().max()) > 1e-3


LAST = "classifier.weight"


def one_step(kind: str, distilled: DistilledSet, real: RealSet, run: Run) -> dict[str, torch.Tensor]:
    return dict(fit_distilled(stepwise(distilled, [0.1], loss="cross_entropy"), real, params(kind), run).weights)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"step_sizes": [0.1]}, "1 step_sizes for 2 epochs of 1 steps"),
        ({"step_sizes": [0.1, 0.0]}, r"toy/\?: schedule.step_sizes\[1\]"),
        ({"step_sizes": [0.1] * 8, "steps": 4}, "6 examples do not divide into 4 steps"),
        ({"momentum": 0.9}, "schedule asks for momentum, which models/mlp does not do"),
        ({"loss": "hinge"}, "schedule.loss"),
        ({"start": "0" * 64}, r"starts from weights of a trained models/mlp \(seed 0, data 000000000000\)"),
    ],
)
def test_a_schedule_of_step_sizes_that_makes_no_sense_is_refused(
    changed: dict[str, Any], message: str, toy: RealSet, distilled: DistilledSet, run: Run
) -> None:
    named = dataclasses.replace(stepwise(distilled, [0.1, 0.1]), recipe={"dataset": "toy"})
    wrong = dataclasses.replace(named, schedule={**named.schedule, **changed})
    fit_distilled(named, toy, params("mlp"), run)
    with pytest.raises(UserError, match=message):
        fit_distilled(wrong, toy, params("mlp"), run)


def test_a_schedule_stops_at_the_step_whose_numbers_are_none(toy: RealSet, distilled: DistilledSet, run: Run) -> None:
    with pytest.raises(NumericalError, match=r"schedule: .* at step 2 of 3 with step size 1e\+39"):
        fit_distilled(stepwise(distilled, [0.1, 1e39, 0.1]), toy, params("mlp"), run)


def is_network(kind: str) -> bool:
    """Whether methods that train networks step by step take a model of this kind."""
    made = plugins.load("models", kind).Params
    try:
        training.check_network(made.__new__(made))
    except ValueError:
        return False
    return True


def test_every_network_that_can_be_trained_step_by_step_has_its_file(toy: RealSet) -> None:
    for kind in plugins.available("models"):
        build = getattr(plugins.load("models", kind), "build", lambda: None)
        takes_classes = "classes" in inspect.signature(build).parameters
        assert takes_classes == is_network(kind)
    assert isinstance(training.build(params("mlp"), toy.shape, 3), torch.nn.Sequential)


def test_images_go_through_the_network_so_many_at_a_time(
    toy: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(70, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    teacher = fit_real(toy, params("convnet"), run)
    seen: list[int] = []
    original = training.scores
    monkeypatch.setattr(training, "scores", lambda n, part, p: (seen.append(len(part)), original(n, part, p))[1])
    together = scores(teacher, images)
    assert seen == [32, 32, 6]
    torch.testing.assert_close(together, torch.cat([scores(teacher, image[None]) for image in images]))


def test_progress_counts_steps(toy: RealSet, distilled: DistilledSet) -> None:
    totals: list[int] = []

    class Counting(Run):
        def progress(self, items: Any, total: int, what: str) -> Iterator[Any]:
            made = list(items)
            totals.extend([total, len(made)])
            yield from made

    notes = fit_distilled(distilled, toy, params("mlp", batch=4, epochs=5), Counting()).notes
    assert totals == [10, 10]
    assert (notes["steps"], notes["examples"]) == (10, 6)


def test_settings_that_make_no_sense_are_refused() -> None:
    assert params("mlp").training == Training(epochs=3, epochs_real=2, batch=16)
    for wrong in ({"optimiser": "lion"}, {"learning_rate": 0}, {"epochs": 0}, {"precision": "half"}):
        with pytest.raises(UserError, match=f"models.test.training.{next(iter(wrong))}"):
            params("mlp", **wrong)
