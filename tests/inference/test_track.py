"""The command ``bmp track`` on films of textured rectangles, with a segmenter that is asked for their red."""

import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sam_pt_fakes import RedSAM, mask_in, textured

from bmp.cli import main
from bmp.io import video_inputs
from bmp.io.formats.index_masks import read_index_mask, write_index_mask
from bmp.io.video import VideoReader, video_writer

FRAMES = textured(lambda t: (10 + 2 * t, 5, 50 + 2 * t, 40), lambda t: (55 - 3 * t, 42, 95 - 3 * t, 76), count=6)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A folder of pictures, which is a film without loss; beside it the masks of its first and third frame."""
    folder = tmp_path_factory.mktemp("film")
    (folder / "frames").mkdir()
    for frame in FRAMES:
        PIL.Image.fromarray(frame.image.pixels.numpy()).save(folder / "frames" / f"{frame.index:03d}.png")
    write_index_mask(folder / "first.png", labels(FRAMES[0]))
    write_index_mask(folder / "third.png", labels(FRAMES[2]))
    (folder / "red.py").write_text(
        "pipeline = dict(segmenter=dict(type='sam_pt_fakes.RedSAM'))\nsam_pt = dict(refinements=1)\n"
    )
    return folder


def labels(frame, numbers=(1, 2)):
    found = np.zeros((frame.image.height, frame.image.width), np.int64)
    for which, number in enumerate(numbers):
        found[mask_in(frame, which).numpy()] = number
    return found


def track(film, output, *options, source=None):
    source = [str(film / "frames")] if source is None else source
    return main(
        ["track", *source, "-c", str(film / "red.py"), "-o", str(output), "--device", "cpu", *map(str, options)]
    )


def lines(output):
    _settings, *rows = map(json.loads, (output / "objects.jsonl").read_text().splitlines())
    return rows


def assert_right(output, frames=FRAMES, numbers=(1, 2)):
    written = sorted((output / "masks").iterdir())
    assert [path.name for path in written] == [f"{frame.index:05d}.png" for frame in frames]
    for path, frame in zip(written, frames, strict=True):
        np.testing.assert_array_equal(read_index_mask(path), labels(frame, numbers), err_msg=path.name)
    assert [row["frame"] for row in lines(output)] == [frame.index for frame in frames]


@pytest.fixture(scope="module")
def whole(film, tmp_path_factory):
    """What an undisturbed run writes."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert track(film, output, "--masks", film / "first.png") == 0
    return output


def pictures(output):
    with VideoReader(output / "overlay.mp4") as overlay:
        return [frame.image.pixels.numpy() for frame in overlay]


def test_objects_of_a_mask_are_followed(whole):
    assert_right(whole)
    row = lines(whole)[2]
    assert row["time"] == 0.08
    assert [one["track_id"] for one in row["objects"]] == [1, 2]
    first = row["objects"][0]
    assert first["bbox"] == [14, 5, 40, 35]
    assert first["area"] == 40 * 35
    assert first["score"] == pytest.approx(0.9)
    assert len(first["points"]) == len(first["labels"]) == len(first["seen"]) == 17
    drawn = pictures(whole)
    assert len(drawn) == 6
    assert np.abs(drawn[3] - FRAMES[3].image.pixels.float().numpy()).mean() > 5


@pytest.mark.slow
def test_points_boxes_and_a_file(film, tmp_path):
    (tmp_path / "objects.json").write_text(
        json.dumps([{"id": 7, "points": [[30, 20], [90, 10]], "labels": [1, 0]}, {"frame": 2, "box": [50, 43, 88, 75]}])
    )
    assert track(film, tmp_path / "a", "--points", "30,20 90,10,0", "70,60", "--no-overlay") == 0
    assert_right(tmp_path / "a")
    assert not (tmp_path / "a" / "overlay.mp4").exists()
    assert track(film, tmp_path / "b", "--boxes", "11,6,48,38", "2=50,43,88,75", "--backward", "--no-overlay") == 0
    assert_right(tmp_path / "b")
    assert track(film, tmp_path / "c", "--objects", tmp_path / "objects.json", "--no-overlay") == 0
    assert [[one["track_id"] for one in row["objects"]] for row in lines(tmp_path / "c")] == [[7]] * 2 + [[1, 7]] * 4


