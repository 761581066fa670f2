"""Pose to mask on scenes of squares, where the right mask and the right number can be told by hand."""

from collections import defaultdict

import hypothesis
import numpy as np
import pytest
import tiny_models
import torch
from fakes import FakePose, FakeSegmenter
from hypothesis import strategies as st
from label_fakes import Squares

from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import true_poses
from bmp.errors import UserError
from bmp.evaluation.ablations.curves import correction_curve, prompt_curve
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.pose_to_mask import detected_poses, segment_poses
from bmp.ops.masks import from_rle, to_rle
from bmp.segmenters.point_sampling import MaskRefine, Pose1MaskRefine, PoseMaskRefine
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.segmenters.prompting import GivenBox, MaxSpread, MaxVisibility

HEIGHT, WIDTH = 48, 64


class Scenes(Squares):
    """Squares whose labels come from the test; the images that were loaded are in ``loaded``."""

    def __init__(self, *scenes, labels=None):
        super().__init__(*scenes, step=100)
        self.loaded = []
        for row, flags in zip(self.ground_truth["annotations"], labels or [], strict=False):
            x, y = row["bbox"][:2]
            row["keypoints"] = [value for i, flag in enumerate(flags) for value in (x + i % 3, y + i % 2, flag)]
            row["num_keypoints"] = sum(flag > 0 for flag in flags)

    def load(self, index):
        self.loaded.append(index)
        return super().load(index)


class Shifted(FakeSegmenter):
    """Two pixels too far to the right."""

    def _one(self, image, poses):
        masks = super()._one(image, poses)
        return type(masks)(masks.bits.roll(2, dims=2), masks.scores)


class ColourSegmenter(PromptedSegmenter):
    """Its mask is whatever has the colour of the first point; pictures are of 48 x 64 pixels, like its logits."""

    _size, logit_size = WIDTH, (HEIGHT, WIDTH)

    def __init__(self, prompter=None):
        options = {"image_batch": 2, "prompt_chunk": 3, "hole_area": 0, "speck_area": 0}
        super().__init__(prompter or MaxVisibility(1), device="cpu", **options)
        self.encoded, self.asked = 0, []

    def _encode(self, images):
        self.encoded += len(images)
        return (torch.stack([image.pixels[None, ..., 0].float() for image in images]),)

    def _to_network(self, points, height, width):
        return points

    def _decode(self, features, prompts, previous=None, multimask=False):
        for row in range(len(prompts)):
            before = None if previous is None else previous[row] > 0
            red = features[0][row, 0]
            self.asked.append((red, prompts.points[row].long(), prompts.labels[row], before, multimask))
        scores = torch.full((len(prompts),), prompts.labels.shape[1] / 20)
        return self._answer(features[0][:, 0], prompts, previous), scores

    def _answer(self, red, prompts, previous):
        x, y = prompts.points[:, 0].long().unbind(1)
        return (red == red[torch.arange(len(red)), y, x][:, None, None]).float() - 0.5

    def _framed(self, logits, height, width):
        return logits


class NoiseSegmenter(ColourSegmenter):
    """Its masks are noise, smeared by the number of points, and the same for the same question."""

    def _answer(self, red, prompts, previous):
        seeds = (prompts.points.sum(dim=(1, 2)) * 7 + prompts.labels.shape[1]).long().tolist()
        return torch.stack([torch.randn(HEIGHT, WIDTH, generator=torch.Generator().manual_seed(s)) for s in seeds])


