import pytest
import torch

from bmp.ops.agreement import WEIGHTS, evidence, with_agreement
from bmp.structures import Detections, Instances, Masks, Poses


def crowd(*, detector_masks=True, expected_oks=True):
    """Two people side by side of whom everything agrees: boxes 20 x 40, filled by masks, keypoints spread in them."""
    boxes = torch.tensor([[10.0, 10.0, 30.0, 50.0], [40.0, 10.0, 60.0, 50.0]])
    bits = torch.zeros(2, 60, 80, dtype=torch.bool)
    bits[0, 10:50, 10:30] = bits[1, 10:50, 40:60] = True
    steps = torch.linspace(0.02, 0.95, 17)[:, None]
    points = boxes[:, None, :2] + (boxes[:, None, 2:] - boxes[:, None, :2]) * steps
    sure = torch.full((2, 17), 0.9)
    poses = Poses(points, sure, sure, sure, sure if expected_oks else None)
    detections = Detections(boxes, torch.tensor([0.8, 0.8]), bits.clone() if detector_masks else None)
    return Instances(detections, poses, Masks(bits, torch.tensor([0.9, 0.9])), torch.ones(2, dtype=torch.int64))


def changed(people, **parts):
    """The same people, the first one with other values."""
    for name, change in parts.items():
        part, column = name.split("__")
        record = getattr(people, part)
        values = getattr(record, column).clone()
        values[0] = change(values[0])
        fields = {**record._values(), column: values}
        people = type(people)(**{**people._values(), part: type(record)(**fields)})
    return people


SPOILT = [
    pytest.param(
        {"poses__keypoints": lambda points: points + torch.tensor([30.0, 0.0])}, id="keypoints in the other's mask"
    ),
    pytest.param({"poses__keypoints": lambda points: points * 0}, id="keypoints in nobody's mask"),
    pytest.param({"masks__scores": lambda score: score * 0.3}, id="mask that is not trusted"),
    pytest.param(
        {"poses__scores": lambda score: score * 0.3, "poses__expected_oks": lambda oks: oks * 0.3},
        id="pose that is not trusted",
    ),
    pytest.param({"poses__visibility": lambda seen: seen * 0.1}, id="nothing to be seen"),
    pytest.param({"masks__bits": lambda bits: bits & False}, id="no mask"),
    pytest.param({"detections__masks": lambda bits: bits.roll(9, 1)}, id="another mask by another prompt"),
]


@pytest.mark.parametrize("spoilt", SPOILT)
def test_evidence_against_a_label_lowers_its_agreement(spoilt):
    good, bad = with_agreement(crowd()).agreement, with_agreement(changed(crowd(), **spoilt)).agreement
    assert bad[0] < good[0] - 0.01
    assert bad[1] == pytest.approx(float(good[1]), abs=0.02)


def test_everything_agrees():
    found = evidence(crowd())
    assert set(found) == {"own", "others", "box", "skeleton", "mask_score", "keypoints", "visibility", "stability"}
    for name in ("own", "others", "box", "stability"):
        assert found[name].tolist() == pytest.approx([1, 1], abs=0.02), name
    assert (with_agreement(crowd()).agreement > 0.75).all()


@pytest.mark.parametrize(("masks", "expected"), [(False, False), (True, False), (False, True)])
def test_evidence_that_a_preset_lacks_is_left_out(masks, expected):
    people = crowd(detector_masks=masks, expected_oks=expected)
    assert ("stability" in evidence(people)) is masks
    assert (with_agreement(people).agreement > 0.7).all()


def test_nobody_and_order_and_moving_along():
    people = crowd()
    assert with_agreement(people[[]]).agreement.shape == (0,)
    # A person's agreement depends on everybody in the image, and not on their order.
    assert torch.equal(with_agreement(people[[1, 0]]).agreement, with_agreement(people).agreement[[1, 0]])
    spoilt = with_agreement(changed(people, masks__scores=lambda score: score * 0.3))
    assert spoilt[[1]].agreement.tolist() == spoilt.agreement[1:].tolist()


def test_weights_only_speak_for_a_label():
    for weights in WEIGHTS.values():
        assert all(weight > 0 for name, weight in weights.items() if name)
