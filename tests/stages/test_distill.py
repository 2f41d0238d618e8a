"""A distillation job: what it leaves, and going on after it was killed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillhouse.errors import UserError
from stillhouse.run import Run, State
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.stages import distill as stage
from stillhouse.stages.distill import Wanted
from stillhouse.stages.store import Store

KIP: dict[str, Any] = {
    "kind": "kip", "model": {"kind": "ridge", "features": "identity", "space": "pixels"}, "steps": 12, "batch": 32,
}  # fmt: skip


class Killed(Exception):  # noqa: N818
    """Stands for the signal."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, digits: RealSet) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits"
    digits.save(path)
    return path


@pytest.fixture
def job(data: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes one set with its state in `unfinished`; gives its file."""

    def make(method: dict[str, Any] = KIP, name: str = "set", **changed: Any) -> Path:
        asked = {"data": data, "experiment": "e", "per_class": 1, "seed": 0, "code": "c0de", "threads": 1} | changed
        wanted = [Wanted(asked["per_class"], asked["seed"], tmp_path / name)]
        stage.distill(
            asked["data"], asked["experiment"], method, wanted, Run(), asked["code"], asked["threads"],
            tmp_path / "unfinished", 0.0,
        )  # fmt: skip
        return tmp_path / name

    return make


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch, job: Callable[..., Path]) -> Callable[..., None]:
    """Runs a job that is killed after so many steps, as soon as the state is kept."""

    def run(step: int, method: dict[str, Any] = KIP, **changed: Any) -> None:
        class Dying(Store):
            def offer(self, state: Callable[[], State]) -> None:
                super().offer(state)
                if state()[1]["step"] == step:
                    raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(stage, "Store", Dying)
            with pytest.raises(Killed):
                job(method, "killed", **changed)

    return run


def states(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "unfinished").rglob("state.safetensors"))


def cost(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.with_suffix(".cost.json").read_text())
    return found


def test_a_killed_job_leaves_its_state_and_no_result(killed_at: Callable[..., None], tmp_path: Path) -> None:
    killed_at(7)
    assert len(states(tmp_path)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_a_job_goes_on_where_it_was_killed_and_gives_the_same_bytes(
    job: Callable[..., Path], killed_at: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = job(name="undisturbed").read_bytes()
    killed_at(7)
    first = []

    class Watched(Store):
        def offer(self, state: Callable[[], State]) -> None:
            first.append(state()[1]["step"])

    monkeypatch.setattr(stage, "Store", Watched)
    assert job().read_bytes() == undisturbed
    assert first[0] == 8


def test_the_folder_of_a_job_that_ended_is_removed(
    job: Callable[..., Path], killed_at: Callable[..., None], tmp_path: Path
) -> None:
    killed_at(7)
    job()
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_the_cost_file_has_the_whole_record_each_step_once(
    job: Callable[..., Path], killed_at: Callable[..., None]
) -> None:
    killed_at(7)
    record = cost(job())["record"]
    assert [line["step"] for line in record] == [0, 1, 2, 3, 4, 6, 9, 12]
    seconds = [line["seconds"] for line in record]
    assert seconds == sorted(seconds)
    assert all("validation_accuracy" in line for line in record)


def test_the_seconds_before_an_interruption_count(
    job: Callable[..., Path], killed_at: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = []
    write = stage.Store.offer

    def late(self: Store, state: Callable[[], State]) -> None:
        self._began -= 10  # every step takes ten seconds more than it does
        write(self, state)
        spent.append(self.seconds)

    monkeypatch.setattr(Store, "offer", late)
    killed_at(7)
    assert spent[-1] > 70
    found = cost(job())
    assert found["seconds"] == pytest.approx(spent[-1], abs=5)
    assert found["seconds"] > 120


@pytest.mark.parametrize(
    "other",
    [
        {"method": {**KIP, "learning_rate": 0.02}},
        {"method": {**KIP, "steps": 13}},
        {"method": {**KIP, "model": {**KIP["model"], "validation": 0.1}}},
        {"seed": 1},
        {"per_class": 2},
        {"experiment": "another"},
        {"code": "another"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_the_state_of_another_recipe_is_never_taken_up(
    job: Callable[..., Path], killed_at: Callable[..., None], tmp_path: Path, other: dict[str, Any]
) -> None:
    undisturbed = job(**other, name="undisturbed").read_bytes()
    killed_at(7)
    [left] = states(tmp_path)
    assert job(**other).read_bytes() == undisturbed
    assert states(tmp_path) == [left]


def test_the_state_of_other_data_is_never_taken_up(
    job: Callable[..., Path], killed_at: Callable[..., None], tmp_path: Path, toy: RealSet
) -> None:
    killed_at(7)
    [left] = states(tmp_path)
    toy.save(tmp_path / "toy")
    assert len(DistilledSet.load(job(data=tmp_path / "toy"))) == 3
    assert states(tmp_path) == [left]


def test_a_damaged_state_is_one_line_and_leaves_no_result(
    job: Callable[..., Path], killed_at: Callable[..., None], tmp_path: Path
) -> None:
    killed_at(7)
    [file] = states(tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"^[^\n]*state\.safetensors: not a complete safetensors file[^\n]*$"):
        job()
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


def test_a_method_that_keeps_no_state_leaves_none_and_no_record(job: Callable[..., Path], tmp_path: Path) -> None:
    made = job({"kind": "random_images"})
    assert len(DistilledSet.load(made)) == 10
    assert "record" not in cost(made)
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_the_part_of_the_published_budget_is_in_the_recipe(job: Callable[..., Path]) -> None:
    assert DistilledSet.load(job({**KIP, "full_steps": 48})).recipe["budget"] == 0.25
    assert DistilledSet.load(job({"kind": "random_images"})).recipe["budget"] == 1.0


def test_the_recipe_says_which_other_data_were_read(data: Path, tmp_path: Path, digits: RealSet) -> None:
    wanted = [Wanted(1, 0, tmp_path / "set")]
    run = Run(others={"second": data})
    stage.distill(data, "e", {"kind": "random_images"}, wanted, run, "c0de", 1, tmp_path / "unfinished", 0.0)
    assert DistilledSet.load(tmp_path / "set").recipe["others"] == [digits.identity]
