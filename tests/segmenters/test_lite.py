"""Tests of the lite segmenter: where a pose makes it look, predicted quality, and the real network on photos."""

import dataclasses
import json

import cv2
import matplotlib.cbook
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.models.lite.landmarks import REGION_SCALE, SIZE, Landmarks
from bmp.registry import SEGMENTERS
from bmp.segmenters import lite
from bmp.segmenters.lite import LiteSegmenter
from bmp.structures import Detections, Image, Poses

HEAD = [[0, -70], [3, -73], [-3, -73], [6, -72], [-6, -72]]
ARMS = [[15, -50], [-15, -50], [20, -25], [-20, -25], [22, 0], [-22, 0]]
LEGS = [[10, 0], [-10, 0], [10, 40], [-10, 40], [10, 80], [-10, 80]]
STANDING = np.array([*HEAD, *ARMS, *LEGS], dtype=np.float32)


@pytest.fixture(scope="module")
def segmenter() -> LiteSegmenter:
    try:
        return LiteSegmenter()
    except (UserError, ImportError) as error:
        pytest.skip(f"the lite networks cannot be had here: {error}")


def poses(keypoints: torch.Tensor, scores: torch.Tensor) -> Poses:
    return Poses(keypoints, scores, scores, scores)


def nobody() -> Poses:
    return Poses.empty(17)


def test_it_is_registered():
    assert SEGMENTERS.get("LiteSegmenter") is LiteSegmenter


@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0.5, 10), st.floats(-3.1, 3.1))
def test_the_region_moves_grows_and_turns_with_the_pose(x, y, scale, angle):
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], dtype=np.float32)
    moved = STANDING @ turn * np.float32(scale) + np.array([x, y], np.float32)
    none = np.zeros((1, 4), np.float32)
    ones = np.ones((1, 17), np.float32)
    before, after = (lite.look_where(pose[None], ones, none)[0] for pose in (STANDING, moved))
    assert before[:2] == pytest.approx([0, 0], abs=1e-3)
    assert before[3] == pytest.approx(0, abs=1e-3)
    assert before[2] / 2 > np.abs(STANDING).max()
    assert after[:2] == pytest.approx([x, y], abs=0.05)
    assert after[2] == pytest.approx(before[2] * scale, rel=1e-3)
    assert np.cos(after[3] - angle) == pytest.approx(1, abs=1e-3)


def test_points_of_which_nothing_is_known_do_not_count():
    pose, scores = STANDING[None].copy(), np.ones((1, 17), np.float32)
    pose[0, 16], pose[0, 11], scores[0, 16], scores[0, 11] = 9999, -9999, 0, 0
    region = lite.look_where(pose, scores, np.zeros((1, 4), np.float32))[0]
    assert region[:2].tolist() == [-10, 0]
    assert region[2] < 500


@pytest.mark.parametrize("unknown", [lite.HIPS, lite.SHOULDERS, list(range(17))])
def test_without_hips_or_shoulders_the_box_counts(unknown):
    scores = np.ones((1, 17), np.float32)
    scores[:, unknown] = 0
    region = lite.look_where(STANDING[None], scores, np.array([[10, 20, 50, 100]], np.float32))[0]
    assert region.tolist() == [30, 60, 100, 0]


def seen(masks: np.ndarray, side: float = 40) -> Landmarks:
    """Made-up looks at one square region, from (10, 10) on."""
    count = len(masks)
    none = np.zeros((count, 39), np.float32)
    regions = np.array([[10 + side / 2, 10 + side / 2, side, 0]] * count, np.float32)
    points = np.zeros((count, 39, 2), np.float32)
    return Landmarks(regions, points, none, none, none, np.ones(count, np.float32), masks.astype(np.float32))


