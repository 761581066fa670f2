"""ViTPose and ViTPose+ of Hugging Face's transformers as a pose estimator; knows no other stage and no loop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.compute import autocast, dtype_of, padded_rows, prepare
from bmp.models.engines import Graph, check_engine, run_by
from bmp.models.transformers import IMAGENET_MEAN, IMAGENET_STD, Heatmaps, Portable, build_transformers
from bmp.ops.heatmaps import decode_dark_udp
from bmp.poses.crops import Windows, chunks, crop, windows_around
from bmp.registry import POSES
from bmp.structures import Detections, Image, Poses, sent

_PADDING = 1.25


@POSES.register_module()
class TransformersPose(Portable):
    """Estimates COCO's 17 keypoints with ViTPose; crops, flip test and decoding are batched on the device.

    It sees whole crops: no mask was shown to these networks in training. A keypoint's score is the height of its map,
    which stands in for visibility and presence.

    Args:
        checkpoint, config: see ``bmp.models.transformers.build_transformers``.
        dataset_index: which expert of ViTPose+ is asked: 0 COCO, 1 AiC, 2 MPII, 3 AP-10K, 4 APT-36K, 5 COCO-WholeBody.
            The keypoints are those of COCO for 0 only. None for ViTPose, which has no experts, and 0 for ViTPose+.
        device, dtype: of the network; "bfloat16" for autocast, else "float32". Decoding is in float32.
        batch_size: people at a time; with the flip test the network sees twice as many crops.
        flip_test: average with the mirrored crop.
        engine: what runs the network, see ``bmp.models.engines``.
        compile: with engine "torch", see ``bmp.models.compute.prepare``.

    Raises:
        UserError: for a network of another kind, weights that do not fit it, and values out of range.
        ImportError: where transformers is not installed.
    """

    keypoints = COCO_KEYPOINTS

    def __init__(
        self,
        checkpoint: str,
        config: str | ConfigSection | None = None,
        *,
        dataset_index: int | None = None,
        device: str = "cpu",
        batch_size: int = 32,
        flip_test: bool = True,
        dtype: str = "float32",
        engine: str = "torch",
        compile: bool = False,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many people fit in memory")
        self._dtype = dtype_of(dtype)
        check_engine("TransformersPose", engine, device=device, dtype=dtype, compile=compile)
        network = build_transformers("TransformersPose", checkpoint, config, ["VitPoseForPoseEstimation"])
        backbone = network.config.backbone_config
        experts = int(getattr(backbone, "num_experts", 1))
        if dataset_index is not None and not 0 <= dataset_index < experts:
            raise UserError(f"dataset_index: this network has {experts} experts, got {dataset_index}; the first is 0")
        expert = (dataset_index or 0) if experts > 1 else None
        count = int(network.config.num_labels)
        if count < len(COCO_KEYPOINTS):
            raise UserError(f"config: expected a model of COCO's 17 keypoints, got {count}; choose another model")
        self._height, self._width = (int(length) for length in backbone.image_size)
        self._device = torch.device(device)
        self._network = network.to(self._device)
        graph = Graph("vitpose", Heatmaps(self._network, expert), {"crops": {}}, ("heatmaps",))
        self._run = run_by(engine, graph, self._device, self._dtype)
        prepare(self._network, channels_last=False, compiled=compile)
        self._batch_size = batch_size
        # To few numbers of crops, for each of which kernels are chosen once.
        self._pads = self._device.type == "cuda" or compile
        self._flip_test = flip_test
        partner = {left: right for pair in COCO_KEYPOINTS.flip_pairs for left, right in (pair, pair[::-1])}
        self._flipped = [partner.get(index, index) for index in range(len(COCO_KEYPOINTS))]

    @torch.no_grad()
    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person; see ``bmp.stages.PoseEstimator``."""
        parts = [self._estimate(chunk) for chunk in chunks(images, people, self._batch_size, self._device)]
        rows = Poses.concat([Poses.empty(len(self.keypoints), self._device), *parts])
        counts = [len(each) for each in people]
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def _estimate(self, people: Sequence[tuple[Image, Detections]]) -> Poses:
        """Estimate poses of people of several images at once."""
        found = [windows_around(part.boxes, aspect=self._width / self._height, padding=_PADDING) for _, part in people]
        shown = [
            crop(image.pixels, each, width=self._width, height=self._height, unbiased=True)
            for (image, _), each in zip(people, found, strict=True)
        ]
        crops, windows = torch.cat(shown), Windows.concat(found)
        count = len(crops)
        if self._pads:
            crops = crops.index_select(0, sent(torch.tensor(padded_rows(count, self._batch_size)), crops.device))
        mean, std = (torch.tensor(each, device=self._device)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD))
        inputs = (crops.float() / 255 - mean) / std
        maps = self._maps(inputs)
        if self._flip_test:
            maps = (maps + self._maps(inputs.flip(-1)).flip(-1)[:, self._flipped]) * 0.5
        locations, scores = decode_dark_udp(maps[:count])
        # The centres of the first and the last cell lie on the window's edges.
        cells = locations.new_tensor((maps.shape[-1] - 1, maps.shape[-2] - 1))
        keypoints = windows.to_image(
            locations / cells * locations.new_tensor((self._width, self._height)), self._width, self._height
        )
        scores = scores.clamp(0, 1)
        return Poses(keypoints, scores, scores, scores)

    def _maps(self, inputs: Tensor) -> Tensor:
        with autocast(self._device, self._dtype):
            (maps,) = self._run(inputs)
        return maps[:, : len(self.keypoints)].float()
