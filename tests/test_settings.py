import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from stillhouse import plugins, settings
from stillhouse.errors import UserError

PACKAGES = ("methods", "models", "features", "kernels", "data")
PLUGINS = [(package, name) for package in PACKAGES for name in plugins.available(package)]
RIDGE = {"kind": "ridge", "features": "identity", "space": "standardised"}
# What a plugin needs of a setting that has no default.
REQUIRED: dict[str, Any] = {"model": RIDGE, "features": "identity", "kernel": "rbf", "of": "fully_connected"}
# Models that a method takes where it does not take that one.
MODELS = {
    "label_solve": {"kind": "kernel", "kernel": "rbf"},
    "dgkip": {"kind": "kernel_machine", "kernel": "rbf"},
    "glm_points": {"kind": "glm"},
    "gradient_matching": {"kind": "mlp"},
    "distribution_matching": {"kind": "mlp"},
    "dd": {"kind": "mlp"},
    "forgetting": {"kind": "mlp"},
    "label_distillation": {"kind": "mlp"},
    "optimised_random": {"kind": "mlp"},
}


@dataclass(frozen=True)
class Steps:
    first: Annotated[float, Field(description="where it begins")] = 0.5
    count: Annotated[int, Field(ge=1, description="how many")] = 3


@dataclass(frozen=True)
class Example:
    name: Annotated[str, Field(description="what it is called")]
    features: Annotated[Any, settings.plugin("features"), Field(description="a feature map")] = "identity"
    steps: Annotated[Steps, Field(description="its steps")] = field(default_factory=Steps)
    start: Annotated[Literal["noise", "real"], Field(description="where from")] = "noise"
    sizes: tuple[int, ...] = (1, 10)
    size: int | None = None


def parsed(**raw: Any) -> Example:
    return settings.parse(Example, {"name": "n", **raw}, "params.yaml: here")


def refusal(raw: Any, cls: type = Example) -> str:
    with pytest.raises(UserError) as caught:
        settings.parse(cls, raw, "params.yaml: here")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_required(package: str, name: str) -> dict[str, Any]:
    params = plugins.load(package, name).Params
    needed = [f.name for f in dataclasses.fields(params) if f.default is f.default_factory is dataclasses.MISSING]
    models = {"model": MODELS[name]} if name in MODELS else {}
    return {"kind": name, **{each: REQUIRED[each] for each in needed}, **models}


def test_values_get_their_types() -> None:
    example = parsed(steps={"first": 2}, sizes=[3, 4], features={"kind": "random_fourier", "variance": 10})
    assert (example.steps.first, example.steps.count) == (2.0, 3)
    assert isinstance(example.steps.first, float)
    assert example.sizes == (3, 4)
    assert isinstance(example.features, plugins.load("features", "random_fourier").Params)
    assert example.features.variance == 10.0


def test_what_is_not_given_has_its_default() -> None:
    assert settings.dump(parsed()) == settings.dump(Example("n"))
    assert settings.dump(settings.parse(Steps, None, "here")) == {"first": 0.5, "count": 3}


@pytest.mark.parametrize("raw", [{}, {"steps": {"first": 0.5, "count": 3}}, {"features": "identity", "size": 3}])
def test_parsed_settings_equal_those_made_by_hand(raw: dict[str, Any]) -> None:
    by_hand = {
        **raw,
        **({"steps": Steps()} if "steps" in raw else {}),
        **({"features": plugins.load("features", "identity").Params()} if "features" in raw else {}),
    }
    assert parsed(**raw) == Example("n", **by_hand)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed().size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ({"nmae": 1}, "params.yaml: here: unknown parameter 'nmae'. Did you mean 'name'?"),
        ({"name": "n", "zzz": 1}, "params.yaml: here: unknown parameter 'zzz'. Known: "),
        (
            {"name": "n", "steps": {"frist": 1}},
            "params.yaml: here.steps: unknown parameter 'frist'. Did you mean 'first'?",
        ),
        (
            {"name": "n", "features": {"kind": "random_fourier", "varience": 1}},
            "params.yaml: here.features: unknown parameter 'varience'. Did you mean 'variance'?",
        ),
        (
            {"name": "n", "features": "random_furier"},
            "params.yaml: here.features: unknown features 'random_furier'. Did you mean 'random_fourier'?",
        ),
        (
            {"name": "n", "features": {"variance": 3}},
            "params.yaml: here.features: expected the name of one of features or {kind: name, ...}, found ",
        ),
        ({"name": "n", "steps": {"first": "low"}}, "params.yaml: here.steps.first: input should be a valid number"),
        ({"name": "n", "steps": {"count": 0}}, "params.yaml: here.steps.count: input should be greater than or equal"),
        ({"name": "n", "steps": 3}, "params.yaml: here.steps: input should be a dictionary"),
        ({"name": "n", "start": "nois"}, "params.yaml: here.start: input should be 'noise' or 'real', found 'nois'."),
        ({"name": "n", "sizes": [1, "x"]}, "params.yaml: here.sizes[1]: input should be a valid integer"),
        ({"name": "n", "size": 1.5}, "params.yaml: here.size: input should be a valid integer"),
        ({"name": 3}, "params.yaml: here.name: input should be a valid string, found 3."),
        ({}, "params.yaml: here: 'name' is missing. Add it."),
        (None, "params.yaml: here: 'name' is missing. Add it."),
        ([1], "params.yaml: here: expected 'name: value' lines, found [1]."),
        ("text", "params.yaml: here: expected 'name: value' lines, found 'text'."),
    ],
)
def test_a_mistake_is_one_line_with_its_place(raw: Any, text: str) -> None:
    assert refusal(raw).startswith(text)


