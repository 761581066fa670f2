"""Records validate at construction and stay aligned under every operation."""

import dataclasses

import pytest
import torch

from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.structures import Detections, Image, Instances, Masks, Poses, Prompts
from bmp.structures.mask_windows import MaskWindows


def _detections(count, masks=False):
    boxes = torch.tensor([[i, 0, i + 2, 3] for i in range(count)], dtype=torch.float32).reshape(count, 4)
    bits = torch.arange(count)[:, None, None] == torch.arange(20).reshape(4, 5)
    return Detections(boxes, torch.linspace(0, 1, count), bits if masks else None)


def _instances(count, prompts=False):
    zeros = torch.zeros(count, 17)
    given = None
    if prompts:
        given = Prompts(
            torch.zeros(count, 3, 2), torch.ones(count, 3, dtype=torch.int8), torch.zeros(count, 3, dtype=torch.int64)
        )
    return Instances(
        _detections(count, masks=True),
        Poses(torch.arange(count * 34.0).reshape(count, 17, 2), zeros, zeros, zeros),
        Masks(torch.zeros(count, 4, 5, dtype=torch.bool), torch.zeros(count), given),
        torch.arange(count),
    )


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("prompts", [False, True])
def test_rows_of_all_parts_move_together(count, prompts):
    people = _instances(count, prompts)
    order = torch.arange(count).flip(0)
    turned = people[order]
    assert len(people) == len(turned) == count
    assert torch.equal(turned.detections.boxes, people.detections.boxes[order])
    assert torch.equal(turned.poses.keypoints, people.poses.keypoints[order])
    assert torch.equal(turned.round, order)
    assert (turned.masks.prompts is not None) == prompts
    assert len(people[torch.zeros(count, dtype=torch.bool)]) == 0
    assert len(people[[]]) == 0
    assert len(people[:1]) == min(count, 1)


def test_concat_is_the_inverse_of_slicing():
    people = _instances(5, prompts=True)
    again = Instances.concat([people[:2], people[2:2], people[2:]])
    for field in dataclasses.fields(Poses):
        value = getattr(people.poses, field.name)
        assert value is None or torch.equal(getattr(again.poses, field.name), value)
    assert torch.equal(again.masks.bits, people.masks.bits)
    assert again.masks.prompts is not None


@pytest.mark.parametrize(
    ("parts", "has_masks"),
    [
        ([_detections(2, True), _detections(1, True)], True),
        ([_detections(2, True), _detections(1, False)], False),  # of the last row nothing is known
        ([_detections(2, True), Detections.empty()], True),  # nobody has no say
        ([Detections.empty(), _detections(2, True)], True),
        ([Detections.empty(), Detections.empty()], False),
    ],
)
def test_an_optional_field_survives_if_everybody_has_it(parts, has_masks):
    joined = Detections.concat(parts)
    assert (joined.masks is not None) == has_masks
    assert len(joined) == sum(map(len, parts))


def test_masks_stay_in_windows_until_somebody_reads_them():
    bits = torch.arange(3)[:, None, None] == torch.arange(20).reshape(4, 5)
    people = Masks(MaskWindows.of(bits), torch.ones(3))
    for same in (people[:], people[[0, 1, 2]], people.to("cpu"), people.replaced(scores=torch.zeros(3))):
        assert same.windows is not None
        assert isinstance(vars(same)["bits"], MaskWindows)
        assert torch.equal(same.windows.whole(), bits)
    mixed = Masks.concat([people, Masks(bits, torch.zeros(3))])
    assert isinstance(vars(mixed)["bits"], MaskWindows)
    assert torch.equal(mixed.bits, torch.cat([bits, bits]))
    whole = people.bits
    assert people.bits is whole
    whole[0] = True  # what is read is the mask from then on
    assert torch.equal(people.windows.whole(), whole)
    assert torch.equal(dataclasses.replace(people, scores=torch.zeros(3)).bits, whole)
    with pytest.raises(ValueError, match="one image, got images of"):
        MaskWindows.concat([MaskWindows.of(bits), MaskWindows.empty(2, 3)])
    with pytest.raises(ValueError, match="within 5x4 pixels, got 5x4 at"):
        MaskWindows(4, 5, ((1, 0),), (bits[0],), bits.device)


