"""Additions to MMDetection, registered into MMDetection's own registries by importing this package.

    custom_imports = dict(imports=["bmp.training.detector"])

makes it available to any MMDetection config: the transform ``PaintOutPeople``, the head ``QuickRTMDetInsHead`` and the
hook ``ComputeOptions``. Nothing here knows the loop.
"""

from bmp.models.openmmlab import quiet_imports

with quiet_imports():  # MMDetection may start here, and mmpretrain cannot be imported beside transformers without
    from bmp.training.detector import heads, hooks, transforms

__all__ = ["heads", "hooks", "transforms"]
