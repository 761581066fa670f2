"""BMP as an MMPose model, on fake stages: what it takes and gives, its configs, and MMPose's numbers beside ours."""

import json
from pathlib import Path

import fakes
import numpy as np
import pytest
import torch
from PIL import Image as PILImage

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.evaluation import CocoMetric
from mmpose.registry import DATASETS, MODELS

import bmp
from bmp.config import load_config
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.io.annotations import to_annotations
from bmp.label_sets import COCO_KEYPOINTS, keypoint_set
from bmp.models.openmmlab import quiet_models
from bmp.plugins import mmpose as plugin
from bmp.structures import Detections, Poses

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "mmpose"
PIPELINE = {
    "detector": {"type": "fakes.FakeDetector"},
    "pose": {"type": "fakes.FakePose"},
    "segmenter": {"type": "fakes.FakeSegmenter"},
    "suppressor": {"type": "fakes.KeepAll"},
}
FRONT, BEHIND = (20, 10, 30, 20), (15, 5, 40, 30)
NUMBERS = {
    "AP": "ap", "AP .5": "ap50", "AP .75": "ap75", "AP (M)": "ap_medium", "AP (L)": "ap_large",
    "AR": "ar", "AR .5": "ar50", "AR .75": "ar75", "AR (M)": "ar_medium", "AR (L)": "ar_large",
}  # fmt: skip
"""What MMPose's metric calls the numbers, and what we call them."""


class NoisyDetector(fakes.FakeDetector):
    """Is unsure, by the place of the box alone."""

    def detect(self, images):
        return [
            Detections(rows.boxes, _noise(rows.boxes, 1)[:, 0].round(decimals=1)) for rows in super().detect(images)
        ]


class NoisyPose(fakes.FakePose):
    """Errs, by the place of the box alone: places, scores, some of which are no more than 0.2, and presence."""

    def estimate(self, images, people):
        return [self._err(rows, poses) for rows, poses in zip(people, super().estimate(images, people), strict=True)]

    def _err(self, rows, poses):
        shift, scores, presence, size = (_noise(rows.boxes, 4 * 17).reshape(-1, 4, 17)).unbind(1)
        side = (rows.boxes[:, 2:] - rows.boxes[:, :2]).amax(1)[:, None]
        away = (shift - 0.5) * side * size.mean(1, keepdim=True) * 0.4
        scores = torch.where(scores < 0.1, torch.full_like(scores, 0.2), scores)
        return Poses(poses.keypoints + away[..., None], scores, scores, presence)


def _noise(boxes, count):
    """Float32 (N, count) in [0, 1), the same for the same boxes."""
    rows = [np.random.default_rng([int(v) for v in box]).random(count, np.float32) for box in boxes.tolist()]
    return torch.from_numpy(np.array(rows, np.float32).reshape(-1, count))


def model(pipeline=PIPELINE, **arguments):
    return MODELS.build({"type": "BMPPoseEstimator", "pipeline": pipeline, **arguments})


def bgr(image):
    """An image as MMPose's LoadImage and PackPoseInputs give it."""
    return image.pixels.flip(-1).permute(2, 0, 1)


def test_everybody_comes_out_with_everything():
    image = fakes.scene(BEHIND, FRONT)
    people = bmp.BMP(fakes.FakeDetector(), fakes.FakePose(), fakes.FakeSegmenter(), fakes.KeepAll())(image)
    (sample,) = model().test_step({"inputs": [bgr(image)]})
    found = sample.pred_instances
    assert len(people) == 2
    expected = {
        "bboxes": (people.boxes, np.float32),
        "bbox_scores": (people.scores, np.float64),
        "keypoints": (people.keypoints, np.float32),
        "keypoint_scores": (people.keypoint_scores, np.float64),
        "keypoints_visible": (people.keypoint_scores, np.float32),
        "visibility": (people.visibility, np.float32),
        "presence": (people.presence, np.float32),
        "masks": (people.masks, np.bool_),
        "mask_scores": (people.mask_scores, np.float32),
        "round": (people.round, np.int64),
    }
    assert set(found.keys()) == set(expected)
    for name, (value, dtype) in expected.items():
        assert found[name].dtype == dtype, name
        np.testing.assert_array_equal(found[name], value.numpy(), name)
    assert sorted(found.round.tolist()) == [1, 2]


def test_absent_keypoints_are_not_visible():
    image = fakes.scene(FRONT)
    (sample,) = model(PIPELINE | {"pose": {"type": NoisyPose}}).test_step({"inputs": [bgr(image)]})
    found = sample.pred_instances
    absent = found.presence < 0.5
    assert absent.any()
    assert not absent.all()
    assert (found.keypoints_visible[absent] == 0).all()
    np.testing.assert_array_equal(found.keypoints_visible[~absent], found.keypoint_scores[~absent].astype(np.float32))


