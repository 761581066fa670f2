"""Detectors, one file a backend; importing this registers them all, without their libraries."""

from bmp.detectors import lite as lite
from bmp.detectors import mmdet as mmdet
from bmp.detectors import released as released
from bmp.detectors import sam as sam
from bmp.detectors import torchvision as torchvision
from bmp.detectors import transformers as transformers
