"""The detector on SAM's features in training: whom a cell answers for, who is known, and that it learns to look away."""

import json

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as rle

pytest.importorskip("mmdet", reason="MMDetection is not installed")
pytest.importorskip("sam2", reason="the package sam2 is not installed")

import tiny_models
from safetensors.torch import save_file

from bmp import UserError
from bmp.datasets.people import PeopleDataset
from bmp.detectors.sam import SAMDetector
from bmp.models.people_head import PeopleHead
from bmp.models.sam2_encoder import SAM2Encoder
from bmp.ops.boxes import iou
from bmp.structures.mask_windows import MaskWindows
from bmp.training.detector.known_people import KnownPeople, PartlyKnownCrowds
from bmp.training.detector.people_head import BoxAP, PeopleHeadTraining, assign, generalized_iou

SMALL = dict(level_channels=(64, 64, 64), channels=16)
EXACT = dict(neighbour=0.0, patches=0.0, rim=0.0)
LEFT, RIGHT = (10, 12, 40, 60), (60, 20, 50, 64)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two images of two people each, and one of nobody."""
    folder = tmp_path_factory.mktemp("people")
    images, annotations = [], []
    for number in range(3):
        pixels = np.full((96, 120, 3), 60, np.uint8)
        for x, y, width, height in (LEFT, RIGHT) if number < 2 else ():
            pixels[y : y + height, x : x + width] = (250 - 60 * number, 20 + x, 90)
            mask = np.zeros((96, 120), np.uint8, order="F")
            mask[y : y + height, x : x + width] = 1
            shape = rle.encode(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                    "bbox": [x, y, width, height], "area": width * height,
                    "segmentation": {"size": shape["size"], "counts": shape["counts"].decode()},
                }
            )  # fmt: skip
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        images.append({"id": number, "file_name": f"{number}.png", "height": 96, "width": 120})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "people.json").write_text(json.dumps(content))
    return PeopleDataset(folder / "people.json", folder)


@pytest.fixture(scope="module")
def sam(tmp_path_factory):
    return dict(model=tiny_models.sam2_config(tmp_path_factory.mktemp("sam")), checkpoint="random")


def shares(*boxes):
    corners = torch.tensor([(x, y, x + width, y + height) for x, y, width, height in boxes])
    return corners / torch.tensor([120, 96, 120, 96])


@pytest.mark.slow
def test_known_people_are_not_to_be_found(dataset):
    crowds = PartlyKnownCrowds(dataset, side=120, probability=1.0, errors=EXACT)
    assert len(crowds) == 2  # only images with people
    counts = set()
    for seed in range(12):
        torch.manual_seed(seed)
        people = crowds[0]["data_samples"]
        counts.add(len(people.boxes))
        covered = people.known.sum()
        left = people.masks.flatten(1).sum(1)
        # Known or to be found: everybody is one of both.
        whole = torch.tensor([40 * 60.0, 50 * 64]) * 120 / 96
        torch.testing.assert_close(covered + left.sum(), whole.sum(), rtol=0.02, atol=0)
        assert not (people.masks * people.known).any()
        if len(left) == 1:
            expected = shares(LEFT) if left[0] < 3500 else shares(RIGHT)
            torch.testing.assert_close(people.boxes, expected)
    assert counts == {0, 1}  # one of the two at least is known


def test_a_person_half_under_a_known_one_has_a_smaller_box(dataset):
    crowds = PartlyKnownCrowds(dataset, side=120, errors=dict(neighbour=1.0, patches=0.0, rim=0.0))
    boxes = torch.tensor([[0.0, 0.0, 0.6, 1.0], [0.4, 0.0, 1.0, 1.0]])
    masks = torch.stack([torch.arange(10) < 6, torch.arange(10) >= 4])[:, None].expand(-1, 10, -1)
    near = crowds._neighbours(boxes, masks)
    assert torch.equal(near, masks.flip(0))
    assert not crowds._neighbours(boxes * torch.tensor([0.5, 1, 0.5, 1]) + torch.tensor([[0.0], [0.5]]), masks).any()


def test_images_for_validation_are_as_they_are(dataset):
    crowds = PartlyKnownCrowds(dataset, probability=0.0, limit=1)
    assert crowds[0]["data_samples"] == 0
    assert [len(crowds.metainfo["ground_truth"][key]) for key in ("images", "annotations")] == [1, 2]
    with pytest.raises(IndexError):
        crowds[1]
    nobody = PeopleDataset.__new__(PeopleDataset)
    nobody.name, nobody.ground_truth = "nobody", {**dataset.ground_truth, "annotations": []}
    with pytest.raises(UserError, match="nobody: nobody has a mask"):
        PartlyKnownCrowds(nobody)


def test_cells_answer_for_whom_they_overlap():
    points = PeopleHead.points(8, 8)
    people = KnownPeople(
        torch.tensor([[0.0, 0, 0.5, 1], [0.5, 0, 1, 1]]), torch.zeros(2, 16, 16), torch.zeros(16, 16), False
    )
    people.masks[0, :, :8] = people.masks[1, :, 8:] = 1
    boxes = people.boxes[(points[:, 0] > 0.5).long()].clone()
    boxes[points[:, 1] < 0.5] = torch.tensor([0.0, 0, 0.1, 0.1])  # useless answers of the upper half
    whose, quality = assign(torch.zeros(64), boxes, points, people, 1 / 8)
    taken = whose >= 0
    assert taken.sum() == 26  # thirteen each
    assert torch.equal(whose[taken], (points[taken, 0] > 0.5).long())
    assert (points[taken, 1] > 0.5).all()
    assert torch.equal(quality > 0.99, taken)
    nobody = KnownPeople(torch.zeros(0, 4), torch.zeros(0, 16, 16), torch.zeros(16, 16), False)
    whose, quality = assign(torch.zeros(64), boxes, points, nobody, 1 / 8)
    assert (whose == -1).all()
    assert not quality.any()


def test_somebody_smaller_than_a_cell_has_one():
    points = PeopleHead.points(8, 8)
    people = KnownPeople(torch.tensor([[0.26, 0.26, 0.3, 0.3]]), torch.zeros(1, 32, 32), torch.zeros(32, 32), False)
    people.masks[0, 8, 8] = 1
    whose, _ = assign(torch.zeros(64), people.boxes.expand(64, -1), points, people, 1 / 8)
    assert bool((whose == 0).any())


def test_generalized_iou():
    first = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]])
    second = torch.tensor([[0.0, 0, 2, 2], [1, 0, 2, 1], [3, 0, 4, 1]])
    assert generalized_iou(first, second).tolist() == pytest.approx([1, 0, -0.5])


@pytest.mark.slow  # seconds of training
def test_it_learns_to_find_people_and_not_those_who_are_known(dataset, sam, tmp_path):
    torch.manual_seed(0)
    model = PeopleHeadTraining(SMALL, sam, cache=tmp_path / "levels").train()
    crowds = PartlyKnownCrowds(dataset, side=64, probability=0.6, painted=0.3, errors=EXACT)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(60):
        samples = [crowds[index] for index in (0, 1)]
        losses = model([each["inputs"] for each in samples], [each["data_samples"] for each in samples])
        optimizer.zero_grad()
        sum(value for name, value in losses.items() if name.startswith("loss")).backward()
        optimizer.step()

    model.eval()
    whole = PartlyKnownCrowds(dataset, probability=0.0)
    images = [whole[index]["inputs"] for index in range(2)]
    rows = model(images, [0, 1], mode="predict")
    metric = BoxAP()
    metric.dataset_meta = whole.metainfo
    metric.process({}, rows)
    numbers = metric.evaluate(2)
    assert numbers["detector/bbox_AP50"] > 90
    assert numbers["detector/segm_AP50"] > 90

    file = tmp_path / "head.safetensors"
    save_file({name: value.contiguous() for name, value in model.network.state_dict().items()}, file)
    stage = SAMDetector(SAM2Encoder(**sam), str(file), SMALL)
    (found,) = stage.detect(images[:1])
    assert len(found) == 2
    left = found[found.boxes[:, 0] < 30]
    (others,) = stage.detect_further(images[:1], [MaskWindows.of(left.masks)])
    assert len(others) == 1
    assert iou(others.boxes, found[found.boxes[:, 0] > 30].boxes).item() > 0.5
    (nobody,) = stage.detect_further(images[:1], [MaskWindows.of(found.masks)])
    assert len(nobody) == 0
