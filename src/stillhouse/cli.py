"""The `stillhouse` command: what the workflow runs, job by job, and a few looks at what is there."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stillhouse.errors import NumericalError, UserError


def main(arguments: list[str] | None = None) -> None:
    """Run one sub-command. A user's mistake ends in one line and status 2, a number that must not be in status 3."""
    parser = _parser()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        chosen = parser.parse_args(arguments)
        chosen.command(chosen)
        sys.stdout.flush()
    except UserError as problem:
        raise SystemExit(_end(2, f"stillhouse: {problem}")) from None
    except NumericalError as problem:
        raise SystemExit(_end(3, f"stillhouse: stopped on a number: {problem}")) from None
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as problem:
        if problem.errno is None:
            raise
        where = f"{problem.filename}: " if problem.filename else ""
        raise SystemExit(
            _end(2, f"stillhouse: {where}{problem.strerror}. Check the disk and the folder's rights.")
        ) from None


def _end(status: int, text: str) -> int:
    print(text, file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stillhouse", description="Dataset distillation: the workflow's jobs, one by one."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_stages(commands)
    _add_exchange(commands)
    _add_looks(commands)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], about: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=about)
    parser.set_defaults(command=run)
    return parser


def _computing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="cpu, cuda, or auto: a GPU where there is one (default)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads (default 1)")
    parser.add_argument("--code", default="", help="hash of the source, for the recipe")


def _add_stages(commands: Any) -> None:
    parser = _command(commands, "prepare", _prepare, "fetch, check and save a real data set")
    parser.add_argument("name", help="what it is called")
    parser.add_argument("out", type=Path)
    parser.add_argument("--settings", type=json.loads, help="JSON with the data set's kind; its name alone by default")
    parser.add_argument(
        "--downloads", type=Path, default=Path("data/raw"), help="where fetched files stay (default data/raw)"
    )

    parser = _command(commands, "teach", _teach, "train a model on the whole real set")
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=json.loads, required=True, help="settings as JSON, with kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--moments", type=Path, nargs="+", default=[], help="what accumulate made of all shards of the data set"
    )
    _computing(parser)

    _add_moments(commands)

    parser = _command(commands, "distill", _distill, "make distilled sets of one experiment")
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("--experiment", required=True, help="its name, for the recipe")
    parser.add_argument("--method", type=json.loads, required=True, help="settings as JSON, with kind")
    parser.add_argument("--teachers", type=Path, nargs="*", default=[], help="trained models it may use")
    parser.add_argument(
        "--other",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "FILE"),
        help="a prepared data set that it reads beside the first; repeatable",
    )
    parser.add_argument(
        "--set",
        nargs=3,
        action="append",
        required=True,
        metavar=("PER_CLASS", "SEED", "FILE"),
        help="a set to make; repeatable",
    )
    parser.add_argument(
        "--unfinished", type=Path, default=Path(".cache/unfinished"), help="where long computations keep their state"
    )
    parser.add_argument("--keep-every", type=float, default=60.0, help="seconds between two states (default 60)")
    _computing(parser)

    parser = _command(commands, "evaluate", _evaluate, "score distilled sets or teachers on the whole test set")
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("files", type=Path, nargs="+", help="distilled sets, or teachers with --whole")
    parser.add_argument("--out", type=Path, required=True, help="CSV, one row per set and training seed")
    parser.add_argument("--whole", action="store_true", help="the files are teachers")
    parser.add_argument("--protocol", required=True, help="its name, for the rows")
    parser.add_argument("--model-name", required=True, help="the model's name, for the rows")
    parser.add_argument("--model", type=json.loads, required=True, help="settings as JSON, with kind")
    parser.add_argument("--trainings", type=_positive, default=1, help="models trained on each set (default 1)")
    parser.add_argument(
        "--training",
        choices=["own", "redrawn", "common"],
        default="own",
        help="own: by the schedule in a set's file where it has one, from the initial weights that it names (default); redrawn: "
        "from others; common: as the model's settings say",
    )
    parser.add_argument(
        "--teachers",
        type=Path,
        nargs="*",
        default=[],
        help="the same model trained on the whole real set, to compare with",
    )
    _computing(parser)

    parser = _command(commands, "analyse", _analyse, "run an analysis: numbers that are no scores of distilled sets")
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("out", type=Path, help="CSV; its recipe and cost go beside it")
    parser.add_argument("--analysis", required=True, help="its name, for the rows")
    parser.add_argument("--settings", type=json.loads, required=True, help="settings as JSON, with kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=Path, help="where its images go, if it makes some")
    _computing(parser)

    parser = _command(commands, "page", _page, "put the studies' tables and figures on one self-contained page")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--studies", type=Path, nargs="+", required=True, help="the studies' parts, as their notebooks write them"
    )
    parser.add_argument("--metrics", type=Path, required=True, help="where the numbers alone go, as JSON")


