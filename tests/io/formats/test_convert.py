import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bmp.cli import main
from bmp.io.annotations import category
from bmp.io.coco_json import check_labels, read_labels
from bmp.io.convert import formats, read_any
from bmp.io.formats.brush import from_brush, to_brush
from bmp.io.outlines import filled, polygon_of, to_bits, to_runs
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS

BACK = [name for name, form in formats().items() if form.read is not None]
PHOTOS = {"crowd.jpg": (48, 64), "sub/one.png": (40, 30), "sub/nobody.jpg": (20, 20)}


def person(number, image_id, size, generator):
    height, width = size
    bits = np.zeros(size, dtype=bool)
    bits[5:30, 3 + 9 * number : 20 + 9 * number] = True
    bits[10:14, 8 + 9 * number : 12 + 9 * number] = False  # a hole
    bits[33:36, 2 + 9 * number : 6 + 9 * number] = True  # a part that lies apart
    bits &= generator.random(size) < 0.97
    x, y = generator.uniform(0, width - 1, 17).round(2), generator.uniform(0, height - 1, 17).round(2)
    flags = np.arange(17) % 3
    points = [value for row in zip(x.tolist(), y.tolist(), flags.tolist(), strict=True) for value in row]
    return {
        "id": number + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [2.25 + 9 * number, 4.5, 15.5, 31.75],
        "area": int(bits.sum()), "segmentation": to_runs(bits), "keypoints": points, "num_keypoints": int((flags > 0).sum()),
        "score": 0.75, "mask_score": 0.5, "agreement": 0.625, "round": 1, "keypoint_scores": [0.5] * 17,
        "keypoint_visibility": [0.25] * 17, "keypoint_presence": [1.0] * 17,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """people.json and the photos that it is of."""
    folder = tmp_path_factory.mktemp("convert")
    images = []
    for number, (name, (height, width)) in enumerate(PHOTOS.items(), 1):
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, height)).save(folder / "photos" / name)
    generator = np.random.default_rng(0)
    rows = [person(0, 1, (48, 64), generator), person(3, 1, (48, 64), generator), person(1, 2, (40, 30), generator)]
    data = {"images": images, "annotations": rows, "categories": [category(COCO_KEYPOINTS)]}
    rows[2]["id"] = 9
    (folder / "people.json").write_text(json.dumps(data))
    return folder


def convert(*arguments):
    return main(["convert", *map(str, arguments)])


def by_photo(labels):
    names = {image["id"]: image["file_name"] for image in labels.dataset["images"]}
    people = {name: [] for name in names.values()}
    for row in labels.dataset["annotations"]:
        people[names[row["image_id"]]].append(row)
    sizes = {image["file_name"]: (image["height"], image["width"]) for image in labels.dataset["images"]}
    return people, sizes


def labelled(row):
    """Where each keypoint is, as far as it is labelled."""
    values = np.array(row["keypoints"]).reshape(-1, 3)
    return np.where(values[:, 2:] > 0, values, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACK)
def test_what_a_format_carries_comes_back_as_it_was(folder, tmp_path, name, capsys):
    form = formats()[name]
    output, back = tmp_path / form.output.rstrip("/"), tmp_path / "back.json"
    assert convert(folder / "people.json", "--to", name, "-o", output) == 0
    for lost in form.lacks:
        assert lost in capsys.readouterr().err or lost != form.lacks[0]
    assert convert(output, "--from", name, "--to", "coco", "-o", back, "--images", folder / "photos") == 0
    (before, sizes), (after, read_sizes) = by_photo(read_labels(folder / "people.json")), by_photo(read_labels(back))
    assert read_sizes == sizes
    for photo, people in before.items():
        assert len(after[photo]) == len(people)
        for row, found in zip(people, after[photo], strict=True):
            if "masks" not in form.lacks:
                assert found["segmentation"] == row["segmentation"]
            if "keypoints" not in form.lacks:
                assert np.array_equal(labelled(found), labelled(row))
                assert found["num_keypoints"] == row["num_keypoints"]
            if "boxes" not in form.lacks:
                assert np.allclose(found["bbox"], row["bbox"], atol=1.01 if name == "voc" else 0.005)
            if name in ("csv", "parquet"):
                assert {**found, "id": row["id"]} == {**row, "image_id": found["image_id"]}
            elif "scores" not in form.lacks:
                assert found["score"] == row["score"]


@pytest.mark.slow
@pytest.mark.parametrize("name", BACK)
def test_a_format_is_recognised(folder, tmp_path, name):
    output = tmp_path / formats()[name].output.rstrip("/")
    assert convert(folder / "people.json", "--to", name, "-o", output, "--quiet") == 0
    labels, _ = read_any(output, images=folder / "photos")
    assert len(labels.dataset["images"]) == 3
    assert len(labels.dataset["annotations"]) == 3


