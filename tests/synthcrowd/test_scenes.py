"""SynthCrowd's scenes: the ground truth is what is painted, limits hold, files and memory agree, chance is tied down."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from bmp.datasets.people import PeopleDataset
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.errors import UserError
from bmp.evaluation.rounds import labelled_kinds
from bmp.ops.boxes import iou
from bmp.ops.masks import to_boxes
from bmp.synthcrowd import files, scenes
from bmp.synthcrowd.__main__ import main
from bmp.synthcrowd.backgrounds import background
from bmp.synthcrowd.figures import Body, Figure, Look, PoseKind, draw, sample_body, sample_look
from bmp.synthcrowd.objects import draw_object, draw_seat
from bmp.synthcrowd.scenes import MIN_PIXELS, Scene, Settings, box_iou, make_scene
from bmp.synthcrowd.sheet import scene_sheet
from bmp.synthcrowd.splits import SPLITS

HARD, CLEAR = SPLITS["test-hard"].settings, SPLITS["test-clear"].settings
_LEFT_ELBOW = 7
CROWDED = Settings(people=(4, 8), pairs=0.5, objects=(2, 6), size=192, heights=(50.0, 220.0))


def _within(masks: npt.NDArray[np.bool_], x: float, y: float, radius: float) -> bool:
    """Whether a pixel of the mask, a unit square, is within ``radius`` of the pixel with that point."""
    rows, columns = np.nonzero(masks)
    return bool(((columns - np.floor(x)) ** 2 + (rows - np.floor(y)) ** 2 <= radius**2).any())


def _check(scene: Scene, size: int) -> None:
    """All that is true of every scene."""
    count = len(scene.boxes)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.visible.shape == scene.amodal.shape == (count, size, size)
    assert scene.visible.sum(axis=0).max(initial=0) <= 1, "a pixel shows two people"
    assert not (scene.visible & ~scene.amodal).any()
    assert (scene.visible.sum(axis=(1, 2)) >= MIN_PIXELS).all()
    assert sorted(scene.order) == list(range(count))
    for near in range(count):
        for far in np.flatnonzero(scene.order < scene.order[near]):
            assert not (scene.visible[far] & scene.amodal[near]).any(), "somebody is seen through somebody nearer"
    np.testing.assert_array_equal(scene.boxes, to_boxes(torch.from_numpy(scene.visible)).numpy())
    boxes = torch.from_numpy(scene.boxes)
    assert scene.max_iou == pytest.approx(float((iou(boxes, boxes) - torch.eye(count)).amax() if count > 1 else 0.0))
    np.testing.assert_array_equal(scene.parts > 0, scene.visible.any(axis=0))
    assert scene.parts.max() < 20
    assert scene.things.shape == (size, size)
    assert scene.things.dtype == np.uint8
    assert not scene.things[scene.visible.any(axis=0)].any(), "a pixel shows a person and a thing"
    for person, points in enumerate(scene.keypoints):
        for x, y, v in points:
            assert v in (0, 1, 2)
            if v == 0:
                assert (x, y) == (0, 0)
                continue
            assert 0 <= x < size
            assert 0 <= y < size
            if v == 2:
                assert _within(scene.visible[person], x, y, 2), "a visible keypoint is not where its person is seen"
            if scene.amodal[person, int(y), int(x)]:
                seen = scene.visible[person, int(y), int(x)]
                assert v == (2 if seen else 1), "visible is what lies where the person is seen, whatever hides it else"
    assert not (scene.self_occluded & (scene.keypoints[..., 2] == 0)).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "index"),
    [(Settings(), 0), (Settings(), 1), (CROWDED, 0), (CROWDED, 1), (CROWDED, 2), (HARD, 0), (HARD, 1), (CLEAR, 0)],
)
def test_truth_holds_together(wanted: Settings, index: int) -> None:
    scene = make_scene(0, index, wanted)
    assert len(scene.boxes) > 0
    _check(scene, wanted.size)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(64, 200),
    people=st.tuples(st.integers(0, 5), st.integers(0, 4)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    heights=st.tuples(st.floats(8, 150), st.floats(1, 3)).map(lambda pair: (pair[0], pair[0] * pair[1])),
    max_iou=st.floats(0, 1),
    min_visible=st.floats(0, 1),
    objects=st.integers(0, 4),
    shares=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_truth_holds_together_for_any_settings(
    seed: int,
    size: int,
    people: tuple[int, int],
    heights: tuple[float, float],
    max_iou: float,
    min_visible: float,
    objects: int,
    shares: tuple[float, float, float, float],
) -> None:
    empty, pairs, truncation, teams = shares
    wanted = Settings(
        size=size,
        people=people,
        heights=heights,
        max_iou=max_iou,
        min_visible=min_visible,
        objects=(0, objects),
        empty=empty,
        pairs=pairs if people[1] >= 2 else 0.0,
        truncation=truncation,
        teams=teams,
    )
    scene = make_scene(seed, 0, wanted)
    _check(scene, size)
    assert len(scene.boxes) <= max(people[1], 2 if wanted.pairs else 0)
    assert scene.max_iou <= max(max_iou, wanted.pair_iou[1] if wanted.pairs else 0) + 1e-6


@pytest.mark.slow
def test_what_is_painted_is_what_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    tints = iter((40 + 10 * i, 250 - 10 * i, 5 * i) for i in range(1000))
    original = scenes.draw

    def flat(*arguments: object, **options: object) -> Figure:
        figure = original(*arguments, **options)  # type: ignore[arg-type]
        return dataclasses.replace(figure, colors=np.full_like(figure.colors, next(tints)))

    monkeypatch.setattr(scenes, "draw", flat)
    monkeypatch.setattr(scenes, "background", lambda rng, size, horizon: np.zeros((size, size, 3), np.uint8))
    monkeypatch.setattr(scenes.Exposure, "develop", lambda self, canvas, owner, rng: canvas)
    monkeypatch.setattr(scenes, "_cast_shadow", lambda canvas, item, shade: None)
    seen = 0
    for index in range(4):
        scene = make_scene(3, index, dataclasses.replace(CROWDED, objects=(0, 0)))
        for mask in scene.visible:
            tint = scene.image[mask][0]
            np.testing.assert_array_equal((scene.image == tint).all(axis=2), mask)
            seen += 1
    assert seen > 8


@pytest.mark.slow
def test_only_what_is_nearer_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_seat", lambda *_: None)
    for index in range(4):
        scene = make_scene(1, index, dataclasses.replace(CROWDED, objects=(0, 0)))
        for person, order in enumerate(scene.order):
            nearer = scene.amodal[scene.order > order].any(axis=0)
            np.testing.assert_array_equal(scene.visible[person], scene.amodal[person] & ~nearer)


@pytest.mark.slow
def test_things_hide_people() -> None:
    hidden = 0
    for index in range(8):
        scene = make_scene(0, index, dataclasses.replace(CROWDED, people=(1, 1), pairs=0.0, objects=(8, 8)))
        hidden += int((scene.amodal & ~scene.visible).sum())
        _check(scene, CROWDED.size)
    assert hidden > 100


@pytest.mark.slow
def test_things_are_what_hides_people_and_nothing_without_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "_seat", lambda *_: None)
    few = [make_scene(0, index, dataclasses.replace(CROWDED, objects=(0, 0))) for index in range(3)]
    assert not any(scene.things.any() for scene in few)
    for index in range(4):
        scene = make_scene(0, index, dataclasses.replace(CROWDED, people=(1, 1), pairs=0.0, objects=(8, 8)))
        assert 1 <= len(np.unique(scene.things[scene.things > 0])) <= 8
        # With one person, only things cover that person.
        assert scene.things[scene.amodal.any(axis=0) & ~scene.visible.any(axis=0)].all()


@pytest.mark.slow
@pytest.mark.parametrize("largest", [0.0, 0.2, 0.5])
def test_overlap_obeys_the_settings(largest: float) -> None:
    wanted = Settings(people=(3, 6), pairs=0.0, max_iou=largest, size=128, heights=(40.0, 120.0))
    overlaps = [make_scene(0, index, wanted).max_iou for index in range(8)]
    assert max(overlaps) <= largest
    if largest:
        assert max(overlaps) > 0.4 * largest, "the limit is never approached"


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [(0.3, 0.4), (0.55, 0.65), (0.7, 0.9)])
def test_pairs_overlap_as_much_as_asked(wanted: tuple[float, float]) -> None:
    kind = dataclasses.replace(HARD, pair_iou=wanted, max_iou=0.25)
    for index in range(5):
        assert wanted[0] - 1e-6 <= make_scene(0, index, kind).max_iou <= wanted[1] + 1e-6


@pytest.mark.slow
def test_every_hard_scene_has_a_hard_pair() -> None:
    for index in range(30):
        scene = make_scene(0, index, HARD)
        assert 2 <= len(scene.boxes) <= 5
        pairs = np.argwhere(box_iou(scene.boxes) > 0.5)
        assert len(pairs), f"scene {index} has no pair above 0.5"
        visible, amodal = scene.visible.sum(axis=(1, 2)), scene.amodal.sum(axis=(1, 2))
        assert any((visible[pair] >= 150).all() and (visible[pair] >= 0.25 * amodal[pair]).all() for pair in pairs)


@pytest.mark.slow
def test_every_clear_scene_has_a_pair_and_shows_half_of_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[float] = []
    original = scenes.draw

    def drawn(body: Body, look: Look, height: float, *arguments: Any, **options: Any) -> Figure:
        heights.append(height)
        return original(body, look, height, *arguments, **options)

    monkeypatch.setattr(scenes, "draw", drawn)
    for index in range(12):
        scene = make_scene(0, index, CLEAR)
        assert 2 <= len(scene.boxes) <= 3
        assert 0.5 < scene.max_iou <= 0.65
        assert (scene.visible.sum(axis=(1, 2)) >= 0.5 * scene.amodal.sum(axis=(1, 2))).all()
    assert min(heights) >= 160
    assert 1 - (1 - CLEAR.teams) ** 2 <= 0.1, "everybody, or the two of the pair, dressed alike"


def _dolls(*depths: float) -> list[scenes.Item]:
    """People of one pose in one place, 100 pixels high, at these depths."""
    rng = np.random.default_rng(3)
    body, look = sample_body(rng, PoseKind.STANDING, 0.0), sample_look(rng)
    figure = draw(body, look, 100, rng)
    return [scenes.put(figure, 80, 140, depth, 160) for depth in depths]


def test_hidden_keypoints_are_labelled_near_what_is_seen_of_the_person_only() -> None:
    (person,) = _dolls(1.0)
    points = person.figure.keypoints + np.array(person.pelvis)
    whole = scenes.labelled_keypoints(person, person.inside)
    np.testing.assert_array_equal(whole[:, 2], 2)
    np.testing.assert_allclose(whole[:, :2], points)
    # Everything above a row is hidden by somebody: what lies up to five pixels above it can be told from the rest.
    row, flags = int(points[_LEFT_ELBOW, 1]), set()
    for below in (2, 4, 5, 6, 8, 30):
        visible = person.inside.copy()
        visible[: row + below] = 0
        distances = [np.hypot(*(np.argwhere(visible)[:, ::-1] - np.floor(point)).T).min() for point in points]
        found = scenes.labelled_keypoints(person, visible)
        hidden = np.array([visible[int(y), int(x)] == 0 for x, y in points])
        np.testing.assert_array_equal(found[:, 2], np.where(hidden, np.where(np.array(distances) <= 5, 1, 0), 2))
        np.testing.assert_array_equal(found[found[:, 2] == 0, :2], 0)
        flags |= set(found[:, 2].tolist())
    assert flags == {0, 1, 2}


def test_what_the_own_body_hides_is_visible_as_in_ochuman_and_named() -> None:
    person = dataclasses.replace(_dolls(1.0)[0])
    turned = dataclasses.replace(person.figure, hidden=np.arange(17) < 5)
    crowd = scenes._Crowd(Settings(size=160, people=(1, 1), pairs=0.0))
    assert crowd.add(dataclasses.replace(person, figure=turned))
    blank = np.zeros((160, 160), np.uint8)
    scene = scenes.ground_truth(crowd.people, crowd.visible, np.zeros((160, 160, 3), np.uint8), blank, blank)
    assert (scene.keypoints[0, :, 2] == 2).all()
    np.testing.assert_array_equal(scene.self_occluded[0], np.arange(17) < 5)
    (row,) = files.to_coco([scene])["annotations"]
    assert row["self_occluded"] == [0, 1, 2, 3, 4]


def test_empty_scenes_have_nobody() -> None:
    scene = make_scene(0, 0, Settings(empty=1.0))
    _check(scene, 320)
    assert len(scene.boxes) == 0
    assert scene.max_iou == 0


@pytest.mark.slow
def test_teams_are_dressed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    similar: list[object] = []
    original = scenes.similar_look
    monkeypatch.setattr(scenes, "similar_look", lambda look, rng: (similar.append(look), original(look, rng))[1])
    make_scene(0, 0, Settings(people=(4, 4), pairs=0.0, teams=0.0))
    assert not similar
    make_scene(0, 0, Settings(people=(4, 4), pairs=0.0, teams=1.0))
    assert len(similar) >= 2
    assert all(look is similar[0] for look in similar)


@pytest.mark.slow
def test_a_scene_depends_on_nothing_but_its_numbers() -> None:
    first = make_scene(5, 7, CROWDED)
    make_scene(5, 8, CROWDED)
    np.random.default_rng(0).random()
    again = make_scene(5, 7, CROWDED)
    for field in dataclasses.fields(Scene):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    for other in (make_scene(6, 7, CROWDED), make_scene(5, 6, CROWDED)):
        assert (first.image != other.image).any()
    assert (first.image != make_scene(5, 7, dataclasses.replace(CROWDED, stream=9)).image).any()


def test_splits_are_streams_of_their_own() -> None:
    streams = [split.settings.stream for split in SPLITS.values()]
    assert len(set(streams)) == len(streams)
    assert {name: split.count for name, split in SPLITS.items()} == {
        "train": 8000,
        "val": 500,
        "test": 500,
        "test-hard": 500,
        "test-clear": 500,
    }


@pytest.mark.slow
def test_backgrounds_and_objects_at_odd_places() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        assert background(rng, 64, rng.uniform(-100, 200)).shape == (64, 64, 3)
        for thing in (draw_object(rng, -5, 300, rng.uniform(4, 80)), draw_seat(rng, 3, 3, 9, 5)):
            assert thing.colors.shape[:2] == thing.mask.shape
            assert thing.mask.any()
            assert thing.mask.max() == 1


@pytest.mark.slow
def test_coco_dataset_loads_in_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    made = [make_scene(0, index, CROWDED) for index in range(3)]
    coco = COCO()
    coco.dataset = json.loads(json.dumps(files.to_coco(made)))
    coco.createIndex()
    assert [image["file_name"] for image in coco.dataset["images"]] == [f"scenes/{i:06}.jpg" for i in range(3)]
    for image_id, scene in enumerate(made, 1):
        people = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(people) == len(scene.boxes)
        for row, person in enumerate(people):
            np.testing.assert_array_equal(coco.annToMask(person), scene.visible[row])
            amodal = coco.annToMask({**person, "segmentation": person["amodal_segmentation"]})
            np.testing.assert_array_equal(amodal, scene.amodal[row])
            x, y, width, height = person["bbox"]
            assert [x, y, x + width, y + height] == scene.boxes[row].tolist()
            assert person["area"] == scene.visible[row].sum()
            flags = person["keypoints"][2::3]
            assert flags == scene.keypoints[row, :, 2].tolist()
            assert person["num_keypoints"] == sum(flag > 0 for flag in flags)
            assert person["self_occluded"] == np.flatnonzero(scene.self_occluded[row]).tolist()
    assert files.to_coco([])["annotations"] == []


@pytest.mark.slow
def test_memory_and_disk_agree(tmp_path: Path) -> None:
    path = files.write(tmp_path, "test-hard", HARD, 3, seed=4)
    from_disk, in_memory = PeopleDataset(path, tmp_path), SynthCrowd("test-hard", count=3, seed=4)
    assert len(in_memory) == 3
    assert in_memory.name == "SynthCrowd test-hard"
    assert labelled_kinds(in_memory.ground_truth) == ["bbox", "segm", "keypoints"]
    assert from_disk.ground_truth == in_memory.ground_truth
    for index in range(3):
        assert from_disk.file_name(index) == in_memory.file_name(index)
        assert torch.equal(from_disk.load(index).pixels, in_memory.load(index).pixels)
    close = np.abs(in_memory.load(0).pixels.numpy().astype(int) - make_scene(4, 0, HARD).image)
    assert close.mean() < 8, "red and blue have changed places, or the picture is another"


@pytest.mark.slow
def test_parts_are_written_as_extras(tmp_path: Path) -> None:
    files.write(tmp_path, "val", CROWDED, 2, extras=True)
    for index in range(2):
        parts = cv2.imread(str(tmp_path / "val_parts" / f"{index:06}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(parts, make_scene(0, index, CROWDED).parts)


@pytest.fixture(scope="module")
def extras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A split of three scenes with its extras."""
    folder: Path = tmp_path_factory.mktemp("extras")
    files.write(folder, "val", CROWDED, 3, extras=True)
    return folder


