import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse.errors import UserError
from stillhouse.run import Run, State, stream
from stillhouse.sets import DistilledSet, RealSet
from stillhouse.teacher import Teacher

RIDGE = {"kind": "ridge", "features": {"kind": "identity"}}


def teacher(model: object = RIDGE, seed: int = 0, fingerprint: str = "f") -> Teacher:
    return Teacher(model, seed, {"weights": torch.ones(2, 2)}, {"kind": "pixels"}, {"fingerprint": fingerprint})  # type: ignore[arg-type]


def test_a_purpose_always_draws_the_same() -> None:
    assert torch.equal(torch.rand(5, generator=Run(3).generator("a")), torch.rand(5, generator=Run(3).generator("a")))


def test_purposes_and_seeds_draw_differently() -> None:
    keys = [(seed, purpose) for seed in range(20) for purpose in ("noise", "images", "feature map", "noise/1")]
    assert len({stream(*key) for key in keys}) == len(keys)
    drawn = {tuple(torch.rand(3, generator=Run(seed).generator(purpose)).tolist()) for seed, purpose in keys}
    assert len(drawn) == len(keys)


def test_streams_of_neighbouring_seeds_are_uncorrelated() -> None:
    rows = torch.stack([torch.randn(4000, generator=Run(seed).generator("noise")) for seed in range(8)])
    correlations = torch.corrcoef(rows) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.08  # five standard deviations of 1 / sqrt(4000)


def test_a_draw_for_one_purpose_does_not_move_another() -> None:
    run = Run(0)
    noise = run.generator("noise")
    torch.rand(100, generator=run.generator("images"))
    assert torch.equal(torch.rand(5, generator=noise), torch.rand(5, generator=Run(0).generator("noise")))


def test_a_stream_is_the_hash_of_seed_and_purpose() -> None:
    digest = hashlib.sha256(b"7/noise").hexdigest()
    assert stream(7, "noise") == int(digest[:16], 16) // 2
    assert stream(0, "feature map") == 8254170408050017510  # another number would change every result


def test_a_generator_does_not_touch_the_shared_one() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=Run(1).generator("noise"))
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_hands_on_every_item_and_is_silent_unless_watched(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(Run(show=False).progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    assert capfd.readouterr() == ("", "")
    assert list(Run(show=True).progress(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    out, err = capfd.readouterr()
    assert out == ""
    assert "letters" in err


def test_a_teacher_is_found_by_its_model_seed_and_data(tmp_path: Path) -> None:
    paths = []
    for seed in (0, 1):
        for fingerprint in ("f", "g"):
            paths.append(tmp_path / f"{seed}{fingerprint}")
            teacher(seed=seed, fingerprint=fingerprint).save(paths[-1])
    run = Run(teachers=tuple(paths))
    found = run.find_teacher(RIDGE, 1, "f")
    assert found is not None
    assert (found.seed, found.data["fingerprint"]) == (1, "f")


@pytest.mark.parametrize("wanted", [({**RIDGE, "validation": 0.1}, 0, "f"), (RIDGE, 1, "f"), (RIDGE, 0, "g")])
def test_a_teacher_of_another_model_seed_or_data_is_not_taken(tmp_path: Path, wanted: tuple[object, int, str]) -> None:
    teacher().save(tmp_path / "teacher")
    run = Run(teachers=(tmp_path / "teacher",))
    assert run.find_teacher(RIDGE, 0, "f") is not None
    assert run.find_teacher(*wanted) is None
    assert replace(run, teachers=()).find_teacher(RIDGE, 0, "f") is None


def test_another_real_set_is_read_from_where_it_is_said_to_be(toy: RealSet, tmp_path: Path) -> None:
    toy.save(tmp_path / "toy")
    assert Run(others={"toy": tmp_path / "toy"}).other("toy").fingerprint == toy.fingerprint


def test_another_real_set_that_is_not_given_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"^usps: this method reads that data set too. .*--other usps FILE"):
        Run().other("usps")


def test_a_file_that_is_no_teacher_is_refused(tmp_path: Path) -> None:
    DistilledSet(torch.zeros(2, 2), torch.eye(2), ("a", "b")).save(tmp_path / "set")
    with pytest.raises(UserError, match="holds a distilled set; expected a teacher"):
        Run(teachers=(tmp_path / "set",)).find_teacher(RIDGE, 0, "f")


class Remembering:
    """A store that keeps all it is offered."""

    def __init__(self) -> None:
        self.folder = Path("unused")
        self.offered: list[State] = []
        self.recorded: list[dict[str, float]] = []

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        return None if not self.offered else (dict(self.offered[-1][0]), dict(self.offered[-1][1]))

    def offer(self, state: Callable[[], State]) -> None:
        self.offered.append(state())

    def record(self, numbers: Mapping[str, float]) -> None:
        self.recorded.append(dict(numbers))


def test_without_a_store_a_run_starts_at_the_beginning_and_makes_no_state(caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    assert run.kept() is None
    run.offer(lambda: pytest.fail("a state was made for nobody"))
    with caplog.at_level(logging.DEBUG, logger="stillhouse"):
        run.record(step=3, accuracy=50.0)
    assert caplog.messages == ["{'step': 3, 'accuracy': 50.0}"]


def test_with_a_store_a_run_goes_on_from_what_it_was_offered() -> None:
    store = Remembering()
    run = Run(store=store)
    assert run.kept() is None
    run.offer(lambda: ({"x": torch.ones(2)}, {"step": 1}))
    run.offer(lambda: ({"x": torch.zeros(2)}, {"step": 2}))
    kept = run.kept()
    assert kept is not None
    assert torch.equal(kept[0]["x"], torch.zeros(2))
    assert kept[1] == {"step": 2}


def test_with_a_store_progress_is_recorded_there() -> None:
    store = Remembering()
    run = replace(Run(store=store), seed=5)  # as a job with several seeds does
    run.record(step=0, accuracy=10.0)
    run.record(step=8, accuracy=90.0)
    assert store.recorded == [{"step": 0, "accuracy": 10.0}, {"step": 8, "accuracy": 90.0}]
