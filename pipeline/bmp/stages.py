"""The protocols that the loop is built from: the input and output of each stage, and nothing of its workings.

Every stage is batch first: sequences in, lists out, one entry an image, in the same order. People of an image
never change order inside a stage. Zero images and zero people are ordinary input. No stage changes its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from bmp.label_sets import KeypointSet
from bmp.label_sets.part_sets import PartSet
from bmp.structures import Detections, Image, Instances, Masks, Parts, Poses, Prompts, TrackedPeople
from bmp.structures.mask_windows import MaskWindows

ImageView = Any
"""Anything that a segmenter keeps for an image, such as an embedding; only that segmenter reads it."""


@runtime_checkable
class Detector(Protocol):
    """Finds people in images; also called on images whose known people are painted black.

    Examples:
        >>> class Nobody:
        ...     def detect(self, images):
        ...         return [Detections.empty() for _ in images]
        >>> isinstance(Nobody(), Detector)
        True
    """

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        """Return the people of each image, best first."""
        ...


@runtime_checkable
class FeatureDetector(Detector, Protocol):
    """A detector on the features of an image encoder, which takes known people out of these.

    The loop shows it the images themselves in every round, never painted ones, so that they are encoded once.
    """

    def detect_further(self, images: Sequence[Image], known: Sequence[MaskWindows]) -> list[Detections]:
        """Return the people of each image, best first, but for those whose masks are in ``known``."""
        ...


@runtime_checkable
class PoseEstimator(Protocol):
    """Gives each detected person a skeleton, conditioned on the detection's mask where there is one."""

    keypoints: KeypointSet

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Return poses row by row for ``people``, in pixels of the images."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """Gives each person a mask, guided by poses. The segmenter itself chooses which keypoints become prompts."""

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        """Prepare each image, once, for any number of calls to ``segment``."""
        ...

    def segment(
        self,
        views: Sequence[ImageView],
        people: Sequence[Detections],
        poses: Sequence[Poses],
        others: Sequence[Poses],
    ) -> list[Masks]:
        """Return masks row by row for ``people``; ``others`` are poses of those in the image who have one."""
        ...


@runtime_checkable
class PromptableSegmenter(Protocol):
    """A segmenter that can be asked by points, boxes and earlier answers, whatever they are about."""

    def open(self, images: Sequence[Image]) -> list[ImageView]:
        """Prepare each image, once, for any number of questions."""
        ...

    def logits(
        self,
        views: Sequence[ImageView],
        prompts: Sequence[Prompts],
        previous: Sequence[Tensor] | None = None,
        *,
        multimask: bool = False,
    ) -> list[tuple[Tensor, Tensor]]:
        """Answer the prompts of each image, all of them together.

        Returns mask logits float32 (N, h, w) of the segmenter's own size, above 0 inside, and predicted IoU (N,) in
        [0, 1]. previous: logits of an earlier answer about the same rows, which the prompts are to correct. multimask:
        the best of several masks, for prompts that may mean more than one thing.
        """
        ...

    def bits(self, view: ImageView, logits: Tensor) -> Tensor:
        """Turn logits (N, h, w) into masks of the view's image: bool (N, H, W)."""
        ...

    def enlarge(self, view: ImageView, logits: Tensor) -> Tensor:
        """Turn logits (N, h, w) into logits of the view's image: float32 (N, H, W), above 0 where ``bits`` is true."""
        ...


@runtime_checkable
class ImageEncoder(Protocol):
    """A part that stages share: an image goes through its network once, for all of them."""

    def levels(self, images: Sequence[Image]) -> list[tuple[Tensor, ...]]:
        """Return each image's features, float (1, C, h, w), the finest first."""
        ...


@runtime_checkable
class Prompter(Protocol):
    """A part of point-prompted segmenters: turns the poses of one image into prompts."""

    def prompts(self, people: Detections, poses: Poses, others: Poses) -> Prompts:
        """Return prompts row by row, always the same number of points a person, padded with label -1."""
        ...


