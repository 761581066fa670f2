"""Exported files on the disk: complete or not there, made anew where they are broken, by one process at a time."""

import shutil
import threading

import pytest

from bmp import UserError
from bmp.models.engines.cache import MODEL, exported


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BMP_CACHE", str(tmp_path))
    return tmp_path / "engines"


def writer(content=b"network", beside=()):
    calls = []

    def write(file):
        calls.append(file)
        file.write_bytes(content)
        for name in beside:
            (file.parent / name).write_bytes(b"weights")

    write.calls = calls
    return write


def test_a_file_is_made_once():
    write = writer(beside=["weights.bin"])
    file = exported("net", "f" * 64, write)
    assert exported("net", "f" * 64, write) == file
    assert file.read_bytes() == b"network"
    assert (file.parent / "weights.bin").is_file()
    assert len(write.calls) == 1


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.write_bytes(b"net"),
        lambda file: file.write_bytes(b"Network"),
        lambda file: file.unlink(),
        lambda file: (file.parent / "weights.bin").unlink(),
        lambda file: (file.parent / "contents.json").unlink(),
        lambda file: (file.parent / "contents.json").write_text("[1"),
        lambda file: (file.parent / "contents.json").write_text("[1]"),
        lambda file: (file.parent / "contents.json").write_text("{}"),
        lambda file: (shutil.rmtree(file.parent), file.parent.mkdir()),
    ],
)
def test_a_broken_file_is_made_anew(harm, caplog):
    write = writer(beside=["weights.bin"])
    file = exported("net", "f" * 64, write)
    harm(file)
    assert exported("net", "f" * 64, write).read_bytes() == b"network"
    assert (file.parent / "weights.bin").is_file()
    assert len(write.calls) == 2
    assert "exported anew" in caplog.text
    assert exported("net", "f" * 64, write) == file
    assert len(write.calls) == 2


def test_who_comes_second_waits_for_the_first():
    begun, go = threading.Event(), threading.Event()
    write = writer()

    def slowly(file):
        begun.set()
        assert go.wait(10)
        write(file)

    found = []
    first = threading.Thread(target=lambda: found.append(exported("net", "f" * 64, slowly)))
    second = threading.Thread(target=lambda: found.append(exported("net", "f" * 64, writer(b"other"))))
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(0.1)
    assert found == []
    go.set()
    first.join(10)
    second.join(10)
    assert [file.read_bytes() for file in found] == [b"network"] * 2


def test_an_export_that_fails_leaves_nothing(cache):
    def fail(file):
        file.write_bytes(b"half")
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        exported("net", "f" * 64, fail)
    assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []
    assert exported("net", "f" * 64, writer()).read_bytes() == b"network"


def test_what_a_killed_process_left_is_removed(cache):
    left = cache / f"net-{'f' * 32}.7"
    left.mkdir(parents=True)
    (left / "junk").write_bytes(b"half")
    file = exported("net", "f" * 64, writer())
    assert sorted(path.name for path in file.parent.iterdir()) == ["contents.json", MODEL]
    assert not left.exists()


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("BMP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="BMP_CACHE"):
        exported("net", "f" * 64, writer())
