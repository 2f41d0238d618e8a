"""Train a teacher: a model on the whole real set."""

import dataclasses
from pathlib import Path
from typing import Any

from stillhouse import plugins, provenance, settings
from stillhouse.run import Run
from stillhouse.sets import RealSet
from stillhouse.stages import outputs


def teach(data: Path, model: dict[str, Any], run: Run, code: str, threads: int, out: Path) -> None:
    """Train `model` (settings with `kind`) on the prepared data set `data`, write the teacher and its cost."""
    params = settings.parse_plugin("models", model, "model")
    real = RealSet.load(data)
    device = provenance.device_kind(run.device)
    with outputs.cost(out, device, threads):
        teacher = plugins.load("models", settings.kind_of(params)).fit_real(real, params, run)
        recipe = {
            "model": settings.dump(params),
            "seed": run.seed,
            "data": teacher.data,
            "code": code,
            "versions": provenance.versions(),
            "device": device,
        }
        dataclasses.replace(teacher, recipe=recipe).save(out)
    run.log.info("%s on %s, seed %d: %s", model["kind"], real.name, run.seed, summary(teacher.notes))


def summary(notes: Any) -> str:
    """The notes that are single numbers, in one line."""
    return ", ".join(f"{name} {value:.6g}" for name, value in notes.items() if isinstance(value, int | float))