class MendingSegmenter(ColourSegmenter):
    """Paints 5 x 5 pixels around the last point into the previous answer: in if it is positive, out if negative."""

    def _answer(self, red, prompts, previous):
        logits = torch.full((len(red), HEIGHT, WIDTH), -1.0) if previous is None else previous.clone()
        for row, (points, labels) in enumerate(zip(prompts.points, prompts.labels, strict=True)):
            x, y = points[-1].long().tolist()
            logits[row, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = float(labels[-1]) * 2 - 1
        return logits


CROWD = [(4, 4, 24, 24), (30, 10, 50, 40)]
LONE = [(10, 20, 30, 40)]
FRONT_AND_BACK = [(0, 0, 20, 20), (10, 0, 30, 20)]


def ap(dataset, rows):
    return evaluate_coco(dataset.ground_truth, to_results(rows, "segm", segm_score="iou"), "segm").ap


def test_a_segmenter_that_is_right_has_ap_1():
    dataset = Scenes(CROWD, [], LONE)
    rows = list(segment_poses(detected_poses(dataset, FakePose()), FakeSegmenter()))
    assert ap(dataset, rows) == 1
    for row, label in zip(rows, dataset.ground_truth["annotations"], strict=True):
        assert (row["id"], row["image_id"], row["score"]) == (label["id"], label["image_id"], 1)
        assert row["bbox"] == label["bbox"]
        assert row["segmentation"] == label["segmentation"]
        assert len(row["keypoints"]) == 51


def test_a_shifted_mask_counts_up_to_its_overlap():
    dataset = Scenes([(10, 10, 20, 20)], [(4, 4, 14, 14)])
    rows = list(segment_poses(detected_poses(dataset, FakePose()), Shifted()))
    # 80 of 120 pixels are shared, which is enough for 0.5, 0.55, 0.6 and 0.65 of ten thresholds
    assert ap(dataset, rows) == pytest.approx(0.4)


def test_masks_are_ranked_by_predicted_iou_unrounded():
    class Hesitant(FakeSegmenter):
        def _one(self, image, poses):
            masks = super()._one(image, poses)
            return type(masks)(masks.bits, torch.full_like(masks.scores, 0.123456))

    (row,) = segment_poses(detected_poses(Scenes(LONE), FakePose()), Hesitant())
    assert row["mask_score"] == pytest.approx(0.123456, abs=1e-8)


def test_images_are_loaded_once_and_only_if_somebody_is_in_them():
    dataset = Scenes([], CROWD, [], LONE, LONE)
    dataset.ground_truth["annotations"][-1]["iscrowd"] = 1
    pose, segmenter = FakePose(), FakeSegmenter()
    rows = list(segment_poses(detected_poses(dataset, pose, image_batch=2), segmenter))
    assert dataset.loaded == [1, 3]
    assert [len(people) for call in pose.calls for people in call] == [2, 1]
    assert len(segmenter.opened) == 2
    assert [row["id"] for row in rows] == [200, 201, 400]


def test_annotations_may_come_in_any_order():
    dataset = Scenes(CROWD, LONE)
    dataset.ground_truth["annotations"].reverse()
    rows = list(segment_poses(detected_poses(dataset, FakePose()), FakeSegmenter()))
    assert [row["id"] for row in rows] == [101, 100, 200]
    assert ap(dataset, rows) == 1


def test_nobody_at_all():
    pose, segmenter = FakePose(), ColourSegmenter()
    for dataset in (Scenes(), Scenes([], [])):
        assert list(segment_poses(detected_poses(dataset, pose), segmenter)) == []
        assert list(prompt_curve(detected_poses(dataset, pose), segmenter, {1: MaxVisibility(1)})) == []
        assert list(correction_curve(dataset, segmenter)) == []
    assert pose.calls == []
    assert segmenter.encoded == 0


@pytest.mark.parametrize("image_batch", [2, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 3, 50))])
def test_batches_change_nothing(image_batch):
    flags = [[2] * 17, [1] * 17, [2, 0] * 8 + [2], [2] * 17]
    dataset = Scenes(CROWD, [], LONE, [(1, 1, 9, 9)], labels=flags)
    prompters = {count: MaxSpread(count) for count in (1, 2)}

    def outcome(size):
        return (
            list(segment_poses(detected_poses(dataset, FakePose(), size), FakeSegmenter())),
            list(segment_poses(true_poses(dataset, image_batch=size), NoiseSegmenter(MaxSpread(2)))),
            by_setting(prompt_curve(true_poses(dataset, image_batch=size), NoiseSegmenter(), prompters)),
            list(correction_curve(dataset, NoiseSegmenter(), image_batch=size)),
        )

    assert outcome(image_batch) == outcome(4)


def by_setting(pairs):
    rows = defaultdict(list)
    for setting, row in pairs:
        rows[setting].append(row)
    return dict(rows)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(UserError, match="image_batch: expected at least 1, got 0"):
        list(detected_poses(Scenes(LONE), FakePose(), image_batch=0))


def test_overlaps_stay_unless_asked():
    dataset = Scenes(FRONT_AND_BACK)

    def areas(**options):
        return [row["area"] for row in segment_poses(detected_poses(dataset, FakePose()), FakeSegmenter(), **options)]

    assert areas() == [400, 400]
    assert areas(resolve_overlaps=True) == [400, 200]  # of two that are equally sure the first