@pytest.mark.slow
def test_masks_of_later_frames_and_a_folder_of_them(film, tmp_path):
    (tmp_path / "given").mkdir()
    write_index_mask(tmp_path / "given" / "00001.png", labels(FRAMES[1], (3, 0)))
    write_index_mask(tmp_path / "given" / "00002.png", labels(FRAMES[2], (3, 4)))
    write_index_mask(tmp_path / "given" / "00004.png", labels(FRAMES[4], (0, 0)))
    assert track(film, tmp_path / "a", "--masks", tmp_path / "given", "--no-overlay") == 0
    assert [[one["track_id"] for one in row["objects"]] for row in lines(tmp_path / "a")] == [[], [3], *[[3, 4]] * 4]
    part = ("--start", 1, "--end", 5, "--no-overlay")
    assert track(film, tmp_path / "b", "--masks", f"2={film / 'third.png'}", "--backward", *part) == 0
    assert_right(tmp_path / "b", FRAMES[1:5])


@pytest.mark.slow
def test_everything_there_is(film, tmp_path):
    assert track(film, tmp_path, "--everything", "--no-overlay", "--end", 3) == 0
    for row, frame in zip(lines(tmp_path), FRAMES, strict=False):
        areas = sorted(one["area"] for one in row["objects"])
        objects = [int(mask_in(frame, which).sum()) for which in range(2)]
        assert areas == sorted([*objects, 80 * 100 - sum(objects)])


@pytest.mark.slow
def test_each_second_frame(film, tmp_path):
    part = ("--every", 2, "--end", "0.2s", "--no-overlay")
    assert track(film, tmp_path / "out", "--masks", film / "first.png", *part) == 0
    assert_right(tmp_path / "out", FRAMES[:5:2])


@pytest.fixture
def counted(monkeypatch):
    """The pictures that are read, by name, and how many frames the segmenter encodes."""
    read, opened = [], []
    load, open_views = video_inputs.load, RedSAM.open

    def load_and_note(path, **options):
        read.append(Path(path).name)
        return load(path, **options)

    def open_and_note(segmenter, images):
        opened.extend(images)
        return open_views(segmenter, images)

    monkeypatch.setattr(video_inputs, "load", load_and_note)
    monkeypatch.setattr(RedSAM, "open", open_and_note)
    return read, opened


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ((), range(6)),
        (("--every", 2), range(0, 6, 2)),
        pytest.param(("--reinitialise", "similar-area", "--horizon", 3), range(6), marks=pytest.mark.slow),
    ],
)
def test_no_frame_is_read_or_encoded_twice(film, tmp_path, counted, options, numbers):
    read, opened = counted
    assert track(film, tmp_path, "--masks", film / "first.png", "--no-overlay", *options) == 0
    assert read == [f"{number:03d}.png" for number in numbers]
    assert len(opened) == len(numbers) - 1  # the first one's masks are given


@pytest.mark.slow
def test_a_resumed_run_encodes_what_is_left(film, whole, tmp_path, counted):
    read, opened = counted
    folder = shutil.copytree(whole, tmp_path / "killed")
    journal = folder / "objects.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:4]))
    assert track(film, folder, "--masks", film / "first.png", "--no-overlay", "--resume") == 0
    assert len(opened) == 3
    assert [name for name in read if name > "002.png"] == [f"{number:03d}.png" for number in range(3, 6)]


@pytest.mark.slow
def test_frames_are_not_kept(film, tmp_path, monkeypatch):
    alive, held, load = weakref.WeakSet(), [], video_inputs.load

    def load_and_note(path, **options):
        image = load(path, **options)
        alive.add(image)
        held.append(len(alive))
        return image

    monkeypatch.setattr(video_inputs, "load", load_and_note)
    assert track(film, tmp_path, "--masks", film / "first.png") == 0
    assert len(held) == 6
    assert max(held) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("variant", [pytest.param("on-horizon-and-sync", marks=pytest.mark.slow), "similar-area"])
def test_points_are_drawn_anew(film, tmp_path, variant):
    anew = ("--reinitialise", variant, "--horizon", 3, "--no-overlay")
    assert track(film, tmp_path, "--masks", film / "first.png", *anew, "--overlap") == 0
    assert_right(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [1, 4])
def test_what_cannot_be_decoded_is_counted_by_a_run_that_is_gone_on_with_too(film, tmp_path, capsys, broken):
    shutil.copytree(film / "frames", tmp_path / "frames")
    (tmp_path / "frames" / f"{broken:03d}.png").write_bytes(b"")
    given = ("--points", "30,20", "--no-overlay", "--quiet")
    source = [str(tmp_path / "frames")]
    assert track(film, tmp_path / "out", *given, source=source) == 1
    said = f"{tmp_path / 'frames'}: 1 frame could not be decoded; all others were done\n"
    assert capsys.readouterr().err.endswith(said)
    journal = tmp_path / "out" / "objects.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:4]))
    assert track(film, tmp_path / "out", *given, "--resume", source=source) == 1
    assert capsys.readouterr().err.endswith(said)
    assert journal.read_bytes() == whole


