"""Reads COCO datasets of people that anybody may have written; knows no picture and no network.

Everything is checked here, once: types, bounds, names. What is missing and can be told from the rest is filled in, and
whatever is filled in or left out is counted and said.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bmp.errors import UserError
from bmp.io.annotations import CATEGORY_ID, Annotation, CocoDataset, ImageRow, category
from bmp.io.json_fields import (
    JsonObject,
    Notices,
    are_numbers,
    expect,
    expect_field,
    is_file_name,
    is_id,
    is_number,
    is_whole,
    read_json,
    rows_of,
    short,
)
from bmp.io.ochuman_json import is_ochuman, to_coco
from bmp.io.segmentations import LARGEST_SIDE, MOST_PIXELS, checked_segmentation, margin, mask_area, mask_box
from bmp.label_sets import COCO_KEYPOINTS, KEYPOINT_SETS, KeypointSet, keypoint_set, sets_named

_PARTS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""The fields in which COCO-WholeBody keeps its 133 keypoints, in their order."""
_SIZES = (17, 6, 68, 21, 21)
UNSIZED = 1_000_000.0
"""How far coordinates may go where the size of the image is not known."""


@dataclass(frozen=True)
class Labels:
    """What was read: the data set, and a line for each kind of thing that was filled in or left out.

    keypoints: what the keypoints mean. unknown_keypoints: why those of the file were left out, in words, "" if they
    were not.
    """

    dataset: CocoDataset
    notices: list[str]
    keypoints: KeypointSet = COCO_KEYPOINTS
    unknown_keypoints: str = ""


def read_labels(annotations: str | os.PathLike[str], keypoints: str | None = None) -> Labels:
    """Read the persons of a COCO dataset, or of OCHuman's own file, and check all that evaluation and training rely on.

    Annotations of other categories than the one called person are left out; a file with one category, or none, speaks
    of persons whatever it is called. All images stay, also those without anybody.

    Keypoints are of one of ``bmp.label_sets.KEYPOINT_SETS``, the K of which stand below: the set ``keypoints``, else
    that of the names in the category, else the one set with as many (two sets have 14: an image's ``crowdIndex`` tells
    CrowdPose), COCO's where there are none. COCO-WholeBody's fields for feet, face and hands are joined to
    ``keypoints``. Keypoints of no known set are left out; boxes and masks of such files are read.

    The data set has ``info``, one category (id 1, with the K keypoints), and in the order of the file

    - ``images``: unique ``id`` (all numbers or all names), unique ``file_name``, ``height`` and ``width`` in pixels;
    - ``annotations``: unique integer ``id``, ``image_id``, ``category_id`` 1, ``bbox`` [x, y, width, height] in pixels,
      ``area`` in square pixels, ``iscrowd`` 0 or 1, and where the file has them ``segmentation``, as polygons or
      compressed RLE with ``counts`` str, and ``keypoints`` x, y, v for each of K with ``num_keypoints``.

    Other fields stay as they are. Either all annotations have keypoints or none has: where some have, the others get
    K unlabelled ones, as small people have in COCO. Filled in are an ``id``, a ``bbox`` (of the mask) and an ``area``
    (of the mask, else of the box) that are missing, an area of 0, and a ``num_keypoints`` that does not fit the
    keypoints; CrowdPose counts visible ones only, which stays. An id 0 is replaced by a free number, since pycocotools
    takes it for "no match".

    Coordinates may lie outside their image by ``bmp.io.segmentations.margin``.

    Args:
        annotations: the file.
        keypoints: the name of the set, for files that do not say it, or say it wrongly.

    Raises:
        UserError: the file cannot be read, or has no person although it has annotations; or for the first thing that
            is wrong in it, with its location.
    """
    path = Path(annotations)
    data = read_json(path)
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a COCO dataset, an object with images and annotations, got {short(data)}")
    return check_labels(path, to_coco(path, data) if is_ochuman(data) else data, keypoints)


