"""Draws a person's head: skull, hair, ears, face, hat and glasses from any side; knows nothing below the neck.

Shapes are given on a unit sphere in the head's own axes (its left, down, back), which is then stretched to the head's
size, narrowed at the chin and turned to the viewer. Points on the far side are moved to the rim, so that a face seen
from the side is cut off where the head ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bmp.synthcrowd.body_canvas import Canvas, Group, hull, limb
from bmp.synthcrowd.looks import Color, Glasses, Hair, Hat, Look
from bmp.synthcrowd.poses import Array, Body, Joint

_HAT, _HAIR, _SUNGLASSES, _NECK_SKIN, _FACE = 1, 2, 4, 10, 13
_TURN = np.linspace(0, 2 * math.pi, 20, endpoint=False)
_CIRCLE = np.stack((np.cos(_TURN), np.sin(_TURN)), axis=1)


@dataclass(frozen=True, eq=False)
class FacePoints:
    """The five keypoints of the face.

    Attributes:
        points: (5, 2) in pixels of the canvas: nose, left eye, right eye, left ear, right ear.
        turned_away: bool (5,), on the far side of the head or under hair.
    """

    points: Array
    turned_away: list[bool]


def _sphere(*degrees: tuple[float, float]) -> Array:
    """Return unit vectors (N, 3) from angles to the head's left and upwards, both from straight ahead."""
    angles = np.radians(np.array(degrees))
    side, up = angles[:, 0], angles[:, 1]
    return np.stack((np.sin(side) * np.cos(up), -np.sin(up), -np.cos(side) * np.cos(up)), axis=1)


def _mirrored(*half: tuple[float, float]) -> Array:
    """Return a closed outline from its left half, which begins and ends in the middle."""
    return _sphere(*half, *[(-side, up) for side, up in half[-2:0:-1]])


def _oval(side: float, up: float, wide: float, high: float) -> Array:
    return _sphere(*[(side + wide * x, up + high * y) for x, y in _CIRCLE[::2].tolist()])


_FACES = {
    Hair.BALD: _mirrored((0, 62), (40, 56), (64, 25), (70, -8), (72, -38), (54, -54), (30, -65), (0, -74)),
    Hair.SHORT: _mirrored(
        (0, 40), (22, 41), (42, 32), (53, 12), (57, -8), (70, -20), (74, -38), (54, -54), (30, -65), (0, -74)
    ),
    Hair.PONYTAIL: _mirrored(
        (0, 46), (28, 42), (50, 26), (60, 5), (66, -14), (74, -38), (54, -54), (30, -65), (0, -74)
    ),
    Hair.BOB: _mirrored((0, 24), (24, 24), (42, 18), (47, 0), (48, -25), (50, -50), (30, -65), (0, -74)),
    Hair.LONG: _mirrored((0, 48), (18, 40), (38, 24), (48, 2), (51, -25), (52, -50), (30, -65), (0, -74)),
}
_FACES[Hair.BUN] = _FACES[Hair.PONYTAIL]
_BEARD = _mirrored((0, -27), (22, -27), (44, -27), (60, -10), (70, -14), (74, -40), (54, -56), (30, -67), (0, -77))
_MOUTH = _mirrored((0, -39.5), (5, -38), (15, -41), (9, -46), (0, -48))
_EYES = {side: _oval(side * 21, 3, 8.5, 5) for side in (1, -1)}
_IRISES = {side: _oval(side * 21, 3, 4.2, 4.4) for side in (1, -1)}
_BROWS = {side: _sphere((side * 10, 13), (side * 20, 17), (side * 32, 13)) for side in (1, -1)}
_LENSES = {side: _oval(side * 20, 1, 15, 11) for side in (1, -1)}
_EAR = np.array([[1.0, 0.05 + 0.21 * y, 0.04 + 0.13 * x] for x, y in _CIRCLE[::2].tolist()])
_EARS = {side: _EAR * np.array([side * 1.05, 1, 1]) for side in (1, -1)}
_NOSE = _sphere((0, 4), (7, -18), (0, -22), (-7, -18)) * np.array([[1.0], [1.05], [1.1], [1.05]])
_AHEAD = _sphere((0, -10))
_NOSE_TIP = _sphere((0, -16)) * 1.15
_KEYPOINTS = np.concatenate((_NOSE_TIP, _sphere((21, 3), (-21, 3)), _EAR[:1] * 0, _EAR[:1] * 0))
_KEYPOINTS[3], _KEYPOINTS[4] = (1.0, 0.05, 0.04), (-1.0, 0.05, 0.04)
_STRANDS = np.array([[0.1, x, 1.0, x] for x in (-0.6, -0.3, 0.05, 0.35, 0.65)])
_COVERS_EARS = {Hair.BOB, Hair.LONG}


