"""Journals: what survives a kill, what is refused, and that files change in one step."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import UserError
from bmp.io.atomic import replacing, writing
from bmp.io.journal import Journal, JournalReader

SETTINGS = {"rounds": 2, "names": ["a"]}
RECORDS = [{"image": 1}, {"image": "ü", "rows": [0.1, None]}, {"image": 3}]


def _records(journal):
    return [record for _, record in journal.records()]


def test_records_come_back_in_order_and_by_offset(tmp_path):
    journal = Journal(tmp_path / "journal", SETTINGS, records=RECORDS[:1])
    offsets = [journal.append(record) for record in RECORDS[1:]]
    assert _records(journal) == RECORDS
    assert [journal.read(offset) for offset in offsets] == RECORDS[1:]
    reader = JournalReader(tmp_path / "journal", SETTINGS)
    journal.append({"image": 4})
    assert _records(reader) == [*RECORDS, {"image": 4}]
    reader.close()
    journal.close()
    journal.close()
    assert journal.closed


def test_without_resume_it_starts_anew(tmp_path):
    Journal(tmp_path / "journal", SETTINGS, records=RECORDS).close()
    journal = Journal(tmp_path / "journal", SETTINGS, resume=True)
    assert _records(journal) == RECORDS
    journal.close()
    journal = Journal(tmp_path / "journal", SETTINGS)
    assert _records(journal) == []
    journal.close()


@given(st.data())
def test_a_kill_costs_the_last_record_at_most(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("torn") / "journal"
    Journal(path, SETTINGS).close()
    start = path.stat().st_size
    ends = [start]
    journal = Journal(path, SETTINGS, resume=True)
    for record in RECORDS:
        journal.append(record)
        ends.append(path.stat().st_size)
    journal.close()
    size = data.draw(st.integers(start, ends[-1]))
    os.truncate(path, size)
    kept = RECORDS[: sum(end <= size for end in ends) - 1]
    reader = JournalReader(path, SETTINGS)
    assert _records(reader) == kept
    reader.close()
    journal = Journal(path, SETTINGS, resume=True)
    journal.append({"image": 9})
    assert _records(journal) == [*kept, {"image": 9}]
    journal.close()


def test_a_spoilt_line_is_left_out(tmp_path):
    path = tmp_path / "journal"
    Journal(path, SETTINGS, records=RECORDS).close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"\0\0\0\n", b"[1]\n", lines[3]]))
    journal = Journal(path, SETTINGS, resume=True)
    assert _records(journal) == [RECORDS[0], RECORDS[2]]
    journal.close()


@pytest.mark.parametrize(
    "line",
    [
        '{"image": 1}', '{"settings": {"rounds": 2, "names": ["a"]}}', '{"crc32": "00000000", "image": 1}', "[1]", "null",
        "1e400", "1" * 5000, "[" * 100_000, '{"a":' * 100_000, "\udcff", "", '{"crc32": ',
    ],
)  # fmt: skip
def test_a_line_of_somebody_elses_is_no_record(tmp_path, line):
    path = tmp_path / "journal"
    Journal(path, SETTINGS, records=RECORDS[:1]).close()
    whole = path.read_bytes()
    text = line.encode("utf-8", "surrogateescape") + b"\n"
    path.write_bytes(b"".join([json.dumps({"settings": SETTINGS}).encode() + b"\n", text, whole.splitlines(True)[1]]))
    journal = Journal(path, SETTINGS, resume=True)
    assert _records(journal) == RECORDS[:1]
    assert journal.spoilt == 1
    journal.close()


@pytest.mark.parametrize("kind", [Journal, JournalReader])
def test_other_settings_are_refused_and_the_file_stays(tmp_path, kind):
    path = tmp_path / "journal"
    Journal(path, SETTINGS, records=RECORDS).close()
    before = path.read_bytes() + b'{"torn'
    path.write_bytes(before)
    options = {"resume": True} if kind is Journal else {}
    with pytest.raises(UserError, match=r"other settings \(rounds, more\)"):
        kind(path, {"names": ["a"], "rounds": 1, "more": None}, **options)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "hello\n", "3\n", '{"settings": 3}\n', '{"settings": {}}'])
@pytest.mark.parametrize("kind", [Journal, JournalReader])
def test_strange_files_are_refused(tmp_path, kind, text):
    (tmp_path / "journal").write_text(text)
    options = {"resume": True} if kind is Journal else {}
    with pytest.raises(UserError, match="not a journal"):
        kind(tmp_path / "journal", {}, **options)
    assert (tmp_path / "journal").read_text() == text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with replacing(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    with replacing(path) as file:
        file.write("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_the_system_says_becomes_one_line(tmp_path):
    with (
        pytest.raises(UserError, match=r"gone: cannot be written, No such file or directory; make room"),
        writing(tmp_path / "gone"),
    ):
        raise FileNotFoundError(2, "No such file or directory")
