"""The loop on stages that cannot be wrong: squares in front of squares."""

from dataclasses import replace

import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, detections, scene

from bmp.errors import UserError
from bmp.loop import STAGES, Loop
from bmp.ops.masks import paint_out
from bmp.structures import Detections

FRONT, BEHIND, APART = (20, 10, 30, 20), (15, 5, 40, 30), (50, 30, 60, 40)


def _loop(**changes):
    parts = {"detector": FakeDetector(), "pose": FakePose(), "segmenter": FakeSegmenter(), "suppressor": KeepAll()}
    return Loop(**(parts | changes))


def _run(loop, *images, **options):
    return sorted(loop.run(images, **options), key=lambda result: result.index)


def _boxes(result):
    return {tuple(map(int, box)) for box in result.people.detections.boxes.tolist()}


class DropRows:
    """Suppresses given rows in given calls, counted from 0."""

    def __init__(self, plan):
        self.plan, self.calls = plan, []

    def keep(self, people, poses):
        gone = self.plan.get(len(self.calls), [])
        self.calls.append((people, poses))
        return torch.tensor([row for row in range(len(people)) if row not in gone], dtype=torch.int64)


def test_the_second_round_finds_whom_the_first_one_hid():
    image = scene(BEHIND, FRONT)  # the one in front is drawn last
    (one,) = _run(_loop(rounds=1), image)
    assert _boxes(one) == {FRONT}
    (two,) = _run(_loop(rounds=2), image)
    assert _boxes(two) == {FRONT, BEHIND}
    assert two.people.round.tolist() == [1, 2]


def test_more_rounds_go_on_while_somebody_new_is_found():
    nested = scene((2, 2, 46, 46), (5, 5, 40, 40), (10, 10, 20, 20))
    detector = FakeDetector()
    (result,) = _run(_loop(detector=detector, rounds=9), nested)
    assert result.people.round.tolist() == [1, 2, 3]
    assert len(detector.calls) == 4  # the fourth saw nothing new, so there was no fifth


def test_known_people_are_black_and_the_image_is_not_changed():
    image = scene(BEHIND, FRONT)
    before = image.pixels.clone()
    detector = FakeDetector()
    _run(_loop(detector=detector), image)
    assert torch.equal(image.pixels, before)
    second = detector.calls[1][0].pixels
    x1, y1, x2, y2 = FRONT
    assert second[y1:y2, x1:x2].sum() == 0
    second = second.clone()
    second[y1:y2, x1:x2] = before[y1:y2, x1:x2]
    assert torch.equal(second, before)


def test_poses_and_masks_come_from_the_original_image_opened_once():
    segmenter = FakeSegmenter()
    image = scene(BEHIND, FRONT)
    _run(_loop(segmenter=segmenter, rounds=3), image)
    assert len(segmenter.opened) == 1
    assert torch.equal(segmenter.opened[0].pixels, image.pixels)


def test_an_image_without_people_is_never_opened_and_leaves_empty():
    segmenter = FakeSegmenter()
    nobody, somebody = _run(_loop(segmenter=segmenter), scene(), scene(APART))
    assert len(nobody.people) == 0
    assert nobody.people.masks.bits.shape == (0, 48, 64)
    assert len(somebody.people) == 1
    assert len(segmenter.opened) == 1


def test_no_images_give_no_results():
    assert _run(_loop()) == []


def test_images_leave_when_they_are_finished():
    detector = FakeDetector()
    results = _loop(detector=detector).run([scene(BEHIND, FRONT), scene()])
    arrivals = [(result.index, len(detector.calls)) for result in results]
    assert arrivals == [(1, 1), (0, 2)]


def test_a_batch_gives_what_its_images_give_alone():
    images = [scene(BEHIND, FRONT), scene(), scene(APART), scene(APART, BEHIND, FRONT, height=41, width=67)]
    together = _run(_loop(), *images)
    for image, result in zip(images, together, strict=True):
        (alone,) = _run(_loop(), image)
        assert torch.equal(alone.people.detections.boxes, result.people.detections.boxes)
        assert torch.equal(alone.people.masks.bits, result.people.masks.bits)
        assert torch.equal(alone.people.round, result.people.round)


