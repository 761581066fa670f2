"""Any mmdet detector as ours: the answers of mmdet's own inference, from small models with made-up weights.

The weights are scaled on photos so that what is found varies; what is compared is what comes out, mistakes and all.
"""

import copy
import json
import logging
import warnings

import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from bmp.errors import UserError
from bmp.io import images
from bmp.models.openmmlab import quiet_models
from bmp.ops.boxes import clip, iou
from bmp.structures import Image

pytest.importorskip("mmcv.ops")
pytest.importorskip("mmdet.models")

import mmdet
import mmdet.apis
from mmdet.registry import MODELS
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import save_checkpoint
from tiny_models import DETECTOR_SIDE as SIDE
from tiny_models import detector_config as bundled
from tiny_models import rtmdet
from torchvision.ops import nms

from bmp.detectors import mmdet_inputs
from bmp.detectors.mmdet import MMDetDetector

RTMDET_INS_L = "rtmdet/rtmdet-ins_l_8xb32-300e_coco.py"


def rcnn(masks):
    config = bundled("mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py")
    model = config.model
    model.backbone.update(depth=18, norm_eval=False)
    model.neck.update(in_channels=[64, 128, 256, 512], out_channels=16)
    model.rpn_head.update(in_channels=16, feat_channels=16)
    heads = model.roi_head
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = 16
    heads.bbox_head.update(in_channels=16, fc_out_channels=32, num_classes=2)
    heads.mask_head.update(num_convs=1, in_channels=16, conv_out_channels=16, num_classes=2)
    if not masks:
        model.type = "FasterRCNN"
        del heads["mask_head"], heads["mask_roi_extractor"]
    config.test_dataloader.dataset.metainfo = {"classes": ("dog", "Person")}
    return config


def solo():
    """A segmenter that makes no boxes."""
    config = bundled("solov2/solov2-light_r18_fpn_ms-3x_coco.py")
    config.model.backbone.update(norm_eval=False)
    config.model.neck.out_channels = 16
    head = config.model.mask_head
    head.update(num_classes=2, in_channels=16, feat_channels=32, stacked_convs=1, num_grids=[8, 8, 6, 4, 4])
    head.mask_feature_head.update(in_channels=16, feat_channels=32, out_channels=32)
    config.test_dataloader.dataset.pipeline = [
        {"type": "Resize", "scale": (SIDE, SIDE), "keep_ratio": True},
        {"type": "PackDetInputs"},
    ]
    return config


def redraw(layer, generator, scale, bias):
    layer.weight.normal_(0, scale, generator=generator)
    if isinstance(bias, float):
        layer.bias.fill_(bias)
    else:
        layer.bias.normal_(0, bias[0], generator=generator)


@torch.no_grad()
def scaled(config, pixels):
    """Build a model whose batch norms fit ``pixels`` and whose last layers are lively."""
    generator = torch.Generator().manual_seed(3)
    with quiet_models(), DefaultScope.overwrite_default_scope("mmdet"), torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(config.model))
    model = mmdet.apis.inference.revert_sync_batchnorm(model).train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = None  # one step of training then sets the statistics
    with quiet_models():
        levels = model.extract_feat(pixels)
    head = getattr(model, "bbox_head", None)
    if hasattr(head, "rtm_cls"):
        head(levels)
        for classes, distances in zip(head.rtm_cls, head.rtm_reg, strict=True):
            redraw(classes, generator, 0.3, -6.0)  # few of other classes, lest they fill mmdet's list
            classes.bias[0] = -3.2
            redraw(distances, generator, 0.5, 3.0)
        for kernels in getattr(head, "rtm_kernel", ()):
            redraw(kernels, generator, 0.3, (0.3,))
    elif hasattr(model, "roi_head"):
        for convolution in model.neck.fpn_convs:
            convolution.conv.weight /= 15
        redraw(model.rpn_head.rpn_cls, generator, 1.0, 0.0)
        redraw(model.rpn_head.rpn_reg, generator, 0.3, 0.0)
        heads = model.roi_head
        for layer in heads.bbox_head.shared_fcs:
            layer.weight *= 3
        redraw(heads.bbox_head.fc_cls, generator, 0.15, 0.0)  # scores below 1: among ties, rounding would decide
        redraw(heads.bbox_head.fc_reg, generator, 0.5, 0.0)
        if heads.with_mask:
            redraw(heads.mask_head.conv_logits, generator, 10.0, 0.0)
    return model.eval()


