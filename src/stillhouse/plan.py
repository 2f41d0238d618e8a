"""What a configuration asks for: which files, made from which, with which settings and which source. No computing."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillhouse import artifact, plugins, provenance, settings
from stillhouse.config import SAME, WHOLE, Config, Picture, Study
from stillhouse.errors import UserError, did_you_mean
from stillhouse.reporting import published

_AXES = ("per_class", "seed")
CLASSIFICATION, REGRESSION = "classification", "regression"


@dataclass(frozen=True)
class Batch:
    """Distilled sets of one experiment on one data set that one job makes: `sets` are (per_class, seed).

    It reads `teachers`, `others` (name and prepared file of data sets beside its own) and `files` of the user's.
    """

    name: str
    dataset: str
    experiment: str
    sets: tuple[tuple[int, int], ...]
    outputs: tuple[str, ...]
    teachers: tuple[str, ...]
    others: tuple[tuple[str, str], ...]
    files: tuple[str, ...]

    @property
    def arguments(self) -> str:
        """The sets as arguments of `stillhouse distill`."""
        pairs = zip(self.sets, self.outputs, strict=True)
        return " ".join(f"--set {per_class} {seed} {path}" for (per_class, seed), path in pairs)

    @property
    def extras(self) -> str:
        """What it reads beside its data set, as arguments of `stillhouse distill`."""
        teachers = ["--teachers", *self.teachers] if self.teachers else []
        return " ".join([*teachers, *(f"--other {name} {path}" for name, path in self.others)])

    @property
    def log(self) -> str:
        """Where its log goes, below logs/<scale> and without suffix."""
        return f"distill/{self.dataset}/{self.name.removeprefix(f'distill_{self.dataset}_')}"


@dataclass(frozen=True)
class Evaluation:
    """One file of rows: one experiment's sets on one data set (or the teachers, for 'whole') scored by one model."""

    dataset: str
    experiment: str
    protocol: str
    model: str
    path: str


@dataclass(frozen=True)
class Analysis:
    """One run of an analysis on one data set: its rows, and its images where it has some."""

    name: str
    dataset: str
    seed: int
    path: str
    images: tuple[str, ...]

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"analyse_{self.dataset}_{self.name}_seed{self.seed}"


