"""Draws the background of a crowd: rooms, streets, meadows, or only texture. Knows no people and no ground truth."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Uint8 (H, W, 3) RGB."""
Field = npt.NDArray[np.float32]
"""Float32 (H, W), or (H, W, 3) for colours on the scale 0..255."""

_WARM = np.array([1.0, 0.9, 0.75])  # walls, floors and things are more often brown than blue
_LOWEST = np.float32(1.0)  # rows below the horizon at which a floor starts: at 0 it would be infinitely far away


def background(rng: np.random.Generator, size: int, horizon: float) -> Pixels:
    """Return a square picture of ``size`` pixels a side, uint8 (size, size, 3) RGB, without people.

    Args:
        rng: source of all randomness.
        size: width and height in pixels.
        horizon: row at which the ground ends, in pixels from the top; outside the picture there is only ground, or
            none at all.
    """
    names = list(_PLACES)
    weights = np.array([_PLACES[name] for name in names])
    place = names[rng.choice(len(names), p=weights / weights.sum())]
    return np.clip(place(rng, size, horizon), 0, 255).astype(np.uint8)


def noise(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3) -> Field:
    """Return smooth noise around 0, float32 (height, width), mostly within -1..1.

    ``cells`` is the number of the largest bumps along the longer side; each octave is half as large and high.
    """
    total = np.zeros((height, width), np.float32)
    longer = max(height, width)
    for octave in range(octaves):
        grid = cells * 2**octave / longer
        coarse = rng.random((max(2, round(height * grid) + 2), max(2, round(width * grid) + 2)), np.float32) * 2 - 1
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(0.5**octave)
    return total


def colour(
    rng: np.random.Generator, saturation: float = 0.5, low: float = 60, high: float = 235
) -> npt.NDArray[np.float32]:
    """Return a random RGB colour, float32 (3,), of a brightness between ``low`` and ``high``.

    ``saturation`` is its largest value, from 0 (grey) to 1.
    """
    brightness = rng.uniform(low, high)
    tint = rng.random(3) * _WARM
    tint /= tint.max()
    return np.asarray(brightness * (1 - rng.uniform(0, saturation) * (1 - tint)), np.float32)


def _ramp(size: int, top: Field, bottom: Field) -> Field:
    """A vertical gradient between two colours."""
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    column = top * (1 - share) + bottom * share
    return np.repeat(column[:, None], size, axis=1)


def _grain(rng: np.random.Generator, size: int, strength: float, cells: float | None = None) -> Field:
    """Noise with the shape (size, size, 1), in steps of brightness."""
    return noise(rng, size, size, cells or rng.uniform(3, 40))[..., None] * np.float32(strength)


def _rows(size: int, horizon: float) -> tuple[int, Field]:
    """First row of the ground, and the distance of its rows, 1 at the lower edge of the picture and more above."""
    first = int(np.clip(np.ceil(horizon), 0, size))
    below = np.arange(first, size, dtype=np.float32) - np.float32(horizon) + _LOWEST
    return first, np.float32(size - horizon) / below


