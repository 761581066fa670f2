"""SAM-PT's query points, prompts, windows and overlaps against the public code's answers."""

import itertools

import numpy as np
import pytest
import torch
from prompt_fakes import picture
from reference_vectors import read_vectors
from sam_pt_fakes import MadeUpSAM, film_of

from bmp.ops.point_motion import within_border
from bmp.ops.query_points import (
    central,
    choose_points,
    corner_points,
    diameter,
    distances_between,
    eroded_by,
    k_medoids,
)
from bmp.sam_pt import SAMPT, Query, Reinitialisation
from bmp.sam_pt.engine import non_overlapping
from bmp.segmenters.sam_pt import PromptRules, prompted_masks
from bmp.structures import Frame, Image

WORSE = 1.05
"""Times the public algorithm's sum of distances that another one may leave."""


@pytest.fixture(scope="module")
def masks(shared):
    return torch.from_numpy(read_vectors(shared, "sam_pt_query_points.npz")["masks"])


@pytest.fixture(scope="module")
def vectors(shared):
    return read_vectors(shared, "sam_pt_query_points.json")


def pixels_of(case, masks):
    rows, columns = np.nonzero(masks[case["mask"]].numpy())
    pixels = np.stack([columns, rows], axis=1)
    return pixels if case["subsample"] is None else pixels[case["subsample"]]


def cost(pixels, medoids):
    return np.sqrt(((pixels[:, None] - medoids) ** 2).sum(axis=2)).min(axis=1).sum()


@pytest.mark.slow
def test_medoids_are_as_good(vectors, masks):
    for case in vectors["kmedoids"]:
        pixels = pixels_of(case, masks)
        distances = distances_between(pixels)
        found = pixels[k_medoids(distances, central(distances, case["count"]))]
        if case["count"] == 1:
            assert found.tolist() == case["points_xy"]
        assert cost(pixels, found) <= WORSE * case["cost"], (case["mask"], case["count"])


@pytest.mark.slow
def test_medoids_are_the_same_from_the_same_start(vectors, masks):
    """The public start is the same pixels in an order that depends on the library's version."""
    for case in vectors["kmedoids"]:
        if case["count"] == 4 and case["pixels"] < 800:
            pixels = pixels_of(case, masks)
            distances = distances_between(pixels)
            starts = itertools.permutations(central(distances, 4))
            found = (pixels[k_medoids(distances, np.array(start))].tolist() for start in starts)
            assert any(points == case["points_xy"] for points in found), case["mask"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "negative"), [("corners", False), ("negative_corners", True)])
def test_corners(vectors, masks, shared, name, negative):
    file = read_vectors(shared, "sam_pt_query_points.npz")
    near = [0, 0]
    for case in vectors[name]:
        mask = ~masks[case["mask"]] if negative else masks[case["mask"]]
        image = torch.from_numpy(file["images"][file["owner"][case["mask"]]])
        points = corner_points(image, mask, case["count"], np.random.default_rng(0))
        assert len(points) == case["count"]
        expected = torch.tensor(case["corners_xy"]).reshape(-1, 2)
        if len(expected):
            nearest = torch.cdist(expected, points[: case["count"] - case["topped_up"]]).min(dim=1).values
            near[0] += int((nearest <= 1).sum())
            near[1] += len(expected)
    assert near[0] >= 0.9 * near[1]


def test_erosion(vectors, masks):
    for case in vectors["erosion"]:
        mask = masks[case["mask"]]
        assert diameter(mask) == pytest.approx(case["diameter"], abs=1e-3)
        assert int(eroded_by(mask, case["share"]).sum()) == case["pixels_left"]


def test_mixtures(vectors, masks, monkeypatch):
    counts = {}
    for name in ("medoid", "corner", "random"):
        monkeypatch.setattr(
            f"bmp.ops.query_points.{name}_points",
            lambda pixels, mask, count, generator, name=name: counts.update({name: count}) or torch.zeros(count, 2),
        )
    for case in vectors["mixed_split"]:
        choose_points("mixed", None, masks[0], case["count"], np.random.default_rng(0))
        assert counts == {"medoid": case["kmedoids"], "corner": case["corners"], "random": case["random"]}


def test_degenerate_masks(vectors):
    for case in vectors["few"]:
        mask = torch.zeros(20, 20, dtype=torch.bool)
        for x, y in case["mask_pixels_xy"]:
            mask[y, x] = True
        points = choose_points("k-medoids", None, mask, case["count"], np.random.default_rng(0)).tolist()
        if case["points_xy"] is None:
            assert all(point in case["mask_pixels_xy"] for point in points)
        else:
            assert points == case["points_xy"]
    empty = torch.zeros(20, 20, dtype=torch.bool)
    assert choose_points("k-medoids", None, empty, 3, np.random.default_rng(0)).tolist() == vectors["empty"]


def conversations(case):
    """What the public code asked about each object of each frame, in order; objects without a point have nothing."""
    found = []
    for call in case["calls"]:
        if call["box"] is None and not call["mask_input"]:
            found.append([])
        found[-1].append(call)
    return iter(found)


