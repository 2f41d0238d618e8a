"""Fitted spaces: what a model sees of an example or of its target, and how to undo it. `data.whitening` fits those of inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch


class Space(Protocol):
    """A fitted space. Both directions keep the dtype and work on (b, *shape)."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """From pixels in [0, 1] into the space."""

    def inverse(self, inputs: torch.Tensor) -> torch.Tensor:
        """Back to pixels."""

    def settings(self) -> dict[str, Any]:
        """Settings with fitted values, as `from_settings` reads them."""


def from_settings(fitted: Mapping[str, Any]) -> Space:
    """The space from its settings with fitted values (see `Space.settings`)."""
    if fitted["kind"] == "pixels":
        return PixelSpace()
    mean, std = (torch.as_tensor(fitted[name], dtype=torch.float64) for name in ("mean", "std"))
    standard = StandardSpace(mean, std)
    if fitted["kind"] == "standardised":
        return standard
    return ZcaSpace(standard, fitted["per_image"], fitted["scale"], fitted["vectors"], fitted["values"])


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two fitted spaces are equal, value by value."""
    if one.keys() != other.keys():
        return False
    return all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one if k != "kind") and (
        one["kind"] == other["kind"]
    )


class PixelSpace:
    """Pixels in [0, 1], untouched."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same tensor."""
        return pixels

    def inverse(self, inputs: torch.Tensor) -> torch.Tensor:
        """The same tensor."""
        return inputs

    def settings(self) -> dict[str, Any]:
        """Only the kind."""
        return {"kind": "pixels"}


class StandardSpace:
    """(pixel - mean) / std; `mean` and `std` are (channels,) and broadcast over what follows the channel axis."""

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.mean, self.std = mean.to(torch.float64), std.to(torch.float64)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Standardise."""
        mean, std = self._like(pixels)
        return (pixels - mean) / std

    def inverse(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo it exactly."""
        mean, std = self._like(inputs)
        return inputs * std + mean

    def settings(self) -> dict[str, Any]:
        """Kind, mean and std as lists."""
        return {"kind": "standardised", "mean": self.mean.tolist(), "std": self.std.tolist()}

    def _like(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        view = (-1,) + (1,) * (inputs.ndim - 2)
        return self.mean.view(view).to(inputs), self.std.view(view).to(inputs)


class ZcaSpace:
    """Standardise, optionally normalise each image, whiten with `vectors` diag(values^-1/2) `vectors`^T, (d, d) and (d,).

    The whitening is undone exactly. Per-image normalisation forgets an image's own mean and norm: its inverse gives the
    image with mean 0 and the training images' root-mean-square norm, `scale`.
    """

    def __init__(
        self, standard: StandardSpace, per_image: bool, scale: float, vectors: torch.Tensor, values: torch.Tensor
    ) -> None:
        self.standard, self.per_image, self.scale = standard, per_image, scale
        self.vectors, self.values = vectors, values

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Whiten."""
        flat = self.standard.forward(pixels).flatten(1)
        if self.per_image:
            flat = unit(flat)
        return self._times(flat, -0.5).view_as(pixels)

    def inverse(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo the whitening exactly; see the class for what per-image normalisation loses."""
        flat = self._times(inputs.flatten(1), 0.5)
        return self.standard.inverse((flat * self.scale).view_as(inputs))

    def settings(self) -> dict[str, Any]:
        """Kind and fitted values; `vectors` and `values` stay tensors."""
        fitted = {"per_image": self.per_image, "scale": self.scale, "vectors": self.vectors, "values": self.values}
        return {**self.standard.settings(), "kind": "zca", **fitted}

    def _times(self, flat: torch.Tensor, power: float) -> torch.Tensor:
        vectors, values = self.vectors.to(flat), self.values.to(flat)
        whitened: torch.Tensor = ((flat @ vectors) * values.pow(power)) @ vectors.T
        return whitened


def unit(flat: torch.Tensor) -> torch.Tensor:
    """(b, d) images, each with mean 0 and norm 1."""
    centred = flat - flat.mean(1, keepdim=True)
    norms: torch.Tensor = centred.norm(dim=1, keepdim=True)
    return centred / norms.clamp(min=torch.finfo(flat.dtype).tiny)


def one_hot(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """(n,) class indices as (n, classes) float64."""
    return torch.nn.functional.one_hot(labels, classes).to(torch.float64)
