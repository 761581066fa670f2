"""The command that trains a network of a library of OpenMMLab; knows runners and files, no network.

    python -m bmp.training train/rtmdet_ins_nano.py --export pipeline/bmp/checkpoints/nano/rtmdet-ins-nano.safetensors

With ``torchrun --nproc_per_node N -m bmp.training ...`` it trains in N processes. Exit codes: 0 trained, 2 wrong use, 130
interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from torch import Tensor

from bmp import __version__
from bmp.checkpoints.loading import load_state_dict, trusted_mmengine_globals
from bmp.config import config_names, load_config, parse_overrides
from bmp.synthcrowd.splits import SPLITS
from bmp.errors import UserError
from bmp.models.openmmlab import quiet_models
from bmp.checkpoints.sources import resolve
from bmp.training.runner import train
from bmp.training.settings import described
from bmp.training.settings import read_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config, parse_overrides(options.set), options.work_dir)
        checkpoint = train(config, resume=options.resume)
        if options.export and int(os.environ.get("RANK", 0)) == 0:
            export(checkpoint, options.export, described(config), config.get("exported", ""))
    except UserError as error:
        print(f"bmp.training: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bmp.training: interrupted; go on with --resume", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bmp.training", description="Train a network from a config.")
    parser.add_argument("config", help="path or name of a config, such as train/rtmdet_ins_nano.py")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="folder for checkpoints and logs (default: output/train/CONFIG)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the last checkpoint, if there is one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the trained weights, fp16 .safetensors")
    return parser


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
    partial = file.with_name(file.name + ".part")
    save_file(state, partial, metadata={"format": "pt", **description})
    partial.chmod(0o644)  # safetensors makes files that nobody else may read
    partial.replace(file)


def _half(name: str, tensor: Tensor) -> Tensor:
    half = (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
    if half.is_floating_point() and not half.isfinite().all():
        raise UserError(f"{name}: expected weights within half precision, got infinite ones; train with a lower rate")
    return half


if __name__ == "__main__":
    sys.exit(main())
