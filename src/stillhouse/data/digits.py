"""Digits: 8 x 8 grey handwritten digits that come with scikit-learn (Alpaydin, Kaynak, 1998). For first tries.

Needs no download. This copy has no official split: every fifth example (positions 0, 5, 10, ...) is for testing.
Grey levels 0 to 16 are scaled to bytes, v * 255 / 16, rounded.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn.datasets  # type: ignore[import-untyped, unused-ignore]
import torch

from stillhouse.data import identity
from stillhouse.sets import RealSet, Split

CLASSES = tuple("0123456789")
SHAPE = (1, 8, 8)
COUNTS = (
    (136, 154, 151, 135, 143, 143, 151, 153, 138, 133),
    (42, 28, 26, 48, 38, 39, 30, 26, 36, 47),
)
FINGERPRINT = "6eb97d150581b17b8451823947ab4a28339d9cacb3b4b3745b53bf4cfd1b1452"
ORDER = "d1ef55446e18f70e30d02e16307a740fde4d01a480dea43c93aa978c48da0d97"
_TEST_EVERY = 5


@dataclass(frozen=True)
class Params:
    """Digits has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """Digits from the installed scikit-learn, checked. Raises UserError when that copy differs."""
    bunch = sklearn.datasets.load_digits()
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).reshape(-1, *SHAPE)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    testing = torch.arange(len(labels)) % _TEST_EVERY == 0
    train, test = (Split(pixels[part], labels[part]) for part in (~testing, testing))
    real = identity.identified("digits", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, Path(sklearn.datasets.__file__).parent)
