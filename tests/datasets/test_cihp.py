"""CIHP's label maps become exact masks; where the result is kept, and what is refused."""

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from program import main_in

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.datasets import cihp
from bmp.datasets.cihp import CIHP, convert, main
from bmp.errors import UserError
from bmp.evaluation.rounds import labelled_kinds
from bmp.label_sets import CIHP_PARTS
from bmp.ops.masks import from_rle

HUMANS = np.array([[0, 1, 1, 0], [0, 1, 2, 2], [5, 0, 2, 0]], dtype=np.uint8)
PARTS = np.array([[0, 2, 13, 0], [0, 2, 0, 19], [9, 4, 5, 0]], dtype=np.uint8)


def write_image(folder, name, humans, parts, mode=None, names=("Human_ids", "Category_ids")):
    """Put down an image of the data set; ``mode`` is how its label maps are stored."""
    for kind in ("Images", *names):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", humans.shape[::-1]).save(folder / "Images" / f"{name}.jpg")
    for kind, labels in zip(names, (humans, parts), strict=True):
        picture = PIL.Image.fromarray(labels)
        if mode == "P":
            picture.putpalette([0, 0, 0, *range(255, 0, -1)] * 2)
        picture.save(folder / kind / f"{name}.png")


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "CIHP" / "Validation", "0000002", HUMANS, PARTS)
    write_image(tmp_path / "CIHP" / "Validation", "0000001", np.zeros_like(HUMANS), PARTS)
    return tmp_path / "CIHP"


def test_people_by_hand(root):
    data = convert(root, "val")
    assert data["images"] == [
        {"id": 1, "file_name": "0000001.jpg", "height": 3, "width": 4},
        {"id": 2, "file_name": "0000002.jpg", "height": 3, "width": 4},
    ]
    rows = [{key: row[key] for key in ("id", "image_id", "bbox", "area", "parts")} for row in data["annotations"]]
    assert rows == [
        {"id": 1, "image_id": 2, "bbox": [1, 0, 2, 2], "area": 3, "parts": [2, 13]},
        {"id": 2, "image_id": 2, "bbox": [2, 1, 2, 2], "area": 3, "parts": [5, 19]},
        {"id": 3, "image_id": 2, "bbox": [0, 2, 1, 1], "area": 1, "parts": [9]},
    ]
    assert len(CIHP_PARTS) == 20


@pytest.mark.slow
@settings(max_examples=30)
@given(data=st.data())
@pytest.mark.parametrize(
    ("dtype", "mode", "highest"),
    [
        ("uint8", None, 255),
        ("uint8", "P", 7),
        ("uint16", None, 65535),
    ],
)
def test_masks_boxes_and_parts_are_exact(tmp_path_factory, data, dtype, mode, highest):
    shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
    few = st.sampled_from([0, 1, 2, highest])
    humans = data.draw(arrays.arrays(dtype, shape, elements=few))
    parts = data.draw(arrays.arrays("uint8", shape, elements=st.integers(0, 19)))
    folder = tmp_path_factory.mktemp("cihp")
    write_image(folder / "Training", "1", humans, parts, mode)
    found = convert(folder, "train")["annotations"]
    numbers = sorted(set(humans.ravel().tolist()) - {0})
    masks = from_rle([row["segmentation"] for row in found], *shape).numpy()
    assert len(found) == len(numbers)
    for number, row, mask in zip(numbers, found, masks, strict=True):
        np.testing.assert_array_equal(mask, humans == number)
        y, x = np.nonzero(humans == number)
        assert row["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert row["area"] == len(x)
        assert row["parts"] == sorted(set(parts[humans == number].tolist()) - {0})


@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("names", [("Human_ids", "Category_ids"), ("Human", "Categories")])
def test_folders_may_be_called_either_way(tmp_path, names, above):
    folder = tmp_path / "instance-level_human_parsing"
    write_image(folder / "Validation", "1", HUMANS, PARTS, names=names)
    data = CIHP(tmp_path if above else folder)
    assert (data.name, data.published, len(data)) == ("CIHP val", "cihp_val", 1)
    assert labelled_kinds(data.ground_truth) == ["bbox", "segm"]
    assert data.ground_truth["annotations"][1]["parts"] == [5, 19]
    assert data.load(0).width == 4
    assert sorted(path.name for path in folder.iterdir()) == ["Validation", "cihp_val.json"]


def test_the_conversion_is_kept_until_the_images_change(root, monkeypatch):
    CIHP(root)
    monkeypatch.setattr(cihp, "convert", lambda *_: pytest.fail("converted again"))
    assert len(CIHP(root)) == 2
    monkeypatch.undo()
    write_image(root / "Validation", "0000003", HUMANS, PARTS)
    assert len(CIHP(root)) == 3
    (root / "cihp_val.json").write_text("{")
    assert len(CIHP(root)) == 3


def test_a_folder_that_cannot_be_written_is_left_alone(root, monkeypatch, tmp_path):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != root)
    assert len(CIHP(root).ground_truth["annotations"]) == 3
    assert [path.name for path in root.iterdir()] == ["Validation"]
    (kept,) = (tmp_path / "cache" / "datasets").iterdir()
    assert kept.match("cihp_val_*.json")


