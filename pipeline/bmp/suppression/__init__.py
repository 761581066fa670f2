"""Suppression of duplicates and other rules of the loop, one file each; importing this registers them all."""

from bmp.suppression import near_skeleton as near_skeleton
from bmp.suppression import oks as oks
from bmp.suppression import released as released
