"""Part parsers, one file a kind; importing this registers them all, without their libraries."""

from bmp.parsers import skeleton as skeleton
