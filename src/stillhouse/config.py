"""params.yaml as typed settings. Every mistake is one line with the place, and comes before the first job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from stillhouse import plugins, settings
from stillhouse.data import whitening
from stillhouse.errors import UserError, did_you_mean
from stillhouse.evaluation.judge import Protocol

# The judge's name for the model a set was made for, and the experiment that is no distillation at all.
SAME, WHOLE, OTHERWISE = "same", "whole", "otherwise"

# Names that mean something of their own: the judge's, and the rules of the workflow.
_RESERVED = {
    "experiments": (WHOLE,),
    "models": (SAME,),
    "datasets": (OTHERWISE,),
    "studies": ("all", "prepare", "accumulate", "teach", "evaluate", "page"),
}

# Data sets that need a path, and so an entry under datasets.
_OF_ONES_OWN = {"folder", "csv"}

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1, strict=True)]


@dataclass(frozen=True)
class Picture:
    """A figure of distilled images: one row an experiment, one column a class."""

    dataset: Annotated[str, Field(description="a data set of the study")]
    per_class: Annotated[Count, Field(description="a size of the study")]
    experiments: Annotated[Names, Field(description="experiments of the study, one row each")]
    name: Annotated[str, Field(pattern=r"^\w*$", description="tells it from others of its data set and size")] = ""

    @property
    def file(self) -> str:
        """The name of its figure."""
        return "_".join(filter(None, (self.dataset, f"pc{self.per_class}", self.name)))


@dataclass(frozen=True)
class Study:
    """One table or figure of a paper: data sets x experiments x per_class x seeds x protocols, or data
    sets x analyses x seeds.
    """

    title: Annotated[str, Field(description="heading of its part of the report")]
    datasets: Annotated[Names, Field(description="data sets: files of data/, or names under datasets")]
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, strict=True)], ...],
        Field(min_length=1, description="one distilled set, or one run of an analysis, each"),
    ]
    notebook: Annotated[str, Field(description="file of notebooks/ that renders it, without .ipynb")]
    experiments: Annotated[
        tuple[str, ...], Field(description="names under experiments, and 'whole' for all real examples")
    ] = ()
    per_class: Annotated[tuple[Count, ...], Field(description="distilled images per class (IPC)")] = ()
    protocols: Annotated[tuple[str, ...], Field(description="names under protocols: how the sets are scored")] = ()
    analyses: Annotated[tuple[str, ...], Field(description="names under analyses: numbers that are no scores")] = ()
    published: Annotated[
        str,
        Field(
            description="the paper and table to set beside: a file of reporting/published, and a table; several with ';' between "
            "them; '': none"
        ),
    ] = ""
    figures: Annotated[tuple[str, ...], Field(description="figures that its notebook draws beside the usual ones")] = ()
    pictures: Annotated[tuple[Picture, ...], Field(description="figures of distilled images, of the first seed")] = ()


@dataclass(frozen=True)
class Config:
    """All of params.yaml, read and checked."""

    scale: str
    results: str
    only: tuple[str, ...]
    shards: int
    studies: Mapping[str, Study]
    protocols: Mapping[str, Protocol]
    experiments: Mapping[str, Mapping[str, Any]]
    analyses: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    spaces: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, Mapping[str, Any]]

    def dataset(self, name: str) -> Any:
        """Settings (a `Params`) of a data set: one under datasets, or a file of data/ by its own name."""
        raw = self.datasets.get(name, {"kind": name})
        return settings.parse_plugin(
            "data", raw, f"params.yaml: datasets.{name}" if name in self.datasets else "params.yaml"
        )

    def model(self, name: str, dataset: str, where: str = "") -> Any:
        """Settings of a model for one data set: its space is looked up under spaces, with that data set's constants."""
        where = where or "params.yaml"
        if name not in self.models:
            raise UserError(f"{where}: unknown model '{name}'. {did_you_mean(name, self.models)}")
        raw = self.for_dataset(dataset, {k: v for k, v in self.models[name].items() if k != "label"})
        where = f"params.yaml: models.{name}"
        return settings.parse_plugin("models", self._with_space(raw, dataset, where), where)

    def method(self, experiment: str, dataset: str) -> Any:
        """Settings of an experiment's method for one data set, its model resolved."""
        where = f"params.yaml: experiments.{experiment}"
        raw = dict(self.experiments[experiment])
        if "method" not in raw:
            raise UserError(f"{where}: 'method' is missing. Add 'method: NAME'; see 'stillhouse list methods'.")
        return self._plugin("methods", raw.pop("method"), raw, dataset, where)

    def analysis(self, name: str, dataset: str) -> Any:
        """Settings of an analysis for one data set, its model resolved."""
        where = f"params.yaml: analyses.{name}"
        raw = dict(self.analyses[name])
        return self._plugin("analyses", raw.pop("kind", name), raw, dataset, where)

    def _plugin(self, package: str, kind: Any, raw: dict[str, Any], dataset: str, where: str) -> Any:
        """Settings that may name a model and may give values per data set."""
        raw.pop("label", None)
        chosen = self.for_dataset(dataset, raw)
        if "model" in chosen:
            if not isinstance(chosen["model"], str):
                raise UserError(f"{where}.model: expected a name. Write the model under models and name it here.")
            chosen["model"] = settings.dump(self.model(chosen["model"], dataset, f"{where}.model"))
        return settings.parse_plugin(package, {"kind": kind, **chosen}, where)

    def known_datasets(self) -> set[str]:
        """Names of all data sets that there are."""
        return {*self.datasets, *plugins.available("data")}

    def for_dataset(self, dataset: str, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with the values of one data set; what has none for it is left to what stands under 'otherwise', or
        to its default (of a space: fitted).
        """
        known = {*self.known_datasets(), OTHERWISE}
        chosen = {k: v.get(dataset, v.get(OTHERWISE)) if _per_dataset(v, known) else v for k, v in raw.items()}
        return {k: v for k, v in chosen.items() if v is not None}

    def label(self, name: str) -> str:
        """What tables and figures call an experiment, an analysis or a model: its label, or its name."""
        entry = self.experiments.get(name) or self.analyses.get(name) or self.models.get(name) or {}
        return str(entry.get("label", {WHOLE: "all real images"}.get(name, name)))

    def model_of(self, experiment: str) -> str | None:
        """The name of the model an experiment is made for, or None."""
        name = self.experiments[experiment].get("model") if experiment in self.experiments else None
        return name if isinstance(name, str) else None

    def _with_space(self, raw: Mapping[str, Any], dataset: str, where: str) -> dict[str, Any]:
        name = raw.get("space")
        if not isinstance(name, str) or name in whitening.KINDS:
            return dict(raw)
        if name not in self.spaces:
            raise UserError(
                f"{where}.space: unknown space '{name}'. {did_you_mean(name, [*self.spaces, *whitening.KINDS])}"
            )
        return {**raw, "space": self.for_dataset(dataset, self.spaces[name])}


def load(path: Path, overlays: tuple[Path, ...] = ()) -> Config:
    """Read params.yaml and lay the files of `overlays` over it, as Snakemake's --configfile does."""
    merged: dict[str, Any] = {}
    for file in (path, *overlays):
        try:
            raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as problem:
            raise UserError(f"{file}: cannot read: {problem}.") from problem
        except yaml.YAMLError as problem:
            raise UserError(f"{file}: not valid YAML: {' '.join(str(problem).split())}.") from problem
        if not isinstance(raw, dict):
            raise UserError(f"{file}: expected 'name: value' lines at the top.")
        merged = _merged(merged, raw)
    return read(merged)


def read(raw: Mapping[str, Any]) -> Config:
    """Check a merged params.yaml. Raises UserError for the first mistake."""
    sections = (
        "scale", "results", "only", "shards", "studies", "protocols", "experiments", "analyses", "models", "spaces",
        "datasets",
    )  # fmt: skip
    for key in raw:
        if key not in sections:
            raise UserError(f"params.yaml: unknown parameter '{key}'. {did_you_mean(str(key), sections)}")
    tables = {name: _table(raw, name) for name in sections[4:]}
    config = Config(
        scale=str(raw.get("scale", "laptop")),
        results=str(raw.get("results", "results")),
        only=_names(raw.get("only") or ""),
        shards=_shards(raw.get("shards", 1)),
        studies={n: settings.parse(Study, s, f"params.yaml: studies.{n}") for n, s in tables["studies"].items()},
        protocols={
            n: settings.parse(Protocol, p, f"params.yaml: protocols.{n}") for n, p in tables["protocols"].items()
        },
        experiments=tables["experiments"],
        analyses=tables["analyses"],
        models=tables["models"],
        spaces=tables["spaces"],
        datasets=tables["datasets"],
    )
    _check(config)
    return config


def _names(raw: Any) -> tuple[str, ...]:
    """Names from a list, or from a text with commas, as the command line gives it."""
    if not isinstance(raw, str | list):
        raise UserError(f"params.yaml: only: expected names of data sets, found {raw!r}.")
    return tuple(raw.replace(",", " ").split()) if isinstance(raw, str) else tuple(map(str, raw))


def _shards(raw: Any) -> int:
    if type(raw) is not int or raw < 1:
        raise UserError(f"params.yaml: shards: expected a whole number above 0, found {raw!r}.")
    return raw


def _table(raw: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = raw.get(name) or {}
    if not isinstance(table, Mapping):
        raise UserError(f"params.yaml: {name}: expected named entries, found {table!r}.")
    for key, entry in table.items():
        if not isinstance(entry, Mapping):
            raise UserError(f"params.yaml: {name}.{key}: expected 'name: value' lines, found {entry!r}.")
        if key in _RESERVED.get(name, ()):
            raise UserError(f"params.yaml: {name}.{key}: this name has a meaning of its own. Choose another.")
        if not re.fullmatch(r"\w+", str(key)):
            raise UserError(f"params.yaml: {name}.{key}: names become file names; use letters, digits and _ only.")
    return dict(table)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(under)
    for key, value in over.items():
        below = both.get(key)
        both[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def _check(config: Config) -> None:
    """Everything a study names must exist, and every definition must be right, used or not."""
    for name, space in config.spaces.items():
        _check_space(config, f"params.yaml: spaces.{name}", space)
    for name, protocol in config.protocols.items():
        if protocol.model != SAME and protocol.model not in config.models:
            near = did_you_mean(protocol.model, [SAME, *config.models])
            raise UserError(f"params.yaml: protocols.{name}.model: unknown model '{protocol.model}'. {near}")
    for name in config.datasets:
        config.dataset(name)
    definitions = (
        (config.models, config.model), (config.experiments, config.method), (config.analyses, config.analysis),
    )  # fmt: skip
    datasets = config.known_datasets()
    for named, read_one in definitions:
        for name, definition in named.items():
            for dataset in ("", *_named_in(definition, datasets)):
                read_one(name, dataset)
    for name, study in config.studies.items():
        _check_study(config, name, study)
    for name in config.only:
        if not any(name in study.datasets for study in config.studies.values()):
            asked = sorted({d for study in config.studies.values() for d in study.datasets})
            raise UserError(f"params.yaml: only: no study has the data set '{name}'. {did_you_mean(name, asked)}")


def _check_space(config: Config, where: str, space: Mapping[str, Any]) -> None:
    """A space has to be right for every data set that it has values for."""
    datasets = config.known_datasets() - _OF_ONES_OWN
    named: set[str] = set()
    for key, value in space.items():
        if isinstance(value, Mapping):
            for dataset in value:
                if dataset not in {*datasets, OTHERWISE}:
                    raise UserError(
                        f"{where}.{key}: unknown dataset '{dataset}'. {did_you_mean(str(dataset), datasets)}"
                    )
            named |= set(value)
    for dataset in sorted(named) or [""]:
        whitening.parse(config.for_dataset(dataset, space), where)


def _per_dataset(value: Any, datasets: set[str]) -> bool:
    """Whether a setting gives a value for each of some data sets."""
    return isinstance(value, Mapping) and bool(value) and set(value) <= datasets


def _named_in(raw: Mapping[str, Any], datasets: set[str]) -> list[str]:
    """Data sets for which a definition gives values of its own."""
    return sorted({str(name) for value in raw.values() if isinstance(value, Mapping) for name in value} & datasets)


def _check_picture(where: str, study: Study, picture: Picture) -> None:
    asked = [(picture.dataset, "datasets"), (picture.per_class, "per_class")]
    asked += [(experiment, "experiments") for experiment in picture.experiments]
    for value, part in asked:
        if value not in getattr(study, part) or value == WHOLE:
            raise UserError(
                f"{where}: '{value}' is not among the study's {part} that are distilled. Add it there or change it."
            )


def _check_parts(name: str, study: Study) -> None:
    """A study scores distilled sets, which takes three things, or has analyses, or both."""
    scored = ("experiments", "per_class", "protocols")
    missing = [part for part in scored if not getattr(study, part)]
    if missing and (len(missing) < len(scored) or not study.analyses):
        raise UserError(
            f"params.yaml: studies.{name}: '{missing[0]}' is missing. A study has experiments, per_class and protocols, "
            "or analyses."
        )


def _check_study(config: Config, name: str, study: Study) -> None:
    known = {
        "datasets": config.known_datasets() - _OF_ONES_OWN,
        "experiments": {*config.experiments, WHOLE},
        "protocols": set(config.protocols),
        "analyses": set(config.analyses),
    }
    _check_parts(name, study)
    for part, names in known.items():
        for each in getattr(study, part):
            if each not in names:
                singular = {"analyses": "analysis"}.get(part, part.removesuffix("s"))
                raise UserError(
                    f"params.yaml: studies.{name}.{part}: unknown {singular} '{each}'. {did_you_mean(each, names)}"
                )
        repeated = [x for x in getattr(study, part) if getattr(study, part).count(x) > 1]
        if repeated:
            raise UserError(f"params.yaml: studies.{name}.{part}: '{repeated[0]}' stands there twice. Remove one.")
    files = [picture.file for picture in study.pictures]
    for i, picture in enumerate(study.pictures):
        if picture.file in files[:i]:
            raise UserError(
                f"params.yaml: studies.{name}.pictures[{i}]: a second picture of {picture.dataset} at that size. Give "
                "it a 'name'."
            )
        _check_picture(f"params.yaml: studies.{name}.pictures[{i}]", study, picture)
