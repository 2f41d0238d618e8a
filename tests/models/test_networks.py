"""What holds for every network: stateless calls and ensembles of torch.func, second derivatives, initial weights, training."""

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

from stillhouse import plugins, settings
from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.evaluation import judge
from stillhouse.methods import random_images
from stillhouse.models import training
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split, pixels
from stillhouse.teacher import Teacher

SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "width": 8},
    "mlp of DC": {"kind": "mlp", "width": 8, "depth": 2, "activation": "relu", "bias": True},
    "convnet": {"kind": "convnet", "width": 4, "depth": 2},
    "convnet, group": {"kind": "convnet", "width": 8, "depth": 2, "norm": "group", "activation": "leaky_relu"},
    "convnet, layer": {"kind": "convnet", "width": 4, "depth": 1, "norm": "layer", "activation": "sigmoid"},
    "lenet": {"kind": "lenet", "margin": 4},
    "alexcifarnet": {"kind": "alexcifarnet", "width": 6},
    "alexnet": {"kind": "alexnet", "width": 4},
    "alexnet, instance": {"kind": "alexnet", "width": 4, "norm": "instance"},
    "vgg": {"kind": "vgg", "width": 2, "margin": 12},
    "vgg, group": {"kind": "vgg", "width": 4, "margin": 12, "norm": "group"},
    "resnet": {"kind": "resnet", "width": 2, "depth": 10, "norm": "layer"},
    "resnet, none": {"kind": "resnet", "width": 2, "depth": 10, "norm": "none"},
    "resnet, average": {"kind": "resnet", "width": 4, "depth": 10, "norm": "group", "downsampling": "average"},
}
BATCH: dict[str, dict[str, Any]] = {
    "convnet": {"kind": "convnet", "width": 4, "depth": 2, "norm": "batch"},
    "alexnet": {"kind": "alexnet", "width": 4, "norm": "batch"},
    "vgg": {"kind": "vgg", "width": 2, "margin": 12, "norm": "batch"},
    "resnet": {"kind": "resnet", "width": 2, "depth": 10, "norm": "batch"},
}
NEW = ("lenet", "alexcifarnet", "alexnet", "vgg", "resnet")
SHAPE, CLASSES = (1, 8, 8), 3

every_network = pytest.mark.parametrize("name", sorted(SETTINGS))
every_batch_norm = pytest.mark.parametrize("name", sorted(BATCH))


def drawn(raw: dict[str, Any], seed: int, shape: tuple[int, ...] = SHAPE) -> nn.Sequential:
    """A network in float64 with initial weights, and biases and scales that are not all alike."""
    params = settings.parse_plugin("models", raw, "models.test")
    network: nn.Sequential = plugins.load("models", raw["kind"]).build(params, shape, CLASSES)
    rng = torch.Generator().manual_seed(seed)
    training.initialise(network, rng, torch.device("cpu"), params.initialisation)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 1:
                weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return network.to(torch.float64)


