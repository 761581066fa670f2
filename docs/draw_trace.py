"""Draws the picture of README.md that shows the loop, with the packaged nano weights on a drawn crowd.

    python docs/draw_trace.py

To be run again where the drawing, the generator or the weights have changed.
"""

from __future__ import annotations

from pathlib import Path

import PIL.Image

import bmp
from bmp.datasets.synthcrowd import SynthCrowd

PICTURE = Path(__file__).resolve().parent / "images" / "trace.jpg"
WIDTH = 1700
SPLIT, SCENE = "test-clear", 22
"""In this scene round 2 finds somebody who stands behind another person."""


def main() -> None:
    """Write the picture."""
    people = bmp.load("nano.py")(SynthCrowd(SPLIT, SCENE + 1).load(SCENE), trace=True)
    trace = people.plot_trace()
    size = WIDTH, round(WIDTH / trace.width * trace.height)
    trace.resize(size, PIL.Image.Resampling.LANCZOS).save(PICTURE, quality=88)


if __name__ == "__main__":
    main()
