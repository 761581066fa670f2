"""People of COCO-format files: what a sample keeps, and what the codec makes of keypoints that left the crop."""

import json

import numpy as np
import pytest

pytest.importorskip("mmpose.models", reason="needs the extra openmmlab", exc_type=ImportError)

from mmengine.registry import DefaultScope
from mmpose.registry import DATASETS

import bmp.models.pmpose
import bmp.training.pose  # noqa: F401 -- registers
from bmp.config import load_config
from bmp.datasets.held_out import is_held_out


def _dataset(folder, pipeline=(), **changes):
    with DefaultScope.overwrite_default_scope("mmpose"):
        return DATASETS.build(
            dict(
                type="PeopleKeypoints",
                data_root=str(folder),
                ann_file="train.json",
                pipeline=list(pipeline),
                **changes,
            )
        )


@pytest.fixture(scope="module")
def folder(make_figures, tmp_path_factory):
    return make_figures(tmp_path_factory.mktemp("people"), 4, people=3)


@pytest.mark.slow
def test_a_sample_keeps_visibility_segmentation_and_the_whole_box(folder):
    annotations = json.loads((folder / "train.json").read_text())["annotations"]
    dataset = _dataset(folder)
    assert len(dataset) == len(annotations)
    kinds = set()
    for number, annotation in enumerate(annotations):
        sample = dataset.get_data_info(number)
        flags = annotation["keypoints"][2::3]
        kinds |= set(flags)
        assert sample["keypoints_visibility"].tolist() == [flags]
        assert sample["keypoints_visible"].tolist() == [[min(flag, 1) for flag in flags]]
        assert sample["segmentation"] == annotation["segmentation"]
        x, y, width, height = annotation["bbox"]
        assert sample["bbox"].tolist() == [[x, y, x + width, y + height]]
        assert "raw_ann_info" not in sample
    assert kinds >= {1, 2}


@pytest.mark.slow
def test_what_is_held_out_and_the_rest_are_the_whole(folder):
    whole, rest, held_out = (
        _dataset(folder, **options)
        for options in ({}, {"part": "rest", "share": 0.5}, {"part": "held_out", "share": 0.5})
    )
    ids = [
        {each["img_id"] for each in map(dataset.get_data_info, range(len(dataset)))}
        for dataset in (whole, rest, held_out)
    ]
    assert ids[1] | ids[2] == ids[0]
    assert not ids[1] & ids[2]
    assert ids[2] == {number for number in ids[0] if is_held_out(number, 0.5)}
    assert len(rest) + len(held_out) == len(whole)


@pytest.mark.slow
def test_neighbours_are_the_others_whose_boxes_overlap(tmp_path):
    boxes = [[0, 0, 50, 50], [40, 40, 50, 50], [50, 0, 40, 40], [0, 0, 50, 50]]
    annotations = [
        {
            "id": number,
            "image_id": int(number == 3),
            "category_id": 1,
            "bbox": box,
            "segmentation": {"size": [100, 100], "counts": str(number)},
            "keypoints": [1, 1, 2] * 17,
        }
        for number, box in enumerate(boxes)
    ]
    images = [{"id": number, "file_name": "a.png", "width": 100, "height": 100} for number in range(2)]
    categories = [{"id": 1, "name": "person"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "train.json").write_text(json.dumps(content))
    samples = _dataset(tmp_path)
    found = [[each["counts"] for each in samples.get_data_info(row)["neighbours"]] for row in range(4)]
    assert found == [["1"], ["0"], [], []]


@pytest.mark.slow
def test_without_segmentations_nobody_is_a_neighbour(folder, tmp_path):
    content = json.loads((folder / "train.json").read_text())
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "train.json").write_text(json.dumps(content))
    samples = _dataset(tmp_path)
    assert all(samples.get_data_info(row)["neighbours"] == [] for row in range(len(samples)))


def _nano_pipeline():
    return load_config("train/pmpose_nano.py").train_dataloader.dataset.dataset.pipeline


@pytest.mark.slow
def test_the_training_of_nano_reads_it(folder):
    np.random.seed(0)
    dataset = _dataset(folder, _nano_pipeline())
    present, hidden = [], []
    for row in range(len(dataset)):
        packed = dataset[row]
        assert packed["inputs"].shape == (3, 128, 96)
        labels = packed["data_samples"].gt_instance_labels
        assert packed["data_samples"].gt_fields.heatmaps.shape == (17, 64, 48)
        present += labels.presence[labels.presence_weights > 0].tolist()
        hidden += labels.visibility[labels.visibility_weights > 0].tolist()
    assert set(present) == {0.0, 1.0}
    assert set(hidden) == {0.0, 1.0}


@pytest.mark.slow
def test_labelled_keypoints_outside_the_crop_teach_absence_and_nothing_else(folder):
    pipeline = [step for step in _nano_pipeline() if not step["type"].startswith("Random")]
    place = next(row for row, step in enumerate(pipeline) if step["type"] == "GetBBoxCenterScale")

    class UpperHalf:
        def __call__(self, results):
            x1, y1, x2, y2 = results["bbox"][0]
            return {**results, "bbox": np.array([[x1, y1, x2, (y1 + y2) / 2]], np.float32)}

    np.random.seed(0)
    packed = _dataset(folder, [*pipeline[:place], UpperHalf(), *pipeline[place:]])[0]
    labels = packed["data_samples"].gt_instance_labels
    labelled = labels.presence_weights[0] > 0
    ankles, head = [15, 16], [0, 1, 2]
    assert labelled[ankles].all()
    assert labels.presence[0, ankles].tolist() == [0, 0]
    assert labels.presence[0, head].tolist() == [1, 1, 1]
    absent = labelled & (labels.presence[0] == 0)
    assert labels.keypoint_weights[0, absent].sum() == 0
    assert labels.visibility_weights[0, absent].sum() == 0