@pytest.mark.slow
def test_pieces_are_people_two_parts_of_each_and_things(extras: Path) -> None:
    coco = COCO(str(extras / "val_pieces.json"))
    assert [category["name"] for category in coco.dataset["categories"]] == ["piece"]
    things = 0
    for image_id in range(1, 4):
        scene = make_scene(0, image_id - 1, CROWDED)
        rows = coco.loadAnns(coco.getAnnIds(image_id))
        masks = [coco.annToMask(row).astype(bool) for row in rows]
        for row, mask in zip(rows, masks, strict=True):
            assert mask.sum() == row["area"] >= MIN_PIXELS
            x, y, width, height = row["bbox"]
            assert to_boxes(torch.from_numpy(mask)[None])[0].tolist() == [x, y, x + width, y + height]
        count = len(scene.visible)
        np.testing.assert_array_equal(masks[:count], scene.visible)
        parts = [0] * count
        for mask in masks[count:]:
            if scene.things[mask].all():
                (number,) = np.unique(scene.things[mask])
                np.testing.assert_array_equal(mask, scene.things == number)
                things += 1
                continue
            (owner,) = np.flatnonzero((scene.visible & mask).any(axis=(1, 2)))
            (label,) = np.unique(scene.parts[mask])
            np.testing.assert_array_equal(mask, scene.visible[owner] & (scene.parts == label))
            parts[owner] += 1
        assert max(parts) == 2
        assert things_of(scene) == sum(bool(scene.things[mask].all()) for mask in masks)
    assert things > 3