@pytest.fixture(scope="module")
def photos(shared):
    names = ("coco_mini/000000000785", "coco_mini/000000197388", "ochuman_mini/000817", "ochuman_mini/003799")
    return [images.load(shared / "data" / f"{name}.jpg") for name in names]


@pytest.fixture(scope="module")
def calm(photos):
    """Give the photos as a network sees them."""
    letterbox = mmdet_inputs.Letterbox((SIDE, SIDE), keep_ratio=True, size=(SIDE, SIDE), padding=(114, 114, 114))
    return (torch.stack([letterbox.prepare(photo).pixels for photo in photos]).float() - 110) / 57


MAKERS = {
    "rtmdet-ins": lambda: rtmdet("rtmdet-ins"),
    "rtmdet": lambda: rtmdet("rtmdet"),
    "mask r-cnn": lambda: rcnn(masks=True),
    "faster r-cnn": lambda: rcnn(masks=False),
}


@pytest.fixture(scope="module")
def saved(calm, tmp_path_factory):
    """Give config and checkpoint, in mmengine's format, of a model by its name."""
    folder, kept = tmp_path_factory.mktemp("checkpoints"), {}

    def of(name):
        if name not in kept:
            config, file = MAKERS[name](), folder / f"{name}.pth"
            model = scaled(config, calm)
            state = {"state_dict": model.state_dict(), "meta": {"dataset_meta": {"classes": ("person",)}, "epoch": 3}}
            save_checkpoint(state, str(file))
            kept[name] = config, file
        return kept[name]

    return of


@pytest.fixture(scope="module", params=list(MAKERS))
def model(request, saved):
    return request.param, *saved(request.param)


def theirs(config, checkpoint, photos, label, threshold):
    """What mmdet's own functions find, chosen as the paper says: boxes, scores and masks of each photo."""
    with warnings.catch_warnings(), DefaultScope.overwrite_default_scope("mmdet"):
        warnings.simplefilter("ignore")
        network = mmdet.apis.init_detector(config.copy(), str(checkpoint), device="cpu")
    with quiet_models(), DefaultScope.overwrite_default_scope("mmdet"):
        arrays = [photo.pixels.flip(-1).numpy() for photo in photos]
        outputs = mmdet.apis.inference_detector(network, arrays)
    for photo, output in zip(photos, outputs, strict=True):
        people = output.pred_instances
        people = people[(people.labels == label) & (people.scores > threshold)]
        boxes = clip(people.bboxes, photo.height, photo.width)
        real = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1).nonzero()[:, 0]
        rows = real[nms(boxes[real], people.scores[real], 0.3)]
        yield boxes[rows], people.scores[rows], people.masks[rows] if "masks" in people else None


def label_of(name):
    return 1 if "r-cnn" in name else 0


def assert_alike(people, boxes, scores, masks):
    torch.testing.assert_close(people.boxes, boxes, atol=2e-2, rtol=1e-4)
    torch.testing.assert_close(people.scores, scores, atol=1e-3, rtol=0)
    assert (people.masks is None) == (masks is None)
    if masks is not None:
        # mmdet's RTMDet-Ins scales heights by the width's factor, and may lose a column or row on the way.
        height, width = masks.shape[1:]
        assert not len(masks) or (people.masks[:, :height, :width] != masks).float().mean((1, 2)).max() < 0.02


@pytest.mark.slow
def test_people_are_those_of_mmdet(model, photos):
    name, config, checkpoint = model
    # The other memory layout rounds differently.
    detector = MMDetDetector(config, str(checkpoint), channels_last=False)
    # Networks of random weights magnify differences of 1 of 255, so both have to see the very same pixels;
    # that ours are as close as that is tested below.
    with DefaultScope.overwrite_default_scope("mmdet"):
        detector._inputs = mmdet_inputs.Transforms(config.test_dataloader.dataset.pipeline[1:])
    found = detector.detect(photos)
    for people, expected in zip(found, theirs(config, checkpoint, photos, label_of(name), 0.3), strict=True):
        assert_alike(people, *expected)
    assert sum(map(len, found)) > 40


