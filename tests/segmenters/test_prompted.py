"""The shared half of point-prompted segmenters, around a network that anybody can compute in the head."""

import pytest
import torch
from prompt_fakes import NOBODY, BlobSegmenter, PosePrompter, crowd, hide, pad, picture

from bmp.errors import UserError
from bmp.segmenters import prompted
from bmp.segmenters.prompted import best_mask
from bmp.structures import Detections, Poses, Prompts


def one_image(segmenter, people, poses, image):
    (masks,) = segmenter.segment(segmenter.open([image]), [people], [poses], [NOBODY])
    return masks


def test_no_images():
    segmenter = BlobSegmenter()
    assert segmenter.open([]) == []
    assert segmenter.segment([], [], [], []) == []


def test_nobody():
    segmenter = BlobSegmenter()
    masks = one_image(segmenter, Detections.empty(), Poses.empty(17), picture(31, 47))
    assert masks.bits.shape == (0, 31, 47)
    assert masks.scores.shape == (0,)
    assert segmenter.decoded == []


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 90), (31, 47), (64, 64), (201, 99)])
def test_masks_have_the_size_of_the_image(height, width):
    people, poses = crowd(2, height, width)
    masks = one_image(BlobSegmenter(), people, poses, picture(height, width))
    assert masks.bits.shape == (2, height, width)
    assert masks.bits.dtype == torch.bool


def test_masks_say_what_was_asked():
    people, poses = crowd(2, 40, 50)
    masks = one_image(BlobSegmenter(PosePrompter(boxes=True)), people, poses, picture(40, 50))
    assert torch.equal(masks.prompts.points, poses.keypoints[:, :3])
    assert masks.prompts.labels.tolist() == [[1, 1, 0]] * 2
    assert torch.equal(masks.prompts.boxes, people.boxes)


def test_scores_are_clamped():
    people, poses = crowd(1, 40, 50)
    image = picture(40, 50)
    assert one_image(BlobSegmenter(PosePrompter(count=1)), people, poses, image).scores.tolist() == [0.5]
    assert one_image(BlobSegmenter(PosePrompter(count=3)), people, poses, image).scores.tolist() == [0.0]


def test_each_image_is_encoded_once_in_batches():
    segmenter = BlobSegmenter(image_batch=2)
    images = [picture(20 + i, 30, seed=i) for i in range(5)]
    views = segmenter.open(images)
    people, poses = zip(*(crowd(2, 20, 30, seed=i) for i in range(5)), strict=True)
    for _ in range(2):
        segmenter.segment(views, people, poses, [NOBODY] * 5)
    assert segmenter.encoded == [2, 2, 1]


def test_a_view_keeps_nothing_of_its_neighbours_alive():
    for view in BlobSegmenter(image_batch=3).open([picture(20, 30, seed=i) for i in range(3)]):
        for feature in view.features:
            assert feature.untyped_storage().nbytes() == feature.numel() * feature.element_size()


@pytest.mark.parametrize("chunk", [1, 2, 4, 100])
def test_chunks_and_neighbours_change_nothing(chunk):
    images = [picture(20, 30, seed=3), picture(45, 33, seed=4), picture(64, 20, seed=5)]
    people, poses = zip(
        *(crowd(n, i.height, i.width, seed=n) for n, i in zip((3, 0, 4), images, strict=True)), strict=True
    )
    alone = [one_image(BlobSegmenter(prompt_chunk=1), *row) for row in zip(people, poses, images, strict=True)]
    segmenter = BlobSegmenter(prompt_chunk=chunk)
    together = segmenter.segment(segmenter.open(images), people, poses, [NOBODY] * 3)
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.bits, b.bits)
        assert torch.equal(a.scores, b.scores)
    assert max(segmenter.decoded) == min(chunk, 7)
    assert sum(segmenter.decoded) == 7


def test_order_follows_the_people():
    image = picture(40, 50)
    people, poses = crowd(5, 40, 50)
    order = [3, 0, 4, 2, 1]
    straight = one_image(BlobSegmenter(), people, hide(poses, 1, 0), image)
    shuffled = one_image(BlobSegmenter(), people[order], hide(poses, 1, 0)[order], image)
    assert torch.equal(straight.bits[order], shuffled.bits)
    assert torch.equal(straight.scores[order], shuffled.scores)
    assert not torch.equal(straight.bits, shuffled.bits)


