"""SynthCrowd: drawn crowds with exact truth; ``python -m bmp.synthcrowd`` writes them to the disk."""

from bmp.datasets.synthcrowd import SynthCrowd

__all__ = ["SynthCrowd"]