@pytest.mark.slow
def test_people_are_exactly_those_of_mmdet_where_nothing_is_resized(model, photos):
    name, config, checkpoint = model
    crops = [
        Image(photo.pixels[:height, :width]) for photo in photos[1:3] for height, width in ((SIDE, 250), (211, SIDE))
    ]
    found = MMDetDetector(config, str(checkpoint)).detect(crops)
    expected = theirs(config, checkpoint, crops, label_of(name), 0.3)
    assert sum(map(len, found)) > 10
    for people, (boxes, scores, masks) in zip(found, expected, strict=True):
        assert_alike(people, boxes, scores, masks)
        if masks is not None:
            assert (people.masks != masks).float().mean() < 1e-4


@pytest.mark.slow
def test_rows_are_best_first_distinct_and_inside_the_image(model, photos):
    name, config, checkpoint = model
    for photo, people in zip(photos, MMDetDetector(config, str(checkpoint), nms_iou=0.2).detect(photos), strict=True):
        assert len(people) > 1
        assert (people.scores.diff() <= 0).all()
        assert people.scores.min() > 0.3
        assert iou(people.boxes, people.boxes).fill_diagonal_(0).max() <= 0.2
        assert (clip(people.boxes, photo.height, photo.width) == people.boxes).all()
        assert (people.masks is not None) == (name in ("rtmdet-ins", "mask r-cnn"))
        if people.masks is not None:
            assert people.masks.shape[1:] == (photo.height, photo.width)


@pytest.mark.slow
def test_an_image_gets_the_same_answer_in_any_company(model, photos):
    _, config, checkpoint = model
    together = MMDetDetector(config, str(checkpoint), batch_size=3).detect([*photos, photos[0]])
    detector = MMDetDetector(config, str(checkpoint), batch_size=1)
    for photo, people in zip([*photos, photos[0]], together, strict=True):
        (alone,) = detector.detect([photo])
        torch.testing.assert_close(people.boxes, alone.boxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(people.scores, alone.scores, atol=1e-4, rtol=0)
        if people.masks is not None:
            assert (people.masks != alone.masks).float().mean() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "size",
    [(1, 1), (37, 53), *(pytest.param(size, marks=pytest.mark.slow) for size in ((1, 700), (999, 2), (3000, 4000)))],
)
def test_any_size_of_image(model, photos, size):
    _, config, checkpoint = model
    height, width = size
    rows = torch.linspace(0, photos[0].height - 1, height).long()
    columns = torch.linspace(0, photos[0].width - 1, width).long()
    image = Image(photos[0].pixels[rows][:, columns])
    (people,) = MMDetDetector(config, str(checkpoint), score_threshold=0.2).detect([image])
    assert people.masks is None or people.masks.shape[1:] == size
    assert (clip(people.boxes, height, width) == people.boxes).all()
    if height * width > 1e6:
        assert len(people) > 1


@pytest.mark.slow
def test_no_image_and_nobody(model):
    _, config, checkpoint = model
    detector = MMDetDetector(config, str(checkpoint), score_threshold=1.0)
    assert detector.detect([]) == []
    (people,) = detector.detect([Image(torch.zeros(40, 60, 3, dtype=torch.uint8))])
    assert len(people) == 0
    assert people.masks is None or people.masks.shape == (0, 40, 60)


@pytest.mark.slow
def test_masks_within_little_memory_are_nearly_the_same(saved, photos):
    config, checkpoint = saved("mask r-cnn")
    photo = photos[0]
    (full,) = MMDetDetector(config, str(checkpoint)).detect([photo])
    half = photo.pixels.shape[0] * photo.pixels.shape[1] * 400 // 4
    (small,) = MMDetDetector(config, str(checkpoint), mask_bytes=half).detect([photo])
    torch.testing.assert_close(small.boxes, full.boxes, atol=0.05, rtol=0)
    assert 0 < (small.masks != full.masks).float().mean() < 0.01

    config, checkpoint = saved("rtmdet-ins")
    (full,) = MMDetDetector(config, str(checkpoint)).detect([photo])
    (small,) = MMDetDetector(config, str(checkpoint), mask_bytes=1).detect([photo])
    torch.testing.assert_close(small.masks, full.masks)


