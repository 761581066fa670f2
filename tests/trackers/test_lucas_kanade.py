"""Lucas-Kanade on pictures whose motion is known."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from bmp.errors import UserError
from bmp.stages import PointTracker
from bmp.structures import Image
from bmp.trackers.lucas_kanade import LucasKanade

HEIGHT, WIDTH = 200, 240


def canvas(seed=0, blur=2.0, side=500):
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur).astype(np.float32)
    return np.clip((smooth - smooth.mean()) / smooth.std() * 50 + 128, 0, 255).astype(np.uint8)


def view(texture, x, y):
    """The picture seen with its corner at (x, y) of the texture, which need not be whole numbers."""
    matrix = np.array([[1, 0, -x], [0, 1, -y]], np.float32)
    return Image(torch.from_numpy(cv2.warpAffine(texture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)))


def grid(margin=45):
    xs, ys = torch.arange(margin, WIDTH - margin, 15.0), torch.arange(margin, HEIGHT - margin, 15.0)
    return torch.cartesian_prod(xs, ys)


def follow(tracker, images, points):
    state, seen = tracker.start(images[0]), torch.ones(len(points), dtype=torch.bool)
    for previous, image in itertools.pairwise(images):
        points, now, _ = tracker.step(state, previous, image, points)
        seen &= now
    return points, seen


def test_it_is_a_point_tracker_without_delay():
    assert isinstance(LucasKanade(), PointTracker)
    assert LucasKanade().delay == 0


def test_a_shift_is_followed_to_a_fraction_of_a_pixel():
    texture = canvas()
    images = [view(texture, 100 + 3.3 * t, 100 - 2.1 * t) for t in range(4)]
    before = images[0].pixels.clone()
    points, seen = follow(LucasKanade(), images, grid())
    assert seen.all()
    error = (points - grid() - torch.tensor([-9.9, 6.3])).norm(dim=1)
    assert error.median() < 0.1  # a third of which is the interpolation of the pictures
    assert error.max() < 0.5
    assert torch.equal(images[0].pixels, before)


@pytest.mark.parametrize("shift", [(40, 0), (-30, 25), (0, 56)])
def test_a_camera_that_pans_fast_loses_no_point(shift):
    """Farther than the pyramid reaches by itself."""
    texture = canvas(blur=3.0)
    images = [view(texture, 150, 150), view(texture, 150 - shift[0], 150 - shift[1])]
    points, seen = follow(LucasKanade(), images, grid(60))
    right = (points - grid(60) - torch.tensor(shift)).norm(dim=1) < 1
    assert right.float().mean() > 0.95
    assert (seen & right).float().mean() > 0.9


@pytest.mark.slow
def test_what_stands_still_before_a_panning_background_is_found_too():
    texture, own = canvas(blur=3.0), view(canvas(9), 0, 0).pixels[:80, :80]
    images = []
    for x in (150, 180):
        pixels = view(texture, x, 150).pixels.clone()
        pixels[60:140, 80:160] = own
        images.append(Image(pixels))
    points = torch.tensor([[105.0, 85.0], [120.0, 100.0], [130.0, 110.0]])
    moved, seen = follow(LucasKanade(), images, points)
    assert seen.all()
    assert torch.allclose(moved, points, atol=0.2)


def test_what_is_covered_is_not_seen():
    texture = canvas()
    covered = view(texture, 101, 100).pixels.clone()
    covered[70:130, 90:150] = view(canvas(5), 0, 0).pixels[:60, :60]
    points = torch.tensor([[120.0, 100.0], [60.0, 60.0]])
    moved, seen = follow(LucasKanade(), [view(texture, 100, 100), Image(covered)], points)
    assert seen.tolist() == [False, True]
    assert torch.allclose(moved[1], torch.tensor([59.0, 60.0]), atol=0.1)


def test_points_at_the_border_are_not_seen_and_nonsense_stays_where_it_is():
    texture = canvas()
    points = torch.tensor([[1.5, 100.0], [120.0, 100.0], [float("nan"), 5.0], [-900.0, 9000.0]])
    moved, seen = follow(LucasKanade(), [view(texture, 100, 100)] * 2, points)
    assert seen.tolist() == [False, True, False, False]
    assert torch.equal(moved[3], points[3])


def test_a_flat_picture_has_nothing_to_follow_and_no_points_are_none():
    flat = Image(torch.full((HEIGHT, WIDTH, 3), 90, dtype=torch.uint8))
    tracker = LucasKanade()
    state = tracker.start(flat)
    assert [part.shape for part in tracker.step(state, flat, flat, torch.zeros(0, 2))] == [(0, 2), (0,), (0,)]
    tiny = Image(torch.zeros(3, 2, 3, dtype=torch.uint8))
    moved, *_ = tracker.step(tracker.start(tiny), tiny, tiny, torch.ones(1, 2))
    assert torch.isfinite(moved).all()


def test_points_follow_by_themselves_whatever_the_others_do():
    """Rows may change from step to step, and so may the order."""
    texture = canvas()
    images = [view(texture, 100 + 2 * t, 100) for t in range(3)]
    together, _ = follow(LucasKanade(), images, grid())
    tracker = LucasKanade()
    state = tracker.start(images[0])
    half = grid()[::2].flip(0)
    half, *_ = tracker.step(state, images[0], images[1], half)
    half, *_ = tracker.step(state, images[1], images[2], half[1:])
    assert torch.allclose(half, together[::2].flip(0)[1:], atol=1e-4)


def test_a_state_that_lags_behind_does_no_harm():
    texture = canvas()
    images = [view(texture, 100 + 2 * t, 100) for t in range(3)]
    tracker = LucasKanade()
    state = tracker.start(images[0])
    moved, seen, _ = tracker.step(state, images[1], images[2], grid())
    assert seen.all()
    assert torch.allclose(moved, grid() - torch.tensor([2.0, 0.0]), atol=0.1)


@pytest.mark.parametrize("options", [{"window": 2}, {"levels": 0}, {"round_trip": 0}, {"likeness": 2}])
def test_wrong_options(options):
    with pytest.raises(UserError, match=f"LucasKanade: {next(iter(options))}: expected"):
        LucasKanade(**options)
