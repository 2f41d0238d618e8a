"""Every pair of classes: batches of pairs against one pair alone, and the rows against the model and the method."""

from typing import Any

import pytest
import torch

from stillhouse import settings, spaces
from stillhouse.analyses import dgkip_pairs
from stillhouse.data import identity
from stillhouse.errors import NumericalError, UserError
from stillhouse.evaluation import judge
from stillhouse.methods import dgkip
from stillhouse.methods.random_images import sample
from stillhouse.models import kernel_machine
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split, pixels
from stillhouse.theory import duality

MODEL = {"kind": "kernel_machine", "kernel": {"kind": "rbf", "gamma": 4.0}, "space": "standardised"}


def params(**changed: Any) -> dgkip_pairs.Params:
    raw = {"kind": "dgkip_pairs", "model": MODEL, "images": 30, "steps": 25, "learning_rate": 0.05, **changed}
    parsed: dgkip_pairs.Params = settings.parse_plugin("analyses", raw, "analyses.test")
    return parsed


@pytest.fixture(scope="module")
def three(digits: RealSet) -> RealSet:
    """The digits 3, 5 and 8 alone."""

    def kept(split: Split) -> Split:
        index = torch.isin(split.targets, torch.tensor([3, 5, 8]))
        return Split(split.inputs[index], torch.tensor([0, 0, 0, 0, 0, 1, 0, 0, 2, 0])[split.targets[index]])

    return identity.identified("three", kept(digits.train), kept(digits.test), ("3", "5", "8"))


@pytest.fixture(scope="module")
def rows(three: RealSet) -> list[dict[str, Any]]:
    return list(dgkip_pairs.analyse(three, params(), Run(seed=0)))


def of(rows: list[dict[str, Any]], **wanted: object) -> list[dict[str, Any]]:
    return [row for row in rows if wanted.items() <= row.items()]


def test_there_is_a_row_for_every_pair_loss_and_set(rows: list[dict[str, Any]]) -> None:
    assert [(row["one"], row["other"]) for row in of(rows, loss="logistic", trained_on="dgkip")] == [
        ("3", "5"), ("3", "8"), ("5", "8"),
    ]  # fmt: skip
    made = {(row["loss"], row["trained_on"], row["images"]) for row in rows}
    assert made == {
        ("squared", "all", 60), ("squared", "random", 2), ("squared", "dgkip", 2), ("squared", "kip", 2),
        ("logistic", "all", 60), ("logistic", "random", 2), ("logistic", "dgkip", 2),
    }  # fmt: skip
    assert all(isinstance(value, int | float | str) for row in rows for value in row.values())


def test_distilled_sets_have_smaller_gaps_than_random_ones_and_do_better(rows: list[dict[str, Any]]) -> None:
    for loss in ("squared", "logistic"):
        random, made = of(rows, loss=loss, trained_on="random"), of(rows, loss=loss, trained_on="dgkip")
        for before, after in zip(random, made, strict=True):
            assert after["gap"] < before["gap"]
            assert after["distance"] < before["distance"]
        assert sum(row["accuracy"] for row in made) > sum(row["accuracy"] for row in random)


