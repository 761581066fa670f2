"""PMPose nano: it runs in the pipeline's stage, trains with MMPose's runner, and learns a handful of figures by heart."""

import json

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmpose.registry import DATASETS, MODELS

import bmp.models.pmpose
import bmp.training.pose  # noqa: F401 -- registers
from bmp.config import load_config
from bmp.models.topdown import build_topdown
from bmp.ops.boxes import xywh_to_xyxy
from bmp.ops.heatmaps import decode_expected_oks
from bmp.ops.masks import from_rle
from bmp.poses.mmpose import MMPoseEstimator
from bmp.structures import Detections, Image


@pytest.fixture(scope="module")
def config():
    return load_config("train/pmpose_nano.py")


def _batch(config, folder, count, *, augmented=True):
    """Return the crops of a made-up data set's first people, collated as MMEngine does."""
    section = config.train_dataloader.dataset.dataset
    pipeline = list(section.pipeline)
    if not augmented:
        random = ("Noisy", "Flip", "Random", "mmpretrain.Color")
        pipeline = [step for step in pipeline if not step["type"].startswith(random)]
    with DefaultScope.overwrite_default_scope("mmpose"):
        dataset = DATASETS.build({**section, "data_root": str(folder), "pipeline": pipeline})
        return pseudo_collate([dataset[row] for row in range(count)])


def _network(config, seed=0):
    with DefaultScope.overwrite_default_scope("mmpose"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS.build(config.model)
        model.init_weights()
    return model.train()


def _losses(model, batch):
    return model(**model.data_preprocessor(batch, True), mode="loss")


def test_it_is_small():
    model = build_topdown(load_config("models/pmpose_nano.py").model, "random")
    assert sum(value.numel() for value in model.backbone.parameters()) < 1_600_000
    assert sum(value.numel() for value in model.parameters()) < 2_500_000


@pytest.mark.slow
def test_it_is_a_stage_with_flip_test(make_figures, tmp_path):
    people = json.loads((make_figures(tmp_path, 2, people=2) / "train.json").read_text())
    images, detections = [], []
    for row, image in enumerate(people["images"]):
        pixels = cv2.cvtColor(cv2.imread(str(tmp_path / image["file_name"])), cv2.COLOR_BGR2RGB)
        own = [each for each in people["annotations"] if each["image_id"] == image["id"]][: row + 1]
        masks = from_rle([each["segmentation"] for each in own], 160, 160)
        boxes = xywh_to_xyxy(torch.tensor([each["bbox"] for each in own]))
        images.append(Image(torch.from_numpy(pixels)))
        detections.append(Detections(boxes, torch.ones(len(own)), masks))
    estimator = MMPoseEstimator("models/pmpose_nano.py", "random", flip_test=True)
    poses = estimator.estimate(images, detections)
    assert [each.keypoints.shape for each in poses] == [(1, 17, 2), (2, 17, 2)]
    for group, given in zip(poses, detections, strict=True):
        middle = (given.boxes[:, None, :2] + given.boxes[:, None, 2:]) / 2
        reach = 1.25 * (given.boxes[:, None, 2:] - given.boxes[:, None, :2]).amax(-1, keepdim=True)
        assert ((group.keypoints - middle).abs() <= reach).all()


@pytest.mark.slow
def test_a_step_of_training(config, make_figures, tmp_path):
    np.random.seed(0)
    batch = _batch(config, make_figures(tmp_path, 4, people=2), 8)
    model = _network(config)
    losses = _losses(model, batch)
    names = {"loss_kpt", "loss_scores", "loss_presence", "loss_visibility", "loss_oks"}
    assert set(losses) == names
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in model.parameters())


@pytest.mark.slow
def test_it_learns_two_figures_by_heart(config, make_figures, tmp_path):
    batch = _batch(config, make_figures(tmp_path, 2, seed=5), 2, augmented=False)
    model = _network(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(100):
        optimizer.zero_grad()
        sum(_losses(model, batch).values()).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        found = model.head(model.extract_feat(model.data_preprocessor(batch)["inputs"]))
    labels = [sample.gt_instance_labels for sample in batch["data_samples"]]
    inside = torch.cat([each.keypoint_weights for each in labels]) > 0
    assert inside.sum() > 25
    places = torch.cat([each.keypoint_locations for each in labels])
    assert (decode_expected_oks(found.heatmaps)[0] - places).norm(dim=-1)[inside].max() < 1
    assert found.presence[inside].min() > 0.5
    hidden = torch.cat([each.visibility for each in labels])[inside]
    assert ((found.visibility[inside] > 0.5) == (hidden > 0)).float().mean() > 0.95


@pytest.mark.slow
def test_it_trains_validates_and_resumes_with_mmengines_runner(make_figures, tmp_path):
    from bmp.training.runner import train
    from bmp.training.settings import read_config

    make_figures(tmp_path, 4, people=2)
    make_figures(tmp_path, 2, people=2, seed=1, name="val")

    def weights(folder, iterations, resume=False):
        changes = {"data_root": str(tmp_path), "train_cfg.max_iters": iterations, "train_cfg.val_interval": 2}
        changes |= {"train_dataloader.batch_size": 4, "default_hooks.checkpoint.interval": 1}
        checkpoint = train(read_config("train/pmpose_nano.py", changes, tmp_path / folder), resume=resume)
        return torch.load(checkpoint, weights_only=False)["state_dict"]

    undisturbed = weights("undisturbed", 2)
    weights("resumed", 1)
    resumed = weights("resumed", 2, resume=True)
    assert all(torch.equal(value, resumed[name]) for name, value in undisturbed.items())
