"""The command that makes the paper's tables and figures, in process, for a family of fakes on two drawn scenes."""

import copy
import json
import shutil
import sys
from functools import cache
from pathlib import Path

import ablation_fakes
import numpy as np
import PIL.Image
import pytest

from bmp.config import load_config
from bmp.datasets.people import PeopleDataset
from bmp.datasets.posed import true_poses
from bmp.datasets.synthcrowd import SynthCrowd
from bmp.evaluation.ablations.curves import correction_curve
from bmp.evaluation.ablations.tables import FIGURES, TABLES, Family, paper_figure, paper_table
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.pose_to_mask import RANKINGS, detected_poses, segment_poses
from bmp.evaluation.published import NUMBERS
from bmp.evaluation.run import Task
from bmp.segmenters.cropped import CroppedSegmenter
from bmp.segmenters.point_sampling import PoseMaskRefine
from bmp.segmenters.prompting import ClosestOther, GivenBox, MaxSpread, MaxVisibility

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
pose = dict(type="ablation_fakes.SignalPose")
ovals = dict(type="ablation_fakes.OvalSegmenter")
segmenters = dict(
    base=dict(name="ovals", config=ovals, weights={"FOLDER/base.txt": None}),
    pose2seg=dict(name="tuned ovals", config=ovals, weights={f"FOLDER/tuned{n}.txt": f"train {n}" for n in range(2)}),
    sam1=dict(name="old ovals", config=ovals, weights={"FOLDER/base.txt": None}),
    other=dict(name="other ovals", config=ovals, weights={"FOLDER/other.txt": "python train.py --seed 0"}),
)
recipes = [
    dict(train="none", segmenter="base", prompter=dict(type="MaxSpread", count=6), published="SAM 2.1"),
    dict(train="Other", segmenter="other", prompter=dict(type="MaxVisibility", count=3)),
    dict(train="Pose", segmenter="pose2seg", prompter=dict(type="MaxVisibility", count=3)),
]
datasets = dict(
    easy=dict(type="PeopleDataset", name="SynthCrowd test", annotations="FOLDER/easy.json", images="FOLDER/photos"),
    ochuman_test=dict(type="OCHuman", root=None, split="test", published="ochuman_test"),
)
del ovals
"""
SCENES = 2
RADII = {"base": 0.005, "tuned0": 0.001, "tuned1": 0.01}


@pytest.fixture(scope="module")
def program():
    """The benchmark's module, which finds its neighbours as it does when it is run."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import ablations

    yield ablations
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A config, the weights that it names, but for one file, and scenes, drawn once for all."""
    folder = tmp_path_factory.mktemp("family")
    drawn = SynthCrowd("test", count=SCENES)
    (folder / "photos").mkdir()
    for index, image in enumerate(drawn.ground_truth["images"]):
        image["file_name"] = f"{index}.png"
        PIL.Image.fromarray(drawn.load(index).pixels.numpy()).save(folder / "photos" / image["file_name"])
    (folder / "easy.json").write_text(json.dumps(drawn.ground_truth))
    (folder / "family.py").write_text(CONFIG.replace("FOLDER", str(folder)))
    for name, radius in RADII.items():
        (folder / f"{name}.txt").write_text(str(radius))
    return folder


@pytest.fixture(scope="module")
def tables(program, folder):
    """The folder with all tables, how many people's poses were estimated for them and how many images encoded."""
    ablation_fakes.SignalPose.asked = ablation_fakes.OvalSegmenter.encoded = 0
    numbers = ["--table", *map(str, TABLES)]
    assert program.main(["--config", str(folder / "family.py"), "--output", str(folder / "tables"), *numbers]) == 0
    return folder / "tables", ablation_fakes.SignalPose.asked, ablation_fakes.OvalSegmenter.encoded


@pytest.fixture(scope="module")
def figures(program, folder):
    """Gives the folder of a figure, which is made when it is asked for first."""

    @cache
    def make(number):
        output = folder / f"figure{number}"
        arguments = ["--config", str(folder / "family.py"), "--output", str(output), "--figure", str(number)]
        assert program.main(arguments) == 0
        return output

    return make


@pytest.fixture(scope="module")
def scenes(folder):
    return PeopleDataset(folder / "easy.json", folder / "photos")


@pytest.fixture
def first_scene(scenes):
    """The ground truth of one of the images, to be changed."""
    return copy.deepcopy(Task(scenes, {}, limit=1).ground_truth)


