"""OCHuman: photos of heavily occluded people with masks and keypoints. Knows its files and nothing of their format."""

from __future__ import annotations

import os

from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.registry import DATASETS

_SPLITS = ("val", "test")
_SOURCE = (
    "as the authors of OCHuman publish it (Zhang et al., Pose2Seg: Detection Free Human Instance Segmentation, CVPR "
    "2019)"
)


@DATASETS.register_module()
class OCHuman(PeopleDataset):
    """OCHuman val or test, or one of its re-labelled variants.

    Many people in these photos have no label, so that detections of them count as false positives; the variants FL
    and Pose label (nearly) everybody.

    Args:
        root: folder with ``ochuman_coco_format_{val,test}_range_0.00_1.00.json`` and ``images/``.
        split: "val" or "test".
        variant: None for the original labels, else what the report calls the labels in ``annotations``, such as "FL" or
            "Pose". Published numbers are for the original labels and do not stand beside a variant's.
        annotations: another JSON for the same images, seen from ``root``; a variant needs it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str = "test",
        variant: str | None = None,
        annotations: str | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise UserError(f"OCHuman: there is no split {split!r}; there is: {', '.join(_SPLITS)}")
        name = f"OCHuman{f'-{variant}' if variant else ''} {split}"
        if variant and not annotations:
            raise UserError(f"{name}: its labels are a file of their own; give it with --set dataset.annotations=FILE")
        file = annotations or f"ochuman_coco_format_{split}_range_0.00_1.00.json"
        folder = find_root(name, root, (file, "images"), _SOURCE)
        super().__init__(folder / file, folder / "images", name)
        self.published = None if variant else f"ochuman_{split}"