def test_a_mask_fits_a_box_as_far_as_their_extents_agree():
    masks = np.zeros((3, SIZE, SIZE))
    masks[:2, :, : SIZE // 2] = 1
    boxes = np.array([[10, 10, 30, 50], [10, 10, 50, 50], [10, 10, 50, 50]], np.float32)
    assert lite.fit(seen(masks), boxes, 200, 100) == pytest.approx([1, 0.5, 0], abs=1e-5)
    assert lite.fit(seen(masks[:1]), boxes[:1], 200, 30) == pytest.approx([0.5], abs=1e-5)  # cut to the image


def test_there_is_a_signal_for_every_weight():
    signals = lite.cell_signals(np.zeros((8, 8), np.float32), np.ones((8, 8), np.float32), 0.2, 0.9)
    assert list(signals) == list(lite.CELLS.weights)
    assert {values.shape for values in signals.values()} == {(8, 8)}
    assert {values.dtype for values in signals.values()} == {np.dtype(np.float32)}


def test_masks_that_fit_count_and_those_of_somebody_else_do_not():
    left = np.zeros((16, 16), np.float32)
    left[:, :8] = 1
    fitting, foreign = lite.claims([lite.cell_signals(left, left, fit, fit) for fit in (0.95, 0.0)])
    assert fitting[:, 2:7].mean() - fitting[:, 9:14].mean() > 0.5
    assert foreign[:, :8].mean() < foreign[:, 8:].mean() + 0.1  # if anything, somebody else's part is not the person's
    assert foreign[8, 8] > foreign[0, 15]  # the shape of people: rather in the middle than in a corner


def test_a_pixel_goes_to_one_person_at_most_and_to_nobody_outside_the_boxes():
    claims = np.full((3, 4, 4), 0.8, np.float32)
    claims[1] = 0.6
    claims[2] = lite.OWN / 2
    boxes = np.array([[0, 0, 20, 20], [10, 0, 30, 20], [40, 0, 60, 20]], np.float32)
    first, second, nobody = lite.shared_out(claims, np.ones(3, np.float32), boxes, 100, 50).whole().numpy()
    assert np.argwhere(first).max(axis=0).tolist() == [19, 19]
    assert np.argwhere(second).min(axis=0).tolist() == [0, 20]
    assert np.argwhere(second).max(axis=0).tolist() == [19, 29]
    assert not nobody.any()
    first, second, _ = lite.shared_out(claims, np.array([0.5, 1, 1], np.float32), boxes, 100, 50).whole().numpy()
    assert np.argwhere(first).max(axis=0).tolist() == [19, 9]
    outside = np.array([[-20, -10, -3, -5], [90, 40, 300, 200], [5, 5, 5, 5]], np.float32)
    partly = lite.shared_out(claims, np.ones(3, np.float32), outside, 100, 50)
    assert partly.whole().sum(dim=(1, 2)).tolist() == [0, 100, 0]


def test_cells_are_where_they_are_in_the_box():
    claims = np.zeros((1, 4, 4), np.float32)
    claims[0, :2, 3] = 1
    boxes = np.array([[10, 20, 50, 60]], np.float32)
    bits = lite.shared_out(claims, np.ones(1, np.float32), boxes, 100, 100).whole()[0].numpy()
    assert np.argwhere(bits).min(axis=0) == pytest.approx([20, 40], abs=2)
    assert np.argwhere(bits).max(axis=0) == pytest.approx([39, 49], abs=2)


def test_the_expected_iou_is_that_of_the_claims():
    claims = np.zeros((2, 2, 2), np.float32)
    claims[0] = [[1, 0.8], [0.2, 0]]
    assert lite.expected_iou(claims) == pytest.approx([1.8 / 2.2, 0])


def test_masks_of_two_people_do_not_overlap(monkeypatch):
    """The network sees the same square whatever it is asked: right for the first person, wrong for the second."""
    monkeypatch.setattr(lite, "resolve", lambda name: name)
    monkeypatch.setattr(lite.landmarks, "load", lambda path, threads: lambda image, at: seen(np.ones((2, SIZE, SIZE))))
    segmenter = LiteSegmenter()
    image = Image(torch.zeros(100, 200, 3, dtype=torch.uint8))
    people = Detections(torch.tensor([[10.0, 10, 50, 50], [40, 0, 140, 100]]), torch.tensor([1.0, 0.0]))
    pose = poses(torch.zeros(2, 17, 2), torch.zeros(2, 17))
    found = segmenter.segment(segmenter.open([image]), [people], [pose], [nobody()])[0]
    assert found.bits[0].sum() > 0.8 * 1600
    assert not (found.bits[0] & found.bits[1]).any()
    assert found.bits[1, 50, 90]
    assert not found.bits[1, :, :40].any()
    assert found.scores[0] > found.scores[1]


@pytest.mark.parametrize(("pose", "looks"), [(STANDING, 2), (STANDING + 5, 2), (STANDING + 60, 3), (STANDING / 2, 3)])
def test_a_pose_that_leads_to_where_the_network_has_looked_spares_a_look(monkeypatch, pose, looks):
    centre, ones = np.array([150, 100], np.float32), np.ones((1, 17), np.float32)
    where = lite.look_where(STANDING[None] + centre, ones, np.zeros((1, 4), np.float32))
    looked: list[np.ndarray] = []

    def network(picture: object, wanted: np.ndarray) -> Landmarks:
        """See a person who is best looked at where that standing one is."""
        looked.extend(wanted)
        found = dataclasses.replace(seen(np.ones((len(wanted), SIZE, SIZE))), regions=wanted)
        found.points[:, 33], found.points[:, 34] = centre, centre - [0, where[0, 2] / REGION_SCALE]
        return found

    monkeypatch.setattr(lite, "resolve", lambda name: name)
    monkeypatch.setattr(lite.landmarks, "load", lambda path, threads: network)
    picture = LiteSegmenter().open([Image(torch.zeros(200, 300, 3, dtype=torch.uint8))])[0]
    LiteSegmenter().signals(picture, np.array([[125, 20, 175, 185]], np.float32), pose[None] + centre, ones)
    assert len(looked) == looks


@pytest.mark.slow
def test_nobody_and_wrong_poses(segmenter):
    images = [Image(torch.zeros(5, 7, 3, dtype=torch.uint8))]
    assert segmenter.open([]) == []
    assert segmenter.segment([], [], [], []) == []
    masks = segmenter.segment(segmenter.open(images), [Detections.empty()], [nobody()], [nobody()])[0]
    assert masks.bits.shape == (0, 5, 7)
    with pytest.raises(ValueError, match="COCO's 17 keypoints"):
        segmenter.segment(segmenter.open(images), [Detections.empty()], [Poses.empty(14)], [nobody()])


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (301, 517)])
def test_any_pose_in_any_image_has_a_mask_of_its_size(segmenter, size):
    image = Image(torch.zeros(*size, 3, dtype=torch.uint8))
    keypoints = torch.from_numpy(np.stack([STANDING, STANDING * 0, STANDING - 5000]))
    people = Detections(torch.tensor([[0.0, 0, size[1], size[0]]] * 3), torch.ones(3))
    masks = segmenter.segment(segmenter.open([image]), [people], [poses(keypoints, torch.ones(3, 17))], [nobody()])[0]
    assert masks.bits.shape == (3, *size)
    assert not (masks.bits.sum(dim=0) > 1).any()
    assert ((masks.scores >= 0) & (masks.scores <= 1)).all()
    assert masks.prompts is None