def run(program, folder, *arguments):
    return program.main(["--config", str(folder / "family.py"), "--output", str(folder / "out"), *arguments])


def segmenter(folder, prompter, weights="base"):
    return ablation_fakes.OvalSegmenter(prompter, folder / f"{weights}.txt")


def ap(scenes, rows):
    return evaluate_coco(scenes.ground_truth, to_results(list(rows), "segm", segm_score="iou"), "segm").ap


def detected(scenes):
    return detected_poses(scenes, ablation_fakes.SignalPose())


def found(tables, number, label):
    rows = json.loads((tables[0] / f"table{number}.json").read_text())["rows"]
    (row,) = (row for row in rows if row["label"] == label)
    return row


def check_files(folder, name):
    """What every table and figure leaves."""
    numbers, text = json.loads((folder / f"{name}.json").read_text()), (folder / f"{name}.md").read_text()
    assert numbers["title"] in text
    assert list(numbers["datasets"]) == ["easy"]
    assert numbers["datasets"]["easy"]["images"] == SCENES
    assert all(f"- {note}\n" in text for note in numbers["notes"])
    assert all(f"| {entry['label']} |" in text for entry in numbers.get("rows", numbers.get("curves")))


@pytest.mark.parametrize("number", TABLES)
@pytest.mark.slow
def test_tables_are_written(tables, number):
    check_files(tables[0], f"table{number}")
    assert not list(tables[0].glob("*.part"))


@pytest.mark.parametrize("number", FIGURES)
@pytest.mark.slow
def test_figures_are_written(figures, number):
    check_files(figures(number), f"figure{number}")
    assert f"![Figure {number}](figure{number}.png)" in (figures(number) / f"figure{number}.md").read_text()
    with PIL.Image.open(figures(number) / f"figure{number}.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "label", "prompter", "weights"),
    [
        (1, "none, MaxSpread 6", MaxSpread(6), "base"),
        (2, "ovals, MaxSpread 6", MaxSpread(6), "base"),
        (4, "ovals, MaxSpread 6, labelled box", MaxSpread(6, box=GivenBox()), "base"),
        (4, "old ovals, MaxSpread 6", MaxSpread(6), "base"),
        (5, "ovals, MaxSpread 6, closest of others as negative", MaxSpread(6, negative=ClosestOther(1)), "base"),
        (6, "ovals, MaxSpread 6 by presence", MaxSpread(6, signal="presence"), "base"),
        (6, "tuned ovals, MaxVisibility 3 by expected OKS", MaxVisibility(3, signal="expected_oks"), "tuned1"),
    ],
)
def test_a_row_is_what_the_evaluation_gives(tables, folder, scenes, number, label, prompter, weights):
    expected = ap(scenes, segment_poses(detected(scenes), segmenter(folder, prompter, weights)))
    row = found(tables, number, label)
    assert row["ap"]["easy"]["weights"][str(folder / f"{weights}.txt")]["ap"] == pytest.approx(expected, abs=1e-9)
    assert expected > 0


@pytest.mark.slow
def test_both_rankings_stand_in_one_table(tables, folder, scenes):
    rows = list(segment_poses(detected(scenes), segmenter(folder, MaxSpread(6))))
    results = to_results(rows, "segm", segm_score="constant")
    assert {result["score"] for result in results} == {1}
    expected = evaluate_coco(scenes.ground_truth, results, "segm").ap
    row = found(tables, 2, "ovals, MaxSpread 6")
    assert row["ap_constant"]["easy"]["mean"] == pytest.approx(expected, abs=1e-9)
    assert row["ap_constant"]["easy"]["mean"] != row["ap"]["easy"]["mean"]
    text = (tables[0] / "table2.md").read_text()
    assert "SynthCrowd test, by predicted IoU | SynthCrowd test, constant | paper, COCO val2017 |" in text
    assert f"| ovals, MaxSpread 6 | {100 * row['ap']['easy']['mean']:.1f} | {100 * expected:.1f} |" in text


@pytest.mark.slow
def test_published_numbers_say_what_ranked_their_masks(tables):
    text = (tables[0] / "table3.md").read_text()
    assert "| Pose2Seg |  |  | 58.2 (constant) | 58.2 (constant) | 55.2 (constant) | 54.4 (constant) |" in text
    assert '- Published numbers that say "(constant)" compare with that column' in text
    assert found(tables, 3, "Pose2Seg")["published_ranking"]["ochuman_test"] == "constant"
    assert set(found(tables, 3, "ovals, MaxSpread 6")["published_ranking"].values()) == {None}


