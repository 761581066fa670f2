"""The numbers of the literature: found by data set, kind and protocol; some of each table read off by eye."""

from pathlib import Path

import pytest

from bmp.errors import UserError
from bmp.evaluation.published import NUMBERS, POSE_DATASETS, POSE_NUMBERS, PUBLISHED_DATASETS, published


def value(dataset, method, prompts, protocol="detected_poses", kind="segm"):
    (number,) = (n for n in published(dataset, kind, protocol) if (n.method, n.prompts) == (method, prompts))
    return number.value


@pytest.mark.parametrize(
    ("dataset", "method", "prompts", "protocol", "expected"),
    [
        ("coco_val", "SAM 2.1", "MaxVisibility 6", "detected_poses", 37.7),
        ("ochuman_test", "SAM 2.1 tuned on COCO with MaxSpread", "MaxSpread 6", "detected_poses", 26.1),
        ("cihp_val", "SAM-pose2seg (COCO+CIHP with PoseMaskRefine)", "MaxVisibility 3", "detected_poses", 72.7),
        ("coco_star_val", "SAM 2.1", "MaxSpread 6", "detected_poses", 56.0),
        ("coco_star_val", "SAM-pose2seg", "MaxVisibility 3", "detected_poses", 60.3),
        ("coco_persons_val", "SAM-pose2seg", "MaxVisibility 3", "detected_poses", 60.3),
        ("coco_persons_val", "Pose2Seg", "", "ground_truth_poses", 58.2),
        ("ochuman_test", "Crowd-SAM", "", "detected_poses", 31.4),
        ("ochuman_val", "Pose2Seg", "", "ground_truth_poses", 54.4),
        ("ochuman_test", "SAM-pose2seg", "MaxSpread 3", "ground_truth_poses", 70.0),
        ("coco_val", "SAM 2.1", "MaxSpread 6, labelled box inflated", "detected_poses", 17.5),
        ("ochuman_test", "SAM-pose2seg", "MaxVisibility 3, closest of others as negative", "detected_poses", 35.2),
        ("ochuman_test", "SAM 2.1", "MaxSpread 6 by presence", "detected_poses", 23.0),
        ("cihp_val", "SAM-pose2seg", "MaxVisibility 3, cropped to 1.5x the box", "detected_poses", 60.3),
        ("ochuman_test", "BMP loop with SAM-pose2seg", "", "loop", 33.7),
    ],
)
def test_by_eye(dataset, method, prompts, protocol, expected):
    assert value(dataset, method, prompts, protocol) == expected


def test_unverified_poses():
    numbers = published("ochuman_test", "keypoints")
    assert {n.method: n.value for n in numbers} == {"ViTPose-b": 42.5, "MaskPose-b": 45.3, "BMPv1": 49, "BMPv2": 50}
    assert not any(n.verified for n in numbers)
    assert all(n.verified for n in published("ochuman_test", "segm"))


@pytest.mark.parametrize("dataset", PUBLISHED_DATASETS)
def test_lookup_divides_what_there_is(dataset):
    everything = published(dataset)
    assert everything
    assert sorted(map(id, everything)) == sorted(
        id(n)
        for kind in ("bbox", "segm", "keypoints")
        for protocol in ("loop", "detected_poses", "ground_truth_poses")
        for n in published(dataset, kind, protocol)
    )


def test_every_number_is_of_a_known_data_set_and_stands_once():
    assert {n.dataset for n in NUMBERS} == set(PUBLISHED_DATASETS)
    assert all(10 < n.value < 90 for n in NUMBERS)
    keys = [(n.method, n.prompts, n.dataset, n.kind, n.protocol) for n in NUMBERS]
    assert len(set(keys)) == len(keys)


def test_pose2segs_numbers_are_those_without_a_ranking():
    assert {number.method for number in NUMBERS if number.ranking is not None} == {"Pose2Seg"}
    assert {number.ranking for number in NUMBERS if number.method == "Pose2Seg"} == {"constant"}


def test_numbers_of_poses_stand_once_and_name_what_they_are():
    assert {n.dataset for n in POSE_NUMBERS} == set(POSE_DATASETS)
    assert all(n.kind == "keypoints" and 10 < n.value < 100 for n in POSE_NUMBERS)
    # Its abstract was read in what others write of it.
    assert {n.method for n in (*NUMBERS, *POSE_NUMBERS) if n.dataset != "ochuman_test" and not n.verified} == {
        "SAMP, ViT-B"
    }
    assert [value(key, "SAMP, ViT-B", "", "loop", "keypoints") for key in ("coco_val", "crowdpose_test")] == [
        78.1,
        70.5,
    ]
    keys = [(n.method, n.dataset, n.protocol, n.measure) for n in POSE_NUMBERS]
    assert len(set(keys)) == len(keys)
    assert [n.value for n in published("crowdpose_test", "keypoints", "loop") if n.measure == "AP hard"] == [
        50.6,
        55.3,
        58.2,
    ]


ZOO = {
    "coco_val": "coco",
    "crowdpose_test": "crowdpose",
    "aic_val": "aic",
    "mpii_val": "mpii",
    "humanart_val": "humanart",
}
OF_THE_ZOO = [number for number in (*NUMBERS, *POSE_NUMBERS) if number.source.startswith("model zoo")]


@pytest.mark.slow
@pytest.mark.parametrize("number", OF_THE_ZOO, ids=lambda n: f"{n.dataset}-{n.method}-{n.protocol}-{n.measure}")
def test_numbers_of_poses_are_in_mmposes_own_files(number):
    mmpose = pytest.importorskip("mmpose", reason="MMPose, whose model zoo the numbers are from")
    configs = Path(mmpose.__file__).parent / ".mim" / "configs"
    files = [*configs.rglob(f"{ZOO.get(number.dataset, 'coco-wholebody')}/*.yml")]
    text = "".join(file.read_text() for file in files)
    assert f": {number.value / 100:.3f}".rstrip("0") in text


def test_a_data_set_without_published_numbers():
    assert published(None) == []


def test_unknown_key():
    with pytest.raises(UserError, match="did you mean 'ochuman_test'"):
        published("ochuman-test")


def test_as_in_the_paper(shared):
    """Every number of a table is printed in the paper, beside the others of its row."""
    paper = (shared / "paper" / "sam-pose2seg.md").read_text().replace("<b>", "").replace("</b>", "")
    rows = [line.split("\t") for line in paper.splitlines() if "\t" in line]
    printed = [{float(cell) for cell in row if cell.replace(".", "").isdigit()} for row in rows]
    by_row = {}
    for number in NUMBERS:
        if "Table" in number.source:
            by_row.setdefault((number.source, number.method, number.prompts), []).append(number.value)
    for key, values in by_row.items():
        assert any(set(values) <= cells for cells in printed), (key, values)
