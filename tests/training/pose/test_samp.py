"""SAMP's shared mode in training: windows and targets go together, the cache changes nothing, and it learns."""

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle

pytest.importorskip("mmpose", reason="MMPose is not installed")
pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models
from safetensors.torch import save_file

from bmp import UserError
from bmp.datasets.people import PeopleDataset
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.poses.samp import SAMPose
from bmp.training.pose.samp import PoseAP, SAMPTraining
from bmp.training.pose.windows import MaskErrors, PosedCrowds, WindowedPeople

CROP = (64, 64)
SMALL = dict(level_channels=(64, 64, 64), crop=CROP, channels=16, stem_channels=(8, 16, 16, 16))
STILL = dict(shift=0.0, scale=(1.0, 1.0), turned=0.0, brightness=0.0, contrast=0.0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two images of two people each; a person's only labelled keypoint, the left wrist, is a white dot."""
    folder = tmp_path_factory.mktemp("people")
    images, annotations = [], []
    for number in range(2):
        pixels = np.full((96, 120, 3), 40 + 30 * number, np.uint8)
        for x, y, width, height in ((10, 12, 40, 60), (50, 20, 56, 64)):
            dot = (x + width // 3, y + height // 4)
            cv2.circle(pixels, dot, 2, (255, 255, 255), -1)
            mask = np.zeros((96, 120), np.uint8, order="F")
            mask[y : y + height, x : x + width] = 1
            keypoints = [0] * 51
            keypoints[27:30] = *dot, 1 + number
            shape = rle.encode(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                    "bbox": [x, y, width, height], "area": width * height, "keypoints": keypoints, "num_keypoints": 1,
                    "segmentation": {"size": shape["size"], "counts": shape["counts"].decode()},
                }
            )  # fmt: skip
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 120})
    category = {"id": 1, "name": "person", "keypoints": list(COCO_KEYPOINTS.names), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    (folder / "people.json").write_text(json.dumps(content))
    return PeopleDataset(folder / "people.json", folder)


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    return dict(model=tiny_models.sam2_config(tmp_path_factory.mktemp("sam")), checkpoint="random")


@pytest.mark.parametrize(
    "jitter", [STILL, {**STILL, "turned": 1.0}, {**STILL, "shift": 0.16, "scale": (0.7, 1.3), "turned": 1.0}]
)
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_the_dot_is_where_the_target_says(dataset, jitter, flip):
    torch.manual_seed(5)
    people = WindowedPeople(dataset, CROP, jitter=jitter, flip=flip)[1]["data_samples"]
    wrist = COCO_KEYPOINTS.names.index("right_wrist" if flip else "left_wrist")
    assert people.flags[:, wrist].tolist() == [2, 2]
    assert int((people.flags > 0).sum()) == 2
    for crop, location in zip(people.crops, people.locations[:, wrist] * 63, strict=True):
        bright = (crop[0] > 170).nonzero().flip(1).float()
        bright = bright[(bright - location).norm(dim=1) < 6]  # there may be the other person's dot, too
        # The keypoint is the middle of a pixel, half a pixel from where edges count from 0.
        assert bright.mean(0).tolist() == pytest.approx(location.tolist(), abs=1.2)


def test_masks_with_errors_are_not_empty_and_stay_masks():
    torch.manual_seed(0)
    masks = torch.zeros(64, 32, 24)
    masks[:, 8:24, 6:18] = 1
    others = torch.zeros_like(masks)
    others[32:, :, 18:] = 1
    noisy = MaskErrors().apply(masks, others)
    assert noisy.min() >= 0
    assert noisy.max() <= 1
    assert noisy.flatten(1).any(1).all()
    full = noisy.flatten(1).min(1).values == 1
    assert 0 < full.sum() < 20  # no mask at all, for about a tenth
    changed = ~(noisy == masks).flatten(1).all(1) & ~full
    assert changed.sum() > 30
    assert torch.equal(MaskErrors(0, 0, 0, 0).apply(masks, others), masks)


def test_only_images_with_poses_are_trained_on(dataset):
    assert len(WindowedPeople(dataset, CROP)) == 2
    assert len(WindowedPeople(dataset, CROP, limit=1)) == 1
    with pytest.raises(IndexError):
        PosedCrowds(dataset, limit=1)[1]
    nobody = PeopleDataset.__new__(PeopleDataset)
    nobody.name, nobody.ground_truth = "nobody", {**dataset.ground_truth, "annotations": []}
    with pytest.raises(UserError, match="nobody: nobody has both keypoints and a mask"):
        WindowedPeople(nobody, CROP)


def _batch(dataset):
    torch.manual_seed(1)
    samples = [WindowedPeople(dataset, CROP, jitter=STILL, errors=dict(none=0.0))[index] for index in (0, 1)]
    return [each["inputs"] for each in samples], [each["data_samples"] for each in samples]


@pytest.mark.parametrize("head", ["probabilistic", "heatmaps"])
@pytest.mark.slow  # seconds of training
def test_it_learns_and_what_it_learned_is_what_the_stage_does(dataset, sam, tmp_path, head):
    settings = {**SMALL, "head": head}
    model = SAMPTraining(settings, sam).train()
    encoder = {name: value.clone() for name, value in model._encoder.module.state_dict().items()}
    assert not any("trunk" in name for name in model.state_dict())
    images, people = _batch(dataset)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    reached = []
    for _ in range(40):
        losses = model(images, people)
        total = sum(value for name, value in losses.items() if name.startswith("loss"))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        reached.append(losses["expected_oks"].item())
    assert {name for name in losses if name.startswith("loss_maps")} == {"loss_maps0", "loss_maps1", "loss_maps2"}
    assert reached[0] < 0.3 < 0.6 < reached[-1]
    assert all(torch.equal(value, encoder[name]) for name, value in model._encoder.module.state_dict().items())

    model.eval()
    posed = [PosedCrowds(dataset)[index]["inputs"] for index in range(2)]
    rows = model(posed, mode="predict")
    metric = PoseAP()
    metric.dataset_meta = PosedCrowds(dataset).metainfo
    metric.process({}, rows)
    assert metric.evaluate(2)["pose/AP50"] > 90

    file = tmp_path / "samp.safetensors"
    save_file(model.network.state_dict(), file)
    stage = SAMPose(SAM2Encoder(**sam), str(file), settings)
    found = stage.estimate([each.image for each in posed], [each.people for each in posed])
    wrist = COCO_KEYPOINTS.names.index("left_wrist")
    assert all((poses.scores[:, wrist] > 0.3).all() for poses in found)
    assert all((poses.expected_oks is None) == (head == "heatmaps") for poses in found)
    for poses, image in zip(found, rows, strict=True):
        expected = torch.tensor([row["keypoints"] for row in image]).reshape(len(image), 17, 3)[..., :2]
        torch.testing.assert_close(poses.keypoints, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.slow
def test_the_cache_is_asked_instead_of_the_encoder(dataset, sam, tmp_path):
    images, people = _batch(dataset)
    numbers = []
    for _ in range(2):
        model = SAMPTraining(SMALL, sam, cache=tmp_path)
        asked = []
        model._encoder.module.register_forward_pre_hook(lambda *_, asked=asked: asked.append(1))
        numbers.append(model(images, people)["loss_maps0"].item())
        assert len(asked) == (len(numbers) == 1)
    assert numbers[0] == numbers[1]
