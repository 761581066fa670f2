"""Trackers that see windows of frames, on networks with the interfaces of the published ones."""

import pytest
import torch
import tracker_fakes
from safetensors.torch import save_file
from sam_pt_fakes import RedSAM, film_of, mask_in, textured

from bmp.build import build_part
from bmp.errors import UserError
from bmp.registry import TRACKERS
from bmp.sam_pt import SAMPT, Query
from bmp.stages import PointTracker
from bmp.structures import Image
from bmp.trackers.windowed import TAPIR, CoTracker

POINTS = torch.tensor([[10.0, 12.0], [11.0, 14.0]])


def film(count, hidden=(), speed=2):
    frames = []
    for number in range(count):
        pixels = torch.zeros(64, 128, 3, dtype=torch.uint8)
        if number not in hidden:
            pixels[8:24, 8 + speed * number : 24 + speed * number, 0] = 255
        frames.append(Image(pixels))
    return frames


@pytest.fixture
def cotracker(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    tracker_fakes.Predictor.made.clear()
    return lambda **options: CoTracker(str(file), "tracker_fakes.Predictor", **options)


@pytest.fixture
def tapir(tmp_path):
    save_file({"weight": torch.ones(3)}, tmp_path / "weights.safetensors")
    return lambda **options: TAPIR(str(tmp_path / "weights.safetensors"), "tracker_fakes.Tapir", **options)


def follow(tracker, frames, points, change=lambda number, points: points):
    """Points and verdicts frame by frame; ``change`` is what the caller does with them."""
    state, previous, answers = tracker.start(frames[0]), frames[0], []
    for step, image in enumerate([*frames[1:], *[frames[-1]] * tracker.delay]):
        found, seen, error = tracker.step(state, previous, image, points)
        previous = image
        if step < tracker.delay:
            assert torch.equal(found, points)
            assert not seen.any()
            assert torch.isinf(error).all()
            continue
        answers.append((found, seen))
        points = change(len(answers), found)
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("make", ["cotracker", "tapir"])
@pytest.mark.parametrize("window", [2, 4, 9])
@pytest.mark.parametrize("count", [3, 12])
def test_points_are_followed_with_the_delay_that_is_told(make, window, count, request):
    tracker = request.getfixturevalue(make)(window=window)
    assert isinstance(tracker, PointTracker)
    assert tracker.delay == window - 2
    answers = follow(tracker, film(count), POINTS)
    assert len(answers) == count - 1
    for number, (found, seen) in enumerate(answers, 1):
        assert torch.allclose(found, POINTS + torch.tensor([2.0 * number, 0]), atol=0.3)
        assert seen.all()


def test_one_run_answers_several_frames(cotracker):
    tracker = cotracker(window=8, stride=6)
    follow(tracker, film(20), POINTS)
    (network,) = tracker_fakes.Predictor.made
    assert network.calls == [(8, 2)] * 4  # 19 frames, six by six
    assert network.checkpoint.endswith("weights.pth")


def test_points_that_the_caller_adds_drops_and_moves_begin_where_it_has_them(cotracker):
    changes = {2: torch.tensor([[50.0, 50.0]]), 5: torch.cat([POINTS, POINTS + 9]), 8: torch.zeros(0, 2), 10: POINTS}
    answers = follow(cotracker(window=6), film(14), POINTS, lambda number, found: changes.get(number, found))
    shift = torch.tensor([2.0, 0.0])
    for number, points in changes.items():
        for later in range(number, min(number + 2, 13)):
            if later - number < 2 and not any(number < other <= later for other in changes):
                assert torch.allclose(answers[later][0], points + shift * (later + 1 - number), atol=0.01)


def test_what_is_hidden_within_a_run_is_found_again_and_what_is_where_one_ends_is_lost(cotracker):
    frames = film(12, hidden=(2,))
    seen = [bool(seen.all()) for _, seen in follow(cotracker(window=8, stride=6), frames, POINTS)]
    assert seen == [True, False, *[True] * 9]
    seen = [bool(seen.any()) for _, seen in follow(cotracker(window=4, stride=2), frames, POINTS)]
    assert seen == [True, False, *[False] * 9]


def test_it_works_within_sam_pt(cotracker):
    """The red of the object is bright, that of the ground is not."""
    frames = textured(lambda t: None, lambda t: None, lambda t: (10 + 2 * t, 5, 34 + 2 * t, 25), count=9)
    model = SAMPT(cotracker(window=5), RedSAM(), refinements=0, negatives=0)
    results = list(model.run(film_of(frames), [Query(1, 0, mask_in(frames[0], 2))]))
    assert [result.frame.index for result in results] == list(range(9))
    assert all(torch.equal(result.bits[0], mask_in(result.frame, 2)) for result in results)


def test_a_config_names_it(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    part = {"type": "CoTracker", "predictor": "tracker_fakes.Predictor", "checkpoint": str(file)}
    made = build_part(part | {"options": {"offline": False}, "window": 6}, TRACKERS)
    assert made.delay == 4
    assert not tracker_fakes.Predictor.made[-1].offline


def test_tapir_has_its_weights_and_the_options_of_boots_tapir(tapir):
    assert tapir()._network.weight.tolist() == [1, 1, 1]
    assert tapir()._network.level == 1
    assert tapir(options={})._network.level == 0


@pytest.mark.parametrize("options", [{"window": 1}, {"window": 4, "stride": 4}, {"stride": 0}])
def test_wrong_options(cotracker, options):
    with pytest.raises(UserError, match=f"CoTracker: {list(options)[-1]}: expected"):
        cotracker(**options)


@pytest.mark.parametrize("path", ["cotracker.predictor.CoTrackerPredictor", "tracker_fakes.Nothing", "Nothing"])
def test_what_is_not_installed(tmp_path, path):
    with pytest.raises(UserError, match=r"cannot be imported .* install its package, which BMP neither has nor needs"):
        CoTracker(str(tmp_path / "weights.pth"), path)
