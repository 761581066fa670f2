"""SAM-PT on films whose right answer is plain."""

import weakref

import pytest
import torch
from sam_pt_fakes import MadeUpSAM, RedSAM, RightTracker, film_of, mask_in, textured

from bmp.errors import UserError
from bmp.sam_pt import SAMPT, Query, Reinitialisation
from bmp.sam_pt.engine import backwards, non_overlapping
from bmp.segmenters.detected import DetectedMasks
from bmp.trackers.lucas_kanade import LucasKanade

SPEEDS = {0: (2, 1), 1: (-3, 0)}


def moving(x, y, dx, dy, width=24, height=20):
    return lambda t: (x + dx * t, y + dy * t, x + dx * t + width, y + dy * t + height)


def two(count=8, **options):
    """Two objects that pass each other without touching."""
    return textured(moving(10, 5, 2, 1), moving(70, 50, -3, 0), count=count, **options)


def masked(frames, *which, at=0):
    return [Query(number + 1, frames[at].index, mask_in(frames[at], number)) for number in which]


def sam_pt(tracker=None, segmenter=None, **options):
    tracker = RightTracker(SPEEDS) if tracker is None else tracker
    return SAMPT(tracker, RedSAM() if segmenter is None else segmenter, **({"refinements": 1} | options))


def run(frames, queries, model=None, **options):
    return list((model or sam_pt()).run(film_of(frames), queries, **options))


def assert_right(results, frames, ids=(1, 2), first=0):
    assert [result.frame.index for result in results] == [frame.index for frame in frames]
    for result in results:
        if result.frame.index < first:
            continue
        assert result.objects.ids.tolist() == list(ids)
        for row, number in enumerate(ids):
            assert torch.equal(result.bits[row], mask_in(result.frame, number - 1)), (result.frame.index, number)


