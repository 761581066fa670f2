"""Trains PMPose nano on SynthCrowd like ../train/pmpose_nano.py, validated by Ex-OKS too."""

_base_ = ["../train/pmpose_nano.py"]

custom_imports = dict(
    imports=["bmp.training.loops", "bmp.training.pose", "bmp.plugins.mmpose"], allow_failed_imports=False
)
visualizer = dict(type="AnyNumPyPoseVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer")
val_evaluator = [
    {{_base_.val_evaluator}},
    dict(type="ExOKSMetric", ann_file={{_base_.val_evaluator.ann_file}}),
]
test_evaluator = val_evaluator