def test_shared_pixels_go_to_the_better_mask_across_rounds():
    (result,) = _run(_loop(), scene(BEHIND, FRONT))
    front, behind = result.people.masks.bits
    x1, y1, x2, y2 = FRONT
    assert front.sum() == (x2 - x1) * (y2 - y1)
    assert not (front & behind).any()
    assert (front | behind).sum() == 25 * 25


def test_an_old_person_who_loses_leaves_and_gives_back_the_pixels():
    # Round 1: both squares (given boxes), the smaller takes the overlap. Round 2 suppresses the smaller one.
    image = scene(BEHIND, FRONT, APART)
    given = [detections(BEHIND, FRONT)]
    suppressor = DropRows({1: [1]})
    (result,) = _run(_loop(suppressor=suppressor), image, boxes=given)
    assert _boxes(result) == {BEHIND, APART}
    whole = result.people.masks.bits[0]
    assert whole.sum() == 25 * 25, "what the loser had taken was not given back"


def test_suppression_sees_old_and_new_people_in_order():
    suppressor = DropRows({})
    _run(_loop(suppressor=suppressor), scene(BEHIND, FRONT))
    people, poses = suppressor.calls[1]
    assert people.boxes.int().tolist() == [list(FRONT), list(BEHIND)]
    assert len(poses) == 2


def test_a_round_in_which_everybody_new_is_a_duplicate_is_the_last():
    detector = FakeDetector()
    suppressor = DropRows({1: [1]})
    (result,) = _run(_loop(detector=detector, suppressor=suppressor, rounds=9), scene(BEHIND, FRONT))
    assert _boxes(result) == {FRONT}
    assert len(detector.calls) == 2


def test_the_segmenter_is_told_of_the_people_who_have_a_mask():
    segmenter = FakeSegmenter()
    _run(_loop(segmenter=segmenter), scene(BEHIND, FRONT))
    assert [len(others[0]) for others in segmenter.others] == [0, 1]


def test_given_boxes_replace_the_first_detection_only():
    detector = FakeDetector()
    (result,) = _run(_loop(detector=detector), scene(APART, FRONT), boxes=[detections(FRONT)])
    assert result.people.detections.boxes.int().tolist() == [list(FRONT), list(APART)]
    assert len(detector.calls) == 1


def test_only_the_given_people_when_that_is_asked_for():
    detector = FakeDetector()
    (result,) = _run(_loop(detector=detector), scene(APART, FRONT), boxes=[detections(FRONT)], only_given=True)
    assert _boxes(result) == {FRONT}
    assert detector.calls == []


def test_images_without_given_boxes_are_detected_in():
    detector = FakeDetector()
    images = [scene(APART, FRONT), scene(BEHIND, FRONT), scene(APART)]
    given = [None, detections(FRONT), Detections.empty()]
    results = _run(_loop(detector=detector), *images, boxes=given, only_given=True)
    assert [_boxes(result) for result in results] == [{APART, FRONT}, {FRONT}, set()]
    assert [len(images) for images in detector.calls] == [1, 1]


def test_a_second_detector_takes_the_later_rounds():
    first, second = FakeDetector(score=0.9), FakeDetector(score=0.5)
    (result,) = _run(_loop(detector=first, redetector=second), scene(BEHIND, FRONT))
    assert result.people.detections.scores.tolist() == pytest.approx([0.9, 0.5])


def test_reposing_is_conditioned_on_the_segmenters_masks():
    pose = FakePose()
    _run(_loop(pose=pose, repose=True, rounds=1), scene(APART))
    first, second = pose.calls
    assert first[0].masks is None
    assert second[0].masks is not None
    assert second[0].masks.sum() == 100


def test_reposing_sees_masks_without_what_belongs_to_people_of_earlier_rounds():
    pose = FakePose()
    _run(_loop(pose=pose, repose=True), scene(BEHIND, FRONT))
    refined = pose.calls[-1][0].masks  # of the one behind, found in round 2
    x1, y1, x2, y2 = FRONT
    assert not refined[:, y1:y2, x1:x2].any()
    assert refined.sum() == 25 * 25 - 10 * 10