@pytest.mark.slow
@pytest.mark.parametrize("tracker", [RightTracker(SPEEDS), LucasKanade()], ids=["right", "lucas-kanade"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_masks_follow_objects(tracker, exclusive):
    frames = two()
    results = run(frames, masked(frames, 0, 1), sam_pt(tracker, exclusive=exclusive))
    assert_right(results, frames)
    assert all(result.asked.all() for result in results)
    assert results[0].scores.tolist() == [1, 1]
    assert results[1].scores.tolist() == pytest.approx([0.9, 0.9])


@pytest.mark.slow
def test_points_follow_to_a_tenth_of_a_pixel():
    frames = textured(moving(10, 5, 2, 1, 70, 60), count=6)
    first, *_, last = run(frames, masked(frames, 0), sam_pt(LucasKanade()))
    moved = (last.objects.points - first.objects.points)[last.objects.seen & (last.objects.labels == 1)]
    assert len(moved) >= 14
    assert (moved - torch.tensor([10.0, 5.0])).norm(dim=1).median() < 0.1


def test_one_question_round_is_for_all_objects_and_each_frame_is_encoded_once():
    frames, segmenter = two(count=4), RedSAM()
    run(frames, masked(frames, 0, 1), sam_pt(segmenter=segmenter, refinements=2))
    assert [len(question) for question in segmenter.questions] == [2] * 4 * 3
    assert segmenter.opened == 3  # nothing is asked about the first one


@pytest.mark.slow
def test_objects_keep_their_numbers_in_whatever_order_they_come():
    frames = two()
    forward, turned = (run(frames, queries) for queries in (masked(frames, 0, 1), masked(frames, 0, 1)[::-1]))
    for one, other in zip(forward, turned, strict=True):
        assert torch.equal(one.bits, other.bits)
        assert torch.equal(one.objects.points, other.objects.points)
        assert torch.equal(one.labels(), other.labels())


def test_the_same_seed_gives_the_same_points_and_another_one_others():
    frames = two(count=2)
    points = [
        run(frames, masked(frames, 0), sam_pt(seed=seed, positive_method="random"))[0].objects.points
        for seed in (1, 1, 2)
    ]
    assert torch.equal(points[0], points[1])
    assert not torch.equal(points[0], points[2])


def test_a_hidden_object_is_empty_and_not_asked_about_by_its_negative_points():
    hidden = lambda t: (10, 5, 60, 60) if t >= 3 else None  # noqa: E731
    frames = textured(moving(20, 20, 1, 0), hidden, count=5)
    segmenter = RedSAM()
    results = run(frames, masked(frames, 0), sam_pt(RightTracker({0: (1, 0)}), segmenter, negatives=3))
    assert results[2].asked.tolist() == [True]
    for result in results[3:]:
        assert result.asked.tolist() == [False]
        assert not result.bits.any()
    assert all(points for question in segmenter.questions for points in question)


@pytest.mark.parametrize("recovers", [False, True])
def test_what_comes_back_is_found_again_only_by_a_tracker_that_knows_it(recovers):
    hidden = lambda t: (10, 5, 60, 60) if t == 2 else None  # noqa: E731
    frames = textured(moving(20, 20, 0, 0), hidden, count=5)
    tracker = RightTracker({}, recovers=recovers)
    tracker.step = lambda state, previous, image, points: (
        points,
        torch.full((len(points),), bool(image.pixels[30, 30, 0] == 100)),
        torch.zeros(len(points)),
    )
    last = run(frames, masked(frames, 0), sam_pt(tracker))[-1]
    assert bool(last.bits.any()) == recovers


@pytest.mark.slow
@pytest.mark.parametrize("rule", [None, Reinitialisation("median-of-area", 4)], ids=["once", "anew"])
def test_objects_begin_in_their_frames_and_before_with_backward(rule):
    frames = two(count=10, start=3)
    queries = [*masked(frames, 0, at=4), *masked(frames, 1, at=6)]
    results = run(frames, queries, sam_pt(reinitialisation=rule), start=3)
    assert [result.objects.ids.tolist() for result in results] == [[]] * 4 + [[1]] * 2 + [[1, 2]] * 4
    both = SAMPT(_BothWays(), RedSAM(), refinements=1, reinitialisation=rule)
    results = run(frames, queries, both, start=3, backward=True)
    assert_right(results, frames)
    assert [result.asked.all().item() for result in results] == [True] * 10


class _BothWays(RightTracker):
    """Finds objects by their colour, whichever way time goes."""

    def __init__(self):
        super().__init__({})

    def step(self, state, previous, image, points):
        moved, seen = points.clone(), torch.zeros(len(points), dtype=torch.bool)
        for row, (x, y) in enumerate(points.long().tolist()):
            red = previous.pixels[y, x, 0]
            corners = [(each.pixels[..., 0] == red).nonzero()[0].flip(0) for each in (previous, image)]
            moved[row] = points[row] + (0 if red == 50 else corners[1] - corners[0])
            seen[row] = True
        return moved, seen, torch.zeros(len(points))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 3, 20])
def test_a_late_tracker_gives_the_same_a_little_later(delay):
    frames = two(count=6)
    queries = [*masked(frames, 0), *masked(frames, 1, at=2)]
    expected = run(frames, queries)
    results = run(frames, queries, sam_pt(RightTracker(SPEEDS, delay=delay)))
    assert len(results) == len(expected)
    for one, other in zip(results, expected, strict=True):
        assert torch.equal(one.bits, other.bits)
        assert torch.equal(one.objects.points, other.objects.points)


def test_one_frame_and_no_frame():
    frames = two(count=1)
    assert_right(run(frames, masked(frames, 0, 1), sam_pt(RightTracker(SPEEDS, delay=2))), frames)
    with pytest.raises(UserError, match="object 1: frame 0 did not come"):
        run([], masked(frames, 0))


@pytest.mark.slow
def test_a_run_goes_on_from_the_points_of_its_last_frame():
    frames = two(count=9)
    queries = [*masked(frames, 0), *masked(frames, 1, at=6)]
    model = sam_pt(LucasKanade())
    whole = run(frames, queries, model)
    stopped = whole[3]
    rest = run(frames, queries, model, after=(stopped.frame, stopped.objects))
    assert [result.frame.index for result in rest] == [4, 5, 6, 7, 8]
    for one, other in zip(rest, whole[4:], strict=True):
        assert torch.equal(one.objects.points, other.objects.points)
        assert torch.equal(one.bits, other.bits)
        assert torch.equal(one.scores, other.scores)


