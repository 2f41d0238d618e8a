"""MNIST: 28 x 28 grey handwritten digits (LeCun, Bottou, Bengio, Haffner, 1998)."""

from dataclasses import dataclass
from pathlib import Path

from stillhouse.data import fetch, identity, idx
from stillhouse.sets import RealSet

FILES = fetch.remote_files(
    "mnist",
    (
        "http://yann.lecun.com/exdb/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    {
        "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
    },
)
CLASSES = tuple("0123456789")
SHAPE = (1, 28, 28)
COUNTS = (
    (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
)
FINGERPRINT = "389ca460bbe1b048d819d32a41e12ce29e6acdaf28026664342df233265d3838"
ORDER = "38d15baf96c04c1aaa2ec3f08474a8cc43a4fc790eb4959b6f94f583defbd55a"


@dataclass(frozen=True)
class Params:
    """MNIST has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """MNIST from its four idx files. Raises UserError when they are missing or differ from the official data."""
    paths = fetch.obtain_all(FILES, downloads)
    train, test = idx.read_splits(paths, (sum(COUNTS[0]), sum(COUNTS[1])), SHAPE)
    real = identity.identified("mnist", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, paths[0].parent)