def test_the_trace_tells_each_round_and_only_on_request():
    image = scene(BEHIND, FRONT)
    (silent,) = _run(_loop(), image)
    assert silent.trace == []
    (result,) = _run(_loop(rounds=3), image, trace=True)
    assert [t.round for t in result.trace] == [1, 2, 3]
    first, second, third = result.trace
    assert torch.equal(first.seen.pixels, image.pixels)
    assert (first.known, second.known, third.known) == (0, 1, 2)
    assert second.kept.tolist() == [0, 1]
    assert len(second.segmented) == 1
    assert len(third.detections) == 0
    assert [len(t.people) for t in result.trace] == [1, 2, 2]
    assert not (second.people.masks.bits.sum(0) > 1).any()


def test_a_detector_with_masks_and_one_without_mix():
    class Masked(FakeDetector):
        def detect(self, images):
            found = super().detect(images)
            return [
                replace(d, masks=torch.ones(len(d), i.height, i.width, dtype=torch.bool))
                for d, i in zip(found, images, strict=True)
            ]

    (result,) = _run(_loop(detector=Masked(), redetector=FakeDetector()), scene(BEHIND, FRONT))
    assert len(result.people) == 2


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (7, 3), (20, 11)])
def test_the_answer_moves_with_the_people(dx, dy):
    def move(box):
        return (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)

    (here,) = _run(_loop(), scene(BEHIND, FRONT, height=60, width=80))
    (there,) = _run(_loop(), scene(move(BEHIND), move(FRONT), height=60, width=80))
    shift = torch.tensor([dx, dy, dx, dy])
    assert torch.equal(there.people.detections.boxes, here.people.detections.boxes + shift)
    moved = torch.roll(here.people.masks.bits, (dy, dx), (1, 2))
    assert torch.equal(there.people.masks.bits, moved)


def test_wrong_numbers_of_rounds_and_of_boxes_are_refused():
    with pytest.raises(UserError, match="at least 1, got 0"):
        _loop(rounds=0)
    with pytest.raises(ValueError, match="zip"):
        list(_loop().run([scene()], boxes=[Detections.empty()] * 2))


def test_the_log_tells_how_long_each_stage_took(caplog):
    caplog.set_level("DEBUG", logger="bmp")
    loop = Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll(), rounds=1)
    list(loop.run([scene((2, 2, 20, 20)), scene((5, 5, 20, 20))]))
    stages = [record.getMessage().split(" in ")[0] for record in caplog.records if record.name == "bmp.loop"]
    assert stages == [f"{stage}: 2 images" for stage in STAGES if stage != "encoder"]


class RecordingEncoder:
    def __init__(self):
        self.seen = []

    def levels(self, images):
        self.seen.append(list(images))
        return [(torch.zeros(1, 2, 4, 4),) for _ in images]


def test_a_shared_encoder_is_a_stage_of_its_own_and_sees_images_with_people_once(caplog):
    caplog.set_level("DEBUG", logger="bmp")
    encoder = RecordingEncoder()
    loop = Loop(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll(), encoder=encoder, rounds=3)
    crowd, nobody = scene((0, 0, 20, 40), (10, 10, 16, 16)), scene()
    results = list(loop.run([nobody, crowd]))
    assert [len(images) for images in encoder.seen] == [1]
    assert torch.equal(encoder.seen[0][0].pixels, crowd.pixels)
    assert sorted(result.people.round.tolist() for result in results) == [[], [1, 2]]
    lines = [record.getMessage().split(" in ")[0] for record in caplog.records if record.name == "bmp.loop"]
    assert [line for line in lines if line.startswith("encoder")] == ["encoder: 1 images"]


