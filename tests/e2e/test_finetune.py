"""Two steps of fine-tuning on 1024 pixels, with the paper's config, less of its encoder and made-up weights, on photos."""

import importlib.util
import json
import resource

import pytest
import torch
from program import main_in

pytest.importorskip("sam2", reason="the package sam2 is not installed")

from bmp.checkpoints.loading import load_state_dict
from bmp.models.sam2 import _config_file, _import_sam2, build_sam2
from bmp.training.__main__ import main

CONFIG = """
_base_ = ["train/sam_pose2seg_b+.py"]
coco = dict(
    type="PeopleDataset",
    annotations="{shared}/data/coco_mini/test_coco.json",
    images="{shared}/data/coco_mini",
)
ochuman = dict(
    type="PeopleDataset",
    annotations="{shared}/data/ochuman_mini/test_ochuman.json",
    images="{shared}/data/ochuman_mini",
)
model = dict(model="{model}", checkpoint="random", test=dict(prompter=dict(_delete_=True, type="MaxSpread", count=3)))
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        sources=dict(
            _delete_=True, coco=dict(dataset=coco, weight=0.25), ochuman=dict(dataset=ochuman, weight=0.3)
        )
    ),
)
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
val_dataloader = dict(num_workers=0, dataset=dict(dataset=dict(_delete_=True, **ochuman), keypoints=None, limit=1))
"""
WITHOUT_TENSORBOARD = 'visualizer = dict(vis_backends=[dict(type="LocalVisBackend")])\n'


def shallow(folder):
    """Write the config of the paper's network with five of the encoder's 24 blocks, which are not trained."""
    from omegaconf import OmegaConf

    network = OmegaConf.load(_config_file(_import_sam2(), "sam2.1_hiera_b+"))
    network.model.image_encoder.trunk.update(stages=[1, 1, 2, 1], global_att_blocks=[3])
    path = folder / "shallow.yaml"
    path.write_text(OmegaConf.to_yaml(network))
    return str(path)


@pytest.mark.slow
def test_two_steps_of_the_papers_config(shared, tmp_path):
    """On two cores of a busy machine; the numbers are printed with ``pytest -s``."""
    curves = importlib.util.find_spec("tensorboard") is not None
    config, work = tmp_path / "config.py", tmp_path / "work"
    model = shallow(tmp_path)
    config.write_text(CONFIG.format(shared=shared, model=model) + ("" if curves else WITHOUT_TENSORBOARD))
    code, _, err = main_in(tmp_path, config, "--work-dir", work, main=main)
    assert code == 0, err
    (scalars,) = work.rglob("vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 2
    assert all(0 < step["loss"] < 10_000 and step["grad_norm"] > 0 for step in steps)
    assert [line["segm/AP"] for line in lines if "segm/AP" in line] == pytest.approx([0], abs=100)
    assert bool(list(work.rglob("events.out.tfevents.*"))) == curves
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nseconds a step: {[round(step['time'], 1) for step in steps]}, peak memory {gigabytes:.1f} GB")
    assert gigabytes < 16
    trained, start = load_state_dict(work / "epoch_1.pth"), build_sam2(model, "random").state_dict()
    assert set(trained) == set(start)
    changed = {name.split(".")[0] for name, tensor in trained.items() if not torch.equal(tensor, start[name])}
    assert changed == {"sam_prompt_encoder", "sam_mask_decoder"}
