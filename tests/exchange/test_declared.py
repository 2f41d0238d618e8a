import json
from typing import Any

import pytest
import torch

from stillhouse import spaces
from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.exchange import declared
from stillhouse.sets import RealSet


def test_dc_is_the_constants_of_the_data_set(toy: RealSet, images: torch.Tensor) -> None:
    named = RealSet("mnist", toy.train, toy.test, toy.classes, "", "")
    same, space = declared.in_space(images, "dc", named)
    assert same is images
    assert (space["kind"], space["mean"], space["std"]) == (
        "standardised",
        [pytest.approx(0.1307)],
        [pytest.approx(0.3081)],
    )


def test_dc_is_the_very_space_of_a_model_with_those_constants(toy: RealSet, images: torch.Tensor) -> None:
    """So the judge trains on the images as they are in the file."""
    named = RealSet("mnist", toy.train, toy.test, toy.classes, "", "")
    of_model = whitening.parse({"kind": "standardised", "mean": [0.1307], "std": [0.3081]})
    _, space = declared.in_space(images, "dc", named)
    assert spaces.same(space, whitening.fit(of_model, named).settings())


@pytest.mark.parametrize("name", ["toy", "cifar100"])
def test_dc_is_refused_where_the_constants_are_not_known(toy: RealSet, images: torch.Tensor, name: str) -> None:
    named = RealSet(name, toy.train, toy.test, toy.classes, "", "")
    said = "its versions differ" if name == "cifar100" else "they are known for mnist"
    with pytest.raises(UserError, match=f"--space dc: no constants for {name}: {said}"):
        declared.in_space(images, "dc", named)


@pytest.mark.parametrize(
    "raw", ["pixels", "standardised", "zca", {"kind": "zca", "regularisation": 0.2, "per_image": False}]
)
def test_other_spaces_are_fitted_on_the_real_set_and_leave_the_images(
    toy: RealSet, images: torch.Tensor, raw: Any
) -> None:
    same, space = declared.in_space(images, raw, toy)
    assert same is images
    assert spaces.same(space, whitening.fit(whitening.parse(raw), toy).settings())


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("zac", "--space: unknown space 'zac'. Did you mean 'zca'?"),
        ({"kind": "standardised", "maen": [1]}, "--space: unknown parameter 'maen'. Did you mean 'mean'?"),
        ({"kind": "pixel_zca", "eps": 1}, "--space: unknown parameter 'eps'."),
        ({"kind": "pixel_zca", "regularisation": 0}, "--space.regularisation: input should be greater than 0"),
        ({"kind": "standardised", "mean": [1, 2, 3], "std": [1, 2, 3]}, "space: mean has 3 values, toy has 1 channels"),
    ],
)
def test_a_wrong_space_is_one_line(toy: RealSet, images: torch.Tensor, raw: Any, text: str) -> None:
    with pytest.raises(UserError) as problem:
        declared.in_space(images, raw, toy)
    assert str(problem.value).startswith(text)
    assert "\n" not in str(problem.value)


def pixel_zca(pixels: torch.Tensor, train: torch.Tensor, eps: float) -> torch.Tensor:
    """What kornia's ZCAWhitening(eps) fitted on `train` makes of `pixels`, both (., d): by torch.cov and singular values."""
    u, s, _ = torch.linalg.svd(torch.cov(train.T))
    whitened: torch.Tensor = (pixels - train.mean(0)) @ (u @ torch.diag(1 / torch.sqrt(s + eps)) @ u.T)
    return whitened


@pytest.mark.parametrize("raw", ["pixel_zca", {"kind": "pixel_zca", "regularisation": 0.01}])
def test_the_whitening_of_mtt_is_undone(toy: RealSet, raw: Any) -> None:
    train = toy.train.inputs.flatten(1).to(torch.float64) / 255
    pixels = toy.test.inputs[:6].flatten(1).to(torch.float64) / 255
    whitened = pixel_zca(pixels, train, 0.1 if raw == "pixel_zca" else 0.01).view(6, 1, 4, 4)
    assert (whitened - pixels.view_as(whitened)).abs().max() > 0.1
    back, space = declared.in_space(whitened, raw, toy)
    assert space == {"kind": "pixels"}
    torch.testing.assert_close(back.flatten(1), pixels, rtol=0, atol=1e-7)
    single, _ = declared.in_space(whitened.to(torch.float32), raw, toy)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.flatten(1).to(torch.float64), pixels, rtol=0, atol=1e-6)


def test_pixel_moments_are_those_of_torch(toy: RealSet) -> None:
    train = toy.train.inputs.flatten(1).to(torch.float64) / 255
    mean, covariance = declared.pixel_moments(toy)
    torch.testing.assert_close(mean, train.mean(0), rtol=0, atol=1e-7)
    torch.testing.assert_close(covariance, torch.cov(train.T), rtol=0, atol=1e-7)


def test_constants_stand_in_the_set_as_they_are_written(toy: RealSet, images: torch.Tensor) -> None:
    for mean, std in declared.DC_CONSTANTS.values():
        assert len(mean) == len(std)
    json.dumps(declared.in_space(images, "standardised", toy)[1])
