"""What the files of others look like, made small."""

import pytest
import torch

from stillhouse.sets import DistilledSet, RealSet


@pytest.fixture
def images() -> torch.Tensor:
    """Two images of each of toy's classes, (6, 1, 4, 4) float32, as noise leaves them: not within black and white."""
    return torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> torch.Tensor:
    """Their classes, (6,), class by class as DC's code has them."""
    return torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture
def rows() -> torch.Tensor:
    """Learned labels, (6, 3) float32, whose sums are neither 0 nor 1."""
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def made(toy: RealSet, images: torch.Tensor, rows: torch.Tensor) -> DistilledSet:
    """A set of ours, standardised, with learned targets, a schedule and a certificate."""
    recipe = {
        "dataset": "toy", "experiment": "mine", "method": {"kind": "krr_exact", "noise": 0.1}, "per_class": 2, "seed": 4,
        "budget": 0.5, "data": toy.identity,
    }  # fmt: skip
    return DistilledSet(
        images, rows.to(torch.float64), toy.classes,
        space={"kind": "standardised", "mean": [0.5], "std": [0.25]},
        model={"kind": "ridge", "seed": 4}, schedule={"ridge": 1e-6}, recipe=recipe, certificate={"exact": True},
    )  # fmt: skip
