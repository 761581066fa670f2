"""The image encoder in training on part maps: what it is given, what it learns, what becomes of it."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.checkpoints import load_state_dict
from bmp.datasets.parts import CIHP_PARTS
from bmp.errors import UserError
from bmp.segmenters.finetune.model import PoseSAM
from bmp.segmenters.finetune.parts import PartEncoder, PartMaps

FACE, LEFT_ARM, RIGHT_ARM = (CIHP_PARTS.index(name) for name in ("face", "left arm", "right arm"))
STILL = {"flip": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "grey": 0.0}


@pytest.fixture
def folders(tmp_path):
    """Two images of 64 x 64 with a face above, the left arm at the right of it and the right arm at the left."""
    for number in range(2):
        labels = np.zeros((64, 64), np.uint8)
        labels[:16, 24:40] = FACE
        labels[24:56, 40:] = LEFT_ARM
        labels[24:56, :24] = RIGHT_ARM
        pixels = np.stack([labels * 10, 255 - labels * 10, np.full_like(labels, 90 + number)], axis=2)
        for folder in ("images", "parts"):
            (tmp_path / folder).mkdir(exist_ok=True)
        PILImage.fromarray(pixels).save(tmp_path / "images" / f"{number:06}.jpg", quality=95)
        cv2.imwrite(str(tmp_path / "parts" / f"{number:06}.png"), labels)
    return tmp_path


def maps(folder, **augment):
    return PartMaps(folder / "images", folder / "parts", size=64, augment={**STILL, **augment})


def test_labels_are_those_of_the_pixels_four_by_four(folders):
    sample = maps(folders)[0]
    labels = sample["data_samples"]
    assert sample["inputs"].dtype == torch.uint8
    assert sample["inputs"].shape == (3, 64, 64)
    assert labels.dtype == torch.int64
    assert labels.shape == (16, 16)
    assert labels[2, 8] == FACE
    assert labels[10, 13] == LEFT_ARM
    assert labels[10, 2] == RIGHT_ARM
    assert labels[15, 8] == 0


def test_in_the_mirror_left_is_right(folders):
    plain, mirrored = maps(folders)[1], maps(folders, flip=1.0)[1]
    assert torch.equal(mirrored["inputs"], plain["inputs"].flip(2))
    assert mirrored["data_samples"][10, 2] == RIGHT_ARM  # what was the left arm, at the right
    assert mirrored["data_samples"][10, 13] == LEFT_ARM
    assert torch.equal(mirrored["data_samples"] == FACE, (plain["data_samples"] == FACE).flip(1))


def test_images_without_part_maps_are_named(folders):
    (folders / "parts" / "000001.png").unlink()
    with pytest.raises(UserError, match=r"000001\.png.*--extras"):
        maps(folders)


def test_no_images_are_an_error(tmp_path):
    with pytest.raises(UserError, match="--extras"):
        maps(tmp_path)


@pytest.mark.parametrize("name", ["rotation", "shear"])
def test_part_maps_are_not_turned(folders, name):
    with pytest.raises(UserError, match="mirrored only"):
        maps(folders, **{name: 5.0})


def test_the_encoder_learns_and_nothing_else(tmp_path, folders):
    model = PartEncoder(tiny_models.sam2_config(tmp_path))
    sample = PartMaps(folders / "images", folders / "parts", size=tiny_models.SAM_SIDE, augment=STILL)[0]
    batch = model.data_preprocessor({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}, True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        (loss,) = model(**batch).values()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"heads", "sam"}
    assert {name.split(".")[1] for name in changed if name.startswith("sam.")} == {"image_encoder"}


def test_it_predicts_nothing(tmp_path):
    model = PartEncoder(tiny_models.sam2_config(tmp_path))
    with pytest.raises(ValueError, match="training only"):
        model(torch.zeros(1, 3, 128, 128), [torch.zeros(32, 32, dtype=torch.int64)], mode="predict")


@pytest.mark.slow
def test_the_command_exports_what_pose_sam_starts_from(folders, tmp_path):
    yaml = tiny_models.sam2_config(tmp_path)
    options = {
        "model.model": yaml,
        "train_cfg.max_iters": 2,
        "train_dataloader.batch_size": 1,
        "train_dataloader.num_workers": 0,
        "train_dataloader.dataset.dataset.images": folders / "images",
        "train_dataloader.dataset.dataset.parts": folders / "parts",
        "train_dataloader.dataset.dataset.size": tiny_models.SAM_SIDE,
    }
    settings = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    exported = tmp_path / "encoder.safetensors"
    command = [sys.executable, "-m", "bmp.train", "train/sam_nano_encoder.py", *settings]
    command += ["--work-dir", str(tmp_path / "work"), "--export", str(exported)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not any(name.startswith(("sam.", "heads.")) for name in load_state_dict(exported))
    trained = PoseSAM(yaml, str(exported), sampler={"type": "MaskRefine"})
    fresh = PoseSAM(yaml, "random", sampler={"type": "MaskRefine"})
    name = "image_encoder.trunk.patch_embed.proj.weight"
    assert not torch.equal(trained.state_dict()[name], fresh.state_dict()[name].half().float())
    name = "sam_mask_decoder.iou_token.weight"
    assert torch.equal(trained.state_dict()[name], fresh.state_dict()[name].half().float())
