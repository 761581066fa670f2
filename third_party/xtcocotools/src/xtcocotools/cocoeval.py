"""COCO's evaluation for keypoints other than the 17 of COCO and for annotations without areas, over pycocotools.

It knows how mmpose names the parts of a whole body and the CrowdPose benchmark; matching and averaging are
pycocotools'.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import cocoeval
from pycocotools.coco import COCO

_PARTS = {
    "keypoints": ("keypoints",),
    "keypoints_body": ("keypoints",),
    "keypoints_crowd": ("keypoints",),
    "keypoints_foot": ("foot_kpts",),
    "keypoints_face": ("face_kpts",),
    "keypoints_lefthand": ("lefthand_kpts",),
    "keypoints_righthand": ("righthand_kpts",),
    "keypoints_wholebody": ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts"),
}
"""Which fields of an annotation hold the keypoints that a kind of evaluation compares."""

_AREA_OF_BOX = 0.53
"""A person's usual share of the area of its box: stands in for the area where annotations have none."""

_CROWD_LEVELS = ((0.0, 0.1), (0.1, 0.8), (0.8, 1.0))
"""CrowdPose's easy, medium and hard images: from (excluded, but for 0) and to (included) which crowd index."""


class COCOeval(cocoeval.COCOeval):  # type: ignore[misc]
    """pycocotools' evaluation with the keypoints' spreads and the source of areas given.

    Args:
        cocoGt: Ground truth.
        cocoDt: Results, made by `cocoGt.loadRes`.
        iouType: `segm`, `bbox`, `keypoints`, or `keypoints_` followed by body, foot, face, lefthand, righthand,
            wholebody or crowd. Crowd reports nine numbers in `stats`: AP, AP .5, AP .75, AR, AR .5, AR .75, and AP
            on the images of low, medium and high crowd index.
        sigmas: Spread of each compared keypoint, (K,); COCO's 17 if left out.
        use_area: Compare at the annotated area; otherwise at 0.53 of the box's.

    Raises:
        ValueError: `iouType` is unknown.
    """

    def __init__(
        self,
        cocoGt: COCO | None = None,  # noqa: N803
        cocoDt: COCO | None = None,  # noqa: N803
        iouType: str = "keypoints",  # noqa: N803
        sigmas: Sequence[float] | None = None,
        use_area: bool = True,
    ) -> None:
        if iouType not in ("segm", "bbox", *_PARTS):
            raise ValueError(f"COCOeval expects iouType to be one of segm, bbox, {', '.join(_PARTS)}; got {iouType!r}")
        super().__init__(cocoGt, cocoDt, "keypoints" if iouType in _PARTS else iouType)
        self._kind = iouType
        self._use_area = use_area
        if sigmas is not None and iouType in _PARTS:
            self.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        if iouType == "keypoints_crowd":  # CrowdPose has no classes of area
            self.params.areaRng, self.params.areaRngLbl = self.params.areaRng[:1], self.params.areaRngLbl[:1]

    def _prepare(self) -> None:
        """Collect what is compared; annotations stay as they are, what differs from them is in copies."""
        if self._kind not in _PARTS:
            super()._prepare()
            return
        chosen = {"imgIds": self.params.imgIds, "catIds": self.params.catIds if self.params.useCats else []}
        self._gts: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._dts: defaultdict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        for found, source in ((self._gts, self.cocoGt), (self._dts, self.cocoDt)):
            for annotation in source.loadAnns(source.getAnnIds(**chosen)):
                compared = self._compared(annotation, is_ground_truth=found is self._gts)
                found[annotation["image_id"], annotation["category_id"]].append(compared)
        self.evalImgs: list[Any] = []
        self.eval: dict[str, Any] = {}

    def _compared(self, annotation: dict[str, Any], is_ground_truth: bool) -> dict[str, Any]:
        """Return the annotation with the compared part as its keypoints, and the ground truth's area and `ignore`."""
        keypoints = [value for part in _PARTS[self._kind] for value in annotation[part]]
        compared = {**annotation, "keypoints": keypoints}
        if is_ground_truth:
            labelled = sum(visibility > 0 for visibility in keypoints[2::3])
            if _PARTS[self._kind] == ("keypoints",):
                labelled = annotation.get("num_keypoints", labelled)
            compared["ignore"] = bool(annotation.get("iscrowd", 0)) or labelled == 0
            if not self._use_area:
                width, height = annotation["bbox"][2:]
                compared["area"] = width * height * _AREA_OF_BOX
        return compared

    def summarize(self) -> None:
        """Print the averages and keep them in `stats`; `accumulate` comes first."""
        if self._kind != "keypoints_crowd":
            super().summarize()
            return
        self.stats = np.array([*self._mean_precision_and_recall(), *self._precision_by_crowd_index()])
        names = ("AP", "AP .5", "AP .75", "AR", "AR .5", "AR .75", "AP easy", "AP medium", "AP hard")
        for name, value in zip(names, self.stats, strict=True):
            print(f" {name:<10} = {value:.3f}")

    def _mean_precision_and_recall(self) -> list[float]:
        """Return AP, AP .5, AP .75, AR, AR .5, AR .75; -1 where there is nothing to find."""
        thresholds = (slice(None), np.isclose(self.params.iouThrs, 0.5), np.isclose(self.params.iouThrs, 0.75))
        return [_mean_of_known(self.eval[kind][rows]) for kind in ("precision", "recall") for rows in thresholds]

    def _precision_by_crowd_index(self) -> list[float]:
        """Return AP over the easy, the medium and the hard images."""
        images = [self.cocoGt.imgs[number] for number in self._paramsEval.imgIds]
        precisions = []
        for low, high in _CROWD_LEVELS:
            inside = [low < image["crowdIndex"] <= high or image["crowdIndex"] == low == 0 for image in images]
            level = copy.copy(self)
            level.params = copy.copy(self.params)
            level.params.imgIds = [image["id"] for image, is_inside in zip(images, inside, strict=True) if is_inside]
            level._paramsEval = level.params
            # One entry for each category, area range and image, images fastest.
            level.evalImgs = [entry for number, entry in enumerate(self.evalImgs) if inside[number % len(images)]]
            level.accumulate()
            precisions.append(_mean_of_known(level.eval["precision"]))
        return precisions


def _mean_of_known(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return the mean of the entries that pycocotools has filled in, -1 if there is none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