def things_of(scene: Scene) -> int:
    """Count the things of which enough is seen."""
    _, counts = np.unique(scene.things[scene.things > 0], return_counts=True)
    return int((counts >= MIN_PIXELS).sum())


@pytest.mark.slow
def test_pieces_are_read_as_any_data_set(extras: Path) -> None:
    pieces, people = (PeopleDataset(extras / name, extras) for name in ("val_pieces.json", "val.json"))
    assert len(pieces) == len(people) == 3
    assert pieces.ground_truth["images"] == people.ground_truth["images"]
    assert len(pieces.ground_truth["annotations"]) > 2 * len(people.ground_truth["annotations"])
    assert all("keypoints" not in row for row in pieces.ground_truth["annotations"])


@pytest.mark.slow
def test_extras_change_nothing_else_and_are_replaced(extras: Path, tmp_path: Path) -> None:
    def write(count: int, **options: bool) -> dict[str, str]:
        files.write(tmp_path, "val", CROWDED, count, **options)
        return _digest(tmp_path)

    plain = write(3)
    assert not {name for name in plain if "pieces" in name or "parts" in name}
    whole = _digest(extras)
    assert plain == {name: digest for name, digest in whole.items() if name in plain}
    assert write(3, extras=True, overwrite=True) == whole
    with pytest.raises(UserError, match="--overwrite"):
        write(3, extras=True)
    (tmp_path / "val.json").unlink()
    (tmp_path / "val_pieces.json").write_text("stale")
    assert write(3, overwrite=True) == plain, "old extras stayed beside new scenes"


