"""Run an analysis: numbers about a method or a theorem on one data set, that are no scores of distilled sets."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from stillhouse import artifact, plugins, provenance, settings
from stillhouse.errors import UserError
from stillhouse.run import Run
from stillhouse.sets import RealSet, recipe_id
from stillhouse.stages import outputs


def analyse(
    data: Path, name: str, analysis: dict[str, Any], run: Run, code: str, threads: int, out: Path, images: Path | None
) -> None:
    """Write the rows of `analysis` (settings with `kind`) as CSV, its recipe and cost beside it, and its images if it has any.

    Columns are data set, analysis, seed and recipe, then every name that occurs in a row, in order of appearance.
    """
    module = plugins.load("analyses", str(analysis["kind"]))
    params = settings.parse_plugin("analyses", analysis, name)
    if images is not None and not hasattr(module, "pictures"):
        raise UserError(f"--images: the analysis {analysis['kind']} makes none. Leave it out.")
    real = RealSet.load(data)
    device = provenance.device_kind(run.device)
    recipe = {
        "analysis": name,
        "settings": settings.dump(params),
        "data": {"name": real.name, "fingerprint": real.fingerprint, "order": real.order},
        "seed": run.seed,
        "code": code,
        "versions": provenance.versions(),
        "device": device,
    }
    shared = {"dataset": real.name, "analysis": name, "seed": run.seed, "recipe": recipe_id(recipe)}
    with outputs.cost(out, device, threads):
        rows = [{**shared, **row} for row in module.analyse(real, params, run)]
        if images is not None:
            shown = module.pictures(real, params, run)
            artifact.write(images, "images", shown, {"recipe": recipe, "order": list(shown)})
        outputs.write_json(artifact.recipe_path(out), recipe)
        outputs.write_text(out, _table(rows))
    run.log.info("%s on %s, seed %d: %d rows", name, real.name, run.seed, len(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: f"{v:.10g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    return text.getvalue()
