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
        (["{0}/people.json", "--to", "voc", "-o", "{0}/people.json", "--overwrite"], "this is a file"),
        (["{0}/people.json", "--to", "voc", "--from", "coc"], "did you mean"),
        (["{0}/people.json", "--to", "csv", "--keypoints", "cocoo"], "no keypoint set"),
        (["{0}/people.json", "--to", "csv", "-o", "{0}/people.json/a.csv"], "cannot be written"),
        (["{1}", "--to", "coco", "-o", "{1}/coco.json"], "--from FORMAT"),
        (["{0}/photos/crowd.jpg", "--to", "coco", "-o", "{1}/coco.json"], "not JSON"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, arguments, complaint):
    assert convert(*(argument.format(folder, tmp_path) for argument in arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert complaint in lines[0]


LABEL_STUDIO = '[{{"id": 1, "data": {{"image": "a.jpg"}}, "annotations": [{{"result": [{}]}}]}}]'
LABELME = '{{"imagePath": "a.jpg", "imageHeight": 20, "imageWidth": 20, "shapes": [{}]}}'
CVAT = '<annotations><image name="a.jpg" height="20" width="20">{}</image></annotations>'
VOC = "<annotation><size><height>{0}</height><width>{0}</width></size></annotation>"
SIZES = '"original_width": {0}, "original_height": {0}, "type": "rectanglelabels", "value": '


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("yolo-pose/data.yaml", b"\xff\xfe", "not text"),
        ("yolo-pose/data.yaml", b"names: 3", "names of classes"),
        ("yolo-pose/data.yaml", b"kpt_shape: [17]", "expected kpt_shape"),
        ("yolo-pose/data.yaml", b"names: 2020-13-45", "not YAML"),
        ("yolo-pose/labels/crowd.txt", b"0 \xff", "not text"),
        ("yolo-pose/labels/crowd.txt", b"0 nan 0 0", "expected a polygon"),
        ("yolo-pose/labels/crowd.txt", b"0 0 0 1 0 1e30 1", "line 1: expected segmentation"),
        ("yolo-pose/labels/crowd.txt", b"0 0 0 1 0 1e6 1", "line 1: its polygons reach"),
        ("yolo-pose/labels/crowd.txt", b"0 0 0 1 0 nan 1", "line 1: expected segmentation"),
        ("cvat.xml", CVAT.replace("20", "9999999", 1).format("").encode(), "expected the size of a photo"),
        ("cvat.xml", CVAT.replace("20", "nan", 1).format("").encode(), "expected pixels, got 'nan'"),
        ("cvat.xml", CVAT.format('<mask rle="1,x" left="0" top="0" width="2" height="2"/>').encode(), "run lengths"),
        ("cvat.xml", CVAT.format('<mask rle="1,3" left="inf" top="0" width="2" height="2"/>').encode(), "pixels"),
        ("cvat.xml", CVAT.format('<polygon points="1,1;2,2;1e9,7"/>').encode(), "its polygons reach"),
        ("cvat.xml", CVAT.format('<polygon points="1,1;2"/>').encode(), "expected segmentation"),
        ("cvat.xml", CVAT.replace("a.jpg", "").format("").encode(), "expected the name of a photo"),
        ("label-studio.json", b'[{"data": "a.jpg"}]', "expected Label Studio's JSON"),
        ("label-studio.json", b'[{"data": {}, "annotations": {"result": 1}}]', "a list of answers"),
        ("label-studio.json", LABEL_STUDIO.format("7").encode(), "a list of regions"),
        ("label-studio.json", LABEL_STUDIO.format('{"value": null}').encode(), "expected a value"),
        ("label-studio.json", LABEL_STUDIO.format('{"value": {"keypointlabels": [{}]}}').encode(), "a list of names"),
        ("label-studio.json", LABEL_STUDIO.format("{" + SIZES.format(10**9) + "{}}").encode(), "the size of a photo"),
        ("labelme/a.json", LABELME.format('{"label": {}, "points": [[1, 1]]}').encode(), "pairs x, y"),
        ("labelme/a.json", LABELME.replace("20", "200000").format("").encode(), "the size of a photo"),
        (
            "labelme/a.json",
            LABELME.format(
                '{"label": "person", "shape_type": "mask", "points": [[1, 1]], "group_id": [1], "mask": "x"}'
            ).encode(),
            "group_id",
        ),
        (
            "labelme/a.json",
            LABELME.format('{"label": "person", "shape_type": "mask", "points": [[1, 1]], "mask": "eHh4"}').encode(),
            "its mask: not a picture",
        ),
        ("voc/Annotations/a.xml", VOC.format("1e400").encode(), "expected pixels"),
        ("voc/Annotations/a.xml", VOC.format("100000").encode(), "the size of a photo"),
        ("csv.csv", b"file_name,height,width,x,y,box_width,box_height\na.jpg,inf,9,,,,\n", "row 2"),
        ("csv.csv", b"file_name,height,width,x,y,box_width,box_height\n,9,9,,,,\n", "row 2: lacks 'file_name'"),
        ("csv.csv", b"file_name,height,width,x,y,box_width,box_height\na.jpg,9,9,1,1,two,2\n", "row 2"),
        ("masks/a.png", b"none", "not a picture"),
    ],
)
def test_what_others_have_broken_is_one_line(folder, tmp_path, capsys, name, content, complaint):
    kind = name.partition("/")[0].partition(".")[0]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "yolo-pose" and path.suffix == ".txt":
        (tmp_path / kind / "data.yaml").write_text("names: [person]")
        path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    source = tmp_path / name.partition("/")[0]
    arguments = ["--from", kind, "--to", "coco", "-o", tmp_path / "coco.json", "--images", folder / "photos"]
    assert convert(source, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line


@pytest.mark.parametrize("name", formats())
def test_files_of_nobody_and_of_no_photos_are_files(folder, tmp_path, name):
    data = json.loads((folder / "people.json").read_text())
    for number, images in enumerate((data["images"], [])):
        (tmp_path / "people.json").write_text(json.dumps({**data, "images": images, "annotations": []}))
        output = tmp_path / f"{number}" / formats()[name].output.rstrip("/")
        assert convert(tmp_path / "people.json", "--to", name, "-o", output) == 0
        assert output.exists()
        if images or name in ("cvat", "label-studio", "csv", "parquet", "coco", "mmpose", "crowdpose"):
            labels, _ = read_any(output, name, folder / "photos")
            assert (len(labels.dataset["images"]), labels.dataset["annotations"]) == (len(images), [])


def test_names_and_masks_of_tables_are_text_as_it_stands(folder, tmp_path):
    data = json.loads((folder / "people.json").read_text())
    names = ["NA", "001", "=1+1.jpg"]
    for image, name in zip(data["images"], names, strict=True):
        image |= {"file_name": name, "height": 1, "width": 1}
    pixel = {"segmentation": {"size": [1, 1], "counts": [0, 1]}, "area": 1, "bbox": [0, 0, 1, 1]}
    data["annotations"] = [{**row, **pixel, "keypoints": [0] * 51} for row in data["annotations"]]
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", "csv", "-o", tmp_path / "people.csv") == 0
    labels, _ = read_any(tmp_path / "people.csv")
    assert [image["file_name"] for image in labels.dataset["images"]] == names
    assert [row["segmentation"]["counts"] for row in labels.dataset["annotations"]] == ["01"] * 3


def test_a_photo_that_cannot_be_read_is_counted(folder, tmp_path, capsys):
    assert convert(folder / "people.json", "--to", "yolo-pose", "-o", tmp_path / "yolo") == 0
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "crowd.jpg").write_bytes(b"none")
    back = ["--to", "coco", "-o", tmp_path / "coco.json", "--images", tmp_path / "photos"]
    assert convert(tmp_path / "yolo", *back) == 0
    said = capsys.readouterr()
    assert "left out 1 photos that cannot be read" in said.err
    assert "0 people in 0 photos" in said.out


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
    data["annotations"][2] |= {"edited": ["mask"], "parts": []}
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", "yolo-seg", "-o", tmp_path / "yolo") == 0
    said = capsys.readouterr()
    assert "left out: 1 people without a mask" in said.err
    assert "left out: 1 crowd regions" in said.err
    lost = "boxes, keypoints, scores, parts of bodies, marks of what was edited"
    assert f"left out: {lost}, which have no place in yolo-seg" in said.err
    assert "2 people in 3 photos" in said.out


