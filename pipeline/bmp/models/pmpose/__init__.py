"""The network of PMPose and ProbPose, registered into MMPose's own registries by importing this package.

    custom_imports = dict(imports=["bmp.models.pmpose"])

makes it available to any MMPose config: the head ``ProbabilisticHeatmapHead`` (also under the published configs'
name ``MultiHead``), the codecs ``OKSHeatmap`` and, with the falloffs of PMPose's 23 keypoints, ``PMPoseHeatmap``, the
losses ``ExpectedOKSLoss`` and ``SparsemaxLoss``, and the convolution ``ConvStem`` for small ViTs. The training is in
``bmp.training.pose``. Nothing here knows the loop.
"""

from bmp.models.openmmlab import quiet_imports

with quiet_imports():  # MMPose may start here, and mmpretrain cannot be imported beside transformers without
    from bmp.models.pmpose import aliases, codecs, heads, keypoints, losses, stems

__all__ = ["aliases", "codecs", "heads", "keypoints", "losses", "stems"]
