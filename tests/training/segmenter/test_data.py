"""Samples of training on scenes of squares, where the right mask and the right place are known."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from label_fakes import Squares

from bmp.errors import UserError
from bmp.io.annotations import labelled_mask
from bmp.label_sets import keypoint_set
from bmp.ops.masks import to_rle
from bmp.training.segmenter.data import PosedPeople, PoseMaskDataset, Starts
from bmp.training.segmenter.validation import PosedImages, SegmAP

HEIGHT, WIDTH = 48, 64
STILL = dict(flip=0, rotation=0, shear=0, brightness=0, contrast=0, saturation=0, grey=0, jitter_before_grey=(0, 0, 0))


class Scenes(Squares):
    """Annotation 10·i + j is square j of image i; its keypoints lie around its middle."""

    def __init__(self, *scenes, labels=True):
        super().__init__(*scenes, step=10)
        for row in self.ground_truth["annotations"] if labels else ():
            x, y, width, height = row["bbox"]
            middle = [x + (width - 1) / 2, y + (height - 1) / 2]
            row["keypoints"] = [v for k in range(17) for v in (middle[0] + (k % 3) / 2, middle[1], k % 3)]
            row["num_keypoints"] = 11


ONE = Scenes([(8, 10, 20, 30)])
CROWD = Scenes([(2, 2, 10, 10), (20, 2, 30, 12), (40, 20, 60, 40), (5, 30, 15, 44)])


def dataset(*people, size=64, **options):
    sources = {f"s{number}": dict(dataset=own) for number, own in enumerate(people)}
    return PoseMaskDataset(sources, size, **options)


def test_without_augmentation_a_sample_is_the_image_stretched():
    sample = dataset(ONE)[0]
    people = sample["data_samples"]
    assert sample["inputs"].shape == (3, 64, 64)
    assert sample["inputs"].dtype == torch.uint8
    assert people.masks.shape == (1, 64, 64)
    y, x = people.masks[0].nonzero().T
    assert (x.min(), x.max()) == (8, 19)
    assert abs(int(y.min()) - 10 * 64 / 48) <= 1
    assert abs(int(y.max()) - 30 * 64 / 48) <= 1
    assert ((sample["inputs"][0] > 100) ^ people.masks[0]).sum() <= 2 * 12


def test_the_network_is_prompted_as_at_test_time():
    """A keypoint k becomes k · S / W, half a pixel further in a record whose first pixel ends at 1."""
    keypoints = dataset(ONE)[0]["data_samples"].keypoints
    expected = torch.tensor([13.5, 19.5 * 64 / 48]) + 0.5
    torch.testing.assert_close(keypoints.points[0, 0], expected)
    assert keypoints.available[0].tolist() == [k % 3 > 0 for k in range(17)]
    assert keypoints.visibility[0].tolist() == [(0.0, 0.5, 1.0)[k % 3] for k in range(17)]


def test_a_mirror_image_swaps_left_and_right():
    still, mirrored = dataset(ONE)[0], dataset(ONE, augment={**STILL, "flip": 1})[0]
    assert torch.equal(mirrored["inputs"], still["inputs"].flip(2))
    assert torch.equal(mirrored["data_samples"].masks, still["data_samples"].masks.flip(2))
    before, after = still["data_samples"].keypoints, mirrored["data_samples"].keypoints
    left, right = 5, 6
    torch.testing.assert_close(after.points[0, left, 0], 64 - before.points[0, right, 0])
    torch.testing.assert_close(after.points[0, 0, 0], 64 - before.points[0, 0, 0])
    assert after.visibility[0, left] == before.visibility[0, right] != before.visibility[0, left]
    assert after.available[0, left] == before.available[0, right]


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 96])
def test_keypoints_and_masks_move_with_the_pixels(size):
    moved, moving = (
        0,
        dataset(CROWD, size=size, max_people=None, augment={**STILL, "flip": 0.5, "rotation": 25, "shear": 20}),
    )
    for seed in range(20):
        torch.manual_seed(seed)
        sample = moving[0]
        people = sample["data_samples"]
        bright = sample["inputs"][0] > 160
        # of the outside, which is grey, and of edges, nothing is so bright
        overlap = (bright & people.masks.any(0)).sum() / bright.sum()
        assert overlap > 0.97
        points = people.keypoints.points[:, 0]
        inside = ((points >= 0) & (points < size)).all(1)
        x, y = points[inside].long().T
        assert people.masks[inside, y, x].all()
        moved += inside.sum()
        assert people.image_key is None
    assert moved > 60


@pytest.mark.slow
def test_somebody_is_always_in_the_picture():
    corner = dataset(Scenes([(0, 0, 4, 3)]), augment={"rotation": 40})
    for seed in range(20):
        torch.manual_seed(seed)
        assert corner[0]["data_samples"].masks.any()


def test_a_person_lost_by_stretching_is_an_empty_mask():
    people = dataset(Scenes([(10, 10, 14, 13)]), size=4)[0]["data_samples"]
    assert people.masks.shape == (1, 4, 4)
    assert len(people.keypoints) == 1


def test_colours_change_and_places_do_not():
    still = dataset(ONE)[0]
    grey = dataset(ONE, augment={**STILL, "grey": 1})[0]
    assert torch.equal(grey["inputs"][0], grey["inputs"][2])
    assert torch.equal(grey["data_samples"].masks, still["data_samples"].masks)
    torch.manual_seed(0)
    bright = dataset(ONE, augment={**STILL, "brightness": 0.5})[0]["inputs"]
    assert not torch.equal(bright, still["inputs"])


def test_the_same_seed_gives_the_same_sample():
    varied = dataset(CROWD, augment={})
    samples = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        samples.append(varied[0]["inputs"])
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


@pytest.mark.slow
def test_of_a_crowd_some_are_drawn_each_time():
    few, places = dataset(CROWD, max_people=2), Counter()
    for _ in range(40):
        masks = few[0]["data_samples"].masks
        assert len(masks) == 2
        places.update(mask.nonzero()[0].tolist()[1] for mask in masks)
    assert len(places) == 4
    assert len(dataset(CROWD, max_people=None)[0]["data_samples"].masks) == 4


def test_crowd_regions_and_tiny_people_are_left_out():
    people = Scenes([(2, 2, 10, 10), (20, 2, 23, 5), (40, 20, 60, 40)], [(1, 1, 3, 3)], [])
    people.ground_truth["annotations"][2]["iscrowd"] = 1
    kept = dataset(people, max_people=None)
    assert len(kept) == 1
    assert len(kept[0]["data_samples"].masks) == 1
    assert len(dataset(people, min_area=0)) == 2


@pytest.mark.parametrize(("weights", "length"), [((1, 1), 5), ((2, 1), 8), ((0.5, 2), 6), ((0, 1), 2)])
def test_weights_say_how_often_an_image_is_seen(weights, length):
    first, second = Scenes(*[[(2, 2, 10, 10)]] * 3), Scenes(*[[(30, 2, 60, 40)]] * 2)
    sources = {
        name: dict(dataset=own, weight=weight) for name, own, weight in zip("ab", (first, second), weights, strict=True)
    }
    mixed = PoseMaskDataset(sources, 64)
    assert len(mixed) == length
    large = sum(int(mixed[index]["data_samples"].masks.sum()) > 200 for index in range(length))
    assert large == round(weights[1] * 2)


@pytest.mark.slow
def test_a_fraction_takes_other_images_each_time():
    half = PoseMaskDataset(
        {"a": dict(dataset=Scenes(*([(2 * n, 2, 2 * n + 8, 10)] for n in range(8))), weight=0.5)}, 64
    )
    seen = {int(half[0]["data_samples"].masks[0].any(0).nonzero()[0]) for _ in range(60)}
    assert len(seen) == 8


def estimates(people, **changes):
    rows = [
        {
            "id": row["id"],
            "image_id": row["image_id"],
            "keypoints": [1.0, 2.0, 2] * 17,
            "keypoint_scores": [0.5] * 17,
            "keypoint_visibility": [0.25] * 17,
            "keypoint_presence": [0.4, 0.6] + [0.9] * 15,
            **changes,
        }
        for row in people.ground_truth["annotations"]
    ]
    return {"annotations": rows}


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_estimated_keypoints_take_the_place_of_labels(tmp_path):
    file = write(tmp_path / "keypoints.json", estimates(CROWD))
    keypoints = PoseMaskDataset({"a": dict(dataset=CROWD, keypoints=file)}, 64)[0]["data_samples"].keypoints
    torch.testing.assert_close(keypoints.points[0, 3], torch.tensor([1.5, 2 * 64 / 48 + 0.5]))
    assert keypoints.visibility.unique().tolist() == [0.25]
    assert keypoints.available[0].tolist() == [False] + [True] * 16
    posed = PosedPeople(CROWD, file).load(0)
    assert posed.unlabelled is None
    assert posed.annotations == CROWD.ground_truth["annotations"]


def test_the_masks_in_the_file_move_with_the_pixels(tmp_path):
    content, ground_truth = estimates(CROWD), CROWD.ground_truth["annotations"]
    labelled = torch.stack([labelled_mask(row, CROWD.load(0)) for row in ground_truth])
    for place in (0, 2, 3):  # the second was not detected
        content["annotations"][place]["segmentation"] = to_rle(labelled[[place]])[0]
    file = write(tmp_path / "keypoints.json", content)
    posed = PosedPeople(CROWD, file).load(0, [1, 2])
    assert torch.equal(posed.people.masks, torch.stack([torch.zeros_like(labelled[2]), labelled[2]]))
    source = {"a": dict(dataset=CROWD, keypoints=file)}
    torch.manual_seed(0)
    people = PoseMaskDataset(source, 64, max_people=None, augment={**STILL, "flip": 1, "rotation": 5})[0][
        "data_samples"
    ]
    assert not people.starts[1].any()
    for place in (0, 2, 3):
        assert torch.equal(people.starts[place], people.masks[place])
    assert people.to("cpu").starts is not None


def test_without_masks_in_the_file_there_is_nothing_to_start_from(tmp_path):
    file = write(tmp_path / "keypoints.json", estimates(CROWD))
    assert PosedPeople(CROWD, file).load(0).people.masks is None
    assert PoseMaskDataset({"a": dict(dataset=CROWD, keypoints=file)}, 64)[0]["data_samples"].starts is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "keypoints.json: cannot be read, No such file or directory"),
        ("{", "keypoints.json: not JSON"),
        ([1], "got other JSON"),
        (estimates(ONE), "has no keypoints of 3 of the 4 people in squares, the first is annotation 11; make it"),
        (estimates(CROWD, image_id=7), "has no keypoints of 4 of the 4 people"),
        (
            estimates(CROWD, keypoints=[1, 2, 3]),
            r"annotations\[0\]: expected keypoints as .* its keypoints are \[1, 2, 3\]",
        ),
        (estimates(CROWD, keypoint_scores=[2] * 17), "its keypoint_scores are"),
        (
            estimates(CROWD, segmentation={"size": [HEIGHT, WIDTH], "counts": "zz~"}),
            r"annotations\[0\]: its run lengths",
        ),
    ],
)
def test_a_file_that_is_not_of_the_data_set_is_refused(content, message, tmp_path):
    path = tmp_path / "keypoints.json"
    if content is not None:
        write(path, content)
    with pytest.raises(UserError, match=message):
        PosedPeople(CROWD, path)


def test_people_without_any_keypoints_have_none_available():
    keypoints = dataset(Scenes([(8, 10, 20, 30)], labels=False))[0]["data_samples"].keypoints
    assert keypoints.points.shape == (1, 17, 2)
    assert not keypoints.available.any()


@pytest.mark.parametrize(
    ("sources", "options", "message"),
    [
        ({"a": dict(dataset=Scenes([]))}, {}, r"sources\.a: expected people and a weight from 0, got 0 and 1\.0"),
        ({"a": dict(dataset=ONE, weight=-1)}, {}, r"got 1 and -1"),
        ({"a": dict(dataset=ONE)}, {"max_people": 0}, "size, max_people: expected at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(sources, options, message):
    with pytest.raises(UserError, match=message):
        PoseMaskDataset(sources, 64, **options)


def test_validation_compares_with_the_people_of_its_images():
    people = Scenes([(2, 2, 10, 10)], [], [(20, 2, 30, 12), (40, 20, 60, 40)], [(1, 1, 30, 30)])
    images = PosedImages(people, limit=2)
    assert len(images) == 2
    posed = [images[index]["inputs"] for index in range(2)]
    assert [len(one.annotations) for one in posed] == [1, 2]
    with pytest.raises(IndexError):
        images[2]
    metric = SegmAP()
    metric.dataset_meta = images.metainfo
    perfect = [[{**row, "score": 1.0, "mask_score": 0.9} for row in one.annotations] for one in posed]
    metric.process(None, perfect)
    assert metric.evaluate(size=2)["segm/AP"] == pytest.approx(100)
    metric.process(None, [perfect[0], [perfect[1][0]]])
    assert 50 < metric.evaluate(size=2)["segm/AP"] < 80
    # Somebody's wrong mask comes first in the file and last by predicted IoU.
    wrong = {**perfect[0][0], "segmentation": perfect[1][1]["segmentation"], "mask_score": 0.1}
    metric.process(None, [[wrong], perfect[1]])
    numbers = metric.evaluate(size=2)
    assert numbers["segm/AP"] == pytest.approx(100 * 67 / 101)
    assert numbers["segm/AP_constant"] < numbers["segm/AP"]


def test_keypoints_of_another_set_are_no_prompts_to_train_with():
    other = Scenes([(8, 10, 20, 30)])
    other.keypoints = keypoint_set("crowdpose")
    with pytest.raises(
        UserError, match=r"trained with COCO's keypoints, these are CrowdPose's 14 .*inference.keypoints"
    ):
        PosedPeople(other)


def mask(x1, y1, x2, y2):
    bits = torch.zeros(48, 64, dtype=torch.bool)
    bits[y1:y2, x1:x2] = True
    return bits


TWO, FOUND = torch.stack([mask(8, 8, 24, 40), mask(30, 4, 60, 44)]), torch.stack([mask(9, 8, 24, 44), mask(0, 0, 0, 0)])


@pytest.mark.parametrize(
    ("chances", "detected", "expected"),
    [
        ({}, None, None),
        ({}, FOUND, FOUND),
        ({"true": 1.0}, None, TWO),
        ({"true": 1.0}, FOUND, TWO),
    ],
)
def test_what_people_start_from(chances, detected, expected):
    starts = Starts(**chances).draw(TWO, detected)
    assert starts is None if expected is None else torch.equal(starts, expected)


@pytest.mark.slow
def test_starts_are_drawn_for_each_person_with_their_chances():
    pytest.importorskip("mmpose", reason="mmpose is not installed")
    torch.manual_seed(0)
    np.random.seed(0)
    kinds = {"true": 0, "noisy": 0, "detected": 0}
    for _ in range(60):
        starts = Starts(true=0.2, noisy=0.5).draw(TWO, FOUND)
        for own, ground_truth, found in zip(starts, TWO, FOUND, strict=True):
            kind = "true" if torch.equal(own, ground_truth) else "detected" if torch.equal(own, found) else "noisy"
            kinds[kind] += 1
            if kind == "noisy":  # a mask of the same person
                assert (own & ground_truth).sum() > 0.3 * (own | ground_truth).sum()
    assert 30 < kinds["true"] < 60  # some noise leaves a mask as it is
    assert 30 < kinds["noisy"] < 66
    assert 20 < kinds["detected"] < 54
    assert torch.equal(TWO[0], mask(8, 8, 24, 40))


def test_a_sample_starts_from_what_was_drawn():
    people = dataset(CROWD, max_people=None, starts={"true": 1.0}, augment={**STILL, "rotation": 25})[0]["data_samples"]
    assert torch.equal(people.starts, people.masks)


@pytest.mark.parametrize("chances", [{"true": 0.7, "noisy": 0.4}, {"true": -0.1}])
def test_chances_of_starts_are_checked(chances):
    with pytest.raises(UserError, match=r"starts: expected chances from 0 whose sum is at most 1, got true="):
        dataset(ONE, starts=chances)
