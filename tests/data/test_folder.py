import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillhouse.data import folder
from stillhouse.errors import UserError


def save(path, size=(6, 4), value=0, mode="RGB"):
    """A picture of one grey level, `size` = (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((size[1], size[0], 3), value, np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def fill(root, classes=("cat", "dog"), count=5, **options):
    for c, name in enumerate(classes):
        for i in range(count):
            save(root / name / f"{i}.png", value=100 * c + i, **options)
    return root


def read(root, **settings):
    return folder.read(folder.Params(path=str(root), **settings), Path("downloads"))


def test_sub_folders_are_classes_in_alphabetical_order(tmp_path):
    real = read(fill(tmp_path, ("zebra", "ant", "bee")))
    assert real.classes == ("ant", "bee", "zebra")
    assert real.shape == (3, 4, 6)
    assert real.train.inputs.dtype == torch.uint8
    # The level says which folder an image came from: zebra 0.., ant 100.., bee 200...
    assert [int(level) // 100 for level in real.train.inputs[:, 0, 0, 0]] == [1] * 4 + [2] * 4 + [0] * 4


def test_each_class_gives_its_share_for_testing_and_no_image_is_in_both(tmp_path):
    real = read(fill(tmp_path, count=10), test_fraction=0.3)
    assert torch.bincount(real.test.targets).tolist() == [3, 3]
    assert torch.bincount(real.train.targets).tolist() == [7, 7]
    levels = [int(level) for split in (real.train, real.test) for level in split.inputs[:, 0, 0, 0]]
    assert sorted(levels) == [*range(10), *range(100, 110)]


def test_the_division_is_the_same_every_time_and_place(tmp_path):
    one, two = (read(fill(tmp_path / place, count=10)) for place in ("here", "there"))
    assert (one.fingerprint, one.order) == (two.fingerprint, two.order)


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_both_splits_get_at_least_one_image_of_each_class(tmp_path, fraction):
    real = read(fill(tmp_path, count=3), test_fraction=fraction)
    assert set(real.train.targets.tolist()) == set(real.test.targets.tolist()) == {0, 1}


def test_train_and_test_folders_are_the_split(tmp_path):
    fill(tmp_path / "train", count=3)
    fill(tmp_path / "test", count=2)
    real = read(tmp_path, test_fraction=0.9)
    assert (len(real.train), len(real.test), real.classes) == (6, 4, ("cat", "dog"))


def test_train_may_be_a_class_when_there_is_no_test(tmp_path):
    assert read(fill(tmp_path, ("train", "plane"))).classes == ("plane", "train")


def test_grey_images_have_one_channel(tmp_path):
    real = read(fill(tmp_path), greyscale=True)
    assert real.shape == (1, 4, 6)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA"])
def test_every_8_bit_kind_of_image_becomes_colour(tmp_path, mode):
    assert read(fill(tmp_path, mode=mode)).shape == (3, 4, 6)


def test_size_scales_the_shorter_side_and_keeps_the_centre(tmp_path):
    for name in ("cat", "dog"):
        for i in range(2):
            wide = np.zeros((10, 30, 3), np.uint8)
            wide[:, 10:20] = 200  # the centre third
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(wide).save(tmp_path / name / f"{i}.png")
    real = read(tmp_path, size=5)
    assert real.shape == (3, 5, 5)
    assert (real.train.inputs[:, :, :, 1:4] > 190).all()


def test_images_of_several_sizes_are_made_equal_only_when_asked(tmp_path):
    save(fill(tmp_path) / "dog" / "big.png", size=(20, 20))
    with pytest.raises(UserError, match=r"several sizes \(.*: 6 x 4, .*big.png: 20 x 20\). Set 'size', such as 4,"):
        read(tmp_path)
    assert read(tmp_path, size=4).shape == (3, 4, 4)


def test_a_camera_turned_on_its_side_is_righted(tmp_path):
    fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        image = Image.open(path)
        exif = image.getexif()
        exif[0x0112] = 6  # orientation: turn by a quarter
        image.save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    assert read(tmp_path).shape == (3, 6, 4)


def test_other_files_are_passed_over_and_counted(tmp_path, caplog):
    fill(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("meow")
    (tmp_path / "cat" / ".DS_Store").write_text("")
    (tmp_path / ".git").mkdir()
    with caplog.at_level(logging.WARNING):
        assert read(tmp_path).classes == ("cat", "dog")
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"{tmp_path / 'cat'}: 1 files that are not images are passed over."]


def test_a_missing_folder_is_named():
    with pytest.raises(UserError, match="folder: no folder 'my-images'. Set 'path'"):
        read("my-images")


@pytest.mark.parametrize("inside", ["", "cat/notes.txt", "loose.png"])
def test_a_folder_without_images_in_sub_folders_is_named(tmp_path, inside):
    if inside:
        (tmp_path / inside).parent.mkdir(exist_ok=True)
        (tmp_path / inside).write_text("")
    with pytest.raises(UserError, match="no images in sub-folders. Put the images of each class in a sub-folder"):
        read(tmp_path)


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(UserError, match="only one class, 'cat'. Add a sub-folder"):
        read(fill(tmp_path, ("cat",)))


def test_an_empty_class_is_named(tmp_path):
    (fill(tmp_path) / "emu").mkdir()
    with pytest.raises(UserError, match=r"emu: no images \(.bmp .*\). Add some, or remove the folder"):
        read(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path):
    save(fill(tmp_path) / "emu" / "only.png")
    with pytest.raises(UserError, match="emu: one image cannot be split. Add images, or make train/ and test/"):
        read(tmp_path)


def test_a_class_in_only_one_split_is_named(tmp_path):
    fill(tmp_path / "train", ("cat", "dog", "emu"))
    fill(tmp_path / "test")
    with pytest.raises(UserError, match="class 'emu' is in only one of train/ and test/"):
        read(tmp_path)


def test_a_folder_beside_train_and_test_is_named(tmp_path):
    for name in ("train", "test"):
        fill(tmp_path / name)
    fill(tmp_path, ("emu",))
    with pytest.raises(UserError, match="'emu' stands beside train/ and test/. Move it"):
        read(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (fill(tmp_path) / "dog" / "broken.jpg").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="dog/broken.jpg: cannot be read as an image .* Mend or remove it"):
        read(tmp_path)


def test_an_image_cut_short_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = fill(tmp_path) / "dog" / "cut.png"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(UserError, match="dog/cut.png: cannot be read as an image"):
        read(tmp_path)


def test_an_image_of_16_bits_is_named(tmp_path):
    fill(tmp_path)
    Image.fromarray(np.full((4, 6), 40000, np.uint16)).save(tmp_path / "cat" / "deep.png")
    with pytest.raises(UserError, match=r"cat/deep.png: more than 8 bits a value \(mode I;16\). Convert it"):
        read(tmp_path)
