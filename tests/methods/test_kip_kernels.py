"""KIP with a kernel function: its loss and derivatives, learned labels, families, corruption."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import kernels, linalg, settings, spaces
from stillhouse.methods import kip, kip_kernels, label_solve, random_images
from stillhouse.models import kernel as model_kernel
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages.store import Store

NTK = {"kind": "kernel", "kernel": {"kind": "fully_connected", "depth": 1}, "space": "standardised"}


def params(**changed: Any) -> kip.Params:
    return settings.parse(kip.Params, {"model": NTK, "steps": 6, "batch": 40, "labels": "fixed", **changed}, "test")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """K_bS (9, 4), K_SS (4, 4), Y_S (4, 3), Y_b (9, 3)."""
    root = drawn(4, 6, seed=1)
    return drawn(9, 4), root @ root.T, drawn(4, 3, seed=2), drawn(9, 3, seed=3)


def plain(
    across: torch.Tensor, gram: torch.Tensor, targets: torch.Tensor, wanted: torch.Tensor, ridge: float
) -> torch.Tensor:
    system = gram + ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return (across @ torch.linalg.solve(system, targets) - wanted).square().mean() / 2


def test_loss_and_derivatives_are_those_of_automatic_differentiation() -> None:
    across, gram, targets, wanted = case()
    free = [tensor.clone().requires_grad_() for tensor in (across, gram, targets)]
    expected = plain(*free, wanted, 0.3)
    expected.backward()
    system = model_kernel.System.of_gram(gram, 0.3)
    loss, slopes = kip_kernels.fixed_loss(across, system, targets, wanted, 0.3)
    assert loss == pytest.approx(float(expected.detach()))
    torch.testing.assert_close(slopes.across, free[0].grad)
    torch.testing.assert_close(slopes.targets, free[2].grad)
    # A Gram matrix moves symmetrically: only the symmetric part of its derivative counts.
    symmetric = (free[1].grad + free[1].grad.T) / 2
    torch.testing.assert_close((slopes.gram + slopes.gram.T) / 2, symmetric)


def test_derivative_with_solved_labels_agrees_with_finite_differences() -> None:
    across, _, _, wanted = case()
    _, slope = kip_kernels.solved_loss(across, wanted)
    direction, step = drawn(9, 4, seed=5), 1e-6
    ends = [kip_kernels.solved_loss(across + sign * step * direction, wanted)[0] for sign in (1, -1)]
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(float((slope * direction).sum()), rel=1e-7)


@pytest.mark.parametrize("labels", ["fixed", "learned", "solved"])
def test_the_gradient_agrees_with_finite_differences(labels: str, toy: RealSet) -> None:
    objective = kip._objective(toy, params(labels=labels), Run())
    support = {name: tensor.requires_grad_() for name, tensor in objective.start(1).items()}

    def loss() -> float:
        for tensor in support.values():
            tensor.grad = None
        return objective.descend(support, torch.Generator().manual_seed(1))

    for name, tensor in support.items():
        loss()
        direction, step = drawn(*tensor.shape, seed=6), 1e-5
        slope = float((tensor.grad * direction).sum())
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor.add_(sign * step * direction)
            ends.append(loss())
            with torch.no_grad():
                tensor.sub_(sign * step * direction)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-5), name


def test_fixed_labels_are_those_of_the_images_it_starts_from(toy: RealSet) -> None:
    made = kip.distill(toy, 2, params(), Run(seed=0))
    torch.testing.assert_close(made.targets, spaces.one_hot(torch.arange(3).repeat(2), 3))


def test_learned_labels_move_and_solved_ones_are_label_solve_s(toy: RealSet) -> None:
    learned = kip.distill(toy, 2, params(labels="learned"), Run(seed=0)).targets
    assert 0.001 < linalg.relative_error(learned, spaces.one_hot(torch.arange(3).repeat(2), 3)) < 1
    solved = kip.distill(toy, 2, params(labels="solved", steps=0), Run(seed=0))
    wanted = label_solve.distill(toy, 2, label_solve.Params(params().model), Run(seed=0))
    torch.testing.assert_close(solved.inputs, wanted.inputs)
    torch.testing.assert_close(solved.targets, wanted.targets, rtol=1e-6, atol=1e-8)


def test_without_steps_nothing_moves(toy: RealSet) -> None:
    made = kip.distill(toy, 2, params(steps=0), Run(seed=0))
    start = random_images.distill(toy, 2, random_images.Params(), Run(seed=0))
    torch.testing.assert_close(made.pictures(), start.inputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "noise"])
def test_corrupted_pixels_stay_as_they_are_and_the_others_move(kind: str, digits: RealSet) -> None:
    chosen = params(corruption=0.5, corruption_kind=kind, steps=5)
    before = kip._objective(digits, chosen, Run(seed=0)).start(1)["inputs"]
    objective = kip._objective(digits, chosen, Run(seed=0))
    objective.start(1)
    frozen = objective._frozen  # type: ignore[attr-defined]
    made = kip.distill(digits, 1, chosen, Run(seed=0)).inputs
    assert torch.equal(made[frozen], before[frozen])
    assert float((made != before)[~frozen].double().mean()) > 0.9
    assert (float(made[frozen].abs().sum()) == 0) == (kind == "zero")


def test_a_step_draws_a_kernel_of_the_family_evenly(toy: RealSet) -> None:
    family = [{"kind": "fully_connected", "depth": depth} for depth in (1, 2, 3)]
    objective = kip._objective(toy, params(family=family), Run())
    draw = torch.Generator().manual_seed(0)
    inputs = objective.start(1)["inputs"]
    values = [float(objective._drawn(draw)(inputs, inputs)[0, 1]) for _ in range(90)]  # type: ignore[attr-defined]
    counts = [values.count(each) for each in set(values)]
    assert len(counts) == 3
    assert min(counts) > 15


def test_random_features_are_drawn_anew_at_every_step(toy: RealSet) -> None:
    networks = {"kind": "random_features", "networks": 1, "width": 2, "convolutions": [1]}
    objective = kip._objective(toy, params(family=[networks]), Run())
    draw = torch.Generator().manual_seed(0)
    inputs = objective.start(1)["inputs"]
    values = {float(objective._drawn(draw)(inputs, inputs)[0, 1]) for _ in range(5)}  # type: ignore[attr-defined]
    assert len(values) == 5


def test_another_family_trains_other_images_for_the_same_model(toy: RealSet) -> None:
    one = kip.distill(toy, 1, params(), Run(seed=0))
    two = kip.distill(toy, 1, params(family=[{"kind": "rbf"}]), Run(seed=0))
    assert not torch.equal(one.inputs, two.inputs)
    assert one.model == two.model


def test_float32_goes_the_same_way_as_float64(digits: RealSet) -> None:
    made = [
        kip.distill(digits, 1, params(model={**NTK, "precision": precision}, batch=200), Run(seed=0)).inputs.double()
        for precision in ("float64", "float32")
    ]
    assert 0 < linalg.relative_error(made[1], made[0]) < 1e-4


def test_what_the_solve_rests_on_stands_in_the_recipe(toy: RealSet) -> None:
    numerics = kip.distill(toy, 2, params(), Run(seed=0)).recipe["numerics"]
    assert numerics["jitter"] == 0
    assert 1 < numerics["condition"] < 1e8
    assert numerics["steps"] == 6
    assert numerics["ridge"] > 0


def test_the_record_ends_with_what_the_model_scores(digits: RealSet, tmp_path: Path) -> None:
    store = Store(tmp_path)
    kip.distill(digits, 1, params(steps=3), Run(seed=0, store=store))
    assert [line["step"] for line in store.records] == [0, 1, 2, 3]
    assert store.records[-1]["distance_to_start"] > 0


def test_a_kernel_of_explicit_features_gives_the_matrices_it_would_give_piece_by_piece(toy: RealSet) -> None:
    networks = {"kind": "random_features", "networks": 2, "width": 3, "convolutions": [1]}
    kernel = kernels.build(settings.parse_plugin("kernels", networks, "test"), toy.shape, 0)
    rows, inputs = drawn(5, *toy.shape), drawn(3, *toy.shape, seed=1)
    across, gram = kip_kernels.matrices(kernel, rows, inputs)
    torch.testing.assert_close(across, kernel(rows, inputs))
    torch.testing.assert_close(gram, kernel.gram(inputs))
