"""Labelled parts of every data set that has them, and maps that are refused."""

import numpy as np
import PIL.Image
import pytest

from bmp import UserError
from bmp.build import build_dataset
from bmp.datasets.cihp import CIHP
from bmp.datasets.parsing import LIP, PascalPersonPart
from bmp.datasets.part_maps import instance_map, label_map
from bmp.datasets.people import PeopleDataset
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.label_sets import part_sets
from bmp.synthcrowd.files import write
from bmp.synthcrowd.splits import find_split

LABELS = np.array([[0, 2, 13, 0], [0, 2, 255, 19], [9, 4, 5, 0]], np.uint8)
HUMANS = np.array([[0, 4, 4, 0], [0, 4, 7, 7], [9, 0, 7, 0]], np.uint8)
OWNERS = [[0, 1, 1, 0], [0, 1, 2, 2], [3, 0, 2, 0]]


def save(path, values, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PIL.Image.fromarray(values)
    if mode == "P":
        picture.putpalette([value for colour in part_sets.CIHP.palette() for value in colour])
    picture.save(path)


def photo(path):
    save(path, np.zeros((*LABELS.shape, 3), np.uint8))


@pytest.fixture
def cihp(tmp_path):
    folder = tmp_path / "Validation"
    photo(folder / "Images" / "1.jpg")
    save(folder / "Human_ids" / "1.png", HUMANS)
    save(folder / "Category_ids" / "1.png", LABELS, "P")
    return tmp_path


def test_categories_and_people_of_cihp(cihp):
    dataset = CIHP(cihp)
    parts = dataset.parts(0)
    assert parts.labels.tolist() == LABELS.tolist()
    assert parts.owners.tolist() == OWNERS
    assert len(parts) == len(dataset.people()[1]) == 3
    assert dataset.ground_truth["annotations"][1]["parts"] == [5, 19]  # what does not count is no part


def test_instances_of_cihp(cihp):
    numbers = np.array([[0, 1, 1, 0], [0, 2, 3, 3], [4, 0, 0, 0]], np.uint8)
    save(cihp / "Validation" / "Instance_ids" / "1.png", numbers)
    listed = cihp / "Validation" / "Instance_ids" / "1.txt"
    listed.write_text("1 13 4\n2 5 4\n3 9 7\n\n4 19 9\n")
    parts = CIHP(cihp, maps="instance").parts(0)
    assert parts.labels.tolist() == [[0, 13, 13, 0], [0, 5, 9, 9], [19, 0, 0, 0]]
    assert parts.owners.tolist() == OWNERS
    _, humans = instance_map(cihp / "Validation" / "Instance_ids" / "1.png", 3, 4, part_sets.CIHP)
    assert humans.tolist() == [[0, 4, 4, 0], [0, 4, 7, 7], [9, 0, 0, 0]]
    with pytest.raises(UserError, match="maps: expected 'category' or 'instance', got 'both'"):
        CIHP(cihp, maps="both")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 13\n", "got '1 13'"), ("1 20 4\n", "label from 1 to 19"), ("1 0 4\n", "got '1 0 4'"), ("1 2 0\n", "got '1 2 0'"),
        ("1 face 4\n", "three whole numbers"), ("", "has no line for number 1"), (None, "1.txt: is missing"),
    ],
)  # fmt: skip
def test_broken_lists_of_instances(tmp_path, text, words):
    save(tmp_path / "1.png", np.array([[1, 1]], np.uint8))
    if text is not None:
        (tmp_path / "1.txt").write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        instance_map(tmp_path / "1.png", 1, 2, part_sets.CIHP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "mode", "words"),
    [
        (np.full((3, 4, 3), 128, np.uint8), None, "got a colour picture"),
        (np.full((3, 4), 76, np.uint8), None, "CIHP's 20 labels from 0 to 19, .* got 76"),  # a picture in grey
        (np.full((3, 4), 20, np.uint8), "P", "got 20"),
        (np.full((4, 4), 1, np.uint8), None, "expected 4x3 pixels like its photo, got 4x4"),
        (None, None, "is missing"),
    ],
)
def test_maps_that_are_none(tmp_path, values, mode, words):
    if values is not None:
        save(tmp_path / "a.png", values, mode)
    with pytest.raises(UserError, match=words):
        label_map(tmp_path / "a.png", 3, 4, part_sets.CIHP)


