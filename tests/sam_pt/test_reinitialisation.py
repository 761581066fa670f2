"""Which frame of a window is the next start, by hand."""

import pytest
import torch
from sam_pt_fakes import RedSAM, RightTracker, film_of, mask_in, textured

from bmp.errors import UserError
from bmp.sam_pt import SAMPT, Query, Reinitialisation

AREAS = torch.tensor([[100, 90, 99, 140, 150, 95, 20, 160], [200, 200, 200, 300, 190, 30, 200, 0]])


@pytest.mark.parametrize(
    ("variant", "begins", "expected"),
    [
        ("on-horizon-and-sync", (), [7, 7]),
        ("on-horizon-and-sync", (5, 3), [3, 3]),
        # From the third frame on, masks above 25 pixels: 140, 150, 95, 160 and 300, 190, 30, 200.
        ("median-of-area", (), [3, 4]),
        ("similar-area", (), [5, 6]),
        # 0.4 + 0.5, 0.5 + 0.05, 0.05 + 0.85, 720 + 0, 0.6 + 720
        ("similar-area-and-sync", (), [4, 4]),
        ("similar-area-and-sync", (3,), [3, 3]),
    ],
)
def test_next_start(variant, begins, expected):
    assert Reinitialisation(variant, 8).next_starts(AREAS, begins) == expected


@pytest.mark.parametrize("variant", ["median-of-area", "similar-area", "similar-area-and-sync"])
def test_without_a_mask_the_next_frame_is_tried(variant):
    assert Reinitialisation(variant, 8).next_starts(torch.zeros(1, 8)) == [1]


@pytest.mark.parametrize("options", [{"variant": "never"}, {"horizon": 1}])
def test_wrong_settings(options):
    with pytest.raises(UserError, match=f"{next(iter(options))}: expected"):
        Reinitialisation(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant",
    [
        "similar-area-and-sync",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("on-horizon-and-sync", "median-of-area", "similar-area")
        ),
    ],
)
def test_new_points_take_the_place_of_those_that_slipped_off(variant):
    """A point too high by one pixel in each frame is off a rectangle of 20 pixels long before the end of 40 frames."""
    frames = textured(lambda t: (30, 25, 60, 45), count=40)
    queries = [Query(1, 0, mask_in(frames[0], 0))]
    for rule, found in ((None, False), (Reinitialisation(variant, 8), True)):
        tracker = RightTracker({})
        tracker.step = lambda state, previous, image, points: (
            points - torch.tensor([0.0, 1.0]),
            image.pixels[(points[:, 1] - 1).long().clamp(0), points[:, 0].long(), 0] == 100,
            torch.zeros(len(points)),
        )
        model = SAMPT(tracker, RedSAM(), refinements=0, reinitialisation=rule)
        results = list(model.run(film_of(frames), queries))
        assert [result.frame.index for result in results] == list(range(40))
        assert bool(results[-1].bits.any()) == found
        assert all(torch.equal(result.bits[0], mask_in(result.frame, 0)) for result in results if found)