def test_the_first_of_several_mistakes_is_told() -> None:
    assert refusal({"name": 3, "size": "x", "nmae": 1}).startswith("params.yaml: here: unknown parameter 'nmae'.")


def test_a_plugin_is_chosen_by_its_name_or_its_kind() -> None:
    wanted = plugins.load("features", "random_network").Params
    for raw in ("random_network", {"kind": "random_network"}):
        params = settings.parse_plugin("features", raw, "here")
        assert isinstance(params, wanted)
        assert settings.dump(params) == settings.dump(wanted())


def test_a_field_may_hold_settings_that_are_parsed_already() -> None:
    features = plugins.load("features", "random_network").Params(depth=2)
    assert parsed(features=features).features is features


def test_a_field_for_one_kind_refuses_the_others() -> None:
    raw = {"kind": "krr_exact", "model": {"kind": "convnet"}}
    with pytest.raises(UserError, match=r"^m\.model: this method needs one of kind 'ridge', found 'convnet'\."):
        settings.parse_plugin("methods", raw, "m")


@pytest.mark.parametrize(("package", "name"), PLUGINS)
def test_the_settings_of_every_plugin_survive_being_written_and_read(package: str, name: str) -> None:
    params = settings.parse_plugin(package, with_required(package, name), "here")
    dumped = json.loads(json.dumps(settings.dump(params)))
    assert dumped["kind"] == name
    assert settings.dump(settings.parse_plugin(package, dumped, "here")) == dumped


@pytest.mark.parametrize(("package", "name"), PLUGINS)
def test_every_default_of_every_plugin_is_written_out(package: str, name: str) -> None:
    params = settings.parse_plugin(package, with_required(package, name), "here")
    names = {f.name for f in dataclasses.fields(params)}
    assert settings.dump(params).keys() == {"kind", *names}


@pytest.mark.parametrize(("package", "name"), PLUGINS)
def test_every_plugin_refuses_what_it_does_not_know(package: str, name: str) -> None:
    with pytest.raises(UserError, match=r"^here: unknown parameter 'no_such_setting'\. "):
        settings.parse_plugin(package, {**with_required(package, name), "no_such_setting": 1}, "here")


def test_kinds_are_found_at_any_depth() -> None:
    dumped = {"kind": "a", "model": {"kind": "b", "list": [{"kind": "c"}, 3]}, "other": "kind"}
    assert sorted(settings.kinds_in(dumped)) == ["a", "b", "c"]


def test_dumped_settings_are_plain_json() -> None:
    dumped = settings.dump(parsed(features="random_network", size=8))
    assert dumped == {
        "name": "n",
        "features": {"kind": "random_network", "depth": 1, "slope": 0.1, "widths": []},
        "steps": {"first": 0.5, "count": 3},
        "start": "noise",
        "sizes": [1, 10],
        "size": 8,
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_available_can_be_loaded_and_has_a_summary(package: str) -> None:
    names = plugins.available(package)
    assert names
    for name in names:
        assert dataclasses.is_dataclass(plugins.load(package, name).Params)
        assert len(plugins.summary(package, name)) > 20


def test_an_unknown_plugin_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"^unknown data 'mnits'\. Did you mean 'mnist'\?$"):
        plugins.load("data", "mnits")
