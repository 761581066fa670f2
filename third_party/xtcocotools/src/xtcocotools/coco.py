"""Annotation files in COCO's format: pycocotools' own class under xtcocotools' name."""

from pycocotools.coco import COCO

__all__ = ["COCO"]
