import math
from typing import Any

import pytest
import torch

from stillhouse import settings
from stillhouse.augmentation import Augmentation, Transformation, apply, augment, draw
from stillhouse.errors import UserError

EVERYTHING = Augmentation(flip=True, shift=2, rotate=30, zoom=1.3, cutout=3)
NEARLY = [
    Augmentation(flip=True),
    Augmentation(shift=2),
    Augmentation(rotate=30),
    Augmentation(zoom=1.3),
    Augmentation(cutout=3),
    EVERYTHING,
]


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turned(degrees: float, count: int = 3, **more: Any) -> Transformation:
    return Transformation(angle=torch.full((count,), math.radians(degrees), dtype=torch.float64), **more)


def test_with_everything_off_the_same_tensor_comes_back_and_nothing_is_drawn() -> None:
    given, generator = images(3, 2, 5, 6), chance()
    assert augment(given, Augmentation(), generator) is given
    assert torch.equal(generator.get_state(), chance().get_state())


@pytest.mark.parametrize("augmentation", NEARLY)
@pytest.mark.parametrize("fill", ["edge", (0.5,)])
def test_whatever_is_on_changes_images_and_keeps_shape_type_and_the_given_tensor(
    augmentation: Augmentation, fill: Any
) -> None:
    augmentation = Augmentation(**{**augmentation.__dict__, "fill": fill})
    for dtype in (torch.float32, torch.float64):
        given = images(9, 3, 6, 5).to(dtype)
        kept = given.clone()
        found = augment(given, augmentation, chance())
        assert (found.shape, found.dtype) == (given.shape, dtype)
        assert not torch.equal(found, given)
        assert torch.equal(given, kept)


@pytest.mark.parametrize("augmentation", NEARLY)
def test_the_generator_alone_decides(augmentation: Augmentation) -> None:
    given, state = images(9, 1, 6, 6), torch.random.get_rng_state()
    once = augment(given, augmentation, chance(4))
    assert torch.equal(augment(given, augmentation, chance(4)), once)
    assert not torch.equal(augment(given, augmentation, chance(5)), once)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_flip_changes_left_and_right_and_twice_gives_the_image_back() -> None:
    given = images(4, 2, 3, 5)
    flip = Transformation(flip=torch.tensor([True, False, True, False]))
    once = apply(given, flip)
    assert torch.equal(once[0], given[0].flip(-1))
    assert torch.equal(once[1], given[1])
    assert torch.equal(apply(once, flip), given)


def test_half_of_the_images_are_flipped_each_by_its_own_draw() -> None:
    flips = draw(4000, Augmentation(flip=True), chance()).flip
    assert flips is not None
    assert float(flips.double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))
    together = float((flips[1:] & flips[:-1]).double().mean())
    assert together == pytest.approx(0.25, abs=4 * 0.5 / math.sqrt(4000))


def test_shifts_are_all_whole_pixels_within_the_bound_equally_often() -> None:
    shift = draw(5000, Augmentation(shift=2), chance()).shift
    assert shift is not None
    counts = torch.zeros(5, 5).index_put_(((shift[:, 0] + 2), (shift[:, 1] + 2)), torch.ones(5000), accumulate=True)
    # 25 places, 24 degrees of freedom; chi-squared above 60 has a chance of 6e-5.
    assert float(((counts - 200) ** 2 / 200).sum()) < 60


def test_angles_are_uniform_and_zooms_are_uniform_in_the_logarithm() -> None:
    drawn = draw(4000, Augmentation(rotate=20, zoom=1.5), chance())
    assert drawn.angle is not None
    assert drawn.zoom is not None
    for values, bound in ((drawn.angle, math.radians(20)), (drawn.zoom.log(), math.log(1.5))):
        assert float(values.abs().max()) <= bound
        level = ((values / bound + 1) / 2).sort().values
        # Kolmogorov-Smirnov: above 2 / sqrt(n) has a chance of 7e-4.
        assert float((level - torch.linspace(0, 1, 4000)).abs().max()) < 2 / math.sqrt(4000)


def test_a_shift_by_hand_repeats_the_edge() -> None:
    given = torch.arange(9.0).view(1, 1, 3, 3)
    found = apply(given, Transformation(shift=torch.tensor([[1, -1]])))
    assert found[0, 0].tolist() == [[1, 2, 2], [1, 2, 2], [4, 5, 5]]


def test_a_shift_by_hand_with_a_value_for_every_channel() -> None:
    given = torch.arange(8.0).view(1, 2, 2, 2)
    found = apply(given, Transformation(shift=torch.tensor([[0, 1]]), fill=(-1.0, 9.0)))
    assert found[0].tolist() == [[[-1, 0], [-1, 2]], [[9, 4], [9, 6]]]


def test_a_flip_comes_before_the_shift() -> None:
    given, shift = images(1, 1, 4, 4), torch.tensor([[0, 1]])
    both = Transformation(flip=torch.tensor([True]), shift=shift)
    assert torch.equal(apply(given, both), apply(given.flip(-1), Transformation(shift=shift)))


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("fill", ["edge", (7.0,)])
def test_a_quarter_turn_of_a_square_image_is_counter_clockwise_and_exact(quarters: int, fill: Any) -> None:
    for side in (5, 6):
        given = images(3, 2, side, side)
        found = apply(given, turned(90 * quarters, fill=fill))
        torch.testing.assert_close(found, torch.rot90(given, quarters, (2, 3)), rtol=0, atol=1e-12)


