"""Prompts and corrections for the same people in many ways: Figures 2 to 4 of the paper. Knows no metric."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, labelled_images
from bmp.errors import UserError
from bmp.evaluation.pose_to_mask import annotation_rows, check_labelled, nobody_else
from bmp.io.annotations import Row, labelled_mask, labelled_people
from bmp.segmenters.point_sampling import Keypoints, MaskRefine, Points
from bmp.segmenters.prompted import PromptedSegmenter
from bmp.stages import Prompter
from bmp.structures import Poses, Prompts

Setting = TypeVar("Setting", bound=Hashable)


_ANY_ERROR = MaskRefine(truth_probability=0)


def prompt_curve(
    batches: Iterable[Sequence[PosedImage]], segmenter: PromptedSegmenter, prompters: Mapping[Setting, Prompter]
) -> Iterator[tuple[Setting, Row]]:
    """Prompt for the same people in several ways (paper Figures 3 and 4; also Tables 4, 5 and 6).

    Poses are estimated once and images encoded once for all ways, and a question that several ways ask, such as that
    of ``MaxSpread`` with 5 and with 6 points about somebody with 5 visible keypoints, is answered once::

        prompters = {("MaxSpread", count): MaxSpread(count) for count in range(1, 9)}

    Args:
        batches: from ``detected_poses`` or ``true_poses``.
        segmenter: one prompted with points; its own prompter is not asked.
        prompters: the ways, by the name of the setting.

    Yields:
        The setting and a row as ``segment_poses`` has them: of a batch of images all people in the first setting,
        then in the second and so on. Overlaps are not resolved.

    Raises:
        UserError: for a segmenter without point prompts, and for a prompter that chose keypoints nobody labelled.
    """
    _check_prompted(segmenter)
    for images in batches:
        views = segmenter.open([posed.image for posed in images])
        nobody = nobody_else([posed.poses for posed in images])
        answered: list[dict[tuple[int, bytes], Row]] = [{} for _ in images]  # by person and question
        for setting, prompter in prompters.items():
            prompts = [
                prompter.prompts(posed.people, posed.poses, others).to("cpu")
                for posed, others in zip(images, nobody, strict=True)
            ]
            for posed, asked in zip(images, prompts, strict=True):
                check_labelled(posed, asked)
            questions = [list(enumerate(_questions(asked))) for asked in prompts]
            fresh = [
                [row for row, question in own if (row, question) not in known]
                for own, known in zip(questions, answered, strict=True)
            ]
            masks = segmenter.answer(views, [asked[rows] for asked, rows in zip(prompts, fresh, strict=True)])
            for posed, rows, mask, own, known in zip(images, fresh, masks, questions, answered, strict=True):
                known.update(zip([own[row] for row in rows], annotation_rows(posed, rows, mask), strict=True))
                yield from ((setting, dict(known[question])) for question in own)


def correction_curve(
    people: PeopleDataset | Iterable[Sequence[PosedImage]],
    segmenter: PromptedSegmenter,
    corrections: int = 7,
    seed: int = 0,
    image_batch: int = 4,
    sampler: MaskRefine = _ANY_ERROR,
) -> Iterator[tuple[int, list[float]]]:
    """Correct each mask point by point, as SAM's training does, and see how good it gets (paper §4.3.1, Figure 2).

    Each point is asked together with all points before it and the previous answer's logits. To a single point the
    network draws three masks and the one of highest predicted IoU counts; to more it draws one. Masks are the
    segmenter's own, with its clean-up, in the size of the image.

    The points of a person depend on ``seed``, the annotation's id, the pose and the answers, and on nobody else. The
    curve is the mean over people: ``numpy.mean([ious for _, ious in correction_curve(...)], axis=0)``. With points as
    SAM-pose2seg is trained on them::

        poses = detected_poses(dataset, pose)
        correction_curve(poses, segmenter, sampler=PoseMaskRefine(truth_probability=0))

    Args:
        people: a data set with masks, of whose people no keypoint is known then, or the batches of one from
            ``detected_poses`` or ``true_poses``. Somebody whose mask has no pixel is left out.
        segmenter: one prompted with points; its prompter is not asked.
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
            prompts = [crowd.ask() for crowd in crowds]
            answers = segmenter.logits(views, prompts, previous, multimask=count == 0)
            previous = [logits for logits, _ in answers]
            for crowd, view, logits in zip(crowds, views, previous, strict=True):
                crowd.hear(segmenter.bits(view, logits))
        for crowd in crowds:
            yield from zip(crowd.ids, torch.stack(crowd.ious, dim=1).tolist(), strict=True)


class _Corrected:
    """The people of one image while their masks are corrected.

    ids: their annotations'. ious: after each answer, float64 (N,).
    """

    def __init__(self, posed: PosedImage, sampler: MaskRefine, seed: int) -> None:
        ground_truth = torch.stack([labelled_mask(annotation, posed.image) for annotation in posed.annotations])
        rows = ground_truth.flatten(1).any(dim=1).nonzero().flatten().tolist()
        self.ids: list[int] = [posed.annotations[row]["id"] for row in rows]
        self.ious: list[Tensor] = []
        self._sampler = sampler
        self._ground_truth = ground_truth[rows]
        self._keypoints = Keypoints.of(posed.poses.to("cpu"))[rows]
        self._answer: Tensor | None = None
        self._generators = [_generator(seed, number) for number in self.ids]
        self._prompts = Prompts(
            torch.zeros(len(rows), 0, 2),
            torch.zeros(len(rows), 0, dtype=torch.int8),
            torch.zeros(len(rows), 0, dtype=torch.int64),
        )

    def ask(self) -> Prompts:
        """Add a point for each person and return all so far."""
        # One by one, so that a person's points depend on nobody else.
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
        if self._answer is None:
            return self._sampler.first(ground_truth, keypoints, generator)
        return self._sampler.correct(ground_truth, self._answer[person], keypoints, generator)

    def hear(self, bits: Tensor) -> None:
        """Take the masks (N, H, W) that were the answer."""
        self._answer = bits.cpu()
        shared = (self._answer & self._ground_truth).flatten(1).sum(dim=1)
        joined = (self._answer | self._ground_truth).flatten(1).sum(dim=1)
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


def _questions(prompts: Prompts) -> list[bytes]:
    """Return what each person is asked as something to look up, padding left out; ``prompts`` are on the CPU."""
    boxes = prompts.points.new_zeros(len(prompts), 0) if prompts.boxes is None else prompts.boxes
    labelled = torch.cat([prompts.points, prompts.labels[..., None].float()], dim=2)
    return [
        torch.cat([points[points[:, 2] != -1].flatten(), box]).numpy().tobytes()
        for points, box in zip(labelled, boxes, strict=True)
    ]


def _check_prompted(segmenter: Any) -> None:
    if not isinstance(segmenter, PromptedSegmenter):
        raise UserError(
            f"expected a segmenter that is prompted with points, such as SAM2Segmenter, got {type(segmenter).__name__}"
        )
