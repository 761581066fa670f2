"""Following people through films on the disk, with stages that cannot be wrong: what is written, killed, gone on with."""

import gc
import json
import shutil
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import FakeDetector, FakePose, FakeSegmenter, KeepAll, scene
from track_fakes import FakeTracker, film, moving

from bmp.api import BMP
from bmp.errors import UserError
from bmp.inference.video import CHECKPOINT, OVERLAY, VideoSettings, follow_video
from bmp.io.people_lines import PeopleLines, read_info, read_lines
from bmp.io.video import Losses, VideoReader
from bmp.segmenters.tracked import TrackedKeypoints
from bmp.structures import Frame
from bmp.video_loop import VideoLoop

av = pytest.importorskip("av", reason="PyAV, the extra video")

COUNT = 12
LEFT, RIGHT = moving((4, 10, 14, 30), dx=1), moving((44, 12, 54, 36), dy=-1)


def write_film(path, frames, **options):
    """Keep the pixels exactly; a key frame every fifth frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0", "g": "5", "bf": "0", **options})
        stream.height, stream.width, stream.pix_fmt = *frames[0].image.pixels.shape[:2], "rgb24"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, each in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(each.image.pixels.numpy(), format="rgb24")
            frame.pts, frame.time_base = 40 * number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    return write_film(tmp_path_factory.mktemp("films") / "walk.mkv", film(LEFT, RIGHT, count=COUNT))


def model(detector=None, **options):
    loop = BMP(detector or FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
    tracker = FakeTracker({0: (1, 0), 1: (0, -1)})
    loop.make_video_loop = lambda: VideoLoop(tracker, TrackedKeypoints(), **{"keyframe_every": 3, **options})
    return loop


def follow(source, output, loop=None, **settings):
    return follow_video(loop or model(), source, VideoSettings(output, quiet=True, **{"checkpoint": 4, **settings}))


def films_of(folder):
    """Times in ms, sizes and mean colours of the overlay."""
    with VideoReader(folder / OVERLAY) as reader:
        return [
            (round(1000 * frame.time), frame.image.width, round(frame.image.pixels.float().mean().item(), 3))
            for frame in reader
        ]


@pytest.fixture(scope="module")
def undisturbed(walk, tmp_path_factory):
    """What a run that nobody kills writes, and what lay there after each line."""
    folder = tmp_path_factory.mktemp("run")
    output, snapshots = folder / "found", folder / "snapshots"
    with pytest.MonkeyPatch.context() as patch:
        add = PeopleLines.add

        def add_and_copy(lines, found):
            add(lines, found)
            shutil.copytree(output, snapshots / str(found.frame.index))

        patch.setattr(PeopleLines, "add", add_and_copy)
        assert follow(walk, output) == []
    return output, snapshots


@pytest.mark.slow
def test_what_is_written(undisturbed):
    output, _ = undisturbed
    lines = list(read_lines(output / "people.jsonl"))
    assert [(line["frame"], line["time"], line["cut"]) for line in lines] == [(n, n / 25, False) for n in range(COUNT)]
    for number, line in enumerate(lines):
        boxes = {row["track_id"]: tuple(row["bbox"]) for row in line["people"]}
        x1, y1, x2, y2 = LEFT(number)
        assert boxes[1] == (x1, y1, x2 - x1, y2 - y1)
        assert len(boxes) == 2
    info = read_info(output)
    assert (info["name"], info["width"], info["height"], info["fps"]) == ("walk.mkv", 64, 48, 25)
    assert (info["complete"], info["frames"], info["broken"], info["notices"]) == (True, COUNT, 0, [])
    assert [(time, width) for time, width, _ in films_of(output)] == [(40 * n, 64) for n in range(COUNT)]
    assert sorted(path.name for path in output.iterdir()) == [
        "mot", "mots", "overlay.mp4", "people.json", "people.jsonl", "posetrack", "video.json", "vis.json",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [0, 2, 3, 4, 6, 7, 8, 11])
def test_a_resumed_run_equals_an_undisturbed_one(walk, undisturbed, tmp_path, killed_after):
    output, snapshots = undisturbed
    folder = tmp_path / "found"
    shutil.copytree(snapshots / str(killed_after), folder)
    if killed_after % 2:
        with (folder / "people.jsonl").open("ab") as file:
            file.write(b'{"frame": 5, "ti')
    before = (folder / "people.jsonl").read_bytes()
    detector = FakeDetector()
    assert follow(walk, folder, model(detector), resume=True) == []
    after = (folder / "people.jsonl").read_bytes()
    assert after == (output / "people.jsonl").read_bytes()
    assert after.startswith(before.rpartition(b"\n")[0])
    assert read_info(folder) == read_info(output)
    assert films_of(folder) == films_of(output)
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in output.iterdir())
    assert len(detector.calls) == 4 - killed_after // 4 * 4 // 3 - (killed_after >= 4)  # looks behind the checkpoint


@pytest.fixture
def decoded(monkeypatch):
    """The time stamps of the frames that decoders have given, all of them, also of those that nobody wanted."""
    stamps, decode = [], VideoReader._decode

    def decode_and_note(reader, packet):
        frames = decode(reader, packet)
        stamps.extend(frame.pts for frame in frames)
        return frames

    monkeypatch.setattr(VideoReader, "_decode", decode_and_note)
    return stamps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ({}, range(COUNT)),
        ({"every": 2}, range(0, COUNT, 2)),
        ({"start": 6, "every": 3}, range(6, COUNT, 3)),
        ({"start": 0.2, "end": 0.36}, range(5, 9)),
    ],
)
@pytest.mark.parametrize("mask_every", [1, 2])
def test_no_frame_is_decoded_or_encoded_twice(walk, tmp_path, decoded, part, numbers, mask_every):
    loop = model(mask_every=mask_every)
    assert follow(walk, tmp_path, loop, overlay=False, formats=(), **part) == []
    assert len(decoded) == len(set(decoded))
    key = numbers[0] // 5 * 5
    assert {stamp // 40 for stamp in decoded} <= set(range(key, COUNT))
    opened = loop.segmenter.opened
    assert len({id(image) for image in opened}) == len(opened)
    looks = set(range(0, len(numbers), 3))
    drawn = {
        place
        for place in range(len(numbers))
        if place in looks or (place - max(looks & {*range(place)})) % mask_every == 0
    }
    assert len(opened) == len(drawn)


@pytest.mark.slow
@pytest.mark.parametrize("killed_after", [6, 11])
def test_a_resumed_run_decodes_and_encodes_what_is_left_once(walk, undisturbed, tmp_path, decoded, killed_after):
    folder = shutil.copytree(undisturbed[1] / str(killed_after), tmp_path / "found")
    decoded.clear()
    loop, last = model(), killed_after // 4 * 4 - 1  # the frame of the checkpoint
    assert follow(walk, folder, loop, resume=True, overlay=True) == []
    assert sorted(stamp // 40 for stamp in decoded) == list(range(last // 5 * 5, COUNT))
    assert len(loop.segmenter.opened) == COUNT - 1 - last


@pytest.mark.slow
def test_what_was_done_is_not_done_again(walk, undisturbed, tmp_path, capsys):
    folder = shutil.copytree(undisturbed[0], tmp_path / "found")
    detector = FakeDetector()
    assert follow_video(model(detector), walk, VideoSettings(folder, checkpoint=4, resume=True)) == []
    assert detector.calls == []
    assert "was done before, 12 frames" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"every": 2}, {"start": 1}, {"min_score": 0.5}, {"overlay": False}])
def test_other_settings_are_not_mixed(walk, undisturbed, tmp_path, changed):
    folder = shutil.copytree(undisturbed[1] / "5", tmp_path / "found")
    with pytest.raises(UserError, match=f"other settings .{next(iter(changed))}"):
        follow(walk, folder, resume=True, **changed)


@pytest.mark.slow
def test_another_film_of_the_same_name_is_not_mixed_in(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[1] / "5", tmp_path / "found")
    other = write_film(tmp_path / "walk.mkv", film(RIGHT, count=COUNT))
    with pytest.raises(UserError, match=r"other settings \(film\)"):
        follow(other, folder, resume=True)


@pytest.mark.slow
def test_starting_anew_removes_what_was_there(walk, undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed[1] / "9", tmp_path / "found")
    assert follow(walk, folder, overlay=False, end=3, formats=()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["people.jsonl", "video.json"]
    assert len(list(read_lines(folder / "people.jsonl"))) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "numbers"),
    [
        ({"start": 5}, [5, 6, 7, 8, 9, 10, 11]),
        ({"start": 0.2, "end": 0.36}, [5, 6, 7, 8]),
        ({"start": 1, "every": 4}, [1, 5, 9]),
        ({"every": 5, "end": 11}, [0, 5, 10]),
    ],
)
def test_parts(walk, tmp_path, part, numbers):
    assert follow(walk, tmp_path, overlay=False, **part) == []
    assert [line["frame"] for line in read_lines(tmp_path / "people.jsonl")] == numbers


@pytest.mark.slow
def test_a_part_is_resumed_in_its_own_rhythm(walk, tmp_path):
    frames = {"start": 0.04, "every": 2, "checkpoint": 2, "overlay": False}
    assert follow(walk, tmp_path / "whole", **frames) == []
    with pytest.raises(KeyboardInterrupt):
        follow(walk, tmp_path / "killed", model(Impatient(calls_left=2), keyframe_every=2), **frames)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    assert follow(walk, tmp_path / "killed", resume=True, **frames) == []
    expected = [1, 3, 5, 7, 9, 11]
    assert [line["frame"] for line in read_lines(tmp_path / "killed" / "people.jsonl")] == expected


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_film_that_is_cut_short_is_said_to_be_and_what_there_is_of_it_is_done(walk, tmp_path, monkeypatch, killed):
    monkeypatch.setattr("bmp.io.video._INACCURATE", 0.1)
    with av.open(walk) as container:
        end = [packet.pos for packet in container.demux(video=0) if packet.size][9]
    path = tmp_path / "cut.mkv"
    path.write_bytes(Path(walk).read_bytes()[:end])
    output = tmp_path / "found"
    if killed:
        with pytest.raises(KeyboardInterrupt):
            follow(str(path), output, model(Impatient(calls_left=2)), formats=())
    said = "ends after 0.36 of the 0.48 s that it announces; it was cut short"
    assert follow(str(path), output, formats=(), resume=killed) == [f"{path}: {said}"]
    assert [line["frame"] for line in read_lines(output / "people.jsonl")] == list(range(9))
    assert read_info(output)["notices"] == [said]


class Forgetful:
    """Keeps no record of what it is asked."""

    calls = opened = others = steps = property(lambda self: [], lambda self, value: None)


class ForgetfulDetector(Forgetful, FakeDetector): ...


class ForgetfulPose(Forgetful, FakePose): ...


class ForgetfulSegmenter(Forgetful, FakeSegmenter): ...


class ForgetfulTracker(Forgetful, FakeTracker): ...


class Endless:
    """A camera in front of which somebody stands, and others come and go, each in a place of their own."""

    name, frames, rate = "camera", None, 25.0

    def __init__(self, count, note):
        self._count, self._note, self.losses = count, note, Losses()

    def __iter__(self):
        for number in range(self._count):
            self._note(number)
            left = 20 + 7 * number % 33
            somebody = (left, 10, left + 8, 30) if number % 4 else (0, 0, 0, 0)
            yield Frame(number, number / 25, scene((4, 10, 14, 30), somebody, height=48, width=64))

    def __enter__(self):
        return self

    def __exit__(self, *error): ...


@pytest.mark.slow
def test_what_is_held_does_not_grow_with_the_length(tmp_path, monkeypatch):
    held = {}

    def note(number):
        if number in (12, 36):  # the same place between two looks and two checkpoints
            gc.collect()
            # Further functions and their like come with modules that are imported late.
            plain = (dict, list, tuple, set, np.ndarray)
            kinds = Counter(
                kind
                for kind in map(type, gc.get_objects())
                if kind in plain or str(kind.__module__).startswith(("bmp", "torch"))
            )
            tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
            held[number] = kinds, sum(tensor.nbytes for tensor in tensors)

    monkeypatch.setattr("bmp.inference.video.open_video", lambda *_, **__: Endless(37, note))
    loop = BMP(ForgetfulDetector(), ForgetfulPose(), ForgetfulSegmenter(), KeepAll())
    tracker = ForgetfulTracker({})
    loop.make_video_loop = lambda: VideoLoop(tracker, TrackedKeypoints(), keyframe_every=2, patience=2)
    assert follow("camera", tmp_path, loop, overlay=True, checkpoint=4) == []
    people = {row["track_id"] for line in read_lines(tmp_path / "people.jsonl") for row in line["people"]}
    assert len(people) > 5
    (before, bytes_before), (after, bytes_after) = held[12], held[36]
    assert after[torch.Tensor] == before[torch.Tensor]
    # Of those who left their looks and ids are known, 520 bytes each, up to a hundred of them.
    assert bytes_after - bytes_before < 24 * 600
    assert sum(after.values()) - sum(before.values()) < 24  # less than an object a frame


class Impatient(FakeDetector):
    """Is interrupted after so many calls."""

    def __init__(self, calls_left):
        super().__init__()
        self.calls_left = calls_left

    def detect(self, images):
        self.calls_left -= 1
        if self.calls_left < 0:
            raise KeyboardInterrupt
        return super().detect(images)


class Breaking(FakeDetector):
    """Breaks in some calls."""

    def __init__(self, *calls):
        super().__init__()
        self.broken = calls

    def detect(self, images):
        found = super().detect(images)
        if len(self.calls) in self.broken:
            raise RuntimeError("out of\nmemory")
        return found


@pytest.mark.slow
def test_a_frame_on_which_the_model_breaks_is_left_out_and_reported(walk, tmp_path):
    failed = follow(walk, tmp_path, model(Breaking(2, 3)))
    assert failed == [f"{walk}: 2 frames could not be done, out of memory"]
    lines = list(read_lines(tmp_path / "people.jsonl"))
    assert [line["frame"] for line in lines] == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    assert all([row["track_id"] for row in line["people"]] == [1, 2] for line in lines)
    assert read_info(tmp_path)["broken"] == 2
    with pytest.raises(RuntimeError):
        follow(walk, tmp_path, model(Breaking(2)), debug=True)


@pytest.mark.slow
def test_frames_that_cannot_be_decoded_are_left_out_and_people_go_on(tmp_path):
    path = write_film(tmp_path / "walk.mp4", film(LEFT, RIGHT, count=COUNT), g="1")
    with av.open(path) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][7]
        data = bytearray((tmp_path / "walk.mp4").read_bytes())
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    (tmp_path / "walk.mp4").write_bytes(data)
    assert follow(path, tmp_path / "found") == [f"{path}: 1 frame could not be decoded; all others were done"]
    lines = {line["frame"]: line["people"] for line in read_lines(tmp_path / "found" / "people.jsonl")}
    assert list(lines) == [number for number in range(COUNT) if number != 7]
    assert [row["track_id"] for row in lines[11]] == [1, 2]
    assert read_info(tmp_path / "found")["broken"] == 1


@pytest.mark.slow
def test_people_below_the_score_are_left_out(walk, tmp_path):
    assert follow(walk, tmp_path, min_score=0.95, overlay=False) == []
    assert not any(line["people"] for line in read_lines(tmp_path / "people.jsonl"))


@pytest.mark.slow
def test_pictures_are_the_frames_of_a_video(tmp_path):
    import PIL.Image

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, frame in enumerate(film(LEFT, RIGHT, count=6)):
        PIL.Image.fromarray(frame.image.pixels.numpy()).save(pictures / f"{number:03d}.png")
    (pictures / "003.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    failed = follow(str(pictures), tmp_path / "found")
    assert failed == [f"{pictures}: 1 frame could not be decoded; all others were done"]
    lines = list(read_lines(tmp_path / "found" / "people.jsonl"))
    assert [(line["frame"], line["time"]) for line in lines] == [(n, n / 25) for n in (0, 1, 2, 4, 5)]
    (notice,) = read_info(tmp_path / "found")["notices"]
    assert notice.startswith(f"{pictures / '003.png'}: ")


@pytest.mark.slow
def test_other_programs_find_their_files_at_the_end(walk, tmp_path):
    assert follow(walk, tmp_path / "all") == []
    data = json.loads((tmp_path / "all/people.json").read_text())
    assert data["videos"][0]["name"] == "walk"
    assert (data["videos"][0]["length"], data["videos"][0]["fps"]) == (COUNT, 25.0)
    lines = list(read_lines(tmp_path / "all/people.jsonl"))
    assert [row["track_id"] for row in data["annotations"]] == [
        row["track_id"] for line in lines for row in line["people"]
    ]
    assert len((tmp_path / "all/mot/walk.txt").read_text().splitlines()) == len(data["annotations"])
    assert {"vis.json", "mots", "posetrack"} <= {path.name for path in (tmp_path / "all").iterdir()}
    follow(walk, tmp_path / "one", formats=["mots"])
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"people.jsonl", "video.json", "overlay.mp4", "mots"}
    follow(walk, tmp_path / "all", formats=[])
    assert not (tmp_path / "all/people.json").exists()


@pytest.mark.slow
def test_a_format_that_cannot_be_written_stops_no_other(walk, tmp_path):
    (tmp_path / "found").mkdir()
    loop = model()
    plain = loop.video_loop.step

    def step(*arguments):
        (tmp_path / "found/mots").write_text("in the way")
        return plain(*arguments)

    loop.video_loop.step = step
    (complaint,) = follow(walk, tmp_path / "found", loop)
    assert "mots" in complaint
    assert (tmp_path / "found/people.json").exists()
    assert (tmp_path / "found/mot/walk.txt").exists()
