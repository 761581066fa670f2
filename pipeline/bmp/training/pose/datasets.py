"""People of COCO-format files with everything that PMPose learns from, for MMPose's runner; it knows no network."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from mmpose.datasets.datasets.body import CocoDataset
from mmpose.registry import DATASETS
from numpy.typing import NDArray

from bmp.datasets.held_out import SHARE, Part, is_held_out
from bmp.models.openmmlab import Sample


@DATASETS.register_module()
class PeopleKeypoints(CocoDataset):  # type: ignore[misc,unused-ignore]
    """MMPose's CocoDataset, one person in each sample, with labels that MMPose drops.

    Args:
        *arguments: those of MMPose's CocoDataset.
        part: "rest" leaves out the images that ``bmp.datasets.held_out`` holds out, "held_out" has these alone; None
            for all.
        share, seed: how much is held out, and which images.
        **options: those of MMPose's CocoDataset.

    A sample also has:

    - ``keypoints_visibility``: int64 (1, K), COCO's flag: 0 not labelled, 1 hidden, 2 visible.
    - ``neighbours``: the segmentations, as in the file, of the other people whose boxes overlap the person's.

    ``segmentation`` stays as it is in the file; ``LoadPersonMask`` decodes it. ``bbox`` is the file's own, not cut off
    one pixel before the border, as the pipeline's boxes are edges. ``raw_ann_info`` is left out: it costs more to copy
    than the rest of the sample, and MMPose's CocoMetric reads the file itself.
    """

    def __init__(
        self, *arguments: Any, part: Part | None = None, share: float = SHARE, seed: int = 0, **options: Any
    ) -> None:
        self._part, self._share, self._seed = part, share, seed
        super().__init__(*arguments, **options)

    def parse_data_info(self, raw_data_info: Sample) -> Sample | None:
        """Make a sample of one annotation; see MMPose's BaseCocoStyleDataset."""
        sample: Sample | None = super().parse_data_info(raw_data_info)
        if sample is None:
            return None
        annotation = raw_data_info["raw_ann_info"]
        x, y, width, height = annotation["bbox"]
        flags = np.array(annotation["keypoints"][2::3], np.int64)[None]
        del sample["raw_ann_info"]
        sample.update(
            bbox=np.array([[x, y, x + width, y + height]], np.float32),
            keypoints_visibility=flags,
            # MMPose's own limits it to 1, but in the type of the coordinates.
            keypoints_visible=(flags > 0).astype(np.float32),
        )
        return sample

    def load_data_list(self) -> list[Sample]:
        """Read the file and tell each person its neighbours."""
        samples: list[Sample] = super().load_data_list()
        if self._part is not None:
            wanted = self._part == "held_out"
            samples = [each for each in samples if is_held_out(each["img_id"], self._share, self._seed) == wanted]
        groups: dict[int | str, list[Sample]] = defaultdict(list)
        for sample in samples:
            groups[sample["img_id"]].append(sample)
        for group in groups.values():
            for sample in group:
                others = (other for other in group if other is not sample and other.get("segmentation"))
                sample["neighbours"] = [
                    other["segmentation"] for other in others if _overlap(sample["bbox"][0], other["bbox"][0])
                ]
        return samples


def _overlap(first: NDArray[np.float32], second: NDArray[np.float32]) -> bool:
    return bool((np.maximum(first[:2], second[:2]) < np.minimum(first[2:], second[2:])).all())
