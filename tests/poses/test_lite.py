"""Tests of the lite pose estimator: where it looks first, and the real network on photos."""

import json

import matplotlib.cbook
import numpy as np
import PIL.Image
import pytest
import torch

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite.landmarks import SIZE, Landmarks
from bmp.ops.oks import oks
from bmp.poses.lite import GROWTH, LitePoseEstimator
from bmp.registry import POSES
from bmp.structures import Detections, Image, Poses


@pytest.fixture(scope="module")
def estimator() -> LitePoseEstimator:
    try:
        return LitePoseEstimator()
    except (UserError, ImportError) as error:
        pytest.skip(f"the lite networks cannot be had here: {error}")


@pytest.fixture(scope="module")
def portrait() -> Image:
    path = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    return Image(torch.from_numpy(np.array(PIL.Image.open(path))))


class Recorder:
    """Stands in for the network: remembers where it looked and is surest of the tallest regions."""

    def __init__(self) -> None:
        self.looks: list[np.ndarray] = []

    def __call__(self, picture: object, wanted: np.ndarray) -> Landmarks:
        self.looks.append(wanted)
        count = len(wanted)
        points = np.repeat(wanted[:, None, :2], 39, axis=1)
        points[:, 34, 1] -= wanted[:, 2] / 2.5
        heat = np.repeat(wanted[:, 2:3] / 10_000, 39, axis=1)
        ones = np.ones((count, 39), np.float32)
        return Landmarks(wanted, points, ones, ones, heat, ones[:, 0], np.zeros((count, SIZE, SIZE), np.float32))


def test_it_is_registered():
    assert POSES.get("LitePoseEstimator") is LitePoseEstimator
    assert LitePoseEstimator.keypoints is COCO_KEYPOINTS


def test_people_cut_off_below_are_looked_at_as_if_they_went_on():
    estimator, network = object.__new__(LitePoseEstimator), Recorder()
    estimator._landmarks = network
    image = Image(torch.zeros(400, 300, 3, dtype=torch.uint8))
    boxes = torch.tensor([[10.0, 20, 60, 120], [100, 300, 150, 400], [0, 0, 40, 80]])
    poses = estimator.estimate([image], [Detections(boxes, torch.ones(3))])[0]
    first, second = network.looks
    assert first[:, 2].tolist() == pytest.approx([125, *(125 * GROWTH), 100])
    assert second[:, 2].tolist() == pytest.approx([125, 125 * GROWTH[-1], 100])
    assert poses.keypoints[1, 0].tolist() == pytest.approx([125, 300 + 50 * GROWTH[-1]])
    assert (boxes[1] == torch.tensor([100.0, 300, 150, 400])).all()


@pytest.mark.slow
def test_nobody(estimator, portrait):
    assert estimator.estimate([], []) == []
    poses = estimator.estimate([portrait], [Detections.empty()])[0]
    assert poses.keypoints.shape == (0, 17, 2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (301, 517)])
def test_any_box_of_any_image_has_a_pose(estimator, size):
    image = Image(torch.zeros(*size, 3, dtype=torch.uint8))
    boxes = torch.tensor([[0.0, 0, size[1], size[0]], [3, 3, 3, 3], [-50, -50, -40, -20]])
    poses = estimator.estimate([image], [Detections(boxes, torch.ones(3))])[0]
    assert poses.keypoints.shape == (3, 17, 2)


@pytest.mark.slow
def test_the_portrait_has_its_eyes_and_shoulders_where_they_are(estimator, portrait):
    box = torch.tensor([[0.0, 20, 512, 600]])
    poses = estimator.estimate([portrait], [Detections(box, torch.ones(1))])[0]
    named = dict(zip(COCO_KEYPOINTS.names, poses.keypoints[0].tolist(), strict=True))
    assert named["left_eye"] == pytest.approx([300, 195], abs=40)
    assert named["right_eye"] == pytest.approx([218, 195], abs=40)
    assert named["left_shoulder"] == pytest.approx([425, 400], abs=60)
    assert named["right_shoulder"] == pytest.approx([95, 395], abs=60)
    assert min(named["left_hip"][1], named["right_hip"][1]) > 600


def labelled(shared):
    folder = shared / "data" / "coco_mini"
    labels = json.loads((folder / "test_coco.json").read_text())
    for entry in labels["images"]:
        people = [a for a in labels["annotations"] if a["image_id"] == entry["id"] and a["num_keypoints"] > 0]
        yield Image(torch.from_numpy(np.array(PIL.Image.open(folder / entry["file_name"]).convert("RGB")))), people


@pytest.mark.slow
def test_labelled_boxes_lead_to_labelled_poses(estimator, shared):
    """Mean OKS from labelled boxes; 0.75 was measured."""
    images, labels = zip(*labelled(shared), strict=True)
    boxes = [torch.tensor([a["bbox"] for a in people]) for people in labels]
    given = [Detections(torch.cat([b[:, :2], b[:, :2] + b[:, 2:]], dim=1), torch.ones(len(b))) for b in boxes]
    found = estimator.estimate(images, given)
    sigmas, similarities = torch.tensor(COCO_KEYPOINTS.sigmas), []
    for people, poses in zip(labels, found, strict=True):
        ground_truth = torch.tensor([a["keypoints"] for a in people]).reshape(-1, 17, 3).float()
        area = torch.tensor([a["area"] for a in people])
        similarities.append(
            oks(ground_truth[..., :2], poses.keypoints, area, sigmas, ground_truth[..., 2] > 0).diagonal()
        )
    assert torch.cat(similarities).mean() > 0.72


@pytest.mark.slow
def test_rows_keep_their_order_and_do_not_touch_each_other(estimator, shared):
    image, people = list(labelled(shared))[3]
    boxes = torch.tensor([a["bbox"] for a in people])
    given = Detections(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1), torch.ones(len(boxes)))
    order = torch.arange(len(given)).flip(0)
    forward, backward, alone = estimator.estimate([image] * 3, [given, given[order], given[2:3]])
    for name in ("keypoints", "scores", "visibility", "presence"):
        assert torch.equal(getattr(backward, name)[order], getattr(forward, name))
        assert torch.equal(getattr(alone, name), getattr(forward, name)[2:3])
    assert isinstance(forward, Poses)
    assert forward.expected_oks is None
