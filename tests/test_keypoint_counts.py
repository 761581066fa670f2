"""Nothing takes keypoints for COCO's 17: the loop, prompts, suppression, files and pictures with other sets."""

import numpy as np
import pytest
import torch
from fakes import FakeDetector, FakeSegmenter, SetPose, detections, scene
from pycocotools.coco import COCO

from bmp.api import BMP, People
from bmp.build import build
from bmp.errors import UserError
from bmp.inference.keypoints import _described
from bmp.io.annotations import labelled_poses, to_instances
from bmp.io.coco_json import read_labels
from bmp.io.people_file import PeopleFile
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, keypoint_set
from bmp.segmenters.prompting import ClosestOther, LeastVisible, MaxSpread, MaxVisibility
from bmp.structures import Detections, Image, Instances, Masks
from bmp.suppression.near_skeleton import NearSkeleton
from bmp.suppression.oks import OKSSuppressor
from bmp.visualize import overlay, trace_sheet

FIVE = KeypointSet(("a", "left_b", "right_b", "nose", "left_eye"), (0.1,) * 5, ((1, 2),), ((0, 1), (0, 2)), (3, 4))
SETS = [FIVE, *map(keypoint_set, ("crowdpose", "pmpose", "coco_wholebody"))]
SCENE = scene((20, 10, 30, 20), (26, 14, 60, 40))


class Prompted(FakeSegmenter):
    """Asks prompters of every kind, and fills the extent of the pose."""

    def __init__(self, keypoints: KeypointSet = COCO_KEYPOINTS):
        super().__init__()
        self.keypoints = keypoints
        self.prompters = [
            MaxSpread(keypoints=self.keypoints, negative=LeastVisible()),
            MaxVisibility(negative=ClosestOther()),
        ]

    def segment(self, views, people, poses, others):
        masks = super().segment(views, people, poses, others)
        prompts = [self.prompters[0].prompts(*each) for each in zip(people, poses, others, strict=True)]
        for each in zip(people, poses, others, strict=True):
            self.prompters[1].prompts(*each)
        return [Masks(own.bits, own.scores, asked) for own, asked in zip(masks, prompts, strict=True)]


@pytest.fixture(params=SETS, ids=lambda known: str(len(known)))
def known(request):
    return request.param


@pytest.fixture
def people(known):
    model = BMP(FakeDetector(), SetPose(known), Prompted(known), OKSSuppressor(keypoints=known))
    return model(SCENE, trace=True)


def test_the_loop_finds_people_and_files_hold_all_their_keypoints(people, known, tmp_path):
    assert isinstance(people, People)
    assert len(people) == 2
    assert people.keypoint(known.names[1]).shape == (2, 2)
    for row in people.to_coco():
        assert len(row["keypoints"]) == 3 * len(known)
        assert row["num_keypoints"] == len(known)
    file = PeopleFile(tmp_path / "people.json", known, ["a.png"])
    with file:
        file.add("a.png", SCENE.height, SCENE.width, people.instances)
    loaded = COCO(str(tmp_path / "people.json"))
    assert loaded.dataset["categories"][0]["keypoints"] == list(known.names)
    assert [len(row["keypoints"]) for row in loaded.dataset["annotations"]] == [3 * len(known)] * 2
    if known.name:  # what was written is read as what it is
        read = read_labels(tmp_path / "people.json")
        assert read.keypoints.names == known.names
        again = labelled_poses(read.dataset["annotations"])
        assert again.keypoints.shape == (2, len(known), 2)


@pytest.mark.slow
def test_pictures_show_all_keypoints(people, known):
    blank = np.asarray(overlay(SCENE, people.instances, keypoint_set("coco").part([])))
    assert (np.asarray(overlay(SCENE, people.instances, known)) != blank).any()
    assert trace_sheet(people.trace, SCENE, known).width > SCENE.width
    rows = [{"bbox": [1, 1, 5, 5], "keypoints": [3, 3, 2] * len(known)}, {"bbox": [1, 1, 5, 5]}]
    shown = to_instances(rows, SCENE)
    assert shown.poses.keypoints.shape == (2, len(known), 2)


