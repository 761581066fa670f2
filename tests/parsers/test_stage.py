"""The stage after the loop: parts in the library, in people.json, in pictures and folders, and no cost without it."""

import json

import numpy as np
import PIL.Image
import pytest
import torch
from fakes import FakeDetector, FakeParser, FakePose, FakeSegmenter, KeepAll, scene
from program import BEHIND, CONFIG, FRONT, run, save

from bmp import UserError
from bmp.api import BMP
from bmp.label_sets.part_sets import BODY, CIHP, COARSE_PARTS, LIP, PART_SETS, part_set

PARSING = CONFIG.replace("suppressor=", 'parts=dict(type="fakes.FakeParser"),\n    suppressor=')


@pytest.fixture
def model():
    return BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll(), parts=FakeParser())


def test_people_have_parts_within_their_masks(model):
    people = model(scene(BEHIND, FRONT))
    assert torch.equal(people.parts.labels > 0, people.masks.any(dim=0))
    for row, person in enumerate(people):
        assert torch.equal(person.parts > 0, people.masks[row])
        assert sorted(person.parts.unique().tolist()) == [0, 5, 9]
    assert people.parts.areas().sum() == people.masks.sum()
    assert people.parts.scores.shape == (2, 20)


def test_rows_take_their_parts_along(model):
    people = model(scene(BEHIND, FRONT))
    second = people[1:]
    assert torch.equal(second.parts.labels, people.parts.of(1))
    assert torch.equal(second[0].parts, people[1].parts)
    turned = people[[1, 0]]
    assert torch.equal(turned.parts.labels, people.parts.labels)
    assert torch.equal(turned[0].parts, people[1].parts)
    assert len(model(scene(BEHIND, FRONT), min_score=0.95).parts) == 0
    assert not people[people.scores > 2].parts.labels.any()
    with pytest.raises(IndexError, match="row of 2 people, got 2"):
        people.parts.of(2)


def test_the_parser_is_given_the_image_that_the_segmenter_had(model):
    """By that object stages find what they share of an image."""
    model(scene(FRONT))
    assert model.parts.calls[0][0] is model.segmenter.opened[0]


@pytest.mark.slow
def test_without_a_parser_there_is_nothing(model):
    plain = BMP(FakeDetector(), FakePose(), FakeSegmenter(), KeepAll())
    people = plain(scene(FRONT))
    assert people.parts is None
    assert people[0].parts is None
    assert people[:1].parts is None
    assert "parts" not in people.to_coco()[0]
    with pytest.raises(UserError, match="no parts to draw"):
        people.plot(parts=True)
    assert people == model(scene(FRONT))


def test_stages_and_time_are_told(model, caplog):
    assert model.info().stages[-1].role == "parts"
    caplog.set_level("DEBUG", logger="bmp.loop")
    model(scene(FRONT))
    assert any(record.getMessage().startswith("parts: 1 images") for record in caplog.records)


def test_pictures_show_parts_in_colours_that_are_everybodys(model):
    people = model(scene(BEHIND, (45, 8, 60, 28)))
    drawn = np.asarray(people.plot(parts=True, boxes=False, labels=False)).astype(int)

    def middle(box, share):
        return drawn[int(box[1] + share * (box[3] - box[1])), int((box[0] + box[2]) / 2)]

    tops, bottoms = ([middle(box, share) for box in people.boxes.tolist()] for share in (0.25, 0.75))
    assert (tops[0] - bottoms[0] != 0).any()
    assert tops[0][1:].tolist() == tops[1][1:].tolist()  # red tells the squares apart
    plain = np.asarray(people.plot(boxes=False, labels=False, skeletons=False)).astype(int)
    assert (plain != drawn).any()
    assert np.array_equal(np.asarray(people.plot(parts=True, min_score=1.0)), people.image.pixels)


