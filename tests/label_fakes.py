"""Small COCO data sets, valid as they stand, for tests to change."""

import json

from fakes import scene

from bmp.datasets.people import PeopleDataset
from bmp.ops.masks import to_rle

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


class Squares(PeopleDataset):
    """One image for each list of squares (x1, y1, x2, y2), see ``fakes.scene``, with the masks that are seen of them.

    Square j of image i, counted from 1, is annotation ``step`` · i + j.
    """

    name = "squares"

    def __init__(self, *scenes, step):
        self.images = [scene(*squares) for squares in scenes]
        self.ground_truth = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        for number, (image, squares) in enumerate(zip(self.images, scenes, strict=True), 1):
            entry = {"id": number, "file_name": f"{number}.png", "height": image.height, "width": image.width}
            self.ground_truth["images"].append(entry)
            for own, (x1, y1, x2, y2) in enumerate(squares):
                seen = image.pixels[..., 0] == 200 + own
                box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(seen.sum())}
                row = person(step * number + own, number, **box, segmentation=to_rle(seen[None])[0])
                self.ground_truth["annotations"].append(row)

    def load(self, index):
        return self.images[index]