@pytest.mark.slow
def test_the_portrait_is_cut_out(segmenter):
    from bmp.poses.lite import LitePoseEstimator

    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    image = Image(torch.from_numpy(np.array(PIL.Image.open(path))))
    people = Detections(torch.tensor([[0.0, 20, 512, 600]]), torch.ones(1))
    pose = LitePoseEstimator().estimate([image], [people])
    bits = segmenter.segment(segmenter.open([image]), [people], pose, [nobody()])[0].bits[0]
    assert bits[150:350, 200:350].float().mean() > 0.98  # the face
    assert bits[450:, 100:400].float().mean() > 0.95  # the coat
    assert bits[:300, 430:].float().mean() < 0.02  # blue background
    assert bits[:300, :120].float().mean() < 0.05  # the flag


def labelled(shared):
    folder = shared / "data" / "coco_mini"
    labels = json.loads((folder / "test_coco.json").read_text())
    for entry in labels["images"]:
        people = [a for a in labels["annotations"] if a["image_id"] == entry["id"] and a["num_keypoints"] > 0]
        yield Image(torch.from_numpy(np.array(PIL.Image.open(folder / entry["file_name"]).convert("RGB")))), people


def as_records(people):
    boxes = torch.tensor([a["bbox"] for a in people])
    keypoints = torch.tensor([a["keypoints"] for a in people]).reshape(-1, 17, 3).float()
    known = (keypoints[..., 2] > 0).float()
    found = Detections(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1), torch.ones(len(boxes)))
    return found, poses(keypoints[..., :2].contiguous(), known)


@pytest.mark.slow
def test_labelled_poses_lead_to_labelled_masks(segmenter, shared):
    """Mean mask IoU from labelled poses; 0.80 was measured."""
    overlaps = []
    for image, people in labelled(shared):
        found, pose = as_records(people)
        masks = segmenter.segment(segmenter.open([image]), [found], [pose], [nobody()])[0]
        for bits, label in zip(masks.bits.numpy(), people, strict=True):
            polygons = [np.rint(np.reshape(p, (-1, 2))).astype(np.int32) for p in label["segmentation"]]
            ground_truth = cv2.fillPoly(np.zeros(bits.shape, np.uint8), polygons, 1) > 0
            overlaps.append((bits & ground_truth).sum() / (bits | ground_truth).sum())
    assert np.mean(overlaps) > 0.77


@pytest.mark.slow
def test_rows_keep_their_order_and_scores_are_each_persons_own(segmenter, shared):
    image, people = list(labelled(shared))[3]
    found, pose = as_records(people)
    order = torch.arange(len(found)).flip(0)
    view = segmenter.open([image])[0]
    forward, backward, alone = segmenter.segment(
        [view] * 3, [found, found[order], found[2:3]], [pose, pose[order], pose[2:3]], [nobody()] * 3
    )
    for name in ("bits", "scores"):
        assert torch.equal(getattr(backward, name)[order], getattr(forward, name))
    assert torch.equal(alone.scores, forward.scores[2:3])
    assert not (forward.bits[2] & ~alone.bits[0]).any()  # alone, nobody takes a part of it
