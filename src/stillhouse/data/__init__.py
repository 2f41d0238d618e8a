"""Real data sets, one file each: where it comes from, how it is read, and what proves that it is the right data.

Every data set's module has `Params` (its settings) and `read(params, downloads) -> RealSet`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillhouse import plugins
from stillhouse.sets import RealSet
from stillhouse.settings import parse


def prepare(kind: str, settings: Mapping[str, Any], downloads: Path, out: Path, name: str = "") -> RealSet:
    """Read the data set `kind`, check that it is the right data, and save it as one safetensors file at `out`,
    under `name` if it is the user's own.

    `settings` are those of the data set (`{}` for the defaults); files fetched from elsewhere are kept in `downloads`.
    Raises UserError for an unknown name or setting, for missing or wrong files, and for a full disk.
    """
    module = plugins.load("data", kind)
    real: RealSet = module.read(parse(module.Params, settings, name or kind), downloads)
    real = dataclasses.replace(real, name=name or kind)
    real.save(out)
    return real
