from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse.data import gaussian_regression
from stillhouse.errors import UserError
from stillhouse.sets import RealSet
from stillhouse.settings import parse


def read(**settings: Any) -> RealSet:
    params = parse(gaussian_regression.Params, settings, "made_up")
    real = gaussian_regression.read(params, Path("nothing"))
    assert len(real.train) == gaussian_regression.smallest_class(params)
    return real


def fitted(real: RealSet) -> torch.Tensor:
    """Least squares of the training examples, (d, k)."""
    solution = np.linalg.lstsq(real.train.inputs.double().numpy(), real.train.targets.numpy())[0]
    return torch.from_numpy(solution)


def test_the_size_is_that_of_the_paper_and_both_parts_are_counted() -> None:
    real = read()
    assert (len(real.train), len(real.test), real.shape, real.outputs) == (800, 200, (100,), ("y",))
    assert (real.train.inputs.dtype, real.train.targets.dtype) == (torch.float32, torch.float64)


def test_features_and_theta_are_standard_normal_and_residuals_have_the_noises_deviation() -> None:
    real = read(examples=5000, dim=20, outputs=30, noise=0.5, test_fraction=0.5)
    x, theta = real.train.inputs, fitted(real)
    residual = real.test.targets - real.test.inputs.double() @ theta
    # Bounds of some five deviations of each estimate; the residual also holds the error of theta, d / n of the noise.
    assert x.mean().abs() < 5 / len(x.flatten()) ** 0.5
    assert abs(x.square().mean() - 1) < 5 * (2 / len(x.flatten())) ** 0.5
    assert theta.mean().abs() < 5 / 600**0.5
    assert abs(theta.square().mean() - 1) < 5 * (2 / 600) ** 0.5
    assert residual.std() == pytest.approx(0.5 * (1 + 20 / 2500) ** 0.5, rel=5 / (2 * 75_000) ** 0.5)


def test_without_noise_the_targets_are_linear_up_to_single_precision() -> None:
    real = read(noise=0, dim=10)
    theta = fitted(real)
    torch.testing.assert_close(real.test.inputs.double() @ theta, real.test.targets, rtol=0, atol=1e-5)


def test_a_seed_is_a_data_set_of_its_own_and_the_same_on_every_machine() -> None:
    assert read().fingerprint == "8f7aea8a2d18015c401d4956ad799aa1ef3cd8fac03e997af9af8cc0ae34d509"
    assert read(seed=1).fingerprint != read().fingerprint


def test_noise_and_split_change_no_feature() -> None:
    one, two = read(), read(noise=1, test_fraction=0.5)
    assert torch.equal(one.train.inputs[:500], two.train.inputs)


def test_several_outputs_are_numbered() -> None:
    real = read(outputs=3)
    assert (real.outputs, tuple(real.test.targets.shape)) == (("y1", "y2", "y3"), (200, 3))


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"examples": 1}, "greater than or equal to 2"), ({"noise": float("inf")}, "finite"), ({"dim": 0}, "dim")],
)
def test_a_setting_that_makes_no_data_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read(**settings)