def check_labels(path: Path, data: JsonObject, keypoints: str | None = None) -> Labels:
    """Check a COCO dataset that is in memory, see ``read_labels``; ``path`` says where it is from, for messages."""
    notices = Notices(str(path))
    images = read_images(path, data)
    categories = Categories.of(path, data)
    meaning, unknown = _meaning(path, data, categories, keypoints, notices)
    rows: list[Annotation] = []
    taken: set[int] = set()
    for location, row in person_rows(path, data, categories, notices):
        image_id: object = row.get("image_id")
        known = is_id(image_id) and image_id in images
        expect(known, location, f"image_id {short(image_id)} is not the id of any of its images; add it or drop this")
        image = images[cast("int | str", image_id)]
        if unknown and row.pop("keypoints", None):
            row.pop("num_keypoints", None)
            notices.add(f"keypoints left out, {unknown}", location)
        if meaning.name == "coco_wholebody":
            _join_parts(location, row)
        if meaning.name == "humanart21" and "keypoints_21" in row:  # beside COCO's 17
            row["keypoints"] = row.pop("keypoints_21")
            row.pop("num_keypoints", None)
        rows.append(_person(location, row, image["height"], image["width"], meaning, notices))
        if "id" in row:
            again = row["id"] in taken
            expect(not again, location, f"id {row['id']} was given to an annotation before; ids have to be unique")
            taken.add(row["id"])
    free = max(taken, default=0) + 1
    for person in rows:
        if not person.get("id"):  # pycocotools takes 0 for "no match"
            person["id"] = free
            free += 1
    _give_all_keypoints(rows, meaning)
    _say_what_cannot_be_measured(rows, images, notices)
    info = data.get("info")
    return Labels(
        {
            "info": info if isinstance(info, dict) else {},
            "images": list(images.values()),
            "annotations": rows,
            "categories": [category(meaning)],
        },
        notices.lines(),
        meaning,
        unknown,
    )


def _meaning(
    path: Path, data: JsonObject, categories: Categories, given: str | None, notices: Notices
) -> tuple[KeypointSet, str]:
    """Return what the keypoints of a file mean, or COCO's and why those of the file are none that is known."""
    if given is not None:
        try:
            return keypoint_set(given), ""
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    people = [row for row in rows if isinstance(row, dict)] if isinstance(rows := data.get("annotations"), list) else []
    if any(part in row for row in people for part in _PARTS[1:]):
        return KEYPOINT_SETS["coco_wholebody"], ""
    heads = any("bbox_head" in row or "head_size" in row for row in people)
    if categories.keypoints:
        # MHP's keypoints are MPII's, but for the heads that MPII's own measure needs; Human-Art's are COCO's.
        found = [known.name for known in sets_named(categories.keypoints)]
        if found:
            return KEYPOINT_SETS["mhp" if "mhp" in found and not heads else found[0]], ""
        words = f"but {len(categories.keypoints)}: {', '.join(categories.keypoints)}"
        return COCO_KEYPOINTS, _foreign(words if len(words) <= 100 else f"{words[:97]}...")
    posed = [number for number, row in enumerate(people) if isinstance(row.get("keypoints"), list) and row["keypoints"]]
    lengths = {len(people[number]["keypoints"]) for number in posed}
    count, rest = divmod(next(iter(lengths)), 3) if len(lengths) == 1 and len(posed) > 1 else (len(COCO_KEYPOINTS), 0)
    if count == len(COCO_KEYPOINTS) and not rest:
        return KEYPOINT_SETS["posetrack18" if any("bbox_head" in row for row in people) else "coco"], ""
    images = data.get("images")
    crowds = isinstance(images, list) and any(isinstance(row, dict) and "crowdIndex" in row for row in images)
    name = _UNNAMED.get(count) if not rest else None
    name = {14: "crowdpose" if crowds else None, 16: "mpii" if heads else "mhp"}.get(count, name)
    if name is None:
        return COCO_KEYPOINTS, _foreign(f"but {count} without names")
    words = f"keypoints without names, taken for {KEYPOINT_SETS[name]}"
    notices.add(words, f"annotations[{posed[0]}]", len(posed))
    return KEYPOINT_SETS[name], ""


