"""SynthCrowd in motion: frames depend on their number alone, and what is said of them is what is drawn."""

import dataclasses
import math

import cv2
import numpy as np
import pytest

from bmp.synthcrowd import scenes
from bmp.synthcrowd.figures import Anchor, draw
from bmp.synthcrowd.looks import Cloth, Pattern, sample_look
from bmp.synthcrowd.motion import gait, gait_along, walk
from bmp.synthcrowd.poses import Joint, PoseKind, place, sample_pose
from bmp.synthcrowd.scenes import MIN_PIXELS
from bmp.synthcrowd.videos import NOBODY, THING, Video, VideoFrame, VideoSettings, plan_video

SMALL = VideoSettings(size=96, length=20, heights=(40.0, 70.0), people=(2, 3))
EVENTFUL = dataclasses.replace(SMALL, cuts=1.0, crossings=1.0, walls=1.0, leaving=1.0, people=(3, 4))


def _same(first: VideoFrame, second: VideoFrame) -> None:
    for field in dataclasses.fields(VideoFrame):
        if field.name != "scene":
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)
    for field in dataclasses.fields(first.scene):
        np.testing.assert_array_equal(
            getattr(first.scene, field.name), getattr(second.scene, field.name), err_msg=field.name
        )


@pytest.fixture(scope="module")
def eventful() -> tuple[Video, list[VideoFrame]]:
    video = plan_video(3, 4, EVENTFUL)
    return video, list(video)


@pytest.mark.slow
def test_a_frame_drawn_alone_is_the_one_of_the_sequence(eventful: tuple[Video, list[VideoFrame]]) -> None:
    _, frames = eventful
    assert [frame.index for frame in frames] == list(range(20))
    _same(plan_video(3, 4, EVENTFUL).frame(17), frames[17])
    _same(plan_video(3, 4, EVENTFUL).frame(2), frames[2])


@pytest.mark.slow
def test_other_numbers_give_other_videos() -> None:
    first = plan_video(0, 0, SMALL).frame(0).scene.image
    for other in (plan_video(1, 0, SMALL), plan_video(0, 1, SMALL)):
        assert (other.frame(0).scene.image != first).any()


