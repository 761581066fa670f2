"""Puts drawn people and things in front of a background, with exact visible pixels of each; knows no file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from bmp.synthcrowd.backgrounds import Pixels, background
from bmp.synthcrowd.figures import Figure, Look, draw, sample_look, similar_look
from bmp.synthcrowd.objects import Sprite, draw_object, draw_seat
from bmp.synthcrowd.poses import Body, PoseKind, sample_body

Bits = npt.NDArray[np.bool_]
Coordinates = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.uint8]  # (size, size), 1 or 0

MIN_PIXELS = 32
"""People with fewer visible pixels are in the picture but not in the ground truth."""
DEEP = 0.05
"""A hidden keypoint is labelled up to this distance from its person's visible pixels, as a share of the height."""
_PAIR_PIXELS = 150  # at least so much is seen of either of two who are entangled on purpose
_PLACES, _FIGURES, _BEGINNINGS = 25, 5, 5  # tries: places a figure, figures a person, first ones of a pair
_NEAR = 2  # pixels from a keypoint within which its person's mask counts as being there


@dataclass(frozen=True)
class Settings:
    """The kind of scenes.

    Attributes:
        stream: number of the random stream; scenes of two streams are independent.
        size: width and height of the picture in pixels, at least 64.
        people: fewest and most people; there may be fewer if they do not fit within the limits below.
        empty: share of scenes with nobody.
        heights: smallest and largest height of a person in pixels, measured as if standing.
        pairs: share of scenes with two people entangled on purpose.
        pair_iou: least and largest IoU of the boxes around the visible pixels of these two.
        max_iou: largest IoU of such boxes for any other two people.
        pair_visible: least visible share of the pixels of each of the two within the picture.
        min_visible: the same for everybody else; things in the way count as well.
        truncation: share of scenes that are cut off below, and of people who are cut off at the left or right.
        teams: share of scenes in which everybody is dressed alike.
        objects: fewest and most things that stand around.
    """

    stream: int = 0
    size: int = 320
    people: tuple[int, int] = (1, 6)
    empty: float = 0.0
    heights: tuple[float, float] = (70.0, 330.0)
    pairs: float = 0.3
    pair_iou: tuple[float, float] = (0.5, 0.9)
    max_iou: float = 0.5
    pair_visible: float = 0.25
    min_visible: float = 0.15
    truncation: float = 0.15
    teams: float = 0.25
    objects: tuple[int, int] = (0, 5)

    def __post_init__(self) -> None:
        _expect(self.stream >= 0, "stream", self.stream, "at least 0")
        _expect(self.size >= 64, "size", self.size, "at least 64 pixels")
        for name in ("people", "objects"):
            low, high = getattr(self, name)
            _expect(0 <= low <= high <= 100, name, (low, high), "two numbers from 0 to 100, the smaller first")
        _expect(8 <= self.heights[0] <= self.heights[1], "heights", self.heights, "at least 8 px, the smaller first")
        for name in ("empty", "pairs", "max_iou", "pair_visible", "min_visible", "truncation", "teams"):
            _expect(0 <= getattr(self, name) <= 1, name, getattr(self, name), "a share from 0 to 1")
        _expect(0 <= self.pair_iou[0] <= self.pair_iou[1] <= 1, "pair_iou", self.pair_iou, "shares, the smaller first")
        _expect(not self.pairs or self.people[1] >= 2, "people", self.people, "at least 2 where there are pairs")


