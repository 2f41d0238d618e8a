from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.errors import UserError
from stillhouse.evaluation import judge
from stillhouse.models import convnet, training
from stillhouse.run import Run
from stillhouse.sets import RealSet


def params(**options: Any) -> convnet.Params:
    made: convnet.Params = settings.parse_plugin("models", {"kind": "convnet", **options}, "models.test")
    return made


def network(model: convnet.Params, shape: tuple[int, ...], classes: int = 10) -> torch.nn.Sequential:
    made = convnet.build(model, shape, classes)
    training.initialise(made, torch.Generator().manual_seed(0), torch.device("cpu"))
    return made


def count(model: convnet.Params, shape: tuple[int, ...], classes: int = 10) -> int:
    return sum(weight.numel() for weight in convnet.build(model, shape, classes).parameters())


def test_the_default_is_the_fields_convnet() -> None:
    """For CIFAR-10: 320,010 weights; for 28 x 28 with DC's padding as many positions at the end as for 32 x 32."""
    convolutions = (3 * 9 + 1) * 128 + 2 * (128 * 9 + 1) * 128
    norms, classifier = 3 * 2 * 128, (128 * 4 * 4 + 1) * 10
    assert count(params(), (3, 32, 32)) == convolutions + norms + classifier == 320_010
    assert count(params(), (1, 28, 28)) == 320_010 - 2 * 9 * 128 - (16 - 9) * 128 * 10
    assert count(params(padding=3), (1, 28, 28)) == 320_010 - 2 * 9 * 128


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({"norm": "group"}, 2 * 8 + 2 * 8),
        ({"norm": "instance"}, 2 * 8 + 2 * 8),
        ({"norm": "batch"}, 2 * 8 + 2 * 8),
        ({"norm": "layer"}, 2 * 8 * 36 + 2 * 8 * 9),
        ({"norm": "none"}, 0),
    ],
)
def test_a_normalisation_has_a_scale_and_a_shift_for_what_it_normalises(options: Any, weights: int) -> None:
    plain = (2 * 9 + 1) * 8 + (8 * 9 + 1) * 8 + (8 + 1) * 5
    assert count(params(width=8, depth=2, **options), (2, 6, 6), 5) == plain + weights


@pytest.mark.parametrize("norm", ["instance", "group", "layer", "batch", "none"])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid"])
@pytest.mark.parametrize("pooling", ["average", "max", "none"])
def test_every_combination_gives_a_score_to_every_class(norm: str, activation: str, pooling: str) -> None:
    made = network(params(width=8, depth=2, norm=norm, activation=activation, pooling=pooling), (3, 7, 5), 4)
    images = torch.randn(6, 3, 7, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = made(images)
    assert found.shape == (6, 4)
    found.square().sum().backward()
    assert all(float(weight.grad.abs().sum()) > 0 for weight in made[-1].parameters())
    assert float(images.grad.abs().sum()) > 0


@pytest.mark.parametrize(("side", "after"), [(32, 4), (28, 3), (8, 1)])
def test_pooling_halves_and_rounds_down(side: int, after: int) -> None:
    assert convnet.build(params(), (1, side, side), 10)[-1].in_features == 128 * after**2


def test_a_block_is_convolution_normalisation_activation_pooling() -> None:
    """By hand, for one block: correlation with zeros around the image, each channel of each image to mean 0 and variance 1."""
    made = network(params(width=2, depth=1), (1, 4, 4), 3)
    image = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    kernels, shifts = made.convolution1.weight.detach(), made.convolution1.bias.detach()
    padded = torch.zeros(6, 6)
    padded[1:5, 1:5] = image[0, 0]
    pooled = []
    for kernel, shift in zip(kernels[:, 0], shifts, strict=True):
        seen = torch.stack([(padded[i : i + 3, j : j + 3] * kernel).sum() for i in range(4) for j in range(4)]) + shift
        normal = ((seen - seen.mean()) / (seen.var(correction=0) + 1e-5).sqrt()).clamp(min=0).view(4, 4)
        pooled += [normal[i : i + 2, j : j + 2].mean() for i in (0, 2) for j in (0, 2)]
    wanted = made.classifier.weight @ torch.stack(pooled) + made.classifier.bias
    torch.testing.assert_close(made(image)[0], wanted)


def test_images_that_would_be_pooled_to_nothing_are_refused(digits: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match=r"depth 4 is too much for images of 8 x 8: .* Use depth 3 or pooling none"):
        convnet.fit_real(digits, params(depth=4), run)
    convnet.build(params(depth=4, pooling="none"), (1, 8, 8), 10)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"needs images .* found shape \(16,\)"):
        convnet.build(params(), (16,), 10)


def test_groups_must_divide_the_width() -> None:
    with pytest.raises(UserError, match="norm group makes 4 groups of 6 channels"):
        convnet.build(params(width=6, norm="group"), (1, 8, 8), 10)


def test_it_learns_digits(digits: RealSet, run: Run) -> None:
    model = params(width=32, space="standardised", training={"epochs_real": 3, "batch": 16})
    assert judge.accuracy(convnet.fit_real(digits, model, run), digits, run) > 90


def test_running_statistics_of_batch_normalisation_are_kept(toy: RealSet, run: Run, tmp_path: Any) -> None:
    model = params(width=4, depth=1, norm="batch", training={"epochs_real": 2})
    teacher = convnet.fit_real(toy, model, run)
    assert float(teacher.weights["norm1.running_mean"].abs().sum()) > 0
    teacher.save(tmp_path / "teacher")
    predict = convnet.predictor(type(teacher).load(tmp_path / "teacher"), toy.dim, run.device)
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(predict(images)[:1], predict(images[:1]))  # an image's scores are its own
