"""Draws people over their image, and what each round of the loop did; it knows records, no network and no file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import supervision as sv
import torch
from torch import Tensor

from bmp.label_sets import KeypointSet
from bmp.structures import Image, Instances, Poses

if TYPE_CHECKING:
    from bmp.loop import RoundTrace

Canvas = npt.NDArray[np.uint8]
"""Uint8 (H, W, 3), BGR as OpenCV and supervision have it; functions named ``_draw`` change it in place."""
People = npt.NDArray[np.int64]
"""A number for each row, which gives its colour; -1 is grey."""

# Bright and far apart in hue, the first ones farthest; dark or greyish ones would be lost in photos. Grey comes last.
_PALETTE = sv.ColorPalette.from_hex(
    [
        "#ff3b30", "#1fa2ff", "#ffd60a", "#34c759", "#e040fb", "#ff8c1a", "#00e5d0", "#ff5c9e",
        "#8f7bff", "#b4e51e", "#c97b3d", "#6fd3ff", "#ffb3a1", "#2bd98c", "#d9a6ff", "#f2e28c",
        "#8c8c8c",
    ]
)  # fmt: skip
_HUES = len(_PALETTE) - 1
# For what is drawn over masks of the same colours or must be read: halfway to white.
_LIGHT = sv.ColorPalette([sv.Color(*((value + 255) // 2 for value in hue.as_rgb())) for hue in _PALETTE.colors])
_POSITIVE, _NEGATIVE, _BLACK, _PAPER, _INK = (80, 255, 80), (70, 70, 255), (0, 0, 0), (32, 32, 32), (235, 235, 235)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PANEL = 480
_NARROWEST = 220
_TITLE = 26
_GAP = 6


def overlay(image: Image, instances: Instances, keypoints: KeypointSet) -> PIL.Image.Image:
    """Draw masks, boxes with number and detection score, and skeletons of all people.

    A person's number is the row in ``instances`` and decides the colour. Limbs are thick where both ends are visible
    (visibility from 0.5) and thin where one is hidden; keypoints that are absent (presence below 0.5) are left out.
    Lines and letters grow with the image. Returns a picture of the image's size; the image itself stays as it is,
    and without people the picture is the image.
    """
    canvas = _canvas(image)
    people = np.arange(len(instances))
    detections = instances.detections
    _draw_masks(canvas, instances.masks.bits, people)
    _draw_boxes(canvas, detections.boxes, people)
    _draw_skeletons(canvas, instances.poses, keypoints, people, _LIGHT)
    _draw_labels(canvas, detections.boxes, detections.scores, people)
    return _picture(canvas)


def contact_sheet(trace: Sequence[RoundTrace], image: Image, keypoints: KeypointSet) -> PIL.Image.Image:
    """Draw what the loop did to ``image``: a row for each round, with five panels of 480 pixels at most.

    1. What the detector saw and found, with scores. 2. The poses of all who were compared, old and new; those who
    lost are thin and grey. 3. The prompts: green crosses positive, red ones negative, with the keypoint's visibility in
    the person's colour.
    4. The masks of everybody accepted so far, with predicted IoU. 5. What is left for the next round to look at.

    A person has one number and colour in all panels, the same as in ``overlay`` of the final result; people who were
    accepted first and lost later come after those, and whoever never was accepted is grey. Raises ``ValueError`` for
    a trace without rounds.
    """
    if not trace:
        raise ValueError("expected a trace of at least one round, got none; run the loop with trace=True")
    rows = []
    poses = Poses.empty(len(keypoints), trace[0].poses.device)
    for entry, everybody in zip(trace, _numbers(trace), strict=True):
        rows.append(_panels(entry, Poses.concat([poses, entry.poses]), everybody, image, keypoints))
        poses = entry.people.poses
    return _picture(_grid(rows))


def _numbers(trace: Sequence[RoundTrace]) -> list[People]:
    """Number the people each round compared, old ones before new, as ``contact_sheet`` says."""
    compared: list[People] = []
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
    entry: RoundTrace, poses: Poses, everybody: People, image: Image, keypoints: KeypointSet
) -> list[tuple[str, Canvas]]:
    scale = _PANEL / max(image.height, image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    plain = _resized(_canvas(image), size)
    kept = entry.kept.cpu().numpy()
    accepted, new = everybody[kept], kept[kept >= entry.known]

    seen = _resized(_canvas(entry.seen), size)
    found = everybody[entry.known :]
    _draw_boxes(seen, entry.detections.boxes * scale, found)
    _draw_labels(seen, entry.detections.boxes * scale, entry.detections.scores, found)

    skeletons = plain.copy()
    lost = np.setdiff1d(np.arange(len(everybody)), kept)
    small_poses = replace(poses, keypoints=poses.keypoints * scale)
    losers = small_poses[lost.tolist()]
    losers = replace(losers, visibility=torch.zeros_like(losers.visibility))  # as thin as can be
    _draw_skeletons(skeletons, losers, keypoints, np.full(len(lost), -1), _PALETTE)
    _draw_skeletons(skeletons, small_poses[kept.tolist()], keypoints, accepted, _PALETTE)

    prompted = plain.copy()
    asked = _draw_prompts(prompted, entry, scale, everybody[new])

    masked = plain.copy()
    bits = _nearest(entry.people.masks.bits, size)
    _draw_masks(masked, bits, accepted)
    _draw_labels(masked, entry.people.detections.boxes * scale, entry.people.masks.scores, accepted)

    left = plain.copy()
    left[bits.any(dim=0).numpy()] = 0
    return [
        (f"round {entry.round}: {len(found)} detected", seen),
        (f"poses: {len(kept)} kept, {len(lost)} suppressed", skeletons),
        (f"prompts: {asked}", prompted),
        (f"masks: {len(entry.people)} in all", masked),
        (f"left after round {entry.round}", left),
    ]


def _draw_prompts(canvas: Canvas, entry: RoundTrace, scale: float, people: People) -> str:
    """Draw the prompts of the round's accepted new people; return their number in words."""
    prompts = entry.segmented.prompts
    if prompts is None:
        return "none"
    if prompts.boxes is not None:
        _draw_boxes(canvas, prompts.boxes * scale, people)
    visibility = entry.poses.visibility[entry.kept[entry.kept >= entry.known] - entry.known]
    shown = visibility.gather(1, prompts.keypoints.clamp(min=0)).cpu().numpy()
    labels, indices = prompts.labels.cpu().numpy(), prompts.keypoints.cpu().numpy()
    hues = _colours(people)
    points = np.rint((prompts.points * scale).cpu().numpy().clip(-1e6, 1e6)).astype(int)
    for row, column in zip(*np.nonzero(labels >= 0), strict=True):
        place = (int(points[row, column, 0]), int(points[row, column, 1]))
        colour = _POSITIVE if labels[row, column] else _NEGATIVE
        for tint, thickness in ((_BLACK, 4), (colour, 2)):
            cv2.drawMarker(canvas, place, tint, cv2.MARKER_CROSS, 11 + thickness // 2, thickness)
        if indices[row, column] >= 0:
            owner = _LIGHT.by_idx(int(hues[row])).as_bgr()
            _write(canvas, f"{shown[row, column]:.2f}", (place[0] + 6, place[1] - 5), owner, 0.38)
    return f"{int((labels == 1).sum())} positive, {int((labels == 0).sum())} negative"


def _draw_masks(canvas: Canvas, bits: Tensor, people: People) -> None:
    """Tint and outline each mask, within the window that holds it: masks of large images are mostly empty."""
    thickness = _pixels(canvas, 1.5)
    for mask, colour in zip(bits.cpu().numpy(), _colours(people), strict=True):
        left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
        rows = slice(max(0, top - thickness), top + height + thickness)
        columns = slice(max(0, left - thickness), left + width + thickness)
        window = canvas[rows, columns]
        person = sv.Detections(xyxy=np.zeros((1, 4)), mask=mask[None, rows, columns])
        for annotator in (sv.MaskAnnotator(_PALETTE, opacity=0.4), sv.PolygonAnnotator(_PALETTE, thickness)):
            window[:] = annotator.annotate(window.copy(), person, custom_color_lookup=np.array([colour]))


def _draw_boxes(canvas: Canvas, boxes: Tensor, people: People) -> None:
    annotator = sv.BoxAnnotator(_PALETTE, thickness=_pixels(canvas, 1.5))
    annotator.annotate(canvas, _boxes(boxes), custom_color_lookup=_colours(people))


def _draw_labels(canvas: Canvas, boxes: Tensor, scores: Tensor, people: People) -> None:
    """Write number and score above each box, moved where labels would overlap or leave the image."""
    if not len(people):
        return  # older releases of supervision cannot spread no labels
    labels = [
        f"#{number}  {score:.2f}" if number >= 0 else f"{score:.2f}"
        for number, score in zip(people.tolist(), scores.tolist(), strict=True)
    ]
    annotator = sv.LabelAnnotator(
        _PALETTE,
        text_color=sv.Color.BLACK,
        text_scale=max(0.35, 0.55 * max(canvas.shape[:2]) / 1000),
        text_thickness=_pixels(canvas, 1),
        text_padding=_pixels(canvas, 4),
        smart_position=True,
    )
    annotator.annotate(canvas, _boxes(boxes), labels, custom_color_lookup=_colours(people))


def _draw_skeletons(
    canvas: Canvas, poses: Poses, keypoints: KeypointSet, people: People, palette: sv.ColorPalette
) -> None:
    places = poses.keypoints.cpu().numpy()
    present = (poses.presence >= 0.5).cpu().numpy()
    visible = present & (poses.visibility >= 0.5).cpu().numpy()
    limb, rim = max(2, _pixels(canvas, 3)), _pixels(canvas, 1)
    edges = [(start + 1, end + 1) for start, end in keypoints.skeleton]
    for i, colour in enumerate(_colours(people)):
        tint = palette.by_idx(int(colour))
        hidden, shown = (_key_points(places[i], which) for which in (present[i], visible[i]))
        sv.EdgeAnnotator(tint, rim, edges).annotate(canvas, hidden[0])
        sv.VertexAnnotator(tint, 2 * rim).annotate(canvas, hidden[1])
        sv.EdgeAnnotator(sv.Color.BLACK, limb + 2 * rim, edges).annotate(canvas, shown[0])
        sv.EdgeAnnotator(tint, limb, edges).annotate(canvas, shown[0])
        sv.VertexAnnotator(sv.Color.BLACK, limb + rim).annotate(canvas, shown[1])
        sv.VertexAnnotator(sv.Color.WHITE, limb).annotate(canvas, shown[1])


def _key_points(places: npt.NDArray[np.float32], which: npt.NDArray[np.bool_]) -> tuple[sv.KeyPoints, sv.KeyPoints]:
    """Return those that ``which`` picks, for edges and for vertices.

    Edges go by the number of a keypoint, and supervision draws none to the corner (0, 0); vertices stand alone.
    """
    near = places.clip(-1e6, 1e6)  # OpenCV's lines overflow far outside
    return sv.KeyPoints(xy=np.where(which[:, None], near, 0)[None]), sv.KeyPoints(xy=near[None, which])


def _pixels(canvas: Canvas, thousandths: float) -> int:
    """Return a length that grows with the longer side of the image, at least a pixel."""
    longer: int = max(canvas.shape[:2])
    return max(1, round(thousandths * longer / 1000))


def _colours(people: People) -> People:
    return np.where(people < 0, _HUES, people % _HUES)


def _boxes(boxes: Tensor) -> sv.Detections:
    return sv.Detections(xyxy=boxes.cpu().numpy().clip(-1e6, 1e6))


def _write(canvas: Canvas, text: str, place: tuple[int, int], colour: tuple[int, ...], scale: float) -> None:
    """Write on a dark rim, legible on anything."""
    for x, y, tint in ((-1, 0, _BLACK), (1, 0, _BLACK), (0, -1, _BLACK), (0, 1, _BLACK), (0, 0, colour)):
        # The rim is not a thicker stroke: that makes letters wider, and they would part from their rim.
        cv2.putText(canvas, text, (place[0] + x, place[1] + y), _FONT, scale, tint, 1, cv2.LINE_AA)


def _nearest(bits: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring masks to the size (width, height) of a panel, on the CPU, by picking pixels: no stack of floats is made."""
    width, height = size
    rows = ((torch.arange(height) + 0.5) * bits.shape[1] / height).long().to(bits.device)
    columns = ((torch.arange(width) + 0.5) * bits.shape[2] / width).long().to(bits.device)
    return bits[:, rows][:, :, columns].cpu()


def _resized(canvas: Canvas, size: tuple[int, int]) -> Canvas:
    shrinks = size[0] < canvas.shape[1]
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))


def _grid(rows: list[list[tuple[str, Canvas]]]) -> Canvas:
    """Put panels of one size in rows, each under its title."""
    height, width = rows[0][0][1].shape[:2]
    cell_height, cell_width = _TITLE + height + _GAP, max(width, _NARROWEST) + _GAP
    sheet = np.empty((len(rows) * cell_height + _GAP, max(map(len, rows)) * cell_width + _GAP, 3), np.uint8)
    sheet[:] = _PAPER
    for i, row in enumerate(rows):
        for j, (title, panel) in enumerate(row):
            top, left = _GAP + i * cell_height, _GAP + j * cell_width
            cv2.putText(sheet, title, (left, top + _TITLE - 9), _FONT, 0.45, _INK, 1, cv2.LINE_AA)
            sheet[top + _TITLE : top + _TITLE + height, left : left + width] = panel
    return sheet


def _canvas(image: Image) -> Canvas:
    return np.asarray(cv2.cvtColor(image.pixels.cpu().numpy(), cv2.COLOR_RGB2BGR))


def _picture(canvas: Canvas) -> PIL.Image.Image:
    return PIL.Image.fromarray(cv2.cvtColor(canvas, cv2.COLOR_BGR2RGB))