@pytest.mark.parametrize(
    ("flag", "visibility", "presence"), [(2, 1.0, 1.0), (1, 0.5, 1.0), (0, 0.0, 0.0), (3, 0.0, 0.0)]
)
def test_flags_of_labelled_keypoints(flag, visibility, presence):
    dataset = Scenes(LONE, labels=[[2] * 4 + [flag] + [2] * 12])
    ((posed,),) = true_poses(dataset)
    poses = posed.poses
    assert poses.keypoints[0, 4].tolist() == [11, 20]
    assert (poses.visibility[0, 4], poses.presence[0, 4], poses.scores[0, 4]) == (visibility, presence, presence)
    assert posed.unlabelled[0].tolist() == [i == 4 and presence == 0 for i in range(17)]
    assert posed.people.boxes.tolist() == [[10, 20, 30, 40]]
    assert dataset.loaded == [0]


def test_the_visibility_of_hidden_keypoints_is_a_choice():
    dataset = Scenes(LONE, labels=[[1] * 16 + [2]])
    for hidden, expected in ((0.0, [16]), (0.2, [16]), (0.4, [16, 15, 0])):
        segmenter = ColourSegmenter(MaxSpread(3))
        list(segment_poses(true_poses(dataset, hidden), segmenter))
        ((_, points, *_),) = segmenter.asked
        assert len(points) == len(expected)
        assert points[0].tolist() == [10 + 16 % 3, 20]
    with pytest.raises(UserError, match=r"hidden: expected the visibility of a hidden keypoint in \[0, 1\], got 2"):
        list(true_poses(dataset, hidden=2))


def test_somebody_without_labelled_keypoints_counts_as_missed():
    dataset = Scenes(CROWD, labels=[[2] * 17, [0] * 17])
    first, second = segment_poses(true_poses(dataset), ColourSegmenter(MaxSpread(3)))
    assert (first["area"], second["area"], second["mask_score"]) == (400, 0, 0)
    assert ap(dataset, [first, second]) == pytest.approx(51 / 101)  # recall 0, 0.01, ..., 0.5 of 101 places


def test_keypoints_that_nobody_labelled_are_no_prompts():
    dataset = Scenes(CROWD, labels=[[2] * 17, [2] + [0] * 16])
    message = r"annotation 101: prompted with a keypoint that is not labelled; .* MaxSpread\(count=3\)"
    with pytest.raises(UserError, match=message):
        list(segment_poses(true_poses(dataset), ColourSegmenter(MaxVisibility(2))))
    with pytest.raises(UserError, match=message):
        list(prompt_curve(true_poses(dataset), ColourSegmenter(), {2: MaxVisibility(2)}))
    assert len(list(segment_poses(true_poses(dataset), ColourSegmenter(MaxVisibility(2, threshold=0.1))))) == 2
    assert len(list(segment_poses(detected_poses(dataset, FakePose()), ColourSegmenter(MaxVisibility(2))))) == 2


@pytest.mark.parametrize("labels", [None, [[0] * 17]])
def test_true_poses_need_labelled_keypoints(labels):
    with pytest.raises(UserError, match="squares: nobody has labelled keypoints; choose another data set"):
        list(true_poses(Scenes(LONE, labels=labels)))


def test_the_truth_is_not_changed():
    dataset = Scenes(CROWD, labels=[[2] * 17, [1] * 17])
    before = repr(dataset.ground_truth)
    list(segment_poses(true_poses(dataset), ColourSegmenter(MaxSpread(3))))
    list(correction_curve(dataset, ColourSegmenter()))
    assert repr(dataset.ground_truth) == before


@pytest.mark.slow
def test_a_prompt_curve_is_what_each_prompter_gives_alone():
    dataset = Scenes(CROWD, FRONT_AND_BACK, LONE)
    prompters = {(kind.__name__, n): kind(n) for kind in (MaxVisibility, MaxSpread) for n in (1, 2, 5)}
    rows = by_setting(prompt_curve(detected_poses(dataset, FakePose()), NoiseSegmenter(), prompters))
    assert list(rows) == list(prompters)
    for setting, prompter in prompters.items():
        alone = list(segment_poses(detected_poses(dataset, FakePose()), NoiseSegmenter(prompter)))
        assert rows[setting] == alone
    assert rows["MaxVisibility", 5] != rows["MaxSpread", 5]


