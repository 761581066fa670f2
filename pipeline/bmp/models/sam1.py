"""SAM 1: the networks of segment_anything, built and loaded. Knows no prompt policy."""

from __future__ import annotations

from typing import Any

import torch

from bmp.checkpoints.loading import load_state_dict, load_strictly
from bmp.checkpoints.sources import RANDOM, resolve
from bmp.errors import MissingExtraError, UserError


def build_sam1(model: str, checkpoint: str) -> Any:
    """Return the network on the CPU, in evaluation mode; arguments and errors as for ``SAM1Segmenter``."""
    try:
        from segment_anything import sam_model_registry
    except ImportError as error:
        raise MissingExtraError("SAM1Segmenter", "segment-anything", "openmmlab", error) from error
    if model not in sam_model_registry:
        raise UserError(f"model {model!r} does not exist; there is: {', '.join(sorted(sam_model_registry))}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = sam_model_registry[model]()
    if checkpoint != RANDOM:
        path = resolve(checkpoint)
        load_strictly(network, load_state_dict(path), file=path)
    return network.eval().requires_grad_(False)
