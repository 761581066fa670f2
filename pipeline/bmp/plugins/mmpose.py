"""The whole pipeline as a pose estimator of MMPose; knows MMPose's data samples, no data set and no stage.

    custom_imports = dict(imports=["bmp.plugins.mmpose"])

is all that an MMPose config needs: it registers ``BMPPoseEstimator``, ``AnyNumPyPoseVisualizer`` and everything of
``bmp.models.pmpose``, and changes nothing else in the process; ``TopdownPoseEstimator`` becomes a subclass of itself
that knows ``freeze_backbone``. Ready configs are in ``configs/mmpose``.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from bmp.api import BMP
from bmp.build import build
from bmp.config import ConfigSection, load_config
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.models.openmmlab import quiet_imports, quiet_models
from bmp.structures import Image, Instances

with quiet_imports():  # MMPose may start here, and mmpretrain cannot be imported beside transformers without
    from mmpose.registry import MODELS, VISUALIZERS
    from mmpose.structures import PoseDataSample
    from mmpose.visualization import PoseLocalVisualizer


class BMPPoseEstimator(BaseModel):  # type: ignore[misc,unused-ignore]
    """Whole images in, everybody in them out, for MMPose's runner and inferencers.

    Its data pipeline is ``LoadImage`` and ``PackPoseInputs``; images of one batch may differ in size. Weights are those
    that the pipeline's config names: a checkpoint of MMEngine is neither needed nor of use. The stages are built where
    MMEngine runs its models, and anew where the model is moved to another device.

    Args:
        pipeline: name or path of a BMP config, such as "bmp_v2.py", or what ``pipeline`` is in such a config.
        overrides: values of the config to replace, as ``--set`` does: ``{"pipeline.rounds": 1}``. Nested dicts mean
            the same, since that is what MMEngine makes of ``--cfg-options model.overrides.pipeline.rounds=1``; a dict
            with a ``type`` replaces a stage.

    Raises:
        UserError: for any mistake in the config, with what exists instead.
        ImportError: where a stage needs an extra that is not installed.
    """

    def __init__(self, pipeline: str | Path | ConfigSection, overrides: ConfigSection | None = None) -> None:
        super().__init__()  # with MMEngine's preprocessor, which moves images and leaves them as they are
        if isinstance(pipeline, Mapping):
            if overrides:
                raise UserError("overrides: they are for a config's name or path; change the pipeline's dict itself")
            self._config: ConfigSection = {"pipeline": pipeline}
        else:
            self._config = load_config(pipeline, dict(_dotted(overrides or {})))
        self._place(torch.device(get_device()))
        self._dataset_meta: dict[str, Any] | None = _metainfo(self._loop.pose.keypoints)
        # MMPose's inferencers write into it. Nothing is read from it: there are no heatmaps of an image to show.
        self.test_cfg: dict[str, Any] = {}
        # The stages keep their networks to themselves; without any parameter PyTorch refuses to distribute a model.
        self.no_weights = nn.Parameter(torch.zeros(1))

    @property
    def dataset_meta(self) -> dict[str, Any] | None:
        """MMPose's description of the keypoints, by which its visualizers draw and its metrics measure.

        Set another one if you like; None changes nothing, as MMPose's inferencers say None where the config has no
        training.
        """
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, value: dict[str, Any] | None) -> None:
        if value is not None:
            self._dataset_meta = value

    def forward(
        self,
        inputs: Sequence[Tensor],
        data_samples: Sequence[PoseDataSample] | None = None,
        mode: str = "tensor",
    ) -> list[PoseDataSample]:
        """Find the people of a batch of images.

        Args:
            inputs: an image each, uint8 (3, H, W) BGR, as MMPose's ``LoadImage`` and ``PackPoseInputs`` give them.
            data_samples: one for each image; new ones if None.
            mode: has to be "predict".

        Returns the data samples, which get ``pred_instances``, NumPy arrays in pixels of the images, a row a person:

        - ``bboxes`` float32 (N, 4) xyxy, ``bbox_scores`` float64 (N,), the detector's;
        - ``keypoints`` float32 (N, K, 2), ``keypoint_scores`` float64 (N, K);
        - ``keypoints_visible`` float32 (N, K): the score, or 0 where the keypoint is absent (presence below 0.5).
          MMPose draws keypoints above its ``kpt_thr``, hidden ones, too;
        - ``visibility``, ``presence`` float32 (N, K), ``masks`` bool (N, H, W), ``mask_scores`` float32 (N,), the
          predicted IoU, ``round`` int64 (N,), in which the person was found.

        Raises:
            UserError: for another mode, and for images that are not as described.
        """
        if mode != "predict":
            raise UserError(
                f"BMPPoseEstimator: the loop only predicts, mode {mode!r} is not for it; train its stages one by one "
                "and name their weights in the pipeline's config"
            )
        loop = self._on(self.data_preprocessor.device)
        images = [_to_image(each) for each in inputs]
        samples = [PoseDataSample() for _ in images] if data_samples is None else list(data_samples)
        for result in loop.run(images):
            samples[result.index].pred_instances = _to_instances(result.people)
        return samples

    def _on(self, device: torch.device) -> BMP:
        """Return the loop, with stages on ``device``."""
        if device != self._device:
            self._place(device)
        return self._loop

    def _place(self, device: torch.device) -> None:
        self._device = device
        self._loop = build(self._config, str(device))


class AnyNumPyPoseVisualizer(PoseLocalVisualizer):  # type: ignore[misc,unused-ignore]
    """MMPose's PoseLocalVisualizer, which by itself draws no keypoint with NumPy 2.4 and later. Same arguments."""

    def draw_circles(self, center: Any, radius: Any, *args: Any, **options: Any) -> Any:
        """Draw a keypoint; MMPose gives the radius as an array (1,), of which NumPy makes no number any more."""
        if self.backend == "opencv":
            radius = np.asarray(radius).reshape(())
        return super().draw_circles(center, radius, *args, **options)


