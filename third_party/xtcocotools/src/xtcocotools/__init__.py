"""The part of xtcocotools 1.15 that mmpose imports, on top of pycocotools; it knows no dataset beyond COCO's format."""

__version__ = "1.15"