def test_spread_prompts_take_one_point_of_a_face(people, known):
    poses = people.instances.poses
    chosen = MaxSpread(count=6, keypoints=known).prompts(people.instances.detections, poses, poses[:0])
    for row in chosen.keypoints.tolist():
        assert sum(number in known.face for number in row) <= 1
    assert people.instances.masks.prompts is None or (people.instances.masks.prompts.keypoints < len(known)).all()


def test_doubles_are_suppressed_with_the_sigmas_of_the_set(known):
    pose = SetPose(known)
    boxes = detections((0, 0, 200, 400), (1, 0, 201, 400), (400, 0, 600, 400), scores=[0.9, 0.8, 0.7])
    (poses,) = pose.estimate([SCENE], [boxes])
    kept = OKSSuppressor(keypoints=known).keep(boxes, poses)
    assert kept.tolist() in ([0, 2], [1, 2])
    narrow = KeypointSet(known.names, (1e-4,) * len(known), (), ())
    assert OKSSuppressor(keypoints=narrow).keep(boxes, poses).tolist() == [0, 1, 2]


def test_estimated_poses_are_written_with_all_keypoints(known):
    box = detections((0, 0, 20, 40))
    (poses,) = SetPose(known).estimate([SCENE], [box])
    (row,) = _described([{"id": 3, "bbox": [0, 0, 20, 40]}], SCENE, poses, None)
    assert len(row["keypoints"]) == 3 * len(known)


@pytest.mark.parametrize("name", ["crowdpose", "aic", "mpii", "posetrack18", "jhmdb", "pmpose", "coco_wholebody"])
def test_people_are_painted_out_near_skeletons_of_any_set_with_limbs(name):
    known = keypoint_set(name)
    people = Detections(torch.tensor([[5.0, 5.0, 25.0, 45.0]]), torch.ones(1), torch.ones(1, 48, 64, dtype=torch.bool))
    (poses,) = SetPose(known).estimate([SCENE], [people])
    found = Instances(people, poses, Masks(people.masks, torch.ones(1)), torch.ones(1, dtype=torch.int64))
    painted = NearSkeleton(least=0.0, keypoints=known).painted(found).whole()
    assert 0 < painted.sum() < 48 * 64
    x, y = poses.keypoints[0, known.meanings.index("left_shoulder")].round().int().tolist()
    assert painted[0, y, x]


def test_a_set_without_limbs_has_no_neighbourhood():
    with pytest.raises(ValueError, match=r"NearSkeleton: 5 keypoints have no left_shoulder, .*leave NearSkeleton out"):
        NearSkeleton(keypoints=FIVE)


def config(**pose):
    return {
        "pipeline": {
            "suppressor": {"type": "OKSSuppressor"},
            "segmenter": {"type": "test_keypoint_counts.Prompted"},
            "pose": {"type": "fakes.SetPose", **pose},
            "detector": {"type": "fakes.FakeDetector"},
            "rounds": 2,
        }
    }


def test_a_config_tells_all_parts_the_keypoints_of_its_estimator():
    model = build(config(keypoints="crowdpose"), "cpu")
    assert model.suppressor.keypoints.name == model.segmenter.keypoints.name == "crowdpose"
    assert model.pose.keypoints.name == "crowdpose"
    assert len(model(SCENE)) == 2


def test_a_config_may_say_otherwise():
    told = config(keypoints="crowdpose")
    told["pipeline"]["suppressor"]["keypoints"] = "aic"
    assert build(told, "cpu").suppressor.keypoints.name == "aic"
    told["pipeline"]["suppressor"]["keypoints"] = "aci"
    with pytest.raises(UserError, match=r"pipeline.suppressor.keypoints: .*there is no set 'aci'; did you mean 'aic'"):
        build(told, "cpu")


def test_poses_of_other_sets_are_refused_by_parts_that_were_not_told():
    nobody = Instances.empty(Image(torch.zeros(8, 8, 3, dtype=torch.uint8)), 5)
    with pytest.raises(ValueError, match="NearSkeleton: expected poses with CrowdPose's 14 keypoints first, got 5"):
        NearSkeleton(keypoints=keypoint_set("crowdpose")).painted(nobody)
