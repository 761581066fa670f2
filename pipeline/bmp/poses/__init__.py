"""Pose estimators, one file a backend; importing this registers them all, without their libraries."""

from bmp.poses import lite as lite
from bmp.poses import mmpose as mmpose
from bmp.poses import released as released
from bmp.poses import samp as samp
from bmp.poses import torchvision as torchvision
from bmp.poses import transformers as transformers
