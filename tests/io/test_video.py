"""Films of a few frames, made here: times, parts, rotation, depth, broken ones, and what is written."""

import functools
import itertools
import socket
import struct
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import PIL.Image
import pytest

from bmp.errors import MissingExtraError, UserError
from bmp.io.video import Losses, VideoError, VideoReader, video_writer

av = pytest.importorskip("av", reason="PyAV, the extra video")

COUNT = 10
STEADY = [40 * number for number in range(COUNT)]  # milliseconds
VARYING = [0, 40, 50, 130, 131, 300, 340, 700, 900, 1000]
# Red, green over blue, white.
QUARTERS = np.repeat(
    np.repeat(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8), 24, axis=0), 32, axis=1
)


def grey(number):
    """The picture of a frame, from which its number can be told."""
    return np.full((48, 64, 3), 20 + 20 * number, np.uint8)


def make(
    path,
    times=STEADY,
    codec="libx264",
    pixel_format="yuv420p",
    picture=grey,
    rotation=0,
    mirrored=False,
    full=False,
    matrix=None,
    **options,
):
    """Write a film with a key frame every fourth frame and frames between that depend on later ones."""
    flags = {name: options.pop(name) for name in ["movflags", "cluster_time_limit"] if name in options}
    with av.open(str(path), "w", container_options=flags) as container:
        stream = container.add_stream(codec, rate=25, options={"bf": "2", "g": "4", "crf": "10", **options})
        stream.height, stream.width = picture(0).shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if full:
            stream.codec_context.color_range = 2
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame = frame.reformat(format=pixel_format, dst_color_range=2 if full else 1, dst_colorspace=matrix)
            frame.colorspace = 2  # not said
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path, **options):
    """Return (index, time in ms, number told from the picture) of each frame, how many are broken, and all that is said."""
    notices = []
    with VideoReader(path, notice=notices.append, **options) as reader:
        frames = [
            (frame.index, round(1000 * frame.time), round((frame.image.pixels.float().mean().item() - 20) / 20))
            for frame in reader
        ]
    return frames, reader.losses.broken, notices + reader.losses.lines()


def whole(times=STEADY):
    return [(number, time, number) for number, time in enumerate(times)]


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return make(tmp_path_factory.mktemp("films") / "varying.mp4", VARYING)


@pytest.fixture(scope="module")
def steady(tmp_path_factory):
    return make(tmp_path_factory.mktemp("films") / "steady.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts", "a.avi"])
def test_containers(tmp_path, name):
    # AVI has no times of its own, and MPEG-TS starts late.
    options = {"codec": "mpeg4", "bf": "0", "b": "2000000"} if name == "a.avi" else {}
    frames, broken, notices = read(make(tmp_path / name, **options))
    assert (frames, broken, notices) == (whole(), 0, [])


def test_times_that_do_not_grow_are_reported(tmp_path):
    path = make(tmp_path / "a.avi", bf="0")  # FFmpeg guesses those of H.264 in AVI, and gives the last one twice
    frames, broken, notices = read(path)
    assert [(index, number) for index, _, number in frames] == [(number, number) for number in range(COUNT)]
    assert (broken, notices) == (0, [f"{path}: the times of its frames do not always grow"])


def test_times_are_those_of_the_frames(film):
    assert read(film) == (whole(VARYING), 0, [])
    assert VideoReader(film).frames == COUNT


def test_named_otherwise_with_a_colon(film, tmp_path):
    path = tmp_path / "concat:film of a walk.txt"
    path.write_bytes(film.read_bytes())
    assert read(path)[0] == whole(VARYING)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(COUNT))
def test_seeking_gives_what_reading_gives(film, start):
    expected = whole(VARYING)[start:]
    assert read(film, start=start) == (expected, 0, [])
    assert read(film, start=VARYING[start] / 1000)[0] == expected
    assert read(film, start=max(0.0, VARYING[start] / 1000 - 0.0005))[0] == expected


