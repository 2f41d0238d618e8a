"""What holds for every method, new ones included."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stillhouse import plugins, settings, spaces
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet

RIDGE = {"kind": "ridge", "features": "identity", "space": "standardised"}
KERNEL = {"kind": "kernel", "kernel": "fully_connected", "space": "standardised"}
MACHINE = {"kind": "kernel_machine", "kernel": "fully_connected", "loss": "logistic", "space": "standardised"}
# What a method may be given beside its defaults: a model where it needs one, and less work, as what holds here holds after any.
MLP = {"kind": "mlp", "width": 8, "space": "standardised"}
GLM = {"kind": "glm", "space": "standardised"}
MODELS = {
    "label_solve": KERNEL,
    "dgkip": MACHINE,
    "glm_points": GLM,
    "gradient_matching": MLP,
    "distribution_matching": MLP,
    "dd": MLP,
    "forgetting": MLP,
    "label_distillation": MLP,
    "optimised_random": {**MLP, "training": {"epochs": 5}},
}
LESS = {"steps": 3, "batch": 16, "epochs": 3, "draws": 3}


def tasks(name: str) -> tuple[str, ...]:
    """What a method says that it is for."""
    return getattr(plugins.load("methods", name), "TASKS", ("classification",))


# Of what kind of real set the fixture `real` is: `toy` has classes, `table` has values.
KINDS = {"classification": "toy", "regression": "table"}
# Methods that read the user's own files have no set to make without them.
CASES = [
    (name, task)
    for name in plugins.available("methods")
    if not hasattr(plugins.load("methods", name), "files")
    for task in tasks(name)
]

every_method = pytest.mark.parametrize(("name", "real"), CASES, indirect=["real"])


@pytest.fixture
def real(request: pytest.FixtureRequest) -> RealSet:
    """A small real set of a kind."""
    found: RealSet = request.getfixturevalue(KINDS[request.param])
    return found


def soft(name: str) -> bool:
    """Whether a method solves for its labels, so that the largest need not be that of the class an image came from."""
    return getattr(plugins.load("methods", name), "SOFT_LABELS", False)


def nothing_drawn(name: str) -> bool:
    """Whether a method's sets are the same for all seeds."""
    return getattr(plugins.load("methods", name), "SEEDLESS", False)


def defaults(name: str) -> Any:
    """A method's default settings, with a small model where it needs one, and a few steps where it takes steps."""
    fields = dataclasses.fields(plugins.load("methods", name).Params)
    missing = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    assert set(missing) <= {"model"}
    needed = {"model": MODELS.get(name, RIDGE)} if missing else {}
    less = {f.name: LESS[f.name] for f in fields if f.name in LESS}
    return settings.parse_plugin("methods", {"kind": name, **needed, **less}, name)


def distil(name: str, real: RealSet, per_class: int, run: Run) -> DistilledSet:
    made: DistilledSet = plugins.load("methods", name).distill(real, per_class, defaults(name), run)
    return made


def content(distilled: DistilledSet, folder: Path) -> bytes:
    distilled.save(folder / "set")
    return (folder / "set").read_bytes()


def test_there_is_a_method() -> None:
    assert plugins.available("methods")


@every_method
@pytest.mark.parametrize("per_class", [1, 2])
def test_a_set_has_the_size_asked_for(name: str, per_class: int, real: RealSet, run: Run) -> None:
    made = distil(name, real, per_class, run)
    size = per_class * real.n_classes if real.classes else per_class
    assert made.inputs.shape == (size, *real.shape)
    assert made.targets.shape == (size, real.width)
    assert len(made) == size
    assert made.inputs.is_floating_point()
    assert made.targets.is_floating_point()


@every_method
def test_a_set_has_the_columns_of_the_real_one(name: str, real: RealSet, run: Run) -> None:
    made = distil(name, real, 1, run)
    assert (made.classes, made.outputs) == (real.classes, real.outputs)
    if real.regression:
        assert spaces.same(made.target_space, real.target_space.settings())


@pytest.mark.parametrize("name", [name for name, task in CASES if task == "classification" and not soft(name)])
@pytest.mark.parametrize("per_class", [1, 2])
def test_classes_take_turns(name: str, per_class: int, toy: RealSet, run: Run) -> None:
    """Pictures and figures show the first example of each class by this."""
    assert distil(name, toy, per_class, run).labels.tolist() == [0, 1, 2] * per_class


@every_method
@pytest.mark.parametrize("per_class", [1, 2])
def test_the_same_run_gives_the_same_bytes(name: str, per_class: int, real: RealSet, tmp_path: Path) -> None:
    first = content(distil(name, real, per_class, Run(seed=4)), tmp_path)
    torch.rand(7)
    assert content(distil(name, real, per_class, Run(seed=4)), tmp_path) == first


@every_method
def test_seeds_give_different_sets_but_where_nothing_is_drawn(name: str, real: RealSet, run: Run) -> None:
    one, two = (distil(name, real, 2, dataclasses.replace(run, seed=seed)) for seed in (0, 1))
    assert torch.equal(one.inputs, two.inputs) == nothing_drawn(name)


@every_method
def test_shared_generators_are_left_alone(name: str, real: RealSet, run: Run) -> None:
    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy())  # type: ignore[index]
    distil(name, real, 2, run)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]


@every_method
def test_the_real_set_is_not_changed(name: str, real: RealSet, run: Run) -> None:
    tensors = [real.train.inputs, real.train.targets, real.test.inputs, real.test.targets]
    before = [tensor.clone() for tensor in tensors]
    made = distil(name, real, 2, run)
    made.inputs.zero_()
    made.targets.zero_()
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors, before, strict=True))


@every_method
def test_the_test_split_is_not_looked_at(name: str, real: RealSet, tmp_path: Path) -> None:
    blind = dataclasses.replace(real, test=dataclasses.replace(real.test, inputs=1 + real.test.inputs))
    made = [content(distil(name, each, 2, Run(seed=1)), tmp_path) for each in (real, blind)]
    assert made[0] == made[1]


@every_method
def test_default_settings_and_number_types_are_left_as_they_were(name: str, real: RealSet, run: Run) -> None:
    before = (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled())
    distil(name, real, 1, run)
    assert (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()) == before


@every_method
def test_a_set_is_read_as_it_was_written(name: str, real: RealSet, run: Run, tmp_path: Path) -> None:
    made = distil(name, real, 2, run)
    made.save(tmp_path / "one")
    read = DistilledSet.load(tmp_path / "one")
    assert torch.equal(read.inputs, made.inputs)
    assert torch.equal(read.targets, made.targets)
    assert content(read, tmp_path) == (tmp_path / "one").read_bytes()


@every_method
def test_its_pictures_are_images_of_the_real_shape(name: str, real: RealSet, run: Run) -> None:
    pictures = distil(name, real, 2, run).pictures()
    assert pictures.shape == (real.size(2), *real.shape)
    assert bool(pictures.isfinite().all())


@pytest.mark.parametrize("name", plugins.available("methods"))
def test_a_method_is_for_known_tasks(name: str) -> None:
    assert set(tasks(name)) <= {"classification", "regression"}
    assert tasks(name)


@pytest.mark.parametrize("name", plugins.available("methods"))
def test_what_a_job_makes_together_is_told_by_known_axes(name: str) -> None:
    assert set(getattr(plugins.load("methods", name), "BATCH", ())) <= {"per_class", "seed"}
