"""The 23 keypoints: their order, the mappings by name, and that the ready configs mix three data sets and learn."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmpose.datasets.transforms import KeypointConverter
from mmpose.registry import DATASETS, KEYPOINT_CODECS, MODELS

import bmp.models.pmpose  # noqa: F401 -- registers
from bmp.config import load_config
from bmp.datasets.held_out import is_held_out
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS
from bmp.models.openmmlab import quiet_models
from bmp.models.pmpose.codecs import OKSHeatmap
from bmp.models.pmpose.keypoints import ADDED, SOURCES, PMPoseKeypoints, mapping_to_pmpose, pmpose_metainfo
from bmp.training.settings import read_config

COUNTS = {"coco": 17, "mpii": 16, "aic": 14}
THORAX, PELVIS, MPII_NECK, MPII_TOP, AIC_NECK, AIC_TOP = range(17, 23)


def test_the_order():
    names = list(pmpose_metainfo()["keypoint_id2name"].values())
    assert names == [*COCO_KEYPOINTS.names, *ADDED]
    assert [names.index(name) for name in ("mpii_thorax", "mpii_pelvis", "mpii_upper_neck")] == [17, 18, 19]
    assert names[-3:] == ["mpii_head_top", "aic_neck", "aic_head_top"]


def test_the_description_has_a_row_for_each_keypoint():
    metainfo = pmpose_metainfo()
    assert metainfo["num_keypoints"] == 23
    assert metainfo["flip_indices"] == [*COCO_KEYPOINTS.flip_indices, *range(17, 23)]
    assert sorted(metainfo["upper_body_ids"] + metainfo["lower_body_ids"]) == list(range(23))
    assert PELVIS in metainfo["lower_body_ids"]
    assert {THORAX, AIC_TOP} <= set(metainfo["upper_body_ids"])
    for key in ("sigmas", "dataset_keypoint_weights", "keypoint_colors"):
        assert len(metainfo[key]) == 23
    assert metainfo["sigmas"][:17] == pytest.approx(COCO_KEYPOINTS.sigmas)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("coco", {number: number for number in range(17)}),
        # MPII: right leg upwards, left leg downwards, pelvis, thorax, neck, top, right arm upwards, left arm downwards.
        ("mpii", dict(enumerate([16, 14, 12, 11, 13, 15, PELVIS, THORAX, MPII_NECK, MPII_TOP, 10, 8, 6, 5, 7, 9]))),
        # AIC: arms and legs downwards, right before left; top and neck.
        ("aic", dict(enumerate([6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, AIC_TOP, AIC_NECK]))),
    ],
)
def test_mappings(source, expected):
    assert dict(mapping_to_pmpose(source)) == expected
    assert len(expected) == COUNTS[source]


def test_another_data_set_is_refused():
    with pytest.raises(UserError, match="cannot convert people of the data set 'crowdpose', there is: coco, mpii, aic"):
        PMPoseKeypoints()({"dataset_name": "crowdpose"})


@pytest.mark.parametrize("source", SOURCES)
def test_conversion_is_that_of_mmpose_and_takes_the_visibility_along(source):
    random = np.random.default_rng(0)
    count = COUNTS[source]
    sample = {
        "dataset_name": source,
        "keypoints": random.random((1, count, 2)).astype(np.float32),
        "keypoints_visible": random.integers(0, 2, (1, count)).astype(np.float32),
        "flip_indices": list(range(count)),
    }
    if source == "coco":
        sample["keypoints_visibility"] = random.integers(0, 3, (1, count))
    before = {key: np.copy(value) for key, value in sample.items()}
    converted = PMPoseKeypoints()(sample)
    theirs = KeypointConverter(23, list(mapping_to_pmpose(source)))(dict(sample))
    np.testing.assert_array_equal(converted["keypoints"], theirs["keypoints"])
    np.testing.assert_array_equal(converted["keypoints_visible"], theirs["keypoints_visible"][..., 0])
    assert converted["flip_indices"] == pmpose_metainfo()["flip_indices"]
    assert all((np.asarray(sample[key]) == value).all() for key, value in before.items())
    if source == "coco":
        flags = sample["keypoints_visibility"][0].tolist() + [0] * 6
        assert converted["keypoints_visibility"].tolist() == [flags]
    else:
        assert "keypoints_visibility" not in converted


def test_the_codec_has_23_falloffs():
    codec = KEYPOINT_CODECS.build(dict(type="PMPoseHeatmap", input_size=(192, 256), heatmap_size=(48, 64)))
    assert type(codec) is OKSHeatmap
    assert codec.sigmas == pytest.approx(pmpose_metainfo()["sigmas"].tolist())
    assert codec.encode(np.full((1, 23, 2), 50.0))["heatmaps"].shape == (23, 64, 48)


HELD_OUT = next(number for number in range(2, 10_000) if is_held_out(number))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """One person of each data set in the files that the configs name: keypoint i is at (140 + 2i, 120 + 3i)."""
    root = tmp_path_factory.mktemp("data")
    config = load_config("mmpose/pmpose_s.py", {"data_root": str(root)})
    photo = np.full((320, 320, 3), 200, np.uint8)
    names = {"CocoDataset": "coco", "PeopleKeypoints": "coco", "MpiiDataset": "mpii", "AicDataset": "aic"}
    for section in config.train_dataloader.dataset.datasets:
        source = names[section.type]
        folder = root / source
        (folder / section.data_prefix.img).mkdir(parents=True)
        (folder / section.ann_file).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / section.data_prefix.img / "000001.jpg"), photo)
        places = [(140.0 + 2 * number, 120.0 + 3 * number) for number in range(COUNTS[source])]
        if source == "mpii":
            person = {"image": "000001.jpg", "center": [160.0, 145.0], "scale": 0.5, "joints": places}
            content = [{**person, "joints_vis": [1] * 15 + [0]}]
        else:
            flags = [1, *[2] * (len(places) - 2), 0]
            person = {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [130, 110, 60, 80],
                "area": 3000.0,
                "iscrowd": 0,
            }
            person["keypoints"] = [v for (x, y), flag in zip(places, flags, strict=True) for v in (x, y, flag)]
            person["num_keypoints"] = len(places) - 1
            if source == "coco":
                person["segmentation"] = [[130, 110, 190, 110, 190, 190, 130, 190]]
            # The same person again in a photo that is held out, to validate on.
            ids = (1, HELD_OUT) if source == "coco" else (1,)
            images = [{"id": number, "file_name": "000001.jpg", "width": 320, "height": 320} for number in ids]
            people = [{**person, "id": number, "image_id": number} for number in ids]
            content = {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}
        (folder / section.ann_file).write_text(json.dumps(content))
    return root


@pytest.fixture
def config(data):
    return read_config("mmpose/pmpose_s.py", {"data_root": str(data)})


def _built(section):
    with DefaultScope.overwrite_default_scope("mmpose"), quiet_models():
        return DATASETS.build(section)


@pytest.mark.slow
def test_the_three_are_mixed_and_keypoints_that_one_lacks_have_no_weight(config):
    np.random.seed(0)
    dataset = _built(config.train_dataloader.dataset)
    assert len(dataset) == 3
    for row, source in enumerate(SOURCES):
        packed = dataset[row]
        assert packed["inputs"].shape == (3, 256, 192)
        labels = packed["data_samples"].gt_instance_labels
        assert packed["data_samples"].gt_fields.heatmaps.shape == (23, 64, 48)
        labelled = {number for _, number in mapping_to_pmpose(source)[:-1]}  # the last is not
        if packed["data_samples"].flip:
            labelled = {pmpose_metainfo()["flip_indices"][number] for number in labelled}
        assert set(labels.presence_weights[0].nonzero().ravel().tolist()) == labelled
        assert (labels.keypoint_weights <= labels.presence_weights).all()
        # Whether a labelled keypoint can be seen is known of COCO's alone.
        assert bool(labels.visibility_weights.any()) == (source == "coco")
        assert packed["data_samples"].metainfo["flip_indices"] == pmpose_metainfo()["flip_indices"]


@pytest.mark.slow
def test_people_without_masks_are_conditioned_on_their_boxes(config):
    section = config.train_dataloader.dataset
    kept = ("PMPoseKeypoints", "LoadImage", "LoadPersonMask", "GetBBoxCenterScale", "MaskConditioning", "TopdownAffine")
    section.pipeline = [step for step in section.pipeline if step.type in kept]
    dataset = _built(section)
    crops = [dataset[row]["img"] for row in range(3)]
    assert all((crop[100:150, 80:110] == 200).all() for crop in crops)
    above = [crop[5:10, 80:110] for crop in crops]
    assert all((pixels == 150).all() for pixels in above)


@pytest.mark.slow
def test_a_step_of_training_and_of_validation(config):
    """On a network as shallow as can be."""
    np.random.seed(0)
    torch.manual_seed(0)
    config.model.backbone.update(arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24))
    config.model.head.update(in_channels=24, deconv_out_channels=(8, 8), branch_channels=8)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(config.model)
        model.init_weights()
    dataset = _built(config.train_dataloader.dataset)
    batch = pseudo_collate([dataset[row] for row in range(3)])
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    assert losses.keys() == {"loss_kpt", "loss_presence", "loss_visibility", "loss_oks"}
    assert all(value.isfinite() for value in losses.values())
    sum(losses.values()).backward()
    still = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is None}
    parts = {name.split(".")[1] for name, each in model.named_parameters() if each.grad is None and "head." in name}
    assert (still, parts) == ({"backbone", "head"}, {"error_layers"})
    assert model.head.loss_module.smoothing_weight == 0.05

    from mmengine.evaluator import Evaluator

    val = _built(config.val_dataloader.dataset)
    with DefaultScope.overwrite_default_scope("mmpose"):
        evaluator = Evaluator(config.val_evaluator)
    evaluator.dataset_meta = val.metainfo
    with torch.no_grad():
        samples = model.eval().val_step(pseudo_collate([val[0]]))
    assert samples[0].pred_instances.keypoints.shape == (1, 23, 2)
    evaluator.process(data_samples=samples)
    numbers = evaluator.evaluate(1)
    assert {"coco/AP", "ex_oks_edge/AP", "ex_oks_edge/mean"} <= numbers.keys()
    assert 0 < numbers["ex_oks_edge/mean"] < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "layers", "decay", "channels"),
    [("s", 12, 0.8, 384), ("b", 12, 0.75, 768), ("l", 24, 0.8, 1024), ("h", 32, 0.85, 1280)],
)
def test_the_four_sizes(size, layers, decay, channels):
    """As deep as the network's config says; crops and maps as the network's."""
    config = load_config(f"mmpose/pmpose_{size}.py")
    network = load_config(f"models/pmpose_{size}.py").model
    batch = 64 if size == "h" else 128
    maskpose = load_config(f"mmpose/maskpose_{size}.py")
    shared = ("num_layers", "layer_decay_rate")
    assert [maskpose.optim_wrapper.paramwise_cfg[key] for key in shared] == [layers, decay]
    assert maskpose.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * maskpose.train_dataloader.batch_size / 64)
    assert maskpose.model.head.in_channels == channels
    assert config.train_dataloader.batch_size == config.train_dataloader.sampler.batch_size == batch
    assert config.optim_wrapper.optimizer.lr == pytest.approx(5e-4 * batch / 64)
    assert config.load_from == f"MaskPose/MaskPose-{size}-1.1.0.pth"
    assert config.optim_wrapper.paramwise_cfg == dict(num_layers=layers, layer_decay_rate=decay)
    assert config.model.backbone.arch == network.backbone.arch
    assert config.model.head.in_channels == channels
    codec = next(step.encoder for step in config.train_dataloader.dataset.pipeline if step.type == "GenerateTarget")
    assert codec == config.model.head.decoder


@pytest.mark.slow
def test_probpose_learns_without_masks(data):
    config = read_config("mmpose/probpose_s.py", {"data_root": str(data)})
    steps = [step.type for step in config.train_dataloader.dataset.pipeline]
    assert "EdgesBlackout" in steps
    assert not {"MaskConditioning", "LoadPersonMask", "PMPoseKeypoints"} & set(steps)
    config.model.backbone.update(arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24))
    config.model.head.update(in_channels=24, deconv_out_channels=(8, 8), branch_channels=8)
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(config.model)
        model.init_weights()
    np.random.seed(0)
    batch = pseudo_collate([_built(config.train_dataloader.dataset)[0]])
    losses = model(**model.data_preprocessor(batch, True), mode="loss")
    assert losses.keys() == {"loss_kpt", "loss_presence", "loss_visibility", "loss_oks"}
    sum(losses.values()).backward()
    still = {name.split(".")[1] for name, each in model.named_parameters() if each.grad is None}
    assert still == {"error_layers"}
    with torch.no_grad():
        samples = model.eval().val_step(pseudo_collate([_built(config.val_dataloader.dataset)[0]]))
    assert samples[0].pred_instances.keypoints.shape == (1, 17, 2)


@pytest.mark.slow
def test_maskpose_learns_all_of_it(data):
    config = read_config("mmpose/maskpose_b.py", {"data_root": str(data)})
    config.model.backbone.update(arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24))
    config.model.head.update(in_channels=24, deconv_out_channels=(8, 8))
    with DefaultScope.overwrite_default_scope("mmpose"):
        model = MODELS.build(config.model)
        model.init_weights()
    np.random.seed(0)
    dataset = _built(config.train_dataloader.dataset)
    losses = model(**model.data_preprocessor(pseudo_collate([dataset[row] for row in range(3)]), True), mode="loss")
    losses["loss_kpt"].backward()
    assert all(each.grad is not None for each in model.parameters())
    with torch.no_grad():
        samples = model.eval().val_step(pseudo_collate([_built(config.val_dataloader.dataset)[0]]))
    assert samples[0].pred_instances.keypoints.shape == (1, 23, 2)


def test_nano_is_the_training_of_nano():
    ours, theirs = load_config("mmpose/pmpose_nano.py"), load_config("train/pmpose_nano.py")
    for key in ("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "val_dataloader"):
        assert ours[key] == theirs[key]
    assert [each.type for each in ours.val_evaluator] == ["CocoMetric", "ExOKSMetric"]


def test_missing_data_are_named_before_anything_is_built(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}/coco/annotations/person_keypoints_train2017.json: expected"):
        read_config("mmpose/pmpose_s.py", {"data_root": str(tmp_path)})


@pytest.mark.parametrize(
    "name", ["pmpose_nano", "pmpose_s", "pmpose_b", "pmpose_l", "pmpose_h", "probpose_s", "maskpose_b"]
)
def test_plain_mmengine_reads_the_trainings(name):
    config = Config.fromfile(Path(__file__).resolve().parents[3] / "configs" / "mmpose" / f"{name}.py")
    assert config.model.head.type == ("HeatmapHead" if name == "maskpose_b" else "ProbabilisticHeatmapHead")
