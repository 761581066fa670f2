"""Samples the pose of a drawn person: a skeleton in 3D within joint limits; knows no clothes and no pixels.

Axes of the picture and of every body frame: x to the right of the picture (to the left of a person who faces the
viewer), y down, z away from the viewer. Lengths are in body heights: a standing person measures 1 from sole to crown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Range = tuple[float, float]
Angles = tuple[float, float, float]


class PoseKind(str, Enum):
    """The activity of a person."""

    STANDING = "standing"
    WALKING = "walking"
    SITTING = "sitting"
    REACHING = "reaching"
    BENDING = "bending"
    EMBRACING = "embracing"
    LYING = "lying"
    ARMS_UP = "arms_up"
    CROUCHING = "crouching"


class Joint(IntEnum):
    """Rows of ``Body.joints``; the left one of a pair is the person's own left, and the right one follows it."""

    PELVIS = 0
    WAIST = 1
    NECK = 2
    HEAD = 3
    LEFT_SHOULDER = 4
    RIGHT_SHOULDER = 5
    LEFT_ELBOW = 6
    RIGHT_ELBOW = 7
    LEFT_WRIST = 8
    RIGHT_WRIST = 9
    LEFT_HAND = 10
    RIGHT_HAND = 11
    LEFT_HIP = 12
    RIGHT_HIP = 13
    LEFT_KNEE = 14
    RIGHT_KNEE = 15
    LEFT_ANKLE = 16
    RIGHT_ANKLE = 17
    LEFT_HEEL = 18
    RIGHT_HEEL = 19
    LEFT_TOE = 20
    RIGHT_TOE = 21


ELBOW_LIMIT: Range = (0.0, 150.0)
"""Degrees between upper arm and forearm; 0 is a straight arm."""
KNEE_LIMIT: Range = (0.0, 150.0)
"""Degrees between thigh and shank; 0 is a straight leg."""


@dataclass(frozen=True, eq=False)
class Body:
    """A skeleton as the viewer sees it, in body heights with the pelvis at the origin.

    Attributes:
        joints: float64 (22, 3), see ``Joint``.
        pelvis: float64 (3, 3), columns are the pelvis' own left, down and back.
        chest: the same of the rib cage.
        head: the same of the head.
        head_radii: float64 (3,), half of the head's width, height and length.
        kind: the activity it was sampled for.
        facing: direction of the front of an upright pelvis in radians: 0 towards the viewer, pi / 2 to the right of
            the picture, pi away from the viewer.
    """

    joints: Array
    pelvis: Array
    chest: Array
    head: Array
    head_radii: Array
    kind: PoseKind
    facing: float


@dataclass(frozen=True)
class _Arm:
    """Ranges in degrees.

    Elevation is from hanging down, its direction from straight ahead (0) to sideways (90); a turn inwards brings the
    bent forearm before the chest.
    """

    elevation: Range
    direction: Range
    turn: Range
    elbow: Range


@dataclass(frozen=True)
class _Leg:
    """Ranges in degrees; a thigh that is lifted by 90 makes a seat. Directions and turns as for arms."""

    elevation: Range
    direction: Range
    turn: Range
    knee: Range
    ankle: Range = (-10, 10)


@dataclass(frozen=True)
class _Trunk:
    """Ranges in degrees: forward tilt of the pelvis, bend forwards, sideways and twist of the spine."""

    tilt: Range = (-4, 8)
    bend: Range = (-6, 14)
    side: Range = (-9, 9)
    twist: Range = (-14, 14)


_HANGING = _Arm((3, 20), (30, 100), (-10, 30), (4, 38))
_ON_HIP = _Arm((38, 52), (85, 110), (55, 80), (92, 112))
_BEFORE_BELLY = _Arm((8, 35), (0, 35), (25, 60), (60, 110))
_TO_FACE = _Arm((25, 55), (5, 35), (10, 35), (125, 148))
_CROSSED = _Arm((22, 38), (-8, 12), (62, 82), (88, 112))
_AHEAD = _Arm((60, 105), (-5, 40), (-10, 30), (0, 40))
_ASIDE = _Arm((55, 100), (60, 105), (-15, 20), (0, 45))
_AROUND = _Arm((55, 95), (-5, 35), (35, 80), (25, 85))
_RAISED = _Arm((125, 172), (35, 100), (-20, 20), (0, 70))
_BACK_SWING = _Arm((-38, -8), (0, 12), (-5, 15), (5, 40))
_FORWARD_SWING = _Arm((12, 42), (0, 14), (5, 30), (20, 80))
_DANGLING = _Arm((35, 80), (0, 25), (-10, 20), (5, 40))
_ON_THIGHS = _Arm((12, 40), (0, 35), (0, 35), (30, 75))
_PROPPED = _Arm((-32, 20), (10, 40), (-5, 25), (0, 25))

