"""Runs a training config with MMEngine's runner. Knows no network."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from mmengine.config import Config

from bmp.checkpoints.loading import trusted_mmengine_globals
from bmp.checkpoints.sources import resolve
from bmp.errors import UserError
from bmp.models.openmmlab import quiet_models


def train(config: Config, *, resume: bool = False) -> Path:
    """Train with MMEngine's runner and return the last checkpoint, which has the averaged weights where there are any.

    MMEngine's default scope is the same before and after.

    Args:
        config: of MMEngine's ``Runner``, with ``work_dir``; ``load_from`` may be what
            ``bmp.checkpoints.sources.resolve`` understands.
        resume: go on with the last checkpoint in ``work_dir``; where there is none, begin.

    Raises:
        UserError: for a ``work_dir`` that holds a training, without ``resume``, and a ``load_from`` that
            cannot be had.
    """
    record = Path(config.work_dir) / "last_checkpoint"
    if record.exists() and not resume:
        raise UserError(f"{config.work_dir} has a training; go on with --resume, or choose another --work-dir")
    config.resume = resume
    _open_many_files()
    if start := config.get("load_from"):
        config.load_from = str(resolve(start))
    config.launcher = _join_processes()
    if config.launcher != "none":
        # MMEngine names a GPU for each process, also where there is none. Without a person in a batch some layers
        # get no gradient.
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None, find_unused_parameters=True
        )
    with quiet_models(), trusted_mmengine_globals():
        from mmengine.dist import barrier
        from mmengine.registry import DefaultScope
        from mmengine.runner import Runner

        # A runner sets the scope for the rest of the process.
        with DefaultScope.overwrite_default_scope(config.get("default_scope") or "mmengine"):
            Runner.from_cfg(config).train()
        barrier()  # the first process writes, and the others must not be ahead of it
    return Path(record.read_text().strip())


def _open_many_files() -> None:
    """Allow as many open files as this user may have: each tensor of a batch is one while loaders hand it over."""
    try:
        import resource
    except ImportError:  # there are no such limits on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
