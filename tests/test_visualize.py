"""Pictures of people: what is drawn where, what is left alone, and sizes from one pixel to twelve million."""

from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp import visualize
from bmp.label_sets import COCO_KEYPOINTS
from bmp.loop import RoundTrace
from bmp.ops.masks import paint_out
from bmp.structures import Detections, Image, Instances, Masks, Poses, Prompts
from bmp.visualize import overlay, overlay_objects, trace_sheet

K = len(COCO_KEYPOINTS)
GREY = 128


def plain(height: int, width: int) -> Image:
    return Image(torch.full((height, width, 3), GREY, dtype=torch.uint8))


def people_in(image: Image, boxes: list[list[float]], seed: int = 0) -> Instances:
    """People who fill their boxes, with all keypoints present, visible and inside."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    x, y = torch.arange(image.width), torch.arange(image.height)[:, None]
    x1, y1, x2, y2 = (side[:, None, None] for side in rows.unbind(1))
    bits = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    count = len(rows)
    places = torch.rand(count, K, 2, generator=torch.Generator().manual_seed(seed))
    one = torch.ones(count, K)
    return Instances(
        Detections(rows, torch.linspace(0.5, 0.9, count)),
        Poses(rows[:, None, :2] + places * (rows[:, None, 2:] - rows[:, None, :2]), one * 0.9, one, one),
        Masks(bits, torch.linspace(0.9, 0.5, count)),
        torch.ones(count, dtype=torch.int64),
    )


def drawn(picture: PIL.Image.Image, image: Image) -> np.ndarray:
    assert isinstance(picture, PIL.Image.Image)
    assert picture.mode == "RGB"
    assert picture.size == (image.width, image.height)
    values = np.asarray(picture)
    assert values.dtype == np.uint8
    return values


class TestOverlay:
    def test_nobody_gives_the_image(self):
        image = Image(torch.randint(0, 255, (21, 33, 3), dtype=torch.uint8))
        values = drawn(overlay(image, Instances.empty(image, K), COCO_KEYPOINTS), image)
        assert (values == image.pixels.numpy()).all()

    def test_arguments_stay_as_they_are(self):
        image = plain(60, 90)
        people = people_in(image, [[10, 20, 40, 50]])
        before = [image.pixels.clone(), people.masks.bits.clone(), people.poses.keypoints.clone()]
        overlay(image, people, COCO_KEYPOINTS)
        after = [image.pixels, people.masks.bits, people.poses.keypoints]
        assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))

    def test_mask_is_tinted_and_the_rest_is_not(self):
        image = plain(300, 400)
        people = people_in(image, [[100, 120, 200, 260]])
        absent = replace(people.poses, presence=torch.zeros(1, K))
        values = drawn(overlay(image, replace(people, poses=absent), COCO_KEYPOINTS), image)
        inside = values[130:250, 110:190].reshape(-1, 3)
        assert (inside == inside[0]).all()
        red, green, blue = inside[0].astype(int)
        assert red > GREY > max(green, blue), "the first colour is red, and RGB was not mistaken for BGR"
        # Outside the box, its line and its label the image shows.
        assert (values[263:] == GREY).all()
        assert (values[:, :97] == GREY).all()
        assert (values[:, 203:] == GREY).all()
        # The box is drawn on its edges, the label above it.
        assert (values[260, 150] != GREY).any()
        assert (values[118:120, 100:110] != GREY).any()

    def test_mask_beyond_its_box_is_drawn_where_it_is(self):
        image = plain(100, 100)
        people = people_in(image, [[60, 60, 90, 90]])
        bits = torch.zeros(1, 100, 100, dtype=torch.bool)
        bits[0, 5:15, 5:15] = True
        values = drawn(overlay(image, replace(people, masks=Masks(bits, torch.ones(1))), COCO_KEYPOINTS), image)
        assert (values[7:13, 7:13] != GREY).all()

    def test_people_have_colours_of_their_own(self):
        image = plain(200, 1000)
        people = people_in(image, [[10 + 60 * i, 50, 50 + 60 * i, 190] for i in range(16)])
        absent = replace(people.poses, presence=torch.zeros(16, K))
        values = drawn(overlay(image, replace(people, poses=absent), COCO_KEYPOINTS), image)
        assert len({tuple(values[150, 30 + 60 * i]) for i in range(16)}) == 16

    def test_absent_keypoints_are_left_out_and_hidden_ones_are_thin(self):
        image = plain(500, 500)
        people = people_in(image, [[100, 100, 400, 400]])
        masks = Masks(torch.zeros(1, 500, 500, dtype=torch.bool), torch.ones(1))

        def ink(**changes: torch.Tensor) -> int:
            changed = replace(people, masks=masks, poses=replace(people.poses, **changes))
            values = drawn(overlay(image, changed, COCO_KEYPOINTS), image)
            return int((values[103:397, 103:397] != GREY).any(axis=2).sum())

        zero = torch.zeros(1, K)
        visible, hidden, absent = ink(), ink(visibility=zero), ink(presence=zero)
        assert absent == 0
        assert visible > 2 * hidden > 0

    def test_one_present_keypoint_is_drawn_in_its_place(self):
        image = plain(200, 200)
        people = people_in(image, [[10, 10, 190, 190]])
        presence = torch.zeros(1, K)
        presence[0, 5] = 1
        places = torch.full((1, K, 2), 120.0)
        places[0, 5] = torch.tensor([60.0, 90.0])
        people = replace(
            people,
            poses=replace(people.poses, presence=presence, keypoints=places),
            masks=Masks(torch.zeros(1, 200, 200, dtype=torch.bool), torch.ones(1)),
        )
        values = drawn(overlay(image, people, COCO_KEYPOINTS, labels=False), image)
        rows, columns = np.nonzero((values[15:185, 15:185] != GREY).any(axis=2))
        assert (rows.mean() + 15, columns.mean() + 15) == pytest.approx((90, 60), abs=0.6)

    @pytest.mark.slow
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 4), st.integers(0, 1000))
    def test_any_size(self, height, width, count, seed):
        """Also images smaller than a line is thick, boxes without area, and keypoints far outside."""
        random = torch.Generator().manual_seed(seed)
        image = plain(height, width)
        corners = torch.rand(count, 2, 2, generator=random).sort(dim=1).values * torch.tensor([width, height])
        people = people_in(image, corners.flatten(1).tolist(), seed)
        wild = people.poses.keypoints + torch.randn(count, K, 2, generator=random) * 10 ** (seed % 12)
        poses = replace(people.poses, keypoints=wild)
        drawn(overlay(image, replace(people, poses=poses), COCO_KEYPOINTS), image)

    def test_one_pixel(self):
        image = plain(1, 1)
        drawn(overlay(image, people_in(image, [[0, 0, 1, 1], [0, 0, 0, 0]]), COCO_KEYPOINTS), image)

    @pytest.mark.slow
    def test_lines_grow_with_the_image(self):
        def share_of_ink(side: int) -> float:
            image = plain(side, side)
            people = people_in(image, [[side * 0.2, side * 0.2, side * 0.8, side * 0.8]])
            people = replace(people, masks=Masks(torch.zeros(1, side, side, dtype=torch.bool), torch.ones(1)))
            return float((drawn(overlay(image, people, COCO_KEYPOINTS), image) != GREY).any(axis=2).mean())

        assert share_of_ink(2000) == pytest.approx(share_of_ink(1000), rel=0.25)

    def test_lines_follow_the_size_of_the_person(self):
        widths = visualize._widths(
            np.zeros((1000, 1000, 3), np.uint8), torch.tensor([[0, 0, 100, 100], [0, 0, 400, 400.0]])
        )
        assert widths[1] > 2.5 * widths[0]
        # They can be seen at 200 pixels, and on 12 megapixels shown at a third of their size.
        assert visualize._widths(np.zeros((150, 200, 3), np.uint8), torch.tensor([[0, 0, 9, 9.0]])).tolist() == [1]
        assert visualize._widths(np.zeros((3000, 4000, 3), np.uint8), torch.tensor([[0, 0, 9, 9.0]])).tolist() == [5]
        own = visualize._widths(np.zeros((150, 200, 3), np.uint8), torch.tensor([[0, 0, 9, 9.0]]), 7)
        assert own.tolist() == [7]

    @pytest.mark.parametrize("side", [60, 200, 1000])
    def test_a_mask_on_clothes_of_its_own_colour_has_an_edge(self, side):
        red = Image(torch.tensor(visualize._PALETTE[0][::-1], dtype=torch.uint8).expand(side, side, 3).clone())
        people = people_in(red, [[side * 0.2, side * 0.2, side * 0.8, side * 0.8]])
        values = np.asarray(overlay(red, people, COCO_KEYPOINTS, boxes=False, skeletons=False, labels=False)).astype(
            int
        )
        row = np.abs(values[side // 2] - red.pixels[0, 0].numpy()).max(axis=1)
        assert row[: int(side * 0.17)].max() == 0
        assert row[int(side * 0.17) : int(side * 0.2) + 1].max() > 100

    @pytest.mark.slow
    @settings(max_examples=25, deadline=None)
    @given(st.integers(0, 10_000), st.sampled_from([(150, 200), (480, 640), (3000, 4000)]))
    def test_labels_lie_within_the_picture_and_off_faces(self, seed, size):
        chance = np.random.default_rng(seed)
        height, width = size
        corners = chance.random((4, 2)) * (width * 0.6, height * 0.5)
        boxes = np.concatenate([corners, corners + chance.uniform(0.1, 0.35, (4, 2)) * (width, height)], axis=1)
        middle, top = boxes[:, :1] * 0.5 + boxes[:, 2:3] * 0.5, boxes[:, 1:2]
        reach = (boxes[:, 3:] - top) * 0.07
        faces = np.concatenate([middle - reach, top, middle + reach, top + 2 * reach], axis=1)
        taken: list[np.ndarray] = []
        for box in boxes:
            wide, high = 0.2 * 200, 12.0
            place = visualize._best_place(box, wide, high, (width, height), faces, taken)
            assert (place[:2] >= 0).all()
            assert (place[2:] <= (width, height)).all()
            taken.append(place)
        shared = (
            visualize._shared(np.array(taken), faces).sum()
            + visualize._shared(np.array(taken[:3]), taken[3][None]).sum()
        )
        assert shared < 0.25 * 4 * 40 * 12

    def test_a_label_moves_off_a_face(self):
        box = np.array([50.0, 0, 90, 140])
        above = visualize._best_place(box, 30, 12, (200, 150), np.zeros((0, 4)), [])
        moved = visualize._best_place(box, 30, 12, (200, 150), above[None], [])
        assert visualize._shared(moved[None], above[None]).sum() == 0

    def test_faces_are_where_head_keypoints_are_or_at_the_top_of_the_box(self):
        people = people_in(plain(200, 200), [[0, 0, 100, 200]])
        points = people.poses.keypoints.clone()
        points[0, :5] = torch.tensor([[50, 150], [45, 145], [55, 145], [40, 150], [60, 150.0]])
        poses = replace(people.poses, keypoints=points)
        x1, y1, x2, y2 = visualize._faces(poses, COCO_KEYPOINTS, people.detections.boxes)[0]
        assert x1 < 40 < 60 < x2
        assert y1 < 145 < 150 < y2 < 175
        absent = replace(poses, presence=torch.zeros(1, K))
        x1, y1, x2, y2 = visualize._faces(absent, COCO_KEYPOINTS, people.detections.boxes)[0]
        assert (x1 + x2) / 2 == 50
        assert y1 == 0

    def test_the_round_in_which_somebody_was_found_is_written(self):
        people, scores = np.array([3, -1]), torch.tensor([0.914, 1.0])
        assert visualize._words(people, scores, torch.tensor([1, 2])) == [("#3  .91", "#3"), ("1.00  r2", "1.00  r2")]
        assert visualize._words(people, scores) == [("#3  .91", "#3"), ("1.00", "1.00")]

    def test_numbers_decide_colours(self):
        image = plain(100, 200)
        two = people_in(image, [[10, 10, 60, 90], [110, 10, 160, 90]])
        plainly = dict(boxes=False, skeletons=False, labels=False)
        one, other = (np.asarray(overlay(image, two, COCO_KEYPOINTS, numbers=n, **plainly)) for n in ([0, 1], [1, 0]))
        assert (one[50, 30] == other[50, 130]).all()
        assert (one[50, 130] == other[50, 30]).all()

    @pytest.mark.slow
    def test_twelve_megapixels_with_thirty_people(self):
        image = plain(3000, 4000)
        boxes = [
            [(i % 10) * 400 + 20, (i // 10) * 1000 + 20, (i % 10) * 400 + 380, (i // 10) * 1000 + 980]
            for i in range(30)
        ]
        people = people_in(image, boxes)
        pixels = drawn(overlay(image, people, COCO_KEYPOINTS), image)
        for x1, y1, x2, y2 in boxes:
            assert (pixels[y1:y2, x1:x2] != GREY).any()


def prompts_for(people: Instances) -> Prompts:
    """One positive and one negative point for each, and one that only pads."""
    labels = torch.tensor([[1, 0, -1]] * len(people), dtype=torch.int8).reshape(-1, 3)
    keypoints = torch.tensor([[3, 8, -1]] * len(people), dtype=torch.int64).reshape(-1, 3)
    points = people.poses.keypoints[:, [3, 8, 0]]
    return Prompts(points, labels, keypoints)


def two_rounds(image: Image, prompted: bool = True) -> tuple[list[RoundTrace], Instances]:
    """Round 1 finds A, its duplicate and B; round 2 finds C and D, and D makes B leave."""
    height, width = image.height, image.width
    boxes = [
        [0.05, 0.2, 0.25, 0.9],
        [0.06, 0.2, 0.26, 0.9],
        [0.3, 0.2, 0.5, 0.9],
        [0.55, 0.2, 0.7, 0.9],
        [0.72, 0.2, 0.95, 0.9],
    ]
    everybody = people_in(image, [[x1 * width, y1 * height, x2 * width, y2 * height] for x1, y1, x2, y2 in boxes])
    a_and_b, c_and_d, final = everybody[[0, 2]], everybody[[3, 4]], everybody[[0, 3, 4]]

    def segmented(people: Instances) -> Masks:
        return replace(people.masks, prompts=prompts_for(people) if prompted else None)

    first = everybody[[0, 1, 2]]
    return [
        RoundTrace(1, image, first.detections, first.poses, torch.tensor([0, 2]), 0, segmented(a_and_b), a_and_b),
        RoundTrace(
            2,
            paint_out(image, a_and_b.masks.bits),
            c_and_d.detections,
            c_and_d.poses,
            torch.tensor([0, 2, 3]),
            2,
            segmented(c_and_d),
            final,
        ),
    ], final


class TestNumbersLike:
    def test_who_shows_a_labelled_person_has_its_number(self):
        image = plain(100, 200)
        labelled = people_in(image, [[0, 0, 40, 90], [50, 0, 90, 90], [150, 0, 190, 90]])
        found = people_in(image, [[52, 0, 90, 90], [100, 0, 140, 90], [1, 0, 40, 90], [50, 0, 80, 90]])
        assert visualize.numbers_like(labelled.masks, found.masks) == [1, 3, 0, 4]
        nobody = Instances.empty(image, K).masks
        assert visualize.numbers_like(nobody, found.masks) == [0, 1, 2, 3]
        assert visualize.numbers_like(labelled.masks, nobody) == []


class TestShrunk:
    def test_everything_gets_smaller_together(self):
        image = plain(300, 400)
        people = people_in(image, [[100, 120, 200, 260]])
        small, fewer = visualize.shrunk(image, people, 100)
        assert (small.height, small.width) == (75, 100)
        assert fewer.detections.boxes.tolist() == [[25, 30, 50, 65]]
        assert fewer.masks.bits.shape == (1, 75, 100)
        assert torch.allclose(fewer.poses.keypoints, people.poses.keypoints / 4)
        assert visualize.shrunk(image, people, 400) == (image, people)


class TestContactSheet:
    def panels(self, sheet: PIL.Image.Image, image: Image, rounds: int, prompted: bool = True) -> np.ndarray:
        """Cut the sheet up: (rounds, 5, height, width, 3), or 4 without prompts."""
        scale = visualize._PANEL / max(image.height, image.width)
        height, width = round(image.height * scale), round(image.width * scale)
        values, title, gap = np.asarray(sheet), visualize._TITLE, visualize._GAP
        columns = 5 if prompted else 4
        down, right = title + height + gap, (values.shape[1] - gap) // columns
        assert right >= width + gap
        assert values.shape == (rounds * down + gap, columns * right + gap, 3)
        return np.array(
            [
                [values[gap + i * down + title :, gap + j * right :][:height, :width] for j in range(columns)]
                for i in range(rounds)
            ]
        )

    def test_layout_and_what_is_where(self):
        image = plain(240, 480)
        trace, _ = two_rounds(image)
        sheet = trace_sheet(trace, image, COCO_KEYPOINTS)
        assert sheet.mode == "RGB"
        panels = self.panels(sheet, image, 2)
        middle = slice(60, 200)
        # Round 1 sees the image, round 2 sees A and B in black.
        assert (panels[0, 0, middle, 370:480] == GREY).all()
        assert (panels[1, 0, middle, 30:110] == 0).all()
        assert (panels[1, 0, middle, 150:230] == 0).all()
        # The duplicate's box is grey: as much red as green and blue. Its left edge is at 0.06 of the width.
        line = panels[0, 0, 120, 28:31].astype(int)
        assert (np.ptp(line, axis=1) == 0).all()
        assert (line != GREY).any()
        # What is left after the rounds: A and B are gone, then A, C and D, and B has come back.
        assert (panels[0, 4, middle, 30:230] != GREY).mean() > 0.7
        assert (panels[0, 4, middle, 270:480] == GREY).all()
        assert (panels[1, 4, middle, 150:230] == GREY).all()
        assert (panels[1, 4, middle, 270:330] == 0).all()

    @pytest.mark.slow
    def test_a_person_keeps_its_colour_and_it_is_that_of_the_overlay(self):
        image = plain(240, 480)
        trace, final = two_rounds(image)
        assert [people.tolist() for people in visualize._numbers(trace)] == [[0, -1, 3], [0, 3, 1, 2]]
        panels = self.panels(trace_sheet(trace, image, COCO_KEYPOINTS), image, 2)
        absent = replace(final, poses=replace(final.poses, presence=torch.zeros(3, K)))
        values = np.asarray(overlay(image, absent, COCO_KEYPOINTS))
        for column in (72, 300, 400):
            assert (panels[1, 3, 180, column] == values[180, column]).all()
        assert (panels[0, 3, 180, 72] == values[180, 72]).all()

    @pytest.mark.slow
    def test_prompts_are_crosses_by_sign_and_padding_is_none(self):
        image = plain(240, 480)
        trace, _ = two_rounds(image)
        prompts = trace[0].segmented.prompts

        def panel_with(labels: list[int]) -> np.ndarray:
            asked = replace(prompts, labels=torch.tensor([labels] * 2, dtype=torch.int8))
            entry = replace(trace[0], segmented=replace(trace[0].segmented, prompts=asked))
            return self.panels(trace_sheet([entry], image, COCO_KEYPOINTS), image, 1)[0, 2]

        panel = panel_with([1, 0, -1])
        (x, y), (u, v), _ = prompts.points[0].round().int().tolist()
        assert panel[y, x].tolist() == list(visualize._POSITIVE)[::-1]
        assert panel[v, u].tolist() == list(visualize._NEGATIVE)[::-1]
        crosses = [(panel_with(labels) != GREY).any(axis=2).sum() for labels in ([-1] * 3, [1, -1, -1], [1, 0, -1])]
        assert crosses[0] == 0 < crosses[1] < crosses[2]

    @pytest.mark.slow
    def test_without_prompts_there_is_no_panel_for_them(self):
        image = plain(240, 480)
        trace, _ = two_rounds(image, prompted=False)
        with_prompts, _ = two_rounds(image)
        sheets = [trace_sheet(t, image, COCO_KEYPOINTS) for t in (trace, with_prompts)]
        four, five = (self.panels(sheet, image, 2, sheet is sheets[1]) for sheet in sheets)
        assert four.shape[1] == 4
        assert (four == five[:, [0, 1, 3, 4]]).all()

    def test_box_prompts_are_drawn(self):
        image = plain(240, 480)
        (entry, _), _ = two_rounds(image)
        prompts = entry.segmented.prompts
        boxed = replace(prompts, labels=torch.full_like(prompts.labels, -1), boxes=entry.people.detections.boxes)
        entry = replace(entry, segmented=replace(entry.segmented, prompts=boxed))
        panel = self.panels(trace_sheet([entry], image, COCO_KEYPOINTS), image, 1)[0, 2]
        assert (panel[100, 24] != GREY).any()
        assert (panel[100, 60:110] == GREY).all()

    @pytest.mark.slow
    def test_those_who_lose_are_thin_and_grey(self):
        image = plain(240, 480)
        (entry, _), _ = two_rounds(image)
        nobody = replace(entry, kept=torch.zeros(0, dtype=torch.int64), people=entry.people[[]])
        nobody = replace(nobody, segmented=entry.segmented[[]])
        kept, lost = (self.panels(trace_sheet([one], image, COCO_KEYPOINTS), image, 1)[0, 1] for one in (entry, nobody))
        assert (np.ptp(lost.astype(int), axis=2) == 0).all()
        assert (np.ptp(kept.astype(int), axis=2) > 0).any()
        assert 0 < (lost != GREY).sum() < (kept != GREY).sum()

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [(1, 1), (3, 700), (700, 3), (37, 23), (1000, 1500)])
    def test_any_size_is_brought_to_a_panel(self, size):
        image = plain(*size)
        trace, _ = two_rounds(image)
        before = image.pixels.clone()
        sheet = trace_sheet(trace, image, COCO_KEYPOINTS)
        assert torch.equal(image.pixels, before)
        assert sheet.width <= 5 * (480 + visualize._GAP) + visualize._GAP
        assert sheet.height <= 2 * (480 + visualize._TITLE + visualize._GAP) + visualize._GAP

    def test_a_round_that_finds_nobody(self):
        image = plain(48, 64)
        nobody = Instances.empty(image, K)
        entry = RoundTrace(
            1, image, Detections.empty(), nobody.poses, torch.zeros(0, dtype=torch.int64), 0, nobody.masks, nobody
        )
        panels = self.panels(trace_sheet([entry], image, COCO_KEYPOINTS), image, 1, prompted=False)
        assert (panels == GREY).all()

    def test_no_rounds(self):
        with pytest.raises(ValueError, match="trace=True"):
            trace_sheet([], plain(4, 4), COCO_KEYPOINTS)


class TestObjects:
    """Any objects, with the points by which they are followed."""

    def draw(self, **changes):
        image = Image(torch.full((60, 80, 3), 90, dtype=torch.uint8))
        bits = torch.zeros(2, 60, 80, dtype=torch.bool)
        bits[0, 20:40, 10:40] = True
        parts = {
            "bits": bits,
            "numbers": [1, 2],
            "points": torch.tensor([[[20.0, 30.0], [60.0, 50.0], [5.0, 5.0]], [[1e9, -1e9]] * 3]),
            "labels": torch.tensor([[1, 0, -1], [1, 1, 1]]),
        }
        return np.asarray(overlay_objects(image, **(parts | changes))).astype(int)

    def test_masks_and_points_are_drawn_and_points_that_are_not_seen_are_not(self):
        drawn = self.draw()
        assert (drawn[35, 15] != 90).any()
        assert drawn[30, 20].max() > 120
        assert drawn[50, 60].max() < 60
        assert (drawn[5, 5] == 90).all()
        assert (drawn[50, 5] == 90).all()

    def test_nothing_is_the_image(self):
        none = {"bits": torch.zeros(0, 60, 80) > 0, "numbers": [], "points": torch.zeros(0, 3, 2)}
        assert (self.draw(**none, labels=torch.zeros(0, 3)) == 90).all()
