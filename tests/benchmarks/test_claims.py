"""The program that tests the papers' claims: its statistics, what it keeps on the disk, and its page, all on fakes."""

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ablation_fakes
import numpy as np
import pytest
from pycocotools import mask as mask_utils

from bmp.datasets.synthcrowd import SynthCrowd
from bmp.errors import UserError
from bmp.evaluation.metrics.coco import evaluate_coco, to_results
from bmp.evaluation.metrics.matching import match, recall_at_equal_precision

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def claims():
    """The benchmark's modules, which find one another as they do when it is run."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import claims
    import claims_arms
    import claims_list
    import claims_measures
    import claims_page
    import claims_statistics
    import claims_training

    yield SimpleNamespace(
        command=claims,
        arms=claims_arms,
        listed=claims_list,
        measures=claims_measures,
        page=claims_page,
        statistics=claims_statistics,
        training=claims_training,
    )
    sys.path.remove(str(ROOT / "benchmarks"))


# Statistics.


def test_the_interval_of_a_mean_is_that_of_the_closed_form(claims):
    images = 200
    values = np.random.default_rng(3).normal(0.1, 1.0, images)
    people = claims.statistics.PerPerson(values, np.arange(images))
    reached = people.mean(claims.statistics.resamples(images, draws=4000))
    interval = claims.statistics.Interval.of(np.zeros_like(reached), reached)
    width = 2 * 1.96 * values.std() / np.sqrt(images)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(width, rel=0.05)
    assert (interval.low + interval.high) / 2 == pytest.approx(values.mean(), abs=0.03 * width)


def test_people_of_an_image_are_drawn_together(claims):
    """Ten alike people in each image tell no more than one does."""
    images = 60
    values = np.random.default_rng(4).normal(0.0, 1.0, images)
    weights = claims.statistics.resamples(images, draws=2000)
    alone = claims.statistics.PerPerson(values, np.arange(images)).mean(weights)
    crowd = claims.statistics.PerPerson(values.repeat(10), np.arange(images).repeat(10)).mean(weights)
    np.testing.assert_allclose(alone, crowd)


def test_a_difference_is_paired(claims):
    images = 50
    values = np.random.default_rng(5).normal(0.0, 1.0, images)
    weights = claims.statistics.resamples(images, draws=500)
    first, second = (
        claims.statistics.PerPerson(own, np.arange(images)).mean(weights) for own in (values, values + 0.01)
    )
    assert np.ptp(first) > 0.1
    interval = claims.statistics.Interval.of(first, second)
    assert (interval.low, interval.value, interval.high) == pytest.approx((0.01, 0.01, 0.01))


def test_draws_are_the_same_every_time(claims):
    draws = claims.statistics.resamples(7, draws=20)
    np.testing.assert_array_equal(draws, claims.statistics.resamples(7, draws=20))
    assert draws.shape == (21, 7)
    assert (draws[0] == 1).all()
    assert (draws.sum(axis=1) == 7).all()
    with pytest.raises(ValueError, match="at least one image"):
        claims.statistics.resamples(0)


@pytest.mark.parametrize(
    ("low", "high", "more", "bound", "verdict"),
    [
        (0.01, 0.02, True, 0.0, "holds"),
        (-0.01, 0.02, True, 0.0, "undecided"),
        (-0.02, -0.01, True, 0.0, "fails"),
        (0.0, 0.02, True, 0.0, "undecided"),
        (0.01, 0.02, True, 0.015, "undecided"),
        (-0.01, 0.004, False, 0.005, "holds"),
        (-0.01, 0.006, False, 0.005, "undecided"),
        (0.006, 0.01, False, 0.005, "fails"),
    ],
)
def test_only_an_interval_on_one_side_decides(claims, low, high, more, bound, verdict):
    assert claims.statistics.Interval((low + high) / 2, low, high).verdict(more, bound) == verdict


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([], "undecided"),
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["holds", "undecided", "fails"], "fails"),
    ],
)
def test_a_claim_of_several_parts(claims, parts, verdict):
    assert claims.statistics.joined(parts) == verdict


def _people(images, seed=0):
    """Ground truth of two people an image, and what finds some of them: boxes off by chance, scores that tie."""
    chance = np.random.default_rng(seed)
    people, rows = [], []
    for image in range(1, images + 1):
        for x in (10.0, 60.0):
            box = [x, 10.0, 40.0, 80.0]
            people.append(
                {
                    "id": len(people) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": box,
                    "area": 3200.0,
                }
            )
            for _ in range(chance.integers(0, 3)):
                moved = [value + shift for value, shift in zip(box, [*chance.uniform(-9, 9, 2), 0, 0], strict=True)]
                score = round(float(chance.uniform()), 1)
                rows.append({"image_id": image, "category_id": 1, "bbox": moved, "score": score, "mask_score": 1.0})
    return {
        "images": [{"id": number, "height": 100, "width": 120} for number in range(1, images + 1)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": people,
    }, rows


def _repeated(ground_truth, rows, counts):
    """The images as often as ``counts`` says, each time under another id."""
    images, people, found = [], [], []
    for image, count in zip(ground_truth["images"], counts, strict=True):
        for _ in range(int(count)):
            number = len(images) + 1
            images.append({**image, "id": number})
            people += [
                {**row, "image_id": number, "id": len(people) + place}
                for place, row in enumerate(
                    (row for row in ground_truth["annotations"] if row["image_id"] == image["id"]), 1
                )
            ]
            found += [{**row, "image_id": number} for row in rows if row["image_id"] == image["id"]]
    return {**ground_truth, "images": images, "annotations": people}, found


def test_precision_on_draws_is_that_of_pycocotools_on_repeated_images(claims):
    ground_truth, rows = _people(8)
    weights = claims.statistics.resamples(8, draws=4)
    reached = claims.statistics.average_precision(claims.measures.ranked(ground_truth, rows, "recall"), weights)
    for counts, own in zip(weights, reached, strict=True):
        drawn, found = _repeated(ground_truth, rows, counts)
        assert own == pytest.approx(evaluate_coco(drawn, to_results(found, "bbox"), "bbox").ap, abs=1e-9)


def test_recall_on_draws_is_that_of_the_evaluation_on_repeated_images(claims):
    ground_truth, first = _people(8)
    _, second = _people(8, seed=1)
    weights = claims.statistics.resamples(8, draws=5)
    reached = claims.measures.recalls(ground_truth, first, second, weights)
    for counts, one, other in zip(weights, *reached, strict=True):
        drawn, own = _repeated(ground_truth, first, counts)
        expected = recall_at_equal_precision(
            match(drawn, own), match(drawn, _repeated(ground_truth, second, counts)[1])
        )
        assert (one, other) == pytest.approx((expected.first, expected.second))


def test_nothing_found_is_a_precision_of_nought(claims):
    ground_truth, _ = _people(3)
    weights = claims.statistics.resamples(3, draws=2)
    assert claims.measures.precisions("recall", "all", ground_truth, [], weights).tolist() == [0, 0, 0]
    assert claims.measures.recalls(ground_truth, [], [], weights)[1].tolist() == [0, 0, 0]


def test_people_who_overlap(claims):
    ground_truth, _ = _people(1)
    assert claims.measures.overlapping(ground_truth) == set()
    ground_truth["annotations"][1]["bbox"] = [20.0, 10.0, 40.0, 80.0]
    assert claims.measures.overlapping(ground_truth) == {1, 2}
    assert claims.measures.part_of(ground_truth, "overlapping")["annotations"] == ground_truth["annotations"]


def test_found_people_count_for_whom_they_are_matched_with(claims):
    ground_truth, _ = _people(1)
    for number, row in enumerate(ground_truth["annotations"]):
        row["keypoints"] = [value for joint in range(17) for value in (20.0 + 50 * number, 15.0 + 4 * joint, 2)]
        row["num_keypoints"] = 17
    wrong = [value for joint in range(17) for value in (5.0, 15.0 + 4 * joint, 2)]
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [62.0, 10.0, 40.0, 80.0], "score": 0.9}
    rows = [{**row, "keypoints": wrong, "keypoint_scores": [0.5] * 17}]
    boxes = claims.measures.person_by_person("recall", "all", ground_truth, rows, found=True)
    assert {number: round(one.value, 2) for number, one in boxes.items()} == {1: 0.0, 2: 0.9}
    poses = claims.measures.person_by_person("pose AP", "all", ground_truth, rows, found=True)
    assert poses[1].row is None
    assert poses[2].value < 0.5
    corrected = claims.arms.with_true_poses(rows, ground_truth)
    assert rows[0]["keypoints"] == wrong
    assert corrected[0]["score"] == 0.9
    poses = claims.measures.person_by_person("pose AP", "all", ground_truth, corrected, found=True)
    assert {number: one.value for number, one in poses.items()} == {1: 0.0, 2: pytest.approx(1.0)}


# What is kept on the disk.


@functools.cache
def drawn(count):
    return SynthCrowd("test", count=count)


@pytest.fixture
def arms(claims, tmp_path, monkeypatch):
    """Masks of ovals from poses on a diagonal, drawn scenes, a file for each."""
    monkeypatch.setattr(claims.arms, "CHUNK", 1)
    claims.arms._contents.cache_clear()
    weights = tmp_path / "oval.txt"
    weights.write_text("0.01")
    pose = claims.arms.PosesArm(json.dumps({"type": "ablation_fakes.SignalPose"}), "{}", "nothing")
    segmenter = json.dumps({"type": "ablation_fakes.OvalSegmenter", "checkpoint": str(weights)})
    masks = [
        claims.arms.MasksArm(segmenter, json.dumps({"type": "MaxVisibility", "count": count}), pose) for count in (1, 3)
    ]
    crop = claims.arms.MasksArm(segmenter, masks[0].prompter, pose, 1.5)

    def run(count=2):
        """Compute what is missing; return what was asked of the networks: people, images."""
        results = claims.arms.Results(tmp_path / "results")
        scenes = claims.arms.Scenes("test", count, lambda _, number: drawn(number))
        before = ablation_fakes.SignalPose.asked, ablation_fakes.OvalSegmenter.encoded
        for each in claims.command.passes([*masks, crop], results, [scenes]):
            for chunk, own in each.missing.items():
                results.compute(own, each.scenes, chunk)
        after = ablation_fakes.SignalPose.asked, ablation_fakes.OvalSegmenter.encoded
        return results, scenes, tuple(new - old for new, old in zip(after, before, strict=True))

    return SimpleNamespace(run=run, masks=masks, crop=crop, pose=pose, weights=weights)


@pytest.mark.slow
def test_nothing_is_computed_twice_and_more_scenes_only_add(arms):
    results, scenes, (people, images) = arms.run()
    labelled = scenes.dataset.ground_truth["annotations"]
    assert people == len(labelled)
    assert images == 2 + len(labelled)  # whole images once for both ways to prompt, and a crop for each person
    assert [row["id"] for row in results.rows(arms.masks[0], scenes)] == [row["id"] for row in labelled]
    assert results.rows(arms.masks[0], scenes) != results.rows(arms.masks[1], scenes)
    assert arms.run()[2] == (0, 0)
    results, more, (people, _) = arms.run(3)
    assert people == len(more.dataset.ground_truth["annotations"]) - len(labelled)
    lost = results.path(arms.masks[1], more, more.chunks[1])
    kept = lost.read_text()
    lost.unlink()
    assert results.rows(arms.masks[1], more) is None
    assert arms.run(3)[2] == (0, 1)
    assert json.loads(lost.read_text())["rows"] == json.loads(kept)["rows"]


@pytest.mark.slow
def test_placed_keypoints_are_where_they_are_labelled_and_chosen_as_before(arms):
    results, scenes, _ = arms.run(1)
    placed = replace(arms.masks[0], placed=True)
    (chunk,) = scenes.chunks
    results.compute([placed], scenes, chunk)
    estimated = {row["id"]: row for row in results.rows(arms.pose, scenes)}
    for row, person in zip(results.rows(placed, scenes), scenes.dataset.ground_truth["annotations"], strict=True):
        best = int(np.argmax(estimated[person["id"]]["keypoint_visibility"]))
        x, y, flag = person["keypoints"][3 * best : 3 * best + 3]
        x, y, _ = (x, y, flag) if flag else estimated[person["id"]]["keypoints"][3 * best : 3 * best + 3]
        high, wide = row["segmentation"]["size"]
        assert mask_utils.decode(row["segmentation"])[min(max(round(y), 0), high - 1), min(max(round(x), 0), wide - 1)]
    assert results.rows(placed, scenes) != results.rows(arms.masks[0], scenes)


@pytest.mark.slow
def test_what_changed_is_computed_anew(claims, arms):
    results, scenes, _ = arms.run(1)
    chunk = scenes.chunks[0]
    old = results.path(arms.masks[0], scenes, chunk)
    other_scenes = claims.arms.Scenes("test", 1, lambda split, count: SynthCrowd(split, count=count, seed=1))
    assert claims.arms.Results(results.folder).path(arms.masks[0], other_scenes, chunk) != old
    arms.weights.write_text("0.02")
    claims.arms._contents.cache_clear()  # as in the next run of the program
    changed, _, (people, images) = arms.run(1)
    assert people == 0  # the poses are what they were
    assert images > 0
    assert changed.path(arms.masks[0], scenes, chunk) != old
    assert changed.path(arms.pose, scenes, chunk) == results.path(arms.pose, scenes, chunk)


@pytest.mark.slow
def test_a_comparison_from_the_disk_to_the_page(claims, arms, tmp_path, monkeypatch):
    monkeypatch.setattr(claims.page, "resamples", functools.partial(claims.statistics.resamples, draws=20))
    results, scenes, _ = arms.run()
    comparison = claims.listed.Comparison("3 points - 1 point", *arms.masks, "mask AP")
    claim = claims.listed.Claim("points", "Points help", "The paper: yes", [comparison])
    comparer = claims.page.Comparer(results, [scenes])
    outcome = comparer.outcome(claim)
    (measured,) = outcome.measured
    rows = results.rows(arms.masks[1], scenes)
    whole = evaluate_coco(scenes.dataset.ground_truth, to_results(rows, "segm", segm_score="iou"), "segm").ap
    assert measured.second == pytest.approx(whole)
    assert measured.difference.value == pytest.approx(measured.second - measured.first)
    assert measured.by_person.low <= measured.by_person.value <= measured.by_person.high
    assert outcome.verdict() == measured.verdict == "undecided"  # whatever two images say

    page = tmp_path / "claims.md"
    page.write_text(
        "before\n<!-- verdicts -->\nold\n<!-- end of verdicts -->\nbetween\n<!-- measurements -->\n"
        "<!-- end of measurements -->\nafter\n"
    )
    for _ in range(2):
        claims.page.write_page([outcome], 2, page)
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1], lines.count("between"), "old" in lines) == ("before", "after", 1, False)
    assert f"{100 * measured.second:.1f}" in page.read_text()
    page.write_text("no marks")
    with pytest.raises(UserError, match="expected the marks"):
        claims.page.write_page([outcome], 2, page)

    claims.page.write_pictures([outcome], comparer, tmp_path / "pictures")
    assert (tmp_path / "pictures" / "points.jpg").stat().st_size > 2000
    claims.page.write_summary([outcome], 2, tmp_path / "summary.json")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["claims"][0]["comparisons"][0]["difference"]["value"] == measured.difference.value


def test_a_claim_with_something_missing_cannot_hold(claims):
    better = claims.statistics.Interval(0.1, 0.05, 0.15)
    comparison = claims.listed.Comparison("a - b", None, None, "mask AP")
    claim = claims.listed.Claim("key", "title", "paper", [comparison])
    measured = claims.page.Measured("test", 20, comparison, 0.1, 0.2, better, better)
    assert claims.page.Outcome(claim, (measured,), True).verdict() == "holds"
    assert claims.page.Outcome(claim, (measured,), False).verdict() == "undecided"
    assert claims.page.Outcome(claim, (), False).verdict() == "not measured yet"


@pytest.mark.parametrize(
    ("first", "second", "person"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0.6, 0.7, 0.9, 0.5], 2),  # the median of those who differ
        ([0.5, 0.5, 0.5, 0.5], [0.1, 0.3, 0.2, 0.9], 3),  # the mean is below: of the three who lose
        ([0.5, 0.5], [0.51, 0.5], None),
    ],
)
def test_the_typical_person(claims, first, second, person):
    sides = [
        {number: claims.measures.PersonResult(value, None) for number, value in enumerate(values, 1)}
        for values in (first, second)
    ]
    assert claims.page.typical(*sides) == person


# Trainings.


@pytest.fixture
def trainings(claims, tmp_path, monkeypatch):
    """Trainings that write their weights at once."""
    for name in ("train.json", "train_pieces.json", "val.json", "keypoints/train.json", "keypoints/val.json"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text(name)
    ran = []

    def run(command, **_):
        ran.append(command)
        Path(command[command.index("--export") + 1]).write_text("weights")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    return SimpleNamespace(of=lambda **more: claims.training.Trainings(tmp_path, tmp_path / "data", **more), ran=ran)


@pytest.mark.slow
def test_a_training_is_done_once_and_starts_from_the_base(claims, trainings, tmp_path):
    base, tuned = claims.training.Training("base"), claims.training.Training("pose_mask_refine", 1)
    first = trainings.of()
    assert [first.ready(each) for each in (base, tuned)] == [False, False]
    first.run(base)
    first.run(tuned)
    again = trainings.of()
    assert [again.ready(each) for each in (base, tuned)] == [True, True]
    assert not again.ready(claims.training.Training("pose_mask_refine", 2))
    command = trainings.ran[1]
    assert f"model.checkpoint={first.weights(base)}" in command
    assert {"--resume", "randomness.seed=1", "train_dataloader.dataset.seed=1"} <= set(command)
    assert not trainings.of(steps=3).ready(base)
    (tmp_path / "data" / "train_pieces.json").write_text("other scenes")
    changed = trainings.of()
    assert [changed.ready(each) for each in (base, tuned)] == [False, False]  # what starts from it is another, too


@pytest.mark.slow
def test_trainings_without_data(claims, trainings, tmp_path):
    (tmp_path / "data" / "keypoints" / "train.json").unlink()
    missing = trainings.of()
    assert "keypoints/train.json: expected the keypoints that an estimator finds" in missing.missing_data()
    assert not missing.ready(claims.training.Training("base"))


def test_the_recipes_differ_in_nothing_but_how_they_are_prompted(claims, trainings):
    known = trainings.of()
    steps = {known.total(claims.training.Training(recipe)) for recipe in claims.training.RECIPES}
    assert steps == {3000}
    described = {recipe: known._described(recipe)[0] for recipe in claims.training.RECIPES}
    for one in described.values():
        one["model"].pop("sampler")
        one["model"].pop("test")
    control = described.pop("control")
    assert len({json.dumps(one, sort_keys=True) for one in described.values()}) == 1
    sources = control["train_dataloader"]["dataset"]["dataset"].pop("sources")
    assert list(sources) == ["pieces"]
    described["mask_refine"]["train_dataloader"]["dataset"]["dataset"].pop("sources")
    assert control == described["mask_refine"]


def test_the_base_knows_one_point_and_no_keypoint(claims, trainings):
    base, *_ = trainings.of()._described("base")
    assert base["model"]["sampler"]["type"] == "MaskRefine"
    assert base["model"]["sampler"]["first_points"] == 1
    assert base["model"]["fresh"] == ["sam_prompt_encoder", "sam_mask_decoder"]
    assert list(base["train_dataloader"]["dataset"]["dataset"]["sources"]) == ["pieces"]


# Claims and the command.


def test_the_list_of_claims(claims, trainings):
    known = claims.listed.claims(claims.listed.Nano.packaged(), trainings.of(), [0])
    assert [claim.key for claim in known] == list(claims.command.KEYS)
    for claim in known:
        assert bool(claim.untrained) == (not claim.comparisons)
        assert claim.untrained or any(each.counts for each in claim.comparisons)
        assert len({each.words for each in claim.comparisons}) == len(claim.comparisons)


@pytest.mark.slow
def test_wrong_and_right_words(claims, trainings, tmp_path, capsys):
    assert claims.command.main(["--only", "visibilities"]) == 2
    assert "visibility" in capsys.readouterr().err
    options = ["--plan", "--count", "2", "--output", str(tmp_path), "--data", str(tmp_path / "data")]
    assert claims.command.main([*options, "--only", "second_round", "recipes", "--seeds", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("training" in line for line in lines) == 6  # the base and five recipes
    assert "test-clear, 2 of 2 scenes: 2 x loop, round 1" in lines[0]
