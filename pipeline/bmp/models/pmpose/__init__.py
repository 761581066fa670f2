"""What BMP adds to MMPose, registered into MMPose's own registries by importing this package.

    custom_imports = dict(imports=["bmp.models.pmpose"])

makes it available to any MMPose config: the head ``ProbabilisticHeatmapHead`` (also under the published configs'
name ``MultiHead``), the codecs ``OKSHeatmap`` and, with the falloffs of PMPose's 23 keypoints, ``PMPoseHeatmap``, the
losses ``ExpectedOKSLoss`` and ``SparsemaxLoss``, the data set ``PeopleKeypoints``, the transforms ``LoadPersonMask``,
``NoisyMask``, ``FlipPerson``, ``MaskConditioning`` and ``PMPoseKeypoints``, the metric ``ExOKSMetric``, the optimizer
wrapper ``AutocastOptimWrapper``, and the convolution ``ConvStem`` for small ViTs.
Nothing here knows the loop.
"""

from bmp.models.pmpose import aliases

from bmp.models.pmpose import codecs

from bmp.training.pose import datasets

from bmp.models.pmpose import heads

from bmp.models.pmpose import keypoints

from bmp.models.pmpose import losses

from bmp.training.pose import metrics

from bmp.training.pose import optim

from bmp.models.pmpose import stems

from bmp.training.pose import transforms

__all__ = [
    "aliases",
    "codecs",
    "datasets",
    "heads",
    "keypoints",
    "losses",
    "metrics",
    "optim",
    "stems",
    "transforms",
]
