"""SynthCrowd: drawn crowds with exact truth; ``python -m bmp.synthcrowd`` writes them to the disk."""

from bmp.datasets.synthcrowd_adapter import SynthCrowd

__all__ = ["SynthCrowd"]