def test_frames_that_there_are_not_are_refused() -> None:
    with pytest.raises(IndexError, match="expected a frame from 0 to 19, got 20"):
        plan_video(0, 0, SMALL).frame(20)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 63}, "size >= 64"),
        ({"length": 0}, "length >= 1"),
        ({"people": (3, 2)}, "people: expected two numbers, the smaller first"),
        ({"heights": (4.0, 9.0)}, "heights from 8"),
        ({"cuts": 1.5}, "cuts: expected a share"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_what_is_said_of_frames_agrees(eventful: tuple[Video, list[VideoFrame]]) -> None:
    video, frames = eventful
    (cut,) = video.cuts
    assert [frame.index for frame in frames if frame.cut] == [cut]
    for frame in frames:
        scene = frame.scene
        assert scene.visible.sum(axis=0).max(initial=0) <= 1
        assert not (scene.visible & ~scene.amodal).any()
        rows = [frame.actors.tolist().index(identity) for identity in frame.ids.tolist()]
        np.testing.assert_array_equal(scene.visible.sum(axis=(1, 2)), frame.visible[rows])
        np.testing.assert_array_equal(scene.amodal.sum(axis=(1, 2)), frame.inside[rows])
        assert set(np.flatnonzero(frame.visible >= MIN_PIXELS)) == set(rows)
        np.testing.assert_array_equal(scene.parts > 0, np.isin(scene.parts, range(1, 20)))
        labelled = scene.keypoints[..., 2] > 0
        np.testing.assert_array_equal(scene.keypoints[labelled][:, :2], frame.joints[rows][labelled])
        for inside, visible, by in zip(frame.inside, frame.visible, frame.hidden_by, strict=True):
            assert (by != NOBODY) == (inside > 0 and visible < 0.02 * inside)
    before, after = frames[cut - 1], frames[cut]
    assert not set(before.actors) & set(after.actors), "whoever comes after a cut is somebody else"


@pytest.mark.slow
def test_people_who_go_behind_something_or_out_of_the_picture_come_back_with_their_id() -> None:
    shows = dataclasses.replace(
        SMALL, length=40, people=(2, 2), cuts=0.0, crossings=0.0, walls=1.0, leaving=1.0, still=1.0, objects=(0, 0)
    )
    video = plan_video(0, 0, shows)
    fates = {1: "", 2: ""}
    for frame in map(video.frame, range(0, 40, 2)):
        for identity, inside, by in zip(frame.actors.tolist(), frame.inside, frame.hidden_by, strict=True):
            fates[identity] += "h" if by == THING else "o" if inside == 0 else "."
    behind, out = fates.values()
    assert ".h" in behind, fates
    assert "h." in behind, fates
    assert 1 <= behind.count("h") <= 8, "3 to 15 frames"
    assert ".o" in out, fates
    assert "o." in out, fates


def test_the_camera_moves_the_background_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes.Exposure, "develop", lambda self, canvas, owner, rng: canvas)
    empty = dataclasses.replace(SMALL, people=(0, 0), objects=(0, 0), cuts=0.0, still=0.0, pan=3.0, size=128)
    video = plan_video(0, 5, empty)
    first, second = video.frame(3), video.frame(6)
    square = np.vstack([first.camera, [0, 0, 1]])
    between = np.vstack([second.camera, [0, 0, 1]]) @ np.linalg.inv(square)

    def difference(offset: float) -> float:
        # From edges of pixels to their centres, as OpenCV counts.
        matrix = between[:2].copy()
        matrix[:, 2] += 0.5 * matrix[:, :2].sum(axis=1) - 0.5 + offset
        moved = cv2.warpAffine(first.scene.image, matrix, (128, 128))
        inner = slice(24, -24), slice(24, -24)
        return float(np.abs(moved[inner].astype(float) - second.scene.image[inner]).mean())

    assert np.hypot(*(between[:2, 2])) > 2
    assert difference(0) < min(difference(0.4), difference(-0.4))
    background = np.isfinite(first.points).all(axis=1)
    assert background.sum() == 16
    np.testing.assert_allclose(
        second.points, first.points @ between[:2, :2].T + between[:2, 2], atol=1e-3, err_msg="points go with the camera"
    )


@pytest.mark.slow
def test_points_are_seen_where_nothing_is_in_front(eventful: tuple[Video, list[VideoFrame]]) -> None:
    video, frames = eventful
    assert 30 <= len(video.tracks) <= 34
    for frame in frames:
        nobody = ~(frame.scene.visible.any(axis=0) | (frame.scene.things > 0))
        for track, (x, y), seen in zip(video.tracks, frame.points, frame.points_seen, strict=True):
            if not seen:
                continue
            assert 0 <= x < 96
            assert 0 <= y < 96
            if track.person is None:
                assert nobody[int(y), int(x)]
            else:
                row = frame.ids.tolist().index(track.person)
                assert frame.scene.keypoints[row, track.keypoint, 2] == 2
    assert any(frame.points_seen[:16].any() for frame in frames)
    assert any(frame.points_seen[16:].any() for frame in frames)


def test_teams_are_dressed_alike_and_others_are_not() -> None:
    alike = plan_video(0, 0, dataclasses.replace(SMALL, teams=1.0, crossings=0.0)).shots[0].actors
    assert len({(actor.look.upper, actor.look.upper_cloth.pattern) for actor in alike}) == 1
    assert not plan_video(0, 0, dataclasses.replace(SMALL, teams=0.0)).team


def test_a_way_goes_through_its_knots_and_is_eased_at_them() -> None:
    way = walk([(0, 0.0, 50.0), (20, 40.0, 50.0), (40, 40.0, 70.0)], 41)
    np.testing.assert_allclose(way[0], (0, 50), atol=1e-9)
    np.testing.assert_allclose(way[10], (20, 50), atol=1e-9)
    np.testing.assert_allclose(way[-1], (40, 70), atol=1e-9)
    assert np.abs(np.diff(way, 2, axis=0)).max() < 0.25, "nobody turns at once"
    np.testing.assert_allclose(walk([(0, 7.0, 8.0)], 5), [[7, 8]] * 5)


