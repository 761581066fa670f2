"""Published sets of poses in COCO's format: CrowdPose, AIC, Human-Art, COCO-WholeBody, PoseTrack18. Knows their files.

What their keypoints mean is in ``bmp.label_sets``, how they are measured in ``bmp.evaluation.metrics.poses``. The files
are those that MMPose's documentation lists, converted to COCO's format by its authors where the originals are not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.registry import DATASETS


@dataclass(frozen=True)
class _Split:
    """Where the annotations of a split are and the folder that the names of its images start from, seen from the root.

    published: key of the published numbers.
    """

    annotations: str
    images: str
    published: str | None = None


class _Benchmark(PeopleDataset):
    """A published set of poses.

    Args:
        root: folder of the data set.
        split: one of the published ones.
        annotations: another JSON for the same images, seen from ``root``; published numbers do not stand beside it.
        keypoints: a set other than the benchmark's own, see ``PeopleDataset``.
    """

    title: ClassVar[str]
    source: ClassVar[str]
    set_name: ClassVar[str]
    splits: ClassVar[dict[str, _Split]]

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        split: str | None = None,
        annotations: str | None = None,
        keypoints: str | None = None,
    ) -> None:
        split = next(iter(self.splits)) if split is None else split
        if split not in self.splits:
            raise UserError(f"{self.title}: there is no split {split!r}; there is: {', '.join(self.splits)}")
        known, name = self.splits[split], f"{self.title} {split}"
        file = annotations or known.annotations
        folder = find_root(name, root, (file, known.images), self.source)
        meaning = self.set_name if keypoints is None else keypoints
        super().__init__(folder / file, folder / known.images, name, keypoints=meaning)
        self.published = None if annotations or meaning != self.set_name else known.published


@DATASETS.register_module()
class CrowdPose(_Benchmark):
    """CrowdPose: crowds from COCO, MPII and AIC with 14 keypoints and the crowd index of each image, no masks.

    ``num_keypoints`` counts visible keypoints; people without any are left out of the benchmark for poses.
    """

    title = "CrowdPose"
    set_name = "crowdpose"
    source = (
        "as MMPose's documentation of CrowdPose lists it (Li et al., CrowdPose: Efficient Crowded Scenes Pose "
        "Estimation and A New Benchmark, CVPR 2019)"
    )
    splits: ClassVar = {
        "test": _Split("annotations/mmpose_crowdpose_test.json", "images", "crowdpose_test"),
        "val": _Split("annotations/mmpose_crowdpose_val.json", "images"),
        "train": _Split("annotations/mmpose_crowdpose_train.json", "images"),
    }


_AIC_VAL = "ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911"
_AIC_TRAIN = "ai_challenger_keypoint_train_20170902/keypoint_train_images_20170902"


@DATASETS.register_module()
class AIC(_Benchmark):
    """AI Challenger's keypoints: 14 of them, narrow sigmas, no areas, no masks."""

    title = "AIC"
    set_name = "aic"
    source = "as MMPose's documentation of AIC lists it (Wu et al., AI Challenger, 2017)"
    splits: ClassVar = {
        "val": _Split("annotations/aic_val.json", _AIC_VAL, "aic_val"),
        "train": _Split("annotations/aic_train.json", _AIC_TRAIN),
    }


@DATASETS.register_module()
class HumanArt(_Benchmark):
    """Human-Art: people in paintings, cartoons, sculptures and photos, with COCO's 17 keypoints.

    ``keypoints="humanart21"`` measures 21, with the middles of hands and feet.
    """

    title = "Human-Art"
    set_name = "humanart"
    source = (
        "as its authors publish it (Ju et al., Human-Art: A Versatile Human-Centric Dataset Bridging Natural and "
        "Artificial Scenes, CVPR 2023)"
    )
    splits: ClassVar = {
        "val": _Split("HumanArt/annotations/validation_humanart.json", ".", "humanart_val"),
        "train": _Split("HumanArt/annotations/training_humanart.json", "."),
    }


@DATASETS.register_module()
class COCOWholeBody(_Benchmark):
    """COCO-WholeBody: 133 keypoints of bodies, feet, faces and hands on COCO's photos; masks where there are."""

    title = "COCO-WholeBody"
    set_name = "coco_wholebody"
    source = (
        "as its authors publish it, on COCO's photos (Jin et al., Whole-Body Human Pose Estimation in the Wild, ECCV "
        "2020)"
    )
    splits: ClassVar = {
        "val": _Split("annotations/coco_wholebody_val_v1.0.json", "val2017", "coco_wholebody_val"),
        "train": _Split("annotations/coco_wholebody_train_v1.0.json", "train2017"),
    }


@DATASETS.register_module()
class PoseTrack18(_Benchmark):
    """PoseTrack18: frames of videos with 17 keypoints, each frame by itself; the AP of joints needs boxes of heads."""

    title = "PoseTrack18"
    set_name = "posetrack18"
    source = (
        "as MMPose's documentation of PoseTrack18 lists it (Andriluka et al., PoseTrack: A Benchmark for Human Pose "
        "Estimation and Tracking, CVPR 2018)"
    )
    splits: ClassVar = {
        "val": _Split("annotations/posetrack18_val.json", "."),
        "train": _Split("annotations/posetrack18_train.json", "."),
    }
