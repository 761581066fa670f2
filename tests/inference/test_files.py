"""The writer of a run: several pictures are drawn at a time, within bounds, and what is put down keeps its order."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import PIL.Image
import pytest
import torch

from bmp.api import People
from bmp.errors import UserError
from bmp.inference import batches, files
from bmp.inference.files import Job, RunSettings
from bmp.io.people_file import PeopleFile
from bmp.label_sets import COCO_KEYPOINTS
from bmp.structures import Image, Instances

NAMES = [f"{letter}.jpg" for letter in "abc"]


def _run(folder, monkeypatch, plot):
    """Hand three images with nobody in them to a writer whose pictures ``plot`` makes; return how many were in work."""
    monkeypatch.setattr(People, "plot", plot)
    image = Image(torch.zeros(4, 6, 3, dtype=torch.uint8))
    people = People(image, Instances.empty(image, 17), COCO_KEYPOINTS)
    known = {name: files._Read(name, []) for name in NAMES}
    waiting = []
    with (
        PeopleFile(folder / "people.json", COCO_KEYPOINTS, NAMES) as file,
        ThreadPoolExecutor() as pool,
        files._Writer(file, RunSettings(folder), pool, known) as writer,
    ):
        for name in NAMES:
            writer.add(Job(name, name), people)
            waiting.append(len(writer._drawings))
    return waiting


def _images(folder):
    return [
        (image["file_name"], image["sha256"]) for image in json.loads((folder / "people.json").read_text())["images"]
    ]


def test_as_many_pictures_are_drawn_at_a_time_as_there_is_room_for(tmp_path, monkeypatch):
    together = Barrier(3, timeout=60)  # whoever draws waits until three do, or fails

    def plot(self, **_):
        together.wait()
        return PIL.Image.new("RGB", (6, 4))

    _run(tmp_path, monkeypatch, plot)
    assert _images(tmp_path) == [(name, name) for name in NAMES]


def test_beyond_the_bound_the_next_picture_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "IN_FLIGHT", 0)
    assert _run(tmp_path, monkeypatch, lambda self, **_: PIL.Image.new("RGB", (6, 4))) == [0, 0, 0]
    assert _images(tmp_path) == [(name, name) for name in NAMES]


def test_what_is_behind_a_refused_picture_is_put_down(tmp_path, monkeypatch):
    together, first = Barrier(3, timeout=60), []

    def plot(self, **_):
        place = together.wait()
        first.append(place)
        if len(first) == 1:
            raise UserError("no room")
        return PIL.Image.new("RGB", (6, 4))

    with pytest.raises(UserError, match="no room"):
        _run(tmp_path, monkeypatch, plot)
    assert len(_images(tmp_path)) == 2