def test_frames_of_videos_have_parts(model):
    people = next(model.track([scene(FRONT)]))
    assert torch.equal(people.parts.labels > 0, people.masks.any(dim=0))
    assert torch.equal(people[:1].parts.of(0) > 0, people.masks[0])


def photos(folder, config=PARSING):
    (folder / "config.py").write_text(config)
    save(folder / "photos" / "a.png", BEHIND, FRONT)
    save(folder / "photos" / "b.png")


@pytest.mark.slow
def test_files_of_a_run(tmp_path):
    photos(tmp_path)
    code, _, err = run(tmp_path, "photos", "-o", "out", "--parts-png", "--parts-cihp")
    assert (code, err) == (0, "")
    result = json.loads((tmp_path / "out" / "people.json").read_text())
    assert result["part_set"] == {"name": "cihp", "labels": list(CIHP.names), "coarse": False}
    for row in result["annotations"]:
        assert [part["name"] for part in row["parts"]] == ["upper clothes", "pants"]
        assert sum(part["area"] for part in row["parts"]) == row["area"]
    with PIL.Image.open(tmp_path / "out" / "parts" / "a.png") as picture:
        assert sorted(np.unique(picture)) == [0, 5, 9]
    with PIL.Image.open(tmp_path / "out" / "people_ids" / "a.png") as picture:
        assert sorted(np.unique(picture)) == [0, 1, 2]
    assert len((tmp_path / "out" / "instance_parsing" / "a.txt").read_text().splitlines()) == 4
    assert (tmp_path / "out" / "instance_segmentation" / "b.txt").read_text() == ""
    before = (tmp_path / "out" / "people.json").read_bytes()
    assert run(tmp_path, "photos", "-o", "out", "--resume")[0] == 0
    assert (tmp_path / "out" / "people.json").read_bytes() == before


@pytest.mark.slow
def test_any_preset_has_coarse_parts_on_request(tmp_path):
    photos(tmp_path, CONFIG)
    assert run(tmp_path, "photos", "-o", "out", "--parts")[0] == 0
    result = json.loads((tmp_path / "out" / "people.json").read_text())
    assert result["part_set"]["coarse"] is True
    assert result["part_set"]["labels"] == list(BODY.names)
    assert all(row["parts"] for row in result["annotations"])
    assert run(tmp_path, "photos", "-o", "plain")[0] == 0
    result = json.loads((tmp_path / "plain" / "people.json").read_text())
    assert "part_set" not in result
    assert not any("parts" in row for row in result["annotations"])
    assert not (tmp_path / "out" / "parts").exists()


@pytest.mark.parametrize(
    ("config", "extra", "words"),
    [
        (CONFIG, (), "expected a parser with CIHP's 20 labels, got a skeleton's 7 labels"),
        (PARSING, ("sub/a.jpg",), "have the same name there"),
    ],
)
def test_submissions_that_cannot_be(tmp_path, config, extra, words):
    photos(tmp_path, config)
    for name in extra:
        save(tmp_path / "photos" / name, FRONT)
    code, _, err = run(tmp_path, "photos", "-o", "out", "--parts-cihp")
    assert code == 2
    assert words in err
    assert err.count("\n") == 1


def test_label_sets():
    for each in PART_SETS.values():
        assert len(each.names) == len(each.groups)
        assert each.groups[0] == 0
        assert set(each.groups) == set(range(len(COARSE_PARTS)))
        flip = each.flip_indices
        assert [flip[i] for i in flip] == list(range(len(each)))
        assert all(each.groups[i] == each.groups[flip[i]] for i in range(len(each)))
        assert len(set(each.palette())) == len(each)
    assert CIHP.flip_pairs == ((14, 15), (16, 17), (18, 19))
    assert PART_SETS["ppp"].flip_pairs == ()
    assert [number for number in range(20) if CIHP.names[number] != LIP.names[number]] == [10]
    assert CIHP.palette()[:3] == [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    with pytest.raises(UserError, match="did you mean 'cihp'"):
        part_set("chip")