def _add_moments(commands: Any) -> None:
    parser = _command(commands, "accumulate", _accumulate, "sum what a model needs of a real set, or of a shard of it")
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("out", type=Path, help="where the moments go")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--model", type=json.loads, help="settings as JSON, with kind")
    what.add_argument("--onto", type=Path, help="moments of other data: add these to them, for their model and seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shard", type=_positive, nargs=2, default=(1, 1), metavar=("I", "N"), help="the I-th, from 1, of N slices"
    )
    _computing(parser)

    parser = _command(commands, "merge", _merge, "add up the moments of shards of one real set")
    parser.add_argument("files", type=Path, nargs="+", help="moments")
    parser.add_argument("--out", type=Path, required=True)


def _add_exchange(commands: Any) -> None:
    parser = _command(commands, "import", _import, "make a distilled set of another's file, to be judged as any other")
    parser.add_argument("file", type=Path, help="the file, or the folder")
    parser.add_argument("out", type=Path)
    formats = ["dc", "mtt", "kip", "rfad", "folder", "npz", "tensors"]
    parser.add_argument("--format", choices=formats, required=True, help="whose; the last three are what export writes")
    parser.add_argument("--data", type=Path, required=True, help="the prepared data set it was made for")
    parser.add_argument("--index", type=int, help="of several sets in a file of DC's code, from 0")
    parser.add_argument(
        "--space",
        type=_space,
        help="where its images live: pixels, dc, standardised, zca, pixel_zca, or settings as JSON",
    )
    parser.add_argument(
        "--labels", choices=["one_hot", "centred"], help="of real-valued rows; kip and rfad: centred, else one_hot"
    )
    parser.add_argument("--classes", nargs="+", help="order of its label columns; the data set's by default")
    parser.add_argument("--method", help="what made it, for the rows")
    parser.add_argument("--experiment", help="its name, for the rows; the method's by default")
    parser.add_argument("--source", help="where it is from, for the recipe")
    parser.add_argument("--seed", type=int, help="which of several it is; its index by default")
    parser.add_argument("--budget", type=float, help="fraction of the paper's budget it was made with (default 1)")

    parser = _command(commands, "export", _export, "write a distilled set for others to read")
    parser.add_argument("set", type=Path, help="a distilled set")
    parser.add_argument("out", type=Path, help="a file for npz and tensors, else a folder")
    parser.add_argument("--format", choices=["folder", "npz", "tensors", "hugging_face"], required=True)


def _add_looks(commands: Any) -> None:
    parser = _command(commands, "list", _list, "what there is: methods, analyses, data sets, ...")
    parser.add_argument("what", choices=["methods", "analyses", "data", "features", "kernels", "models", "studies"])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))

    parser = _command(
        commands,
        "explain",
        _explain,
        "the settings of a method, analysis, data set, feature map, model, or of params.yaml",
    )
    parser.add_argument("name", nargs="?", help="what to explain; the sections of params.yaml by default")

    parser = _command(commands, "show", _show, "a distilled set: its recipe, certificate and picture")
    parser.add_argument("file", type=Path)
    parser.add_argument("--picture", type=Path, help="write its images there as PNG")

    parser = _command(commands, "check", _check, "read params.yaml and say what is wrong with it, or what it asks for")
    parser.add_argument(
        "params", type=Path, nargs="*", default=[Path("params.yaml")], help="params.yaml and its overlays"
    )

    parser = _command(commands, "table", _table, "print a study's table")
    parser.add_argument("study", type=Path, help="the study's .md file")


def _run(
    chosen: argparse.Namespace, seed: int = 0, teachers: tuple[Path, ...] = (), others: Mapping[str, Path] | None = None
) -> Any:
    from stillhouse import run

    return run.start(chosen.device, chosen.threads, seed, teachers, others)


def _prepare(chosen: argparse.Namespace) -> None:
    from stillhouse.run import Run
    from stillhouse.stages.prepare import prepare

    prepare(
        _with_kind(chosen.settings, "--settings") if chosen.settings else {"kind": chosen.name},
        chosen.name,
        chosen.downloads,
        Run(),
        chosen.out,
    )


def _teach(chosen: argparse.Namespace) -> None:
    from stillhouse.stages.teach import teach

    run = _run(chosen, chosen.seed)
    teach(chosen.data, chosen.model, run, chosen.code, chosen.threads, chosen.out, chosen.moments)


def _accumulate(chosen: argparse.Namespace) -> None:
    from stillhouse.stages import accumulate

    shared = (_run(chosen, chosen.seed), chosen.code, chosen.threads, chosen.out)
    if chosen.onto is not None:
        if tuple(chosen.shard) != (1, 1):
            raise UserError("--shard: with --onto the whole of DATA is added. Accumulate its shards with --model.")
        accumulate.absorb(chosen.data, chosen.onto, *shared)
    else:
        model = _with_kind(chosen.model, "--model")
        accumulate.accumulate(chosen.data, model, shared[0], tuple(chosen.shard), *shared[1:])


