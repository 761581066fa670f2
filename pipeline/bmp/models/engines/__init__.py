"""Networks run by other engines than torch: exported as ONNX, kept on the disk, run by ONNX Runtime or OpenVINO.

It knows no stage, and of networks only that they are functions of tensors.
"""

from pathlib import Path

from bmp.models.engines.graph import Graph, Shapes
from bmp.models.engines.network import ENGINES, Function, check_engine, run_by

__all__ = ["ENGINES", "Function", "Graph", "Shapes", "check_engine", "run_by", "runner_file"]


def runner_file() -> Path:
    """Return the program that ``bmp export`` writes beside the networks."""
    return Path(__file__).with_name("runner.py")
