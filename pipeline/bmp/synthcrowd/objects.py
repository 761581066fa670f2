"""Draws things that hide people or resemble them; knows no scene and no ground truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from bmp.synthcrowd.backgrounds import Pixels, colour, noise

_SKIN = np.array([[241, 205, 178], [224, 172, 138], [186, 128, 92], [134, 88, 62], [88, 58, 44]], np.float32)
_Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A cut-out thing, to be placed on a picture.

    Attributes:
        colors: uint8 (h, w, 3) RGB.
        mask: uint8 (h, w), 1 inside the thing and 0 elsewhere.
        left: column of the picture at its first column.
        top: row of the picture at its first row.
    """

    colors: Pixels
    mask: npt.NDArray[np.uint8]
    left: int
    top: int


def draw_object(rng: np.random.Generator, x: float, y: float, scale: float) -> Sprite:
    """Draw any object that stands on the ground at ``x``, ``y``, beside people of ``scale`` pixels height."""
    return _OBJECTS[rng.integers(len(_OBJECTS))](_Board(rng, x, y, scale))


def draw_seat(rng: np.random.Generator, x: float, y: float, width: float, height: float) -> Sprite:
    """Draw a box, stool or bench for somebody to sit on, ``height`` pixels high and with its foot at ``x``, ``y``."""
    board = _Board(rng, x, y, max(height, width))
    wide, high = width / max(height, width) / 2, height / max(height, width)
    if rng.random() < 0.5:
        board.box(-wide, -high, wide, 0, board.any_colour())
    else:
        dark = board.any_colour(0.4)
        for foot in (-0.85 * wide, 0.7 * wide):
            board.box(foot, -high, foot + 0.15 * wide, 0, dark)
        board.box(-wide, -high, wide, -0.75 * high, board.any_colour())
    return board.sprite()


def draw_wall(rng: np.random.Generator, x: float, y: float, width: float, height: float) -> Sprite:
    """Draw a wall, kiosk or van without gaps, ``width`` x ``height`` pixels, with the middle of its foot at ``x``."""
    board = _Board(rng, x, y, max(height / 1.5, width / 1.4))
    scale = max(height / 1.5, width / 1.4)
    wide, high = width / scale / 2, height / scale
    board.box(-wide, -high, wide, 0, board.any_colour(0.5))
    for _ in range(rng.integers(2, 7)):
        across, up = rng.uniform(-0.85, 0.5) * wide, rng.uniform(0.35, 0.95) * high
        board.box(
            across,
            -up,
            across + rng.uniform(0.1, 0.5) * wide,
            -up + rng.uniform(0.05, 0.3) * high,
            (board.any_colour()),
        )
    board.box(-wide, -0.06 * high, wide, 0, board.any_colour(0.3))
    return board.sprite()


class _Board:
    """A sheet to draw on with its origin at the foot of the object, in units of the height of people near it."""

    def __init__(self, rng: np.random.Generator, x: float, y: float, scale: float) -> None:
        self.rng = rng
        self._scale = scale
        reach = max(4, round(0.7 * scale))
        self._foot = (reach, max(4, round(1.5 * scale)))
        self._left, self._top = round(x) - self._foot[0], round(y) - self._foot[1]
        self._colors = np.zeros((self._foot[1] + max(2, round(0.1 * scale)), 2 * reach, 3), np.uint8)
        self._mask = np.zeros(self._colors.shape[:2], np.uint8)

    def any_colour(self, saturation: float = 0.8) -> _Colour:
        return _plain(colour(self.rng, saturation, 30))

    def polygon(self, points: list[tuple[float, float]], tint: _Colour) -> None:
        corners = np.array([self._place(x, y) for x, y in points], np.int32)
        cv2.fillPoly(self._colors, [corners], tint, cv2.LINE_8, 4)
        cv2.fillPoly(self._mask, [corners], 1, cv2.LINE_8, 4)

    def box(self, left: float, top: float, right: float, bottom: float, tint: _Colour) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], tint)

    def disk(self, x: float, y: float, radius_x: float, radius_y: float, tint: _Colour, angle: float = 0) -> None:
        axes = (max(8, round(16 * radius_x * self._scale)), max(8, round(16 * radius_y * self._scale)))
        for canvas, value in ((self._colors, tint), (self._mask, (1.0, 1.0, 1.0))):
            cv2.ellipse(canvas, self._place(x, y), axes, angle, 0, 360, value, -1, cv2.LINE_8, 4)

    def sprite(self) -> Sprite:
        """Return what was drawn, lit from a side and a little rough."""
        x, y, width, height = cv2.boundingRect(self._mask)
        window = slice(y, y + height), slice(x, x + width)
        mask = self._mask[window].copy()
        light = 1 + self.rng.uniform(0, 0.45) * np.cos(np.linspace(0, np.pi, max(width, 1)) + self.rng.uniform(-1, 1))
        rough = noise(self.rng, max(height, 1), max(width, 1), 12) * self.rng.uniform(3, 14)
        colors = self._colors[window] * light[None, :, None].astype(np.float32) + rough[..., None]
        return Sprite(np.clip(colors, 0, 255).astype(np.uint8), mask, self._left + x, self._top + y)

    def _place(self, x: float, y: float) -> tuple[int, int]:
        return round(16 * (self._foot[0] + x * self._scale)), round(16 * (self._foot[1] + y * self._scale))


