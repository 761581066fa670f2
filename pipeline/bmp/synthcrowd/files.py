"""Scenes as COCO JSON and JPEG, in memory and on the disk; does not know how scenes are made."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, category
from bmp.io.atomic import replacing, writing
from bmp.io.json_fields import JsonObject
from bmp.label_sets import COCO_KEYPOINTS
from bmp.ops.masks import to_rle
from bmp.synthcrowd.backgrounds import Pixels
from bmp.synthcrowd.scenes import MIN_PIXELS, Scene, Settings, make_scene

_QUALITY = 95


def to_coco(scenes: Iterable[Scene], split: str = "scenes") -> JsonObject:
    """Return the ground truth of ``scenes`` as a COCO dataset of persons, plain values ready for ``json``.

    Image ids are 1, 2, ... in the order of the scenes, and image i (from 0) is called ``<split>/<i, six digits>.jpg``.
    Masks are compressed RLE with ``counts`` str; beside COCO's fields a person has ``amodal_segmentation``, the mask
    with nobody and nothing in front, ``depth_order``, 0 for whoever is farthest from the viewer, and ``self_occluded``,
    the numbers of the labelled keypoints that the own body hides, from 0.
    """
    return _dataset(split, [(scene.image.shape[:2], people_rows(scene)) for scene in scenes], {})


def encode(image: Pixels) -> bytes:
    """Return uint8 (H, W, 3) RGB as JPEG of quality 95."""
    _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(jpeg)


def render(
    split: str, settings: Settings, count: int, seed: int = 0, advance: Callable[[], None] | None = None
) -> tuple[JsonObject, list[bytes]]:
    """Make ``count`` scenes in memory: their COCO dataset, as ``write`` leaves it, and each one's JPEG.

    ``advance`` is called after each scene.
    """
    entries, jpegs = [], []
    for index in range(count):
        scene = make_scene(seed, index, settings)
        entries.append((scene.image.shape[:2], people_rows(scene)))
        jpegs.append(encode(scene.image))
        if advance:
            advance()
    return _dataset(split, entries, _info(settings, seed)), jpegs


def write(
    folder: Path,
    split: str,
    settings: Settings,
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
    extras: bool = False,
    overwrite: bool = False,
    advance: Callable[[], None] | None = None,
) -> Path:
    """Make ``count`` scenes and write them; the same files for any number of workers.

    Writes ``<split>/<six digits>.jpg`` and, when all are there, ``<split>.json``; with ``extras`` also
    ``<split>_parts/<six digits>.png``, uint8 with CIHP's part labels, and ``<split>_pieces.json``, see ``_pieces``.

    Args:
        folder: created if it does not exist.
        split: name of the files.
        settings: of the scenes.
        count: number of scenes.
        seed: of all scenes.
        workers: processes that make scenes.
        extras: whether to write parts and pieces.
        overwrite: whether a split that is there already may be replaced.
        advance: is called after each scene.

    Returns the path of the JSON. Raises ``UserError`` for a split that is there already and for a folder that cannot
    be written.
    """
    path, images, parts = folder / f"{split}.json", folder / split, folder / f"{split}_parts"
    pieces = folder / f"{split}_pieces.json"
    with writing(folder):
        make_room((path, images, parts, pieces), overwrite)
        for new in (images, parts) if extras else (images,):
            new.mkdir(parents=True, exist_ok=True)
        make = partial(_write_scene, settings, seed, images, parts if extras else None)
        entries, all_pieces = [], []
        for shape, people, own_pieces in each(make, count, workers):
            entries.append((shape, people))
            all_pieces.append((shape, own_pieces))
            if advance:
                advance()
        info = _info(settings, seed)
        if extras:
            with replacing(pieces) as file:
                file.write(json.dumps({**_dataset(split, all_pieces, info), "categories": [_PIECE]}))
        with replacing(path) as file:
            file.write(json.dumps(_dataset(split, entries, info)))
    return path


def make_room(paths: Iterable[Path], overwrite: bool) -> None:
    """Remove files and folders that are there already; ``UserError`` for one of them unless ``overwrite``."""
    for old in paths:
        if old.is_file() or (old.is_dir() and any(old.iterdir())):
            if not overwrite:
                raise UserError(f"{old} exists; replace it with --overwrite, or choose another --output")
            shutil.rmtree(old) if old.is_dir() else old.unlink()


_Made = TypeVar("_Made")
_Rows = list[JsonObject]
_Entry = tuple[tuple[int, ...], _Rows]
"""Height and width of an image and its annotations, without ids."""
_Written = tuple[tuple[int, ...], _Rows, _Rows]
"""The same of an image that was written, and its pieces."""
_PIECE = {"id": CATEGORY_ID, "name": "piece", "supercategory": "piece"}
_PARTS_OF_A_PERSON = 2


def each(make: Callable[[int], _Made], count: int, workers: int, chunk: int = 8) -> Iterator[_Made]:
    """Yield ``make(0)``, ``make(1)``, ... in this order, made by so many processes, ``chunk`` at a time."""
    if workers == 1:
        yield from map(make, range(count))
        return
    # Not forked: the parent has the threads of torch, of which a copy without them may wait for ever.
    with multiprocessing.get_context("spawn").Pool(workers, _prepare_worker) as pool:
        yield from pool.imap(make, range(count), chunksize=chunk)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says that it was interrupted, once
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _write_scene(settings: Settings, seed: int, images: Path, parts: Path | None, index: int) -> _Written:
    scene = make_scene(seed, index, settings)
    (images / f"{index:06}.jpg").write_bytes(encode(scene.image))
    if parts is None:
        return scene.image.shape[:2], people_rows(scene), []
    _, png = cv2.imencode(".png", scene.parts)
    (parts / f"{index:06}.png").write_bytes(bytes(png))
    return (
        scene.image.shape[:2],
        people_rows(scene),
        _pieces(scene, np.random.default_rng([seed, settings.stream, index])),
    )


def _pieces(scene: Scene, rng: np.random.Generator) -> _Rows:
    """Return the objects that a segmenter without classes can be prompted for, as COCO annotations of one category.

    These are each person, two random parts of each (all parts would outnumber the people), and each thing; of each its
    visible pixels, if they are at least ``MIN_PIXELS``.
    """
    masks = list(scene.visible)
    for person in scene.visible:
        parts = [person & (scene.parts == label) for label in np.unique(scene.parts[person])]
        parts = [part for part in parts if part.sum() >= MIN_PIXELS]
        masks += [parts[place] for place in rng.permutation(len(parts))[:_PARTS_OF_A_PERSON]]
    things = [scene.things == number for number in np.unique(scene.things[scene.things > 0])]
    masks += [thing for thing in things if thing.sum() >= MIN_PIXELS]
    if not masks:
        return []
    return [
        {
            "category_id": CATEGORY_ID,
            "bbox": [float(edge) for edge in cv2.boundingRect(mask.astype(np.uint8))],
            "area": int(mask.sum()),
            "segmentation": segmentation,
            "iscrowd": 0,
        }
        for mask, segmentation in zip(masks, to_rle(torch.from_numpy(np.stack(masks))), strict=True)
    ]


def people_rows(scene: Scene) -> list[JsonObject]:
    """Return the people of a scene as COCO annotations without ids."""
    visible, amodal = (to_rle(torch.from_numpy(masks)) for masks in (scene.visible, scene.amodal))
    sizes = np.concatenate([scene.boxes[:, :2], scene.boxes[:, 2:] - scene.boxes[:, :2]], axis=1)
    areas = scene.visible.sum(axis=(1, 2))
    return [
        {
            "category_id": CATEGORY_ID,
            "bbox": sizes[row].tolist(),
            "area": int(areas[row]),
            "segmentation": visible[row],
            "iscrowd": 0,
            "keypoints": _rounded(points),
            "num_keypoints": int((points[:, 2] > 0).sum()),
            "amodal_segmentation": amodal[row],
            "depth_order": int(scene.order[row]),
            "self_occluded": np.flatnonzero(scene.self_occluded[row]).tolist(),
        }
        for row, points in enumerate(scene.keypoints)
    ]


def _rounded(points: npt.NDArray[np.float32]) -> list[float | int]:
    """Coordinates to 0.01 pixels; v as a whole number."""
    places = points[:, :2].astype(np.float64).round(2).tolist()
    return [value for (x, y), v in zip(places, points[:, 2], strict=True) for value in (x, y, int(v))]


def _info(settings: Settings, seed: int) -> JsonObject:
    return {
        "description": "SynthCrowd, made by BMP",
        "seed": seed,
        "settings": json.loads(json.dumps(asdict(settings))),
    }


def _dataset(split: str, entries: Sequence[_Entry], info: JsonObject) -> JsonObject:
    images = [
        {"id": number + 1, "file_name": f"{split}/{number:06}.jpg", "height": height, "width": width}
        for number, ((height, width), _) in enumerate(entries)
    ]
    rows = [(number + 1, person) for number, (_, people) in enumerate(entries) for person in people]
    return {
        "info": info,
        "images": images,
        "annotations": [{"id": i, "image_id": number, **person} for i, (number, person) in enumerate(rows, 1)],
        "categories": [category(COCO_KEYPOINTS)],
    }
