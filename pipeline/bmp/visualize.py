"""Draws people over their image, and the stages' results round by round; it knows records, no network and no file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageColor
import PIL.ImageDraw
import PIL.ImageFont
import torch
from torch import Tensor

from bmp.label_sets import KeypointSet
from bmp.ops.masks import iou, to_boxes
from bmp.structures import Detections, Image, Instances, Masks, Parts, Poses
from bmp.structures.mask_windows import MaskWindows

if TYPE_CHECKING:
    from bmp.loop import RoundTrace

BGRImage = npt.NDArray[np.uint8]
"""Uint8 (H, W, 3), BGR as OpenCV has it; functions named ``_draw`` change it in place."""
Numbers = npt.NDArray[np.int64]
"""A number for each person, which gives its colour; -1 is grey."""
Widths = npt.NDArray[np.float64]
"""How thick each person's limbs are, in pixels."""
Places: TypeAlias = Sequence[Sequence[int]]
"""Pixels (x, y) of one person's keypoints."""
Flags: TypeAlias = npt.NDArray[np.bool_]
"""Which keypoints are drawn, (K,)."""

Colour: TypeAlias = tuple[int, ...]
"""Three bytes, BGR on a canvas and RGB in a picture."""

# Bright and far apart in hue, the first ones farthest; dark or greyish ones would be lost in photos. Grey comes last.
_PALETTE: list[Colour] = [
    PIL.ImageColor.getrgb(hue)[::-1]
    for hue in (
        "#ff3b30", "#1fa2ff", "#ffd60a", "#34c759", "#e040fb", "#ff8c1a", "#00e5d0", "#ff5c9e",
        "#8f7bff", "#b4e51e", "#c97b3d", "#6fd3ff", "#ffb3a1", "#2bd98c", "#d9a6ff", "#f2e28c",
        "#8c8c8c",
    )
]  # fmt: skip
_HUES = len(_PALETTE) - 1
# For what is drawn over masks of the same colours or must be read: halfway to white.
_LIGHT = [tuple((value + 255) // 2 for value in hue) for hue in _PALETTE]
_POSITIVE, _NEGATIVE, _BLACK, _WHITE = (80, 255, 80), (70, 70, 255), (0, 0, 0), (255, 255, 255)
_PAPER, _INK = (32, 32, 32), (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL = 480
_SMALLEST_LETTERS = 10.0
_TITLE = 26
_GAP = 6


def overlay(
    image: Image,
    instances: Instances,
    keypoints: KeypointSet,
    *,
    numbers: Sequence[int] | None = None,
    boxes: bool = True,
    masks: bool = True,
    skeletons: bool = True,
    labels: bool = True,
    parts: Parts | None = None,
    line_width: float | None = None,
) -> PIL.Image.Image:
    """Draw masks, boxes, skeletons and labels of all people.

    A label has the person's number, the detection's score, and from round 2 on the round in which the person was
    found: "#2  .91  r2", or "#2  r2" on small people. It lies where it covers no face and no other label, beside the
    box where there is room. Limbs are thick where both ends are visible (visibility from 0.5) and thin where one is
    hidden; keypoints that are absent (presence below 0.5) are left out. Masks have a dark rim, which tells them from
    clothes of their colour. Lines follow the size of the person, and on large images that of the image, where they
    would be lost.

    Args:
        image: stays as it is.
        instances: the people.
        keypoints: what their keypoints mean.
        numbers: of the people, which decide their colours; their rows by default. Grey is -1.
        boxes: draw boxes.
        masks: tint and outline masks.
        skeletons: draw limbs and keypoints.
        labels: write labels.
        parts: of the people's bodies, tinted in place of the masks; lines around the masks stay.
        line_width: of limbs in pixels, in place of one that follows the size; boxes and outlines have half of it.

    Returns a picture of the image's size; without people it is the image.
    """
    canvas = _canvas(image)
    people = np.arange(len(instances)) if numbers is None else np.asarray(numbers, np.int64).reshape(-1)
    detections = instances.detections
    widths = _widths(canvas, detections.boxes, line_width)
    if parts is not None:
        _tint_parts(canvas, parts)
    if masks:
        _draw_masks(canvas, instances.masks.windows, people, widths, tinted=parts is None)
    if boxes:
        _draw_boxes(canvas, detections.boxes, people, widths)
    if skeletons:
        _draw_skeletons(canvas, instances.poses, keypoints, people, widths, _LIGHT)
    if not labels:
        return _picture(canvas)
    words = _words(people, detections.scores, instances.round)
    return _labelled(
        _picture(canvas), detections.boxes, words, people, _faces(instances.poses, keypoints, detections.boxes)
    )


def overlay_objects(
    image: Image, bits: Tensor, numbers: Sequence[int], points: Tensor, labels: Tensor
) -> PIL.Image.Image:
    """Draw the masks of any objects, their numbers, and the points by which they are followed.

    Args:
        image: stays as it is.
        bits: bool (N, H, W), the masks.
        numbers: of the objects, which decide their colours.
        points: (N, P, 2), x and y in pixels.
        labels: int (N, P), 1 for points on the object, light with a dark rim, 0 for those beside it, the other way
            round; others are not drawn.

    Returns a picture of the image's size.
    """
    canvas, objects = _canvas(image), np.asarray(numbers, np.int64).reshape(-1)
    boxes = to_boxes(bits)
    widths = _widths(canvas, boxes)
    _draw_masks(canvas, MaskWindows.of(bits), objects, widths)
    radius = max(2, round(max(canvas.shape[:2]) / 300))
    for row, colour in enumerate(_colours(objects)):
        rim, inside = _LIGHT[colour], _BLACK
        for label, colours in ((1, (_BLACK, rim)), (0, (rim, inside))):
            places = points[row][labels[row] == label].clip(-1e4, 1e4).round().int().tolist()
            for grown, tint in zip((1, 0), colours, strict=True):
                _draw_dots(canvas, places, np.ones(len(places), bool), tint, radius + grown)
    there = bits.flatten(1).any(dim=1)
    words = [(f"#{number}", f"#{number}") for number in objects[there.cpu().numpy()].tolist()]
    return _labelled(_picture(canvas), boxes[there], words, objects[there.cpu().numpy()], np.zeros((0, 4)))


def numbers_like(ground_truth: Masks, found: Masks) -> list[int]:
    """Number people who were found after the labelled ones they show, so that both have the same colour.

    Pairs are made by mask, from the largest IoU down to 0.3; people without a labelled partner are numbered after them.
    """
    overlaps = iou(found.bits, ground_truth.bits)
    numbers = [-1] * len(found)
    while overlaps.numel() and float(overlaps.max()) >= 0.3:
        row, column = divmod(int(overlaps.argmax()), len(ground_truth))
        numbers[row] = column
        overlaps[row], overlaps[:, column] = -1, -1
    others = itertools.count(len(ground_truth))
    return [next(others) if number < 0 else number for number in numbers]


def shrunk(image: Image, instances: Instances, side: int) -> tuple[Image, Instances]:
    """Return both at a size whose longer side is ``side`` at most, for pictures that are only viewed."""
    scale = side / max(image.height, image.width)
    if scale >= 1:
        return image, instances
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return (
        Image(torch.from_numpy(_resized(image.pixels.cpu().numpy(), size))),
        replace(
            instances.to("cpu"),
            detections=Detections(instances.detections.boxes.cpu() * scale, instances.detections.scores.cpu()),
            poses=replace(instances.poses.to("cpu"), keypoints=instances.poses.keypoints.cpu() * scale),
            masks=Masks(_nearest(instances.masks.windows, size), instances.masks.scores.cpu()),
        ),
    )


def trace_sheet(trace: Sequence[RoundTrace], image: Image, keypoints: KeypointSet) -> PIL.Image.Image:
    """Draw the results of the loop for ``image``: a row for each round, with up to five panels of 480 pixels at most.

    1. The detector's image and detections, with scores. 2. The poses of all who were compared, old and new; those who
    lost are thin and grey. 3. The prompts, where any round's segmenter was prompted: green crosses positive, red ones
    negative, with the keypoint's visibility in the person's colour. 4. The masks of everybody accepted so far, with
    predicted IoU and, from 2 on, the round in which each was found. 5. The image for the next round.

    A person has one number and colour in all panels, the same as in ``overlay`` of the final result; people who were
    accepted first and lost later come after those, and people who were never accepted are grey. Raises ``ValueError``
    for a trace without rounds.
    """
    if not trace:
        raise ValueError("expected a trace of at least one round, got none; run the loop with trace=True")
    rows = []
    prompted = any(entry.segmented.prompts is not None for entry in trace)
    poses = Poses.empty(len(keypoints), trace[0].poses.device)
    for entry, everybody in zip(trace, _numbers(trace), strict=True):
        panels = _panels(entry, Poses.concat([poses, entry.poses]), everybody, image, keypoints)
        rows.append([panel for kind, panel in panels.items() if prompted or kind != "prompts"])
        poses = entry.people.poses
    return _grid(rows)


def _numbers(trace: Sequence[RoundTrace]) -> list[Numbers]:
    """Number the people each round compared, old ones before new, as ``trace_sheet`` says."""
    compared: list[Numbers] = []
    accepted = np.zeros(0, np.int64)
    seen = 0
    for entry in trace:
        new = seen + np.arange(len(entry.detections))
        seen += len(new)
        compared.append(np.concatenate([accepted, new]))
        accepted = compared[-1][entry.kept.cpu().numpy()]
    ever = np.concatenate([people[entry.kept.cpu().numpy()] for people, entry in zip(compared, trace, strict=True)])
    order = dict.fromkeys([*accepted.tolist(), *ever.tolist()])
    number = np.full(seen, -1, np.int64)
    number[list(order)] = np.arange(len(order))
    return [number[people] for people in compared]


def _panels(
    entry: RoundTrace, poses: Poses, everybody: Numbers, image: Image, keypoints: KeypointSet
) -> dict[str, tuple[str, PIL.Image.Image]]:
    """Return a title and a picture for each panel, by what it shows."""
    scale = _PANEL / max(image.height, image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    plain = _resized(_canvas(image), size)
    kept = entry.kept.cpu().numpy()
    accepted, new = everybody[kept], kept[kept >= entry.known]

    seen = _resized(_canvas(entry.seen), size)
    found, boxes = everybody[entry.known :], entry.detections.boxes * scale
    faces = _faces(replace(entry.poses, keypoints=entry.poses.keypoints * scale), keypoints, boxes)
    _draw_boxes(seen, boxes, found, _widths(seen, boxes))
    detected = _labelled(_picture(seen), boxes, _words(found, entry.detections.scores), found, faces)

    skeletons = plain.copy()
    lost = np.setdiff1d(np.arange(len(everybody)), kept)
    small_poses = replace(poses, keypoints=poses.keypoints * scale)
    losers = small_poses[lost.tolist()]
    losers = replace(losers, visibility=torch.zeros_like(losers.visibility))  # as thin as can be
    winners = small_poses[kept.tolist()]
    people_boxes = entry.people.detections.boxes * scale
    widths = _widths(skeletons, people_boxes)
    _draw_skeletons(skeletons, losers, keypoints, np.full(len(lost), -1), np.full(len(lost), 2.0), _PALETTE)
    _draw_skeletons(skeletons, winners, keypoints, accepted, widths, _PALETTE)

    prompted = plain.copy()
    asked = _draw_prompts(prompted, entry, scale, everybody[new])

    masked = plain.copy()
    bits = _nearest(entry.people.masks.windows, size)
    _draw_masks(masked, MaskWindows.of(bits), accepted, widths)
    words = _words(accepted, entry.people.masks.scores, entry.people.round)
    labelled = _labelled(_picture(masked), people_boxes, words, accepted, _faces(winners, keypoints, people_boxes))

    left = plain.copy()
    left[bits.any(dim=0).numpy()] = 0
    return {
        "detections": (f"round {entry.round}: {len(found)} detected", detected),
        "poses": (f"poses: {len(kept)} kept, {len(lost)} suppressed", _picture(skeletons)),
        "prompts": (f"prompts: {asked}", _picture(prompted)),
        "masks": (f"masks: {len(entry.people)} in all", labelled),
        "left": (f"left after round {entry.round}", _picture(left)),
    }


def _draw_prompts(canvas: BGRImage, entry: RoundTrace, scale: float, people: Numbers) -> str:
    """Draw the prompts of the round's accepted new people; return their number in words."""
    prompts = entry.segmented.prompts
    if prompts is None:
        return "none"
    if prompts.boxes is not None:
        _draw_boxes(canvas, prompts.boxes * scale, people, _widths(canvas, prompts.boxes * scale))
    visibility = entry.poses.visibility[entry.kept[entry.kept >= entry.known] - entry.known]
    shown = visibility.gather(1, prompts.keypoints.clamp(min=0)).cpu().numpy()
    labels, indices = prompts.labels.cpu().numpy(), prompts.keypoints.cpu().numpy()
    hues = _colours(people)
    points = np.rint((prompts.points * scale).cpu().numpy().clip(-1e6, 1e6)).astype(int)
    written: list[tuple[int, int]] = []
    for row, column in zip(*np.nonzero(labels >= 0), strict=True):
        place = (int(points[row, column, 0]), int(points[row, column, 1]))
        colour = _POSITIVE if labels[row, column] else _NEGATIVE
        for tint, thickness in ((_BLACK, 4), (colour, 2)):
            cv2.drawMarker(canvas, place, tint, cv2.MARKER_CROSS, 11 + thickness // 2, thickness)
        # One number on another could not be read.
        free = all(abs(place[0] - x) > 28 or abs(place[1] - y) > 11 for x, y in written)
        if indices[row, column] >= 0 and free:
            written.append(place)
            owner = _LIGHT[hues[row]]
            _write(canvas, f"{shown[row, column]:.2f}", (place[0] + 6, place[1] - 5), owner, 0.38)
    return f"{int((labels == 1).sum())} positive, {int((labels == 0).sum())} negative"


def _tint_parts(canvas: BGRImage, parts: Parts) -> None:
    """Tint each pixel that has a label in the label's colour, which is the same for everybody."""
    labels = parts.labels.cpu().numpy()
    there = labels > 0
    tints = np.array(parts.label_set.palette(), np.float32)[labels[there], ::-1]
    canvas[there] = (canvas[there] * 0.45 + (tints * 0.75 + 64) * 0.55 + 0.5).astype(np.uint8)


def _draw_masks(canvas: BGRImage, bits: MaskWindows, people: Numbers, widths: Widths, *, tinted: bool = True) -> None:
    """Tint each mask and line its inside, with a dark rim around: that shows it on clothes of its own colour."""
    lines = []
    masks = [patch.numpy() for patch in bits.to("cpu").patches]
    for (x, y), mask, colour, width in zip(bits.corners, masks, _colours(people), widths, strict=True):
        left, top, wide, high = cv2.boundingRect(mask.view(np.uint8)) if mask.size else (0, 0, 0, 0)
        line = min(max(1, round(width / 2)), max(wide, high) // 12)
        # Lines reach beyond the mask, though not beyond the image.
        (above, below), (before, behind) = (
            (min(start, line + 1), min(most - start - size, line + 1))
            for start, size, most in ((y + top, high, bits.height), (x + left, wide, bits.width))
        )
        inside = np.pad(mask[top : top + high, left : left + wide], ((above, below), (before, behind)))
        rows = slice(y + top - above, y + top + high + below)
        columns = slice(x + left - before, x + left + wide + behind)
        window = canvas[rows, columns]
        tint = _PALETTE[colour]
        if tinted:
            window[inside] = (window[inside] * 0.6 + np.array(tint) * 0.4 + 0.5).astype(np.uint8)
        lines.append((window, inside, tint, line))
    # Behind tints of others lines would be lost.
    for window, inside, tint, line in lines:
        around = cv2.dilate(inside.view(np.uint8), _disc(max(1, line // 2))).astype(bool) & ~inside
        window[around] //= 3
        if line:
            window[inside & ~cv2.erode(inside.view(np.uint8), _disc(line)).astype(bool)] = tint


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _draw_boxes(canvas: BGRImage, boxes: Tensor, people: Numbers, widths: Widths) -> None:
    for box, colour, width in zip(_boxes(boxes), _colours(people), widths, strict=True):
        x1, y1, x2, y2 = map(int, box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), _PALETTE[colour], max(1, round(width / 2)))


def _words(people: Numbers, scores: Tensor, rounds: Tensor | None = None) -> list[tuple[str, str]]:
    """Return the text of each person's label: number, score, and the round from the second on; and it shorter."""
    words = []
    found = [1] * len(people) if rounds is None else rounds.tolist()
    for number, score, r in zip(people.tolist(), scores.tolist(), found, strict=True):
        name, share, later = f"#{number}" * (number >= 0), f"{score:.2f}".removeprefix("0"), f"r{r}" * (r > 1)
        words.append(("  ".join(filter(None, (name, share, later))), "  ".join(filter(None, (name or share, later)))))
    return words


def _labelled(
    picture: PIL.Image.Image,
    boxes: Tensor,
    words: Sequence[tuple[str, str]],
    people: Numbers,
    faces: npt.NDArray[np.float64],
) -> PIL.Image.Image:
    """Write a label beside each box, where it covers least of faces and of other labels; return the picture.

    It is the shorter one where the longer one would be much wider than the person.
    """
    pen = PIL.ImageDraw.Draw(picture)
    longest = max(picture.size)
    taken: list[npt.NDArray[np.float64]] = []
    for box, (text, short), colour in zip(_boxes(boxes), words, _colours(people), strict=True):
        size = float(np.clip(0.07 * _size(box), max(_SMALLEST_LETTERS, longest / 75), longest / 25 + _SMALLEST_LETTERS))
        font = PIL.ImageFont.load_default(size)
        if pen.textlength(text, font) > 1.6 * (box[2] - box[0]):
            text = short
        wide, high = pen.textlength(text, font) + size * 0.4, size * 1.2
        place = _best_place(box, wide, high, picture.size, faces, taken)
        taken.append(place)
        pen.rectangle(place.tolist(), fill=_PALETTE[colour][::-1], outline=(0, 0, 0))
        pen.text((place[0] + size * 0.2, place[1] + high / 2), text, (0, 0, 0), font, anchor="lm")
    return picture


def _best_place(
    box: npt.NDArray[np.float64],
    wide: float,
    high: float,
    size: tuple[int, int],
    faces: npt.NDArray[np.float64],
    taken: Sequence[npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    """Return the box for a label of that size, xyxy; the first of the best, beginning above the box."""
    x1, y1, x2, y2 = box
    middle = (y1 + y2 - high) / 2
    corners = [
        *((x1, y1 - high), (x2 - wide, y1 - high), (x1, y2), (x2 - wide, y2)),
        *((x1, y2 - high), (x2 - wide, y2 - high), (x2, y1), (x1 - wide, y1), (x2, middle), (x1 - wide, middle)),
        *((x1, y1), (x2 - wide, y1), ((x1 + x2 - wide) / 2, middle)),
    ]
    corners += [(x, y1 - i * high) for i in (2, 3) for x in (x1, x2 - wide)]
    places = np.array([(x, y, x + wide, y + high) for x, y in corners])
    most = np.array([size[0] - 1 - wide, size[1] - 1 - high]).clip(0)
    moved = places[:, :2].clip(0, most)
    shift = np.abs(moved - places[:, :2]).sum(axis=1)
    places = np.concatenate([moved, moved + np.array([wide, high])], axis=1)
    covered = _shared(places, faces).sum(axis=1) + _shared(places, np.array(taken).reshape(-1, 4)).sum(axis=1)
    # Nearness decides among those that cover nothing: the order above, and how far the picture's edge pushed it.
    best = np.argmin(covered + 0.002 * wide * high * (np.arange(len(places)) + shift / high * 5))
    return np.asarray(places[best])


def _shared(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the area that boxes (M, 4) and (N, 4) share, (M, N)."""
    near, far = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.asarray((far - near).clip(0).prod(axis=2))


def _faces(poses: Poses, keypoints: KeypointSet, boxes: Tensor) -> npt.NDArray[np.float64]:
    """Return where faces are, xyxy (N, 4): around the present keypoints of heads, else at the top of the box."""
    head = [i for i, name in enumerate(keypoints.names) if name.split("_")[-1] in ("nose", "eye", "ear")]
    points = poses.keypoints.double().cpu().numpy().clip(-1e6, 1e6)
    present = (poses.presence >= 0.5).cpu().numpy()
    faces = []
    for row, there, (x1, y1, x2, y2) in zip(points, present, _boxes(boxes), strict=True):
        own = row[[i for i in head if there[i]]]
        if len(own):
            low, high = own.min(axis=0), own.max(axis=0)
            reach = max(float((high - low).max()) * 0.6, float(np.ptp(row[there], axis=0).max()) * 0.06)
            faces.append([*(low - reach), *(high + reach)])
        else:
            quarter = min((x2 - x1) / 4, (y2 - y1) / 6)
            faces.append([(x1 + x2) / 2 - quarter, y1, (x1 + x2) / 2 + quarter, y1 + 2 * quarter])
    return np.array(faces, np.float64).reshape(-1, 4)


def _draw_skeletons(
    canvas: BGRImage, poses: Poses, keypoints: KeypointSet, people: Numbers, widths: Widths, palette: Sequence[Colour]
) -> None:
    # OpenCV's lines overflow far outside.
    points = poses.keypoints.cpu().numpy().clip(-1e6, 1e6).astype(int).tolist()
    flags = poses.flags().cpu().numpy()
    for places, flag, colour, width in zip(points, flags, _colours(people), widths, strict=True):
        # On the smallest people rims would hide everything else.
        tint, limb, rim = palette[colour], round(max(width, 2 * (width > 1.2))), round(width / 4 + 0.2)
        dot = max(1, round(width * 0.8))
        present, visible = flag > 0, flag == 2
        _draw_limbs(canvas, places, keypoints, present, tint, max(1, rim))
        _draw_dots(canvas, places, present, tint, max(1, 2 * rim))
        _draw_limbs(canvas, places, keypoints, visible, _BLACK, limb + 2 * rim)
        _draw_limbs(canvas, places, keypoints, visible, tint, limb)
        _draw_dots(canvas, places, visible, _BLACK, dot + rim)
        _draw_dots(canvas, places, visible, _WHITE, dot)


def _draw_limbs(
    canvas: BGRImage, places: Places, keypoints: KeypointSet, there: Flags, colour: Colour, thickness: int
) -> None:
    for start, end in keypoints.skeleton:
        if there[start] and there[end]:
            cv2.line(canvas, places[start], places[end], colour, thickness)


def _draw_dots(canvas: BGRImage, places: Places, there: Flags, colour: Colour, radius: int) -> None:
    for place, is_there in zip(places, there, strict=True):
        if is_there:
            cv2.circle(canvas, place, radius, colour, cv2.FILLED)


def _widths(canvas: BGRImage, boxes: Tensor, line_width: float | None = None) -> Widths:
    """Return how thick each person's limbs are: a sixtieth of its size, and on large images not too thin to be seen."""
    if line_width is not None:
        return np.full(len(boxes), max(1.0, line_width))
    longest = max(canvas.shape[:2])
    sizes = np.array([_size(box) for box in _boxes(boxes)])
    return np.clip(0.016 * sizes, max(1.0, longest / 800), max(2.0, longest / 90))


def _size(box: npt.NDArray[np.float64]) -> float:
    """Return the side of a square as large as the box, in pixels."""
    return float(np.sqrt(max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])))


def _colours(people: Numbers) -> Numbers:
    return np.where(people < 0, _HUES, people % _HUES)


def _boxes(boxes: Tensor) -> npt.NDArray[np.float64]:
    return np.asarray(boxes.double().cpu().numpy().clip(-1e6, 1e6))


def _write(canvas: BGRImage, text: str, place: tuple[int, int], colour: tuple[int, ...], scale: float) -> None:
    """Write on a dark rim, legible on anything."""
    for x, y, tint in ((-1, 0, _BLACK), (1, 0, _BLACK), (0, -1, _BLACK), (0, 1, _BLACK), (0, 0, colour)):
        # The rim is not a thicker stroke: that makes letters wider, and they would part from their rim.
        cv2.putText(canvas, text, (place[0] + x, place[1] + y), _FONT, scale, tint, 1, cv2.LINE_AA)


def _nearest(bits: MaskWindows, size: tuple[int, int]) -> Tensor:
    """Bring masks to the size (width, height) of a panel, on the CPU, by picking pixels: no stack of floats is made."""
    width, height = size
    rows = ((torch.arange(height) + 0.5) * bits.height / height).long()
    columns = ((torch.arange(width) + 0.5) * bits.width / width).long()
    small = torch.zeros(len(bits), height, width, dtype=torch.bool)
    for mask, (down, across), patch in zip(small, bits.windows(), bits.to("cpu").patches, strict=True):
        lines, places = (
            ((axis >= span.start) & (axis < span.stop)).nonzero()[:, 0]
            for axis, span in ((rows, down), (columns, across))
        )
        mask[lines[:, None], places] = patch[rows[lines] - down.start][:, columns[places] - across.start]
    return small


def _resized(canvas: BGRImage, size: tuple[int, int]) -> BGRImage:
    shrinks = size[0] < canvas.shape[1]
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))


def _grid(rows: list[list[tuple[str, PIL.Image.Image]]]) -> PIL.Image.Image:
    """Put panels of one size in rows, each under its title."""
    font = PIL.ImageFont.load_default(13)
    width, height = rows[0][0][1].size
    titles = max(font.getlength(title) for row in rows for title, _ in row)
    right, down = max(width, round(titles)) + _GAP, _TITLE + height + _GAP
    sheet = PIL.Image.new("RGB", (max(map(len, rows)) * right + _GAP, len(rows) * down + _GAP), _PAPER)
    pen = PIL.ImageDraw.Draw(sheet)
    for i, row in enumerate(rows):
        for j, (title, panel) in enumerate(row):
            left, top = _GAP + j * right, _GAP + i * down
            pen.text((left, top + _TITLE / 2), title, _INK, font, anchor="lm")
            sheet.paste(panel, (left, top + _TITLE))
    return sheet


def _canvas(image: Image) -> BGRImage:
    return np.asarray(cv2.cvtColor(image.pixels.cpu().numpy(), cv2.COLOR_RGB2BGR))


def _picture(canvas: BGRImage) -> PIL.Image.Image:
    return PIL.Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
