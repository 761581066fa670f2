"""Numbers from the literature to stand beside ours in a report; knows nothing of how ours come about.

All are average precisions in per cent, but where a measure is named. The tables are those of the paper on SAM-pose2seg
("SAM-pose2seg: Pose-Guided Human Instance Segmentation in Crowds"). What they repeat is here once, under the table that
has it first. Numbers of other keypoint sets are those of MMPose's model zoo, as the files beside its configs state
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from bmp.errors import UserError, choices
from bmp.evaluation.metrics.coco import Kind

EvaluationProtocol = Literal["loop", "detected_poses", "ground_truth_poses"]
"""How a number came about: "loop", people are detected; the others, people are given by their labelled boxes, and masks
are prompted with the poses estimated in these or with the labelled ones."""

PUBLISHED_DATASETS = {
    "ochuman_test": "OCHuman test",
    "ochuman_val": "OCHuman val",
    "coco_val": "COCO val2017",
    "coco_star_val": "COCO* val2017",
    "coco_persons_val": "COCOPersons val2017",
    "cihp_val": "CIHP val",
}
"""Keys of the data sets that the paper has numbers for, with their names for people."""
POSE_DATASETS = {
    "crowdpose_test": "CrowdPose test",
    "aic_val": "AIC val",
    "mpii_val": "MPII val",
    "humanart_val": "Human-Art val",
    "coco_wholebody_val": "COCO-WholeBody val",
}
"""Keys of the data sets that others have published numbers of poses for."""


@dataclass(frozen=True)
class Published:
    """One number of the literature.

    method: the model or recipe. prompts: which keypoints it was prompted with, and what else; "" where it has none.
    dataset: a key of ``PUBLISHED_DATASETS`` or ``POSE_DATASETS``. kind, protocol: what was compared, and how. value: in
    per cent. source: paper and table. verified: whether it was read in that source itself, or only in what others write
    of it. note: a caveat, "" for none. ranking: what ranked the masks, a key of
    ``bmp.evaluation.pose_to_mask.RANKINGS``, None where the source does not say. measure: what the value is, if not the
    AP of that kind.
    """

    method: str
    prompts: str
    dataset: str
    kind: Kind
    protocol: EvaluationProtocol
    value: float
    source: str
    verified: bool = True
    note: str = ""
    ranking: str | None = None
    measure: str = "AP"


def published(
    dataset: str | None, kind: Kind | None = None, protocol: EvaluationProtocol | None = None
) -> list[Published]:
    """Return the published numbers for a data set, in the order of the paper; none for a data set without any.

    Args:
        dataset: a key of ``PUBLISHED_DATASETS`` or ``POSE_DATASETS``, or None for a data set without published numbers.
        kind: only those of that kind.
        protocol: only those of that protocol.

    Raises:
        UserError: the key is unknown.
    """
    keys = [*PUBLISHED_DATASETS, *POSE_DATASETS]
    if dataset is not None and dataset not in keys:
        raise UserError(f"no published numbers go by the key {dataset!r}; {choices(dataset, keys)}")
    return [
        number
        for number in (*NUMBERS, *POSE_NUMBERS)
        if number.dataset == dataset and kind in (None, number.kind) and protocol in (None, number.protocol)
    ]


def _zoo(
    dataset: str, protocol: EvaluationProtocol, measures: tuple[str, ...], **models: tuple[float, ...]
) -> list[Published]:
    """Return numbers of MMPose's model zoo: for each model a value of each measure."""
    return [
        Published(model.replace("_", "-"), "", dataset, "keypoints", protocol, value, _ZOO, note=_NMS, measure=measure)
        for model, values in models.items()
        for measure, value in zip(measures, values, strict=True)
    ]


def _samp(dataset: str, value: float) -> Published:
    note = "detector, size of the input and flips are not named"
    return Published(
        "SAMP, ViT-B", "", dataset, "keypoints", "loop", value, "abstract of SAMP", verified=False, note=note
    )


_ZOO = "model zoo of MMPose 1.3.2"
_NMS = "top-down, without a loop; alike poses suppressed at OKS 0.9 where boxes are detected"


class _Row(NamedTuple):
    """A method, its prompts, its AP on each of the table's data sets, a note, and what ranked its masks."""

    method: str
    prompts: str
    values: tuple[float | None, ...]
    note: str = ""
    ranking: str | None = None


_MEANINGS = {"coco_star_val": ("coco_star_val", "coco_persons_val")}
"""The paper says COCO* and COCOPersons of the same column: its numbers stand beside those of either."""


def _table(name: str, protocol: EvaluationProtocol, datasets: tuple[str, ...], *rows: _Row) -> list[Published]:
    return [
        Published(
            row.method,
            row.prompts,
            key,
            "segm",
            protocol,
            value,
            f"SAM-pose2seg, {name}",
            note=row.note,
            ranking=row.ranking,
        )
        for row in rows
        for dataset, value in zip(datasets, row.values, strict=True)
        if value is not None
        for key in _MEANINGS.get(dataset, (dataset,))
    ]


