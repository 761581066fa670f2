"""Segmenters, one file a backend, and prompting; importing this registers them all, without their libraries."""

from bmp.segmenters import cropped as cropped
from bmp.segmenters import detected as detected
from bmp.segmenters import lite as lite
from bmp.segmenters import mask_prompted as mask_prompted
from bmp.segmenters import prompting as prompting
from bmp.segmenters import released as released
from bmp.segmenters import sam1 as sam1
from bmp.segmenters import sam2 as sam2
from bmp.segmenters import sam_pt as sam_pt
from bmp.segmenters import tracked as tracked
from bmp.segmenters import transformers as transformers
