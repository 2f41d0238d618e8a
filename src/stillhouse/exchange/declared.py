"""What a person declares of another's file, because the file does not say it: above all the space that its images live in.

Spaces are those of params.yaml (`data.whitening`) and two more:

    dc         standardised by the constants in the code of DC, DSA and DM, for the data sets where all its versions agree
    pixel_zca  the whitening of MTT's code, kornia's ZCA of pixels less the mean image: undone, so that the set holds pixels
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from stillhouse import settings
from stillhouse.data import whitening
from stillhouse.errors import UserError
from stillhouse.sets import RealSet

# Mean and deviation by data set, from utils.py of github.com/VICO-UoE/DatasetCondensation.
DC_CONSTANTS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
# Early versions of that code, and MTT's, take CIFAR-10's for CIFAR-100; later ones its own.
_CIFAR100 = (
    "its versions differ: early ones, and MTT, have CIFAR-10's constants, later ones mean 0.5071 0.4866 0.4409, std "
    "0.2673 0.2564 0.2762"
)
_CHUNK = 4096  # images read at once while fitting


@dataclass(frozen=True)
class PixelZca:
    """ZCA whitening (x - mu) U (D + r I)^-1/2 U^T of pixels x in [0, 1]; mu the mean image, U D U^T the covariance over n - 1."""

    KIND = "pixel_zca"
    regularisation: Annotated[float, Field(gt=0, description="r, added to the eigenvalues (MTT: 0.1)")] = 0.1


@dataclass(frozen=True)
class Declared:
    """What is declared of a file; None: what the file's own manifest says, or where it has none, the default.

    method      what made it: the name that rows of scores have; required without a manifest
    experiment  its name among others; default: the method's
    source      where the file is from: a paper, an address
    space       as in params.yaml, or `dc`, or pixel_zca; required without a manifest, but for 8-bit images
    labels      of real-valued rows: 'one_hot', as they are, or 'centred', one-hot less 1/c; default: the format's
    classes     the order of the file's label columns; default: the data set's
    seed        which of several sets of one experiment it is; default: its index in the file
    budget      fraction of the paper's budget it was made with; default: 1
    """

    method: str | None = None
    experiment: str | None = None
    source: str | None = None
    space: Any = None
    labels: str | None = None
    classes: tuple[str, ...] | None = None
    seed: int | None = None
    budget: float | None = None


def in_space(images: torch.Tensor, raw: Any, real: RealSet) -> tuple[torch.Tensor, dict[str, Any]]:
    """Images (m, *shape) and the settings, with fitted values, of the space in which they now are.

    `raw` says in which they were; they are moved where no space of ours is that one. Fitted on `real`'s training images.
    Raises UserError for a space that is unknown or does not suit the images.
    """
    kind = raw.get("kind") if isinstance(raw, Mapping) else raw
    if kind == PixelZca.KIND:
        params = settings.parse(PixelZca, {"kind": kind} if isinstance(raw, str) else raw, "--space")
        return _unwhitened(images, params.regularisation, real), {"kind": "pixels"}
    if raw == "dc":
        if real.name not in DC_CONSTANTS:
            why = _CIFAR100 if real.name == "cifar100" else f"they are known for {', '.join(DC_CONSTANTS)}"
            raise UserError(
                f"--space dc: no constants for {real.name}: {why}. Give them: "
                """'{"kind": "standardised", "mean": [...], "std": [...]}'."""
            )
        mean, std = DC_CONSTANTS[real.name]
        raw = {"kind": "standardised", "mean": mean, "std": std}
    return images, whitening.fit(whitening.parse(raw, "--space"), real).settings()


def _unwhitened(images: torch.Tensor, regularisation: float, real: RealSet) -> torch.Tensor:
    """The pixels that were whitened: x = w U (D + r I)^1/2 U^T + mu."""
    mean, covariance = pixel_moments(real)
    values, vectors = torch.linalg.eigh(covariance)
    roots = (values.clamp(min=0) + regularisation).sqrt()
    flat = images.flatten(1).to(torch.float64)
    pixels: torch.Tensor = ((flat @ vectors) * roots) @ vectors.T + mean
    return pixels.view_as(images).to(images.dtype)


def pixel_moments(real: RealSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (d,) and covariance (d, d) over n - 1 of the training images' pixels in [0, 1], float64."""
    total = torch.zeros(real.dim, dtype=torch.float64)
    square = torch.zeros(real.dim, real.dim, dtype=torch.float64)
    for chunk, _ in real.train.chunks(_CHUNK):
        flat = chunk.to(torch.float64).flatten(1)
        total += flat.sum(0)
        square.addmm_(flat.T, flat)
    count = len(real.train)
    mean = total / count
    return mean, (square - count * torch.outer(mean, mean)) / (count - 1)