@pytest.mark.parametrize(("front", "back"), [(0, 1), (2, 0), (1, 3)])
def test_padding_never_reaches_the_network(front, back):
    image = picture(40, 50)
    people, poses = crowd(4, 40, 50)
    prompts = PosePrompter(boxes=True).prompts(people, poses, NOBODY)
    segmenter = BlobSegmenter()
    views = segmenter.open([image])
    ((plain, _),) = segmenter.logits(views, [prompts])
    ((padded, _),) = segmenter.logits(views, [pad(prompts, front, back)])
    assert torch.equal(plain, padded)


def test_people_with_fewer_points_are_decoded_apart():
    people, poses = crowd(4, 40, 50)
    mixed = hide(hide(poses, 2, 0), 0, 0, 1)
    segmenter = BlobSegmenter(prompt_chunk=10)
    views = segmenter.open([picture(40, 50)])
    (together,) = segmenter.segment(views, [people], [mixed], [NOBODY])
    assert segmenter.decoded == [1, 1, 2]
    for row in range(4):
        (alone,) = segmenter.segment(views, [people[[row]]], [mixed[[row]]], [NOBODY])
        assert torch.equal(together.bits[row], alone.bits[0])


def test_a_person_without_prompts_gets_an_empty_mask():
    people, poses = crowd(3, 40, 50)
    masks = one_image(BlobSegmenter(), people, hide(poses, 1, 0, 1, 2), picture(40, 50))
    assert masks.bits.flatten(1).any(1).tolist() == [True, False, True]
    assert masks.scores[1] == 0


def test_a_box_alone_is_a_prompt():
    people, poses = crowd(1, 40, 50)
    masks = one_image(BlobSegmenter(PosePrompter(boxes=True)), people, hide(poses, 0, 0, 1, 2), picture(40, 50))
    assert masks.bits.all()
    assert masks.scores[0] == 1


def test_upsampling_stays_within_its_budget(monkeypatch):
    people, poses = crowd(5, 100, 90)
    whole = one_image(BlobSegmenter(), people, poses, picture(100, 90))
    monkeypatch.setattr(prompted, "_LOGIT_BYTES", 2 * 4 * BlobSegmenter()._size ** 2 + 1)
    segmenter = BlobSegmenter()
    chunked = one_image(segmenter, people, poses, picture(100, 90))
    assert segmenter.enlarged == [2, 2, 1]
    assert torch.equal(whole.bits, chunked.bits)
    monkeypatch.setattr(prompted, "_LOGIT_BYTES", 1)
    segmenter = BlobSegmenter()
    one_image(segmenter, people, poses, picture(100, 90))
    assert segmenter.enlarged == [1] * 5


def test_clean_up_fills_holes_and_drops_specks_of_the_decoders_mask():
    logits = torch.full((1, 16, 16), -0.5)
    logits[0, 1:11, 1:11] = 0.5
    logits[0, 3, 3:5] = -0.5  # a hole of 2
    logits[0, 6:9, 6] = -0.5  # a hole of 3
    logits[0, 13, 13] = logits[0, 14, 14] = 0.5  # a speck of 2, connected by a corner
    logits[0, 13:16, 2] = 0.5  # a speck of 3
    people, poses = crowd(1, 16, 16)
    for holes, specks, expected in ((0, 0, 100), (2, 0, 102), (3, 2, 103), (2, 3, 97), (3, 3, 100)):
        segmenter = BlobSegmenter(hole_area=holes, speck_area=specks)
        segmenter._decode = lambda *_: (logits.clone(), torch.ones(1))
        masks = one_image(segmenter, people, poses, picture(16, 16))
        assert masks.bits.sum() == expected, (holes, specks)


def test_a_person_who_is_nothing_but_a_speck_stays():
    segmenter = BlobSegmenter(hole_area=10, speck_area=50)
    logits = torch.full((2, 16, 16), -1.0)
    logits[0, 2:5, 2:5] = 1.0
    clean = segmenter._clean(logits)
    assert (clean > 0).sum(dim=(1, 2)).tolist() == [9, 0]


def test_clean_up_leaves_other_logits_alone():
    segmenter = BlobSegmenter(hole_area=10, speck_area=50)
    logits = torch.full((1, 64, 64), -0.25)
    logits[0, 10:40, 10:40] = 0.75
    assert torch.equal(segmenter._clean(logits), logits)


