import itertools

import pytest
import torch

from stillhouse import settings
from stillhouse.models import mlp
from stillhouse.run import Run
from stillhouse.sets import RealSet


def params(**options: object) -> mlp.Params:
    made: mlp.Params = settings.parse_plugin("models", {"kind": "mlp", **options}, "models.test")
    return made


def count(model: mlp.Params, shape: tuple[int, ...], classes: int) -> int:
    return sum(weight.numel() for weight in mlp.build(model, shape, classes).parameters())


def test_the_network_has_as_many_weights_as_the_papers() -> None:
    assert count(params(), (1, 28, 28), 10) == 784 * 784 + 784 * 10
    assert count(params(), (3, 32, 32), 100) == 3072 * 3072 + 3072 * 100


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("width", [0, 5])
@pytest.mark.parametrize("bias", [False, True])
def test_the_number_of_weights_is_that_of_the_layers(depth: int, width: int, bias: bool) -> None:
    widths = [8] + [width or 8] * depth + [3]
    by_hand = sum((before + bias) * after for before, after in itertools.pairwise(widths))
    assert count(params(depth=depth, width=width, bias=bias), (2, 2, 2), 3) == by_hand


def test_scores_are_those_of_the_formula(toy: RealSet, run: Run) -> None:
    """W s(s(x A_1) A_2), s(z) = z for positive z and z/10 else."""
    model = params(depth=2, width=6, training={"epochs_real": 1})
    teacher = mlp.fit_real(toy, model, run)
    images = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    rows = images.flatten(1)
    for name in ("hidden1.weight", "hidden2.weight"):
        rows = rows @ teacher.weights[name].T
        rows = torch.maximum(rows, rows / 10)
    wanted = rows @ teacher.weights["classifier.weight"].T
    torch.testing.assert_close(mlp.predictor(teacher, 16, torch.device("cpu"))(images), wanted)


def test_every_layer_is_trained(toy: RealSet) -> None:
    one, three = (mlp.fit_real(toy, params(training={"epochs_real": epochs}), Run()) for epochs in (1, 3))
    assert set(one.weights) == {"hidden1.weight", "classifier.weight"}
    assert not any(torch.equal(one.weights[name], three.weights[name]) for name in one.weights)


def test_depth_and_width_that_make_no_network_are_refused() -> None:
    for wrong in ({"depth": -1}, {"width": -1}, {"slope": 0}):
        with pytest.raises(Exception, match=f"models.test.{next(iter(wrong))}"):
            params(**wrong)
