"""Parts guessed from skeletons: which limb has a pixel, on figures by hand and on drawn crowds with known parts."""

import numpy as np
import pytest
import torch
from fakes import FakePose, FakeSegmenter, detections, scene

from bmp import UserError
from bmp.io.annotations import to_instances
from bmp.label_sets import COCO_KEYPOINTS, keypoint_set
from bmp.label_sets.part_sets import BODY, CIHP
from bmp.parsers.skeleton import SkeletonParts
from bmp.structures import Detections, Image, Instances, Masks, Poses
from bmp.synthcrowd.files import people_rows
from bmp.synthcrowd.scenes import make_scene

# A person who faces the camera, arms spread, 200 pixels high: the person's left is on the right of the picture.
SPREAD = [
    *((100, 20), (106, 16), (94, 16), (112, 20), (88, 20), (125, 50), (75, 50), (160, 50), (40, 50), (190, 50)),
    *((10, 50), (115, 110), (85, 110), (120, 155), (80, 155), (122, 195), (78, 195)),
]


def person(points=SPREAD, bits=None, presence=None):
    keypoints = torch.tensor(points, dtype=torch.float32)[None]
    ones = torch.ones(1, len(points))
    bits = torch.ones(1, 220, 200, dtype=torch.bool) if bits is None else bits
    poses = Poses(keypoints, ones * 0.8, ones, ones if presence is None else presence[None])
    return Instances(
        Detections(torch.tensor([[0.0, 0.0, 200.0, 220.0]]), torch.ones(1)),
        poses,
        Masks(bits, torch.ones(1)),
        torch.ones(1, dtype=torch.int64),
    )


def parsed(people, **options):
    image = Image(torch.zeros(*people.masks.bits.shape[1:], 3, dtype=torch.uint8))
    return SkeletonParts(**options).parse([image], [people])[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("x", "y", "name"),
    [
        (100, 15, "head"), (100, 80, "torso"), (85, 110, "torso"), (150, 50, "left arm"), (185, 52, "left arm"),
        (50, 50, "right arm"), (121, 170, "left leg"), (79, 170, "right leg"), (140, 219, "left leg"), (0, 0, "right arm"),
    ],
)  # fmt: skip
def test_the_nearest_limb_has_the_pixel(x, y, name):
    assert BODY.names[parsed(person()).labels[y, x]] == name


def test_labels_tile_the_mask_and_only_that():
    bits = torch.zeros(1, 220, 200, dtype=torch.bool)
    bits[0, 10:200, 30:150] = True
    parts = parsed(person(bits=bits))
    assert torch.equal(parts.labels > 0, bits[0])
    assert torch.equal(parts.owners > 0, bits[0])
    assert parts.scores[0, 1:].tolist() == pytest.approx([0.8] * 6)
    assert parts.scores[0, 0] == 0
    assert parts.areas().sum() == bits.sum()


def test_absent_limbs_have_nothing():
    there = torch.ones(17)
    there[[13, 14, 15, 16]] = 0
    parts = parsed(person(presence=there))
    assert parts.areas()[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4]
    assert parts.scores[0, 5:].tolist() == [0, 0]
    assert parsed(person(presence=torch.zeros(17))).areas()[0].nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6]


def test_a_mirrored_person_has_mirrored_parts():
    turned = [SPREAD[row] for row in COCO_KEYPOINTS.flip_indices]
    straight, mirrored = parsed(person()), parsed(person([(200 - x, y) for x, y in turned]))
    exchanged = torch.tensor(BODY.flip_indices, dtype=torch.uint8)[mirrored.labels.long()].flip(1)
    assert (exchanged == straight.labels).float().mean() > 0.98  # but for pixels as near to one limb as to another


def test_an_empty_mask_has_no_parts():
    parts = parsed(person(bits=torch.zeros(1, 220, 200, dtype=torch.bool)))
    assert not parts.labels.any()
    assert not parts.scores.any()


def test_a_pixel_of_two_people_belongs_to_the_first():
    two = Instances.concat([person(), person()])
    parts = parsed(two)
    assert torch.equal(parts.owners, torch.ones_like(parts.owners))
    assert not parts.scores[1].any()


def test_keypoints_without_limbs_are_refused():
    with pytest.raises(UserError, match="have no left_shoulder"):
        SkeletonParts(keypoint_set("coco").part(range(5)))
    boxes = detections((0, 0, 9, 9))
    (poses,) = FakePose().estimate([], [boxes])
    masks = FakeSegmenter().segment([scene()], [boxes], [poses], [poses])[0]
    few = Instances(
        boxes,
        Poses(*(getattr(poses, name)[:, :5] for name in ("keypoints", "scores", "visibility", "presence"))),
        masks,
        torch.ones(1, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="got 5"):
        SkeletonParts().parse([scene()], [few])


@pytest.mark.parametrize("name", ["coco", "coco_wholebody", "pmpose", "halpe26", "crowdpose", "mpii"])
def test_sets_with_limbs_do(name):
    keypoints = keypoint_set(name)
    poses = Poses(torch.rand(1, len(keypoints), 2) * 40, *[torch.ones(1, len(keypoints))] * 3)
    people = Instances(
        detections((0, 0, 40, 40)),
        poses,
        Masks(torch.ones(1, 40, 40, dtype=torch.bool), torch.ones(1)),
        torch.ones(1, dtype=torch.int64),
    )
    parts = parsed(people, keypoints=keypoints)
    assert bool((parts.labels > 0).all())


@pytest.mark.slow
def test_most_pixels_of_drawn_people_are_right():
    """With true skeletons and masks; half of the rest are sleeves, which are clothes there and arms here."""
    agreement = []
    for number in range(3):
        drawn = make_scene(0, number)
        image = Image(torch.from_numpy(drawn.image))
        parts = SkeletonParts().parse([image], [to_instances(people_rows(drawn), image)])[0]
        inside = (parts.owners.numpy() > 0) & (drawn.parts > 0)
        own = np.array(BODY.groups)[parts.labels.numpy()[inside]]
        agreement.append((own == np.array(CIHP.groups)[drawn.parts[inside]]).mean())
    assert np.mean(agreement) > 0.7