_UNNAMED = {
    len(KEYPOINT_SETS[name]): name
    for name in ("jhmdb", "ochuman19", "humanart21", "pmpose", "halpe26", "maskpose_wb", "coco_wholebody", "halpe136")
}
"""The sets that are known by the number of their keypoints alone."""


def _foreign(words: str) -> str:
    return (
        f"they are not COCO's 17 in COCO's order ({words}), nor another set that is known; if they are one of "
        f"{', '.join(KEYPOINT_SETS)}, say which (--keypoints NAME, or keypoints=NAME)"
    )


def _join_parts(location: str, row: JsonObject) -> None:
    """Join the five fields of COCO-WholeBody; those that a person lacks are unlabelled."""
    if not any(part in row for part in _PARTS[1:]):
        return
    joined: list[object] = []
    for part, count in zip(_PARTS, _SIZES, strict=True):
        points = row.pop(part, None) or [0] * (3 * count)
        fits = isinstance(points, list) and len(points) == 3 * count
        expect_field(location, {part: points}, part, fits, f"x, y, v for each of {count} keypoints")
        joined += points
    row["keypoints"] = joined
    row.pop("num_keypoints", None)  # of the body alone


@dataclass(frozen=True)
class Categories:
    """What the annotations of a file are of. names: by id. persons: ids; None where all there is is a person."""

    names: dict[int | str, str]
    persons: frozenset[int | str] | None
    keypoints: tuple[str, ...] = ()
    """What the file says the keypoints of persons are called."""

    @classmethod
    def of(cls, path: Path, data: JsonObject) -> Categories:
        """Read them; ``UserError`` for a file that has several and calls none of them person."""
        names: dict[int | str, str] = {}
        keypoints: dict[int | str, list[str]] = {}
        for location, row in rows_of(path, data, "categories") if data.get("categories") is not None else ():
            expect_field(location, row, "id", is_id(row.get("id")), "a name or whole number")
            name = row.get("name", "")
            expect_field(location, row, "name", isinstance(name, str), "a name")
            expect(row["id"] not in names, location, f"id {short(row['id'])} was given to a category before")
            points = row.get("keypoints", [])
            fits = isinstance(points, list) and all(isinstance(point, str) for point in points)
            expect_field(location, row, "keypoints", fits, "a list of names")
            names[row["id"]], keypoints[row["id"]] = name, points
        persons = frozenset(number for number, name in names.items() if name.strip().casefold() == "person")
        if not persons and len(names) > 1:
            raise UserError(
                f"{path}: none of its {len(names)} categories is called person, they are "
                f"{', '.join(map(short, names.values())):.200}; rename the one that means it"
            )
        used = persons or frozenset(names)
        named = [tuple(points) for number, points in keypoints.items() if number in used and points]
        # Where several categories mean persons, keypoints that none of the sets has decide.
        named.sort(key=lambda points: bool(sets_named(points)))
        return cls(names, used or None, named[0] if named else ())

    def of_row(self, location: str, row: JsonObject) -> str | None:
        """Return None for a row of a person, else the name of its category; ``UserError`` where that is unclear."""
        number = row.get("category_id")
        if self.persons is None or (number is None and len(self.names) == 1):
            return None
        known = ", ".join(f"{short(number)} ({name})" for number, name in self.names.items())
        known = known if len(known) <= 120 else f"{known[:117]}..."
        expect_field(
            location, row, "category_id", is_id(number) and number in self.names, f"the id of a category: {known}"
        )
        return None if number in self.persons else self.names[cast("int | str", number)]


