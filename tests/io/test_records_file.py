"""Records in a file and back, bit for bit."""

import dataclasses

import pytest
import torch
from tracking_scene import A, B, tracked

from bmp.errors import UserError
from bmp.io.records_file import load_records, save_records
from bmp.structures import Detections, Record, TrackedPeople


def equal(one, other):
    if isinstance(one, Record):
        return all(equal(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [(A, B), (A,)])
def test_what_comes_back_is_what_was_there(tmp_path, rows):
    people = tracked(*rows)
    people = dataclasses.replace(people, velocity=torch.rand(len(rows), 2) / 3)
    save_records(tmp_path / "a.npz", {"people": people, "nobody": people[:0]}, {"frame": 7, "time": 0.1 + 0.2})
    records, numbers = load_records(tmp_path / "a.npz", {"people": TrackedPeople, "nobody": TrackedPeople})
    assert equal(records["people"], people)
    assert equal(records["nobody"], people[:0])
    assert numbers == {"frame": 7, "time": 0.1 + 0.2}


def test_what_is_absent_stays_absent(tmp_path):
    given = Detections(torch.rand(2, 4).sort().values, torch.rand(2))
    save_records(tmp_path / "a.npz", {"found": given}, {})
    records, _ = load_records(tmp_path / "a.npz", {"found": Detections})
    assert records["found"].masks is None
    assert equal(records["found"], given)


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"text" * 20])
def test_what_is_not_as_it_was_written_is_one_line(tmp_path, damage):
    path = tmp_path / "a.npz"
    save_records(path, {"people": tracked(A)}, {})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="not as it was written"):
        load_records(path, {"people": TrackedPeople})
    save_records(path, {"other": tracked(A)}, {})
    with pytest.raises(UserError, match="not as it was written"):
        load_records(path, {"people": TrackedPeople})
