"""The OKS-shaped heatmap codec: keypoints to training targets and maps to keypoints, for MMPose's runner."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.registry import KEYPOINT_CODECS
from numpy.typing import NDArray
from torch import Tensor

from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.heatmaps import decode_dark_udp, decode_expected_oks, oks_targets

_Array = NDArray[np.float32]
_VISIBLE = 2


@KEYPOINT_CODECS.register_module()
class OKSHeatmap(BaseKeypointCodec):  # type: ignore[misc,unused-ignore]
    """Maps of the OKS that a prediction in each cell would have (ProbPose), decoded with unbiased (UDP) geometry.

    Args:
        input_size: (width, height) of the crops in pixels.
        heatmap_size: (width, height) of the maps in cells.
        sigmas: K OKS falloffs.
        decoder: "dark_udp", arg-max with DARK refinement, or "expected_oks".
        blur_kernel_size: of "dark_udp".

    Raises:
        ValueError: for another decoder.
    """

    auxiliary_encode_keys: ClassVar[set[str]] = {"keypoints_visibility"}
    field_mapping_table: ClassVar[dict[str, str]] = {"heatmaps": "heatmaps"}
    label_mapping_table: ClassVar[dict[str, str]] = {
        "keypoint_weights": "keypoint_weights",
        "keypoint_locations": "keypoint_locations",
        "presence": "presence",
        "presence_weights": "presence_weights",
        "visibility": "visibility",
        "visibility_weights": "visibility_weights",
    }

    def __init__(
        self,
        input_size: tuple[int, int],
        heatmap_size: tuple[int, int],
        sigmas: tuple[float, ...] = COCO_KEYPOINTS.sigmas,
        decoder: str = "dark_udp",
        blur_kernel_size: int = 11,
    ) -> None:
        super().__init__()
        if decoder not in ("dark_udp", "expected_oks"):
            raise ValueError(f"OKSHeatmap: expected decoder 'dark_udp' or 'expected_oks', got {decoder!r}; choose one")
        self.input_size = tuple(input_size)
        self.heatmap_size = tuple(heatmap_size)
        self.sigmas = tuple(sigmas)
        self.decoder = decoder
        self.blur_kernel_size = blur_kernel_size

    def encode(
        self,
        keypoints: _Array,
        keypoints_visible: _Array | None = None,
        keypoints_visibility: _Array | None = None,
    ) -> dict[str, _Array]:
        """Make the training targets of one person.

        Args:
            keypoints: (1, K, 2) in crop pixels.
            keypoints_visible: (1, K), above 0 where a keypoint is labelled; all by default.
            keypoints_visibility: (1, K), COCO's flag: 0 not labelled, 1 hidden, 2 visible. Without it the visibility
                is not supervised.

        Returns:
            float32 arrays. "heatmaps" (K, H, W); (1, K): "keypoint_weights", 1 for labelled keypoints inside the
            crop; "presence" and "presence_weights"; "visibility" and "visibility_weights"; and "keypoint_locations"
            (1, K, 2) in map cells.
        """
        labelled = np.ones(keypoints.shape[:2], bool) if keypoints_visible is None else keypoints_visible > 0
        (width, height), (columns, rows) = self.input_size, self.heatmap_size
        places = keypoints[..., :2] * [(columns - 1) / (width - 1), (rows - 1) / (height - 1)]
        inside = ((places > -0.5) & (places < [columns - 0.5, rows - 0.5])).all(-1)
        flags = np.zeros_like(labelled, int) if keypoints_visibility is None else keypoints_visibility
        encoded = {
            "heatmaps": oks_targets(torch.from_numpy(places[0]).float(), rows, columns, self.sigmas).numpy(),
            "keypoint_weights": labelled & inside,
            "keypoint_locations": places,
            "presence": inside,
            "presence_weights": labelled,
            "visibility": flags == _VISIBLE,
            "visibility_weights": labelled & inside & (flags > 0),
        }
        return {name: value.astype(np.float32) for name, value in encoded.items()}

    def decode_maps(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Decode float32 (B, K, H, W) on its own device: locations (B, K, 2) in crop pixels and scores (B, K)."""
        if self.decoder == "dark_udp":
            places, scores = decode_dark_udp(maps, blur_kernel_size=self.blur_kernel_size)
        else:
            places, scores = decode_expected_oks(maps, self.sigmas)
        (width, height), (columns, rows) = self.input_size, self.heatmap_size
        return places * places.new_tensor((width / (columns - 1), height / (rows - 1))), scores

    def decode(self, encoded: _Array) -> tuple[_Array, _Array]:
        """Decode one person's maps (K, H, W): keypoints (1, K, 2) in crop pixels and scores (1, K)."""
        keypoints, scores = self.decode_maps(torch.from_numpy(encoded)[None].float())
        return keypoints.numpy(), scores.numpy()

    def batch_decode(self, batch_encoded: Tensor) -> tuple[list[_Array], list[_Array]]:
        """Decode (B, K, H, W): for each person keypoints (1, K, 2) in crop pixels and scores (1, K)."""
        keypoints, scores = self.decode_maps(batch_encoded.float())
        return list(keypoints[:, None].cpu().numpy()), list(scores[:, None].cpu().numpy())