@pytest.mark.slow
def test_a_prompt_curve_computes_nothing_twice():
    flags = [[2] * 17, [2] * 3 + [0] * 14, [0] * 16 + [2]]
    dataset = Scenes(CROWD, [], LONE, labels=flags)
    segmenter = ColourSegmenter()
    prompters = {count: MaxVisibility(count, threshold=0.1) for count in range(1, 7)}
    rows = by_setting(prompt_curve(true_poses(dataset, image_batch=1), segmenter, prompters))
    assert dataset.loaded == [0, 2]
    assert segmenter.encoded == 2
    # six questions about the first, three about the second, one about the last
    assert sorted(len(points) for _, points, *_ in segmenter.asked) == [1, 1, 1, 2, 2, 3, 3, 4, 5, 6]
    assert [[row["mask_score"] for row in rows[count]] for count in (1, 3, 6)] == [
        pytest.approx([number / 20 for number in numbers]) for numbers in ((1, 1, 1), (3, 3, 1), (6, 3, 1))
    ]
    pose = FakePose()
    list(prompt_curve(detected_poses(dataset, pose), ColourSegmenter(), prompters))
    assert len(pose.calls) == 1


def test_a_box_makes_another_question():
    segmenter = ColourSegmenter()
    prompters = {"points": MaxVisibility(1), "points and box": MaxVisibility(1, box=GivenBox())}
    rows = by_setting(prompt_curve(detected_poses(Scenes(LONE), FakePose()), segmenter, prompters))
    assert len(segmenter.asked) == 2
    assert rows["points"] == rows["points and box"]  # this network minds no boxes
    assert rows["points"][0] is not rows["points and box"][0]


@pytest.mark.parametrize(
    "ask",
    [
        lambda dataset, segmenter: prompt_curve(true_poses(dataset), segmenter, {1: MaxVisibility(1)}),
        lambda dataset, segmenter: correction_curve(dataset, segmenter),
    ],
    ids=["prompts", "corrections"],
)
def test_a_segmenter_without_point_prompts_is_refused(ask):
    dataset = Scenes(LONE, labels=[[2] * 17])
    with pytest.raises(UserError, match="prompted with points, such as SAM2Segmenter, got FakeSegmenter"):
        list(ask(dataset, FakeSegmenter()))
    assert dataset.loaded == []


def test_a_perfect_answer_is_followed_by_negative_points_from_the_background():
    dataset, segmenter = Scenes(CROWD, LONE), ColourSegmenter()
    curve = dict(correction_curve(dataset, segmenter, corrections=3))
    assert curve == {100: [1.0] * 4, 101: [1.0] * 4, 200: [1.0] * 4}
    last = [asked for asked in segmenter.asked if len(asked[1]) == 4]
    assert len(last) == 3
    for red, points, labels, _, _ in last:
        own = red == red[points[0, 1], points[0, 0]]
        assert labels.tolist() == [1, 0, 0, 0]
        assert own[points[:, 1], points[:, 0]].tolist() == [True, False, False, False]


def test_a_perfect_answer_of_the_whole_image_is_left_in_peace():
    dataset, segmenter = Scenes([(0, 0, WIDTH, HEIGHT)]), ColourSegmenter()
    assert dict(correction_curve(dataset, segmenter, corrections=2)) == {100: [1.0] * 3}
    assert [labels.tolist() for _, _, labels, _, _ in segmenter.asked] == [[1]] * 3


@pytest.mark.slow
@hypothesis.given(st.integers(0, 2**32))
@hypothesis.settings(max_examples=10)
def test_corrections_lie_in_the_error_region_with_the_right_label(seed):
    dataset, segmenter = Scenes(CROWD), NoiseSegmenter()
    curve = dict(correction_curve(dataset, segmenter, seed=seed))
    assert [len(asked[1]) for asked in segmenter.asked] == [count for count in range(1, 9) for _ in CROWD]
    answers = defaultdict(list)
    for red, points, labels, before, multimask in segmenter.asked:
        assert multimask == (len(points) == 1)
        own = int(red[points[0, 1], points[0, 0]])  # the colour of the person whom the first point is on
        ground_truth = red == own
        x, y = points[-1].tolist()
        assert labels[-1] == ground_truth[y, x]
        if before is None:
            assert labels.tolist() == [1]
        else:
            assert ground_truth[y, x] != before[y, x]
            answers[own].append(float((ground_truth & before).sum() / (ground_truth | before).sum()))
    for own, ious in answers.items():
        assert curve[own - 100][:-1] == pytest.approx(ious)


