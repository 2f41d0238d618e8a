"""What stands in a file, before anything is declared of it or checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Found:
    """What a reader gives.

    images    (m, *shape), channels first: pixels as uint8, or floats in whatever space they live in
    labels    (m,) integer class labels, or (m, c) real-valued rows
    files     sha256 of each file read, by its name
    seed      which of several sets of one experiment it is
    centred   whether rows of this format are one-hot less 1/c: those of a real image sum to 0
    notes     what else the file says of the set, JSON-able
    manifest  of our own exports: what they declare (`manifest`), and the tensors of its space
    """

    images: torch.Tensor
    labels: torch.Tensor
    files: Mapping[str, str]
    seed: int = 0
    centred: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