@pytest.mark.parametrize(
    "options", [{"reinitialisation": Reinitialisation()}, {"similarity": True}, {"tracker": RightTracker({}, delay=1)}]
)
def test_what_cannot_go_on_says_so(options):
    frames = two(count=3)
    model = sam_pt(**options)
    assert not model.streams
    objects = run(frames, masked(frames, 0))[0].objects
    with pytest.raises(UserError, match="going on: works forwards"):
        run(frames, masked(frames, 0), model, after=(frames[0], objects))


@pytest.mark.slow
@pytest.mark.parametrize("rule", [None, Reinitialisation("similar-area", 5)], ids=["once", "anew"])
def test_frames_are_not_kept(rule):
    """Two while points are followed, and two windows where they are drawn anew."""
    alive, most = weakref.WeakSet(), 0

    def film(start, end):
        for number in range(40):
            (frame,) = textured(moving(10, 10, 0, 0), count=1, start=number)
            alive.add(frame.image)
            yield frame

    first = textured(moving(10, 10, 0, 0), count=1)
    for _ in sam_pt(RightTracker({}), reinitialisation=rule).run(film, masked(first, 0)):
        most = max(most, len(alive))
    assert most <= (3 if rule is None else 12)


@pytest.mark.slow
def test_similarity_loses_points_that_look_otherwise_for_good():
    frames = textured(moving(10, 5, 0, 0), count=5)
    frames[2].image.pixels[:40, :50, 1], frames[2].image.pixels[:40, :50, 2] = 255, 0  # green
    always = RightTracker({}, recovers=True)
    always.step = lambda state, previous, image, points: (points, torch.ones(len(points)) > 0, torch.zeros(len(points)))
    plain, alike = (
        run(frames, masked(frames, 0), sam_pt(always, similarity=similarity)) for similarity in (False, True)
    )
    assert [result.asked.item() for result in plain] == [True] * 5
    assert [result.asked.item() for result in alike] == [True, True, False, False, False]


@pytest.mark.slow
def test_points_that_leave_their_object_are_not_seen_unless_that_is_left_to_the_tracker():
    frames = two(count=3)
    astray = RightTracker(SPEEDS)
    step = astray.step

    def stray(state, previous, image, points):
        moved, seen, error = step(state, previous, image, points)
        moved[0] += 12
        seen[0] = True
        return moved, seen, error

    astray.step = stray
    for agreement in (True, False):
        result = run(frames, masked(frames, 0), sam_pt(astray, agreement=agreement))[1]
        assert bool(result.objects.seen[0, 0]) == (not agreement)
        assert result.objects.seen[0, 1:16].all()


