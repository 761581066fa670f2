"""The published keypoint sets as plain data: names, sigmas, limbs, sources. What they are for is in ``__init__.py``.

Names, sigmas and limbs are those of MMPose 1.3.2 (``configs/_base_/datasets``), a test compares them; where a set is
not MMPose's, its source says whose it is. A meaning says which place on the body a name stands for where that is not
plain from the name: annotators of different data sets put the top of a head or a neck at different locations.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Table:
    """A keypoint set. names: in order. links: pairs of names that are drawn as limbs, or pairs of numbers.

    meanings: by name, where it is not the name itself. spellings: by name, what else files call it.
    """

    title: str
    source: str
    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    links: tuple[tuple[int, int], ...]
    meanings: dict[str, str] = field(default_factory=dict)
    spellings: dict[str, tuple[str, ...]] = field(default_factory=dict)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_COCO = _words(
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
_COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
    *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
)
_BODY = (
    *((15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12)),
    *((5, 6), (5, 7), (6, 8), (7, 9), (8, 10)),
)
_COCO_LINKS = (*_BODY, (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6))

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_FACE = tuple(f"face-{number}" for number in range(68))


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{finger}{joint}" for finger in _FINGERS for joint in range(1, 5)))


def _hand_links(wrist: int, root: int) -> tuple[tuple[int, int], ...]:
    """Return the bones of a hand whose keypoints start at ``root``, from ``wrist`` to the tips."""
    return tuple(
        (wrist if joint == 0 else root + 4 * finger + joint, root + 4 * finger + joint + 1)
        for finger in range(5)
        for joint in range(4)
    )


_FACE_SIGMAS = (
    *(0.042, 0.043, 0.044, 0.043, 0.04, 0.035, 0.031, 0.025, 0.02, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041),
    *(0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012),
    *(0.009, 0.008, 0.016, 0.01, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.01, 0.034),
    *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.01, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008),
    *(0.008, 0.008, 0.01, 0.008),
)
_HAND_SIGMAS = (
    *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021),
    *(0.032, 0.02, 0.019, 0.022, 0.031),
)

_MPII = _words(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist "
    "right_elbow right_shoulder left_shoulder left_elbow left_wrist"
)
_MPII_SIGMAS = (
    *(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
)
_MPII_LINKS = (
    *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11), (11, 10)),
    *((8, 13), (13, 14), (14, 15)),
)
_MPII_MEANINGS = {name: f"mpii_{name}" for name in ("pelvis", "thorax", "upper_neck", "head_top")}

_FEET = _words("left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel")
_FEET_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_PMPOSE = (*_COCO, *_words("mpii_thorax mpii_pelvis mpii_upper_neck mpii_head_top aic_neck aic_head_top"))
_PMPOSE_SIGMAS = (*_COCO_SIGMAS, 0.079, 0.107, 0.079, 0.035, 0.079, 0.035)
_PMPOSE_LINKS = (*_COCO_LINKS, (18, 17), (17, 19), (19, 20), (21, 22))
_MULTI = "BBoxMaskPose v2, 2026: COCO's, then those of MPII and AIC that COCO lacks"

_HALPE26 = (*_COCO, *_words("head neck hip left_big_toe right_big_toe left_small_toe right_small_toe"))
_HALPE26 += _words("left_heel right_heel")
_HALPE_LINKS = (
    *((15, 13), (13, 11), (11, 19), (16, 14), (14, 12), (12, 19), (17, 18), (18, 19), (18, 5), (5, 7), (7, 9)),
    *((18, 6), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6)),
    *((15, 20), (15, 22), (15, 24), (16, 21), (16, 23), (16, 25)),
)
_HALPE_MEANINGS = {name: f"halpe_{name}" for name in ("head", "neck", "hip")}
_HALPE_SOURCE = "Li et al., PaStaNet: Toward Human Activity Knowledge Engine, CVPR 2020"
_HUMAN_ART = "Ju et al., Human-Art: A Versatile Human-Centric Dataset Bridging Natural and Artificial Scenes, CVPR 2023"

TABLES: dict[str, Table] = {
    "coco": Table("COCO", "Lin et al., Microsoft COCO, ECCV 2014", _COCO, _COCO_SIGMAS, _COCO_LINKS),
    "crowdpose": Table(
        "CrowdPose",
        "Li et al., CrowdPose: Efficient Crowded Scenes Pose Estimation and A New Benchmark, CVPR 2019",
        (*_COCO[5:], "top_head", "neck"),
        (*_COCO_SIGMAS[5:], 0.079, 0.079),
        (
            *((10, 8), (8, 6), (11, 9), (9, 7), (6, 7), (0, 6), (1, 7), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5)),
            *((12, 13), (1, 13), (0, 13)),
        ),
        {"top_head": "crowdpose_head_top", "neck": "crowdpose_neck"},
        {"top_head": ("head", "head_top")},
    ),
    "aic": Table(
        "AIC",
        "Wu et al., AI Challenger: A Large-scale Dataset for Going Deeper in Image Understanding, 2017",
        _words(
            "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
            "right_ankle left_hip left_knee left_ankle head_top neck"
        ),
        (
            *(0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642, 0.03686941),
            *(0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173),
        ),
        (
            *((2, 1), (1, 0), (0, 13), (13, 3), (3, 4), (4, 5), (8, 7), (7, 6), (6, 9), (9, 10), (10, 11), (12, 13)),
            *((0, 6), (3, 9)),
        ),
        {"head_top": "aic_head_top", "neck": "aic_neck"},
        {"head_top": ("head", "top_head")},
    ),
    "mpii": Table(
        "MPII",
        "Andriluka et al., 2D Human Pose Estimation: New Benchmark and State of the Art Analysis, CVPR 2014",
        _MPII,
        _MPII_SIGMAS,
        _MPII_LINKS,
        _MPII_MEANINGS,
        {"upper_neck": ("neck",), "head_top": ("head",)},
    ),
    "mhp": Table(
        "MHP",
        "Zhao et al., Understanding Humans in Crowded Scenes: Deep Nested Adversarial Learning and A New Benchmark for "
        "Multi-Human Parsing, ACM MM 2018",
        _MPII,
        _MPII_SIGMAS,
        _MPII_LINKS,
        _MPII_MEANINGS,
    ),
    "posetrack18": Table(
        "PoseTrack18",
        "Andriluka et al., PoseTrack: A Benchmark for Human Pose Estimation and Tracking, CVPR 2018",
        ("nose", "head_bottom", "head_top", *_COCO[3:]),
        _COCO_SIGMAS,
        (*_BODY, (0, 1), (0, 2), (1, 5), (1, 6)),
        {"head_bottom": "posetrack_head_bottom", "head_top": "posetrack_head_top"},
        {"head_bottom": ("neck", "upper_neck")},
    ),
    "humanart": Table("Human-Art", _HUMAN_ART, _COCO, _COCO_SIGMAS, _COCO_LINKS),
    "humanart21": Table(
        "Human-Art",
        _HUMAN_ART,
        (*_COCO, *_words("left_finger right_finger left_toe right_toe")),
        (*_COCO_SIGMAS, 0.089, 0.089, 0.089, 0.089),
        (*_COCO_LINKS, (15, 19), (16, 20), (9, 17), (10, 18)),
    ),
    "halpe26": Table(
        "Halpe",
        _HALPE_SOURCE,
        _HALPE26,
        (*_COCO_SIGMAS, 0.026, 0.026, 0.066, *[0.079] * 6),
        _HALPE_LINKS,
        _HALPE_MEANINGS,
    ),
    "halpe136": Table(
        "Halpe",
        _HALPE_SOURCE,
        (*_HALPE26, *_FACE, *_hand("left"), *_hand("right")),
        (*_COCO_SIGMAS, 0.08, 0.08, 0.08, *[0.089] * 6, *[0.015] * 110),
        (*_HALPE_LINKS, *_hand_links(9, 94), *_hand_links(10, 115)),
        _HALPE_MEANINGS,
    ),
    "coco_wholebody": Table(
        "COCO-WholeBody",
        "Jin et al., Whole-Body Human Pose Estimation in the Wild, ECCV 2020",
        (*_COCO, *_FEET, *_FACE, *_hand("left"), *_hand("right")),
        (*_COCO_SIGMAS, *_FEET_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
        (
            *(*_COCO_LINKS, (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22)),
            *(*_hand_links(91, 91), *_hand_links(112, 112)),
        ),
    ),
    "jhmdb": Table(
        "JHMDB",
        "Jhuang et al., Towards Understanding Action Recognition, ICCV 2013",
        _words(
            "neck belly head right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow right_knee "
            "left_knee right_wrist left_wrist right_ankle left_ankle"
        ),
        (
            *(0.025, 0.107, 0.025, 0.079, 0.079, 0.107, 0.107, 0.072, 0.072, 0.087, 0.087),
            *(0.062, 0.062, 0.089, 0.089),
        ),
        (
            *((13, 9), (9, 5), (5, 1), (1, 6), (6, 10), (10, 14), (1, 0), (0, 2), (0, 3), (3, 7), (7, 11)),
            *((0, 4), (4, 8), (8, 12)),
        ),
        {name: f"jhmdb_{name}" for name in ("neck", "belly", "head")},
        {"head": ("face",)},
    ),
    "ochuman19": Table(
        "OCHuman",
        "Zhang et al., Pose2Seg: Detection Free Human Instance Segmentation, CVPR 2019; sigmas: COCO's, for head and "
        "neck those of CrowdPose",
        _words(
            "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee "
            "right_ankle left_hip left_knee left_ankle head neck right_ear left_ear nose right_eye left_eye"
        ),
        (
            *(0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087, 0.089),
            *(0.079, 0.079, 0.035, 0.035, 0.026, 0.025, 0.025),
        ),
        (
            *((15, 18), (12, 16), (3, 4), (18, 16), (16, 13), (4, 5), (16, 17), (13, 3), (0, 1), (17, 14), (13, 0)),
            *((1, 2), (3, 9), (0, 6), (9, 6), (9, 10), (6, 7), (10, 11), (7, 8), (15, 3), (14, 0)),
        ),
        {"head": "ochuman_head", "neck": "ochuman_neck"},
    ),
    "pmpose": Table(
        "PMPose", f"{_MULTI}; sigmas: those of its training targets", _PMPOSE, _PMPOSE_SIGMAS, _PMPOSE_LINKS
    ),
    "maskpose_wb": Table(
        "MaskPose-wb",
        f"{_MULTI}, feet, five places on each hand, which are not named there, and the corners of the mouth; sigmas: "
        "COCO-WholeBody's, for the hands those of their roots",
        (
            *(*_PMPOSE, *_FEET, *(f"left_hand_{n}" for n in range(1, 6)), *(f"right_hand_{n}" for n in range(1, 6))),
            *("right_mouth_corner", "left_mouth_corner"),
        ),
        (*_PMPOSE_SIGMAS, *_FEET_SIGMAS, *[0.029] * 10, 0.008, 0.008),
        (
            *(*_PMPOSE_LINKS, (15, 23), (15, 24), (15, 25), (16, 26), (16, 27), (16, 28)),
            *(*((9, hand) for hand in range(29, 34)), *((10, hand) for hand in range(34, 39)), (39, 40)),
        ),
        {"right_mouth_corner": "face-48", "left_mouth_corner": "face-54"},
    ),
}
"""By the name that options and configs take."""

MIRRORED_FACE = (
    *((0, 16), (1, 15), (2, 14), (3, 13), (4, 12), (5, 11), (6, 10), (7, 9), (17, 26), (18, 25), (19, 24), (20, 23)),
    *((21, 22), (31, 35), (32, 34), (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46), (48, 54), (49, 53)),
    *((50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)),
)
"""The pairs of the 68 points on a face that swap in a mirrored image."""

_SHOULDERS, _HIPS = ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip")
_HEAD_TOPS = ("mpii_head_top", "aic_head_top", "posetrack_head_top", "crowdpose_head_top", "halpe_head", "ochuman_head")
_NECKS = ("mpii_upper_neck", "aic_neck", "posetrack_head_bottom", "crowdpose_neck", "halpe_neck", "ochuman_neck")

NEAR: dict[str, tuple[tuple[str, ...], ...]] = {
    **{own: tuple((other,) for other in _HEAD_TOPS if other != own) for own in _HEAD_TOPS},
    **{own: (*((other,) for other in _NECKS if other != own), _SHOULDERS) for own in (*_NECKS, "jhmdb_neck")},
    "mpii_thorax": (_SHOULDERS,),
    "mpii_pelvis": (("halpe_hip",), _HIPS),
    "halpe_hip": (("mpii_pelvis",), _HIPS),
    "jhmdb_head": (("nose",),),
    "left_toe": (("left_big_toe",),),
    "right_toe": (("right_big_toe",),),
    "left_big_toe": (("left_toe",),),
    "right_big_toe": (("right_toe",),),
}
"""Substitutes for a point on the body, the nearest first: another point, or the mean of several."""
