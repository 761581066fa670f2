"""Painting people out of an image and its labels, as a step of an MMDetection data pipeline; knows no detector."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import get_box_type
from mmdet.structures.mask import BitmapMasks
from numpy.typing import NDArray

from bmp.models.openmmlab import Sample

_REACH = 3  # of a mask's blurred edge, in standard deviations


@TRANSFORMS.register_module()
class PaintOutPeople(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Paint some people black and take them out of the ground truth, as the loop does before it detects again.

    So a detector learns to ignore the black areas and to find the people behind them. Put it after transforms of
    colours, which would turn black into grey, and before those that resize, as in the loop. Reads and replaces
    ``img`` uint8 (H, W, 3), ``gt_bboxes``, ``gt_bboxes_labels``, ``gt_masks`` (``BitmapMasks``) and
    ``gt_ignore_flags``; people with the flag stay. The number of people to paint out is drawn from one to all; those
    with larger masks are more likely to be chosen, since people in front are found first.

    Masks that a network predicts lack thin parts and miss the outline slightly, inwards or outwards. So the painted
    mask is a blurred one, cut at a threshold, both drawn for each person. Painted pixels of other people are removed
    from their masks, and their boxes shrink accordingly.

    Args:
        prob: probability that anybody is painted out of an image.
        roughness: the greatest standard deviation of the blur, as a share of the square root of the mask's area.
        min_pixels: people with fewer pixels left in their mask are removed from the ground truth.
        min_share: so are people who keep less than this share of their mask.
    """

    def __init__(
        self, prob: float = 0.5, roughness: float = 0.08, min_pixels: int = 32, min_share: float = 0.3
    ) -> None:
        super().__init__()
        self.prob = prob
        self.roughness = roughness
        self.min_pixels = min_pixels
        self.min_share = min_share

    def transform(self, results: Sample) -> Sample:
        """Return the results without those painted out; the arrays that came in are not written to.

        Randomness is NumPy's global one, as in MMDetection's own transforms.
        """
        masks = results["gt_masks"].masks.astype(bool)
        areas = masks.sum((1, 2))
        candidates = np.flatnonzero((areas > 0) & ~results["gt_ignore_flags"])
        if np.random.random() >= self.prob or not len(candidates):
            return results
        count = np.random.randint(1, len(candidates) + 1)
        chosen = np.random.choice(candidates, count, replace=False, p=areas[candidates] / areas[candidates].sum())
        painted = np.zeros(masks.shape[1:], bool)
        for person in chosen:
            painted |= _roughened(masks[person], np.random.uniform(0, self.roughness), np.random.uniform(0.25, 0.75))

        left = masks & ~painted
        remaining = left.sum((1, 2))
        stays = (remaining >= np.maximum(self.min_pixels, self.min_share * areas)) | results["gt_ignore_flags"]
        stays[chosen] = False
        kept = BitmapMasks(left[stays].astype(np.uint8), *left.shape[1:])
        boxes = results["gt_bboxes"][stays]
        shrunk = (remaining < areas)[stays] & (remaining > 0)[stays]
        if shrunk.any():
            boxes = boxes.clone()
            boxes[shrunk] = kept[shrunk].get_bboxes(get_box_type("hbox")[1])
        return {
            **results,
            "img": np.where(painted[..., None], np.uint8(0), results["img"]),
            "gt_bboxes": boxes,
            "gt_bboxes_labels": results["gt_bboxes_labels"][stays],
            "gt_masks": kept,
            "gt_ignore_flags": results["gt_ignore_flags"][stays],
        }


def _roughened(mask: NDArray[np.bool_], roughness: float, threshold: float) -> NDArray[np.bool_]:
    """Return where the blurred ``mask`` is above ``threshold``: below a half it grows, above it shrinks."""
    sigma = roughness * float(np.sqrt(mask.sum()))
    if sigma < 0.3:  # nothing that a threshold on whole pixels would show
        return mask
    reach = int(np.ceil(_REACH * sigma))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = np.s_[max(rows[0] - reach, 0) : rows[-1] + reach + 1, max(columns[0] - reach, 0) : columns[-1] + reach + 1]
    soft = cv2.GaussianBlur(
        mask[window].astype(np.float32), (2 * reach + 1,) * 2, sigma, borderType=cv2.BORDER_REPLICATE
    )
    rough = np.zeros_like(mask)
    rough[window] = soft > threshold
    return rough
