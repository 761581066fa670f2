"""Metrics of MMPose's runner: Ex-OKS, and AP on what is held out. They know data samples; others do the computing."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmpose.evaluation.metrics import CocoMetric
from mmpose.registry import METRICS

from bmp.datasets.held_out import SHARE, part_of
from bmp.errors import UserError
from bmp.evaluation.metrics.ex_oks import EdgeRule, check_rule, evaluate_ex_oks
from bmp.io.annotations import CATEGORY_ID, Annotation, CocoDataset
from bmp.io.json_fields import read_json
from bmp.label_sets import COCO_KEYPOINTS

_PRESENCE = ("presence", "keypoints_probs")
_NUMBERS = {
    "AP": "ap",
    "AP .5": "ap50",
    "AP .75": "ap75",
    "AP (M)": "ap_medium",
    "AP (L)": "ap_large",
    "AR": "ar",
    "AR .5": "ar50",
    "AR .75": "ar75",
    "AR (M)": "ar_medium",
    "AR (L)": "ar_large",
}


@METRICS.register_module()
class HeldOutCocoMetric(CocoMetric):  # type: ignore[misc,unused-ignore]
    """MMPose's CocoMetric on the images of ``ann_file`` that ``bmp.datasets.held_out`` holds out, and on no others.

    Args:
        ann_file: COCO JSON of the whole.
        share, seed: how much of it is held out, and which images.
        **options: those of MMPose's CocoMetric.
    """

    def __init__(self, ann_file: str | Path, share: float = SHARE, seed: int = 0, **options: Any) -> None:
        super().__init__(ann_file=str(ann_file), **options)
        self.coco.dataset = part_of(self.coco.dataset, "held_out", share, seed)
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco.createIndex()


@METRICS.register_module()
class ExOKSMetric(BaseMetric):  # type: ignore[misc,unused-ignore]
    """COCO's numbers with Ex-OKS (ProbPose) in place of OKS, which rewards correct predictions outside the crop.

    For models that estimate presence, whose first keypoints are COCO's: ``ProbabilisticHeatmapHead`` in a top-down
    model, or ``BMPPoseEstimator``. A pose's score is that of its box times the mean score of its keypoints above 0.2.
    Reports the numbers of MMPose's ``CocoMetric``, -1 where there is none, and "mean", the Ex-OKS of the average
    labelled person; see ``bmp.evaluation.metrics.ex_oks.evaluate_ex_oks``.

    Args:
        ann_file: COCO JSON with the ground truth; keypoints outside the window have flag 3, as in CropCOCO. Only the
            category 1 counts.
        presence_threshold: the least presence at which a keypoint counts as inside, in [0, 1].
        max_detections: the number of results of an image that count, best first; 20 if None.
        held_out: share of the images that ``bmp.datasets.held_out`` holds out, which alone count; None for all images.
        rule: to what of the window a point beyond it is measured, "edge" or "corner"; see
            ``bmp.evaluation.metrics.ex_oks.EdgeRule``.
        collect_device: see MMEngine's BaseMetric.
        prefix: of the numbers' names; "ex_oks_edge" or "ex_oks_corner", as the rule is, if None.

    Raises:
        UserError: for a file that cannot be read, and a rule that there is not; while measuring, for a model that does
            not estimate presence.
    """

    def __init__(
        self,
        ann_file: str | Path,
        presence_threshold: float = 0.5,
        max_detections: int | None = None,
        held_out: float | None = None,
        rule: EdgeRule = "edge",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        check_rule(rule)
        super().__init__(collect_device=collect_device, prefix=prefix or f"ex_oks_{rule}")
        ground_truth = read_json(Path(ann_file))
        if not isinstance(ground_truth, dict) or not {"images", "annotations", "categories"} <= ground_truth.keys():
            raise UserError(f"{ann_file}: expected a COCO data set with images, annotations and categories")
        people = [row for row in ground_truth["annotations"] if row.get("category_id") == CATEGORY_ID]
        categories = [row for row in ground_truth["categories"] if row.get("id") == CATEGORY_ID]
        self.ground_truth = CocoDataset(
            info={}, images=ground_truth["images"], annotations=people, categories=categories
        )
        if held_out is not None:
            self.ground_truth = part_of(self.ground_truth, "held_out", held_out)
        self.presence_threshold = presence_threshold
        self.max_detections = max_detections
        self.rule = rule

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the results, a list of annotation rows for each sample: padding of the last batch can be cut off."""
        self.results += [_rows(sample) for sample in data_samples]

    def compute_metrics(self, results: Sequence[Sequence[Annotation]]) -> dict[str, float]:
        """Return the numbers, in [0, 1] or -1, by name."""
        rows = list(chain.from_iterable(results))
        found = evaluate_ex_oks(self.ground_truth, rows, self.presence_threshold, self.max_detections, self.rule)
        print_log(found.method, logger="current")
        values = {name: getattr(found.numbers, own) for name, own in _NUMBERS.items()} | {"mean": found.mean}
        return {name: -1.0 if value is None else float(value) for name, value in values.items()}


def _rows(sample: Mapping[str, Any]) -> list[Annotation]:
    """Make annotation rows, as ``evaluate_ex_oks`` takes them, of all people of a sample."""
    found = sample["pred_instances"]
    presence = next((found[name] for name in _PRESENCE if name in found), None)
    if presence is None:
        raise UserError(
            "ExOKSMetric: the model does not estimate presence; use MMPose's CocoMetric for it, or a model with a "
            "ProbabilisticHeatmapHead"
        )
    count = len(COCO_KEYPOINTS)
    columns = [np.asarray(found[name]) for name in ("bboxes", "bbox_scores", "keypoints", "keypoint_scores")]
    rows = []
    for box, score, points, scores, present in zip(*columns, np.asarray(presence), strict=True):
        points, scores = points[:count].astype(float), scores[:count].astype(float)
        x1, y1, x2, y2 = box.astype(float).tolist()
        rows.append(
            cast(
                Annotation,  # as far as the metric reads it
                {
                    "image_id": sample["img_id"],
                    "category_id": CATEGORY_ID,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(score),
                    "keypoints": np.column_stack((points, scores)).ravel().tolist(),
                    "keypoint_scores": scores.tolist(),
                    "keypoint_presence": present[:count].astype(float).tolist(),
                },
            )
        )
    return rows
