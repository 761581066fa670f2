"""Point trackers, one file a backend; importing this registers them all, without their libraries."""

from bmp.trackers import lucas_kanade as lucas_kanade
from bmp.trackers import windowed as windowed
