"""The loop over a video on parts that cannot be wrong: squares that move, hide each other, and change places."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fakes import FakeDetector, FakeParser, FakeSegmenter, detections
from track_fakes import FakeTracker, LateTracker, boxes_of, film, image_loop, moving, video_loop

from bmp.errors import UserError
from bmp.ops.query_points import NEGATIVE
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.structures import CONFIRMED, NEW, Frame, Image, Masks
from bmp.trackers.lucas_kanade import LucasKanade
from bmp.video_loop import VideoLoop

CENTRE = torch.tensor([70.0, 120.0])
LEFT, RIGHT = (4, 10, 14, 30), (44, 12, 54, 36)


def follow(loop, frames, images=None):
    return list(loop.run(images or image_loop(), frames))


@pytest.mark.slow
def test_two_squares_are_followed_between_two_detections():
    squares = moving(LEFT, dx=1), moving(RIGHT, dy=-1)
    detector, segmenter = FakeDetector(), FakeSegmenter()
    frames = film(*squares, count=12)
    found = follow(video_loop({0: (1, 0), 1: (0, -1)}), frames, image_loop(detector=detector, segmenter=segmenter))
    for number, each in enumerate(found):
        assert boxes_of(each) == {1: squares[0](number), 2: squares[1](number)}
        assert each.frame.index == number
        masks = each.people.instances.masks.bits
        assert masks.sum(dim=(1, 2)).tolist() == [200, 240]
    assert [each.detected for each in found] == [True] + [False] * 11
    assert len(detector.calls) == 1
    assert len(segmenter.opened) == 12  # a frame is encoded once, the first with its detection, too
    assert [each.people.state.tolist() for each in found[:4]] == [
        [NEW] * 2,
        [NEW] * 2,
        [CONFIRMED] * 2,
        [CONFIRMED] * 2,
    ]
    assert [each.people.age.tolist() for each in found[:3]] == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.slow
def test_a_frame_with_nobody_is_not_encoded():
    segmenter = FakeSegmenter()
    found = follow(video_loop(), film(count=14), image_loop(segmenter=segmenter))
    assert [len(each.people) for each in found] == [0] * 14
    assert segmenter.opened == []
    assert [each.detected for each in found] == [number % 12 == 0 for number in range(14)]


def test_parts_that_nobody_sees_are_not_told():
    images = image_loop()
    images.parts = FakeParser()
    (frame,) = follow(video_loop(), film(moving(LEFT), count=1), images)
    assert frame.detected
    assert images.parts.calls == []


@pytest.mark.slow
def test_who_passes_behind_another_keeps_the_identity():
    squares = moving((0, 15, 8, 30), dx=2), moving((20, 5, 40, 40))
    found = follow(video_loop({0: (2, 0)}, keyframe_every=4), film(*squares, count=28))
    assert boxes_of(found[3]) == {1: (6, 15, 14, 30), 2: (20, 5, 40, 40)}
    assert boxes_of(found[13]) == {2: (20, 5, 40, 40)}
    assert boxes_of(found[-1]) == {1: (54, 15, 62, 30), 2: (20, 5, 40, 40)}


@pytest.mark.slow
def test_who_walks_out_is_lost_then_retired_and_a_newcomer_gets_another_number():
    squares = moving((50, 10, 60, 30), dx=3), lambda number: LEFT if number >= 40 else None
    loop = video_loop({0: (3, 0)}, patience=6)
    images = image_loop()
    state = loop.begin(images)
    found = list(loop.run(images, film(*squares, count=20), state))
    assert boxes_of(found[0]) == {1: (50, 10, 60, 30)}
    assert len(found[-1].people) == len(state.people) == 0
    assert state.retired.ids.tolist() == [1]


@pytest.mark.slow
def test_two_that_change_places_keep_their_identities():
    squares = moving((4, 5, 14, 20), dx=2), moving((44, 25, 54, 45), dx=-2)
    found = follow(video_loop({0: (2, 0), 1: (-2, 0)}, keyframe_every=5), film(*squares, count=21))
    assert boxes_of(found[0]) == {1: (4, 5, 14, 20), 2: (44, 25, 54, 45)}
    assert boxes_of(found[20]) == {1: (44, 5, 54, 20), 2: (4, 25, 14, 45)}


class Shuffled(FakeDetector):
    """Finds people in an order of its own from the second look on."""

    def detect(self, images):
        found = super().detect(images)
        return found if len(self.calls) == 1 else [people[list(range(len(people)))[::-1]] for people in found]


@pytest.mark.slow
def test_rows_of_a_frame_in_another_order_are_the_same_people():
    frames = film(moving(LEFT, dx=1), moving(RIGHT), moving((24, 32, 34, 46)), count=20)
    one = follow(video_loop({0: (1, 0)}, keyframe_every=3), frames)
    other = follow(video_loop({0: (1, 0)}, keyframe_every=3), frames, image_loop(detector=Shuffled()))
    for first, second in zip(one, other, strict=True):
        assert first.people.ids.tolist() == [1, 2, 3]
        for name, value in first.people.instances.detections._values().items():
            assert torch.equal(value, getattr(second.people.instances.detections, name)) if value is not None else True
        assert torch.equal(first.people.points, second.people.points)


@pytest.mark.slow
def test_another_scene_retires_everybody():
    first, second = film(moving(LEFT), count=3), film(moving(RIGHT), count=6, start=3)
    bright = [replace(frame, image=type(frame.image)(frame.image.pixels.clone())) for frame in second]
    for frame in bright:
        frame.image.pixels[..., 1:] = 180
    found = follow(video_loop(), first + bright)
    assert [each.cut for each in found] == [False] * 3 + [True] + [False] * 5
    assert found[3].detected
    assert boxes_of(found[2]) == {1: LEFT}
    assert boxes_of(found[3]) == boxes_of(found[8]) == {2: RIGHT}


@pytest.mark.slow
def test_another_size_is_another_scene():
    found = follow(video_loop(), film(moving(LEFT), count=2) + film(moving(LEFT), count=2, start=2, height=60))
    assert [each.cut for each in found] == [False, False, True, False]


@pytest.mark.slow
def test_masks_between_drawn_ones_move_with_the_points():
    segmenter = FakeSegmenter()
    loop = video_loop({0: (1, 0)}, mask_every=4)
    found = follow(loop, film(moving(LEFT, dx=1), count=12), image_loop(segmenter=segmenter))
    assert len(segmenter.opened) == 3
    for number, each in enumerate(found):
        x1, y1, *_ = moving(LEFT, dx=1)(number)
        assert each.people.instances.masks.bits[0].nonzero().aminmax(dim=0).min.tolist() == [y1, x1]
        assert int(each.people.instances.masks.bits.sum()) == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hidden", "looks"),
    [
        ((1, 2), [0, 6, 18]),  # lost while doubts do not lead to a look
        ((1, 8), [0, 6, 12]),
        ((5, 6), [0, 5, 11, 23]),  # in doubt, and nobody there
    ],
)
def test_people_are_looked_for_twice_as_often_while_somebody_is_lost(hidden, looks):
    there = lambda number: None if hidden[0] <= number <= hidden[1] else LEFT  # noqa: E731
    found = follow(video_loop(keyframe_every=12), film(there, moving(RIGHT), count=looks[-1] + 1))
    assert [each.frame.index for each in found if each.detected] == looks
    assert boxes_of(found[looks[-1]])[1] == LEFT


@pytest.mark.slow
def test_looks_that_cannot_find_who_is_hidden_do_not_retire():
    there = lambda number: None if 3 <= number <= 18 else LEFT  # noqa: E731
    loop, images = video_loop(keyframe_every=6, patience=24, max_unmatched=2), image_loop()
    state = loop.begin(images)
    found = list(loop.run(images, film(there, moving(RIGHT), count=22), state))
    assert [each.frame.index for each in found if each.detected] == [0, 3, 6, 9, 12, 15, 18, 21]
    assert boxes_of(found[-1])[1] == LEFT
    assert len(state.retired) == 0


@pytest.mark.slow
def test_a_newcomer_is_found_at_the_next_look():
    late = lambda number: RIGHT if number >= 5 else None  # noqa: E731
    found = follow(video_loop(keyframe_every=4), film(moving(LEFT), late, count=10))
    assert [sorted(boxes_of(each)) for each in found] == [[1]] * 8 + [[1, 2]] * 2


@pytest.mark.slow
def test_a_loop_goes_on_from_its_state():
    frames = film(moving(LEFT, dx=1), moving(RIGHT), count=20)
    loop, images = video_loop({0: (1, 0)}), image_loop()
    whole = list(loop.run(images, frames))
    state = loop.begin(images)
    first = list(loop.run(images, frames[:7], state))
    loop.resume(images, state, state.previous)
    rest = list(loop.run(images, frames[7:], state))
    assert list(map(boxes_of, whole)) == list(map(boxes_of, first + rest))


class Greedy(TrackedKeypoints):
    """Draws the first square for everybody, and is surer of it the later somebody came."""

    def prompted_masks(self, segmenter, view, people):
        bits = (view.pixels[..., 0] == 200)[None].repeat(len(people), 1, 1)
        return Masks(bits, 0.8 + 0.01 * people.ids)


@pytest.mark.slow
def test_of_two_on_one_body_the_one_whose_body_it_is_keeps_it():
    loop = VideoLoop(FakeTracker({0: (1, 0)}), Greedy(), keyframe_every=4)
    found = follow(loop, film(moving(LEFT, dx=1), moving(RIGHT), count=6))
    assert [sorted(boxes_of(each)) for each in found] == [[1, 2], [1], [1, 2], [1], [1, 2], [1]]
    assert all(boxes_of(each)[1] == moving(LEFT, dx=1)(number) for number, each in enumerate(found))


def textured(number):
    """A square of cloth, 100 pixels a side, that moves by (1.5, -0.75) pixels a frame over a still wall."""
    generator = np.random.default_rng(0)
    noise = (generator.integers(0, 256, (200, 240, 3), np.uint8) for _ in range(2))
    wall, cloth = (cv2.normalize(cv2.GaussianBlur(each, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX) for each in noise)
    shift = np.array([[1, 0, 20 + 1.5 * number], [0, 1, 70 - 0.75 * number]])
    patch = cv2.warpAffine(cloth[:100, :100], shift, (240, 200), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(np.ones((100, 100), np.float32), shift, (240, 200), flags=cv2.INTER_LINEAR)[..., None]
    pixels = (patch * alpha + wall * (1 - alpha)).round().astype(np.uint8)
    return Frame(number, number / 25, Image(torch.from_numpy(pixels)))


class OneBox(FakeDetector):
    """Finds one person, in the middle of the cloth."""

    def detect(self, images):
        self.calls.append(list(images))
        return [detections((40.0, 90.0, 100.0, 150.0), scores=[0.9]) for _ in images]


@pytest.mark.slow
def test_points_and_mask_of_a_textured_square_follow_to_a_tenth_of_a_pixel():
    loop = VideoLoop(LucasKanade(), TrackedKeypoints(), keyframe_every=12, mask_every=20)
    found = follow(loop, [textured(number) for number in range(12)], image_loop(detector=OneBox()))
    first = found[0].people
    for number, each in enumerate(found):
        people, shift = each.people, torch.tensor([1.5 * number, -0.75 * number])
        inner = people.seen & (people.kinds != NEGATIVE)
        assert int(inner.sum()) == 17
        away = people.points - first.points - shift
        assert float(away[inner].norm(dim=1).max()) < 0.1
        assert float((people.motion[0, :, 2] + people.motion[0, :, :2] @ CENTRE - CENTRE - shift).norm()) < 0.1
        middle = people.instances.masks.bits[0].nonzero().float().mean(dim=0).flip(0)
        assert float((middle - CENTRE + 0.5 - shift).abs().max()) < 0.51  # of whole pixels


def scenes():
    """Two squares, then another scene in which one of them goes on."""
    first, second = film(moving(LEFT, dx=1), moving(RIGHT), count=7), film(moving((10, 10, 20, 30), dx=1), count=8)
    bright = []
    for frame in second:
        pixels = frame.image.pixels.clone()
        pixels[..., 1:] = 180
        bright.append(replace(frame, index=7 + frame.index, image=replace(frame.image, pixels=pixels)))
    return first + bright


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 2, 40])
def test_a_tracker_that_answers_late_gives_the_same(delay):
    late = video_loop(keyframe_every=5)
    late.tracker = LateTracker({0: (1, 0)}, delay=delay)
    whole = follow(video_loop({0: (1, 0)}, keyframe_every=5), scenes())
    found = follow(late, scenes())
    assert [each.frame.index for each in found] == list(range(15))
    assert [each.cut for each in found] == [each.cut for each in whole] == [number == 7 for number in range(15)]
    assert list(map(boxes_of, found)) == list(map(boxes_of, whole))


def test_no_more_frames_are_read_than_the_tracker_is_late():
    read = []
    late = video_loop()
    late.tracker = LateTracker({0: (1, 0)}, delay=3)
    found = late.run(image_loop(), (read.append(frame.index) or frame for frame in scenes()))
    next(found)
    assert read == [0, 1, 2, 3]
    next(found)
    assert read == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_late_tracker_goes_on_from_a_state():
    late, images = video_loop(keyframe_every=5), image_loop()
    late.tracker = LateTracker({0: (1, 0)}, delay=2)
    frames = scenes()
    whole = list(late.run(images, frames))
    state = late.begin(images)
    first = [late.step(images, state, frame, ahead) for frame, ahead in list(late.with_ahead(frames))[:5]]
    late.resume(images, state, state.previous, frames[5:7])
    rest = [late.step(images, state, frame, ahead) for frame, ahead in list(late.with_ahead(frames))[5:]]
    assert list(map(boxes_of, whole)) == list(map(boxes_of, first + rest))


@pytest.mark.parametrize(
    "options",
    [
        {"keyframe_every": 0},
        {"mask_every": 0},
        {"rounds": 0},
        {"patience": -1},
        {"max_unmatched": 0},
        {"points": 2},
        {"min_mask_score": 1.5},
    ],
)
def test_values_that_make_no_sense(options):
    with pytest.raises(UserError, match=f"video.{next(iter(options))}"):
        video_loop(**options)