@pytest.mark.slow
def test_frames_of_another_size_do_not_end_the_run(film, tmp_path):
    shutil.copytree(film / "frames", tmp_path / "frames")
    with PIL.Image.open(tmp_path / "frames" / "003.png") as picture:
        picture.resize((131, 90)).save(tmp_path / "frames" / "003.png")
    given = ("--masks", film / "first.png", "--quiet")
    assert track(film, tmp_path / "out", *given, source=[str(tmp_path / "frames")]) == 0
    sizes = [read_index_mask(path).shape for path in sorted((tmp_path / "out" / "masks").iterdir())]
    assert sizes == [(80, 100)] * 3 + [(90, 131)] + [(80, 100)] * 2
    assert [each.shape[:2] for each in pictures(tmp_path / "out")] == [(80, 100)] * 6


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0, 4, 6])
def test_a_killed_run_goes_on_to_the_same_result(film, whole, tmp_path, capsys, kept):
    shutil.copytree(whole, tmp_path / "killed")
    journal = tmp_path / "killed" / "objects.jsonl"
    rows = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(rows[: kept + 1]) + b"".join(rows[kept + 1 : kept + 2])[:30])
    for number in range(kept + 1, 6):
        (tmp_path / "killed" / "masks" / f"{number:05d}.png").unlink()
    (tmp_path / "killed" / "overlay.mp4").unlink()
    assert track(film, tmp_path / "killed", "--masks", film / "first.png", "--resume") == 0
    assert journal.read_bytes() == (whole / "objects.jsonl").read_bytes()
    assert_right(tmp_path / "killed")
    np.testing.assert_array_equal(pictures(tmp_path / "killed"), pictures(whole))
    said = capsys.readouterr().out
    assert "2 objects in 6 frames (object 1 in 6 with mean predicted IoU 0.92" in said
    assert "objects.jsonl" in said


