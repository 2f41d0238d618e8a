import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillhouse.errors import UserError
from stillhouse.exchange import image_folder
from stillhouse.sets import DistilledSet, RealSet


def test_an_export_has_a_folder_for_each_class_with_8_bit_images(tmp_path: Path, made: DistilledSet) -> None:
    image_folder.write(made, tmp_path / "out")
    listed = json.loads((tmp_path / "out" / "manifest.json").read_text())["images"]
    classes = [made.classes[label] for label in made.labels]
    assert [each["file"] for each in listed] == [f"{name}/{i:04d}.png" for i, name in enumerate(classes)]
    for each, picture in zip(listed, made.pictures(), strict=True):
        pixels = np.asarray(Image.open(tmp_path / "out" / each["file"]))
        np.testing.assert_array_equal(pixels, np.rint(255 * picture[0].clamp(0, 1).numpy()))


def test_the_manifest_says_what_clipping_cost(tmp_path: Path, made: DistilledSet) -> None:
    lost = image_folder.write(made, tmp_path / "out")
    pictures = made.pictures()
    outside = ((pictures < 0) | (pictures > 1)).sum().item()
    assert outside > 0
    assert lost["clipped"] == pytest.approx(outside / pictures.numel())
    assert lost["largest_error"] == pytest.approx(float((pictures.clamp(0, 1) - pictures).abs().max()), abs=1 / 255)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["lost"] == lost


def test_pixels_of_8_bits_lose_nothing(tmp_path: Path, toy: RealSet, made: DistilledSet) -> None:
    whole = dataclasses.replace(made, inputs=toy.train.inputs[:6] / 255, space={"kind": "pixels"})
    lost = image_folder.write(whole, tmp_path / "out")
    assert lost["clipped"] == 0
    assert lost["largest_error"] < 1e-7
    torch.testing.assert_close(image_folder.read(tmp_path / "out").images, toy.train.inputs[:6], rtol=0, atol=0)


def test_colours_stay_where_they_are(tmp_path: Path, made: DistilledSet) -> None:
    coloured = torch.arange(6 * 3 * 2 * 5, dtype=torch.float64).view(6, 3, 2, 5) / 255
    colour = dataclasses.replace(made, inputs=coloured, space={"kind": "pixels"})
    image_folder.write(colour, tmp_path / "out")
    found = image_folder.read(tmp_path / "out").images
    torch.testing.assert_close(found, (255 * coloured).round().to(torch.uint8), rtol=0, atol=0)


def test_what_is_no_image_of_a_class_is_refused(tmp_path: Path, made: DistilledSet) -> None:
    for shape in ((6, 16), (6, 2, 4, 4)):
        wrong = dataclasses.replace(made, inputs=torch.zeros(shape))
        with pytest.raises(UserError, match="toy/mine: examples of shape .* Export it as npz or tensors"):
            image_folder.write(wrong, tmp_path / "out")
    values = dataclasses.replace(made, classes=(), outputs=("a", "b", "c"))
    with pytest.raises(UserError, match="no images of classes"):
        image_folder.write(values, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path, made: DistilledSet) -> None:
    (tmp_path / "out").mkdir()
    image_folder.write(made, tmp_path / "out")
    with pytest.raises(UserError, match="out: exists and is not an empty folder"):
        image_folder.write(made, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "folder"), [("T-shirt/top", "T-shirt_top"), ("..", "_"), ("a b", "a b"), ("a\\b", "a_b")]
)
def test_a_class_name_becomes_one_folder(name: str, folder: str) -> None:
    assert image_folder.folder_name(name) == folder


def folder(path: Path, classes: str = "abc", size: tuple[int, int] = (4, 4)) -> Path:
    """Two grey images of each class, all pixels equal: 10 * class + image."""
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for image in range(2):
            Image.new("L", size, 10 * label + image).save(path / name / f"{image}.png")
    return path


def test_a_folder_without_a_manifest_gives_the_class_of_each_folder(tmp_path: Path) -> None:
    found = image_folder.read(folder(tmp_path / "in"))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.images.dtype == torch.uint8
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 10, 11, 20, 21]
    assert found.notes["folders"] == ["a", "b", "c"]


def test_its_digest_changes_with_a_pixel_or_a_name(tmp_path: Path) -> None:
    path = folder(tmp_path / "in")
    (before,) = image_folder.read(path).files.values()
    assert [*image_folder.read(path).files.values()] == [before]
    Image.new("L", (4, 4), 99).save(path / "a" / "0.png")
    (pixel,) = image_folder.read(path).files.values()
    (path / "a" / "0.png").rename(path / "a" / "2.png")
    (name,) = image_folder.read(path).files.values()
    assert len({before, pixel, name}) == 3


def test_what_is_wrong_with_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in: no such folder"):
        image_folder.read(tmp_path / "in")
    (tmp_path / "in" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="no images in sub-folders"):
        image_folder.read(tmp_path / "in")
    path = folder(tmp_path / "in" / "deep").rename(tmp_path / "whole")
    Image.new("RGB", (4, 4)).save(path / "b" / "1.png")
    with pytest.raises(UserError, match=r"1.png: pixels \(4, 4, 3\) .*, 0.png has \(4, 4, 1\)"):
        image_folder.read(path)
    Image.fromarray(np.full((4, 4), 7000, dtype=np.uint16)).save(path / "b" / "1.png")
    with pytest.raises(UserError, match="more than 8 bits a value"):
        image_folder.read(path)
    (path / "b" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="1.png: cannot be read as an image"):
        image_folder.read(path)


def test_a_damaged_export_is_refused(tmp_path: Path, made: DistilledSet) -> None:
    image_folder.write(made, tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    whole = json.loads(manifest.read_text())
    for change, said in (
        ({"images": [{"file": "a.png"}]}, "its list of images is damaged"),
        ({"images": []}, "names no image"),
        ({"images": [{"file": "../a.png", "target": [1, 0, 0]}]}, "outside the folder"),
        ({"images": [{"file": "ant/none.png", "target": [1, 0, 0]}]}, "none.png: no such file"),
    ):
        manifest.write_text(json.dumps({**whole, **change}))
        with pytest.raises(UserError, match=said):
            image_folder.read(tmp_path / "out")
