"""The same people prompted, and their masks corrected, in many ways: Figures 2 to 4 of the paper.

Knows no average precision, no table and no file.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, labelled_images
from bmp.errors import UserError
from bmp.evaluation.pose_to_mask import annotation_rows, check_labelled, nobody_else
from bmp.io.annotations import Annotation, labelled_mask, labelled_people
from bmp.segmenters.point_sampling import Keypoints, MaskRefine, Points
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.stages import Prompter
from bmp.structures import Masks, Poses, Prompts

Setting = TypeVar("Setting", bound=Hashable)

_ANY_ERROR = MaskRefine(ground_truth_probability=0)


def prompt_curve(
    batches: Iterable[Sequence[PosedImage]], segmenter: PromptedSegmenter, prompters: Mapping[Setting, Prompter]
) -> Iterator[tuple[Setting, Annotation]]:
    """Prompt for the same people in several ways (paper Figures 3 and 4; also Tables 4, 5 and 6).

    Poses are estimated once and images encoded once for all ways, and a prompt that several ways give, such as
    ``MaxSpread`` with 5 and with 6 points for a person with 5 visible keypoints, is decoded once::

        prompters = {("MaxSpread", count): MaxSpread(count) for count in range(1, 9)}

    Args:
        batches: from ``detected_poses`` or ``true_poses``.
        segmenter: one prompted with points; its own prompter is not used.
        prompters: the ways, by the name of the setting.

    Yields:
        The setting and a row as ``segment_poses`` has them: of a batch of images all people in the first setting,
        then in the second and so on. Overlaps are not resolved.

    Raises:
        UserError: for a segmenter without point prompts, and for a prompter that chose unlabelled keypoints.
    """
    _check_prompted(segmenter)
    for images in batches:
        views = segmenter.open([posed.image for posed in images])
        prompted = [_PromptedImage(posed) for posed in images]
        for setting, prompter in prompters.items():
            requests = [image.request(prompter) for image in prompted]
            masks = segmenter.answer(views, [request.prompts[request.new] for request in requests])
            for image, request, own in zip(prompted, requests, masks, strict=True):
                yield from ((setting, row) for row in image.respond(request, own))


class _PersonPrompt(NamedTuple):
    """The prompt of one person, padding left out: equal ones get equal masks.

    person: row in the image. points: x, y and label of each. box: xyxy, empty for none.
    """

    person: int
    points: tuple[tuple[float, float, int], ...]
    box: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Request:
    """The prompts of the people of an image, and the rows among them that were not prompted like this before."""

    prompts: Prompts
    people: list[_PersonPrompt]
    new: list[int]


class _PromptedImage:
    """An image whose people are prompted in several ways, and the annotations made of them so far."""

    def __init__(self, posed: PosedImage) -> None:
        self._posed = posed
        self._others = nobody_else([posed.poses])[0]
        self._annotations: dict[_PersonPrompt, Annotation] = {}

    def request(self, prompter: Prompter) -> _Request:
        prompts = prompter.prompts(self._posed.people, self._posed.poses, self._others).to("cpu")
        check_labelled(self._posed, prompts)
        people = _person_prompts(prompts)
        return _Request(prompts, people, [row for row, own in enumerate(people) if own not in self._annotations])

    def respond(self, request: _Request, masks: Masks) -> list[Annotation]:
        """Return the annotations of all people, given the ``masks`` of those who are new."""
        annotations = annotation_rows(self._posed, request.new, masks)
        for row, annotation in zip(request.new, annotations, strict=True):
            self._annotations[request.people[row]] = annotation
        return [self._annotations[own].copy() for own in request.people]


def _person_prompts(prompts: Prompts) -> list[_PersonPrompt]:
    boxes: list[list[float]] = [[]] * len(prompts) if prompts.boxes is None else prompts.boxes.tolist()
    people = zip(prompts.points.tolist(), prompts.labels.tolist(), boxes, strict=True)
    return [
        _PersonPrompt(
            person,
            tuple((x, y, label) for (x, y), label in zip(points, labels, strict=True) if label != -1),
            tuple(box),
        )
        for person, (points, labels, box) in enumerate(people)
    ]


def correction_curve(
    people: PeopleDataset | Iterable[Sequence[PosedImage]],
    segmenter: PromptedSegmenter,
    corrections: int = 7,
    seed: int = 0,
    image_batch: int = 4,
    sampler: MaskRefine = _ANY_ERROR,
) -> Iterator[tuple[int, list[float]]]:
    """Correct each mask point by point, as SAM's training does, and see how good it gets (paper §4.3.1, Figure 2).

    Each request has a point more than the one before, and the logits of the response to that. For a single point the
    network draws three masks and the one of highest predicted IoU counts; for more it draws one. Masks are the
    segmenter's own, with its clean-up, in the size of the image.

    The points of a person depend on ``seed``, the annotation's id, the pose and the masks so far, not on other people.
    The curve is the mean over people: ``numpy.mean([ious for _, ious in correction_curve(...)], axis=0)``. With points
    as SAM-pose2seg is trained on them::

        poses = detected_poses(dataset, pose)
        correction_curve(poses, segmenter, sampler=PoseMaskRefine(ground_truth_probability=0))

    Args:
        people: a data set with masks, whose keypoints are then not used, or the batches of one from
            ``detected_poses`` or ``true_poses``. People with an empty mask are left out.
        segmenter: one prompted with points; its prompter is not used.
        corrections: how many points after the first; those that the sampler is trained with do not matter.
        seed: at least 0.
        image_batch: images in memory at a time, of a data set; batches are as they come.
        sampler: chooses the points: ``MaskRefine``, or ``Pose1MaskRefine`` and ``PoseMaskRefine`` for people with
            poses. By default no correction is from the true mask for its own sake.

    Yields:
        The id of the annotation, and the mask's IoU with the ground truth after 0, 1, ... ``corrections`` corrections.

    Raises:
        UserError: for a segmenter without point prompts, and for labels without a mask.
        ImageError: an image is broken.
    """
    _check_prompted(segmenter)
    for images in _unposed(people, image_batch) if isinstance(people, PeopleDataset) else people:
        views = segmenter.open([posed.image for posed in images])
        crowds = [_Corrected(posed, sampler, seed) for posed in images]
        previous: list[Tensor] | None = None
        for count in range(corrections + 1):
            prompts = [crowd.next_prompts() for crowd in crowds]
            responses = segmenter.logits(views, prompts, previous, multimask=count == 0)
            previous = [logits for logits, _ in responses]
            for crowd, view, logits in zip(crowds, views, previous, strict=True):
                crowd.take(segmenter.bits(view, logits))
        for crowd in crowds:
            yield from zip(crowd.ids, torch.stack(crowd.ious, dim=1).tolist(), strict=True)


class _Corrected:
    """The people of one image while their masks are corrected.

    ids: of their annotations. ious: of each response, float64 (N,).
    """

    def __init__(self, posed: PosedImage, sampler: MaskRefine, seed: int) -> None:
        ground_truth = torch.stack([labelled_mask(annotation, posed.image) for annotation in posed.annotations])
        rows = ground_truth.flatten(1).any(dim=1).nonzero().flatten().tolist()
        self.ids: list[int] = [posed.annotations[row]["id"] for row in rows]
        self.ious: list[Tensor] = []
        self._sampler = sampler
        self._ground_truth = ground_truth[rows]
        self._keypoints = Keypoints.of(posed.poses.to("cpu"))[rows]
        self._masks: Tensor | None = None
        self._generators = [_generator(seed, number) for number in self.ids]
        self._prompts = Prompts(
            torch.zeros(len(rows), 0, 2),
            torch.zeros(len(rows), 0, dtype=torch.int8),
            torch.zeros(len(rows), 0, dtype=torch.int64),
        )

    def next_prompts(self) -> Prompts:
        """Add a point for each person and return all so far."""
        # One by one, so that a person's points depend on no other.
        drawn = [self._draw(slice(row, row + 1), generator) for row, generator in enumerate(self._generators)]
        point = torch.cat([self._prompts.points.new_zeros(0, 1, 2), *(point for point, _ in drawn)])
        label = torch.cat([self._prompts.labels.new_zeros(0, 1), *(label for _, label in drawn)])
        self._prompts = Prompts(
            torch.cat([self._prompts.points, point - 0.5], dim=1),  # SAM counts pixels from the middle of the first
            torch.cat([self._prompts.labels, label], dim=1),
            torch.cat([self._prompts.keypoints, torch.full_like(label, -1, dtype=torch.int64)], dim=1),
        )
        return self._prompts

    def _draw(self, person: slice, generator: torch.Generator) -> Points:
        ground_truth, keypoints = self._ground_truth[person], self._keypoints[person]
        if self._masks is None:
            return self._sampler.first(ground_truth, keypoints, generator)
        return self._sampler.correct(ground_truth, self._masks[person], keypoints, generator)

    def take(self, bits: Tensor) -> None:
        """Take the masks bool (N, H, W) that the segmenter made of these prompts."""
        self._masks = bits.cpu()
        shared = (self._masks & self._ground_truth).flatten(1).sum(dim=1)
        joined = (self._masks | self._ground_truth).flatten(1).sum(dim=1)
        self.ious.append(shared.double() / joined)


def _generator(seed: int, number: int) -> torch.Generator:
    """Return a source of chance for the person with that id, which may be any integer."""
    words = np.random.SeedSequence([seed, number % (1 << 64)]).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(words[0]))
    torch.rand(1, generator=generator)  # curves drew it for the first point, too, and shall stay as they were
    return generator


def _unposed(dataset: PeopleDataset, image_batch: int) -> Iterator[list[PosedImage]]:
    """Yield the images with people of whom no keypoint is known."""
    for batch in labelled_images(dataset, image_batch):
        yield [
            PosedImage(image, annotations, labelled_people(annotations), _no_keypoints(len(annotations)))
            for image, annotations in batch
        ]


def _no_keypoints(people: int) -> Poses:
    nothing = torch.zeros(people, 0)
    return Poses(torch.zeros(people, 0, 2), nothing, nothing, nothing)


def _check_prompted(segmenter: object) -> None:
    if not isinstance(segmenter, PromptedSegmenter):
        raise UserError(
            f"expected a segmenter that is prompted with points, such as SAM2Segmenter, got {type(segmenter).__name__}"
        )
