"""What a setting means: every parameter with its type, default, meaning and source, read from the code that uses it."""

from collections.abc import Iterator

from stillhouse import config, plugins, settings
from stillhouse.data import whitening
from stillhouse.errors import UserError, did_you_mean
from stillhouse.evaluation.judge import Protocol

_PACKAGES = ("methods", "models", "features", "data")
_SPACES = {space.KIND: space for space in (whitening.Pixels, whitening.Standardised, whitening.Zca)}


def explain(name: str | None) -> Iterator[str]:
    """Lines about one plugin or space, or about the sections of params.yaml. Raises UserError for an unknown name."""
    if name is None:
        yield from _sections()
        return
    if name in _SPACES:
        yield f"space {name}: {_SPACES[name].__doc__}"
        yield from settings.explain(_SPACES[name], "  ")
        return
    homes = [package for package in _PACKAGES if name in plugins.available(package)]
    if not homes:
        known = [each for package in _PACKAGES for each in plugins.available(package)]
        raise UserError(f"explain: nothing is called '{name}'. {did_you_mean(name, [*known, *_SPACES])}")
    for package in homes:
        yield f"{package}/{name}: {plugins.summary(package, name)}"
        yield from settings.explain(plugins.load(package, name).Params, "  ")


def _sections() -> Iterator[str]:
    yield "scale: name of the budget: laptop (params.yaml itself), smoke, paper (overlays in scales/)"
    yield "results: folder of everything that is computed"
    yield "only: restrict every study to these data sets, comma separated; empty: all"
    yield "studies: one table or figure of a paper each"
    yield from settings.explain(config.Study, "  ")
    yield "protocols: how distilled sets are scored"
    yield from settings.explain(Protocol, "  ")
    yield "experiments: a method with its settings each: {label, method, ...}; 'stillhouse explain METHOD' lists the settings"
    yield "models: a model with its settings each: {label, kind, ...}; 'stillhouse explain MODEL' lists the settings"
    yield "spaces: what a model sees of an image: pixels, standardised, zca; a value may be given per data set"
    yield "datasets: data sets of your own: {kind: folder, path: ...}; 'stillhouse explain folder' lists the settings"
