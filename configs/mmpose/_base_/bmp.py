"""BMP as a model of MMPose, image by image: the common part of all evaluations and inferencers."""

_base_ = ["mmpose::_base_/default_runtime.py"]

custom_imports = dict(imports=["bmp.plugins.mmpose"], allow_failed_imports=False)
data_mode = "bottomup"
model = dict(type="BMPPoseEstimator", pipeline="bmp_v2.py")

test_dataloader = dict(
    batch_size=4,
    num_workers=2,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="CocoDataset",
        data_mode="bottomup",
        test_mode=True,
        pipeline=[
            # The decoder of bmp: another one may differ by a grey value, which changes the last digits of the AP.
            dict(type="LoadImage", imdecode_backend="pillow"),
            # Without category_id, since an image has several.
            dict(type="PackPoseInputs", meta_keys=("id", "img_id", "img_path", "ori_shape", "img_shape")),
        ],
    ),
)
# The ground truth is the file of the data set. The loop has suppressed duplicates already.
test_evaluator = dict(type="CocoMetric", score_mode="bbox_keypoint", keypoint_score_thr=0.2, nms_mode="none")
test_cfg = dict()
visualizer = dict(type="AnyNumPyPoseVisualizer")

# The loop is not trained as a whole.
train_cfg = None
val_cfg = None
