"""The command ``bmp export``: the networks of a config as ONNX files, for programs without torch.

Knows configs and stages; what is written, ``bmp.models.engines.folder`` knows.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bmp.console import Parser, add_volume, open_console, run_command
from bmp.errors import MissingExtraError, UserError

_ROLES = ("detector", "pose", "segmenter")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (``sys.argv`` by default) and return its exit code."""
    return run_command(_parser(), _export, arguments, interrupted="the folder lacks its manifest.json")


def _parser() -> Parser:
    parser = Parser(
        "bmp export",
        {"--format": "--help", "--out": "--output", "--model": "--config"},
        description="Write detector, pose network and segmenter of a config as ONNX files, with a manifest of their "
        "inputs, outputs and constants, and a runner.py that needs onnxruntime, numpy and OpenCV only. "
        "docs/engines.md says what they do and what they leave out.",
        epilog="exit codes: 0 all done, 2 wrong use, a network that cannot be exported, or an output that cannot be "
        "written",
    )
    parser.add_argument("-c", "--config", required=True, help="path or name of a config, such as bmp_v2.py")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for everything written")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a config value")
    parser.add_argument("--overwrite", action="store_true", help="replace files in a folder that has some")
    add_volume(parser)
    return parser


def _export(options: argparse.Namespace) -> int:
    folder: Path = options.output
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not options.overwrite:
        raise UserError(f"{folder} exists and is not empty; choose another with -o DIR, or replace it with --overwrite")
    try:
        import onnx  # noqa: F401 - it is missed before the networks are built
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("writing networks", str(error.name), "engines", error) from error
    from bmp.build import build
    from bmp.config import load_config, parse_overrides
    from bmp.io.atomic import writing
    from bmp.models.engines.folder import ExportedStage, write_folder

    config = load_config(options.config, parse_overrides(options.set))
    for part in _sections(config.pipeline):
        for option, plain in (("dtype", "float32"), ("engine", "torch"), ("compile", False)):
            if option in part:
                part[option] = plain
    model = build(config, "cpu")
    left_out = [f"rounds: one of {model.rounds}", "suppression of people found twice", "pixels that masks share"]
    stages: dict[str, ExportedStage] = {}
    for role in _ROLES:
        stage = getattr(model, role)
        mask_prompts = False
        if role == "segmenter":
            stage, mask_prompts = _prompted(stage)
        if not hasattr(stage, "exported"):
            raise UserError(
                f"{role}: {type(stage).__name__} cannot be exported; there are MMDetDetector with RTMDet-Ins, "
                "MMPoseEstimator with heatmaps, and SAM2Segmenter"
            )
        stages[role] = stage.exported(mask_prompts) if role == "segmenter" else stage.exported()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").unlink(missing_ok=True)
        files = write_folder(folder, stages, options.config, left_out)
    console = open_console(options.quiet)
    for file in files:
        console.print(f"{file}: {file.stat().st_size / 1e6:.1f} MB", soft_wrap=True)
    console.print(f"Try: python {folder / 'runner.py'} photo.jpg", soft_wrap=True)
    return 0


def _prompted(stage: Any) -> tuple[Any, bool]:
    """Return the segmenter that is prompted with points, and whether with the detector's masks too."""
    from bmp.segmenters.detected import DetectedMasks
    from bmp.segmenters.mask_prompted import MaskPromptedSegmenter

    if isinstance(stage, MaskPromptedSegmenter) and isinstance(stage.start, DetectedMasks):
        return stage.segmenter, True
    return stage, False


def _sections(part: Any) -> Iterator[Any]:
    """Yield a section of a config and all within it."""
    if isinstance(part, dict):
        yield part
        for value in part.values():
            yield from _sections(value)
