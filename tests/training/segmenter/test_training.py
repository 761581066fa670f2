"""The command that trains, on a shrunk network and two drawn pictures: checkpoints, validation, resuming."""

import json
from pathlib import Path

import pytest
import torch
from fakes import scene
from PIL import Image as PILImage
from program import together

from bmp.ops.masks import to_rle

pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models

from bmp.checkpoints.loading import load_state_dict
from bmp.models.sam2 import build_sam2
from bmp.segmenters.prompting import MaxSpread
from bmp.segmenters.sam2 import SAM2Segmenter
from bmp.training.__main__ import main

SQUARES = [[(8, 10, 20, 30), (30, 5, 50, 40)], [(5, 5, 30, 40)], [(1, 1, 20, 20), (30, 30, 60, 47)]]
CONFIG = """
_base_ = ["train/_base_/sam_finetune.py"]
people = dict(type="PeopleDataset", annotations="{folder}/people.json", images="{folder}")
model = dict(
    type="PoseSAM",
    model="{folder}/tiny.yaml",
    checkpoint="random",
    sampler=dict(type="PoseMaskRefine", corrections=1),
    test=dict(prompter=dict(type="MaxSpread", count=3), hole_area=0, speck_area=0),
)
train_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="PoseMaskDataset", sources=dict(a=dict(dataset=people)), size=128, augment=dict()),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
param_scheduler = [dict(type="CosineAnnealingLR", T_max=2, eta_min=5e-7, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(by_epoch=True, interval=1, save_best="segm/AP", rule="greater"))
log_processor = dict(by_epoch=True)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(type="PosedImages", dataset=people),
)
"""


@pytest.fixture
def config(tmp_path) -> Path:
    """A config of a training, and beside it its data."""
    images, rows = [], []
    for number, squares in enumerate(SQUARES, 1):
        picture = scene(*squares)
        PILImage.fromarray(picture.pixels.numpy()).save(tmp_path / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": picture.height, "width": picture.width})
        for own, (x1, y1, x2, y2) in enumerate(squares):
            bits = picture.pixels[..., 0] == 200 + own
            keypoints = [v for k in range(17) for v in (x1 + k % 7, y1 + k, 2)]
            row = {"id": 10 * number + own, "image_id": number, "category_id": 1, "area": int(bits.sum()), "iscrowd": 0}
            row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": to_rle(bits[None])[0], "keypoints": keypoints}
            rows.append(row)
    (tmp_path / "people.json").write_text(json.dumps({"images": images, "annotations": rows}))
    tiny_models.sam2_config(tmp_path)
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def logged(folder):
    """The scalars that were written while training, a dict a line."""
    files = sorted(folder.rglob("vis_data/scalars.json"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_it_trains_validates_and_goes_on(config, tmp_path):
    work = tmp_path / "work"
    options = [str(config), "--work-dir", str(work), "--set", "optim_wrapper.accumulative_counts=2"]
    assert main([*options, "--set", "train_cfg.max_epochs=1"]) == 0
    assert (work / "epoch_1.pth").exists()
    assert main([*options, "--resume", "--export", str(tmp_path / "tuned.safetensors")]) == 0
    rates = [line["lr"] for line in logged(work) if "loss" in line]
    assert len(rates) == 6
    assert rates[0] == pytest.approx(5e-6, rel=0.1)
    assert rates == sorted(rates, reverse=True)
    assert [line["segm/AP"] for line in logged(work) if "segm/AP" in line] == pytest.approx([0, 0], abs=100)
    assert list(work.glob("best_segm_AP_*.pth"))
    trained, start = (
        load_state_dict(work / "epoch_2.pth"),
        build_sam2(str(tmp_path / "tiny.yaml"), "random").state_dict(),
    )
    assert set(trained) == set(start)
    changed = {name.split(".")[0] for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    assert changed == {"sam_prompt_encoder", "sam_mask_decoder"}
    SAM2Segmenter(MaxSpread(3), str(tmp_path / "tuned.safetensors"), str(tmp_path / "tiny.yaml"))


@pytest.mark.slow
def test_averaged_weights_and_the_cache_are_options(config, tmp_path):
    options = [
        "custom_hooks=[{'type': 'EMAHook'}]",
        f"model.cache={tmp_path / 'embeddings'}",
        "train_dataloader.dataset.augment=None",
    ]
    arguments = [argument for option in options for argument in ("--set", option)]
    assert main([str(config), "--work-dir", str(tmp_path / "work"), *arguments]) == 0
    assert len(list((tmp_path / "embeddings").rglob("*.safetensors"))) == 3
    content = torch.load(tmp_path / "work" / "epoch_2.pth", weights_only=False)
    assert "ema_state_dict" in content


@pytest.mark.slow
def test_two_processes_train_together(config, tmp_path):
    options = ("--work-dir", tmp_path / "work", "--set", "train_cfg.max_epochs=1")
    for code, _, err in together(tmp_path, config, *options, main=main):
        assert code == 0, err
    assert (tmp_path / "work" / "epoch_1.pth").exists()
    assert len([line for line in logged(tmp_path / "work") if "loss" in line]) == 2
    assert any("segm/AP" in line for line in logged(tmp_path / "work"))


@pytest.mark.slow
def test_missing_keypoints_are_said_in_one_line(config, tmp_path, capsys):
    missing = f"train_dataloader.dataset.sources.a={{'dataset': {{'type': 'PeopleDataset', 'annotations': '{tmp_path}/people.json', 'images': '{tmp_path}'}}, 'keypoints': '{tmp_path}/none.json'}}"
    assert main([str(config), "--work-dir", str(tmp_path / "work"), "--set", missing]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert "none.json: expected the keypoints that an estimator finds, found none; make them with" in line