@pytest.mark.slow
def test_rtmdet_ins_makes_masks_of_nobody_but_the_people_returned(saved, photos, monkeypatch):
    from mmdet.models.dense_heads import RTMDetInsHead

    made = []
    original = RTMDetInsHead._mask_predict_by_feat_single
    monkeypatch.setattr(
        RTMDetInsHead,
        "_mask_predict_by_feat_single",
        lambda self, features, kernels, priors: made.append(len(kernels)) or original(self, features, kernels, priors),
    )
    config, checkpoint = saved("rtmdet-ins")
    found = MMDetDetector(config, str(checkpoint)).detect(photos)
    assert sum(made) == sum(map(len, found)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rtmdet-ins", "rtmdet", "faster r-cnn"])
def test_bfloat16_is_for_the_network_alone(saved, photos, calm, name):
    config, checkpoint = saved(name)
    exact, rounded = (MMDetDetector(config, str(checkpoint), dtype=dtype) for dtype in ("float32", "bfloat16"))
    seen = set()
    for module in rounded._model.backbone.modules():
        module.register_forward_hook(lambda _, __, output: seen.add(getattr(output, "dtype", None)))
    with torch.no_grad(), quiet_models():
        levels = zip(exact._model.extract_feat(calm), rounded._model.extract_feat(calm), strict=True)
    assert torch.bfloat16 in seen
    for one, other in levels:
        assert other.dtype == torch.float32
        assert 0 < (one - other).norm() / one.norm() < 0.5
    for people in rounded.detect(photos):
        assert len(people) > 0
        assert people.boxes.dtype == people.scores.dtype == torch.float32


@pytest.mark.slow
def test_segmenters_without_boxes_get_them_from_their_masks(calm, photos):
    detector = MMDetDetector(solo(), "random", score_threshold=0.0, nms_iou=1.0)
    with torch.no_grad():
        for name, layer in detector._model.mask_head.named_modules():
            if name in ("conv_cls", "conv_kernel"):
                redraw(layer, torch.Generator().manual_seed(0), 0.5, 0.0)
    (people,) = detector.detect(photos[:1])
    assert len(people) > 0
    assert (people.boxes[:, 2:] > people.boxes[:, :2]).all()
    for box, mask in zip(people.boxes.round().int().tolist(), people.masks, strict=True):
        inside = torch.zeros_like(mask)
        inside[box[1] : box[3], box[0] : box[2]] = True
        assert not (mask & ~inside).any()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(100, 200), (480, 640), (641, 427), (1500, 2000), (7, 900), (333, 500)])
def test_letterbox_is_mmdets_own_pipeline(size):
    steps = rtmdet("rtmdet-ins").test_dataloader.dataset.pipeline
    letterbox = mmdet_inputs.from_pipeline(steps)
    with DefaultScope.overwrite_default_scope("mmdet"):
        transforms = mmdet_inputs.Transforms([step for step in steps if not step["type"].startswith("Load")])
    assert isinstance(letterbox, mmdet_inputs.Letterbox)
    image = Image(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)))
    ours, own = letterbox.prepare(image), transforms.prepare(image)
    assert ours.pixels.dtype == own.pixels.dtype == torch.uint8
    # OpenCV computes with 11 bits after the point and then rounds, we round once.
    assert (ours.pixels.int() - own.pixels.int()).abs().max() <= 1
    for key in ("ori_shape", "img_shape", "scale_factor"):
        assert tuple(ours.metainfo[key]) == tuple(own.metainfo[key])
    assert letterbox.key(image) == tuple(ours.pixels.shape[1:])


@pytest.mark.slow
def test_pipelines_with_more_in_them_run_as_mmdet_runs_them(saved, photos):
    config, checkpoint = saved("rtmdet-ins")
    config = config.copy()
    pipeline = config.test_dataloader.dataset.pipeline
    config.test_dataloader.dataset.pipeline = [
        *pipeline[:1],
        {"type": "Resize", "scale": (SIDE, SIDE), "keep_ratio": True, "interpolation": "area"},
        *pipeline[2:],
    ]
    detector = MMDetDetector(config, str(checkpoint))
    assert isinstance(detector._inputs, mmdet_inputs.Transforms)
    found = detector.detect(photos[:2])
    for people, expected in zip(found, theirs(config, checkpoint, photos[:2], 0, 0.3), strict=True):
        assert_alike(people, *expected)


@pytest.mark.slow
def test_the_l_model_takes_the_official_checkpoint(shared, monkeypatch):
    monkeypatch.setattr("bmp.detectors.mmdet.fold_batch_norms", lambda *_: None)  # after which names are others
    names = json.loads((shared / "reference/checkpoints/rtmdet-ins-l-mask.json").read_text())["state_dict"]
    detector = MMDetDetector(RTMDET_INS_L, "random")
    own = {name: list(tensor.shape) for name, tensor in detector._model.state_dict().items()}
    assert own == names


