"""The program in a subprocess, as a user runs it, on the fake stages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fakes import scene
from PIL import Image as PILImage

ROOT = Path(__file__).resolve().parents[1]
CONFIG = """
pipeline = dict(
    detector=dict(type="fakes.FakeDetector"),
    pose=dict(type="fakes.FakePose"),
    segmenter=dict(type="fakes.FakeSegmenter"),
    suppressor=dict(type="OKSSuppressor"),
)
"""
FRONT, BEHIND = (20, 10, 30, 20), (15, 5, 40, 30)
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "pipeline"), str(ROOT / "tests")]),
    "COLUMNS": "200",
}


def save(path, *squares):
    """Write a picture of squares, see ``fakes.scene``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PILImage.fromarray(scene(*squares).pixels.numpy()).save(path)
    return path


def start(folder, *arguments, config="config.py", launcher=()):
    """Start the program in ``folder``; ``launcher`` are arguments of Python that come before the program."""
    command = [sys.executable, *launcher, str(ROOT / "run_bmp.py"), "--config", config, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start what they put into the background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder, *arguments, config="config.py", launcher=()):
    """Run the program to its end; return its exit code and what it printed to each of the two streams."""
    process = start(folder, *arguments, config=config, launcher=launcher)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err
