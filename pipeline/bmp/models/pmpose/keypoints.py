"""PMPose's 23 keypoints and how people labelled for COCO, MPII or AIC get them; it knows no image and no network.

They are COCO's 17, then those of the other two data sets that COCO lacks. Shoulders, elbows, wrists, hips, knees and
ankles are taken for the same in all three; necks and tops of heads are not, as they are labelled at other places.
Names, sides, falloffs and colours are MMPose's own.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.registry import KEYPOINT_CODECS, TRANSFORMS

from bmp.errors import UserError
from bmp.models.openmmlab import Sample, quiet_models
from bmp.models.pmpose.codecs import OKSHeatmap

SOURCES = ("coco", "mpii", "aic")
"""The data sets with people that can be converted, by MMPose's names."""
ADDED = ("mpii_thorax", "mpii_pelvis", "mpii_upper_neck", "mpii_head_top", "aic_neck", "aic_head_top")
"""What comes after COCO's keypoints: the data set, and the keypoint's name in it."""

_OF_SAMPLES = ("flip_indices", "flip_pairs", "upper_body_ids", "lower_body_ids", "dataset_keypoint_weights")


@cache
def pmpose_metainfo() -> dict[str, Any]:
    """Describe the 23 keypoints as MMPose's ``parse_pose_metainfo`` describes those of a data set. Do not change it."""
    found = copy.deepcopy(_metainfo("coco"))
    found["dataset_name"] = "pmpose"
    for number, name in enumerate(ADDED, found["num_keypoints"]):
        source, _, own = name.partition("_")
        theirs = _metainfo(source)
        place = theirs["keypoint_name2id"][own]
        found["keypoint_id2name"][number], found["keypoint_name2id"][name] = name, number
        found["flip_indices"].append(number)  # all of them lie on the body's axis
        found["upper_body_ids" if place in theirs["upper_body_ids"] else "lower_body_ids"].append(number)
        for key in ("keypoint_colors", "dataset_keypoint_weights", "sigmas"):
            found[key] = np.concatenate((found[key], theirs[key][place : place + 1]))
    found["num_keypoints"] += len(ADDED)
    return found


@cache
def mapping_to_pmpose(source: str) -> tuple[tuple[int, int], ...]:
    """Return which keypoint of a data set is which of the 23, as MMPose's ``KeypointConverter`` takes it.

    Args:
        source: one of ``SOURCES``.

    Returns:
        pairs of a number in the data set and one among the 23, by the former.

    Raises:
        UserError: for another data set.
    """
    if source not in SOURCES:
        raise UserError(
            f"PMPoseKeypoints: cannot convert people of the data set {source!r}, there is: {', '.join(SOURCES)}; "
            "give its keypoints COCO's order and metainfo"
        )
    numbers = pmpose_metainfo()["keypoint_name2id"]
    pairs = ((own, numbers.get(f"{source}_{name}", numbers.get(name))) for own, name in _names(source))
    return tuple((own, number) for own, number in pairs if number is not None)


@TRANSFORMS.register_module()
class PMPoseKeypoints(BaseTransform):  # type: ignore[misc,unused-ignore]
    """Turn the labels of a person from COCO, MPII or AIC into the 23 keypoints of PMPose.

    Put it before all that moves or reads keypoints, also into the pipeline of a ``CombinedDataset`` of these.
    Keypoints that the person's data set lacks count as not labelled, and nothing is learned from them.

    Reads ``dataset_name``; ``keypoints`` (N, K, 2), ``keypoints_visible`` (N, K) and, where there is one,
    ``keypoints_visibility`` (N, K). Replaces these, and what the sample says of sides and halves of the body.
    """

    def transform(self, results: Sample) -> Sample:
        """Return the results with 23 keypoints; the arrays that came in are not written to."""
        source, target = np.transpose(mapping_to_pmpose(results["dataset_name"]))
        metainfo = pmpose_metainfo()
        converted = dict(results)
        for key in ("keypoints", "keypoints_visible", "keypoints_visibility"):
            if (values := results.get(key)) is not None:
                shape = (values.shape[0], metainfo["num_keypoints"], *values.shape[2:])
                converted[key] = np.zeros(shape, values.dtype)
                converted[key][:, target] = values[:, source]
        return {**converted, **{key: copy.deepcopy(metainfo[key]) for key in _OF_SAMPLES}}


def pmpose_heatmap(**arguments: Any) -> OKSHeatmap:
    """Build the codec ``OKSHeatmap`` with the falloffs of the 23 keypoints."""
    return OKSHeatmap(sigmas=tuple(pmpose_metainfo()["sigmas"].tolist()), **arguments)


KEYPOINT_CODECS.register_module(name="PMPoseHeatmap", module=pmpose_heatmap)


@cache
def _metainfo(source: str) -> dict[str, Any]:
    with quiet_models():
        return parse_pose_metainfo({"from_file": f"configs/_base_/datasets/{source}.py"})  # type: ignore[no-any-return]


def _names(source: str) -> list[tuple[int, str]]:
    return sorted(_metainfo(source)["keypoint_id2name"].items())
