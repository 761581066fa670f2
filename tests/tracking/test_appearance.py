"""Colours of torso and legs, on figures of two plain colours."""

import pytest
import torch
from fakes import FakePose

from bmp.label_sets import COCO_KEYPOINTS, keypoint_set
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.tracking.appearance import LOOK_SIZE, alike, looks_of

RED, GREEN, BLUE, GREY = (220, 20, 20), (20, 220, 20), (20, 20, 220), (120, 120, 120)


def figure(shirt, trousers, keypoints=COCO_KEYPOINTS, left=10, seen=slice(None)):
    """Somebody who stands: a shirt over trousers, in a picture of noise."""
    pixels = torch.randint(0, 256, (80, 60, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    mask = torch.zeros(1, 80, 60, dtype=torch.bool)
    mask[0, 20:70, left : left + 16] = True
    pixels[20:45, left : left + 16] = torch.tensor(shirt, dtype=torch.uint8)
    pixels[45:70, left : left + 16] = torch.tensor(trousers, dtype=torch.uint8)
    mask[0, [row for row in range(80) if row not in range(80)[seen]]] = False
    heights = {"shoulder": 24, "hip": 44, "knee": 56, "ankle": 68, "elbow": 90, "wrist": 95}
    points = torch.zeros(1, len(keypoints), 2)
    for number, name in enumerate(keypoints.meanings):
        y = next((value for part, value in heights.items() if name.endswith(part)), 10)
        points[0, number] = torch.tensor([left + (3.0 if name.startswith("left") else 13.0), float(y)])
    ones = torch.ones(1, len(keypoints))
    people = Instances(
        Detections(torch.tensor([[left, 20.0, left + 16, 70]]), torch.ones(1)),
        Poses(points, ones, ones, ones),
        Masks(mask, torch.ones(1)),
        torch.ones(1, dtype=torch.int64),
    )
    return looks_of(Image(pixels), people, keypoints)


def likeness(first, second):
    return float(alike(first, second))


@pytest.mark.parametrize("name", ["coco", "crowdpose", "mpii"])
def test_the_same_clothes_elsewhere_look_alike(name):
    keypoints = keypoint_set(name)
    first = figure(RED, BLUE, keypoints)
    assert first.shape == (1, LOOK_SIZE)
    assert first.chunk(2, dim=1)[0].sum() == pytest.approx(1)
    assert likeness(first, figure(RED, BLUE, keypoints, left=40)) == pytest.approx(1, abs=1e-5)
    assert likeness(first, figure(BLUE, RED, keypoints)) < 0.4
    assert 0.35 < likeness(first, figure(RED, GREEN, keypoints)) < 0.7


def test_only_what_can_be_seen_of_both_is_compared():
    shirt = figure(RED, BLUE, seen=slice(20, 42))
    assert not shirt.chunk(2, dim=1)[1].any()
    assert likeness(shirt, figure(RED, GREEN)) > 0.9
    assert likeness(shirt, figure(GREEN, BLUE)) < 0.4
    assert likeness(shirt, figure(RED, BLUE, seen=slice(55, 70))) == 0  # nothing in common


def test_without_hips_and_knees_halves_are_compared():
    hands = keypoint_set("coco").__class__(("a", "b"), (0.1, 0.1), (), ())
    assert likeness(figure(RED, BLUE, hands), figure(RED, GREEN, hands)) == pytest.approx(0.5, abs=0.1)


def test_nobody_and_nothing():
    image = Image(torch.zeros(20, 30, 3, dtype=torch.uint8))
    nobody = Instances.empty(image, 17)
    assert looks_of(image, nobody, COCO_KEYPOINTS).shape == (0, LOOK_SIZE)
    assert alike(torch.zeros(0, LOOK_SIZE), torch.zeros(2, LOOK_SIZE)).shape == (0, 2)
    (poses,) = FakePose().estimate([image], [Detections(torch.tensor([[1.0, 1, 9, 9]]), torch.ones(1))])
    unseen = Instances(
        Detections(torch.tensor([[1.0, 1, 9, 9]]), torch.ones(1)),
        poses,
        Masks(torch.zeros(1, 20, 30, dtype=torch.bool), torch.ones(1)),
        torch.ones(1, dtype=torch.int64),
    )
    assert not looks_of(image, unseen, COCO_KEYPOINTS).any()