class ByFeatures(FakeDetector):
    """Takes known people out by itself: what the loop shows it is never painted."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.known = encoder, []

    def detect(self, images):
        self.encoder.asked.append("detect")
        return super().detect(images)

    def detect_further(self, images, known):
        self.known.append([masks.whole() for masks in known])
        self.encoder.asked.append([id(image) for image in images])
        return super().detect([paint_out(*one) for one in zip(images, known, strict=True)])


class Asked(RecordingEncoder):
    def __init__(self):
        super().__init__()
        self.asked = []

    def levels(self, images):
        self.asked.append([id(image) for image in images])
        return super().levels(images)


def test_a_detector_on_features_gets_the_images_and_the_masks_of_whom_is_known():
    encoder = Asked()
    detector = ByFeatures(encoder)
    image = scene(BEHIND, FRONT)
    (usual,) = _run(_loop(encoder=RecordingEncoder()), image, trace=True)
    (result,) = _run(_loop(detector=detector, encoder=encoder), image, trace=True)
    assert torch.equal(result.people.detections.boxes, usual.people.detections.boxes)
    assert result.people.round.tolist() == [1, 2]
    own = [id(result.image)]
    assert encoder.asked == [own, "detect", own]  # encoded before the first look, and never again
    ((masks,),) = detector.known
    assert torch.equal(masks, result.trace[0].people.masks.bits)
    for mine, theirs in zip(result.trace, usual.trace, strict=True):
        assert torch.equal(mine.seen.pixels, theirs.seen.pixels)


def test_a_detector_on_features_may_take_the_later_rounds_only():
    encoder = Asked()
    redetector = ByFeatures(encoder)
    (result,) = _run(_loop(redetector=redetector, encoder=encoder), scene(BEHIND, FRONT))
    assert result.people.round.tolist() == [1, 2]
    assert encoder.asked == [[id(result.image)], [id(result.image)]]
    assert len(redetector.known) == 1


class Recorded:
    """Leaves overlaps as they are, and remembers what it was asked."""

    def __init__(self):
        self.rounds = []

    def resolve(self, masks, rounds):
        self.rounds.append(rounds.tolist())
        return masks.bits


@pytest.mark.parametrize("repose", [False, True])
def test_another_rule_for_overlaps(repose):
    rule = Recorded()
    (result,) = _run(_loop(overlaps=rule, repose=repose), scene(BEHIND, FRONT))
    front, behind = result.people.masks.bits
    assert torch.equal(front & behind, front)
    # What belongs to whom is settled at the end and, for poses from masks, in each round; the new ones come last.
    assert rule.rounds == ([[1], [1, 2], [1, 2]] if repose else [[1, 2]])


class LeftHalf:
    """Paints the left half of each mask's window."""

    def painted(self, people):
        masks = people.masks.windows
        left = [torch.arange(patch.shape[1]) < patch.shape[1] // 2 for patch in masks.patches]
        return masks.replaced([patch & own for patch, own in zip(masks.patches, left, strict=True)])


def test_another_rule_for_what_later_rounds_see():
    image = scene(BEHIND, FRONT)
    (whole,) = _run(_loop(), image, trace=True)
    (result,) = _run(_loop(paint=LeftHalf()), image, trace=True)
    first, second = (step.seen.pixels for step in result.trace[:2])
    front = result.trace[0].people.masks.bits[0]
    black = (second == 0).all(-1) & (first != 0).any(-1)
    assert 0 < black.sum() < front.sum()
    assert not (black & ~front).any()
    # What is given out are the masks as they were segmented.
    assert torch.equal(result.trace[0].people.masks.bits, whole.trace[0].people.masks.bits)


class Counted(LeftHalf):
    """Counts the images that it was asked of."""

    calls = 0

    def painted(self, people):
        self.calls += 1
        return super().painted(people)


@pytest.mark.parametrize("trace", [False, True])
@pytest.mark.parametrize("by_features", [False, True])
def test_an_image_is_painted_once_a_round_and_only_for_whoever_looks_at_it(monkeypatch, trace, by_features):
    painted = []
    monkeypatch.setattr("bmp.loop.paint_out", lambda *arguments: painted.append(paint_out(*arguments)) or painted[-1])
    rule, detector = Counted(), ByFeatures(Asked()) if by_features else FakeDetector()
    loop = _loop(redetector=detector, paint=rule, rounds=4)
    nested = scene((2, 2, 46, 46), (5, 5, 40, 40), (10, 10, 20, 20))
    (result,) = _run(loop, nested, trace=trace)
    rounds = len(detector.known if by_features else detector.calls)
    assert rounds >= 2
    assert rule.calls == rounds
    assert len(painted) == (rounds if trace or not by_features else 0)
    for step, image in zip(result.trace[1:], painted, strict=True) if trace else ():
        assert torch.equal(step.seen.pixels, image.pixels)
        assert step.seen is not image  # what stages remember of an image ends with that object


def test_a_detector_on_features_is_told_what_would_be_painted():
    redetector = ByFeatures(Asked())
    _run(_loop(redetector=redetector, paint=LeftHalf()), scene(BEHIND, FRONT))
    _run(_loop(redetector=(whole := ByFeatures(Asked()))), scene(BEHIND, FRONT))
    assert 0 < redetector.known[0][0].sum() < whole.known[0][0].sum()
