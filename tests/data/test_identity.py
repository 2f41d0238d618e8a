import logging
from pathlib import Path

import pytest
import torch

from stillhouse.data import identity
from stillhouse.errors import UserError
from stillhouse.sets import Split

HERE = Path("downloads/toy")
CLASSES = ("a", "b")


def split(n, seed, dtype=torch.uint8):
    pixels = torch.randint(0, 256, (n, 1, 2, 2), generator=torch.Generator().manual_seed(seed))
    return Split(pixels.to(dtype), torch.arange(n) % 2)


def shuffled(s, seed=0):
    order = torch.randperm(len(s), generator=torch.Generator().manual_seed(seed))
    return Split(s.inputs[order], s.targets[order])


TRAIN, TEST = split(6, 1), split(4, 2)
COUNTS = ((3, 3), (2, 2))


def toy(train=TRAIN, test=TEST):
    return identity.identified("toy", train, test, CLASSES)


def test_the_order_of_the_examples_changes_the_order_hash_and_not_the_fingerprint():
    moved = toy(train=shuffled(TRAIN))
    assert moved.fingerprint == toy().fingerprint
    assert moved.order != toy().order


def test_equal_data_have_equal_hashes_however_they_lie_in_memory():
    strided = Split(TRAIN.inputs.repeat_interleave(2, 0)[::2], TRAIN.targets.repeat_interleave(2)[::2])
    assert (toy(strided).fingerprint, toy(strided).order) == (toy().fingerprint, toy().order)


def test_every_pixel_label_type_shape_and_split_counts():
    pixel, label = TRAIN.inputs.clone(), TRAIN.targets.clone()
    pixel[3, 0, 1, 1] ^= 1
    label[0] = 1 - label[0]
    others = [
        toy(Split(pixel, TRAIN.targets)),
        toy(Split(TRAIN.inputs, label)),
        toy(Split(TRAIN.inputs.float(), TRAIN.targets)),
        toy(
            Split(TRAIN.inputs.reshape(-1, 1, 4, 1), TRAIN.targets),
            Split(TEST.inputs.reshape(-1, 1, 4, 1), TEST.targets),
        ),
        toy(TEST, TRAIN),
        toy(Split(TRAIN.inputs[:5], TRAIN.targets[:5])),
    ]
    assert len({toy().fingerprint, *(other.fingerprint for other in others)}) == 7


def test_labels_cannot_change_places_between_images():
    swapped = TRAIN.targets.clone()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert toy(Split(TRAIN.inputs, swapped)).fingerprint != toy().fingerprint


def test_the_right_data_pass_silently(caplog):
    real = toy()
    assert identity.check(real, COUNTS, real.fingerprint, real.order, HERE) is real
    assert not caplog.records


def test_a_reordered_copy_passes_with_one_warning_and_its_own_order(caplog):
    real = toy(train=shuffled(TRAIN))
    with caplog.at_level(logging.WARNING):
        assert identity.check(real, COUNTS, toy().fingerprint, toy().order, HERE) is real
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "another order" in caplog.text
    assert real.order[:12] in caplog.text


def test_other_pixels_are_refused():
    with pytest.raises(UserError, match="toy: images or labels in downloads/toy differ .* Delete the files or replace"):
        identity.check(toy(split(6, 9)), COUNTS, toy().fingerprint, None, HERE)


def test_other_class_counts_are_refused_with_the_numbers():
    with pytest.raises(UserError, match="toy: 3 training examples of class 'b' in downloads/toy, officially 4"):
        identity.check(toy(), ((3, 4), (2, 2)), None, None, HERE)
    with pytest.raises(UserError, match="toy: 2 test examples of class 'a'"):
        identity.check(toy(), ((3, 3), (9, 2)), None, None, HERE)


def test_a_label_outside_the_classes_is_refused():
    real = toy(test=Split(TEST.inputs, TEST.targets + 1))
    with pytest.raises(UserError, match="toy: test label 2 in downloads/toy, of 2 classes"):
        identity.check(real, COUNTS, None, None, HERE)


def values(n, seed, outputs=2):
    """Rows of three features with `outputs` real values each."""
    rng = torch.Generator().manual_seed(seed)
    return Split(torch.randn(n, 3, generator=rng), torch.randn(n, outputs, generator=rng, dtype=torch.float64))


ROWS, OTHERS = values(6, 1), values(4, 2)


def table(train=ROWS, test=OTHERS):
    return identity.identified("table", train, test, (), ("y", "z"))


def test_a_regression_set_is_identified_with_its_outputs_and_in_any_order():
    assert (table().regression, table().outputs) == (True, ("y", "z"))
    assert table(shuffled(ROWS)).fingerprint == table().fingerprint
    assert table(shuffled(ROWS)).order != table().order


def test_every_digit_of_every_value_counts():
    last, swapped = ROWS.targets.clone(), ROWS.targets.clone()
    last[5, 1] = torch.nextafter(last[5, 1], torch.tensor(9.0, dtype=torch.float64))
    swapped[[0, 1]] = swapped[[1, 0]]
    others = [
        Split(ROWS.inputs, last),
        Split(ROWS.inputs, swapped),
        Split(ROWS.inputs, ROWS.targets.flip(1)),
        Split(ROWS.inputs, ROWS.targets[:, :1].contiguous()),
        Split(ROWS.inputs, ROWS.targets[:, :1]),
    ]
    found = [table().fingerprint, *(table(other).fingerprint for other in others)]
    assert len(set(found)) == 5
    assert found[4] == found[5]  # however they lie in memory


def test_values_are_not_taken_for_labels():
    labels = torch.tensor([3, 4, 5])
    inputs = torch.zeros(3, 2)
    one = identity.hashes({"all": Split(inputs, labels)})
    other = identity.hashes({"all": Split(inputs, labels.view(torch.float64).view(-1, 1))})  # the same bytes
    assert not set(one) & set(other)


def test_a_table_is_checked_as_a_whole_and_in_its_order():
    fingerprint, order = identity.hashes({"all": ROWS})
    identity.check_table("t", ROWS, 6, fingerprint, order, HERE)
    with pytest.raises(UserError, match="t: 6 rows in downloads/toy, officially 7. Delete the files"):
        identity.check_table("t", ROWS, 7, fingerprint, order, HERE)
    with pytest.raises(UserError, match="t: in downloads/toy values differ from the official ones .values .* Delete"):
        identity.check_table("t", values(6, 9), 6, fingerprint, order, HERE)
    with pytest.raises(UserError, match="t: in downloads/toy rows are in another order .order .* Delete"):
        identity.check_table("t", shuffled(ROWS), 6, fingerprint, order, HERE)


def test_values_that_are_no_numbers_are_refused():
    targets = OTHERS.targets.clone()
    targets[1, 0] = float("nan")
    with pytest.raises(UserError, match="table: 1 of 8 values are NaN or infinite"):
        table(test=Split(OTHERS.inputs, targets))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused_with_their_number(value):
    inputs = split(6, 1, torch.float32).inputs
    inputs[2, 0, 0, :] = value
    with pytest.raises(UserError, match="toy: 2 of 24 values are NaN or infinite"):
        toy(train=Split(inputs, TRAIN.targets))
