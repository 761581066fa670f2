"""SAMP's shared mode as a pose estimator: poses from the features that an encoder has of the whole image.

It does not know how the encoder works, nor who else asks it. All beyond the abstract of the paper is a reconstruction;
see ``bmp.models.samp``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet
from bmp.models.compute import autocast, dtype_of
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.models.samp import SharedSAMP, heatmap_sigma, normalized, probabilities, samp_network
from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks
from bmp.poses.crops import Windows, crop, crop_masks, windows_around
from bmp.registry import POSES
from bmp.stages import ImageEncoder, PoseEstimator
from bmp.structures import Detections, Image, Poses

_PADDING = 1.25


class SharedSAMPose:
    """The pose estimator of an existing network and encoder.

    Args:
        network: what it calls, on the device that it stays on.
        encoder: has the features of the images.
        batch_size: people at a time.
        dtype: number format of the network, by autocast; sampling and decoding are in float32.

    Attributes:
        keypoints: COCO's.
    """

    keypoints: KeypointSet = COCO_KEYPOINTS

    def __init__(
        self,
        network: SharedSAMP,
        encoder: ImageEncoder,
        *,
        batch_size: int = 32,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size: expected at least 1, got {batch_size}; choose how many people fit in memory")
        self.network = network
        self.encoder = encoder
        self._batch_size = batch_size
        self._dtype = dtype

    @property
    def _device(self) -> torch.device:
        return self.network.encoder_digest.device

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person, conditioned on the mask where there is one; see ``PoseEstimator``.

        Images without people are not encoded.
        """
        if len(images) != len(people):
            raise ValueError(f"estimate: expected people of {len(images)} images, got {len(people)}; pair them up")
        counts = [len(each) for each in people]
        if not any(counts):
            return [Poses.empty(len(self.keypoints), self._device) for _ in images]
        with torch.inference_mode():
            rows = Poses.concat([self._to_poses(*chunk) for chunk in self._chunks(images, people)])
        ends = torch.tensor(counts).cumsum(0).tolist()
        return [rows[end - count : end] for count, end in zip(counts, ends, strict=True)]

    def _chunks(
        self, images: Sequence[Image], people: Sequence[Detections]
    ) -> Iterator[tuple[list[Tensor], Tensor, Windows]]:
        """Yield features, crops and windows of at most ``batch_size`` people, across the images."""
        busy = [i for i, each in enumerate(people) if len(each)]
        parts: list[tuple[tuple[Tensor, ...], Tensor, Windows]] = []
        room = self._batch_size
        for i, levels in zip(busy, self.encoder.levels([images[i] for i in busy]), strict=True):
            projected = self.network.project([level.to(self._device) for level in levels])
            pixels, group = images[i].pixels.to(self._device), people[i].to(self._device)
            start = 0
            while start < len(group):
                part = group[start : start + room]
                parts.append(self._part(projected, pixels, part))
                start += len(part)
                room -= len(part)
                if room == 0:
                    yield _join(parts)
                    parts, room = [], self._batch_size
        if parts:
            yield _join(parts)

    def _part(
        self, projected: Sequence[Tensor], pixels: Tensor, people: Detections
    ) -> tuple[tuple[Tensor, ...], Tensor, Windows]:
        height, width = self.network.crop
        windows = windows_around(people.boxes, aspect=width / height, padding=_PADDING)
        features = self.network.sampled(projected, windows.centers, windows.sizes, (pixels.shape[0], pixels.shape[1]))
        # Edges of pixels are whole numbers here; to the crops, whole numbers are the middles of pixels.
        middles = replace(windows, centers=windows.centers - 0.5)
        colours = crop(pixels, middles, width=width, height=height, unbiased=True)
        masks = crop_masks(people.masks, middles, width=width, height=height)
        return features, normalized(colours, masks), windows

    def _to_poses(self, features: Sequence[Tensor], crops: Tensor, windows: Windows) -> Poses:
        with autocast(self._device, self._dtype):
            found = self.network(features, crops)
        scores, scalars = found.scores[0], None if found.scalars is None else found.scalars.float().sigmoid()
        # The centres of the first and the last cell lie on the window's edges.
        rows, columns = scores.shape[-2:]
        last = scores.new_tensor((columns - 1, rows - 1))
        if scalars is None:
            kernel = 2 * round((heatmap_sigma(rows) - 0.8) / 0.3 + 1) + 1  # whose Gaussian is as wide, by OpenCV's rule
            locations, peaks = decode_dark_udp(scores, blur_kernel_size=kernel)
            peaks = peaks.clamp(0, 1)
            # A heatmap knows no more of a keypoint than how high it is.
            return Poses(windows.to_image(locations / last, 1, 1), peaks, peaks, peaks)
        locations, _ = decode_expected_oks(probabilities(scores), self.keypoints.sigmas)
        presence, visibility, expected_oks = scalars
        return Poses(windows.to_image(locations / last, 1, 1), expected_oks, visibility, presence, expected_oks)


