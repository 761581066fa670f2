"""Poses by the protocols of their sets, on cases whose numbers are known beforehand. Parity is in tests/parity."""

import pytest

from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.metrics.poses import PoseSets, evaluate_poses, head_size, pose_precision
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, keypoint_set

SIDE = 100.0


def points(known, x=0.0, flag=2):
    return [value for row in range(len(known)) for value in (x + 3 * row, 5 * row, flag)]


def person(known, number=1, image_id=1, x=0.0, **more):
    values = points(known, x)
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [x, 0, SIDE, 2 * SIDE],
        "area": 2 * SIDE**2, "keypoints": values, "num_keypoints": len(known), **more,
    }  # fmt: skip


def result(known, image_id=1, x=0.0, shift=0.0, score=0.9):
    return {
        "image_id": image_id, "category_id": 1, "bbox": [x, 0, SIDE, 2 * SIDE], "score": score,
        "keypoints": points(known, x + shift), "keypoint_scores": [0.8] * len(known),
        "keypoint_presence": [1.0] * len(known),
    }  # fmt: skip


def truth(*people, images=((1, {}),)):
    return {
        "info": {},
        "images": [{"id": number, "file_name": f"{number}.png", "height": 300, "width": 900} | more for number, more in images],
        "annotations": list(people),
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip


def sets(labelled, estimated=None, **more):
    return PoseSets(keypoint_set(labelled), keypoint_set(estimated or labelled), **more)


def test_coco_is_measured_as_before():
    ground_truth, rows = truth(person(COCO_KEYPOINTS)), [result(COCO_KEYPOINTS, shift=6)]
    found = evaluate_poses(ground_truth, rows)
    assert found.coco == evaluate_coco(ground_truth, to_results(rows, "keypoints"), "keypoints")
    assert 0 < found.coco.ap < 1
    assert (found.protocol, found.reasons) == ({}, {})


class TestCommonKeypoints:
    def test_only_what_both_have_is_compared(self):
        crowdpose = keypoint_set("crowdpose")
        label = person(crowdpose)
        label["keypoints"][-6:] = [900, 900, 2] * 2  # where no result can be
        row = result(COCO_KEYPOINTS)
        for number, name in enumerate(COCO_KEYPOINTS.names):
            if name in crowdpose.names:
                own = crowdpose.names.index(name)
                row["keypoints"][3 * number : 3 * number + 2] = label["keypoints"][3 * own : 3 * own + 2]
        both = sets("crowdpose", "coco")
        assert pose_precision(truth(label), [row], both).ap == pytest.approx(1)
        assert both.conversion.missing == ("top_head", "neck")
        nearby = sets("crowdpose", "coco", approximate=True)
        assert pose_precision(truth(label), [row], nearby).ap < 1.0  # the neck is far from the shoulders

    def test_who_has_none_of_them_labelled_does_not_count(self):
        crowdpose = keypoint_set("crowdpose")
        only_head = person(crowdpose, 2, x=300.0)
        only_head["keypoints"] = [0, 0, 0] * 12 + [1, 1, 2] * 2
        only_head["num_keypoints"] = 2
        ground_truth = truth(person(crowdpose), only_head)
        assert pose_precision(ground_truth, [], sets("crowdpose", "coco")).ar == 0.0
        numbers = pose_precision(truth(only_head), [], sets("crowdpose", "coco"))
        assert numbers.ap is None

    def test_whoever_is_counted_by_visible_keypoints_stays_so(self):
        crowdpose = keypoint_set("crowdpose")
        hidden = person(crowdpose, num_keypoints=0)
        hidden["keypoints"] = points(crowdpose, flag=1)
        assert pose_precision(truth(hidden), [], sets("crowdpose")).ap is None
        assert pose_precision(truth(hidden), [], sets("crowdpose", "coco")).ap is None

    def test_sets_in_another_order_are_read_by_meaning(self):
        order = COCO_KEYPOINTS.part(range(16, -1, -1))
        own = KeypointSet(order.names, order.sigmas, (), ())
        row = result(COCO_KEYPOINTS)
        row["keypoints"] = [
            value for number in range(16, -1, -1) for value in row["keypoints"][3 * number : 3 * number + 3]
        ]
        assert pose_precision(truth(person(COCO_KEYPOINTS)), [row], PoseSets(COCO_KEYPOINTS, own)).ap == pytest.approx(
            1
        )


def test_the_area_of_sets_without_areas_is_that_of_the_box():
    for name, same in (("aic", True), ("crowdpose", True), ("humanart", False)):
        known = keypoint_set(name)
        rows = [result(known, shift=4.0)]
        large, small = (
            pose_precision(truth(person(known, area=area)), rows, sets(name)).ap for area in (2 * SIDE**2, SIDE)
        )
        assert (large == small) is same, name


class TestCrowdPose:
    def test_levels_of_the_paper_and_of_the_released_programs(self):
        known = keypoint_set("crowdpose")
        images = [(n, {"crowdIndex": index}) for n, index in enumerate((0.1, 0.15, 0.8, 0.9), 1)]
        people = [person(known, n, n) for n, _ in images]
        rows = [result(known, 2), result(known, 3)]
        found = evaluate_poses(truth(*people, images=images), rows, sets("crowdpose")).protocol
        half = pytest.approx(51 / 101)  # one of two people, at COCO's 101 points of recall
        assert found == {
            "ap_easy": 0.0, "ap_medium": pytest.approx(1), "ap_hard": 0.0,
            "ap_easy_released": half, "ap_medium_released": None, "ap_hard_released": half,
        }  # fmt: skip

    def test_there_is_no_number_without_an_index(self):
        known = keypoint_set("crowdpose")
        found = evaluate_poses(truth(person(known)), [], sets("crowdpose"))
        assert set(found.protocol.values()) == {None}
        assert set(found.reasons) == set(found.protocol)
        assert set(found.reasons.values()) == {"not all images have a crowdIndex"}


class TestWholeBody:
    def test_parts_that_are_not_estimated_have_no_number(self):
        known = keypoint_set("coco_wholebody")
        found = evaluate_poses(truth(person(known)), [result(COCO_KEYPOINTS)], sets("coco_wholebody", "coco"))
        assert found.protocol["body_ap"] == found.coco.ap == pytest.approx(1)
        assert found.protocol["foot_ap"] is found.protocol["whole_ap"] is found.protocol["hand_ap"] is None
        assert found.reasons["face_ar"] == "68 of its 68 keypoints are not estimated"

    def test_hands_are_the_mean_of_both(self):
        known = keypoint_set("coco_wholebody")
        row = result(known)
        row["keypoints"][3 * 112 :] = [500, 500, 2] * 21
        found = evaluate_poses(truth(person(known)), [row], sets("coco_wholebody")).protocol
        assert [found[f"{part}_ap"] for part in ("left_hand", "right_hand", "hand")] == pytest.approx([1, 0, 0.5])


class TestPCKh:
    def test_each_person_has_the_result_most_like_it(self):
        known = keypoint_set("mpii")
        people = [person(known, 1, head_size=20), person(known, 2, x=200.0, head_size=20), person(known, 3, x=500.0)]
        rows = [result(known, x=200.0, shift=9.5, score=0.3), result(known, shift=1.0)]
        found = evaluate_poses(truth(*people), rows, sets("mpii")).protocol
        assert found["pckh"] == found["pckh_knee"] == 1.0  # 9.5 of 20 is within half
        assert found["pckh_at_0.1"] == 0.5

    def test_who_is_not_found_has_everything_wrong(self):
        known = keypoint_set("mpii")
        people = [person(known, 1, head_size=20), person(known, 2, x=400.0, head_size=20)]
        found = evaluate_poses(truth(*people), [result(known)], sets("mpii")).protocol
        assert set(found.values()) == {0.5}

    def test_pelvis_and_thorax_do_not_count(self):
        known = keypoint_set("mpii")
        row = result(known)
        row["keypoints"][3 * 6 : 3 * 8] = [900, 900, 2] * 2
        assert evaluate_poses(truth(person(known, head_size=20)), [row], sets("mpii")).protocol["pckh"] == 1.0

    def test_without_heads_there_is_no_number(self):
        known = keypoint_set("mpii")
        found = evaluate_poses(truth(person(known)), [result(known)], sets("mpii"))
        assert set(found.protocol.values()) == {None}
        assert found.reasons["pckh"] == "nobody's head is labelled (head_size or bbox_head)"

    def test_heads(self):
        assert head_size({"head_size": 7, "bbox_head": [0, 0, 3, 4]}) == 7
        assert head_size({"bbox_head": [10, 10, 3, 4]}) == pytest.approx(3.0)
        assert head_size({}) == 0.0


HEAD = {"bbox_head": [0, 0, 30, 40]}  # a size of 30: joints are right within 15


class TestPoseTrack:
    known = keypoint_set("posetrack18")

    def measure(self, people, rows, images=((1, {}),)):
        return evaluate_poses(truth(*people, images=images), rows, sets("posetrack18")).protocol

    def test_a_joint_is_right_within_half_a_head(self):
        people = [person(self.known, **HEAD)]
        assert set(self.measure(people, [result(self.known, shift=15.0)]).values()) == {1.0}
        assert set(self.measure(people, [result(self.known, shift=15.1)]).values()) == {0.0}

    def test_a_false_alarm_that_is_surer_halves_the_precision(self):
        people = [person(self.known, **HEAD)]
        sure = result(self.known, shift=300.0)
        sure["keypoint_scores"] = [0.9] * len(self.known)
        assert set(self.measure(people, [result(self.known), sure]).values()) == {0.5}
        sure["keypoint_scores"] = [0.1] * len(self.known)
        assert set(self.measure(people, [result(self.known), sure]).values()) == {1.0}

    def test_of_two_results_of_a_person_one_is_wrong(self):
        people = [person(self.known, **HEAD), person(self.known, 2, x=300.0, **HEAD)]
        rows = [result(self.known), result(self.known, shift=2.0)]
        found = self.measure(people, rows)
        assert set(found.values()) == {0.5}  # half of the people, the double one after it

    def test_images_without_labels_and_regions_to_ignore_do_not_count(self):
        people = [person(self.known, **HEAD)]
        region = {"ignore_regions_x": [[280, 420, 420, 280]], "ignore_regions_y": [[-5, -5, 200, 200]]}
        sure = result(self.known, x=300.0)
        sure["keypoint_scores"] = [0.9] * len(self.known)
        elsewhere = {**sure, "image_id": 2}
        found = self.measure(people, [result(self.known), sure, elsewhere], images=((1, region), (2, {})))
        assert set(found.values()) == {1.0}

    def test_ears_do_not_count(self):
        row = result(self.known)
        row["keypoints"][9:15] = [900, 900, 2] * 2
        assert set(self.measure([person(self.known, **HEAD)], [row]).values()) == {1.0}

    def test_without_heads_there_is_no_number(self):
        found = evaluate_poses(truth(person(self.known)), [result(self.known)], sets("posetrack18"))
        assert set(found.protocol.values()) == {None}
        assert found.reasons["ap_joints"] == "nobody's head is labelled (bbox_head)"

    def test_nobody_found(self):
        assert set(self.measure([person(self.known, **HEAD)], []).values()) == {0.0}
