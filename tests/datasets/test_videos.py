"""Readers of data sets of videos: small ones in the official layouts are read as they are meant, wrong ones refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from bmp.build import build_part
from bmp.datasets.mots import MOTS
from bmp.datasets.object_videos import DAVIS, YouTubeVOS
from bmp.datasets.posetrack import PoseTrack18Videos
from bmp.datasets.synthcrowd_video import SynthCrowdVideo, labelled
from bmp.datasets.videos import FrameLabels, VideoDataset
from bmp.datasets.youtube_vis import YouTubeVIS
from bmp.errors import UserError
from bmp.io.formats.index_masks import read_index_mask, write_index_mask
from bmp.io.formats.posetrack import write_poses
from bmp.io.formats.video_rows import RowsFile, VideoRows
from bmp.registry import VIDEO_DATASETS
from bmp.synthcrowd.video_files import write_videos
from bmp.synthcrowd.videos import VideoSettings, plan_video

HEIGHT, WIDTH = 24, 32
SMALL = VideoSettings(size=80, length=4, heights=(35.0, 60.0), cuts=0.0, people=(2, 3))


def _picture(path: Path, value: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (value, value, value)).save(path)


def _numbers(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    numbers = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, x, y, wide, high in boxes:
        numbers[y : y + high, x : x + wide] = number
    return numbers


def _labels(dataset: VideoDataset, index: int = 0) -> list[FrameLabels | None]:
    return [one.labels for one in dataset.frames(index)]


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    for number in range(3):
        _picture(tmp_path / f"JPEGImages/480p/bear/{number:05}.jpg", number)
        path = tmp_path / f"Annotations/480p/bear/{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_index_mask(path, _numbers((1, 2 + number, 3, 6, 7), (2, 20, 10, 5, 5), (255, 0, 22, 32, 2)))
    for year, line in ((2017, "bear\n"), (2016, "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png\n")):
        (tmp_path / f"ImageSets/{year}").mkdir(parents=True)
        (tmp_path / f"ImageSets/{year}/val.txt").write_text(line)
    return tmp_path


def test_davis_2017_has_objects_and_void(davis: Path) -> None:
    dataset = DAVIS(davis)
    assert (dataset.name, dataset.published, len(dataset), dataset.video_name(0)) == (
        "DAVIS 2017 val", "davis_2017_val", 1, "bear",
    )  # fmt: skip
    frames = list(dataset.frames(0))
    assert [one.frame.index for one in frames] == [0, 1, 2]
    for number, one in enumerate(frames):
        assert one.labels is not None
        assert one.labels.masks is not None
        assert one.labels.ids.tolist() == [1, 2]
        assert one.labels.masks.sum(axis=(1, 2)).tolist() == [42, 25]
        assert one.labels.boxes[0].tolist() == [2 + number, 3, 8 + number, 10]
        assert one.labels.void is not None
        assert one.labels.void.sum() == 64


def test_davis_2016_has_one_object(davis: Path) -> None:
    (labels, *_) = _labels(DAVIS(davis, year=2016))
    assert labels is not None
    assert labels.masks is not None
    assert labels.ids.tolist() == [1]
    assert labels.masks.sum() == 42 + 25 + 64
    assert labels.void is None


def _break_davis(davis: Path, what: str) -> None:
    picture = davis / "JPEGImages/480p/bear/00001.jpg"
    label = davis / "Annotations/480p/bear/00001.png"
    if what == "size":
        write_index_mask(label, np.zeros((5, 6), np.uint8))
    elif what == "colours":
        _picture(label)
    elif what == "broken label":
        label.write_bytes(b"\x89PNG")
    elif what == "broken picture":
        picture.write_bytes(b"")
    elif what == "no pictures":
        for path in picture.parent.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("size", r"00001.png: 6x5 pixels, its picture has 32x24"),
        ("colours", r"00001.png: expected a picture with a number a pixel"),
        ("broken label", r"00001.png: "),
        ("broken picture", r"00001.jpg: .*empty"),
        ("no pictures", r"bear has no pictures"),
    ],
)
def test_broken_frames_are_named_in_one_line(davis: Path, what: str, message: str) -> None:
    _break_davis(davis, what)
    with pytest.raises(UserError, match=message) as caught:
        list(DAVIS(davis).frames(0))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: DAVIS(), "DAVIS 2017 val: no root is given"),
        (lambda root: DAVIS(root, year=2018), "expected year 2016 or 2017, got 2018"),
        (lambda root: DAVIS(root, split="test"), "has no ImageSets/2017/test.txt"),
        (lambda root: YouTubeVOS(root), "has no valid/JPEGImages"),
        (lambda root: MOTS(root), "has no labels, such as MOTS20-02/gt/gt.txt"),
        (lambda root: PoseTrack18Videos(root), "has no annotations/val"),
        (lambda root: YouTubeVIS(root / "none.json", root), "none.json: cannot be read"),
        (lambda root: YouTubeVIS(root / "none.json", root / "none"), "none is not a folder"),
    ],
)
def test_what_is_missing_is_named(davis: Path, make: Callable[[Path], VideoDataset], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(davis)


def test_a_list_with_videos_that_are_not_there_is_refused(davis: Path) -> None:
    (davis / "ImageSets/2017/val.txt").write_text("bear\ncat\n")
    with pytest.raises(UserError, match="has no folder cat"):
        DAVIS(davis)
    (davis / "ImageSets/2017/val.txt").write_text("")
    with pytest.raises(UserError, match="there is no video in"):
        DAVIS(davis)


def test_youtube_vos_labels_some_frames(tmp_path: Path) -> None:
    root = tmp_path / "valid"
    for number in (0, 5, 10):
        _picture(root / f"JPEGImages/0a49f5265b/{number:05}.jpg")
    (root / "Annotations/0a49f5265b").mkdir(parents=True)
    write_index_mask(root / "Annotations/0a49f5265b/00005.png", _numbers((3, 2, 3, 6, 7)))
    (root / "meta.json").write_text(json.dumps({"videos": {"0a49f5265b": {"objects": {"3": {"category": "person"}}}}}))
    dataset = YouTubeVOS(tmp_path)
    first, second, third = _labels(dataset)
    assert first is None
    assert third is None
    assert second is not None
    assert second.ids.tolist() == [3]
    (root / "meta.json").write_text("[]")
    with pytest.raises(UserError, match="expected an object with videos by name"):
        YouTubeVOS(tmp_path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_videos(folder, "small", SMALL, 1)
    return folder


def _expect_the_drawn_ones(dataset: VideoDataset, offset: int = 0) -> None:
    frames = list(plan_video(0, 0, SMALL))
    found = list(dataset.frames(0))
    assert len(found) == len(frames)
    for one, own in zip(found, frames, strict=True):
        assert one.labels is not None
        assert one.labels.masks is not None
        order = one.labels.ids.argsort()
        assert len(order) == len(own.ids)
        if offset:
            assert (one.labels.ids[order] - offset).tolist() == own.ids.tolist()
        np.testing.assert_array_equal(one.labels.masks[order], own.scene.visible)
        np.testing.assert_array_equal(one.labels.boxes[order], own.scene.boxes)
        np.testing.assert_array_equal(one.frame.image.pixels, labelled(own).frame.image.pixels)


@pytest.mark.slow
def test_what_is_written_as_youtube_vis_is_read(drawn: Path) -> None:
    dataset = YouTubeVIS(drawn / "small_vis.json", drawn)
    assert (len(dataset), dataset.video_name(0), dataset.name) == (1, "small/000000", "small_vis")
    _expect_the_drawn_ones(dataset)


@pytest.mark.slow
def test_what_is_written_as_mots_is_read_in_either_layout(drawn: Path, tmp_path: Path) -> None:
    lines = (drawn / "small_mots/000000.txt").read_text().splitlines()
    (tmp_path / "challenge/MOTS20-02/gt").mkdir(parents=True)
    (tmp_path / "kitti/image_02/0002").mkdir(parents=True)
    (tmp_path / "kitti/instances_txt").mkdir(parents=True)
    (tmp_path / "challenge/MOTS20-02/img1").mkdir()
    for number in range(4):
        content = (drawn / f"small/000000/{number:06}.jpg").read_bytes()
        (tmp_path / f"challenge/MOTS20-02/img1/{number + 1:06}.jpg").write_bytes(content)
        (tmp_path / f"kitti/image_02/0002/{number:06}.png").write_bytes(content)
    (tmp_path / "challenge/MOTS20-02/gt/gt.txt").write_text("\n".join(lines))
    earlier = [" ".join([str(int(line.split()[0]) - 1), *line.split()[1:]]) for line in lines]
    (tmp_path / "kitti/instances_txt/0002.txt").write_text("\n".join(earlier))
    challenge, kitti = MOTS(tmp_path / "challenge"), MOTS(tmp_path / "kitti")
    assert (challenge.name, challenge.video_name(0)) == ("MOTSChallenge", "MOTS20-02")
    assert (kitti.name, kitti.video_name(0)) == ("KITTI MOTS", "0002")
    _expect_the_drawn_ones(challenge, offset=2000)
    _expect_the_drawn_ones(kitti, offset=2000)
    (tmp_path / "challenge/MOTS20-02/img1/000002.jpg").unlink()
    with pytest.raises(UserError, match="frame 2 is labelled and has no picture"):
        list(challenge.frames(0))


@pytest.mark.slow
def test_mots_has_regions_that_count_for_nothing(drawn: Path, tmp_path: Path) -> None:
    line = (drawn / "small_mots/000000.txt").read_text().splitlines()[0].split()
    others = [" ".join(["1", "1000", "1", *line[3:]]), " ".join(["1", "10000", "10", *line[3:]])]
    (tmp_path / "a/gt").mkdir(parents=True)
    (tmp_path / "a/gt/gt.txt").write_text("\n".join(others))
    _picture(tmp_path / "a/img1/000001.jpg", size=(80, 80))
    (labels,) = _labels(MOTS(tmp_path))
    assert labels is not None
    assert labels.ids.tolist() == []
    assert labels.void is not None
    assert labels.void.any()


@pytest.mark.slow
def test_what_is_written_as_posetrack_is_read(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations/val").mkdir(parents=True)
    (tmp_path / "images").symlink_to(drawn)
    video = VideoRows("images/small/000000", 80, 80, 25.0, RowsFile(drawn / "small/000000.jsonl"))
    write_poses(tmp_path / "annotations/val/000000.json", video)
    dataset = PoseTrack18Videos(tmp_path)
    assert dataset.video_name(0) == "000000"
    for labels, own in zip(_labels(dataset), plan_video(0, 0, SMALL), strict=True):
        assert labels is not None
        assert labels.masks is None
        assert labels.keypoints is not None
        assert labels.ids.tolist() == own.ids.tolist()
        np.testing.assert_array_equal(labels.boxes, own.scene.boxes)
        np.testing.assert_allclose(labels.keypoints[:, 5:], own.scene.keypoints[:, 5:], atol=0.01)
        np.testing.assert_allclose(labels.keypoints[:, 0], own.scene.keypoints[:, 0], atol=0.01)


def _posetrack(root: Path, image: dict[str, Any], person: dict[str, Any]) -> PoseTrack18Videos:
    _picture(root / "images/a/000000.jpg")
    (root / "annotations/val").mkdir(parents=True, exist_ok=True)
    data = {
        "images": [{"id": 7, "file_name": "images/a/000000.jpg", "is_labeled": True, **image}],
        "annotations": [{"image_id": 7, "track_id": 2, "keypoints": [5.0, 6.0, 1.0] * 17, **person}],
    }
    (root / "annotations/val/a.json").write_text(json.dumps(data))
    return PoseTrack18Videos(root)


def test_posetrack_has_regions_to_ignore_and_people_without_boxes(tmp_path: Path) -> None:
    regions = {"ignore_regions_x": [[0, 9, 9, 0]], "ignore_regions_y": [[0, 0, 9, 9]]}
    points = [5.0, 6.0, 1.0] * 16 + [9.0, 20.0, 1.0]
    (labels,) = _labels(_posetrack(tmp_path, regions, {"keypoints": points}))
    assert labels is not None
    assert labels.void is not None
    assert labels.void.sum() == 100
    assert labels.boxes.tolist() == [[5, 6, 9, 20]]
    assert _labels(_posetrack(tmp_path, {"is_labeled": False}, {})) == [None]


@pytest.mark.parametrize(
    ("image", "person", "message"),
    [
        ({"file_name": "../a.jpg"}, {}, r"images\[0\]: '../a.jpg' leads out of the folder"),
        ({"ignore_regions_x": [[0]]}, {}, r"images\[0\]: its regions to be ignored have not as many x as y"),
        ({}, {"image_id": 8}, r"annotations\[0\]: expected image_id to be the id of one of the images"),
        ({}, {"track_id": "a"}, r"annotations\[0\]: expected track_id to be a whole number"),
        ({}, {"keypoints": [1, 2, 3]}, r"annotations\[0\]: expected keypoints to be x, y, v of 17 keypoints"),
        ({}, {"bbox": [1, 2]}, r"annotations\[0\]: expected bbox to be \[x, y, width, height\]"),
    ],
)
def test_wrong_fields_of_posetrack_are_named(
    tmp_path: Path, image: dict[str, Any], person: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        list(_posetrack(tmp_path, image, person).frames(0))


def _vis(root: Path, change: Callable[[dict[str, Any]], None] = lambda data: None) -> YouTubeVIS:
    runs = {"size": [HEIGHT, WIDTH], "counts": [10, 5, HEIGHT * WIDTH - 15]}
    for number in range(2):
        _picture(root / f"v/{number}.jpg")
    data: dict[str, Any] = {
        "videos": [{"id": 1, "height": HEIGHT, "width": WIDTH, "file_names": ["v/0.jpg", "v/1.jpg"]}],
        "categories": [{"id": 1, "name": "Person"}, {"id": 2, "name": "Fish"}],
        "annotations": [
            {"id": 5, "video_id": 1, "category_id": 1, "segmentations": [None, runs]},
            {"id": 6, "video_id": 1, "category_id": 2, "segmentations": [runs, None]},
            {"id": 7, "video_id": 1, "category_id": 1, "segmentations": [runs, None], "iscrowd": 1},
        ],
    }
    change(data)
    (root / "vis.json").write_text(json.dumps(data))
    return YouTubeVIS(root / "vis.json", root, name="OVIS")


def test_ovis_counts_people_whatever_their_spelling_and_crowds_are_void(tmp_path: Path) -> None:
    first, second = _labels(_vis(tmp_path))
    assert first is not None
    assert second is not None
    assert first.ids.tolist() == []
    assert first.void is not None
    assert first.void.sum() == 5
    assert second.ids.tolist() == [5]
    everything = YouTubeVIS(tmp_path / "vis.json", tmp_path, category=None)
    assert [labels.ids.tolist() for labels in _labels(everything) if labels] == [[6], [5]]
    with pytest.raises(UserError, match=r"there is no category 'dog'"):
        YouTubeVIS(tmp_path / "vis.json", tmp_path, category="dog")


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("videos", {"file_names": []}, r"videos\[0\]: expected file_names to be a list of names"),
        ("videos", {"file_names": ["/v/0.jpg", "v/1.jpg"]}, r"'/v/0.jpg' leads out of the folder"),
        ("videos", {"height": 0}, r"videos\[0\]: expected height to be a number of pixels"),
        ("annotations", {"video_id": 9}, r"annotations\[0\]: expected video_id to be the id of one of the videos"),
        ("annotations", {"segmentations": [None]}, r"expected segmentations to be a list with 2 entries"),
        (
            "annotations",
            {"segmentations": [None, {"size": [HEIGHT, WIDTH], "counts": [1, 2]}]},
            r"annotations\[0\]: frame 1: its run lengths do not add up",
        ),
    ],
)
def test_wrong_fields_of_youtube_vis_are_named(
    tmp_path: Path, table: str, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        _vis(tmp_path, lambda data: data[table][0].update(change))


def test_pictures_of_another_size_than_their_labels_are_named(tmp_path: Path) -> None:
    dataset = _vis(tmp_path)
    _picture(tmp_path / "v/1.jpg", size=(9, 8))
    with pytest.raises(UserError, match=r"1.jpg: 9x8 pixels, its labels are for 32x24"):
        list(dataset.frames(0))


def test_numbers_of_pixels_are_written_as_they_are_read(tmp_path: Path) -> None:
    numbers = np.arange(256).reshape(16, 16)
    write_index_mask(tmp_path / "a.png", numbers)
    np.testing.assert_array_equal(read_index_mask(tmp_path / "a.png"), numbers)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
    with pytest.raises(UserError, match="expected numbers"):
        write_index_mask(tmp_path / "a.png", numbers + 1)
    with pytest.raises(UserError, match=r"b.png: "):
        read_index_mask(tmp_path / "b.png")


def test_data_sets_of_videos_are_built_by_name() -> None:
    dataset = build_part({"type": "SynthCrowdVideo", "split": "video-val", "count": 1}, VIDEO_DATASETS)
    assert isinstance(dataset, SynthCrowdVideo)
    with pytest.raises(UserError, match="there is no dataset of videos 'DAVIES'"):
        build_part({"type": "DAVIES"}, VIDEO_DATASETS)
