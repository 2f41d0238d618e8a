"""Train a teacher: a model on the whole real set, in one pass or from moments that other jobs summed."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stillhouse import artifact, moments, plugins, provenance, settings
from stillhouse.errors import UserError
from stillhouse.moments import Statistics
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages import outputs
from stillhouse.stages.accumulate import summing
from stillhouse.teacher import Teacher


def teach(
    data: Path, model: dict[str, Any], run: Run, code: str, threads: int, out: Path, files: Sequence[Path] = ()
) -> None:
    """Train `model` (settings with `kind`) on the prepared data set `data`, write the teacher and its cost.

    With `files`, moments of shards that together are the whole training part: the pass over it is not made again.
    """
    params = settings.parse_plugin("models", model, "model")
    real = RealSet.load(data)
    device = provenance.device_kind(run.device)
    with outputs.cost(out, device, threads):
        if files:
            teacher, made = _gathered(files, params, real, run)
        else:
            teacher = plugins.load("models", settings.kind_of(params)).fit_real(real, params, run)
            made = {"shards": 1}
        recipe = {
            "model": settings.dump(params),
            "seed": run.seed,
            "data": teacher.data,
            "code": code,
            "versions": provenance.versions(),
            "device": device,
            **made,
        }
        dataclasses.replace(teacher, recipe=recipe).save(out)
    if files:
        _add_costs(out, files)
    run.log.info("%s on %s, seed %d: %s", model["kind"], real.name, run.seed, summary(teacher.notes))


def summary(notes: Any) -> str:
    """The notes that are single numbers, in one line."""
    return ", ".join(f"{name} {value:.6g}" for name, value in notes.items() if isinstance(value, int | float))


def _gathered(files: Sequence[Path], params: Any, real: RealSet, run: Run) -> tuple[Teacher, dict[str, Any]]:
    """The teacher fitted from the moments in `files`, and what its recipe says of them."""
    module = summing(settings.kind_of(params))
    sums = moments.load_merged(files)
    _check(sums, params, real, run, ", ".join(map(str, files)))
    parts = [dataclasses.asdict(part) for part in sums.parts]
    return module.fit_moments(sums, real, run), {"shards": len(parts), "moments": parts}


def _check(sums: Statistics, params: Any, real: RealSet, run: Run, where: str) -> None:
    """The moments must be of this model and seed, and of all that the model fits of `real`."""
    if (sums.model, sums.seed) != (settings.dump(params), run.seed):
        raise UserError(f"{where}: moments of another model or seed ({sums.seed}). Accumulate those of this one.")
    if real.identity not in [part.data for part in sums.parts]:
        raise UserError(
            f"{where}: moments of {sums.parts[0].data['name']}, another data set or order than {real.name}."
        )
    gap = moments.missing(sums.parts)
    if gap is not None:
        raise UserError(f"{where}: examples {gap} are missing. Add the moments of the other shards.")


def _add_costs(out: Path, files: Sequence[Path]) -> None:
    """What the shards cost stands in the teacher's cost file: theirs are as short-lived as their moments."""
    costs = [json.loads(path.read_text()) for path in map(artifact.cost_path, files) if path.is_file()]
    own = json.loads(artifact.cost_path(out).read_text())
    outputs.write_json(artifact.cost_path(out), {**own, "shards": costs})
