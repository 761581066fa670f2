"""Writes the weights of a training to a file that comes with the package. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bmp.checkpoints.loading import load_state_dict
from bmp.errors import UserError
from bmp.io.atomic import replacing_path


def export(checkpoint: Path, file: Path, description: Mapping[str, str], prefix: str = "") -> None:
    """Write a checkpoint's weights to ``file`` as .safetensors, numbers with a point in half precision.

    Args:
        checkpoint: for ``bmp.checkpoints.loading.load_state_dict``.
        file: replaced when the new one is complete.
        description: written into the file's metadata.
        prefix: only weights whose names begin with it are written, without it.

    Raises:
        UserError: for weights that are not finite in half precision.
    """
    from safetensors.torch import save_file

    state = {
        name.removeprefix(prefix): _half(name, tensor)
        for name, tensor in load_state_dict(checkpoint).items()
        if name.startswith(prefix)
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing_path(file) as unfinished:
        save_file(state, unfinished, metadata={"format": "pt", **description})
        unfinished.chmod(0o644)  # safetensors makes files that nobody else may read


def _half(name: str, tensor: Tensor) -> Tensor:
    half = (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
    if half.is_floating_point() and not half.isfinite().all():
        raise UserError(f"{name}: expected weights within half precision, got infinite ones; train with a lower rate")
    return half