@pytest.mark.slow
def test_corrections_mend_what_they_point_at():
    dataset = Scenes(CROWD, [(5, 5, 15, 15)])
    for ious in dict(correction_curve(dataset, MendingSegmenter(), corrections=20)).values():
        assert ious[0] <= 25 / 100  # one patch of 5 x 5 in 10 x 10 pixels or more
        assert ious[-1] > ious[0] + 0.2


@pytest.mark.slow
def test_points_depend_on_seed_and_id_and_on_nobody_else():
    everybody = Scenes(CROWD, LONE)
    fewer = Scenes(CROWD, LONE)
    del fewer.ground_truth["annotations"][0]
    curve = dict(correction_curve(everybody, NoiseSegmenter()))
    assert dict(correction_curve(everybody, NoiseSegmenter())) == curve
    assert dict(correction_curve(fewer, NoiseSegmenter())) == {key: curve[key] for key in (101, 200)}
    assert dict(correction_curve(everybody, NoiseSegmenter(), seed=1)) != curve
    other = Scenes(CROWD, LONE)
    other.ground_truth["annotations"][0]["id"] = -100
    assert dict(correction_curve(other, NoiseSegmenter()))[-100] != curve[100]


@pytest.mark.slow
def test_all_pixels_of_the_region_are_equally_likely():
    dataset, segmenter = Scenes([(10, 20, 14, 22)]), ColourSegmenter()
    (label,) = dataset.ground_truth["annotations"]
    dataset.ground_truth["annotations"] = [{**label, "id": number} for number in range(1, 801)]
    list(correction_curve(dataset, segmenter, corrections=0))
    places = [tuple(points[0].tolist()) for _, points, *_ in segmenter.asked]
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 8
    assert np.square(counts - 100).sum() / 100 < 24.3  # chi square with 7 degrees of freedom, one in a thousand


def test_true_masks_may_be_polygons():
    dataset = Scenes(LONE)
    dataset.ground_truth["annotations"][0]["segmentation"] = [[10, 20, 30, 20, 30, 40, 10, 40]]
    assert dict(correction_curve(dataset, ColourSegmenter())) == {100: [1.0] * 8}


def test_somebody_without_a_pixel_is_left_out():
    dataset = Scenes(CROWD)
    empty = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    dataset.ground_truth["annotations"][0]["segmentation"] = to_rle(empty)[0]
    assert list(dict(correction_curve(dataset, ColourSegmenter()))) == [101]
    dataset.ground_truth["annotations"][1]["segmentation"] = to_rle(empty)[0]
    assert list(correction_curve(dataset, ColourSegmenter())) == []


def test_corrections_need_masks():
    dataset = Scenes(LONE)
    del dataset.ground_truth["annotations"][0]["segmentation"]
    with pytest.raises(
        UserError, match="annotation 100 has no segmentation; choose a data set whose people have masks"
    ):
        list(correction_curve(dataset, ColourSegmenter()))


@pytest.mark.slow
def test_real_labels_through_a_small_sam(shared, tmp_path):
    pytest.importorskip("sam2", reason="the package sam2 is not installed")
    from bmp.segmenters.sam2 import SAM2Segmenter

    folder = shared / "data" / "ochuman_mini"
    dataset = PeopleDataset(folder / "test_ochuman.json", folder)
    segmenter = SAM2Segmenter(MaxSpread(3), "random", tiny_models.sam2_config(tmp_path))
    rows = list(segment_poses(true_poses(dataset), segmenter))
    assert [row["id"] for row in rows] == [label["id"] for label in dataset.ground_truth["annotations"]]
    assert 0 <= ap(dataset, rows) < 0.5  # made-up weights
    curve = by_setting(prompt_curve(true_poses(dataset), segmenter, {n: MaxSpread(n) for n in (1, 3)}))
    for row, alone in zip(curve[3], rows, strict=True):
        sizes = {int(label["id"]): label for label in dataset.ground_truth["images"]}[row["image_id"]]
        one, other = (from_rle([r["segmentation"]], sizes["height"], sizes["width"]) for r in (row, alone))
        assert (one ^ other).float().mean() < 1e-3  # chunks of other sizes round the last bit differently
    corrected = dict(correction_curve(dataset, segmenter, corrections=2))
    assert list(corrected) == [row["id"] for row in rows]
    assert all(len(ious) == 3 and min(ious) >= 0 and max(ious) <= 1 for ious in corrected.values())