@runtime_checkable
class Suppressor(Protocol):
    """Decides who is a duplicate of whom among the people of one image."""

    def keep(self, people: Detections, poses: Poses) -> Tensor:
        """Return the rows to keep: int64, ascending, unique, best on the CPU, where the loop takes them."""
        ...


@runtime_checkable
class PartParser(Protocol):
    """Tells the body parts of people within their masks, when the loop has finished with their image."""

    label_set: PartSet

    def parse(self, images: Sequence[Image], people: Sequence[Instances]) -> list[Parts]:
        """Return the parts of each image's people; a person with an empty mask has none."""
        ...


@runtime_checkable
class OverlapRule(Protocol):
    """Decides who of an image has the pixels that several masks claim."""

    def resolve(self, masks: Masks, rounds: Tensor) -> Tensor | MaskWindows:
        """Return bits bool (N, H, W), or windows, in the order of ``masks``, which are as they were segmented.

        rounds: int64 (N,), the round from 1 in which each person was found.
        """
        ...


@runtime_checkable
class PaintRule(Protocol):
    """Decides what later rounds do not see of the people of an image who are known."""

    def painted(self, people: Instances) -> MaskWindows:
        """Return the pixels that are painted out of each person, row by row, within the windows of the masks.

        The masks of ``people`` are as they were segmented: they may overlap.
        """
        ...


@runtime_checkable
class PointTracker(Protocol):
    """Follows points through a video, one frame at a time and without knowing what they are on.

    Every point is followed for itself: rows may be added, dropped, moved and reordered between two steps.

    Attributes:
        delay: how many frames later than it is handed in a frame is answered, 0 for at once.
        recovers: whether a point that was not seen may be found again. Where it is false, such a point is lost: what
            the tracker says of it later is about something else.
    """

    delay: int
    recovers: bool

    def start(self, image: Image) -> Any:
        """Begin with the first frame: return what the tracker keeps from frame to frame, and only it reads."""
        ...

    def step(self, state: Any, previous: Image, image: Image, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Follow points to the next frame; ``state`` is brought up to date.

        Args:
            state: from ``start``; for each part of a video that is followed by itself another one.
            previous: the frame that was handed in before, of the same size.
            image: the newest frame. After the last frame of a video, a tracker with a delay is handed this once more
                as often as it is late.
            points: float32 (M, 2), x and y in pixels, M may be 0. They lie in the frame before the one that is
                answered: ``previous`` without delay, and the frame ``delay`` frames before that with one.

        Returns:
            For the frame that is answered, ``image`` or the one ``delay`` frames before it: where the points are,
            float32 (M, 2); whether they are seen, bool (M,); and how doubtful that is, float32 (M,), in a unit of the
            tracker's own, infinite where it has nothing to say. Points that are not seen have their last or supposed
            places. The first ``delay`` steps answer nothing: the points come back as they were, not seen.
        """
        ...


@runtime_checkable
class TrackPrompter(Protocol):
    """Turns the points by which people are followed through a video into prompts of a segmenter."""

    def prompted_masks(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople) -> Masks:
        """Return masks row by row for people of one frame, decoded together; they may lie over each other.

        view: the frame, as ``segmenter.open`` returned it. people: in this frame, each with at least three points that
        are seen; their masks are those of the frame before, moved.
        """
        ...


@runtime_checkable
class RememberingPrompter(TrackPrompter, Protocol):
    """One that also knows how people looked in earlier frames; each video has one of its own."""

    def fresh(self) -> RememberingPrompter:
        """Return one with the same settings that remembers nothing."""
        ...

    def remember(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople, found: Tensor) -> None:
        """Learn of a look at a frame.

        view: as for ``prompted_masks``, which may have been called for the same frame before. people: all who are
        followed; who is not among them will not come again. found: bool (N,), those whose masks were just found.
        """
        ...
