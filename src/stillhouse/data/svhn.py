"""SVHN, cropped digits: 32 x 32 colour photographs of house numbers (Netzer, Wang, Coates, Bissacco, Wu, Ng, 2011).

No fingerprint of the decoded arrays is known. The data are verified by the published md5 of both files, which a copy in
a mirror must have too, and by the published class counts. The `extra` split is not read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import torch

from stillhouse.data import fetch, identity
from stillhouse.sets import RealSet, Split

FILES = fetch.remote_files(
    "svhn",
    (
        "http://ufldl.stanford.edu/housenumbers/",
        "https://cseweb.ucsd.edu/~weijian/static/datasets/svhn/",
    ),
    {
        "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
    },
    exact=True,
)
CLASSES = tuple("0123456789")
SHAPE = (3, 32, 32)
COUNTS = (
    (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
)
FINGERPRINT = None
ORDER = None


@dataclass(frozen=True)
class Params:
    """SVHN has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """SVHN from its two .mat files. Raises UserError when they are missing or differ from the official files."""
    paths = fetch.obtain_all(FILES, downloads)
    train, test = (_split(path) for path in paths)
    real = identity.identified("svhn", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, paths[0].parent)


def _split(path: Path) -> Split:
    """The file's X (32, 32, 3, n) and y (n, 1), where 10 stands for the digit 0, as (n, 3, 32, 32) and (n,)."""
    try:
        content = scipy.io.loadmat(path, variable_names=["X", "y"])
        pixels = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
        labels = content["y"].ravel().astype(np.int64)
    except (KeyError, ValueError, TypeError, NotImplementedError, OSError) as problem:
        raise fetch.unusable(path, f"not the .mat file of SVHN ({problem})") from problem
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), *SHAPE) or not ((labels >= 1) & (labels <= 10)).all():
        raise fetch.unusable(path, "holds no uint8 images of 32 x 32 x 3 with labels 1 to 10")
    return Split(torch.from_numpy(pixels), torch.from_numpy(labels % 10))