def _merge(chosen: argparse.Namespace) -> None:
    from stillhouse.run import Run
    from stillhouse.stages import accumulate

    accumulate.merge(chosen.files, Run(), chosen.out)


def _distill(chosen: argparse.Namespace) -> None:
    from stillhouse.stages.distill import Wanted, distill

    wanted = [Wanted(_whole_number(size), _whole_number(seed), Path(file)) for size, seed, file in chosen.set]
    if not all(each.per_class for each in wanted):
        raise UserError("--set: PER_CLASS is 0; a class needs at least one example.")
    others = {name: Path(file) for name, file in chosen.other}
    run = _run(chosen, teachers=tuple(chosen.teachers), others=others)
    distill(
        chosen.data, chosen.experiment, _with_kind(chosen.method, "--method"), wanted, run, chosen.code, chosen.threads,
        chosen.unfinished, chosen.keep_every,
    )  # fmt: skip


def _evaluate(chosen: argparse.Namespace) -> None:
    from stillhouse.stages import evaluate

    names = (chosen.protocol, chosen.model_name)
    if chosen.whole:
        evaluate.evaluate_teachers(chosen.data, chosen.files, *names, _run(chosen), chosen.code, chosen.out)
    else:
        evaluate.evaluate_sets(
            chosen.data, chosen.files, *names, chosen.model, chosen.trainings,
            _run(chosen, teachers=tuple(chosen.teachers)), chosen.code, chosen.out, chosen.training,
        )  # fmt: skip


def _analyse(chosen: argparse.Namespace) -> None:
    from stillhouse.stages.analyse import analyse

    analyse(
        chosen.data, chosen.analysis, _with_kind(chosen.settings, "--settings"), _run(chosen, chosen.seed), chosen.code,
        chosen.threads, chosen.out, chosen.images,
    )  # fmt: skip


def _page(chosen: argparse.Namespace) -> None:
    from stillhouse.reporting import page

    page.write(chosen.studies, chosen.out, chosen.metrics)


def _import(chosen: argparse.Namespace) -> None:
    from stillhouse.exchange import formats
    from stillhouse.exchange.declared import Declared
    from stillhouse.sets import RealSet

    declared = Declared(
        method=chosen.method, experiment=chosen.experiment, source=chosen.source, space=chosen.space,
        labels=chosen.labels, classes=tuple(chosen.classes) if chosen.classes else None, seed=chosen.seed,
        budget=chosen.budget,
    )  # fmt: skip
    real = RealSet.load(chosen.data)
    formats.import_set(chosen.file, chosen.format, real, declared, chosen.index).save(chosen.out)


def _export(chosen: argparse.Namespace) -> None:
    from stillhouse.exchange import formats
    from stillhouse.sets import DistilledSet

    formats.export_set(DistilledSet.load(chosen.set), chosen.out, chosen.format)


def _list(chosen: argparse.Namespace) -> None:
    from stillhouse import plugins

    if chosen.what == "studies":
        from stillhouse import config

        for name, study in config.load(chosen.params).studies.items():
            print(f"{name:20} {study.title}")
        return
    for name in plugins.available(chosen.what):
        print(f"{name:20} {plugins.summary(chosen.what, name)}")


def _explain(chosen: argparse.Namespace) -> None:
    from stillhouse import explain

    print("\n".join(explain.explain(chosen.name)))


def _show(chosen: argparse.Namespace) -> None:
    from stillhouse.reporting import show
    from stillhouse.sets import DistilledSet

    distilled = DistilledSet.load(chosen.file)
    print("\n".join(show.describe(distilled)))
    if chosen.picture:
        from stillhouse.reporting import figures

        figures.save(figures.sheet(distilled), chosen.picture)
        print(f"picture: {chosen.picture}")


def _check(chosen: argparse.Namespace) -> None:
    from stillhouse import config
    from stillhouse.plan import Plan

    plan = Plan(config.load(chosen.params[0], tuple(chosen.params[1:])))
    sets = sum(len(batch.sets) for batch in plan.batches())
    print(f"{', '.join(map(str, chosen.params))}: right. {len(plan.studies)} studies, {sets} distilled sets.")


def _table(chosen: argparse.Namespace) -> None:
    try:
        print(chosen.study.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{chosen.study}: no such file. Make it with snakemake.") from None


def _with_kind(settings: Any, where: str) -> dict[str, Any]:
    if not isinstance(settings, dict) or "kind" not in settings:
        raise UserError(f'{where}: expected {{"kind": "NAME", ...}}, found {settings!r}.')
    return settings


def _space(text: str) -> Any:
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except ValueError as problem:
        raise UserError(f"--space: {text} is no JSON ({problem}).") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"expected a whole number above 0, found '{text}'.")
    return int(text)


def _whole_number(text: str) -> int:
    if not text.isdecimal():
        raise UserError(f"--set: expected PER_CLASS SEED FILE with whole numbers, found '{text}'.")
    return int(text)
