"""Drawn crowds in motion, with exact ground truth in every frame; knows no file.

A video is planned once: who walks where, where the camera looks, what stands around. After that each frame is a
function of its number, so that frame 17 is the same whether or not others were drawn before it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from bmp.synthcrowd.backgrounds import Pixels, background
from bmp.synthcrowd.figures import Anchor, draw
from bmp.synthcrowd.looks import Look, Lower, Upper, sample_look, similar_look
from bmp.synthcrowd.motion import STRIDE, Actor, gait_along, walk
from bmp.synthcrowd.objects import Sprite, draw_object, draw_seat, draw_wall
from bmp.synthcrowd.poses import Array, Joint, Pose, PoseKind, place, sample_pose
from bmp.synthcrowd.scenes import MIN_PIXELS, Exposure, Ground, Item, Scene, farthest_first, ground_truth, paint

JOINT_TRACKS, BACKGROUND_TRACKS = 16, 16
"""How many points of either kind are followed through a video."""
NOBODY, THING = -1, 0
"""In place of the id of whoever hides somebody."""
_HIDDEN = 0.02  # visible share below which somebody counts as hidden
_WORLD = 2  # sides of the picture that the world has
_NEAREST_ZOOM, _FARTHEST_ZOOM = 1.5, 0.75
_LARGEST_WALL = 0.4  # of the picture's side
_SHAKING = 3  # frames over which the hand that holds the camera trembles


@dataclass(frozen=True)
class VideoSettings:
    """The kind of videos.

    Attributes:
        stream: number of the random stream; videos of two streams, and scenes, are independent.
        size: width and height of the picture in pixels, at least 64.
        length: frames.
        rate: frames a second.
        people: fewest and most people in a shot.
        heights: smallest and largest height of a person at the beginning, in pixels, standing.
        teams: share of videos in which everybody is dressed alike.
        cuts: share of videos with a cut, from which on place and people are others.
        crossings: share of shots in which somebody walks past close in front of somebody else.
        walls: share of shots in which somebody disappears behind something for some frames.
        leaving: share of shots in which somebody walks out of the picture and comes back.
        pan: largest speed of the camera in pixels a frame.
        zoom: largest change of its scale a frame, as a share.
        shake: about how many pixels it trembles.
        still: share of shots in which it neither pans nor zooms.
        objects: fewest and most things that stand around.
    """

    stream: int = 100
    size: int = 320
    length: int = 48
    rate: float = 25.0
    people: tuple[int, int] = (2, 5)
    heights: tuple[float, float] = (75.0, 220.0)
    teams: float = 0.4
    cuts: float = 0.2
    crossings: float = 0.7
    walls: float = 0.35
    leaving: float = 0.35
    pan: float = 4.0
    zoom: float = 0.01
    shake: float = 1.0
    still: float = 0.35
    objects: tuple[int, int] = (0, 4)

    def __post_init__(self) -> None:
        if self.stream < 0 or self.size < 64 or self.length < 1 or not 0 < self.rate <= 1000:
            raise ValueError(
                f"expected stream >= 0, size >= 64, length >= 1 and 0 < rate <= 1000, got {self.stream}, {self.size}, "
                f"{self.length} and {self.rate}"
            )
        for name in ("people", "heights", "objects"):
            low, high = getattr(self, name)
            if not 0 <= low <= high or (name == "heights" and low < 8):
                raise ValueError(f"{name}: expected two numbers, the smaller first, heights from 8, got {(low, high)}")
        for name in ("teams", "cuts", "crossings", "walls", "leaving", "still"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame and what is true of it.

    Attributes:
        index: its number, from 0.
        time: in seconds.
        cut: whether it shows another shot than the frame before; the first one does not.
        scene: the picture and everybody with at least ``MIN_PIXELS`` visible pixels.
        ids: int64 (N,), of the rows of ``scene``.
        camera: float64 (2, 3), pixels of the world to pixels of the picture.
        actors: int64 (A,), ids of everybody in the shot, seen or not.
        joints: float32 (A, 17, 2), where their keypoints are, in COCO's order, wherever that is.
        inside: int64 (A,), how many of their pixels lie in the picture, with nothing in front.
        visible: int64 (A,), how many of them are seen.
        hidden_by: int64 (A,), the id of whoever hides most of somebody who is in the picture and hidden, ``THING``
            for a thing and ``NOBODY`` for somebody who is seen or is outside the picture.
        points: float32 (P, 2), the points that are followed, in pixels; not a number where they are in no shot.
        points_seen: bool (P,), whether they are visible.
    """

    index: int
    time: float
    cut: bool
    scene: Scene
    ids: npt.NDArray[np.int64]
    camera: Array
    actors: npt.NDArray[np.int64]
    joints: npt.NDArray[np.float32]
    inside: npt.NDArray[np.int64]
    visible: npt.NDArray[np.int64]
    hidden_by: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    points_seen: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PointTrack:
    """A point that is followed: a keypoint of somebody, or a place of the background of a shot.

    shot: its number. person, keypoint: of a keypoint, in COCO's order; None for background. x, y: of a place of the
    background in pixels of the world, else 0.
    """

    shot: int
    person: int | None
    keypoint: int | None
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, eq=False)
class Video:
    """A planned video.

    Attributes:
        settings: of the video.
        seed: all that its frames draw at random begins with these numbers.
        shots: one, or two with a cut between them.
        tracks: the points that are followed, keypoints first.
        exposure: what the camera does to every frame.
        team: whether everybody is dressed alike.
    """

    settings: VideoSettings
    seed: tuple[int, int, int]
    shots: tuple[Shot, ...]
    tracks: tuple[PointTrack, ...]
    exposure: Exposure
    team: bool

    def __len__(self) -> int:
        """Return the number of frames."""
        return self.settings.length

    def __iter__(self) -> Iterator[VideoFrame]:
        return map(self.frame, range(len(self)))

    @property
    def cuts(self) -> list[int]:
        """The numbers of the frames at which another shot begins."""
        return [shot.start for shot in self.shots[1:]]

    def frame(self, index: int) -> VideoFrame:
        """Draw one frame, by its number from 0; ``IndexError`` for one that there is not."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected a frame from 0 to {len(self) - 1}, got {index}")
        number = max(number for number, shot in enumerate(self.shots) if shot.start <= index)
        shot = self.shots[number]
        rng = np.random.default_rng([*self.seed, 1 + index])
        step = index - shot.start
        camera = shot.camera.matrix(step)
        items = [*shot.people(step, self.settings.size), *shot.furniture(camera, self.settings.size)]
        side = self.settings.size, self.settings.size
        canvas = cv2.warpAffine(shot.backdrop, _between_centres(camera), side, borderMode=cv2.BORDER_REPLICATE)
        owner, parts = paint(items, canvas, shot.shade)
        numbers = {id(item): number for number, item in enumerate(farthest_first(items), 1)}
        crowd = items[: len(shot.actors)]
        shown = [(owner == numbers[id(item)]).view(np.uint8) for item in crowd]
        visible = np.array([cv2.countNonZero(mask) for mask in shown], np.int64)
        ids = np.array([actor.identity for actor in shot.actors], np.int64)
        rows = np.flatnonzero(visible >= MIN_PIXELS)
        scene = ground_truth(
            [crowd[row] for row in rows],
            [shown[row] for row in rows],
            self.exposure.develop(canvas, owner, rng),
            owner,
            parts,
        )
        joints = np.array(
            [item.figure.keypoints + np.array(item.pelvis) for item in crowd if item.figure], np.float32
        ).reshape(-1, 17, 2)
        inside = np.array([item.area for item in crowd], np.int64)
        identities = {numbers[id(item)]: actor.identity for item, actor in zip(crowd, shot.actors, strict=True)}
        hidden = visible < _HIDDEN * inside
        hidden_by = [
            identities.get(_most_common(owner[item.inside > 0]), THING) if gone else NOBODY
            for item, gone in zip(crowd, hidden.tolist(), strict=True)
        ]
        seen_joints = np.zeros((len(ids), 17), bool)
        seen_joints[rows] = (scene.keypoints[..., 2] == 2) & ~scene.self_occluded
        points, seen = self._followed(number, camera, ids, joints, seen_joints, owner)
        return VideoFrame(
            index=index,
            time=index / self.settings.rate,
            cut=number > 0 and step == 0,
            scene=scene,
            ids=ids[rows],
            camera=camera,
            actors=ids,
            joints=joints,
            inside=inside,
            visible=visible,
            hidden_by=np.array(hidden_by, np.int64),
            points=points,
            points_seen=seen,
        )

    def _followed(
        self,
        number: int,
        camera: Array,
        ids: npt.NDArray[np.int64],
        joints: npt.NDArray[np.float32],
        seen_joints: npt.NDArray[np.bool_],
        owner: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Return where the points that are followed are in a frame of that shot, and which of them are visible."""
        points = np.full((len(self.tracks), 2), np.nan, np.float32)
        seen = np.zeros(len(self.tracks), bool)
        size = self.settings.size
        for row, track in enumerate(self.tracks):
            if track.shot != number:
                continue
            if track.person is not None:
                actor = int(np.flatnonzero(ids == track.person)[0])
                points[row] = joints[actor, track.keypoint]
                seen[row] = seen_joints[actor, track.keypoint]
                continue
            x, y = camera @ (track.x, track.y, 1)
            points[row] = x, y
            seen[row] = 0 <= x < size and 0 <= y < size and owner[int(y), int(x)] == 0
        return points, seen