_UPRIGHT = _Leg((-5, 9), (0, 40), (-14, 8), (0, 14))
_ASTRIDE = _Leg((6, 18), (70, 95), (-18, 4), (0, 12))
_STEP_AHEAD = _Leg((14, 36), (-3, 6), (-6, 6), (2, 22), (-5, 15))
_STEP_BEHIND = _Leg((-28, -5), (-3, 6), (-6, 6), (6, 50), (5, 30))
_SEATED = _Leg((70, 98), (0, 28), (-8, 8), (62, 102))
_STRETCHED = _Leg((60, 85), (0, 25), (-8, 8), (10, 50))
_SQUATTING = _Leg((92, 122), (5, 35), (-10, 10), (112, 146), (-30, -10))
_KNEELING = _Leg((25, 60), (0, 15), (-5, 5), (110, 146), (15, 40))
_LYING_LEG = _Leg((-4, 20), (0, 45), (-15, 10), (0, 40), (10, 40))
_DRAWN_UP = _Leg((30, 75), (0, 25), (-5, 10), (50, 110), (5, 30))


@dataclass(frozen=True)
class _Kind:
    """What a kind of pose is drawn from: pairs for one side and the other, which is left or right by chance."""

    trunk: _Trunk
    arms: tuple[tuple[_Arm, _Arm], ...]
    legs: tuple[tuple[_Leg, _Leg], ...]


_STANDING_ARMS = (
    (_HANGING, _HANGING),
    (_HANGING, _HANGING),
    (_HANGING, _BEFORE_BELLY),
    (_BEFORE_BELLY, _BEFORE_BELLY),
    (_ON_HIP, _HANGING),
    (_ON_HIP, _ON_HIP),
    (_TO_FACE, _HANGING),
    (_TO_FACE, _CROSSED),
    (_CROSSED, _CROSSED),
)
_STANDING_LEGS = ((_UPRIGHT, _UPRIGHT), (_UPRIGHT, _UPRIGHT), (_UPRIGHT, _ASTRIDE), (_ASTRIDE, _ASTRIDE))
_KINDS = {
    PoseKind.STANDING: _Kind(_Trunk(), _STANDING_ARMS, _STANDING_LEGS),
    PoseKind.WALKING: _Kind(
        _Trunk(bend=(0, 14), twist=(-8, 8)),
        ((_BACK_SWING, _FORWARD_SWING), (_BACK_SWING, _FORWARD_SWING), (_HANGING, _TO_FACE)),
        ((_STEP_AHEAD, _STEP_BEHIND),),
    ),
    PoseKind.SITTING: _Kind(
        _Trunk(tilt=(-14, 10), bend=(-4, 32)),
        ((_ON_THIGHS, _ON_THIGHS), (_ON_THIGHS, _BEFORE_BELLY), (_TO_FACE, _ON_THIGHS), (_CROSSED, _CROSSED)),
        ((_SEATED, _SEATED), (_SEATED, _SEATED), (_SEATED, _STRETCHED)),
    ),
    PoseKind.REACHING: _Kind(
        _Trunk(tilt=(0, 18), bend=(0, 25), twist=(-25, 25)),
        ((_AHEAD, _HANGING), (_AHEAD, _AHEAD), (_ASIDE, _HANGING), (_ASIDE, _ASIDE), (_RAISED, _AHEAD)),
        ((_UPRIGHT, _UPRIGHT), (_UPRIGHT, _ASTRIDE), (_STEP_AHEAD, _STEP_BEHIND)),
    ),
    PoseKind.BENDING: _Kind(
        _Trunk(tilt=(20, 45), bend=(25, 55), side=(-6, 6), twist=(-20, 20)),
        ((_DANGLING, _DANGLING), (_ON_THIGHS, _DANGLING), (_AHEAD, _AHEAD)),
        ((_UPRIGHT, _UPRIGHT), (_UPRIGHT, _ASTRIDE), (_STEP_AHEAD, _STEP_BEHIND)),
    ),
    PoseKind.EMBRACING: _Kind(
        _Trunk(tilt=(0, 12), bend=(0, 18)),
        ((_AROUND, _AROUND), (_AROUND, _AROUND), (_AROUND, _ASIDE), (_AROUND, _HANGING)),
        ((_UPRIGHT, _UPRIGHT), (_UPRIGHT, _STEP_AHEAD)),
    ),
    PoseKind.LYING: _Kind(
        _Trunk(tilt=(0, 0), bend=(-4, 18)),
        ((_HANGING, _HANGING), (_BEFORE_BELLY, _HANGING), (_RAISED, _HANGING), (_TO_FACE, _HANGING)),
        ((_LYING_LEG, _LYING_LEG), (_LYING_LEG, _DRAWN_UP), (_DRAWN_UP, _DRAWN_UP)),
    ),
    PoseKind.ARMS_UP: _Kind(
        _Trunk(bend=(-10, 8)),
        ((_RAISED, _RAISED), (_RAISED, _RAISED), (_RAISED, _HANGING), (_RAISED, _ON_HIP)),
        (*_STANDING_LEGS, (_STEP_AHEAD, _STEP_BEHIND)),
    ),
    PoseKind.CROUCHING: _Kind(
        _Trunk(tilt=(5, 30), bend=(12, 40)),
        ((_ON_THIGHS, _ON_THIGHS), (_AHEAD, _ON_THIGHS), (_DANGLING, _DANGLING), (_BEFORE_BELLY, _PROPPED)),
        ((_SQUATTING, _SQUATTING), (_SQUATTING, _KNEELING)),
    ),
}
_SHARES = {
    PoseKind.STANDING: 0.3,
    PoseKind.WALKING: 0.18,
    PoseKind.SITTING: 0.12,
    PoseKind.REACHING: 0.1,
    PoseKind.BENDING: 0.06,
    PoseKind.EMBRACING: 0.08,
    PoseKind.LYING: 0.04,
    PoseKind.ARMS_UP: 0.07,
    PoseKind.CROUCHING: 0.05,
}
_LEFT, _DOWN, _BACK = np.eye(3)


