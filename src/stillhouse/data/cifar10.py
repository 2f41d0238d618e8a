"""CIFAR-10: 32 x 32 colour photographs of ten kinds of things (Krizhevsky, 2009)."""

from dataclasses import dataclass
from pathlib import Path

from stillhouse.data import cifar_binary, fetch, identity
from stillhouse.sets import RealSet

FILES = fetch.remote_files(
    "cifar-10",
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://cave.cs.toronto.edu/kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
    ),
    {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
)
LAYOUT = cifar_binary.Layout(
    train=tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    test=("cifar-10-batches-bin/test_batch.bin",),
    names="cifar-10-batches-bin/batches.meta.txt",
    label_bytes=1,
)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = cifar_binary.SHAPE
COUNTS = ((5000,) * 10, (1000,) * 10)
FINGERPRINT = "8847a5df607d98971cfc1cef5f6d3a5f61139b62d87a513b13db1230ed5b215d"
ORDER = "bc91d0ef421582b1554f2dfe71ba2f4bf2d46c2ee011a82ff752174df9aa5558"


@dataclass(frozen=True)
class Params:
    """CIFAR-10 has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """CIFAR-10 from its binary archive. Raises UserError when it is missing or differs from the official data."""
    archive = fetch.obtain(FILES[0], downloads)
    train, test = cifar_binary.read(archive, LAYOUT, CLASSES, sum(COUNTS[0]), sum(COUNTS[1]))
    real = identity.identified("cifar10", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, archive.parent)
