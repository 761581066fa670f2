"""J, F and space-time AP: values found by hand, summaries, matching of proposals, and what is refused."""

import numpy as np
import pytest

from bmp.errors import UserError
from bmp.evaluation.metrics.video_masks import (
    MOST_PROPOSALS,
    SpaceTimeMasks,
    contour_accuracy,
    match_proposals,
    object_quality,
    region_similarity,
    space_time_ap,
    space_time_iou,
    summarize_frames,
    summarize_objects,
)


def rectangle(top, left, bottom, right, size=8):
    mask = np.zeros((size, size), bool)
    mask[top:bottom, left:right] = True
    return mask


SQUARE = rectangle(2, 2, 6, 6)
NOTHING = rectangle(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("found", "region", "contour"),
    [
        (SQUARE, 1, 1),
        (rectangle(2, 3, 6, 7), 12 / 20, 1),
        (rectangle(2, 4, 6, 8), 8 / 24, 2 * (10 / 13) * (10 / 16) / (10 / 13 + 10 / 16)),
        (rectangle(1, 1, 7, 7), 16 / 36, 2 * (20 / 24) / (20 / 24 + 1)),
        (rectangle(3, 3, 5, 5), 4 / 16, 2 * (12 / 16) / (12 / 16 + 1)),
        (rectangle(2, 2, 6, 4), 8 / 16, 2 * (11 / 12) * (11 / 16) / (11 / 12 + 11 / 16)),
        (rectangle(0, 0, 8, 8), 16 / 64, 0),
        (NOTHING, 0, 0),
    ],
)
def test_by_hand(found, region, contour):
    assert region_similarity(SQUARE, found) == pytest.approx(region)
    assert contour_accuracy(SQUARE, found) == pytest.approx(contour)


def test_two_empty_masks_agree_and_so_do_two_without_a_boundary():
    everything = ~NOTHING
    assert region_similarity(NOTHING, NOTHING) == contour_accuracy(NOTHING, NOTHING) == 1
    assert contour_accuracy(NOTHING, everything) == 1
    assert region_similarity(NOTHING, everything) == 0


def test_void_pixels_count_in_neither():
    found = SQUARE | rectangle(0, 0, 1, 8)
    assert region_similarity(SQUARE, found) < 1
    assert region_similarity(SQUARE, found, rectangle(0, 0, 1, 8)) == 1
    assert region_similarity(SQUARE, NOTHING, ~NOTHING) == 1


def test_leading_dimensions_and_shifts():
    stack = np.stack([[SQUARE, NOTHING], [rectangle(2, 3, 6, 7), SQUARE]])
    assert region_similarity(stack, stack[::-1]).tolist() == [[0.6, 0], [0.6, 0]]
    assert contour_accuracy(stack, stack).shape == (2, 2)
    assert region_similarity(stack[:0], stack[:0]).shape == contour_accuracy(stack[:0], stack[:0]).shape == (0, 2)


def test_first_and_last_frame_do_not_count_unless_asked():
    ground_truth = np.stack([[SQUARE] * 4])
    found = np.stack([[NOTHING, SQUARE, SQUARE, NOTHING]])
    assert object_quality(ground_truth, found).region.tolist() == [[1, 1]]
    assert object_quality(ground_truth, found, every_frame=True).region.tolist() == [[0, 1, 1, 0]]


def test_summary_of_long_videos_has_the_right_quarters():
    values = np.concatenate([np.full(256, 0.9), np.full(744, 0.4)])  # 8 bits would end the first quarter elsewhere
    summary = summarize_frames(values)
    assert (summary.mean, summary.recall) == pytest.approx((values.mean(), 0.256))
    assert summary.decay == pytest.approx(0.5)


def test_half_is_not_recalled_and_one_frame_has_no_decay():
    assert summarize_frames(np.array([0.5])).recall == 0
    assert summarize_frames(np.array([0.7])).decay == 0


def test_data_set_is_a_mean_over_objects():
    three, one = np.stack([[SQUARE] * 3] * 3), np.stack([[SQUARE] * 30])
    numbers = summarize_objects([object_quality(three, three), object_quality(one, np.zeros_like(one))])
    assert numbers.objects == 4
    assert numbers.region.mean == numbers.region_and_contour == 0.75
    assert summarize_objects([]) is None


def test_proposals_are_matched_whatever_their_order():
    other = rectangle(0, 0, 2, 2)
    ground_truth = np.stack([[SQUARE] * 2, [other] * 2, [rectangle(6, 6, 8, 8)] * 2])
    proposals = np.stack([[other] * 2, [rectangle(2, 2, 6, 5)] * 2])
    own = match_proposals(ground_truth, proposals)
    assert (own[1] == other).all()
    assert (own[0] == rectangle(2, 2, 6, 5)).all()
    assert not own[2].any()
    assert not match_proposals(ground_truth, proposals[:0]).any()


def test_space_time_iou_is_over_all_frames():
    ground_truth = np.stack([[SQUARE, SQUARE, NOTHING]])
    found = np.stack([[SQUARE, NOTHING, SQUARE], [SQUARE, SQUARE, NOTHING], [NOTHING] * 3])
    assert space_time_iou(ground_truth, found).tolist() == [[16 / 48, 1, 0]]


def test_space_time_ap():
    two = np.stack([[SQUARE] * 4, [rectangle(0, 0, 2, 8)] * 4])
    gone = two.copy()
    gone[0, 3] = False  # three of four frames: right at IoU 0.5, 0.55, ..., 0.75
    assert space_time_ap([SpaceTimeMasks(two, two, np.array([0.9, 0.8]))]).ap == pytest.approx(1)
    numbers = space_time_ap([SpaceTimeMasks(two[:1], gone[:1], np.array([0.9]))])
    assert (numbers.ap, numbers.ap50, numbers.ap75, numbers.ar) == pytest.approx((0.6, 1, 1, 0.6))
    # Those of another video are nobody's, and a surer false one comes first.
    videos = [SpaceTimeMasks(two[:1], two[:0], np.empty(0)), SpaceTimeMasks(two[1:], two, np.array([0.9, 0.8]))]
    assert space_time_ap(videos).ap == pytest.approx(51 / 101 / 2)
    assert space_time_ap([SpaceTimeMasks(two[:0], two, np.ones(2))]).ap is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: region_similarity(SQUARE, SQUARE[:4]), "same frames and size"),
        (lambda: contour_accuracy(SQUARE, SQUARE.astype(np.uint8)), "bool masks"),
        (lambda: object_quality(SQUARE[None], SQUARE[None]), "objects, frames"),
        (lambda: object_quality(SQUARE[None, None], SQUARE[None, None]), "no frame is left"),
        (lambda: summarize_frames(np.empty(0)), "at least one frame"),
        (lambda: match_proposals(*[np.zeros((MOST_PROPOSALS + 1, 1, 8, 8), bool)] * 2), "at most 20"),
        (lambda: SpaceTimeMasks(*[SQUARE[None, None]] * 2, np.array([np.nan])), "finite score"),
        (lambda: SpaceTimeMasks(*[SQUARE[None, None]] * 2, np.ones(2)), "finite score"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(UserError, match=message):
        call()