@dataclass(frozen=True)
class Trunk:
    """Angles of pelvis, spine and head in radians.

    The pelvis tilts forwards; either half of the spine bends forwards and sideways; the chest is twisted; the head
    turns to its left, nods forwards and leans sideways.
    """

    tilt: float
    bends: tuple[float, float]
    sides: tuple[float, float]
    twist: float
    head: Angles


@dataclass(frozen=True)
class Limb:
    """Angles of an arm or a leg in radians, those of the right one mirrored.

    lift: elevation, direction and turn of upper arm or thigh, as in ``_Arm``. hinge: of elbow or knee. end: nod and
    sideways lean of the hand; of a foot only the first.
    """

    lift: Angles
    hinge: float
    end: tuple[float, float]


@dataclass(frozen=True)
class View:
    """How an upright body is seen, in radians.

    down: how far the viewer looks down. facing: as in ``Body.facing``. roll: lean of the whole body in the picture; of
    somebody who lies, the turn about the own axis: 0 on the back, pi on the belly. lying: whether the body lies.
    """

    down: float
    facing: float
    roll: float
    lying: bool = False


@dataclass(frozen=True, eq=False)
class Pose:
    """All angles of a body and the lengths of its bones: what ``place`` makes a body of.

    arms, legs: left and right.
    """

    kind: PoseKind
    view: View
    trunk: Trunk
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    build: Build


def sample_body(rng: np.random.Generator, kind: PoseKind | None = None, facing: float | None = None) -> Body:
    """Sample one body; arguments as in ``sample_pose``."""
    return place(sample_pose(rng, kind, facing))