@pytest.mark.slow
def test_inflated_boxes(tables):
    given, inflated = (found(tables, 4, f"ovals, MaxSpread 6, labelled box{more}") for more in ("", " inflated"))
    assert inflated["prompter"]["box"] == {"type": "InflatedBox", "factor": 0.5}  # half of the size on each side
    assert inflated["ap"]["easy"]["mean"] < given["ap"]["easy"]["mean"]


@pytest.mark.slow
def test_labelled_poses_and_crops(tables, folder, scenes):
    labelled = found(tables, 3, "ovals, MaxSpread 6")["ap"]["easy"]["mean"]
    assert labelled == pytest.approx(ap(scenes, segment_poses(true_poses(scenes), segmenter(folder, MaxSpread(6)))))
    row = found(tables, 7, "ovals, MaxSpread 6, cropped to 1.5x the box")
    cropped = CroppedSegmenter(segmenter(folder, MaxSpread(6)), 1.5)
    assert row["crop"] == 1.5
    assert row["ap"]["easy"]["mean"] == pytest.approx(ap(scenes, segment_poses(detected(scenes), cropped)))
    assert row["ap"]["easy"]["mean"] != found(tables, 7, "ovals, MaxSpread 6")["ap"]["easy"]["mean"]


@pytest.mark.slow
def test_curves_of_points(figures, folder, scenes):
    numbers = json.loads((figures(3) / "figure3.json").read_text())
    assert numbers["x"] == list(range(1, 9))
    values = {curve["label"]: [place["mean"] for place in curve["values"]["easy"]] for curve in numbers["curves"]}
    assert list(values) == ["ovals, MaxVisibility", "ovals, MaxSpread"]
    assert "| ovals, MaxSpread, constant |" in (figures(3) / "figure3.md").read_text()
    one = ap(scenes, segment_poses(detected(scenes), segmenter(folder, MaxVisibility(8))))
    assert values["ovals, MaxVisibility"][7] == pytest.approx(one)
    assert len(set(values["ovals, MaxVisibility"])) > 1
    before_and_after = json.loads((figures(4) / "figure4.json").read_text())
    assert [len(curve["values"]["easy"][0]["values"]) for curve in before_and_after["curves"]] == [1, 2, 2]


@pytest.mark.slow
def test_the_curve_of_corrections(figures, folder, scenes):
    corrected = json.loads((figures(2) / "figure2.json").read_text())
    assert corrected["x"] == list(range(8))
    (base,) = (curve for curve in corrected["curves"] if curve["label"] == "ovals, MaskRefine")
    expected = np.mean([ious for _, ious in correction_curve(scenes, segmenter(folder, MaxSpread(6)))], axis=0)
    assert [place["mean"] for place in base["values"]["easy"]] == pytest.approx(expected.tolist())
    (posed,) = (curve for curve in corrected["curves"] if curve["label"] == "ovals, PoseMaskRefine")
    curves = correction_curve(
        detected(scenes), segmenter(folder, MaxSpread(6)), sampler=PoseMaskRefine(ground_truth_probability=0)
    )
    expected = np.mean([ious for _, ious in curves], axis=0)
    assert [place["mean"] for place in posed["values"]["easy"]] == pytest.approx(expected.tolist())
    assert posed["values"] != base["values"]


@pytest.mark.slow
def test_poses_are_estimated_once_and_images_encoded_once_for_what_shares_them(tables, scenes):
    people = len(scenes.ground_truth["annotations"])
    assert tables[1] == people
    # With estimated poses and with labelled ones each image once, and a crop a person; the old one has estimated only.
    assert tables[2] == 3 * (2 * SCENES + people) + SCENES


@pytest.mark.slow
def test_seeds_are_a_mean_and_a_spread(tables, folder):
    row = found(tables, 1, "Pose, MaxVisibility 3")["ap"]["easy"]
    values = [row["weights"][str(folder / f"tuned{n}.txt")]["ap"] for n in range(2)]
    assert row["values"] == values
    assert len(set(values)) > 1
    assert row["mean"] == pytest.approx(sum(values) / 2)
    assert row["half_width"] == pytest.approx((max(values) - min(values)) / 2)
    text = (tables[0] / "table1.md").read_text()
    assert f"| {100 * row['mean']:.1f} ± {100 * row['half_width']:.1f} |" in text
    assert "- ±: half the distance" in text
    assert found(tables, 1, "none, MaxSpread 6")["ap"]["easy"]["half_width"] is None