@pytest.mark.parametrize("name", ["a.ts", "a.avi", "a.h264"])
def test_seeking_where_the_container_helps_less(tmp_path, name):
    path = make(tmp_path / name, bf="0" if name == "a.avi" else "2")
    numbers = [(index, number) for index, _, number in read(path, start=5, end=8)[0]]
    assert numbers == [(5, 5), (6, 6), (7, 7)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"end": 3}, [0, 1, 2]),
        ({"end": 0.131}, [0, 1, 2, 3]),
        ({"start": 2, "end": 0.3}, [2, 3, 4]),
        ({"every": 4}, [0, 4, 8]),
        ({"start": 3, "every": 3}, [3, 6, 9]),
        ({"start": 0.05, "end": 8, "every": 5}, [2, 7]),
    ],
)
def test_parts(film, options, expected):
    assert [index for index, _, _ in read(film, **options)[0]] == expected


@pytest.mark.parametrize("mirrored", [False, True])  # as some front cameras store what they see
@pytest.mark.parametrize(("rotation", "turns"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_films_are_upright(tmp_path, rotation, turns, mirrored):
    path = make(tmp_path / "a.mp4", [0, 40], picture=lambda _: QUARTERS, rotation=rotation, mirrored=mirrored)
    pixels = next(iter(VideoReader(path))).image.pixels.numpy()
    expected = np.rot90(QUARTERS, turns)
    expected = expected[:, ::-1] if mirrored else expected
    assert pixels.shape == expected.shape
    assert np.abs(pixels[12::24, 12::24].astype(int) - expected[12::24, 12::24]).max() <= 12


@pytest.mark.parametrize(
    ("codec", "pixel_format", "full"),
    [
        ("libx264", "yuv420p10le", False),
        ("libx264", "yuv444p", False),
        ("libx264", "yuv420p", True),
        ("libx265", "yuv420p10le", False),
        ("ffv1", "yuv422p10le", False),
    ],
)
def test_depths_and_ranges(tmp_path, codec, pixel_format, full):
    # One thread and a fixed quality: what x265 makes with several depends on how busy the machine is.
    options = {"x265-params": "log-level=none:pools=none:frame-threads=1:bframes=0:qp=8"} if codec == "libx265" else {}
    path = make(tmp_path / "a.mkv", [0, 40], codec, pixel_format, lambda _: QUARTERS, full=full, **options)
    pixels = next(iter(VideoReader(path))).image.pixels.numpy()
    assert np.abs(pixels[12::24, 16::32].astype(int) - QUARTERS[12::24, 16::32]).max() <= 12


@pytest.mark.parametrize(("height", "matrix"), [(576, "ITU601"), (720, "ITU709")])
def test_colours_that_are_not_explained_follow_the_size(tmp_path, height, matrix):
    red = np.full((height, 64, 3), [255, 0, 0], np.uint8)
    path = make(tmp_path / "a.mp4", [0], picture=lambda _: red, matrix=matrix)
    pixels = next(iter(VideoReader(path))).image.pixels.numpy()
    assert np.abs(pixels.astype(int) - red).max() <= 6


def damaged(path, source, number):
    """Write ``source`` with the content of its packet ``number`` overwritten."""
    with av.open(str(source)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        content = bytearray(source.read_bytes())
        content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(content)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 5, COUNT - 1])
def test_broken_packets_are_counted_and_the_rest_is_read(tmp_path, steady, number):
    path = damaged(tmp_path / "a.mp4", make(tmp_path / "b.mp4", bf="0", g="1"), number)
    frames, broken, notices = read(path)
    assert frames == [row for row in whole() if row[0] != number]
    assert broken == 1
    assert notices == ["1 frame could not be decoded; all others were done"]
    if number < 9:
        assert read(path, start=number)[0] == frames[number:]
        assert read(path, start=number + 1) == (frames[number:], 0, [])


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_film_that_is_cut_short_is_read_up_to_there(tmp_path, name):
    path = make(tmp_path / name, movflags="faststart", bf="0")
    with av.open(str(path)) as container:
        end = [packet.pos for packet in container.demux(video=0) if packet.size][7]
    path.write_bytes(path.read_bytes()[:end])
    frames, broken, notices = read(path)
    assert (frames, broken) == (whole()[:7], 0)
    if name == "a.mp4":
        assert notices == ["ends after 7 of the 10 frames that it announces; it was cut short"]


def test_film_without_a_length(tmp_path):
    path = make(tmp_path / "a.ts")
    reader = VideoReader(path)
    assert reader.frames is None
    assert len(list(reader)) == COUNT


def test_loop_may_be_left(film):
    with VideoReader(film) as reader:
        assert next(iter(reader)).index == 0


def test_film_is_read_once(film):
    reader = VideoReader(film)
    assert len(list(reader)) == COUNT
    with pytest.raises(UserError, match="was read already"):
        list(reader)


@pytest.mark.slow
def test_long_gap_of_broken_frames(tmp_path):
    whole_film = make(tmp_path / "a.mp4", [40 * number for number in range(150)], picture=lambda _: QUARTERS, g="1")
    with av.open(str(whole_film)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        gap = [(packet.pos, packet.size) for packet in packets[10:110]]
    content = bytearray(whole_film.read_bytes())
    for position, size in gap:
        content[position : position + size] = b"\xff" * size
    whole_film.write_bytes(content)
    for start, broken in ((0, 100), (70, 40), (130, 0)):
        with VideoReader(whole_film, start=start, notice=lambda _: None) as reader:
            frames = [(frame.index, round(25 * frame.time)) for frame in reader]
        assert frames == [(number, number) for number in [*range(10), *range(110, 150)] if number >= start]
        assert reader.losses == Losses(broken=broken)
    assert read(whole_film, end=60)[1] == 50


def sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "a folder"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("not a film\n" * 50), "broken or no video"),
        (lambda path: path.write_bytes(bytes(range(256)) * 40), "broken or no video"),
        (lambda path: path.write_bytes(make(path.with_name("b.mp4")).read_bytes()[:300]), "broken or no video"),
        (sound, "no video stream, only audio"),
        (lambda path: PIL.Image.fromarray(QUARTERS).save(path, "png"), "a single picture"),
        (lambda path: PIL.Image.fromarray(QUARTERS).save(path, "jpeg"), "a single picture"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
def test_what_is_no_film(tmp_path, name, write, message):
    path = tmp_path / name
    write(path)
    if name == "a.txt" and "no video" in message and path.read_bytes()[:1] == b"n":
        message = "a text"  # which FFmpeg would show
    with pytest.raises(VideoError, match=message) as error:
        VideoReader(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_film_of_which_no_frame_can_be_decoded(tmp_path):
    path = damaged(tmp_path / "a.mp4", make(tmp_path / "b.mp4", [0]), 0)
    with pytest.raises(VideoError, match="none of its frames"):
        list(VideoReader(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": COUNT}, "no frame from frame 10 on; start earlier; it has 10 frames"),
        ({"start": 60.0}, "no frame from 60 s on"),
        ({"every": 0}, "every=1"),
        ({"start": -1}, "start to be 0 or more"),
        ({"end": float("nan")}, "end to be 0 or more"),
        ({"start": 4, "end": 4}, "nothing from frame 4 to frame 4"),
        ({"start": 2.0, "end": 1.5}, "nothing from 2 s to 1.5 s"),
        ({"start": 9, "end": 0.1}, "nothing from frame 9 to 0.1 s"),
    ],
)
def test_parts_that_there_are_not(film, options, message):
    with pytest.raises(UserError, match=message):
        read(film, **options)


def test_streams_that_do_not_answer():
    with pytest.raises(VideoError, match=r"rtsp://127\.0\.0\.1:9/walk: cannot be opened"):
        VideoReader("rtsp://127.0.0.1:9/walk")


def test_missing_library_names_the_extra(monkeypatch, film):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match="needs av"):
        VideoReader(film)


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 63), (33, 31)])
def test_written_films_have_even_sides_and_their_colours(tmp_path, size):
    path = tmp_path / "a.mp4"
    height, width = size
    with video_writer(path, rate=10) as write:
        for _ in range(3):
            write(QUARTERS[:height, :width])
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    frames = list(VideoReader(path))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    pixels = frames[0].image.pixels.numpy()
    assert pixels.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(pixels[8:20, 8:28].astype(int) - [255, 0, 0]).max() <= 12
    if height % 2:
        assert np.abs(pixels[-1].astype(int) - pixels[-2]).max() <= 16


