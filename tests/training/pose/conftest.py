"""A made-up data set of people: stick figures with exact masks and keypoints, in COCO's format."""

import json

import cv2
import numpy as np
import pytest

from bmp.label_sets import COCO_KEYPOINTS

_LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16))
_SIDES = ((255, 90, 60), (60, 90, 255), (90, 230, 90))  # left, right, both


def _keypoints(generator, x, y, height):
    """Place 17 keypoints of someone whose feet stand at (x, y)."""
    across = np.array([0, 1, -1, 2, -2, 4, -4, 6, -6, 7, -7, 3, -3, 3.5, -3.5, 4, -4]) / 30
    up = np.array([28, 29, 29, 28.5, 28.5, 25, 25, 19, 19, 14, 14, 14, 14, 7, 7, 0, 0]) / 30
    places = np.stack((x + across * height, y - up * height), -1)
    places[7:] += generator.normal(0, 0.03 * height, (10, 2))
    return places


def _draw(image, places, height, color_of):
    width = max(3, int(height * 0.06))
    cv2.circle(image, np.int32(places[0]).tolist(), int(height * 0.07), color_of(2), -1)
    for start, end in _LIMBS:
        side = 2 if start % 2 != end % 2 else 1 - start % 2
        cv2.line(image, np.int32(places[start]).tolist(), np.int32(places[end]).tolist(), color_of(side), width)


@pytest.fixture(scope="session")
def make_figures():
    """Return a function that writes ``count`` images of ``people`` figures each, and their annotations, to a folder."""
    from pycocotools import mask as coco_mask

    def make(folder, count, *, people=1, size=160, seed=0, name="train"):
        generator = np.random.default_rng(seed)
        (folder / name).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            pixels = generator.integers(0, 90, (size, size, 3), np.uint8)
            owner = np.zeros((size, size), np.uint8)
            figures = []
            for person in range(1, people + 1):
                height = generator.uniform(0.5, 0.8) * size
                x, y = generator.uniform(0.3 * size, 0.7 * size), generator.uniform(0.85 * size, 0.98 * size)
                places = _keypoints(generator, x, y, height)
                figures.append(places)
                _draw(pixels, places, height, lambda side: _SIDES[side])
                _draw(owner, places, height, lambda side, person=person: person)
            images.append({"id": number, "file_name": f"{name}/{number:06}.png", "height": size, "width": size})
            cv2.imwrite(str(folder / images[-1]["file_name"]), pixels)
            for person, places in enumerate(figures, 1):
                mask = owner == person
                inside = ((places >= 0) & (places < size)).all(-1)
                rows, columns = np.clip(np.int32(np.round(places)), 0, size - 1).T[::-1]
                flags = np.where(inside, np.where(mask[rows, columns], 2, 1), 0)
                rle = coco_mask.encode(np.asfortranarray(mask))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "bbox": coco_mask.toBbox(rle).tolist(),
                        "area": int(mask.sum()),
                        "iscrowd": 0,
                        "segmentation": {"size": [size, size], "counts": rle["counts"].decode()},
                        "keypoints": np.c_[np.where(inside[:, None], places, 0), flags].round(2).ravel().tolist(),
                        "num_keypoints": int(inside.sum()),
                    }
                )
        categories = [{"id": 1, "name": "person", "keypoints": list(COCO_KEYPOINTS.names), "skeleton": []}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
        return folder

    return make