@dataclass(frozen=True, eq=False)
class Camera:
    """Where the camera looks.

    centres: float64 (T, 2), the middle of the picture in pixels of the world. zooms: float64 (T,), pixels of the
    picture in one of the world. shake: float64 (T, 2), pixels of the picture.
    """

    size: int
    centres: Array
    zooms: Array
    shake: Array

    def matrix(self, step: int) -> Array:
        """Return the affine map (2, 3) from the world to the picture; both count from the edge of the first pixel."""
        zoom = self.zooms[step]
        shift = self.size / 2 - zoom * self.centres[step] + self.shake[step]
        return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])

    def across(self, step: int, share: float) -> float:
        """Return the column of the world at a share of the picture's width."""
        return float(self.centres[step, 0] + (share - 0.5) * self.size / self.zooms[step])


@dataclass(frozen=True, eq=False)
class Shot:
    """Frames between two cuts; lengths and places are pixels of the world, twice as wide and high as the picture.

    start: the first frame. things: sprites and their depths.
    """

    start: int
    ground: Ground
    backdrop: Pixels
    camera: Camera
    actors: tuple[Actor, ...]
    things: tuple[tuple[Sprite, float], ...]
    shade: float

    def people(self, step: int, size: int) -> list[Item]:
        """Draw everybody in a frame of the shot, in the order of ``actors``."""
        camera = self.camera.matrix(step)
        return [self._person(actor, step, camera, size) for actor in self.actors]

    def _person(self, actor: Actor, step: int, camera: Array, size: int) -> Item:
        height = _height(self.ground, actor, step)
        body = place(actor.pose(step))
        drop = height * _lowest(body.joints)
        x, y = actor.feet[step]
        pelvis = camera @ (x, y - drop, 1)
        pixel = np.floor(pelvis)
        zoom = float(camera[0, 0])
        fraction = pelvis - pixel
        # As fine as in a still picture in the first frame.
        first = _height(self.ground, actor, 0) * float(self.camera.zooms[0])
        anchor = Anchor(actor.seed, first, (float(fraction[0]), float(fraction[1])))
        figure = draw(body, actor.look, height * zoom, np.random.default_rng(actor.seed), self.ground.light, anchor)
        column, row = int(pixel[0]), int(pixel[1])
        mask = (figure.parts > 0).view(np.uint8)
        sprite = Sprite(figure.colors, mask, column + figure.origin[0], row + figure.origin[1])
        # Of two with their feet in one row the one with the higher number is nearer, in every frame.
        return Item.place(sprite, float(y) + 1e-3 * actor.identity, size, figure, column, row)

    def furniture(self, camera: Array, size: int) -> list[Item]:
        """Return what stands around as this camera sees it; what lies outside the picture has no pixels."""
        return [Item.place(_seen(sprite, camera), depth, size) for sprite, depth in self.things]


