"""Numbers of masks and identities in videos against the public evaluations of DAVIS and TrackEval."""

import numpy as np
import pytest
from reference_vectors import read_vectors

from bmp.evaluation.metrics.tracks import TrackFrame, count_tracks, evaluate_tracks
from bmp.evaluation.metrics.video_masks import (
    boundary,
    contour_accuracy,
    object_quality,
    region_similarity,
    summarize_frames,
    summarize_objects,
    tolerance,
)

EXACT = 1e-9
TRACKS = 1e-6
NAMES = {
    "HOTA": "hota", "DetA": "deta", "AssA": "assa", "MOTA": "mota", "MOTP": "motp", "IDSW": "switches",
    "Frag": "fragments", "FP": "false_positives", "FN": "misses", "MT": "mostly_tracked", "ML": "mostly_lost",
    "IDF1": "idf1", "IDP": "id_precision", "IDR": "id_recall",
}  # fmt: skip


def test_region_and_contour(shared):
    vectors = read_vectors(shared, "j_and_f.npz")
    masks = vectors["truth"], vectors["found"]
    np.testing.assert_allclose(region_similarity(*masks), vectors["J"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(contour_accuracy(*masks), vectors["F"], rtol=0, atol=EXACT)
    masks = (*masks, vectors["void"])
    np.testing.assert_allclose(region_similarity(*masks), vectors["J_void"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(contour_accuracy(*masks), vectors["F_void"], rtol=0, atol=EXACT)
    np.testing.assert_array_equal(boundary(vectors["truth"][:8]), vectors["boundary"])


@pytest.mark.slow
def test_large_frames(shared):
    vectors = read_vectors(shared, "j_and_f.npz")
    for shift, region, contour in zip(
        vectors["large_truth_shift"], vectors["large_J"], vectors["large_F"], strict=True
    ):
        ground_truth, found = np.zeros((2, 480, 854), bool)
        ground_truth[90:390, 200:500] = found[90:390, 200 + shift : 500 + shift] = True
        assert region_similarity(ground_truth, found) == pytest.approx(region, abs=EXACT)
        assert contour_accuracy(ground_truth, found) == pytest.approx(contour, abs=EXACT)


def test_sequence(shared):
    vectors, expected = read_vectors(shared, "j_and_f.npz"), read_vectors(shared, "j_and_f.json")["sequence"]
    quality = object_quality(vectors["sequence_truth"], vectors["sequence_found"])
    np.testing.assert_allclose(quality.region, vectors["sequence_J"], rtol=0, atol=EXACT)
    np.testing.assert_allclose(quality.contour, vectors["sequence_F"], rtol=0, atol=EXACT)
    numbers = summarize_objects([quality])
    found = {"JF": numbers.region_and_contour}
    for letter, summary in (("J", numbers.region), ("F", numbers.contour)):
        found |= {f"{letter}_{name}": getattr(summary, name) for name in ("mean", "recall", "decay")}
    assert found == pytest.approx(dict(expected), abs=EXACT)


def test_summaries_and_tolerances(shared):
    vectors = read_vectors(shared, "j_and_f.json")
    for values, expected in zip(vectors["values_per_frame"], vectors["mean_recall_decay"], strict=True):
        summary = summarize_frames(np.array(values))
        assert [summary.mean, summary.recall, summary.decay] == pytest.approx(expected, abs=EXACT)
    for size, pixels in vectors["tolerance_pixels"].items():
        assert tolerance(*map(int, size.split("x"))) == pixels


def frames_of(case):
    return [
        TrackFrame(
            np.array(people, dtype=np.int64),
            np.array(found, dtype=np.int64),
            np.array(similarity, dtype=np.float64).reshape(len(people), len(found)),
        )
        for people, found, similarity in zip(case["truth_ids"], case["found_ids"], case["iou"], strict=True)
    ]


def test_tracks(shared):
    cases = read_vectors(shared, "tracking_metrics.json")["cases"]
    assert len(cases) >= 9
    for case in cases:
        numbers = count_tracks(frames_of(case)).numbers
        found = {name: getattr(numbers, field) for name, field in NAMES.items()}
        assert found == pytest.approx({name: case[name] for name in NAMES}, abs=TRACKS), case["name"]


@pytest.mark.slow
def test_counts_of_videos_add_up_to_those_of_one_long_video_of_other_people(shared):
    videos = [frames_of(case) for case in read_vectors(shared, "tracking_metrics.json")["cases"]]
    long = [
        TrackFrame(frame.ground_truth + 10_000 * number, frame.found + 10_000 * number, frame.similarity)
        for number, frames in enumerate(videos)
        for frame in frames
    ]
    together, apart = count_tracks(long).numbers, evaluate_tracks(videos)
    for field in NAMES.values():
        assert getattr(together, field) == pytest.approx(getattr(apart, field), abs=1e-12)
