import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from stillhouse import linalg, settings, spaces
from stillhouse.methods import random_images
from stillhouse.models import ridge
from stillhouse.run import Run
from stillhouse.sets import DistilledSet, RealSet


def params(features: str = "identity", **options: object) -> ridge.Params:
    raw = {"kind": "ridge", "features": features, "space": "standardised", **options}
    return settings.parse_plugin("models", raw, "models.test")


@pytest.mark.parametrize("features", ["identity", "random_network", "random_fourier"])
def test_the_weights_are_those_of_scikit_learn(digits: RealSet, run: Run, features: str) -> None:
    teacher = ridge.fit_real(digits, params(features), run)
    embedding = ridge.embed(params(features), digits, run.seed)
    fitted, _ = ridge.split(len(digits.train), 0.05, run.seed)
    pixels, labels = next(digits.train.chunks(len(fitted), fitted))
    rows = embedding.features(pixels).to(torch.float64).numpy()
    reference = Ridge(alpha=teacher.notes["ridge"], fit_intercept=False, solver="svd")
    reference.fit(rows, spaces.one_hot(labels, 10).numpy())
    np.testing.assert_allclose(teacher.weights["weights"].numpy(), reference.coef_.T, rtol=1e-6, atol=1e-9)


def test_the_chosen_ridge_is_the_best_on_the_validation_part_and_the_largest_of_equals(
    digits: RealSet, run: Run
) -> None:
    notes = ridge.fit_real(digits, params(), run).notes
    best = max(notes["validation_accuracy"])
    equals = [r for r, a in zip(notes["ridges"], notes["validation_accuracy"], strict=True) if a == best]
    assert notes["ridge"] == max(equals)


def test_validation_examples_are_not_fitted(digits: RealSet, run: Run) -> None:
    fitted, held_out = ridge.split(len(digits.train), 0.05, run.seed)
    assert len(held_out) == round(0.05 * len(digits.train))
    assert sorted([*fitted.tolist(), *held_out.tolist()]) == list(range(len(digits.train)))
    assert ridge.fit_real(digits, params(), run).notes["examples"] == len(fitted)


def test_the_grid_is_the_papers() -> None:
    values = ridge.Grid().values()
    assert len(values) == 24
    assert values[0] == pytest.approx(1e-6)
    assert values[-1] == pytest.approx(10**5.5)
    assert len(ridge.Grid(first=-3).values()) == 18


@pytest.mark.parametrize("value", [0.0, 1e-3, 10.0])
@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_solving_on_a_small_set_is_the_textbook_formula(value: float, shape: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(0)
    rows = torch.randn(*shape, generator=rng, dtype=torch.float64)
    targets = torch.randn(shape[0], 3, generator=rng, dtype=torch.float64)
    stacked = torch.cat([rows, value**0.5 * torch.eye(shape[1], dtype=torch.float64)])
    wanted = torch.linalg.pinv(stacked) @ torch.cat([targets, torch.zeros(shape[1], 3, dtype=torch.float64)])
    torch.testing.assert_close(ridge.solve(rows, targets, value), wanted)


def test_a_set_of_pixels_is_moved_into_the_models_space(digits: RealSet, run: Run) -> None:
    distilled = random_images.distill(digits, 2, random_images.Params(), run)
    embedding = ridge.embed(params(), digits, run.seed)
    wanted = embedding.space.forward(distilled.inputs.to(torch.float64)).flatten(1)
    torch.testing.assert_close(ridge.set_features(distilled, embedding), wanted)


def test_a_set_in_the_models_space_is_used_as_it_is(digits: RealSet, run: Run) -> None:
    embedding = ridge.embed(params(), digits, run.seed)
    inputs = torch.randn(10, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distilled = DistilledSet(inputs, torch.eye(10), digits.classes, space=embedding.space.settings())
    assert torch.equal(ridge.set_features(distilled, embedding), inputs.flatten(1))


def test_a_schedules_ridge_is_obeyed_and_otherwise_validation_chooses(digits: RealSet, run: Run) -> None:
    plain = random_images.distill(digits, 2, random_images.Params(), run)
    asked = DistilledSet(plain.inputs, plain.targets, plain.classes, schedule={"ridge": 7.0})
    assert ridge.fit_distilled(asked, digits, params(), run).notes["ridge"] == 7.0
    chosen = ridge.fit_distilled(plain, digits, params(), run).notes
    assert chosen["ridge_from"] == "validation data"
    assert chosen["ridge"] in ridge.Grid().values()


def test_memory_of_the_moments_does_not_grow_with_the_examples(
    digits: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = linalg.Moments.add
    monkeypatch.setattr(linalg.Moments, "add", lambda s, f, t: (seen.append(len(f)), original(s, f, t))[1])
    monkeypatch.setattr(ridge, "CHUNK", 100)
    ridge.fit_real(digits, params(), run)
    assert max(seen) <= 100
    assert sum(seen) == len(ridge.split(len(digits.train), 0.05, 0)[0])


def test_the_chunk_size_does_not_matter(digits: RealSet, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ridge.fit_real(digits, params("random_network"), run).weights["weights"]
    monkeypatch.setattr(ridge, "CHUNK", 64)
    chunked = ridge.fit_real(digits, params("random_network"), run).weights["weights"]
    # Features are float32, and a product's rounding depends on its shape.
    assert linalg.relative_error(chunked, whole) < 1e-4
