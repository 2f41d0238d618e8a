"""Siamese augmentation: what each operation does, one change for both sides, and chance that is passed in."""

import dataclasses
import math

import pytest
import torch

from stillhouse import settings, siamese
from stillhouse.errors import UserError
from stillhouse.siamese import Drawn, Operation, Siamese

NOTHING = Siamese(brightness=0, saturation=0, contrast=0, crop=0, cutout=0, flip=0, scale=1, rotate=0)

every_operation = pytest.mark.parametrize("operation", siamese.ALL)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def drawn(operation: Operation, *chances: float, strengths: Siamese | None = None) -> Drawn:
    """One change by its own chances, given in [0, 1); 1/2 for those not given."""
    numbers = [*chances, *[0.5] * (3 - len(chances))]
    return Drawn(operation, torch.tensor([numbers], dtype=torch.float64), strengths or Siamese())


def only(operation: Operation) -> Siamese:
    return Siamese(operations=(operation,))


def test_without_operations_the_same_tensor_comes_back_and_nothing_is_drawn() -> None:
    given, chance = images(3, 1, 5, 5), rng()
    assert siamese.apply(given, siamese.draw(Siamese(), chance)) is given
    assert torch.equal(chance.get_state(), rng().get_state())


@every_operation
def test_one_change_is_the_same_for_real_and_for_distilled_images(operation: Operation) -> None:
    real, own = images(20, 3, 8, 8), images(2, 3, 8, 8, seed=2)
    change = siamese.draw(only(operation), rng(3))
    apart = torch.cat([siamese.apply(real, change), siamese.apply(own, change)])
    torch.testing.assert_close(siamese.apply(torch.cat([real, own]), change), apart, rtol=0, atol=1e-12)
    same = siamese.apply(real[:1].expand(5, -1, -1, -1), change)
    assert torch.equal(same, same[:1].expand_as(same))


@every_operation
def test_a_draw_for_every_image_changes_each_by_its_own_numbers(operation: Operation) -> None:
    given = images(1, 3, 8, 8).repeat(9, 1, 1, 1)
    change = siamese.draw(only(operation), rng(), count=9)
    found = siamese.apply(given, change)
    assert len({tuple(each.flatten().tolist()) for each in found}) > 1
    fourth = dataclasses.replace(change, chances=change.chances[3:4])
    torch.testing.assert_close(found[3:4], siamese.apply(given[:1], fourth), rtol=0, atol=1e-12)


@every_operation
def test_without_strength_nothing_changes(operation: Operation) -> None:
    given = images(6, 3, 8, 7)
    change = siamese.draw(dataclasses.replace(NOTHING, operations=(operation,)), rng(), count=6)
    torch.testing.assert_close(siamese.apply(given, change), given, rtol=0, atol=1e-12)


@every_operation
@pytest.mark.parametrize("channels", [1, 3])
def test_derivatives_are_those_of_finite_differences(operation: Operation, channels: int) -> None:
    change = siamese.draw(only(operation), rng(4))
    given = images(2, channels, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda inputs: siamese.apply(inputs, change), (given,))


@every_operation
def test_the_generator_alone_decides_and_shape_and_type_are_kept(operation: Operation) -> None:
    given, before = images(9, 3, 8, 6).to(torch.float32), torch.random.get_rng_state()
    kept = given.clone()
    once, again, other = (siamese.apply(given, siamese.draw(only(operation), rng(s), count=9)) for s in (0, 0, 1))
    assert (once.shape, once.dtype) == (given.shape, torch.float32)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(given, kept)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_each_operation_is_drawn_equally_often() -> None:
    chance, strengths = rng(), Siamese(operations=siamese.ALL)
    counts = dict.fromkeys(siamese.ALL, 0)
    for _ in range(1200):
        counts[siamese.draw(strengths, chance).operation or "color"] += 1
    # Chi-squared with 5 degrees of freedom: above 25 has a chance of 1.4e-4.
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 25


