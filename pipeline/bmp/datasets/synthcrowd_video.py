"""SynthCrowd in motion as a data set that needs no files; knows no metric and no network."""

from __future__ import annotations

import io
from collections.abc import Iterator

import PIL.Image

from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset
from bmp.errors import UserError
from bmp.io import images
from bmp.registry import VIDEO_DATASETS
from bmp.structures import Frame
from bmp.synthcrowd.files import encode
from bmp.synthcrowd.splits import find_video_split
from bmp.synthcrowd.videos import Video, VideoFrame, plan_video


@VIDEO_DATASETS.register_module()
class SynthCrowdVideo(VideoDataset):
    """Drawn videos with exact ground truth, about 25 frames a second.

    Frames are those that ``python -m bmp.synthcrowd`` writes for the same split and seed, JPEG included.

    Args:
        split: one of ``splits.VIDEO_SPLITS``.
        count: how many videos, the first ones of the split; all if None.
        seed: another one gives other videos of the same kinds; published numbers are for 0.

    Raises:
        UserError: for a split that does not exist, and a count or seed out of range.
    """

    def __init__(self, split: str, count: int | None = None, seed: int = 0) -> None:
        known = find_video_split(split)
        if (count is not None and count < 1) or seed < 0:
            raise UserError(f"SynthCrowdVideo: expected a count from 1 and a seed from 0, got {count} and {seed}")
        self.name = f"SynthCrowd {split}"
        self.rate = known.settings.rate
        self._settings, self._count, self._seed = known.settings, known.count if count is None else count, seed

    def __len__(self) -> int:
        return self._count

    def video_name(self, index: int) -> str:
        """Return the number of the video in six digits."""
        return f"{index:06}"

    def plan(self, index: int) -> Video:
        """Return the video as it is drawn, which knows more than is labelled."""
        return plan_video(self._seed, index, self._settings)

    def frames(self, index: int) -> Iterator[LabelledFrame]:
        """Draw the frames of video ``index``."""
        return map(labelled, self.plan(index))


def labelled(drawn: VideoFrame) -> LabelledFrame:
    """Return a drawn frame as it would be read from the disk."""
    with PIL.Image.open(io.BytesIO(encode(drawn.scene.image))) as picture:
        image = images.load(picture)
    labels = FrameLabels(
        ids=drawn.ids,
        masks=drawn.scene.visible,
        boxes=drawn.scene.boxes,
        keypoints=drawn.scene.keypoints,
        points=drawn.points,
        points_seen=drawn.points_seen,
    )
    return LabelledFrame(Frame(drawn.index, drawn.time, image), labels)
