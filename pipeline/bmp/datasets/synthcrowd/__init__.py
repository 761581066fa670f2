"""SynthCrowd: drawn crowds with exact truth; ``python -m bmp.datasets.synthcrowd`` writes them to the disk."""

from bmp.datasets.synthcrowd.dataset import SynthCrowd

__all__ = ["SynthCrowd"]