@pytest.mark.slow
@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_masks_become_one_polygon_and_bytes_of_a_brush_without_a_loss(height, width, random):
    density = random.random()
    bits = np.array([[random.random() < density for _ in range(width)] for _ in range(height)])
    polygon = polygon_of(to_runs(bits))
    assert np.array_equal(to_bits(filled(polygon, height, width)) if polygon else np.zeros_like(bits), bits)
    assert np.array_equal(from_brush(to_brush(bits), height, width), bits)


def test_long_runs_of_a_brush_are_several():
    bits = np.zeros((200, 300), dtype=bool)
    bits[40:170] = True
    assert np.array_equal(from_brush(to_brush(bits), 200, 300), bits)


ATTRIBUTES = {
    "image": {"id", "name", "width", "height"},
    "box": {"label", "source", "occluded", "xtl", "ytl", "xbr", "ybr", "z_order", "group_id"},
    "mask": {"label", "source", "occluded", "rle", "left", "top", "width", "height", "z_order", "group_id"},
    "skeleton": {"label", "source", "occluded", "z_order", "group_id"},
    "points": {"label", "source", "occluded", "outside", "points"},
    "attribute": {"name"},
}
"""What CVAT's page on its XML format 1.1 lists for images."""


def test_cvat_file_has_the_elements_and_attributes_of_its_documentation(folder, tmp_path):
    assert convert(folder / "people.json", "--to", "cvat", "-o", tmp_path / "annotations.xml") == 0
    root = ElementTree.parse(tmp_path / "annotations.xml").getroot()
    assert root.tag == "annotations"
    assert [child.tag for child in root] == ["version", "meta", "image", "image", "image"]
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == "annotation"
    labels = {label.findtext("name"): label for label in root.iterfind("meta/task/labels/label")}
    assert [label.findtext("type") for label in labels.values()][:2] == ["any", "skeleton"]
    for image in root.iter("image"):
        for element in image.iter():
            assert set(element.attrib) <= ATTRIBUTES[element.tag]
            if element.tag in ("box", "mask", "skeleton", "points"):
                assert element.get("label") in labels
                assert element.get("occluded") in ("0", "1")
        for skeleton in image.iter("skeleton"):
            assert [part.get("label") for part in skeleton] == list(COCO_KEYPOINTS.names)
            assert all(labels[part.get("label")].findtext("parent") == skeleton.get("label") for part in skeleton)
        for mask in image.iter("mask"):
            runs = [int(text) for text in mask.get("rle").split(",")]
            assert sum(runs) == int(mask.get("width")) * int(mask.get("height"))


NUMBER = {"type": "number"}
SHARE = {"type": "number", "minimum": -100, "maximum": 200}
REGION = {
    "type": "object",
    "required": ["id", "type", "from_name", "to_name", "original_width", "original_height", "image_rotation", "value"],
    "properties": {
        "type": {"enum": ["rectanglelabels", "brushlabels", "keypointlabels"]},
        "parentID": {"type": "string"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "value": {"oneOf": [
            {"required": ["x", "y", "width", "height", "rotation", "rectanglelabels"], "properties": {"x": SHARE, "height": SHARE}},
            {"required": ["format", "rle", "brushlabels"], "properties": {"format": {"const": "rle"}, "rle": {"items": {"type": "integer", "minimum": 0, "maximum": 255}}}},
            {"required": ["x", "y", "width", "keypointlabels"], "properties": {"x": SHARE, "y": SHARE, "width": NUMBER}},
        ]},
    },
}  # fmt: skip
TASKS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["data", "predictions"],
        "properties": {
            "data": {"required": ["image"], "properties": {"image": {"type": "string"}}},
            "predictions": {
                "items": {"required": ["result", "model_version"], "properties": {"result": {"items": REGION}}}
            },
        },
    },
}
"""What Label Studio's pages on tasks, pre-annotations and the tags ask for."""


@pytest.mark.slow
def test_label_studio_tasks_fit_its_documentation(folder, tmp_path):
    import jsonschema

    assert convert(folder / "people.json", "--to", "label-studio", "-o", tmp_path / "studio") == 0
    tasks = json.loads((tmp_path / "studio" / "tasks.json").read_text())
    jsonschema.validate([task for task in tasks if "predictions" in task], TASKS)
    assert [len(task.get("predictions", ())) for task in tasks] == [1, 1, 0]
    regions = tasks[0]["predictions"][0]["result"]
    assert {region.get("parentID", region["id"]) for region in regions} == {"p1-box", "p2-box"}
    interface = ElementTree.parse(tmp_path / "studio" / "config.xml").getroot()
    controls = {element.get("name"): {label.get("value") for label in element} for element in interface}
    for region in regions:
        assert region["value"][region["type"]][0] in controls[region["from_name"]]