def test_written_films_keep_times(tmp_path):
    path = tmp_path / "a.mp4"
    with video_writer(path) as write:
        for number, time in enumerate(VARYING):
            write(grey(number), time / 1000)
    assert read(path) == (whole(VARYING), 0, [])


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([(grey(0), None), (grey(1)[:20], None)], "size of the first"),
        ([(grey(0), 0.5), (grey(1), 0.5)], "times that grow"),
        ([(grey(0).astype(np.float32), None)], "uint8"),
        ([], "without a picture"),
    ],
)
def test_film_that_is_not_finished_leaves_nothing(tmp_path, calls, message):
    def write_all():
        with video_writer(tmp_path / "a.mp4") as write:
            for call in calls:
                write(*call)

    with pytest.raises(UserError, match=message):
        write_all()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be written"), video_writer(tmp_path / "none" / "a.mp4") as write:
        write(grey(0))


class _Live(BaseHTTPRequestHandler):
    """A camera of the network: sends what it has without saying how much that is, or less than it says."""

    def do_GET(self):
        self.send_response(200)
        if self.server.promised:
            self.send_header("Content-Length", str(self.server.promised))
        self.end_headers()
        with suppress(ConnectionError):  # whoever opens a stream may leave it before its end
            self.wfile.write(self.server.sent)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def live():
    """Serve bytes at an address of this machine; promised: how many are announced, 0 for no announcement."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Live)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def address(sent, promised=0):
        server.sent, server.promised = sent, promised
        return f"http://127.0.0.1:{server.server_port}/camera"

    yield address
    server.shutdown()
    server.server_close()


@pytest.fixture
def wire():
    """Send bytes to whoever connects, over TCP; lost: when it is set the connection breaks, instead of ending."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def send(sent, lost):
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.sendall(sent)
                if lost is not None:  # an end that is not waited for is a reset
                    lost.wait(10)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def address(sent, lost=None):
            threading.Thread(target=send, args=(sent, lost), daemon=True).start()
            return f"tcp://127.0.0.1:{server.getsockname()[1]}"

        yield address


