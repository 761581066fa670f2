"""Segmenters, one file a backend, and prompting; importing this registers them all, without their libraries."""

from bmp.segmenters import lite as lite
from bmp.segmenters import prompting as prompting