class Head:
    """One head on a canvas.

    Args:
        canvas: where it is drawn.
        body: whose head.
        look: its appearance.
        center: (2,), the middle of the head in pixels of the canvas.
        scale: pixels of the canvas in a body height.
    """

    def __init__(self, canvas: Canvas, body: Body, look: Look, center: Array, scale: float) -> None:
        self._canvas, self._body, self._look, self._center, self._scale = canvas, body, look, center, scale
        self._size = scale * float(body.head_radii.mean())
        self._turned = (body.head[:2] * body.head_radii * scale).T
        away = body.head[2] / body.head_radii
        self._away = away / np.linalg.norm(away)
        first = np.cross(self._away, (0.3, 0.9, 0.1) if abs(self._away[0]) > 0.5 else (1.0, 0.0, 0.0))
        first /= np.linalg.norm(first)
        self._rim = _CIRCLE @ np.stack((first, np.cross(self._away, first)))

    def behind(self, neck: Array) -> None:
        """Draw the hair that hangs or is tied at the back of the head; ``neck`` is (2,) on the canvas."""
        look, size = self._look, self._size
        if look.hair not in (Hair.BOB, Hair.LONG, Hair.PONYTAIL, Hair.BUN):
            return
        ink = self._canvas.ink(look.hair_color, _HAIR, Group.HEAD)
        back = self._body.head[:2, 2] * size
        down = self._body.head[:2, 1] * size
        if look.hair is Hair.BUN:
            bun = self._center + 1.0 * back - 0.75 * down
            self._canvas.fill(bun + _CIRCLE * size * 0.42, ink, 0.9)
            self._canvas.ball(bun + _CIRCLE * size * 0.42, 0.9)
        elif look.hair is Hair.PONYTAIL:
            root = self._center + 0.95 * back - 0.45 * down
            tip = neck + 1.15 * back + 0.7 * down
            self._canvas.shadow(np.stack((root, tip, tip + 1)), size * 0.4, 0.2)
            self._canvas.tube(limb(root, tip, np.array([0.24, 0.38, 0.34, 0.24, 0.1]) * size), ink, 0.92)
        else:
            reach = 0.45 if look.hair is Hair.BOB else 1.5
            crown = self._center + 0.25 * back - 0.1 * down
            ends = neck + 0.5 * back + (reach - 0.9) * down if look.hair is Hair.LONG else crown + 0.95 * down
            self._canvas.shadow(hull(crown + _CIRCLE * size, ends + _CIRCLE * size * 0.8), size * 0.3, 0.25)
            # The brow of the tube is wider than its ends, as hair falls.
            mane = limb(crown, ends, np.array([1.08, 1.16, 1.16, 1.08, 0.95]) * size, (1.0, 0.35))
            self._canvas.tube(mane, ink, 0.86, 0.7)
            self._canvas.crease(mane.lines(_STRANDS), 0.72)

    def front(self) -> FacePoints:
        """Draw the head itself and return where its keypoints are."""
        canvas, look, size = self._canvas, self._look, self._size
        shows_face = self._body.head[2, 2] > -0.25
        skin = canvas.ink(look.skin, _FACE if shows_face else _NECK_SKIN, Group.HEAD)
        rim = self._place(self._rim)
        canvas.shadow(rim, 0.35 * size, 0.22)
        canvas.ball(self._center + (rim - self._center) * 1.12)
        canvas.fill(rim, skin)
        hair = canvas.ink(look.hair_color, _HAIR, Group.HEAD)
        if look.hair is not Hair.BALD:
            canvas.fill(self._dome(35, 0.05, 1.07 if look.hair is Hair.SHORT else 1.1), hair)
        if look.hair not in _COVERS_EARS:
            self._draw_ears(skin)
        self._draw_face(skin, hair)
        self._draw_hat(shows_face)
        points = self._place(_KEYPOINTS, clamp=False)
        behind = _KEYPOINTS @ self._away
        turned = [bool(value > limit) for value, limit in zip(behind, (0.25, 0.1, 0.1, 0.3, 0.3), strict=True)]
        if look.hair in _COVERS_EARS:
            turned[3:] = [True, True]
        return FacePoints(points, turned)

    def _place(self, directions: Array, clamp: bool = True) -> Array:
        """Return points of the canvas (N, 2) for points of the sphere (N, 3), the far ones moved to the rim."""
        shape = directions
        if clamp:
            behind = np.maximum(directions @ self._away, 0)
            if behind.any():
                lengths = np.linalg.norm(directions, axis=1)
                shape = directions - behind[:, None] * self._away
                shape = shape * (lengths / np.maximum(np.linalg.norm(shape, axis=1), 1e-6))[:, None]
        shape = shape.copy()
        shape[:, 0] *= 1 - 0.2 * np.maximum(shape[:, 1], 0)
        placed: Array = self._center + shape @ self._turned
        return placed

    def _faces_viewer(self, directions: Array, limit: float = -0.12) -> bool:
        return float(directions.mean(axis=0) @ self._away) < limit

    def _dome(self, tilt: float, offset: float, swell: float) -> Array:
        """Return the outline of all of the sphere above a plane, which is tilted back by so many degrees."""
        angle = math.radians(tilt)
        up = np.array([0.0, -math.cos(angle), math.sin(angle)])
        level = np.array([0.0, math.sin(angle), math.cos(angle)])
        ring = offset * up + math.sqrt(1 - offset**2) * (_CIRCLE @ np.stack((np.array([1.0, 0.0, 0.0]), level)))
        crown = self._rim[self._rim @ up > offset]
        return hull(self._place(np.concatenate((ring, crown)) * swell, clamp=False))

    def _draw_ears(self, skin: int) -> None:
        for side, ear in _EARS.items():
            if float(ear.mean(axis=0) @ self._away) < 0.35:
                outline = self._place(ear, clamp=False)
                self._canvas.fill(outline, skin, 0.9 if side * self._away[0] > 0 else 0.98)
                self._canvas.crease(outline.mean(axis=0) + (outline - outline.mean(axis=0)) * 0.8, 0.75)

    def _draw_face(self, skin: int, hair: int) -> None:
        canvas, look, size = self._canvas, self._look, self._size
        patch = _FACES[look.hair]
        # From further behind only a strip of cheek would show, and its far end would land on the wrong side.
        if not self._faces_viewer(_AHEAD, 0.25):
            return
        canvas.fill(self._place(patch), skin)
        if look.beard:
            beard = canvas.ink(_mix(look.hair_color, look.skin, 0.15), _FACE, Group.HEAD)
            canvas.fill(self._place(_BEARD), beard)
        ink = {
            color: canvas.ink(color, _FACE, Group.HEAD)
            for color in ((236, 232, 226), look.iris, look.lips, _mix(look.hair_color, look.skin, 0.25))
        }
        white, iris, lips, brow = ink[(236, 232, 226)], ink[look.iris], ink[look.lips], list(ink.values())[-1]
        for side in (1, -1):
            if self._faces_viewer(_EYES[side]):
                eye = self._place(_EYES[side])
                canvas.fill(eye, white)
                canvas.fill(self._place(_IRISES[side]), iris)
                canvas.crease(eye[len(eye) // 2 :], 0.72)
                canvas.stroke(self._place(_BROWS[side]), brow, 0.09 * size)
        if self._faces_viewer(_MOUTH, -0.08):
            canvas.fill(self._place(_MOUTH), lips)
        if self._faces_viewer(_NOSE, 0.25):
            nose = self._place(_NOSE, clamp=False)
            canvas.fill(hull(nose, self._place(_NOSE_TIP, clamp=False)), skin)
            canvas.shade(nose[1:], 0.86)
            # The cheek that lies off the light is seen against the nose.
            canvas.crease(nose[[0, 1] if canvas.lit_from_left else [0, 3]], 0.88)
        for side in (1, -1):
            canvas.crease(self._place(_sphere((side * 70, -40), (side * 54, -55), (side * 30, -66))), 0.8)
        self._draw_glasses()

    def _draw_glasses(self) -> None:
        canvas, look, size = self._canvas, self._look, self._size
        if look.glasses is Glasses.NONE:
            return
        dark = look.glasses is Glasses.SUN
        ink = canvas.ink((30, 28, 32) if dark else (52, 44, 42), _SUNGLASSES if dark else _FACE, Group.HEAD)
        for side in (1, -1):
            if not self._faces_viewer(_LENSES[side]):
                continue
            lens = self._place(_LENSES[side] * 1.04)
            temple = self._place(_sphere((side * 34, 3), (side * 62, 4), (side * 84, 3)) * 1.04)
            canvas.stroke(temple, ink, 0.06 * size)
            if dark:
                canvas.fill(lens, ink, 1.0)
                canvas.shade(lens.mean(axis=0) + (lens - lens.mean(axis=0)) * 0.4 - 0.05 * size, 1.7)
            else:
                canvas.stroke(np.concatenate((lens, lens[:1])), ink, 0.05 * size)
        if self._faces_viewer(_NOSE):
            canvas.stroke(self._place(_sphere((-6, 4), (6, 4)) * 1.06), ink, 0.07 * size)

    def _draw_hat(self, shows_face: bool) -> None:
        canvas, look = self._canvas, self._look
        if look.hat is Hat.NONE:
            return
        ink = canvas.ink(look.hat_color, _HAT, Group.HEAD)
        band = canvas.ink(_mix(look.hat_color, (0, 0, 0), 0.35), _HAT, Group.HEAD)
        if look.hat is Hat.BEANIE:
            outline = self._dome(20, 0.3, 1.16)
            canvas.fill(outline, ink)
            lower = self._place(_ring(20, 0.3) * 1.17, clamp=False)
            near = (_ring(20, 0.3) @ self._away) < 0.1
            canvas.stroke(_open_run(lower, near), band, 0.22 * self._size)
            return
        if look.hat is Hat.CAP:
            visor = _ring(8, 0.42)
            visor = visor[visor[:, 2] < -0.15] * 1.1
            tip = visor * np.array([1.0, 1.0, 1.75]) + np.array([0.0, 0.12, 0.0])
            brim = hull(self._place(np.concatenate((visor, tip)), clamp=False))
            if shows_face:
                canvas.fill(self._dome(8, 0.42, 1.12), ink)
                canvas.fill(brim, band, 0.85)
            else:
                canvas.fill(brim, band, 0.85)
                canvas.fill(self._dome(8, 0.42, 1.12), ink)
            return
        brim = self._place(_ring(6, 0.42) * np.array([1.75, 1.1, 1.75]), clamp=False)
        canvas.fill(hull(brim), band, 0.85)
        canvas.fill(self._dome(6, 0.42, 1.14), ink)


def _ring(tilt: float, offset: float) -> Array:
    """Return where a plane, tilted back by so many degrees, cuts the sphere: (20, 3)."""
    angle = math.radians(tilt)
    up = np.array([0.0, -math.cos(angle), math.sin(angle)])
    level = np.array([0.0, math.sin(angle), math.cos(angle)])
    ring: Array = offset * up + math.sqrt(1 - offset**2) * (_CIRCLE @ np.stack((np.array([1.0, 0.0, 0.0]), level)))
    return ring


def _open_run(points: Array, chosen: np.ndarray) -> Array:
    """Return the chosen points of a closed outline in one run, not the way around through the others."""
    start = int(np.argmin(chosen))
    return np.asarray(np.roll(points, -start, axis=0)[np.roll(chosen, -start)], dtype=np.float64)


def _mix(first: Color, second: Color, share: float) -> Color:
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def neck_of(body: Body) -> Array:
    """Return the middle of the neck, (3,), in body heights."""
    middle: Array = (body.joints[Joint.NECK] + body.joints[Joint.HEAD]) / 2
    return middle
