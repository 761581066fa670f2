"""MPII Human Pose: photos with 16 keypoints for some of the people in them. Knows its files and their format."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bmp.checkpoints.sources import cache_folder
from bmp.datasets.people import PeopleDataset, find_root
from bmp.errors import UserError
from bmp.io import images as pictures
from bmp.io.annotations import CATEGORY_ID
from bmp.io.atomic import replacing, writing
from bmp.io.json_fields import (
    JsonObject,
    are_numbers,
    expect,
    expect_field,
    is_file_name,
    is_number,
    read_json,
    rows_of,
)
from bmp.io.orientation import read_orientation
from bmp.label_sets import KEYPOINT_SETS
from bmp.registry import DATASETS

_SOURCE = (
    "as MMPose's documentation of MPII lists it (Andriluka et al., 2D Human Pose Estimation: New Benchmark and State "
    "of the Art Analysis, CVPR 2014)"
)
_HEADS = {"val": "annotations/mpii_gt_val.mat"}
_PIXELS = 200.0  # a scale of 1 in the labels
_BELOW = 15.0  # pixels of scale 1 by which boxes are moved down so that feet are in them, as everybody does
_HEAD = 0.6  # of the diagonal of a head's box: what MPII calls its size


@DATASETS.register_module()
class MPII(PeopleDataset):
    """MPII val or train; poses are measured by PCKh on val, which has boxes of heads.

    Only some of the people in a photo are labelled, so average precision says little; PCKh is of those who are. Boxes
    are squares around a person's centre, there are no masks. Labels count pixels from 1 and are read as from 0.

    Args:
        root: folder with ``annotations/mpii_{split}.json``, ``annotations/mpii_gt_val.mat`` and ``images/``.
        split: "val" or "train".
    """

    def __init__(self, root: str | os.PathLike[str] | None = None, split: str = "val") -> None:
        if split not in ("val", "train"):
            raise UserError(f"MPII: there is no split {split!r}; there is: val, train")
        file, heads = f"annotations/mpii_{split}.json", _HEADS.get(split)
        folder = find_root(f"MPII {split}", root, (file, *([heads] if heads else []), "images"), _SOURCE)
        converted = convert(folder / file, folder / "images", None if heads is None else folder / heads)
        content = json.dumps(converted)
        kept = cache_folder() / "datasets" / f"mpii_{split}_{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
        with writing(kept, "make room or set BMP_CACHE"):
            kept.parent.mkdir(parents=True, exist_ok=True)
            with replacing(kept, shared=True) as text:
                text.write(content)
        super().__init__(kept, folder / "images", f"MPII {split}", keypoints="mpii")
        self.published = "mpii_val" if split == "val" else None


def convert(annotations: Path, images: Path, heads: Path | None) -> JsonObject:
    """Return MPII's labels, as MMPose has them, as a COCO dataset.

    Args:
        annotations: list of people with ``image``, ``center``, ``scale``, ``joints`` and ``joints_vis``.
        images: folder of the photos, of which the sizes are read.
        heads: MATLAB file with ``headboxes_src`` (2, 2, N) of the same people; None for none.

    Raises:
        UserError: for files that cannot be read or are not as described.
    """
    people = list(rows_of(annotations, {"people": read_json(annotations)}, "people"))
    sizes = [0.0] * len(people) if heads is None else _head_sizes(heads, len(people))
    numbers: dict[str, int] = {}
    limits: dict[int, tuple[int, int]] = {}
    entries: list[JsonObject] = []
    rows: list[JsonObject] = []
    for (location, person), size in zip(people, sizes, strict=True):
        name, center, scale, joints, visible = _checked(location, person)
        if name not in numbers:
            numbers[name] = len(numbers) + 1
            limits[numbers[name]] = _size(images / name)
            width, height = limits[numbers[name]]
            entries.append({"id": numbers[name], "file_name": name, "height": height, "width": width})
        side = scale * _PIXELS
        x, y = center[0] - 1, center[1] + (_BELOW * scale if center[0] != -1 else 0) - 1
        row = {
            "id": len(rows) + 1,
            "image_id": numbers[name],
            "category_id": CATEGORY_ID,
            "bbox": _within([x - side / 2, y - side / 2, side, side], *limits[numbers[name]]),
            "iscrowd": 0,
            "keypoints": [
                value
                for joint, seen in zip(joints, visible, strict=True)
                for value in ((joint[0] - 1, joint[1] - 1, 2) if seen else (0, 0, 0))
            ],
        }
        rows.append(row | ({"head_size": size} if size > 0 else {}))
    return {
        "info": {"description": "MPII"},
        "images": entries,
        "annotations": rows,
        "categories": [{"id": CATEGORY_ID, "name": "person", "keypoints": list(KEYPOINT_SETS["mpii"].names)}],
    }


def _checked(location: str, person: JsonObject) -> tuple[str, list[float], float, list[list[float]], list[int]]:
    """Return what is needed of a person: image, center, scale, joints and which of them are labelled."""
    count = len(KEYPOINT_SETS["mpii"])
    name, center, joints, visible = (person.get(field) for field in ("image", "center", "joints", "joints_vis"))
    expect_field(location, person, "image", is_file_name(name), "the name of a file")
    expect_field(location, person, "center", are_numbers(center, -1e6, 1e6) and len(center) == 2, "[x, y]")
    expect_field(
        location, person, "scale", is_number(person.get("scale"), 0, 1e4), "the person's height over 200 pixels"
    )
    fits = isinstance(joints, list) and len(joints) == count
    fits = fits and all(are_numbers(joint, -1e6, 1e6) and len(joint) == 2 for joint in joints or ())
    expect_field(location, person, "joints", fits, f"[x, y] for each of {count}")
    fits = are_numbers(visible, 0, 1) and len(visible) == count
    expect_field(location, person, "joints_vis", fits, f"0 or 1 for each of {count}")
    return person["image"], person["center"], person["scale"], person["joints"], person["joints_vis"]


def _within(box: Sequence[float], width: int, height: int) -> list[float]:
    """Return the part of a square around a person that is in the image; all of it where none is."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    return [x1, y1, x2 - x1, y2 - y1] if x1 < x2 and y1 < y2 else list(box)


def _size(path: Path) -> tuple[int, int]:
    """Return width and height of a photo from its header."""
    orientation = read_orientation(path)
    if orientation is None:  # whoever loads it is told why
        raise pictures.ImageError(f"{path}: cannot be read as a picture; extract the archive again")
    height, width = orientation.upright_size
    return width, height


def _head_sizes(path: Path, count: int) -> list[float]:
    """Return the size of each head: 0.6 of the diagonal of its box."""
    from scipy.io import loadmat

    try:
        boxes: npt.NDArray[np.float64] = np.asarray(loadmat(path)["headboxes_src"], dtype=np.float64)
    except Exception as error:  # MATLAB's formats are many, and so are SciPy's errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: cannot be read as MPII's boxes of heads, {reason}; download it again") from None
    expect(boxes.shape == (2, 2, count), str(path), f"expected boxes (2, 2, {count}) of heads, got {boxes.shape}")
    sizes: list[float] = (_HEAD * np.linalg.norm(boxes[1] - boxes[0], axis=0)).tolist()
    return sizes
