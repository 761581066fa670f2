"""Mask R-CNN of torchvision: people, boxes and masks are those of the library's own network."""

import pytest
import tiny_models
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from bmp.detectors.torchvision import TorchvisionDetector, drawn
from bmp.errors import UserError
from bmp.structures import Image


def noise(height, width):
    generator = torch.Generator().manual_seed(height)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
    pixels = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return Image(pixels.permute(1, 2, 0).to(torch.uint8).contiguous())


def test_people_are_those_of_the_librarys_own_network():
    stage, image = tiny_models.torchvision_detector(), noise(90, 130)
    with torch.no_grad():
        (expected,) = stage._network([image.pixels.permute(2, 0, 1) / 255])
    people = expected["labels"] == 1
    assert 2 < people.sum() < len(people)  # and of other classes, who are left out
    (found,) = stage.detect([image])
    torch.testing.assert_close(found.boxes, expected["boxes"][people], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.scores, expected["scores"][people])
    masks = expected["masks"][people, 0] > 0.5
    assert found.windows.whole().any()
    assert (found.masks != masks).sum() <= 2e-5 * masks.numel()  # a pixel right on an edge


@pytest.mark.parametrize(
    "box",
    [(3.0, 4.0, 60.0, 40.0), (-0.0, 0.0, 70.0, 50.0), (0.2, 30.0, 9.0, 50.0), (69.5, 49.2, 70.0, 50.0), (5, 5, 5, 5)],
)
def test_masks_are_drawn_as_the_library_draws_them_within_windows(box):
    soft = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    soft[1] = 0.9
    boxes = torch.tensor([box, box], dtype=torch.float32)
    found = drawn(soft, boxes, 50, 70)
    assert torch.equal(found.whole(), paste_masks_in_image(soft[:, None], boxes, (50, 70))[:, 0] > 0.5)
    high, wide = found.patches[0].shape
    assert high * wide <= (box[2] - box[0] + 9) * (box[3] - box[1] + 9)


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    image = noise(90, 130)
    exact, rough = (tiny_models.torchvision_detector(dtype=each).detect([image])[0] for each in ("float32", "bfloat16"))
    assert rough.boxes.dtype == rough.scores.dtype == torch.float32
    assert not torch.equal(rough.scores[:1], exact.scores[:1])
    torch.testing.assert_close(rough.scores[:1], exact.scores[:1], rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(score_threshold=2), "score_threshold"),
        (dict(batch_size=0), "batch_size"),
        (dict(sides=(800, 600)), "sides"),
        (dict(dtype="int8"), "dtype"),
    ],
)
def test_wrong_options_are_told(options, told):
    with pytest.raises(UserError, match=told):
        TorchvisionDetector("random", **options)
