"""Features by a trained network, and herding and k-center by them."""

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from stillhouse import plugins, settings
from stillhouse.errors import UserError
from stillhouse.methods import herding, k_center, penultimate, selection
from stillhouse.models import fitting, layers, training
from stillhouse.run import Run
from stillhouse.sets import RealSet, pixels

SHORT = {"epochs_real": 3, "batch": 20, "loss": "cross_entropy"}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 8, "depth": 2, "space": "standardised", "training": SHORT},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2, "norm": "batch", "space": "standardised", "training": SHORT},
    "lenet": {"kind": "lenet", "margin": 6, "space": "zca", "training": SHORT},
}
MLP = NETWORKS["mlp"]

both = pytest.mark.parametrize("method", [herding, k_center])


def model(raw: dict[str, Any]) -> Any:
    return settings.parse_plugin("models", raw, "test")


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_the_last_layer_makes_scores_of_the_features(kind: str, toy: RealSet, run: Run) -> None:
    params, module = model(NETWORKS[kind]), plugins.load("models", kind)
    teacher = module.fit_real(toy, params, run)
    embedding = penultimate.trained(params, toy, run)
    found = selection.rows(toy, torch.arange(60), embedding, False, run)
    assert found.shape == (60, embedding.dim)
    weights = {name: each.to(torch.float64) for name, each in teacher.weights.items()}
    scores = found @ weights["classifier.weight"].T + weights.get("classifier.bias", 0.0)
    said = module.predictor(teacher, 16, run.device)(pixels(toy.train.inputs))
    torch.testing.assert_close(scores, said.to(torch.float64), rtol=1e-3, atol=1e-4)


def test_the_network_is_the_teacher_of_the_runs_seed_and_is_trained_where_there_is_none(
    toy: RealSet, tmp_path: Path
) -> None:
    params, module = model(MLP), plugins.load("models", "mlp")
    for seed in (0, 1):
        teacher = module.fit_real(toy, params, Run(seed=seed))
        marked = {name: weight + seed + 1 for name, weight in teacher.weights.items()}
        dataclasses.replace(teacher, weights=marked).save(tmp_path / f"seed{seed}")
        teacher.save(tmp_path / f"plain{seed}")

    def features(seed: int, *names: str) -> torch.Tensor:
        run = Run(seed=seed, teachers=tuple(tmp_path / name for name in names))
        return penultimate.trained(params, toy, run).features(pixels(toy.train.inputs))

    torch.testing.assert_close(features(1), features(1, "plain0", "plain1"), rtol=1e-3, atol=1e-4)
    assert torch.equal(features(1), features(1, "seed0"))
    assert not torch.allclose(features(1), features(1, "seed0", "seed1"), atol=0.1)


@both
def test_a_method_compares_by_them_class_by_class(method: ModuleType, toy: RealSet) -> None:
    params, run = method.Params(model=model(MLP)), Run(seed=4)
    made = method.distill(toy, 3, params, run)
    teacher = fitting.fit_real(training.build(params.model, toy.shape, 3), toy, params.model, run, layers.AT_ONCE)
    rows = (pixels(toy.train.inputs) - teacher.space["mean"][0]) / teacher.space["std"][0]
    for layer in ("hidden1", "hidden2"):
        rows = torch.nn.functional.leaky_relu(rows.flatten(1).float() @ teacher.weights[f"{layer}.weight"].T, 0.1)
    choose = herding.herd if method is herding else k_center.farthest
    for label in range(3):
        chosen = toy.positions(label)[choose(rows[toy.positions(label)].to(torch.float64), 3)]
        assert torch.equal(made.inputs[label::3], pixels(toy.train.inputs[chosen]))
    assert not torch.equal(made.inputs, method.distill(toy, 3, method.Params(), run).inputs)


@both
def test_values_have_networks_too(method: ModuleType, table: RealSet, run: Run) -> None:
    network = model({**MLP, "training": {"epochs_real": 3, "batch": 20}})
    made = method.distill(table, 5, method.Params(model=network, targets=True), run)
    assert made.inputs.shape == (5, 4)


@both
def test_only_a_method_with_a_network_needs_its_teacher(method: ModuleType) -> None:
    network = model(MLP)
    assert method.teachers(method.Params()) == ()
    assert method.teachers(method.Params(model=network)) == (network,)


@both
def test_settings_are_read_as_they_were_written(method: ModuleType) -> None:
    for params in (method.Params(), method.Params(model=model(MLP))):
        dumped = settings.dump(params)
        assert settings.parse_plugin("methods", dumped, "test") == params


@both
def test_a_network_beside_other_features_or_that_is_none_is_refused(method: ModuleType) -> None:
    kind = settings.kind_of(method.Params())
    for beside in ({"features": {"kind": "random_fourier"}}, {"space": "pixels"}):
        with pytest.raises(UserError, match=r"here: .*model has features and a space of its own\. Take out"):
            settings.parse_plugin("methods", {"kind": kind, "model": MLP, **beside}, "here")
    with pytest.raises(UserError, match="this method needs a network"):
        settings.parse_plugin("methods", {"kind": kind, "model": {"kind": "ridge", "features": "identity"}}, "here")
    with pytest.raises(UserError, match=r"here\.model: unknown parameter 'widht'"):
        settings.parse_plugin("methods", {"kind": kind, "model": {"kind": "mlp", "widht": 3}}, "here")
