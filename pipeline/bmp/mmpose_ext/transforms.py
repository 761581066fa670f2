"""Mask conditioning as a step of an MMPose data pipeline; the batched form for inference is bmp.poses.crops."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.registry import TRANSFORMS


@TRANSFORMS.register_module()
class MaskConditioning(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Darken what does not belong to the person (BMP); put it before TopdownAffine.

    Reads ``img`` uint8 (H, W, 3) and ``mask`` bool or uint8 (H, W), replaces ``img``. Where there is no mask, or an
    empty one, the image stays as it is.

    Args:
        alpha: strength in [0, 1]; pixels outside the mask are multiplied by 1 - alpha.
    """

    def __init__(self, alpha: float = 0.25) -> None:
        super().__init__()
        self.alpha = alpha

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return the results with the image conditioned; the array that came in is not written to."""
        mask = results.get("mask")
        if mask is None or not mask.any():
            return results
        image = results["img"]
        masked = image * (mask != 0)[..., None].astype(np.uint8)
        return {**results, "img": cv2.addWeighted(image, 1 - self.alpha, masked, self.alpha, 0)}
