"""HOTA, MOTA, IDF1 and switches: values found by hand, invariances, empty videos, and what is refused."""

import numpy as np
import pytest

from bmp.errors import UserError
from bmp.evaluation.metrics.tracks import TrackFrame, count_tracks, evaluate_tracks


def frame(people, found, pairs):
    """A frame in which the pairs (person, found) are alike as given, all others not at all."""
    similarity = np.zeros((len(people), len(found)))
    for (person, other), value in pairs.items():
        similarity[people.index(person), found.index(other)] = value
    return TrackFrame(np.array(people, np.int64), np.array(found, np.int64), similarity)


def alone(*found):
    """One person, found in each frame under that id, or not for None."""
    return [frame([1], [] if track is None else [track], {} if track is None else {(1, track): 1}) for track in found]


EXCHANGED = [frame([1, 2], [7, 9], {(1, 7): 1, (2, 9): 1})] * 2 + [frame([1, 2], [7, 9], {(1, 9): 1, (2, 7): 1})] * 2


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (EXCHANGED, {"mota": 0.75, "switches": 2, "idf1": 0.5, "hota": (1 / 3) ** 0.5, "deta": 1, "assa": 1 / 3}),
        (alone(5, 5, None, None, 5, 5), {"mota": 4 / 6, "switches": 0, "idf1": 0.8, "hota": 2 / 3, "misses": 2}),
        (alone(5, 5, None, None, 6, 6), {"mota": 0.5, "switches": 1, "idf1": 0.4, "hota": (2 / 3 / 3) ** 0.5}),
        # Of a pair of frames and of two people, the track that goes on is preferred to one that is more alike.
        (
            [frame([1], [5], {(1, 5): 1}), frame([1], [5, 6], {(1, 5): 0.6, (1, 6): 1})],
            {"switches": 0, "false_positives": 1, "motp": 0.8},
        ),
        ([frame([1], [5], {(1, 5): 0.4})], {"mota": -1, "misses": 1, "motp": None, "mostly_lost": 1, "deta": 8 / 19}),
        ([frame([1, 2], [], {})], {"mota": 0, "hota": 0, "idf1": 0, "id_precision": None, "id_recall": 0}),
        ([frame([], [5], {})], {"mota": None, "hota": 0, "idf1": 0, "id_precision": 0, "id_recall": None}),
        ([frame([], [], {})], {"mota": None, "hota": None, "deta": None, "assa": None, "idf1": None, "switches": 0}),
        ([], {"mota": None, "hota": None, "motp": None, "mostly_lost": 0}),
    ],
)
def test_by_hand(frames, expected):
    numbers = count_tracks(frames).numbers
    assert {name: getattr(numbers, name) for name in expected} == pytest.approx(expected)


def test_a_gap_is_a_fragment_only_where_somebody_was_found():
    apart = frame([1], [8], {})
    found = frame([1], [5], {(1, 5): 1})
    assert count_tracks([found, apart, found]).numbers.fragments == 1
    assert count_tracks([found, frame([1], [], {}), found]).numbers.fragments == 0


def test_order_of_rows_and_names_of_people_do_not_matter():
    random = np.random.default_rng(0)
    frames, mixed = [], []
    for _ in range(8):
        people, found = random.permutation(5)[:4], random.permutation(6)[:5]
        similarity = random.random((4, 5))
        frames.append(TrackFrame(people, found, similarity))
        rows, columns = random.permutation(4), random.permutation(5)
        mixed.append(TrackFrame(99 - people[rows], 2**40 + found[columns], similarity[np.ix_(rows, columns)]))
    first, second = count_tracks(frames).numbers, count_tracks(mixed).numbers
    assert vars(first) == pytest.approx(vars(second))


def test_ids_mean_something_within_a_video_only():
    same = evaluate_tracks([alone(5, 5), alone(6, 6)])
    assert (same.hota, same.idf1, same.switches) == (1, 1, 0)
    assert count_tracks(alone(5, 5, 6, 6)).numbers.switches == 1
    assert evaluate_tracks([]).hota is None


@pytest.mark.parametrize(
    ("people", "found", "similarity", "message"),
    [
        ([1, 1], [2], np.zeros((2, 1)), "labelled person 1 is twice"),
        ([1], [2, 2], np.zeros((1, 2)), "found person 2 is twice"),
        ([1], [2], np.zeros((2, 1)), "similarity"),
        ([1], [2], np.full((1, 1), 1.5), "0..1"),
        ([1], [2], np.full((1, 1), np.nan), "0..1"),
        ([0.5], [2], np.zeros((1, 1)), "whole numbers"),
    ],
)
def test_what_is_refused(people, found, similarity, message):
    with pytest.raises(UserError, match=message):
        TrackFrame(np.array(people), np.array(found), similarity)
