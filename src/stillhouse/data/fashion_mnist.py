"""Fashion-MNIST: 28 x 28 grey pictures of clothing, in the format of MNIST (Xiao, Rasul, Vollgraf, 2017)."""

from dataclasses import dataclass
from pathlib import Path

from stillhouse.data import fetch, identity, idx
from stillhouse.sets import RealSet

FILES = fetch.remote_files(
    "fashion-mnist",
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    {
        "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
    },
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SHAPE = (1, 28, 28)
COUNTS = ((6000,) * 10, (1000,) * 10)
FINGERPRINT = "b0c774b6b7a1b594d657696283bfedb6a160d87ad44440da02fba587712d2b57"
ORDER = "af7df157489d4ae8623bc166b46842caf1cd40faa6318e9023e303d9501e2169"


@dataclass(frozen=True)
class Params:
    """Fashion-MNIST has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """Fashion-MNIST from its four idx files. Raises UserError when they are missing or differ from the official."""
    paths = fetch.obtain_all(FILES, downloads)
    train, test = idx.read_splits(paths, (sum(COUNTS[0]), sum(COUNTS[1])), SHAPE)
    real = identity.identified("fashion_mnist", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, paths[0].parent)