def test_the_config_needs_a_root_only(root):
    assert build_dataset(load_config("cihp.py", {"dataset.root": str(root)})).name == "CIHP val"


def test_the_command(root, tmp_path):
    output = tmp_path / "made" / "val.json"
    code, out, err = main_in(tmp_path, "--root", root, "--output", output, main=main)
    assert (code, err) == (0, "")
    assert out == f"3 people in 2 images: {output}\n"
    assert json.loads(output.read_text())["info"]["parts"] == list(CIHP_PARTS)


def test_the_command_says_what_is_wrong_in_one_line(root, tmp_path, capsys):
    (root / "Validation" / "Human_ids" / "0000002.png").unlink()
    assert main(["--root", str(root), "--output", str(tmp_path / "x.json")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bmp.datasets.cihp: ")
    assert "Human_ids/0000002.png: is missing" in line
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: PIL.Image.new("RGB", (4, 3)).save(folder / "Human_ids" / "0000002.png"), "Human_ids/0000002.png: expected a map with one number a pixel, got a colour picture"),
        (lambda folder: PIL.Image.new("L", (4, 4)).save(folder / "Human_ids" / "0000002.png"), "expected 4x3 pixels like its photo, got 4x4"),
        (lambda folder: PIL.Image.new("L", (4, 3), 20).save(folder / "Category_ids" / "0000002.png"), "Category_ids/0000002.png: expected CIHP.s 20 labels from 0 to 19, or 255 .*, got 20"),
        (lambda folder: (folder / "Category_ids" / "0000002.png").write_bytes(b"x"), "0000002.png: cannot be read as a picture"),
        (lambda folder: (folder / "Images" / "0000002.jpg").write_bytes(b"x"), "0000002.jpg: cannot be read as a picture"),
        (lambda folder: (folder / "Human_ids").rename(folder / "x"), "CIHP val: .* has no Validation/Human_ids; expected a folder with Validation/Images, Validation/Human_ids, Validation/Category_ids in it, as the authors"),
        (lambda folder: [path.unlink() for path in (folder / "Images").iterdir()], "expected the photos of CIHP, found none"),
    ],
)  # fmt: skip
def test_broken_files_are_named(root, change, words):
    change(root / "Validation")
    with pytest.raises(UserError, match=words) as caught:
        CIHP(root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((None,), "CIHP val: no root is given; expected"), (("x", "test"), "no split 'test'; there is: val, train")],
)
def test_wrong_use_is_one_line(arguments, words):
    with pytest.raises(UserError, match=words):
        CIHP(*arguments)
