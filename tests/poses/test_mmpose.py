"""The adapter of MMPose's top-down models: batches, conditioning, flips, options, and agreement with MMPose."""

import functools
import math

import numpy as np
import pytest
import torch
from tiny_models import VIT, pose_section

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.config import Config
from mmengine.registry import DefaultScope

import bmp.models.pmpose  # noqa: F401 -- registers the head
from bmp.errors import UserError
from bmp.label_sets import COCO_KEYPOINTS, KeypointSet, keypoint_set
from bmp.models.configs import load_model_config
from bmp.models.topdown import build_topdown
from bmp.poses.mmpose import MMPoseEstimator, _network_keypoints
from bmp.stages import PoseEstimator
from bmp.structures import Detections, Image, Poses

_STAND_INS = {"visibility_from": "score", "presence_from": "score"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights whose maps have a few clear peaks each."""
    model = build_topdown(pose_section(), "random")
    torch.manual_seed(3)
    torch.nn.init.normal_(model.backbone.pos_embed, std=0.5)
    model.head.final_layer.weight.data *= 8
    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save({"state_dict": model.state_dict()}, path)
    return str(path)


def _image(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    small = torch.randint(0, 256, (1, 3, 7, 9), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return Image(smooth[0].permute(1, 2, 0).to(torch.uint8))


def _people(image, *boxes, masks=True):
    rows = torch.tensor(boxes).float().reshape(-1, 4)
    bits = torch.zeros(len(rows), image.height, image.width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(bits, rows.int().tolist(), strict=True):
        mask[y1 : y1 + (y2 - y1) * 2 // 3, x1:x2] = True
    return Detections(rows, torch.ones(len(rows)), bits if masks else None)


@pytest.fixture
def crowd():
    images = [_image(90, 120, 0), _image(60, 50, 1), _image(101, 77, 2)]
    people = [
        _people(images[0], [10, 10, 60, 80], [40, 5, 90, 85], [30, 20, 70, 60]),
        _people(images[1]),
        _people(images[2], [5.5, 6.25, 40, 95], [20, 30, 76, 100]),
    ]
    return images, people


def _equal(first: Poses, second: Poses, atol=1e-4):
    for name in ("keypoints", "scores", "visibility", "presence"):
        torch.testing.assert_close(getattr(first, name), getattr(second, name), atol=atol, rtol=0)


@pytest.fixture(scope="module")
def adapter(checkpoint):
    """Makes the adapter of these weights with some options, once for each choice of them."""
    return functools.cache(lambda **options: MMPoseEstimator(pose_section(), checkpoint, **options))


@pytest.mark.slow
def test_it_is_a_pose_estimator(crowd, adapter):
    estimator = adapter()
    assert isinstance(estimator, PoseEstimator)
    images, people = crowd
    poses = estimator.estimate(images, people)
    assert [len(each) for each in poses] == [3, 0, 2]
    for each in poses:
        assert each.keypoints.shape[1:] == (17, 2)
        assert each.keypoints.dtype == torch.float32
        assert each.expected_oks is not None
    assert not poses[0].keypoints.requires_grad


@pytest.mark.slow
def test_batch_size_changes_nothing(crowd, adapter):
    images, people = crowd
    expected = adapter(batch_size=64).estimate(images, people)
    for batch_size in (1, 2, 3):
        poses = adapter(batch_size=batch_size).estimate(images, people)
        for ours, reference in zip(poses, expected, strict=True):
            _equal(ours, reference)


@pytest.mark.slow
def test_padding_to_few_numbers_of_crops_changes_nothing(crowd, adapter, monkeypatch):
    images, people = crowd
    expected = adapter().estimate(images, people)
    estimator = adapter(batch_size=3)
    sizes = []
    extract = estimator._model.extract_feat
    monkeypatch.setattr(estimator._model, "extract_feat", lambda inputs: sizes.append(len(inputs)) or extract(inputs))
    estimator._pads = True
    for ours, reference in zip(estimator.estimate(images, people), expected, strict=True):
        _equal(ours, reference)
    assert set(sizes) <= {2, 4, 6}


@pytest.mark.slow
def test_no_batch_is_larger_than_allowed(crowd, adapter, monkeypatch):
    images, people = crowd
    estimator = adapter(batch_size=2)
    sizes = []
    extract = estimator._model.extract_feat
    monkeypatch.setattr(estimator._model, "extract_feat", lambda inputs: sizes.append(len(inputs)) or extract(inputs))
    estimator.estimate(images, people)
    assert sizes == [4, 4, 2]


@pytest.mark.slow
def test_people_keep_their_rows(crowd, adapter):
    images, people = crowd
    estimator = adapter()
    straight = estimator.estimate(images, people)
    reversed_people = [each[list(range(len(each) - 1, -1, -1))] for each in people]
    backwards = estimator.estimate(images, reversed_people)
    _equal(straight[0], backwards[0][[2, 1, 0]])
    _equal(straight[2], backwards[2][[1, 0]])


def test_nobody(adapter):
    estimator = adapter()
    image = _image(30, 40, 0)
    assert estimator.estimate([], []) == []
    poses = estimator.estimate([image, image], [Detections.empty(), _people(image)])
    assert [each.keypoints.shape for each in poses] == [(0, 17, 2)] * 2
    with pytest.raises(ValueError, match="people of 2 images, got 1"):
        estimator.estimate([image, image], [Detections.empty()])


@pytest.mark.slow
def test_masks_condition_and_the_box_stands_in_for_one(crowd, adapter):
    images, people = crowd[0][:1], crowd[1][:1]
    boxes, scores = people[0].boxes, people[0].scores
    estimator = adapter()
    conditioned = estimator.estimate(images[:1], people[:1])[0]
    without = estimator.estimate(images, [Detections(boxes, scores)])[0]
    masks = people[0].masks.clone()
    masks[1] = False
    mixed = estimator.estimate(images, [Detections(boxes, scores, masks)])[0]
    _equal(mixed[[1]], without[[1]])
    _equal(mixed[[0, 2]], conditioned[[0, 2]])
    for row, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        row[int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)] = True
    _equal(estimator.estimate(images, [Detections(boxes, scores, masks)])[0], without)
    plain = adapter(alpha=0.0).estimate(images[:1], people[:1])[0]
    assert (conditioned.keypoints - plain.keypoints).abs().max() > 0.1
    assert (without.keypoints - plain.keypoints).abs().max() > 0.1
    as_it_is = adapter(without_mask="image")
    _equal(as_it_is.estimate(images, [Detections(boxes, scores)])[0], plain)


@pytest.mark.slow
def test_people_without_masks_can_be_refused(crowd, adapter):
    images, people = crowd[0][:1], crowd[1][:1]
    strict = adapter(without_mask="refuse")
    assert len(strict.estimate(images[:1], people[:1])[0]) == len(people[0])
    masks = people[0].masks.clone()
    masks[1] = False
    for wrong, count in ((None, len(masks)), (masks, 1)):
        with pytest.raises(
            UserError, match=f"pose: {count} people have no mask, and the model is conditioned on masks"
        ):
            strict.estimate(images, [Detections(people[0].boxes, people[0].scores, wrong)])
    unmasked = adapter(alpha=0.0, without_mask="refuse")
    unmasked.estimate(images, [Detections(people[0].boxes, people[0].scores)])


@pytest.mark.slow
def test_a_mirrored_image_gives_the_mirrored_pose(adapter):
    estimator = adapter()
    image = _image(90, 121, 4)
    people = _people(image, [20, 10, 70, 80])
    mirrored_image = Image(image.pixels.flip(1).contiguous())
    # A pixel's centre is a whole number, so column x becomes column width - 1 - x.
    boxes = torch.tensor([[120 - 70.0, 10, 120 - 20, 80]])
    mirrored = Detections(boxes, people.scores, people.masks.flip(2).contiguous())
    straight = estimator.estimate([image], [people])[0]
    other = estimator.estimate([mirrored_image], [mirrored])[0]
    order = list(COCO_KEYPOINTS.flip_indices)
    # Crops are sampled from the other side, and rounding to whole levels is not always the same.
    torch.testing.assert_close(other.presence[:, order], straight.presence, atol=1e-3, rtol=0)
    torch.testing.assert_close(other.scores[:, order], straight.scores, atol=1e-2, rtol=0)
    back = torch.stack((120 - other.keypoints[:, order, 0], other.keypoints[:, order, 1]), -1)
    assert (back - straight.keypoints).abs().median() < 0.1
    without = adapter(flip_test=False).estimate([image], [people])[0]
    assert (without.presence - straight.presence).abs().max() > 1e-3


def test_the_pose_moves_along_with_the_person(adapter):
    estimator = adapter()
    image = _image(90, 120, 5)
    people = _people(image, [40, 30, 80, 70])
    canvas = torch.zeros(190, 240, 3, dtype=torch.uint8)
    canvas[64:154, 32:152] = image.pixels
    masks = torch.zeros(1, 190, 240, dtype=torch.bool)
    masks[:, 64:154, 32:152] = people.masks
    moved = Detections(people.boxes + torch.tensor([32.0, 64, 32, 64]), people.scores, masks)
    here, there = estimator.estimate([image, Image(canvas)], [people, moved])
    torch.testing.assert_close(there.keypoints, here.keypoints + torch.tensor([32.0, 64.0]), atol=0.05, rtol=0)
    torch.testing.assert_close(there.scores, here.scores, atol=1e-2, rtol=0)


@pytest.mark.slow
def test_boxes_without_size_and_outside_the_image(adapter):
    image = _image(40, 40, 6)
    people = _people(image, [10, 10, 10, 10], [5, 5, 5, 30], [500, 500, 520, 560], [-100, -100, -90, -90], masks=False)
    poses = adapter().estimate([image], [people])[0]
    assert poses.keypoints.isfinite().all()


def test_the_arguments_stay_as_they_are(crowd, adapter):
    images, people = crowd
    before = [image.pixels.clone() for image in images], [each.masks.clone() for each in people]
    adapter().estimate(images, people)
    for image, pixels in zip(images, before[0], strict=True):
        assert torch.equal(image.pixels, pixels)
    for each, masks in zip(people, before[1], strict=True):
        assert torch.equal(each.masks, masks)


@pytest.mark.slow
def test_decoders(crowd, adapter):
    images, people = crowd
    dark = adapter().estimate(images[:1], people[:1])[0]
    named = adapter(decoder="dark_udp").estimate(images[:1], people[:1])[0]
    _equal(dark, named, atol=0)
    expected_oks = adapter(decoder="expected_oks").estimate(images[:1], people[:1])[0]
    assert (expected_oks.keypoints - dark.keypoints).abs().max() > 0.01

    def corner(maps):
        return torch.zeros(*maps.shape[:2], 2), maps.amax((2, 3))

    own = adapter(decoder=corner).estimate(images[:1], people[:1])[0]
    window_corner = torch.tensor([35 - 0.5 * 70 * 1.25 * 0.75, 45 - 0.5 * 70 * 1.25])
    torch.testing.assert_close(own.keypoints[0], window_corner.expand(17, 2))


@pytest.mark.slow
def test_scores_may_be_the_expected_oks(crowd, adapter):
    images, people = crowd
    by_map = adapter(scores_from="map").estimate(images[:1], people[:1])[0]
    by_oks = adapter(scores_from="expected_oks").estimate(images[:1], people[:1])[0]
    own = adapter().estimate(images[:1], people[:1])[0]
    torch.testing.assert_close(by_oks.scores, by_map.expected_oks)
    torch.testing.assert_close(own.scores, by_oks.scores)
    assert not torch.allclose(by_map.scores, by_map.expected_oks)


@pytest.mark.slow
def test_stand_ins_replace_the_models_own(crowd, adapter):
    images, people = crowd
    own = adapter().estimate(images[:1], people[:1])[0]
    poses = adapter(visibility_from="score").estimate(images[:1], people[:1])[0]
    assert torch.equal(poses.visibility, poses.scores)
    torch.testing.assert_close(poses.presence, own.presence)
    assert not torch.allclose(own.visibility, own.scores)


@pytest.mark.slow
def test_bfloat16_is_near(crowd, adapter):
    images, people = crowd
    exact = adapter().estimate(images[:1], people[:1])[0]
    rough = adapter(dtype="bfloat16").estimate(images[:1], people[:1])[0]
    assert rough.keypoints.dtype == torch.float32
    torch.testing.assert_close(rough.presence, exact.presence, atol=0.05, rtol=0)
    assert (rough.keypoints - exact.keypoints).abs().median() < 1


@pytest.mark.slow
def test_a_model_of_plain_heatmaps_needs_an_explicit_choice(crowd):
    with pytest.raises(UserError, match='visibility_from="score"'):
        MMPoseEstimator(pose_section("maskpose"), "random")
    with pytest.raises(UserError, match='presence_from="score"'):
        MMPoseEstimator(pose_section("maskpose"), "random", visibility_from="score")
    with pytest.raises(UserError, match="scores_from"):
        MMPoseEstimator(pose_section("maskpose"), "random", scores_from="expected_oks", **_STAND_INS)
    images, people = crowd
    poses = MMPoseEstimator(pose_section("maskpose"), "random", **_STAND_INS).estimate(images[:1], people[:1])[0]
    assert torch.equal(poses.visibility, poses.scores)
    assert torch.equal(poses.presence, poses.scores)
    assert poses.expected_oks is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "best"}, "decoder: expected one of 'dark_udp', 'expected_oks', got 'best'"),
        ({"dtype": "float16"}, "dtype: expected one of float32, bfloat16, got 'float16'"),
        ({"visibility_from": "presence"}, "visibility_from: expected one of None, 'score', got 'presence'"),
        ({"scores_from": "oks"}, "scores_from: expected one of None, 'map', 'expected_oks', got 'oks'"),
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"alpha": 2}, r"alpha: expected a number in \[0, 1\], got 2"),
        ({"checkpoint": "no_such_weights.pth"}, "no_such_weights.pth"),
        ({"config": "no_such_model"}, "no_such_model"),
        ({"keypoints": "crowdpose"}, "CrowdPose's 14 keypoints are not all among the 23 .* lacks top_head, neck"),
        ({"keypoints": "everything"}, "there is no set 'everything'"),
        ({"keypoints": KeypointSet(("k",) * 24, (0.1,) * 24, (), ())}, "24 keypoints or more, got 23"),
    ],
)
def test_mistakes_are_one_clear_line(options, message):
    arguments = {"config": pose_section(), "checkpoint": "random"} | options
    with pytest.raises(UserError, match=message):
        MMPoseEstimator(**arguments)


@pytest.mark.slow
def test_a_smaller_set_takes_the_first_keypoints(crowd, adapter):
    images, people = crowd
    nose_and_eyes = KeypointSet(("nose", "left_eye", "right_eye"), (0.026, 0.025, 0.025), ((1, 2),), ())
    few = adapter(keypoints=nose_and_eyes).estimate(images[:1], people[:1])[0]
    every = adapter().estimate(images[:1], people[:1])[0]
    torch.testing.assert_close(few.keypoints, every.keypoints[:, :3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, keypoint_set("coco").names),
        ("coco", keypoint_set("coco").names),
        ("all", keypoint_set("pmpose").names),
        ("mpii", keypoint_set("mpii").names),
        ("aic", keypoint_set("aic").names),
    ],
)
def test_the_keypoints_that_are_wanted_come_out_in_their_order(crowd, adapter, wanted, names):
    images, people = crowd
    every = adapter(keypoints="all", flip_test=False).estimate(images[:1], people[:1])[0]
    estimator = adapter(keypoints=wanted, flip_test=False)
    assert estimator.keypoints.names == names
    found = estimator.estimate(images[:1], people[:1])[0]
    meanings = keypoint_set("pmpose").meanings
    rows = [meanings.index(meaning) for meaning in estimator.keypoints.meanings]
    for column in ("keypoints", "scores", "visibility", "presence"):
        torch.testing.assert_close(getattr(found, column), getattr(every, column)[:, rows])


@pytest.mark.slow
def test_the_flip_test_swaps_sides_of_all_keypoints(adapter, crowd):
    images, people = crowd
    alone = adapter(keypoints="mpii").estimate(images[:1], people[:1])[0]
    every = adapter(keypoints="all").estimate(images[:1], people[:1])[0]
    meanings = keypoint_set("pmpose").meanings
    rows = [meanings.index(meaning) for meaning in keypoint_set("mpii").meanings]
    torch.testing.assert_close(alone.keypoints, every.keypoints[:, rows])


@pytest.mark.parametrize(
    ("settings", "count", "names"),
    [
        ({"keypoints": "maskpose_wb"}, 41, "maskpose_wb"),
        ({"test_dataloader": {"dataset": {"type": "CrowdPoseDataset"}}}, 14, "crowdpose"),
        ({"test_dataloader": {"dataset": {"type": "AicDataset"}}}, 14, "aic"),
        ({"test_dataloader": {"dataset": {"type": "CocoWholeBodyDataset"}}}, 133, "coco_wholebody"),
        (
            {"test_dataloader": {"dataset": {"metainfo": {"from_file": "configs/_base_/datasets/halpe26.py"}}}},
            26,
            "halpe26",
        ),
        ({"test_dataloader": {"dataset": {"type": "CocoDataset"}}}, 23, "pmpose"),
        ({}, 17, "coco"),
        ({}, 23, "pmpose"),
        ({}, 133, "coco_wholebody"),
    ],
)
def test_what_a_networks_keypoints_mean(settings, count, names):
    assert _network_keypoints(settings, count).name == names


@pytest.mark.slow
def test_the_whole_body_of_maskpose_comes_out_by_its_config(crowd):
    config = load_model_config("models/maskpose_wb_b.py", "mmpose")
    config["model"]["backbone"]["arch"] = VIT
    config["model"]["head"].update(in_channels=32, deconv_out_channels=(16, 16))
    stand_ins = {"visibility_from": "score", "presence_from": "score"}
    estimator = MMPoseEstimator(config, "random", keypoints="all", **stand_ins)
    images, people = crowd
    poses = estimator.estimate(images, people)
    assert estimator.keypoints.name == "maskpose_wb"
    assert [each.keypoints.shape[1:] for each in poses] == [(41, 2)] * 3
    assert MMPoseEstimator(config, "random", **stand_ins).keypoints.name == "coco"


@pytest.mark.slow
def test_a_network_of_another_set_gives_that_set(crowd):
    config = _shrunk("td-hm_res50_8xb64-210e_crowdpose-256x192")
    estimator = MMPoseEstimator(config, "random", visibility_from="score", presence_from="score", alpha=0)
    images, people = crowd
    assert estimator.keypoints.name == "crowdpose"
    assert estimator.estimate(images[:1], people[:1])[0].keypoints.shape == (3, 14, 2)


def test_keypoints_of_which_nothing_is_known():
    assert _network_keypoints({}, 14).names[-1] == "keypoint_13"
    assert _network_keypoints({}, 20).names[16:18] == ("right_ankle", "keypoint_17")
    with pytest.raises(UserError, match="keypoints='mpii' are 16, but its model has 23"):
        _network_keypoints({"keypoints": "mpii"}, 23)


def _shrunk(name):
    config = load_model_config(name, "mmpose")
    backbone = config["model"]["backbone"]
    if backbone["type"] == "ResNet":
        backbone.update(depth=18, base_channels=8, stem_channels=8)
        config["model"]["head"]["in_channels"] = 64
        if config["model"]["head"]["type"] == "HeatmapHead":
            config["model"]["head"]["deconv_out_channels"] = (16, 16, 16)
    elif backbone["type"] == "mmpretrain.VisionTransformer":
        backbone["arch"] = VIT
        config["model"]["head"].update(in_channels=32, deconv_out_channels=(16, 16))
    return config


_MMPOSE_MODELS = {
    "unbiased heatmaps": "td-hm_ViTPose-small_8xb64-210e_coco-256x192",
    "biased heatmaps": "td-hm_res50_8xb64-210e_coco-256x192",
    "SimCC": "rtmpose-t_8xb256-420e_coco-256x192",
    "regression": "td-reg_res50_8xb64-210e_coco-256x192",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, id=kind, marks=[] if kind == "unbiased heatmaps" else pytest.mark.slow)
        for kind, name in _MMPOSE_MODELS.items()
    ],
)
@pytest.mark.parametrize("flip_test", [True, False])
def test_it_agrees_with_mmposes_own_inference(name, flip_test, tmp_path):
    from mmpose.apis import inference_topdown

    config = _shrunk(name)
    model = build_topdown(config["model"], "random")
    if hasattr(model.backbone, "pos_embed"):  # zeros, which would make every map flat
        torch.manual_seed(7)
        torch.nn.init.normal_(model.backbone.pos_embed, std=0.5)
        model.head.final_layer.bias.data += 0.5
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    image = _image(90, 120, 8)
    boxes = [[10, 10, 60, 80], [40.5, 5.25, 90, 85]]

    model.cfg = Config(config)
    model.test_cfg["flip_test"] = flip_test
    model.dataset_meta = {"flip_indices": list(COCO_KEYPOINTS.flip_indices)}
    with DefaultScope.overwrite_default_scope("mmpose"):
        theirs = inference_topdown(model, image.pixels.flip(2).numpy(), np.float32(boxes))
    estimator = MMPoseEstimator(config, str(tmp_path / "weights.pth"), flip_test=flip_test, alpha=0.0, **_STAND_INS)
    ours = estimator.estimate([image], [_people(image, *boxes, masks=False)])[0]

    keypoints = torch.stack([torch.as_tensor(each.pred_instances.keypoints[0]) for each in theirs]).float()
    scores = torch.stack([torch.as_tensor(each.pred_instances.keypoint_scores[0]) for each in theirs]).float()
    torch.testing.assert_close(ours.scores, scores.clamp(0, 1), atol=2e-3, rtol=0)
    apart = (ours.keypoints - keypoints).abs().amax(-1)
    # MMPose follows DARK's step however far it leads, on a random model's ragged maps often out of the person, and a
    # level of difference in a crop may move such a map's maximum to another cell: those are pixels away, none is near.
    elsewhere = apart > 3
    assert elsewhere.float().mean() < 0.25
    assert apart[~elsewhere].max() < 0.1


@pytest.mark.slow
def test_simcc_in_bfloat16_and_with_a_decoder(crowd):
    images, people = crowd
    estimator = MMPoseEstimator(_MMPOSE_MODELS["SimCC"], "random", dtype="bfloat16", batch_size=2, **_STAND_INS)
    assert [len(each) for each in estimator.estimate(images, people)] == [3, 0, 2]
    with pytest.raises(UserError, match="decodes by itself"):
        MMPoseEstimator(_MMPOSE_MODELS["SimCC"], "random", decoder="dark_udp", **_STAND_INS)


@pytest.mark.slow
@pytest.mark.parametrize("scope", [None, "mmdet"])
def test_the_default_scope_does_not_matter_and_is_left_alone(crowd, scope):
    images, people = crowd
    with DefaultScope.overwrite_default_scope(scope):
        MMPoseEstimator(pose_section(), "random").estimate(images, people)
        assert getattr(DefaultScope.get_current_instance(), "scope_name", None) == scope


@pytest.mark.cuda
def test_results_are_on_the_device(crowd, adapter):
    images, people = crowd
    on_cpu = adapter().estimate(images, people)
    on_cuda = adapter(device="cuda", dtype="float32").estimate(images, people)
    assert {each.device.type for each in on_cuda} == {"cuda"}
    torch.testing.assert_close(on_cuda[0].presence.cpu(), on_cpu[0].presence, atol=1e-3, rtol=0)
