"""The image encoder in training on part maps: what it is given, what it learns, what becomes of it."""

import json
import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from program import main_in

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.checkpoints.loading import load_state_dict
from bmp.errors import UserError
from bmp.label_sets import CIHP_PARTS
from bmp.ops.masks import to_rle
from bmp.training.__main__ import main
from bmp.training.segmenter.model import PoseSAM
from bmp.training.segmenter.parts import PartEncoder, PartGroundTruth, PartMaps, masks_of_points

FACE, LEFT_ARM, RIGHT_ARM = (CIHP_PARTS.index(name) for name in ("face", "left arm", "right arm"))
STILL = {"flip": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "grey": 0.0}


@pytest.fixture
def folder(tmp_path):
    """Two images of 64 x 64: a face above, the left arm at the right of it, the right arm at the left.

    In the first, face and left arm are one person's and the right arm is another's; in the second there is nobody.
    """
    (tmp_path / "parts").mkdir()
    labels = np.zeros((64, 64), np.uint8)
    labels[:16, 24:40] = FACE
    labels[24:56, 40:] = LEFT_ARM
    labels[24:56, :24] = RIGHT_ARM
    images, rows = [], []
    for number, parts in enumerate((labels, np.zeros_like(labels))):
        pixels = np.stack([parts * 10, 255 - parts * 10, np.full_like(parts, 90 + number)], axis=2)
        PILImage.fromarray(pixels).save(tmp_path / f"{number:06}.png")
        cv2.imwrite(str(tmp_path / "parts" / f"{number:06}.png"), parts)
        images.append({"id": number + 1, "file_name": f"{number:06}.png", "height": 64, "width": 64})
    for number, (own, box) in enumerate((((FACE, LEFT_ARM), [24, 0, 40, 56]), ((RIGHT_ARM,), [0, 24, 24, 32])), 1):
        mask = torch.from_numpy(np.isin(labels, own))
        row = {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(mask.sum()), "bbox": box}
        rows.append(row | {"segmentation": to_rle(mask[None])[0]})
    (tmp_path / "people.json").write_text(json.dumps({"images": images, "annotations": rows}))
    return tmp_path


def maps(folder, size=64, **augment):
    dataset = {"type": "PeopleDataset", "annotations": folder / "people.json", "images": folder}
    return PartMaps(dataset, folder / "parts", size=size, augment={**STILL, **augment})


def test_places_are_four_by_four_pixels(folder):
    sample = maps(folder)[0]
    ground_truth = sample["data_samples"]
    assert sample["inputs"].dtype == torch.uint8
    assert sample["inputs"].shape == (3, 64, 64)
    assert ground_truth.labels.dtype == torch.int64
    assert ground_truth.labels.shape == ground_truth.owners.shape == (16, 16)
    assert ground_truth.labels[2, 8] == FACE
    assert ground_truth.labels[10, 13] == LEFT_ARM
    assert ground_truth.labels[10, 2] == RIGHT_ARM
    assert ground_truth.labels[15, 8] == 0
    assert ground_truth.owners[2, 8] == ground_truth.owners[10, 13] == 1
    assert ground_truth.owners[10, 2] == 2
    assert torch.equal(ground_truth.owners > 0, ground_truth.labels > 0)


def test_sides_are_those_of_the_own_box_from_the_middle_of_the_place(folder):
    sides = maps(folder)[0]["data_samples"].sides
    x, y = (8 + 0.5) / 16, (2 + 0.5) / 16  # in the face, whose person reaches from (24, 0) to (64, 56)
    assert sides[:, 2, 8].tolist() == pytest.approx([x - 24 / 64, y, 1 - x, 56 / 64 - y])
    x, y = (2 + 0.5) / 16, (10 + 0.5) / 16  # in the right arm, whose person is nothing else
    assert sides[:, 10, 2].tolist() == pytest.approx([x, y - 24 / 64, 24 / 64 - x, 56 / 64 - y])
    assert not sides[:, 15, 8].any()