@pytest.mark.slow
def test_published_numbers_stand_beside(tables, figures):
    text = (tables[0] / "table1.md").read_text()
    assert "paper, COCO val2017 | paper, OCHuman test | paper, CIHP val |" in text
    assert "41.2 | 29.5 | 71.6 |" in next(line for line in text.splitlines() if "none, MaxSpread 6" in line)
    others = (tables[0] / "table2.md").read_text()
    assert "| Crowd-SAM |  |  | 22.0 |  |  | 31.4 |" in others
    assert "- Paper, HQNet R-50, Pose2Seg, MultiPoseSeg: other keypoints" in others
    assert "SAM 2.1, MaxSpread 6: 41.2 on COCO val2017" in (figures(3) / "figure3.md").read_text()
    assert "81.0 before any correction" in (figures(2) / "figure2.md").read_text()


@pytest.mark.slow
def test_a_row_without_weights_stays(tables, folder):
    text = (tables[0] / "table1.md").read_text()
    assert "| Other, MaxVisibility 3 | no number | no number |" in text
    assert f"- {folder / 'other.txt'} is missing; this makes it: python train.py --seed 0" in text
    assert found(tables, 1, "Other, MaxVisibility 3")["ap"]["easy"]["mean"] is None
    assert "other.txt" not in (tables[0] / "table2.md").read_text()


@pytest.mark.slow
def test_seeds_that_are_there_count(program, folder):
    weights = f"segmenters.pose2seg.weights={{'{folder}/tuned1.txt': None, '{folder}/gone.txt': 'train 9'}}"
    assert run(program, folder, "--table", "2", "--set", weights) == 0
    row = json.loads((folder / "out" / "table2.json").read_text())["rows"][-1]
    assert len(row["ap"]["easy"]["values"]) == 1
    assert row["ap"]["easy"]["half_width"] is None
    assert "gone.txt is missing; this makes it: train 9" in (folder / "out" / "table2.md").read_text()


@pytest.mark.slow
def test_a_data_set_that_is_missing(tables, program, folder, capsys):
    line = "OCHuman test: no root is given"
    remedy = "give it with --set datasets.ochuman_test.root=DIR"
    for name, expected in (("table1", True), ("table3", True), ("table4", False)):
        text = (tables[0] / f"{name}.md").read_text()
        assert (line in text) == (remedy in text) == expected, name
    assert run(program, folder, "--table", "2") == 0
    printed = capsys.readouterr()
    assert f"ablations: without ochuman_test: {line}" in printed.err
    assert "Table 2: detected poses" in printed.out
    assert "tuned ovals, MaxVisibility 3" in printed.out
    assert remedy in printed.out


@pytest.mark.slow
def test_a_data_set_of_the_paper_has_its_column(program, folder, first_scene, tmp_path):
    """Beside the paper's numbers for it, in those tables where the paper has it."""
    shutil.copytree(folder / "photos", tmp_path / "images")
    (tmp_path / "ochuman_coco_format_test_range_0.00_1.00.json").write_text(json.dumps(first_scene))
    arguments = ["--set", f"datasets.ochuman_test.root={tmp_path}", "--table", "2", "4", "--limit", "1"]
    assert run(program, folder, *arguments) == 0
    header = (folder / "out" / "table2.md").read_text().splitlines()[2]
    ours = [f"{name}, {ranking}" for name in ("SynthCrowd test", "OCHuman test") for ranking in RANKINGS.values()]
    assert f"| {' | '.join(ours)} | paper, OCHuman test | paper, COCO val2017 |" in header
    text = (folder / "out" / "table4.md").read_text()
    assert "OCHuman test" not in text
    assert "Only the first 1 images of each data set." in text


