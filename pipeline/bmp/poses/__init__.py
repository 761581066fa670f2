"""Pose estimators, one file a backend; importing this registers them all, and their libraries load when one is built."""

from bmp.poses import lite as lite
from bmp.poses import mmpose as mmpose
