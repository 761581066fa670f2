"""Numbers of videos by hand: exact answers, shifted and exchanged ones, gaps, void pixels, points that stray."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
import torch
from sam_pt_fakes import MadeUpSAM

from bmp.datasets.synthcrowd_video import SynthCrowdVideo, labelled
from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset, boxes_around
from bmp.errors import UserError
from bmp.evaluation.ablations.true_motion import TrueMotion
from bmp.evaluation.videos import FoundObjects, measure_clicks, measure_objects, measure_people, measure_points
from bmp.sam_pt import SAMPT, Clicks
from bmp.structures import Frame, Image
from bmp.synthcrowd.videos import VideoSettings, plan_video

SIZE = 32


def _square(x: int, y: int, side: int = 8) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def _labels(*masks: np.ndarray, ids: Sequence[int] | None = None, void: np.ndarray | None = None) -> FrameLabels:
    bits = np.stack(masks) if masks else np.zeros((0, SIZE, SIZE), bool)
    numbers = np.array(ids if ids is not None else range(1, len(masks) + 1), np.int64)
    return FrameLabels(numbers, bits, boxes_around(bits), void)


class Made(VideoDataset):
    """Videos of grey frames with these labels."""

    name = "made"

    def __init__(self, *videos: Sequence[FrameLabels | None]) -> None:
        self._videos = videos

    def __len__(self) -> int:
        return len(self._videos)

    def video_name(self, index: int) -> str:
        return f"{index}"

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        for number, labels in enumerate(self._videos[index]):
            image = Image(torch.full((SIZE, SIZE, 3), number, dtype=torch.uint8))
            yield LabelledFrame(Frame(number, number / 25, image), labels)


TWO = [_labels(_square(2 + t, 2), _square(20, 20)) for t in range(4)]


def _answers(labels: Sequence[FrameLabels]) -> list[FoundObjects]:
    return [FoundObjects(one.ids.copy(), one.masks.copy(), np.full(len(one.ids), 0.9)) for one in labels]


def _find(answers: Sequence[FoundObjects]):
    return lambda frames: iter(answers[: len(list(frames))])


def test_exact_answers_are_worth_everything() -> None:
    numbers = measure_people(Made(TWO), _find(_answers(TWO)))
    assert (numbers.tracks.hota, numbers.tracks.mota, numbers.tracks.idf1) == (1, 1, 1)
    assert numbers.masks is not None
    assert numbers.masks.ap == pytest.approx(1)
    assert numbers.frames == 4
    assert numbers.rate > 0


def test_exchanged_ids_are_counted() -> None:
    answers = _answers(TWO)
    answers[2:] = [dataclasses.replace(one, ids=one.ids[::-1].copy()) for one in answers[2:]]
    numbers = measure_people(Made(TWO), _find(answers))
    assert numbers.tracks.switches == 2
    assert numbers.tracks.mota == 0.75
    assert numbers.tracks.hota == pytest.approx(0.5774, abs=1e-4)


def test_similarity_is_that_of_masks() -> None:
    moved = [dataclasses.replace(one, masks=np.roll(one.masks, 2, axis=2)) for one in _answers(TWO)]
    assert measure_people(Made(TWO), _find(moved)).tracks.motp == pytest.approx(6 / 10)


def test_frames_without_labels_and_without_people_count_for_nothing() -> None:
    labels: list[FrameLabels | None] = [TWO[0], None, *TWO[1:]]
    answers = [*_answers(TWO[:1]), *_answers(TWO[:1]), *_answers(TWO[1:])]
    assert measure_people(Made(labels), _find(answers)).tracks.mota == 1
    nobody = FoundObjects(np.zeros(0, np.int64), np.zeros((0, SIZE, SIZE), bool), np.zeros(0))
    numbers = measure_people(Made(TWO), _find([nobody] * 4))
    assert numbers.tracks.misses == 8
    assert numbers.tracks.hota == 0
    with pytest.raises(UserError, match="made: nobody is labelled"):
        measure_people(Made([None, None]), _find([nobody] * 2))


def test_who_lies_on_void_pixels_counts_for_nothing() -> None:
    void = np.zeros((SIZE, SIZE), bool)
    void[:, 16:] = True
    labels = [dataclasses.replace(_labels(_square(2, 2)), void=void) for _ in range(3)]
    answers = [FoundObjects(np.array([1, 2]), np.stack([_square(2, 2), _square(20, 20)]), np.ones(2))] * 3
    assert measure_people(Made(labels), _find(answers)).tracks.false_positives == 0
    assert measure_people(Made([_labels(_square(2, 2))] * 3), _find(answers)).tracks.false_positives == 3


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(UserError, match="0: expected 4 answers, got 3"):
        measure_people(Made(TWO), lambda frames: _answers(TWO)[:3])
    with pytest.raises(UserError, match=r"expected masks of \(32, 32\) pixels, got \(16, 32\)"):
        measure_people(Made(TWO), _find([dataclasses.replace(one, masks=one.masks[:, :16]) for one in _answers(TWO)]))


def test_objects_are_those_of_the_first_frame_and_the_ends_do_not_count() -> None:
    seen: list[list[int]] = []

    def follow(frames: Sequence[Frame], given: FrameLabels) -> Iterable[FoundObjects]:
        seen.append([frame.index for frame in frames])
        assert given.ids.tolist() == [1, 2]
        answers = _answers(TWO)
        # The first and the last may be anything; the second object is lost in one of two frames.
        for end in (0, 3):
            answers[end] = dataclasses.replace(answers[end], masks=np.zeros((2, SIZE, SIZE), bool))
        answers[1] = FoundObjects(answers[1].ids[:1], answers[1].masks[:1], answers[1].scores[:1])
        return answers

    later = [_labels(), *TWO[:3], dataclasses.replace(TWO[3])]
    numbers = measure_objects(Made(later), follow)
    assert seen == [[1, 2, 3, 4]]
    assert numbers.masks is not None
    assert numbers.masks.objects == 2
    assert numbers.masks.region.mean == pytest.approx((1 + 0.5) / 2)
    assert measure_objects(Made([_labels()] * 3), follow).masks is None


class Still:
    """Says that all points stay where they are, but for those it is told to lose."""

    delay, recovers = 0, False

    def __init__(self, moves: float = 0.0, lost: Sequence[int] = ()) -> None:
        self._moves, self._lost, self._step = moves, lost, 0

    def start(self, image: Image) -> None:
        pass

    def step(self, state: None, previous: Image, image: Image, points: torch.Tensor):
        self._step += 1
        seen = torch.tensor([not (row in self._lost and self._step == 1) for row in range(len(points))])
        return points + self._moves, seen, torch.zeros(len(points))


def _pointed(*seen: Sequence[bool]) -> list[FrameLabels]:
    points = np.array([[4.0, 4.0], [20.0, 20.0]], np.float32)
    return [dataclasses.replace(_labels(_square(2, 2)), points=points, points_seen=np.array(flags)) for flags in seen]


@pytest.mark.parametrize(
    ("tracker", "pck", "precision"),
    [
        (Still(), 4 / 4, 4 / 5),
        (Still(moves=2.0), 2 / 4, 2 / 5),  # 2.8 px after a frame, 5.7 px after two
        (Still(lost=[0]), 1 / 4, 1 / 2),  # of a point that is lost nothing counts, whatever is said later
    ],
)
def test_points_are_right_within_four_pixels(tracker: Still, pck: float, precision: float) -> None:
    # The second one begins later, and is hidden in the last frame.
    video = _pointed((True, False), (True, True), (True, True), (True, False))
    numbers = measure_points(Made(video), tracker)
    assert numbers.visible == 4
    assert numbers.pck == pytest.approx(pck)
    assert numbers.precision == pytest.approx(precision)


def test_points_need_points_and_a_tracker_that_answers_at_once() -> None:
    with pytest.raises(UserError, match="made: has no points to follow"):
        measure_points(Made(TWO), Still())
    late = Still()
    late.delay = 2
    with pytest.raises(UserError, match="this tracker answers late"):
        measure_points(Made(TWO), late)


@pytest.mark.slow
def test_true_motion_follows_drawn_points() -> None:
    settings = VideoSettings(size=96, length=8, heights=(50.0, 80.0), people=(2, 2), cuts=0.0)
    frames = [(drawn, labelled(drawn)) for drawn in plan_video(0, 3, settings)]

    class Drawn(Made):
        def frames(self, index: int) -> Iterator[LabelledFrame]:
            return iter([one for _, one in frames])

    tracker = TrueMotion((drawn, one.frame.image) for drawn, one in frames)
    numbers = measure_points(Drawn([]), tracker)
    assert numbers.visible > 60
    assert numbers.pck is not None
    assert numbers.pck > 0.9
    with pytest.raises(UserError, match="a frame of another video"):
        tracker.step(None, Image(torch.zeros(8, 8, 3, dtype=torch.uint8)), frames[0][1].frame.image, torch.zeros(1, 2))


@pytest.mark.slow
def test_drawn_videos_are_a_data_set() -> None:
    dataset = SynthCrowdVideo("video-val", count=2)
    assert (len(dataset), dataset.video_name(1), dataset.rate) == (2, "000001", 25.0)
    first = next(dataset.frames(1))
    assert first.labels is not None
    assert first.labels.masks is not None
    drawn = dataset.plan(1).frame(0)
    np.testing.assert_array_equal(first.labels.masks, drawn.scene.visible)
    np.testing.assert_allclose(boxes_around(first.labels.masks), first.labels.boxes)
    assert np.abs(first.frame.image.pixels.numpy().astype(int) - drawn.scene.image).mean() < 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "val"}, "choose one of video-train"),
        ({"split": "video-val", "count": 0}, "a count from 1"),
        ({"split": "video-val", "seed": -1}, "a seed from 0"),
    ],
)
def test_drawn_videos_that_there_are_not_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SynthCrowdVideo(**options)  # type: ignore[arg-type]


class Still:
    """Nothing moves, and all of it is seen."""

    delay, recovers = 0, False

    def start(self, image):
        return None

    def step(self, state, previous, image, points):
        return points, torch.ones(len(points), dtype=torch.bool), torch.zeros(len(points))


def test_clicks_are_counted_over_all_videos_and_masks_measured_after_them():
    sam_pt = SAMPT(Still(), MadeUpSAM(), refinements=0, min_score=0.0, agreement=False)
    still = [_labels(_square(4, 4, 15))] * 3  # a disk around its middle is not quite the square
    numbers = measure_clicks(Made(still, [*still[:2], None]), sam_pt, Clicks(enough=0.7))
    assert (numbers.clicks, numbers.untouched, numbers.frames) == (2, 1.0, 6)
    assert numbers.masks is not None
    assert 0.7 <= numbers.masks.region.mean < 1
    assert numbers.masks.objects == 2
    again = measure_clicks(Made(still), sam_pt, Clicks(enough=1.0, per_frame=1))
    assert (again.clicks, again.untouched) == (3, 0.0)


def test_clicks_need_masks():
    labels = FrameLabels(np.array([1]), None, np.array([[2, 2, 9, 9]], np.float32))
    with pytest.raises(UserError, match="made: has no masks to click for"):
        measure_clicks(Made([labels]), SAMPT(Still(), MadeUpSAM()))
