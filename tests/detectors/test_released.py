"""The release's reading of its detector: sides that are a pixel longer, and a limit that counts all classes."""

import pytest
import tiny_models
import torch

pytest.importorskip("mmcv.ops")

from bmp.detectors.mmdet import MMDetDetector
from bmp.detectors.released import ReleasedMMDetDetector
from bmp.structures import Image


@pytest.fixture(scope="module")
def detectors():
    network = tiny_models.rtmdet("rtmdet")
    return [kind(network, "random", nms_iou=0.3) for kind in (MMDetDetector, ReleasedMMDetDetector)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "ours", "theirs"),
    [
        # 45 of 155 square pixels are shared, and 60.5 of 181.5 where each side is a pixel longer
        ([5.5, 0.0, 15.5, 10.0], [0, 1], [0]),
        ([8.0, 0.0, 18.0, 10.0], [0, 1], [0, 1]),
        ([2.0, 0.0, 12.0, 10.0], [0], [0]),
    ],
)
def test_small_boxes_overlap_more(detectors, second, ours, theirs):
    boxes, scores = torch.tensor([[0.0, 0.0, 10.0, 10.0], second]), torch.tensor([0.9, 0.8])
    assert [each._without_overlaps(boxes, scores).tolist() for each in detectors] == [ours, theirs]


@pytest.mark.slow
def test_the_limit_counts_things_of_all_classes():
    network = tiny_models.rtmdet("rtmdet-ins", 96)
    network.model.test_cfg.update(score_thr=0.0, max_per_img=2)
    image = Image(torch.randint(0, 256, (96, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    found = []
    for kind in (MMDetDetector, ReleasedMMDetDetector):
        detector = kind(network, "random", score_threshold=0.0, nms_iou=1.0)
        for layer in detector._model.bbox_head.rtm_cls:
            layer.bias[1] += 20  # dogs everywhere
        found.append(len(detector.detect([image])[0]))
    assert found == [2, 0]
