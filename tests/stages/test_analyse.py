"""An analysis job: its rows, what made them, what they cost."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from stillhouse import artifact
from stillhouse.analyses import krr_path
from stillhouse.errors import NumericalError, UserError
from stillhouse.run import Run
from stillhouse.sets import RealSet, recipe_id
from stillhouse.stages.analyse import analyse

PATH: dict[str, Any] = {
    "kind": "krr_path",
    "model": {"kind": "ridge", "features": "identity", "space": "pixels", "ridge": {"first": -1, "last": 1}},
}


@pytest.fixture
def job(tmp_path: Path, digits: RealSet) -> Callable[..., Path]:
    """Runs an analysis on digits; gives the file of its rows."""
    digits.save(tmp_path / "digits")

    def run(settings: dict[str, Any] = PATH, name: str = "rows.csv", images: Path | None = None, seed: int = 0) -> Path:
        analyse(tmp_path / "digits", "path", settings, Run(seed=seed), "c0de", 1, tmp_path / name, images)
        return tmp_path / name

    return run


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the analysis yield these rows instead of its own."""

    def set_rows(*rows: dict[str, Any]) -> None:
        monkeypatch.setattr(krr_path, "analyse", lambda real, params, run: iter(rows))

    return set_rows


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recipe(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".recipe.json").read_text())
    return found


def test_a_row_starts_with_what_it_is_of_and_the_recipe_that_makes_it_again(job: Callable[..., Path]) -> None:
    made = job(seed=4)
    rows = read(made)
    assert list(rows[0])[:5] == ["dataset", "analysis", "seed", "recipe", "ridge"]
    assert {tuple(row.values())[:4] for row in rows} == {("digits", "path", "4", recipe_id(recipe(made)))}
    assert [float(row["ridge"]) for row in rows] == pytest.approx([10**-1, 10**-0.5, 1, 10**0.5, 10])


def test_columns_are_in_order_of_appearance_and_what_a_row_lacks_is_empty(
    job: Callable[..., Path], say: Callable[..., None]
) -> None:
    say({"b": 1, "a": "x"}, {"a": "y", "c": True}, {"b": 2})
    rows = read(job())
    assert list(rows[0])[4:] == ["b", "a", "c"]
    assert [tuple(row.values())[4:] for row in rows] == [("1", "x", ""), ("", "y", "True"), ("2", "", "")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.3333333333"), (1e-16, "1e-16"), (2.0, "2"), (7, "7"), (float("nan"), "nan"), (float("inf"), "inf")],
)
def test_numbers_have_ten_digits(job: Callable[..., Path], say: Callable[..., None], value: float, text: str) -> None:
    say({"x": value})
    assert read(job())[0]["x"] == text


def test_words_of_any_kind_survive(job: Callable[..., Path], say: Callable[..., None]) -> None:
    said = 'λ_S ≤ 1/(4σ\'₁²), "printed",\nmore'
    say({"x": said})
    assert read(job())[0]["x"] == said


def test_the_recipe_has_every_setting_written_out_and_the_data(job: Callable[..., Path], digits: RealSet) -> None:
    made = recipe(job(seed=4))
    assert (made["analysis"], made["seed"], made["code"]) == ("path", 4, "c0de")
    assert made["data"] == {"name": "digits", "fingerprint": digits.fingerprint, "order": digits.order}
    assert made["settings"]["kind"] == "krr_path"
    assert made["settings"]["model"]["validation"] == 0.05  # a default
    assert made["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert made["device"].startswith("cpu: ")


def test_the_same_command_gives_the_same_bytes(job: Callable[..., Path]) -> None:
    one, two = job(name="one.csv"), job(name="two.csv")
    assert one.read_bytes() == two.read_bytes()
    assert recipe(one) == recipe(two)


def test_another_setting_or_seed_is_another_recipe(job: Callable[..., Path]) -> None:
    changed = {**PATH, "model": {**PATH["model"], "validation": 0.1}}
    made = {recipe_id(recipe(each)) for each in (job(), job(seed=1, name="1.csv"), job(changed, name="2.csv"))}
    assert len(made) == 3


def test_what_it_cost_stands_beside_it_and_nothing_else(job: Callable[..., Path], tmp_path: Path) -> None:
    job()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "digits", "rows.cost.json", "rows.csv", "rows.recipe.json",
    ]  # fmt: skip
    cost = json.loads((tmp_path / "rows.cost.json").read_text())
    assert cost.keys() == {"seconds", "peak_memory_mb", "host", "device", "threads"}
    assert cost["seconds"] > 0


def test_an_analysis_that_stops_leaves_no_rows(
    job: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopping(real: RealSet, params: krr_path.Params, run: Run) -> Iterator[dict[str, Any]]:
        yield {"x": 1}
        raise NumericalError("no number")

    monkeypatch.setattr(krr_path, "analyse", stopping)
    with pytest.raises(NumericalError):
        job()
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_images_are_kept_in_the_order_in_which_they_are_shown(
    job: Callable[..., Path], say: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say({"x": 1})
    shown = {name: torch.full((2, 1, 4, 4), float(i)) for i, name in enumerate(("original", "exact", "a, b"))}
    monkeypatch.setattr(krr_path, "pictures", lambda real, params, run: shown, raising=False)
    made = job(images=tmp_path / "images.safetensors")
    tensors, header = artifact.read(tmp_path / "images.safetensors", "images")
    assert header["order"] == ["original", "exact", "a, b"]
    assert header["recipe"] == recipe(made)
    assert all(torch.equal(tensors[name], image) for name, image in shown.items())


def test_a_wrong_setting_is_told_with_the_analysis_name(job: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^path: unknown parameter 'modle'\. Did you mean 'model'\?$"):
        job({"kind": "krr_path", "modle": PATH["model"]})
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_images_of_an_analysis_that_makes_none_are_refused_before_it_runs(
    job: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(krr_path, "analyse", lambda *_: pytest.fail("it ran"))
    with pytest.raises(UserError, match=r"^--images: the analysis krr_path makes none\. Leave it out\.$"):
        job(images=tmp_path / "images.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