@pytest.mark.parametrize(
    ("step", "facing"), [((4, 0), math.pi / 2), ((-4, 0), -math.pi / 2), ((0, 2), 0.0), ((0, 0), 1.25)]
)
def test_people_look_where_they_go(step: tuple[float, float], facing: float) -> None:
    feet = np.arange(12)[:, None] * np.array(step, float)
    facings, phase, walking = gait_along(feet, np.full(12, 100.0), 0.0, 1.25)
    np.testing.assert_allclose(np.cos(facings - facing), 1, atol=1e-9)
    assert (walking > 0.9).all() == any(step)
    assert (np.diff(phase) > 0).all() == any(step)


def test_legs_and_arms_go_against_each_other() -> None:
    pose = sample_pose(np.random.default_rng(0), PoseKind.WALKING, math.pi / 2)
    for phase in np.linspace(0, 2 * math.pi, 9):
        body = place(gait(pose, float(phase)))
        ahead = [body.joints[joint, 0] for joint in (Joint.LEFT_ANKLE, Joint.RIGHT_ANKLE)]
        hands = [body.joints[joint, 0] for joint in (Joint.LEFT_WRIST, Joint.RIGHT_WRIST)]
        if abs(math.sin(phase)) > 0.6:
            assert (ahead[0] > ahead[1]) == (math.sin(phase) > 0)
            assert (ahead[0] > ahead[1]) != (hands[0] > hands[1])


@pytest.mark.slow
def test_grain_and_prints_move_with_a_figure() -> None:
    rng = np.random.default_rng(2)
    look = sample_look(rng)
    cloth = Cloth((200, 40, 40), (20, 20, 200), Pattern.NOISE, 0.05)
    look = dataclasses.replace(look, upper_cloth=cloth, lower_cloth=cloth)
    pose = sample_pose(rng, PoseKind.STANDING, 0.0)
    still = draw(place(pose), look, 120, rng, anchor=Anchor(7, 120))
    # Another arm changes neither what is printed on the rest nor its grain.
    lifted = dataclasses.replace(pose.arms[0], lift=(1.2, 1.5, 0.0))
    moved = draw(place(dataclasses.replace(pose, arms=(lifted, pose.arms[1]))), look, 120, rng, anchor=Anchor(7, 120))
    down = slice(20, 50)
    legs = [
        figure.colors[slice(down.start - figure.origin[1], down.stop - figure.origin[1])][
            :, -figure.origin[0] - 12 : -figure.origin[0] + 12
        ]
        for figure in (still, moved)
    ]
    np.testing.assert_array_equal(*legs)
    # In a still picture they come from the generator, which goes on.
    assert (draw(place(pose), look, 120, rng).colors.shape == still.colors.shape) is True
    again = [draw(place(pose), look, 120, np.random.default_rng(seed), anchor=Anchor(7, 120)) for seed in (0, 1)]
    np.testing.assert_array_equal(again[0].colors, again[1].colors)


def test_a_pelvis_between_pixels_moves_the_figure_by_as_much() -> None:
    rng = np.random.default_rng(3)
    body, look = place(sample_pose(rng, PoseKind.STANDING, 0.0)), sample_look(rng)
    whole = draw(body, look, 120, rng, anchor=Anchor(7, 120))
    half = draw(body, look, 120, rng, anchor=Anchor(7, 120, (0.5, 0.25)))
    np.testing.assert_allclose(half.keypoints - whole.keypoints, [[0.5, 0.25]] * 17, atol=1e-4)
    centres = []
    for figure in (whole, half):
        rows, columns = np.nonzero(figure.parts)
        centres.append((columns.mean() + figure.origin[0], rows.mean() + figure.origin[1]))
    np.testing.assert_allclose(np.subtract(*centres[::-1]), (0.5, 0.25), atol=0.1)