def examples(count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(9)
    images = torch.randn(count, *SHAPE, generator=rng, dtype=torch.float64)
    return images, torch.randn(count, CLASSES, generator=rng, dtype=torch.float64)


def loss_of(network: nn.Sequential) -> Callable[..., torch.Tensor]:
    def loss(weights: Any, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return training.loss("mse", functional_call(network, weights, (images,)), targets)

    return loss


@every_network
def test_an_ensemble_gives_the_scores_and_gradients_of_its_networks_one_by_one(name: str) -> None:
    networks = [drawn(SETTINGS[name], seed) for seed in range(3)]
    images, targets = examples()
    stacked, buffers = stack_module_state(networks)
    assert not buffers
    common = training.stateless(networks[0])
    together = vmap(lambda weights: functional_call(common, weights, (images,)))(stacked)
    slopes, of_images = vmap(grad(loss_of(common), (0, 1)), (0, None, None))(stacked, images, targets)
    for i, network in enumerate(networks):
        seen = images.clone().requires_grad_()
        found = network(seen)
        training.loss("mse", found, targets).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(together[i], found)
        torch.testing.assert_close(of_images[i], seen.grad)
        for each, weight in network.named_parameters():
            torch.testing.assert_close(slopes[each][i], weight.grad)
    assert not torch.allclose(together[0], together[1])


@every_batch_norm
def test_an_ensemble_with_batch_normalisation_normalises_its_own_batch_and_keeps_nothing(name: str) -> None:
    networks = [drawn(BATCH[name], seed) for seed in range(3)]
    images, targets = examples()
    common = training.stateless(networks[0])
    stacked = stack_module_state([training.stateless(each) for each in networks])[0]
    before = {name: value.clone() for name, value in networks[0].state_dict().items()}
    together = vmap(lambda weights: functional_call(common, weights, (images,)))(stacked)
    slopes = vmap(grad(loss_of(common)), (0, None, None))(stacked, images, targets)
    assert all(torch.equal(value, before[name]) for name, value in networks[0].state_dict().items())
    assert not list(common.buffers())
    for i, network in enumerate(networks):
        found = network.train()(images)
        training.loss("mse", found, targets).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(together[i], found)
        for each, weight in network.named_parameters():
            torch.testing.assert_close(slopes[each][i], weight.grad)


@every_batch_norm
def test_frozen_statistics_are_passed_like_weights(name: str) -> None:
    """As DC takes them from real images: each image's scores are its own, and the statistics stay as they are."""
    networks = [drawn(BATCH[name], seed) for seed in range(2)]
    images, _ = examples()
    for each in networks:
        each.train()(torch.flip(images, (0, 3)))
        each.eval()
    weights, statistics = stack_module_state(networks)
    kept = copy.deepcopy(statistics)

    def score(one: Any, two: Any) -> Any:
        return functional_call(networks[0], (one, two), (images,))

    together = vmap(score)(weights, statistics)
    assert all(torch.equal(value, kept[each]) for each, value in statistics.items())
    for i, network in enumerate(networks):
        torch.testing.assert_close(together[i], torch.cat([network(image[None]) for image in images]))


@pytest.mark.parametrize("raw", [*SETTINGS.values(), *BATCH.values()], ids=[*SETTINGS, *(f"{n}, batch" for n in BATCH)])
def test_a_distance_of_gradients_has_a_gradient_in_the_images(raw: dict[str, Any]) -> None:
    """What gradient matching and unrolled training descend, against a difference of that distance along a line."""
    network = drawn(raw, 0)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    slope = grad(loss_of(training.stateless(network)))
    images, targets = examples()
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def distance(seen: torch.Tensor) -> torch.Tensor:
        return torch.stack([each.square().sum() for each in slope(weights, seen, targets).values()]).sum()

    found = (grad(distance)(images) * direction).sum()
    step = 1e-6
    wanted = (distance(images + step * direction) - distance(images - step * direction)) / (2 * step)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("pytorch", lambda fan_in, _: 1 / (3 * fan_in)),
        ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("xavier_uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("kaiming_normal", lambda fan_in, _: 2 / fan_in),
        ("lecun_normal", lambda fan_in, _: 1 / fan_in),
    ],
)
def test_initial_weights_have_the_variance_of_their_name(kind: Any, variance: Callable[[int, int], float]) -> None:
    network: Any = nn.Sequential(
        nn.Conv2d(20, 80, 5, device="meta"), nn.GroupNorm(4, 80), nn.Linear(300, 150, device="meta")
    )
    shared = torch.get_rng_state()
    training.initialise(network, torch.Generator().manual_seed(0), torch.device("cpu"), kind)
    assert torch.equal(shared, torch.get_rng_state())
    for layer, fans in ((network[0], (20 * 25, 80 * 25)), (network[2], (300, 150))):
        weight, wanted = layer.weight.detach(), variance(*fans)
        assert float(weight.square().mean()) == pytest.approx(wanted, rel=5 * (2 / weight.numel()) ** 0.5)
        bounded = float(weight.abs().max()) <= math.sqrt(3 * wanted) + 1e-7
        assert bounded == (kind in ("pytorch", "xavier_uniform"))
        assert bool(layer.bias.any()) == (kind == "pytorch")
    assert torch.equal(network[1].weight, torch.ones(80))
    assert not network[1].bias.any()


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("mlp", "pytorch"),
        ("convnet", "pytorch"),
        ("lenet", "xavier_normal"),
        ("alexcifarnet", "xavier_normal"),
        ("alexnet", "pytorch"),
        ("vgg", "pytorch"),
        ("resnet", "pytorch"),
    ],
)
def test_training_starts_from_the_initial_weights_that_are_named(kind: str, recipe: str, toy: RealSet) -> None:
    still = {"epochs_real": 1, "optimiser": "sgd", "learning_rate": 1e-30, "weight_decay": 0.0, "batch": 60}
    small = {**small_for_toy(kind), "training": still}
    for given, wanted in (({}, recipe), ({"initialisation": "kaiming_normal"}, "kaiming_normal")):
        params = settings.parse_plugin("models", {**small, **given}, "models.test")
        module = plugins.load("models", kind)
        network = module.build(params, toy.shape, 3)
        run = Run(seed=4)
        training.initialise(network, run.generator("initial weights"), run.device, wanted)  # type: ignore[arg-type]
        found = module.fit_real(toy, params, Run(seed=4)).weights
        for name, weight in network.named_parameters():
            torch.testing.assert_close(found[name], weight.detach(), rtol=0, atol=1e-20)


