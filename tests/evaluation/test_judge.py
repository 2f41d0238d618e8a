import dataclasses
from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.errors import NumericalError
from stillhouse.evaluation import judge
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet, Split

MODEL = settings.parse_plugin("models", {"kind": "ridge", "features": "identity"}, "models.test")
NETWORK = settings.parse_plugin("models", {"kind": "mlp", "width": 4, "training": {"epochs": 2}}, "models.test")


@pytest.fixture
def corners() -> RealSet:
    """Two classes of 1 x 1 x 2 pixels, told apart by which pixel is lit; the last of five test images is labelled wrongly."""
    lit = torch.tensor([[255, 0], [0, 255]], dtype=torch.uint8)
    train = torch.arange(40) % 2
    shown, called = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0, 1, 0, 1, 1])
    splits = Split(lit[train].view(-1, 1, 1, 2), train), Split(lit[shown].view(-1, 1, 1, 2), called)
    return RealSet("corners", *splits, ("left", "right"), "fingerprint", "order")


@pytest.fixture
def perfect() -> DistilledSet:
    """One image a class, lit as the class is."""
    return DistilledSet(torch.eye(2).view(2, 1, 1, 2), torch.eye(2), ("left", "right"))


def scored(distilled: DistilledSet, real: RealSet, run: Run, **options: Any) -> list[judge.Score]:
    return list(judge.judge(distilled, real, MODEL, **{"trainings": 1, "seed": 0, **options}, run=run))


def test_accuracy_is_the_percentage_of_all_test_images(corners: RealSet, perfect: DistilledSet, run: Run) -> None:
    assert [(s.metric, s.value) for s in scored(perfect, corners, run)] == [("test accuracy", 80.0)]


def test_a_set_with_its_labels_swapped_is_wrong_where_the_other_is_right(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    # The larger ridge wins a tie, and every ridge gives the same order of the scores.
    swapped = dataclasses.replace(perfect, targets=perfect.targets.flip(1))
    assert scored(swapped, corners, run)[0].value == 20.0


def test_the_chunk_size_does_not_matter(
    corners: RealSet, perfect: DistilledSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_CHUNK", 2)
    assert scored(perfect, corners, run)[0].value == 80.0


def test_each_training_has_a_seed_of_its_own_that_no_other_set_shares(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    seeds = [s.training_seed for seed in (0, 1, 2) for s in scored(perfect, corners, run, trainings=3, seed=seed)]
    assert seeds == list(range(9))


def test_a_set_made_for_the_model_is_trained_once_from_the_weights_it_names(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    made_for = dataclasses.replace(perfect, model={**settings.dump(MODEL), "seed": 7})
    assert [s.training_seed for s in scored(made_for, corners, run, trainings=3)] == [7]


def test_a_set_made_for_another_model_is_trained_as_any_other(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    other = {**settings.dump(MODEL), "validation": 0.5, "seed": 7}
    made_for = dataclasses.replace(perfect, model=other, certificate={"error_images": 1e-12})
    found = scored(made_for, corners, run, trainings=2)
    assert [(s.training_seed, s.metric) for s in found] == [(0, "test accuracy"), (1, "test accuracy")]


def test_the_certificates_error_is_a_row_only_for_the_model_it_is_about(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    made_for = dataclasses.replace(
        perfect, model={**settings.dump(MODEL), "seed": 7}, certificate={"error_images": 1e-12}
    )
    assert (scored(made_for, corners, run)[-1].metric, scored(made_for, corners, run)[-1].value) == (
        "weight error",
        1e-12,
    )


def test_scores_that_are_nan_stop_the_judge(corners: RealSet, run: Run) -> None:
    teacher = ridge.fit_real(corners, MODEL, run)
    broken = dataclasses.replace(teacher, weights={"weights": teacher.weights["weights"] * torch.nan})
    with pytest.raises(NumericalError, match="corners's test examples are NaN"):
        judge.accuracy(broken, corners, run)


def test_a_set_made_for_any_initial_weights_of_a_model_is_scored_like_one_made_for_none(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    made = dataclasses.replace(perfect, model=settings.dump(MODEL))
    assert judge.training_seeds(made, MODEL, 3, 2) == [6, 7, 8]
    assert judge.training_seeds(dataclasses.replace(made, model={**made.model, "seed": 5}), MODEL, 3, 2) == [5]  # type: ignore[dict-item]


def test_common_training_takes_no_heed_of_what_a_set_asks_for(
    corners: RealSet, perfect: DistilledSet, run: Run
) -> None:
    asking = dataclasses.replace(
        perfect, schedule={"steps": 1, "epochs": 1, "step_sizes": [1.0], "loss": "mse"},
        model={**settings.dump(NETWORK), "seed": 7},
    )  # fmt: skip
    plain = list(judge.judge(perfect, corners, NETWORK, 2, 3, run))
    assert [s.training_seed for s in plain] == [6, 7]
    assert list(judge.judge(asking, corners, NETWORK, 2, 3, run, how="common")) == plain
    assert [s.training_seed for s in judge.judge(asking, corners, NETWORK, 2, 3, run, how="own")] == [7]


def test_redrawn_weights_are_never_those_that_the_set_was_made_for(perfect: DistilledSet) -> None:
    made = dataclasses.replace(perfect, model={**settings.dump(NETWORK), "seed": 7})
    drawn = [judge.training_seeds(made, NETWORK, 3, seed, "redrawn") for seed in range(4)]
    assert drawn == [[0, 1, 2], [4, 5, 6], [8, 9, 10], [12, 13, 14]]


def test_a_set_is_made_for_a_model_though_settings_have_come_since(perfect: DistilledSet) -> None:
    older = {name: value for name, value in settings.dump(NETWORK).items() if name != "initialisation"}
    assert judge.fits(dataclasses.replace(perfect, model={**older, "seed": 7}), NETWORK)
    assert not judge.fits(dataclasses.replace(perfect, model={**older, "width": 5}), NETWORK)
    assert not judge.fits(dataclasses.replace(perfect, model={**older, "no such setting": 5}), NETWORK)
