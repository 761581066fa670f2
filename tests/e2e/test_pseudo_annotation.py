"""What --input writes with --min-score is a data set: other programs read it and train on it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from program import BEHIND, CONFIG, FRONT, run, save
from pycocotools.coco import COCO
from tiny_models import rtmdet

from bmp.models.openmmlab import quiet_models

pytestmark = pytest.mark.slow
# The front person is sure, whoever comes out in round 2 is not.
STAGES = """
from fakes import FakeDetector

class Doubtful(FakeDetector):
    def __init__(self):
        super().__init__(score=0.4)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Photos, and the output folder of a run that keeps people from score 0.5 on."""
    folder = tmp_path_factory.mktemp("pseudo")
    (folder / "doubts.py").write_text(STAGES)
    (folder / "config.py").write_text(
        CONFIG.replace("dict(\n", 'dict(\n    redetector=dict(type="doubts.Doubtful"),\n', 1)
    )
    for number in range(4):
        save(folder / "photos" / "day" / f"{number}.png", BEHIND, FRONT)
    save(folder / "photos" / "empty.png")
    code, _, err = run(folder, "--input", "photos", "--output", "found", "--min-score", "0.5")
    assert (code, err) == (0, "")
    return folder


def test_only_sure_people_are_kept(found):
    coco = COCO(str(found / "found" / "people.json"))
    assert len(coco.imgs) == 5
    people = list(coco.anns.values())
    assert len(people) == 4
    assert {person["score"] for person in people} == {0.9}
    for person in people:
        assert coco.annToMask(person).sum() == person["area"] > 0
    for image in coco.imgs.values():
        with PILImage.open(found / "photos" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_another_score_is_another_run(found):
    for arguments in (["--min-score", "0.4"], []):
        code, _, err = run(found, "--input", "photos", "--output", "found", "--resume", *arguments)
        assert (code, "other settings (min_score)" in err) == (2, True)
    code, out, _ = run(found, "--input", "photos", "--output", "found", "--resume", "--min-score", "0.5")
    assert (code, "5 of 5 images were done before" in out) == (0, True)


def _train(found, config, scope):
    """Train for two steps with the library's runner and return it."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    loop = {
        "train_cfg": dict(type="IterBasedTrainLoop", max_iters=2),
        "optim_wrapper": dict(optimizer=dict(type="SGD", lr=1e-3)),
        "work_dir": str(found / scope),
        "default_scope": scope,
        "experiment_name": scope,
        "log_level": "ERROR",
    }
    with quiet_models():
        runner = Runner.from_cfg(Config({**config, **loop}))
    before = [parameter.clone() for parameter in runner.model.parameters()]
    with quiet_models():
        runner.train()
    after = list(runner.model.parameters())
    assert all(bool(torch.isfinite(parameter).all()) for parameter in after)
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    return runner


def _loader(dataset):
    sampler = dict(type="InfiniteSampler", shuffle=False)
    return dict(batch_size=2, num_workers=0, sampler=sampler, dataset=dataset)


def test_mmdet_trains_on_it(found):
    pytest.importorskip("mmdet", reason="needs the extra openmmlab", exc_type=ImportError)
    model = rtmdet("rtmdet-ins").model
    model.bbox_head.update(num_classes=1, norm_cfg=dict(type="BN"))
    for part in (model.backbone, model.neck):
        part.norm_cfg = dict(type="BN")
    model.backbone.init_cfg = None  # weights from another machine
    model.data_preprocessor.batch_augments = None
    model.train_cfg.allowed_border = -1
    dataset = dict(
        type="CocoDataset",
        ann_file=str(found / "found" / "people.json"),
        data_prefix=dict(img=str(found / "photos")),
        metainfo=dict(classes=("person",)),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="Resize", scale=(128, 96), keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    )
    runner = _train(found, dict(model=model, train_dataloader=_loader(dataset)), "mmdet")
    loaded = runner.train_dataloader.dataset
    assert len(loaded) == 4
    sample = loaded[0]["data_samples"].gt_instances
    assert len(sample.bboxes) == 1
    assert np.asarray(sample.masks.masks).any()


def test_mmpose_trains_on_it(found):
    pytest.importorskip("mmpose", reason="needs the extra openmmlab", exc_type=ImportError)
    codec = dict(type="MSRAHeatmap", input_size=(64, 96), heatmap_size=(16, 24), sigma=2)
    model = dict(
        type="TopdownPoseEstimator",
        data_preprocessor=dict(type="PoseDataPreprocessor"),
        backbone=dict(type="ResNet", depth=18),
        head=dict(
            type="HeatmapHead",
            in_channels=512,
            out_channels=17,
            deconv_out_channels=(16, 16, 16),
            deconv_kernel_sizes=(4, 4, 4),
            loss=dict(type="KeypointMSELoss", use_target_weight=True),
            decoder=codec,
        ),
    )
    dataset = dict(
        type="CocoDataset",
        data_mode="topdown",
        ann_file=str(found / "found" / "people.json"),
        data_prefix=dict(img=str(found / "photos")),
        pipeline=[
            dict(type="LoadImage"),
            dict(type="GetBBoxCenterScale"),
            dict(type="TopdownAffine", input_size=codec["input_size"]),
            dict(type="GenerateTarget", encoder=codec),
            dict(type="PackPoseInputs"),
        ],
    )
    runner = _train(found, dict(model=model, train_dataloader=_loader(dataset)), "mmpose")
    loaded = runner.train_dataloader.dataset
    assert len(loaded) == 4
    person = json.loads((found / "found" / "people.json").read_text())["annotations"][0]
    points = np.reshape(person["keypoints"], (17, 3))
    assert np.allclose(loaded.get_data_info(0)["keypoints"][0], points[:, :2])
