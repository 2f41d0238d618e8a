import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from stillhouse import config, explain, plugins, settings
from stillhouse.errors import UserError
from stillhouse.evaluation.judge import Protocol

PLUGINS = [
    (package, name)
    for package in ("data", "features", "models", "methods", "analyses")
    for name in plugins.available(package)
]


@dataclass(frozen=True)
class Steps:
    first: Annotated[float, Field(description="the first")] = 0.5


@dataclass(frozen=True)
class Example:
    name: Annotated[str, Field(description="what it is called")]
    features: Annotated[Any, settings.plugin("features"), Field(description="a feature map")] = "identity"
    steps: Annotated[Steps, Field(description="its steps")] = dataclasses.field(default_factory=Steps)
    start: Annotated[Literal["noise", "real"], Field(description="where from")] = "noise"
    sizes: tuple[int, ...] = (1, 10)
    most: Annotated[int | None, Field(gt=0, description="at most")] = None


@pytest.mark.parametrize(("package", "name"), PLUGINS)
def test_every_setting_of_every_plugin_is_explained(package: str, name: str) -> None:
    params = plugins.load(package, name).Params
    lines = [line for line in explain.fields(params) if not line.startswith(" ")]
    assert [line.split(":")[0] for line in lines] == [f.name for f in dataclasses.fields(params)]
    assert all(len(line.split(". ", 1)) == 2 and line.split(". ", 1)[1] for line in lines), lines


def test_an_explanation_names_type_default_and_meaning_in_a_readers_words() -> None:
    assert list(explain.fields(Example, "  ")) == [
        "  name: text, required. what it is called",
        "  features: settings, default identity. a feature map",
        "  steps: settings, default {'first': 0.5}. its steps",
        "    first: number, default 0.5. the first",
        "  start: noise | real, default noise. where from",
        "  sizes: list of whole number, default [1, 10].",
        "  most: whole number | none, default None. at most",
    ]


def test_every_section_of_params_yaml_and_every_key_of_a_study_is_explained() -> None:
    lines = list(explain.explain(None))
    sections = {line.split(":")[0] for line in lines if not line.startswith(" ")}
    assert sections == {f.name for f in dataclasses.fields(config.Config)}
    keys = {line.strip().split(":")[0] for line in lines if line.startswith("  ")}
    assert {f.name for cls in (config.Study, Protocol) for f in dataclasses.fields(cls)} <= keys


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="nothing is called 'krr_exat'. Did you mean 'krr_exact'?"):
        list(explain.explain("krr_exat"))


@pytest.mark.parametrize("space", ["pixels", "standardised", "zca"])
def test_a_space_can_be_asked_for_by_name(space: str) -> None:
    assert next(iter(explain.explain(space))).startswith(f"space {space}: ")


def test_an_analysis_can_be_asked_for_by_name_and_is_suggested() -> None:
    lines = list(explain.explain("krr_path"))
    assert lines[0].startswith("analyses/krr_path: ")
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["model"]
    with pytest.raises(UserError, match="Did you mean 'krr_claims'?"):
        list(explain.explain("krr_claim"))
