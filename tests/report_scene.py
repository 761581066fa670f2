"""Two images by hand, with three labelled people and a crowd region, and what two rounds find in them."""

import torch

from bmp.evaluation.rounds import ComparisonSettings, compare_rounds
from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.masks import to_rle

K = len(COCO_KEYPOINTS)
HEIGHT, WIDTH = 48, 64


def person(number, image_id, box, **more):
    x, y, width, height = box
    polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
    keypoints = [value for k in range(K) for value in (x + width * k / K, y + height * k / K, 2)]
    return {
        "id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": list(box), "area": width * height,
        "segmentation": [polygon], "keypoints": keypoints, "num_keypoints": K, **more,
    }  # fmt: skip


def row(image_id, box, score, number=1):
    """What our export writes of a person whose mask fills the box."""
    x, y, width, height = box
    bits = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    bits[0, y : y + height, x : x + width] = True
    label = person(0, image_id, box)
    return {
        "image_id": image_id, "category_id": 1, "bbox": list(box), "area": width * height,
        "segmentation": to_rle(bits)[0], "iscrowd": 0, "score": score, "mask_score": 0.5,
        "keypoints": label["keypoints"], "num_keypoints": K, "keypoint_scores": [0.8] * K,
        "keypoint_visibility": [1.0] * K, "keypoint_presence": [1.0] * K, "round": number,
    }  # fmt: skip


A, B, C, NOBODY = (4, 4, 10, 20), (20, 4, 10, 20), (40, 4, 10, 20), (4, 30, 8, 8)
TRUTH = {
    "images": [{"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in (7, 3)],
    "annotations": [person(1, 7, A), person(2, 7, B), person(3, 3, C), person(4, 3, NOBODY, iscrowd=1)],
    "categories": [{"id": 1, "name": "person"}],
}
FIRST = [row(7, A, 0.9), row(3, NOBODY, 0.8), row(7, (40, 4, 6, 6), 0.3)]
# A is lost, B and C are found.
SECOND = [row(7, B, 0.7, 2), row(3, C, 0.6, 2), row(7, (40, 4, 6, 6), 0.3)]


def compare(ground_truth=TRUTH, rounds=(FIRST, SECOND), **settings):
    return compare_rounds(ground_truth, lambda number: rounds[number - 1], len(rounds), ComparisonSettings(**settings))