def sample_pose(rng: np.random.Generator, kind: PoseKind | None = None, facing: float | None = None) -> Pose:
    """Sample the angles of one body.

    Args:
        rng: source of all randomness.
        kind: the activity; by default drawn from all, standing and walking most often.
        facing: radians as in ``Body.facing``; by default mostly towards the viewer, at times to any side. The feet
            of somebody who lies point there.
    """
    if kind is None:
        kind = list(_SHARES)[int(np.searchsorted(np.cumsum(list(_SHARES.values())), rng.random() * 0.999))]
    if facing is None:
        facing = _sample_facing(rng, kind)
    sample = _Sampler(rng)
    ranges = _KINDS[kind]
    arms = ranges.arms[int(rng.integers(len(ranges.arms)))]
    legs = ranges.legs[int(rng.integers(len(ranges.legs)))]
    # Who walks swings the arm that is opposite to the leg.
    first = int(rng.integers(2))
    tilt = sample(ranges.trunk.tilt)
    view = _sample_view(rng, kind, facing)
    bend, side = sample(ranges.trunk.bend) / 2, sample(ranges.trunk.side) / 2
    bends, sides = (bend, sample(ranges.trunk.bend) / 2), (side, sample(ranges.trunk.side) / 2)
    twist = sample(ranges.trunk.twist)
    # People who bend lift the head to see.
    lifted = 0.35 * tilt + math.radians(0.5 * max(0.0, ranges.trunk.bend[0]))
    head = sample((-42, 42)), sample((-14, 22)) - lifted, sample((-12, 12))
    build = Build.sample(rng)
    limbs = [(_sample_arm(sample, arms[side ^ first]), _sample_leg(sample, legs[side ^ first])) for side in (0, 1)]
    (left_arm, left_leg), (right_arm, right_leg) = limbs
    trunk = Trunk(tilt, bends, sides, twist, head)
    return Pose(kind, view, trunk, (left_arm, right_arm), (left_leg, right_leg), build)


def place(pose: Pose) -> Body:
    """Return the body that has these angles and bones."""
    trunk, build = pose.trunk, pose.build
    pelvis = _seen_from(pose.view) @ _about_x(trunk.tilt)
    waist = pelvis @ _about_x(trunk.bends[0]) @ _about_z(trunk.sides[0])
    chest = waist @ _about_x(trunk.bends[1]) @ _about_z(trunk.sides[1])
    chest = chest @ _about_y(trunk.twist)
    turn, nod, lean = trunk.head
    head = chest @ _about_y(turn) @ _about_x(nod) @ _about_z(lean)
    joints = np.zeros((len(Joint), 3))
    joints[Joint.WAIST] = pelvis @ (-build.pelvis * _DOWN)
    joints[Joint.NECK] = joints[Joint.WAIST] - build.ribs * waist[:, 1] / 2 - build.ribs * chest[:, 1] / 2
    joints[Joint.HEAD] = joints[Joint.NECK] - build.neck * (0.6 * chest[:, 1] + 0.4 * head[:, 1])
    joints[Joint.HEAD] -= build.head[1] * (head[:, 1] + 0.12 * head[:, 2])
    for side in (0, 1):
        _place_arm(joints, chest, side, pose.arms[side], build)
        _place_leg(joints, pelvis, side, pose.legs[side], build, trunk.tilt)
    return Body(joints, pelvis, chest, head, np.array(build.head), pose.kind, pose.view.facing)


