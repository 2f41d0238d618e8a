from typing import Any

import pytest
import torch

from stillhouse import features, settings
from stillhouse.errors import NumericalError, UserError
from stillhouse.features.convolution import ConvolutionalNetwork
from stillhouse.methods import krr_exact
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import RealSet


def built(dim: int, **options: object) -> ConvolutionalNetwork:
    feature_map = features.build(settings.parse_plugin("features", {"kind": "convolution", **options}, "here"), dim, 0)
    assert isinstance(feature_map, ConvolutionalNetwork)
    return feature_map


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def by_hand(image: torch.Tensor, filters: torch.Tensor, stride: int, same: bool) -> torch.Tensor:
    """The sum that defines a convolution, pixel by pixel; what lies outside the image is 0."""
    _, height, width = image.shape
    out, into, kernel, _ = filters.shape
    before, inside = ((kernel - 1) // 2, kernel - 1) if same else (0, 0)
    rows = range(0, height + inside - kernel + 1, stride)
    columns = range(0, width + inside - kernel + 1, stride)
    found = torch.zeros(out, len(rows), len(columns), dtype=image.dtype)
    for o in range(out):
        for r, top in enumerate(rows):
            for k, left in enumerate(columns):
                for i in range(into):
                    for a in range(kernel):
                        for b in range(kernel):
                            y, x = top + a - before, left + b - before
                            if 0 <= y < height and 0 <= x < width:
                                found[o, r, k] += filters[o, i, a, b] * image[i, y, x]
    return found


SETTINGS: list[dict[str, Any]] = [
    {"shape": [1, 5, 6]},
    {"shape": [2, 5, 4], "channels": 3, "kernel": 3, "padding": "same"},
    {"shape": [2, 7, 6], "channels": 4, "stride": 2},
    {"shape": [1, 7, 6], "channels": 2, "kernel": 4, "stride": 3, "padding": "same"},
]
every_setting = pytest.mark.parametrize("options", SETTINGS)


@every_setting
def test_a_layer_is_the_defining_sum(options: dict[str, Any]) -> None:
    dim = torch.tensor(options["shape"]).prod().item()
    layer = built(int(dim), **options).layers[0]
    image = normal(*options["shape"])
    same = options.get("padding") == "same"
    wanted = by_hand(image, layer.filters, options.get("stride", 1), same)
    assert tuple(wanted.shape) == layer.output
    torch.testing.assert_close(layer(image.reshape(1, -1))[0], wanted.flatten())


@every_setting
def test_a_layer_is_the_product_with_its_sparse_matrix(options: dict[str, Any]) -> None:
    dim = int(torch.tensor(options["shape"]).prod())
    layer = built(dim, **options).layers[0]
    images = normal(3, dim)
    torch.testing.assert_close(layer(images), torch.from_numpy(images.numpy() @ layer.matrix))
    per_feature = layer.filters[0].numel()
    assert layer.matrix.nnz <= per_feature * layer.matrix.shape[1]


def test_filters_have_variance_one_over_fan_in() -> None:
    filters = built(64, channels=500, kernel=4).layers[0].filters
    assert float(filters.std()) == pytest.approx(1 / 4, rel=0.03)


def test_the_network_is_convolutions_with_leaky_relus_between() -> None:
    network = built(64, depth=2, slope=0.3)
    once = network.layers[0](normal(3, 64))
    once = torch.where(once > 0, once, 0.3 * once)
    twice = network.layers[1](once)
    torch.testing.assert_close(network(normal(3, 64)), torch.where(twice > 0, twice, 0.3 * twice))


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 49),  # the paper's example: 2 x 2 filter, stride 1
        ({"channels": 4, "stride": 2}, 64),  # p = d
        ({"depth": 3}, 25),
        ({"kernel": 3, "padding": "same"}, 64),
    ],
)
def test_whatever_features_are_wanted_up_to_p_equal_d_images_have_them_exactly(
    options: dict[str, object], count: int
) -> None:
    """Example 5.3."""
    network = built(64, **options)
    wanted = normal(5, count)
    assert network.onto
    assert network.dim == count
    torch.testing.assert_close(network(network.inverse(wanted)), wanted, rtol=1e-11, atol=1e-11)