def person_rows(
    path: Path, data: JsonObject, categories: Categories, notices: Notices
) -> Iterator[tuple[str, JsonObject]]:
    """Yield each annotation of a person with its location; ``iscrowd`` is 0 or 1 in all of them.

    ``UserError`` for a file that has annotations and none of a person.
    """
    others: Counter[str] = Counter()
    first, total = "", 0
    several = {number for _, row in rows_of(path, data, "annotations") if is_id(number := row.get("category_id"))}
    if categories.persons is None and len(several) > 1:
        # Nothing says what the numbers mean; in COCO 1 is a person.
        if CATEGORY_ID not in several:
            raise UserError(
                f"{path}: has {len(several)} categories in its annotations and no list 'categories'; add it"
            )
        categories = Categories({number: short(number) for number in several}, frozenset([CATEGORY_ID]))
    for location, row in rows_of(path, data, "annotations"):
        total += 1
        other = categories.of_row(location, row)
        if other is not None:
            others[other] += 1
            first = first or location
            continue
        crowd = row.setdefault("iscrowd", 0)
        expect_field(
            location, row, "iscrowd", isinstance(crowd, bool) or (is_whole(crowd) and crowd in (0, 1)), "0 or 1"
        )
        row["iscrowd"] = int(crowd)
        yield location, row
    if others:
        counts = ", ".join(f"{name} {count}" for name, count in others.most_common(8)) + (
            ", ..." if len(others) > 8 else ""
        )
        if others.total() == total:
            raise UserError(f"{path}: none of its {total} annotations is of a person; they are of {counts}")
        notices.add(f"annotations of other categories left out ({counts})", first, others.total())


def read_images(path: Path, data: JsonObject, sized: bool = True) -> dict[int | str, ImageRow]:
    """Read the images of a dataset by id; unless they have to be ``sized``, height and width may be missing."""
    images: dict[int | str, ImageRow] = {}
    file_names = set()
    for location, row in rows_of(path, data, "images"):
        expect_field(location, row, "id", is_id(row.get("id")), "a name or whole number")
        expect_field(location, row, "file_name", is_file_name(row.get("file_name")), "the name of a file")
        number, name = row["id"], row["file_name"]
        expect(
            number not in images, location, f"id {short(number)} was given to an image before; ids have to be unique"
        )
        alike = not images or isinstance(next(iter(images)), str) == isinstance(number, str)
        others = "numbers" if isinstance(number, str) else "names"
        expect(alike, location, f"its id {short(number)} is of another kind than those before, which are {others}")
        expect(name not in file_names, location, f"{short(name)} is listed twice; keep one of them")
        if sized or "height" in row or "width" in row:
            for side in ("height", "width"):
                fits = is_whole(row.get(side)) and 1 <= row[side] <= LARGEST_SIDE
                expect_field(location, row, side, fits, f"pixels, a whole number from 1 to {LARGEST_SIDE}")
            pixels = row["height"] * row["width"]
            expect(
                pixels <= MOST_PIXELS, location, f"its image has {pixels} pixels, more than {MOST_PIXELS}; cut it up"
            )
        crowded = "crowdIndex" not in row or is_number(row["crowdIndex"], 0, 1)
        expect_field(location, row, "crowdIndex", crowded, "CrowdPose's crowd index, a number in [0, 1]")
        for field in ("ignore_regions_x", "ignore_regions_y"):
            regions = row.get(field, [])
            fits = isinstance(regions, list) and all(are_numbers(column, -UNSIZED, UNSIZED) for column in regions)
            expect_field(location, row, field, fits, "PoseTrack18's regions, a list of coordinates for each")
        images[number] = cast("ImageRow", row)
        file_names.add(name)
    return images