def test_an_image_without_people(folder):
    ground_truth = maps(folder)[1]["data_samples"]
    assert not ground_truth.labels.any()
    assert not ground_truth.owners.any()
    assert not ground_truth.sides.any()


def test_in_the_mirror_left_is_right(folder):
    plain, mirrored = maps(folder)[0], maps(folder, flip=1.0)[0]
    assert torch.equal(mirrored["inputs"], plain["inputs"].flip(2))
    old, new = plain["data_samples"], mirrored["data_samples"]
    assert new.labels[10, 2] == RIGHT_ARM  # what was the left arm, at the right
    assert new.labels[10, 13] == LEFT_ARM
    assert torch.equal(new.owners, old.owners.flip(1))
    torch.testing.assert_close(new.sides, old.sides[[2, 1, 0, 3]].flip(2))


def test_images_without_part_maps_are_named(folder):
    (folder / "parts" / "000001.png").unlink()
    with pytest.raises(UserError, match=r"000001\.png.*--extras"):
        maps(folder)


def test_a_broken_part_map_is_named(folder):
    (folder / "parts" / "000001.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"000001\.png: not a picture"):
        maps(folder)[1]


@pytest.mark.parametrize("name", ["rotation", "shear"])
def test_part_maps_are_not_turned(folder, name):
    with pytest.raises(UserError, match="mirrored only"):
        maps(folder, **{name: 5.0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("masks", "learnt"), [(0.0, {"parts": 0.6, "sides": 0.8}), (1.0, {"parts": 0.6, "masks": 0.8})]
)
def test_the_encoder_learns_and_nothing_else(tmp_path, folder, masks, learnt):
    model = PartEncoder(tiny_models.sam2_config(tmp_path), masks=masks)
    sample = maps(folder, tiny_models.SAM_SIDE)[0]
    batch = model.data_preprocessor({"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}, True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(**batch)
        optimizer.zero_grad()
        sum(loss.values()).backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in loss.items()})
    for name, share in learnt.items():
        assert losses[-1][f"loss_{name}"] < share * losses[0][f"loss_{name}"]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.split(".")[0] for name in changed} == {"heads", "sam"}
    assert {name.split(".")[1] for name in changed if name.startswith("sam.")} == {"image_encoder"}


@pytest.mark.slow
def test_sides_count_only_where_people_are(tmp_path, folder):
    model = PartEncoder(tiny_models.sam2_config(tmp_path))
    images = torch.rand(1, 3, tiny_models.SAM_SIDE, tiny_models.SAM_SIDE)
    ground_truth = maps(folder, tiny_models.SAM_SIDE)[0]["data_samples"]
    before = model(images, [ground_truth])["loss_sides"]
    elsewhere = torch.where(ground_truth.owners > 0, ground_truth.sides, 7.0)
    torch.testing.assert_close(
        model(images, [PartGroundTruth(ground_truth.labels, ground_truth.owners, elsewhere)])["loss_sides"], before
    )
    nobody = PartGroundTruth(ground_truth.labels, torch.zeros_like(ground_truth.owners), ground_truth.sides)
    assert model(images, [nobody])["loss_sides"] == 0


def same(*traits, weight=0.0, bias=0.0):
    """Traits (1, T, P) and weights (1, T + 1, P), the same of each place."""
    traits = torch.tensor([traits])
    weights = torch.full((1, traits.shape[1] + 1, traits.shape[2]), weight)
    weights[:, -1] = bias
    return traits, weights


@pytest.mark.parametrize(("traits", "least", "most"), [((0.0, 1, 1, 2, 2, 2), 0, 1e-3), ((0.0, 1, 2, 0, 1, 2), 5, 99)])
def test_places_of_one_person_have_the_same_traits(traits, least, most):
    owners = torch.tensor([[0, 1, 1, 2, 2, 2]])
    assert least <= masks_of_points(*same(traits, weight=math.log(40), bias=20.0), owners).item() <= most


def test_masks_of_points_by_hand():
    owners = torch.tensor([[1, 0]])  # all points are at the first place, with logits 1 and 1 - 3 (2 - 1)² - 2 (1 - 3)²
    traits = torch.tensor([[[1.0, 2.0], [3.0, 1.0]]])
    weights = torch.tensor([[[3.0, 9.0], [2.0, 9.0], [math.e, 9.0]]]).log()
    right, wrong = (1 / (1 + math.exp(-logit)) for logit in (1, -10))
    crossed = -(math.log(right) + math.log(1 - wrong)) / 2
    dice = 1 - (2 * right + 1) / (right + wrong + 1 + 1)
    assert masks_of_points(traits, weights, owners).item() == pytest.approx(crossed + dice)


def test_as_many_points_on_small_people_as_on_large_ones():
    owners = torch.tensor([[0] * 50 + [1] * 45 + [2] * 5])
    traits, weights = same([0.0] * 100, bias=-30.0)
    weights[0, -1, 95:] = 30.0  # only points of the small one have a mask, of everything
    torch.manual_seed(0)
    loss = masks_of_points(*(values.expand(40, -1, -1) for values in (traits, weights)), owners.expand(40, -1)).item()
    everything = 30 * 0.95 + 1 - 11 / 106
    nothing = 30 * 0.45 + 1 - 1 / 46
    assert loss == pytest.approx((everything + nothing) / 2, rel=0.03)


@pytest.mark.slow
def test_nobody_has_no_masks(tmp_path, folder):
    model = PartEncoder(tiny_models.sam2_config(tmp_path), masks=1.0)
    losses = model(
        torch.rand(1, 3, tiny_models.SAM_SIDE, tiny_models.SAM_SIDE),
        [maps(folder, tiny_models.SAM_SIDE)[1]["data_samples"]],
    )
    assert losses["loss_masks"] == 0
    sum(losses.values()).backward()  # several processes wait for the gradient of every tensor
    assert model.heads[0].weight.grad is not None


def test_it_predicts_nothing(tmp_path):
    model = PartEncoder(tiny_models.sam2_config(tmp_path))
    with pytest.raises(ValueError, match="training only"):
        model(torch.zeros(1, 3, 128, 128), [], mode="predict")


@pytest.mark.slow
def test_the_command_exports_what_pose_sam_starts_from(folder, tmp_path):
    yaml = tiny_models.sam2_config(tmp_path)
    options = {
        "model.model": yaml,
        "train_cfg.max_iters": 2,
        "train_dataloader.batch_size": 1,
        "train_dataloader.num_workers": 0,
        "train_dataloader.dataset.dataset.dataset.annotations": folder / "people.json",
        "train_dataloader.dataset.dataset.dataset.images": folder,
        "train_dataloader.dataset.dataset.parts": folder / "parts",
        "train_dataloader.dataset.dataset.size": tiny_models.SAM_SIDE,
    }
    settings = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    exported = tmp_path / "encoder.safetensors"
    options = ("--work-dir", tmp_path / "work", "--export", exported)
    code, _, err = main_in(tmp_path, "train/sam_nano_encoder.py", *settings, *options, main=main)
    assert code == 0, err
    assert not any(name.startswith(("sam.", "heads.")) for name in load_state_dict(exported))
    trained = PoseSAM(yaml, str(exported), sampler={"type": "MaskRefine"})
    fresh = PoseSAM(yaml, "random", sampler={"type": "MaskRefine"})
    name = "image_encoder.trunk.patch_embed.proj.weight"
    assert not torch.equal(trained.state_dict()[name], fresh.state_dict()[name].half().float())
    name = "sam_mask_decoder.iou_token.weight"
    assert torch.equal(trained.state_dict()[name], fresh.state_dict()[name].half().float())
