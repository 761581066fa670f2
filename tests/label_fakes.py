"""Small COCO data sets, valid as they stand, for tests to change."""

import json

HEIGHT, WIDTH = 6, 8
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]
POINTS = [2, 2, 2, 3, 3, 1] + [0] * 45


def person(number=1, image_id=1, **changes):
    row = {"id": number, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
    return row | changes


def dataset(**changes):
    data = {
        "images": [{"id": number, "file_name": f"{name}.png", "height": HEIGHT, "width": WIDTH} for number, name in ((7, "b"), (1, "a"))],
        "annotations": [person()],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    return data | changes


def write(folder, data, name="people.json"):
    path = folder / name
    path.write_text(json.dumps(data))
    return path
