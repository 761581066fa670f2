"""Validates a network in training by the AP of its masks, made as at test time. Knows no network and no training."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.registry import DATASETS, METRICS
from torch.utils.data import Dataset

from bmp.config import ConfigSection
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.io.annotations import Annotation
from bmp.training.segmenter.data import PosedPeople


@DATASETS.register_module()
class PosedImages(Dataset):  # type: ignore[type-arg]
    """Images as they are and the poses of everybody in them, for ``PoseSAM`` to make masks of.

    Args:
        dataset: see ``PosedPeople``.
        keypoints: see ``PosedPeople``; labelled ones need a prompter with a threshold above 0.
        limit: only so many images with people, the first ones; None takes all.
    """

    def __init__(
        self,
        dataset: PeopleDataset | ConfigSection,
        keypoints: str | os.PathLike[str] | None = None,
        limit: int | None = None,
    ) -> None:
        self._people = PosedPeople(dataset, keypoints)
        self._length = len(self._people) if limit is None else min(limit, len(self._people))

    @property
    def metainfo(self) -> dict[str, Any]:
        """For ``SegmAP``: ``ground_truth``, the COCO dict of the images with people in them."""
        ground_truth = self._people.dataset.ground_truth
        images = [self._people.entry(index) for index in range(self._length)]
        known = {image["id"] for image in images}
        rows = [row for row in ground_truth["annotations"] if row["image_id"] in known]
        return {"classes": ("person",), "ground_truth": {**ground_truth, "images": images, "annotations": rows}}

    def __len__(self) -> int:
        """Return the number of images."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, PosedImage]:
        """Return the image as ``inputs``."""
        if not 0 <= index < self._length:
            raise IndexError(index)
        return {"inputs": self._people.load(index)}


@METRICS.register_module()
class SegmAP(BaseMetric):  # type: ignore[misc,unused-ignore]
    """COCO's AP of masks, one a labelled person, in percent: "segm/AP" and its relatives, ranked by predicted IoU.

    "segm/AP_constant" is the AP of the same masks if everybody scores 1 (Pose2Seg's protocol).
    """

    default_prefix = "segm"

    def process(self, data_batch: Any, data_samples: Sequence[list[Annotation]]) -> None:
        """Keep the annotations of each image of a batch."""
        self.results.extend(data_samples)

    def compute_metrics(self, results: list[list[Annotation]]) -> dict[str, float]:
        """Compare those of all images with the ground truth."""
        rows = [row for image in results for row in image]
        numbers, unranked = (
            evaluate_coco(self.dataset_meta["ground_truth"], to_results(rows, "segm", segm_score=ranking), "segm")
            for ranking in ("iou", "constant")
        )
        named = {
            "AP": numbers.ap,
            "AP50": numbers.ap50,
            "AP75": numbers.ap75,
            "AP_medium": numbers.ap_medium,
            "AP_large": numbers.ap_large,
            "AP_constant": unranked.ap,
        }
        return {name: 100 * value for name, value in named.items() if value is not None}
