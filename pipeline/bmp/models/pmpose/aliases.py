"""The type names that the published configs use, so that their ``model`` section builds here unchanged.

Of those types only the names, the arguments and their meaning are known. Arguments that describe the network, or say
which of its parts learn, have an effect. All others concern the published training only and are ignored with a message,
since training here has its own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import KEYPOINT_CODECS, MODELS

from bmp.models.pmpose.codecs import OKSHeatmap
from bmp.models.pmpose.heads import ProbabilisticHeatmapHead
from bmp.models.pmpose.keypoints import pmpose_metainfo

_HEAD_ARGUMENTS = {
    *("in_channels", "out_channels", "deconv_out_channels", "deconv_kernel_sizes", "conv_out_channels"),
    *("conv_kernel_sizes", "decoder", "init_cfg"),
}
_CODEC_ARGUMENTS = {"input_size", "heatmap_size", "blur_kernel_size", "sigmas"}
_OF_BRANCHES = {
    "heatmaps": "heatmaps",
    "probability": "presence",
    "visibility": "visibility",
    "oks": "oks",
    "error": "error",
}
"""The names of the head's parts in the published arguments, and the names here."""


def published_head(**config: Any) -> ProbabilisticHeatmapHead:
    """Build the probabilistic head from the arguments of the published ``MultiHead`` or ``ProbMapHead``."""
    head = dict(config)
    arguments: dict[str, Any] = {
        # The defaults of the published head.
        "deconv_out_channels": (256, 256, 256),
        "deconv_kernel_sizes": (4, 4, 4),
        "normalize": head.pop("normalize", None),
        "frozen": [ours for theirs, ours in _OF_BRANCHES.items() if head.pop(f"freeze_{theirs}", False)],
        "attached": [
            _OF_BRANCHES[name] for name in ("probability", "visibility") if not head.pop(f"detach_{name}", True)
        ],
    }
    # A head with a frozen estimate of the OKS scores by the maxima of its maps.
    arguments["scores_from"] = "map" if "oks" in arguments["frozen"] else "expected_oks"
    for name in ("final_layer", "final_layer_dict"):
        if name in head:
            arguments["final_layer"] = head.pop(name)
    loss: Mapping[str, Any] = head.get("keypoint_loss") or {}
    if loss.get("type") == "OKSHeatmapLoss":
        del head["keypoint_loss"]
        kept = {key: loss[key] for key in ("loss_weight", "smoothing_weight") if key in loss}
        arguments["loss"] = {"type": "ExpectedOKSLoss", **kept}
    arguments |= _known(head, _HEAD_ARGUMENTS, "the published head")
    decoder = arguments.get("decoder")
    if decoder is not None and arguments.get("out_channels") == len(pmpose_metainfo()["sigmas"]):
        arguments["decoder"] = {"sigmas": tuple(pmpose_metainfo()["sigmas"].tolist()), **decoder}
    return ProbabilisticHeatmapHead(**arguments)


def arg_max_codec(**config: Any) -> OKSHeatmap:
    """Build the codec with arg-max and DARK-UDP decoding."""
    return OKSHeatmap(**_known(config, _CODEC_ARGUMENTS, "the published codec"), decoder="dark_udp")


def expected_oks_codec(**config: Any) -> OKSHeatmap:
    """Build the codec with expected-OKS decoding."""
    return OKSHeatmap(**_known(config, _CODEC_ARGUMENTS, "the published codec"), decoder="expected_oks")


class FreezableTopdownPoseEstimator(TopdownPoseEstimator):  # type: ignore[misc,unused-ignore]
    """MMPose's top-down model, which can freeze its backbone while the head learns.

    It replaces MMPose's own under the same name, and differs in one argument only.

    Args:
        *arguments: those of MMPose's model.
        freeze_backbone: the backbone's parameters get no gradient, as when PMPose was trained.
        **options: those of MMPose's model.
    """

    def __init__(self, *arguments: Any, freeze_backbone: bool = False, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if freeze_backbone:
            self.backbone.requires_grad_(False)


MODELS.register_module(name="TopdownPoseEstimator", module=FreezableTopdownPoseEstimator, force=True)
for _name in ("MultiHead", "ProbMapHead"):
    MODELS.register_module(name=_name, module=published_head)
for _name in ("OKSArgMaxHeatmap", "ArgMaxProbMap"):
    KEYPOINT_CODECS.register_module(name=_name, module=arg_max_codec)
KEYPOINT_CODECS.register_module(name="ProbMap", module=expected_oks_codec)


def _known(config: Mapping[str, Any], known: set[str], name: str) -> dict[str, Any]:
    set_aside = sorted(config.keys() - known)
    if set_aside:
        print_log(f"{name}: set aside {', '.join(set_aside)}, which concern training", logger="current")
    return {key: value for key, value in config.items() if key in known}
