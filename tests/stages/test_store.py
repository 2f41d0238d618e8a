"""The state of a long computation: taken up after any end, counted in full, never another's."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stillhouse import artifact
from stillhouse.errors import UserError
from stillhouse.run import State
from stillhouse.stages import store as stores
from stillhouse.stages.store import Store


class Clock:
    """Seconds that pass only when a test says so."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stores, "time", SimpleNamespace(perf_counter=made.perf_counter))
    return made


def state(step: int) -> State:
    return {"x": torch.full((3,), step / 3, dtype=torch.float64)}, {"step": step}


def step_of(store: Store) -> int | None:
    kept = store.kept()
    return None if kept is None else kept[1]["step"]


def test_at_the_start_there_is_nothing_to_take_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "down")
    assert store.kept() is None
    assert store.records == []
    assert store.folder.is_dir()


def test_a_state_is_taken_up_as_it_was_to_the_bit(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(3)
    tensors = {
        "inputs": torch.randn(4, 5, generator=draw),
        "exact": torch.randn(2, 2, generator=draw, dtype=torch.float64),
        "draw": draw.get_state(),
        "step": torch.tensor(7.0),
    }
    numbers = {"step": 7, "best": 0.1, "names": ["a", "b"]}
    Store(tmp_path, interval=0).offer(lambda: (tensors, numbers))
    kept = Store(tmp_path, interval=0).kept()
    assert kept is not None
    assert kept[0].keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert kept[0][name].dtype == tensor.dtype
        assert torch.equal(kept[0][name], tensor), name
    assert kept[1] == numbers


def test_of_several_states_the_last_is_taken_up(tmp_path: Path) -> None:
    store = Store(tmp_path, interval=0)
    for step in (1, 2, 3):
        store.offer(lambda step=step: state(step))  # type: ignore[misc]
    assert step_of(Store(tmp_path)) == 3


def test_a_state_is_kept_and_made_no_more_often_than_asked(tmp_path: Path, clock: Clock) -> None:
    store, made = Store(tmp_path, interval=60), []

    def at(seconds: float) -> None:
        clock.now = 100 + seconds
        store.offer(lambda: (made.append(seconds), state(int(seconds)))[1])  # type: ignore[func-returns-value]

    for seconds in (0, 30, 59.9, 60, 61, 119, 121, 180, 182):
        at(seconds)
    assert made == [60, 121, 182]
    assert step_of(Store(tmp_path)) == 182


def test_the_seconds_of_interrupted_runs_count_up_to_the_state_that_is_taken_up(tmp_path: Path, clock: Clock) -> None:
    first = Store(tmp_path, interval=5)
    clock.now = 110
    first.offer(lambda: state(1))
    clock.now = 114  # killed here: four seconds are lost, and spent again
    assert first.seconds == 14
    clock.now = 5000
    second = Store(tmp_path, interval=5)
    assert second.seconds == 10
    clock.now = 5006
    second.offer(lambda: state(2))
    clock.now = 9000
    third = Store(tmp_path)
    clock.now = 9001
    assert third.seconds == 17


def test_after_a_start_a_state_is_kept_no_sooner_than_the_interval(tmp_path: Path, clock: Clock) -> None:
    first = Store(tmp_path, interval=5)
    clock.now = 110
    first.offer(lambda: state(1))
    clock.now = 200
    second = Store(tmp_path, interval=5)
    clock.now = 204
    second.offer(lambda: state(2))
    assert step_of(Store(tmp_path)) == 1


def test_records_survive_up_to_the_state_and_carry_the_seconds_spent(tmp_path: Path, clock: Clock) -> None:
    first = Store(tmp_path, interval=0)
    clock.now = 101.23456
    first.record({"step": 0, "accuracy": 10.0})
    first.offer(lambda: state(1))
    clock.now = 103
    first.record({"step": 1, "accuracy": 20.0})  # lost with the step that is done again
    clock.now = 500
    second = Store(tmp_path, interval=0)
    assert second.records == [{"seconds": 1.235, "step": 0, "accuracy": 10.0}]
    clock.now = 502
    second.record({"step": 1, "accuracy": 20.0})
    assert [(line["step"], line["seconds"]) for line in second.records] == [(0, 1.235), (1, 3.235)]


def test_what_is_taken_up_is_not_changed_by_taking_it(tmp_path: Path) -> None:
    Store(tmp_path, interval=0).offer(lambda: state(1))
    store = Store(tmp_path)
    taken = store.kept()
    assert taken is not None
    taken[0].pop("x")
    again = store.kept()
    assert again is not None
    assert again[0].keys() == {"x"}


def test_computations_in_two_folders_do_not_see_each_other(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "one", interval=0), Store(tmp_path / "other", interval=0)
    one.offer(lambda: state(1))
    one.record({"step": 1})
    assert Store(tmp_path / "other").kept() is None
    assert other.records == []
    other.remove()
    assert step_of(Store(tmp_path / "one")) == 1


def test_killed_while_a_state_is_written_the_one_before_is_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, interval=0)
    store.offer(lambda: state(1))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            store.offer(lambda: state(2))
    assert step_of(Store(tmp_path)) == 1


def test_when_the_computation_has_ended_nothing_is_left(tmp_path: Path) -> None:
    store = Store(tmp_path / "id", interval=0)
    store.offer(lambda: state(1))
    (store.folder / "features.float32").write_bytes(b"x")
    store.remove()
    assert list(tmp_path.iterdir()) == []
    assert Store(tmp_path / "id").kept() is None


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_state_that_was_cut_short_is_one_line_that_names_it(tmp_path: Path, keep: float) -> None:
    Store(tmp_path, interval=0).offer(lambda: state(1))
    [file] = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError) as problem:
        Store(tmp_path)
    assert str(problem.value).startswith(f"{file}: not a complete safetensors file")
    assert "\n" not in str(problem.value)


def test_a_state_that_was_changed_is_refused(tmp_path: Path) -> None:
    Store(tmp_path, interval=0).offer(lambda: state(1))
    [file] = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="its content was changed after it was written"):
        Store(tmp_path)


def test_a_file_of_another_kind_in_its_place_is_refused(tmp_path: Path) -> None:
    artifact.write(tmp_path / "state.safetensors", "teacher", {"x": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="holds a teacher; expected a state"):
        Store(tmp_path)
