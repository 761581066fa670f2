"""PASCAL VOC, an XML file a photo with the boxes of people in whole pixels; through the package supervision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from supervision import Detections
from supervision.dataset.formats.pascal_voc import detections_from_xml_obj, detections_to_pascal_voc

from bmp.io.atomic import replacing, writing
from bmp.io.coco_json import Labels
from bmp.io.formats.label_rows import LabelRows, files_beside, people_by_photo, relative_name
from bmp.io.formats.xml_fields import content, parse_xml, pixels, written
from bmp.io.json_fields import JsonObject
from bmp.label_sets import COCO_KEYPOINTS

_FOLDER = "Annotations"


def write_voc(labels: Labels, folder: Path) -> list[str]:
    """Write ``Annotations/``: a file for each photo. Masks and keypoints have no place in them."""
    pairs = list(people_by_photo(labels))
    for path, (image, people) in zip(
        files_beside([image for image, _ in pairs], folder / _FOLDER, ".xml"), pairs, strict=True
    ):
        boxes = np.array([row["bbox"] for row in people], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        size = (image["height"], image["width"], 3)
        name = written(relative_name(image["file_name"]).as_posix())
        found = Detections(xyxy=boxes, class_id=np.zeros(len(boxes), dtype=int))
        text = detections_to_pascal_voc(found, ["person"], name, size)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                file.write(text)
    return []


def read_voc(folder: Path, images: Path | None) -> tuple[JsonObject, list[str]]:
    """Read the people of the files below ``Annotations/``, or below the folder itself where there is no such."""
    rows = LabelRows(COCO_KEYPOINTS)
    annotations = folder / _FOLDER if (folder / _FOLDER).is_dir() else folder
    for path in sorted(annotations.rglob("*.xml")):
        root = parse_xml(path)
        height, width = (content(root, f"size/{side}", str(path), pixels) for side in ("height", "width"))
        # Some programs write the name with the folders, others without.
        name = Path(root.findtext("filename") or f"{path.stem}.jpg").name
        image_id = rows.add_image((path.parent.relative_to(annotations) / name).as_posix(), height, width)
        for element in root.findall("object"):
            for side in ("xmin", "ymin", "xmax", "ymax"):
                content(element, f"bndbox/{side}", str(path), float)
        found, classes = detections_from_xml_obj(root, [], (width, height))
        numbers = found.class_id if found.class_id is not None else np.zeros(len(found), dtype=int)
        for (x1, y1, x2, y2), number in zip(found.xyxy.tolist(), numbers.tolist(), strict=True):
            if classes[number].casefold() == "person":
                rows.add_person(image_id, [x1, y1, x2 - x1, y2 - y1])
            else:
                rows.left_out[f"objects of the class {classes[number]}"] += 1
    return rows.dataset(), [f"{count} {what}" for what, count in rows.left_out.items() if count]
