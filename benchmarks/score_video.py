"""Compares the people.jsonl of a video with its ground truth, and prints HOTA and J&F.

python benchmarks/score_video.py output/film/people.jsonl synthcrowd/video-val/000000.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

from bmp.errors import UserError
from bmp.evaluation.video_lines import compare_lines


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    found, labels = map(Path, sys.argv[1:])
    try:
        numbers = compare_lines(labels, found)
    except UserError as error:
        print(f"score_video: {error}", file=sys.stderr)
        return 2
    tracks, masks = numbers.tracks, numbers.masks
    switches = "1 switch" if tracks.switches == 1 else f"{tracks.switches} switches"
    print(
        f"HOTA {_percent(tracks.hota)}, J&F {_percent(masks.region_and_contour if masks else None)}, "
        f"IDF1 {_percent(tracks.idf1)}, {switches} of identity"
    )
    return 0


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


if __name__ == "__main__":
    sys.exit(main())
