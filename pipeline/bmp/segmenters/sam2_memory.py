"""People's masks by SAM 2's memory, in place of prompts from frame to frame. Knows no tracker and no video."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

from bmp.errors import UserError
from bmp.models.sam2_memory import ObjectMemory
from bmp.registry import TRACK_PROMPTERS
from bmp.segmenters.prompted import promptable
from bmp.segmenters.sam2 import SAM2NetworkSegmenter
from bmp.stages import ImageView, Segmenter
from bmp.structures import Masks, TrackedPeople


@TRACK_PROMPTERS.register_module()
class SAM2Memory:
    """Draws the masks of people by what SAM 2 remembers of each (Ravi et al. 2024, arXiv 2408.00714).

    The mask with which somebody was last found in a look is given, and the frames since then are remembered: the last
    six with features, fifteen with a pointer, whatever the length of the video. A person with SAM 2.1 takes about 4 MB.
    People are gone through one by one, as each has a memory of its own length.

    It asks the network of the config's ``SAM2Segmenter``, whose decoder has to know memory: SAM 2.1 does, and
    SAM-pose2seg's was tuned without. With ``memory_checkpoint`` the segmenter holds both.
    """

    def __init__(self) -> None:
        self._objects: dict[int, ObjectMemory] = {}
        self._followed: weakref.ref[ImageView] | None = None

    def fresh(self) -> SAM2Memory:
        """Return one that remembers nobody."""
        return SAM2Memory()

    def prompted_masks(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople) -> Masks:
        """Return masks row by row; see ``TrackPrompter``. Somebody who was never found gets an empty one.

        Raises ``UserError`` where the segmenter is no SAM 2.
        """
        part, own = _sam2(segmenter, view)
        features = part.memory_features(own)
        logits = torch.full((len(people), *part.logit_size), -1.0, device=part.device)
        scores = torch.zeros(len(people), device=part.device)
        for row, identity in enumerate(people.ids.tolist()):
            if identity in self._objects:
                logits[row : row + 1], scores[row : row + 1] = part.memory.follow(features, self._objects[identity])
        self._followed = weakref.ref(own)
        return Masks(part.bits(own, logits), scores)

    def remember(self, segmenter: Segmenter, view: ImageView, people: TrackedPeople, found: Tensor) -> None:
        """Take the masks of those who were found for right, and forget who is not among people any more."""
        ids = people.ids.tolist()
        self._objects = {identity: self._objects[identity] for identity in ids if identity in self._objects}
        part, own = _sam2(segmenter, view)
        features = part.memory_features(own)
        anew = self._followed is None or self._followed() is not own
        for row in found.nonzero()[:, 0].tolist():
            memory = self._objects.setdefault(ids[row], ObjectMemory())
            part.memory.give(features, people.instances.masks.bits[row], memory, anew=anew)


def _sam2(segmenter: Segmenter, view: ImageView) -> tuple[SAM2NetworkSegmenter, ImageView]:
    part, (own,) = promptable(segmenter, [view])
    if not isinstance(part, SAM2NetworkSegmenter):
        raise UserError(
            f"SAM2Memory: expected a config whose segmenter is SAM2Segmenter, got {type(part).__name__}; take "
            "sam21.py, or TrackedKeypoints in its place"
        )
    return part, own