class Plan:
    """Files and jobs of a configuration. Every method is a pure function of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.studies = {name: study for name, study in config.studies.items() if self.datasets(study)}
        self._check_read()
        self._check_tasks()
        self._check_sizes()
        self._check_published()

    # Files

    def data(self, dataset: str) -> str:
        """The prepared data set."""
        return f"data/prepared/{dataset}.safetensors"

    def teacher(self, dataset: str, model: str, seed: int | str) -> str:
        """A model trained on the whole real set."""
        return f"{self.config.results}/teachers/{dataset}/{model}/seed{seed}.safetensors"

    def moments(self, dataset: str, model: str, seed: int | str, shard: str) -> str:
        """What one job of several sums of a teacher's pass over the real set; `shard` is 2-of-3."""
        return f"{self.config.results}/moments/{dataset}/{model}/seed{seed}/{shard}.safetensors"

    def set(self, dataset: str, experiment: str, per_class: int, seed: int) -> str:
        """One distilled set."""
        return f"{self.config.results}/distilled/{dataset}/{experiment}/pc{per_class}/seed{seed}.safetensors"

    def evaluation(self, dataset: str, experiment: str, protocol: str, model: str) -> str:
        """Rows of scores."""
        return f"{self.config.results}/evaluated/{dataset}/{experiment}/{protocol}-{model}.csv"

    def cost(self, path: str) -> str:
        """The cost file beside a result."""
        return artifact.cost_path(Path(path)).as_posix()

    def recipe(self, path: str) -> str:
        """The file beside a table of rows that says what made it."""
        return artifact.recipe_path(Path(path)).as_posix()

    @property
    def report(self) -> str:
        """The folder of tables, figures and the page."""
        return f"{self.config.results}/report"

    def study_outputs(self, name: str) -> dict[str, str]:
        """What a study renders: its tidy rows, its table in three formats, its part of the page, its executed notebook."""
        tables = {kind: f"{self.report}/{name}.{kind}" for kind in ("csv", "md", "tex", "html")}
        return {
            **tables,
            "part": f"{self.report}/parts/{name}.json",
            "notebook": f"{self.config.results}/notebooks/{name}.ipynb",
        }

    def figures(self, name: str) -> list[str]:
        """The figures of a study: accuracies, distilled images, and those of its own."""
        study = self.config.studies[name]
        usual = [self.usual_figure(name)] if study.experiments else []
        sheets = [picture.file for picture in self.pictures(name)]
        return [f"{self.report}/figures/{name}_{figure}.png" for figure in (*usual, *sheets, *study.figures)]

    def usual_figure(self, name: str) -> str:
        """The figure that every study of distilled sets has: accuracy against size, or error where targets are values."""
        return "error" if self._task(self.datasets(self.config.studies[name])[0]) == REGRESSION else "accuracy"

    def pictured_sets(self, name: str) -> list[str]:
        """The distilled sets that a study's figures show: the first seed's."""
        seed = self.config.studies[name].seeds[0]
        sets = [self.set(p.dataset, e, p.per_class, seed) for p in self.pictures(name) for e in p.experiments]
        return list(dict.fromkeys(sets))

    # What is asked

    def datasets(self, study: Study) -> list[str]:
        """The data sets of a study, restricted by `only`."""
        return [name for name in study.datasets if not self.config.only or name in self.config.only]

    def pictures(self, name: str) -> list[Picture]:
        """The pictures of a study whose data set is asked for."""
        return [p for p in self.config.studies[name].pictures if p.dataset in self.datasets(self.config.studies[name])]

    def models_of(self, study: Study, experiment: str, protocol: str) -> list[str]:
        """The models that score an experiment under a protocol."""
        named = self.config.protocols[protocol].model
        if named != SAME:
            return [named]
        own = self.config.model_of(experiment)
        if own is not None:
            return [own]
        models = dict.fromkeys(self.config.model_of(e) for e in study.experiments)
        return [model for model in models if model is not None]

    def evaluations(self, study: str) -> list[Evaluation]:
        """The evaluations a study needs."""
        asked = self.config.studies[study]
        found = []
        for dataset, experiment, protocol in itertools.product(
            self.datasets(asked), asked.experiments, asked.protocols
        ):
            for model in self.models_of(asked, experiment, protocol):
                path = self.evaluation(dataset, experiment, protocol, model)
                found.append(Evaluation(dataset, experiment, protocol, model, path))
        return found

    def analyses(self, study: str | None = None) -> list[Analysis]:
        """The runs of analyses that a study needs, or all studies."""
        found: dict[Analysis, None] = {}
        for name in self.studies if study is None else [study]:
            asked = self.config.studies[name]
            for dataset, analysis, seed in itertools.product(self.datasets(asked), asked.analyses, asked.seeds):
                path = f"{self.config.results}/analyses/{dataset}/{analysis}/seed{seed}.csv"
                module = plugins.load("analyses", settings.kind_of(self.config.analysis(analysis, dataset)))
                images = (path.replace(".csv", ".safetensors"),) if hasattr(module, "pictures") else ()
                found[Analysis(analysis, dataset, seed, path, images)] = None
        return list(found)

    def sets(self, dataset: str, experiment: str, protocol: str | None = None) -> list[tuple[int, int]]:
        """(per_class, seed) of the sets that the studies ask of an experiment on a data set, to be scored under a
        protocol or any.
        """
        asked: dict[tuple[int, int], None] = {}
        for study in self.studies.values():
            scored = protocol is None or protocol in study.protocols
            if scored and dataset in self.datasets(study) and experiment in study.experiments:
                asked |= dict.fromkeys(itertools.product(study.per_class, study.seeds))
        return sorted(asked)

    def seeds(self, dataset: str, model: str) -> list[int]:
        """Seeds of the teachers that the studies ask for as the score of the whole real set."""
        asked: set[int] = set()
        for study in self.studies.values():
            models = {m for p in study.protocols for m in self.models_of(study, WHOLE, p)}
            if dataset in self.datasets(study) and WHOLE in study.experiments and model in models:
                asked |= set(study.seeds)
        return sorted(asked)

    def sharded(self, model: str) -> bool:
        """Whether several jobs share the pass over the real set when this model is trained."""
        kind = settings.kind_of(self.config.model(model, ""))
        return self.config.shards > 1 and hasattr(plugins.load("models", kind), "accumulate")

    def evaluated_files(self, dataset: str, experiment: str, protocol: str, model: str) -> list[str]:
        """What an evaluation scores: sets, or teachers for 'whole'."""
        if experiment == WHOLE:
            return [self.teacher(dataset, model, seed) for seed in self.seeds(dataset, model)]
        return [self.set(dataset, experiment, *each) for each in self.sets(dataset, experiment, protocol)]

    def references(self, dataset: str, experiment: str, model: str) -> list[str]:
        """Teachers that a model's students are compared with: by their scores, where the model's file asks for it, and on
        regression sets by their parameters, where it says which they are.
        """
        module = plugins.load("models", settings.kind_of(self.config.model(model, "")))
        by_parameters = self._task(dataset) == REGRESSION and hasattr(module, "parameters")
        if experiment == WHOLE or not (getattr(module, "COMPARED", False) or by_parameters):
            return []
        return [self.teacher(dataset, model, seed) for seed in self.seeds(dataset, model)]

    def batches(self) -> list[Batch]:
        """The distillation jobs. Sets that a method makes together (its BATCH) share one, so that starting costs little."""
        pairs = dict.fromkeys(
            (dataset, experiment)
            for study in self.studies.values()
            for dataset, experiment in itertools.product(self.datasets(study), study.experiments)
            if experiment != WHOLE
        )
        return [batch for pair in pairs for batch in self._batches(*pair)]

    def _batches(self, dataset: str, experiment: str) -> Iterator[Batch]:
        method = self.config.method(experiment, dataset)
        module = plugins.load("methods", settings.kind_of(method))
        apart = [i for i, axis in enumerate(_AXES) if axis not in getattr(module, "BATCH", ())]
        groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for each in self.sets(dataset, experiment):
            groups.setdefault(tuple(each[i] for i in apart), []).append(each)
        for key, sets in groups.items():
            suffix = "".join(f"_{('pc', 'seed')[i]}{value}" for i, value in zip(apart, key, strict=True))
            yield Batch(
                name=f"distill_{dataset}_{experiment}{suffix}",
                dataset=dataset,
                experiment=experiment,
                sets=tuple(sets),
                outputs=tuple(self.set(dataset, experiment, *each) for each in sets),
                teachers=tuple(
                    self._teachers_for(module, method, experiment, dataset, sorted({seed for _, seed in sets}))
                ),
                others=tuple((other, self.data(other)) for other in _others(module, method)),
                files=tuple(dict.fromkeys(str(path) for size, _ in sets for path in _files(module, method, size))),
            )

    def _teachers_for(
        self, module: Any, method: Any, experiment: str, dataset: str, seeds: Iterable[int]
    ) -> Iterator[str]:
        """Teachers a method learns from, where it says so and they have a name: of its sets' seeds, or those that it names."""
        model = self.config.model_of(experiment)
        if model is not None and hasattr(module, "teachers") and module.teachers(method):
            named = module.teacher_seeds(method) if hasattr(module, "teacher_seeds") else ()
            yield from (self.teacher(dataset, model, seed) for seed in named or seeds)

    # Settings and source, as job parameters

    @functools.cache  # noqa: B019 (one plan lives as long as the process)
    def settings_of_experiment(self, experiment: str, dataset: str) -> str:
        """A method's settings as JSON, every default written out."""
        return _json(settings.dump(self.config.method(experiment, dataset)))

    @functools.cache  # noqa: B019
    def settings_of_model(self, model: str, dataset: str) -> str:
        """A model's settings as JSON, its space resolved."""
        return _json(settings.dump(self.config.model(model, dataset)))

    def settings_of_dataset(self, dataset: str) -> str:
        """A data set's settings as JSON."""
        return _json(settings.dump(self.config.dataset(dataset)))

    def source_files(self, dataset: str) -> list[str]:
        """The user's own files behind a data set; none for those that are fetched."""
        params = self.config.dataset(dataset)
        module = plugins.load("data", settings.kind_of(params))
        return [str(path) for path in module.files(params)] if hasattr(module, "files") else []

    def code_of_dataset(self, dataset: str) -> str:
        """Hash of the source that prepares a data set."""
        return provenance.code_hash(["stages.prepare", f"data.{settings.kind_of(self.config.dataset(dataset))}"])

    def code_of_teacher(self, model: str) -> str:
        """Hash of the source that trains a teacher, its shards included: stages.teach imports stages.accumulate."""
        return provenance.code_hash(["stages.teach", *_plugin_modules(settings.dump(self.config.model(model, "")))])

    def code_of_method(self, experiment: str) -> str:
        """Hash of the source that runs an experiment's method."""
        return provenance.code_hash(
            ["stages.distill", *_plugin_modules(settings.dump(self.config.method(experiment, "")))]
        )

    @functools.cache  # noqa: B019
    def settings_of_analysis(self, analysis: str, dataset: str) -> str:
        """An analysis's settings as JSON."""
        return _json(settings.dump(self.config.analysis(analysis, dataset)))

    def code_of_analysis(self, analysis: str) -> str:
        """Hash of the source that runs an analysis."""
        return provenance.code_hash(
            ["stages.analyse", *_plugin_modules(settings.dump(self.config.analysis(analysis, "")))]
        )

    def code_of_evaluation(self, model: str) -> str:
        """Hash of the source that scores by a model."""
        return provenance.code_hash(["stages.evaluate", *_plugin_modules(settings.dump(self.config.model(model, "")))])

    def code_of_report(self) -> str:
        """Hash of the source that renders."""
        modules = [f"reporting.{file.stem}" for file in sorted(Path(published.__file__).parent.glob("*.py"))]
        return provenance.code_hash(modules, ["reporting/templates", "reporting/published"])

    def settings_of_study(self, name: str) -> str:
        """What a study's rendering depends on beside its rows, as JSON: layout, names, files."""
        study = self.config.studies[name]
        names = (*study.experiments, *study.analyses, *self.config.models)
        seed = study.seeds[0]
        layout = {
            "name": name,
            "title": study.title,
            "scale": self.config.scale,
            "published": study.published,
            "datasets": self.datasets(study),
            "experiments": study.experiments,
            "per_class": study.per_class,
            "seeds": study.seeds,
            "labels": {each: self._label(name, each) for each in names},
            "rows": [each.path for each in self.evaluations(name)],
            "pictures": [
                {
                    "figure": p.file,
                    "dataset": p.dataset,
                    "per_class": p.per_class,
                    "sets": {e: self.set(p.dataset, e, p.per_class, seed) for e in p.experiments},
                }
                for p in self.pictures(name)
            ],
            "analyses": [
                {"analysis": a.name, "dataset": a.dataset, "seed": a.seed, "file": a.path, "images": list(a.images)}
                for a in self.analyses(name)
            ],
            "made_for": {
                each: model for each in study.experiments if (model := self.config.model_of(each)) is not None
            },
        }
        return json.dumps(layout)  # in this order: rows, columns and pictures follow it

    def _label(self, study_name: str, name: str) -> str:
        """What a study calls an experiment: where models score the sets of other models, whose a set is is part of it, made for
        a model or of real examples selected by one.
        """
        study = self.config.studies[study_name]
        if name == WHOLE and self._task(self.datasets(study)[0]) == REGRESSION:
            return "all real examples"
        model = self.config.model_of(name)
        several = len({self.config.model_of(each) for each in study.experiments} - {None}) > 1
        crossed = several and any(self.config.protocols[p].model != SAME for p in study.protocols)
        if not crossed or model is None:
            return self.config.label(name)
        method = plugins.load("methods", settings.kind_of(self.config.method(name, "")))
        word = "by" if getattr(method, "SELECTS", False) else "for"
        return f"{self.config.label(name)}, {word} {self.config.label(model)}"

    @functools.cache  # noqa: B019
    def _task(self, dataset: str) -> str:
        """'classification' or 'regression'."""
        params = self.config.dataset(dataset)
        module = plugins.load("data", settings.kind_of(params))
        return str(module.task(params) if hasattr(module, "task") else getattr(module, "TASK", CLASSIFICATION))

    def _check_read(self) -> None:
        """Data sets that methods read beside their own must be known, and the user's own files be there."""
        known = self.config.known_datasets()
        for study in self.studies.values():
            for experiment, dataset in itertools.product(study.experiments, self.datasets(study)):
                if experiment == WHOLE:
                    continue
                where = f"params.yaml: experiments.{experiment}"
                method = self.config.method(experiment, dataset)
                module = plugins.load("methods", settings.kind_of(method))
                for other in _others(module, method):
                    if other not in known:
                        raise UserError(f"{where}: unknown dataset '{other}'. {did_you_mean(other, known)}")
                for size in study.per_class:
                    try:
                        _files(module, method, size)
                    except UserError as problem:
                        raise UserError(f"{where}: {problem}") from None

    def _check_tasks(self) -> None:
        """A method or model for classes does not get values, nor the other way round, and a study has one kind of them."""
        for name, study in self.studies.items():
            datasets = self.datasets(study)
            tasks = {self._task(dataset): dataset for dataset in datasets}
            if len(tasks) > 1 and study.experiments:
                raise UserError(
                    f"params.yaml: studies.{name}.datasets: {tasks[CLASSIFICATION]} has classes and {tasks[REGRESSION]} has "
                    "values. Make two studies of it."
                )
            for task, dataset in tasks.items():
                for package, kind, place in self._asked(study, dataset):
                    known = getattr(plugins.load(package, kind), "TASKS", (CLASSIFICATION,))
                    if task not in known:
                        raise UserError(
                            f"params.yaml: studies.{name}: {place} ({package}/{kind}) is for {' and '.join(known)}, and "
                            f"{dataset} is a {task} set. Take it out, or another data set."
                        )

    def _asked(self, study: Study, dataset: str) -> Iterator[tuple[str, str, str]]:
        """Methods and models that a study runs on a data set: package, kind, and what params.yaml calls it."""
        for experiment in study.experiments:
            if experiment != WHOLE:
                yield "methods", settings.kind_of(self.config.method(experiment, dataset)), f"experiment '{experiment}'"
            for protocol in study.protocols:
                for model in self.models_of(study, experiment, protocol):
                    yield "models", settings.kind_of(self.config.model(model, dataset)), f"model '{model}'"

    def _check_sizes(self) -> None:
        """A distilled class is no larger than the real one: some methods draw from it, and none would gain."""
        for name, study in self.studies.items():
            for dataset in self.datasets(study):
                smallest = _smallest_class(self.config.dataset(dataset))
                if smallest is not None and max(study.per_class, default=0) > smallest:
                    regression = self._task(dataset) == REGRESSION
                    whose = f"{dataset} has for training" if regression else f"the smallest class of {dataset} has"
                    raise UserError(
                        f"params.yaml: studies.{name}.per_class: {max(study.per_class)} is more than {whose} ({smallest}). "
                        f"Choose {smallest} or fewer."
                    )

    def _check_published(self) -> None:
        """The numbers to stand beside ours must be there before hours are spent on ours."""
        for name, study in self.studies.items():
            published.check(study.published, f"params.yaml: studies.{name}.published")


def _others(module: Any, method: Any) -> tuple[str, ...]:
    """Names of the data sets that a method reads beside its own."""
    return tuple(module.datasets(method)) if hasattr(module, "datasets") else ()


def _files(module: Any, method: Any, per_class: int) -> list[Path]:
    """The user's own files that a method reads for a set of that size."""
    return list(module.files(method, per_class)) if hasattr(module, "files") else []


def _smallest_class(params: Any) -> int | None:
    module = plugins.load("data", settings.kind_of(params))
    if hasattr(module, "smallest_class"):
        return int(module.smallest_class(params))
    return min(module.COUNTS[0]) if hasattr(module, "COUNTS") else None


def _plugin_modules(dumped: Any) -> list[str]:
    """The modules that settings choose by name."""
    packages = ("methods", "analyses", "models", "features", "kernels")
    kinds = set(settings.kinds_in(dumped))
    return sorted(f"{package}.{kind}" for package in packages for kind in kinds & set(plugins.available(package)))


def _json(content: Any) -> str:
    return json.dumps(content, sort_keys=True)
