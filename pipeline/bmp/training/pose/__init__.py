"""Additions to MMPose for training, registered into MMPose's own registries by importing this package.

    custom_imports = dict(imports=["bmp.models.pmpose", "bmp.training.pose"])

makes it available to any MMPose config: the data set ``PeopleKeypoints``, the transforms ``LoadPersonMask``,
``NoisyMask``, ``FlipPerson``, ``MaskConditioning`` and ``PMPoseKeypoints``, the release's ``MaskNoise``,
``EdgesBlackout`` and ``PatchesBlackout``, the metrics ``ExOKSMetric`` and ``HeldOutCocoMetric``, and the optimizer
wrapper ``AutocastOptimWrapper``. Nothing here knows the loop.
"""

from bmp.models.openmmlab import quiet_imports

with quiet_imports():  # MMPose may start here, and mmpretrain cannot be imported beside transformers without
    from bmp.training.pose import augmentation, datasets, metrics, optim, transforms

__all__ = ["augmentation", "datasets", "metrics", "optim", "transforms"]
