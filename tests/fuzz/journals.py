"""Resumes runs whose journal or people.json was damaged: the same results as without damage, or one line and code 2.

python tests/fuzz/journals.py --count 1500
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import frame
from mutations import mutate

sys.path.append(str(Path(__file__).resolve().parents[1]))
from program import BEHIND, CONFIG, FRONT, run, save

_PHOTOS = {"a.png": (BEHIND, FRONT), "b.png": (FRONT,), "c.png": (), "d/e.png": (FRONT,)}


@functools.cache
def _whole() -> Path:
    """Make a folder of photos and a whole run over them, with the journal that it had at its end."""
    from bmp.io.people_file import PeopleFile, recorded_settings
    from bmp.label_sets import COCO_KEYPOINTS

    folder = Path(tempfile.mkdtemp(prefix="journals"))
    (folder / "config.py").write_text(CONFIG)
    for name, squares in _PHOTOS.items():
        save(folder / "photos" / name, *squares)
    assert run(folder, "photos", "-o", "out", "-q") == (0, "", "")
    shutil.copytree(folder / "out", folder / "begun")
    results = folder / "begun" / "people.json"
    begun = PeopleFile(results, COCO_KEYPOINTS, list(_PHOTOS), resume=True, info=recorded_settings(results))
    begun._journal.close()  # as after a kill
    return folder


def resume_people_file(chance: random.Random, folder: Path) -> str:
    """Resume from a people.json that something has changed."""
    content = (_whole() / "out" / "people.json").read_bytes()
    return _resume("out", "people.json", mutate(json.loads(content), chance), folder)


def resume_journal(chance: random.Random, folder: Path) -> str:
    """Resume from a journal some of whose lines something has changed, dropped, doubled, moved or cut."""
    lines = (_whole() / "begun" / "people.json.partial").read_bytes().splitlines()
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(lines)) if lines else 0
        if lines:
            chance.choice((_changed, _changed, _changed, _root, _dropped, _doubled, _moved, _kept_checksum))(
                lines, place, chance
            )
    content = b"\n".join(lines) + b"\n"
    if chance.random() < 0.2:
        content = content[: chance.randint(0, len(content))]
    return _resume("begun", "people.json.partial", content, folder)


def _changed(lines: list[bytes], place: int, chance: random.Random) -> None:
    try:
        lines[place] = mutate(json.loads(lines[place]), chance)
    except (ValueError, RecursionError):  # changed before
        lines[place] = lines[place][: len(lines[place]) // 2]


def _root(lines: list[bytes], place: int, chance: random.Random) -> None:
    """Let the names start from another folder."""
    lines[0] = lines[0].replace(b"../photos", chance.choice((b"..", b"/", b"../photos/d", b"../photos/", b"")))


def _kept_checksum(lines: list[bytes], place: int, chance: random.Random) -> None:
    """Change what a line says and leave its beginning, the checksum."""
    try:
        text = mutate(json.loads(lines[place]), chance)
    except (ValueError, RecursionError):
        return
    lines[place] = lines[place][:24] + text[24:]


def _dropped(lines: list[bytes], place: int, chance: random.Random) -> None:
    del lines[place]


def _doubled(lines: list[bytes], place: int, chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), lines[place])


def _moved(lines: list[bytes], place: int, chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines) + 1), lines.pop(place))


def _resume(state: str, name: str, content: bytes, folder: Path) -> str:
    """Resume in a copy of the run in which one file has other content; return what came of it."""
    shutil.copytree(_whole(), folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "out")
    (folder / state).rename(folder / "out") if state != "out" else shutil.copytree(_whole() / "out", folder / "out")
    (folder / "out" / name).write_bytes(content)
    code, out, err = run(folder, "photos", "-o", "out", "--resume")
    people = folder / "out" / "people.json"
    if code == 2:
        (line,) = err.splitlines()
        assert line.startswith("bmp: out/people.json"), line
        assert (folder / "out" / name).read_bytes() == content
        return "refused"
    assert (code, err) == (0, ""), err
    assert people.read_bytes() == (_whole() / "out" / "people.json").read_bytes()
    return "done again" if "1 person" in out else "as before"


TRIALS: dict[str, frame.Trial] = {"people.json": resume_people_file, "journal": resume_journal}

if __name__ == "__main__":
    _whole()
    sys.exit(frame.main(TRIALS))
