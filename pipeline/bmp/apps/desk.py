"""What the server has a model do: find people, draw corrected masks, add somebody by a box. Knows no HTTP.

All of it runs in the one thread of the model; callers get futures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from bmp.api import BMP, People
from bmp.apps.edits import checked_person, to_correction, to_poses
from bmp.apps.model_thread import BusyError, ByteCache, ModelThread, Urgency
from bmp.apps.review import Photo, Review
from bmp.errors import UserError
from bmp.io import images
from bmp.io.annotations import to_annotations
from bmp.io.json_fields import JsonObject
from bmp.io.people_file import ImageEntry
from bmp.loop import RoundTrace
from bmp.ops.agreement import with_agreement
from bmp.ops.boxes import clip
from bmp.ops.masks import to_rle
from bmp.segmenters.corrected import Correction, corrected_mask, takes_points
from bmp.structures import Detections, Image, Instances


class Desk:
    """A model at work for the page and for programs.

    While nobody asks for anything, it finds the people of photos that wait in the queue, one after the other.

    Args:
        model: called in one thread only.
        review: the queue; None for a server that only answers requests of programs.
        min_score: people with a lower detection score are left out.
        requests: how many requests of programs may wait.
        cache_bytes: of what the segmenter keeps of photos.
    """

    def __init__(
        self, model: BMP, review: Review, *, min_score: float = 0.0, requests: int = 8, cache_bytes: int = 512 * 2**20
    ) -> None:
        self._model, self._review, self._min_score = model, review, min_score
        self.takes_points = takes_points(model.segmenter)
        self.keypoints = model.pose.keypoints
        self._views = ByteCache(cache_bytes)
        capacity = {Urgency.CORRECTION: 16, Urgency.OPENED: 8, Urgency.REQUEST: requests}
        self._thread = ModelThread(capacity, self._chore)

    def predict(self, pictures: Sequence[Image], boxes: Detections | None = None) -> Future[list[People]]:
        """Find the people of pictures; ``boxes``, if any, are the only people to look at in the first one."""
        return self._thread.submit(lambda: [self._people(picture, boxes) for picture in pictures], Urgency.REQUEST)

    def find(self, key: str) -> Future[None]:
        """Find the people of a photo of the queue, unless that was done, and put them down."""
        return self._thread.submit(lambda: self._find(self._review.photo(key)), Urgency.OPENED)

    def prepare(self, key: str) -> None:
        """Have the segmenter encode a photo that somebody looks at, so that its first corrected mask comes at once."""
        photo = self._review.photo(key)
        with suppress(BusyError):  # then the first correction does it
            self._thread.submit(lambda: self._view(photo), Urgency.OPENED)

    def trace(self, key: str) -> Future[list[JsonObject]]:
        """Run the loop on a photo of the queue once more, and return what happened in each round."""
        photo = self._review.photo(key)

        def work() -> list[JsonObject]:
            found = self._model(images.load(photo.path), trace=True)
            return [_round(trace, self._model) for trace in found.trace]

        return self._thread.submit(work, Urgency.OPENED)

    def correct(
        self, key: str, row: JsonObject, others: Sequence[JsonObject], moved: Sequence[int], size: tuple[int, int]
    ) -> Future[JsonObject]:
        """Draw the mask of a person whose checked ``row`` was changed; return it, ``segmentation`` and ``mask_score``.

        Args:
            key: of the photo.
            row: the person; its mask is the one on the screen.
            others: checked poses of everybody else.
            moved: numbers of the keypoints that were placed by hand.
            size: height and width of the photo, in pixels.
        """
        photo, count = self._review.photo(key), len(self.keypoints)

        def work() -> JsonObject:
            correction = to_correction(row, moved, *size, count)
            return self._draw(photo, correction, others)

        return self._thread.submit(work, Urgency.CORRECTION)

    def add(self, key: str, box: Sequence[float], others: Sequence[JsonObject]) -> Future[JsonObject]:
        """Give somebody in a box, xyxy in pixels, a pose and a mask; return the row."""
        photo, count = self._review.photo(key), len(self.keypoints)

        def work() -> JsonObject:
            image = images.load(photo.path)
            inside = clip(torch.tensor([box], dtype=torch.float32), image.height, image.width)
            if bool((inside[:, 2:] - inside[:, :2] < 1).any()):
                raise UserError("box: expected [x1, y1, x2, y2] with at least one pixel of the photo")
            person = Detections(inside, torch.ones(1))
            (pose,) = self._model.pose.estimate([image.to(self._model.device)], [person.to(self._model.device)])
            pose = pose.to("cpu")
            none = torch.zeros(0, 2), torch.zeros(0, dtype=torch.int8)
            correction = Correction(person, pose, torch.zeros(count, dtype=torch.bool), *none)
            mask = self._draw(photo, correction, others)
            (x1, y1, x2, y2), (flags,) = inside[0].tolist(), pose.flags().tolist()
            points = [[*point, flag] for point, flag in zip(pose.keypoints[0].tolist(), flags, strict=True)]
            values = {
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "score": 1.0,
                "keypoints": [value for point in points for value in point],
                "keypoint_scores": pose.scores[0].tolist(),
                "keypoint_visibility": pose.visibility[0].tolist(),
                "keypoint_presence": pose.presence[0].tolist(),
                **mask,
                "edited": ["added"],
            }
            return checked_person(values, image.height, image.width, self.keypoints)

        return self._thread.submit(work, Urgency.CORRECTION)

    def wake(self) -> None:
        """Look at the queue of photos again."""
        self._thread.wake()

    def stop(self) -> None:
        """Finish what is being done, and refuse what waits."""
        self._thread.stop()

    def _chore(self) -> Callable[[], object] | None:
        photo = self._review.waiting()
        return None if photo is None else lambda: self._find(photo)

    def _find(self, photo: Photo) -> None:
        if self._review.state(photo.key) == "found":
            return
        notices: list[str] = []
        try:
            image, digest = images.load_with_checksum(photo.path, notice=notices.append)
            found = self._people(image, None)
        except Exception as error:
            self._review.fail(photo.key, str(error) or type(error).__name__)
            return
        said = [text.removeprefix(f"{photo.path}: ") for text in notices]
        sure = replace(found, instances=with_agreement(found.instances))
        rows = [
            {name: value for name, value in row.items() if name not in ("id", "image_id")} for row in sure.to_coco()
        ]
        self._review.found(photo.key, ImageEntry(image.height, image.width, rows, digest, said, {}))

    def _people(self, picture: Image, boxes: Detections | None) -> People:
        return self._model(picture, boxes=boxes, only_given=boxes is not None, min_score=self._min_score)

    def _view(self, photo: Photo) -> object:
        def encode() -> object:
            (view,) = self._model.segmenter.open([images.load(photo.path).to(self._model.device)])
            return view

        return self._views.get(photo.key, encode)

    def _draw(self, photo: Photo, correction: Correction, others: Sequence[JsonObject]) -> JsonObject:
        poses = to_poses(others, len(self.keypoints))
        masks = corrected_mask(self._model.segmenter, self._view(photo), correction, poses, self.keypoints)
        (mask,) = to_rle(masks.windows)
        return {"segmentation": mask, "mask_score": round(float(masks.scores[0]), 4)}


def picture_of(path: Path) -> Image:
    """Return a photo upright, for the page to show."""
    return images.load(path, notice=lambda _: None)


def _round(trace: RoundTrace, model: BMP) -> JsonObject:
    """Return the results of a round's stages as rows: who was detected, segmented, and accepted so far."""
    kept = trace.kept.tolist()
    survivors = [row - trace.known for row in kept if row >= trace.known]
    boxes, scores = trace.detections.boxes.tolist(), trace.detections.scores.tolist()
    keypoints, flags = trace.poses.keypoints.tolist(), trace.poses.flags().tolist()
    detected = [
        {
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
            "keypoints": [v for (x, y), flag in zip(points, own, strict=True) for v in (x, y, flag)],
            "kept": row in survivors,
        }
        for row, ((x1, y1, x2, y2), score, points, own) in enumerate(zip(boxes, scores, keypoints, flags, strict=True))
    ]
    segmented = []
    for mask, row in zip(to_rle(trace.segmented.bits), survivors, strict=True):
        segmented.append({**detected[row], "segmentation": mask})
    prompts = trace.segmented.prompts
    if prompts is not None:
        for person, points, labels in zip(segmented, prompts.points.tolist(), prompts.labels.tolist(), strict=True):
            person["points"] = [[*point, label] for point, label in zip(points, labels, strict=True) if label >= 0]
    accepted: Instances = trace.people.to("cpu")
    return {
        "round": trace.round,
        "detected": detected,
        "segmented": segmented,
        "accepted": to_annotations(accepted, 0, model.pose.keypoints),
    }
