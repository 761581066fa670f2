"""Networks of torchvision: those that its weights belong to, images of any shape, and a preset that needs nothing else."""

import sys

import pytest
import tiny_models
import torch
from fakes import scene
from PIL import Image as PILImage
from torchvision.models import get_model, get_model_weights

from bmp.cli import main
from bmp.doctor import can_run
from bmp.errors import UserError
from bmp.models.torchvision import SIDES, batches, build_rcnn, inputs, keypoint_rcnn, mask_rcnn
from bmp.structures import Image

NAMES = ("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth", "keypointrcnn_resnet50_fpn_coco-fc266e95.pth")


def blank(height, width):
    return Image(torch.zeros(height, width, 3, dtype=torch.uint8))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name", "file"),
    [(mask_rcnn, "maskrcnn_resnet50_fpn_v2", NAMES[0]), (keypoint_rcnn, "keypointrcnn_resnet50_fpn", NAMES[1])],
)
def test_networks_are_those_of_the_published_weights(monkeypatch, make, name, file):
    (weights,) = [each for each in get_model_weights(name) if each.url.endswith(f"/{file}")]
    with torch.device("meta"):
        ours = make()
        # The library makes what its weights need, once it thinks that it has them.
        monkeypatch.setattr(type(weights), "get_state_dict", lambda *_, **options: ours.state_dict())
        theirs = get_model(name, weights=weights)
    assert str(ours.backbone) == str(theirs.backbone)
    assert str(ours.rpn) == str(theirs.rpn)
    assert str(ours.roi_heads) == str(theirs.roi_heads)
    assert (theirs.transform.min_size[-1], theirs.transform.max_size) == SIDES
    assert ours.roi_heads.nms_thresh == theirs.roi_heads.nms_thresh


def test_the_longer_edge_has_a_limit_and_sides_are_padded(monkeypatch):
    network = tiny_models.torchvision_pose()._network
    monkeypatch.setattr(network.transform, "min_size", (60,))
    monkeypatch.setattr(network.transform, "max_size", 100)
    for image, size, padded in (
        (blank(30, 40), (60, 80), (64, 96)),
        (blank(10, 40), (25, 100), (32, 128)),
        (blank(1, 900), (1, 100), (32, 128)),  # a side of no pixels would be none
    ):
        shown = inputs(network, [image], torch.device("cpu"))
        assert shown.image_sizes == [size]
        assert shown.tensors.shape == (1, 3, *padded)


def test_images_of_one_size_go_together():
    images = [blank(4, 5), blank(5, 4), blank(4, 5), blank(4, 5), blank(5, 4)]
    assert list(batches(images, 2)) == [[0, 2], [3], [1, 4]]
    assert list(batches([], 2)) == []


def test_scales_of_the_levels_do_not_depend_on_the_first_image():
    heads = tiny_models.torchvision_detector()._network.roi_heads
    for pool in (heads.box_roi_pool, heads.mask_roi_pool):
        assert pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


@pytest.mark.slow
def test_stages_are_built_and_run_where_only_the_base_is_installed(monkeypatch):
    for library in ("mmcv", "mmdet", "mmpose", "mmpretrain", "sam2", "segment_anything", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)  # to import it is an error from here on
    image = scene()
    (people,) = tiny_models.torchvision_detector.__wrapped__().detect([image])
    (poses,) = tiny_models.torchvision_pose.__wrapped__().estimate([image], [people])
    assert len(poses) == len(people)


@pytest.mark.parametrize(
    ("network", "dtype", "told"),
    [({"layer": 3}, "float32", "network has no 'layer'; did you mean 'layers'"), (None, "int8", "dtype")],
)
def test_wrong_arguments_are_told(network, dtype, told):
    with pytest.raises(UserError, match=told):
        build_rcnn("TorchvisionPose", keypoint_rcnn, "random", network, sides=SIDES, device="cpu", dtype=dtype)


def test_the_preset_runs_on_the_base_alone_and_without_its_weights_ends_in_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("bmp.doctor.find_spec", lambda library: None)
    assert can_run("torchvision.py")
    assert not can_run("lite.py")

    def offline(*_):
        raise OSError("no network")

    monkeypatch.setattr("bmp.checkpoints.sources.download", offline)
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "cache"))
    photo = tmp_path / "photo.png"
    PILImage.fromarray(scene().pixels.numpy()).save(photo)
    assert main(["--config", "torchvision.py", str(photo), "-o", str(tmp_path / "found")]) == 2
    told = capsys.readouterr().err
    assert told.strip().count("\n") == 0
    _, name, _ = told.split(": ", 2)
    assert name in NAMES
    assert f"https://download.pytorch.org/models/{name} could not be had (no network)" in told
    assert f"put it at {tmp_path / 'cache' / name}" in told
