"""Differentiable siamese augmentation: one random change, the same for real and for distilled images.

DSA (Zhao and Bilen 2021), whose code draws one of the operations for a batch, and its numbers for the whole batch (siamese) or
for every image. `draw` makes the chances, `apply` changes images with them, differentiably in the images. What comes into an
image from outside, and a cutout, is 0: the mean in a standardised space.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field
from torch.nn import functional

from stillhouse import augmentation
from stillhouse.augmentation import Transformation
from stillhouse.errors import UserError

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
ALL: tuple[Operation, ...] = get_args(Operation)


@dataclass(frozen=True)
class Siamese:
    """Operations and how strong they are; a strength of 0 (of scale: 1) changes nothing. Defaults: DSA's code."""

    operations: Annotated[
        tuple[Operation, ...],
        Field(
            description="of which each batch draws one; DSA: color, crop, cutout, flip, scale, rotate, without flip for digits; "
            "empty: no augmentation"
        ),
    ] = ()
    brightness: Annotated[
        float, Field(ge=0, description="color: what is added to all values is uniform in +- this")
    ] = 0.5
    saturation: Annotated[
        float, Field(ge=0, description="color: factor of a pixel's distance to its grey, uniform in 1 +- this")
    ] = 1.0
    contrast: Annotated[
        float, Field(ge=0, description="color: factor of values' distance to the image's mean, uniform in 1 +- this")
    ] = 0.5
    crop: Annotated[
        float, Field(ge=0, le=1, description="whole pixels down and right, uniform in +- this part of a side")
    ] = 0.125
    cutout: Annotated[
        float, Field(ge=0, le=1, description="side of the square that is blanked, as a part of the shorter side")
    ] = 0.5
    flip: Annotated[float, Field(ge=0, le=1, description="probability that left and right change places")] = 0.5
    scale: Annotated[
        float,
        Field(ge=1, description="height and width divided, independently, by factors uniform between 1/this and this"),
    ] = 1.2
    rotate: Annotated[float, Field(ge=0, le=180, description="degrees, uniform in +- this")] = 15.0


@dataclass(frozen=True)
class Drawn:
    """What was drawn for `a` images, or for one that stands for all: the operation (None: no augmentation) and what it draws on,
    (a, 3), float64, uniform in [0, 1); the strengths make numbers of that, for images of any size.
    """

    operation: Operation | None
    chances: torch.Tensor
    strengths: Siamese


def draw(strengths: Siamese, rng: torch.Generator, count: int = 1) -> Drawn:
    """An operation, and the chances of one change for all images, or of one for each of `count`. Nothing is drawn where there
    are no operations.
    """
    if not strengths.operations:
        return Drawn(None, torch.empty(count, 3, dtype=torch.float64), strengths)
    place = int(torch.randint(len(strengths.operations), (), generator=rng))
    return Drawn(strengths.operations[place], torch.rand(count, 3, generator=rng, dtype=torch.float64), strengths)


def apply(images: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    """Images (a, channels, height, width), changed. Raises UserError for what is no image."""
    if drawn.operation is None:
        return images
    if images.ndim != 4:
        raise UserError(
            f"augmentation: needs images (channels, height, width), found {tuple(images.shape[1:])}. Give no operations."
        )
    chances = drawn.chances.to(images.device).expand(len(images), -1)
    return _OPERATIONS[drawn.operation](images, chances, drawn.strengths)


def _color(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    """Brightness, then saturation, then contrast."""
    signed = (2 * chances - 1).to(images).view(-1, 3, 1, 1, 1)
    images = images + of.brightness * signed[:, 0]
    grey = images.mean(1, keepdim=True)
    images = grey + (1 + of.saturation * signed[:, 1]) * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (1 + of.contrast * signed[:, 2]) * (images - mean)


def _crop(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    most = torch.tensor([_rounded(side * of.crop) for side in images.shape[2:]], device=images.device)
    shift = (chances[:, :2] * (2 * most + 1)).long() - most
    return augmentation.apply(images, Transformation(shift=shift, fill=(0.0,)))


def _cutout(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    """The centre is any pixel, and with an even side, whose centre lies between two, one place more."""
    sides = torch.tensor(images.shape[2:], device=images.device)
    cut = _rounded(min(images.shape[2:]) * of.cutout)
    centre = (chances[:, :2] * (sides + 1 - cut % 2)).floor()
    # The middle of a pixel, as a part of the side, is in that pixel whatever rounding does.
    return augmentation.apply(images, Transformation(centre=(centre + 0.5) / sides, cutout=cut, fill=(0.0,)))


def _flip(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    return augmentation.apply(images, Transformation(flip=chances[:, 0] < of.flip))


def _scale(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    factors = 1 / of.scale + chances[:, :2] * (
        of.scale - 1 / of.scale
    )  # what distances are multiplied by on the way back
    matrices = functional.pad(torch.diag_embed(factors), (0, 1)).to(images)  # (a, 2, 3)
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _rotate(images: torch.Tensor, chances: torch.Tensor, of: Siamese) -> torch.Tensor:
    angle = (2 * chances[:, 0] - 1) * math.radians(of.rotate)
    return augmentation.apply(images, Transformation(angle=angle, fill=(0.0,)))


def _rounded(value: float) -> int:
    """To the nearest whole number, halves up, as DSA does."""
    return math.floor(value + 0.5)


_OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor, Siamese], torch.Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
