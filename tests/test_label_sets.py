"""Keypoint sets: what they consist of, how files' names find them, and how one is read as another."""

import pytest

from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet, conversion, keypoint_set, sets_named

COUNTS = {
    "coco": 17, "crowdpose": 14, "aic": 14, "mpii": 16, "mhp": 16, "posetrack18": 17, "humanart": 17, "humanart21": 21,
    "halpe26": 26, "halpe136": 136, "coco_wholebody": 133, "jhmdb": 15, "ochuman19": 19, "pmpose": 23, "maskpose_wb": 41,
}  # fmt: skip


def test_the_sets_have_the_keypoints_of_their_publications():
    assert {name: len(found) for name, found in KEYPOINT_SETS.items()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_each_set_is_sound(name):
    found = keypoint_set(name)
    count = len(found)
    assert found.name == name
    assert found.source
    assert str(found).endswith(f"{count} keypoints")
    assert len(set(found.names)) == len(set(found.meanings)) == count
    assert min(found.sigmas) > 0
    assert all(0 <= row < count for pair in (*found.flip_pairs, *found.skeleton, found.face) for row in pair)
    flips = found.flip_indices
    assert [flips[flips[row]] for row in range(count)] == list(range(count))
    for row, own in enumerate(found.names):
        if own.startswith("left_"):
            assert found.names[flips[row]] == own.replace("left_", "right_")
    assert all(
        found.names[row] == "nose" or "eye" in found.names[row] or "face" in found.names[row] for row in found.face
    )


def test_pmpose_begins_with_coco():
    assert keypoint_set("pmpose").names[:17] == COCO_KEYPOINTS.names
    assert keypoint_set("maskpose_wb").names[:23] == keypoint_set("pmpose").names


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'crowdpose'"):
        keypoint_set("crowd_pose")


def test_a_set_of_ones_own_stays_what_it_is():
    own = KeypointSet(("a", "b"), (0.1, 0.1), (), ((0, 1),))
    assert keypoint_set(own) is own
    assert own.meanings == own.names
    with pytest.raises(ValueError, match="meanings: expected one for each of the 2 names, got 1"):
        KeypointSet(("a", "b"), (0.1, 0.1), (), (), meanings=("a",))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (keypoint_set("coco").names, ["coco", "humanart"]),
        ([name.replace("_", " ").title() for name in keypoint_set("aic").names], ["aic"]),
        ([*keypoint_set("crowdpose").names[:12], "head", "neck"], ["crowdpose"]),
        ([name.replace("left_", "L-").replace("right_", "R-") for name in keypoint_set("mhp").names], ["mpii", "mhp"]),
        (keypoint_set("posetrack18").names, ["posetrack18"]),
        ([name.replace("-", "_") for name in keypoint_set("coco_wholebody").names], ["coco_wholebody"]),
        (keypoint_set("coco").names[::-1], []),
        (keypoint_set("coco").names[:16], []),
        ([], []),
    ],
)
def test_sets_are_found_by_the_names_in_files(names, found):
    assert [known.name for known in sets_named(names)] == found


def test_a_part_keeps_what_lies_within_it():
    arms = keypoint_set("posetrack18").part([7, 8, 5, 6, 1])
    assert arms.names == ("left_elbow", "right_elbow", "left_shoulder", "right_shoulder", "head_bottom")
    assert set(arms.flip_pairs) == {(0, 1), (2, 3)}
    assert set(arms.skeleton) == {(2, 3), (2, 0), (3, 1), (4, 2), (4, 3)}
    assert arms.meanings[4] == "posetrack_head_bottom"
    assert (arms.face, arms.name, arms.title) == ((), "posetrack18", "PoseTrack18")


class TestConversion:
    @pytest.mark.parametrize(
        ("source", "target", "missing"),
        [
            ("coco", "coco", ()),
            ("coco", "humanart", ()),
            ("coco", "crowdpose", ("top_head", "neck")),
            ("coco", "posetrack18", ("head_bottom", "head_top")),
            ("pmpose", "crowdpose", ("top_head", "neck")),
            ("pmpose", "aic", ()),
            ("pmpose", "mpii", ()),
            ("mpii", "mhp", ()),
            ("crowdpose", "aic", ("head_top", "neck")),
            ("halpe136", "halpe26", ()),
            ("maskpose_wb", "pmpose", ()),
        ],
    )
    def test_what_means_the_same_is_the_same(self, source, target, missing):
        reading = conversion(keypoint_set(source), keypoint_set(target))
        assert reading.missing == missing
        assert not any(reading.approximate)
        for number in reading.known:
            (row,) = reading.origins[number]
            assert reading.source.meanings[row] == reading.target.meanings[number]

    def test_the_whole_body_has_halpes_face_feet_and_hands(self):
        reading = conversion(keypoint_set("halpe136"), keypoint_set("coco_wholebody"))
        assert reading.missing == ()
        assert reading.target.names[20] == reading.source.names[reading.origins[20][0]] == "right_big_toe"

    def test_places_nearby_are_taken_only_when_asked_for_and_marked(self):
        crowdpose = keypoint_set("crowdpose")
        reading = conversion(COCO_KEYPOINTS, crowdpose, approximate=True)
        assert reading.missing == ("top_head",)
        assert reading.origins[13] == (5, 6)  # the neck between the shoulders
        assert reading.approximate == (*[False] * 13, True)
        nearer = conversion(keypoint_set("pmpose"), crowdpose, approximate=True)
        assert [nearer.source.names[nearer.origins[row][0]] for row in (12, 13)] == ["mpii_head_top", "mpii_upper_neck"]

    def test_values_and_labels_of_several_are_their_mean_and_the_least_sure_flag(self):
        reading = conversion(COCO_KEYPOINTS, keypoint_set("crowdpose"), approximate=True)
        keypoints = [value for row in range(17) for value in (row, 10 * row, 2)]
        keypoints[3 * 6 + 2] = 1
        assert reading.of_labels(keypoints)[-3:] == [5.5, 55, 1]
        assert reading.of_labels(keypoints)[:3] == [5, 50, 2]
        assert reading.of_values(range(17)) == [*range(5, 17), 5.5]

    def test_sets_of_ones_own_are_read_by_their_names(self):
        own = KeypointSet(("tail", "nose"), (0.1, 0.1), (), ())
        reading = conversion(COCO_KEYPOINTS, own)
        assert (reading.known, reading.missing, reading.origins) == ((1,), ("tail",), ((), (0,)))