@pytest.mark.parametrize("sizes", [[], [(48, 64)], [(48, 64), (31, 47)], [(48, 64), (90, 50), (33, 65)]])
def test_images_of_any_sizes_and_without_people(sizes):
    images = [
        fakes.scene(*[FRONT][: number % 2], height=height, width=width) for number, (height, width) in enumerate(sizes)
    ]
    samples = model().test_step({"inputs": [bgr(image) for image in images]})
    assert [len(sample.pred_instances.keypoints) for sample in samples] == [number % 2 for number in range(len(sizes))]
    for (height, width), sample in zip(sizes, samples, strict=True):
        assert sample.pred_instances.masks.shape[1:] == (height, width)
        assert sample.pred_instances.keypoints.shape[1:] == (17, 2)


@pytest.mark.parametrize("mode", ["loss", "tensor"])
def test_the_loop_is_not_trained(mode):
    with pytest.raises(UserError, match=f"only predicts, mode '{mode}'"):
        model()([bgr(fakes.scene())], mode=mode)


@pytest.mark.parametrize(
    "inputs",
    [torch.zeros(3, 4, 5), torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8)],
    ids=["float", "channels last", "grey"],
)
def test_other_inputs_are_refused(inputs):
    with pytest.raises(UserError, match=r"uint8 \(3, H, W\).*LoadImage and PackPoseInputs"):
        model().test_step({"inputs": [inputs]})


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.py"
    path.write_text(f"pipeline = {PIPELINE!r}")
    return path


@pytest.mark.parametrize(
    ("overrides", "rounds", "score"),
    [
        (None, 2, 0.9),
        ({"pipeline.rounds": 1}, 1, 0.9),
        ({"pipeline": {"rounds": 1, "detector": {"score": 0.5}}}, 1, 0.5),
        ({"pipeline": {"detector": {"type": "fakes.FussyDetector"}}}, 2, 0.9),
    ],
)
def test_overrides(config, overrides, rounds, score):
    (sample,) = model(str(config), overrides=overrides).test_step({"inputs": [bgr(fakes.scene(BEHIND, FRONT, FRONT))]})
    assert sample.pred_instances.round.max() == rounds
    assert sample.pred_instances.bbox_scores[0] == np.float32(score)


def test_a_stage_is_replaced_whole(config):
    stage = {"pipeline": {"detector": {"type": "fakes.FussyDetector"}}}
    assert type(model(str(config), overrides=stage)._loop.detector) is fakes.FussyDetector


def test_mistakes_in_the_config(config):
    with pytest.raises(UserError, match=r"'ochumann' does not exist; did you mean 'ochuman\.py'"):
        model("ochumann")
    with pytest.raises(UserError, match="has no argument 'round'"):
        model(PIPELINE | {"round": 1})
    with pytest.raises(UserError, match="there is no pose estimator 'Pose'"):
        model(str(config), overrides={"pipeline": {"pose": {"type": "Pose"}}})
    with pytest.raises(UserError, match="change the pipeline's dict itself"):
        model(overrides={"pipeline.rounds": 1})


def test_it_goes_where_the_model_goes(monkeypatch):
    pipeline = PIPELINE | {"device": "cpu"}
    built = []
    real = plugin.build
    monkeypatch.setattr(plugin, "build", lambda config, device: (built.append(device), real(config, "cpu"))[1])
    estimator = model(pipeline)
    estimator.to("cpu").test_step({"inputs": [bgr(fakes.scene(FRONT))]})
    assert built == ["cpu"]
    estimator.data_preprocessor._device = torch.device("cuda")  # as after to("cuda"), which needs one
    estimator([bgr(fakes.scene(FRONT))], mode="predict")
    estimator([bgr(fakes.scene(FRONT))], mode="predict")
    assert built == ["cpu", "cuda"]


def test_keypoints_are_described_for_the_visualizers():
    estimator = model()
    assert tuple(estimator.dataset_meta["keypoint_id2name"].values()) == COCO_KEYPOINTS.names
    np.testing.assert_allclose(estimator.dataset_meta["sigmas"], COCO_KEYPOINTS.sigmas)
    before = estimator.dataset_meta
    estimator.dataset_meta = None
    assert estimator.dataset_meta is before
    estimator.dataset_meta = {"dataset_name": "other"}
    assert estimator.dataset_meta == {"dataset_name": "other"}


@pytest.mark.parametrize("name", ["crowdpose", "coco_wholebody"])
def test_other_keypoints_are_described_as_well(name):
    known = keypoint_set(name)
    found = plugin._metainfo(known)
    assert tuple(found["keypoint_id2name"].values()) == known.names
    assert found["flip_indices"] == list(known.flip_indices)
    assert set(found["skeleton_links"]) == set(known.skeleton)


