"""people.jsonl: a frame a line, whole at every moment, and gone on with after a kill."""

import json
import zlib

import pytest
from tracking_scene import IMAGE, A, B, tracked

from bmp.errors import UserError
from bmp.io.people_lines import PeopleLines, VideoInfo, read_info, read_lines, to_line, write_info
from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Frame, TrackedFrame


def frame(number):
    boxes = (A, B) if number % 2 else (B,)
    return TrackedFrame(Frame(number, number / 30, IMAGE), tracked(*boxes), number == 3, False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "people.jsonl"


def write(path, numbers, **options):
    with PeopleLines(path, COCO_KEYPOINTS, **options) as lines:
        for number in numbers:
            lines.add(frame(number))
        return lines.end, lines.checksum


def test_a_line_is_a_frame_with_its_people():
    line = json.loads(to_line(frame(3), COCO_KEYPOINTS))
    assert (line["frame"], line["time"], line["cut"]) == (3, 0.1, True)
    first, second = line["people"]
    assert (first["track_id"], first["state"], first["bbox"]) == (1, "confirmed", [5, 10, 20, 40])
    assert second["track_id"] == 2
    assert {"segmentation", "keypoints", "score", "mask_score", "area", "round"} <= set(first)
    assert not {"id", "image_id"} & set(first)


def test_lines_are_there_at_once(path):
    with PeopleLines(path, COCO_KEYPOINTS) as lines:
        for number in range(4):
            lines.add(frame(number))
            lines.sync()
            assert [line["frame"] for line in read_lines(path)] == list(range(number + 1))
        assert lines.end == path.stat().st_size
        assert lines.checksum == zlib.crc32(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("killed_at", ["end of a line", "middle of a line", "start of a line"])
def test_what_was_killed_is_gone_on_with_and_nothing_is_lost(path, killed_at):
    write(path, range(8))
    whole = path.read_bytes()
    end, checksum = write(path, range(4))
    ends = [len(line) for line in whole.splitlines(keepends=True)]
    cut = sum(ends[:6]) + {"end of a line": 0, "middle of a line": ends[6] // 2, "start of a line": 1}[killed_at]
    path.write_bytes(whole[:cut])
    with PeopleLines(path, COCO_KEYPOINTS, resume=True, begin=end, checksum=checksum) as lines:
        lines.add(frame(4))
        assert path.read_bytes() == whole[:cut]  # the lines behind it are still there
        for number in range(5, 8):
            lines.add(frame(number))
        lines.finish()
    assert path.read_bytes() == whole


def test_lines_that_come_out_otherwise_take_the_place_of_the_old_ones(path):
    end, checksum = write(path, range(2))
    with path.open("ab") as file:
        file.write(b'{"frame": 2, "people": "spoilt"}\n{"frame": 3}\n')
    with PeopleLines(path, COCO_KEYPOINTS, resume=True, begin=end, checksum=checksum) as lines:
        lines.add(frame(2))
        lines.finish()
    assert path.read_bytes() == b"".join(to_line(frame(number), COCO_KEYPOINTS) for number in range(3))


def test_starting_anew_leaves_nothing_of_before(path):
    write(path, range(5))
    write(path, range(1))
    assert [line["frame"] for line in read_lines(path)] == [0]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data.replace(b"0.1", b"0.2"), lambda data: b""]
)
def test_what_was_changed_since_is_not_gone_on_with(path, damage):
    end, checksum = write(path, range(4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="changed since it was written"):
        PeopleLines(path, COCO_KEYPOINTS, resume=True, begin=end, checksum=checksum)


def test_a_last_line_that_is_not_whole_is_left_out_and_another_is_one_line(path):
    write(path, range(3))
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    assert [line["frame"] for line in read_lines(path)] == [0, 1]
    path.write_bytes(b"nothing\n" + data)
    with pytest.raises(UserError, match="line 1 is no frame"):
        list(read_lines(path))


def test_video_json(tmp_path):
    assert read_info(tmp_path) is None
    info = VideoInfo(
        name="walk.mp4",
        width=64,
        height=48,
        fps=None,
        complete=False,
        frames=3,
        broken=0,
        notices=[],
        categories=[],
        info={"start": 0},
    )
    write_info(tmp_path, info)
    assert read_info(tmp_path) == info
    for text in ("{", "[]", '{"name": "a"}'):
        (tmp_path / "video.json").write_text(text)
        with pytest.raises(UserError, match="--overwrite"):
            read_info(tmp_path)