@pytest.fixture(scope="module")
def sendable(tmp_path_factory):
    """The bytes of a film of 1.6 s in a container, which is read without going back in it."""
    folder = tmp_path_factory.mktemp("sent")

    @functools.cache
    def made(kind):
        flags = {"mp4": {"movflags": "faststart"}, "mkv": {"cluster_time_limit": "300"}}.get(kind, {})
        options = {"picture": lambda number: np.roll(QUARTERS, 5 * number, axis=1), "bf": "0", "g": "8"}
        return make(folder / f"film.{kind}", range(0, 1600, 40), **options, **flags).read_bytes()

    return made


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ts", "mkv", "flv"])
def test_a_camera_that_ends_is_at_its_end(sendable, live, kind):
    notices = []
    with VideoReader(live(sendable(kind)), notice=notices.append) as frames:
        assert frames.frames is None
        assert len(list(frames)) == 40
    assert frames.losses == Losses()
    (notice,) = notices  # FFmpeg calls the end of what has no length an error
    assert notice == f"{frames.name}: the stream has ended (Input/output error)"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ts", "mkv", "mp4"])
def test_a_stream_that_is_whole_is_quiet(sendable, wire, kind):
    frames, broken, said = read(wire(sendable(kind)))
    assert (len(frames), broken, said) == (40, 0, [])