@pytest.mark.slow
def test_prompting(shared):
    """But for objects of which no positive point is seen: the public code asks with negative ones alone."""
    compared = 0
    for case in read_vectors(shared, "sam_pt_steps.json")["prompting"]:
        rules = PromptRules(case["negative"] > 0, case["others_as_negative"], case["refinements"])
        expected = conversations(case)
        areas, sums = [], []
        for frame, (places, visible) in enumerate(zip(case["trajectories"], case["visible"], strict=True)):
            points, seen = torch.tensor(places).float(), torch.tensor(visible).bool()
            kinds = torch.tensor([1] * case["positive"] + [0] * case["negative"])
            labels = torch.where(seen, kinds, -1).to(torch.int8)
            segmenter = MadeUpSAM()
            found = prompted_masks(segmenter, picture(48, 64), points, labels, rules)
            areas.append((found.logits > 0).sum(dim=(1, 2)).tolist())
            sums.append(found.scores.tolist())
            asked = found.asked.nonzero()[:, 0].tolist()
            for number in range(len(points)):
                borrowed = rules.others and bool((labels[torch.arange(len(points)) != number] == 1).any())
                if not seen[number].any() and not borrowed:
                    assert case["scores"][frame][number] is None
                    continue
                public = next(expected)
                if number not in asked:
                    assert not any(1 in call["labels"] for call in public)
                    continue
                row = asked.index(number)
                assert case["scores"][frame][number] == pytest.approx(sums[frame][number])
                for call, question in itertools.zip_longest(public, segmenter.questions[: len(public)]):
                    own_points, own_labels, box, mask = question[row]
                    assert call["frame"] == frame
                    assert own_labels == call["labels"]
                    np.testing.assert_allclose(own_points, call["points"], atol=0.006)
                    assert box == call["box"]
                    assert (mask is not None) == call["mask_input"]
                    compared += 1
        assert next(expected, None) is None
        assert np.transpose(areas).tolist() == case["areas"]
    assert compared > 100


def test_border(shared):
    case = read_vectors(shared, "sam_pt_steps.json")["border"]
    points = torch.tensor(case["points"]).float()
    visible = within_border(points, case["height"], case["width"])
    # The limits themselves are visible up to the rounding of floats.
    on = (points / torch.tensor([case["width"], case["height"]]) - 0.5).abs().sub(0.49).abs().amin(dim=1) < 1e-6
    expected = torch.tensor(case["visible"]).bool()
    assert torch.equal(visible[~on], expected[~on])
    assert visible[on].float().mean() > 0.5


VARIANTS = {
    "reinit-on-horizon-and-sync-masks": "on-horizon-and-sync",
    "reinit-at-median-of-area-diff": "median-of-area",
    "reinit-on-similar-mask-area": "similar-area",
    "reinit-on-similar-mask-area-and-sync-masks": "similar-area-and-sync",
}


class AreaSAM(MadeUpSAM):
    """Answers with masks of given areas, by frame and object: that in the left or in the right half of the picture."""

    def __init__(self, areas):
        super().__init__()
        self.areas = areas

    def logits(self, views, prompts, previous=None, *, multimask=False):
        ((view, asked),) = zip(views, prompts, strict=True)
        logits = torch.full((len(asked), view.height, view.width), -9.0)
        for row in range(len(asked)):
            which = int(asked.points[row][asked.labels[row] == 1][0, 0] >= HALF)
            logits[row][region(which, self.areas[which][int(view.pixels[0, 0, 0])])] = 9.0
        return [(logits, torch.ones(len(asked)))]


class StillTracker:
    """Leaves points where they are and sees them all; keeps where it began, and with how many points."""

    delay, recovers = 0, True

    def __init__(self):
        self.windows = []

    def start(self, image):
        self.windows.append([int(image.pixels[0, 0, 0]), 0])
        return self.windows[-1]

    def step(self, state, previous, image, points):
        state[1] = len(points)
        return points, torch.ones(len(points), dtype=torch.bool), torch.zeros(len(points))


HALF = 26


def region(which, area):
    """So many pixels, row by row, of the left or right half of a picture without its border: bool (24, 2 * HALF)."""
    mask = torch.zeros(24, 2 * HALF, dtype=torch.bool)
    rows, columns = torch.arange(area) // (HALF - 4), torch.arange(area) % (HALF - 4)
    mask[rows + 2, columns + 2 + which * HALF] = True
    return mask


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", [pytest.param(slice(None, None, 3), id="some"), pytest.param(slice(None), id="all", marks=pytest.mark.slow)]
)
def test_windows(shared, part):
    for case in read_vectors(shared, "sam_pt_steps.json")["reinitialisation"][part]:
        tracker, areas = StillTracker(), case["areas"]
        model = SAMPT(
            tracker,
            AreaSAM(areas),
            negatives=0,
            refinements=0,
            reinitialisation=Reinitialisation(VARIANTS[case["variant"]], case["horizon"]),
        )
        frames = []
        for number in range(case["frames"]):
            pixels = torch.full((24, 2 * HALF, 3), number, dtype=torch.uint8)
            frames.append(Frame(number, float(number), Image(pixels)))
        queries = [Query(which + 1, 0, region(which, areas[which][0])) for which in range(2)]
        results = list(model.run(film_of(frames), queries))
        assert [[start, points // 16] for start, points in tracker.windows] == [
            [start, len(objects)] for start, objects in case["starts"]
        ]
        assert torch.stack([result.bits.sum(dim=(1, 2)) for result in results]).T.tolist() == areas


def test_non_overlapping(shared):
    case = read_vectors(shared, "sam_pt_steps.json")["non_overlap"]
    logits = [[[-torch.inf if value is None else value for value in row] for row in own] for own in case["logits"]]
    found = non_overlapping(torch.tensor(logits), len(logits[0]), len(logits[0][0]))
    assert found.tolist() == case["labels"]