def test_the_pre_image_is_the_one_of_the_pseudo_inverse() -> None:
    layer = built(64).layers[0]
    wanted = normal(5, 49)
    matrix = torch.from_numpy(layer.matrix.toarray())
    torch.testing.assert_close(torch.from_numpy(layer.solve(wanted.numpy())), wanted @ torch.linalg.pinv(matrix))


@pytest.mark.parametrize(
    "options", [{}, {"channels": 4, "stride": 2}, {"kernel": 3, "padding": "same"}, {"kernel": 3, "channels": 2}]
)
def test_the_reported_singular_values_are_those_of_the_matrix(options: dict[str, object]) -> None:
    layer = built(64, **options).layers[0]
    values = torch.zeros(layer.matrix.shape[1], dtype=torch.float64)
    found = torch.linalg.svdvals(torch.from_numpy(layer.matrix.toarray()))
    values[: len(found)] = found  # the p-th is 0 for p > d
    # Power iteration comes from below, and slowly where singular values are close to one another.
    assert layer.solvability.largest == pytest.approx(float(values[0]), rel=1e-2)
    assert layer.solvability.smallest == pytest.approx(float(values[-1]), rel=1e-2)
    assert layer.solvability.holds == (layer.matrix.shape[1] <= 64)


def test_more_features_than_pixels_fail_the_condition() -> None:
    network = built(64, channels=2)
    assert network.dim == 98
    assert not network.onto
    assert network.layers[0].solvability.smallest == 0
    with pytest.raises(UserError, match=r"convolutional network is not onto R\^p: p = 98 > d = 64"):
        network.inverse(normal(5, 98))


def test_fewer_features_than_pixels_can_fail_the_condition_too() -> None:
    """Six channels that look through 2 x 2 pixels: rank 4 at each of 4 places, for 24 features of 25 pixels."""
    network = built(25, channels=6, stride=2)
    assert network.dim == 24
    assert int(torch.linalg.matrix_rank(torch.from_numpy(network.layers[0].matrix.toarray()))) == 16
    assert not network.onto
    with pytest.raises(NumericalError, match="x A = z holds to .* A is 25 x 24, singular values"):
        network.inverse(normal(5, 24))


@pytest.mark.parametrize(("dim", "shape"), [(64, (1, 8, 8)), (3072, (3, 32, 32)), (12, (3, 2, 2)), (16, (1, 4, 4))])
def test_square_images_of_one_or_three_channels_are_known_by_their_size(dim: int, shape: tuple[int, ...]) -> None:
    assert built(dim).layers[0].shape == shape


@pytest.mark.parametrize(
    ("dim", "options", "said"),
    [
        (20, {}, r"inputs have 20 values, no square image .*Set shape: \[channels, height, width\]"),
        (64, {"shape": [1, 7, 8]}, r"inputs have 64 values, shape \[1, 7, 8\] has 56"),
        (64, {"shape": [8, 8]}, r"here: .*shape is channels, height, width, found \[8, 8\]"),
        (64, {"kernel": 9}, r"nothing is left of \(1, 8, 8\) after kernel 9"),
        (64, {"depth": 8}, r"nothing is left of \(1, 1, 1\) after kernel 2"),
    ],
)
def test_a_shape_that_does_not_fit_is_said_in_one_line(dim: int, options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said) as problem:
        built(dim, **options)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("options", [{}, {"channels": 4, "stride": 2}, {"depth": 2}])
@pytest.mark.parametrize("per_class", [1, 3])
def test_exact_distillation_through_a_convolution_has_an_exact_certificate(
    digits: RealSet, run: Run, options: dict[str, object], per_class: int
) -> None:
    model = {"kind": "ridge", "features": {"kind": "convolution", **options}, "space": "standardised"}
    params = settings.parse_plugin("methods", {"kind": "krr_exact", "model": model}, "experiments.test")
    distilled = krr_exact.distill(digits, per_class, params, run)
    assert distilled.certificate is not None
    assert distilled.certificate["exact"] is True
    # An independent learner, from the images alone.
    learned = torch.linalg.lstsq(
        ridge.set_features(distilled, ridge.embed(params.model, digits, run.seed)), distilled.targets, driver="gelsd"
    ).solution
    teacher = ridge.fit_real(digits, params.model, run).weights["weights"]
    assert float((learned - teacher).norm() / teacher.norm()) < 1e-8