@pytest.mark.parametrize(
    ("kind", "way", "said"),
    [
        ("ts", "http", "was cut off (Input/output error); what came before was done"),
        ("mkv", "http", " of the 1.60 s that it announces; it was cut short"),
        ("mp4", "http", " of the 40 frames that it announces; it was cut short"),
        ("flv", "http", " s that it announces; it was cut short"),
        ("mkv", "tcp", " of the 1.60 s that it announces; it was cut short"),
        ("mp4", "tcp", " of the 40 frames that it announces; it was cut short"),
        ("mkv", "file", " of the 1.60 s that it announces; it was cut short"),
        ("flv", "file", " s that it announces; it was cut short"),
    ],
)
def test_what_is_cut_off_in_the_middle_is_said_in_one_line(tmp_path, sendable, live, wire, kind, way, said):
    content = sendable(kind)
    half = content[: len(content) // 2]
    if way == "file":
        source = tmp_path / f"cut.{kind}"
        source.write_bytes(half)
    else:
        source = live(half, promised=len(content)) if way == "http" else wire(half)
    notices = []
    with VideoReader(source, notice=notices.append) as reader:
        found = [frame.index for frame in reader]
    assert found == list(range(len(found)))
    assert 5 < len(found) < 30
    assert notices == []
    *others, cut = reader.losses.lines()
    assert cut.endswith(said)
    # Perhaps the frame in which it ends.
    assert all(line.startswith("1 frame ") and line.endswith(" done") for line in others)


def test_a_connection_that_is_lost_is_no_end(sendable, wire):
    lost = threading.Event()
    with VideoReader(wire(sendable("ts"), lost)) as reader:
        frames = iter(reader)
        assert next(frames).index == 0
        lost.set()
        assert [frame.index for frame in frames][:2] == [1, 2]
    assert reader.losses.cut == "was cut off (Connection reset by peer); what came before was done"


@pytest.mark.parametrize(
    "kind", ["mkv", pytest.param("ts", marks=pytest.mark.slow), pytest.param("mp4", marks=pytest.mark.slow)]
)
def test_films_with_a_gap_of_damage_are_read_and_it_is_counted(tmp_path, sendable, kind):
    """A tenth of the film, anywhere in it, is noise: then frames are lost, and that is said."""
    content = sendable(kind)
    path = tmp_path / f"damaged.{kind}"
    for seed in range(6):
        generator = np.random.default_rng(seed)
        begin = int(len(content) * generator.uniform(0.3, 0.8))
        noise = generator.bytes(len(content) // 10)
        path.write_bytes(content[:begin] + noise + content[begin + len(noise) :])
        with VideoReader(path, notice=lambda _: None) as reader:
            frames = [frame.index for frame in reader]
        losses = reader.losses
        assert 5 <= len(frames) < 40, seed
        assert losses.broken + losses.missing + losses.damaged > 0 or losses.cut, seed
        assert frames == sorted(set(frames))
        if kind != "ts" and not losses.cut:
            assert len(frames) + losses.broken + losses.missing == 40, seed


def test_a_rate_that_varies_has_no_gaps(tmp_path):
    assert read(make(tmp_path / "a.mkv", VARYING)) == (whole(VARYING), 0, [])


def test_a_device_of_ffmpeg_is_read_until_it_is_left():
    with VideoReader("testsrc=size=64x48:rate=25", format="lavfi") as frames:
        assert frames.frames is None
        indices = [frame.index for frame in itertools.islice(frames, 5)]
    assert indices == [0, 1, 2, 3, 4]
