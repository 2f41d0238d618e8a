"""Label Solve, against the formula with a column for every real example."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import linalg, settings, spaces
from stillhouse.evaluation import judge
from stillhouse.methods import label_solve, random_images
from stillhouse.models import kernel as model_kernel
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels
from stillhouse.spaces import from_settings
from stillhouse.stages.store import Store

NTK = {"kind": "kernel", "kernel": {"kind": "fully_connected", "depth": 1}, "space": "standardised"}


def params(**changed: Any) -> label_solve.Params:
    return settings.parse(label_solve.Params, {"model": NTK, **changed}, "test")


def test_labels_are_the_pseudo_inverse_of_the_predictions_times_the_targets(toy: RealSet) -> None:
    made = label_solve.distill(toy, 2, params(), Run(seed=0))
    kernel = model_kernel.build(params().model, toy.shape, 0)
    real = from_settings(made.space).forward(pixels(toy.train.inputs).double())
    gram = kernel.gram(made.inputs)
    ridge = 1e-6 * float(gram.diagonal().mean())
    predictions = kernel(real, made.inputs) @ torch.linalg.inv(gram + ridge * torch.eye(6, dtype=torch.float64))
    wanted = torch.linalg.pinv(predictions) @ (spaces.one_hot(toy.train.targets, 3) - 1 / 3)
    torch.testing.assert_close(made.targets - 1 / 3, wanted, rtol=1e-6, atol=1e-8)


def test_no_other_labels_fit_the_real_set_better(toy: RealSet) -> None:
    made = label_solve.distill(toy, 1, params(), Run(seed=0))

    def loss(targets: torch.Tensor) -> float:
        teacher = model_kernel.fit_distilled(
            dataclasses.replace(made, targets=targets), toy, params().model, Run(seed=0)
        )
        scores = model_kernel.predictor(teacher, toy.dim, torch.device("cpu"))(pixels(toy.train.inputs))
        return float((scores - spaces.one_hot(toy.train.targets, 3)).square().sum())

    least = loss(made.targets)
    rng = torch.Generator().manual_seed(0)
    for _ in range(10):
        assert loss(made.targets + 0.1 * torch.randn(3, 3, generator=rng)) > least
    # and to second order: the gradient vanishes
    direction = torch.randn(3, 3, generator=rng, dtype=torch.float64)
    ends = [loss(made.targets + sign * 1e-4 * direction) for sign in (1, -1)]
    assert abs(ends[0] - ends[1]) < 1e-6 * least


@pytest.mark.parametrize(
    "kernel", [NTK["kernel"], {"kind": "rbf"}, {"kind": "convolutional", "convolutions": [1], "pooling": "none"}]
)
def test_it_beats_the_images_own_labels_with_any_kernel(kernel: dict[str, Any], digits: RealSet) -> None:
    chosen = params(model={**NTK, "kernel": kernel})
    scores = []
    for made in (
        random_images.distill(digits, 2, random_images.Params(), Run(seed=0)),
        label_solve.distill(digits, 2, chosen, Run(seed=0)),
    ):
        [score] = judge.judge(made, digits, chosen.model, 1, 0, Run(seed=0))
        scores.append(score.value)
    assert scores[1] > scores[0] + 3


def test_it_does_not_depend_on_how_many_examples_are_seen_at_once(
    digits: RealSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = label_solve.distill(digits, 1, params(), Run(seed=0))
    monkeypatch.setattr(model_kernel, "CHUNK", 100)
    parts = label_solve.distill(digits, 1, params(), Run(seed=0))
    torch.testing.assert_close(whole.targets, parts.targets, rtol=1e-8, atol=1e-10)


def test_float32_kernel_values_change_the_labels_little(digits: RealSet) -> None:
    made = [
        label_solve.distill(digits, 5, params(model={**NTK, "precision": precision}), Run(seed=0)).targets
        for precision in ("float64", "float32")
    ]
    assert 0 < linalg.relative_error(made[1], made[0]) < 1e-2


def test_what_the_solve_rests_on_stands_in_the_recipe(digits: RealSet) -> None:
    numerics = label_solve.distill(digits, 2, params(), Run(seed=0)).recipe["numerics"]
    assert numerics["jitter"] == 0
    assert numerics["labels"]["condition"] > numerics["condition"] > 1


def test_an_interrupted_pass_goes_on_with_the_same_bits(
    digits: RealSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_kernel, "CHUNK", 100)
    whole = label_solve.distill(digits, 1, params(), Run(seed=0, store=Store(tmp_path / "whole", interval=0)))

    class Dying(Store):
        def offer(self, state):  # type: ignore[no-untyped-def]
            super().offer(state)
            if state()[1]["count"] == 500:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        label_solve.distill(digits, 1, params(), Run(seed=0, store=Dying(tmp_path / "one", interval=0)))
    store = Store(tmp_path / "one", interval=0)
    assert store.kept()[1] == {"count": 500}  # type: ignore[index]
    resumed = label_solve.distill(digits, 1, params(), Run(seed=0, store=store))
    assert torch.equal(resumed.targets, whole.targets)
