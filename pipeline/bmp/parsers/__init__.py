"""Part parsers, one file a kind; importing this registers them all, without their libraries."""

from bmp.parsers import schnet as schnet
from bmp.parsers import skeleton as skeleton