@pytest.mark.slow
def test_weights_made_up_are_the_same_every_time(photos):
    before = torch.random.get_rng_state()
    one, other = (MMDetDetector(rtmdet("rtmdet-ins"), "random", score_threshold=0.0) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    (first,), (second,) = one.detect(photos[:1]), other.detect(photos[:1])
    assert torch.equal(first.boxes, second.boxes)


@pytest.mark.slow
@pytest.mark.parametrize("scope", [None, "mmpose"])
def test_nothing_is_left_behind_or_printed(saved, photos, capfd, caplog, scope):
    config, checkpoint = saved("rtmdet-ins")
    with DefaultScope.overwrite_default_scope(scope), warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        current = DefaultScope.get_current_instance()
        before = json.dumps(config.to_dict(), default=str)
        MMDetDetector(config, str(checkpoint)).detect(photos[:1])
        MMDetDetector("rtmdet/rtmdet-ins_tiny_8xb32-300e_coco", "random", score_threshold=0.9)
        assert DefaultScope.get_current_instance() is current or (
            DefaultScope.get_current_instance().scope_name == current.scope_name
        )
        assert json.dumps(config.to_dict(), default=str) == before
    assert capfd.readouterr() == ("", "")
    assert {record.name.split(".")[0] for record in caplog.records} <= {
        "bmp"
    }  # whose log tells which weights these are


@pytest.mark.slow
def test_the_class_is_found_by_name_or_index(saved, photos):
    config, checkpoint = saved("faster r-cnn")
    by_name, by_index, dogs = (
        torch.cat([people.boxes for people in MMDetDetector(config, str(checkpoint), label=label).detect(photos)])
        for label in ("person", 1, "dog")
    )
    assert len(by_name) > 0
    assert torch.equal(by_name, by_index)
    assert len(dogs) > 0
    assert not torch.equal(by_name, dogs)


def _without(config, *path):
    config = config.copy()
    node = config
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]
    return config


MISTAKES = {
    "score_threshold: expected a number in": lambda: {"score_threshold": 30},
    "nms_iou: expected a number in": lambda: {"nms_iou": -0.1},
    "batch_size: expected at least 1": lambda: {"batch_size": 0},
    "mask_bytes: expected at least 1": lambda: {"mask_bytes": 0},
    "dtype: expected one of": lambda: {"dtype": "float16"},
    "one of mmdet's, such as rtmdet/rtmdet-ins_l_8xb32-300e_coco.py": lambda: {
        "config": "rtmdet/rtmdet-ins_l_8xb32_coco.py"
    },
    "found neither a file of that name nor one of mmdet": lambda: {"config": "zzz"},
    "expected model=dict": lambda: {"config": {"detector": {}}},
    "there is: dog, Person": lambda: {"config": rcnn(masks=False), "label": "cat"},
    "name them in test_dataloader": lambda: {"config": {"model": rcnn(masks=False).model}},
    "which has 2, got index 2": lambda: {"config": rcnn(masks=False), "label": 2},
    "expected a test_pipeline": lambda: {"config": {"model": rcnn(masks=False).model}, "label": 0},
    "mmdet cannot build RTMDetX": lambda: {
        "config": {**rtmdet("rtmdet").to_dict(), "model": {"type": "RTMDetX"}},
    },
    "expected a detector of mmdet": lambda: {
        "config": {**rtmdet("rtmdet").to_dict(), "model": {"type": "DetDataPreprocessor"}},
    },
    "no such file|found none of them": lambda: {"checkpoint": "nowhere.pth"},
}


@pytest.mark.slow
@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_get_one_line(message):
    with pytest.raises(UserError, match=message) as caught:
        MMDetDetector(**{"config": rtmdet("rtmdet"), "checkpoint": "random", **MISTAKES[message]()})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused(saved):
    config, _ = saved("rtmdet-ins")
    _, other = saved("rtmdet")
    with pytest.raises(UserError, match="does not fit RTMDet"):
        MMDetDetector(config, str(other))


def test_a_config_file_that_cannot_be_read(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("model = dict(")
    with pytest.raises(UserError, match="cannot be read"):
        MMDetDetector(file, "random")
