"""Score distilled sets, or teachers, by one model; write one CSV row per set and training seed."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from stillhouse import settings
from stillhouse.evaluation import judge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, recipe_id
from stillhouse.stages import outputs
from stillhouse.teacher import Teacher

COLUMNS = (
    "dataset", "experiment", "method", "per_class", "seed", "protocol", "model", "training_seed", "metric", "value",
    "budget", "file", "recipe", "code",
)  # fmt: skip


def evaluate_sets(
    data: Path, files: list[Path], protocol: str, model_name: str, model: dict[str, Any], trainings: int, run: Run, code: str,
    out: Path, how: judge.How = "own",
) -> None:  # fmt: skip
    """Score the distilled sets in `files` by `model` (settings with `kind`), beside the run's teachers of that model."""
    real = RealSet.load(data)
    params = settings.parse_plugin("models", model, model_name)
    references = judge.References(real, params, run)
    rows: list[dict[str, Any]] = []
    for file in run.progress(files, len(files), f"judging {real.name} by {model_name}"):
        distilled = DistilledSet.load(file)
        recipe = distilled.recipe
        shared = {
            "dataset": recipe["dataset"], "experiment": recipe["experiment"], "method": recipe["method"]["kind"],
            "per_class": recipe["per_class"], "seed": recipe["seed"], "protocol": protocol, "model": model_name,
            "budget": recipe["budget"], "file": file.as_posix(), "recipe": recipe_id(recipe), "code": code,
        }  # fmt: skip
        rows += _rows(shared, judge.judge(distilled, real, params, trainings, recipe["seed"], run, references, how))
    _write(out, rows)


def evaluate_teachers(
    data: Path, files: list[Path], protocol: str, model_name: str, run: Run, code: str, out: Path
) -> None:
    """Score teachers: what the whole real set gives."""
    real = RealSet.load(data)
    rows: list[dict[str, Any]] = []
    for file in files:
        teacher = Teacher.load(file)
        shared = {
            "dataset": real.name, "experiment": "whole", "method": "whole", "per_class": "", "seed": teacher.seed,
            "protocol": protocol, "model": model_name, "budget": 1.0, "file": file.as_posix(),
            "recipe": recipe_id(teacher.recipe), "code": code,
        }  # fmt: skip
        metrics = judge.teacher_metrics(teacher, real, run)
        rows += _rows(shared, [judge.Score(teacher.seed, metric, value) for metric, value in metrics.items()])
    _write(out, rows)


def _rows(shared: dict[str, Any], scores: Iterable[judge.Score]) -> Iterator[dict[str, Any]]:
    for score in scores:
        yield {**shared, "training_seed": score.training_seed, "metric": score.metric, "value": f"{score.value:.10g}"}


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    outputs.write_text(out, text.getvalue())
