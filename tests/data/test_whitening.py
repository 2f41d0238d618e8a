import pytest
import torch

from stillhouse import spaces
from stillhouse.data import whitening
from stillhouse.errors import NumericalError, UserError
from stillhouse.sets import DistilledSet, RealSet, Split, pixels


@pytest.fixture
def photos() -> RealSet:
    """300 colour images of 4 x 4 pixels whose neighbours resemble one another."""
    rng = torch.Generator().manual_seed(0)
    mixing = torch.randn(48, 48, generator=rng) + 3 * torch.eye(48)
    values = (torch.randn(300, 48, generator=rng) @ mixing * 12 + 128).clamp(0, 255).to(torch.uint8)
    train = Split(values.view(300, 3, 4, 4), torch.arange(300) % 2)
    test = Split(train.inputs[:10] // 2, train.targets[:10])
    return RealSet("photos", train, test, ("a", "b"), "f", "o")


def whole(real: RealSet) -> torch.Tensor:
    return pixels(real.train.inputs).to(torch.float64)


def test_standardised_training_images_have_mean_zero_and_deviation_one_in_every_channel(photos: RealSet) -> None:
    found = whitening.fit(whitening.Standardised(), photos).forward(whole(photos))
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3), unbiased=False), torch.ones(3, dtype=torch.float64))


def test_given_constants_are_used_instead_of_fitted_ones(photos: RealSet) -> None:
    space = whitening.fit(whitening.Standardised(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)), photos)
    wanted = (whole(photos)[:, 2] - 0.3) / 0.3
    torch.testing.assert_close(space.forward(whole(photos))[:, 2], wanted)


def test_constants_for_another_number_of_channels_are_refused(photos: RealSet) -> None:
    with pytest.raises(UserError, match="mean has 1 values, photos has 3 channels"):
        whitening.fit(whitening.Standardised(mean=(0.5,), std=(0.1,)), photos)


def test_a_constant_channel_is_refused(photos: RealSet) -> None:
    flat = RealSet(
        "flat", Split(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), torch.zeros(5)), photos.test, ("a",), "", ""
    )
    with pytest.raises(NumericalError, match=r"channel 1 of 1 is constant \(0 in all training examples\); it cannot"):
        whitening.fit(whitening.Standardised(), flat)


def rows(values: list[list[float]]) -> RealSet:
    """A table of these rows, with one target each."""
    inputs = torch.tensor(values, dtype=torch.float32)
    split = Split(inputs, torch.arange(len(inputs), dtype=torch.float64)[:, None])
    return RealSet("rows", split, split, (), "", "", ("y",))


