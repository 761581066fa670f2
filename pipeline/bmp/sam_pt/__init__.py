"""SAM-PT: any objects are followed through a video by points, which prompt SAM anew in each frame; no training.

"Segment Anything Meets Point Tracking" (arXiv 2307.01197), on any ``PointTracker`` and any ``PromptableSegmenter``. It
knows no detector, no pose and no file. ``loop.py`` beside it is for people in photos, ``video_loop.py`` for people in
videos.
"""

from bmp.sam_pt.engine import SAMPT as SAMPT
from bmp.sam_pt.engine import Film as Film
from bmp.sam_pt.engine import SegmentedFrame as SegmentedFrame
from bmp.sam_pt.engine import TrackedObjects as TrackedObjects
from bmp.sam_pt.interactive import Clicks as Clicks
from bmp.sam_pt.interactive import interact as interact
from bmp.sam_pt.queries import Query as Query
from bmp.sam_pt.reinitialisation import Reinitialisation as Reinitialisation
