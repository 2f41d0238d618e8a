"""Sum what a model needs of a real set: by many jobs, a shard each; onto what was summed before; and all of it together."""

import dataclasses
from pathlib import Path
from typing import Any

from stillhouse import moments, plugins, provenance, settings
from stillhouse.errors import UserError
from stillhouse.moments import Part, Statistics
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages import outputs


def accumulate(
    data: Path, model: dict[str, Any], run: Run, shard: tuple[int, int], code: str, threads: int, out: Path
) -> None:
    """Sum the moments of `model` (settings with `kind`) over shard (number, of how many), write them and their cost."""
    number, shards = shard
    if number > shards:
        raise UserError(f"--shard {number} {shards}: there are {shards} shards, the first is 1.")
    params = settings.parse_plugin("models", model, "model")
    module = summing(settings.kind_of(params))
    real = RealSet.load(data)
    with outputs.cost(out, provenance.device_kind(run.device), threads):
        _signed(module.accumulate(real, params, run, number, shards), run, code).save(out)
    run.log.info("%s on %s, seed %d: shard %d of %d", model["kind"], real.name, run.seed, number, shards)


def absorb(data: Path, onto: Path, run: Run, code: str, threads: int, out: Path) -> None:
    """Add the training part of `data` to the moments in the file `onto`, write their sum and its cost."""
    old = Statistics.load(onto)
    real = RealSet.load(data)
    with outputs.cost(out, provenance.device_kind(run.device), threads):
        both = summing(str(old.model["kind"])).absorb(old, real, run)
        _signed(both, run, code).save(out)
    run.log.info("%s: %d examples", out, both.moments.count)


def merge(files: list[Path], run: Run, out: Path) -> None:
    """Write the moments of all `files`, slices of one real set, as one file."""
    both = moments.load_merged(files)
    both.save(out)
    run.log.info("%s: %d examples", out, both.moments.count)


def summing(kind: str) -> Any:
    """The module of a model that can be fitted from moments. Raises UserError for one that cannot."""
    module = plugins.load("models", kind, "model")
    if not hasattr(module, "accumulate"):
        raise UserError(f"model: a model of kind '{kind}' is not fitted from moments; train it with teach alone.")
    return module


def _signed(statistics: Statistics, run: Run, code: str) -> Statistics:
    """With a recipe for the parts that have none yet: those that this job summed."""
    recipe = {"code": code, "versions": provenance.versions(), "device": provenance.device_kind(run.device)}

    def sign(part: Part) -> Part:
        return part if part.recipe else dataclasses.replace(part, recipe=recipe)

    return dataclasses.replace(statistics, parts=tuple(map(sign, statistics.parts)))