def _to_image(pixels: Tensor) -> Image:
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] != 3:
        raise UserError(
            f"BMPPoseEstimator: expected images as uint8 (3, H, W), got {pixels.dtype} {tuple(pixels.shape)}; "
            "let the data pipeline be LoadImage and PackPoseInputs"
        )
    return Image(pixels.flip(0).permute(1, 2, 0).contiguous())


def _to_instances(people: Instances) -> InstanceData:
    detections, poses, masks = people.detections, people.poses, people.masks
    return InstanceData(
        bboxes=detections.boxes.cpu().numpy(),
        # In double precision, as CocoMetric averages and multiplies them in their own type.
        bbox_scores=detections.scores.cpu().numpy().astype(np.float64),
        keypoints=poses.keypoints.cpu().numpy(),
        keypoint_scores=poses.scores.cpu().numpy().astype(np.float64),
        keypoints_visible=torch.where(poses.flags() > 0, poses.scores, 0).cpu().numpy(),
        visibility=poses.visibility.cpu().numpy(),
        presence=poses.presence.cpu().numpy(),
        masks=masks.bits.cpu().numpy(),
        mask_scores=masks.scores.cpu().numpy(),
        round=people.round.cpu().numpy(),
    )


def _dotted(values: ConfigSection, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Turn nested dicts into dotted keys, down to plain values and to dicts with a type."""
    for name, value in values.items():
        if isinstance(value, Mapping) and "type" not in value:
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _metainfo(keypoints: KeypointSet) -> dict[str, Any]:
    from mmpose.datasets.datasets.utils import parse_pose_metainfo

    with quiet_models():
        if keypoints.names == COCO_KEYPOINTS.names:
            return parse_pose_metainfo({"from_file": "configs/_base_/datasets/coco.py"})  # type: ignore[no-any-return]
        flips, names = keypoints.flip_indices, keypoints.names
        colours = [_SIDES[name.partition("_")[0]] for name in names]
        return parse_pose_metainfo(  # type: ignore[no-any-return]
            {
                "dataset_name": keypoints.name or "own",
                "paper_info": {"title": keypoints.source},
                "keypoint_info": {
                    number: {
                        "name": name,
                        "id": number,
                        "color": colours[number],
                        "type": "",
                        "swap": names[flips[number]] if flips[number] != number else "",
                    }
                    for number, name in enumerate(names)
                },
                "skeleton_info": {
                    number: {"link": (names[start], names[end]), "id": number, "color": colours[end]}
                    for number, (start, end) in enumerate(keypoints.skeleton)
                },
                "joint_weights": [1.0] * len(names),
                "sigmas": list(keypoints.sigmas),
            }
        )


_SIDES: defaultdict[str, list[int]] = defaultdict(lambda: [51, 153, 255], left=[0, 255, 0], right=[255, 128, 0])
"""MMPose's colours of sides, by the first word of a keypoint's name."""


def _register() -> None:
    try:
        with quiet_imports():
            importlib.import_module("bmp.models.pmpose")
        MODELS.register_module(module=BMPPoseEstimator)
        VISUALIZERS.register_module(module=AnyNumPyPoseVisualizer)
    except KeyError as error:
        raise UserError(
            f"bmp.plugins.mmpose: {error.args[0]}, and BMP brings its own under that name; take the other one out of "
            "custom_imports, or use it in another process"
        ) from error


_register()
