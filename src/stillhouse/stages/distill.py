"""Make distilled sets: all that one job is asked for, of one experiment on one data set."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse import plugins, provenance, settings
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, recipe_id
from stillhouse.stages import outputs
from stillhouse.stages.store import Store


@dataclass(frozen=True)
class Wanted:
    """One set to make: its size, its seed, its file."""

    per_class: int
    seed: int
    out: Path


def distill(
    data: Path, experiment: str, method: dict[str, Any], wanted: list[Wanted], run: Run, code: str, threads: int,
    unfinished: Path,
    keep_every: float,
) -> None:  # fmt: skip
    """Make the sets `wanted` with `method` (settings with `kind`), write each with its cost.

    Methods that keep their state do so in a folder of `unfinished`, every so many seconds, and go on from there.
    """
    module = plugins.load("methods", str(method["kind"]))
    params = settings.parse_plugin("methods", method, experiment)
    real = RealSet.load(data)
    device = provenance.device_kind(run.device)
    shared = {
        "dataset": real.name,
        "experiment": experiment,
        "method": settings.dump(params),
        "data": {"name": real.name, "fingerprint": real.fingerprint, "order": real.order},
        "code": code,
        "versions": provenance.versions(),
        "device": device,
        "budget": module.budget(params) if hasattr(module, "budget") else 1.0,
    }
    if run.others:
        shared["others"] = [run.other(name).identity for name in sorted(run.others)]
    for each in run.progress(wanted, len(wanted), f"{experiment} on {real.name}"):
        recipe = {**shared, "per_class": each.per_class, "seed": each.seed}
        store = Store(unfinished / recipe_id(recipe), keep_every)
        seeded = dataclasses.replace(run, seed=each.seed, store=store)
        with outputs.cost(each.out, device, threads, store):
            distilled: DistilledSet = module.distill(real, each.per_class, params, seeded)
            # What a method says of itself, such as condition numbers, stands beside what was asked of it.
            dataclasses.replace(distilled, recipe={**distilled.recipe, **recipe}).save(each.out)
        store.remove()
        run.log.info("%s: %d examples%s", each.out, len(distilled), _exactness(distilled))


def _exactness(distilled: DistilledSet) -> str:
    if not distilled.certificate or "error_images" not in distilled.certificate:
        return ""
    return f", weights given back to {distilled.certificate['error_images']:.1e}"