def test_pieces_of_an_empty_scene() -> None:
    scene = make_scene(0, 0, Settings(empty=1.0, objects=(0, 0), size=64))
    assert files._pieces(scene, np.random.default_rng(0)) == []


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_files(tmp_path: Path) -> None:
    for workers in (1, 2):
        count = []
        files.write(
            tmp_path / str(workers),
            "val",
            Settings(size=96, heights=(30.0, 90.0)),
            20,
            workers=workers,
            extras=True,
            advance=lambda: count.append(1),  # noqa: B023
        )
        assert len(count) == 20
    assert _digest(tmp_path / "1") == _digest(tmp_path / "2")
    assert len(_digest(tmp_path / "1")) == 42


@pytest.mark.slow
def test_command_writes_splits_and_does_not_replace_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--output", str(tmp_path), "--splits", "val", "test", "--count", "1", "--workers", "1"]
    assert main(command) == 0
    written = _digest(tmp_path)
    assert set(written) == {"val.json", "val/000000.jpg", "test.json", "test/000000.jpg"}
    assert written["val/000000.jpg"] != written["test/000000.jpg"]
    capsys.readouterr()
    assert main(command) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert "val.json exists" in complaint
    assert "--overwrite" in complaint
    (tmp_path / "val" / "stale.jpg").touch()
    assert main([*command, "--overwrite"]) == 0
    assert _digest(tmp_path) == written


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--splits", "tests"], "no split 'tests'; choose one of train, val, test, test-hard, test-clear"),
        (["--splits", "val"], "nothing to do"),
        (["--output", "/proc/nowhere", "--splits", "val", "--count", "1"], "/proc/nowhere: cannot be written"),
    ],
)
def test_command_says_what_is_wrong(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_sheet_shows_scenes_and_truth() -> None:
    made = [make_scene(0, index, dataclasses.replace(CROWDED, size=64)) for index in range(7)]
    sheet = scene_sheet(made)
    assert sheet.size == (6 * 64, 4 * 64)
    np.testing.assert_array_equal(np.asarray(sheet)[:64, 64:128], made[1].image)
    np.testing.assert_array_equal(np.asarray(sheet)[128:192, :64], made[6].image)
    with pytest.raises(ValueError, match="at least one scene"):
        scene_sheet([])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"split": "hard"}, "choose one of train, val, test, test-hard, test-clear"),
        ({"split": "test", "count": 0}, "a count from 1"),
        ({"split": "test", "seed": -1}, "a seed from 0"),
    ],
)
def test_dataset_says_what_is_wrong(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        SynthCrowd(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 32},
        {"people": (3, 2)},
        {"people": (0, 1), "pairs": 0.5},
        {"heights": (2.0, 9.0)},
        {"pairs": 1.5},
        {"pair_iou": (0.9, 0.5)},
        {"min_visible": -0.1},
        {"stream": -1},
        {"objects": (-1, 2)},
    ],
)
def test_settings_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"Settings\.\w+: expected"):
        Settings(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("split", "mean", "areas", "points"),
    [
        ("train", 131.18940104, [2944, 6883, 3116, 714, 2303], 22217.5117),
        ("test", 168.04232096, [887, 130, 75, 767, 845], 16230.4551),
        ("test-hard", 123.60640951, [10291, 8450], 6590.8745),
        ("test-clear", 132.31438802, [13858, 9666, 6950], 13113.3633),
    ],
)
def test_published_scenes_stay_as_they_are(split: str, mean: float, areas: list[int], points: float) -> None:
    scene = make_scene(0, 0, SPLITS[split].settings)
    assert scene.image.mean() == pytest.approx(mean, abs=1e-3)
    assert scene.visible.sum(axis=(1, 2)).tolist() == pytest.approx(areas, abs=2)
    assert scene.keypoints.sum() == pytest.approx(points, abs=0.01)
