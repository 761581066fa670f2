"""Photos in folders, tars, Parquet files and object stores: which are listed, what is left out and said, what is read."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from bmp.errors import UserError
from bmp.io.photo_sources import list_photos, read_bytes

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
STRUCT = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def tar(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_a_broken_archive_stops_no_other_and_odd_names_are_names(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    names = ["ä b/日本 語.PNG", "x/._a.png", "a.b.c.png", "twice.png", "notes.txt", "twice.png"]
    tar(folder / "good.tar", *((name, f"{number}".encode()) for number, name in enumerate(names)))
    tar(folder / "cut.tar", ("one.png", b"1" * 512), ("two.png", b"2" * 4096))
    (folder / "cut.tar").write_bytes((folder / "cut.tar").read_bytes()[:3000])
    (folder / "none.tar").write_bytes(b"no tar" * 1000)
    (folder / "small.tar.gz").write_bytes(b"")
    (folder / "none.parquet").write_bytes(b"PAR1 none")
    parquet.write_table(pa.table({"id": [1], "text": ["a"]}), folder / "other.parquet")
    rows = [b"r", None]
    parquet.write_table(pa.table({"a.b": rows, "id": ["same", "same"]}), folder / "dots.parquet")
    listed = list_photos([str(folder), str(folder / "good.tar")])
    found = {photo.id.removeprefix(f"{folder}/"): photo for photo in listed.photos}
    assert set(found) == {
        "good.tar/ä b/日本 語.PNG", "good.tar/a.b.c.png", "good.tar/twice.png", "cut.tar/one.png", "cut.tar/two.png",
        "dots.parquet#0", "dots.parquet#1",
    }  # fmt: skip
    contents = {"good.tar/ä b/日本 語.PNG": b"0", "good.tar/twice.png": b"5", "dots.parquet#0": b"r"}
    assert {name: read_bytes(found[name]) for name in contents} == contents
    for name, complaint in (("cut.tar/two.png", "the tar ends within it"), ("dots.parquet#1", "has no bytes")):
        with pytest.raises(UserError, match=complaint):
            read_bytes(found[name])
    broken = sorted(line.removeprefix(f"{folder}/").partition(":")[0] for line in listed.failed)
    assert broken == ["cut.tar", "none.parquet", "none.tar", "other.parquet", "small.tar.gz"]
    assert listed.left_out["hidden pictures in tars"] == 2  # named twice
    with pytest.raises(UserError, match=r"none\.tar: cannot be read"):
        list_photos([str(folder / "none.tar")])


def test_what_a_run_writes_is_no_photo_and_names_may_be_no_text(tmp_path):
    photos = tmp_path / "photos"
    (photos / "labels" / "shards").mkdir(parents=True)
    (photos / "a.png").write_bytes(b"a")
    (photos / "labels" / "overlay.png").write_bytes(b"b")
    parquet.write_table(pa.table({"id": ["a"]}), photos / "labels" / "shards" / "1.parquet")
    odd = os.fsdecode(bytes(photos) + b"/\xff.png")
    try:
        Path(odd).write_bytes(b"c")
    except OSError:  # a file system of text
        odd = None
    listed = list_photos([str(photos)], photos / "labels")
    assert (listed.failed, dict(listed.left_out)) == ([], {})
    names = [photo.id.removeprefix(f"{photos}/") for photo in listed.photos]
    assert names == ["a.png", *(["\\udcff.png"] if odd else [])]
    assert read_bytes(listed.photos[-1]) == (b"c" if odd else b"a")


def listed_below(folder, *inputs):
    """Return what is listed, and the bytes of each photo by its id below the folder, or why it cannot be read."""
    listed, contents = list_photos([str(each) for each in inputs]), {}
    for photo in listed.photos:
        name = photo.id.partition(f"{folder.name}/")[2]
        try:
            contents[name] = read_bytes(photo)
        except (OSError, UserError) as error:
            contents[name] = str(error).partition(f"{name}: ")[2]
    return listed, contents


def test_links_in_tars_are_photos_and_what_is_stored_otherwise_is_counted(tmp_path):
    links = [
        ("before.jpg", tarfile.SYMTYPE, "x/hard.jpg"), ("x/hard.jpg", tarfile.LNKTYPE, "./a.jpg"),
        ("x/soft.jpg", tarfile.SYMTYPE, "../a.jpg"), ("gone.jpg", tarfile.SYMTYPE, "nowhere.jpg"),
        ("one.jpg", tarfile.SYMTYPE, "other.jpg"), ("other.jpg", tarfile.SYMTYPE, "one.jpg"),
        ("pipe.jpg", tarfile.FIFOTYPE, ""), ("folder.jpg", tarfile.DIRTYPE, ""),
    ]  # fmt: skip
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.jpg", b"old"), ("./a.jpg", b"new")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, kind, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    listed, contents = listed_below(tmp_path, tmp_path / "a.tar")
    names = ["a.tar/./a.jpg", "a.tar/before.jpg", "a.tar/x/hard.jpg", "a.tar/x/soft.jpg"]
    assert contents == dict.fromkeys(names, b"new")
    assert sorted(listed.left_out.values()) == [1, 1, 3]


def test_folders_may_be_links_and_names_may_be_patterns_or_in_capitals(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").mkdir()
    (inside / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "loop").symlink_to(inside)
    tar(tmp_path / "outside" / "A[1]*.TAR", ("a.jpg", b"a"))
    (inside / "new\nline.JPG").write_bytes(b"b")
    (inside / "-o.jpg").symlink_to("-o.jpg")
    os.mkfifo(inside / "pipe.jpg")
    os.mkfifo(inside / "pipe.tar")
    _, contents = listed_below(inside, inside)
    assert contents["link/A[1]*.TAR/a.jpg"] == b"a"
    assert contents["new\nline.JPG"] == b"b"
    assert contents["pipe.jpg"] == "no regular file; name a picture file"
    assert set(contents) == {"link/A[1]*.TAR/a.jpg", "new\nline.JPG", "pipe.jpg", "-o.jpg"}
    _, contents = listed_below(tmp_path / "outside", tmp_path / "outside" / "A[1]*.TAR")
    assert list(contents) == ["A[1]*.TAR/a.jpg"]
    with pytest.raises(UserError, match="left out 1, files that are no pictures"):
        list_photos([str(inside / "pipe.t*")])


@pytest.mark.parametrize(
    ("column", "contents"),
    [
        (pa.array([b"a", None], pa.large_binary()), [b"a", "has no bytes"]),
        (pa.array([b"a", b""], pa.binary_view()), [b"a", "has no bytes"]),
        (pa.array([b"a", b"a"]).dictionary_encode(), [b"a", b"a"]),
        (
            pa.array([{"bytes": None, "path": "x.jpg"}, None], STRUCT),
            ["has no bytes, only the path 'x.jpg'", "has no bytes"],
        ),
        (pa.array([], pa.binary()), None),
        (pa.array(["a"]), None),
        (pa.array([[b"a"]]), None),
    ],
)
def test_columns_of_bytes_are_photos_however_they_are_stored(tmp_path, column, contents):
    parquet.write_table(pa.table({"id": pa.array(range(len(column))), "image": column}), tmp_path / "a.parquet")
    if contents is None:
        with pytest.raises(UserError, match=r"a\.parquet"):
            list_photos([str(tmp_path / "a.parquet")])
    else:
        assert list(listed_below(tmp_path, tmp_path / "a.parquet")[1].values()) == contents


def test_two_columns_of_one_name_are_refused(tmp_path):
    parquet.write_table(pa.Table.from_arrays([pa.array([b"a"])] * 2, names=["image"] * 2), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="got image, image"):
        list_photos([str(tmp_path / "a.parquet")])


def test_an_address_may_have_the_letters_of_patterns(tmp_path):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe({"/odd/a[1].jpg": b"a", "/odd/b?.jpg": b"b", "/odd/.c.jpg": b"c", "/odd/bc.jpg": b"d"})
    assert [read_bytes(photo) for photo in list_photos(["memory://odd/a[1].jpg"]).photos] == [b"a"]
    assert [read_bytes(photo) for photo in list_photos(["memory://odd/b?.jpg"]).photos] == [b"b"]
    assert [read_bytes(photo) for photo in list_photos(["memory://odd/.c.jpg"]).photos] == [b"c"]
    listed = list_photos(["memory://odd"])
    assert (len(listed.photos), sum(listed.left_out.values())) == (3, 1)