class _Sampler:
    """Draws an angle from a range in degrees, in radians."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __call__(self, degrees: Range) -> float:
        # The mean of two is in the middle more often than at the limits, as people are.
        return math.radians(degrees[0] + (degrees[1] - degrees[0]) * float(self._rng.random() + self._rng.random()) / 2)


@dataclass(frozen=True)
class Build:
    """Lengths of bones in body heights, from small child (large head, short legs) to adult.

    ``head`` is half of its width, height and length.
    """

    head: tuple[float, float, float]
    thigh: float
    shank: float
    neck: float
    pelvis: float
    ribs: float
    hips: float
    shoulders: float
    upper_arm: float
    forearm: float
    sole: float = 0.045
    hand: float = 0.085
    foot: float = 0.115

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Build:
        """Sample the build of one person."""
        child = float(rng.uniform(0.25, 1.0)) if rng.random() < 0.15 else 0.0
        wide = 1 + 0.08 * float(rng.uniform(-1, 1))
        head = 0.066 * (1 + 0.42 * child)
        rest = 1 - 2 * head * 1.08
        legs = rest * (0.6 - 0.045 * child) * float(rng.uniform(0.975, 1.025))
        trunk = rest - legs
        reach = 0.325 * (1 - 0.12 * child) * float(rng.uniform(0.97, 1.03))
        return cls(
            head=(head * 0.82, head * 1.08, head * 0.98),
            thigh=(legs - cls.sole) * 0.505,
            shank=(legs - cls.sole) * 0.495,
            neck=trunk * 0.13,
            pelvis=trunk * 0.27,
            ribs=trunk * 0.6,
            hips=0.052 * wide,
            shoulders=0.108 * wide * (1 - 0.1 * child),
            upper_arm=reach * 0.53,
            forearm=reach * 0.47,
        )


def _sample_facing(rng: np.random.Generator, kind: PoseKind) -> float:
    if kind is PoseKind.LYING:
        return float(rng.choice([-1, 1]) * (math.pi / 2 + rng.normal(0, 0.5)))
    draw = rng.random()
    if draw < 0.55:
        return float(rng.normal(0, 0.5))
    if draw < 0.78:
        return float(rng.choice([-1, 1]) * (math.pi / 2 + rng.normal(0, 0.25)))
    return float(rng.uniform(-math.pi, math.pi))


def _sample_view(rng: np.random.Generator, kind: PoseKind, facing: float) -> View:
    """Sample how somebody is seen by a viewer who mostly looks down a little."""
    down = math.radians(float(rng.uniform(-4, 16)))
    if kind is not PoseKind.LYING:
        return View(down, facing, math.radians(float(rng.uniform(-4, 4))))
    # On the back, the belly or a side; from above at times, so that the whole body shows.
    down = math.radians(float(rng.uniform(8, 55)))
    turned = float(rng.choice([0, 0, 180, 90, -90])) + float(rng.normal(0, 12))
    return View(down, facing, math.radians(turned), lying=True)


def _seen_from(view: View) -> Array:
    """Rotate an upright, front-facing pelvis as the viewer sees it."""
    camera = _about_x(view.down) @ _about_y(-view.facing)
    if not view.lying:
        return camera @ _about_z(view.roll)
    return camera @ _about_x(-math.pi / 2) @ _about_y(view.roll)


def _sample_arm(sample: _Sampler, arm: _Arm) -> Limb:
    lift = sample(arm.elevation), sample(arm.direction), sample(arm.turn)
    return Limb(lift, sample(arm.elbow), (sample((-15, 15)), sample((-15, 15))))


def _sample_leg(sample: _Sampler, leg: _Leg) -> Limb:
    lift = sample(leg.elevation), sample(leg.direction), sample(leg.turn)
    return Limb(lift, sample(leg.knee), (sample(leg.ankle), 0.0))


def _place_arm(joints: Array, chest: Array, side: int, arm: Limb, build: Build) -> None:
    outwards = 1 - 2 * side
    shoulder = joints[Joint.NECK] + chest @ np.array([outwards * build.shoulders, 0.03, 0.004])
    elevation, direction, turn = arm.lift[0], outwards * arm.lift[1], outwards * arm.lift[2]
    upper = chest @ _about_y(-direction) @ _about_x(-elevation) @ _about_y(direction + turn)
    forearm = upper @ _about_x(-arm.hinge)
    hand = forearm @ _about_x(arm.end[0]) @ _about_z(arm.end[1])
    joints[Joint.LEFT_SHOULDER + side] = shoulder
    joints[Joint.LEFT_ELBOW + side] = elbow = shoulder + build.upper_arm * upper[:, 1]
    joints[Joint.LEFT_WRIST + side] = wrist = elbow + build.forearm * forearm[:, 1]
    joints[Joint.LEFT_HAND + side] = wrist + build.hand * hand[:, 1]


def _place_leg(joints: Array, pelvis: Array, side: int, leg: Limb, build: Build, tilt: float) -> None:
    outwards = 1 - 2 * side
    hip = pelvis @ np.array([outwards * build.hips, 0.0, 0.0])
    elevation, direction, turn = leg.lift[0], outwards * leg.lift[1], outwards * leg.lift[2]
    # A tilted pelvis takes the spine along, the legs stay where they stand.
    thigh = pelvis @ _about_x(-tilt) @ _about_y(-direction) @ _about_x(-elevation) @ _about_y(direction + turn)
    shank = thigh @ _about_x(leg.hinge)
    foot = shank @ _about_x(leg.end[0])
    joints[Joint.LEFT_HIP + side] = hip
    joints[Joint.LEFT_KNEE + side] = knee = hip + build.thigh * thigh[:, 1]
    joints[Joint.LEFT_ANKLE + side] = ankle = knee + build.shank * shank[:, 1]
    joints[Joint.LEFT_HEEL + side] = ankle + foot @ np.array([0.0, build.sole - 0.02, 0.022])
    joints[Joint.LEFT_TOE + side] = ankle + foot @ np.array([0.012 * outwards, build.sole - 0.016, -build.foot + 0.022])


def _about_x(angle: float) -> Array:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


def _about_y(angle: float) -> Array:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])


def _about_z(angle: float) -> Array:
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
