import sklearn.datasets
import torch

from stillhouse.data import digits


def test_every_fifth_example_is_for_testing(tmp_path):
    real = digits.read(digits.Params(), tmp_path)
    labels = torch.from_numpy(sklearn.datasets.load_digits().target)
    assert (len(real.train), len(real.test)) == (1437, 360)
    assert torch.equal(real.test.targets, labels[::5])
    assert real.train.targets[:4].tolist() == [1, 2, 3, 4]


def test_grey_levels_zero_to_sixteen_fill_a_byte(tmp_path):
    real = digits.read(digits.Params(), tmp_path)
    assert real.shape == digits.SHAPE
    assert set(real.train.inputs.unique().tolist()) == {round(v * 255 / 16) for v in range(17)}


def test_it_needs_no_file_and_has_the_known_fingerprint(tmp_path):
    real = digits.read(digits.Params(), tmp_path / "nothing")
    assert (real.fingerprint, real.order) == (digits.FINGERPRINT, digits.ORDER)
    assert not (tmp_path / "nothing").exists()
