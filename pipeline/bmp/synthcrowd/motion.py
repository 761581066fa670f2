"""How drawn people move: where they walk, and the angles of their limbs in each frame; knows no picture and no camera.

Everything is decided when an actor is made. What it does in a frame is a function of the frame's number alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bmp.synthcrowd.looks import Look
from bmp.synthcrowd.poses import Angles, Array, Limb, Pose, PoseKind, Trunk

STRIDE = 0.85
"""Body heights that two steps go."""
_DEPTH = 2.5  # how much farther a row of the picture is on the ground than a column
_STRIDING = 0.02  # body heights a frame from which on somebody walks with whole steps
_EASE = 5  # frames over which changes of direction and speed are spread
# Degrees of somebody who walks: thighs and arms to either side, knees from straight to bent, and elbows.
_THIGH, _KNEE, _KNEE_LATE, _ARM, _ELBOW = 25.0, 46.0, 2.3, 20.0, (15.0, 35.0)
_LEGS_SHARE = 0.15  # how much of a change of pose the legs take part in: feet stand


@dataclass(frozen=True, eq=False)
class Actor:
    """A person through all frames of a shot.

    Attributes:
        identity: the track id.
        look: the appearance.
        seed: of the prints and the grain of the clothes.
        stature: size beside others who stand as near, about 1.
        resting: two poses, between which the actor moves back and forth while not walking.
        period: frames of moving back and forth.
        feet: float64 (T, 2), where on the ground the actor is, x and y in pixels of the world.
        facing: float64 (T,), radians as in ``Body.facing``.
        phase: float64 (T,), radians of the gait; a circle is two steps.
        walking: float64 (T,), how much of the pose is gait: 0 standing, 1 walking.
    """

    identity: int
    look: Look
    seed: int
    stature: float
    resting: tuple[Pose, Pose]
    period: float
    feet: Array
    facing: Array
    phase: Array
    walking: Array

    def pose(self, frame: int) -> Pose:
        """Return all angles in a frame, counted from the beginning of the shot."""
        first, second = self.resting
        swing = (1 - math.cos(2 * math.pi * frame / self.period + self.seed % 7)) / 2
        pose = mixed(first, second, swing)
        pose = mixed(pose, gait(pose, float(self.phase[frame])), float(self.walking[frame]), legs=1.0)
        return replace(pose, view=replace(pose.view, facing=float(self.facing[frame])))


def walk(knots: Sequence[tuple[float, float, float]], length: int) -> Array:
    """Return the way along knots (frame, x, y), straight between them and eased at them, float64 (length, 2).

    Before the first and behind the last knot the way goes on as it does there.
    """
    times, points = np.array([knot[0] for knot in knots]), np.array([knot[1:] for knot in knots])
    frames = np.arange(-_EASE, length + _EASE, dtype=np.float64)
    ways = np.stack([np.interp(frames, times, points[:, axis]) for axis in (0, 1)], axis=1)
    if len(knots) > 1:
        speeds = np.diff(points, axis=0) / np.diff(times)[:, None]
        ways += np.minimum(frames - times[0], 0)[:, None] * speeds[0]
        ways += np.maximum(frames - times[-1], 0)[:, None] * speeds[-1]
    return _smoothed(ways)


def gait_along(feet: Array, heights: Array, start: float, still: float) -> tuple[Array, Array, Array]:
    """Return facing, phase and how much of it is walking, float64 (T,) each, of somebody who goes that way.

    Args:
        feet: float64 (T, 2), the way.
        heights: float64 (T,), of the person along the way, in pixels.
        start: phase in the first frame.
        still: where somebody looks who does not move, radians.
    """
    steps = np.gradient(feet, axis=0) / heights[:, None] * (1, _DEPTH)
    speeds = np.hypot(*steps.T)
    walking = np.clip(speeds / _STRIDING, 0, 1)
    phase = start + np.concatenate(([0.0], np.cumsum(speeds[1:]))) * (2 * math.pi / STRIDE)
    moves = speeds > 0.2 * _STRIDING
    if not moves.any():
        return np.full(len(feet), still), phase, walking
    # Whoever stops keeps looking where the way went.
    nearest = np.flatnonzero(moves)[np.abs(np.arange(len(feet))[:, None] - np.flatnonzero(moves)).argmin(axis=1)]
    facing = np.unwrap(np.arctan2(steps[nearest, 0], steps[nearest, 1]))
    padded = np.pad(facing, _EASE, mode="edge")
    return _smoothed(padded[:, None])[:, 0], phase, walking


def gait(pose: Pose, phase: float) -> Pose:
    """Return the pose of somebody who walks: trunk, view and build of ``pose``, arms against legs."""
    legs, arms = [], []
    for side in (0, 1):
        angle = phase + math.pi * side
        lift = math.radians(_THIGH) * math.sin(angle)
        knee = math.radians(4 + _KNEE * (1 - math.cos(angle - _KNEE_LATE)) / 2)
        legs.append(Limb((lift + 0.05, 0.0, 0.0), knee, (0.25 * lift, 0.0)))
        swing = -math.radians(_ARM) * math.sin(angle)
        elbow = math.radians(np.interp(swing, math.radians(_ARM) * np.array((-1, 1)), _ELBOW))
        arms.append(Limb((swing, 0.1, 0.1), float(elbow), (0.0, 0.0)))
    trunk = replace(pose.trunk, twist=math.radians(6) * math.sin(phase))
    return replace(pose, kind=PoseKind.WALKING, trunk=trunk, legs=(legs[0], legs[1]), arms=(arms[0], arms[1]))


def mixed(first: Pose, second: Pose, share: float, legs: float = _LEGS_SHARE) -> Pose:
    """Return a pose between two, with view, build and kind of the first; legs move by a part of the ``share``."""
    trunk = Trunk(
        _between(first.trunk.tilt, second.trunk.tilt, share),
        _pair(first.trunk.bends, second.trunk.bends, share),
        _pair(first.trunk.sides, second.trunk.sides, share),
        _between(first.trunk.twist, second.trunk.twist, share),
        _triple(first.trunk.head, second.trunk.head, share),
    )
    arms = [_mixed_limb(a, b, share) for a, b in zip(first.arms, second.arms, strict=True)]
    shanks = [_mixed_limb(a, b, share * legs) for a, b in zip(first.legs, second.legs, strict=True)]
    return replace(first, trunk=trunk, arms=(arms[0], arms[1]), legs=(shanks[0], shanks[1]))


def _mixed_limb(first: Limb, second: Limb, share: float) -> Limb:
    lift, end = _triple(first.lift, second.lift, share), _pair(first.end, second.end, share)
    return Limb(lift, _between(first.hinge, second.hinge, share), end)


def _between(first: float, second: float, share: float) -> float:
    return first + (second - first) * share


def _pair(first: tuple[float, float], second: tuple[float, float], share: float) -> tuple[float, float]:
    return _between(first[0], second[0], share), _between(first[1], second[1], share)


def _triple(first: Angles, second: Angles, share: float) -> Angles:
    return *_pair(first[:2], second[:2], share), _between(first[2], second[2], share)


def _smoothed(values: Array) -> Array:
    """Return the moving average of rows (T + 2 x ``_EASE``, N) over ``2 x _EASE + 1`` frames, (T, N)."""
    kernel = np.full(2 * _EASE + 1, 1 / (2 * _EASE + 1))
    return np.stack([np.convolve(column, kernel, mode="valid") for column in values.T], axis=1)