_TUNED, _SAM1, _SAM21 = "SAM-pose2seg", "SAM 1", "SAM 2.1"
_VISIBLE_3, _VISIBLE_6, _SPREAD_3, _SPREAD_6 = "MaxVisibility 3", "MaxVisibility 6", "MaxSpread 3", "MaxSpread 6"

_POSES = "other keypoints than those of the SAM rows"
_LOOSE = f"{_POSES}; estimates masks or reports the AP of boxes"
_ODD = "Table 1 gives these values to MaskRefine, and higher ones to SAM-pose2seg"
_SPLIT = "split not named in the source"
_ONE_PASS = f"detected boxes without a loop; {_SPLIT}"

NUMBERS: tuple[Published, ...] = (
    *_table(
        "Table 1",
        "detected_poses",
        ("coco_val", "ochuman_test", "cihp_val"),
        _Row(_SAM21, _VISIBLE_6, (37.7, 29.4, 66.4)),
        _Row(_SAM21, _SPREAD_6, (41.2, 29.5, 71.6)),
        _Row("SAM 2.1 tuned on COCO with MaxVisibility", _VISIBLE_6, (41.2, 27.0, 62.2)),
        _Row("SAM 2.1 tuned on COCO with MaxSpread", _SPREAD_6, (42.6, 26.1, 64.3)),
        _Row("SAM 2.1 tuned on COCO+CIHP with MaxSpread", _SPREAD_6, (43.3, 29.3, 67.7)),
        _Row("SAM 2.1 tuned on COCO with MaskRefine", _VISIBLE_3, (43.7, 29.8, 68.9)),
        _Row("SAM 2.1 tuned on COCO+CIHP with MaskRefine", _VISIBLE_3, (43.7, 34.1, 71.7)),
        _Row("SAM 2.1 tuned on COCO+CIHP with Pose1MaskRefine", _VISIBLE_3, (44.5, 34.5, 72.7)),
        _Row(f"{_TUNED} (COCO+CIHP with PoseMaskRefine)", _VISIBLE_3, (44.6, 34.7, 72.7)),
    ),
    *_table(
        "Table 2",
        "detected_poses",
        ("coco_val", "coco_star_val", "ochuman_test"),
        _Row("HQNet R-50", "", (None, None, 31.1), _POSES),
        _Row("Pose2Seg", "", (None, 55.5, 23.8), _POSES, "constant"),
        _Row("ExPoSeg", "", (None, 61.9, 26.8), _LOOSE),
        _Row("Occlusion C&P", "", (None, None, 28.3), _LOOSE),
        _Row("Crowd-SAM", "", (22.0, None, 31.4), _LOOSE),
        _Row("MultiPoseSeg", "", (None, 56.3, None), _POSES),
        _Row(_SAM21, _SPREAD_6, (None, 56.0, None)),
        _Row(_TUNED, _VISIBLE_3, (None, 60.3, None)),
    ),
    *_table(
        "Table 3",
        "ground_truth_poses",
        ("coco_star_val", "ochuman_test", "ochuman_val"),
        _Row("Pose2Seg", "", (58.2, 55.2, 54.4), ranking="constant"),
        _Row(_SAM21, "MaxSpread", (57.1, 70.1, 70.2)),
        _Row(_TUNED, _SPREAD_3, (61.6, 70.0, 69.5)),
    ),
    *_table(
        "Table 4",
        "detected_poses",
        ("coco_val", "cihp_val"),
        _Row(_SAM21, f"{_SPREAD_6}, labelled box", (50.5, 76.4)),
        _Row(_SAM21, f"{_SPREAD_6}, labelled box inflated", (17.5, 52.4)),
        _Row(_SAM1, f"{_SPREAD_6}, labelled box", (52.5, 72.2)),
        _Row(_SAM1, f"{_SPREAD_6}, labelled box inflated", (45.2, 59.2)),
        _Row(_SAM1, _SPREAD_6, (43.0, 65.6)),
    ),
    *_table(
        "Table 5",
        "detected_poses",
        ("coco_val", "ochuman_test", "cihp_val"),
        _Row(_SAM21, f"{_SPREAD_6}, least visible as negative", (37.5, 26.4, 66.9)),
        _Row(_SAM21, f"{_SPREAD_6}, closest of others as negative", (39.4, 27.7, 69.0)),
        _Row(_TUNED, f"{_VISIBLE_3}, least visible as negative", (41.2, 26.3, 68.8)),
        _Row(_TUNED, f"{_VISIBLE_3}, closest of others as negative", (40.4, 35.2, 70.1)),
        _Row(_TUNED, f"{_VISIBLE_3}, no negatives", (43.7, 34.1, 71.7), _ODD),
        _Row(_SAM1, f"{_SPREAD_6}, least visible as negative", (40.2, 28.1, 63.2)),
        _Row(_SAM1, f"{_SPREAD_6}, closest of others as negative", (40.9, 28.8, 66.9)),
        _Row(_SAM1, _SPREAD_6, (None, 28.1, None)),
    ),
    *_table(
        "Table 6",
        "detected_poses",
        ("coco_val", "ochuman_test", "cihp_val"),
        _Row(_SAM21, f"{_SPREAD_6} by presence", (38.2, 23.0, 61.8)),
        _Row(_SAM21, f"{_SPREAD_6} by expected OKS", (35.4, 25.3, 64.5)),
        _Row(_TUNED, f"{_VISIBLE_3} by presence", (43.8, 31.0, 69.3)),
        _Row(_TUNED, f"{_VISIBLE_3} by expected OKS", (43.9, 34.7, 72.0)),
    ),
    *_table(
        "Table 7",
        "detected_poses",
        ("coco_val", "cihp_val"),
        _Row(_SAM21, f"{_SPREAD_6}, cropped to 1.5x the box", (36.8, 61.1)),
        _Row(_TUNED, f"{_VISIBLE_3}, cropped to 1.5x the box", (34.6, 60.3)),
    ),
    Published(
        "BMP loop with SAM 2", "", "ochuman_test", "segm", "loop", 31.8, "SAM-pose2seg, Conclusions", note=_SPLIT
    ),
    Published(
        "BMP loop with SAM-pose2seg", "", "ochuman_test", "segm", "loop", 33.7, "SAM-pose2seg, Conclusions", note=_SPLIT
    ),
    *(
        Published(
            method, "", "ochuman_test", "keypoints", "loop", value, "secondary sources", verified=False, note=note
        )
        for method, value, note in (
            ("ViTPose-b", 42.5, _ONE_PASS),
            ("MaskPose-b", 45.3, _ONE_PASS),
            ("BMPv1", 49.0, f"about; {_SPLIT}"),
            ("BMPv2", 50.0, f"above; {_SPLIT}"),
        )
    ),
    *_zoo("coco_val", "loop", ("AP",), ViTPose_b=(75.7,)),
    _samp("coco_val", 78.1),
)
"""Everything that is known of the paper's data sets, table by table."""