def test_half_a_turn_of_an_image_that_is_not_square_is_both_flips() -> None:
    given = images(3, 1, 4, 7)
    torch.testing.assert_close(apply(given, turned(180)), given.flip((2, 3)), rtol=0, atol=1e-12)


def test_a_rotation_keeps_lengths_in_an_image_that_is_not_square() -> None:
    """A bright pixel 3 to the right of the centre goes 3 up, in pixels, not in parts of a side."""
    given = torch.zeros(1, 1, 9, 15, dtype=torch.float64)
    given[0, 0, 4, 7 + 3] = 1
    found = apply(given, turned(90, 1, fill=(0.0,)))
    assert float(found[0, 0, 4 - 3, 7]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("zoom", [1.7, 0.6])
def test_a_zoom_multiplies_distances_from_the_centre(zoom: float) -> None:
    """A plane is what bilinear interpolation gives back exactly."""
    across = torch.arange(21, dtype=torch.float64) - 10
    given = (2 * across[:, None] + 3 * across).view(1, 1, 21, 21)
    found = apply(given, Transformation(zoom=torch.tensor([zoom], dtype=torch.float64)))
    inner = slice(5, 16)
    torch.testing.assert_close(found[..., inner, inner], given[..., inner, inner] / zoom)


@pytest.mark.parametrize("fill", ["edge", (-2.0, 3.0)])
def test_the_interpolation_flips_and_shifts_as_moving_pixels_does(fill: Any) -> None:
    given = images(6, 2, 5, 7)
    drawn = draw(6, Augmentation(flip=True, shift=2, fill=fill), chance(2))
    moves = {"flip": drawn.flip, "shift": drawn.shift, "fill": fill}
    torch.testing.assert_close(apply(given, turned(0, 6, **moves)), apply(given, drawn), rtol=0, atol=1e-12)


def test_the_order_is_flip_rotation_zoom_shift() -> None:
    given = images(1, 1, 9, 9)
    flip, shift = torch.tensor([True]), torch.tensor([[1, 2]])
    zoom = torch.tensor([1.0], dtype=torch.float64)
    step = apply(apply(apply(given, Transformation(flip=flip)), turned(90, 1)), Transformation(shift=shift))
    torch.testing.assert_close(apply(given, turned(90, 1, flip=flip, shift=shift, zoom=zoom)), step, rtol=0, atol=1e-12)


def test_a_cutout_by_hand_sticks_out_and_is_the_mean_or_the_value() -> None:
    given = images(1, 2, 4, 4)
    corner = torch.tensor([[0.0, 0.99]])  # row 0, column 3
    found = apply(given, Transformation(centre=corner, cutout=3, fill=(5.0,)))
    wanted = given.clone()
    wanted[:, :, 0:2, 2:4] = 5
    assert torch.equal(found, wanted)
    blank = apply(given, Transformation(centre=corner, cutout=3))[0, :, 0, 3]
    torch.testing.assert_close(blank, given[0].mean((1, 2)))


@pytest.mark.parametrize("fill", ["edge", (0.3,)])
@pytest.mark.parametrize("augmentation", [Augmentation(flip=True, shift=1, cutout=2), EVERYTHING])
def test_gradients_with_respect_to_the_images_are_those_of_finite_differences(
    augmentation: Augmentation, fill: Any
) -> None:
    drawn = draw(2, Augmentation(**{**augmentation.__dict__, "fill": fill}), chance(1))
    given = images(2, 1, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda inputs: apply(inputs, drawn), (given,))


def test_one_draw_serves_several_batches_and_a_draw_of_one_serves_all_images() -> None:
    one, other = images(6, 1, 5, 5), images(6, 1, 5, 5) + 1
    drawn = draw(6, EVERYTHING, chance())
    torch.testing.assert_close(apply(other, drawn) - apply(one, drawn), torch.ones_like(one))
    single = draw(1, EVERYTHING, chance())
    torch.testing.assert_close(apply(one, single)[3:4], apply(one[3:4], single))


def test_mistakes_are_one_line_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"augmentation.fill: 2 values for 3 channels"):
        augment(images(1, 3, 4, 4), Augmentation(shift=1, fill=(0.0, 1.0)), chance())
    with pytest.raises(UserError, match="needs images"):
        augment(images(2, 16), Augmentation(flip=True), chance())
    with pytest.raises(UserError, match=r"here.zoom: .*greater than or equal to 1"):
        settings.parse(Augmentation, {"zoom": 0.5}, "here")


def test_settings_come_back_from_what_is_written() -> None:
    for given in ({"flip": True, "shift": 2}, {"rotate": 10, "fill": [0.0, 1.0]}):
        parsed = settings.parse(Augmentation, given, "here")
        assert settings.parse(Augmentation, settings.dump(parsed), "here") == parsed
