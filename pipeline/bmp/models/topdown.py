"""From the name of an MMPose config and of its weights to a network ready to run; knows no image and no loop."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import Tensor, nn

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.config import ConfigSection
from bmp.errors import UserError
from bmp.models import samp_crops as samp_crops  # registers its networks
from bmp.models.engines import Graph
from bmp.models.openmmlab import quiet_imports, quiet_models
from bmp.models.pmpose.heads import ProbabilisticHeatmapHead


class MapLayers(nn.Module):
    """A network with unbiased heatmaps, from normalised crops to what is left to decode, as a function of tensors.

    Args:
        model: that ``build_topdown`` returned.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return of float32 (B, 3, H, W) the heatmaps; of a probabilistic head ``without_maps``."""
        features = self.model.extract_feat(crops)
        if isinstance(self.model.head, ProbabilisticHeatmapHead):
            return self.model.head.without_maps(features)
        return (self.model.head(features),)


class FeatureLayers(MapLayers):
    """Backbone and neck of any other network: its head decodes in its own way."""

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        """Return of float32 (B, 3, H, W) the features, those of each level."""
        return tuple(self.model.extract_feat(crops))


def map_graph(model: Any) -> Graph:
    """Return ``MapLayers`` for other engines."""
    names = ("scores", "presence", "visibility", "expected_oks")
    outputs = names if isinstance(model.head, ProbabilisticHeatmapHead) else ("heatmaps",)
    return Graph("topdown", MapLayers(model), {"crops": {}}, outputs)


def feature_graph(model: Any) -> Graph:
    """Return ``FeatureLayers`` for other engines."""
    return Graph("topdown-features", FeatureLayers(model), {"crops": {}})


def build_topdown(section: ConfigSection, checkpoint: str) -> nn.Module:
    """Build the top-down network of a config's model section, on the CPU, in eval mode, without gradients.

    MMEngine's default scope is the same before and after.

    Args:
        section: the config's "model".
        checkpoint: what ``bmp.checkpoints.sources.resolve`` understands, or "random".

    Raises:
        UserError: for weights that cannot be had or do not belong to this model, and for a section MMPose rejects.
    """
    arguments = copy.deepcopy(dict(section))
    # Weights to start a training from are of no use here, and fetching them is not wanted.
    for part in (arguments, *(value for value in arguments.values() if isinstance(value, dict))):
        for key in ("init_cfg", "pretrained"):
            part.pop(key, None)
    path = None if checkpoint == RANDOM else resolve(checkpoint)
    with DefaultScope.overwrite_default_scope("mmpose"), quiet_models(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if "mmpretrain." in repr(arguments):  # else building it imports these, and transformers along with them
            with quiet_imports():
                import mmpretrain.models  # noqa: F401
        try:
            model = MODELS.build(arguments)
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"MMPose cannot build {arguments['type']}: {reason}; mend the model section") from error
    if not isinstance(model, TopdownPoseEstimator):
        raise UserError(f"config: expected a TopdownPoseEstimator, got {type(model).__name__}; give a top-down model")
    if getattr(getattr(model, "head", None), "decoder", None) is None:
        raise UserError("config: expected a head with a decoder, found none; name its codec in the model section")
    model = revert_sync_batchnorm(model)
    if path is not None:
        load_strictly(model, load_state_dict(path), file=path)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]
