"""COCO's two files of person annotations become one ground truth."""

import json

import PIL.Image
import pytest

from bmp.build import build_dataset
from bmp.config import load_config
from bmp.datasets.coco import COCO
from bmp.errors import UserError
from bmp.evaluation.rounds import labelled_kinds

POINTS = [2, 2, 2] + [0] * 48
SQUARE = [[0, 0, 2, 0, 2, 2]]


def annotation(number, area, **fields):
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2], "area": area, "iscrowd": 0} | fields


INSTANCES = [
    annotation(11, 1024.0, segmentation=SQUARE),
    annotation(15, 4000, segmentation=SQUARE),
    annotation(16, 900, segmentation=SQUARE),
    annotation(12, 1023.9, segmentation=SQUARE),
    annotation(13, 5000, segmentation=SQUARE, category_id=18),
    annotation(14, 60, segmentation={"size": [6, 8], "counts": [0, 48]}, iscrowd=1),
]
KEYPOINTS = [
    annotation(15, 4000, keypoints=[0] * 51, num_keypoints=0),
    annotation(16, 900, keypoints=POINTS, num_keypoints=1),
    annotation(14, 60, keypoints=[0] * 51, num_keypoints=0, iscrowd=1),
    annotation(12, 1023.9, keypoints=[0] * 51, num_keypoints=0),
    annotation(11, 1024.0, keypoints=POINTS, num_keypoints=1),
]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    images = [{"id": n, "file_name": f"{n:012}.jpg", "height": 6, "width": 8} for n in (1, 2)]
    for image in images:
        PIL.Image.new("RGB", (8, 6)).save(tmp_path / "val2017" / image["file_name"])
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    for kind, rows in (("instances", INSTANCES), ("person_keypoints", KEYPOINTS)):
        data = {
            "images": images,
            "annotations": rows,
            "categories": categories if kind == "instances" else categories[:1],
        }
        (tmp_path / "annotations" / f"{kind}_val2017.json").write_text(json.dumps(data))
    return tmp_path


@pytest.mark.parametrize(
    ("options", "name", "published", "kept"),
    [
        ({}, "COCO val2017", "coco_val", [11, 15, 16, 12, 14]),
        ({"small": False}, "COCO* val2017", "coco_star_val", [11, 15, 14]),
        # medium and large people with a pose; crowd regions are no people
        ({"posed_only": True}, "COCOPersons val2017", "coco_persons_val", [11, 14]),
        ({"posed_only": True, "small": False}, "COCOPersons val2017", "coco_persons_val", [11, 14]),
    ],
)
def test_persons_with_masks_and_keypoints(root, options, name, published, kept):
    data = COCO(root, **options)
    assert (data.name, data.published, len(data)) == (name, published, 2)
    rows = {row["id"]: row for row in data.ground_truth["annotations"]}
    assert list(rows) == kept
    assert rows[11]["keypoints"] == POINTS
    assert rows[11]["segmentation"] == SQUARE
    assert [rows[number]["num_keypoints"] for number in kept] == [int(number in (11, 16)) for number in kept]
    assert labelled_kinds(data.ground_truth) == ["bbox", "segm", "keypoints"]
    assert data.load(1).height == 6


def test_the_config_needs_a_root_only(root):
    config = load_config("coco.py", {"dataset.root": str(root), "dataset.small": False})
    assert build_dataset(config).name == "COCO* val2017"


@pytest.mark.parametrize("rows", [KEYPOINTS[:-1], [*KEYPOINTS[:-1], KEYPOINTS[-1] | {"image_id": 2}]])
def test_files_that_do_not_belong_together_are_refused(root, rows):
    file = root / "annotations" / "person_keypoints_val2017.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": rows}))
    with pytest.raises(UserError, match=r"annotation 11 of annotations/instances_val2017\.json is not in it"):
        COCO(root)


@pytest.mark.parametrize(
    "missing", ["annotations/instances_val2017.json", "annotations/person_keypoints_val2017.json", "val2017"]
)
def test_what_is_missing_is_named(root, missing):
    (root / missing).rename(root / "elsewhere")
    with pytest.raises(
        UserError, match=f"COCO val2017: .* has no {missing}; expected a folder with annotations/.* COCO "
    ) as caught:
        COCO(root)
    assert "\n" not in str(caught.value)
