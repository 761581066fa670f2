"""The command that trains a network of a library of OpenMMLab; knows runners and files, no network and no data.

    python -m bmp.train train/rtmdet_ins_nano.py --export pipeline/bmp/nano/rtmdet-ins-nano.safetensors

With ``torchrun --nproc_per_node N -m bmp.train ...`` it trains in N processes. Exit codes: 0 trained, 2 wrong use, 130
interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from bmp import __version__
from bmp.checkpoints import load_state_dict, trusted_mmengine_globals
from bmp.config import load_config, parse_overrides
from bmp.errors import UserError
from bmp.openmmlab import quiet_models


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = read_config(options.config, parse_overrides(options.set), options.work_dir)
        checkpoint = train(config, resume=options.resume)
        if options.export and int(os.environ.get("RANK", 0)) == 0:
            export(checkpoint, options.export, described(config))
    except UserError as error:
        print(f"bmp.train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bmp.train: interrupted; go on with --resume", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bmp.train", description="Train a network from a config.")
    parser.add_argument("config", help="path or name of a config, such as train/rtmdet_ins_nano.py")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="folder for checkpoints and logs (default: output/train/CONFIG)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the last checkpoint, if there is one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the trained weights, fp16 .safetensors")
    return parser


def read_config(name: str | Path, overrides: Mapping[str, Any] | None = None, work_dir: Path | None = None) -> Config:
    """Read the config of a training.

    Args:
        name: see ``bmp.config.load_config``.
        overrides: values by dotted key. Another ``data_root`` moves every path that the config has below its own.
        work_dir: folder for what the training writes; None is ``output/train/`` and the config's name.

    Raises:
        UserError: for a config that does not exist, is none of a training, or whose data are missing.
    """
    overrides = dict(overrides or {})
    config = load_config(name, overrides)
    if missing := [key for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper") if key not in config]:
        raise UserError(f"config {name}: expected a training, found no {', '.join(missing)}; see configs/train")
    if "data_root" in overrides:
        _move(config, str(load_config(name).data_root), str(config.data_root))
    config.work_dir = str(work_dir or Path("output/train") / Path(name).stem)
    for file in _annotation_files(config):
        if not file.is_file():
            raise UserError(
                f"{file}: expected the training's annotations, found none; make them with `python -m "
                f"bmp.datasets.synthcrowd --output {config.get('data_root', 'DIR')} --splits train val`, or give the "
                "folder of others with --set data_root=DIR"
            )
    return config


def train(config: Config, *, resume: bool = False) -> Path:
    """Train with MMEngine's runner and return the last checkpoint, which has the averaged weights where there are any.

    Args:
        config: of MMEngine's ``Runner``, with ``work_dir``.
        resume: go on with the last checkpoint in ``work_dir``; where there is none, begin.

    Raises:
        UserError: for a ``work_dir`` with a training in it that was not asked to go on.
    """
    record = Path(config.work_dir) / "last_checkpoint"
    if record.exists() and not resume:
        raise UserError(f"{config.work_dir} has a training; go on with --resume, or choose another --work-dir")
    config.resume = resume
    config.launcher = _join_processes()
    if config.launcher != "none":
        # MMEngine names a GPU for each process, also where there is none. Without a person in a batch some layers
        # get no gradient.
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None, find_unused_parameters=True
        )
    with quiet_models(), trusted_mmengine_globals():
        from mmengine.dist import barrier
        from mmengine.runner import Runner

        Runner.from_cfg(config).train()
        barrier()  # the first process writes, and the others must not be ahead of it
    return Path(record.read_text().strip())


def export(checkpoint: Path, file: Path, description: Mapping[str, str]) -> None:
    """Write a checkpoint's weights to ``file`` as .safetensors, numbers with a point in half precision.

    Args:
        checkpoint: for ``bmp.checkpoints.load_state_dict``.
        file: replaced when the new one is complete.
        description: written into the file's metadata.

    Raises:
        UserError: for weights that are not finite in half precision.
    """
    from safetensors.torch import save_file

    state = {name: _half(name, tensor) for name, tensor in load_state_dict(checkpoint).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(file.name + ".part")
    save_file(state, partial, metadata={"format": "pt", **description})
    partial.chmod(0o644)  # safetensors makes files that nobody else may read
    partial.replace(file)


def described(config: Config) -> dict[str, str]:
    """Say in words what was trained, so that weights can be told apart and made again."""
    hashes = (
        f"{file.name} sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in _annotation_files(config)
    )
    return {
        "bmp": __version__,
        "config": Path(config.filename).name,
        "data": ", ".join(hashes),
        "iterations": str(config.train_cfg.get("max_iters", "")),
        "seed": str(config.get("randomness", {}).get("seed", "")),
    }


def _half(name: str, tensor: Tensor) -> Tensor:
    half = (tensor.half() if tensor.is_floating_point() else tensor).contiguous().clone()
    if half.is_floating_point() and not half.isfinite().all():
        raise UserError(f"{name}: expected weights within half precision, got infinite ones; train with a lower rate")
    return half


def _move(node: Any, old: str, new: str) -> None:
    """Replace ``old`` at the beginning of every path in a config."""
    for key, value in list(node.items() if isinstance(node, Mapping | Config) else enumerate(node)):
        if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
            node[key] = new + value[len(old) :]
        elif isinstance(value, Mapping | list):
            _move(value, old, new)


def _annotation_files(config: Config) -> list[Path]:
    """Return the files of annotations that the training and its validation read."""

    def datasets(node: Any) -> Iterator[Mapping[str, Any]]:
        if isinstance(node, Mapping):
            if "ann_file" in node:
                yield node
            for value in node.values():
                yield from datasets(value)
        elif isinstance(node, list):
            for value in node:
                yield from datasets(value)

    loaders = (config.train_dataloader, config.get("val_dataloader") or {})
    return [Path(each.get("data_root") or "") / each["ann_file"] for loader in loaders for each in datasets(loader)]


def _join_processes() -> str:
    """Join the processes that torchrun started, if it did, and return MMEngine's name of the launcher."""
    if "WORLD_SIZE" not in os.environ:
        return "none"
    if not torch.distributed.is_initialized():
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        torch.distributed.init_process_group("nccl" if cuda else "gloo")
    return "pytorch"


if __name__ == "__main__":
    sys.exit(main())