@pytest.fixture
def lip(tmp_path):
    for name in ("77_1", "78_2"):
        photo(tmp_path / "TrainVal_images" / "val_images" / f"{name}.jpg")
        labels = LABELS if name == "77_1" else LABELS * 0
        save(tmp_path / "TrainVal_parsing_annotations" / "val_segmentations" / f"{name}.png", labels)
    (tmp_path / "val_id.txt").write_text("77_1\n78_2\n")
    return tmp_path


def test_lip_has_one_person_a_photo(lip):
    dataset = build_dataset(dict(dataset=dict(type="LIP", root=str(lip))))
    assert len(dataset) == 2
    (person,) = dataset.ground_truth["annotations"]
    assert (person["bbox"], person["area"], person["image_id"]) == ([0, 0, 4, 3], 7, 1)
    parts = dataset.parts(0)
    assert parts.labels.tolist() == LABELS.tolist()
    assert parts.owners.tolist() == [[0, 1, 1, 0], [0, 1, 0, 1], [1, 1, 1, 0]]
    assert parts.label_set is part_sets.LIP
    assert dataset.load(0).width == 4
    assert len(dataset.parts(1)) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "val_id.txt").unlink(), "has no val_id.txt"),
        (lambda folder: (folder / "val_id.txt").write_text("\n"), "expected a name a line"),
        (lambda folder: (folder / "val_id.txt").write_text("77_1\n77_1\n"), "stands in it twice"),
        (lambda folder: (folder / "val_id.txt").write_text("99\n"), "99.jpg: No such file"),
    ],
)
def test_broken_lists_of_photos(lip, change, words):
    change(lip)
    with pytest.raises(UserError, match=words):
        LIP(lip)
    with pytest.raises(UserError, match="no split 'test' with labels"):
        LIP(lip, "test")


def test_pascal_person_part_does_not_tell_people_apart(tmp_path):
    photo(tmp_path / "JPEGImages" / "2008_1.jpg")
    labels = np.minimum(LABELS, 6)
    save(tmp_path / "pascal_person_part_gt" / "2008_1.png", labels)
    (tmp_path / "pascal_person_part_trainval_list").mkdir()
    (tmp_path / "pascal_person_part_trainval_list" / "val.txt").write_text("/JPEGImages/2008_1.jpg /x/2008_1.png\n")
    dataset = PascalPersonPart(tmp_path)
    assert dataset.ground_truth["annotations"] == []
    parts = dataset.parts(0)
    assert len(parts) == 0
    assert parts.labels.tolist() == labels.tolist()
    assert len(parts.label_set) == 7


@pytest.mark.slow
def test_drawn_parts_are_the_same_from_files_and_without(tmp_path):
    split = find_split("val")
    write(tmp_path, "val", split.settings, 2, extras=True)
    files = PeopleDataset(tmp_path / "val.json", tmp_path, parts=tmp_path / "val_parts")
    drawn = SynthCrowd("val", count=2)
    for index in range(2):
        one, other = files.parts(index), drawn.parts(index)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.owners, other.owners)
        assert len(one) == len(drawn.people().get(index + 1, []))
        assert ((one.owners > 0) == (one.labels > 0)).all()


@pytest.mark.slow
def test_a_data_set_without_maps_says_so(tmp_path):
    split = find_split("val")
    write(tmp_path, "val", split.settings, 1)
    dataset = PeopleDataset(tmp_path / "val.json", tmp_path)
    assert dataset.part_set is None
    with pytest.raises(UserError, match="no labels of parts"):
        dataset.parts(0)
