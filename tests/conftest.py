"""What most tests need: a small real data set, and a run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import plugins
from stillhouse.data import identity
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split


@pytest.fixture(scope="session")
def digits() -> RealSet:
    """scikit-learn's digits: 8 x 8 pixels, 10 classes."""
    module = plugins.load("data", "digits")
    real: RealSet = module.read(module.Params(), Path("unused"))
    return real


@pytest.fixture
def run() -> Run:
    """Seed 0 on the CPU."""
    return Run(seed=0)


@pytest.fixture
def toy() -> RealSet:
    """Three classes of 4 x 4 pixels that a linear model can tell apart: 60 examples to train on, 30 to test."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randint(40, 200, (3, 1, 4, 4), generator=rng)

    def split(count: int) -> Split:
        labels = torch.arange(count) % 3
        noise = torch.randint(-30, 31, (count, 1, 4, 4), generator=rng)
        return Split((centres[labels] + noise).to(torch.uint8), labels)

    return identity.identified("toy", split(60), split(30), ("ant", "bee", "cat"))


@pytest.fixture
def table() -> RealSet:
    """Four features of different sizes and a value that they give but for some noise: 60 examples to train on, 30 to test."""
    rng = torch.Generator().manual_seed(0)
    weights = torch.randn(4, 1, generator=rng, dtype=torch.float64)

    def split(count: int) -> Split:
        rows = torch.randn(count, 4, generator=rng, dtype=torch.float64)
        values = 50 + 10 * (rows @ weights + 0.3 * torch.randn(count, 1, generator=rng, dtype=torch.float64))
        return Split((rows * torch.tensor([1.0, 10, 0.1, 3]) + 5).to(torch.float32), values)

    return identity.identified("table", split(60), split(30), (), ("value",))


@pytest.fixture
def raw() -> dict[str, Any]:
    """A small params.yaml as it is read: two data sets, a method with a model and one without."""
    return {
        "scale": "laptop",
        "results": "results",
        "studies": {
            "table": {
                "title": "A table",
                "published": "chen2024, Table 3",
                "notebook": "table",
                "datasets": ["digits", "mnist"],
                "experiments": ["whole", "random", "exact"],
                "per_class": [1, 2],
                "seeds": [0, 1],
                "protocols": ["own"],
                "pictures": [{"dataset": "mnist", "per_class": 2, "experiments": ["random", "exact"]}],
            }
        },
        "protocols": {"own": {"model": "same"}},
        "experiments": {
            "random": {"label": "random real images", "method": "random_images"},
            "exact": {"label": "exact", "method": "krr_exact", "model": "linear"},
        },
        "models": {
            "linear": {"label": "Linear", "kind": "ridge", "features": "identity", "space": "paper"},
            "rff": {"label": "RFF", "kind": "ridge", "features": {"kind": "random_fourier"}, "space": "pixels"},
        },
        "spaces": {"paper": {"kind": "standardised", "mean": {"mnist": [0.1307]}, "std": {"mnist": [0.3081]}}},
    }


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root."""
    return Path(__file__).resolve().parents[1]
