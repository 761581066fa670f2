"""The published schedule with our models: what the reference program does, so that both are timed in one run.

Each image is encoded anew in every round, each prompt is decoded by itself, each crop goes by itself through MMPose's
own pipeline, each image by itself through MMDetection's. The networks and their weights are the same as ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import Tensor

from bmp.build import build_part
from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.configs import load_model_config
from bmp.models.openmmlab import quiet_imports, quiet_models
from bmp.models.sam2 import build_sam2
from bmp.registry import DETECTORS, POSES, SEGMENTERS
from bmp.stages import Detector, Prompter
from bmp.structures import Detections, Image, Masks, Poses


class PublishedDetector:
    """RTMDet through mmdet's inference API, one image a call; its answer is not used, see ``FixedPeople``."""

    def __init__(self, config: str, checkpoint: str, device: str = "cpu", **_: Any) -> None:
        with quiet_imports():
            from mmdet.apis import init_detector
        with quiet_models(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no checkpoint yet
            self.model = init_detector(Config(load_model_config(config, "mmdet")), None, device=device)
        if checkpoint != RANDOM:
            path = resolve(checkpoint)
            load_strictly(self.model, load_state_dict(path), file=path)

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        from mmdet.apis import inference_detector

        with quiet_models():
            for image in images:
                inference_detector(self.model, _bgr(image))
        return [Detections.empty() for _ in images]


class PublishedPose:
    """A probabilistic top-down model through mmpose's inference API, one person a call, conditioned as published."""

    keypoints = COCO_KEYPOINTS

    def __init__(self, config: str, checkpoint: str, device: str = "cpu", alpha: float = 0.25, **_: Any) -> None:
        with quiet_imports():
            import mmpose.apis  # noqa: F401 - loaded here, where its warnings are known

            from bmp.models.topdown import build_topdown

        settings = load_model_config(config, "mmpose")
        self.model = cast(Any, build_topdown(settings["model"], checkpoint).to(device))
        self.model.head.error_layers = None  # nobody asks for it, in either schedule
        size = self.model.head.decoder.input_size
        pipeline = [
            dict(type="LoadImage"),
            dict(type="GetBBoxCenterScale", padding=1.25),
            dict(type="TopdownAffine", input_size=size, use_udp=True),
            dict(type="PackPoseInputs"),
        ]
        self.model.cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        self.model.dataset_meta = {"flip_indices": [*COCO_KEYPOINTS.flip_indices, *range(17, 23)]}
        self.alpha = alpha

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        return [self._image(image, rows) for image, rows in zip(images, people, strict=True)]

    def _image(self, image: Image, people: Detections) -> Poses:
        from mmpose.apis import inference_topdown

        picture, found = _bgr(image), []
        for row in range(len(people)):
            conditioned = picture
            if people.masks is not None:
                mask = people.masks[row].cpu().numpy().astype(np.uint8)[..., None]
                conditioned = cv2.addWeighted(picture, 1 - self.alpha, picture * mask, self.alpha, 0)
            with quiet_models(), DefaultScope.overwrite_default_scope("mmpose"):
                (sample,) = inference_topdown(self.model, conditioned, people.boxes[row : row + 1].cpu().numpy())
            found.append(sample.pred_instances)

        def rows_of(name: str) -> Tensor:
            return torch.from_numpy(np.concatenate([each[name][:, :17] for each in found])).float()

        if not found:
            return Poses.empty(17)
        names = ("keypoints", "keypoint_scores", "keypoints_visible", "keypoints_probs", "keypoints_oks")
        return Poses(*(rows_of(name) for name in names))


class PublishedSegmenter:
    """SAM 2.1 through sam2's own image predictor: the image encoded in every call, people one by one."""

    def __init__(self, prompter: Prompter, checkpoint: str, model: str, device: str = "cpu", **_: Any) -> None:
        network = build_sam2(model, checkpoint).to(device)
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, which its transforms use
            self.predictor = SAM2ImagePredictor(network)
        self.prompter = prompter

    def open(self, images: Sequence[Image]) -> list[Image]:
        return list(images)

    def segment(
        self, views: Sequence[Image], people: Sequence[Detections], poses: Sequence[Poses], others: Sequence[Poses]
    ) -> list[Masks]:
        return [self._image(*image) for image in zip(views, people, poses, others, strict=True)]

    def _image(self, image: Image, people: Detections, poses: Poses, others: Poses) -> Masks:
        prompts = self.prompter.prompts(people, poses, others)
        self.predictor.set_image(image.pixels.cpu().numpy())
        bits, scores = [], []
        for points, labels in zip(prompts.points.cpu().numpy(), prompts.labels.cpu().numpy(), strict=True):
            real = labels != -1
            mask, score, _ = self.predictor.predict(points[real], labels[real], multimask_output=False)
            bits.append(mask[0] > 0)
            scores.append(float(score[0]))
        shape = (len(bits), image.height, image.width)
        return Masks(
            torch.from_numpy(np.array(bits, dtype=bool).reshape(shape)), torch.tensor(scores).clamp(0, 1), prompts
        )


class FixedPeople:
    """Runs a detector for its time and answers with given people, round by round, so that the work is known."""

    def __init__(self, detector: Detector, rounds: Sequence[Detections]) -> None:
        self.detector, self.rounds, self.calls = detector, rounds, 0

    def detect(self, images: Sequence[Image]) -> list[Detections]:
        self.detector.detect(images)
        people = self.rounds[self.calls % len(self.rounds)]
        self.calls += 1
        return [people for _ in images]


class KeepEverybody:
    """Made-up weights give alike poses; here nobody is to be lost over that."""

    def keep(self, people: Detections, poses: Poses) -> Tensor:
        return torch.arange(len(people))


def crowd(count: int, height: int, width: int) -> Detections:
    """``count`` people side by side, each overlapping the next by a third, with oval masks."""
    step = width / (count + 0.5)
    left = torch.arange(count) * step
    right = (left + 1.5 * step).clamp(max=width)
    top, bottom = torch.full((count,), height * 0.05), torch.full((count,), height * 0.95)
    boxes = torch.stack([left, top, right, bottom], dim=1)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    places = torch.stack([x, y], -1)
    masks = (((places - centres[:, None, None]) / sizes[:, None, None]) ** 2).sum(-1) < 1
    return Detections(boxes, torch.linspace(0.9, 0.6, count), masks)


def stages(pipeline: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The published counterparts of a config's detector, pose estimator and segmenter."""
    kinds = {
        "detector": (PublishedDetector, DETECTORS),
        "pose": (PublishedPose, POSES),
        "segmenter": (PublishedSegmenter, SEGMENTERS),
    }
    return {
        name: build_part({**pipeline[name], "type": kind}, registry, device) for name, (kind, registry) in kinds.items()
    }


def _bgr(image: Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.ascontiguousarray(image.pixels.cpu().numpy()[..., ::-1])
