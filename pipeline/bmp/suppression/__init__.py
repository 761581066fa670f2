"""Suppression of duplicates, one file a policy; importing this registers them all."""

from bmp.suppression import oks as oks
from bmp.suppression import released as released
