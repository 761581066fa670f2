"""What is held out of a data set for the choice of a checkpoint, and that no config chooses on a benchmark."""

import hashlib
from pathlib import Path

import pytest
import torch
from fakes import scene

from bmp.build import build_part
from bmp.config import load_config
from bmp.datasets.held_out import SHARE, HeldOut, is_held_out, part_of
from bmp.datasets.people import PeopleDataset
from bmp.errors import UserError
from bmp.registry import DATASETS

ROOT = Path(__file__).resolve().parents[2]


class Numbered(PeopleDataset):
    """Images 0 to ``count`` - 1; the brightness of each is its number, and each has a person and a crowd region."""

    name = "numbers"
    notices = ("something was left out",)

    def __init__(self, count: int = 50) -> None:
        images = [{"id": n, "file_name": f"{n}.png", "height": 48, "width": 64} for n in range(count)]
        rows = [
            {"id": 2 * n + crowd, "image_id": n, "category_id": 1, "iscrowd": crowd, "area": 9, "bbox": [0, 0, 3, 3]}
            for n in range(count)
            for crowd in (0, 1)
        ]
        self.ground_truth = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "person"}]}

    def load(self, index):
        return scene((index % 60, 0, index % 60 + 1, 1))

    def load_with_checksum(self, index):
        return self.load(index), self.checksum(index)

    def checksum(self, index):
        return f"sha256 of {index}"


@pytest.mark.slow
def test_the_rule_is_the_documented_one():
    held_out = [n for n in range(100_000) if is_held_out(n)]
    assert len(held_out) == pytest.approx(100_000 * SHARE, rel=0.1)
    for number in held_out[:20]:
        assert int(hashlib.sha256(f"0/{number}".encode()).hexdigest(), 16) < SHARE * 2**256
    # Another seed holds others out, a larger share more of the same.
    assert sum(is_held_out(n, seed=1) for n in held_out) < len(held_out) / 4
    assert all(is_held_out(n, share=0.05) for n in held_out)
    assert is_held_out("a.jpg", 0.999999)


def test_both_parts_are_the_whole():
    whole = Numbered()
    held_out, rest = (HeldOut(whole, part, share=0.3) for part in ("held_out", "rest"))
    ids = [[image["id"] for image in part.ground_truth["images"]] for part in (held_out, rest)]
    assert sorted(ids[0] + ids[1]) == list(range(50))
    assert ids[0] == [n for n in range(50) if is_held_out(n, 0.3)]
    for part, own in zip((held_out, rest), ids, strict=True):
        assert len(part) == len(own)
        assert list(part.people()) == own
        assert len(part.ground_truth["annotations"]) == 2 * len(own)
        for index, number in enumerate(own):
            assert torch.equal(part.load(index).pixels, whole.load(number).pixels)
            assert part.checksum(index) == part.load_with_checksum(index)[1] == whole.checksum(number)
            assert part.file_name(index) == f"{number}.png"
        assert part.notices == whole.notices
        assert part.published is None
    assert (held_out.name, rest.name) == ("numbers, 30 % held out", "numbers without 30 % held out")
    assert len(whole) == 50


def test_a_config_names_it():
    config = {"type": "HeldOut", "dataset": {"type": f"{__name__}.Numbered"}, "part": "rest", "share": 0.5}
    assert 0 < len(build_part(config, DATASETS)) < 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": "half"}, "part: expected 'held_out' or 'rest', got 'half'"),
        ({"share": 0.0}, "share: expected a share of the images between 0 and 1, got 0.0"),
        ({"share": 1.5}, "share: expected"),
        ({"share": 1e-9}, "held_out: none of the 50 images is left at a share of 1e-09; choose another share or seed"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        part_of(Numbered().ground_truth, **arguments)


CHOOSING = {
    "train/sam_pose2seg_b+.py": "train/sam_pose2seg_b+.py",
    "mmpose/_base_/pmpose_train.py": "mmpose/pmpose_b.py",
}
"""The configs that say how the best checkpoint is chosen, with a training that does as each says."""


def _texts():
    folder = ROOT / "configs"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}


def test_who_chooses_a_checkpoint():
    assert {name for name, text in _texts().items() if "save_best" in text} == CHOOSING.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CHOOSING.values(), "mmpose/probpose_s.py", "mmpose/maskpose_h.py"])
def test_no_training_chooses_its_checkpoint_on_a_benchmark(name):
    config = load_config(name)
    training, validation = str(config.train_dataloader), str([config.val_dataloader, config.val_evaluator])
    assert "train2017" in training
    assert "'rest'" in training
    assert "train2017" in validation
    assert "'held_out'" in validation
    for words in (training, validation):
        assert "val2017" not in words


@pytest.mark.parametrize("kind", ["coco", "cihp"])
def test_keypoints_to_train_with_are_those_of_the_training_set(kind):
    config = load_config(f"keypoints/{kind}.py")
    assert config.dataset.split in ("train2017", "train")
    assert config.pipeline.pose.checkpoint == "ProbPose-s.pth"
