"""What BMP adds to MMPose, registered into MMPose's own registries by importing this package.

    custom_imports = dict(imports=["bmp.mmpose_ext"])

makes it available to any MMPose config: the head ``ProbabilisticHeatmapHead`` (also under the published configs'
name ``MultiHead``), the codec ``OKSHeatmap``, the loss ``ExpectedOKSLoss`` and the transform ``MaskConditioning``.
Nothing here knows the loop.
"""

from bmp.mmpose_ext import aliases, codecs, heads, losses, transforms

__all__ = ["aliases", "codecs", "heads", "losses", "transforms"]
