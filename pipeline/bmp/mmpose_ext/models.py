"""From the name of an MMPose config and of its weights to a network ready to run; knows no image and no loop."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmpose
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmpose.models.pose_estimators import TopdownPoseEstimator
from mmpose.registry import MODELS
from torch import nn

from bmp import checkpoints, weights
from bmp.errors import UserError
from bmp.openmmlab import quiet_models

RANDOM = "random"
"""The checkpoint that means made-up weights, the same every time, for tests and timings."""

_BMP = Path(__file__).resolve().parents[1]
_FOLDERS = (_BMP / "configs", _BMP.parents[1] / "configs")  # in an installed wheel; in a checkout


def read_config(config: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Read the config of a model.

    Args:
        config: a dict with an entry "model", or that section itself; or the path of a config file, its path within
            BMP's ``configs`` ("models/pmpose_b.py"), or the name of a config that comes with MMPose, all with or
            without ".py". Modules that a file wants imported are not.

    Returns:
        a dict with the entry "model".

    Raises:
        UserError: for a config that does not exist, cannot be read or describes no model.
    """
    if isinstance(config, Mapping):
        found = dict(config) if "model" in config else {"model": config}
    else:
        path = _find(str(config))
        try:
            found = Config.fromfile(path, import_custom_modules=False).to_dict()
        except Exception as error:  # a config is a program: anything can happen in it
            raise UserError(f"config {path} cannot be read: {type(error).__name__}: {error}; mend it") from error
    if not isinstance(found.get("model"), Mapping) or "type" not in found["model"]:
        raise UserError(f"config {config}: expected model=dict(type=...), found none; give the config of a model")
    return found


def build_topdown(section: Mapping[str, Any], checkpoint: str) -> nn.Module:
    """Build the top-down network of a config's model section, on the CPU, in eval mode, without gradients.

    MMEngine's default scope is the same before and after.

    Args:
        section: the config's "model".
        checkpoint: what ``bmp.weights.resolve`` understands, or "random".

    Raises:
        UserError: for weights that cannot be had or do not belong to this model, and for a section MMPose rejects.
    """
    arguments = copy.deepcopy(dict(section))
    # Weights to start a training from are of no use here, and fetching them is not wanted.
    for part in (arguments, *(value for value in arguments.values() if isinstance(value, dict))):
        for key in ("init_cfg", "pretrained"):
            part.pop(key, None)
    path = None if checkpoint == RANDOM else weights.resolve(checkpoint)
    with DefaultScope.overwrite_default_scope("mmpose"), quiet_models(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
        checkpoints.load_strictly(model, checkpoints.load_state_dict(path), file=path)
    return model.eval().requires_grad_(False)  # type: ignore[no-any-return]


def _find(name: str) -> Path:
    bundled = Path(mmpose.__file__).parent / ".mim" / "configs"
    file = Path(name) if name.endswith(".py") else Path(f"{name}.py")
    for candidate in (file, *(folder / file for folder in (*_FOLDERS, bundled))):
        if candidate.is_file():
            return candidate
    namesakes = sorted(bundled.rglob(file.name))
    if not namesakes:
        raise UserError(
            f"config {name!r}: found neither a file of that name nor a config in BMP's models folder or in MMPose; "
            "give its path"
        )
    if len(namesakes) > 1:
        paths = ", ".join(str(path.relative_to(bundled)) for path in namesakes)
        raise UserError(f"config {name!r}: MMPose has several of that name; give one of {paths}")
    return namesakes[0]