class TestQueries:
    FRAMES = two(count=3)

    def test_points_are_kept_and_completed_from_the_mask_that_they_mean(self):
        points = torch.tensor([[15.0, 10.0], [90.0, 70.0]])
        query = Query(1, 0, points=points, labels=torch.tensor([1, 0]))
        first, *rest = run(self.FRAMES, [query])
        assert torch.equal(first.objects.points[0, :2], points)
        assert first.objects.labels[0].tolist() == [1, 0, *[1] * 15]
        assert_right([first, *rest], self.FRAMES, ids=(1,))
        assert first.scores.tolist() == pytest.approx([0.9])

    def test_more_points_than_usual_are_all_followed(self):
        points = torch.cartesian_prod(torch.arange(12.0, 32, 4), torch.arange(7.0, 23, 3))
        queries = [Query(1, 0, points=points), *masked(self.FRAMES, 1)]
        first, *rest = run(self.FRAMES, queries)
        assert torch.equal(first.objects.points[0, : len(points)], points)
        assert (first.objects.labels[1] == -1).sum() == len(points) - 17
        assert_right([first, *rest], self.FRAMES)

    def test_a_box(self):
        results = run(self.FRAMES, [Query(1, 0, box=torch.tensor([9.0, 4.0, 35.0, 26.0]))])
        assert_right(results, self.FRAMES, ids=(1,))

    @pytest.mark.slow
    def test_an_object_that_fills_the_frame_has_no_point_beside_it(self):
        frames = textured(lambda t: (0, 0, 100, 80), count=2)
        first, last = run(frames, masked(frames, 0), sam_pt(RightTracker({})))
        assert first.objects.labels[0].tolist() == [1] * 16 + [-1]
        assert last.bits.all()

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({"mask": torch.ones(8, 9, dtype=torch.bool)}, "its mask has 9x8 pixels, frame 0 has 100x80"),
            ({"points": torch.tensor([[5.0, 80.0]])}, "its point 5,80 is outside of the frame, 100x80"),
            ({"box": torch.tensor([100.0, 5.0, 120.0, 9.0])}, "its box 100,5,120,9 is outside of the frame"),
        ],
    )
    def test_what_does_not_fit_the_frame(self, query, words):
        with pytest.raises(UserError, match=f"object 3: {words}"):
            run(self.FRAMES, [Query(3, 0, **query)])

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ({}, "expected a mask, points or a box"),
            ({"mask": torch.zeros(8, 9, dtype=torch.bool)}, "its mask is empty"),
            ({"mask": torch.ones(8, 9)}, "expected a mask bool"),
            ({"mask": torch.ones(8, 9) > 0, "box": torch.ones(4)}, "expected a mask or a box, got both"),
            ({"points": torch.ones(3)}, r"expected points \(n, 2\)"),
            ({"points": torch.ones(3, 2), "labels": torch.ones(2)}, "expected as many labels as points"),
            ({"points": torch.ones(3, 2), "labels": torch.zeros(3)}, "expected a point on the object"),
            ({"points": torch.ones(0, 2)}, "expected a point on the object"),
            ({"box": torch.tensor([5, 5, 5, 9])}, "expected a box x1,y1,x2,y2"),
            ({"points": torch.ones(1, 2), "frame": -1}, "expected an id from 1 and a frame from 0"),
        ],
    )
    def test_what_makes_no_sense(self, query, words):
        with pytest.raises(UserError, match=words):
            Query(3, **query)

    def test_nothing_found(self):
        segmenter = MadeUpSAM()
        segmenter.logits = lambda views, prompts, previous=None: [(torch.full((1, 80, 100), -1.0), torch.ones(1))]
        with pytest.raises(UserError, match="object 1: the segmenter finds nothing there in frame 0"):
            run(self.FRAMES, [Query(1, 0, points=torch.ones(1, 2))], sam_pt(segmenter=segmenter))

    @pytest.mark.parametrize(
        ("queries", "options", "words"),
        [
            ([], {}, "expected at least one, got none"),
            ([1, 1], {}, "an id of its own for each"),
            ([1], {"start": 1}, "frame 0 is not in the part"),
            ([1], {"end": 0}, "frame 0 is not in the part"),
        ],
    )
    def test_queries_that_do_not_go_together(self, queries, options, words):
        with pytest.raises(UserError, match=words):
            run(self.FRAMES, [Query(number, 0, points=torch.ones(1, 2)) for number in queries], **options)


def test_wrong_settings():
    with pytest.raises(UserError, match="positives: expected at least 1"):
        sam_pt(positives=0)
    with pytest.raises(UserError, match="DetectedMasks cannot be asked by points"):
        sam_pt(segmenter=DetectedMasks())


def test_films_are_read_backwards_in_parts():
    frames, parts = two(count=40), []

    def film(start, end):
        parts.append((start, end))
        return film_of(frames)(start, end)

    assert [frame.index for frame in backwards(film, 2, 37)] == list(range(36, 1, -1))
    assert parts == [(34, 37), (18, 34), (2, 18)]


def test_pixels_go_to_the_highest_object_above_the_ground():
    logits = torch.tensor([[[1.0, -1.0, 2.0, 0.0]], [[2.0, -2.0, 2.0, 0.0]]])
    assert non_overlapping(logits, 1, 4).tolist() == [[2, 0, 1, 0]]
    assert non_overlapping([], 1, 4).tolist() == [[0, 0, 0, 0]]