def small_for_toy(kind: str) -> dict[str, Any]:
    """Settings of a small network for 4 x 4 images."""
    options: dict[str, dict[str, Any]] = {
        "lenet": {"margin": 6},
        "alexcifarnet": {"width": 8},
        "alexnet": {"width": 8, "margin": 2},
        "vgg": {"width": 4, "margin": 14},
        "resnet": {"width": 4, "depth": 10, "norm": "group"},
        "convnet": {"width": 4, "depth": 1},
        "mlp": {"width": 8},
    }
    return {"kind": kind, "space": "standardised", **options[kind]}


def fit(kind: str, real: RealSet, run: Run, **rule: Any) -> Teacher:
    params = settings.parse_plugin("models", {**small_for_toy(kind), "training": rule}, "models.test")
    teacher: Teacher = plugins.load("models", kind).fit_real(real, params, run)
    return teacher


@pytest.mark.parametrize("kind", NEW)
def test_the_same_seed_gives_the_same_file_and_the_file_the_same_scores(
    kind: str, toy: RealSet, tmp_path: Path
) -> None:
    first, again, other = (fit(kind, toy, Run(seed=seed), epochs_real=1, batch=16) for seed in (3, 3, 4))
    for name, teacher in (("first", first), ("again", again), ("other", other)):
        teacher.save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes() != (tmp_path / "other").read_bytes()
    images = pixels(toy.test.inputs)
    predict = plugins.load("models", kind).predictor
    found = predict(Teacher.load(tmp_path / "first"), toy.dim, torch.device("cpu"))(images)
    assert found.shape == (30, 3)
    assert torch.equal(found, predict(first, toy.dim, torch.device("cpu"))(images))
    torch.testing.assert_close(found[:1], predict(first, toy.dim, torch.device("cpu"))(images[:1]))


@pytest.mark.parametrize("kind", NEW)
def test_the_judge_trains_and_scores_it(kind: str, toy: RealSet, run: Run) -> None:
    distilled = random_images.distill(toy, 4, random_images.Params(), run)
    rule = {"epochs": 30, "learning_rate": 3e-3}
    params = settings.parse_plugin("models", {**small_for_toy(kind), "training": rule}, "models.test")
    assert next(judge.judge(distilled, toy, params, 1, 0, run)).value > 60  # by chance 33


@pytest.mark.parametrize("kind", NEW)
def test_it_learns_values_of_images(kind: str, toy: RealSet, run: Run) -> None:
    """How bright the upper half is, in its own units, and how bright the lower one."""

    def valued(split: Split) -> Split:
        rows = pixels(split.inputs).to(torch.float64)
        return Split(
            split.inputs, 100 + 50 * torch.stack([rows[:, 0, :2].mean((1, 2)), rows[:, 0, 2:].mean((1, 2))], 1)
        )

    real = identity.identified("halves", valued(toy.train), valued(toy.test), (), ("upper", "lower"))
    teacher = fit(kind, real, run, epochs_real=12, learning_rate=3e-3, batch=20)
    assert judge.teacher_metrics(teacher, real, run)["test R2"] > 0.5


@pytest.mark.parametrize("kind", NEW)
def test_what_is_no_image_is_refused(kind: str) -> None:
    module = plugins.load("models", kind)
    with pytest.raises(UserError, match=rf"models/{kind}: needs images .* found shape \(16,\). Use models/mlp"):
        module.build(module.Params(), (16,), 10)


@pytest.mark.parametrize("kind", ["alexnet", "vgg", "resnet"])
def test_groups_must_divide_the_width(kind: str) -> None:
    module = plugins.load("models", kind)
    with pytest.raises(UserError, match=f"models/{kind}: norm group makes 4 groups of 6 channels"):
        module.build(dataclasses.replace(module.Params(), width=6, norm="group"), (3, 32, 32), 10)


@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("sigmoid", torch.sigmoid)])
def test_the_mlp_of_dc_has_two_hidden_layers_of_128(
    activation: str, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    raw = {"kind": "mlp", "width": 128, "depth": 2, "bias": True, "activation": activation}
    network: Any = drawn(raw, 0, (1, 28, 28))
    sizes = (784 + 1) * 128 + (128 + 1) * 128 + (128 + 1) * CLASSES
    assert sum(weight.numel() for weight in network.parameters()) == sizes
    rows = torch.randn(4, 784, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    hidden = rows
    for layer in (network.hidden1, network.hidden2):
        hidden = function(hidden @ layer.weight.T + layer.bias)
    wanted = hidden @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(rows.view(4, 1, 28, 28)), wanted)
