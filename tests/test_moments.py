import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from stillhouse import cli, linalg, moments, settings, spaces
from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.linalg import Moments
from stillhouse.methods import krr_exact
from stillhouse.models import ridge
from stillhouse.moments import Part, Statistics
from stillhouse.run import Run
from stillhouse.sets import RealSet, Split
from stillhouse.teacher import Teacher

# What several jobs sum is what one sums, relatively: 64-bit sums in another order.
SAME = 1e-12
EPS = torch.finfo(torch.float64).eps


def params(features: str = "random_network", space: Any = "standardised", **options: Any) -> ridge.Params:
    raw = {"kind": "ridge", "features": features, "space": space, **options}
    return settings.parse_plugin("models", raw, "models.test")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so small that digits has many, whose edges are not those of the shards."""
    monkeypatch.setattr(ridge, "CHUNK", 100)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(digits: RealSet) -> RealSet:
    """The first 300 digits to train on."""
    return part_of(digits, 0, 300)


def part_of(real: RealSet, start: int, stop: int) -> RealSet:
    train = Split(real.train.inputs[start:stop], real.train.targets[start:stop])
    return identity.identified(f"digits{start}", train, real.test, real.classes)


def shards_of(real: RealSet, model: ridge.Params, run: Run, count: int) -> list[Statistics]:
    return [ridge.accumulate(real, model, run, number, count) for number in range(1, count + 1)]


def assert_same(found: Moments, wanted: Moments, tolerance: float = SAME) -> None:
    assert found.count == wanted.count
    assert linalg.relative_error(found.gram, wanted.gram) < tolerance
    assert linalg.relative_error(found.cross, wanted.cross) < tolerance


# Sums


@hypothesis_settings(max_examples=30, deadline=None)
@given(features=st.integers(1, 30), seed=st.integers(0, 99))
def test_the_packed_triangle_holds_the_whole_gram_matrix(features: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    sums = Moments(features, 2)
    sums.add(torch.randn(5, features, generator=rng), torch.randn(5, 2, generator=rng))
    packed = sums.packed()
    assert packed.shape == (features * (features + 1) // 2,)
    back = Moments.unpacked(packed, sums.cross, sums.count)
    assert torch.equal(back.gram, sums.gram)
    assert torch.equal(back.cross, sums.cross)
    back.add(torch.ones(1, features), torch.ones(1, 2))
    assert torch.allclose(back.gram, sums.gram + 1)


@given(count=st.integers(0, 1000), shards=st.integers(1, 50))
def test_shards_are_contiguous_disjoint_and_of_nearly_equal_size(count: int, shards: int) -> None:
    slices = [moments.shard(count, number, shards) for number in range(1, shards + 1)]
    assert [i for start, stop in slices for i in range(start, stop)] == list(range(count))
    sizes = [stop - start for start, stop in slices]
    assert max(sizes) - min(sizes) <= 1


# Shards


@pytest.mark.parametrize("shards", [2, 3, 7])
@pytest.mark.parametrize("features", ["identity", "random_network", "random_fourier"])
def test_shards_merged_are_one_job(digits: RealSet, run: Run, features: str, shards: int) -> None:
    whole = ridge.accumulate(digits, params(features), run)
    merged = moments.merged(shards_of(digits, params(features), run, shards))
    assert_same(merged.moments, whole.moments)
    assert moments.missing(merged.parts) is None


@pytest.mark.parametrize("space", ["pixels", "standardised", "zca"])
def test_a_space_is_fitted_in_every_shard_on_the_whole_real_set(small: RealSet, run: Run, space: str) -> None:
    whole = ridge.accumulate(small, params(space=space), run)
    merged = moments.merged(shards_of(small, params(space=space), run, 3))
    assert_same(merged.moments, whole.moments)


@pytest.mark.parametrize("shards", [3, 13])
def test_a_shards_features_are_those_of_one_job_to_the_last_bit(
    digits: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    seen: list[torch.Tensor] = []
    original = Moments.add
    monkeypatch.setattr(Moments, "add", lambda s, f, t: (seen.append(f.clone()), original(s, f, t))[1])
    ridge.accumulate(digits, params(), run)
    whole = torch.cat(seen)
    seen.clear()
    shards_of(digits, params(), run, shards)
    assert torch.equal(torch.cat(seen), whole)


def test_more_shards_than_examples_are_no_mistake(toy: RealSet, run: Run) -> None:
    whole = ridge.accumulate(toy, params("identity"), run)
    assert_same(moments.merged(shards_of(toy, params("identity"), run, 100)).moments, whole.moments)


def test_the_teacher_of_shards_is_that_of_one_job_as_far_as_its_gram_matrix_is_conditioned(
    digits: RealSet, run: Run
) -> None:
    teacher = ridge.fit_real(digits, params(), run)
    gathered = ridge.fit_moments(moments.merged(shards_of(digits, params(), run, 5)), digits, run)
    low, high = teacher.notes["eigenvalues"]
    condition = (high + teacher.notes["ridge"]) / (low + teacher.notes["ridge"])
    error = linalg.relative_error(gathered.weights["weights"], teacher.weights["weights"])
    assert error < 10 * EPS * condition
    for field in ("model", "seed", "space", "data"):
        assert getattr(gathered, field) == getattr(teacher, field)
    for note in ("ridge", "ridges", "validation_accuracy", "examples", "rank"):
        assert gathered.notes[note] == teacher.notes[note]


def test_a_teacher_fitted_from_moments_reads_no_training_example(small: RealSet, run: Run) -> None:
    sums = ridge.accumulate(small, params(), run)
    fitted, held_out = ridge.split(len(small.train), 0.05, run.seed)
    blank = small.train.inputs.clone()
    blank[fitted] = 0
    unseen = dataclasses.replace(small, train=Split(blank, small.train.targets))
    found, wanted = ridge.fit_moments(sums, unseen, run), ridge.fit_moments(sums, small, run)
    assert torch.equal(found.weights["weights"], wanted.weights["weights"])
    assert len(held_out) == 15


# Merge, absorb, remove


def test_what_is_distilled_from_merged_moments_is_what_is_distilled_from_the_union(
    digits: RealSet, run: Run, tmp_path: Path
) -> None:
    model = params("random_network", ridge={"first": 0, "last": 0})  # one ridge: nothing hides behind its choice
    exact = krr_exact.Params(model=model)
    halves = moments.merged(shards_of(digits, model, run, 2))
    ridge.fit_moments(halves, digits, run).save(tmp_path / "teacher.safetensors")
    found = krr_exact.distill(digits, 2, exact, dataclasses.replace(run, teachers=(tmp_path / "teacher.safetensors",)))
    wanted = krr_exact.distill(digits, 2, exact, run)
    embedding = ridge.embed(model, digits, run.seed)
    learned = [ridge.solve(ridge.set_features(each, embedding), each.targets, 0.0) for each in (found, wanted)]
    assert linalg.relative_error(learned[0], learned[1]) < 1e-10
    assert linalg.relative_error(found.inputs, wanted.inputs) < 1e-10


def test_new_data_are_absorbed_without_the_old(digits: RealSet, run: Run) -> None:
    old, new = part_of(digits, 0, 400), part_of(digits, 400, 1000)
    sums = ridge.absorb(ridge.accumulate(old, params(), run), new, dataclasses.replace(run, seed=99))
    embedding = ridge.embed(params(), old, run.seed)  # the space that the old data were seen in
    wanted = Moments(64, 10)
    for real in (old, new):
        fitted, _ = ridge.split(len(real.train), 0.05, run.seed)
        for rows, labels in ridge.feature_chunks(real.train, embedding, fitted, run):
            wanted.add(rows, spaces.one_hot(labels, 10))
    assert_same(sums.moments, wanted)
    assert [part.data["name"] for part in sums.parts] == ["digits0", "digits400"]
    assert ridge.fit_moments(sums, new, run).notes["examples"] == 380 + 570


@pytest.mark.parametrize("within", [(0, 1), (17, 18), (90, 210), (0, 284)])
def test_an_example_removed_leaves_what_would_be_there_had_it_never_been(
    small: RealSet, run: Run, within: tuple[int, int]
) -> None:
    model = params("random_network")
    embedding = ridge.embed(model, small, run.seed)
    whole = moments.merged(shards_of(small, model, run, 3))
    gone = ridge.statistics(small, embedding, model, run, within)
    left = whole.remove(gone)
    start, stop = within
    slices = [ridge.statistics(small, embedding, model, run, each) for each in ((0, start), (stop, 285))]
    assert_same(left.moments, moments.merged(slices).moments, 1e-12 if within != (0, 284) else 1e-9)
    assert_same(left.absorb(gone).moments, whole.moments)
    assert moments.missing(left.parts) == Part(small.identity, 285, start, stop)


def test_removing_loses_digits_as_less_is_left(run: Run) -> None:
    rng = torch.Generator().manual_seed(0)
    few = Moments(20, 3)
    few.add(torch.randn(50, 20, generator=rng), torch.randn(50, 3, generator=rng))
    errors = []
    for size in (1.0, 1e3, 1e6):
        many = Moments(20, 3)
        many.add(size * torch.randn(500, 20, generator=rng), torch.randn(500, 3, generator=rng))
        left = few + many - many
        ratio = float((few + many).gram.norm() / few.gram.norm())
        errors.append(linalg.relative_error(left.gram, few.gram))
        assert errors[-1] < EPS * ratio
    assert errors[0] < 1e-14
    assert errors[2] > 1e-7  # what the note in Moments.__sub__ warns of


# What does not belong together


def other_seed(one: Statistics) -> Statistics:
    return dataclasses.replace(one, seed=1)


def other_ridge(one: Statistics) -> Statistics:
    return dataclasses.replace(one, model={**one.model, "ridge": {**one.model["ridge"], "first": -3.0}})


def other_classes(one: Statistics) -> Statistics:
    return dataclasses.replace(one, columns=one.columns[::-1])


def other_shape(one: Statistics) -> Statistics:
    return dataclasses.replace(one, shape=(1, 4, 16))


def other_space(one: Statistics) -> Statistics:
    return dataclasses.replace(one, space={**one.space, "mean": [0.5]})


def other_data(one: Statistics) -> Statistics:
    (part,) = one.parts
    return dataclasses.replace(
        one, parts=(dataclasses.replace(part, data={"name": "x", "fingerprint": "f", "order": "o"}),)
    )


def overlapping(one: Statistics) -> Statistics:
    (part,) = one.parts
    return dataclasses.replace(one, parts=(dataclasses.replace(part, start=part.start - 1),))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (other_seed, "seed 0 and 1"),
        (other_ridge, "model.ridge.first -6.0 and -3.0"),
        (other_classes, "columns ('0',"),
        (other_shape, "shape (1, 8, 8) and (1, 4, 16)"),
        (other_space, "fitted on different images"),
        (other_data, "of digits0 ("),
        (overlapping, "examples 141 to 142 of digits0 would count twice"),
    ],
)
def test_moments_that_do_not_belong_together_are_refused_in_one_line(
    small: RealSet, run: Run, change: Callable[[Statistics], Statistics], text: str, tmp_path: Path
) -> None:
    first, second = shards_of(small, params(), run, 2)
    for place, each in (("one", first), ("two", change(second))):
        each.save(tmp_path / place)
    with pytest.raises(UserError) as caught:
        moments.load_merged([tmp_path / "one", tmp_path / "two"])
    assert str(caught.value).startswith(f"{tmp_path / 'two'}: moments that do not belong together: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_absorbed_twice(small: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match="would count twice"):
        ridge.absorb(ridge.accumulate(small, params(), run), small, run)


def test_nothing_of_another_form_is_absorbed(small: RealSet, toy: RealSet, run: Run) -> None:
    with pytest.raises(UserError, match=r"toy: its examples of shape \(1, 4, 4\) with 3 columns of targets"):
        ridge.absorb(ridge.accumulate(small, params(), run), toy, run)


def test_what_was_not_summed_cannot_be_removed(small: RealSet, run: Run) -> None:
    first, second = shards_of(small, params(), run, 2)
    with pytest.raises(UserError, match="142 to 285 of the 285 fitted examples of digits0 are not all among"):
        first.remove(second)
    with pytest.raises(UserError, match="not all among"):
        first.remove(first).remove(first)


# Files and commands

MODEL = json.dumps({"kind": "ridge", "features": "random_network", "space": "standardised"})


def stillhouse(*arguments: object) -> None:
    cli.main([str(each) for each in arguments])


@pytest.fixture
def folder(small: RealSet, tmp_path: Path) -> Path:
    """A prepared data set and its three shards."""
    small.save(tmp_path / "data")
    for number in (1, 2, 3):
        out = tmp_path / f"{number}.safetensors"
        stillhouse(
            "accumulate", tmp_path / "data", out, "--model", MODEL, "--shard", number, 3, "--code", f"c0de{number}"
        )
    return tmp_path


def shard_files(folder: Path) -> list[Path]:
    return [folder / f"{number}.safetensors" for number in (1, 2, 3)]


@pytest.mark.parametrize("space", ["standardised", "zca"])
def test_a_file_gives_back_what_was_saved(small: RealSet, run: Run, tmp_path: Path, space: str) -> None:
    saved = ridge.accumulate(small, params(space=space), run, 2, 3)
    saved.save(tmp_path / "moments")
    read = Statistics.load(tmp_path / "moments")
    assert_same(read.moments, saved.moments, EPS)
    for name in ("model", "seed", "shape", "columns", "parts"):
        assert getattr(read, name) == getattr(saved, name)
    assert read.absorb(ridge.accumulate(small, params(space=space), run, 1, 3)).moments.count == 190  # one space


def test_one_job_and_shards_give_one_teacher_whose_recipe_says_how_many(folder: Path) -> None:
    stillhouse("teach", folder / "data", folder / "one.safetensors", "--model", MODEL)
    stillhouse(
        "teach", folder / "data", folder / "three.safetensors", "--model", MODEL, "--moments", *shard_files(folder)
    )
    one, three = (Teacher.load(folder / f"{name}.safetensors") for name in ("one", "three"))
    assert linalg.relative_error(three.weights["weights"], one.weights["weights"]) < 1e-12
    assert (one.recipe["shards"], three.recipe["shards"]) == (1, 3)
    assert [part["recipe"]["code"] for part in three.recipe["moments"]] == ["c0de1", "c0de2", "c0de3"]
    cost = json.loads((folder / "three.cost.json").read_text())
    assert len(cost["shards"]) == 3
    assert all(each["seconds"] > 0 for each in cost["shards"])


def test_merged_files_are_one_and_their_order_does_not_matter(folder: Path) -> None:
    one, two, three = shard_files(folder)
    stillhouse("merge", one, two, three, "--out", folder / "123")
    stillhouse("merge", three, one, two, "--out", folder / "312")
    assert (folder / "123").read_bytes() == (folder / "312").read_bytes()
    stillhouse("teach", folder / "data", folder / "t1", "--model", MODEL, "--moments", folder / "123")
    stillhouse("teach", folder / "data", folder / "t2", "--model", MODEL, "--moments", three, two, one)
    assert (folder / "t1").read_bytes() == (folder / "t2").read_bytes()


def test_new_data_are_added_onto_a_file(folder: Path, digits: RealSet) -> None:
    part_of(digits, 300, 500).save(folder / "new")
    stillhouse("merge", *shard_files(folder), "--out", folder / "old")
    stillhouse("accumulate", folder / "new", folder / "both", "--onto", folder / "old", "--code", "c0de4")
    both = Statistics.load(folder / "both")
    assert both.moments.count == 285 + 190
    assert [part.recipe["code"] for part in both.parts] == ["c0de1", "c0de2", "c0de3", "c0de4"]
    stillhouse("teach", folder / "new", folder / "teacher", "--model", MODEL, "--moments", folder / "both")
    assert Teacher.load(folder / "teacher").notes["examples"] == 475


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--moments", "1.safetensors", "3.safetensors"], "examples 95 to 190 of the 285 fitted examples of digits0 are"),
        (["--moments", "1.safetensors", "1.safetensors"], "examples 0 to 95 of digits0 would count twice"),
        (["--moments", *(f"{i}.safetensors" for i in (1, 2, 3)), "--seed", "1"], "moments of another model or seed (0)"),
        (["--moments", "data"], "data: holds a real set; expected a moments."),
    ],
)  # fmt: skip
def test_a_teacher_is_made_only_of_all_that_it_fits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    monkeypatch.chdir(folder)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        stillhouse("teach", "data", "teacher", "--model", MODEL, *arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert not Path("teacher").exists()


def test_moments_of_another_data_set_make_no_teacher(
    folder: Path, digits: RealSet, capsys: pytest.CaptureFixture[str]
) -> None:
    part_of(digits, 300, 600).save(folder / "other")
    capsys.readouterr()
    with pytest.raises(SystemExit):
        stillhouse("teach", folder / "other", folder / "teacher", "--model", MODEL, "--moments", *shard_files(folder))
    assert "moments of digits0, another data set or order than digits300" in capsys.readouterr().err


def test_a_shard_beyond_the_last_is_a_mistake(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        stillhouse("accumulate", folder / "data", folder / "out", "--model", MODEL, "--shard", 4, 3)
    assert "--shard 4 3: there are 3 shards" in capsys.readouterr().err