def _lay_floor(rng: np.random.Generator, canvas: Field, horizon: float, base: Field, tiles: bool) -> None:
    """Cover everything below the horizon with a floor seen in perspective."""
    size = len(canvas)
    first, distance = _rows(size, horizon)
    if first >= size:
        return
    across = (np.arange(size, dtype=np.float32) - np.float32(rng.uniform(0, size)))[None] * distance[:, None]
    cell = np.float32(rng.uniform(0.12, 0.4) * size)
    u = across / cell
    v = np.broadcast_to((distance * np.float32(size) / cell * np.float32(rng.uniform(1, 3)))[:, None], u.shape)
    # Far away cells are smaller than pixels and are averaged.
    fade = np.clip(cell / (np.float32(4) * distance), 0, 1)[:, None]
    texture = noise(rng, 128, 128, rng.uniform(8, 40)) * np.float32(rng.uniform(5, 22))
    texture = np.concatenate([texture, texture[:, ::-1]], axis=1)  # mirrored, so that it repeats without a seam
    values = cv2.remap(
        texture, np.mod(u * 64, 256).astype(np.float32), np.mod(v * 64, 128).astype(np.float32), cv2.INTER_LINEAR
    )
    if tiles:
        kind = rng.integers(3)
        if kind == 0:
            values += (np.mod(np.floor(u) + np.floor(v), 2) * 2 - 1) * np.float32(rng.uniform(5, 40))
        elif kind == 1:
            joint = (np.mod(u, 1) < 0.06) | (np.mod(v, 1) < 0.06)
            values -= joint * np.float32(rng.uniform(15, 60))
        else:
            board = np.floor(u * 3)
            values += (np.mod(np.sin(board * 12.9898) * 437.5, 1) * 2 - 1) * np.float32(rng.uniform(8, 25))
            values -= (np.mod(u * 3, 1) < 0.08) * np.float32(30)
    far = np.float32(rng.uniform(0.75, 1.05))
    light = far + (1 - far) / distance
    canvas[first:] = base * light[:, None, None] + (values * fade)[..., None]


def _masonry(rng: np.random.Generator, size: int, wall: Field) -> Field:
    """A wall of bricks or tiles."""
    height = rng.uniform(0.025, 0.09) * size
    width = height * rng.uniform(1, 3)
    y = np.arange(size, dtype=np.float32) / np.float32(height)
    course = np.floor(y)
    shift = (np.mod(course, 2) * np.float32(0.5 * rng.integers(2)))[:, None]
    x = np.arange(size, dtype=np.float32)[None] / np.float32(width) + shift
    shade = rng.normal(0, rng.uniform(3, 14), (int(course[-1]) + 1, int(x.max()) + 1)).astype(np.float32)
    values = shade[course.astype(int)[:, None], np.floor(x).astype(int)]
    joint = (np.mod(x, 1) < 0.06) | (np.mod(y, 1) < 0.12)[:, None]
    values[joint] = np.float32(rng.choice([-1, 1]) * rng.uniform(15, 45))
    return np.asarray(wall + values[..., None], np.float32)


def _panels(rng: np.random.Generator, size: int, wall: Field) -> Field:
    """Boards or stripes of wallpaper, upright."""
    width = rng.uniform(0.03, 0.25) * size
    x = np.arange(size, dtype=np.float32) / np.float32(width)
    other = colour(rng, 0.4)
    share = rng.uniform(0.1, 0.9) if rng.random() < 0.5 else 0.0
    stripe = (np.mod(np.floor(x), 2) * np.float32(share))[None, :, None]
    groove = (np.mod(x, 1) < 0.05)[None, :, None] * np.float32(rng.uniform(10, 50))
    return np.asarray(wall * (1 - stripe) + other * stripe - groove, np.float32)


def _hang_frames(rng: np.random.Generator, canvas: Field, bottom: float) -> None:
    """Put windows, pictures, doors or shelves on a wall."""
    size = len(canvas)
    for _ in range(rng.integers(0, 5)):
        width, height = rng.uniform(0.08, 0.35, 2) * size
        left, top = rng.uniform(-0.1, 0.9) * size, rng.uniform(-0.2, 0.7) * max(bottom, 1)
        first = (round(left), round(top))
        last = (round(left + width), round(min(top + height, bottom)))
        if last[1] <= first[1] + 4:
            continue
        rim = int(max(1, rng.uniform(0.005, 0.02) * size))
        cv2.rectangle(canvas, first, last, _plain(colour(rng, 0.5)), -1)
        for _ in range(rng.integers(0, 4)):  # something in the picture, or behind the glass
            centre = (round(rng.uniform(first[0], last[0])), round(rng.uniform(first[1], last[1])))
            radius = int(rng.uniform(0.1, 0.4) * min(width, last[1] - first[1])) + 1
            window = canvas[max(first[1], 0) : max(last[1], 0), max(first[0], 0) : max(last[0], 0)]
            if window.size:
                offset = (centre[0] - max(first[0], 0), centre[1] - max(first[1], 0))
                patch = np.ascontiguousarray(window)
                cv2.circle(patch, offset, radius, _plain(colour(rng, 0.7)), -1)
                window[...] = patch
        cv2.rectangle(canvas, first, last, _plain(colour(rng, 0.3)), rim)


