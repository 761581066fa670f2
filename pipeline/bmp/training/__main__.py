"""The command that trains a network of a library of OpenMMLab; knows runners and files, no network.

    python -m bmp.training train/rtmdet_ins_nano.py --export pipeline/bmp/checkpoints/nano/rtmdet-ins-nano.safetensors

With ``torchrun --nproc_per_node N -m bmp.training ...`` it trains in N processes. Exit codes: 0 trained, 2 wrong use,
130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bmp.checkpoints.saving import export
from bmp.config import parse_overrides
from bmp.console import Parser, run_command
from bmp.training.runner import train
from bmp.training.settings import provenance, read_config


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _train, arguments, interrupted="go on with --resume")


def _train(options: argparse.Namespace) -> int:
    config = read_config(options.config, parse_overrides(options.set), options.work_dir)
    checkpoint = train(config, resume=options.resume)
    if options.export and int(os.environ.get("RANK", 0)) == 0:
        export(checkpoint, options.export, provenance(config), config.get("exported", ""))
    return 0


def _parser() -> Parser:
    parser = Parser("python -m bmp.training", description="Train a network from a config.")
    parser.add_argument("config", help="path or name of a config, such as train/rtmdet_ins_nano.py")
    parser.add_argument(
        "--work-dir", type=Path, metavar="DIR", help="folder for checkpoints and logs (default: output/train/CONFIG)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the last checkpoint, if there is one")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the trained weights, fp16 .safetensors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
