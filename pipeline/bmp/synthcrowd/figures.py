"""Draws one person with exact mask, part map and keypoints; knows no scene, no other people and no file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from bmp.label_sets import CIHP_PARTS
from bmp.synthcrowd.body_canvas import Bytes, Canvas, Group, Tube, grain, hull, limb
from bmp.synthcrowd.body_head import FacePoints, Head, neck_of
from bmp.synthcrowd.looks import Cloth, Look, Lower, Upper, sample_look, similar_look
from bmp.synthcrowd.poses import Array, Body, Joint, PoseKind, sample_body

__all__ = ["Body", "Figure", "Look", "PoseKind", "draw", "sample_body", "sample_look", "similar_look"]

_GLOVES, _UPPER, _DRESS, _COAT, _SOCKS, _PANTS, _TORSO_SKIN, _SCARF, _SKIRT = 3, 5, 6, 7, 8, 9, 10, 11, 12
_ARM, _LEG, _SHOE = 14, 16, 18
_CLOTHES = np.isin(np.arange(len(CIHP_PARTS)), (1, 3, 5, 6, 7, 8, 9, 11, 12))
_MARGIN = 0.2
_ANGLES = np.linspace(0, 2 * math.pi, 14, endpoint=False)
_COS, _SIN = np.cos(_ANGLES), np.sin(_ANGLES)
# Canvas pixels in a body height from which fingers can be told apart.
_FINE = 260
# Creases by position along a tube and place across it, from one end to the other.
_FINGERS = np.array([[0.6, x, 1.0, x] for x in (-0.5, 0.0, 0.5)])
_FOLDS = np.array([[0.35, 0.9 * x, 1.0, x] for x in (-0.55, -0.1, 0.4, 0.7)])
_WRINKLES = np.array(
    [[0.25, -0.9, 0.1, -0.4], [0.3, 0.85, 0.16, 0.38], [0.66, 0.55, 0.72, 0.25], [0.66, -0.55, 0.72, -0.25]]
)
# Smooth stations between the rings of a trunk: hips, waist, ribs, shoulders, collar.
_RINGS = 5
# Where a skirt, dress or coat is printed on; limbs and trunk have the numbers of their joints.
_DRAPE = len(Joint)
_GRAIN = _DRAPE + 1
_REPEAT = 512  # pixels after which the grain repeats


def _smoothing(steps: int) -> Array:
    """Return the matrix (steps, rings) that puts Catmull-Rom stations between rings."""
    weights = np.zeros((steps, _RINGS))
    for row, position in enumerate(np.linspace(0, _RINGS - 1, steps)):
        base = min(int(position), _RINGS - 2)
        t = position - base
        cubic = (-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3)
        for offset, weight in enumerate(cubic):
            weights[row, min(max(base - 1 + offset, 0), _RINGS - 1)] += weight / 2
    return weights


_SMOOTH = _smoothing(9)


@dataclass(frozen=True, eq=False)
class Figure:
    """One drawn person; where ``parts`` is 0, ``colors`` has no meaning.

    Attributes:
        colors: uint8 (height, width, 3), RGB.
        parts: uint8 (height, width), numbers of ``CIHP_PARTS``; the mask of the whole person is ``parts > 0``.
        origin: whole pixels (x, y) from the pelvis, or the pixel it lies in, to the top left corner of the arrays.
        keypoints: float32 (17, 2), COCO's order, pixels from there with edges at whole numbers.
        hidden: bool (17,), whether the person's own body, hair or clothes hide the keypoint.
        height: of the person when standing straight, in pixels.
    """

    colors: Bytes
    parts: Bytes
    origin: tuple[int, int]
    keypoints: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.bool_]
    height: float


@dataclass(frozen=True)
class Anchor:
    """What ties prints and grain to somebody who is drawn in every frame of a video, so that they move along.

    Attributes:
        seed: of prints and grain, the same in every frame.
        height: of the person in pixels, standing, for which the grain is as fine as in a still picture.
        pelvis: x and y in [0, 1), where in its pixel the pelvis lies.
    """

    seed: int
    height: float
    pelvis: tuple[float, float] = (0.0, 0.0)


class _Piece(NamedTuple):
    depth: float
    draw: Callable[[], None]


def draw(
    body: Body,
    look: Look,
    height_pixels: float,
    rng: np.random.Generator,
    light: float = 2.2,
    anchor: Anchor | None = None,
) -> Figure:
    """Draw one person.

    Args:
        body: the pose.
        look: the appearance.
        height_pixels: height of the person when standing straight, above 0.
        rng: source of all randomness: patterns and texture; nothing is drawn from it with an ``anchor``.
        light: direction of the light in radians: 0 from the right of the picture, pi / 2 from above.
        anchor: for a frame of a video; without it grain lies in the picture, and prints go by the limbs as seen.
    """
    # Small people are drawn larger and reduced, so that their features are mixed and not lost.
    factor = 4 if height_pixels <= 50 else 2 if height_pixels <= 420 else 1
    return _Drawing(body, look, height_pixels, factor, rng, light, anchor).finish()


class _Drawing:
    """The state of one call of ``draw``."""

    def __init__(
        self,
        body: Body,
        look: Look,
        height: float,
        factor: int,
        rng: np.random.Generator,
        light: float,
        anchor: Anchor | None,
    ) -> None:
        self._body, self._look, self._rng, self._factor, self._anchor = body, look, rng, factor, anchor
        self._scale = scale = height * factor
        self._pelvis = np.array(anchor.pelvis if anchor else (0.0, 0.0)) * factor
        flat = body.joints[:, :2] * scale + self._pelvis
        margin = _MARGIN * scale + 3 * factor
        low = np.floor((flat.min(axis=0) - margin) / factor) * factor
        size = np.ceil((flat.max(axis=0) + margin - low) / factor).astype(int) * factor
        self._low = low
        self._points = flat - low - 0.5
        self._depths = body.joints[:, 2]
        self._canvas = Canvas(int(size[0]), int(size[1]), light, scale)
        self._head = Head(self._canvas, body, look, self._points[Joint.HEAD], scale)
        self._face: FacePoints | None = None
        upper_label = {Upper.SHIRT: _UPPER, Upper.COAT: _COAT, Upper.DRESS: _DRESS}[look.upper]
        lower_label = _SKIRT if look.lower is Lower.SKIRT else _PANTS
        self._upper = self._inks(look.upper_cloth, upper_label)
        self._lower = self._inks(look.lower_cloth, lower_label)
        self._bare_legs = look.upper is Upper.DRESS or look.lower is Lower.SKIRT

    def finish(self) -> Figure:
        """Draw everything from back to front and return it."""
        for piece in sorted(self._pieces(), key=lambda piece: -piece.depth):
            piece.draw()
        keypoints, hidden = self._keypoints()
        return self._develop(keypoints, hidden)

    def _inks(self, cloth: Cloth, label: int) -> Callable[[Group], tuple[int, int]]:
        """Return a function that gives the inks of a cloth and its pattern for a limb."""
        made: dict[Group, tuple[int, int]] = {}

        def inks(group: Group) -> tuple[int, int]:
            if group not in made:
                made[group] = (
                    self._canvas.ink(cloth.color, label, group),
                    self._canvas.ink(cloth.second, label, group),
                )
            return made[group]

        return inks

    def _pieces(self) -> list[_Piece]:
        depths, back = self._depths, self._body.head[2, 2]
        pieces = []
        legs = []
        for side in (0, 1):
            shoulder, elbow, wrist, hand = depths[[Joint.LEFT_SHOULDER + side + 2 * step for step in range(4)]]
            # Arms lie on the trunk rather than in it.
            pieces.append(_Piece((shoulder + elbow) / 2 - 0.03, partial(self._draw_upper_arm, side)))
            pieces.append(_Piece((elbow + wrist) / 2 - 0.032, partial(self._draw_forearm, side)))
            pieces.append(_Piece((wrist + hand) / 2 - 0.033, partial(self._draw_hand, side)))
            hip, knee, ankle, heel, toe = depths[[Joint.LEFT_HIP + side + 2 * step for step in range(5)]]
            thigh = (hip + knee) / 2 + 0.07
            legs += [thigh, (knee + ankle) / 2 + 0.066]
            pieces.append(_Piece(thigh, partial(self._draw_thigh, side)))
            pieces.append(_Piece((knee + ankle) / 2 + 0.066, partial(self._draw_shank, side)))
            pieces.append(_Piece((heel + toe) / 2 + 0.068, partial(self._draw_shoe, side)))
        trunk = float((depths[Joint.WAIST] + depths[Joint.NECK]) / 2)
        # Shirt, coat and dress hang over the seat of what is worn below, from all sides.
        pieces.append(_Piece(trunk + 0.05, self._draw_pelvis))
        if self._drape_reach() > 0:
            near = min(legs) if self._drape_reach() > 1 else min(legs[0], legs[2])
            pieces.append(_Piece(min(near, trunk + 0.04) - 0.005, self._draw_drape))
        pieces.append(_Piece(trunk, self._draw_trunk))
        head = float(depths[Joint.HEAD])
        pieces.append(_Piece(head + 0.09 * back, lambda: self._head.behind(self._points[Joint.NECK])))
        pieces.append(_Piece(head - 0.05, self._draw_face))
        return pieces

    def _draw_face(self) -> None:
        self._face = self._head.front()

    def _level(self, depth: float) -> float:
        """Return how bright a limb is: those on the far side get less light."""
        return 1 - 0.2 * min(max((depth - 0.02) / 0.16, 0), 1)

    def _limb(
        self, start: Joint, end: Joint, reach: float, radii: tuple[float, ...], caps: tuple[float, float] = (1.0, 1.0)
    ) -> Tube:
        """Return the tube along a bone up to a share of its length; radii in body heights."""
        first, last = self._points[start], self._points[end]
        wide = np.array(radii) * self._scale * self._look.width
        return limb(first, first + (last - first) * reach, wide, caps)

    def _cast(self, tube: Tube) -> None:
        """Let what is drawn next darken what it lies on, but not where it is joined to it."""
        inner = slice(tube.ends[0] + 2, tube.ends[1] + 1)
        free = Tube(tube.centers[inner], tube.spread[inner], (0, 1))
        self._canvas.shadow(free.outline(), 0.022 * self._scale, 0.34)

    def _clothe(
        self, tube: Tube, inks: tuple[int, int], cloth: Cloth, level: float, bone: tuple[Joint, Joint], reach: float
    ) -> None:
        """Dress a limb up to a share of its bone's length."""
        start, end = bone
        self._canvas.tube(tube, inks[0], level)
        self._print(tube, cloth, inks[1], start, reach * _axis(self._body.joints[[start, end]]))

    def _print(self, tube: Tube, cloth: Cloth, ink: int, place: int, length: float) -> None:
        """Print on a tube; ``place`` tells it from the others, ``length`` in body heights is that of the cloth."""
        if self._anchor is None:
            self._canvas.print_cloth(tube, cloth, ink, cloth.pitch * self._scale, self._rng)
            return
        rng = np.random.default_rng([self._anchor.seed, place])
        self._canvas.print_cloth(tube, cloth, ink, cloth.pitch * self._scale, rng, length * self._scale)

    def _draw_upper_arm(self, side: int) -> None:
        look, canvas = self._look, self._canvas
        group = Group.LEFT_ARM if side == 0 else Group.RIGHT_ARM
        start, end = Joint(Joint.LEFT_SHOULDER + side), Joint(Joint.LEFT_ELBOW + side)
        level = self._level((self._depths[start] + self._depths[end]) / 2)
        bulge = 0.004 * look.muscle
        arm = self._limb(start, end, 1.0, (0.03, 0.029 + bulge, 0.027 + bulge, 0.024, 0.022))
        self._cast(arm)
        if look.sleeve < 1:
            canvas.tube(arm, canvas.ink(look.skin, _ARM + side, group), level)
        if look.sleeve > 0:
            reach = min(look.sleeve, 1.0)
            loose = 0.005 if look.upper is Upper.COAT else 0.003
            radii = (0.03 + loose, 0.031 + bulge + loose, 0.03 + bulge + loose, 0.027 + loose, 0.026 + loose)
            sleeve = self._limb(start, end, reach, radii, (1.0, 0.2 if reach < 1 else 1.0))
            self._clothe(sleeve, self._upper(group), look.upper_cloth, level, (start, end), reach)
            if reach < 1:
                self._hem(sleeve, 0.6)

    def _draw_forearm(self, side: int) -> None:
        look, canvas = self._look, self._canvas
        group = Group.LEFT_ARM if side == 0 else Group.RIGHT_ARM
        start, end = Joint(Joint.LEFT_ELBOW + side), Joint(Joint.LEFT_WRIST + side)
        level = self._level((self._depths[start] + self._depths[end]) / 2)
        arm = self._limb(start, end, 1.0, (0.022, 0.024 + 0.004 * look.muscle, 0.022, 0.018, 0.015))
        self._cast(arm)
        if look.sleeve < 1.95:
            canvas.tube(arm, canvas.ink(look.skin, _ARM + side, group), level)
        if look.sleeve > 1:
            loose = 0.005 if look.upper is Upper.COAT else 0.002
            radii = (0.026 + loose, 0.026 + loose, 0.024 + loose, 0.021 + loose, 0.02 + loose)
            sleeve = self._limb(start, end, look.sleeve - 1, radii, (1.0, 0.2))
            self._clothe(sleeve, self._upper(group), look.upper_cloth, level, (start, end), look.sleeve - 1)
            self._hem(sleeve, 0.6)

    def _hem(self, tube: Tube, level: float) -> None:
        """Draw the dark edge of a cloth at the end of a tube."""
        self._canvas.crease(tube.outline()[[tube.ends[1], len(tube.centers) * 2 - 1 - tube.ends[1]]], level)

    def _draw_hand(self, side: int) -> None:
        look, canvas = self._look, self._canvas
        group = Group.LEFT_ARM if side == 0 else Group.RIGHT_ARM
        color, label = (look.skin, _ARM + side) if look.gloves is None else (look.gloves, _GLOVES)
        ink = canvas.ink(color, label, group)
        start, end = Joint(Joint.LEFT_WRIST + side), Joint(Joint.LEFT_HAND + side)
        wrist, tip = self._points[start], self._points[end]
        level = self._level((self._depths[start] + self._depths[end]) / 2)
        palm = self._limb(start, end, 0.92, (0.014, 0.02, 0.022, 0.02, 0.013), (0.6, 0.8))
        # The thumb lies to the side where the trunk is, as when arms hang with the palms inwards.
        inwards = self._points[Joint.WAIST] - wrist
        normal = palm.spread[4] / max(float(np.linalg.norm(palm.spread[4])), 1e-6)
        normal = normal if normal @ inwards > 0 else -normal
        thumb = limb(
            wrist + 0.2 * (tip - wrist),
            wrist + 0.55 * (tip - wrist) + normal * 0.026 * self._scale,
            np.array([0.011, 0.01, 0.008]) * self._scale,
        )
        canvas.fill(thumb.outline(), ink, 0.92 * level)
        canvas.tube(palm, ink, level)
        if self._scale > _FINE:
            canvas.crease(palm.lines(_FINGERS), 0.72 * level)

    def _draw_thigh(self, side: int) -> None:
        look, canvas = self._look, self._canvas
        group = Group.LEFT_LEG if side == 0 else Group.RIGHT_LEG
        start, end = Joint(Joint.LEFT_HIP + side), Joint(Joint.LEFT_KNEE + side)
        level = self._level((self._depths[start] + self._depths[end]) / 2)
        bulge = 0.003 * look.muscle
        radii = (0.043, 0.049 + bulge, 0.046 + bulge, 0.04, 0.035)
        thigh = self._limb(start, end, 1.0, radii)
        self._cast(thigh)
        if self._bare_legs or look.lower_length < 1:
            canvas.tube(thigh, canvas.ink(look.skin, _LEG + side, group), level)
        if not self._bare_legs:
            reach = min(look.lower_length, 1.0)
            loose = 0.007 if look.lower is Lower.SHORTS else 0.004
            wide = tuple(radius + loose for radius in radii)
            leg = self._limb(start, end, reach, wide, (1.0, 0.25 if reach < 1 else 1.0))
            self._clothe(leg, self._lower(group), look.lower_cloth, level, (start, end), reach)
            if reach < 1:
                self._hem(leg, 0.55)

    def _draw_shank(self, side: int) -> None:
        look, canvas = self._look, self._canvas
        group = Group.LEFT_LEG if side == 0 else Group.RIGHT_LEG
        start, end = Joint(Joint.LEFT_KNEE + side), Joint(Joint.LEFT_ANKLE + side)
        level = self._level((self._depths[start] + self._depths[end]) / 2)
        shank = self._limb(start, end, 1.0, (0.036, 0.038 + 0.003 * look.muscle, 0.035, 0.026, 0.021))
        self._cast(shank)
        long = not self._bare_legs and look.lower_length > 1
        if not (long and look.lower_length > 1.95):
            canvas.tube(shank, canvas.ink(look.skin, _LEG + side, group), level)
        if look.socks is not None:
            foot = self._points[Joint.LEFT_ANKLE + side]
            knee = self._points[Joint.LEFT_KNEE + side]
            wide = np.array([0.023, 0.028 if look.sock_height < 0.5 else 0.038, 0.038]) * self._scale * look.width
            if look.sock_height < 0.5:
                wide = wide[:2]
            sock = limb(foot, foot + (knee - foot) * look.sock_height, wide, (1.0, 0.2))
            canvas.tube(sock, canvas.ink(look.socks, _SOCKS, group), level)
        if long:
            flare = 0.006 * (1 - look.muscle)
            radii = (0.041, 0.042, 0.04, 0.036 + flare, 0.035 + flare)
            reach = min(look.lower_length - 1, 0.98)
            leg = self._limb(start, end, reach, radii, (1.0, 0.2))
            self._clothe(leg, self._lower(group), look.lower_cloth, level, (start, end), reach)
            self._hem(leg, 0.55)

    def _draw_shoe(self, side: int) -> None:
        look, canvas, scale = self._look, self._canvas, self._scale
        group = Group.LEFT_LEG if side == 0 else Group.RIGHT_LEG
        ankle, heel, toe = (self._points[Joint.LEFT_ANKLE + side + 2 * step] for step in range(3))
        level = self._level((self._depths[Joint.LEFT_HEEL + side] + self._depths[Joint.LEFT_TOE + side]) / 2)
        circle = np.stack((_COS, _SIN), axis=1) * scale
        ball = heel + 0.72 * (toe - heel)
        outline = hull(
            ankle + 0.35 * (heel - ankle) + 0.025 * circle,
            heel + 0.02 * circle,
            ball + 0.026 * circle,
            toe + 0.019 * circle,
        )
        canvas.fill(outline, canvas.ink(look.shoes, _SHOE + side, group), 0.86 * level)
        canvas.model(limb(heel - 0.004 * circle[0], toe, np.array([0.021, 0.021, 0.022, 0.02, 0.014]) * scale), level)
        # The sole is the side of the shoe that is away from the shank.
        below = heel - ankle
        along = toe - heel
        length = math.hypot(along[0], along[1])
        if length > 0.05 * scale:
            normal = np.array([-along[1], along[0]]) / length
            normal = normal if normal @ (heel + toe - 2 * ankle) > 0 else -normal
            drop = normal * 0.018 * scale
            sole = canvas.ink(look.sole, _SHOE + side, group)
            canvas.stroke(np.stack((heel + drop - along * 0.08, toe + drop * 0.85)), sole, 0.011 * scale)
        elif math.hypot(below[0], below[1]) > 0:
            canvas.crease(np.stack((ball - 0.018 * circle[0], ball + 0.018 * circle[0])), 0.6 * level)

    def _rings(self, swell: float, drop: float = 0.03) -> tuple[Array, Array, Array]:
        """Return centres, half widths and half depths of the trunk's rings as vectors (9, 3), in body heights.

        ``drop`` is how far below the pelvis' middle the lowest ring lies.
        """
        joints, pelvis, chest = self._body.joints, self._body.pelvis, self._body.chest
        waist = (pelvis + chest) / 2
        wide = self._look.width
        breadth = float(np.linalg.norm(joints[Joint.LEFT_SHOULDER] - joints[Joint.RIGHT_SHOULDER])) / 2
        neck, middle = joints[Joint.NECK], joints[Joint.WAIST]
        centers = np.stack(
            (
                joints[Joint.PELVIS] + drop * pelvis[:, 1],
                middle,
                middle + (neck - middle) * 0.5 - 0.008 * chest[:, 2],
                neck + 0.018 * chest[:, 1],
                neck - 0.014 * chest[:, 1],
            )
        )
        sizes = np.array(
            [[0.098, 0.068], [0.078, 0.056 + 0.02 * max(0.0, wide - 1)], [0.092, 0.064], [0.0, 0.046], [0.042, 0.034]]
        )
        sizes[:4] *= wide * swell
        if drop < 0:
            sizes[0] *= 0.9
        sizes[3, 0] = breadth * (0.99 + 0.06 * (swell - 1))
        half_width = sizes[:, :1] * np.stack((pelvis[:, 0], waist[:, 0], chest[:, 0], chest[:, 0], chest[:, 0]))
        half_depth = sizes[:, 1:] * np.stack((pelvis[:, 2], waist[:, 2], chest[:, 2], chest[:, 2], chest[:, 2]))
        return _SMOOTH @ centers, _SMOOTH @ half_width, _SMOOTH @ half_depth

    def _flat(self, points: Array) -> Array:
        """Return points of the canvas (..., 2) for points in body heights (..., 3)."""
        flat: Array = points[..., :2] * self._scale + self._pelvis - self._low - 0.5
        return flat

    def _ring_tube(self, centers: Array, half_width: Array, half_depth: Array) -> tuple[Tube, bool]:
        """Return the tube around elliptic rings, and whether it is seen so much from its end that it has gaps."""
        flat = self._flat(centers)
        axis = flat[-1] - flat[0]
        seen = math.hypot(axis[0], axis[1]) / (self._scale * max(float(np.linalg.norm(centers[-1] - centers[0])), 1e-6))
        steps = np.gradient(flat, axis=0) if seen > 0.6 else np.broadcast_to(axis, flat.shape)
        normals = np.stack((-steps[:, 1], steps[:, 0]), axis=1)
        lengths = np.linalg.norm(normals, axis=1)
        normals = normals / np.maximum(lengths, 1e-6)[:, None]
        wide = (normals * half_width[:, :2]).sum(axis=1)
        deep = (normals * half_depth[:, :2]).sum(axis=1)
        spread = normals * (self._scale * np.hypot(wide, deep))[:, None]
        return Tube(flat, spread, (0, len(flat) - 1)), seen < 0.75

    def _draw_rings(self, rings: tuple[Array, Array, Array], ink: int, level: float = 1.0) -> Tube:
        """Draw a tube around rings from any side and return it."""
        centers, half_width, half_depth = rings
        tube, has_gaps = self._ring_tube(*rings)
        outlines = self._flat(
            centers[:, None] + _COS[:, None] * half_width[:, None] + _SIN[:, None] * half_depth[:, None]
        )
        if has_gaps:
            for first, second in pairwise(outlines):
                self._canvas.fill(hull(first, second), ink, 0.95 * level)
        else:
            self._canvas.fill(hull(outlines[0]), ink, 0.95 * level)
        self._canvas.tube(tube, ink, level)
        return tube

    def _draw_pelvis(self) -> None:
        """Draw the seat of what covers the legs."""
        look = self._look
        centers, half_width, half_depth = (rows[:4] for rows in self._rings(1.0))
        below = self._body.pelvis[:, 1]
        centers = np.concatenate(((centers[0] + 0.03 * below)[None], centers))
        rings = (
            centers,
            np.concatenate((half_width[:1] * 0.8, half_width)),
            np.concatenate((half_depth[:1] * 0.8, half_depth)),
        )
        ink, second = self._lower(Group.DRAPE) if look.upper is not Upper.DRESS else self._upper(Group.DRAPE)
        cloth = look.upper_cloth if look.upper is Upper.DRESS else look.lower_cloth
        tube = self._draw_rings(rings, ink)
        self._print(tube, cloth, second, Joint.PELVIS, _axis(centers))

    def _drape_reach(self) -> float:
        """Return how far down what hangs around both legs reaches: 1 knees, 2 ankles, 0 nothing hangs."""
        look = self._look
        if look.upper in (Upper.COAT, Upper.DRESS):
            return look.hem
        return look.lower_length if look.lower is Lower.SKIRT else 0.0

    def _draw_drape(self) -> None:
        look, scale, points = self._look, self._scale, self._points
        reach = self._drape_reach()
        if look.lower is Lower.SKIRT and look.upper is Upper.COAT and look.lower_length > reach:
            self._hang(look.lower_length, self._lower(Group.DRAPE), look.lower_cloth, 1.0)
        if look.upper is Upper.SHIRT:
            self._hang(reach, self._lower(Group.DRAPE), look.lower_cloth, 1.0)
            return
        self._hang(reach, self._upper(Group.DRAPE), look.upper_cloth, 1.08)
        if look.upper is Upper.COAT and look.is_open and self._body.pelvis[2, 2] > 0.3:
            # An open coat shows a gap down the middle.
            hips = points[Joint.PELVIS]
            hem = (points[Joint.LEFT_KNEE] + points[Joint.RIGHT_KNEE]) / 2
            self._canvas.crease(np.stack((hips, hips + (hem - hips) * min(reach, 1.0))), 0.4, 0.012 * scale)

    def _hang(self, reach: float, inks: tuple[int, int], cloth: Cloth, swell: float) -> None:
        """Draw cloth that hangs from the hips around both legs."""
        scale, points, wide = self._scale, self._points, self._look.width * swell
        circle = np.stack((_COS, _SIN), axis=1) * scale
        # A dress or coat is one piece with its trunk and covers the tops of thighs that are nearer than that.
        count = 2 if swell == 1 else 3
        centers, half_width, half_depth = (rows[:count] for rows in self._rings(1.04 * swell))
        top = self._flat(centers[:, None] + _COS[:, None] * half_width[:, None] + _SIN[:, None] * half_depth[:, None])
        top = top.reshape(-1, 2)
        legs = [self._points[[Joint.LEFT_HIP + s, Joint.LEFT_KNEE + s, Joint.LEFT_ANKLE + s]] for s in (0, 1)]
        upper = [leg[0] + (leg[1] - leg[0]) * min(reach, 1.0) for leg in legs]
        radius = (0.052 + 0.012 * min(reach, 1.0)) * wide
        squashed = circle * np.array([1.0, 0.75])
        rows = [*(point + radius * squashed for point in upper)]
        polygons = [hull(top, *rows)]
        ends = upper
        if reach > 1:
            ends = [leg[1] + (leg[2] - leg[1]) * (reach - 1) for leg in legs]
            polygons.append(hull(*rows, *(point + radius * squashed for point in ends)))
        self._canvas.shadow(polygons[0], 0.02 * scale, 0.3)
        for polygon in polygons:
            self._canvas.fill(polygon, inks[0], 0.95)
        middle = (ends[0] + ends[1]) / 2
        start = points[Joint.PELVIS]
        axis = middle - start
        length = math.hypot(axis[0], axis[1])
        if length < 0.04 * scale:
            return
        normal = np.array([-axis[1], axis[0]]) / length
        first = float(np.abs((top - start) @ normal).max())
        last = float(np.abs((np.concatenate(ends).reshape(-1, 2) - middle) @ normal).max()) + radius * scale * 0.9
        tube = limb(start, middle, np.linspace(first, last, 4) * 0.98, (0.0, 0.3))
        self._canvas.model(tube)
        # Shanks are about as long as thighs.
        self._print(tube, cloth, inks[1], _DRAPE, reach * _axis(self._body.joints[[Joint.LEFT_HIP, Joint.LEFT_KNEE]]))
        self._canvas.crease(tube.lines(_FOLDS), 0.78)

    def _draw_trunk(self) -> None:
        look, canvas, scale = self._look, self._canvas, self._scale
        inks = self._upper(Group.TRUNK)
        tucked = look.belt is not None and look.upper is Upper.SHIRT
        rings = self._rings(1.1 if look.upper is Upper.COAT else 1.04, -0.035 if tucked else 0.05)
        tube, _ = self._ring_tube(*rings)
        canvas.shadow(tube.outline(), 0.02 * scale, 0.3)
        self._draw_rings(rings, inks[0])
        self._print(tube, look.upper_cloth, inks[1], Joint.NECK, _axis(rings[0]))
        front = float(self._body.chest[2, 2])
        skin = canvas.ink(look.skin, _TORSO_SKIN, Group.TRUNK)
        if front > 0.15:
            self._draw_front(rings, skin)
        elif front < -0.15:
            self._draw_spine(rings)
        if tucked and look.belt is not None:
            belt = canvas.ink(look.belt, _SKIRT if look.lower is Lower.SKIRT else _PANTS, Group.TRUNK)
            waist = tube.along(np.array([0.0, 0.0, 0.07, 0.07]), np.array([-1.0, 1.0, 1.0, -1.0]))
            canvas.fill(
                hull(waist, self._flat(rings[0][0] + _COS[:, None] * rings[1][0] + _SIN[:, None] * rings[2][0])), belt
            )
        canvas.crease(tube.lines(_WRINKLES), 0.8)
        self._draw_neck(skin)

    def _draw_neck(self, skin: int) -> None:
        look, canvas = self._look, self._canvas
        collar, middle = self._points[Joint.NECK], self._flat(neck_of(self._body))
        neck = limb(collar, middle, np.array([0.034, 0.03, 0.029]) * self._scale * (0.6 + 0.4 * look.width), (0.3, 0.3))
        canvas.tube(neck, skin, 0.9)
        if look.scarf is not None:
            ink = canvas.ink(look.scarf, _SCARF, Group.TRUNK)
            wrap = neck.outline() + 0.12 * (collar - middle)
            across = neck.spread[4] * 1.6
            center = collar + 0.25 * (middle - collar)
            canvas.shadow(wrap, 0.02 * self._scale, 0.3)
            canvas.tube(limb(center - across, center + across, np.array([0.022, 0.028, 0.022]) * self._scale), ink)
            if self._body.chest[2, 2] > 0:
                down = self._flat(self._front_point(0.5, 0.2)) - center
                canvas.tube(limb(center, center + down, np.array([0.02, 0.024, 0.026]) * self._scale, (1.0, 0.1)), ink)

    def _front_point(self, down: float, across: float) -> Array:
        """Return a point (3,) before the chest: 0 the collar, 1 the waist; across in half widths to the left."""
        joints, chest = self._body.joints, self._body.chest
        spine = joints[Joint.NECK] + (joints[Joint.WAIST] - joints[Joint.NECK]) * down
        point: Array = spine - 0.055 * chest[:, 2] * self._look.width + 0.08 * across * chest[:, 0]
        return point

    def _on_front(self, rings: tuple[Array, Array, Array], positions: Array, angles: Array) -> Array:
        """Return points of the canvas (N, 2) on the front: from hips 0 to collar 1, degrees to the left."""
        index = positions * (len(rings[0]) - 1)
        base = np.minimum(index.astype(int), len(rings[0]) - 2)
        part = (index - base)[:, None]
        center, wide, deep = (rows[base] * (1 - part) + rows[base + 1] * part for rows in rings)
        turns = np.radians(angles)[:, None]
        return self._flat(center + np.sin(turns) * wide - np.cos(turns) * deep)

    def _draw_front(self, rings: tuple[Array, Array, Array], skin: int) -> None:
        look, canvas, scale = self._look, self._canvas, self._scale
        depth = 1 - 0.25 - look.neckline * 3
        if look.upper is Upper.COAT and look.is_open:
            inner = canvas.ink(look.inner, _UPPER, Group.TRUNK)
            rows = np.array([0.0, 0.35, 0.7, 0.9, 1.0])
            widths = np.array([16.0, 20.0, 18.0, 22.0, 50.0])
            panel = self._on_front(rings, np.concatenate((rows, rows[::-1])), np.concatenate((-widths, widths[::-1])))
            canvas.fill(panel, inner)
            canvas.crease(panel[: len(rows)], 0.55)
            canvas.crease(panel[len(rows) :], 0.55)
        neckline = self._on_front(
            rings, np.array([1.0, 0.9, depth, depth, 0.9, 1.0]), np.array([-80.0, -35, -10, 10, 35, 80])
        )
        canvas.fill(neckline, skin)
        if look.upper is not Upper.COAT or not look.is_open:
            canvas.crease(neckline, 0.62)
        if look.upper is Upper.COAT or look.neckline < 0.022:
            middle = self._on_front(rings, np.array([depth, 0.5, 0.02]), np.zeros(3))
            if not (look.upper is Upper.COAT and look.is_open):
                canvas.crease(middle, 0.66)
            button = canvas.ink(look.sole, _COAT if look.upper is Upper.COAT else _UPPER, Group.TRUNK)
            for spot in self._on_front(rings, np.array([0.1, 0.25, 0.4, 0.55]), np.full(4, 3.0)):
                canvas.stroke(np.stack((spot, spot)), button, 0.008 * scale)

    def _draw_spine(self, rings: tuple[Array, Array, Array]) -> None:
        """Draw what gives a back away: the groove of the spine and the shoulder blades."""
        self._canvas.crease(self._on_front(rings, np.array([0.3, 0.5, 0.75]), np.full(3, 180.0)), 0.88)
        for side in (1, -1):
            blade = self._on_front(rings, np.array([0.72, 0.6, 0.56]), 180 + side * np.array([48.0, 42.0, 26.0]))
            self._canvas.crease(blade, 0.86)

    def _keypoints(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Return COCO's keypoints on the canvas and which of them the person's own body hides."""
        assert self._face is not None
        joints = [Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST, Joint.LEFT_HIP, Joint.LEFT_KNEE]
        joints += [Joint.LEFT_ANKLE]
        rows = [int(joint) + side for joint in joints for side in (0, 1)]
        points = np.concatenate((self._face.points, self._points[rows]))
        hidden = np.array(self._face.turned_away + [False] * len(rows))
        for index, (x, y) in enumerate(points.tolist()):
            side = (index - 5) % 2
            if index < 5:
                allowed = {Group.HEAD}
            elif index < 11:
                allowed = {Group.LEFT_ARM if side == 0 else Group.RIGHT_ARM}
            else:
                allowed = {Group.LEFT_LEG if side == 0 else Group.RIGHT_LEG}
            if index in (5, 6, 11, 12):
                allowed |= {Group.TRUNK, Group.DRAPE}
                # Seen from more than 45 degrees aside, the far one of a pair lies behind the trunk.
                first, other = self._body.joints[[rows[index - 5], rows[index - 5 + 1 - 2 * side]]]
                hidden[index] |= first[2] - other[2] > 0.7 * float(np.linalg.norm(first - other))
            hidden[index] |= self._canvas.group_at(x, y) not in allowed
        return points, hidden

    def _develop(self, keypoints: Array, hidden: npt.NDArray[np.bool_]) -> Figure:
        """Turn inks and light into colours, and reduce everything to the size that was asked for."""
        factor, canvas = self._factor, self._canvas
        left, top, wide, high = cv2.boundingRect(canvas.owner)
        # Whole pixels of the figure around what is drawn.
        left, top, right, bottom = (
            left // factor,
            top // factor,
            -(-(left + wide) // factor),
            -(-(top + high) // factor),
        )
        crop = slice(top * factor, bottom * factor), slice(left * factor, right * factor)
        owner, light = np.ascontiguousarray(canvas.owner[crop]), canvas.light[crop]
        size = (right - left, bottom - top)
        colors = cv2.applyColorMap(owner, canvas.colors()[:, None])
        parts = canvas.labels()[owner[factor // 2 :: factor, factor // 2 :: factor]]
        # Light falls off smoothly over what was drawn in strips.
        soft = 2 * max(1, round(self._scale / 300)) + 1
        light = cv2.blur(light, (soft, soft))
        if factor > 1:
            alpha = cv2.resize(cv2.compare(owner, 0, cv2.CMP_GT), size, interpolation=cv2.INTER_AREA)
            colors = cv2.resize(colors, size, interpolation=cv2.INTER_AREA)
            # What lies outside the figure is black and must not darken its edge.
            colors = cv2.divide(colors, cv2.merge((alpha, alpha, alpha)), scale=255)
            light = cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        origin = int(self._low[0] // factor) + left, int(self._low[1] // factor) + top
        texture = self._texture(parts, origin)
        light = cv2.multiply(light, texture, scale=1 / 128)
        colors = cv2.multiply(colors, cv2.merge((light, light, light)), scale=1 / 128)
        shift = (self._low + 0.5) / factor
        return Figure(
            colors=colors,
            parts=parts,
            origin=origin,
            keypoints=(keypoints / factor + shift).astype(np.float32),
            hidden=hidden,
            height=self._scale / factor,
        )

    def _texture(self, parts: Bytes, origin: tuple[int, int]) -> Bytes:
        """Return the grain of skin and cloth at the figure's size, around 128."""
        height, width = parts.shape
        if self._anchor is None:
            top, left = self._rng.integers(_REPEAT, size=2).tolist()
            skin, cloth = (_tiled(field, top, left, height, width) for field in grain())
            return np.where(_CLOTHES[parts], cloth, skin)
        # The grain hangs at the pelvis and grows with the figure.
        finer = self._anchor.height * self._factor / self._scale
        base = np.random.default_rng([self._anchor.seed, _GRAIN]).integers(_REPEAT, size=2)
        corner = (np.array(origin) + 0.5 - self._anchor.pelvis) * finer
        left, top = ((base + corner) % _REPEAT).tolist()
        wrapped = np.array([[finer, 0, left], [0, finer, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        skin, cloth = (
            cv2.warpAffine(field, wrapped, (width, height), flags=flags, borderMode=cv2.BORDER_WRAP)
            for field in grain()
        )
        texture: Bytes = np.where(_CLOTHES[parts], cloth, skin)
        return texture


def _axis(points: Array) -> float:
    """Return the distance between the first and last of points (N, 3)."""
    return float(np.linalg.norm(points[-1] - points[0]))


def _tiled(field: Bytes, top: int, left: int, height: int, width: int) -> Bytes:
    if top + height <= len(field) and left + width <= len(field):
        return field[top : top + height, left : left + width]
    rows, columns = np.arange(top, top + height) % len(field), np.arange(left, left + width) % len(field)
    repeated: Bytes = field[np.ix_(rows, columns)]
    return repeated