def test_crowdpose_has_its_joints_and_how_crowded_it_is(folder, tmp_path):
    assert convert(folder / "people.json", "--to", "crowdpose", "-o", tmp_path / "crowdpose.json") == 0
    labels = read_labels(tmp_path / "crowdpose.json")
    assert labels.keypoints is KEYPOINT_SETS["crowdpose"]
    before = read_labels(folder / "people.json").dataset["annotations"][0]["keypoints"]
    after = labels.dataset["annotations"][0]["keypoints"]
    assert after[:3] == before[3 * 5 : 3 * 5 + 3]  # the left shoulder
    assert after[-6:] == [0] * 6  # top of the head and neck
    assert 0 < labels.dataset["images"][0]["crowdIndex"] <= 1
    assert labels.dataset["images"][1]["crowdIndex"] == 0


@pytest.mark.slow
def test_mmpose_reads_its_data_set(folder, tmp_path):
    pytest.importorskip("mmpose")
    from mmpose.datasets import CocoDataset

    assert convert(folder / "people.json", "--to", "mmpose", "-o", tmp_path / "mmpose") == 0
    data = CocoDataset(
        ann_file=str(tmp_path / "mmpose" / "annotations.json"),
        data_prefix={"img": str(folder / "photos")},
        metainfo={"from_file": str(tmp_path / "mmpose" / "metainfo.py")},
    )
    assert len(data) == 3
    assert data.metainfo["flip_indices"] == list(COCO_KEYPOINTS.flip_indices)
    assert len(read_labels(tmp_path / "mmpose" / "annotations.json").dataset["annotations"]) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{0}/people.json", "--to", "yolo"], "did you mean"),
        (["{0}/none.json", "--to", "csv"], "there is no such file"),
        (["{0}/people.json", "--to", "coco", "-o", "{0}/people.json"], "exists"),
        (["{0}/photos", "--to", "coco", "-o", "{1}/coco.json", "--from", "labelme"], "holds no file of labelme"),
        (["{0}/photos/crowd.jpg", "--to", "coco", "-o", "{1}/coco.json", "--from", "cvat"], "not XML"),
        (["{0}/people.json", "--to", "coco", "-o", "{1}/coco.json", "--from", "label-studio"], "export as JSON"),
        (["{0}", "--to", "coco", "-o", "{1}/coco.json", "--from", "yolo-seg"], "data.yaml: cannot be read"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, arguments, complaint):
    assert convert(*(argument.format(folder, tmp_path) for argument in arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert complaint in lines[0]


def test_names_that_lead_out_of_the_folder_or_differ_in_nothing_but_suffixes_are_refused(folder, tmp_path, capsys):
    data = json.loads((folder / "people.json").read_text())
    for number, (name, complaint) in enumerate(
        [("../a.jpg", "leads out"), ("/a.jpg", "leads out"), ("sub/one.jpg", "suffix")]
    ):
        data["images"][0]["file_name"] = name
        (tmp_path / "people.json").write_text(json.dumps(data))
        assert convert(tmp_path / "people.json", "--to", "yolo-pose", "-o", tmp_path / str(number)) == 2
        assert complaint in capsys.readouterr().err


def test_what_has_no_place_is_said(folder, tmp_path, capsys):
    data = json.loads((folder / "people.json").read_text())
    data["annotations"][0]["iscrowd"] = 1
    del data["annotations"][1]["segmentation"]
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", "yolo-seg", "-o", tmp_path / "yolo") == 0
    said = capsys.readouterr()
    assert "left out: 1 people without a mask" in said.err
    assert "left out: 1 crowd regions" in said.err
    assert "left out: boxes, keypoints, scores, which have no place in yolo-seg" in said.err
    assert "2 people in 3 photos" in said.out


def test_what_an_editor_has_changed_is_read(folder, tmp_path):
    """A shape without a group, a polygon, and shapes of other kinds."""
    assert convert(folder / "people.json", "--to", "cvat", "-o", tmp_path / "annotations.xml") == 0
    tree = ElementTree.parse(tmp_path / "annotations.xml")
    image = tree.getroot().findall("image")[2]
    ElementTree.SubElement(image, "polygon", {"label": "person", "points": "2,2;8,2;8,10;2,10", "occluded": "0"})
    ElementTree.SubElement(image, "polyline", {"label": "person", "points": "2,2;8,2", "occluded": "0"})
    tree.write(tmp_path / "annotations.xml")
    labels, notices = read_any(tmp_path / "annotations.xml")
    found = labels.dataset["annotations"][-1]
    assert (found["bbox"], found["area"]) == ([2, 2, 6, 8], 48)
    assert any("1 shapes of the kind polyline" in line for line in notices)


def test_pixels_of_two_masks_go_to_the_last(folder, tmp_path, capsys):
    data = json.loads((folder / "people.json").read_text())
    data["annotations"][1]["segmentation"] = data["annotations"][0]["segmentation"]
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", "masks", "-o", tmp_path / "masks") == 0
    assert "pixels of people who share them" in capsys.readouterr().err


def test_labels_in_memory_are_checked_as_those_of_files(folder):
    data = json.loads((folder / "people.json").read_text())
    assert check_labels(folder / "people.json", data).dataset == read_labels(folder / "people.json").dataset
