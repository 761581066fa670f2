"""The type names that the published configs use, so that their ``model`` section builds here unchanged.

Only the names and what the official weights reveal are known of those types. What describes the network is taken;
what describes only its training there is set aside with a message, since training here has its own settings.
"""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from mmpose.registry import KEYPOINT_CODECS, MODELS

from bmp.models.pmpose.codecs import OKSHeatmap
from bmp.models.pmpose.heads import ProbabilisticHeatmapHead

_HEAD_ARGUMENTS = {
    *("in_channels", "out_channels", "deconv_out_channels", "deconv_kernel_sizes", "conv_out_channels"),
    *("conv_kernel_sizes", "final_layer", "normalize", "decoder", "init_cfg"),
}
_CODEC_ARGUMENTS = {"input_size", "heatmap_size", "blur_kernel_size"}


def multi_head(**config: Any) -> ProbabilisticHeatmapHead:
    """Build the probabilistic head from the arguments of the published one."""
    return ProbabilisticHeatmapHead(**_known(config, _HEAD_ARGUMENTS, "MultiHead"))


def arg_max_prob_map(**config: Any) -> OKSHeatmap:
    """Build the codec with arg-max and DARK-UDP decoding."""
    return OKSHeatmap(**_known(config, _CODEC_ARGUMENTS, "ArgMaxProbMap"), decoder="dark_udp")


def prob_map(**config: Any) -> OKSHeatmap:
    """Build the codec with expected-OKS decoding."""
    return OKSHeatmap(**_known(config, _CODEC_ARGUMENTS, "ProbMap"), decoder="expected_oks")


MODELS.register_module(name="MultiHead", module=multi_head)
KEYPOINT_CODECS.register_module(name="ArgMaxProbMap", module=arg_max_prob_map)
KEYPOINT_CODECS.register_module(name="ProbMap", module=prob_map)


def _known(config: dict[str, Any], known: set[str], name: str) -> dict[str, Any]:
    set_aside = sorted(config.keys() - known)
    if set_aside:
        print_log(f"{name}: set aside {', '.join(set_aside)}, which concern training", logger="current")
    return {key: value for key, value in config.items() if key in known}