@POSES.register_module()
class SAMPose(SharedSAMPose):
    """Poses from the features of SAM 2's image encoder, which the segmenter has anyway (SAMP, shared mode).

    A person costs no network of its own but a small one on the features in the person's window and on a crop. Give it
    the encoder that the segmenter has, as a shared part of the pipeline. There is no flip test: an encoder of images is
    not mirrored with its input.

    Args:
        encoder: the encoder that the weights were trained with; another one is refused.
        checkpoint: name, path or URL for ``bmp.checkpoints.sources.resolve``, or "random" for weights made up from a
            fixed seed.
        model: a config with the arguments of ``bmp.models.samp.SharedSAMP`` as ``model``: a path, the name of one that
            comes with the package, or a dict of these arguments.
        crop: estimates the poses of small people instead, of whom the encoder sees too little; None for nobody.
        least_height: whose window is less high in the encoder's input, in pixels, is small. At 128, a map of 64 rows
            has two rows of the encoder's finest level for each of its own.
        device: torch device of the network.
        dtype: "float32", or "bfloat16" for autocast.
        batch_size: people at a time.

    Raises:
        UserError: for weights that do not fit the model or were trained with another encoder, a ``crop`` estimator of
            other keypoints, and values out of range.
    """

    def __init__(
        self,
        encoder: SAM2Encoder,
        checkpoint: str,
        model: str | Path | ConfigSection = "models/samp_b+.py",
        *,
        crop: PoseEstimator | None = None,
        least_height: float = 128.0,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        if not least_height >= 0:
            raise UserError(f"least_height: expected a number of pixels from 0 on, got {least_height}")
        network = samp_network(model)
        if checkpoint != RANDOM:
            file = resolve(checkpoint)
            load_strictly(network, load_state_dict(file), file=file)
            network.expect(encoder, checkpoint)
        if crop is not None and crop.keypoints.names != self.keypoints.names:
            raise UserError(
                f"crop: expected an estimator of {self.keypoints}, got one of {crop.keypoints}; give one of COCO's "
                "17 keypoints, as both share the result's columns"
            )
        super().__init__(
            network.to(device).eval().requires_grad_(False), encoder, batch_size=batch_size, dtype=dtype_of(dtype)
        )
        self._crop = crop
        self._least_height = least_height
        self._side = encoder.side

    def estimate(self, images: Sequence[Image], people: Sequence[Detections]) -> list[Poses]:
        """Estimate a pose for each person, small ones with the crop estimator; see ``PoseEstimator``."""
        if self._crop is None:
            return super().estimate(images, people)
        small = [self._small(image, each) for image, each in zip(images, people, strict=True)]
        large = super().estimate(images, [each[~rows] for each, rows in zip(people, small, strict=True)])
        if not any(bool(rows.any()) for rows in small):
            return large
        cropped = self._crop.estimate(images, [each[rows] for each, rows in zip(people, small, strict=True)])
        return [_merged(*image) for image in zip(small, cropped, large, strict=True)]

    def _small(self, image: Image, people: Detections) -> Tensor:
        """Tell whose window is less high than it should be, bool (N,)."""
        height, width = self.network.crop
        windows = windows_around(people.boxes, aspect=width / height, padding=_PADDING)
        return windows.sizes[:, 1] * (self._side / image.height) < self._least_height


def _join(
    parts: Sequence[tuple[tuple[Tensor, ...], Tensor, Windows]],
) -> tuple[list[Tensor], Tensor, Windows]:
    features = [torch.cat(level) for level in zip(*(features for features, _, _ in parts), strict=True)]
    return features, torch.cat([crops for _, crops, _ in parts]), Windows.concat([windows for _, _, windows in parts])


def _merged(small: Tensor, cropped: Poses, large: Poses) -> Poses:
    """Put the poses of small people and of the others back into one order."""
    rows = small.to(large.device)
    order = torch.cat([rows.nonzero()[:, 0], (~rows).nonzero()[:, 0]]).argsort()
    # What only one of the estimators tells would be missing for some rows.
    return Poses.concat([cropped.to(large.device), large])[order]