@pytest.mark.slow
def test_what_cannot_go_on(film, tmp_path, capsys):
    queries = ("--masks", film / "first.png", "--no-overlay")
    assert track(film, tmp_path, *queries, "--end", 3) == 0
    assert track(film, tmp_path, *queries) == 2
    assert "has the results of an earlier run" in capsys.readouterr().err
    assert track(film, tmp_path, *queries, "--resume", "--every", 2) == 2
    assert "made with other settings (end, every)" in capsys.readouterr().err
    assert track(film, tmp_path, *queries, "--resume", "--backward") == 2
    assert "--resume goes on forwards" in capsys.readouterr().err
    journal = tmp_path / "objects.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"frame": 1', b'"frame": 7'))
    assert track(film, tmp_path, *queries, "--end", 3, "--resume") == 2
    assert "changed since it was written" in capsys.readouterr().err
    assert track(film, tmp_path, *queries, "--overwrite") == 0
    assert_right(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say what is to be followed"),
        (["--masks", "{film}/none.png"], "No such file"),
        (["--masks", "{film}/red.py"], "not a picture"),
        (["--masks", "{film}/empty.png"], "has no object, all of its pixels are 0"),
        (["--masks", "{film}/small.png"], "object 1: its mask has 20x10 pixels, frame 0 has 100x80"),
        (["--masks", "9={film}/first.png"], "object 1: there is no frame 9;"),
        (["--masks", "1={film}/first.png", "--every", "2"], "object 1: frame 1 is left out"),
        (["--masks", "1={film}/first.png", "--start", "2"], "object 1: frame 1 is not in the part"),
        (["--masks", "{film}/first.png", "1={film}/first.png"], "object 1 is given twice"),
        (["--masks", "{film}/frames/../nowhere"], "No such file"),
        (["--masks", "{film}/odd"], "has no PNG whose name ends with the number of a frame"),
        (["--points", "100,20"], "object 1: its point 100,20 is outside of the frame, 100x80"),
        (["--points", "5"], "expected X,Y for points on the object"),
        (["--points", "5,6,2"], "expected X,Y for points on the object"),
        (["--points", "a,b"], "expected X,Y or X,Y,0, numbers in pixels"),
        (["--points", "nan,5"], "expected X,Y or X,Y,0, numbers in pixels"),
        (["--points", " "], "expected X,Y for points on the object"),
        (["--points", "x=5,6"], "expected the number of a frame before '='"),
        (["--points", "5,6,0"], "object 1: expected a point on the object"),
        (["--boxes", "5,6,7"], "expected X1,Y1,X2,Y2, numbers in pixels"),
        (["--boxes", "5,6,5,9"], "object 1: expected a box x1,y1,x2,y2"),
        (["--boxes", "150,6,160,9"], "object 1: its box 150,6,160,9 is outside of the frame"),
        (["--objects", "{film}/none.json"], "No such file"),
        (["--objects", "{film}/red.py"], "not JSON"),
        (["--points", "5,6", "--everything"], "or --everything by itself"),
        (["--points", "5,6", "--horizon", "4"], "--horizon goes with --reinitialise"),
        (["--points", "5,6", "-c", "lite.py"], "LiteSegmenter cannot be asked by points"),
        (["--points", "5,6", "--set", "sam_pt.refinement=3"], "SAMPT has no argument 'refinement'"),
        (["--points", "5,6", "--set", "sam_pt.positives=0"], "positives: expected at least 1"),
        (["--points", "5,6", "--set", "sam_pt.tracker={{'type': 'Nothing'}}"], "there is no point tracker 'Nothing'"),
    ],
)
def test_bad_input_is_one_line(film, tmp_path, capsys, options, words):
    write_index_mask(film / "empty.png", np.zeros((80, 100), np.int64))
    write_index_mask(film / "small.png", np.ones((10, 20), np.int64))
    (film / "odd").mkdir(exist_ok=True)
    if "lite.py" in options:
        pytest.importorskip("ai_edge_litert")
    code = track(film, tmp_path / "out", "-q", *(option.format(film=film) for option in options))
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert code == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"id": 1}, "expected a list of objects"),
        ([{"id": 1, "point": [[1, 2]]}], "entry 0: 'point' is unknown"),
        ([{"points": [1, 2]}], "entry 0: points: expected [[x, y], ...], got [1, 2]"),
        ([{"box": [1, 2, 3]}], "entry 0: box: expected [x1, y1, x2, y2]"),
        ([{"box": "all"}], "entry 0: box: expected [x1, y1, x2, y2]"),
        ([{"points": [[1, 2]], "labels": [3]}], "entry 0: labels: expected 1"),
        ([{"points": [[1, 2]], "frame": -1}], "entry 0: frame: expected a whole number from 0"),
        ([{"points": [[1, 2]], "id": 300}], "object 300: expected numbers from 1 to 254"),
        ([{"points": [[1, 2]], "id": 0}], "object 0: expected an id from 1"),
        ([], "say what is to be followed"),
    ],
)
def test_a_file_of_objects_that_makes_no_sense(film, tmp_path, capsys, content, words):
    (tmp_path / "objects.json").write_text(json.dumps(content))
    assert track(film, tmp_path / "out", "--objects", tmp_path / "objects.json") == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "expected one video, got none"),
        (["{film}/frames", "-i", "{film}/frames"], "expected one video, got 2"),
        (["{film}/none.mp4"], "check the spelling"),
        (["{film}/text.mp4"], "text.mp4: is broken or no video"),
    ],
)
def test_what_is_no_video(film, tmp_path, capsys, source, words):
    (film / "text.mp4").write_text("This is a text, and no film at all.\n" * 40)
    source = [part.format(film=film) for part in source]
    assert track(film, tmp_path / "out", "--points", "5,6", source=source) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_picture_that_is_broken_is_left_out_and_said(film, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in sorted((film / "frames").iterdir()):
        (frames / path.name).write_bytes(path.read_bytes()[: 200 if path.name == "003.png" else None])
    given = ("--masks", film / "first.png", "--no-overlay")
    assert track(film, tmp_path / "out", *given, source=[str(frames)]) == 1
    assert "1 frame could not be decoded; all others were done" in capsys.readouterr().err
    assert [row["frame"] for row in lines(tmp_path / "out")] == [0, 1, 2, 4, 5]


@pytest.mark.slow
def test_a_film(film, tmp_path):
    """H.264 does not keep the red as it is; the objects are found and followed all the same."""
    with video_writer(tmp_path / "film.mp4") as write:
        for frame in FRAMES:
            write(np.repeat(frame.image.pixels.numpy(), 2, axis=0).repeat(2, axis=1), frame.time)
    big = np.repeat(labels(FRAMES[0]), 2, axis=0).repeat(2, axis=1)
    write_index_mask(tmp_path / "first.png", big)
    source = [str(tmp_path / "film.mp4")]
    assert track(film, tmp_path / "out", "--masks", tmp_path / "first.png", source=source) == 0
    assert len(lines(tmp_path / "out")) == 6
    np.testing.assert_array_equal(read_index_mask(Path(tmp_path / "out" / "masks" / "00000.png")), big)
