"""Files about people in videos: each has the form that its readers want, and says what the rows said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bmp.errors import UserError
from bmp.io.formats.coco_video import write_coco
from bmp.io.formats.export import export
from bmp.io.formats.mot_challenge import read_mots, write_boxes, write_mots
from bmp.io.formats.posetrack import to_posetrack, write_poses
from bmp.io.formats.video_rows import FrameRow, PersonRow, RowsFile, RowsList, VideoRows
from bmp.io.formats.youtube_vis import write_ground_truth, write_results
from bmp.label_sets import COCO_KEYPOINTS, keypoint_set
from bmp.ops.masks import from_rle, to_rle

HEIGHT, WIDTH = 24, 32


def _person(identity: int, x: int, y: int, wide: int, high: int, score: float = 0.5) -> PersonRow:
    bits = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    bits[0, y : y + high, x : x + wide] = True
    points = [value for number in range(17) for value in (x + number / 4, y + number / 8, 1 + number % 2)]
    return {
        "id": 0,
        "image_id": 0,
        "category_id": 1,
        "track_id": identity,
        "bbox": [float(x), float(y), float(wide), float(high)],
        "area": wide * high,
        "iscrowd": 0,
        "segmentation": to_rle(bits)[0],
        "keypoints": points,
        "num_keypoints": 17,
        "keypoint_scores": [0.5 + number / 100 for number in range(17)],
        "score": score,
    }


ROWS: list[FrameRow] = [
    {"frame": 4, "time": 0.16, "cut": False, "people": [_person(1, 2, 3, 6, 10, 0.9), _person(7, 10, 3, 5, 5)]},
    {"frame": 5, "time": 0.2, "cut": False, "people": []},
    {"frame": 7, "time": 0.28, "cut": True, "people": [_person(7, 12, 3, 5, 5, 0.7), _person(1, 11, 2, 4, 6, 0.5)]},
    {"frame": 8, "time": 0.32, "cut": False, "people": [_person(1, 11, 2, 4, 6, 0.7)]},
]


@pytest.fixture
def video() -> VideoRows:
    return VideoRows("street", WIDTH, HEIGHT, 25.0, RowsList(ROWS))


def _lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_coco_loads_as_photos_do(tmp_path: Path, video: VideoRows) -> None:
    path = tmp_path / "people.json"
    write_coco(path, [video, video], info={"made": "here"}, about=[{"scene": 1}, {}])
    coco = COCO(str(path))
    assert len(coco.imgs) == 8
    assert [image["file_name"] for image in coco.imgs.values()][:3] == [
        "street/000004.jpg", "street/000005.jpg", "street/000007.jpg",
    ]  # fmt: skip
    assert [(image["video_id"], image["frame_id"]) for image in coco.imgs.values()] == [
        (number, frame) for number in (1, 2) for frame in range(4)
    ]
    assert [(row["image_id"], row["track_id"], row["video_id"]) for row in coco.anns.values()][:5] == [
        (1, 1, 1), (1, 7, 1), (3, 7, 1), (3, 1, 1), (4, 1, 1),
    ]  # fmt: skip
    first, second = coco.dataset["videos"]
    assert first == {"id": 1, "name": "street", "width": 32, "height": 24, "length": 4, "fps": 25.0, "scene": 1}
    assert "scene" not in second
    assert coco.annToMask(coco.anns[1]).sum() == 60


def test_results_of_youtube_vis_have_a_mask_or_nothing_a_frame(tmp_path: Path, video: VideoRows) -> None:
    path = tmp_path / "vis.json"
    write_results(path, [video])
    first, second = json.loads(path.read_text())
    assert set(first) == {"video_id", "category_id", "score", "segmentations"}
    assert first["score"] == pytest.approx((0.9 + 0.5 + 0.7) / 3)
    assert [mask is not None for mask in first["segmentations"]] == [True, False, True, True]
    assert [mask is not None for mask in second["segmentations"]] == [True, False, True, False]
    assert coco_mask.area(second["segmentations"][2]) == 25


def test_ground_truth_of_youtube_vis_has_videos_boxes_and_areas(tmp_path: Path, video: VideoRows) -> None:
    path = tmp_path / "vis.json"
    write_ground_truth(path, [video])
    data = json.loads(path.read_text())
    (entry,) = data["videos"]
    assert entry["length"] == len(entry["file_names"]) == 4
    first, second = data["annotations"]
    for row in (first, second):
        assert row["length"] == len(row["segmentations"]) == len(row["bboxes"]) == len(row["areas"]) == 4
    assert second["bboxes"] == [[10.0, 3.0, 5.0, 5.0], None, [12.0, 3.0, 5.0, 5.0], None]
    assert first["areas"] == [60, None, 24, 24]
    assert [row["id"] for row in data["annotations"]] == [1, 2]


@pytest.mark.parametrize("first_frame", [0, 1])
def test_mots_gives_each_pixel_to_one_person(tmp_path: Path, video: VideoRows, first_frame: int) -> None:
    path = tmp_path / "street.txt"
    write_mots(path, video, first_frame=first_frame)
    assert path.read_text().splitlines()[0].split()[:5] == [str(first_frame), "2001", "2", "24", "32"]
    rows = list(read_mots(path))
    assert [(row.frame - first_frame, row.track_id) for row in rows] == [
        (0, 2001), (0, 2007), (2, 2007), (2, 2001), (3, 2001),
    ]  # fmt: skip
    higher, lower = from_rle([row.mask for row in rows[2:4]], HEIGHT, WIDTH)
    assert not (higher & lower).any()
    assert int(higher.sum()) == 25, "the higher score keeps what both have"
    assert not any(row.ignored for row in rows)


@pytest.mark.slow
def test_mots_numbers_people_anew_where_ids_are_large(tmp_path: Path) -> None:
    rows: list[FrameRow] = [
        {"frame": 0, "time": 0.0, "cut": False, "people": [_person(5000, 1, 1, 3, 3), _person(3, 9, 9, 3, 3)]}
    ]
    write_mots(tmp_path / "a.txt", VideoRows("a", WIDTH, HEIGHT, None, RowsList(rows)))
    assert [row.track_id for row in read_mots(tmp_path / "a.txt")] == [2000, 2001]
    crowd: list[FrameRow] = [
        {"frame": frame, "time": 0.0, "cut": False, "people": [_person(frame, 1, 1, 3, 3)]} for frame in range(1001)
    ]
    with pytest.raises(UserError, match="a: 1001 people, and MOTS can tell 1000 apart"):
        write_mots(tmp_path / "b.txt", VideoRows("a", WIDTH, HEIGHT, None, RowsList(crowd)))
    assert not (tmp_path / "b.txt").exists()


def test_boxes_of_motchallenge_count_from_one(tmp_path: Path, video: VideoRows) -> None:
    write_boxes(tmp_path / "street.txt", video)
    lines = (tmp_path / "street.txt").read_text().splitlines()
    assert lines[0] == "1,1,3,4,6,10,0.9,1,1"
    assert [line.split(",")[0] for line in lines] == ["1", "1", "3", "3", "4"]


def test_boxes_tell_how_much_is_seen_where_that_is_known(tmp_path: Path) -> None:
    person = _person(1, 2, 3, 6, 10)
    person["amodal_segmentation"] = _person(1, 2, 3, 6, 20)["segmentation"]  # type: ignore[typeddict-item]
    rows: list[FrameRow] = [{"frame": 0, "time": 0.0, "cut": False, "people": [person]}]
    write_boxes(tmp_path / "a.txt", VideoRows("a", WIDTH, HEIGHT, None, RowsList(rows)))
    assert (tmp_path / "a.txt").read_text().strip().split(",")[-1] == "0.5"


def test_posetrack_has_its_own_keypoints(tmp_path: Path, video: VideoRows) -> None:
    path = tmp_path / "street.json"
    write_poses(path, video)
    data = json.loads(path.read_text())
    assert data["categories"][0]["keypoints"] == list(keypoint_set("posetrack18").names)
    assert [image["frame_id"] for image in data["images"]] == [4, 5, 7, 8]
    assert {image["nframes"] for image in data["images"]} == {4}
    assert [(row["image_id"], row["track_id"]) for row in data["annotations"]] == [
        (4, 1), (4, 7), (7, 7), (7, 1), (8, 1),
    ]  # fmt: skip
    points = np.array(data["annotations"][0]["keypoints"]).reshape(17, 3)
    labels = np.array(ROWS[0]["people"][0]["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(points[0], labels[0])
    np.testing.assert_allclose(points[3:], labels[3:])
    neck = labels[5:7, :2].mean(axis=0)
    np.testing.assert_allclose(points[1, :2], neck)
    np.testing.assert_allclose(points[2, :2], labels[0, :2] + 0.8 * (labels[0, :2] - neck))
    assert data["annotations"][0]["scores"][1] == pytest.approx(0.55)


def test_posetrack_leaves_out_what_cannot_be_told() -> None:
    person = _person(1, 2, 3, 6, 10)
    person["keypoints"][3 * 5 + 2] = 0
    points, scores = to_posetrack(person)
    assert points[3:9] == [0.0] * 6
    assert scores[1:3] == [0.0, 0.0]
    person["keypoints"] = [0.0] * 12
    with pytest.raises(UserError, match="person 1: expected 17 keypoints, got 4"):
        to_posetrack(person)


def test_posetrack_takes_its_own_keypoints_as_they_are() -> None:
    person = _person(1, 2, 3, 6, 10)
    assert to_posetrack(person, keypoint_set("posetrack18"))[0] == person["keypoints"]
    assert len(COCO_KEYPOINTS) == 17


def test_rows_are_read_from_any_one_on(tmp_path: Path) -> None:
    rows = RowsFile(_lines(tmp_path / "people.jsonl", [{"settings": {}}, *ROWS]))
    assert list(rows()) == ROWS
    assert list(rows(2)) == ROWS[2:]
    assert list(rows(4)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"frame": 0, "time": 0, "people": []}\n{"fra', "line 2: is cut off, as of a run that was interrupted"),
        ("nothing\n", "line 1: not JSON"),
        ("[]\n", "line 1: expected an object with named fields"),
        ('{"time": 0, "people": []}\n', "line 1: expected frame to be the number of a frame"),
        ('{"frame": 0, "people": []}\n', "line 1: expected time to be seconds"),
        ('{"frame": 0, "time": 0}\n', "line 1: expected a list of people, got None"),
        ('{"frame": 0, "time": 0, "people": [{}]}\n', "line 1: expected track_id to be a whole number"),
        (
            '{"frame": 0, "time": 0, "people": [{"track_id": 1}, {"track_id": 1}]}\n',
            "line 1: person 1 is twice in the frame",
        ),
        ('{"frame": 3, "time": 0, "people": []}\n{"frame": 3, "time": 1, "people": []}\n', "line 2: frame 3 after fra"),
    ],
)
def test_lines_that_are_no_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "people.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        RowsFile(tmp_path / "people.jsonl")


def test_rows_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.jsonl: cannot be read"):
        RowsFile(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2001 2 24 32", "line 1: expected 6 fields, frame id class height width run-lengths, got 5"),
        ("1 2001 x 24 32 abc", "line 1: expected whole numbers before the run lengths"),
        ("1 2001 2 24 32 P1", "line 1: its run lengths do not add up to the 768 pixels"),
        ("\n1 2001 2 24 32 ~~", "line 2: its run lengths are broken"),
    ],
)
def test_lines_that_are_no_mots_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text + "\n")
    with pytest.raises(UserError, match=message):
        list(read_mots(tmp_path / "a.txt"))


def test_all_formats_are_written_into_one_folder(tmp_path: Path, video: VideoRows) -> None:
    files = export(tmp_path / "found", video)
    assert [str(path.relative_to(tmp_path / "found")) for path in files] == [
        "people.json", "vis.json", "mots/street.txt", "mot/street.txt", "posetrack/street.json",
    ]  # fmt: skip
    assert all(path.stat().st_size for path in files)
    assert export(tmp_path / "some", video, ["mot"]) == [tmp_path / "some" / "mot" / "street.txt"]
    with pytest.raises(UserError, match="there is no format 'mott'"):
        export(tmp_path, video, ["mott"])


def test_frames_may_have_sizes_of_their_own(tmp_path: Path) -> None:
    larger = torch.zeros(1, 30, 50, dtype=torch.bool)
    larger[0, 10:28, 20:45] = True
    somebody = {**_person(1, 20, 10, 25, 18), "segmentation": to_rle(larger)[0]}
    rows: list[Any] = [ROWS[0], {"frame": 9, "time": 0.36, "cut": True, "people": [somebody]}]
    video = VideoRows("street", WIDTH, HEIGHT, 25.0, RowsList(rows))
    export(tmp_path, video, ["coco", "mots", "mot", "posetrack"])
    for file in (tmp_path / "people.json", tmp_path / "posetrack" / "street.json"):
        sizes = [(image["height"], image["width"]) for image in json.loads(file.read_text())["images"]]
        assert sizes == [(HEIGHT, WIDTH), (30, 50)]
    last = (tmp_path / "mots" / "street.txt").read_text().splitlines()[-1].split(" ")
    assert last[3:5] == ["30", "50"]
    assert coco_mask.area({"size": [30, 50], "counts": last[5].encode()}) == 18 * 25
    with pytest.raises(UserError, match="street: has frames of 50x30 pixels behind the first one of 32x24"):
        export(tmp_path, video, ["vis"])
    assert not (tmp_path / "vis.json").exists()