def _person(
    location: str, row: JsonObject, height: int, width: int, keypoints: KeypointSet, notices: Notices
) -> Annotation:
    """Check an annotation and bring it to one form; ``row`` itself is filled in."""
    if "id" in row:
        expect_field(location, row, "id", is_whole(row["id"]), "a whole number")
    else:
        notices.add("annotations without an id, numbered", location)
    row["category_id"] = CATEGORY_ID
    try:
        shape = checked_segmentation(row.pop("segmentation", None), height, width)
    except ValueError as error:
        raise UserError(f"{location}: {error}") from None
    if shape:
        row["segmentation"] = shape
        if "bbox" not in row:
            row["bbox"] = mask_box(shape, height, width)
            notices.add("annotations without a box, given that of their mask", location)
    beyond = margin(height, width)
    row["bbox"] = checked_box(location, row, (height, width), beyond)
    most = (height + 2 * beyond) * (width + 2 * beyond)
    area = row.setdefault("area", 0)
    expect_field(location, row, "area", is_number(area, 0, most), f"square pixels, from 0 to {most}")
    if not area:
        row["area"] = mask_area(shape, height, width) if shape else row["bbox"][2] * row["bbox"][3]
        if row["area"]:
            notices.add("annotations without an area, or with area 0, given that of their mask or else box", location)
    points = row.get("keypoints")
    if points:
        count = 3 * len(keypoints)
        fits = are_numbers(points, -beyond, max(height, width) + beyond) and len(points) == count
        fits = fits and set(points[2::3]) <= {0, 1, 2, 3}
        wanted = (
            f"x, y, v for each of {keypoints.title}'s {len(keypoints)}, {count} numbers within {beyond} pixels of the "
            "image, v from 0 to 3"
        )
        expect_field(location, row, "keypoints", fits, wanted)
        labelled = sum(flag > 0 for flag in points[2::3])
        told = row.get("num_keypoints", labelled)
        expect_field(location, row, "num_keypoints", is_whole(told), "a whole number")
        if keypoints.name == "crowdpose" and told == sum(flag == 2 for flag in points[2::3]):
            labelled = told  # CrowdPose counts visible keypoints, and leaves people without any out of its benchmark
        if told != labelled:
            notices.add("num_keypoints that did not fit the keypoints, counted anew", location)
        row["num_keypoints"] = labelled
    else:
        expect_field(location, row, "keypoints", isinstance(row.get("keypoints", []), list), "a list of numbers")
        row.pop("keypoints", None)
        row.pop("num_keypoints", None)
    head = row.get("bbox_head", [0, 0, 1, 1])
    if not (are_numbers(head, -beyond, max(height, width) + 2 * beyond) and len(head) == 4 and min(head[2:]) >= 0):
        del row["bbox_head"]
        notices.add("boxes of heads that are not [x, y, width, height] in pixels, left out", location)
    if not is_number(row.get("head_size", 1), 0, UNSIZED):
        del row["head_size"]
        notices.add("sizes of heads that are no pixels, left out", location)
    if not is_number(row.get("score", 1), 0, 1):
        del row["score"]
        notices.add("scores that are no numbers in [0, 1], left out", location)
    return cast("Annotation", row)


def checked_box(location: str, row: JsonObject, size: tuple[int, int] | None, beyond: float) -> list[float]:
    """Return the box of a row; it may reach so many pixels ``beyond`` its image of that size, if that is known."""
    box: object = row.get("bbox")
    height, width = size or (0, 0)
    fits = are_numbers(box, -4 * UNSIZED, 4 * UNSIZED) and len(box) == 4 and min(box[2:]) >= 0
    expect_field(location, row, "bbox", fits, "[x, y, width, height] in pixels, finite, sizes at least 0")
    x, y, across, down = cast("list[float]", box)
    inside = -beyond <= min(x, y) and x + across <= width + beyond and y + down <= height + beyond
    expect(inside, location, f"bbox {short(box)} reaches further than {beyond:.0f} pixels out of its image; mend it")
    return [x, y, across, down]


def _give_all_keypoints(rows: Sequence[Annotation], keypoints: KeypointSet) -> None:
    if any("keypoints" in row for row in rows):
        for row in rows:
            row.setdefault("keypoints", [0] * (3 * len(keypoints)))
            row.setdefault("num_keypoints", 0)


def _say_what_cannot_be_measured(
    rows: Sequence[Annotation], images: Mapping[int | str, ImageRow], notices: Notices
) -> None:
    """Count people that no result can be compared with, and those without a mask where others have one."""
    people = [row for row in rows if not row["iscrowd"]]
    masked = sum("segmentation" in row for row in people)
    for row in people:
        location = f"annotation {row['id']}"
        image = images[row["image_id"]]
        x, y, across, down = row["bbox"]
        if not (across and down and x < image["width"] and y < image["height"] and x + across > 0 and y + down > 0):
            notices.add("people whose box has no size or is outside the image, whom nothing can find", location)
        if masked and "segmentation" not in row:
            words = f"people without a mask, while {masked} have one: masks are measured where everybody has one"
            notices.add(words, location)
