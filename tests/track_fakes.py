"""Parts of the loop over a video whose right answer is plain: squares of one bright colour each that move steadily."""

from dataclasses import dataclass, field

import numpy as np
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
from sam_pt_fakes import RedSAM

from bmp.datasets.videos import FrameLabels, LabelledFrame, VideoDataset, boxes_around
from bmp.errors import UserError
from bmp.loop import Loop
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.structures import Frame
from bmp.video_loop import VideoLoop


@dataclass
class FakeTracker:
    """Moves each point with the square that it is on, which it sees if the same colour is there.

    speeds: of the squares by their numbers, pixels a frame; still ones are left out.
    """

    speeds: dict[int, tuple[float, float]] = field(default_factory=dict)
    steps: list[int] = field(default_factory=list)
    delay = 0
    recovers = False

    def start(self, image):
        return None

    def step(self, state, previous, image, points):
        self.steps.append(len(points))
        before, after = (_colours(frame) for frame in (previous, image))
        colours = _at(before, points)
        speeds = torch.zeros(256, 2)
        for number, speed in self.speeds.items():
            speeds[200 + number] = torch.tensor(speed)
        found = points + speeds[colours.clamp(min=0)]
        return found, _at(after, found) == colours, torch.zeros(len(points))


@dataclass
class LateTracker(FakeTracker):
    """The same, but for an answer that comes so many frames later."""

    delay: int = 2

    def start(self, image):
        return [image]

    def step(self, state, previous, image, points):
        assert state[-1] is previous
        state.append(image)
        if len(state) <= self.delay + 1:
            return points, torch.zeros(len(points), dtype=torch.bool), torch.zeros(len(points))
        answer = super().step(None, state[0], state[1], points)
        state.pop(0)
        return answer


def _colours(image):
    """The colour of each pixel, or the brightest beside it: the joints at a square's corners lie just outside of it."""
    red = image.pixels[..., 0].float()
    around = torch.nn.functional.max_pool2d(red[None], 3, stride=1, padding=1)[0]
    return torch.where(red > 0, red, around).long()


def _at(colours, points):
    height, width = colours.shape
    x, y = points.floor().long().unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return colours[y.clamp(0, height - 1), x.clamp(0, width - 1)].where(inside, -1)


def film(*squares, count, height=48, width=64, start=0):
    """Frames of squares, each a function from the number of the frame to its box, or None where it is not there."""
    frames = []
    for number in range(start, start + count):
        boxes = [square(number) or (0, 0, 0, 0) for square in squares]
        frames.append(Frame(number, number / 25, scene(*boxes, height=height, width=width)))
    return frames


def moving(box, dx=0, dy=0):
    """A square that starts in ``box`` and moves by so many pixels a frame."""
    x1, y1, x2, y2 = box
    return lambda number: (x1 + dx * number, y1 + dy * number, x2 + dx * number, y2 + dy * number)


def image_loop(**parts):
    given = {"detector": FakeDetector(), "pose": FakePose(), "segmenter": FakeSegmenter(), "suppressor": KeepAll()}
    return Loop(**(given | parts))


def video_loop(speeds=None, **options):
    return VideoLoop(FakeTracker(speeds or {}), TrackedKeypoints(), **({"keyframe_every": 12} | options))


def boxes_of(found):
    """The box of each person of a frame, by id."""
    boxes = found.people.instances.detections.boxes.round().int().tolist()
    return {number: tuple(box) for number, box in zip(found.people.ids.tolist(), boxes, strict=True)}


class RedSegmenter(RedSAM):
    """Fills poses in photos, and answers points with the pixels that are as red as what they lie on."""

    def segment(self, views, people, poses, others):
        return FakeSegmenter().segment(views, people, poses, others)


class Squares(VideoDataset):
    """Videos of two squares that move, and are labelled, their middles as points.

    broken: of which video no frame can be read; None for none.
    """

    name = "squares"

    def __init__(self, count: int = 3, frames: int = 6, broken: int | None = None) -> None:
        self._count, self._frames, self._broken = count, frames, broken

    def __len__(self):
        return self._count

    def video_name(self, index):
        return f"video {index}"

    def frames(self, index):
        if index == self._broken:
            raise UserError("this one is broken")
        squares = moving((4 + index, 10, 14 + index, 30), dx=1), moving((44, 12, 54, 36), dy=-1)
        for frame in film(*squares, count=self._frames):
            red = frame.image.pixels[..., 0].numpy()
            masks = np.stack([red == 200, red == 201])
            boxes = boxes_around(masks)
            seen = np.ones(2, bool)
            yield LabelledFrame(
                frame,
                FrameLabels(np.array([1, 2]), masks, boxes, points=(boxes[:, :2] + boxes[:, 2:]) / 2, points_seen=seen),
            )


class Things(Squares):
    """The same, but nobody says that they are people."""

    of_people = False
    published = "davis_2017_val"