def test_rows_keep_the_bounds(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["trained_on"] != "all":
            assert row["distance"] <= row["bound_ball"] + 1e-3 <= row["bound"] + 2e-3
            assert row["certain"] <= row["agreement"]
            assert 100 - row["accuracy"] <= row["error_at_most"]


def test_machines_of_all_and_of_random_images_are_those_of_the_model(
    three: RealSet, rows: list[dict[str, Any]]
) -> None:
    run, pair = Run(seed=0), (0, 2)

    def kept(split: Split) -> Split:
        index = (split.targets == pair[0]) | (split.targets == pair[1])
        return Split(split.inputs[index], (split.targets[index] == pair[1]).long())

    two = identity.identified("two", kept(three.train), kept(three.test), ("3", "8"))
    space = {"kind": "standardised", **{k: v for k, v in _fitted(three).items() if k != "kind"}}
    model = settings.parse(kernel_machine.Params, {**MODEL, "loss": "logistic", "space": space}, "test")
    for purpose, count, name in (("real images", 30, "all"), ("images", 1, "random")):
        chosen = sample(three, count, run.generator(purpose)).view(count, 3)[:, list(pair)].flatten()
        targets = spaces.one_hot((three.train.targets[chosen] == pair[1]).long(), 2)
        given = DistilledSet(pixels(three.train.inputs[chosen]), targets, two.classes)
        student = kernel_machine.fit_distilled(given, two, model, run)
        (row,) = of(rows, one="3", other="8", loss="logistic", trained_on=name)
        assert row["accuracy"] == pytest.approx(judge.accuracy(student, two, run))


def _fitted(real: RealSet) -> dict[str, Any]:
    from stillhouse.data import whitening

    return whitening.fit(whitening.Standardised(), real).settings()


def test_blocks_and_grams_of_all_pairs_are_those_of_each_alone(three: RealSet) -> None:
    pairs = dgkip_pairs._pairs(three, params(per_class=2), Run(seed=1))
    points = pairs.start.clone().requires_grad_()
    block, grams = pairs.block(points), pairs.grams(points)
    for i, (one, other) in enumerate(pairs.names.tolist()):
        torch.testing.assert_close(grams[i], pairs.kernel.gram(points[i]))
        for side, label in enumerate((one, other)):
            torch.testing.assert_close(block[i, :, side], pairs.kernel(points[i], pairs.real[label]))
    assert block.shape == (3, 4, 2, 30)
    (slope,) = torch.autograd.grad(block[1].sum() + grams[1].sum(), points)
    assert float(slope[1].norm()) > 0
    assert float(slope[[0, 2]].norm()) == 0


def test_the_objective_of_all_pairs_is_the_sum_of_the_methods_own(three: RealSet) -> None:
    """One step of Adam with a tiny rate moves along the sign of the gradient of dgkip.Objective."""
    asked = params(losses=["logistic"], kip=False, steps=1, learning_rate=1e-6)
    pairs, run = dgkip_pairs._pairs(three, asked, Run(seed=0)), Run(seed=0)
    loss = duality.Logistic()
    gram = pairs.kernel.gram(pairs.real.flatten(0, 1))
    teachers = dgkip_pairs._teachers(loss, gram, pairs, asked, run)
    moved, _ = dgkip_pairs._dgkip(loss, teachers, pairs, asked, run)
    for i in range(3):
        factors = teachers.factors[i].flatten()[:, None]
        machine = kernel_machine.Machine(pairs.kernel, pairs.real[pairs.names[i]].flatten(0, 1), factors)
        labels, points = pairs.labels[:, [i]], pairs.start[i].clone().requires_grad_()
        dual = kernel_machine.solve(loss, pairs.kernel.gram(pairs.start[i]), labels, 0.01, 1e-7).dual
        one = dgkip.Objective(loss, 0.01, machine, teachers.norms[[i]], labels)
        one.gap({"inputs": points, "dual": dgkip.freed(loss, dual)}).backward()  # type: ignore[no-untyped-call]
        assert points.grad is not None
        clear = points.grad.abs() > 1e-6
        assert bool(clear.any())
        assert torch.equal((moved[i] - pairs.start[i])[clear].sign(), -points.grad[clear].sign())


def test_kip_fits_the_real_images_better_than_where_it_started(three: RealSet) -> None:
    asked = params(steps=40)
    pairs = dgkip_pairs._pairs(three, asked, Run(seed=0))
    fits = []
    for points in (pairs.start, dgkip_pairs._kip(pairs, asked, Run(seed=0))):
        total = 0.0
        for i in range(3):
            gram = pairs.kernel.gram(points[i])
            found = kernel_machine.solve(duality.Squared(), gram, pairs.labels[:, [i]], 0.01, 1e-7).weights
            scores = torch.cat([pairs.kernel(pairs.real[label], points[i]) @ found for label in pairs.names[i]])
            total += float((scores[:, 0] - torch.tensor([-1.0, 1.0]).repeat_interleave(30)).square().mean())
        fits.append(total)
    assert fits[1] < 0.8 * fits[0]


def test_seeds_draw_other_images(three: RealSet) -> None:
    asked = params(losses=["squared"], kip=False, steps=0)
    made = [
        [row["gap"] for row in dgkip_pairs.analyse(three, asked, Run(seed=seed)) if "gap" in row] for seed in (0, 0, 1)
    ]
    assert made[0] == made[1] != made[2]


def test_kip_alone_needs_no_loss_of_its_own(three: RealSet) -> None:
    rows = list(dgkip_pairs.analyse(three, params(losses=["hinge"], steps=2), Run(seed=0)))
    assert len(of(rows, loss="squared", trained_on="kip")) == 3
    assert not of(rows, loss="squared", trained_on="dgkip")
    assert len(of(rows, loss="hinge", trained_on="dgkip")) == 3


def test_numbers_that_are_none_stop_with_the_step(three: RealSet) -> None:
    with pytest.raises(NumericalError, match=r"step \d+: the objective of DGKIP"):
        list(dgkip_pairs.analyse(three, params(losses=["squared"], kip=False, learning_rate=1e200), Run(seed=0)))


def test_more_images_than_there_are_is_refused(three: RealSet) -> None:
    with pytest.raises(UserError, match="per_class 5000"):
        list(dgkip_pairs.analyse(three, params(images=5000), Run(seed=0)))
