"""SynthCrowd: drawn crowds with exact ground truth; ``python -m bmp.synthcrowd`` writes them to the disk.

It knows no network and no data set; ``bmp.datasets.synthcrowd`` makes a data set of it.
"""
