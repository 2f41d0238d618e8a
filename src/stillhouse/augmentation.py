"""Random changes of images that keep their class: flip, shift, rotation, zoom, cutout, in whatever space a model sees them.

`draw` makes the chances, `apply` changes images with them, differentiably in the images; `augment` does both. One draw can be
applied to several batches, and a draw of one image to a whole batch. Colours are left alone: brightness and contrast are
about pixels, and mean nothing in a whitened space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch.nn import functional

from stillhouse.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for every image. Everything is off by default."""

    flip: Annotated[bool, Field(description="left and right change places with probability 1/2")] = False
    shift: Annotated[
        int, Field(ge=0, description="pixels down and, independently, right: whole, uniform from -shift to shift")
    ] = 0
    rotate: Annotated[
        float, Field(ge=0, le=180, description="degrees about the centre: uniform from -rotate to rotate")
    ] = 0.0
    zoom: Annotated[
        float,
        Field(ge=1, description="factor of both sides about the centre: its logarithm is uniform, from 1/zoom to zoom"),
    ] = 1.0
    cutout: Annotated[
        int,
        Field(
            ge=0,
            description="pixels on a side of a blank square whose centre is a pixel of the image, all alike: it may stick out",
        ),
    ] = 0
    fill: Annotated[
        Literal["edge"] | tuple[float, ...],
        Field(
            description="what lies outside an image and in its cutout: one value, or one for each channel, in the model's space; "
            "edge: the nearest pixel, and in the cutout the mean of the image's channel"
        ),
    ] = "edge"


@dataclass(frozen=True)
class Transformation:
    """What was drawn for `a` images, or for one that stands for all; None is off.

    flip     whether left and right change places, (a,)
    shift    pixels down and right, (a, 2)
    angle    of the rotation, counter-clockwise, in radians, (a,)
    zoom     factor of both sides, (a,)
    centre   of the cutout, down and right as parts of the height and width in [0, 1), (a, 2)
    cutout   pixels on a side of the cutout
    fill     as in `Augmentation`
    """

    flip: torch.Tensor | None = None
    shift: torch.Tensor | None = None
    angle: torch.Tensor | None = None
    zoom: torch.Tensor | None = None
    centre: torch.Tensor | None = None
    cutout: int = 0
    fill: Literal["edge"] | tuple[float, ...] = "edge"

    def like(self, images: torch.Tensor) -> Transformation:
        """The same for the device of these images, and as many as they are."""

        def fit(drawn: Any) -> Any:
            return (
                drawn.to(images.device).expand(len(images), *drawn.shape[1:])
                if isinstance(drawn, torch.Tensor)
                else drawn
            )

        return Transformation(**{field.name: fit(getattr(self, field.name)) for field in fields(self)})


