"""Distances of gradients: by hand, against the formula written out, and where gradients are 0."""

import numpy as np
import pytest
import torch

from stillhouse.methods import gradient_distance
from stillhouse.methods.gradient_distance import Kind, distance

KINDS: list[Kind] = ["layerwise", "squared", "cosine"]
SHAPES = [(4, 2, 3, 3), (4,), (5, 4), (5,)]  # a convolution and a linear layer with their biases

every_kind = pytest.mark.parametrize("kind", KINDS)


def gradients(seed: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in SHAPES]


def test_a_case_by_hand() -> None:
    found = [torch.tensor([[1.0, 0.0], [2.0, 2.0]]), torch.tensor([7.0, 7.0])]
    wanted = [torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([7.0, -7.0])]
    # The outputs' rows are at right angles and at 45 degrees; the biases have no part.
    assert float(distance("layerwise", found, wanted)) == pytest.approx(1 + (1 - 0.5**0.5), abs=1e-5)
    assert float(distance("squared", found, wanted)) == pytest.approx(1 + 9 + 1 + 4 + 0 + 14**2)
    assert float(distance("cosine", found, wanted)) == pytest.approx(
        1 - (2 + 49 - 49) / (9 + 98) ** 0.5 / (10 + 98) ** 0.5
    )


def test_the_formula_of_dc_output_by_output() -> None:
    found, wanted = gradients(0), gradients(1)
    total = 0.0
    for one, other in zip(found, wanted, strict=True):
        if one.ndim > 1:
            for a, b in zip(one.numpy(), other.numpy(), strict=True):
                total += 1 - np.sum(a * b) / (np.sqrt(np.sum(a**2)) * np.sqrt(np.sum(b**2)) + 1e-6)
    assert float(distance("layerwise", found, wanted)) == pytest.approx(total, rel=1e-12)


def test_the_others_are_those_of_one_long_vector() -> None:
    found, wanted = gradients(0), gradients(1)
    a, b = (np.concatenate([each.numpy().ravel() for each in of]) for of in (found, wanted))
    assert float(distance("squared", found, wanted)) == pytest.approx(np.sum((a - b) ** 2), rel=1e-12)
    cosine = np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)
    assert float(distance("cosine", found, wanted)) == pytest.approx(1 - cosine, rel=1e-6)


@every_kind
def test_of_a_gradient_to_itself_it_is_none(kind: Kind) -> None:
    assert float(distance(kind, gradients(0), gradients(0))) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("kind", ["layerwise", "cosine"])
def test_angles_do_not_see_lengths(kind: Kind) -> None:
    longer = [7 * each for each in gradients(0)]
    assert float(distance(kind, longer, gradients(1))) == pytest.approx(
        float(distance(kind, gradients(0), gradients(1))), rel=1e-5
    )
    opposite = float(distance(kind, [-each for each in gradients(0)], gradients(0)))
    assert opposite == pytest.approx(2 * (4 + 5 if kind == "layerwise" else 1), rel=1e-5)


@every_kind
def test_its_derivative_is_that_of_finite_differences(kind: Kind) -> None:
    found = [each.requires_grad_() for each in gradients(0)]
    assert torch.autograd.gradcheck(lambda *each: distance(kind, each, gradients(1)), found)


@every_kind
def test_outputs_without_a_gradient_have_a_finite_derivative(kind: Kind) -> None:
    found, wanted = gradients(0), gradients(1)
    found[0][1], wanted[2][2] = 0, 0
    found[0].requires_grad_()
    here = distance(kind, found, wanted)
    [slope] = torch.autograd.grad(here, [found[0]])
    assert bool(here.isfinite())
    assert bool(slope.isfinite().all())


def test_a_row_of_zeros_is_at_a_right_angle_to_everything() -> None:
    assert float(gradient_distance.layerwise([torch.zeros(3, 2)], [torch.ones(3, 2)])) == 3
