"""Keypoint R-CNN of torchvision asked for given boxes: as the library does it for its own ones."""

import pytest
import tiny_models
import torch
from torchvision.models.detection import KeypointRCNN

from bmp.poses.torchvision import certainty
from bmp.structures import Detections, Image


def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    return Image(torch.randint(0, 256, (90, 130, 3), dtype=torch.uint8, generator=generator))


BOXES = torch.tensor([[10.0, 5.0, 70.0, 80.0], [60.0, 0.0, 130.0, 90.0]])


def test_keypoints_are_those_of_the_library_for_its_own_boxes(monkeypatch):
    stage, image = tiny_models.torchvision_pose(), noise(0)
    network = stage._network
    assert isinstance(network, KeypointRCNN)
    monkeypatch.setattr(network.roi_heads, "detections_per_img", 4)
    with torch.no_grad():
        (expected,) = network([image.pixels.permute(2, 0, 1) / 255])
    assert len(expected["boxes"]) == 4
    (found,) = stage.estimate([image], [Detections(expected["boxes"], expected["scores"])])
    torch.testing.assert_close(found.keypoints, expected["keypoints"][:, :, :2], rtol=1e-4, atol=1e-2)


def test_an_image_is_seen_once_with_others_of_its_size_and_not_without_people(monkeypatch):
    stage, seen = tiny_models.torchvision_pose(), []
    own = stage._network.backbone.forward
    monkeypatch.setattr(stage._network.backbone, "forward", lambda pixels: seen.append(len(pixels)) or own(pixels))
    two, one = Detections(BOXES, torch.ones(2)), Detections(BOXES[1:], torch.ones(1))
    images = [noise(0), noise(1), noise(2)]
    first, nobody, last = stage.estimate(images, [two, Detections.empty(), one])
    assert seen == [2]
    assert (len(first), len(nobody), len(last)) == (2, 0, 1)
    for image, people, poses in ((images[0], two, first), (images[2], one, last)):
        (alone,) = stage.estimate([image], [people])
        torch.testing.assert_close(poses.keypoints, alone.keypoints, rtol=0, atol=1e-2)
        torch.testing.assert_close(poses.scores, alone.scores)


def test_a_box_far_larger_than_the_image_is_the_image():
    stage, image = tiny_models.torchvision_pose(), noise(0)
    whole, huge = torch.tensor([[0.0, 0.0, 130.0, 90.0]]), torch.tensor([[-1e6, -1e6, 1e6, 1e6]])
    found, expected = (stage.estimate([image], [Detections(boxes, torch.ones(1))])[0] for boxes in (huge, whole))
    assert torch.equal(found.keypoints, expected.keypoints)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (30, 20), (55, 55)])
def test_a_score_is_the_share_of_a_map_about_its_peak(row, column):
    maps = torch.zeros(1, 3, 56, 56)
    maps[0, 0, row, column] = 30.0  # all of it
    maps[0, 1, 30, 30] = maps[0, 1, 10, 10] = 20.0  # half
    maps[0, 2, 28, 28] = 1e-6  # hardly a peak
    torch.testing.assert_close(certainty(maps)[0], torch.tensor([1.0, 0.5, 25 / 56**2]), rtol=1e-3, atol=1e-3)
    assert certainty(maps[:0]).shape == (0, 3)
