"""mmdet's and mmpose's own inference interfaces, unchanged, on a photo: what the local distributions are for.

Networks have random weights from a fixed seed; it knows nothing of accuracy.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from bmp.models.openmmlab import quiet_imports, quiet_models

_NEEDED = ("mmcv", "mmdet", "mmpose", "mmpretrain", "xtcocotools")
_MISSING = [name for name in _NEEDED if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(_MISSING), reason=f"not installed: {', '.join(_MISSING)}"),
    # Nothing may be said beyond what quiet_imports and quiet_models know; deprecations are news for developers.
    pytest.mark.filterwarnings("error", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def photo(shared: Path) -> str:
    return str(shared / "data" / "coco_mini" / "000000000785.jpg")


def detect(config: str, photo: str, side: int):
    """Run a detector of the package on the photo, scaled to at most this side, and return it with what it found."""
    with quiet_imports():
        import mmdet
        from mmdet.apis import inference_detector, init_detector
        from mmengine import Config
    read = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / config)
    for step in read.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step["scale"] = (side, side)
        if step["type"] == "Pad":
            step["size"] = (side, side)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match="checkpoint is None"), quiet_models():
        detector = init_detector(read, device="cpu")
    for name, parameter in detector.named_parameters():
        if name.endswith("level_embed"):  # Deformable DETR leaves it as memory was, for a checkpoint to fill
            torch.nn.init.normal_(parameter)
    with quiet_models():
        return detector, inference_detector(detector, photo)


def assert_detections(found, height: int = 425, width: int = 640) -> None:
    boxes, scores = found.pred_instances.bboxes, found.pred_instances.scores
    assert boxes.shape == (len(scores), 4)
    assert boxes.isfinite().all()
    assert ((scores >= 0) & (scores <= 1)).all()
    assert boxes[:, 0::2].min() >= 0
    assert boxes[:, 0::2].max() <= width
    assert boxes[:, 1::2].min() >= 0
    assert boxes[:, 1::2].max() <= height


@pytest.mark.parametrize("size", ["tiny_8xb32", "l_8xb32"])
def test_rtmdet_instance_segmentation(size, photo):
    _, found = detect(f"rtmdet/rtmdet-ins_{size}-300e_coco.py", photo, 640)
    assert len(found.pred_instances) == 100
    assert found.pred_instances.masks.shape == (100, 425, 640)
    assert_detections(found)


def test_detector_with_deformable_attention(photo):
    _, found = detect("deformable_detr/deformable-detr_r50_16xb2-50e_coco.py", photo, 320)
    assert len(found.pred_instances) == 100
    assert_detections(found)


@pytest.mark.parametrize("config", ["dcn/faster-rcnn_r50-dconv", "dcnv2/faster-rcnn_r50-mdconv"])
def test_detector_with_deformable_convolution(config, photo):
    from torchvision.ops import deform_conv2d

    detector, _ = detect(f"{config}-c3-c5_fpn_1x_coco.py", photo, 320)
    layer = detector.backbone.layer4[0].conv2
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.05)  # it begins with zeros: points that stay in place
    values = torch.randn(1, layer.in_channels, 9, 9)
    with torch.no_grad():
        moved = layer.conv_offset(values)
        offset, mask = moved, None
        if "mdconv" in config:
            offset, mask = torch.cat(moved.chunk(3, dim=1)[:2], dim=1), moved.chunk(3, dim=1)[2].sigmoid()
        expected = deform_conv2d(values, offset, layer.weight, None, layer.stride, layer.padding, mask=mask)
        torch.testing.assert_close(layer(values), expected)
        assert offset.abs().max() > 1


def test_two_stage_instance_segmentation(photo):
    with quiet_imports():
        from mmdet.apis import inference_detector
    detector, _ = detect("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py", photo, 320)
    detector.test_cfg.rcnn.score_thr = 0.0
    detector.roi_head.test_cfg.score_thr = 0.0
    with quiet_models():
        found = inference_detector(detector, photo)
    assert len(found.pred_instances) == 100
    assert found.pred_instances.masks.shape == (100, 425, 640)
    assert_detections(found)


def test_vitpose(photo):
    with quiet_imports():
        import mmpose
        from mmpose.apis import inference_topdown, init_model
    configs = Path(mmpose.__file__).parent / ".mim" / "configs" / "body_2d_keypoint" / "topdown_heatmap" / "coco"
    without_download = dict(model=dict(backbone=dict(init_cfg=None)))
    torch.manual_seed(0)
    with quiet_models():
        config = configs / "td-hm_ViTPose-small_8xb64-210e_coco-256x192.py"
        model = init_model(str(config), device="cpu", cfg_options=without_download)
        boxes = np.array([[10, 10, 200, 300], [200, 20, 400, 300]], dtype=np.float32)
        people = inference_topdown(model, photo, boxes)
    assert len(people) == 2
    for person, (x1, y1, x2, y2) in zip(people, boxes, strict=True):
        points = person.pred_instances.keypoints
        assert points.shape == (1, 17, 2)
        centre, reach = np.array([x1 + x2, y1 + y2]) / 2, 1.25 * max(x2 - x1, y2 - y1)
        assert (np.abs(points - centre) <= reach).all()