@pytest.mark.parametrize(
    ("option", "value"), [("image_batch", 0), ("prompt_chunk", 0), ("hole_area", -1), ("speck_area", -1)]
)
def test_numbers_that_make_no_sense(option, value):
    with pytest.raises(UserError, match=rf"{option}: expected at least \d, got {value}"):
        BlobSegmenter(**{option: value})


def test_masks_can_be_changed_in_place():
    """Records must not be inference tensors, which nothing outside may write to."""
    people, poses = crowd(1, 20, 30)
    masks = one_image(BlobSegmenter(), people, poses, picture(20, 30))
    masks.bits[0] = False
    assert not masks.bits.any()


def test_the_answer_to_prompts_is_what_segment_gives_for_the_poses_they_came_from():
    images = [picture(20, 30, seed=3), picture(45, 33, seed=4)]
    people, poses = zip(
        *(crowd(n, i.height, i.width, seed=n) for n, i in zip((3, 0), images, strict=True)), strict=True
    )
    segmenter = BlobSegmenter()
    views = segmenter.open(images)
    prompts = [segmenter.prompter.prompts(*one, NOBODY) for one in zip(people, poses, strict=True)]
    segmented = segmenter.segment(views, people, poses, [NOBODY] * 2)
    for masks, expected in zip(segmenter.answer(views, prompts), segmented, strict=True):
        assert torch.equal(masks.bits, expected.bits)
        assert torch.equal(masks.scores, expected.scores)
        assert torch.equal(masks.prompts.points, expected.prompts.points)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_everybody_is_corrected_from_their_own_previous_answer(chunk):
    images = [picture(20, 30, seed=3), picture(45, 33, seed=4), picture(64, 20, seed=5)]
    people, poses = zip(
        *(crowd(n, i.height, i.width, seed=n) for n, i in zip((3, 0, 4), images, strict=True)), strict=True
    )
    poses = (hide(poses[0], 1, 0), poses[1], hide(poses[2], 0, 0, 1, 2))
    segmenter = BlobSegmenter(prompt_chunk=chunk)
    views = segmenter.open(images)
    prompts = [segmenter.prompter.prompts(*one, NOBODY) for one in zip(people, poses, strict=True)]
    plain = segmenter.logits(views, prompts)
    previous = [torch.randn(n, 16, 16, generator=torch.Generator().manual_seed(n)) for n in (3, 0, 4)]
    corrected = segmenter.logits(views, prompts, previous)
    for (before, _), (after, _), earlier in zip(plain, corrected, previous, strict=True):
        asked = (before != -10).flatten(1).any(dim=1)  # nobody answers about the person without prompts
        assert torch.equal(after[asked], before[asked] + earlier[asked])
        assert torch.equal(after[~asked], before[~asked])
    assert int((plain[2][0] == -10).flatten(1).all(dim=1).sum()) == 1


def test_the_network_is_told_when_to_draw_several_masks():
    people, poses = crowd(2, 20, 30)
    segmenter = BlobSegmenter()
    views = segmenter.open([picture(20, 30)])
    prompts = segmenter.prompter.prompts(people, poses, NOBODY)
    segmenter.logits(views, [prompts])
    segmenter.logits(views, [prompts], multimask=True)
    assert segmenter.multimask == [False, True]


def test_of_several_masks_the_one_of_highest_predicted_iou_is_taken():
    masks = torch.arange(2 * 3 * 4).reshape(2, 3, 2, 2).float()
    logits, scores = best_mask(masks, torch.tensor([[0.1, 0.3, 0.2], [0.9, 0.3, 0.4]]))
    assert torch.equal(logits, torch.stack([masks[0, 1], masks[1, 0]]))
    assert scores.tolist() == pytest.approx([0.3, 0.9])


def test_prompts_are_not_changed():
    people, poses = crowd(2, 20, 30)
    prompts = pad(PosePrompter(boxes=True).prompts(people, poses, NOBODY), 1, 1)
    before = Prompts(prompts.points.clone(), prompts.labels.clone(), prompts.keypoints.clone(), prompts.boxes.clone())
    segmenter = BlobSegmenter()
    segmenter.logits(segmenter.open([picture(20, 30)]), [prompts])
    for name in ("points", "labels", "keypoints", "boxes"):
        assert torch.equal(getattr(prompts, name), getattr(before, name))