def _expect(fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ValueError(f"Settings.{name}: expected {wanted}, got {value}")


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture and its ground truth. Rows are people with at least ``MIN_PIXELS`` visible pixels.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        visible: bool (N, H, W), the pixels that show the person; no pixel shows two.
        amodal: bool (N, H, W), the pixels that would show the person with nobody and nothing in front.
        boxes: float32 (N, 4), xyxy edges in pixels around ``visible``.
        keypoints: float32 (N, 17, 3), x, y in pixels and v in COCO's order, with the flags of OCHuman: 2 where the
            person is seen, even if it is the own body that hides the joint; 1 hidden by somebody or something; 0 not
            labelled, where x = y = 0: outside the picture, or so deeply hidden that an annotator could only guess,
            farther than ``DEEP`` heights from every visible pixel of the person.
        self_occluded: bool (N, 17), labelled keypoints that the own body, hair or clothes hide.
        parts: uint8 (H, W), CIHP's labels of what is visible, 0 where nobody is.
        things: uint8 (H, W), one number for each visible thing, 0 where there is none.
        order: int64 (N,), 0 for the person farthest from the viewer.
        max_iou: largest IoU of two of ``boxes``, 0 for fewer than two people.
    """

    image: Pixels
    visible: Bits
    amodal: Bits
    boxes: Coordinates
    keypoints: Coordinates
    self_occluded: Bits
    parts: npt.NDArray[np.uint8]
    things: npt.NDArray[np.uint8]
    order: npt.NDArray[np.int64]
    max_iou: float


def make_scene(seed: int, index: int, settings: Settings | None = None) -> Scene:
    """Make scene number ``index``; the same for the same arguments, whatever was made before.

    Args:
        seed: at least 0.
        index: at least 0.
        settings: of the scene; the defaults of ``Settings`` if None.

    If no place for an entangled pair is found with 125 bodies, as happens with narrow limits, the scene has none, and
    ``max_iou`` holds for everybody.
    """
    settings = settings or Settings()
    rng = np.random.default_rng([seed, settings.stream, index])
    ground = Ground.sample(rng, settings)
    crowd = _Crowd(settings)
    cast = _Cast(rng, settings, ground)
    if rng.random() >= settings.empty:
        count = int(rng.integers(settings.people[0], settings.people[1] + 1))
        if rng.random() < settings.pairs and _entangle(rng, cast, crowd):
            count = max(count, 2)
        # People stand together more often than apart.
        middle = rng.uniform(0.2, 0.8) * settings.size
        while len(crowd.people) < count and _join(rng, cast, crowd, middle):
            pass
    for _ in range(rng.integers(settings.objects[0], settings.objects[1] + 1)):
        _furnish(rng, ground, crowd)
    canvas = background(rng, settings.size, ground.horizon)
    owner, parts = paint(crowd.items, canvas, rng.uniform(0.45, 0.9))
    image = Exposure.sample(rng).develop(canvas, owner, rng)
    return ground_truth(crowd.people, crowd.visible, image, owner, parts)


@dataclass(frozen=True)
class Ground:
    """How the ground lies: feet at ``horizon`` + ``nearness`` x height; people are about ``height`` pixels high.

    ``light`` is where it comes from, radians: 0 the right of the picture, pi / 2 above.
    """

    size: int
    horizon: float
    nearness: float
    height: float
    light: float

    @classmethod
    def sample(cls, rng: np.random.Generator, settings: Settings) -> Ground:
        """Sample the ground of one scene."""
        low, high = settings.heights
        height = rng.uniform(math.sqrt(low), math.sqrt(high)) ** 2
        horizon = rng.uniform(-0.1, 0.5) * settings.size
        foot = max(rng.uniform(0.5, 0.98) * settings.size, min(1.03 * height, 0.98 * settings.size))
        if rng.random() < settings.truncation:
            foot = max(foot, settings.size) + rng.uniform(0, 0.55) * height
        horizon = min(horizon, foot - 0.15 * height)
        return cls(settings.size, horizon, (foot - horizon) / height, height, rng.uniform(0.15, 0.85) * math.pi)

    def foot(self, height: float) -> float:
        """Row of the feet of somebody of that height."""
        return self.horizon + self.nearness * height


@dataclass(frozen=True, eq=False)
class Item:
    """A person or a thing in its place; ``depth`` is the row of its foot: what is larger is nearer."""

    sprite: Sprite
    depth: float
    inside: _Mask
    free: _Mask
    area: int
    figure: Figure | None = None
    pelvis: tuple[int, int] = (0, 0)

    @classmethod
    def place(
        cls, sprite: Sprite, depth: float, size: int, figure: Figure | None = None, x: int = 0, y: int = 0
    ) -> Item:
        """Put a sprite into a picture of ``size`` pixels; ``x`` and ``y`` are where the pelvis of a figure is."""
        inside = np.zeros((size, size), np.uint8)
        there, source = _windows(sprite, size)
        inside[there] = sprite.mask[source]
        return cls(sprite, depth, inside, (inside == 0).view(np.uint8), cv2.countNonZero(inside), figure, (x, y))


def _windows(sprite: Sprite, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a sprite lies in a picture, and which part of the sprite that is; empty if it lies outside."""
    height, width = sprite.mask.shape
    top, left = (min(max(value, 0), size) for value in (sprite.top, sprite.left))
    bottom, right = max(min(sprite.top + height, size), top), max(min(sprite.left + width, size), left)
    there = slice(top, bottom), slice(left, right)
    source = (
        slice(top - sprite.top, bottom - sprite.top),
        slice(left - sprite.left, right - sprite.left),
    )
    return there, source


class _Crowd:
    """Who and what is in the scene, and what is seen of whom. The first two people are the pair, if there is one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.items: list[Item] = []
        self.people: list[Item] = []
        self.visible: list[_Mask] = []
        self._paired = False

    def add(self, item: Item, entangled: bool = False) -> bool:
        """Take somebody or something in, unless that broke one of the limits; tell whether it did not."""
        seen = [
            mask & item.free if person.depth < item.depth else mask
            for person, mask in zip(self.people, self.visible, strict=True)
        ]
        people = self.people
        if item.figure is not None:
            mine = item.inside
            for other in self.items:
                if other.depth >= item.depth:
                    mine = mine & other.free
            seen.append(mine)
            people = [*people, item]
        if not self._within_limits(people, seen, self._paired or entangled):
            return False
        self._paired |= entangled
        self.visible = seen
        self.items.append(item)
        self.people = people
        return True

    def _within_limits(self, people: list[Item], seen: list[_Mask], paired: bool) -> bool:
        settings = self.settings
        for row, (person, mask) in enumerate(zip(people, seen, strict=True)):
            pixels = cv2.countNonZero(mask)
            special = paired and row < 2
            share = settings.pair_visible if special else settings.min_visible
            if pixels < max(share * person.area, _PAIR_PIXELS if special else MIN_PIXELS):
                return False
        if len(seen) < 2:
            return True
        overlaps = box_iou(np.array([box_around(mask) for mask in seen], np.float32))
        if paired:
            if not settings.pair_iou[0] <= overlaps[0, 1] <= settings.pair_iou[1]:
                return False
            overlaps[0, 1] = overlaps[1, 0] = 0
        return bool(overlaps.max() <= settings.max_iou)


def box_around(mask: npt.NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Return the xyxy edges around the ones of a mask (H, W)."""
    x, y, width, height = cv2.boundingRect(mask)
    return x, y, x + width, y + height


def box_iou(boxes: Coordinates) -> Coordinates:
    """Return the IoU of each two of (N, 4) xyxy boxes, float32 (N, N), with 0 on the diagonal."""
    edges = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    shared = edges.clip(min=0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    overlaps = shared / np.maximum(areas[:, None] + areas[None] - shared, 1)
    np.fill_diagonal(overlaps, 0)
    return np.asarray(overlaps, np.float32)


class _Cast:
    """Draws people for one scene: alike if they are a team, lit from one side."""

    def __init__(self, rng: np.random.Generator, settings: Settings, ground: Ground) -> None:
        self._rng, self.settings, self.ground = rng, settings, ground
        self._uniform = sample_look(rng) if rng.random() < settings.teams else None

    def look(self, like: Look | None = None) -> Look:
        like = like or self._uniform
        return similar_look(like, self._rng) if like is not None else sample_look(self._rng)

    def height(self, spread: float, around: float | None = None) -> float:
        low, high = self.settings.heights
        height = (around or self.ground.height) * math.exp(self._rng.uniform(-spread, spread))
        return min(max(height, low), high)

    def draw(self, body: Body, look: Look, height: float) -> Figure:
        return draw(body, look, height, self._rng, light=self.ground.light)


def put(figure: Figure, x: float, foot: float, depth: float, size: int) -> Item:
    """Place a figure with its pelvis in column ``x`` and its lowest point in row ``foot``."""
    column, row = round(x), round(foot) - figure.origin[1] - figure.parts.shape[0]
    mask = (figure.parts > 0).view(np.uint8)
    sprite = Sprite(figure.colors, mask, column + figure.origin[0], row + figure.origin[1])
    return Item.place(sprite, depth, size, figure, column, row)


@dataclass(frozen=True)
class _Entanglement:
    """Two poses, and where the two look, radians as in ``Body.facing``: None for anywhere.

    The second stands up to ``aside`` heights to a side of the first and up to ``above`` heights higher or lower.
    """

    first: PoseKind
    second: PoseKind
    facing: tuple[float | None, float | None]
    aside: float = 0.3
    above: float = 0.06


_SIDEWAYS = math.pi / 2
_ENTANGLEMENTS = (
    _Entanglement(PoseKind.EMBRACING, PoseKind.EMBRACING, (_SIDEWAYS, -_SIDEWAYS), aside=0.25),
    _Entanglement(PoseKind.EMBRACING, PoseKind.EMBRACING, (0.8, -0.8), aside=0.25),
    _Entanglement(PoseKind.STANDING, PoseKind.STANDING, (0.0, 0.0)),
    _Entanglement(PoseKind.STANDING, PoseKind.EMBRACING, (0.0, 0.0)),
    _Entanglement(PoseKind.WALKING, PoseKind.WALKING, (_SIDEWAYS, _SIDEWAYS)),
    _Entanglement(PoseKind.WALKING, PoseKind.REACHING, (None, None)),
    _Entanglement(PoseKind.SITTING, PoseKind.SITTING, (None, None)),
    _Entanglement(PoseKind.SITTING, PoseKind.EMBRACING, (None, None), above=0.15),
    _Entanglement(PoseKind.CROUCHING, PoseKind.STANDING, (None, None), above=0.1),
    _Entanglement(PoseKind.ARMS_UP, PoseKind.REACHING, (None, None)),
    _Entanglement(PoseKind.BENDING, PoseKind.BENDING, (None, None)),
    _Entanglement(PoseKind.LYING, PoseKind.LYING, (None, None), aside=0.4, above=0.2),
    _Entanglement(PoseKind.STANDING, PoseKind.STANDING, (None, None), above=0.25),
)


def _entangle(rng: np.random.Generator, cast: _Cast, crowd: _Crowd) -> bool:
    """Put two people in each other's way; tell whether a place was found in which both can be made out."""
    size = crowd.settings.size
    for _ in range(_BEGINNINGS):
        way = _ENTANGLEMENTS[rng.integers(len(_ENTANGLEMENTS))]
        facing = [None if angle is None else angle + rng.normal(0, 0.3) for angle in way.facing]
        look = cast.look()
        height = cast.height(0.2, max(cast.ground.height, 100))
        x, foot = rng.uniform(0.2, 0.8) * size, cast.ground.foot(height)
        # Of two who are mostly outside the picture not enough could be seen.
        foot = min(foot, size + 0.5 * height)
        first = put(cast.draw(sample_body(rng, way.first, facing[0]), look, height), x, foot, foot, size)
        for _ in range(_FIGURES):
            tall = cast.height(0.15, height)
            dressed = cast.look(look if rng.random() < crowd.settings.teams else None)
            figure = cast.draw(sample_body(rng, way.second, facing[1]), dressed, tall)
            for _ in range(_PLACES):
                aside, above = rng.uniform(-1, 1) * way.aside * height, rng.uniform(-1, 1) * way.above * height
                depth = foot + rng.choice([-0.01, 0.01])
                second = put(figure, x + aside, foot - above, depth, size)
                trial = _Crowd(crowd.settings)
                if second.area and trial.add(first) and trial.add(second, entangled=True):
                    crowd.add(first)
                    return crowd.add(second, entangled=True)
    return False


def _join(rng: np.random.Generator, cast: _Cast, crowd: _Crowd, middle: float) -> bool:
    """Put one more person somewhere; tell whether a place was found."""
    settings = crowd.settings
    size = settings.size
    for _ in range(_FIGURES):
        height = cast.height(0.45)
        foot = cast.ground.foot(height) + rng.normal(0, 0.02) * height
        body = sample_body(rng)
        figure = cast.draw(body, cast.look(), height * rng.uniform(0.92, 1.08))
        first, last = -figure.origin[0], size - figure.origin[0] - figure.parts.shape[1]
        for _ in range(_PLACES // 3):
            x = rng.normal(middle, max(0.5 * height, 0.15 * size)) if rng.random() < 0.7 else rng.uniform(0, size)
            if rng.random() < settings.truncation:
                x = rng.choice([first, last]) + rng.normal(0, 0.12) * height
            elif first <= last:
                x = min(max(x, first), last)
            person = put(figure, x, foot, foot, size)
            if person.area >= MIN_PIXELS and crowd.add(person):
                if body.kind is PoseKind.SITTING:
                    _seat(rng, crowd, person)
                return True
    return False


def _seat(rng: np.random.Generator, crowd: _Crowd, person: Item) -> None:
    """Put something under somebody who sits; without it where it would hide too much of others."""
    x, y = person.pelvis
    foot = person.sprite.top + person.sprite.mask.shape[0]
    scale = max(foot - y, 8)
    seat = draw_seat(rng, x, foot, rng.uniform(1.0, 2.0) * scale, rng.uniform(0.7, 0.85) * scale)
    crowd.add(Item.place(seat, person.depth - 0.02, crowd.settings.size))


def _furnish(rng: np.random.Generator, ground: Ground, crowd: _Crowd) -> None:
    """Put one thing before, between or behind the people; it is left out where it hides too much of somebody."""
    for _ in range(3):
        height = ground.height * math.exp(rng.uniform(-0.7, 0.3))
        x, foot = rng.uniform(0, ground.size), ground.foot(height)
        thing = draw_object(rng, x, foot, height)
        if crowd.add(Item.place(thing, foot, ground.size)):
            return


def paint(items: Sequence[Item], canvas: Pixels, shade: float) -> tuple[_Mask, _Mask]:
    """Lay everything on a background, which changes, from far to near.

    shade: brightness of the ground under what stands on it, in [0, 1].

    Returns the number of the item that each pixel shows, by nearness from 1 for the farthest, and the parts of people.
    """
    size = len(canvas)
    owner, parts = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    for number, item in enumerate(farthest_first(items), 1):
        _cast_shadow(canvas, item, shade)
        there, source = _windows(item.sprite, size)
        mask = item.sprite.mask[source]
        if not mask.size:
            continue
        cv2.copyTo(item.sprite.colors[source], mask, canvas[there])
        owner[there][mask > 0] = number
        parts[there][mask > 0] = 0 if item.figure is None else item.figure.parts[source][mask > 0]
    return owner, parts


def farthest_first(items: Sequence[Item]) -> list[Item]:
    """Return items by depth; of two at one depth the later is behind the earlier, as in ``_Crowd.add``."""
    return sorted(items, key=lambda item: -item.depth)[::-1]


def _cast_shadow(canvas: Pixels, item: Item, shade: float) -> None:
    """Darken the ground around what stands on it."""
    height, width = item.sprite.mask.shape
    first, _, last, _ = box_around(item.sprite.mask[-max(1, max(height, width) // 10) :])
    radius_x = max(2, (last - first) * 2 // 3)
    radius_y = max(1, radius_x // 3)
    x, y = item.sprite.left + (first + last) // 2, item.sprite.top + height - radius_y // 2
    top, left = max(0, y - radius_y), max(0, x - radius_x)
    window = canvas[top : max(0, y + radius_y), left : max(0, x + radius_x)]
    if not window.size:
        return
    rows = ((np.arange(top, top + window.shape[0], dtype=np.float32) - y) / radius_y)[:, None]
    columns = ((np.arange(left, left + window.shape[1], dtype=np.float32) - x) / radius_x)[None]
    light = 1 - (1 - shade) * np.clip(1.4 * (1 - rows**2 - columns**2), 0, 1)
    window[...] = (window * light[..., None]).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Exposure:
    """What a camera does to a picture: soft edges, blur, exposure, colour cast, noise.

    blur: in pixels, 0 for none. table: uint8 (1, 256, 3), what becomes of each brightness. grey: whether colours are
    lost. strength: of the noise, in steps of brightness.
    """

    blur: float
    table: Pixels
    grey: bool
    strength: float

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Exposure:
        """Sample what one camera does."""
        blur = rng.uniform(0.4, 1.0) if rng.random() < 0.4 else 0.0
        level = np.arange(256) / 255
        gamma, contrast = math.exp(rng.uniform(-0.3, 0.3)), rng.uniform(0.8, 1.15)
        cast = rng.uniform(0.9, 1.1, 3)
        curve = ((level**gamma - 0.5) * contrast + 0.5 + rng.uniform(-0.06, 0.06))[:, None] * cast
        table = np.clip(curve * 255, 0, 255).astype(np.uint8)
        return cls(blur, table[None], bool(rng.random() < 0.03), rng.uniform(0, 9))

    def develop(self, canvas: Pixels, owner: _Mask, rng: np.random.Generator) -> Pixels:
        """Return the picture of a canvas, whose edges between owners are soft; ``rng`` is the source of the noise."""
        edges = cv2.morphologyEx(owner, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        cv2.copyTo(cv2.GaussianBlur(canvas, (3, 3), 0.7), edges, canvas)
        if self.blur:
            canvas = cv2.GaussianBlur(canvas, (0, 0), self.blur)
        developed = cv2.LUT(canvas, self.table)
        if self.grey:
            developed = cv2.cvtColor(cv2.cvtColor(developed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        # The sum of two uniform numbers is close enough to what a sensor adds, and quick to draw.
        grain = np.frombuffer(rng.bytes(developed.size), np.uint8).reshape(developed.shape)
        steps = np.rint(128 + (np.arange(256) - 127.5) * (self.strength / 128)).astype(np.uint8)
        return np.asarray(cv2.addWeighted(developed, 1.0, cv2.LUT(grain, steps), 1.0, -128.0))


def ground_truth(people: Sequence[Item], visible: Sequence[_Mask], image: Pixels, owner: _Mask, parts: _Mask) -> Scene:
    """Return a picture with all that is true of it.

    Args:
        people: everybody in it, with figures.
        visible: what is seen of each.
        image: the picture.
        owner: the number of the item that each pixel shows, as ``paint`` gives it.
        parts: of people, likewise.
    """
    size = len(image)
    nearness = np.array([person.depth for person in people])
    boxes = np.array([box_around(mask) for mask in visible], np.float32).reshape(-1, 4)
    points = [labelled_keypoints(person, mask) for person, mask in zip(people, visible, strict=True)]
    keypoints = np.array(points, np.float32).reshape(-1, 17, 3)
    occluded = np.array([person.figure.hidden for person in people if person.figure], bool).reshape(-1, 17)
    return Scene(
        image=image,
        visible=_stack(visible, size),
        amodal=_stack([person.inside for person in people], size),
        boxes=boxes,
        keypoints=keypoints,
        self_occluded=occluded & (keypoints[..., 2] > 0),
        parts=parts,
        things=np.where(parts > 0, 0, owner).astype(np.uint8),
        order=np.argsort(np.argsort(nearness, kind="stable"), kind="stable").astype(np.int64),
        max_iou=float(box_iou(boxes).max(initial=0)),
    )


def _stack(masks: Sequence[_Mask], size: int) -> Bits:
    return np.array(masks, np.uint8).reshape(-1, size, size).view(np.bool_)


def labelled_keypoints(person: Item, visible: _Mask) -> Coordinates:
    """Return x, y, v of one person; a point beside the figure goes by the pixels around it."""
    assert person.figure is not None
    size = len(visible)
    points = person.figure.keypoints + np.array(person.pelvis, np.float32)
    inside: Bits = np.all((points >= 0) & (points < size), axis=1)
    columns, rows = np.where(inside[:, None], points, 0).astype(int).T
    near = cv2.dilate(visible, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _NEAR + 1, 2 * _NEAR + 1)))
    seen = np.where(person.inside[rows, columns] > 0, visible[rows, columns], near[rows, columns]) > 0
    distance = cv2.distanceTransform(1 - visible, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[rows, columns]
    flags = np.where(seen, 2, np.where(distance <= DEEP * person.figure.height, 1, 0)) * inside
    return np.concatenate([np.where(flags[:, None] > 0, points, 0), flags[:, None]], axis=1).astype(np.float32)