@pytest.mark.parametrize("name", ["cvat", "voc"])
def test_a_name_that_xml_cannot_hold_is_refused(folder, tmp_path, capsys, name):
    data = json.loads((folder / "people.json").read_text())
    data["images"][1]["file_name"] = "a\x01.jpg"
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", name, "-o", tmp_path / "out") == 2
    assert "'a\\x01.jpg' has characters that XML cannot hold" in capsys.readouterr().err


def test_keypoints_outside_the_photo_have_no_place_in_yolo(folder, tmp_path, capsys):
    data = json.loads((folder / "people.json").read_text())
    points = data["annotations"][0]["keypoints"]
    points[:9] = [-0.5, 3, 2, 64, 48, 1, 64.5, 48, 0]
    (tmp_path / "people.json").write_text(json.dumps(data))
    assert convert(tmp_path / "people.json", "--to", "yolo-pose", "-o", tmp_path / "yolo") == 0
    assert "left out: 1 keypoints outside their photo" in capsys.readouterr().err
    labels, _ = read_any(tmp_path / "yolo", images=folder / "photos")
    person = next(row for row in labels.dataset["annotations"] if row["keypoints"][5] == 1)
    assert person["keypoints"][:9] == [0, 0, 0, 64, 48, 1, 0, 0, 0]


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
    said = capsys.readouterr().err
    assert "pixels of people who share them" in said
    assert "1 people of whom others have every pixel" in said


def test_labels_in_memory_are_checked_as_those_of_files(folder):
    data = json.loads((folder / "people.json").read_text())
    assert check_labels(folder / "people.json", data).dataset == read_labels(folder / "people.json").dataset