def _plain(value: npt.NDArray[np.floating[Any]]) -> _Colour:
    return float(value[0]), float(value[1]), float(value[2])


def _pole(board: _Board) -> Sprite:
    half = board.rng.uniform(0.015, 0.05)
    board.box(-half, -1.5, half, 0, board.any_colour(0.4))
    if board.rng.random() < 0.5:  # a sign
        middle, width = board.rng.uniform(-1.3, -0.8), board.rng.uniform(0.1, 0.25)
        board.box(-width, middle - 0.12, width, middle + 0.12, board.any_colour())
        board.box(-width + 0.03, middle - 0.09, width - 0.03, middle + 0.09, board.any_colour())
    return board.sprite()


def _pillar(board: _Board) -> Sprite:
    """A pillar of the colour of skin, about as wide as a person."""
    half = board.rng.uniform(0.06, 0.16)
    skin = _plain(_SKIN[board.rng.integers(len(_SKIN))])
    board.box(-half, -board.rng.uniform(0.7, 1.5), half, 0, skin)
    board.box(-1.2 * half, -0.05, 1.2 * half, 0, board.any_colour())
    return board.sprite()


def _lamp(board: _Board) -> Sprite:
    """A round thing on a stick, of the size of a head and where heads are."""
    height = board.rng.uniform(0.8, 1.1)
    board.box(-0.02, -height, 0.02, 0, board.any_colour(0.4))
    board.box(-0.1, -0.03, 0.1, 0, board.any_colour(0.4))
    tint = _plain(_SKIN[board.rng.integers(len(_SKIN))]) if board.rng.random() < 0.5 else board.any_colour()
    board.disk(0, -height, board.rng.uniform(0.05, 0.08), board.rng.uniform(0.06, 0.1), tint)
    return board.sprite()


def _rack(board: _Board) -> Sprite:
    """A coat on a stand: clothes without anybody in them."""
    wood = board.any_colour(0.4)
    board.box(-0.015, -1, 0.015, 0, wood)
    board.box(-0.15, -0.03, 0.15, 0, wood)
    cloth, width = board.any_colour(), board.rng.uniform(0.1, 0.17)
    hem = board.rng.uniform(-0.5, -0.25)
    outline = [(-0.03, -0.9), (0.03, -0.9), (width, -0.82), (1.2 * width, hem), (-1.2 * width, hem), (-width, -0.82)]
    board.polygon(outline, cloth)
    board.box(-0.008, -0.88, 0.008, hem, wood)
    if board.rng.random() < 0.5:
        board.disk(0, -1, 0.09, 0.035, board.any_colour())  # a hat
    return board.sprite()


def _plant(board: _Board) -> Sprite:
    rng = board.rng
    height, spread = rng.uniform(0.3, 1.1), rng.uniform(0.15, 0.4)
    board.polygon([(-0.1, -0.2), (0.1, -0.2), (0.07, 0), (-0.07, 0)], board.any_colour(0.6))
    green = np.array([rng.uniform(30, 120), rng.uniform(80, 170), rng.uniform(20, 90)])
    for _ in range(rng.integers(12, 30)):
        x, y = rng.normal(0, 0.45) * spread, -0.2 - height * rng.uniform(0, 1)
        tint = green * rng.uniform(0.6, 1.3)
        board.disk(x, y, rng.uniform(0.04, 0.12), rng.uniform(0.015, 0.04), _plain(tint), rng.uniform(0, 180))
    return board.sprite()


def _ball(board: _Board) -> Sprite:
    radius = board.rng.uniform(0.06, 0.16)
    board.disk(0, -radius, radius, radius, board.any_colour())
    board.disk(-0.2 * radius, -1.2 * radius, 0.5 * radius, 0.5 * radius, board.any_colour())
    return board.sprite()