def test_each_feature_of_a_table_is_standardised_by_itself() -> None:
    table = rows([[0, 10, -5], [2, 10, 5], [4, 40, 0]])
    space = whitening.fit(whitening.Standardised(), table)
    found = space.forward(table.train.inputs.double())
    assert space.settings()["mean"] == [2, 20, 0]
    torch.testing.assert_close(found.square().mean(0), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(found[:, 0], torch.tensor([-1, 0, 1], dtype=torch.float64) * 1.5**0.5)
    torch.testing.assert_close(space.inverse(found), table.train.inputs.double())


def test_a_feature_that_is_large_beside_its_deviation_keeps_its_digits() -> None:
    """1e8 + 8 j: the difference of the mean square and the squared mean, 1e16, is off by a percent here."""
    std = whitening.channel_moments(rows([[1e8 + 8 * (i % 7)] for i in range(7000)]).train)[1]
    torch.testing.assert_close(std, torch.tensor([16], dtype=torch.float64))  # of 8 j, j = 0 ... 6: 8 * 2


def test_constants_for_another_number_of_features_are_refused() -> None:
    with pytest.raises(UserError, match="std has 3 values, rows has 2 features. Give one each"):
        whitening.fit(whitening.Standardised(mean=(0, 0), std=(1, 1, 1)), rows([[1, 2], [3, 4]]))


@pytest.mark.parametrize("value", [0.0, 0.1, 1e7 / 3])
def test_a_constant_feature_is_named_by_its_number(value: float) -> None:
    table = rows([[i, value, -i] for i in range(1000)])
    says = rf"space: feature 2 of 3 is constant \({value:g} in all training examples\)".replace("+", r"\+")
    for params in (whitening.Standardised(), whitening.Zca()):
        with pytest.raises(NumericalError, match=says):
            whitening.fit(params, table)


def test_zca_whitens_the_features_of_a_table() -> None:
    mixed = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 0], [0, 1, 3], [0, 0, 1]]
    )
    flat = whitening.fit(whitening.Zca(0.0, per_image=False), rows(mixed.tolist())).forward(mixed.double())
    centred = flat - flat.mean(0)
    torch.testing.assert_close(centred.T @ centred / 50, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_plain_zca_makes_the_covariance_the_identity(photos: RealSet) -> None:
    flat = whitening.fit(whitening.Zca(regularisation=0.0, per_image=False), photos).forward(whole(photos)).flatten(1)
    torch.testing.assert_close(flat.T @ flat / len(flat), torch.eye(48, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize("per_image", [True, False])
def test_regularised_zca_is_the_symmetric_root_of_the_formula(photos: RealSet, per_image: bool) -> None:
    """U (S + 0.1 tr(S)/d I)^-1/2 U^T, by an independent route: the inverse of the matrix square root."""
    flat = whitening.fit(whitening.Standardised(), photos).forward(whole(photos)).flatten(1)
    if per_image:
        flat = flat - flat.mean(1, keepdim=True)
        flat = flat / flat.norm(dim=1, keepdim=True)
    covariance = flat.T @ flat / len(flat)
    covariance = covariance + 0.1 * covariance.trace() / 48 * torch.eye(48, dtype=torch.float64)
    found = whitening.fit(whitening.Zca(0.1, per_image), photos).forward(whole(photos)).flatten(1)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    torch.testing.assert_close(found, flat @ root, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(root @ covariance @ root, torch.eye(48, dtype=torch.float64), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    "params", [whitening.Pixels(), whitening.Standardised(), whitening.Zca(0.1, False), whitening.Zca(0.0, False)]
)
def test_a_space_is_undone_exactly(photos: RealSet, params: object) -> None:
    space = whitening.fit(params, photos)
    torch.testing.assert_close(space.inverse(space.forward(whole(photos))), whole(photos), atol=1e-9, rtol=0)


def test_per_image_normalisation_is_undone_up_to_each_images_own_mean_and_norm(photos: RealSet) -> None:
    space = whitening.fit(whitening.Zca(0.1, per_image=True), photos)
    standard = whitening.fit(whitening.Standardised(), photos)
    back = standard.forward(space.inverse(space.forward(whole(photos)))).flatten(1)
    images = standard.forward(whole(photos)).flatten(1)
    images = images - images.mean(1, keepdim=True)
    alike = torch.nn.functional.cosine_similarity(back, images)
    torch.testing.assert_close(alike, torch.ones(300, dtype=torch.float64))


def test_a_space_never_sees_the_test_images(photos: RealSet) -> None:
    other = RealSet("photos", photos.train, Split(photos.test.inputs * 0, photos.test.targets), ("a", "b"), "f", "o")
    for params in (whitening.Standardised(), whitening.Zca()):
        assert spaces.same(whitening.fit(params, photos).settings(), whitening.fit(params, other).settings())


def test_plain_zca_of_singular_images_is_refused_with_the_eigenvalues(digits: RealSet) -> None:
    with pytest.raises(NumericalError, match="singular .* set regularisation above 0"):
        whitening.fit(whitening.Zca(regularisation=0.0, per_image=False), digits)


@pytest.mark.parametrize("params", [whitening.Standardised(), whitening.Zca()])
def test_a_distilled_sets_file_holds_all_it_takes_to_undo_its_space(
    photos: RealSet, params: object, tmp_path: object
) -> None:
    space = whitening.fit(params, photos)
    inputs = space.forward(whole(photos)[:2])
    DistilledSet(inputs, torch.eye(2), ("a", "b"), space=space.settings()).save(f"{tmp_path}/set.safetensors")
    loaded = DistilledSet.load(f"{tmp_path}/set.safetensors")
    torch.testing.assert_close(loaded.pictures(), space.inverse(inputs).float())


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"spaces\.x: unknown space 'standardized'\. Did you mean 'standardised'\?"):
        whitening.parse("standardized", "spaces.x")
