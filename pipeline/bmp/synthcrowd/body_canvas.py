"""Draws shaded shapes for a person's parts on one canvas; it knows shapes and light, no anatomy and no clothes.

A canvas has two bytes for each pixel in place of colours: the number of the ink on top, which determines colour, part
label and body group, and its brightness. Points are float64 (N, 2), x and y in pixels of the canvas, whole
numbers at pixel centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from bmp.synthcrowd.looks import Cloth, Color, Pattern
from bmp.synthcrowd.poses import Array

Bytes = npt.NDArray[np.uint8]

FULL_LIGHT = 128
"""Value of ``Canvas.light`` at which a colour is unchanged."""
_SHIFT = 4
# Edges of the strips in which a tube is lit, for small and for large figures.
_STRIPS = np.array([-1.0, -0.72, -0.26, 0.26, 0.72, 1.0])
_FINE_STRIPS = np.array([-1.0, -0.9, -0.75, -0.55, -0.33, -0.11, 0.11, 0.33, 0.55, 0.75, 0.9, 1.0])
_FINE = 330
_AMBIENT, _DIFFUSE = 0.6, 0.54
# A quarter circle, by how far along and how wide; it rounds the ends of tubes.
_CAP_ALONG, _CAP_WIDE = np.array([0.5, 0.866, 1.0]), np.array([0.866, 0.5, 0.05])
_ACROSS = np.linspace(-1, 1, 5)
_CORNERS = np.arange(7) * (2 * math.pi / 7)
_ROUND = np.stack((np.cos(_CORNERS), np.sin(_CORNERS)), axis=1)


class Group(IntEnum):
    """The limb to which an ink belongs."""

    NOTHING = 0
    TRUNK = 1
    HEAD = 2
    LEFT_ARM = 3
    RIGHT_ARM = 4
    LEFT_LEG = 5
    RIGHT_LEG = 6
    DRAPE = 7


@dataclass(frozen=True, eq=False)
class Tube:
    """A shape around an axis: cross lines, each with its middle and the vector from there to its end.

    Attributes:
        centers: (K, 2), the middles.
        spread: (K, 2), from the middles to one side; the other side lies opposite.
        ends: first and last cross line of the part between the rounded ends.
    """

    centers: Array
    spread: Array
    ends: tuple[int, int]

    def outline(self, low: float = -1.0, high: float = 1.0) -> Array:
        """Return the polygon (2 K, 2) between two lines along the tube; -1 and 1 are its sides."""
        return np.concatenate((self.centers + low * self.spread, (self.centers + high * self.spread)[::-1]))

    def along(self, positions: Array, across: Array) -> Array:
        """Return the points (N, 2) at positions in [0, 1] from end to end, and in [-1, 1] across."""
        first, last = self.ends
        index = first + positions * (last - first)
        base = np.minimum(np.maximum(index.astype(np.intp), 0), len(self.centers) - 2)
        part = (index - base)[:, None]
        centers = self.centers[base] * (1 - part) + self.centers[base + 1] * part
        spreads = self.spread[base] * (1 - part) + self.spread[base + 1] * part
        return np.asarray(centers + spreads * across[:, None], dtype=np.float64)

    def lines(self, ends: Array) -> Array:
        """Return straight lines (L, 2, 2) for rows of position and place across of both of their ends, (L, 4)."""
        return self.along(ends[:, [0, 2]].reshape(-1), ends[:, [1, 3]].reshape(-1)).reshape(-1, 2, 2)

    def length(self) -> float:
        """Return the distance between the ends."""
        step = self.centers[self.ends[1]] - self.centers[self.ends[0]]
        return math.hypot(step[0], step[1])

    def radius(self) -> float:
        """Return half of the mean width between the ends."""
        middle = self.spread[self.ends[0] : self.ends[1] + 1]
        return float(np.sqrt((middle * middle).sum(axis=1)).mean())

    def whole(self, steps: int = 8) -> Tube:
        """Return the tube with even steps over its whole length, the rounded ends included."""
        moves = np.diff(self.centers, axis=0)
        reached = np.concatenate(([0.0], np.cumsum(np.sqrt((moves * moves).sum(axis=1)))))
        index = np.interp(np.linspace(0, reached[-1], steps + 1), reached, np.arange(len(reached)))
        first, last = self.ends
        positions = (index - first) / (last - first)
        centers = self.along(positions, np.zeros(steps + 1))
        return Tube(centers, self.along(positions, np.ones(steps + 1)) - centers, (0, steps))


@lru_cache(maxsize=8)
def _template(count: int) -> tuple[Array, npt.NDArray[np.intp], Array]:
    """Return for limbs of so many radii: positions by first cap, length and last cap; which radius; its factor."""
    positions = np.zeros((3, count + 6, 1))
    positions[0, :3, 0] = -_CAP_ALONG[::-1]
    positions[1, 3 : 3 + count, 0] = np.linspace(0, 1, count)
    positions[1, 3 + count :, 0] = 1
    positions[2, 3 + count :, 0] = _CAP_ALONG
    rows = np.concatenate(([0, 0, 0], np.arange(count), [count - 1] * 3)).astype(np.intp)
    factors = np.concatenate((_CAP_WIDE[::-1], np.ones(count), _CAP_WIDE))
    return positions, rows, factors


def limb(start: Array, end: Array, radii: Array, caps: tuple[float, float] = (1.0, 1.0)) -> Tube:
    """Return a straight tube with the given radii at equal steps; ``caps`` say how round each end is, 0 to 1."""
    x, y = (end - start).tolist()
    length = math.hypot(x, y)
    if length < 1e-6:
        x, y, length = 0.0, 1e-6, 1e-6
    axis = np.array([x, y]) / length
    (first, between, last), rows, factors = _template(len(radii))
    first_cap, last_cap = float(radii[0]) * caps[0], float(radii[-1]) * caps[1]
    positions = first * first_cap + between * length + last * last_cap
    wide = radii[rows] * factors
    return Tube(start + positions * axis, wide[:, None] * np.array([-axis[1], axis[0]]), (3, 2 + len(radii)))


def hull(*points: Array) -> Array:
    """Return the convex polygon around all points."""
    around = cv2.convexHull(np.concatenate(points).astype(np.float32))
    return np.asarray(around[:, 0], dtype=np.float64)


class Canvas:
    """The canvas of one person.

    Args:
        width: in pixels.
        height: in pixels.
        light: direction of the light in radians: 0 from the right of the picture, pi / 2 from above.
        scale: pixels of the canvas in a body height; lines and shading become finer with it.

    Attributes:
        owner: uint8 (height, width), the ink on top, 0 where nothing is.
        light: uint8 (height, width), brightness, ``FULL_LIGHT`` for the colour as it is.
        lit_from_left: whether the light comes from the left of the picture.
    """

    def __init__(self, width: int, height: int, light: float, scale: float) -> None:
        self.owner: Bytes = np.zeros((height, width), np.uint8)
        self.light: Bytes = np.full((height, width), FULL_LIGHT, np.uint8)
        self._toward = (0.62 * math.cos(light), -0.62 * math.sin(light), -0.785)
        self.lit_from_left = self._toward[0] < 0
        self._line = max(1, round(scale / 380))
        self._strips = (_FINE_STRIPS if scale > _FINE else _STRIPS)[:, None, None]
        middles = (self._strips[1:] + self._strips[:-1]).reshape(-1) / 2
        # How much each strip of a cylinder looks to its side and to the viewer.
        self._surfaces = [(side, math.sqrt(1 - side**2)) for side in middles.tolist()]
        self._inks: list[tuple[Color, int, Group]] = [((0, 0, 0), 0, Group.NOTHING)]

    def ink(self, color: Color, label: int, group: Group) -> int:
        """Return the number of a new ink; there is room for 255."""
        self._inks.append((color, label, group))
        return len(self._inks) - 1

    def colors(self) -> Bytes:
        """Return the colour of each ink, (256, 3)."""
        colors = np.zeros((256, 3), np.uint8)
        colors[: len(self._inks)] = [ink[0] for ink in self._inks]
        return colors

    def labels(self) -> Bytes:
        """Return the part label of each ink, (inks,)."""
        return np.array([ink[1] for ink in self._inks], np.uint8)

    def group_at(self, x: float, y: float) -> Group:
        """Return the limb on top at a point; ``Group.NOTHING`` outside everything."""
        height, width = self.owner.shape
        column, row = min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)
        return self._inks[int(self.owner[row, column])][2]

    def fill(self, polygon: Array, ink: int, level: float | None = None) -> None:
        """Fill a polygon; without ``level``, 1 for full light, the light there stays as it is."""
        fixed = [_fixed(polygon)]
        cv2.fillPoly(self.owner, fixed, ink, cv2.LINE_8, _SHIFT)
        if level is not None:
            cv2.fillPoly(self.light, fixed, FULL_LIGHT * level, cv2.LINE_8, _SHIFT)

    def shade(self, polygon: Array, level: float) -> None:
        """Give one brightness, 1 for full light, to all of a polygon."""
        cv2.fillPoly(self.light, [_fixed(polygon)], FULL_LIGHT * level, cv2.LINE_8, _SHIFT)

    def stroke(self, points: Array, ink: int, width: float) -> None:
        """Draw a line through the points, at least a pixel wide."""
        cv2.polylines(self.owner, [_fixed(points)], False, ink, max(1, round(width)), cv2.LINE_8, _SHIFT)

    def crease(self, points: Array, level: float, width: float = 0.0) -> None:
        """Draw a dark line through the points, as wide as contours are unless told otherwise; (L, N, 2) are L lines."""
        thickness = max(self._line, round(width))
        fixed = _fixed(points)
        lines = [fixed] if fixed.ndim == 2 else list(fixed)
        cv2.polylines(self.light, lines, False, FULL_LIGHT * level, thickness, cv2.LINE_8, _SHIFT)

    def shadow(self, polygon: Array, reach: float, strength: float) -> None:
        """Darken softly the area in and around a polygon, as the shadow of the shape that is drawn next."""
        fixed = _fixed(polygon)
        left, top, wide, high = cv2.boundingRect(fixed)
        edge = math.ceil(reach)
        height, width = self.light.shape
        left, right = max((left >> _SHIFT) - edge, 0), min(((left + wide) >> _SHIFT) + edge + 2, width)
        top, bottom = max((top >> _SHIFT) - edge, 0), min(((top + high) >> _SHIFT) + edge + 2, height)
        if right <= left or bottom <= top:
            return
        kept = np.full((bottom - top, right - left), 255, np.uint8)
        cv2.fillPoly(kept, [fixed], 255 * (1 - strength), cv2.LINE_8, _SHIFT, (-left, -top))
        size = 2 * max(1, round(reach)) + 1
        cv2.blur(kept, (size, size), kept)
        region = self.light[top:bottom, left:right]
        cv2.multiply(region, kept, region, 1 / 255)

    def tube(self, tube: Tube, ink: int, level: float = 1.0, contour: float = 0.55) -> None:
        """Fill a tube, lit like a cylinder, with a dark line along its sides."""
        lines = _fixed(tube.centers + self._strips * tube.spread)
        cv2.fillPoly(self.owner, [np.concatenate((lines[0], lines[-1, ::-1]))], ink, cv2.LINE_8, _SHIFT)
        self._light_strips(lines, tube, level)
        first, last = tube.ends
        sides = [lines[0, first : last + 1], lines[-1, first : last + 1]]
        cv2.polylines(self.light, sides, False, FULL_LIGHT * contour * level, self._line, cv2.LINE_8, _SHIFT)

    def model(self, tube: Tube, level: float = 1.0) -> None:
        """Light a tube like a cylinder, without changing its inks."""
        self._light_strips(_fixed(tube.centers + self._strips * tube.spread), tube, level)

    def _light_strips(self, lines: npt.NDArray[np.int32], tube: Tube, level: float) -> None:
        x, y = tube.spread[len(tube.spread) // 2].tolist()
        facing = (x * self._toward[0] + y * self._toward[1]) / max(math.hypot(x, y), 1e-9)
        strips = np.concatenate((lines[:-1], lines[1:, ::-1]), axis=1)
        for strip, (side, near) in zip(strips, self._surfaces, strict=True):
            value = max(0.0, side * facing - near * self._toward[2])
            brightness = FULL_LIGHT * level * (_AMBIENT + _DIFFUSE * value)
            cv2.fillPoly(self.light, [strip], brightness, cv2.LINE_8, _SHIFT)

    def ball(self, outline: Array, level: float = 1.0) -> None:
        """Light a roughly round outline like a ball, without changing its inks."""
        center = outline.mean(axis=0)
        radius = float(np.abs(outline - center).mean())
        for share, brightness in ((1.0, 0.8), (0.86, 0.9), (0.7, 0.98), (0.5, 1.05), (0.28, 1.1)):
            moved = center + (1 - share) * 0.9 * radius * np.array(self._toward[:2])
            self.shade(moved + (outline - center) * share, brightness * level)

    def print_cloth(
        self,
        tube: Tube,
        cloth: Cloth,
        ink: int,
        pitch: float,
        rng: np.random.Generator,
        cloth_length: float | None = None,
    ) -> None:
        """Print a pattern on a tube in the cloth's second colour, which ``ink`` has.

        ``pitch`` is the size of the repeat in pixels of the canvas; patterns finer than a pixel or two are left out.
        There are as many repeats as fit on ``cloth_length`` pixels, by default on the tube as it is seen.
        """
        if cloth.pattern is Pattern.PLAIN or pitch < 2:
            return
        whole = tube.whole()
        length, radius = whole.length(), tube.radius()
        if length < pitch / 2 or radius < 1:
            return
        rows = min(max(1, round((cloth_length or length) / pitch)), 40)
        turn = pitch / radius
        if cloth.pattern in (Pattern.STRIPES, Pattern.CHECKS):
            polygons: list[Array] = []
            if not cloth.lengthwise or cloth.pattern is Pattern.CHECKS:
                polygons += self._bands(whole, rows, radius / length)
            if cloth.lengthwise or cloth.pattern is Pattern.CHECKS:
                edges = np.sin(np.clip(np.arange(-math.pi / 2, math.pi / 2, turn / 2), -1.5, 1.5))
                polygons += [whole.outline(low, high) for low, high in zip(edges[:-1:2], edges[1::2], strict=False)]
        else:
            polygons = self._spots(whole, cloth.pattern, rows, turn, pitch, rng)
        if polygons:
            # Even-odd filling turns crossing bands into checks by itself.
            cv2.fillPoly(self.owner, [_fixed(polygon) for polygon in polygons], ink, cv2.LINE_8, _SHIFT)

    def _bands(self, tube: Tube, rows: int, sag: float) -> list[Array]:
        """Return bands around a tube, which hang through a little as rings do that are seen from above."""
        curve = 0.25 * sag * (1 - _ACROSS**2)
        starts = (np.arange(rows) + 0.2) / rows
        edges = np.stack((starts, starts + 0.45 / rows), axis=1)[..., None] + curve
        points = tube.along(np.clip(edges, 0, 1).reshape(-1), np.tile(_ACROSS, rows * 2)).reshape(rows, 2, 5, 2)
        return list(np.concatenate((points[:, 0], points[:, 1, ::-1]), axis=1))

    def _spots(
        self, tube: Tube, pattern: Pattern, rows: int, turn: float, pitch: float, rng: np.random.Generator
    ) -> list[Array]:
        columns = min(max(1, round(2.6 / turn)), 16)
        down = np.repeat((np.arange(rows) + 0.5) / rows, columns)
        # Every other row is moved by half a step.
        steps = np.tile(np.arange(columns) + 0.5, rows) + np.repeat(np.arange(rows) % 2 / 2, columns)
        around = steps / columns * 2.6 - 1.3
        size = np.full(len(down), 0.24 * pitch)
        shapes = np.broadcast_to(_ROUND, (len(down), *_ROUND.shape))
        if pattern is Pattern.NOISE:
            down = np.clip(down + rng.uniform(-0.5, 0.5, len(down)) / rows, 0.05, 0.95)
            around = np.clip(around + rng.uniform(-0.5, 0.5, len(down)) * turn, -1.3, 1.3)
            size = size * rng.uniform(0.6, 2.2, len(down))
            shapes = shapes * rng.uniform(0.5, 1.3, (len(down), len(_ROUND), 1))
        across = np.sin(around)
        # A spot must not leave the tube, whose mask is exact.
        middles, sides = tube.along(down, np.zeros_like(down)), tube.along(down, np.ones_like(down))
        room = np.sqrt(((sides - middles) ** 2).sum(axis=1)) * (1 - np.abs(across))
        spots = middles + (sides - middles) * across[:, None]
        return list(spots[:, None] + shapes * np.minimum(size, room)[:, None, None])


@lru_cache(maxsize=1)
def grain() -> tuple[Bytes, Bytes]:
    """Return the texture of skin and of cloth, uint8 (1024, 1024) around ``FULL_LIGHT``, which repeats every 512."""
    rng = np.random.default_rng(512)
    noise = rng.standard_normal((512, 512)).astype(np.float32)
    skin, cloth = noise * 0.014, noise * 0.03
    for wide, high, strength in ((3.0, 5.0, 0.02), (7.0, 12.0, 0.035)):
        field = np.tile(rng.standard_normal((512, 512)).astype(np.float32), (3, 3))
        field = cv2.GaussianBlur(field, (0, 0), wide, sigmaY=high)[512:1024, 512:1024]
        cloth = cloth + field / field.std() * strength
    return _printed(skin), _printed(cloth)


def _printed(field: npt.NDArray[np.float32]) -> Bytes:
    return np.tile(np.clip(FULL_LIGHT * (1 + field), 0, 255).astype(np.uint8), (2, 2))


def _fixed(points: Array) -> npt.NDArray[np.int32]:
    """Return coordinates as OpenCV takes them, in sixteenths of a pixel."""
    return np.rint(points * (1 << _SHIFT)).astype(np.int32)