def _balloons(board: _Board) -> Sprite:
    for _ in range(board.rng.integers(1, 5)):
        x, y = board.rng.uniform(-0.25, 0.25), board.rng.uniform(-1.3, -0.9)
        board.polygon([(x, y), (x + 0.01, y), (0.005, 0), (0, 0)], (90.0, 90.0, 90.0))
        board.disk(x, y, 0.08, 0.1, board.any_colour())
    return board.sprite()


def _crate(board: _Board) -> Sprite:
    half, height = board.rng.uniform(0.1, 0.35), board.rng.uniform(0.15, 0.5)
    tint = board.any_colour(0.6)
    lighter = _plain(np.minimum(np.array(tint) * 1.25, 255))
    board.box(-half, -height, half, 0, tint)
    board.polygon(
        [(-half, -height), (half, -height), (0.8 * half, -1.15 * height), (-0.8 * half, -1.15 * height)], lighter
    )
    for row in range(board.rng.integers(0, 4)):
        board.box(-half, -height + row * 0.1, half, -height + row * 0.1 + 0.012, _plain(np.array(tint) * 0.6))
    return board.sprite()


def _bag(board: _Board) -> Sprite:
    half, height, tint = board.rng.uniform(0.07, 0.14), board.rng.uniform(0.15, 0.3), board.any_colour()
    board.disk(0, -height, 0.7 * half, 0.6 * height, _plain(np.array(tint) * 0.7))
    board.polygon([(-half, 0), (half, 0), (0.85 * half, -height), (-0.85 * half, -height)], tint)
    board.box(-0.5 * half, -0.6 * height, 0.5 * half, -0.25 * height, board.any_colour())
    return board.sprite()


def _chair(board: _Board) -> Sprite:
    tint, half = board.any_colour(0.6), board.rng.uniform(0.11, 0.16)
    dark = _plain(np.array(tint) * 0.7)
    for x in (-half, half - 0.03, -0.7 * half, 0.5 * half):
        board.box(x, -0.27, x + 0.03, 0, dark)
    if board.rng.random() < 0.5:
        board.box(-half, -0.58, half, -0.25, tint)
    else:
        for x in np.linspace(-half, half - 0.025, 4):
            board.box(x, -0.58, x + 0.025, -0.25, tint)
        board.box(-half, -0.6, half, -0.54, tint)
    board.box(-1.05 * half, -0.29, 1.05 * half, -0.24, dark)
    return board.sprite()


def _table(board: _Board) -> Sprite:
    half, tint = board.rng.uniform(0.25, 0.6), board.any_colour(0.5)
    for x in (-0.9 * half, 0.8 * half):
        board.box(x, -0.42, x + 0.1 * half, 0, _plain(np.array(tint) * 0.7))
    board.box(-half, -0.46, half, -0.41, tint)
    for _ in range(board.rng.integers(0, 4)):
        x, size = board.rng.uniform(-0.8, 0.7) * half, board.rng.uniform(0.02, 0.07)
        board.box(x, -0.46 - 2 * size, x + size, -0.45, board.any_colour())
    if board.rng.random() < 0.4:  # a cloth
        board.box(-half, -0.45, half, board.rng.uniform(-0.3, 0), tint)
    return board.sprite()


def _parasol(board: _Board) -> Sprite:
    """A striped parasol or awning on a stick, above heads."""
    count, half = int(board.rng.integers(4, 9)), board.rng.uniform(0.3, 0.65)
    tints = board.any_colour(), board.any_colour(0.3)
    board.box(-0.015, -1.3, 0.015, 0, (120.0, 110.0, 100.0))
    edges = np.linspace(-half, half, count + 1)
    for i in range(count):
        corners = [(edges[i], -1.1), (edges[i + 1], -1.1), (edges[i + 1] / 3, -1.4), (edges[i] / 3, -1.4)]
        board.polygon(corners, tints[i % 2])
    return board.sprite()


def _fence(board: _Board) -> Sprite:
    half, tint = board.rng.uniform(0.3, 0.65), board.any_colour(0.4)
    height, step = board.rng.uniform(0.25, 0.55), board.rng.uniform(0.06, 0.14)
    for x in np.arange(-half, half, step):
        board.box(x, -height, x + 0.025, 0, tint)
    for y in (-0.9 * height, -0.3 * height):
        board.box(-half, y, half, y + 0.03, tint)
    return board.sprite()


_OBJECTS: tuple[Callable[[_Board], Sprite], ...] = (
    _pole, _pillar, _lamp, _rack, _plant, _ball, _balloons, _crate, _bag, _chair, _table, _parasol, _fence,
)  # fmt: skip
