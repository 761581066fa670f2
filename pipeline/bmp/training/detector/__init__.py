"""Additions to MMDetection, registered into MMDetection's own registries by importing this package.

    custom_imports = dict(imports=["bmp.training.detector"])

makes it available to any MMDetection config: the transform ``PaintOutPeople``, the head ``QuickRTMDetInsHead`` and the
hook ``ComputeOptions``. Nothing here knows the loop.
"""

from bmp.training.detector import heads, hooks, transforms

__all__ = ["heads", "hooks", "transforms"]