def test_concat_of_nothing_says_what_to_do():
    with pytest.raises(ValueError, match="at least one part"):
        Detections.concat([])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (
            lambda: Detections(torch.zeros(2, 4), torch.zeros(3)),
            ValueError,
            r"scores: expected shape \(N=2\), got \(3,\)",
        ),
        (lambda: Detections(torch.zeros(2, 5), torch.zeros(2)), ValueError, r"boxes: expected shape \(N, 4\)"),
        (lambda: Detections(torch.zeros(0, 4).double(), torch.zeros(0)), TypeError, "expected torch.float32"),
        (lambda: Detections([[0, 0, 1, 1]], torch.zeros(1)), TypeError, "expected a torch.Tensor, got list"),
        (
            lambda: Detections(torch.zeros(1, 4), torch.full((1,), 1.5)),
            ValueError,
            r"values in \[0.0, 1.0\], got \[1.5",
        ),
        (lambda: Detections(torch.full((1, 4), float("nan")), torch.zeros(1)), ValueError, "finite"),
        (lambda: Detections(torch.full((1, 4), float("inf")), torch.zeros(1)), ValueError, "finite"),
        (lambda: Detections(torch.tensor([[5.0, 0, 1, 1]]), torch.zeros(1)), ValueError, "xywh_to_xyxy"),
        (lambda: Poses(torch.zeros(1, 17, 2), *[torch.zeros(1, 16)] * 3), ValueError, r"\(N=1, K=17\), got \(1, 16\)"),
        (lambda: Masks(torch.zeros(1, 4, 5), torch.zeros(1)), TypeError, "expected torch.bool"),
        (lambda: Masks(torch.zeros(1, 4, 5, dtype=torch.bool), torch.zeros(1), "no"), TypeError, "prompts: expected"),
        (
            lambda: dataclasses.replace(_instances(2), masks=_instances(1).masks),
            ValueError,
            "masks: expected 2 rows, got 1",
        ),
        (lambda: Image(torch.zeros(3, 4, 3)), TypeError, "uint8"),
        (lambda: Image(torch.zeros(0, 4, 3, dtype=torch.uint8)), ValueError, "1x1"),
        (lambda: _detections(2)[0], TypeError, r"use \[0:1\]"),
        (lambda: KeypointSet(("a", "b"), (0.1,), (), ()), ValueError, "each of the 2 names"),
    ],
)
def test_misfits_are_refused_with_expected_actual_and_remedy(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_values_on_a_gpu_are_checked_together_when_somebody_asks(monkeypatch):
    monkeypatch.setattr("bmp.structures.is_at_hand", lambda device: False)
    looked_at = []
    monkeypatch.setattr(torch, "aminmax", lambda values, own=torch.aminmax: looked_at.append(values) or own(values))
    good = _instances(2)
    bad = good.replaced(masks=good.masks.replaced(scores=torch.tensor([0.5, 1.5])))
    upside_down = Detections(torch.tensor([[5.0, 0, 1, 1]]), torch.zeros(1))
    with pytest.raises(ValueError, match="1x1"):
        Image(torch.zeros(0, 4, 3, dtype=torch.uint8))  # shapes are known at once
    assert not looked_at
    good.check_values()
    with pytest.raises(ValueError, match=r"Masks.scores: expected values in \[0.0, 1.0\], got \[0.5, 1.5\]"):
        bad.check_values()
    with pytest.raises(ValueError, match="xywh_to_xyxy"):
        upside_down.check_values()
    with pytest.raises(ValueError, match=r"Poses\.keypoints: expected finite numbers"):
        good.replaced(poses=good.poses.replaced(keypoints=good.poses.keypoints / 0)).check_values()


def test_records_are_frozen_and_keep_their_arguments():
    people = _detections(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        people.boxes = torch.zeros(2, 4)
    assert people.to("cpu").boxes is people.boxes


@pytest.mark.parametrize(
    ("presence", "visibility", "flag"),
    [(0.5, 0.5, 2), (1.0, 0.4999, 1), (0.4999, 1.0, 0), (0.0, 0.0, 0), (0.5, 0.0, 1), (1.0, 1.0, 2)],
)
def test_presence_and_visibility_are_decided_at_a_half(presence, visibility, flag):
    one = torch.full((1, 1), 1.0)
    flags = Poses(torch.zeros(1, 1, 2), one, one * visibility, one * presence).flags()
    assert flags.dtype == torch.int64
    assert flags.tolist() == [[flag]]
    assert Poses.empty(17).flags().shape == (0, 17)


def test_coco_keypoints_mirror_onto_themselves():
    flip = COCO_KEYPOINTS.flip_indices
    assert [flip[i] for i in flip] == list(range(17))
    for i, name in enumerate(COCO_KEYPOINTS.names):
        swapped = name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert COCO_KEYPOINTS.names[flip[i]] == swapped
        assert COCO_KEYPOINTS.sigmas[flip[i]] == COCO_KEYPOINTS.sigmas[i]