def test_a_name_that_somebody_else_took():
    with pytest.raises(UserError, match=r"BMPPoseEstimator is already registered.*custom_imports"):
        plugin._register()  # as if the first time had been somebody else's


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("bmp_*.py")))
def test_configs_are_complete(name):
    scope = DefaultScope.get_current_instance()
    settings = Config.fromfile(CONFIGS / name)
    assert DefaultScope.get_current_instance() is scope
    assert "pipeline" in load_config(settings.model.pipeline)
    assert settings.model.type in MODELS
    assert settings.data_mode == settings.test_dataloader.dataset.data_mode == "bottomup"
    assert settings.test_dataloader.dataset.type in DATASETS
    # MMEngine wants all three of them, or none.
    assert [settings.get(key) for key in ("train_dataloader", "train_cfg", "optim_wrapper")] == [None] * 3
    with quiet_models():
        CocoMetric(**{key: value for key, value in settings.test_evaluator.items() if key != "type"})


@pytest.mark.slow
def test_crowdpose_maps_joints_to_the_same_joints():
    converter = Config.fromfile(CONFIGS / "bmp_v2_crowdpose.py").test_evaluator.gt_converter
    with quiet_models():
        crowdpose = parse_pose_metainfo({"from_file": "configs/_base_/datasets/crowdpose.py"})
    assert converter.num_keypoints == len(COCO_KEYPOINTS)
    assert len(converter.mapping) == 12
    for source, target in converter.mapping:
        assert crowdpose["keypoint_id2name"][source] == COCO_KEYPOINTS.names[target]
        assert crowdpose["sigmas"][source] == pytest.approx(COCO_KEYPOINTS.sigmas[target])


@pytest.fixture(scope="module", params=[0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def crowd(request, tmp_path_factory):
    """A data set of squares in two sizes: hidden ones, crowds, people without keypoints, images without people."""
    folder = tmp_path_factory.mktemp("crowd")
    generator = np.random.default_rng(request.param)
    images, annotations = [], []
    for number in range(24):
        squares = []
        for side in generator.choice([40, 110], generator.integers(0, 5)).tolist():
            x, y = generator.integers(0, (300 - side, 200 - side)).tolist()
            squares.append((x, y, x + side, y + side))
        image = fakes.scene(*squares, height=200, width=300)
        name = f"{number:02}.png"
        PILImage.fromarray(image.pixels.numpy()).save(folder / name)
        images.append({"id": 2 * number + 1, "file_name": name, "height": 200, "width": 300})
        for x1, y1, x2, y2 in squares:
            steps = np.linspace(0, 1, 17)[:, None]
            places = (x1, y1) + steps * (x2 - x1, y2 - y1) + generator.normal(0, 2, (17, 2))
            flags = generator.choice([0, 1, 2], 17, p=[0.2, 0.2, 0.6]) * (generator.random() < 0.9)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 2 * number + 1,
                    "category_id": 1,
                    "iscrowd": int(generator.random() < 0.1),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1) * 0.9,
                    "keypoints": np.c_[places, flags].ravel().tolist(),
                    "num_keypoints": int((flags > 0).sum()),
                }
            )
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_KEYPOINTS.names), "skeleton": []}]
    ground_truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(ground_truth))
    return folder


@pytest.mark.slow
def test_average_precision_is_ours_to_the_last_digit(crowd, capsys):
    pipeline = PIPELINE | {"detector": {"type": NoisyDetector}, "pose": {"type": NoisyPose}}
    settings = Config.fromfile(CONFIGS / "bmp_nano.py")
    section = settings.test_dataloader.dataset
    section.update(data_root=str(crowd), ann_file="truth.json")
    scope = DefaultScope.get_current_instance()
    with DefaultScope.overwrite_default_scope("mmpose"), quiet_models():
        dataset = DATASETS.build(section)
        estimator = MODELS.build({"type": "BMPPoseEstimator", "pipeline": pipeline})
        metric = CocoMetric(**{key: value for key, value in settings.test_evaluator.items() if key != "type"})
        metric.dataset_meta = dataset.metainfo
        for start in range(0, len(dataset), 4):
            samples = [dataset[index] for index in range(start, min(start + 4, len(dataset)))]
            batch = {key: [sample[key] for sample in samples] for key in ("inputs", "data_samples")}
            metric.process(batch, [sample.to_dict() for sample in estimator.test_step(batch)])
        theirs = metric.evaluate(len(dataset))
    assert DefaultScope.get_current_instance() is scope

    people = PeopleDataset(crowd / "truth.json", crowd)
    loop = bmp.BMP(NoisyDetector(), NoisyPose(), fakes.FakeSegmenter(), fakes.KeepAll())
    rows = []
    for index, image in enumerate(people.ground_truth["images"]):
        found = loop(people.load(index)).instances
        rows += to_annotations(found, image["id"], COCO_KEYPOINTS, exact=True)
    ours = evaluate_coco(people.ground_truth, to_results(rows, "keypoints"), "keypoints")

    assert set(theirs) == {f"coco/{name}" for name in NUMBERS}
    assert {name: theirs[f"coco/{name}"] for name in NUMBERS} == {
        name: getattr(ours, own) for name, own in NUMBERS.items()
    }
    assert 0.1 < ours.ap < 0.9  # neither all right nor all wrong, where differences would not show
    assert None not in (ours.ap_medium, ours.ap_large)
