"""EMNIST letters: 28 x 28 grey handwritten letters, both cases of one in a class (Cohen, Afshar, Tapson, van Schaik, 2017).

Only the official test part is read, 800 images of each letter: what other sets' labels are learned on. It is split here: every
eighth image is for testing, the others are for training, which gives 700 and 100 of each letter.

The official files hold images with rows and columns exchanged; here they stand upright.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from stillhouse.data import fetch, identity, idx
from stillhouse.sets import RealSet, Split

_COMMIT = "845f29ee8fb6be30e60b115f638f0eab08bfe469"
FILES = fetch.remote_files(
    "emnist-letters",
    (
        f"https://raw.githubusercontent.com/aurelienduarte/emnist/{_COMMIT}/gzip/",
        f"https://github.com/aurelienduarte/emnist/raw/{_COMMIT}/gzip/",
    ),
    {"emnist-letters-test-images-idx3-ubyte.gz": "", "emnist-letters-test-labels-idx1-ubyte.gz": ""},
)
CLASSES = tuple("abcdefghijklmnopqrstuvwxyz")
SHAPE = (1, 28, 28)
COUNTS = ((700,) * 26, (100,) * 26)
FINGERPRINT = "4e412f5216a5240ce1941c9eaae8b19aabe3beae798b108825b92e08764c3cbd"
ORDER = None  # the split goes by the official order, so that a copy in another one has another fingerprint
_TEST = 8  # one image in so many


@dataclass(frozen=True)
class Params:
    """EMNIST letters have no settings."""


def read(params: Params, downloads: Path) -> RealSet:
    """The official test part from its two idx files, split. Raises UserError when they are missing or differ from it."""
    images, labels = fetch.obtain_all(FILES, downloads)
    part = idx.read_split(images, labels, sum(map(sum, COUNTS)), SHAPE)
    if int(part.targets.min()) < 1:
        raise fetch.unusable(labels, "labels are not from 1 to 26")
    upright = Split(part.inputs.transpose(2, 3).contiguous(), part.targets - 1)
    tested = torch.arange(len(upright)) % _TEST == _TEST - 1
    train, test = (Split(upright.inputs[which], upright.targets[which]) for which in (~tested, tested))
    real = identity.identified("emnist_letters", train, test, CLASSES)
    return identity.check(real, COUNTS, FINGERPRINT, ORDER, images.parent)
