"""Labelled people to masks, without a detector: the paper's Tables 1 to 7 and Figures 2 to 4. Knows no metric.

Everybody labelled gets one pose, estimated in the labelled box or taken from the labels, and the pose prompts the
segmenter. Annotation rows come out, which ``bmp.evaluation.metrics.coco`` turns into AP::

    rows = list(segment_poses(detected_poses(dataset, pose), segmenter))
    ap = evaluate_coco(dataset.ground_truth, to_results(rows, "segm", segm_score="iou"), "segm").ap

Nobody was detected, so no detection's score ranks the masks, and average precision depends on what does: ``RANKINGS``.
All functions are generators over batches of images: memory does not grow with the data set. Each image with somebody in
it is loaded once, the others never. Crowd regions are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import PosedImage, labelled_images, with_detected_masks
from bmp.errors import UserError
from bmp.io.annotations import Annotation, labelled_people, to_annotations
from bmp.ops.masks import exclusive
from bmp.stages import Detector, PoseEstimator, Segmenter
from bmp.structures import Instances, Masks, Poses, Prompts

RANKINGS = {"iou": "by predicted IoU", "constant": "constant"}
"""What ranks masks of given people, with words for people: scores of ``bmp.evaluation.metrics.coco.SEGM_SCORES``.

"constant" is Pose2Seg's protocol: everybody scores 1, so that results stand in the order of the ground truth. Numbers
of the two do not compare: the same masks of drawn people had an AP of 17.0 by predicted IoU and of 10.2 unranked.
"""


def detected_poses(
    dataset: PeopleDataset, pose: PoseEstimator, image_batch: int = 4, detector: Detector | None = None
) -> Iterator[list[PosedImage]]:
    """Estimate one pose in each labelled box (paper Tables 1, 2, 5, 6, 7), ``image_batch`` images at a time.

    Args:
        dataset: whose people they are.
        pose: the estimator. ProbPose, the paper's, takes boxes alone.
        image_batch: images at a time.
        detector: makes the masks that an estimator like PMPose is conditioned on, see ``with_detected_masks``; the
            segmenter never sees them.

    Raises:
        UserError: the detector makes no masks.
        ImageError: an image is broken.
    """
    for batch in labelled_images(dataset, image_batch):
        images = [image for image, _ in batch]
        people = [labelled_people(annotations) for _, annotations in batch]
        shown = people if detector is None else with_detected_masks(images, people, detector)
        poses = pose.estimate(images, shown)
        yield [
            PosedImage(image, annotations, boxes, own, keypoints=pose.keypoints)
            for (image, annotations), boxes, own in zip(batch, people, poses, strict=True)
        ]


def segment_poses(
    batches: Iterable[Sequence[PosedImage]], segmenter: Segmenter, *, resolve_overlaps: bool = False
) -> Iterator[Annotation]:
    """Return a mask for each person's pose: a row a person, in the order of the ground truth.

    Args:
        batches: from ``detected_poses`` or ``true_poses``.
        segmenter: any. All people of an image are segmented together, as in a round of the loop.
        resolve_overlaps: give each pixel to the mask of highest predicted IoU, as the loop does and the paper's
            pose-to-mask numbers do not.

    Yields:
        Annotations as ``bmp.io.annotations.to_annotations`` makes them, unrounded, ``id`` being that of the labelled
        person.

    Raises:
        UserError: the segmenter's prompter chose unlabelled keypoints.
    """
    for images in batches:
        views = segmenter.open([posed.image for posed in images])
        people, poses = [posed.people for posed in images], [posed.poses for posed in images]
        for posed, masks in zip(images, segmenter.segment(views, people, poses, nobody_else(poses)), strict=True):
            if masks.prompts is not None:
                check_labelled(posed, masks.prompts)
            if resolve_overlaps:
                masks = masks.replaced(bits=exclusive(masks.windows, masks.scores))
            yield from annotation_rows(posed, range(len(masks)), masks)


def nobody_else(poses: Sequence[Poses]) -> list[Poses]:
    """Return for each image the poses of people who have a mask already."""
    return [Poses.empty(own.keypoints.shape[1], own.device) for own in poses]


def annotation_rows(posed: PosedImage, rows: Sequence[int], masks: Masks) -> list[Annotation]:
    """Return annotations of the people ``rows`` with these masks."""
    found = torch.ones(len(rows), dtype=torch.int64)
    instances = Instances(posed.people[rows], posed.poses[rows], masks, found)
    annotations = to_annotations(instances, 0, posed.keypoints, exact=True)
    for own, row in zip(annotations, rows, strict=True):
        labelled = posed.annotations[row]
        own["id"], own["image_id"] = labelled["id"], labelled["image_id"]
    return annotations


def check_labelled(posed: PosedImage, prompts: Prompts) -> None:
    """Raise ``UserError`` where a prompt is an unlabelled keypoint."""
    if posed.unlabelled is None:
        return
    own = prompts.keypoints.cpu()
    wrong = ((own >= 0) & posed.unlabelled.take_along_dim(own.clamp(min=0), dim=1)).any(dim=1)
    if wrong.any():
        annotation = posed.annotations[int(wrong.int().argmax())]
        raise UserError(
            f"annotation {annotation['id']}: prompted with a keypoint that is not labelled; "
            "labelled poses need a prompter with a threshold above 0, MaxSpread(count=3) for one"
        )