def known(pose, flags):
    """The scenes of a crowd and a lone person, with keypoints from an estimator or with true ones."""
    dataset = Scenes(CROWD, LONE, labels=[flags] * 3)
    return true_poses(dataset, image_batch=2) if pose is None else detected_poses(dataset, pose, image_batch=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler", [Pose1MaskRefine(ground_truth_probability=0), PoseMaskRefine(ground_truth_probability=0)]
)
def test_without_keypoints_all_samplers_correct_alike(sampler):
    expected = list(correction_curve(Scenes(CROWD, LONE), NoiseSegmenter()))
    assert list(correction_curve(Scenes(CROWD, LONE), NoiseSegmenter(), sampler=sampler)) == expected
    assert list(correction_curve(known(None, [2] + [0] * 16), NoiseSegmenter())) == expected
    often = MaskRefine(ground_truth_probability=0.9)
    assert list(correction_curve(Scenes(CROWD, LONE), NoiseSegmenter(), sampler=often)) != expected


class Noted(NoiseSegmenter):
    """Keeps what it is asked, with every digit."""

    def __init__(self):
        super().__init__()
        self.prompts = []

    def _answer(self, red, prompts, previous):
        self.prompts.append(prompts)
        return super()._answer(red, prompts, previous)


def test_the_first_point_is_the_most_visible_keypoint_where_an_estimator_sees_it():
    class Between(FakePose):
        """Its most visible keypoint, of those that are present, is number 3, between the pixels."""

        def estimate(self, images, people):
            visibility = torch.linspace(0.4, 0, 17).index_put((torch.tensor([3]),), torch.tensor(0.9))
            presence = torch.ones(17).index_put((torch.tensor([0]),), torch.tensor(0.4))
            return [
                type(poses)(
                    poses.keypoints + 0.3, poses.scores, *(x.expand(len(poses), -1) for x in (visibility, presence))
                )
                for poses in super().estimate(images, people)
            ]

    pose, segmenter = Between(), Noted()
    (posed,) = detected_poses(Scenes(CROWD, LONE), pose)
    expected = torch.cat([each.poses.keypoints[:, 3] for each in posed])
    curve = dict(correction_curve([posed], segmenter, 0, sampler=PoseMaskRefine(ground_truth_probability=0)))
    assert sorted(curve) == [100, 101, 200]
    torch.testing.assert_close(torch.cat([asked.points[:, 0] for asked in segmenter.prompts]), expected)


@pytest.mark.slow
@hypothesis.given(st.integers(0, 2**32))
@hypothesis.settings(max_examples=10)
def test_corrections_are_keypoints_while_one_is_wrong(seed):
    labels = [2, 2, 1, 2, 2, 0] + [0] * 11
    segmenter = Noted()
    list(
        correction_curve(known(None, labels), segmenter, seed=seed, sampler=PoseMaskRefine(ground_truth_probability=0))
    )
    corners = {200: (4, 4), 201: (30, 10)}
    keypoints = {
        own: {(x + i % 3, y + i % 2): flag for i, flag in enumerate(labels) if flag} for own, (x, y) in corners.items()
    }
    checked = 0
    for red, points, point_labels, before, _ in segmenter.asked:
        first = tuple(points[0].tolist())
        own = next((own for own in corners if red[first[::-1]] == own and red[10, 35] == 201), None)
        if own is None:  # the lone person, in the other image
            continue
        ground_truth = red == own
        assert keypoints[own][first] == 2
        if before is not None:
            wrong = {place for place in keypoints[own] if ground_truth[place[::-1]] != before[place[::-1]]}
            last = tuple(points[-1].tolist())
            assert ground_truth[last[::-1]] == point_labels[-1]
            assert ground_truth[last[::-1]] != before[last[::-1]]
            if wrong:
                assert last in wrong
                assert keypoints[own][last] == max(keypoints[own][place] for place in wrong)
            checked += 1
    assert checked == 14