def plan_video(seed: int, index: int, settings: VideoSettings | None = None) -> Video:
    """Plan video number ``index``; the same for the same arguments, whatever was made before.

    Args:
        seed: at least 0.
        index: at least 0.
        settings: of the video; the defaults of ``VideoSettings`` if None.
    """
    settings = settings or VideoSettings()
    numbers = seed, settings.stream, index
    rng = np.random.default_rng(numbers)
    uniform = sample_look(rng) if rng.random() < settings.teams else None
    exposure = Exposure.sample(rng)
    starts = [0]
    if rng.random() < settings.cuts and settings.length >= 4:
        starts.append(int(rng.integers(settings.length // 4, settings.length - settings.length // 4 + 1)))
    shots: list[Shot] = []
    for start, end in zip(starts, [*starts[1:], settings.length], strict=True):
        first = 1 + sum(len(shot.actors) for shot in shots)
        shots.append(_Stage(rng, settings, uniform, end - start).shot(start, first))
    tracks = _point_tracks(rng, settings, shots)
    return Video(settings, numbers, tuple(shots), tracks, exposure, uniform is not None)


class _Stage:
    """Decides what happens in one shot."""

    def __init__(self, rng: np.random.Generator, settings: VideoSettings, uniform: Look | None, length: int) -> None:
        self._rng, self._settings, self._uniform, self._length = rng, settings, uniform, length
        size = settings.size
        horizon, foot = rng.uniform(-0.1, 0.4) * size, rng.uniform(0.65, 0.97) * size
        low, high = settings.heights
        height = rng.uniform(math.sqrt(low), math.sqrt(high)) ** 2
        horizon = min(horizon, foot - 0.15 * height)
        self._camera = camera = self._sample_camera()
        # The world's rows, for what is wanted of the picture at the beginning of the shot.
        zoom, top = camera.zooms[0], camera.centres[0, 1] - size / 2 / camera.zooms[0]
        self._ground = Ground(
            _WORLD * size,
            top + horizon / zoom,
            (foot - horizon) / height,
            height / zoom,
            rng.uniform(0.15, 0.85) * math.pi,
        )
        # Feet are in the picture, in most shots.
        lowest = top + size / zoom * (1.1 if rng.random() < 0.1 else 0.98)
        standing = (lowest - self._ground.horizon) / self._ground.nearness
        self._heights = low / zoom, max(low / zoom, min(high / zoom, standing))
        self._actors: list[Actor] = []
        self._things: list[tuple[Sprite, float]] = []

    def shot(self, start: int, first: int) -> Shot:
        """Return the shot, whose actors have ids from ``first``."""
        rng, settings = self._rng, self._settings
        count = int(rng.integers(settings.people[0], settings.people[1] + 1))
        self._first = first
        if count >= 2 and rng.random() < settings.crossings:
            self._cross()
        if len(self._actors) < count and rng.random() < settings.walls:
            self._walk_behind()
        if len(self._actors) < count and rng.random() < settings.leaving:
            self._leave()
        while len(self._actors) < count:
            (self._walk_past, self._stand, self._stop, self._approach)[rng.choice(4, p=[0.3, 0.35, 0.2, 0.15])]()
        for _ in range(rng.integers(settings.objects[0], settings.objects[1] + 1)):
            self._furnish()
        backdrop = background(rng, self._ground.size, self._ground.horizon)
        return Shot(
            start,
            self._ground,
            backdrop,
            self._camera,
            tuple(self._actors),
            tuple(self._things),
            rng.uniform(0.45, 0.9),
        )

    def _sample_camera(self) -> Camera:
        rng, settings, length = self._rng, self._settings, self._length
        frames = np.arange(length)
        zoom = rng.uniform(0.9, 1.2)
        rate, speed = 0.0, np.zeros(2)
        if rng.random() >= settings.still:
            rate = rng.uniform(-1, 1) * settings.zoom if rng.random() < 0.5 else 0.0
            speed = rng.uniform(-1, 1, 2) * settings.pan * np.array((0.97, 0.24))
        zooms = np.clip(zoom * np.exp(math.log1p(rate) * frames), _FARTHEST_ZOOM, _NEAREST_ZOOM)
        drift = speed / zoom * frames[:, None]
        room = (settings.size / 2 / zooms)[:, None]
        side = _WORLD * settings.size
        centres = np.clip(side / 2 + drift - drift.mean(axis=0), room, side - room)
        trembling = rng.normal(0, settings.shake, (length + _SHAKING - 1, 2))
        shake = np.stack([np.convolve(axis, np.full(_SHAKING, 1 / _SHAKING), "valid") for axis in trembling.T], axis=1)
        return Camera(settings.size, centres, zooms, shake)

    def _lane(self, around: float | None = None) -> float:
        """Return the height of people on a line across the ground."""
        height = (around or self._ground.height) * math.exp(self._rng.uniform(-0.4, 0.4))
        low, high = self._heights
        return float(min(max(height, low), high))

    def _add(
        self,
        knots: list[tuple[float, float, float]],
        kind: PoseKind = PoseKind.STANDING,
        look: Look | None = None,
        facing: float | None = None,
    ) -> Actor:
        """Take somebody in who goes along knots (frame, x, y of the foot)."""
        rng = self._rng
        first, second = self._resting(kind, facing)
        feet = walk(knots, self._length)
        ground = self._ground
        # Nobody walks as far as the horizon.
        lowest = ground.horizon + 0.2 * ground.height
        feet[:, 1] = np.maximum(feet[:, 1], lowest)
        heights = (feet[:, 1] - ground.horizon) / ground.nearness
        facings, phase, walking = gait_along(feet, heights, rng.uniform(0, 2 * math.pi), first.view.facing)
        if look is None:
            look = similar_look(self._uniform, rng) if self._uniform else sample_look(rng)
        actor = Actor(
            self._first + len(self._actors),
            look,
            int(rng.integers(2**31)),
            rng.uniform(0.92, 1.08),
            (first, second),
            rng.uniform(1, 3) * self._settings.rate,
            feet,
            facings,
            phase,
            walking,
        )
        self._actors.append(actor)
        return actor

    def _resting(self, kind: PoseKind, facing: float | None) -> tuple[Pose, Pose]:
        first = sample_pose(self._rng, kind, facing)
        return first, sample_pose(self._rng, kind, first.view.facing)

    def _pace(self, height: float) -> float:
        """Return a walking speed in pixels of the world a frame, in either direction."""
        return float(self._rng.choice([-1, 1]) * self._rng.uniform(0.022, 0.04) * 25 / self._settings.rate * height)

    def _past(self, height: float, frame: float, x: float, speed: float) -> list[tuple[float, float, float]]:
        """Return the knots of a straight way that is at ``x`` in that frame."""
        y = self._ground.foot(height)
        slope = self._rng.uniform(-0.12, 0.12) * abs(speed)
        last = max(self._length - 1, 1)
        return [(t, x + speed * (t - frame), y + slope * (t - frame)) for t in (0, last)]

    def _moment(self) -> tuple[int, float]:
        """Return a frame in the middle of the shot and a column of the world that is in the picture then."""
        frame = int(self._rng.uniform(0.25, 0.75) * self._length)
        return frame, self._camera.across(frame, self._rng.uniform(0.25, 0.75))

    def _walk_past(self) -> None:
        height = self._lane()
        self._add(self._past(height, *self._moment(), self._pace(height)))

    def _stand(self) -> None:
        kinds = [
            PoseKind.STANDING,
            PoseKind.REACHING,
            PoseKind.ARMS_UP,
            PoseKind.BENDING,
            PoseKind.CROUCHING,
            PoseKind.SITTING,
        ]
        kind = kinds[int(self._rng.choice(len(kinds), p=[0.4, 0.2, 0.12, 0.08, 0.08, 0.12]))]
        height = self._lane()
        _, x = self._moment()
        actor = self._add([(0, x, self._ground.foot(height))], kind)
        if kind is PoseKind.SITTING:
            self._seat(actor)

    def _seat(self, actor: Actor) -> None:
        rng = self._rng
        x, foot = actor.feet[0]
        drop = _height(self._ground, actor, 0) * min(_lowest(place(pose).joints) for pose in actor.resting)
        seat = draw_seat(rng, x, foot, rng.uniform(1.0, 2.0) * drop, rng.uniform(0.7, 0.85) * drop)
        self._things.append((seat, float(foot) - 0.02))

    def _stop(self) -> None:
        """Let somebody walk and stand still, or stand and walk off."""
        height = self._lane()
        frame, x = self._moment()
        speed, y = self._pace(height), self._ground.foot(height)
        last = max(self._length - 1, frame + 1)
        if self._rng.random() < 0.5:
            self._add([(0, x - speed * frame, y), (max(frame, 1), x, y), (last + 1, x, y)])
        else:
            self._add([(-1, x, y), (frame, x, y), (last, x + speed * (last - frame), y)])

    def _approach(self) -> None:
        """Let somebody come nearer or go away."""
        height = self._lane()
        _, x = self._moment()
        grown = min(max(height * self._rng.choice([0.75, 0.85, 1.2, 1.4]), self._heights[0]), 1.2 * self._heights[1])
        ends = [(0, x), (max(self._length - 1, 1), x + self._rng.uniform(-0.5, 0.5) * height)]
        self._add([(t, at, self._ground.foot(h)) for (t, at), h in zip(ends, (height, grown), strict=True)])

    def _cross(self) -> None:
        """Let somebody in a long coat or dress pass close in front of somebody smaller, or farther away."""
        rng = self._rng
        far = self._lane()
        near = min(far * rng.uniform(1.1, 1.7), self._heights[1])
        frame, x = self._moment()
        speed = self._pace(far)
        if rng.random() < 0.5:
            self._add([(0, x, self._ground.foot(far))])
        else:
            self._add(self._past(far, frame, x, speed))
        look = similar_look(self._uniform, rng) if self._uniform else sample_look(rng)
        if rng.random() < 0.5 and self._uniform is None:
            look = _wrapped(look, rng)
        y = self._ground.foot(near)
        self._add([(t, x - 1.1 * speed * (t - frame), y) for t in (0, max(self._length - 1, 1))], look=look)

    def _walk_behind(self) -> None:
        """Let somebody walk past behind a wall that hides the whole person for 3 to 15 frames, if the shot is long."""
        rng = self._rng
        side = self._settings.size / self._camera.zooms[0]
        height = self._lane(min(0.8 * self._ground.height, _LARGEST_WALL * side))
        frame, x = self._moment()
        speed = self._pace(height)
        self._add(self._past(height, frame, x, speed))
        actor = self._actors[-1]
        tall = _height(self._ground, actor, frame)
        width = min(0.5 * STRIDE * tall + abs(speed) * rng.uniform(3, 15), _LARGEST_WALL * side)
        foot = float(actor.feet[:, 1].max()) + 0.04 * tall
        self._things.append((draw_wall(rng, x, foot, width, rng.uniform(1.12, 1.3) * tall + 0.04 * tall), foot))

    def _leave(self) -> None:
        """Let somebody walk out at a side and come back after some frames."""
        rng, last = self._rng, max(self._length - 1, 2)
        height = self._lane()
        y = self._ground.foot(height)
        out = int(0.4 * last)
        back = min(out + int(rng.integers(3, 10)), last - 1)
        right = rng.random() < 0.5
        outwards = (1 if right else -1) * 0.45 * height
        edges = [self._camera.across(frame, float(right)) + outwards for frame in (out, back)]
        pace = abs(self._pace(height))
        sign = -1 if right else 1
        self._add(
            [
                (0, edges[0] + sign * pace * out, y),
                (max(out, 1), edges[0], y),
                (max(back, out + 1), edges[1], y),
                (last + 1, edges[1] + sign * pace * (last + 1 - back), y),
            ]
        )

    def _furnish(self) -> None:
        rng = self._rng
        height = self._ground.height * math.exp(rng.uniform(-0.7, 0.2))
        frame = int(rng.integers(self._length))
        x, foot = self._camera.across(frame, rng.uniform(0, 1)), self._ground.foot(height)
        # What stands in front of everybody is rather at a side.
        if any(foot > actor.feet[:, 1].max() for actor in self._actors):
            x = self._camera.across(frame, rng.choice([rng.uniform(-0.1, 0.15), rng.uniform(0.85, 1.1)]))
        self._things.append((draw_object(rng, x, foot, height), foot))


def _point_tracks(rng: np.random.Generator, settings: VideoSettings, shots: list[Shot]) -> tuple[PointTrack, ...]:
    """Choose the points that are followed, as many in each shot as it has frames."""
    ends = [shot.start for shot in shots[1:]] + [settings.length]
    joints, places = [], []
    for number, (shot, end) in enumerate(zip(shots, ends, strict=True)):
        share = (end - shot.start) / settings.length
        for row in range(round(JOINT_TRACKS * share) if shot.actors else 0):
            actor = shot.actors[row % len(shot.actors)]
            joints.append(PointTrack(number, actor.identity, int(rng.integers(5, 17))))
        for _ in range(round(BACKGROUND_TRACKS * share)):
            camera = shot.camera.matrix(0)
            x, y = (rng.uniform(0.05, 0.95, 2) * settings.size - camera[:, 2]) / camera[0, 0]
            places.append(PointTrack(number, None, None, float(x), float(y)))
    return *joints, *places


def _wrapped(look: Look, rng: np.random.Generator) -> Look:
    """Return a look with a garment that reaches far down: nothing is seen between the legs."""
    upper = Upper.COAT if rng.random() < 0.5 else Upper.DRESS
    return replace(look, upper=upper, hem=rng.uniform(1.0, 1.6), sleeve=2.0, is_open=False, lower=Lower.TROUSERS)


def _height(ground: Ground, actor: Actor, step: int) -> float:
    """Return how tall an actor is in a frame of the shot, in pixels of the world."""
    return float((actor.feet[step, 1] - ground.horizon) / ground.nearness * actor.stature)


def _lowest(joints: Array) -> float:
    """Return how far below the pelvis the feet reach, in body heights."""
    feet = [Joint.LEFT_HEEL, Joint.RIGHT_HEEL, Joint.LEFT_TOE, Joint.RIGHT_TOE]
    return max(float(joints[feet, 1].max()) + 0.02, 0.05)


def _most_common(numbers: npt.NDArray[np.uint8]) -> int:
    return int(np.bincount(numbers).argmax()) if numbers.size else 0


def _seen(sprite: Sprite, camera: Array) -> Sprite:
    """Return a sprite of the world as the camera shows it."""
    zoom = float(camera[0, 0])
    corner = camera @ (sprite.left, sprite.top, 1)
    left, top = np.floor(corner).astype(int).tolist()
    height, width = sprite.mask.shape
    size = math.ceil(width * zoom) + 1, math.ceil(height * zoom) + 1
    matrix = _between_centres(np.array([[zoom, 0, corner[0] - left], [0, zoom, corner[1] - top]]))
    # Outside the thing there is no colour; it must not darken the edge.
    share = cv2.warpAffine(sprite.mask.astype(np.float32), matrix, size)
    masked = sprite.colors.astype(np.float32) * sprite.mask[..., None]
    colors = cv2.warpAffine(masked, matrix, size) / np.maximum(share, 1e-3)[..., None]
    return Sprite(np.clip(colors, 0, 255).astype(np.uint8), (share >= 0.5).astype(np.uint8), left, top)


def _between_centres(matrix: Array) -> Array:
    """Return a map between the edges of pixels as one between their centres, as OpenCV takes it."""
    moved = matrix.copy()
    moved[:, 2] += 0.5 * matrix[:, :2].sum(axis=1) - 0.5
    return moved
