"""COCO's rows: keypoints that are labelled, labels that are drawn, photos that are stored turned."""

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch
from pycocotools import mask as coco_mask

from bmp.io.annotations import (
    CATEGORY_ID,
    keypoint_flags,
    labelled_mask,
    labelled_poses,
    to_annotations,
    to_instances,
    turn_upright,
)
from bmp.io.orientation import Orientation
from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Detections, Image, Instances, Masks, Poses

K = len(COCO_KEYPOINTS)
HEIGHT, WIDTH = 6, 8


def poses_at(*points):
    locations = torch.zeros(1, K, 2)
    for place, point in enumerate(points):
        locations[0, place] = torch.tensor(point)
    return Poses(locations, torch.ones(1, K), torch.ones(1, K), torch.ones(1, K))


class TestFlags:
    @pytest.mark.parametrize(
        ("point", "flag"),
        [
            ((0, 0), 2),
            ((7.99, 5.99), 2),
            ((8, 5), 0),
            ((7.996, 5), 0),  # is written as 8.0
            ((3, 6), 0),
            ((-0.01, 3), 0),
            ((-0.004, 3), 2),  # is written as 0.0
            ((3, -1000), 0),
        ],
    )
    def test_nothing_outside_the_image_is_labelled(self, point, flag):
        poses = poses_at(point)
        assert keypoint_flags(poses, HEIGHT, WIDTH, 2)[0][0] == flag

    def test_absent_is_0_and_hidden_is_1(self):
        poses = poses_at()
        poses.presence[0, 0], poses.visibility[0, 1] = 0.49, 0.49
        assert keypoint_flags(poses, HEIGHT, WIDTH)[0][:3] == [0, 1, 2]

    def test_they_reach_the_annotations_and_their_number(self):
        people = Instances(
            Detections(torch.tensor([[0.0, 0, 4, 4]]), torch.ones(1)),
            poses_at((100, 3), (3, 3)),
            Masks(torch.ones(1, HEIGHT, WIDTH, dtype=torch.bool), torch.ones(1)),
            torch.ones(1, dtype=torch.int64),
        )
        for exact in (False, True):
            (row,) = to_annotations(people, 1, COCO_KEYPOINTS, exact=exact)
            assert row["keypoints"][:6] == [100, 3, 0, 3, 3, 2]
            assert row["num_keypoints"] == K - 1
            assert row["keypoint_presence"] == [1] * K


class TestToInstances:
    IMAGE = Image(torch.zeros(HEIGHT, WIDTH, 3, dtype=torch.uint8))

    def test_nobody(self):
        assert len(to_instances([], self.IMAGE)) == 0
        assert labelled_poses([]).keypoints.shape == (0, K, 2)

    def test_what_is_not_labelled_is_empty(self):
        people = to_instances([{"bbox": [1, 1, 2, 2]}, {"bbox": [0, 0, 2, 2], "keypoints": [1, 1, 2] * K}], self.IMAGE)
        assert not people.masks.bits.any()
        assert people.poses.presence.sum(dim=1).tolist() == [0, K]


@pytest.mark.parametrize("tag", range(1, 9))
def test_labels_of_stored_pixels_are_turned_with_the_photo(tag):
    generator = np.random.default_rng(tag)
    stored = PIL.Image.fromarray(generator.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8))
    stored.getexif()[0x0112] = tag
    upright = np.asarray(PIL.ImageOps.exif_transpose(stored))
    pixels = np.asarray(stored)
    orientation = Orientation(HEIGHT, WIDTH, tag)
    assert orientation.upright_size == upright.shape
    bits = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    bits[1:3, 2:7] = 1
    rle = coco_mask.encode(bits)
    keypoints = np.zeros((K, 3))
    keypoints[:, 0], keypoints[:, 1], keypoints[:, 2] = np.arange(K) % WIDTH, np.arange(K) % HEIGHT, 2
    keypoints[3] = 0  # not labelled: stays at 0, 0
    row = {
        "id": 5,
        "image_id": 1,
        "category_id": CATEGORY_ID,
        "bbox": [2, 1, 5, 2],
        "area": 10,
        "iscrowd": 0,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": K - 1,
    }
    turned = turn_upright(row, orientation)
    height, width = upright.shape
    image = Image(torch.zeros(height, width, 3, dtype=torch.uint8))
    mask = labelled_mask(turned, image).numpy()
    assert sorted(upright[mask]) == sorted(pixels[bits > 0])
    ys, xs = np.nonzero(mask)
    assert turned["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
    outline = turn_upright({**row, "segmentation": [[2, 1, 7, 1, 7, 3, 2, 3]]}, orientation)
    assert (labelled_mask(outline, image).numpy() == mask).all()
    for number, (x, y, flag) in enumerate(np.reshape(turned["keypoints"], (K, 3)).astype(int)):
        before = COCO_KEYPOINTS.flip_indices[number] if tag in (2, 4, 5, 7) else number
        if before == 3:
            assert (x, y, flag) == (0, 0, 0)
        else:
            assert upright[y, x] == pixels[before % HEIGHT, before % WIDTH]
    assert row["bbox"] == [2, 1, 5, 2]  # the row that came in stays
