"""Spaces: what a model sees of an image. Pixels as they are, standardised per channel, or ZCA-whitened; each can be undone.

A space is fitted on training images only. Its settings with the fitted values travel in every distilled-set file. A row of a
table is an image of one pixel whose channels are the features, in their own units.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field, PlainValidator

from stillhouse import settings
from stillhouse.errors import NumericalError, UserError, did_you_mean
from stillhouse.sets import RealSet, Split
from stillhouse.spaces import PixelSpace, Space, StandardSpace, ZcaSpace, unit

_CHUNK = 4096  # images read at once while fitting


@dataclass(frozen=True)
class Pixels:
    """Pixels in [0, 1], untouched."""

    KIND = "pixels"


@dataclass(frozen=True)
class Standardised:
    """(pixel - mean) / std, per channel, or per feature of a table."""

    KIND = "standardised"
    mean: Annotated[
        tuple[float, ...] | None,
        Field(description="per channel, pixels in [0, 1]; fitted on the training images if absent"),
    ] = None
    std: Annotated[
        tuple[float, ...] | None, Field(description="per channel; fitted on the training images if absent")
    ] = None


@dataclass(frozen=True)
class Zca:
    """ZCA whitening U (S + r tr(S)/d I)^-1/2 U^T of standardised images, S their covariance (1/n) X^T X."""

    KIND = "zca"
    regularisation: Annotated[
        float, Field(ge=0, description="r, as a multiple of the mean eigenvalue (KIP and RFAD: 0.1; 0 is plain ZCA)")
    ] = 0.1
    per_image: Annotated[
        bool,
        Field(description="subtract each image's mean and divide by its norm first (KIP: true; RFAD: false)"),
    ] = True


KINDS: dict[str, type] = {cls.KIND: cls for cls in (Pixels, Standardised, Zca)}


def parse(raw: Any, where: str = "") -> Pixels | Standardised | Zca:
    """Settings of a space from `kind` or `{kind: ..., setting: ...}`. Raises UserError."""
    if isinstance(raw, Pixels | Standardised | Zca):
        return raw
    if isinstance(raw, str):
        raw = {"kind": raw}
    kind = raw.get("kind") if isinstance(raw, Mapping) else None
    if kind not in KINDS:
        raise UserError(f"{where}: unknown space '{kind or raw}'. {did_you_mean(str(kind or raw), KINDS)}")
    chosen: Pixels | Standardised | Zca = settings.parse(KINDS[kind], raw, where)
    return chosen


SpaceSettings = Annotated[
    Any, PlainValidator(settings.placed(parse)), Field(description="what the model sees: pixels, standardised or zca")
]


@functools.lru_cache(maxsize=2)
def fit(params: Pixels | Standardised | Zca, real: RealSet) -> Space:
    """The space fitted on the training images of `real`. Raises UserError where given constants do not suit the channels."""
    if isinstance(params, Pixels):
        return PixelSpace()
    if isinstance(params, Standardised):
        return _standardise(params, real)
    return _whiten(params, real)


def _standardise(params: Standardised, real: RealSet) -> StandardSpace:
    channels = real.shape[0]
    what = "channels" if len(real.shape) > 1 else "features"
    for name, given in (("mean", params.mean), ("std", params.std)):
        if given is not None and len(given) != channels:
            raise UserError(f"space: {name} has {len(given)} values, {real.name} has {channels} {what}. Give one each.")
    if params.mean is not None and params.std is not None:
        return StandardSpace(torch.tensor(params.mean), torch.tensor(params.std))
    mean, std = channel_moments(real.train)
    return StandardSpace(
        torch.tensor(params.mean) if params.mean is not None else mean,
        torch.tensor(params.std) if params.std is not None else std,
    )


def channel_moments(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each channel of images, or each feature of a table, (channels,) float64, in one pass.

    Raises NumericalError naming one that is constant.
    """
    tabular = split.inputs.ndim == 2
    # A feature may be large beside its deviation, and would lose it in a difference of squares; pixels lie in [0, 1].
    shift = split.inputs[0].to(torch.float64) if tabular else torch.zeros(())
    total, square, count = torch.zeros(()), torch.zeros(()), 0
    low, high = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    for chunk, _ in split.chunks(_CHUNK):
        per_channel = chunk.transpose(0, 1).flatten(1).to(torch.float64)
        if tabular:
            per_channel -= shift.unsqueeze(1)
        total, square, count = (
            total + per_channel.sum(1),
            square + per_channel.square().sum(1),
            count + per_channel.shape[1],
        )
        low, high = torch.minimum(low, per_channel.amin(1)), torch.maximum(high, per_channel.amax(1))
    offset = total / count
    std = (square / count - offset.square()).clamp(min=0).sqrt()
    # Not by the deviation, which rounding can leave above 0.
    for place in torch.nonzero(low == high).flatten().tolist()[:1]:
        what = f"{'feature' if tabular else 'channel'} {place + 1} of {len(std)}"
        value = f"{float((shift + low)[place]):g} in all training examples"
        raise NumericalError(f"space: {what} is constant ({value}); it cannot be standardised")
    return shift + offset, std


def _whiten(params: Zca, real: RealSet) -> ZcaSpace:
    standard = StandardSpace(*channel_moments(real.train))
    total, norm = torch.zeros(real.dim, real.dim, dtype=torch.float64), 0.0
    for flat in _standard_chunks(standard, real.train):
        rows = unit(flat) if params.per_image else flat
        total.addmm_(rows.T, rows)
        norm += float((flat - flat.mean(1, keepdim=True)).square().sum())
    covariance = total / len(real.train)
    covariance.diagonal().add_(params.regularisation * covariance.trace() / real.dim)
    values, vectors = torch.linalg.eigh(covariance)
    floor = values[-1] * real.dim * torch.finfo(torch.float64).eps
    if values[0] <= floor:
        raise NumericalError(
            f"space: the pixel covariance of {real.name} is singular (smallest eigenvalue {float(values[0]):.1e}, largest "
            f"{float(values[-1]):.1e}); set regularisation above 0"
        )
    scale = (norm / len(real.train)) ** 0.5 if params.per_image else 1.0
    return ZcaSpace(standard, params.per_image, scale, vectors, values)


def _standard_chunks(standard: StandardSpace, split: Split) -> Iterable[torch.Tensor]:
    for chunk, _ in split.chunks(_CHUNK):
        yield standard.forward(chunk.to(torch.float64)).flatten(1)