POSE_NUMBERS: tuple[Published, ...] = (
    *_zoo(
        "crowdpose_test",
        "loop",
        ("AP", "AP easy", "AP medium", "AP hard"),
        ResNet_50=(63.7, 73.8, 65.0, 50.6),
        HRNet_w32=(67.5, 77.0, 68.7, 55.3),
        RTMPose_m=(70.6, 79.9, 71.9, 58.2),
    ),
    _samp("crowdpose_test", 70.5),
    *_zoo("aic_val", "detected_poses", ("AP",), ResNet_101=(29.4,), HRNet_w32=(32.3,)),
    *_zoo("mpii_val", "detected_poses", ("PCKh", "PCKh@0.1"), HRNet_w32=(90.0, 33.4), HRNet_w48=(90.1, 33.7)),
    *_zoo("humanart_val", "loop", ("AP",), ViTPose_s=(38.1,), ViTPose_b=(41.0,), ViTPose_l=(45.9,), ViTPose_h=(46.8,)),
    *_zoo(
        "humanart_val",
        "detected_poses",
        ("AP",),
        ViTPose_s=(73.8,),
        ViTPose_b=(75.9,),
        ViTPose_l=(78.9,),
        ViTPose_h=(80.0,),
    ),
    *_zoo(
        "coco_wholebody_val",
        "loop",
        ("AP body", "AP foot", "AP face", "AP hand", "AP whole"),
        HRNet_w32=(67.8, 54.3, 63.0, 46.7, 53.6),
        HRNet_w48=(70.1, 67.5, 65.6, 53.5, 57.9),
    ),
)
"""Numbers of poses on other keypoint sets, from MMPose's model zoo and of SAMP."""


@dataclass(frozen=True)
class PublishedVideo:
    """J&F of objects whose first masks are given, from the literature.

    method: what followed them, and with which networks. dataset: what ``VideoDataset.published`` calls it.
    region_and_contour: in per cent. rate: frames a second on the authors' GPU, None where it is not said. source,
    verified: as for ``Published``.
    """

    method: str
    dataset: str
    region_and_contour: float
    rate: float | None
    source: str
    verified: bool = True


_AUTHORS = "README of SysCV/sam-pt"
PUBLISHED_VIDEOS: tuple[PublishedVideo, ...] = (
    *(
        PublishedVideo(f"SAM-PT, PIPS, {network}", "davis_2017_val", value, rate, _AUTHORS)
        for network, value, rate in (
            ("SAM ViT-H", 76.65, 1.4),
            ("SAM ViT-L", 76.43, 1.8),
            ("SAM ViT-B", 72.18, 2.6),
            ("HQ-SAM", 77.64, 1.3),
            ("Light HQ-SAM", 71.30, 4.8),
            ("MobileSAM", 71.07, 5.5),
        )
    ),
    PublishedVideo("SAM-PT, CoTracker", "davis_2017_val", 79.4, None, "secondary sources", verified=False),
    PublishedVideo("SAM-PT, CoTracker", "davis_2016_val", 84.3, None, "secondary sources", verified=False),
    PublishedVideo("SAM-PT, CoTracker", "youtube_vos_valid", 67.5, None, "secondary sources", verified=False),
)
"""What is known of videos, data set by data set."""