def augment(images: torch.Tensor, augmentation: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Images (a, channels, height, width), each changed by its own draw; the same tensor, of any shape, with all off."""
    if augmentation == Augmentation():
        return images
    return apply(images, draw(len(images), augmentation, generator))


def draw(count: int, augmentation: Augmentation, generator: torch.Generator) -> Transformation:
    """Independent draws for `count` images of any size. What is off draws nothing."""

    def uniform(*shape: int) -> torch.Tensor:
        # float64: images of either precision get the same transformation.
        return torch.rand(*shape, generator=generator, dtype=torch.float64, device=generator.device)

    def within(bound: float) -> torch.Tensor:
        return (2 * uniform(count) - 1) * bound

    most = augmentation.shift
    return Transformation(
        flip=uniform(count) < 1 / 2 if augmentation.flip else None,
        shift=torch.randint(-most, most + 1, (count, 2), generator=generator, device=generator.device)
        if most
        else None,
        angle=within(math.radians(augmentation.rotate)) if augmentation.rotate else None,
        zoom=within(math.log(augmentation.zoom)).exp() if augmentation.zoom > 1 else None,
        centre=uniform(count, 2) if augmentation.cutout else None,
        cutout=augmentation.cutout,
        fill=augmentation.fill,
    )


def apply(images: torch.Tensor, transformation: Transformation) -> torch.Tensor:
    """Images (a, channels, height, width) flipped, then rotated, zoomed, shifted, then cut out.

    Flips and shifts alone move pixels and change none; with a rotation or a zoom all four are one bilinear interpolation.
    Raises UserError for what is no image, and where the values of `fill` are not those of the channels.
    """
    if images.ndim != 4:
        raise UserError(f"augmentation: needs images (channels, height, width), found {tuple(images.shape[1:])}.")
    drawn = transformation.like(images)
    fill = _fill(images, drawn)
    if drawn.angle is not None or drawn.zoom is not None:
        images = _interpolated(images, drawn, fill)
    elif drawn.flip is not None or drawn.shift is not None:
        images = _moved(images, drawn, fill)
    if drawn.centre is not None:
        blank = images.mean((2, 3), keepdim=True) if fill is None else fill
        images = torch.where(_square(images, drawn.centre, drawn.cutout), blank, images)
    return images


def _fill(images: torch.Tensor, drawn: Transformation) -> torch.Tensor | None:
    """(1, channels or 1, 1, 1); None for the edge."""
    if drawn.fill == "edge":
        return None
    if len(drawn.fill) not in (1, images.shape[1]):
        raise UserError(
            f"augmentation.fill: {len(drawn.fill)} values for {images.shape[1]} channels. Give one, or one for each."
        )
    return torch.tensor(drawn.fill, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)


def _moved(images: torch.Tensor, drawn: Transformation, fill: torch.Tensor | None) -> torch.Tensor:
    """Flipped and shifted: each pixel is one pixel of the image, taken from row - down and column - right."""
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device).expand(len(images), -1)  # (a, height)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)  # (a, width)
    if drawn.shift is not None:
        rows, columns = rows - drawn.shift[:, :1], columns - drawn.shift[:, 1:]
    outside = ((rows < 0) | (rows >= height))[:, :, None] | ((columns < 0) | (columns >= width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    if drawn.flip is not None:
        columns = torch.where(drawn.flip[:, None], width - 1 - columns, columns)
    source = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)[:, None]  # (a, 1, height * width)
    moved = images.flatten(2).gather(2, source.expand(-1, images.shape[1], -1)).view_as(images)
    return moved if fill is None else torch.where(outside[:, None], fill, moved)


def _interpolated(images: torch.Tensor, drawn: Transformation, fill: torch.Tensor | None) -> torch.Tensor:
    """Flipped, rotated, zoomed and shifted."""
    grid = _grid(images, drawn)
    if fill is None:
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    # What lies outside counts as 0 in the interpolation, so 0 has to be the filling.
    return functional.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=False) + fill


def _grid(images: torch.Tensor, drawn: Transformation) -> torch.Tensor:
    """Where in the image each pixel of the result comes from, (a, height, width, 2): right and down, in halves of a side.

    A pixel q of the result, counted from the centre, is p of the image with q = zoom R F p + shift, R the rotation and F the
    flip: p = F R^T (q - shift) / zoom. With the second axis down, counter-clockwise by t takes (1, 0) to (cos t, -sin t).
    """
    height, width = images.shape[2:]
    one = torch.ones(len(images), 1, 1, dtype=torch.float64, device=images.device)
    mirror = one if drawn.flip is None else one - 2 * drawn.flip[:, None, None]
    angle = 0 * one if drawn.angle is None else drawn.angle[:, None, None]
    zoom = one if drawn.zoom is None else drawn.zoom[:, None, None]
    shift = 0 * one.expand(-1, 2, -1) if drawn.shift is None else drawn.shift[:, :, None]
    down = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2 - shift[:, :1]  # (a, height, 1)
    right = torch.arange(width, device=images.device) - (width - 1) / 2 - shift[:, 1:]  # (a, 1, width)
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    # Products of one side each in float64, sums over both in the images' precision: those are all that takes time.
    across = [(part * mirror * 2 / width).to(images.dtype) for part in (cosine * right, -sine * down)]
    along = [(part * 2 / height).to(images.dtype) for part in (sine * right, cosine * down)]
    return torch.stack([across[0] + across[1], along[0] + along[1]], dim=-1)


def _square(images: torch.Tensor, centre: torch.Tensor, side: int) -> torch.Tensor:
    """Where the cutout is, (a, 1, height, width)."""
    inside = []
    for axis, size in enumerate(images.shape[2:]):
        first = (centre[:, axis, None] * size).floor() - side // 2
        place = torch.arange(size, device=images.device)
        inside.append((place >= first) & (place < first + side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