def _plain(value: Field) -> tuple[float, float, float]:
    return float(value[0]), float(value[1]), float(value[2])


def _room(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """A wall with things on it above a floor."""
    foot = horizon + rng.uniform(0.05, 0.35) * size  # a wall ends before the horizon does
    paint = colour(rng, 0.5, 60)
    wall = _ramp(size, paint, colour(rng, 0.4, 70) if rng.random() < 0.3 else paint)
    kind = rng.integers(3)
    canvas = _masonry(rng, size, wall) if kind == 0 else _panels(rng, size, wall) if kind == 1 else wall
    canvas = np.ascontiguousarray(canvas + _grain(rng, size, rng.uniform(2, 12)), dtype=np.float32)
    _hang_frames(rng, canvas, foot)
    if foot < size:
        below = canvas.copy()
        _lay_floor(rng, below, horizon, colour(rng, 0.4), tiles=True)
        row = int(np.clip(foot, 0, size))
        canvas[row:] = below[row:]
        canvas[max(row - round(0.02 * size), 0) : row] *= np.float32(rng.uniform(0.5, 1.2))
    return canvas


def _meadow(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """Sky, clouds, hills or trees, and grass, sand or asphalt."""
    blue = np.array([rng.uniform(90, 190), rng.uniform(140, 215), rng.uniform(190, 250)], np.float32)
    pale = np.float32(rng.uniform(190, 245)) + rng.uniform(-20, 10, 3).astype(np.float32)
    canvas = _ramp(size, blue, pale)
    clouds = np.clip(noise(rng, size, size, rng.uniform(2, 6), 4) - rng.uniform(-0.2, 0.6), 0, 1)[..., None]
    canvas += (245 - canvas) * clouds
    x = np.arange(size)
    for _ in range(rng.integers(1, 4)):
        ridge = horizon - (noise(rng, 1, size, rng.uniform(2, 14), 4)[0] + rng.uniform(0.3, 1.5)) * 0.09 * size
        outline = np.stack([x, ridge], axis=1)
        polygon = np.concatenate([[[0, size]], outline, [[size - 1, size]]]).round().astype(np.int32)
        green = np.array([rng.uniform(40, 130), rng.uniform(70, 150), rng.uniform(40, 130)], np.float32)
        cv2.fillPoly(canvas, [polygon], _plain(green))
    canvas += _grain(rng, size, rng.uniform(4, 18), rng.uniform(15, 50))
    ground = (
        np.array([rng.uniform(70, 130), rng.uniform(100, 165), rng.uniform(40, 90)], np.float32)
        if rng.random() < 0.5
        else colour(rng, 0.3, 80, 210)
    )
    _lay_floor(rng, canvas, horizon, ground, tiles=False)
    if rng.random() < 0.3:  # lines of a pitch or a road
        far = (rng.uniform(-0.5, 1.5) * size, horizon + 1)
        for _ in range(rng.integers(1, 4)):
            near, wide = rng.uniform(-0.5, 1.5) * size, rng.uniform(0.005, 0.03) * size
            line = np.array([far, (near - wide, size), (near + wide, size)])
            cv2.fillPoly(canvas, [line.round().astype(np.int32)], (235.0, 235.0, 225.0))
    return canvas


def _street(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """Houses with windows, side by side, above a pavement."""
    canvas = _ramp(size, colour(rng, 0.3, 150), colour(rng, 0.2, 190))
    foot = horizon + rng.uniform(0.02, 0.15) * size
    left = -rng.uniform(0, 0.2) * size
    while left < size:
        width = rng.uniform(0.15, 0.6) * size
        top = foot - rng.uniform(0.25, 1.2) * size
        first, last = (round(left), round(top)), (round(left + width), round(foot))
        house = colour(rng, 0.5, 60)
        cv2.rectangle(canvas, first, last, _plain(house), -1)
        step_x, step_y = rng.uniform(0.05, 0.14, 2) * size
        share_x, share_y = rng.uniform(0.35, 0.75, 2)
        pane = _plain(house * np.float32(rng.uniform(0.3, 0.7)) if rng.random() < 0.7 else colour(rng, 0.3, 180))
        for x in np.arange(left + 0.3 * step_x, left + width - 0.7 * step_x, step_x):
            for y in np.arange(max(top + 0.3 * step_y, -step_y), min(foot, size) - 0.7 * step_y, step_y):
                corner = (round(x + share_x * step_x), round(y + share_y * step_y))
                cv2.rectangle(canvas, (round(x), round(y)), corner, pane, -1)
        left += width
    canvas += _grain(rng, size, rng.uniform(3, 12))
    below = canvas.copy()
    _lay_floor(rng, below, horizon, colour(rng, 0.15, 80, 190), tiles=bool(rng.random() < 0.6))
    row = int(np.clip(foot, 0, size))
    canvas[row:] = below[row:]
    return canvas


def _foliage(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """Leaves from top to bottom; the ground is lost in them."""
    dark = np.array([rng.uniform(10, 60), rng.uniform(30, 80), rng.uniform(10, 50)], np.float32)
    bright = np.array([rng.uniform(90, 190), rng.uniform(130, 210), rng.uniform(40, 110)], np.float32)
    share = np.clip(0.5 + 0.6 * noise(rng, size, size, rng.uniform(4, 16), 4), 0, 1)[..., None]
    canvas: Field = np.asarray(dark * (1 - share) + bright * share, np.float32)
    if rng.random() < 0.6:
        first = int(np.clip(horizon + 0.1 * size, 0, size))
        below = canvas.copy()
        _lay_floor(rng, below, horizon, np.asarray((dark + bright) / 2, np.float32), tiles=False)
        canvas[first:] = below[first:]
    return canvas


def _lights(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """Out of focus: soft blobs of any colour on a dark or bright gradient."""
    canvas = np.ascontiguousarray(_ramp(size, colour(rng, 0.6, 20), colour(rng, 0.6, 20)))
    for _ in range(rng.integers(8, 40)):
        centre = (round(rng.uniform(0, size)), round(rng.uniform(0, size)))
        cv2.circle(canvas, centre, round(rng.uniform(0.02, 0.14) * size), _plain(colour(rng, 0.8)), -1, cv2.LINE_AA)
    quarter = cv2.resize(canvas, (size // 4 + 1, size // 4 + 1), interpolation=cv2.INTER_AREA)
    quarter = cv2.GaussianBlur(quarter, (0, 0), rng.uniform(0.01, 0.04) * len(quarter))
    canvas = cv2.resize(quarter, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.6:
        _lay_floor(rng, canvas, horizon, colour(rng, 0.4), tiles=bool(rng.random() < 0.5))
    return np.asarray(canvas, np.float32)


def _studio(rng: np.random.Generator, size: int, horizon: float) -> Field:
    """Paper: a gradient with a little texture."""
    return _ramp(size, colour(rng, 0.6, 20), colour(rng, 0.6, 20)) + _grain(rng, size, rng.uniform(1, 25))


_PLACES: dict[Callable[[np.random.Generator, int, float], Field], float] = {
    _room: 4.0,
    _meadow: 3.0,
    _street: 2.5,
    _foliage: 1.0,
    _lights: 1.0,
    _studio: 0.7,
}