@pytest.mark.slow
def test_people_without_keypoints_have_no_labelled_poses(program, folder, first_scene, tmp_path):
    for row in first_scene["annotations"]:
        del row["keypoints"], row["num_keypoints"]
    (tmp_path / "bare.json").write_text(json.dumps(first_scene))
    files = {"annotations": str(tmp_path / "bare.json"), "images": str(folder / "photos")}
    bare = f"datasets.ochuman_test={ {'type': 'PeopleDataset', **files} }"
    assert run(program, folder, "--set", bare, "--table", "3") == 0
    text = (folder / "out" / "table3.md").read_text()
    assert "- bare: nobody has labelled keypoints." in text
    assert (
        "| AP of masks, per cent | SynthCrowd test, by predicted IoU | SynthCrowd test, constant | paper, COCO*" in text
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--table", "1", "--set", "datasets.easy.annotations=gone.json"],
            "none of the 2 data sets is here: gone.json: ",
        ),
        (
            ["--table", "1", "--set", "segmenters.base.weight=x"],
            "segmenters.base has no 'weight'; did you mean 'weights'",
        ),
        (["--table", "1", "--set", "segmenters.base.config.sise=2"], "OvalSegmenter has no argument 'sise'"),
        (
            ["--table", "1", "--set", "segmenters.base.weights=x.pt"],
            "weights: expected {'FILE': None, ...}, got 'x.pt'",
        ),
        (["--table", "1", "--set", "pose.type=Nobody"], "there is no pose estimator 'Nobody'"),
        (["--table", "1", "--set", "datasets.easy.published=coco"], "datasets.easy.published: there is no 'coco'; did"),
        (["--table", "1", "--device", "abacus"], "device 'abacus' is unknown"),
        (["--table", "1", "--config", "ablations/nono.py"], "config 'ablations/nono.py' does not exist"),
        (
            ["--table", "1", "--config", "nano.py"],
            "expected a family of segmenters, found no pose; see configs/ablations",
        ),
    ],
)
def test_wrong_use(program, folder, capsys, arguments, message):
    assert run(program, folder, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.splitlines()[-1].startswith("ablations: ")
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("base.txt", "gone.txt"), "none of the 2 files of weights is here: "),
        (("train=", "trained="), r"recipes[0]: there is no 'trained'; did you mean 'train'?"),
        (('name="ovals", ', ""), "segmenters.base: expected name; see configs/ablations/nano.py"),
        (('segmenter="other"', 'segmenter="others"'), "segmenters: there is no 'others'; did you mean 'other'?"),
        (("    easy=", "    no_such=dict(type='SynthCrowd', split='no'),\n    easy="), None),
    ],
)
def test_wrong_families(program, folder, capsys, tmp_path, change, message):
    config = tmp_path / "wrong.py"
    config.write_text((folder / "family.py").read_text().replace(*change))
    arguments = ["--config", str(config), "--output", str(tmp_path / "out"), "--table", "4"]
    assert program.main(arguments) == (0 if message is None else 2)
    assert message is None or message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--table", "8"], ["--figure", "1"], ["--table", "1", "--limit", "0"]])
def test_wrong_arguments(program, capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        program.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_need_matplotlib(program, folder, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(program, folder, "--figure", "3") == 2
    assert "drawing figures needs matplotlib" in capsys.readouterr().err
    assert run(program, folder, "--table", "2", "--limit", "1") == 0


@pytest.mark.parametrize("name", ["nano", "full"])
def test_families_of_the_package(name):
    family = Family.of(load_config(f"ablations/{name}.py").to_dict())
    for number in TABLES:
        exhibit = paper_table(family, number)
        ours = [row for row in exhibit.rows if row.trial is not None]
        assert ours
        for row in ours:  # each has its row in the paper
            assert any(row.number(key, exhibit.protocol) for key in exhibit.datasets), row.label
    assert [paper_figure(family, number).number for number in FIGURES] == [2, 3, 4]
    assert len(family.recipes) == {"nano": 8, "full": 9}[name]


def test_every_number_of_the_paper_has_its_row():
    """With the models of the paper, nothing that it prints in Tables 1 to 7 is left out."""
    family = Family.of(load_config("ablations/full.py").to_dict())
    exhibits = [paper_table(family, number) for number in TABLES]
    shown = {
        (number.source, number.method, number.prompts, key)
        for exhibit in exhibits
        for row in exhibit.rows
        for key in exhibit.datasets
        if (number := row.number(key, exhibit.protocol))
    }
    assert {(n.source, n.method, n.prompts, n.dataset) for n in NUMBERS if "Table" in n.source} == shown
    counts = [sum(row.number(key, e.protocol) is not None for row in e.rows for key in e.datasets) for e in exhibits]
    assert counts == [27, 20, 12, 12, 27, 18, 8]
