"""Tests of the landmark network's wrapper: refinement, mapping, memory; the network itself is made up here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.lite import landmarks
from bmp.models.lite.landmarks import LandmarkModel
from bmp.models.lite.regions import ImagePyramid
from bmp.structures import Image

NAMES = [
    "nose",
    "left_eye_inner",
    "left_eye",
    "left_eye_outer",
    "right_eye_inner",
    "right_eye",
    "right_eye_outer",
    "left_ear",
    "right_ear",
    "mouth_left",
    "mouth_right",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_pinky",
    "right_pinky",
    "left_index",
    "right_index",
    "left_thumb",
    "right_thumb",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "left_heel",
    "right_heel",
    "left_foot_index",
    "right_foot_index",
]


class FakeNetwork:
    """Puts landmark i at (i, 2 i) crop pixels; counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, row: np.ndarray) -> list[np.ndarray]:
        assert row.shape == (256, 256, 3)
        assert row.dtype == np.float32
        assert 0 <= row.min() <= row.max() <= 1
        self.runs += 1
        points = np.zeros((39, 5), np.float32)
        points[:, 0], points[:, 1] = np.arange(39), 2 * np.arange(39)
        points[33, :2], points[34, :2] = (128, 128), (128, 64)
        points[:, 3], points[:, 4] = 590.0, -590.0
        mask = np.full((256, 256, 1), -1666.0, np.float32)
        mask[:128] = 268
        return [points.ravel(), np.array([0.75], np.float32), mask, np.full((64, 64, 39), -70.0, np.float32), points]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    fake = FakeNetwork()
    monkeypatch.setattr(landmarks.litert, "load", lambda path, num_threads: fake)
    return fake


def image(value: int = 100) -> ImagePyramid:
    return ImagePyramid.of(Image(torch.full((300, 200, 3), value, dtype=torch.uint8)))


REGIONS = np.array([[100, 150, 256, 0], [50, 60, 128, 0]], dtype=np.float32)


def test_coco_keypoints_are_the_landmarks_of_the_same_name():
    assert tuple(NAMES[i] for i in landmarks.COCO_LANDMARKS) == COCO_KEYPOINTS.names


def test_results_are_in_pixels_and_probabilities(network):
    seen = LandmarkModel(Path("x"), 1)(image(), REGIONS)
    assert len(seen) == 2
    assert seen.points[0, 4].tolist() == [100 - 128 + 4, 150 - 128 + 8]
    assert seen.points[1, 4].tolist() == [50 - 64 + 2, 60 - 64 + 4]
    assert seen.visibility.min() == 1
    assert seen.presence.max() == 0
    assert seen.flags.tolist() == [0.75, 0.75]
    assert seen.masks[0, :128].min() == 1
    assert seen.masks[0, 128:].max() == 0


def test_next_regions_centre_on_the_hips_and_enclose_the_circle(network):
    seen = LandmarkModel(Path("x"), 1)(image(), REGIONS)
    assert seen.next_regions()[0] == pytest.approx([100, 150, 2.5 * 64, 0])
    assert seen.next_regions()[1] == pytest.approx([50, 60, 2.5 * 32, 0])


def test_no_regions_run_nothing(network):
    seen = LandmarkModel(Path("x"), 1)(image(), np.zeros((0, 4), np.float32))
    assert len(seen) == 0
    assert seen.points.shape == (0, 39, 2)
    assert seen.masks.shape == (0, 256, 256)
    assert network.runs == 0


def test_the_same_region_of_the_same_image_runs_once(network):
    model = LandmarkModel(Path("x"), 1)
    first = model(image(), REGIONS)
    again = model(image(), REGIONS[::-1].copy())
    assert network.runs == 2
    assert (again.points[::-1] == first.points).all()
    model(image(101), REGIONS)
    assert network.runs == 4


def test_memory_is_bounded_and_makes_no_difference(network):
    model = LandmarkModel(Path("x"), 1, remember=1)
    first, again = model(image(), REGIONS), model(image(), REGIONS)
    assert network.runs == 4
    assert (first.points == again.points).all()


def made_up_map(*peaks: tuple[int, int, float]) -> np.ndarray:
    """One 64 x 64 map a peak (x, y, height), whose right neighbour has the same height."""
    maps = np.zeros((64, 64, len(peaks)), np.float32)
    for i, (x, y, height) in enumerate(peaks):
        maps[y, x : x + 2, i] = height
    return maps


def test_refinement_moves_to_the_mean_of_a_high_peak_and_ignores_a_low_one():
    places = np.array([[0.5, 0.5], [0.5, 0.5]], np.float32)
    moved, heat = landmarks.refine(places, made_up_map((33, 30, 0.9), (33, 30, 0.4)))
    assert moved[0] == pytest.approx([33.5 / 64, 30 / 64])
    assert moved[1].tolist() == [0.5, 0.5]
    assert heat == pytest.approx([0.9, 0.4])


def test_refinement_does_not_see_peaks_beyond_three_cells():
    moved, heat = landmarks.refine(np.array([[0.5, 0.5]], np.float32), made_up_map((36, 32, 1.0)))
    assert moved[0].tolist() == [0.5, 0.5]
    assert heat[0] == 0


@pytest.mark.parametrize("place", [(0.0, 0.0), (63.9 / 64, 63.9 / 64)])
def test_refinement_at_the_edge_of_the_map(place):
    maps = np.zeros((64, 64, 1), np.float32)
    cell = int(place[0] * 64)
    maps[cell, cell] = 1
    moved, heat = landmarks.refine(np.array([place], np.float32), maps)
    assert moved[0] == pytest.approx([cell / 64] * 2)
    assert heat[0] == 1


@pytest.mark.parametrize("place", [(-0.01, 0.5), (0.5, 1.0), (-1e9, 5.0), (0.5, 1e9)])
def test_a_landmark_outside_the_map_stays_and_has_no_heat(place):
    places = np.array([place], np.float32)
    moved, heat = landmarks.refine(places, np.ones((64, 64, 1), np.float32))
    assert (moved == places).all()
    assert heat[0] == 0


def test_only_who_was_seen_is_looked_at_again(network):
    model = LandmarkModel(Path("x"), 1)
    first = model(image(), np.array([[100, 100, 80, 0], [60, 200, 80, 0]], np.float32))
    first.flags[1] = 0.01
    again = landmarks.look_again(model, image(), first)
    assert again.regions[0].tolist() == first.next_regions()[0].tolist()
    assert again.regions[0].tolist() != first.regions[0].tolist()
    assert again.regions[1].tolist() == first.regions[1].tolist()
    assert again.flags.tolist() == pytest.approx([0.75, 0.01])
    assert network.runs == 3