def test_colour_by_hand() -> None:
    """Brightness +0.25, saturation 1 + 0.5, contrast 1 - 0.25: chances 3/4, 3/4, 1/4."""
    given = images(2, 3, 4, 4)
    brighter = given + 0.25
    grey = (brighter[:, 0] + brighter[:, 1] + brighter[:, 2])[:, None] / 3
    vivid = grey + 1.5 * (brighter - grey)
    wanted = torch.stack([each.mean() + 0.75 * (each - each.mean()) for each in vivid])
    torch.testing.assert_close(siamese.apply(given, drawn("color", 0.75, 0.75, 0.25)), wanted)


def test_one_channel_has_no_saturation() -> None:
    given = images(2, 1, 4, 4)
    torch.testing.assert_close(siamese.apply(given, drawn("color", 0.5, 0.0)), given)


def test_a_crop_by_hand_moves_whole_pixels_and_fills_with_zeros() -> None:
    given = images(1, 2, 16, 8)  # up to 2 down and 1 right
    up = siamese.apply(given, drawn("crop", 0.0, 0.999))
    wanted = torch.zeros_like(given)
    wanted[:, :, :14, 1:] = given[:, :, 2:, :7]
    assert torch.equal(up, wanted)
    assert torch.equal(siamese.apply(given, drawn("crop")), given)


def test_a_cutout_is_half_a_side_and_all_its_places_are_as_likely() -> None:
    given = torch.ones(1, 1, 8, 8)
    seen = {}
    for place in range(9):  # an even side has one more
        found = siamese.apply(given, drawn("cutout", (place + 0.5) / 9, 0.5))[0, 0]
        seen[place] = torch.nonzero(found[:, 3] == 0).flatten().tolist()
        assert bool((found[:, :2] == 1).all())
        assert bool((found[:, 6:] == 1).all())
    assert [seen[0], seen[1], seen[4], seen[8]] == [[0, 1], [0, 1, 2], [2, 3, 4, 5], [6, 7]]


def test_a_flip_happens_below_its_probability() -> None:
    given = images(2, 1, 3, 5)
    assert torch.equal(siamese.apply(given, drawn("flip", 0.49)), given.flip(3))
    assert torch.equal(siamese.apply(given, drawn("flip", 0.5)), given)


def test_a_scale_has_a_factor_for_each_side() -> None:
    """A plane is what bilinear interpolation gives back exactly."""
    across = torch.arange(21, dtype=torch.float64) - 10
    given = (2 * across[:, None] + 3 * across).view(1, 1, 21, 21)
    strengths = Siamese(scale=2.0)
    found = siamese.apply(given, drawn("scale", 0.0, 1 / 3, strengths=strengths))  # rightwards by 1/2, downwards by 1
    torch.testing.assert_close(found, (2 * across[:, None] + 1.5 * across).view(1, 1, 21, 21))
    small = siamese.apply(given, drawn("scale", 1.0, 1 / 3, strengths=strengths))[0, 0]
    assert bool((small[:, :5] == 0).all())  # from outside
    torch.testing.assert_close(small[:, 6:15], 2 * across[:, None] + 6 * across[6:15])


def test_a_rotation_is_within_its_degrees() -> None:
    given = images(1, 1, 9, 9)
    quarter = siamese.apply(given, drawn("rotate", 1.0, strengths=Siamese(rotate=90)))
    torch.testing.assert_close(quarter, torch.rot90(given, 1, (2, 3)), rtol=0, atol=1e-12)
    bright = torch.zeros(1, 1, 61, 61, dtype=torch.float64)
    bright[0, 0, 30, 55] = 1  # 25 to the right of the centre
    found = siamese.apply(bright, drawn("rotate", 1.0))[0, 0]
    across = torch.arange(61) - 30
    up, right = (float((found.sum(axis) * across).sum() / found.sum()) for axis in (1, 0))
    assert math.degrees(math.atan2(-up, right)) == pytest.approx(15, abs=0.5)


def test_mistakes_are_one_line_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match="needs images"):
        siamese.apply(torch.zeros(2, 7), drawn("color"))
    with pytest.raises(UserError, match=r"here.operations\[1\].*'color', 'crop'"):
        settings.parse(Siamese, {"operations": ["flip", "zoom"]}, "here")
    with pytest.raises(UserError, match=r"here.scale: .*greater than or equal to 1"):
        settings.parse(Siamese, {"scale": 0.5}, "here")
